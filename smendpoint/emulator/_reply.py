"""From a reply to the steps that play it on the wire."""

from __future__ import annotations

import enum
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from smendpoint._core import eventstream
from smendpoint.emulator._http import chunk, render_head

__all__ = ["Action", "ModelFailed", "Pause", "Reply", "Step", "Steps", "error_reply", "exception_frame", "play"]


class Action(enum.Enum):
    """What the server does with the connection instead of sending something."""

    RESET = "reset"  # the peer gets a TCP RST
    FIN = "fin"  # everything written is flushed, then the connection is closed in an orderly way
    STALL = "stall"  # nothing more, until the client goes or the emulator stops


class Pause(NamedTuple):
    """Some time in which nothing is sent."""

    seconds: float


Step: TypeAlias = "bytes | Action | Pause"
Steps: TypeAlias = AsyncGenerator["Step", None]


class ModelFailed(Exception):
    """The model raised after its stream had begun; the message is for the client."""


@dataclass
class Reply:
    """A response before it is put on the wire.

    Attributes:
        parts: the payload of a streamed response, part by part; ``None`` for a plain one, which has ``body``.
        framed: whether parts go out as event-stream frames (else as they are).
    """

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    body: bytes = b""
    parts: AsyncIterator[bytes] | None = None
    framed: bool = True

    async def pieces(self) -> AsyncIterator[bytes]:
        """Gives the pieces of a streamed body before HTTP framing: event-stream frames, or the parts themselves."""
        if self.parts is None:
            yield self.body
            return
        try:
            async for part in self.parts:
                yield eventstream.encode_part(part) if self.framed else part
        except ModelFailed as failure:
            if not self.framed:
                raise
            yield exception_frame("ModelStreamError", {"Message": str(failure), "ErrorCode": "StreamBroken"})

    def head(self, *extra: tuple[str, str]) -> bytes:
        """Renders the head without body framing headers; ``extra`` headers come last."""
        return render_head(self.status, [*self.headers, *extra])


def exception_frame(name: str, detail: dict[str, str]) -> bytes:
    """Encodes an exception that ends a stream."""
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return eventstream.encode(headers, json.dumps(detail).encode())


def error_reply(status: int, code: str, message: str | None, **detail: object) -> Reply:
    """Makes a service error as SageMaker sends it."""
    body = json.dumps({"Message": message, **detail}).encode()
    return Reply(status, [("x-amzn-ErrorType", code), ("Content-Type", "application/json")], body)


async def play(reply: Reply, *, extra: Sequence[tuple[str, str]] = ()) -> AsyncGenerator[Step, None]:
    """Plays a reply the proper way: Content-Length for a plain body, chunks for a streamed one."""
    if reply.parts is None:
        yield reply.head(("Content-Length", str(len(reply.body))), *extra) + reply.body
        return
    yield reply.head(("Transfer-Encoding", "chunked"), *extra)
    try:
        async for piece in reply.pieces():
            yield chunk(piece)
    except ModelFailed:
        # An unframed stream has no way to report a failure: the response stays without its end.
        yield Action.FIN
        return
    yield chunk(b"")
