"""Faults of streamed answers: wrong event-stream frames, and models with strange streams."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from smendpoint.decoders import encode
from smendpoint.emulator._fault import FRAMES, MODEL, STREAM, Fault, configurable
from smendpoint.emulator._faults_http import FILLER_FRAME
from smendpoint.emulator._http import chunk
from smendpoint.emulator._reply import (
    PIECE_SIZE,
    ByteStream,
    Reply,
    Steps,
    error_reply,
    exception_frame,
    model_reply,
    pieces_of,
)
from smendpoint.emulator._route import Kind
from smendpoint.emulator._running import parts_of

OVERSIZED_LINE = 17 * 1024 * 1024  # just over the 16 MiB at which decoders give up
_OVERSIZED_PART = 256 * 1024


def _raw_header(name: bytes, value: bytes, kind: int = 7, length: int | None = None) -> bytes:
    """Encode a header without any check: of any type, with any length before the value."""
    return (
        struct.pack("!B", len(name)) + name + struct.pack("!BH", kind, len(value) if length is None else length) + value
    )


def _raw_frame(headers: bytes, payload: bytes, total: int | None = None) -> bytes:
    """Encode a frame around any header block, with correct checksums, and with any total length."""
    prelude = struct.pack("!II", len(headers) + len(payload) + 16 if total is None else total, len(headers))
    frame = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return frame + struct.pack("!I", zlib.crc32(frame))


_EVENT = _raw_header(b":message-type", b"event")
_PART = _raw_header(b":event-type", b"PayloadPart")


def flipped(frame: bytes, index: int) -> bytes:
    damaged = bytearray(frame)
    damaged[index] ^= 0x01
    return bytes(damaged)


@configurable
async def _second(reply: Reply, change: Callable[[bytes], bytes], last: bool) -> Steps:
    """Play the response with its second frame changed, as the ``last`` one or followed by all others."""
    yield reply.head(reply.framing())
    async with aclosing(reply.pieces()) as frames:
        yield chunk(await anext(frames, FILLER_FRAME))
        yield chunk(change(await anext(frames, FILLER_FRAME)))
        while not last and (frame := await anext(frames, b"")):
            yield chunk(frame)
    yield chunk(b"")


def _changed(name: str, description: str, change: Callable[[bytes], bytes], *, last: bool = False) -> Fault:
    """Make a fault that changes the second frame; with ``last`` it is the last one."""
    return Fault(name, description, FRAMES, play=_second(change, last))


def _before(name: str, description: str, frame: bytes, *, harmless: bool = False) -> Fault:
    """Make a fault that sends one more frame, before the second one."""
    return Fault(name, description, FRAMES, harmless, play=_second(lambda proper: frame + proper, last=False))


def _instead(name: str, description: str, frame: bytes) -> Fault:
    """Make a fault that replaces the second frame."""
    return _changed(name, description, lambda proper: frame)


def _end(name: str, description: str, frame: bytes) -> Fault:
    """Make a fault that ends the stream with a frame instead of the second one."""
    return _changed(name, description, lambda proper: frame, last=True)


# -- the output of the model


async def _as_one(parts: ByteStream) -> ByteStream:
    yield b"".join([part async for part in parts])


def _bytewise(parts: ByteStream) -> ByteStream:
    return pieces_of(parts, 1)


async def _invalid_utf8(parts: ByteStream) -> ByteStream:
    async with aclosing(parts):
        part = await anext(parts, b"")
        yield part[: len(part) // 2] + b"\xff\xfe" + part[len(part) // 2 :]
        async for part in parts:
            yield part


@configurable
async def _ending(parts: ByteStream, end: bytes) -> ByteStream:
    """Replace the line ends at the very end."""
    held = b""
    async with aclosing(parts):
        async for part in parts:
            part = held + part
            kept = part.rstrip(b"\r\n")
            held = part[len(kept) :]
            if kept:
                yield kept
    if held and end:
        yield end


async def _oversized(parts: ByteStream) -> ByteStream:
    async with aclosing(parts):
        first = await anext(parts, b"")
    yield b"data:" if first.startswith(b"data") else b'{"outputs":["'
    for _ in range(OVERSIZED_LINE // _OVERSIZED_PART):
        yield b"x" * _OVERSIZED_PART


def _inband(content_type: str, plain: str, *stream: str) -> Callable[[bool, bool], Reply]:
    """Make a successful answer that holds a model's error."""

    def answer(streaming: bool, framed: bool) -> Reply:
        if not streaming:
            return model_reply("application/json", plain.encode())
        return model_reply(content_type, pieces_of(parts_of(stream), PIECE_SIZE), framed=framed)

    return answer


