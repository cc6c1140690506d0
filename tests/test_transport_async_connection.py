"""One asyncio connection: dialling, and exchanges with servers that behave well, badly, or not at all."""
# ruff: noqa: F401, F811 (fixtures are imported)

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import servers
from async_loops import PATIENCE, Run, run, run_skipping, settled, skip, turns, until
from servers import Peer, Server, closed_port, deaf_port, response, server_context
from targets import make_address

from smendpoint import Timeout, errors
from smendpoint._transport.address import Address
from smendpoint._transport.aio.connection import HIGH_WATER_BYTES, AsyncConnection
from smendpoint._transport.aio.dial import dial
from smendpoint._transport.deadline import Deadline
from smendpoint._transport.exchange import ONE_WRITE_BYTES, died_unheard

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


def patience(read: float = PATIENCE, connect: float = PATIENCE, total: float | None = None) -> Deadline:
    timeout = Timeout(connect, read, total)
    return Deadline(timeout, None if total is None else time.monotonic() + total, time.monotonic)


def address(server: Server, **options: Any) -> Address:
    return make_address("127.0.0.1", server.port, tls=server.url.startswith("https"), **options)


@contextlib.asynccontextmanager
async def connected(where: Address) -> AsyncIterator[AsyncConnection]:
    """A connection, closed at the end."""
    connection = await dial(asyncio.get_running_loop(), where, patience())
    try:
        yield connection
    finally:
        connection.rest()
        connection.abort()
        await turns()


async def exchange(connection: AsyncConnection, body: bytes = b"{}", limits: Deadline | None = None) -> bytes:
    """A whole answer's body."""
    await connection.ask(HEAD % len(body), body, limits or patience(), whole=True)
    return connection.received()


async def stream(connection: AsyncConnection, limits: Deadline | None = None) -> list[bytes]:
    """The pieces of a streamed answer; what it raises has them as `pieces`."""
    pieces: list[bytes] = []
    try:
        await connection.ask(HEAD % 2, b"{}", limits or patience(), whole=False)
        while piece := await connection.more():
            pieces.append(piece)
    except errors.EndpointError as error:
        error.pieces = pieces  # type: ignore[attr-defined]  # for the test
        raise
    return pieces


def says(*parts: bytes, end: str = "close") -> Callable[[Peer], None]:
    """A script: take a request, say this, and then close, reset, or wait for the client to go."""

    def script(peer: Peer) -> None:
        peer.request()
        for part in parts:
            peer.send(part)
        if end == "reset":
            time.sleep(0.02)  # a reset overtakes what it follows too closely
            peer.reset()
        elif end == "wait":
            peer.gone()

    return script


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


# exchanges


def test_one_connection_carries_exchange_after_exchange(run: Run) -> None:
    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            for _ in range(3):
                reader = await connection.ask(HEAD % 2, b"{}", patience(), whole=True)
                assert (reader.status, reader.reusable, connection.received()) == (200, True, b"fine")
                connection.rest()
        assert server.connections == 1

    with Server(lambda peer: peer.serve(response(b"fine"))) as server:
        run(main(server))


