"""`blocking/connection.py`: one connection, over real sockets: what is set, sent, waited for, and how it breaks."""

from __future__ import annotations

import errno
import select
import socket
import threading
from typing import Any

import pytest
from clocks import FakeClock
from inside import pool_of
from servers import (
    PATIENCE,
    Peer,
    Server,
    bare_environment,  # noqa: F401
    closed_port,
    deaf_port,
    fast,
    make_endpoint,
    response,
    server_context,
    trust,
)
from targets import make_address

from smendpoint import RetryPolicy
from smendpoint._core.http.http1 import ResponseReader
from smendpoint._transport import readiness
from smendpoint._transport.blocking import connection as blocking
from smendpoint._transport.blocking.connection import Connection
from smendpoint._transport.blocking.dial import dial
from smendpoint._transport.deadline import Deadline
from smendpoint.emulator import Emulator, ModelRequest
from smendpoint.errors import (
    ConnectError,
    DeadlineExceededError,
    ProtocolError,
    ReadTimeoutError,
    ServiceError,
    StreamTruncatedError,
    TransportError,
)
from smendpoint.handlers import BytesHandler

pytestmark = pytest.mark.usefixtures("bare_environment")

ONCE = RetryPolicy(max_attempts=1)
MEGABYTE = 1024 * 1024
LARGE = b"x" * (25 * MEGABYTE)
TOO_LARGE = "more than the 6,291,456 that SageMaker's API allows"


@pytest.fixture(params=["plain", "tls"])
def tls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    """Settings for a server: none, or those of TLS."""
    if request.param == "plain":
        return None
    trust(monkeypatch, tmp_path)
    return server_context()


def the_idle_one(endpoint: Any) -> Connection:
    (connection,) = pool_of(endpoint)._idle
    assert isinstance(connection, Connection)
    return connection


def test_small_writes_are_sent_at_once_and_a_dead_peer_is_found_in_time(tls: Any) -> None:
    with Server(Peer.serve, tls=tls) as server, make_endpoint(server.url) as endpoint:
        endpoint.invoke("Hello")
        sock = the_idle_one(endpoint)._socket
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_a_small_request_is_one_write() -> None:
    def serve(peer: Peer) -> None:
        assert b"Content-Length" in peer.sock.recv(65_536)
        peer.send(response())

    with Server(serve) as server, make_endpoint(server.url) as endpoint:
        assert endpoint.invoke("Hello") == "fine"


def test_a_large_body_arrives_whole(tls: Any) -> None:
    got: list[bytes] = []

    def model(request: ModelRequest) -> bytes:
        got.append(request.body)
        return b"done"

    with (
        Emulator(model, ssl_context=tls) as emulator,
        make_endpoint(emulator.url, content_handler=BytesHandler()) as endpoint,
        pytest.warns(UserWarning, match=TOO_LARGE),
    ):
        assert endpoint.invoke(LARGE) == b"done"
        assert endpoint.invoke(b"small") == b"done"
        assert emulator.total_connections == 1
    assert got == [LARGE, b"small"]


def test_a_large_answer_arrives_whole(tls: Any) -> None:
    with (
        Emulator(lambda _: LARGE, ssl_context=tls) as emulator,
        make_endpoint(emulator.url, content_handler=BytesHandler()) as endpoint,
    ):
        assert endpoint.invoke(b"") == LARGE


@pytest.mark.parametrize("fault", ["early_413", "early_413_reset"])
def test_an_early_413_is_read_while_the_body_is_still_being_sent(tls: Any, fault: str) -> None:
    if tls is not None and fault == "early_413_reset":
        pytest.skip("a reset may discard what TLS had not yet put on the wire")
    with (
        Emulator(lambda _: b"fine", ssl_context=tls) as emulator,
        make_endpoint(emulator.url, content_handler=BytesHandler(), retry=ONCE) as endpoint,
        pytest.warns(UserWarning, match=TOO_LARGE),
    ):
        emulator.inject(fault, times=1)
        with pytest.raises(ServiceError) as caught:
            endpoint.invoke(LARGE)
        assert caught.value.status == 413
        assert endpoint.invoke(b"small") == b"fine"
        assert emulator.total_connections == 2


