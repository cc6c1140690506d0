"""What a transport has on one event loop: its connections, and who waits for one."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from smendpoint._transport.alarm import Alarm
from smendpoint._transport.common import IDLE_SECONDS
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from smendpoint._core.sigv4 import Credentials
    from smendpoint._transport.async_connection import AsyncConnection
    from smendpoint._transport.common import Patience


class LoopPool:
    """The connections on one event loop: the last one used first, never more than allowed.

    When the loop ends as `asyncio.run` ends it, the pool closes by itself: its `_guard`, a suspended asynchronous
    generator, is then closed by ``loop.shutdown_asyncgens()``.

    Args:
        loop: the running event loop.
        limit: how many connections may be open at once; `None` for no limit.
        monotonic: the clock that idle time is measured with.
        forget: called when the pool has closed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limit: int | None,
        monotonic: Callable[[], float],
        forget: Callable[[asyncio.AbstractEventLoop], object],
    ) -> None:
        self.loop = loop
        self.limit = limit
        self.loading: asyncio.Future[Credentials] | None = None
        self._monotonic = monotonic
        self._forget = forget
        self._idle: list[AsyncConnection] = []
        self._busy: set[AsyncConnection] = set()
        self._places = 0  # taken
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self._guarded: AsyncGenerator[None, None] | None = None

    async def guard(self) -> None:
        """Have the pool closed when its loop ends."""
        self._guarded = self._guard()
        await self._guarded.__anext__()

    async def _guard(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._guarded = None
            await self.close()

    async def take(self, patience: Patience, *, fresh: bool) -> AsyncConnection | None:
        """A live idle connection, or `None` with leave to open one; either way a place is taken until given back.

        Args:
            patience: how long to wait for a place.
            fresh: whether only a new connection will do.

        Raises:
            ConfigurationError: the endpoint is closed.
            DeadlineExceededError: no place became free in time.
        """
        if self._closed:
            raise ConfigurationError("the endpoint is closed: make a new one")
        if self.limit is not None and self._places >= self.limit:
            await self._queue(patience)
        else:
            self._places += 1
        oldest = self._monotonic() - IDLE_SECONDS
        while self._idle and not fresh:
            connection = self._idle.pop()
            if not connection.closed and connection.idle_since > oldest:
                self._busy.add(connection)
                return connection
            connection.abort()
        return None

    async def _queue(self, patience: Patience) -> None:
        """Wait for someone else's place."""
        place: asyncio.Future[None] = self.loop.create_future()
        self._waiting.append(place)
        seconds = patience.queueing()
        try:
            if seconds is None:
                await place
            else:
                async with Alarm(self.loop, seconds):
                    await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self._pass_on()  # it was ours for a moment
            else:
                self._waiting.remove(place)
            if isinstance(error, TimeoutError):
                patience.queueing()  # raises: nothing is left
            raise
        if self._closed:
            self._pass_on()
            raise ConfigurationError("the endpoint was closed while this call waited for a connection")

    def busy(self, connection: AsyncConnection) -> None:
        """A new connection stands in the place that was taken."""
        self._busy.add(connection)

    def give_back(self, connection: AsyncConnection | None, *, reusable: bool) -> None:
        """Give back a place; with a reusable connection, keep that for the next call."""
        if connection is not None:
            self._busy.discard(connection)
            connection.rest()
            if reusable and not self._closed and not connection.closed:
                now = self._monotonic()
                connection.idle_since = now
                self._idle.append(connection)
                while self._idle[0].idle_since < now - IDLE_SECONDS:
                    self._idle.pop(0).abort()
            else:
                connection.abort()
        self._pass_on()

    def _pass_on(self) -> None:
        """A place is free: the one who has waited longest has it."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._places -= 1

    async def close(self) -> None:
        """Close every connection, those in use too, and let the event loop finish with them."""
        if self._closed:
            return
        self._closed = True
        self._forget(self.loop)
        connections = [*self._idle, *self._busy]
        self._idle.clear()
        for connection in connections:
            connection.abort()
        for place in self._waiting:
            if not place.done():
                place.set_result(None)
        if self._guarded is not None:
            guarded, self._guarded = self._guarded, None
            await guarded.aclose()
        # The transports say goodbye in callbacks; TLS ones need a second round.
        for _ in range(2):
            await asyncio.sleep(0)
