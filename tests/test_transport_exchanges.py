"""One exchange over a connection, in both twins: bodies large and small, early answers, failures, and limits."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable

import pytest
from inside import idle_connections, socket_of, source_of
from servers import PATIENCE, Peer, Server, fast, response
from twins import Twin, bytes_endpoint

from smendpoint import errors
from smendpoint.emulator import Emulator

pytestmark = pytest.mark.usefixtures("bare_environment")

LARGE = bytes(range(256)) * 20_000  # more than a socket takes whose peer has little room
OPERATIONS = ("invoke", "stream")

Secure = ssl.SSLContext | None


def test_small_writes_are_sent_at_once_and_a_dead_peer_is_found_in_time(caller: Twin) -> None:
    with Server(Peer.echo) as server, bytes_endpoint(caller, server.url) as endpoint:
        endpoint.invoke(b"Hello")
        (connection,) = idle_connections(endpoint.endpoint)
        with socket_of(connection).dup() as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_a_small_request_is_one_write(caller: Twin) -> None:
    def serve(peer: Peer) -> None:
        assert peer.sock.recv(65_536).endswith(b"\r\n\r\nHello")
        peer.send(response(b"fine"))

    with Server(serve) as server, bytes_endpoint(caller, server.url) as endpoint:
        assert endpoint.invoke(b"Hello") == b"fine"


def test_a_large_body_and_a_large_answer_arrive_whole(caller: Twin, tls: Secure) -> None:
    def narrow(peer: Peer) -> None:
        peer.keep_little_room()
        peer.echo()

    with Server(narrow, tls=tls) as server, bytes_endpoint(caller, server.url) as endpoint:
        for body in (LARGE, b"small", LARGE):
            assert endpoint.invoke(body) == body
        assert server.connections == 1


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("end", [Peer.gone, Peer.reset], ids=["stays open", "is reset"])
def test_an_early_answer_is_heard_and_the_connection_with_half_a_request_on_it_is_not_used_again(
    caller: Twin, tls: Secure, end: Callable[[Peer], object], operation: str
) -> None:
    """If it were, the next request would be taken for the rest of the body."""

    def early(peer: Peer) -> None:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else TLS's own messages delay the answer
        peer.keep_little_room()
        peer.head()
        peer.send(response(b"no", status="413 Content Too Large"))
        end(peer)

    with Server(early, Peer.echo, tls=tls) as server, bytes_endpoint(caller, server.url) as endpoint:
        with pytest.raises(errors.ServiceError) as caught:
            endpoint.call(operation, LARGE)
        assert (caught.value.status, caught.value.attempts) == (413, 1)
        assert endpoint.invoke(b"small") == b"small"
        assert server.connections == 2


def test_an_informational_answer_does_not_stop_the_body(caller: Twin) -> None:
    def hints(peer: Peer) -> None:
        head = peer.head()
        peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        peer.send(response(peer.body(head)))

    with Server(hints) as server, bytes_endpoint(caller, server.url) as endpoint:
        assert endpoint.invoke(LARGE) == LARGE


def test_a_peer_that_stops_reading_is_a_read_timeout(caller: Twin) -> None:
    def stops(peer: Peer) -> None:
        peer.keep_little_room()
        peer.head()
        release.wait(PATIENCE)

    release = threading.Event()
    with Server(stops) as server, bytes_endpoint(caller, server.url, timeout=fast(read=0.05)) as endpoint:
        with pytest.raises(errors.ReadTimeoutError, match=r"read nothing more of the request for 0\.05 s"):
            endpoint.invoke(LARGE)
        release.set()


def test_a_peer_that_goes_while_the_body_is_sent_is_a_lost_connection(caller: Twin) -> None:
    def leave(peer: Peer) -> None:
        peer.keep_little_room()
        peer.head()

    with Server(leave) as server, bytes_endpoint(caller, server.url) as endpoint:
        with pytest.raises(errors.TransportError, match="lost before an answer") as caught:
            endpoint.invoke(LARGE)
        assert not caught.value.response_started


# failures, and what came before them

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\n\r\n"
SOME_OF_FIVE = UNTIL_CLOSE.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nhi")


class Says:
    """A script: take a request, send each part when the test says so, and end in some way."""

    def __init__(self, *parts: bytes, end: Callable[[Peer], object]) -> None:
        self.parts = parts
        self.end = end
        self.proceed = threading.Semaphore(1)

    def __call__(self, peer: Peer) -> None:
        peer.request()
        for part in self.parts:
            assert self.proceed.acquire(timeout=PATIENCE)
            peer.send(part)
        self.end(peer)


def closes(peer: Peer) -> None:
    """End a script as usual."""


@pytest.mark.parametrize(
    ("parts", "end", "kind"),
    [
        ((CHUNKED + b"2\r\nhi\r\nxyz\r\n",), Peer.gone, errors.ProtocolError),
        ((CHUNKED, b"2\r\nhi\r\nxyz\r\n"), Peer.gone, errors.ProtocolError),
        ((CHUNKED + b"2\r\nhi\r\n",), closes, errors.ProtocolError),
        ((CHUNKED + b"2\r\nhi\r\n",), Peer.reset, errors.TransportError),
        ((CHUNKED + b"4\r\nhi",), Peer.reset, errors.TransportError),
        ((UNTIL_CLOSE + b"hi",), Peer.reset, errors.TransportError),
        ((SOME_OF_FIVE,), closes, errors.ProtocolError),
    ],
)
def test_bytes_that_arrived_are_given_before_the_failure(
    caller: Twin, parts: tuple[bytes, ...], end: Callable[[Peer], object], kind: type[errors.TransportError]
) -> None:
    script = Says(*parts, end=end)
    with Server(script) as server, bytes_endpoint(caller, server.url) as endpoint, endpoint.stream(b"") as stream:
        source = source_of(stream.iterator)
        script.proceed.release()
        assert caller.run(source.read()) == b"hi"
        failures = []
        for _ in range(2 if kind is errors.ProtocolError else 1):  # a lost connection is a stream's to remember
            with pytest.raises(errors.TransportError) as caught:
                caller.run(source.read())
            assert (type(caught.value), caught.value.response_started) == (kind, True)
            failures.append(caught.value)
        assert len({id(error) for error in failures}) == len(failures)
        for _ in range(2):
            source.close()
        assert caller.run(source.read()) == b""


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("said", "end", "kind"),
    [
        (b"HTTP/1.1 200", closes, errors.ProtocolError),
        (b"SMTP", Peer.gone, errors.ProtocolError),
        (b"", closes, errors.TransportError),
        (b"", Peer.reset, errors.TransportError),
    ],
)
def test_bytes_that_are_not_an_answer_are_an_error_that_says_whether_one_had_begun(
    caller: Twin, said: bytes, end: Callable[[Peer], object], kind: type[errors.TransportError], operation: str
) -> None:
    with Server(Says(said, end=end)) as server, bytes_endpoint(caller, server.url) as endpoint:
        with pytest.raises(errors.TransportError) as caught:
            endpoint.call(operation, b"")
        assert (type(caught.value), caught.value.response_started) == (kind, bool(said))


# time


def test_silence_is_a_read_timeout(caller: Twin) -> None:
    with Emulator() as emulator, caller.endpoint(emulator.url, timeout=fast(read=0.05)) as endpoint:
        emulator.inject("stall_before_headers")
        with pytest.raises(errors.ReadTimeoutError, match=r"nothing arrived for 0\.05 s; the model may still be"):
            endpoint.invoke("Hello")
        emulator.disconnected()


def test_the_total_time_ends_an_answer_that_drips(caller: Twin) -> None:
    with Emulator() as emulator, caller.endpoint(emulator.url, timeout=fast(total=0.1)) as endpoint:
        emulator.inject("drip_20")
        with pytest.raises(errors.DeadlineExceededError, match=r"total of 0\.1 s"):
            endpoint.invoke("Hello")
        emulator.disconnected()