def test_a_connection_with_half_a_request_on_it_is_not_used_again(tls: Any) -> None:
    """Even where the service would keep it open: what follows would be taken for the rest of the body."""

    def early(peer: Peer) -> None:
        peer.head()
        peer.send(response(b"no", status="413 Content Too Large"))
        peer.gone()

    with (
        Server(early, Peer.serve, tls=tls) as server,
        make_endpoint(server.url, content_handler=BytesHandler()) as endpoint,
        pytest.warns(UserWarning, match=TOO_LARGE),
    ):
        with pytest.raises(ServiceError):
            endpoint.invoke(LARGE)
        assert endpoint.invoke(b"small")
        assert server.connections == 2


def test_an_answer_that_comes_while_the_body_is_sent_does_not_stop_it_if_informational() -> None:
    def serve(peer: Peer) -> None:
        head = peer.head()
        peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        peer._buffer = head + b"\r\n\r\n" + peer._buffer
        assert len(peer.request()[1]) == len(LARGE)
        peer.send(response(b"done"))

    with (
        Server(serve) as server,
        make_endpoint(server.url, content_handler=BytesHandler()) as endpoint,
        pytest.warns(UserWarning, match=TOO_LARGE),
    ):
        assert endpoint.invoke(LARGE) == b"done"


def test_a_peer_that_stops_reading_is_a_read_timeout() -> None:
    def serve(peer: Peer) -> None:
        peer.head()
        release.wait(PATIENCE)

    release = threading.Event()
    with (
        Server(serve) as server,
        make_endpoint(server.url, content_handler=BytesHandler(), timeout=fast(read=0.05)) as endpoint,
        pytest.warns(UserWarning, match=TOO_LARGE),
    ):
        with pytest.raises(ReadTimeoutError) as caught:
            endpoint.invoke(LARGE)
        release.set()
    assert caught.value.attempts == 1


def test_a_peer_that_goes_while_the_body_is_sent_is_a_lost_connection() -> None:
    def leave(peer: Peer) -> None:
        peer.head()

    def reset(peer: Peer) -> None:
        peer.head()
        peer.reset()

    for script in (leave, reset):
        with (
            Server(script) as server,
            make_endpoint(server.url, content_handler=BytesHandler(), retry=ONCE) as endpoint,
            pytest.warns(UserWarning, match=TOO_LARGE),
            pytest.raises(TransportError, match="lost before an answer") as caught,
        ):
            endpoint.invoke(LARGE)
        assert not caught.value.response_started


class Wire:
    """A socket that does what it is told, call by call; `recv` and `send` take an exception or a value."""

    def __init__(self, *, receives: list[Any], sends: list[Any]) -> None:
        self.receives = receives
        self.sends = sends
        self.ready: list[tuple[bool, bool]] = []

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def recv(self, size: int) -> Any:
        return self._next(self.receives)

    def send(self, data: Any) -> Any:
        return self._next(self.sends, len(data))

    def _next(self, script: list[Any], otherwise: Any = b"") -> Any:
        outcome = script.pop(0) if script else otherwise
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def poll(self, sock: Any, seconds: float) -> tuple[bool, bool]:
        return self.ready.pop(0) if self.ready else (False, True)

    def connection(self, monkeypatch: pytest.MonkeyPatch) -> Connection:
        monkeypatch.setattr(blocking, "ready", self.poll)
        monkeypatch.setattr(blocking, "reading_watch", lambda sock: lambda milliseconds: True)
        return Connection(self)  # type: ignore[arg-type]  # as much of a socket as is needed


@pytest.fixture
def patience() -> Deadline:
    return Deadline(fast(), None, FakeClock().monotonic)