class Line:
    """A transport that writes down what it does."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def get_extra_info(self, name: str) -> None:
        return None

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def abort(self) -> None:
        self.done.append("abort")


def test_what_has_arrived_stays_when_the_next_bytes_are_read_into_the_same_room(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        room = memoryview(bytearray(1024))
        first, second = AsyncConnection(loop, room), AsyncConnection(loop, room)
        for connection in (first, second):
            connection.connection_made(Line())
        asking = [connection.ask(HEAD % 2, b"{}", patience(), whole=True) for connection in (first, second)]
        for waiting in asking:
            waiting.send(None)  # to where it waits
        for connection, answer in ((first, response(b"one")), (second, response(b"two"))):
            connection.get_buffer(-1)[: len(answer)] = answer
            connection.buffer_updated(len(answer))
        assert (first.received(), second.received()) == (b"one", b"two")
        for waiting, connection in zip(asking, (first, second), strict=True):
            waiting.close()
            connection.abort()

    run(main())


def test_pieces_are_given_the_moment_they_arrive(run: Run) -> None:
    proceed = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(CHUNKED)
        for _ in range(3):
            peer.send(b"2\r\nhi\r\n")
            assert proceed.acquire(timeout=PATIENCE)
        peer.send(b"0\r\n\r\n")
        peer.gone()

    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            await connection.ask(HEAD % 2, b"{}", patience(), whole=False)
            for _ in range(3):
                assert await connection.more() == b"hi"
                proceed.release()
            assert await connection.more() == b""
            assert await connection.more() == b""

    with Server(script) as server:
        run(main(server))


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_a_large_body_arrives_as_it_was_sent(run: Run, tls: bool, ca: str) -> None:
    body = bytes(range(256)) * 8192
    got: list[bytes] = []

    def script(peer: Peer) -> None:
        got.append(peer.request()[1])
        peer.send(response(b"first"))
        got.append(peer.request()[1])
        peer.send(response(b"second"))

    async def main(server: Server) -> None:
        async with connected(address(server, ca_bundle=ca)) as connection:
            assert await exchange(connection, body) == b"first"
            assert not connection.cut_short
            connection.rest()
            assert await exchange(connection, body) == b"second"

    with Server(script, tls=server_context() if tls else None) as server:
        run(main(server))
    assert got == [body, body]


@pytest.mark.parametrize("keeps", [True, False], ids=["stays", "closes"])
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("whole", [True, False])
def test_an_early_answer_is_heard_while_the_body_is_still_being_sent(
    run: Run, tls: bool, keeps: bool, whole: bool, ca: str
) -> None:
    body = bytes(25 * 1024 * 1024)
    taken: list[int] = []

    def script(peer: Peer) -> None:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else TLS's own messages delay the answer
        peer.head()
        peer.send(response(b"too large", status="413 Content Too Large"))
        if keeps:
            count = 0
            with contextlib.suppress(OSError):
                while data := peer.sock.recv(65_536):
                    count += len(data)
            taken.append(count)
        else:
            peer.sock.recv(1)
            time.sleep(0.02)

    async def main(server: Server) -> None:
        async with connected(address(server, ca_bundle=ca)) as connection:
            reader = await connection.ask(HEAD % len(body), body, patience(), whole=whole)
            assert reader.status == 413
            data = connection.received() if whole else await connection.more()
            assert data == b"too large"
            assert connection.cut_short

    with Server(script, tls=server_context() if tls else None) as server:
        run(main(server))
    assert all(count < len(body) for count in taken)


def test_an_answer_is_heard_although_the_connection_was_reset_under_the_next_write(run: Run) -> None:
    """The reset meets asyncio in a write, after which it reads no more."""

    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            loop = asyncio.get_running_loop()
            task = asyncio.ensure_future(connection.ask(HEAD % 10, bytes(10), patience(), whole=True))
            await turns()
            # The loop is kept from hearing the answer until the connection has failed under a write.
            connection._transport.pause_reading()
            answered.set()
            await loop.run_in_executor(None, reset.wait, PATIENCE)
            while not connection.closed:
                connection._transport.write(bytes(ONE_WRITE_BYTES))
                await asyncio.sleep(0)
            assert (await task).status == 413
            assert connection.received() == b"no"

    answered, reset = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        assert answered.wait(PATIENCE)
        peer.send(response(b"no", status="413 Content Too Large"))
        time.sleep(0.02)
        peer.reset()
        reset.set()

    with Server(script) as server:
        run(main(server))


# failures, and what came before them


@pytest.mark.parametrize(
    ("parts", "end", "kind", "pieces"),
    [
        ((CHUNKED + b"2\r\nhi\r\nxyz\r\n",), "wait", errors.ProtocolError, [b"hi"]),
        ((CHUNKED, b"2\r\nhi\r\nxyz\r\n"), "wait", errors.ProtocolError, [b"hi"]),
        ((CHUNKED + b"2\r\nhi\r\n",), "close", errors.ProtocolError, [b"hi"]),
        ((CHUNKED + b"2\r\nhi\r\n",), "reset", errors.TransportError, [b"hi"]),
        ((CHUNKED + b"4\r\nhi",), "reset", errors.TransportError, [b"hi"]),
        ((UNTIL_CLOSE + b"hi",), "reset", errors.TransportError, [b"hi"]),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",), "close", errors.ProtocolError, [b"hi"]),
        ((b"HTTP/1.1 200",), "close", errors.ProtocolError, []),
        ((b"SMTP",), "wait", errors.ProtocolError, []),
        ((), "close", errors.TransportError, []),
        ((), "reset", errors.TransportError, []),
    ],
)
def test_what_arrived_is_given_before_the_failure(
    run: Run, parts: tuple[bytes, ...], end: str, kind: type[errors.TransportError], pieces: list[bytes]
) -> None:
    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            with pytest.raises(errors.TransportError) as caught:
                await stream(connection)
            assert type(caught.value) is kind
            assert b"".join(caught.value.pieces) == b"".join(pieces)  # type: ignore[attr-defined]
            assert caught.value.response_started == bool(parts)
            assert connection.closed
            with pytest.raises(kind) as again:  # and so it stays
                await connection.more()
            assert again.value is not caught.value

    with Server(says(*parts, end=end)) as server:
        run(main(server))


def test_what_arrived_is_given_before_the_failure_even_if_nobody_was_reading_then(run: Run) -> None:
    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            await connection.ask(HEAD % 2, b"{}", patience(), whole=False)
            await until(lambda: connection.closed)
            assert await connection.more() == b"hi"
            with pytest.raises(errors.ProtocolError):
                await connection.more()

    with Server(says(CHUNKED + b"2\r\nhi\r\nxyz\r\n", end="wait")) as server:
        run(main(server))


def test_the_end_of_the_connection_ends_a_body_without_a_length(run: Run) -> None:
    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            assert await exchange(connection) == b"whole"
            assert connection.closed
        async with connected(address(server)) as connection:
            assert await stream(connection) == [b"whole"]

    with Server(says(UNTIL_CLOSE + b"whole")) as server:
        run(main(server))


def test_under_tls_only_the_end_of_tls_ends_a_body_without_a_length(run: Run, ca: str) -> None:
    def proper(peer: Peer) -> None:
        peer.request()
        peer.send(UNTIL_CLOSE + b"whole")
        with contextlib.suppress(OSError):
            peer.sock.unwrap()  # type: ignore[attr-defined]  # it is a TLS socket

    async def main(server: Server) -> None:
        async with connected(address(server, ca_bundle=ca)) as connection:
            assert await stream(connection) == [b"whole"]
        async with connected(address(server, ca_bundle=ca)) as connection:
            with pytest.raises(errors.TransportError, match="middle of the answer"):
                await stream(connection)

    with Server(proper, says(UNTIL_CLOSE + b"whole"), tls=server_context()) as server:
        run(main(server))


def test_bytes_that_nobody_asked_for_end_an_idle_connection(run: Run) -> None:
    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            await until(lambda: connection.closed)
            with pytest.raises(errors.TransportError, match="lost before an answer") as caught:
                await exchange(connection)
            assert not caught.value.response_started

    with Server(lambda peer: (peer.send(b"hello"), peer.gone())) as server:
        run(main(server))


def test_an_idle_connection_that_the_peer_closes_is_closed(run: Run) -> None:
    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            await until(lambda: connection.closed)

    with Server(lambda peer: None) as server:
        run(main(server))


def test_excess_bytes_make_a_connection_useless_for_another_exchange(run: Run) -> None:
    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            reader = await connection.ask(HEAD % 2, b"{}", patience(), whole=True)
            await turns()
            assert not reader.reusable

    with Server(says(response() + b"HTTP/1.1 200", end="wait")) as server:
        run(main(server))


def test_bytes_after_a_failure_are_not_looked_at(run: Run) -> None:
    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            await connection.ask(HEAD % 2, b"{}", patience(), whole=False)
            await until(lambda: connection.closed)
            connection.data_received(b"2\r\nno\r\n")
            assert connection.received() == b"hi"

    with Server(says(CHUNKED + b"2\r\nhi\r\nxyz\r\n", end="wait")) as server:
        run(main(server))


# back-pressure


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_a_reader_that_does_not_read_stops_the_socket_and_one_that_reads_on_gets_it_all(
    run: Run, tls: bool, ca: str
) -> None:
    total = 64 * 1024 * 1024
    sent = 0
    blocked = threading.Event()

    def script(peer: Peer) -> None:
        nonlocal sent
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        block = bytes(65_536)
        peer.sock.settimeout(0.3)
        try:
            while sent < total:
                peer.sock.send(block)
                sent += len(block)
        except (TimeoutError, ssl.SSLError):
            blocked.set()
        peer.gone()

    async def main(server: Server) -> None:
        async with connected(address(server, ca_bundle=ca)) as connection:
            await connection.ask(HEAD % 2, b"{}", patience(), whole=False)
            await asyncio.get_running_loop().run_in_executor(None, blocked.wait, PATIENCE)
            assert sent < total // 2  # what the kernels' buffers hold, and no more
            # One delivery more may come after the mark is passed: asyncio reads up to 256 KiB at once.
            assert connection._waiting_bytes <= HIGH_WATER_BYTES + 4 * 262_144
            received = 0
            while received < sent:
                received += len(await connection.more())

    with Server(script, tls=server_context() if tls else None) as server:
        run(main(server))


def test_what_is_waiting_in_a_stopped_stream_is_given_though_the_connection_is_lost(run: Run) -> None:
    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            await connection.ask(HEAD % 2, b"{}", patience(), whole=False)
            await until(lambda: not connection._reading)
            connection.abort()
            assert len(await connection.more()) > HIGH_WATER_BYTES
            with pytest.raises(errors.TransportError):
                await connection.more()

    with Server(says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(900_000), end="wait")) as server:
        run(main(server))


def test_a_server_that_does_not_read_stops_the_writer_until_the_read_timeout(run: Run) -> None:
    release = threading.Event()

    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            body = bytes(32 * 1024 * 1024)
            with pytest.raises(errors.ReadTimeoutError):
                await connection.ask(HEAD % len(body), body, patience(read=0.05), whole=True)
            assert connection._transport.get_write_buffer_size() < 4 * 1024 * 1024
        release.set()

    with Server(lambda peer: release.wait(PATIENCE)) as server:
        run(main(server))


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_a_writer_that_was_stopped_goes_on_when_the_server_reads_on(run: Run, tls: bool, ca: str) -> None:
    body = bytes(32 * 1024 * 1024)  # more than the buffers of both sides take
    stopped = threading.Event()
    got: list[bytes] = []

    def script(peer: Peer) -> None:
        assert stopped.wait(PATIENCE)
        got.append(peer.request()[1])
        peer.send(response(b"fine"))

    async def main(server: Server) -> None:
        async with connected(address(server, ca_bundle=ca)) as connection:
            task = asyncio.ensure_future(exchange(connection, body))
            await until(lambda: connection._sending)
            stopped.set()
            assert await task == b"fine"
            assert not connection.cut_short

    with Server(script, tls=server_context() if tls else None) as server:
        run(main(server))
    assert got == [body]


def test_room_to_write_is_nothing_to_who_does_not_write(run: Run) -> None:
    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            task = asyncio.ensure_future(exchange(connection))
            await turns()
            connection.pause_writing()
            connection.resume_writing()
            await turns()
            assert not task.done()
            proceed.set()
            assert await task == b"fine"

    proceed = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        assert proceed.wait(PATIENCE)
        peer.send(response(b"fine"))

    with Server(script) as server:
        run(main(server))


def test_a_connection_that_is_lost_ends_a_blocked_write(run: Run) -> None:
    blocked = threading.Event()

    def script(peer: Peer) -> None:
        peer.sock.recv(1)
        assert blocked.wait(PATIENCE)
        peer.reset()

    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            body = bytes(32 * 1024 * 1024)
            task = asyncio.ensure_future(connection.ask(HEAD % len(body), body, patience(), whole=True))
            await until(lambda: connection._sending)
            blocked.set()
            with pytest.raises(errors.TransportError, match="before an answer"):
                await task

    with Server(script) as server:
        run(main(server))


# time


def test_silence_before_the_answer_and_in_it_ends_with_a_read_timeout(run: Run) -> None:
    async def main(server: Server) -> None:
        for started in (False, True):
            async with connected(address(server)) as connection:
                with pytest.raises(errors.ReadTimeoutError) as caught:
                    await stream(connection, patience(read=0.3 if started else 0.02))
                assert caught.value.response_started is started

    with Server(says(end="wait"), says(CHUNKED + b"2\r\nhi\r\n", end="wait")) as server:
        run(main(server))


def test_every_byte_starts_the_silence_anew(run: Run) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        for byte in response(b"0123456789"):
            peer.send(bytes([byte]))
            time.sleep(0.005)

    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            assert await exchange(connection, limits=patience(read=0.5)) == b"0123456789"

    with Server(script) as server:
        run(main(server))


def test_silence_is_not_counted_while_nobody_waits(run_skipping: Run) -> None:
    proceed = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(CHUNKED + b"2\r\nhi\r\n")
        assert proceed.wait(PATIENCE)
        peer.send(b"2\r\nho\r\n0\r\n\r\n")
        peer.gone()

    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            await connection.ask(HEAD % 2, b"{}", patience(), whole=False)
            assert await connection.more() == b"hi"
            skip(2 * PATIENCE)
            await turns()
            proceed.set()
            assert await connection.more() == b"ho"
            assert await connection.more() == b""

    with Server(script) as server:
        run_skipping(main(server))


def test_the_total_time_ends_a_wait(run: Run) -> None:
    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            with pytest.raises(errors.DeadlineExceededError):
                await stream(connection, patience(total=0.02))
            with pytest.raises(errors.DeadlineExceededError):
                await exchange_again(connection)

    async def exchange_again(connection: AsyncConnection) -> None:
        await connection._wait(patience(total=1e-9))

    with Server(says(CHUNKED + b"2\r\nhi\r\n", end="wait")) as server:
        run(main(server))


def test_the_total_time_goes_on_for_a_reader_that_sits_on_its_stream(run: Run) -> None:
    """A stream that always has something to give still ends, and its connection is closed though nobody looks."""
    endless = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(CHUNKED)
        try:
            while True:
                peer.send(b"2\r\nhi\r\n" * 1000)
        except OSError:
            endless.set()

    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            await connection.ask(HEAD % 2, b"{}", patience(read=0.3, total=0.5), whole=False)
            await asyncio.get_running_loop().run_in_executor(None, endless.wait, PATIENCE)
            with pytest.raises(errors.DeadlineExceededError):
                await connection.more()

    with Server(script) as server:
        run(main(server))


def test_the_total_time_ends_a_reader_that_reads_slowly_but_always_finds_something(run: Run) -> None:
    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            clock = [0.0]
            limits = Deadline(Timeout(PATIENCE, PATIENCE, 10.0), 10.0, lambda: clock[0])
            await connection.ask(HEAD % 2, b"{}", limits, whole=False)
            await until(lambda: connection._chunks)
            clock[0] = 10.0
            with pytest.raises(errors.DeadlineExceededError):
                await connection.more()

    with Server(says(CHUNKED + b"2\r\nhi\r\n", end="wait")) as server:
        run(main(server))


def test_an_answer_that_is_complete_is_given_even_after_the_total_time(run: Run) -> None:
    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            await connection.ask(HEAD % 2, b"{}", patience(total=0.5), whole=False)
            await asyncio.sleep(0.6)
            assert await connection.more() == b"fine"
            assert await connection.more() == b""

    with Server(says(response(b"fine"), end="wait")) as server:
        run(main(server))


def test_a_timer_that_rings_early_is_set_again(run: Run) -> None:
    """Once bytes have come, the timer of the wait before is too early; on an idle connection it means nothing."""
    proceed = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(response(b"one"))
        peer.request()
        assert proceed.wait(PATIENCE)
        peer.send(response(b"two"))
        peer.gone()

    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            assert await exchange(connection) == b"one"
            connection.rest()
            connection._timer.cancel()  # type: ignore[union-attr]
            connection._on_timer()
            assert connection._timer is None
            task = asyncio.ensure_future(exchange(connection))
            await turns()
            connection._timer.cancel()  # type: ignore[attr-defined]
            connection._on_timer()
            assert connection._timer is not None
            task2 = connection._timer
            proceed.set()
            assert await task == b"two"
            connection.rest()
            task2.cancel()

    with Server(script) as server:
        run(main(server))


def test_a_shorter_wait_brings_the_timer_forward(run: Run) -> None:
    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            assert await exchange(connection) == b"fine"
            connection.rest()
            with pytest.raises(errors.ReadTimeoutError):
                await exchange(connection, limits=patience(read=0.01))

    with Server(says(response(b"fine"), end="wait")) as server:
        run(main(server))


# closing


def test_closing_wakes_who_reads(run: Run) -> None:
    async def main(server: Server) -> None:
        for error in (None, errors.EndpointError("closed")):
            async with connected(address(server)) as connection:
                task = asyncio.ensure_future(stream(connection))
                await until(lambda: connection._reader and connection._reader.head_complete)
                await turns()
                connection.rest()
                connection.abort(error)
                with pytest.raises(errors.EndpointError, match="closed"):
                    await task

    with Server(says(CHUNKED, end="wait")) as server:
        run(main(server))


def test_closing_on_a_loop_that_has_ended_does_nothing() -> None:
    loop = asyncio.new_event_loop()
    connection = AsyncConnection(loop, memoryview(bytearray(1024)))
    connection.abort()
    connection._transport = object()
    loop.close()
    connection.abort()
    assert connection.closed


# dialling


@pytest.fixture
def ca(tmp_path: Path) -> str:
    """A file with the certificate that servers of these tests are trusted by."""
    path = tmp_path / "ca.pem"
    servers.authority().cert_pem.write_to_path(str(path))
    return str(path)


def test_a_port_that_refuses_is_a_connect_error(run: Run) -> None:
    async def main(port: int) -> None:
        with pytest.raises(errors.ConnectError, match=f"127.0.0.1:{port}") as caught:
            await dial(asyncio.get_running_loop(), make_address("127.0.0.1", port, tls=False), patience())
        assert isinstance(caught.value.__cause__, OSError)

    with closed_port() as port:
        run(main(port))


@pytest.mark.parametrize("name", ["no-such-host.invalid", "x" * 64 + ".example"])
def test_a_name_that_does_not_exist_or_cannot_be_one_is_a_connect_error(run: Run, name: str) -> None:
    async def main() -> None:
        with pytest.raises(errors.ConnectError):
            await dial(asyncio.get_running_loop(), make_address(name, 80, tls=False), patience())

    run(main())


def test_a_port_that_does_not_answer_is_given_up_in_time(run: Run) -> None:
    async def main(port: int) -> None:
        where = make_address("127.0.0.1", port, tls=False)
        with pytest.raises(errors.ConnectError, match=r"within 0\.02 s"):
            await dial(asyncio.get_running_loop(), where, patience(connect=0.02))
        with pytest.raises(errors.DeadlineExceededError) as caught:
            await dial(asyncio.get_running_loop(), where, patience(total=0.02))
        assert not caught.value.request_sent

    with deaf_port() as port:
        run(main(port))


def test_a_server_that_is_not_who_it_should_be_is_a_tls_error(run: Run, ca: str) -> None:
    async def main(server: Server) -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(errors.TLSError, match="not trusted"):
            await dial(loop, address(server), patience())
        with pytest.raises(errors.TLSError, match="not trusted"):
            await dial(loop, make_address("localhost", server.port, tls=True, ca_bundle=ca), patience())
        async with connected(address(server, ca_bundle=ca)) as connection:
            assert await exchange(connection) == b"fine"

    with Server(lambda peer: peer.serve(response(b"fine", "Connection: close")), tls=server_context()) as server:
        run(main(server))


def test_a_server_without_tls_is_a_tls_error(run: Run) -> None:
    async def main(server: Server) -> None:
        with pytest.raises(errors.TransportError) as caught:
            await dial(asyncio.get_running_loop(), make_address("127.0.0.1", server.port, tls=True), patience())
        assert isinstance(caught.value, (errors.TLSError, errors.ConnectError))
        assert not caught.value.request_sent

    def script(peer: Peer) -> None:
        peer.sock.recv(65_536)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with Server(script) as server:
        run(main(server))


def test_a_handshake_that_is_never_answered_counts_against_the_connect_time(run: Run) -> None:
    async def main(server: Server) -> None:
        with pytest.raises(errors.ConnectError, match="within"):
            await dial(
                asyncio.get_running_loop(),
                make_address("127.0.0.1", server.port, tls=True),
                patience(connect=0.05),
            )

    with Server(lambda peer: peer.gone()) as server:
        run(main(server))


def test_a_connection_is_kept_alive_and_sends_without_delay(run: Run) -> None:
    async def main(server: Server) -> None:
        async with connected(address(server)) as connection:
            with connection._transport.get_extra_info("socket").dup() as sock:
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    with Server(lambda peer: peer.gone()) as server:
        run(main(server))


def test_a_transport_without_a_socket_will_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(server: Server) -> None:
        def made(connection: AsyncConnection, transport: Any) -> None:
            class Bare:
                def get_extra_info(self, _: str) -> None:
                    return None

                def abort(self) -> None:
                    transport.abort()

            connection._transport = Bare()

        monkeypatch.setattr(AsyncConnection, "connection_made", made)
        async with connected(address(server)):
            pass

    with Server(lambda peer: peer.gone()) as server:
        run(main(server))


# through a proxy


def through(proxy: servers.Proxy, server: Server, ca: str | None = None, password: str = "") -> Address:
    return address(server, ca_bundle=ca, proxy=f"http://{password}127.0.0.1:{proxy.port}")


def test_a_tunnel_carries_tls(run: Run, ca: str) -> None:
    async def main(proxy: servers.Proxy, server: Server) -> None:
        async with connected(through(proxy, server, ca, "user:secret@")) as connection:
            for _ in range(2):
                assert await exchange(connection, bytes(200_000)) == b"fine"
                connection.rest()
        assert proxy.heads[0].startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.1".encode())

    with (
        Server(lambda peer: peer.serve(response(b"fine")), tls=server_context()) as server,
        servers.Proxy(authorization=b"Basic dXNlcjpzZWNyZXQ=") as proxy,
    ):
        run(main(proxy, server))


def test_a_service_that_is_not_who_it_should_be_is_found_out_through_a_tunnel(run: Run) -> None:
    async def main(proxy: servers.Proxy, server: Server) -> None:
        with pytest.raises(errors.TLSError):
            await dial(asyncio.get_running_loop(), through(proxy, server), patience())

    with Server(lambda peer: peer.gone(), tls=server_context()) as server, servers.Proxy() as proxy:
        run(main(proxy, server))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "asks for credentials"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "cannot reach"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "do not belong"),
        (b"SSH-2.0\r\n", "did not open a tunnel"),
        (b"HTTP/1.1 2", "closed the connection"),
        (b"", "closed the connection"),
    ],
)
def test_a_proxy_that_opens_no_tunnel_is_a_connect_error(run: Run, answer: bytes, message: str) -> None:
    async def main(proxy: servers.Proxy, server: Server) -> None:
        with pytest.raises(errors.ConnectError, match=message):
            await dial(asyncio.get_running_loop(), through(proxy, server), patience())

    with Server(tls=server_context()) as server, servers.Proxy(connect_answer=answer) as proxy:
        run(main(proxy, server))


def test_a_proxy_that_never_answers_counts_against_the_connect_time(run: Run) -> None:
    async def main(server: Server) -> None:
        where = make_address("service.example", 443, tls=True, proxy=f"http://127.0.0.1:{server.port}")
        with pytest.raises(errors.ConnectError, match="within"):
            await dial(asyncio.get_running_loop(), where, patience(connect=0.05))

    with Server(lambda peer: peer.gone()) as server:
        run(main(server))


def test_a_tunnel_that_is_cut_in_the_handshake_is_a_connect_error(run: Run) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.sock.recv(10)

    async def main(server: Server) -> None:
        where = make_address("service.example", 443, tls=True, proxy=f"http://127.0.0.1:{server.port}")
        with pytest.raises(errors.ConnectError):
            await dial(asyncio.get_running_loop(), where, patience())

    with Server(script) as server:
        run(main(server))


def test_a_handshake_that_is_cancelled_when_it_is_just_done_leaves_no_connection(run: Run, ca: str) -> None:
    """asyncio would close it politely: say goodbye, and wait for an answer."""
    gone: list[bool] = []

    async def main(server: Server) -> None:
        loop = asyncio.get_running_loop()

        class Wrapped:
            run_in_executor = loop.run_in_executor
            create_future = loop.create_future
            is_closed = loop.is_closed

            async def create_connection(self, *arguments: Any, **options: Any) -> None:
                await loop.create_connection(*arguments, **options)
                raise asyncio.CancelledError

        where = make_address("127.0.0.1", server.port, tls=True, ca_bundle=ca)
        with pytest.raises(errors.ConnectError):
            await dial(Wrapped(), where, patience())  # type: ignore[arg-type]
        await until(lambda: gone)

    def deaf(peer: Peer) -> None:
        with contextlib.suppress(OSError):
            shaken = server_context().wrap_socket(peer.sock, server_side=True)
            with socket.socket(fileno=shaken.detach()) as raw:  # it hears no goodbye
                raw.settimeout(PATIENCE)
                while raw.recv(65_536):
                    pass
        gone.append(True)

    with Server(deaf) as server:
        run(main(server))


def test_a_connection_that_is_gone_before_its_preface_is_a_lost_one(run: Run) -> None:
    async def main() -> None:
        connection = AsyncConnection(asyncio.get_running_loop(), memoryview(bytearray(10)))
        connection.connection_made(Line())
        connection.eof_received()
        where = make_address("x", 443, tls=True)
        with pytest.raises(ConnectionResetError, match="while it was being made"):
            await connection.make_ready(where)

    run(main())
