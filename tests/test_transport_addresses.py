"""A host is reached if any of its addresses answers, and plain http leads to addresses of this machine alone."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from async_loops import Run, turns, until
from inside import socket_of
from servers import PATIENCE, Peer, Proxy, Server, closed_port, deaf_port, fast, response
from targets import make_address
from twins import Twin, bytes_endpoint

from smendpoint import errors
from smendpoint._transport import address as addresses
from smendpoint._transport import readiness
from smendpoint._transport.address import is_literal, stagger, to_try
from smendpoint._transport.aio import dial as async_dial
from smendpoint._transport.aio.connection import AsyncConnection
from smendpoint._transport.blocking import dial as dialling
from smendpoint._transport.blocking.connection import Connection
from smendpoint._transport.blocking.dial import dial
from smendpoint._transport.deadline import Cancellation, Cancelled, Deadline

pytestmark = pytest.mark.usefixtures("bare_environment")

INET = (socket.AF_INET, socket.SOCK_STREAM, 0, "")


Resolve = Callable[..., None]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Have names stand for these addresses, for both twins."""

    def give(twin: Twin | None, *found: Any) -> None:
        infos = [(*INET, where) for where in found]
        real = socket.getaddrinfo

        def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
            if host in ("127.0.0.1", b"127.0.0.1"):
                return real(host, *arguments, **options)
            return infos

        async def look_up_async(*_: Any, **__: Any) -> Any:
            return infos

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        if twin is not None and twin.loop is not None:
            monkeypatch.setattr(twin.loop, "getaddrinfo", look_up_async)

    return give


def local(*ports: int) -> list[Any]:
    return [("127.0.0.1", port) for port in ports]


@contextmanager
def quick(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.01) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(addresses, "STAGGER_SECONDS", seconds)
        yield


@pytest.mark.parametrize("dead", [1, 3])
def test_a_dead_first_address_is_passed_over_within_one_attempt(
    caller: Twin, resolve: Resolve, monkeypatch: pytest.MonkeyPatch, dead: int
) -> None:
    with deaf_port() as deaf, Server(Peer.echo) as server, quick(monkeypatch):
        resolve(caller, *local(*[deaf] * dead, server.port))
        with bytes_endpoint(caller, "http://two.localhost") as endpoint:
            sent = endpoint.send(b"one")
            assert (sent.output, sent.attempts) == (b"one", 1)
        assert server.connections == 1