def send(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, patience: Deadline, body: bytes = b"x" * 100_000
) -> tuple[ResponseReader, list[bytes], Connection]:
    connection = wire.connection(monkeypatch)
    reader = ResponseReader()
    return reader, connection.send(b"HEAD", body, patience, reader), connection


def test_a_socket_that_was_ready_in_vain_is_asked_again(monkeypatch: pytest.MonkeyPatch, patience: Deadline) -> None:
    wire = Wire(receives=[BlockingIOError()], sends=[BlockingIOError()])
    wire.ready = [(True, True), (False, True)]
    reader, pieces, connection = send(wire, monkeypatch, patience)
    assert pieces == []
    assert not reader.started
    assert connection.cut_short is False


def test_bytes_that_were_there_in_vain_are_waited_for_again(
    monkeypatch: pytest.MonkeyPatch, patience: Deadline
) -> None:
    reader, _, connection = send(Wire(receives=[BlockingIOError(), response(b"fine")], sends=[]), monkeypatch, patience)
    assert connection.receive(patience, reader) == [b"fine"]


@pytest.mark.parametrize("first", [3, BlockingIOError()], ids=["some room", "no room"])
def test_a_small_request_for_which_there_is_no_room_is_sent_in_parts(
    monkeypatch: pytest.MonkeyPatch, patience: Deadline, first: Any
) -> None:
    wire = Wire(receives=[], sends=[first])
    _, pieces, connection = send(wire, monkeypatch, patience, b"body")
    assert (pieces, connection.cut_short, wire.sends) == ([], False, [])


def test_a_broken_pipe_is_not_all_that_the_peer_said(monkeypatch: pytest.MonkeyPatch, patience: Deadline) -> None:
    wire = Wire(receives=[response(b"too large", status="413 Content Too Large")], sends=[4, BrokenPipeError()])
    reader, pieces, connection = send(wire, monkeypatch, patience)
    assert (reader.status, b"".join(pieces)) == (413, b"too large")
    assert connection.cut_short


def test_a_broken_pipe_of_a_small_request_is_not_all_that_the_peer_said(
    monkeypatch: pytest.MonkeyPatch, patience: Deadline
) -> None:
    wire = Wire(receives=[response(b"no")], sends=[BrokenPipeError()])
    _, pieces, connection = send(wire, monkeypatch, patience, b"body")
    assert pieces == [b"no"]
    assert connection.cut_short


def test_a_broken_pipe_without_an_answer_is_a_lost_connection(
    monkeypatch: pytest.MonkeyPatch, patience: Deadline
) -> None:
    broken = BrokenPipeError(errno.EPIPE, "Broken pipe")
    with pytest.raises(TransportError, match="before an answer: Broken pipe") as caught:
        send(Wire(receives=[ConnectionResetError()], sends=[broken]), monkeypatch, patience, b"body")
    assert caught.value.__cause__ is broken


def test_an_answer_that_breaks_off_after_a_broken_pipe_says_so(
    monkeypatch: pytest.MonkeyPatch, patience: Deadline
) -> None:
    wire = Wire(receives=[response(b"no")[:-1], ConnectionResetError()], sends=[BrokenPipeError()])
    with pytest.raises(TransportError, match="in the middle of the answer") as caught:
        send(wire, monkeypatch, patience, b"body")
    assert caught.value.response_started


def test_a_small_request_that_nobody_takes_is_a_read_timeout(
    monkeypatch: pytest.MonkeyPatch, patience: Deadline
) -> None:
    wire = Wire(receives=[], sends=[BlockingIOError()])
    wire.ready = [(False, False)]
    with pytest.raises(ReadTimeoutError):
        send(wire, monkeypatch, patience, b"body")


def test_silence_before_an_answer_is_a_read_timeout_and_asked_once() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url, timeout=fast(read=0.05)) as endpoint:
        emulator.inject("stall_before_headers")
        with pytest.raises(ReadTimeoutError, match=r"nothing arrived for 0\.05 s; the model may still be running"):
            endpoint.invoke("Hello")
        assert len(emulator.requests) == 1
        emulator.disconnected()


