"""`blocking/connection.py`: what only sockets have; `test_transport_exchanges.py` has the behaviour of both twins."""

from __future__ import annotations

import errno
import select
import socket
from typing import Any

import pytest
from clocks import FakeClock
from inside import socket_of
from servers import PATIENCE, Peer, Server, closed_port, fast, make_endpoint, response
from targets import make_address

from smendpoint._core.http.http1 import ResponseReader
from smendpoint._transport import readiness
from smendpoint._transport.blocking import connection as blocking
from smendpoint._transport.blocking.connection import Connection
from smendpoint._transport.blocking.dial import dial
from smendpoint._transport.deadline import Deadline
from smendpoint.errors import ReadTimeoutError, TransportError

pytestmark = pytest.mark.usefixtures("bare_environment")


@pytest.fixture
def deadline() -> Deadline:
    return Deadline(fast(), None, FakeClock().monotonic)


class Wire:
    """A stand-in for a socket, which follows a script call by call.

    Attributes:
        receives: what `recv` gives or raises.
        sends: how many bytes `send` takes, or what it raises; it takes all once there are none.
        ready: whether it can be read and written, each time that is asked; it can be written once there are none.
        arrives: whether a wait for bytes ends with some.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.receives: list[Any] = []
        self.sends: list[Any] = []
        self.ready: list[tuple[bool, bool]] = []
        self.arrives = True
        monkeypatch.setattr(blocking, "ready", lambda *_: self.ready.pop(0) if self.ready else (False, True))
        monkeypatch.setattr(blocking, "reading_watch", lambda _: lambda _: self.arrives)
        self.connection = Connection(self)  # type: ignore[arg-type]  # as much of a socket as is needed
        self.reader = ResponseReader()

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def recv(self, size: int) -> Any:
        return self._next(self.receives, b"")

    def send(self, data: Any) -> Any:
        return self._next(self.sends, len(data))

    def _next(self, script: list[Any], otherwise: Any) -> Any:
        outcome = script.pop(0) if script else otherwise
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


SMALL, LARGE = b"body", b"x" * 100_000


def sent(wire: Wire, deadline: Deadline, body: bytes) -> bytes:
    """Send a request; give the bytes of the body that arrived meanwhile."""
    return b"".join(wire.connection.send(b"HEAD", body, deadline, wire.reader))


def test_a_socket_that_was_ready_in_vain_is_asked_again(wire: Wire, deadline: Deadline) -> None:
    wire.receives, wire.sends = [BlockingIOError()], [BlockingIOError()]
    wire.ready = [(True, True), (False, True)]
    assert sent(wire, deadline, LARGE) == b""
    assert not wire.reader.started
    assert not wire.connection.cut_short


def test_bytes_that_were_there_in_vain_are_waited_for_again(wire: Wire, deadline: Deadline) -> None:
    wire.receives = [BlockingIOError(), response(b"fine")]
    assert sent(wire, deadline, LARGE) == b""
    assert wire.connection.receive(deadline, wire.reader) == [b"fine"]


@pytest.mark.parametrize("first", [3, BlockingIOError()], ids=["some room", "no room"])
def test_a_small_request_for_which_there_is_no_room_is_sent_in_parts(
    wire: Wire, deadline: Deadline, first: Any
) -> None:
    wire.sends = [first]
    assert sent(wire, deadline, SMALL) == b""
    assert (wire.connection.cut_short, wire.sends) == (False, [])


@pytest.mark.parametrize(("body", "sends"), [(SMALL, []), (LARGE, [4])], ids=["small", "large"])
def test_a_broken_pipe_does_not_hide_what_the_peer_said(
    wire: Wire, deadline: Deadline, body: bytes, sends: list[Any]
) -> None:
    wire.receives = [response(b"too large", status="413 Content Too Large")]
    wire.sends = [*sends, BrokenPipeError()]
    assert (sent(wire, deadline, body), wire.reader.status) == (b"too large", 413)
    assert wire.connection.cut_short


def test_a_broken_pipe_without_an_answer_is_a_lost_connection(wire: Wire, deadline: Deadline) -> None:
    broken = BrokenPipeError(errno.EPIPE, "Broken pipe")
    wire.receives, wire.sends = [ConnectionResetError()], [broken]
    with pytest.raises(TransportError, match="before an answer: Broken pipe") as caught:
        sent(wire, deadline, SMALL)
    assert caught.value.__cause__ is broken


def test_an_answer_that_breaks_off_after_a_broken_pipe_says_so(wire: Wire, deadline: Deadline) -> None:
    wire.receives, wire.sends = [response(b"no")[:-1], ConnectionResetError()], [BrokenPipeError()]
    with pytest.raises(TransportError, match="in the middle of the answer") as caught:
        sent(wire, deadline, SMALL)
    assert caught.value.response_started


def test_a_small_request_that_the_peer_does_not_read_is_a_read_timeout(wire: Wire, deadline: Deadline) -> None:
    wire.sends, wire.ready = [BlockingIOError()], [(False, False)]
    with pytest.raises(ReadTimeoutError):
        sent(wire, deadline, SMALL)


@pytest.mark.parametrize("came", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_silence_is_a_read_timeout_that_says_whether_the_answer_had_begun(
    wire: Wire, deadline: Deadline, came: bytes
) -> None:
    if came:
        wire.receives = [came]
        wire.connection.receive(deadline, wire.reader)
    wire.arrives = False
    with pytest.raises(ReadTimeoutError, match="nothing arrived for 20 s") as caught:
        wire.connection.receive(deadline, wire.reader)
    assert caught.value.response_started is bool(came)


def test_an_address_of_a_family_that_this_machine_lacks_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, deadline: Deadline
) -> None:
    with closed_port() as closed, Server(Peer.serve) as server:
        infos = [
            (family, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))
            for family, port in ((12345, closed), (socket.AF_INET, closed), (socket.AF_INET, server.port))
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: infos)
        address = make_address("twice.example", 80, tls=False)
        dial(address, deadline).close()
        assert address.last_used == ("127.0.0.1", server.port)


def test_an_interrupt_while_connecting_leaves_no_socket_open(
    monkeypatch: pytest.MonkeyPatch, deadline: Deadline
) -> None:
    begun: list[Connection] = []

    def interrupt(self: Connection, where: Any) -> None:
        begun.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Connection, "begin", interrupt)
    with pytest.raises(KeyboardInterrupt):
        dial(make_address("127.0.0.1", 9, tls=False), deadline)
    assert socket_of(begun[0]).fileno() == -1


POLLS = pytest.mark.parametrize("poll", [select.poll, readiness.SelectPoll], ids=["poll", "select"])


@POLLS
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
@POLLS
def test_a_timeout_of_ages_is_as_good_as_none(
    monkeypatch: pytest.MonkeyPatch, poll: Any, limits: tuple[str, ...], seconds: float
) -> None:
    monkeypatch.setattr(readiness, "make_poll", poll)
    timeout = fast(**dict.fromkeys(limits, seconds))
    with Server(Peer.serve) as server, make_endpoint(server.url, timeout=timeout) as endpoint:
        assert endpoint.invoke("Hello") == "fine"
        assert endpoint.invoke("x" * 100_000) == "fine"


def test_a_socket_closes_quietly_when_the_interpreter_has_cleared_its_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    forgotten = [blocking.Socket(fileno=ours.detach())]
    monkeypatch.setattr(socket, "SocketType", None)
    monkeypatch.setattr(blocking, "socket", None)
    forgotten.clear()  # an exception in __del__ fails the test
    with theirs:
        theirs.settimeout(PATIENCE)
        assert theirs.recv(1) == b""
