"""One asyncio connection: an `asyncio.BufferedProtocol` over the same sans-IO reader as the blocking one; dialling."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._core.flow import deadline_exceeded
from smendpoint._core.http1 import ResponseReader
from smendpoint._transport.alarm import Late, in_time
from smendpoint._transport.common import ONE_WRITE_BYTES, RECV_BYTES, connect_failed, connection_lost
from smendpoint._transport.proxy import connect_request, tunnel_stands

if TYPE_CHECKING:
    from smendpoint._transport.common import Address, Patience
    from smendpoint._transport.proxy import Proxy

# What a stream may have waiting for a slow reader before its socket is no longer read.
HIGH_WATER_BYTES = 65_536


class AsyncConnection(asyncio.BufferedProtocol):
    """A connected socket, with at most one exchange under way.

    Bytes arrive in `data_received`, which feeds the reader of the exchange under way and wakes whoever waits. One
    timer serves all waits: it is not reset for each, but looks at its time whether it has become later.

    The event loop reads into a buffer that is there already. For an `asyncio.Protocol`, asyncio and both loops' TLS
    make room for 256 KiB each time, which takes several times as long as to read a short answer.

    Args:
        loop: that it is on.
        room: what the loop reads into, before it is copied from there at once: shared by the loop's connections.

    Attributes:
        closed: whether the connection can carry nothing more.
        cut_short: whether a request was not sent to its end, so that no other can follow it.
        idle_since: when the pool got it back.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, room: memoryview) -> None:
        self._loop = loop
        self._room = room
        self._transport: Any = None
        self._tls: ssl.SSLObject | None = None
        self._reader: ResponseReader | None = None
        self._pieces: list[bytes] = []
        self._waiting_bytes = 0
        self._whole = True  # whether a waiter wants the whole answer, or each piece
        self._waiter: asyncio.Future[None] | None = None
        self._reading = True
        self._writable = True
        self._sending = False  # whether the waiter waits for room to write
        self._failure: errors.EndpointError | None = None
        self._expires = 0.0  # when the wait under way has been silent for too long
        self._timer: asyncio.TimerHandle | None = None
        self._patience: Patience | None = None
        self.closed = False
        self.cut_short = False
        self.idle_since = 0.0

    # what the event loop calls

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._tls = transport.get_extra_info("ssl_object")

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._room[:nbytes]))

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if reader is None or self.closed:
            # Nobody has asked anything: this connection cannot be trusted with the next question.
            self.abort()
            return
        try:
            pieces = reader.feed(data)
        except errors.TransportError as error:
            self._pieces += reader.undelivered
            self.abort(error)
            return
        if pieces:
            self._pieces += pieces
            if not self._whole:
                self._waiting_bytes += sum(map(len, pieces))
                if self._waiting_bytes > HIGH_WATER_BYTES and self._reading and not reader.complete:
                    self._reading = False
                    self._transport.pause_reading()
        if self._waiter is None:
            return
        if reader.complete or (reader.head_complete and (self._sending or not self._whole)):
            self._wake()
        else:
            patience = self._patience
            assert patience is not None
            self._expires = self._loop.time() + patience.timeout.read

    def eof_received(self) -> bool:
        self._end(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._hear_last_words()
        self._end(exc)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._sending:
            self._wake()

    def _end(self, error: Exception | None) -> None:
        """No more bytes will come: the regular end of some answers, the failure of all others."""
        reader = self._reader
        self.closed = True
        if reader is None or reader.complete or self._failure is not None:
            self.abort()
        elif error is None and reader.started and self._said_goodbye():
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

    def _said_goodbye(self) -> bool:
        """Whether it was the peer that ended the connection. Under TLS anyone on the way could pretend so.

        asyncio does not say: some versions report the end of TCP like the end of TLS, and some the other way round.
        """
        if self._tls is None:
            return True
        try:
            return not self._tls.read(1)
        except ssl.SSLZeroReturnError:
            return True
        except (OSError, ValueError):
            return False

    def _hear_last_words(self) -> None:
        """Read what the peer said before it stopped listening: asyncio gives up at the first write that fails."""
        reader = self._reader
        if reader is None or self._tls is not None or self.closed:
            return
        with suppress(OSError), self._transport.get_extra_info("socket").dup() as sock:
            sock.setblocking(False)
            while data := sock.recv(RECV_BYTES):
                self.data_received(data)

    # what an exchange calls

    async def ask(self, head: bytes, body: bytes, patience: Patience, *, whole: bool) -> ResponseReader:
        """Send a request and wait for its answer: all of it, or only its head where `whole` is false.

        Raises:
            EndpointError: the connection was lost or closed, or nothing came in time.
        """
        reader = ResponseReader()
        if self.closed:
            raise connection_lost(None, response_started=False)
        self._reader = reader
        self._pieces = []
        self._waiting_bytes = 0
        self._whole = whole
        self._patience = patience
        if len(body) > ONE_WRITE_BYTES:
            await self._write_watchfully(head, body, patience, reader)
        else:
            self._transport.write(head + body)
        while not (reader.complete if whole else reader.head_complete):
            await self._wait(patience)
        return reader

    async def _write_watchfully(self, head: bytes, body: bytes, patience: Patience, reader: ResponseReader) -> None:
        self.cut_short = True
        self._transport.write(head)
        view = memoryview(body)
        while view:
            # Whatever has been answered meanwhile is heard before the next write, which may find the connection reset.
            await asyncio.sleep(0)
            while not (self._writable or self.closed or reader.head_complete):
                self._sending = True
                try:
                    await self._wait(patience)
                finally:
                    self._sending = False
            if self.closed or reader.head_complete:
                return  # the service has made up its mind: the rest of the body is of no use to anyone
            self._transport.write(view[:ONE_WRITE_BYTES])
            view = view[ONE_WRITE_BYTES:]
        self.cut_short = False

    async def more(self) -> bytes:
        """The next bytes of the body; empty when the answer has properly ended.

        Raises:
            EndpointError: it did not end properly, or nothing came in time. Bytes that came before are given first.
        """
        reader, patience = self._reader, self._patience
        assert reader is not None
        assert patience is not None
        if not reader.complete:
            patience.within(0.0)  # the time in all is over for a slow reader too
        while not self._pieces:
            if reader.complete:
                return b""
            await self._wait(patience)
        data = self.take()
        self._waiting_bytes = 0
        if not self._reading:
            self._reading = True
            if not self.closed:
                self._transport.resume_reading()
        return data

    def take(self) -> bytes:
        """All of the body that has arrived."""
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _wait(self, patience: Patience) -> asyncio.Future[None]:
        """To be awaited: until something has arrived that changes matters. Raises where nothing can arrive any more."""
        if self._failure is not None:
            raise errors.again(self._failure)
        loop, timer = self._loop, self._timer
        expires = self._expires = loop.time() + patience.timeout.read
        if patience.deadline is not None:
            patience.within(0.0)
            self._set_timer(patience, expires)
        elif timer is None or timer.when() > expires:
            self._set_timer(patience, expires)
        waiter = self._waiter = loop.create_future()
        return waiter

    def _set_timer(self, patience: Patience, when: float) -> None:
        """Have `_on_timer` called at `when` or at the deadline, or earlier: the price of not setting it anew."""
        if patience.deadline is not None:
            when = min(when, self._loop.time() + max(patience.remaining(), 0.0))
        if self._timer is None or self._timer.when() > when:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        reader, patience = self._reader, self._patience
        if reader is None or patience is None or reader.complete:
            return
        waits = self._waiter is not None and not self._waiter.done()
        if patience.over or (waits and self._loop.time() >= self._expires):
            self.abort(patience.silence(response_started=reader.started))
        elif waits:
            self._set_timer(patience, self._expires)
        elif patience.deadline is not None:
            # Nobody reads the stream just now: only the time in all runs on.
            self._set_timer(patience, float("inf"))

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # what the pool calls

    def rest(self) -> None:
        """The exchange is over: nothing is expected any more."""
        self._reader = None
        self._patience = None

    def abort(self, error: errors.EndpointError | None = None) -> None:
        """Close at once, without waiting for anything; whoever waits for an answer gets `error`."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._failure is None:
            # Without its traceback: that would tie error and connection together in a cycle.
            self._failure = (error or connection_lost(None, response_started=True)).with_traceback(None)
        self._wake()
        if self._transport is not None and not self._loop.is_closed():
            self._transport.abort()


class _Tunnel(asyncio.Protocol):
    """Asks a proxy for a tunnel."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: Address, proxy: Proxy) -> None:
        self._proxy = proxy
        self._request = connect_request(address.host, address.port, proxy)
        self._reader = ResponseReader(connect=True)
        self._answered: asyncio.Future[None] = loop.create_future()
        self._failure: errors.ConnectError | None = None

    def connection_made(self, transport: Any) -> None:
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._answered.done():
            try:
                if not tunnel_stands(self._reader, data, self._proxy):
                    return
            except errors.ConnectError as error:
                self._failure = error
            self._answered.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.data_received(b"")

    async def stands(self) -> None:
        """Wait for the proxy's answer; raises where there is no tunnel."""
        await self._answered
        if self._failure is not None:
            raise self._failure


async def dial(
    loop: asyncio.AbstractEventLoop, address: Address, patience: Patience, room: memoryview | None = None
) -> AsyncConnection:
    """Connect, through the proxy and with TLS where the address says so.

    Args:
        loop: the running event loop.
        address: where to.
        patience: how long it may take.
        room: what the loop's connections share, see `AsyncConnection`; without it, the connection has its own.

    Raises:
        ConnectError: there is no connection.
        TLSError: the peer is not who it should be.
        DeadlineExceededError: the call's time was over first.
    """
    seconds = patience.within(patience.timeout.connect, request_sent=False)
    try:
        return await in_time(_dial(loop, address, room), seconds, AsyncConnection.abort)
    except Late:
        if seconds < patience.timeout.connect:
            raise deadline_exceeded(patience.timeout, request_sent=False) from None
        raise patience.no_connection(address) from None
    except UnicodeError as error:  # a host name with a part that is empty, or too long
        raise connect_failed(address, OSError(str(error))) from error
    except OSError as error:
        raise connect_failed(address, error) from error


async def _dial(loop: asyncio.AbstractEventLoop, address: Address, room: memoryview | None) -> AsyncConnection:
    host, port = address.dialled
    context = await address.context_off(loop) if address.tls else None
    connection = AsyncConnection(loop, room or memoryview(bytearray(RECV_BYTES)))
    proxy = address.proxy
    if proxy is None or context is None:
        name = address.host if context is not None else None
        try:
            await loop.create_connection(lambda: connection, host, port, ssl=context, server_hostname=name)
        except BaseException:
            # Cancelled when the handshake was just done, asyncio would say goodbye first, and wait for an answer.
            connection.abort()
            raise
    else:
        transport, tunnel = await loop.create_connection(lambda: _Tunnel(loop, address, proxy), host, port)
        try:
            await tunnel.stands()
            upgraded = await loop.start_tls(transport, connection, context, server_hostname=address.host)
        except BaseException:
            # Python 3.10 leaves this one open where the handshake is cancelled in the moment when it is done.
            unannounced = getattr(transport.get_protocol(), "_app_transport", None)
            if unannounced is not None:
                unannounced.abort()
            transport.abort()
            raise
        if upgraded is None:
            raise ConnectionResetError("the connection was closed during the TLS handshake")
        # start_tls does not announce the new transport
        connection.connection_made(upgraded)
    sock = connection._transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # asyncio itself sets TCP_NODELAY
    return connection
