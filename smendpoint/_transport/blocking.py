"""One connection with blocking sockets: dialling, one exchange at a time, reading a stream."""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from os import getpid
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._core.http1 import ResponseReader
from smendpoint._transport.common import ONE_WRITE_BYTES, RECV_BYTES, connect_failed, connection_lost, would_block
from smendpoint._transport.proxy import connect_request, tunnel_stands

if TYPE_CHECKING:
    from collections.abc import Callable

    from smendpoint._transport.common import Address, Patience
    from smendpoint._transport.direct import Scope


def dial(address: Address, patience: Patience, scope: Scope | None = None) -> Connection:
    """Connect, through the proxy and with TLS where the address says so.

    Raises:
        ConnectError: there is no connection.
        TLSError: the peer is not who it should be.
        DeadlineExceededError: the call's time was over first.
    """
    if address.tls:
        address.context()  # where the certificates cannot be read, there is no need to disturb anyone
    give_up_at = patience.connect_by()
    try:
        connection = _connect(address, patience, give_up_at, scope)
        try:
            connection.make_ready(address, patience, give_up_at)
        except BaseException:
            _abandon(connection, scope)
            raise
    except TimeoutError:
        raise patience.no_connection(address) from None
    except OSError as error:
        raise connect_failed(address, error) from error
    return connection


def _to_look_up(host: str) -> str | bytes:
    # What needs no encoding is given as bytes: for text, Python loads the tables of international names.
    return host.encode("ascii") if host.isascii() else host


def _connect(address: Address, patience: Patience, give_up_at: float, scope: Scope | None) -> Connection:
    """Connect to the first of the host's addresses that answers, all of them within one deadline."""
    host, port = address.dialled
    failure: OSError | None = None
    for family, kind, protocol, _, where in socket.getaddrinfo(_to_look_up(host), port, type=socket.SOCK_STREAM):
        try:
            connection = Connection(socket.socket(family, kind, protocol))
        except OSError as error:  # this machine may lack that family of addresses
            failure = error
            continue
        try:
            if scope is not None:
                scope.enter(connection)
            connection.connect(where, patience.left(give_up_at))
        except OSError as error:
            _abandon(connection, scope)
            failure = error
        except BaseException:
            _abandon(connection, scope)
            raise
        else:
            return connection
    raise failure or OSError("the name has no address")


def _abandon(connection: Connection, scope: Scope | None) -> None:
    # In this order: who stops the scope must not meet a descriptor that is someone else's by now.
    if scope is not None:
        scope.leave()
    connection.close()


