"""One blocking connection: a socket, and the current exchange on it."""

from __future__ import annotations

import socket
from contextlib import suppress
from os import getpid, strerror
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._core.http.http1 import ResponseReader
from smendpoint._transport.exchange import ONE_WRITE_BYTES, RECV_BYTES, connection_lost
from smendpoint._transport.readiness import LONGEST_WAIT, reading_watch, ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from weakref import ref

    from smendpoint._transport.address import Address
    from smendpoint._transport.deadline import Deadline
    from smendpoint._transport.tls import TLSChannel

# Replies of TLS itself are small: if even they cannot be sent, the peer does not read.
REPLY_SECONDS = 10.0


class Socket(socket.socket):
    """A socket that closes silently when it is garbage-collected.

    The garbage collector may reach the socket of a forgotten stream before the stream, which closes it.
    """

    __slots__ = ()

    # Not Python's own close: an interrupt may have prevented attributes that it needs. It is a default value because
    # Python may have cleared the module `socket` when it collects a socket at its end.
    def __del__(self, close: Callable[[socket.SocketType], None] = socket.SocketType.close) -> None:
        close(self)


class Place:
    """A place in the pool: its holder may have one connection open, until the place is freed or garbage-collected.

    So an interrupt cannot lose a place: it disappears with the interrupted work.
    """

    __slots__ = ("__weakref__", "ref")

    ref: ref[Place]