def test_silence_in_the_middle_of_an_answer_is_a_read_timeout() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url, timeout=fast(read=0.3)) as endpoint:
        emulator.inject("stall_mid_stream")
        with pytest.raises(ReadTimeoutError) as caught:
            endpoint.invoke("Hello")
        assert caught.value.response_started
        emulator.disconnected()


def test_the_total_time_ends_an_answer_that_drips() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url, timeout=fast(total=0.1)) as endpoint:
        emulator.inject("drip_20")
        with pytest.raises(DeadlineExceededError, match=r"total of 0\.1 s"):
            endpoint.invoke("Hello")
        emulator.disconnected()


def test_a_port_that_refuses_is_no_connection() -> None:
    with closed_port() as port, make_endpoint(f"http://127.0.0.1:{port}", retry=ONCE) as endpoint:
        with pytest.raises(ConnectError, match=f"no connection to 127.0.0.1:{port}: Connection refused") as caught:
            endpoint.invoke("Hello")
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)
        assert caught.value.request_sent is False


def test_a_port_that_does_not_answer_is_no_connection_in_time() -> None:
    with deaf_port() as port, make_endpoint(f"http://127.0.0.1:{port}", timeout=fast(connect=0.05)) as endpoint:
        endpoint._caller._policy = ONCE
        with pytest.raises(ConnectError, match=r"within 0\.05 s"):
            endpoint.invoke("Hello")


def test_a_port_that_does_not_answer_counts_against_the_total_time() -> None:
    with (
        deaf_port() as port,
        make_endpoint(f"http://127.0.0.1:{port}", timeout=fast(total=0.05)) as endpoint,
        pytest.raises(DeadlineExceededError) as caught,
    ):
        endpoint.invoke("Hello")
    assert caught.value.request_sent is False


def test_a_name_that_does_not_resolve_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with make_endpoint("https://nowhere.invalid", retry=ONCE) as endpoint:
        with pytest.raises(ConnectError, match=r"no connection to nowhere\.invalid:443: Name or service not known"):
            endpoint.invoke("Hello")


def places(*ports: Any) -> Any:
    inet = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
    return lambda *_, **__: [(*(port if isinstance(port, tuple) else inet), ("127.0.0.1", port)) for port in ports]


def test_all_addresses_of_a_host_are_tried_in_turn(monkeypatch: pytest.MonkeyPatch, patience: Deadline) -> None:
    with closed_port() as closed, Server(Peer.serve) as server:
        unknown = (12345, socket.SOCK_STREAM, 0, "")  # a family that this machine lacks
        monkeypatch.setattr(socket, "getaddrinfo", places(unknown, closed, server.port))
        connection = dial(make_address("twice.example", 80, tls=False), patience)
        assert connection._socket.getpeername()[1] == server.port
        connection.close()


def test_a_host_without_addresses_is_no_connection(monkeypatch: pytest.MonkeyPatch, patience: Deadline) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", places())
    with pytest.raises(ConnectError, match="the name has no address"):
        dial(make_address("empty.example", 80, tls=False), patience)


def test_an_interrupt_while_connecting_leaves_no_socket_open(
    monkeypatch: pytest.MonkeyPatch, patience: Deadline
) -> None:
    def interrupt(self: Connection, where: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Connection, "begin", interrupt)
    with pytest.raises(KeyboardInterrupt):  # and no ResourceWarning
        dial(make_address("127.0.0.1", 9, tls=False), patience)


@pytest.mark.parametrize("poll", [select.poll, readiness.SelectPoll], ids=["poll", "select"])
def test_an_idle_connection_is_stale_once_the_peer_has_closed_it(monkeypatch: pytest.MonkeyPatch, poll: Any) -> None:
    monkeypatch.setattr(readiness, "make_poll", poll)
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    assert readiness.ready(ours, 0.0) == (False, True)
    assert not connection.is_stale()
    theirs.close()
    assert readiness.ready(ours, PATIENCE)[0]
    assert connection.is_stale()
    connection.abort()
    connection.close()
    connection.abort()  # closed already: nothing happens