class Connection:
    """A socket, with at most one exchange under way.

    Attributes:
        idle_since: when the last exchange ended.
        cut_short: whether a request was not sent as a whole; no other one can follow it.
    """

    __slots__ = ("_pid", "_socket", "_timeout", "cut_short", "idle_since")

    def __init__(self, sock: socket.socket) -> None:
        self._pid = getpid()
        self._socket = sock
        self._timeout = sock.gettimeout()
        self.idle_since = 0.0
        self.cut_short = False

    def connect(self, where: Any, seconds: float) -> None:
        """Make the TCP connection; raises `OSError`."""
        self._wait_at_most(seconds)
        self._socket.connect(where)

    def make_ready(self, address: Address, patience: Patience, give_up_at: float) -> None:
        """After `connect`: what stands between the TCP connection and the first request. Raises `OSError`, or ours."""
        sock = self._socket
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if address.proxy is not None and address.tls:
            reader = ResponseReader(connect=True)
            self._wait_at_most(patience.left(give_up_at))
            sock.sendall(connect_request(address.host, address.port, address.proxy))
            while not tunnel_stands(reader, sock.recv(RECV_BYTES), address.proxy):
                self._wait_at_most(patience.left(give_up_at))
        if address.tls:
            self._wait_at_most(patience.left(give_up_at))
            # A cut connection must not look like a proper end. The handshake comes apart so that it can be aborted.
            self._socket = secured = address.context().wrap_socket(
                sock, server_hostname=address.host, suppress_ragged_eofs=False, do_handshake_on_connect=False
            )
            secured.do_handshake()

    def is_stale(self) -> bool:
        """Whether the peer has closed the idle connection, or said something out of turn."""
        return _ready(self._socket, 0.0, write=False)[0]

    def send(self, head: bytes, body: bytes, patience: Patience, reader: ResponseReader) -> list[bytes]:
        """Send a request; gives what of the answer's body arrived meanwhile.

        Returns early where the service answers before it has read the whole request, such as with 413.

        Raises:
            TransportError: the connection was lost, or nothing moved for the read timeout.
        """
        if len(body) <= ONE_WRITE_BYTES:
            self._wait_at_most(patience.within(patience.timeout.read))
            try:
                self._socket.sendall(head + body)
            except TimeoutError:
                raise patience.silence(response_started=False) from None
            except OSError as error:
                self.cut_short = True
                return self._last_words(error, patience, reader)
            return []
        return self._send_watchfully(head, body, patience, reader)

    def _send_watchfully(self, head: bytes, body: bytes, patience: Patience, reader: ResponseReader) -> list[bytes]:
        pieces: list[bytes] = []
        self.cut_short = True
        self._wait_at_most(0.0)
        for data in (head, body):
            view = memoryview(data)
            while view:
                readable, writable = _ready(self._socket, patience.within(patience.timeout.read), write=True)
                if not readable and not writable:
                    raise patience.silence(response_started=reader.started)
                if readable:
                    try:
                        received = self._socket.recv(RECV_BYTES)
                    except OSError as error:
                        if not would_block(error):
                            raise connection_lost(error, response_started=reader.started) from error
                        received = None
                    if received is not None:
                        pieces += feed(reader, received)
                    if reader.head_complete:
                        # It has made up its mind: the rest of the body is of no use to anyone.
                        return pieces
                try:
                    view = view[self._socket.send(view[:RECV_BYTES]) :]
                except OSError as error:
                    if not would_block(error):
                        return pieces + self._last_words(error, patience, reader)
        self.cut_short = False
        return pieces

    def _last_words(self, error: OSError, patience: Patience, reader: ResponseReader) -> list[bytes]:
        """What the peer said before it stopped reading; raises where that is not an answer."""
        pieces: list[bytes] = []
        try:
            while not reader.complete:
                pieces += self.receive(patience, reader)
        except errors.TransportError:
            if not reader.head_complete:
                raise connection_lost(error, response_started=reader.started) from error
            raise
        return pieces

    def receive(self, patience: Patience, reader: ResponseReader) -> list[bytes]:
        """Wait for the next bytes and give the body pieces in them.

        Raises:
            TransportError: the connection was lost, nothing came in time, or what came is not HTTP.
        """
        self._wait_at_most(patience.within(patience.timeout.read))
        try:
            data = self._socket.recv(RECV_BYTES)
        except TimeoutError:
            raise patience.silence(response_started=reader.started) from None
        except OSError as error:
            raise connection_lost(error, response_started=reader.started) from error
        return feed(reader, data)

    def _wait_at_most(self, seconds: float) -> None:
        if seconds != self._timeout:
            self._socket.settimeout(seconds)
            self._timeout = seconds

    def abort(self) -> None:
        """Wake whoever is waiting on this connection, in whatever thread; it sees the connection closed."""
        if self._pid != getpid():
            return  # it is the parent process that uses it
        with suppress(OSError):  # it may be closed already
            # Not SSLSocket's own shutdown: after that, a thread that reads would take ciphertext for plaintext.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket. In a forked child this does not disturb the parent's connection."""
        self._socket.close()


def feed(reader: ResponseReader, data: bytes) -> list[bytes]:
    """Give `data` to the reader; nothing means that the peer has closed."""
    if data:
        return reader.feed(data)
    if not reader.started:
        raise connection_lost(None, response_started=False)
    reader.feed_eof()
    return []


def _poll(sock: socket.socket, seconds: float, *, write: bool) -> tuple[bool, bool]:
    poll = select.poll()
    poll.register(sock, select.POLLIN | (select.POLLOUT if write else 0))
    events = poll.poll(seconds * 1000)
    flags = events[0][1] if events else 0
    return bool(flags & ~select.POLLOUT), bool(flags & select.POLLOUT)


def _select(sock: socket.socket, seconds: float, *, write: bool) -> tuple[bool, bool]:
    readable, writable, broken = select.select([sock], [sock] if write else [], [sock], seconds)
    return bool(readable or broken), bool(writable)


# Windows has no poll; elsewhere select cannot watch descriptors above 1023.
_ready: Callable[..., tuple[bool, bool]] = _poll if hasattr(select, "poll") else _select
