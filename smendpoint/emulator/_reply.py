"""From a reply to the steps that play it on the wire."""

from __future__ import annotations

import enum
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from smendpoint.decoders import encode
from smendpoint.emulator._http import chunk, render_head

PIECE_SIZE = 13
"""How a model's streamed answer is cut, in bytes: small and odd, so that pieces end at inconvenient places."""


class Action(enum.Enum):
    """Actions on the connection, instead of bytes to send."""

    RESET = "reset"  # the peer gets a TCP RST
    FIN = "fin"  # everything written is flushed, then the connection is closed in an orderly way
    STALL = "stall"  # nothing more, until the client leaves or the emulator stops
    HEAD = "head"  # the head of a bidirectional stream, which else comes with its first event


class Pause(NamedTuple):
    """A time in which nothing is sent."""

    seconds: float


Step: TypeAlias = "bytes | Action | Pause"
Steps: TypeAlias = AsyncGenerator["Step", None]
ByteStream: TypeAlias = AsyncGenerator[bytes, None]


class ModelFailed(Exception):
    """The model raised, or returned something that is not an answer; the message is for the client."""


@dataclass
class Reply:
    """A response before it is put on the wire.

    Attributes:
        parts: the payload of a streamed response, part by part; ``None`` for a plain one, which has ``body``.
        framed: whether parts are sent as event-stream frames (else unchanged).
        head_only: whether ``body`` is only announced, as for HEAD.
        ended: called before the last byte, so that a client with the whole answer also sees that the model has ended.
    """

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    body: bytes = b""
    parts: ByteStream | None = None
    framed: bool = True
    head_only: bool = False
    ended: Callable[[], object] = bool

    async def pieces(self) -> ByteStream:
        """Yield the body in pieces before HTTP framing: a stream's frames or bare parts, a plain body in two halves.

        Raises:
            ModelFailed: The model failed in a bare stream, which has no frame to say so.
        """
        if self.parts is None:
            half = len(self.body) // 2
            yield self.body[:half]
            self.ended()
            yield self.body[half:]
            return
        async with aclosing(self.parts) as parts:
            try:
                async for part in parts:
                    yield part_frame(part) if self.framed else part
            except ModelFailed as failure:
                if not self.framed:
                    raise
                self.ended()
                yield exception_frame("ModelStreamError", {"Message": str(failure), "ErrorCode": "StreamBroken"})
        self.ended()

    def head(self, *extra: tuple[str, str]) -> bytes:
        """Render the head; ``extra`` includes the headers that frame the body."""
        return render_head(self.status, [*self.headers, *extra])

    def framing(self) -> tuple[str, str]:
        """Return the header that frames the body properly."""
        if self.parts is None:
            return "Content-Length", str(len(self.body))
        return "Transfer-Encoding", "chunked"


def part_frame(payload: bytes) -> bytes:
    headers = {":event-type": "PayloadPart", ":content-type": "application/octet-stream", ":message-type": "event"}
    return encode(headers, payload)


def exception_frame(name: str, detail: dict[str, str] | bytes) -> bytes:
    """Encode an exception that ends a stream; ``bytes`` are sent unchanged."""
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return encode(headers, detail if isinstance(detail, bytes) else json.dumps(detail).encode())


def error_reply(status: int, code: str, message: str, **detail: object) -> Reply:
    """Make a service error in SageMaker's form; without a code, its header is left out."""
    error_type = [("x-amzn-ErrorType", code)] if code else []
    return json_reply(status, {"Message": message, **detail}, *error_type)


def json_reply(status: int, value: object, *headers: tuple[str, str]) -> Reply:
    return Reply(status, [*headers, ("Content-Type", "application/json")], json.dumps(value).encode())


def model_reply(
    content_type: str, body: bytes | ByteStream, *, framed: bool = True, variant_name: str = "AllTraffic"
) -> Reply:
    """Make a successful answer of a model: plain for ``bytes``, else streamed, in event-stream frames or bare."""
    variant = ("x-Amzn-Invoked-Production-Variant", variant_name)
    if isinstance(body, bytes):
        return Reply(200, [("Content-Type", content_type), variant], body)
    if not framed:
        return Reply(200, [("Content-Type", content_type), variant], parts=body, framed=False)
    types = [("Content-Type", "application/vnd.amazon.eventstream"), ("X-Amzn-SageMaker-Content-Type", content_type)]
    return Reply(200, [*types, variant], parts=body)


async def pieces_of(parts: ByteStream, size: int | None) -> ByteStream:
    """Cut parts into pieces of at most ``size`` bytes at any place; ``None`` does not cut them."""
    async with aclosing(parts):
        async for part in parts:
            if size is None or len(part) <= size:
                if part:
                    yield part
                continue
            for start in range(0, len(part), size):
                yield part[start : start + size]


async def play(reply: Reply) -> ByteStream:
    """Play a reply properly: Content-Length for a plain body, chunks for a streamed one."""
    head = reply.head(reply.framing())
    if reply.parts is None:
        reply.ended()
        yield head if reply.head_only else head + reply.body
        return
    yield head
    async with aclosing(reply.pieces()) as pieces:
        async for piece in pieces:
            yield chunk(piece)
    yield chunk(b"")
