"""One asyncio connection: an `asyncio.Protocol` over the same sans-IO reader as the blocking one; dialling."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._core.http1 import ResponseReader
from smendpoint._transport.alarm import Alarm
from smendpoint._transport.common import ONE_WRITE_BYTES, connect_failed, connection_lost
from smendpoint._transport.proxy import connect_request, tunnel_stands

if TYPE_CHECKING:
    from smendpoint._transport.common import Address, Patience

# What a stream may have waiting for a slow reader before its socket is no longer read.
HIGH_WATER_BYTES = 65_536


class AsyncConnection(asyncio.Protocol):
    """A connected socket, with at most one exchange under way.

    Bytes arrive in `data_received`, which feeds the reader of the exchange under way and wakes whoever waits. One
    timer serves all waits: it is not reset for each, but looks at its time whether it has become later.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: Any = None
        self._reader: ResponseReader | None = None
        self._pieces: list[bytes] = []
        self._waiting_bytes = 0
        self._whole = True  # whether a waiter wants the whole answer, or each piece
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._reading = True
        self._writable = True
        self._failure: errors.TransportError | None = None
        self._expires: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._patience: Patience | None = None
        self.closed = False
        self.idle_since = 0.0

    # what the event loop calls

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if reader is None:
            # Nobody has asked anything: this connection cannot be trusted with the next question.
            self.abort()
            return
        try:
            pieces = reader.feed(data)
        except errors.TransportError as error:
            self._fail(error)
            return
        if pieces:
            self._pieces += pieces
            if not self._whole:
                self._waiting_bytes += sum(map(len, pieces))
                if self._waiting_bytes > HIGH_WATER_BYTES and self._reading and not reader.complete:
                    self._reading = False
                    self._transport.pause_reading()
        waiter = self._waiter
        if waiter is None:
            return
        if reader.complete or (not self._whole and (self._pieces or reader.head_complete)):
            self._wake(waiter)
        else:
            patience = self._patience
            assert patience is not None
            self._expires = self._loop.time() + patience.timeout.read

    def eof_received(self) -> bool:
        reader = self._reader
        if reader is not None and not reader.complete:
            try:
                if not reader.started:
                    raise connection_lost(None, response_started=False)
                reader.feed_eof()
            except errors.TransportError as error:
                self._fail(error)
            else:
                if self._waiter is not None:
                    self._wake(self._waiter)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        reader = self._reader
        if reader is not None and not reader.complete and self._failure is None:
            cause = error if isinstance(error, OSError) else None
            ours = connection_lost(cause, response_started=reader.started)
            ours.__cause__ = error
            self._fail(ours)
        self.resume_writing()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # what an exchange calls

    async def ask(self, head: bytes, body: bytes, patience: Patience, *, whole: bool) -> ResponseReader:
        """Send a request and wait for its answer: all of it, or only its head where `whole` is false.

        Raises:
            TransportError: the connection was lost, or nothing came in time.
        """
        reader = ResponseReader()
        self._reader = reader
        self._pieces = []
        self._waiting_bytes = 0
        self._whole = whole
        self._patience = patience
        if len(body) <= ONE_WRITE_BYTES:
            self._transport.write(head + body)
        else:
            await self._write_watchfully(head, body, patience, reader)
        while not (reader.complete if whole else reader.head_complete):
            await self._wait(patience)
        return reader

    async def _write_watchfully(self, head: bytes, body: bytes, patience: Patience, reader: ResponseReader) -> None:
        self._transport.write(head)
        view = memoryview(body)
        while view and not reader.head_complete and self._failure is None:
            self._transport.write(view[:ONE_WRITE_BYTES])
            view = view[ONE_WRITE_BYTES:]
            if not self._writable and not self.closed:
                self._drained = self._loop.create_future()
                # An early answer ends this wait too: a waiter of its own watches for it.
                try:
                    async with Alarm(self._loop, patience.within(patience.timeout.read)):
                        await self._either(self._drained)
                except TimeoutError:
                    raise patience.silence(response_started=reader.started) from None
                finally:
                    self._drained = None

    async def _either(self, drained: asyncio.Future[None]) -> None:
        answered: asyncio.Future[None] = self._loop.create_future()
        self._waiter = answered
        try:
            await asyncio.wait({drained, answered}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiter = None

    async def more(self) -> bytes:
        """The next bytes of the body; empty when the answer has properly ended.

        Raises:
            TransportError: it did not end properly, or nothing came in time.
        """
        reader, patience = self._reader, self._patience
        assert reader is not None
        assert patience is not None
        while not self._pieces:
            if reader.complete:
                return b""
            patience.within(0.0)
            if not self._reading:
                self._reading = True
                self._transport.resume_reading()
            await self._wait(patience)
        pieces, self._pieces = self._pieces, []
        self._waiting_bytes = 0
        if not self._reading and not self.closed:
            self._reading = True
            self._transport.resume_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def take(self) -> bytes:
        """The whole body of a complete answer."""
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _wait(self, patience: Patience) -> None:
        """Wait until something has arrived that changes matters."""
        if self._failure is not None:
            raise self._failure
        loop = self._loop
        self._expires = loop.time() + patience.within(patience.timeout.read)
        self._set_timer()
        waiter = self._waiter = loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None
            self._expires = None
        if self._failure is not None:
            raise self._failure

    def _set_timer(self) -> None:
        """Have `_on_timer` called no later than the wait expires, at the price of a timer now and then."""
        assert self._expires is not None
        assert self._patience is not None
        when = self._expires
        deadline = self._patience.deadline
        if deadline is not None:
            when = min(when, self._loop.time() + max(self._patience.remaining(), 0.0))
        if self._timer is None or self._timer.when() > when:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._expires is None:
            return  # nobody waits
        assert self._patience is not None
        assert self._reader is not None
        if self._loop.time() >= self._expires or self._patience.over:
            self._fail(self._patience.silence(response_started=self._reader.started))
        else:
            self._set_timer()

    def _wake(self, waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_result(None)

    def _fail(self, error: errors.TransportError) -> None:
        """End the exchange under way with `error`, and the connection with it."""
        if self._failure is None:
            self._failure = error
        if self._waiter is not None:
            self._wake(self._waiter)
        self.abort()

    # what the pool calls

    def rest(self) -> None:
        """The exchange is over: nothing is expected any more."""
        self._reader = None
        self._patience = None

    def abort(self) -> None:
        """Close at once, without waiting for anything."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None and not self.closed:
            self.closed = True
            self._transport.abort()


class _Tunnel(asyncio.Protocol):
    """Asks a proxy for a tunnel."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: Address) -> None:
        assert address.proxy is not None
        self._proxy = address.proxy
        self._request = connect_request(address.host, address.port, address.proxy)
        self._reader = ResponseReader(connect=True)
        self.stands: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: Any) -> None:
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self.stands.done():
            return
        try:
            if tunnel_stands(self._reader, data, self._proxy):
                self.stands.set_result(None)
        except errors.ConnectError as error:
            self.stands.set_exception(error)

    def connection_lost(self, error: Exception | None) -> None:
        self.data_received(b"")


async def dial(loop: asyncio.AbstractEventLoop, address: Address, patience: Patience) -> AsyncConnection:
    """Connect, through the proxy and with TLS where the address says so.

    Raises:
        ConnectError: there is no connection.
        TLSError: the peer is not who it should be.
        DeadlineExceededError: the call's time was over first.
    """
    try:
        async with Alarm(loop, patience.within(patience.timeout.connect, request_sent=False)):
            return await _dial(loop, address)
    except TimeoutError:
        raise patience.no_connection(address) from None
    except OSError as error:
        raise connect_failed(address, error) from error


async def _dial(loop: asyncio.AbstractEventLoop, address: Address) -> AsyncConnection:
    host, port = address.dialled
    context = await address.context_off(loop) if address.tls else None
    connection = AsyncConnection(loop)
    if not address.tunnelled:
        name = address.host if context is not None else None
        await loop.create_connection(lambda: connection, host, port, ssl=context, server_hostname=name)
    else:
        assert context is not None
        transport, tunnel = await loop.create_connection(lambda: _Tunnel(loop, address), host, port)
        try:
            await tunnel.stands
            upgraded = await loop.start_tls(transport, connection, context, server_hostname=address.host)
        except BaseException:
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