_TGI = '{"error":"Model is overloaded","error_type":"overloaded"}'
_SGLANG = '"object":"error","message":"The request queue is full.","type":"%s","param":null,"code":503'
_TENSORFLOW = '{"error":"The batch scheduling queue to which this task was submitted is full"}'
# How each container refuses a call: its status, its answer, and its stream if it has already sent 200.
_OVERLOADS = {
    "tgi": (429, _TGI, f"data:{_TGI}\n\n"),
    "tei": (429, _TGI, ""),
    "djl": (
        503,
        '{"code":503,"type":"WlmCapacityException","message":"Worker queue capacity exceeded for model: lmi (READY)"}',
        "",
    ),
    "mms": (
        503,
        '{"code":503,"type":"ServiceUnavailableException","message":"No worker is available to serve request for model:'
        ' model. Consider increasing job queue size."}',
        "",
    ),
    "sglang": (503, f"{{{_SGLANG % 503}}}", f'data: {{"error": {{{_SGLANG % "SERVICE_UNAVAILABLE"}}}}}\n\n'),
    "triton": (400, '{"error":"[request id: <id_unknown>] Exceeds maximum queue size"}', ""),
    "tensorflow": (200, _TENSORFLOW, _TENSORFLOW),
}
_OVERLOADED: frozenset[Kind] = frozenset({"invoke", "stream"})  # OpenAI's path hands on the container's own status


def _overload(match: re.Match[str]) -> dict[str, Any]:
    status, said, event = _OVERLOADS[match[1]]
    side = "client" if status < 500 else "server"

    def answer(streaming: bool, framed: bool) -> Reply:
        if event if streaming else status == 200:
            kind = "text/event-stream" if event.startswith("data") else "application/json"
            return _inband(kind, said, event)(streaming, framed)
        message = f'Received {side} error ({status}) from primary with message "{said}". See the logs.'
        return error_reply(424, "ModelError", message, OriginalStatusCode=status, OriginalMessage=said)

    return {"answer": answer}


