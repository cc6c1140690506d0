"""A connected socket on an event loop, with the tunnel and the TLS before and around its bytes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from smendpoint._transport.exchange import RECV_BYTES
from smendpoint._transport.readiness import reading_watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from smendpoint import errors
    from smendpoint._transport.address import Address
    from smendpoint._transport.preface import Preface
    from smendpoint._transport.tls import TLSChannel


class Channel(asyncio.BufferedProtocol):
    """The base class of connections under asyncio: passes on the bytes that arrive, without the TLS around them.

    The event loop reads into an existing buffer. For an `asyncio.Protocol`, asyncio allocates 256 KiB each time, which
    takes several times as long as reading a short answer. TLS is our own, as in the blocking twin: an event loop's TLS
    does not tell whether it still holds a part of a record.

    Args:
        loop: the event loop that it is on.
        buffer: the loop reads into it, and the bytes are copied at once: all connections of the loop share it.

    Attributes:
        closed: whether the connection can no longer be used.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, buffer: memoryview) -> None:
        self._loop = loop
        self._buffer = buffer
        self._transport: Any = None
        self._tls: TLSChannel | None = None
        self._arrives: Callable[[float], object] = _cannot_tell
        self._preface: Preface | None = None  # until the first request may go out
        self._prefaced: asyncio.Future[None] | None = None
        self.closed = False

    if TYPE_CHECKING:  # each kind of connection has its own

        @property
        def _in_use(self) -> bool:
            """Whether bytes are expected."""
            raise NotImplementedError

        def _feed(self, data: bytes) -> None:
            """Handle bytes that have arrived; none are left of TLS."""

        def _end(self, error: Exception | None) -> None:
            """Handle the end of the bytes; `error` is `None` if the peer closed the connection."""

        def abort(self, error: errors.EndpointError | None = None) -> None:
            """Close at once, without waiting; waiters get `error`."""

    # called by the event loop

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._arrives = _arrival_watch(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._buffer[:nbytes])
        if self._tls is None:
            self._feed(data)  # like `_receive`, but without one more call for each answer
        else:
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        """Handle bytes from the network; none at its end."""
        tls = self._tls
        if tls is None:
            self._feed(data)
            return
        plain = None
        with suppress(OSError):  # it is in `failure`
            plain = tls.decrypt(data)
        if (reply := tls.to_send()) and not self.closed:
            self._transport.write(reply)
        if plain:
            self._feed(plain)
        if tls.over and not self.closed:
            self._end(tls.failure)

    def eof_received(self) -> bool:
        self._ended(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self._in_use:
            self._read_pending()
        self._ended(exc)

    def _ended(self, error: Exception | None) -> None:
        if self._preface is not None:
            self._read_preface(self._preface, b"", error)
        elif error is None and self._tls is not None:
            self._receive(b"")  # anyone on the network can end the TCP connection; TLS knows whether it was the peer
        else:
            self._end(error)

    def _read_pending(self) -> None:
        """Read the bytes that have arrived, before the event loop does."""
        sock = self._transport.get_extra_info("socket")
        if sock is None:
            return
        with suppress(OSError), sock.dup() as sock:
            sock.setblocking(False)
            while not self.closed and (data := sock.recv(RECV_BYTES)):
                self._receive(data)

    # called by dialling

    async def make_ready(self, address: Address) -> None:
        """Open the proxy's tunnel and do the TLS handshake. Raises `OSError`, or ours."""
        if not address.has_preface:
            return
        from smendpoint._transport.preface import Preface

        if self.closed:
            raise ConnectionResetError("the connection was closed while it was being made")
        preface = self._preface = Preface(address)
        self._prefaced = self._loop.create_future()
        self._transport.write(preface.to_send())
        await self._prefaced

    def _read_preface(self, preface: Preface, data: bytes, error: Exception | None = None) -> None:
        prefaced, done = self._prefaced, False
        assert prefaced is not None
        if error is None:
            try:
                done = preface.feed(data)
            except Exception as failure:
                error = failure
            if not done:
                self._transport.write(preface.to_send())
                if error is None:
                    return
        self._preface = self._prefaced = None
        if prefaced.done():  # dialling was cancelled
            return
        if error is None:
            self._tls = preface.tls
            prefaced.set_result(None)
        else:
            prefaced.set_exception(error)

    def _write(self, data: bytes | memoryview) -> None:
        self._transport.write(data if self._tls is None else self._tls.encrypt(data))


def _arrival_watch(transport: Any) -> Callable[[float], object]:
    """Make a function that tells whether bytes have arrived that the event loop has not delivered yet."""
    if hasattr(transport, "_read_fut"):
        # Windows: the system reads for the loop in advance, so the socket shows nothing.
        return lambda _: _has_read(transport._read_fut)
    sock = transport.get_extra_info("socket")
    return _cannot_tell if sock is None else reading_watch(sock)


def _has_read(reading: Any) -> bool:
    # This is not a public part of asyncio: only a plain True counts as "nothing has arrived".
    return getattr(getattr(reading, "_ov", None), "pending", False) is not True


def _cannot_tell(_: float) -> bool:
    return True
