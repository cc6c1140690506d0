"""The asyncio transport's connections on one event loop, and the waiters for one."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from smendpoint._core.call.timing import deadline_exceeded
from smendpoint._transport.exchange import IDLE_SECONDS, RECV_BYTES
from smendpoint.errors import ConfigurationError, EndpointError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from smendpoint._core.aws.sigv4 import Credentials
    from smendpoint._transport.aio.channel import Channel
    from smendpoint._transport.aio.connection import AsyncConnection
    from smendpoint._transport.deadline import Deadline


class LoopPool:
    """The connections on one event loop: the last used one first, never more than allowed.

    When `asyncio.run` ends the loop, the pool closes itself: ``loop.shutdown_asyncgens()`` closes its `_guard`, a
    suspended asynchronous generator.

    Args:
        loop: the running event loop.
        limit: how many connections may be open at once; `None` for no limit.
        monotonic: the clock for idle times.
        forget: called with the pool when it has closed.

    Attributes:
        buffer: the loop reads into it, for all connections.
        loading: the current load of credentials on this loop, shared by all waiters.
        loading_instead_of: the rejected credentials that this load replaces.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limit: int | None,
        monotonic: Callable[[], float],
        forget: Callable[[LoopPool], object],
    ) -> None:
        self.loop = loop
        self.limit = limit
        self.buffer = memoryview(bytearray(RECV_BYTES))
        self.loading: asyncio.Future[Credentials] | None = None
        self.loading_instead_of: Credentials | None = None
        self._monotonic = monotonic
        self._forget = forget
        self._idle: list[AsyncConnection] = []
        self._busy: set[Channel] = set()
        self._places = 0  # taken
        self._waiting: deque[asyncio.Future[bool]] = deque()
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

    async def acquire(self, deadline: Deadline, *, fresh: bool) -> AsyncConnection | None:
        """Wait for a place, which must be given back later; return a live idle connection, or `None` to open one.

        Args:
            deadline: how long to wait for a place.
            fresh: whether it must be a new connection.

        Raises:
            ConfigurationError: the endpoint is closed.
            DeadlineExceededError: no place became free in time.
        """
        if self._closed:
            raise ConfigurationError("the endpoint is closed: make a new one")
        if self.limit is not None and self._places >= self.limit:
            await self._queue(deadline)
        else:
            self._places += 1
        if fresh:
            # Idle connections count too: close the oldest.
            if self.limit is not None and self._idle and self._places + len(self._idle) > self.limit:
                self._idle.pop(0).abort()
            return None
        return self._pick()

    def acquire_nowait(self) -> AsyncConnection | None:
        """A live idle connection with its place; `None`, and no place, if there is none at once."""
        if self._closed or (self.limit is not None and self._places >= self.limit):
            return None
        connection = self._pick()
        if connection is not None:
            self._places += 1
        return connection

    def _pick(self) -> AsyncConnection | None:
        idle = self._idle
        oldest = self._monotonic() - IDLE_SECONDS
        while idle:
            connection = idle.pop()
            if connection.idle_since > oldest and not connection.is_stale():
                self._busy.add(connection)
                return connection
            connection.abort()
        return None

    async def _queue(self, deadline: Deadline) -> None:
        """Wait for the place of another call."""
        seconds = deadline.queueing()
        place: asyncio.Future[bool] = self.loop.create_future()
        timer = None if seconds is None else self.loop.call_later(seconds, self._refuse, place)
        self._waiting.append(place)
        try:
            await asyncio.wait({place})
        except BaseException:
            if place.done() and place.result():
                self._pass_on()  # it was granted at the moment of cancellation
            raise
        finally:
            if timer is not None:
                timer.cancel()
            with suppress(ValueError):  # it is done
                self._waiting.remove(place)
        if self._closed:
            raise ConfigurationError("the endpoint was closed while this call waited for a connection")
        if not place.result():
            raise deadline_exceeded(deadline.timeout, request_sent=False)

    def _refuse(self, place: asyncio.Future[bool]) -> None:
        """End a wait whose time is over: a place that becomes free now goes to the next waiter."""
        if not place.done():
            self._waiting.remove(place)
            place.set_result(False)

    def adopt(self, connection: Channel) -> None:
        """Keep a new connection, to close it with the pool.

        Raises:
            EndpointError: the endpoint was closed in the meantime.
        """
        self._busy.add(connection)
        if self._closed:
            raise _closed()

    def release(self, connection: Channel) -> None:
        """Forget a connection that has no place: that of a conversation, which is over."""
        self._busy.discard(connection)

    def give_back(self, connection: AsyncConnection | None, *, reusable: bool) -> None:
        """Give back a place, and keep its connection for the next call if it is reusable."""
        if connection is not None:
            self._busy.discard(connection)
            connection.rest()
            if reusable and not self._closed and not connection.closed and not connection.cut_short:
                now = self._monotonic()
                connection.idle_since = now
                self._idle.append(connection)
                while self._idle[0].idle_since < now - IDLE_SECONDS:
                    self._idle.pop(0).abort()
            else:
                connection.abort()
        self._pass_on()

    def _pass_on(self) -> None:
        """Return a free place to the waiter that has waited longest."""
        if self._waiting:
            self._waiting.popleft().set_result(True)
        else:
            self._places -= 1

    def shut(self) -> None:
        """Close every connection, including those in use: their calls fail."""
        if self._closed:
            return
        self._closed = True
        self._forget(self)
        connections = [*self._idle, *self._busy]
        self._idle.clear()
        for connection in connections:
            connection.abort(_closed())
        while self._waiting:
            self._waiting.popleft().set_result(True)

    async def close(self) -> None:
        """Close every connection, and let the event loop finish with them."""
        self.shut()
        if self._guarded is not None:
            guarded, self._guarded = self._guarded, None
            await guarded.aclose()
        # The loop's transports end in callbacks; those of uvloop need a second round.
        for _ in range(2):
            await asyncio.sleep(0)


def _closed() -> EndpointError:
    # Not a TransportError, which could be retried.
    return EndpointError("the endpoint was closed while this call was in flight")