FAULTS = (
    _changed(
        "frame_cut_clean_end",
        "the second frame is cut in its middle, yet HTTP ends properly",
        lambda frame: frame[: len(frame) // 2],
        last=True,
    ),
    _changed("crc_prelude", "the second frame's prelude checksum is wrong", lambda frame: flipped(frame, 11)),
    _changed("crc_message", "the second frame's message checksum is wrong", lambda frame: flipped(frame, -1)),
    _before(
        "frame_zero",
        "a frame with total length 0 comes before the second one",
        _raw_frame(b"", b"", total=0),
    ),
    _before(
        "frame_tiny",
        "a frame with total length 15, one less than any frame has, comes before the second one",
        _raw_frame(b"", b"", total=15),
    ),
    _before(
        "frame_huge",
        "a frame that announces 2 GiB comes before the second one",
        _raw_frame(_EVENT + _PART, b"", total=0x7FFFFFFF),
    ),
    _instead(
        "header_utf8",
        "a frame's event type is not UTF-8",
        _raw_frame(_EVENT + _raw_header(b":event-type", b"Payload\xff"), b"..."),
    ),
    _instead(
        "header_type",
        "a frame has a header of type 10, which does not exist",
        _raw_frame(_EVENT + _PART + _raw_header(b"new", b"thing", kind=10), b"..."),
    ),
    _instead(
        "header_cut",
        "a frame's last header announces a longer value than the headers have room for",
        _raw_frame(_EVENT + _raw_header(b":event-type", b"PayloadPart", length=500), b"..."),
    ),
    _instead("header_dup", "a frame has the same header twice", _raw_frame(_EVENT + _PART + _PART, b"...")),
    _instead("no_message_type", "a frame has no message type", _raw_frame(_PART, b"...")),
    _instead("no_event_type", "an event has no event type", _raw_frame(_EVENT, b"...")),
    _instead(
        "message_type_number",
        "a frame's message type is a number",
        encode({":message-type": 7, ":event-type": "PayloadPart"}, b"..."),
    ),
    _before(
        "unknown_event",
        "an event of a type that nobody knows comes before the second frame",
        encode({":message-type": "event", ":event-type": "Heartbeat"}, b'{"alive":true}'),
        harmless=True,
    ),
    _end(
        "exception_known",
        "ModelStreamError with ErrorCode ModelInvocationTimeExceeded ends the stream",
        exception_frame(
            "ModelStreamError",
            {"Message": "The model took too long.", "ErrorCode": "ModelInvocationTimeExceeded"},
        ),
    ),
    _end(
        "exception_internal",
        "InternalStreamFailure ends the stream",
        exception_frame("InternalStreamFailure", {"Message": "Our fault."}),
    ),
    _end(
        "exception_unknown",
        "an exception of a type that nobody knows ends the stream",
        exception_frame("NeverHeardOfIt", {"Message": "Something new."}),
    ),
    _end(
        "exception_badjson",
        "ModelStreamError whose payload is not JSON ends the stream",
        exception_frame("ModelStreamError", b"{'not': json"),
    ),
    _end(
        "exception_empty",
        "ModelStreamError without a payload ends the stream",
        exception_frame("ModelStreamError", b""),
    ),
    _end(
        "error_frame",
        "a frame of message type error ends the stream",
        encode({":message-type": "error", ":error-code": "InternalError", ":error-message": "An internal error."}),
    ),
    Fault("utf8_split", "every part is one byte, so characters are split", STREAM, harmless=True, change=_bytewise),
    Fault("utf8_invalid", "the first part of the answer has bytes that are not UTF-8", MODEL, change=_invalid_utf8),
    Fault("sse_many_per_part", "the whole answer comes in one part", STREAM, harmless=True, change=_as_one),
    Fault(
        "sse_no_final_blank",
        "the answer ends with one line end instead of a blank line",
        STREAM,
        harmless=True,
        change=_ending(b"\n"),
    ),
    Fault("json_no_final_newline", "the answer ends without a line end", STREAM, harmless=True, change=_ending(b"")),
    Fault(
        "line_oversized",
        f"the answer is one line of {OVERSIZED_LINE // 1024**2} MiB without an end",
        STREAM,
        change=_oversized,
    ),
    Fault(
        "inband_error_tgi",
        "a successful answer that holds text-generation-inference's error",
        MODEL,
        answer=_inband(
            "text/event-stream",
            '{"error":"Request failed during generation","error_type":"generation"}',
            'data:{"index":1,"token":{"id":1,"text":"Once","logprob":-0.1,"special":false},"generated_text":null,'
            '"details":null}\n\n',
            'data:{"error":"Request failed during generation","error_type":"generation"}\n\n',
        ),
    ),
    Fault(
        "inband_error_lmi",
        "a successful answer that holds the LMI container's error",
        MODEL,
        answer=_inband(
            "application/jsonlines",
            '{"generated_text":null,"error":"Request failed during generation","code":400,'
            '"details":{"finish_reason":"error"}}',
            '{"token": {"id": 1, "text": "Once", "log_prob": -0.1}}\n',
            '{"token":{"id":-1,"text":"","log_prob":-1,"special_token":true},"generated_text":"",'
            '"details":{"finish_reason":"error","generated_tokens":null,"inputs":null}}\n',
        ),
    ),
    Fault(
        "inband_error_openai",
        "a successful answer that holds an error in OpenAI's shape, and then [DONE]",
        MODEL,
        answer=_inband(
            "text/event-stream",
            '{"error":{"message":"Request failed","type":"InternalServerError","param":null,"code":500}}',
            'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant",'
            '"content":"Once"},"finish_reason":null}]}\n\n',
            'data: {"error":{"message":"Request failed","type":"InternalServerError","param":null,"code":500}}\n\n',
            "data: [DONE]\n\n",
        ),
    ),
    Fault(
        "overload_<container>",
        "the refusal of a container with too many calls: 424, or where it has said 200 by then, in the answer",
        _OVERLOADED,
        examples=tuple(f"overload_{container}" for container in _OVERLOADS),
        pattern=f"overload_({'|'.join(_OVERLOADS)})",
        fill=_overload,
    ),
)