class Connection:
    """A socket, with at most one current exchange.

    Attributes:
        idle_since: when the last exchange ended.
        cut_short: whether a request was not sent completely, so that no other can follow it.
        place: its place in the pool, which nothing else refers to. Set after dialling.
    """

    __slots__ = ("_arrives", "_pid", "_socket", "_tls", "cut_short", "idle_since", "place")

    place: Place

    def __init__(self, sock: socket.socket) -> None:
        self._pid = getpid()
        self._socket = sock
        self._tls: TLSChannel | None = None
        # The socket never blocks: to wait, ask this first. So sending costs one system call.
        sock.setblocking(False)
        self._arrives = reading_watch(sock)
        self.idle_since = 0.0
        self.cut_short = False

    def begin(self, where: Any) -> socket.socket:
        """Begin to make the TCP connection; raise `OSError` if that fails at once.

        Returns:
            The socket. It becomes writable when the connection is made or has failed: `check_connected` tells which.
        """
        with suppress(BlockingIOError):
            self._socket.connect(where)
        return self._socket

    def check_connected(self) -> None:
        """Raise `OSError` if the connection could not be made."""
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, strerror(number))

    def make_ready(self, address: Address, deadline: Deadline, give_up_at: float) -> None:
        """After `begin`: open the proxy's tunnel and do the TLS handshake. Raises `OSError`, or ours."""
        sock = self._socket
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if not address.has_preface:
            return
        from smendpoint._transport.preface import Preface

        preface = Preface(address)
        try:
            self._send_all(preface.to_send(), deadline.left(give_up_at))
            while not preface.feed(self._receive_within(deadline.left(give_up_at))):
                self._send_all(preface.to_send(), deadline.left(give_up_at))
        except OSError:
            with suppress(OSError):  # a TLS alert for the peer, which may be gone
                sock.send(preface.to_send())
            raise
        self._tls = preface.tls

    def is_stale(self) -> bool:
        """Whether the peer has closed the idle connection, or sent something out of turn.

        Only TLS itself may have sent something, such as a session ticket, and only whole records.
        """
        waits = bool(self._arrives(0))
        if self._tls is None:
            return waits
        try:
            if waits and (self._receive_now() is not None or self._arrives(0)):
                return True
        except OSError:
            return True
        return not self._tls.at_rest

    def send(self, head: bytes, body: bytes, deadline: Deadline, reader: ResponseReader) -> list[bytes]:
        """Send a request; return the chunks of the answer's body that arrived in the meantime.

        Returns early if the service answers before it has read the whole request, such as with 413.

        Raises:
            TransportError: the connection was lost, or nothing moved for the read timeout.
        """
        if len(body) > ONE_WRITE_BYTES:
            return self._send_watchfully(self._portions(head, body), deadline, reader)
        data = head + body
        try:
            if self._tls is not None:
                data = self._tls.encrypt(data)
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.cut_short = True
            return self._read_rest(error, deadline, reader)
        return [] if sent == len(data) else self._send_watchfully([data[sent:]], deadline, reader)

    def _portions(self, head: bytes, body: bytes) -> Iterator[bytes | memoryview]:
        """Yield a large request part by part as it is sent: nothing copies or encrypts it as a whole."""
        view = memoryview(body)
        parts: list[bytes | memoryview] = [head]
        parts += [view[start : start + RECV_BYTES] for start in range(0, len(body), RECV_BYTES)]
        return iter(parts) if self._tls is None else map(self._tls.encrypt, parts)

    def _send_watchfully(
        self, portions: Iterable[bytes | memoryview], deadline: Deadline, reader: ResponseReader
    ) -> list[bytes]:
        chunks: list[bytes] = []
        self.cut_short = True
        try:
            for portion in portions:
                view = memoryview(portion)
                while view:
                    readable, writable = ready(self._socket, deadline.within(deadline.timeout.read))
                    if not readable and not writable:
                        raise deadline.silence(response_started=reader.started, sending=True)
                    if readable and (received := self._receive_now()) is not None:
                        chunks += feed(reader, received)
                        if reader.head_complete:
                            # The service has answered: it does not need the rest of the body.
                            return chunks
                    with suppress(BlockingIOError):
                        view = view[self._socket.send(view) :]
        except OSError as error:
            return chunks + self._read_rest(error, deadline, reader)
        self.cut_short = False
        return chunks

    def _read_rest(self, error: OSError, deadline: Deadline, reader: ResponseReader) -> list[bytes]:
        """Read the answer that the peer sent before it stopped reading; raises if there is none."""
        chunks: list[bytes] = []
        try:
            while not reader.complete:
                chunks += self.receive(deadline, reader)
        except errors.TransportError:
            if not reader.head_complete:
                raise connection_lost(error, response_started=reader.started) from error
            raise
        return chunks

    def receive(self, deadline: Deadline, reader: ResponseReader) -> list[bytes]:
        """Wait for the next bytes and return the body chunks in them.

        Raises:
            TransportError: the connection was lost, nothing arrived in time, or the bytes are not HTTP.
        """
        received = None
        try:
            if self._tls is not None and self._tls.over:
                received = self._tls.end()
            while received is None:
                if self._tls is not None and (reply := self._tls.to_send()):
                    # TLS itself must reply before the peer continues.
                    self._send_all(reply, REPLY_SECONDS)
                if not self._arrives(min(deadline.within(deadline.timeout.read), LONGEST_WAIT) * 1000):
                    raise deadline.silence(response_started=reader.started)
                received = self._receive_now()
        except OSError as error:
            raise connection_lost(error, response_started=reader.started) from error
        return feed(reader, received)

    def _receive_now(self) -> bytes | None:
        """The bytes that have arrived, empty if the peer has closed; `None` if there are none yet. Raises `OSError`.

        A reply of TLS is not sent here: half a record of the request may be on its way.
        """
        try:
            data = self._socket.recv(RECV_BYTES)
        except BlockingIOError:
            return None
        return data if self._tls is None else self._tls.decrypt(data)

    def _send_all(self, data: bytes, seconds: float) -> None:
        self._socket.settimeout(min(seconds, LONGEST_WAIT))
        self._socket.sendall(data)
        self._socket.setblocking(False)

    def _receive_within(self, seconds: float) -> bytes:
        self._socket.settimeout(min(seconds, LONGEST_WAIT))
        data = self._socket.recv(RECV_BYTES)
        self._socket.setblocking(False)
        return data

    def abort(self) -> None:
        """Wake the thread that waits on this connection, which sees it closed."""
        if self._pid != getpid():
            return  # the parent process uses it
        with suppress(OSError):  # it may already be closed
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket. In a forked child this does not disturb the parent's connection."""
        self._socket.close()
        # Python swallows an interrupt in a finalizer, so the closed socket gets a class without one.
        self._socket.__class__ = socket.socket


def feed(reader: ResponseReader, data: bytes) -> list[bytes]:
    """Pass `data` to the reader, empty if the peer has closed; return the body chunks in it."""
    if data:
        return reader.feed(data)
    if not reader.started:
        raise connection_lost(None, response_started=False)
    reader.feed_eof()
    return []
