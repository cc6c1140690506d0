"""Bytes that a peer sends out of turn are never the answer to the next call, whenever they come."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from typing import Any

import pytest
from async_loops import Run, turns
from inside import has_arrived, idle_connections, socket_of
from servers import PATIENCE, Peer, Server, fast, response, server_context
from targets import make_address
from twins import Twin, bytes_endpoint

from smendpoint import errors
from smendpoint._core.http.http1 import ResponseReader
from smendpoint._transport.aio.connection import AsyncConnection
from smendpoint._transport.aio.dial import dial
from smendpoint._transport.blocking.dial import dial as blocking_dial
from smendpoint._transport.deadline import Deadline
from smendpoint._transport.tls import TLSChannel

pytestmark = pytest.mark.usefixtures("bare_environment")

# Bytes of a peer that belong to no request under way.
POISONS = {
    "second answer": response(b"poison"),
    "idle 408": b"HTTP/1.1 408 Request Time-out\r\nContent-Length: 6\r\nConnection: close\r\n\r\npoison",
    "garbage": b"poison\r\n\r\n",
    "half a status line": b"HTTP/1.1 20",
    "an empty line": b"\r\n",
    "the end": b"",
}
# Bytes on the network that only TLS can bring.
RAW_POISONS = {
    "half a record": b"\x17\x03\x03\x00\x50" + bytes(9),
    "the head of a record": b"\x17\x03\x03",
    "a record that is not ours": b"\x17\x03\x03\x00\x20" + bytes(32),
    "no record": b"HTTP/1.1 200 OK\r\n\r\n",
}


MOMENTS = ["with the answer", "while nobody looks", "while the loop goes round"]


class Speaks:
    """A script: answers one request, and says something out of turn."""

    def __init__(self, poison: bytes, moment: str, *, raw: bool = False) -> None:
        self.poison = poison
        self.together = moment == MOMENTS[0]
        self.raw = raw
        self.now = threading.Event()

    def __call__(self, peer: Peer) -> None:
        _, body = peer.request()
        if self.together and not self.raw:
            peer.send(response(body) + self.poison)
        else:
            peer.send(response(body))
            if not self.together:
                assert self.now.wait(PATIENCE)
            if self.raw:
                socket.socket.sendall(peer.sock, self.poison)
            else:
                peer.send(self.poison)
        if not self.poison:
            peer.sock.shutdown(socket.SHUT_RDWR)
        peer.gone()


def check_that_nobody_takes_it(twin: Twin, script: Speaks, moment: str, tls: Any) -> None:
    with Server(script, Peer.echo, tls=tls) as server, bytes_endpoint(twin, server.url) as endpoint:
        assert endpoint.invoke(b"one") == b"one"
        if script.together and script.poison:
            assert idle_connections(endpoint.endpoint) == []
        else:
            (idle,) = idle_connections(endpoint.endpoint)
            script.now.set()
            assert has_arrived(idle, PATIENCE)
            if moment == MOMENTS[2]:
                twin.settle()
        for text in (b"two", b"three"):
            assert endpoint.invoke(text) == text
        assert server.connections == 2


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
def test_bytes_out_of_turn_answer_no_call(caller: Twin, poison: bytes, moment: str, tls: Any) -> None:
    check_that_nobody_takes_it(caller, Speaks(poison, moment), moment, tls)


@pytest.mark.parametrize("moment", MOMENTS[1:])
@pytest.mark.parametrize("poison", RAW_POISONS.values(), ids=RAW_POISONS)
@pytest.mark.parametrize("tls", ["tls"], indirect=True)
def test_bytes_that_tls_has_not_read_make_an_idle_connection_useless(
    caller: Twin, poison: bytes, moment: str, tls: Any
) -> None:
    check_that_nobody_takes_it(caller, Speaks(poison, moment, raw=True), moment, tls)


# after the next request has gone out


@pytest.mark.parametrize("operation", ["invoke", "stream"])
def test_a_408_to_a_whole_request_is_about_the_time_before_it(caller: Twin, tls: Any, operation: str) -> None:
    def balancer(peer: Peer) -> None:
        echo_once(peer)
        peer.request()
        peer.send(POISONS["idle 408"])
        peer.gone()

    with Server(balancer, Peer.echo, tls=tls) as server, bytes_endpoint(caller, server.url) as endpoint:
        assert endpoint.invoke(b"one") == b"one"
        if operation == "stream":
            with pytest.raises(errors.StreamError):  # an echo is not an event stream, but it is the answer
                endpoint.collect(b"two")
        else:
            assert endpoint.send(b"two").attempts == 1
        assert server.connections == 2


def test_a_408_on_a_new_connection_is_an_answer(caller: Twin, tls: Any) -> None:
    def impatient(peer: Peer) -> None:
        peer.request()
        peer.send(POISONS["idle 408"])
        peer.gone()

    with Server(impatient, tls=tls) as server, bytes_endpoint(caller, server.url) as endpoint:
        with pytest.raises(errors.ServiceError) as caught:
            endpoint.invoke(b"one")
        assert (caught.value.status, server.connections) == (408, 1)


def echo_once(peer: Peer) -> None:
    peer.send(response(peer.request()[1]))


LARGE = b"x" * 6_000_000  # more than a socket takes whose peer has little room


def test_no_success_comes_of_an_input_that_has_not_been_sent(caller: Twin, tls: Any) -> None:
    def late(peer: Peer) -> None:
        peer.keep_little_room()
        echo_once(peer)
        peer.head()
        peer.send(response(b"poison"))
        peer.gone()

    with Server(late, Peer.echo, tls=tls) as server, bytes_endpoint(caller, server.url) as endpoint:
        assert endpoint.invoke(b"one") == b"one"
        assert endpoint.invoke(LARGE) == LARGE
        assert server.connections == 2


def test_an_early_answer_on_a_new_connection_is_taken_and_the_connection_is_not(caller: Twin, tls: Any) -> None:
    def careless(peer: Peer) -> None:
        peer.keep_little_room()
        peer.head()
        peer.send(response(b"whatever you say"))
        peer.gone()

    with Server(careless, tls=tls) as server, bytes_endpoint(caller, server.url) as endpoint:
        for count in (1, 2):
            assert endpoint.invoke(LARGE) == b"whatever you say"
            assert server.connections == count


@pytest.mark.parametrize("poison", ["garbage", "half a status line", "the end"])
def test_bytes_between_a_request_and_its_answer_are_an_error(caller: Twin, tls: Any, poison: str) -> None:
    def confused(peer: Peer) -> None:
        echo_once(peer)
        peer.request()
        peer.send(POISONS[poison])

    with Server(confused, Peer.echo, tls=tls) as server, bytes_endpoint(caller, server.url) as endpoint:
        assert endpoint.invoke(b"one") == b"one"
        if poison == "the end":
            assert endpoint.invoke(b"two") == b"two"
        else:
            with pytest.raises(errors.TransportError):
                endpoint.invoke(b"two")
        assert endpoint.invoke(b"three") == b"three"


# bytes that are in turn


def patience() -> Deadline:
    return Deadline(fast(), None, lambda: 0.0)


def test_session_tickets_cost_no_blocking_connection(trusted: str) -> None:
    with Server(Peer.echo, tls=server_context()) as server:
        connection = blocking_dial(make_address("127.0.0.1", server.port, tls=True, ca_bundle=trusted), patience())
        assert connection._tls is not None
        socket_of(connection).send(connection._tls.to_send())  # now the server knows that the handshake is done
        assert has_arrived(connection, PATIENCE)
        assert not connection.is_stale()
        assert not has_arrived(connection, 0)
        reader = ResponseReader()
        pieces = connection.send(HEAD, b"hi", patience(), reader)
        while not reader.complete:
            pieces += connection.receive(patience(), reader)
        assert pieces == [b"hi"]
        connection.close()


def test_session_tickets_cost_no_connection_of_asyncio(run: Run, trusted: str) -> None:
    async def main(server: Server) -> None:
        where = make_address("127.0.0.1", server.port, tls=True, ca_bundle=trusted)
        for busy in (True, False):
            connection = await dial(asyncio.get_running_loop(), where, patience())
            assert connection._tls is not None
            connection._transport.pause_reading()  # else the loop may read the tickets before this test sees them
            connection._transport.write(connection._tls.to_send())
            await turns(1)  # uvloop writes at the end of its turn
            assert has_arrived(connection, PATIENCE)
            connection._transport.resume_reading()
            if not busy:
                await turns()
                assert not has_arrived(connection, 0)
            assert not connection.is_stale()
            reader = await connection.ask(HEAD, b"hi", patience(), whole=True)
            assert (reader.complete, connection.received()) == (True, b"hi")
            connection.rest()
            connection.abort()

    with Server(Peer.echo, tls=server_context()) as server:
        run(main(server))


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"


# where a loop does not show its sockets


class Overlapped:
    """A read that Windows has under way for a loop."""

    def __init__(self, pending: bool) -> None:
        self.pending = pending


class Reading:
    def __init__(self, pending: bool) -> None:
        self._ov = Overlapped(pending)


class Transport:
    """A loop's view of a connection."""

    def get_extra_info(self, name: str) -> None:
        return None

    def abort(self) -> None:
        pass


@pytest.mark.parametrize(
    ("reading", "stale"),
    [(Reading(pending=True), False), (Reading(pending=False), True), (None, True), (object(), True)],
    ids=["nothing read", "read in advance", "not reading", "unknown"],
)
def test_where_the_system_reads_for_the_loop_what_it_has_read_counts(run: Run, reading: Any, stale: bool) -> None:
    async def main() -> None:
        transport = Transport()
        transport._read_fut = reading  # type: ignore[attr-defined]
        assert made_over(transport).is_stale() is stale

    run(main())


def made_over(transport: Any) -> AsyncConnection:
    connection = AsyncConnection(asyncio.get_running_loop(), memoryview(bytearray(10)))
    connection.connection_made(transport)
    return connection


@pytest.mark.parametrize("tls", [False, True])
def test_a_connection_without_a_socket_to_look_at_is_not_used_again(run: Run, tls: bool) -> None:
    async def main() -> None:
        connection = made_over(Transport())
        if tls:
            connection._tls = TLSChannel(ssl.create_default_context(), "x")
        assert connection.is_stale()

    run(main())
