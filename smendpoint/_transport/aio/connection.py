"""One asyncio connection with HTTP/1.1, with the same sans-IO parts as the blocking one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from smendpoint import errors
from smendpoint._core.error_copies import copy_error
from smendpoint._core.http.http1 import ResponseReader
from smendpoint._transport.aio.channel import Channel
from smendpoint._transport.exchange import ONE_WRITE_BYTES, connection_lost, joined

if TYPE_CHECKING:
    from smendpoint._transport.deadline import Deadline

# A socket is no longer read while more than this waits for a slow reader of its stream.
HIGH_WATER_BYTES = 65_536


class AsyncConnection(Channel):
    """A connected socket, with at most one current exchange.

    Bytes arrive in `_feed`, which passes them to the reader of the current exchange and wakes the waiter. One timer
    serves all waits. It is not reset for each wait; when it fires, it checks the deadline again.

    Args and further attributes: see `Channel`.

    Attributes:
        cut_short: whether a request was not sent completely, so that no other can follow it.
        idle_since: when the pool got it back.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, buffer: memoryview) -> None:
        super().__init__(loop, buffer)
        self._reader: ResponseReader | None = None
        self._chunks: list[bytes] = []
        self._waiting_bytes = 0
        self._whole = True  # whether a waiter wants the whole answer, or each chunk
        self._waiter: asyncio.Future[None] | None = None
        self._reading = True
        self._writable = True
        self._sending = False  # whether the waiter waits until it can write
        self._failure: errors.EndpointError | None = None
        self._expires = 0.0  # when the current wait has been silent for too long
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: Deadline | None = None
        self.cut_short = False
        self.idle_since = 0.0

    # called by the event loop, and with what arrives

    @property
    def _in_use(self) -> bool:
        return self._reader is not None

    def _feed(self, data: bytes) -> None:
        reader = self._reader
        if reader is None or self.closed:
            if self._preface is None:
                # Bytes that no request asked for: this connection cannot be trusted with the next request.
                self.abort()
            else:
                self._read_preface(self._preface, data)
            return
        try:
            chunks = reader.feed(data)
        except errors.TransportError as error:
            self._chunks += reader.undelivered
            self.abort(error)
            return
        if chunks:
            self._chunks += joined(chunks)
            if not self._whole:
                self._waiting_bytes += sum(map(len, chunks))
                if self._waiting_bytes > HIGH_WATER_BYTES and self._reading and not reader.complete:
                    self._reading = False
                    self._transport.pause_reading()
        if self._waiter is None:
            return
        if reader.complete or (reader.head_complete and (self._sending or not self._whole)):
            self._wake()
        else:
            deadline = self._deadline
            assert deadline is not None
            self._expires = self._loop.time() + deadline.timeout.read

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._sending:
            self._wake()

    def _end(self, error: Exception | None) -> None:
        """Handle the end of the bytes: the regular end of some answers, the failure of all others."""
        reader = self._reader
        self.closed = True
        if reader is None or reader.complete or self._failure is not None:
            self.abort()
        elif error is None and reader.started:
            try:
                reader.feed_eof()
            except errors.TransportError as failure:
                self.abort(failure)
            else:
                self.abort()
        else:
            ours = connection_lost(error if isinstance(error, OSError) else None, response_started=reader.started)
            ours.__cause__ = error
            self.abort(ours)

    # called by an exchange

    async def ask(
        self, head: bytes, body: bytes, deadline: Deadline, *, whole: bool, max_body: int | None = None
    ) -> ResponseReader:
        """Send a request and wait for its answer: all of it, or only its head if `whole` is false.

        Raises:
            EndpointError: the connection was lost or closed, or nothing arrived in time.
        """
        reader = ResponseReader(max_body=max_body)
        if self.closed:
            raise connection_lost(None, response_started=False)
        self._reader = reader
        self._chunks = []
        self._waiting_bytes = 0
        self._whole = whole
        self._deadline = deadline
        if len(body) > ONE_WRITE_BYTES:
            self.cut_short = True
            self._write(head)
            del head  # it is signed: a traceback that shows local variables must not have it
            await self._write_watchfully(body, deadline, reader)
        else:
            self._write(head + body)
            del head
        while not (reader.complete if whole else reader.head_complete):
            await self._wait(deadline)
        return reader

    async def _write_watchfully(self, body: bytes, deadline: Deadline, reader: ResponseReader) -> None:
        view = memoryview(body)
        while view:
            # Read an early answer before the next write, which may find the connection reset.
            await asyncio.sleep(0)
            while not (self._writable or self.closed or reader.head_complete):
                self._sending = True
                try:
                    await self._wait(deadline)
                finally:
                    self._sending = False
            if self.closed or reader.head_complete:
                return  # the service has answered: it does not need the rest of the body
            self._write(view[:ONE_WRITE_BYTES])
            view = view[ONE_WRITE_BYTES:]
        self.cut_short = False

    async def more(self) -> bytes:
        """The next bytes of the body; empty when the answer has properly ended.

        Raises:
            EndpointError: it did not end properly, or nothing arrived in time. Earlier bytes are returned first.
        """
        reader, deadline = self._reader, self._deadline
        assert reader is not None
        assert deadline is not None
        if not reader.complete:
            deadline.within(0.0)  # the total ends a slow reader's stream too
        while not self._chunks:
            if reader.complete:
                return b""
            await self._wait(deadline)
        data = self.received()
        self._waiting_bytes = 0
        if not self._reading:
            self._reading = True
            if not self.closed:
                self._transport.resume_reading()
        return data

    def received(self) -> bytes:
        """Return all of the body that has arrived."""
        chunks, self._chunks = self._chunks, []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _wait(self, deadline: Deadline) -> asyncio.Future[None]:
        """Make a future for the next arrival that matters. Raise if nothing can arrive any more."""
        if self._failure is not None:
            raise copy_error(self._failure)
        loop, timer = self._loop, self._timer
        expires = self._expires = loop.time() + deadline.timeout.read
        if deadline.at is not None:
            deadline.within(0.0)
            self._set_timer(deadline, expires)
        elif timer is None or timer.when() > expires:
            self._set_timer(deadline, expires)
        waiter = self._waiter = loop.create_future()
        return waiter

    def _set_timer(self, deadline: Deadline, when: float) -> None:
        """Have `_on_timer` called at `when` or at the deadline, or earlier: an earlier timer is kept."""
        if deadline.at is not None:
            when = min(when, self._loop.time() + max(deadline.remaining(), 0.0))
        if self._timer is None or self._timer.when() > when:
            if self._timer is not None:
                self._timer.cancel()
            # Never at once: uvloop gives a handle without a time for less than half a millisecond.
            self._timer = self._loop.call_at(max(when, self._loop.time() + 0.001), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        reader, deadline = self._reader, self._deadline
        if reader is None or deadline is None or reader.complete:
            return
        waits = self._waiter is not None and not self._waiter.done()
        if deadline.over or (waits and self._loop.time() >= self._expires):
            self.abort(deadline.silence(response_started=reader.started, sending=self._sending))
        elif waits:
            self._set_timer(deadline, self._expires)
        elif deadline.at is not None:
            # No read is under way: only the total runs.
            self._set_timer(deadline, float("inf"))

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # called by the pool

    def is_stale(self) -> bool:
        """Whether the peer has closed the idle connection, or sent something out of turn.

        If the loop has been busy, the bytes may still be in the socket. Only TLS itself may have sent something, such
        as a session ticket, and only whole records.
        """
        if self.closed:
            return True
        waits = bool(self._arrives(0))
        if self._tls is None:
            return waits
        if waits:
            self._read_pending()
            if self.closed or self._arrives(0):
                return True
        return not self._tls.at_rest

    def rest(self) -> None:
        """End the exchange: the connection expects nothing any more."""
        self._reader = None
        self._deadline = None

    def abort(self, error: errors.EndpointError | None = None) -> None:
        """Close at once, without waiting; the waiter gets `error`."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._failure is None:
            # Without its traceback, which would tie error and connection together in a cycle.
            self._failure = (error or connection_lost(None, response_started=True)).with_traceback(None)
        self._wake()
        if self._transport is not None and not self._loop.is_closed():
            self._transport.abort()
