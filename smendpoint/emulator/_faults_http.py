"""Faults of the connection and of HTTP, which can affect every response."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias

from smendpoint.emulator._fault import ALL, ANSWERED, MODEL, Fault, configurable
from smendpoint.emulator._http import chunk, render_head
from smendpoint.emulator._reply import Action, Pause, Reply, Steps, error_reply, part_frame, play
from smendpoint.emulator._route import Kind
from smendpoint.errors import ConfigurationError

CLOCK_SKEW = 3600.0
DRIP_SECONDS = 0.001
HUGE_HEADER = 200_000  # three times the 65,536 bytes that this package's clients accept
DEEP = 200_000  # many times the depth that any JSON parser reads
FILLER_FRAME = part_frame(b"...")  # instead of a frame that a short stream does not have

HTML = ("Content-Type", "text/html")
JSON = ("Content-Type", "application/json")

Answer: TypeAlias = "Callable[[bool, bool], Reply]"


def too_large() -> Reply:
    """Make the answer to a body over the limit: a page of the service's front end, not an error document."""
    return Reply(413, [HTML], b"<html><head><title>413 Request Entity Too Large</title></head><body></body></html>")


@configurable
async def _only(reply: Reply, action: Action, *before: bytes) -> Steps:
    """Play some bytes, if any, and then ``action`` instead of the response."""
    for data in before:
        yield data
    yield action


@configurable
async def _proper(
    reply: Reply, *before: bytes, head: Sequence[tuple[str, str]] = (), status: int | None = None
) -> Steps:
    """Play the proper response after some other bytes, with more headers or with another status."""
    for data in before:
        yield data
    reply.headers += head
    reply.status = status or reply.status
    async with aclosing(play(reply)) as steps:
        async for step in steps:
            yield step


def _wrap(reply: Reply, data: bytes) -> bytes:
    return data if reply.parts is None else chunk(data)


