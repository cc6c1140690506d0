"""Faults of bidirectional streams."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from smendpoint.decoders import encode
from smendpoint.emulator._events import part_event
from smendpoint.emulator._fault import CONVERSE, Fault, configurable
from smendpoint.emulator._faults_http import HTML
from smendpoint.emulator._faults_stream import flipped
from smendpoint.emulator._reply import Action, Reply, error_reply, exception_frame
from smendpoint.emulator._talk import GoAway, Reset, Talk, TalkStep, TalkSteps, Wire

HELD_BACK = 1024 * 1024

_EVENT = part_event("...", partial=False)
_INTERNAL_ERROR, _REFUSED_STREAM = 2, 7  # RFC 9113 7
# A PING, and a frame of a type that HTTP/2 has not got: the one is to be answered, the other to be ignored.
_ODD_FRAMES = b"\0\0\x08\x06\0\0\0\0\0" + b"emulator" + b"\0\0\x03\x42\0\0\0\0\0" + b"odd"


@configurable
async def _only(talk: Talk, *steps: TalkStep) -> TalkSteps:
    """Play these steps instead of the answer."""
    for step in steps:  # pragma: no branch  # the last one ends the answer
        yield step


@configurable
async def _late(talk: Talk, step: TalkStep) -> TalkSteps:
    """Play a step instead of the answer, once the first part of the input has arrived."""
    await talk.receive()
    yield step


@configurable
async def _after_one(talk: Talk, *steps: TalkStep, last: bool = True) -> TalkSteps:
    """Play the first event of the answer and then these steps, as the ``last`` ones or followed by all other events."""
    async with aclosing(talk.events()) as events:
        yield await anext(events, _EVENT)
        for step in steps:
            yield step
        while not last and (event := await anext(events, b"")):
            yield event


@configurable
async def _before(talk: Talk, step: TalkStep) -> TalkSteps:
    """Play a step before the proper answer."""
    yield step
    async with aclosing(talk.events()) as events:
        async for event in events:
            yield event


async def _held_back(talk: Talk) -> TalkSteps:
    held: list[bytes] = []
    async with aclosing(talk.events()) as events:
        async for event in events:
            held.append(event)
            if sum(map(len, held)) > HELD_BACK:
                break
        for event in held:
            yield event
        async for event in events:
            yield event


async def _bytewise(talk: Talk) -> TalkSteps:
    async with aclosing(talk.events()) as events:
        async for event in events:
            for start in range(len(event)):
                yield event[start : start + 1]


def _fault(name: str, description: str, converse: Callable[[Talk], TalkSteps], **more: Any) -> Fault:
    return Fault(f"h2_{name}", description, CONVERSE, converse=converse, **more)


FAULTS = (
    _fault("head_first", "the head comes at once, before any part has arrived", _before(Action.HEAD), harmless=True),
    _fault(
        "head_late",
        f"nothing comes until the model has ended, or has sent {HELD_BACK // 1024**2} MiB; then everything does",
        _held_back,
        harmless=True,
    ),
    _fault("drip", "every frame has one byte", _bytewise, harmless=True),
    _fault(
        "odd_frames",
        "a PING and a frame of an unknown type come before the answer",
        _before(Wire(_ODD_FRAMES)),
        harmless=True,
    ),
    _fault(
        "unknown_event",
        "an event of a type that nobody knows comes after the first one",
        _after_one(encode({":message-type": "event", ":event-type": "Heartbeat"}, b"{}"), last=False),
        harmless=True,
    ),
    _fault("no_head", "nothing comes, the connection stays", _only(Action.STALL)),
    _fault("silence", "nothing comes after the head, the connection stays", _only(Action.HEAD, Action.STALL)),
    _fault("stall", "nothing comes after the first event, the connection stays", _after_one(Action.STALL)),
    Fault(
        "h2_window_closed",
        "the client's window never opens again: it may send 65,535 bytes and no more",
        CONVERSE,
        window_closed=True,
    ),
    _fault(
        "garbage",
        "what comes is not HTTP/2; then the connection is closed",
        _only(Wire(b"SMTP/1.0 welcome\r\nContent-Length: 0\r\n\r\n"), Action.FIN),
    ),
    _fault("html_200", "a page of HTML comes with status 200", _only(Reply(200, [HTML], b"<html>Log in</html>"))),
    _fault(
        "refused_stream", "RST_STREAM with REFUSED_STREAM comes instead of the answer", _only(Reset(_REFUSED_STREAM))
    ),
    _fault(
        "goaway_first",
        "GOAWAY says that the stream was not served; then the connection is closed",
        _only(GoAway(0, served=False)),
    ),
    _fault("rst_stream", "RST_STREAM comes after the first event", _after_one(Reset(_INTERNAL_ERROR))),
    _fault(
        "goaway",
        "GOAWAY comes after the first event; then the connection is closed",
        _after_one(GoAway(_INTERNAL_ERROR, served=True)),
    ),
    _fault("fin", "the connection is closed after the first event, and the stream was not", _after_one(Action.FIN)),
    _fault("reset", "the connection is reset after the first event", _after_one(Action.RESET)),
    _fault(
        "event_cut",
        "the connection is closed in the middle of the second event",
        _after_one(_EVENT[: len(_EVENT) // 2], Action.FIN),
    ),
    _fault(
        "event_cut_clean_end",
        "the second event is cut in its middle, yet the stream ends properly",
        _after_one(_EVENT[: len(_EVENT) // 2]),
    ),
    _fault("crc", "the second event's checksum is wrong", _after_one(flipped(_EVENT, -1))),
    _fault(
        "late_424",
        "424 ModelError comes when the first part has arrived",
        _late(
            error_reply(
                424,
                "ModelError",
                'Received server error (500) from primary with message "The socket was closed". See the logs.',
                ErrorCode="INTERNAL_FAILURE_FROM_MODEL",
                OriginalStatusCode=500,
                OriginalMessage="The socket was closed",
            )
        ),
    ),
    _fault(
        "late_403",
        "403 InvalidSignatureException comes when the first part has arrived, as if its signature was wrong",
        _late(
            error_reply(
                403, "InvalidSignatureException", "The event signature does not match the signature you provided."
            )
        ),
    ),
    _fault(
        "model_stream_error",
        "ModelStreamError with ErrorCode ModelInvocationTimeExceeded ends the stream after the first event",
        _after_one(
            exception_frame(
                "ModelStreamError",
                {"Message": "The model took too long.", "ErrorCode": "ModelInvocationTimeExceeded"},
            )
        ),
    ),
    _fault(
        "internal_failure",
        "InternalStreamFailure ends the stream after the first event",
        _after_one(exception_frame("InternalStreamFailure", {"Message": "Our fault."})),
    ),
    _fault(
        "unknown_exception",
        "an exception of a type that nobody knows ends the stream after the first event",
        _after_one(exception_frame("NeverHeardOfIt", {"Message": "Something new."})),
    ),
)
