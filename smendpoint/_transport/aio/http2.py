"""One asyncio connection with one HTTP/2 stream: a task sends while another reads."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from smendpoint import errors
from smendpoint._core.call.timing import deadline_exceeded
from smendpoint._core.error_copies import copy_error
from smendpoint._transport.aio.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from smendpoint._core.aws.conversation import PartEncoder
    from smendpoint._transport.aio.pool import LoopPool
    from smendpoint._transport.deadline import Deadline
    from smendpoint._transport.http2 import Http2Stream


class AsyncHttp2(Channel):
    """A `Line` for asyncio. `begin` comes first, right after dialling. Args and attributes: see `Channel`."""

    status = 200  # for the flow of the call: the request has gone out
    stream: Http2Stream
    encoder: PartEncoder
    _pool: LoopPool
    _deadline: Deadline

    def __init__(self, loop: asyncio.AbstractEventLoop, buffer: memoryview) -> None:
        super().__init__(loop, buffer)
        self._early: list[bytes] = []  # what arrives before `begin`
        self._begun = False
        self._writable = True
        self._waiters: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None  # for the total

    def begin(self, stream: Http2Stream, deadline: Deadline, pool: LoopPool, encoder: PartEncoder) -> None:
        """Send the head of the request."""
        self.stream, self._deadline, self._pool, self.encoder = stream, deadline, pool, encoder
        self._begun = True
        if deadline.at is not None:
            self._timer = self._loop.call_later(max(deadline.remaining(), 0.001), self._give_up)
        for data in self._early:
            stream.feed(data)
        self._early.clear()
        if self.closed:
            stream.lost(None)
        self._flush()

    # called by the event loop, and with what arrives

    @property
    def _in_use(self) -> bool:
        return self._begun

    def _feed(self, data: bytes) -> None:
        if self._preface is not None:
            self._read_preface(self._preface, data)
        elif not self._begun:
            self._early.append(data)
        else:
            self.stream.feed(data)
            self._flush()

    def _end(self, error: Exception | None) -> None:
        if self._begun:
            self.stream.lost(error if isinstance(error, OSError) else None)
        self.abort()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._flush()

    def _flush(self) -> None:
        """Send what may go out now, and wake all waiters. A stream that is over needs its connection no more."""
        while self._writable and not self.closed and (data := self.stream.to_send()):
            self._write(data)
        if self.stream.over:
            self.abort()
        else:
            self._wake()

    def _give_up(self) -> None:
        self.abort(deadline_exceeded(self._deadline.timeout))  # an event loop's timer may be a little early

    # called by a conversation

    def check_owner(self) -> None:
        """See `Line.check_owner`."""
        if asyncio.get_running_loop() is not self._loop:
            raise errors.TransportError(
                "this conversation was opened on another event loop, perhaps before a fork, and belongs to that one",
                response_started=True,
            )

    def queue(self, pieces: Iterable[bytes | memoryview], *, end: bool = False) -> None:
        """See `Line.queue`."""
        self.stream.queue(pieces, end=end)
        self._flush()

    async def drain(self) -> None:
        """See `Line.drain`."""
        stream, sent, expires = self.stream, -1, 0.0
        while (stream.pending or not self._writable) and not stream.over:
            if stream.sent != sent:
                sent, expires = stream.sent, self._loop.time() + self._deadline.timeout.read
            await self._wait(expires, sending=True)
        if stream.failure is not None:
            raise copy_error(stream.failure)

    async def receive(self) -> bytes:
        """See `Line.receive`."""
        stream = self.stream
        expires = self._loop.time() + self._deadline.timeout.read
        while not stream.readable:
            await self._wait(expires, sending=False)
        data = stream.take()
        if data:
            if not self.closed:
                self._flush()
        elif stream.failure is not None:
            raise copy_error(stream.failure)
        return data

    async def _wait(self, expires: float, *, sending: bool) -> None:
        """Wait until something happens; when nothing has until then, give up."""
        deadline, loop = self._deadline, self._loop
        if loop.time() >= expires or deadline.over:
            self.abort(deadline.silence(response_started=self.stream.status > 0, sending=sending))
            return
        waiter = loop.create_future()
        self._waiters.append(waiter)
        # Never at once: uvloop gives a handle without a time for less than half a millisecond.
        timer = loop.call_at(max(expires, loop.time() + 0.001), self._wake)
        try:
            await waiter
        finally:
            timer.cancel()
            with suppress(ValueError):  # it was woken
                self._waiters.remove(waiter)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        """See `Line.close`."""
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._close()
        else:
            self.abandon()

    def abandon(self) -> None:
        """Close at the loop's next turn: for the garbage collector, which calls at any moment, in any thread."""
        with suppress(RuntimeError):  # the loop has ended, and so has the connection
            self._loop.call_soon_threadsafe(self._close)

    def _close(self) -> None:
        if not self.closed:
            self.stream.reset()
            self._write(self.stream.to_send())
        self.abort(errors.TransportError("the conversation was closed", response_started=True))
        self._pool.release(self)

    def abort(self, error: errors.EndpointError | None = None) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if error is not None and self._begun:
            self.stream.fail(error)
        self._wake()
        if self._transport is not None and not self._loop.is_closed():
            self._transport.abort()