@configurable
async def _mid(reply: Reply, action: Action, *, half_piece: bool = False) -> Steps:
    """Play the head and the first piece, perhaps half of the second, and then ``action``."""
    yield reply.head(reply.framing())
    async with aclosing(reply.pieces()) as pieces:
        yield _wrap(reply, await anext(pieces, FILLER_FRAME))
        if half_piece:
            piece = await anext(pieces, FILLER_FRAME)
            yield _wrap(reply, piece[: len(piece) // 2])
    yield action


async def _whole_body(reply: Reply) -> bytes:
    return b"".join([piece async for piece in reply.pieces()])


@configurable
async def _content_length(reply: Reply, say: Callable[[int], str], after: Action | None = None) -> Steps:
    """Play the body with a Content-Length that is not its length."""
    body = await _whole_body(reply)
    yield reply.head(("Content-Length", say(len(body)))) + body
    if after is not None:
        yield after


async def _chunk_size_bad(reply: Reply) -> Steps:
    yield reply.head(("Transfer-Encoding", "chunked"))
    async with aclosing(reply.pieces()) as pieces:
        yield chunk(await anext(pieces, FILLER_FRAME) or b"{")
        yield b"xyz\r\n" + await anext(pieces, FILLER_FRAME) + b"\r\n"
    yield Action.STALL


@configurable
async def _without_end(reply: Reply, framing: tuple[str, str], wrap: Callable[[bytes], bytes], action: Action) -> Steps:
    """Play the whole body without its end, and then ``action``."""
    yield reply.head(framing)
    async with aclosing(reply.pieces()) as pieces:
        async for piece in pieces:
            if piece:
                yield wrap(piece)
    yield action


async def _gzip(reply: Reply) -> Steps:
    body = gzip.compress(await _whole_body(reply), mtime=0)
    yield reply.head(("Content-Encoding", "gzip"), ("Content-Length", str(len(body)))) + body


@configurable
async def _sliced(reply: Reply, size: int, seconds: float) -> Steps:
    """Play the proper response in writes of ``size`` bytes, ``seconds`` apart."""
    async with aclosing(play(reply)) as steps:
        async for step in steps:
            for start in range(0, len(step), size):
                yield step[start : start + size]
                yield Pause(seconds)


def _always(status: int, body: bytes, *headers: tuple[str, str]) -> Answer:
    return lambda _streaming, _framed: Reply(status, [*headers], body)


def _error(status: int, code: str, message: str, *headers: tuple[str, str]) -> Answer:
    reply = error_reply(status, code, message)
    return _always(status, reply.body, *reply.headers, *headers)


def _by_status(match: re.Match[str]) -> dict[str, Any]:
    status = int(match[1])
    if not 300 <= status <= 599:
        raise ConfigurationError(f"status_<n> takes 300 to 599, not {status}")
    return {"answer": _error(status, match[2] or "", "This is a fault.")}


def _retry_after(match: re.Match[str]) -> dict[str, Any]:
    header = ("x-amz-retry-after" if match[1] else "Retry-After", match[2])
    return {"answer": _error(503, "ServiceUnavailable", "Come back later.", header)}


def _n_times(name: str, description: str, answer: Answer, operations: frozenset[Kind] = ALL) -> Fault:
    """Make a fault that is played n times."""
    return Fault(
        f"{name}_<n>",
        description,
        operations,
        harmless=True,
        examples=(f"{name}_1",),
        answer=answer,
        pattern=rf"{name}_([1-9][0-9]{{0,3}})",
        fill=lambda match: {"times": int(match[1])},
    )


FAULTS = (
    Fault("refuse", "no connection is taken: each one is refused", refuses=True),
    Fault("reset_before_headers", "the connection is reset instead of a response", play=_only(Action.RESET)),
    Fault("fin_before_headers", "the connection is closed instead of a response", play=_only(Action.FIN)),
    Fault("stall_before_headers", "no byte of a response comes, the connection stays", play=_only(Action.STALL)),
    Fault(
        "garbage_status_line",
        "what comes does not begin like HTTP; then the connection is closed",
        play=_only(Action.FIN, b"SMTP/1.0 welcome\r\nContent-Length: 0\r\n\r\n"),
    ),
    Fault(
        "status_103_first",
        "a 103 Early Hints comes before the answer",
        harmless=True,
        play=_proper(render_head(103, [("Link", "</model>; rel=preload")])),
    ),
    Fault(
        "status_1xx_first",
        "100 Continue, 102 and 103 come before the answer, though nobody asked",
        harmless=True,
        play=_proper(render_head(100, ()), render_head(102, ()), render_head(103, [("Link", "</model>")])),
    ),
    Fault(
        "redirect",
        "307 to another endpoint of the same server",
        answer=_always(307, b"", ("Location", "/endpoints/elsewhere/invocations")),
    ),
    Fault(
        "header_huge",
        f"the answer has a header of {HUGE_HEADER} bytes",
        play=_proper(head=[("X-Huge", "h" * HUGE_HEADER)]),
    ),
    Fault(
        "content_length_long",
        "Content-Length announces ten bytes more than come; then the connection is closed",
        play=_content_length(lambda length: str(length + 10), Action.FIN),
    ),
    Fault(
        "content_length_short",
        "Content-Length announces three bytes less than come",
        play=_content_length(lambda length: str(max(0, length - 3))),
    ),
    Fault(
        "content_length_bad",
        "Content-Length is not a number",
        play=_content_length(lambda length: f"{length}abc"),
    ),
    Fault(
        "chunk_size_bad",
        "after the first chunk, the size of the next is 'xyz'; the connection stays",
        play=_chunk_size_bad,
    ),
    Fault(
        "no_terminator",
        "the whole body comes in chunks, the last chunk is missing, the connection is closed",
        play=_without_end(("Transfer-Encoding", "chunked"), chunk, Action.FIN),
    ),
    Fault("reset_mid_stream", "the connection is reset after a part of the body", play=_mid(Action.RESET)),
    Fault("stall_mid_stream", "nothing comes after a part of the body, the connection stays", play=_mid(Action.STALL)),
    Fault(
        "fin_mid_frame",
        "the connection is closed in the middle of a frame, or of a plain body",
        play=_mid(Action.FIN, half_piece=True),
    ),
    Fault(
        "html_200",
        "a page of HTML comes with status 200",
        answer=_always(200, b"<!DOCTYPE html><html><body>Please log in</body></html>", HTML),
    ),
    Fault("partial_206", "the answer comes with status 206, as if a part had been asked for", play=_proper(status=206)),
    Fault("gzip_200", "the answer is compressed, though nobody asked", play=_gzip),
    Fault(
        "switch_101",
        "101: the server changes to another protocol; then the connection is closed",
        play=_only(Action.FIN, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: upgrade\r\n\r\n"),
    ),
    Fault(
        "status_line_000",
        "the answer's status is 000",
        play=_only(Action.FIN, b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n"),
    ),
    Fault(
        "until_close_reset",
        "the answer has no length, its end is to be the end of the connection, and that is reset",
        play=_without_end(("Connection", "close"), bytes, Action.RESET),
    ),
    Fault(
        "error_list", "424 whose body is a JSON list", answer=_always(424, b'[{"Message": "This is a fault."}]', JSON)
    ),
    Fault("error_nan", "424 whose body is NaN, which is not JSON", answer=_always(424, b"NaN", JSON)),
    Fault("error_utf8", "424 whose body is not UTF-8", answer=_always(424, b'{"Message": "\xff"}', JSON)),
    Fault("error_deep", f"424 whose body is {DEEP:,} lists in each other", answer=_always(424, b"[" * DEEP, JSON)),
    Fault(
        "expired_then_ok",
        "403 ExpiredTokenException once",
        ANSWERED,
        harmless=True,
        times=1,
        answer=_error(403, "ExpiredTokenException", "The security token included in the request is expired"),
    ),
    Fault(
        "skewed_date",
        "the server's clock, and so Date, is an hour ahead: signatures by another clock are refused with 403",
        ANSWERED,
        harmless=True,
        skew=CLOCK_SKEW,
    ),
    Fault("early_413", "413 is sent before the body of the request is read", early=too_large),
    Fault(
        "early_413_reset",
        "413 is sent when the body begins to come, and the connection is reset at once",
        early=too_large,
        early_reset=True,
    ),
    Fault(
        "idle_death",
        "after a whole answer the connection is closed, which nothing announced",
        harmless=True,
        after=Action.FIN,
    ),
    Fault("idle_reset", "after a whole answer the connection is reset", harmless=True, after=Action.RESET),
    Fault(
        "reuse_reset",
        "after a whole answer the connection is reset when the next request begins to come",
        harmless=True,
        after=Action.RESET,
        on_reuse=True,
    ),
    Fault(
        "drip",
        f"one byte at a time, {DRIP_SECONDS * 1000:g} ms apart",
        harmless=True,
        play=_sliced(1, DRIP_SECONDS),
    ),
    Fault(
        "status_<n>[_<code>]",
        "an error with this status, and this AWS error code if one is given",
        ANSWERED,
        examples=(
            "status_400_ValidationError",
            "status_403_AccessDeniedException",
            "status_413",
            "status_424_ModelError",
            "status_500_InternalFailure",
            "status_502",
            "status_503_ServiceUnavailable",
            "status_530_InternalDependencyException",
        ),
        pattern=r"status_([0-9]{3})(?:_([A-Za-z][A-Za-z0-9]*))?",
        fill=_by_status,
    ),
    Fault(
        "slice_<n>",
        "the proper response in writes of n bytes",
        harmless=True,
        examples=("slice_1", "slice_7"),
        pattern=r"slice_([1-9][0-9]{0,5})",
        fill=lambda match: {"play": _sliced(int(match[1]), 0.0)},
    ),
    Fault(
        "drip_<n>",
        "one byte at a time, n milliseconds apart",
        harmless=True,
        examples=("drip_0",),
        pattern=r"drip_([0-9]{1,5})",
        fill=lambda match: {"play": _sliced(1, int(match[1]) / 1000)},
    ),
    _n_times(
        "throttle_then_ok",
        "429 ThrottlingException n times",
        _error(429, "ThrottlingException", "Rate exceeded"),
        ANSWERED,
    ),
    _n_times(
        "throttle_400_then_ok",
        "400 ThrottlingException whose message is null, as real-time endpoints send it, n times",
        _always(400, b'{"message":null}', ("x-amzn-ErrorType", "ThrottlingException"), JSON),
    ),
    _n_times(
        "not_ready_then_ok",
        "429 ModelNotReadyException n times",
        _error(429, "ModelNotReadyException", "The model is still being loaded."),
        MODEL,
    ),
    _n_times(
        "no_capacity_then_ok",
        "400 ValidationError of an inference component that is scaled to zero, n times",
        _error(
            400,
            "ValidationError",
            "Inference Component has no capacity to process this request. ApplicationAutoScaling may be in-progress"
            " (if configured) or try to increase the capacity by invoking UpdateInferenceComponentRuntimeConfig API.",
        ),
        MODEL,
    ),
    Fault(
        "[amz_]retry_after_<n>",
        "503 once, with Retry-After: n (seconds), or with x-amz-retry-after: n (milliseconds)",
        ANSWERED,
        harmless=True,
        examples=("retry_after_0", "amz_retry_after_1"),
        times=1,
        pattern=r"(amz_)?retry_after_([0-9]{1,6})",
        fill=_retry_after,
    ),
)