@pytest.mark.parametrize("seconds", [1e9, 1e300])
@pytest.mark.parametrize("limits", [("read",), ("connect", "read", "total")], ids="+".join)
@pytest.mark.parametrize("poll", [select.poll, readiness.SelectPoll], ids=["poll", "select"])
def test_a_timeout_of_ages_is_as_good_as_none(
    monkeypatch: pytest.MonkeyPatch, poll: Any, limits: tuple[str, ...], seconds: float
) -> None:
    monkeypatch.setattr(readiness, "make_poll", poll)
    timeout = fast(**dict.fromkeys(limits, seconds))
    with Server(Peer.serve) as server, make_endpoint(server.url, timeout=timeout) as endpoint:
        assert endpoint.invoke("Hello") == "fine"
        assert endpoint.invoke("x" * 100_000) == "fine"


def test_an_answer_that_nobody_asked_for_makes_a_connection_stale() -> None:
    def chatty(peer: Peer) -> None:
        peer.request()
        peer.send(response())
        said.wait(PATIENCE)
        peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        peer.gone()

    said = threading.Event()
    with Server(chatty, Peer.serve) as server, make_endpoint(server.url) as endpoint:
        endpoint.invoke("Hello")
        said.set()
        assert the_idle_one(endpoint)._arrives(PATIENCE * 1000)
        assert endpoint.invoke("Hello") == "fine"
        assert server.connections == 2


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")

    with Server(serve) as server, make_endpoint(server.url, content_handler=BytesHandler()) as endpoint:
        assert endpoint.invoke(b"") == b"all of it"
        assert endpoint.invoke(b"") == b"all of it"
        assert server.connections == 2


def test_a_connection_with_bytes_after_the_answer_is_not_used_again() -> None:
    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(response() + b"!")
        peer.gone()

    with Server(serve) as server, make_endpoint(server.url) as endpoint:
        endpoint.invoke("Hello")
        endpoint.invoke("Hello")
        assert server.connections == 2


def test_a_connection_that_the_service_wants_closed_is_closed() -> None:
    with Server(lambda peer: peer.serve(response(b"[]", "Connection: close"))) as server:
        with make_endpoint(server.url, content_handler=BytesHandler()) as endpoint:
            endpoint.invoke(b"")
            endpoint.invoke(b"")
        assert server.connections == 2


@pytest.mark.parametrize("fault", ["content_length_long", "no_terminator", "chunk_size_bad", "header_huge"])
def test_a_broken_answer_is_a_protocol_error_and_asked_for_once(fault: str) -> None:
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        emulator.inject(fault)
        with pytest.raises(ProtocolError):
            endpoint.invoke("Hello")
        assert len(emulator.requests) == 1
        emulator.disconnected()


@pytest.mark.parametrize("fault", ["slice_1", "status_103_first", "status_1xx_first", "drip_0"])
def test_an_answer_is_read_however_it_is_cut(fault: str, tls: Any) -> None:
    with Emulator(ssl_context=tls) as emulator, make_endpoint(emulator.url) as endpoint:
        whole = endpoint.invoke("Hello")
        emulator.inject(fault)
        assert endpoint.invoke("Hello") == whole
        assert "".join(endpoint.stream("Hello")) == whole


def test_a_stream_cut_by_a_reset_keeps_what_came() -> None:
    with Emulator(lambda _: [b'{"generated_text": "a"}\n', b'{"generated_text": "b"}\n'], piece_size=None) as emulator:
        emulator.inject("reset_mid_stream")
        with make_endpoint(emulator.url) as endpoint, pytest.raises(StreamTruncatedError) as caught:
            list(endpoint.stream("Hello"))
        assert caught.value.received == ("a",)
        assert isinstance(caught.value.__cause__, TransportError)
