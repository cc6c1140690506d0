"""The steps that play the answer of a bidirectional stream, and what faults play them with."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from smendpoint.emulator._reply import Action, ByteStream, Reply

if TYPE_CHECKING:
    from smendpoint.emulator.models import ModelPart


class Wire(NamedTuple):
    """Bytes for the connection, outside HTTP/2."""

    data: bytes


class Reset(NamedTuple):
    """RST_STREAM with this error code of HTTP/2."""

    code: int


class GoAway(NamedTuple):
    """GOAWAY with this error code of HTTP/2, and then the end of the connection.

    ``served``: whether it says that the stream was served, at least in part.
    """

    code: int
    served: bool


TalkStep: TypeAlias = "bytes | Action | Wire | Reset | GoAway | Reply"
"""Bytes are events of the answer; a `Reply` is the whole answer."""

TalkSteps: TypeAlias = AsyncGenerator["TalkStep", None]


class Talk(Protocol):
    """A bidirectional stream whose request was accepted."""

    async def receive(self) -> ModelPart | None:
        """Wait for the next part of the input; ``None`` at its end."""

    def events(self) -> ByteStream:
        """Run the model, and yield the events of its answer."""
        ...


async def events_of(talk: Talk) -> TalkSteps:
    """Play the answer properly."""
    async with aclosing(talk.events()) as events:
        async for event in events:
            yield event