def test_the_address_that_stood_is_tried_first_the_next_time(
    caller: Twin, resolve: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    real, real_async = Connection.begin, async_dial._connect

    def begin(self: Connection, where: Any) -> Any:
        begun.append(where[1])
        return real(self, where)

    def connect(loop: Any, info: Any, room: Any) -> Any:
        begun.append(info[4][1])
        return real_async(loop, info, room)

    monkeypatch.setattr(Connection, "begin", begin)
    monkeypatch.setattr(async_dial, "_connect", connect)
    with closed_port() as closed, Server(lambda peer: (peer.request(), peer.send(response(b"fine")))) as server:
        resolve(caller, *local(closed, server.port))
        with bytes_endpoint(caller, "http://two.localhost") as endpoint:
            assert [endpoint.invoke(b"") for _ in range(2)] == [b"fine"] * 2
        assert begun == [closed, server.port, server.port]


def test_addresses_that_all_refuse_are_a_connect_error(caller: Twin, resolve: Resolve) -> None:
    with closed_port() as one, closed_port() as two:
        resolve(caller, *local(one, two))
        with bytes_endpoint(caller, "http://two.localhost:80") as endpoint:
            with pytest.raises(errors.ConnectError, match=r"to two\.localhost:80: Connection refused") as caught:
                endpoint.invoke(b"")
            assert isinstance(caught.value.__cause__, ConnectionRefusedError)
            assert not caught.value.request_sent


@pytest.mark.parametrize("dead", [1, 3])
@pytest.mark.parametrize("refused", [0, 1])
@pytest.mark.parametrize(
    ("limits", "error", "said"),
    [
        ({"connect": 0.05}, errors.ConnectError, r"within 0\.05 s"),
        ({"total": 0.05}, errors.DeadlineExceededError, r"total of 0\.05 s"),
    ],
)
def test_dead_addresses_are_given_up_in_time_whether_others_refuse_or_not(
    caller: Twin,
    resolve: Resolve,
    limits: dict[str, float],
    error: type[errors.TransportError],
    said: str,
    refused: int,
    dead: int,
) -> None:
    with deaf_port() as deaf, closed_port() as closed:
        resolve(caller, *local(*[deaf] * dead, *[closed] * refused))
        with bytes_endpoint(caller, "http://two.localhost", timeout=fast(**limits)) as endpoint:
            with pytest.raises(error, match=said) as caught:
                endpoint.invoke(b"")
            assert not caught.value.request_sent


def test_a_name_without_addresses_is_a_connect_error(caller: Twin, resolve: Resolve) -> None:
    resolve(caller)
    with bytes_endpoint(caller, "http://two.localhost") as endpoint:
        with pytest.raises(errors.ConnectError, match="the name has no address"):
            endpoint.invoke(b"")


# nothing stays of those that lost


def patience(cancellation: Cancellation | None = None, **limits: float) -> Deadline:
    return Deadline(fast(**limits), None, lambda: 0.0, cancellation)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """The sockets that began to connect."""
    sockets: list[socket.socket] = []
    real = Connection.begin

    def begin(self: Connection, where: Any) -> socket.socket:
        sockets.append(self._socket)
        return real(self, where)

    monkeypatch.setattr(Connection, "begin", begin)
    return sockets


NAME = make_address("two.example", 80, tls=False)


@pytest.mark.parametrize("poll", [select.poll, readiness.SelectPoll])
def test_the_sockets_of_addresses_that_lost_are_closed(
    resolve: Resolve, begun: list[socket.socket], monkeypatch: pytest.MonkeyPatch, poll: Any
) -> None:
    monkeypatch.setattr(readiness, "make_poll", poll)
    with deaf_port() as deaf, closed_port() as closed, Server(Peer.gone) as server, quick(monkeypatch):
        resolve(None, *local(closed, deaf, closed, server.port))
        connection = dial(NAME, patience())
        assert [sock.fileno() >= 0 for sock in begun] == [False, False, False, True]
        assert socket_of(connection) is begun[3]
        connection.close()


def test_of_two_that_stand_at_once_one_is_used_and_the_other_closed(
    resolve: Resolve, begun: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system says of both in one answer that they stand."""
    looked: list[int] = []

    def settled(socks: list[socket.socket], seconds: float) -> list[socket.socket]:
        looked.append(len(socks))
        if len(socks) < 2:
            return []
        for sock in socks:
            assert readiness.settled([sock], PATIENCE) == [sock]
        return socks

    monkeypatch.setattr(dialling, "settled", settled)
    with Server(Peer.gone) as server:
        resolve(None, *local(server.port, server.port))
        connection = dial(NAME, patience())
        assert looked == [1, 2]
        assert [sock for sock in begun if sock.fileno() >= 0] == [socket_of(connection)]
        connection.close()


class Interrupts(Cancellation):
    """A scope that is stopped at the given entry."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.entries = 0
        self.at = at

    def enter(self, abort: Any) -> None:
        self.entries += 1
        if self.entries == self.at:
            self.stopped = True
        super().enter(abort)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_call_that_is_stopped_while_addresses_are_tried_leaves_no_socket(
    resolve: Resolve, begun: list[socket.socket], monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    scope = Interrupts(at)
    with deaf_port() as deaf, Server(Peer.gone) as server, quick(monkeypatch):
        resolve(None, *local(deaf, server.port))
        with pytest.raises(Cancelled):
            dial(NAME, patience(scope))
        assert len(begun) == min(at, 2)
        assert all(sock.fileno() < 0 for sock in begun)
        assert scope._abort is None


def test_a_call_that_is_stopped_wakes_from_addresses_that_do_not_answer(
    resolve: Resolve, begun: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = Cancellation()
    outcome: list[BaseException] = []

    def call() -> None:
        try:
            dial(NAME, patience(scope))
        except BaseException as error:
            outcome.append(error)

    waits = threading.Event()

    def settled(socks: list[socket.socket], seconds: float) -> list[socket.socket]:
        if len(socks) == 2:
            waits.set()
        return readiness.settled(socks, seconds)

    monkeypatch.setattr(dialling, "settled", settled)
    with deaf_port() as deaf, quick(monkeypatch):
        resolve(None, *local(deaf, deaf))
        thread = threading.Thread(target=call)
        thread.start()
        assert waits.wait(PATIENCE)
        scope.stop()
        thread.join(PATIENCE)
    assert isinstance(outcome[0], (Cancelled, errors.ConnectError))  # the thread that stopped it does not ask
    assert all(sock.fileno() < 0 for sock in begun)


def test_of_two_tasks_that_end_at_once_one_connection_is_used_and_the_other_closed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        made: list[AsyncConnection] = []
        both = asyncio.Event()

        async def connect(*_: Any) -> AsyncConnection:
            connection = AsyncConnection(loop, memoryview(bytearray(1)))
            made.append(connection)
            if len(made) == 2:
                both.set()
            await both.wait()
            return connection

        monkeypatch.setattr(async_dial, "_connect", connect)
        won, _ = await async_dial._race(loop, [(*INET, ("127.0.0.1", 1))] * 2, memoryview(bytearray(1)), 0.001)
        await turns()
        assert [connection.closed for connection in made] == [connection is not won for connection in made]
        won.abort()

    run(main())


def test_a_cancelled_dial_leaves_none_of_its_connections(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(deaf: int) -> None:
        loop = asyncio.get_running_loop()
        made: list[AsyncConnection] = []
        real = AsyncConnection.__init__

        def init(self: AsyncConnection, *arguments: Any) -> None:
            made.append(self)
            real(self, *arguments)

        async def look_up(*_: Any, **__: Any) -> Any:
            return [(*INET, ("127.0.0.1", deaf))] * 2

        monkeypatch.setattr(AsyncConnection, "__init__", init)
        monkeypatch.setattr(loop, "getaddrinfo", look_up)
        dialling = asyncio.ensure_future(async_dial.dial(loop, NAME, patience()))
        await until(lambda: len(made) == 2)
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        await turns()
        assert all(connection.closed for connection in made)

    with deaf_port() as deaf, quick(monkeypatch):
        run(main(deaf))


# in which order


def infos(*hosts: str) -> list[Any]:
    return [
        (socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 443)) for host in hosts
    ]


def order(found: list[Any], stood: Any = None) -> list[str]:
    address = make_address("x", 443, tls=True)
    address.last_used = stood
    return [info[4][0] for info in to_try(address, found)]


@pytest.mark.parametrize(
    ("found", "tried"),
    [
        (["a::1", "a::2", "a::3", "1.0.0.1"], ["a::1", "1.0.0.1", "a::2", "a::3"]),
        (["1.0.0.1", "1.0.0.2", "a::1", "a::2"], ["1.0.0.1", "a::1", "1.0.0.2", "a::2"]),
        (["1.0.0.1", "1.0.0.2"], ["1.0.0.1", "1.0.0.2"]),
        (["a::1"], ["a::1"]),
    ],
)
def test_families_take_turns_in_the_order_of_the_resolver(found: list[str], tried: list[str]) -> None:
    assert order(infos(*found)) == tried


def test_the_address_that_stood_last_comes_first_if_the_resolver_still_names_it() -> None:
    found = infos("a::1", "1.0.0.1", "a::2")
    assert order(found, ("a::2", 443)) == ["a::2", "a::1", "1.0.0.1"]
    assert order(found, ("a::9", 443)) == ["a::1", "1.0.0.1", "a::2"]


def test_addresses_are_a_quarter_of_a_second_apart_or_less_so_that_the_last_has_time() -> None:
    assert stagger(10.0, 2) == 0.25
    assert stagger(10.0, 40) == 0.125
    assert stagger(1.0, 5) == 0.1


@pytest.mark.parametrize(
    ("host", "literal"),
    [("127.0.0.1", True), ("::1", True), ("localhost", False), ("a.1b", False), ("1.example", False)],
)
def test_an_address_is_not_looked_up(host: str, literal: bool) -> None:
    assert is_literal(host) is literal


def test_a_link_local_address_keeps_its_interface() -> None:
    assert async_dial._numeric_host(("fe80::1", 443, 0, 3)) == "fe80::1%3"
    assert async_dial._numeric_host(("fe80::1", 443, 0, 0)) == "fe80::1"
    assert async_dial._numeric_host(("127.0.0.1", 443)) == "127.0.0.1"


# plain http stays on this machine by address

ELSEWHERE = "0.0.0.0"  # it leads to this machine, but is none of its loopback addresses


@pytest.mark.parametrize("name", ["localhost", "app.localhost"])
def test_plain_http_does_not_leave_this_machine_whatever_the_name(caller: Twin, resolve: Resolve, name: str) -> None:
    with Server(Peer.echo) as server:
        resolve(caller, (ELSEWHERE, server.port))
        with bytes_endpoint(caller, f"http://{name}:{server.port}") as endpoint:
            with pytest.raises(errors.ConfigurationError, match=rf"{name} is not this machine.*allow_plain_http"):
                endpoint.invoke(b"")
        assert server.connections == 0
        with bytes_endpoint(caller, f"http://{name}:{server.port}", allow_plain_http=True) as endpoint:
            assert endpoint.invoke(b"one") == b"one"


def test_of_several_addresses_plain_http_goes_to_those_of_this_machine(caller: Twin, resolve: Resolve) -> None:
    with Server(Peer.echo) as server, closed_port() as closed:
        resolve(caller, (ELSEWHERE, closed), ("127.0.0.1", server.port), ("10.0.0.1", closed))
        with bytes_endpoint(caller, "http://localhost") as endpoint:
            assert endpoint.invoke(b"one") == b"one"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_every_loopback_address_is_this_machine(host: str) -> None:
    address = make_address("localhost", 80, tls=False, loopback_only=True)
    assert len(to_try(address, infos(host))) == 1


@pytest.mark.parametrize("host", ["128.0.0.1", "::2", "::ffff:10.0.0.1", "1127.0.0.1", "fe80::1"])
def test_no_other_address_is_this_machine(host: str) -> None:
    address = make_address("localhost", 80, tls=False, loopback_only=True)
    with pytest.raises(errors.ConfigurationError):
        to_try(address, infos(host))


def test_plain_http_does_not_leave_this_machine_through_a_proxy(caller: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(Peer.echo) as server, Proxy() as proxy:
        monkeypatch.setenv("http_proxy", f"http://{ELSEWHERE}:{proxy.port}")
        with bytes_endpoint(caller, server.url) as endpoint:
            with pytest.raises(errors.ConfigurationError, match=r"the proxy .* NO_PROXY=127\.0\.0\.1"):
                endpoint.invoke(b"")
        assert (server.connections, proxy.connections) == (0, 0)
        with bytes_endpoint(caller, server.url, allow_plain_http=True) as endpoint:
            assert endpoint.invoke(b"one") == b"one"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with bytes_endpoint(caller, server.url) as endpoint:
            assert endpoint.invoke(b"one") == b"one"
        assert (server.connections, proxy.connections) == (2, 1)
