"""A bidirectional stream as a model sees it."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True)
class ModelPart:
    """One part of what the client of a bidirectional stream sent.

    Attributes:
        data: the bytes.
        text: the text of a part that was sent as text; ``None`` for a binary one.
        partial: whether further parts continue it.
    """

    data: bytes
    text: str | None = None
    partial: bool = False


@dataclass(frozen=True)
class ModelConversation:
    """A bidirectional stream, as the model's container gets it: iterate over it for the client's parts.

    Attributes:
        receive: waits for the client's next part; ``None`` when it has ended its input.
        reply: sends a part.
        endpoint_name: the endpoint that was called.
        path: the path that the client asked for (``ModelInvocationPath``); empty if it asked for none.
        query: the query string for the container (``ModelQueryString``); empty if there is none.
        target_variant: the variant that the client asked for; empty if it asked for none.
        headers: all headers of the request, names in lower case.
        disconnected: set when the client has gone, or the emulator stops; the model is then cancelled.
    """

    receive: Callable[[], Awaitable[ModelPart | None]] = field(repr=False)
    reply: Callable[[bytes | str, bool], Awaitable[None]] = field(repr=False)
    endpoint_name: str = ""
    path: str = ""
    query: str = ""
    target_variant: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    disconnected: threading.Event = field(default_factory=threading.Event, compare=False)

    def __aiter__(self) -> ModelConversation:
        return self

    async def __anext__(self) -> ModelPart:
        part = await self.receive()
        if part is None:
            raise StopAsyncIteration
        return part

    async def send(self, data: bytes | str, partial: bool = False) -> None:
        """Send a part; wait until the client has room for it.

        Args:
            data: ``str`` is sent as text, ``bytes`` as they are.
            partial: whether further parts continue it.
        """
        await self.reply(data, partial)


ConversationModel: TypeAlias = "Callable[[ModelConversation], Awaitable[None]]"
"""A model of bidirectional streams: a coroutine function, run in the emulator's loop. When it returns, the answer ends.

An exception that it raises becomes the service's ``ModelError``; after the first part that it sent,
``ModelStreamError``.
"""
