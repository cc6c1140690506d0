"""One connection with blocking sockets: dialling, one exchange at a time, reading a stream."""

from __future__ import annotations

import select
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from smendpoint import errors
from smendpoint._core.http1 import ResponseReader
from smendpoint._transport.common import ONE_WRITE_BYTES, RECV_BYTES, connect_failed, connection_lost
from smendpoint._transport.proxy import connect_request, tunnel_stands

if TYPE_CHECKING:
    from collections.abc import Callable

    from smendpoint._transport.common import Address, Patience


def dial(address: Address, patience: Patience) -> Connection:
    """Connect, through the proxy and with TLS where the address says so.

    Raises:
        ConnectError: there is no connection.
        TLSError: the peer is not who it should be.
        DeadlineExceededError: the call's time was over first.
    """
    give_up_at = patience.connect_by()
    try:
        sock = _dial_tcp(address, patience, give_up_at)
    except TimeoutError:
        raise patience.no_connection(address) from None
    except OSError as error:
        raise connect_failed(address, error) from error
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if address.tunnelled:
            _open_tunnel(sock, address, patience, give_up_at)
        if address.tls:
            sock.settimeout(patience.left(give_up_at))
            # A cut connection must not look like a proper end.
            sock = address.context().wrap_socket(sock, server_hostname=address.host, suppress_ragged_eofs=False)
    except TimeoutError:
        sock.close()
        raise patience.no_connection(address) from None
    except OSError as error:
        sock.close()
        raise connect_failed(address, error) from error
    except BaseException:
        sock.close()
        raise
    return Connection(sock)


def _dial_tcp(address: Address, patience: Patience, give_up_at: float) -> socket.socket:
    """The first of the host's addresses that answers, all of them within one deadline."""
    host, port = address.dialled
    failure: OSError | None = None
    for family, kind, protocol, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(patience.left(give_up_at))
            sock.connect(where)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure or OSError("the name has no address")


def _open_tunnel(sock: socket.socket, address: Address, patience: Patience, give_up_at: float) -> None:
    assert address.proxy is not None
    sock.settimeout(patience.left(give_up_at))
    sock.sendall(connect_request(address.host, address.port, address.proxy))
    reader = ResponseReader(connect=True)
    while not tunnel_stands(reader, sock.recv(RECV_BYTES), address.proxy):
        sock.settimeout(patience.left(give_up_at))


class Connection:
    """A connected socket, with at most one exchange under way."""

    __slots__ = ("_socket", "_timeout", "idle_since")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._timeout = sock.gettimeout()
        self.idle_since = 0.0

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
                return self._last_words(error, patience, reader)
            return []
        return self._send_watchfully(head, body, patience, reader)

    def _send_watchfully(self, head: bytes, body: bytes, patience: Patience, reader: ResponseReader) -> list[bytes]:
        pieces: list[bytes] = []
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
                    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                        received = None
                    except OSError as error:
                        raise connection_lost(error, response_started=reader.started) from error
                    if received is not None:
                        pieces += feed(reader, received)
                    if reader.head_complete:
                        # It has made up its mind: the rest of the body is of no use to anyone.
                        return pieces
                try:
                    view = view[self._socket.send(view[:RECV_BYTES]) :]
                except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    continue
                except OSError as error:
                    return pieces + self._last_words(error, patience, reader)
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
        with suppress(OSError):  # it may be closed already
            self._socket.shutdown(socket.SHUT_RDWR)

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
