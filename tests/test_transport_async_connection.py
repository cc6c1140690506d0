"""`aio/connection.py`: what only asyncio has; `test_transport_exchanges.py` has the behaviour of both twins.

Most tests have a stand-in for the event loop's transport, and a loop whose time they move on.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from typing import Any

import pytest
from async_loops import PATIENCE, Run, skip, turns, until
from servers import Peer, Server, response
from targets import make_address

from smendpoint import Timeout, errors
from smendpoint._transport.aio.connection import HIGH_WATER_BYTES, AsyncConnection
from smendpoint._transport.aio.dial import dial
from smendpoint._transport.deadline import Deadline
from smendpoint._transport.exchange import ONE_WRITE_BYTES

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LARGE = bytes(range(256)) * 1024


def patience(total: float | None = None, read: float = PATIENCE) -> Deadline:
    """Limits by the clock of the running loop."""
    clock = asyncio.get_running_loop().time
    return Deadline(Timeout(PATIENCE, read, total), None if total is None else clock() + total, clock)


async def later(seconds: float) -> None:
    """Move the time of the running loop on, and let its timers ring."""
    skip(seconds)
    await turns()


class Line:
    """A stand-in for the loop's transport, which records the calls of its methods.

    Attributes:
        done: the bytes that were written, and the names of the other methods that were called.
        full: whether each write fills it.
    """

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.full = False
        self.connection = AsyncConnection(asyncio.get_running_loop(), memoryview(bytearray(65_536)))
        self.connection.connection_made(self)

    def get_extra_info(self, name: str) -> None:
        return None

    def write(self, data: bytes) -> None:
        self.done.append(bytes(data))
        if self.full:
            self.connection.pause_writing()

    def pause_reading(self) -> None:
        self.done.append("pause")

    def resume_reading(self) -> None:
        self.done.append("resume")

    def abort(self) -> None:
        self.done.append("abort")

    def arrives(self, data: bytes) -> None:
        """Give the connection bytes from the network, as the loop does."""
        for start in range(0, len(data), 65_536):
            part = data[start : start + 65_536]
            self.connection.get_buffer(-1)[: len(part)] = part
            self.connection.buffer_updated(len(part))

    async def asked(self, body: bytes = b"{}", *, whole: bool = True, **limits: Any) -> asyncio.Task[Any]:
        """Ask, as far as to where that waits for an answer."""
        task = asyncio.ensure_future(self.connection.ask(HEAD % len(body), body, patience(**limits), whole=whole))
        await turns()
        return task

    async def streaming(self, data: bytes = b"", *, total: float | None = None) -> AsyncConnection:
        """Ask for a stream, whose head and first bytes have come."""
        task = await self.asked(whole=False, total=total)
        self.arrives(CHUNKED + data)
        await task
        return self.connection


# bytes that arrive


def test_bytes_that_have_arrived_stay_when_the_next_are_read_into_the_same_buffer(run: Run) -> None:
    async def main() -> None:
        line = Line()
        connection = await line.streaming(b"3\r\none\r\n")
        line.arrives(b"3\r\ntwo\r\n")
        assert connection.received() == b"onetwo"

    run(main())


def test_bytes_that_arrived_are_given_before_the_failure_although_no_task_was_reading(run: Run) -> None:
    async def main() -> None:
        line = Line()
        connection = await line.streaming()
        line.arrives(b"2\r\nhi\r\nxyz\r\n")
        assert connection.closed
        line.arrives(b"2\r\nno\r\n")  # is not looked at any more
        assert await connection.more() == b"hi"
        with pytest.raises(errors.ProtocolError):
            await connection.more()

    run(main())


def test_an_answer_is_heard_although_the_connection_was_reset_under_the_next_write(run: Run) -> None:
    """The reset meets asyncio in a write, after which it reads no more."""

    async def main(server: Server) -> None:
        loop = asyncio.get_running_loop()
        connection = await dial(loop, make_address("127.0.0.1", server.port, tls=False), patience())
        task = asyncio.ensure_future(connection.ask(HEAD % 10, bytes(10), patience(), whole=True))
        await turns()
        # The loop is kept from hearing the answer until the connection has failed under a write.
        connection._transport.pause_reading()
        answer.set()
        await loop.run_in_executor(None, reset.wait, PATIENCE)
        while not connection.closed:
            connection._transport.write(bytes(ONE_WRITE_BYTES))
            await turns(1)
        assert (await task).status == 413
        assert connection.received() == b"no"

    answer, reset = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        assert answer.wait(PATIENCE)
        peer.send(response(b"no", status="413 Content Too Large"))
        peer.reset()
        reset.set()

    with Server(script) as server:
        run(main(server))


# back-pressure


def test_a_reader_that_does_not_read_stops_the_socket_and_one_that_reads_on_starts_it(run: Run) -> None:
    async def main() -> None:
        line = Line()
        connection = await line.streaming(b"10000\r\n" + bytes(65_536) + b"\r\n")
        assert HIGH_WATER_BYTES == 65_536
        assert "pause" not in line.done
        line.arrives(b"1\r\nx\r\n")
        line.arrives(b"1\r\nx\r\n")
        assert line.done[1:] == ["pause"]
        assert len(await connection.more()) == 65_538
        assert line.done[1:] == ["pause", "resume"]
        line.arrives(b"10000\r\n" + bytes(65_536) + b"\r\n1\r\nx\r\n0\r\n\r\n")  # the end needs no pause
        assert line.done[1:] == ["pause", "resume"]

    run(main())


def test_bytes_of_a_stopped_stream_are_given_although_the_connection_is_lost(run: Run) -> None:
    async def main() -> None:
        line = Line()
        connection = await line.streaming(b"20000\r\n" + bytes(100_000))
        connection.abort()
        assert len(await connection.more()) == 100_000
        assert line.done[1:] == ["pause", "abort"]
        with pytest.raises(errors.TransportError):
            await connection.more()

    run(main())


def test_a_stream_that_was_stopped_arrives_whole(run: Run, tls: ssl.SSLContext | None, trusted: str) -> None:
    body = LARGE * 32

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(response(body))
        peer.gone()

    async def main(server: Server) -> None:
        where = make_address("127.0.0.1", server.port, tls=tls is not None, ca_bundle=trusted)
        connection = await dial(asyncio.get_running_loop(), where, patience())
        await connection.ask(HEAD % 2, b"{}", patience(), whole=False)
        pieces = []
        while piece := await connection.more():
            pieces.append(piece)
            await turns()
        assert b"".join(pieces) == body
        connection.abort()

    with Server(script, tls=tls) as server:
        run(main(server))


def test_a_writer_that_was_stopped_goes_on_when_there_is_room(run: Run) -> None:
    async def main() -> None:
        line = Line()
        line.full = True
        task = await line.asked(LARGE)
        while line.connection.cut_short:
            written = len(line.done)
            await turns()
            assert len(line.done) == written
            line.connection.resume_writing()
            await turns()
        assert b"".join(line.done) == HEAD % len(LARGE) + LARGE
        line.arrives(response(b"fine"))
        assert (await task).status == 200

    run(main())


def test_a_connection_that_is_lost_ends_a_blocked_write(run: Run) -> None:
    async def main() -> None:
        line = Line()
        line.full = True
        task = await line.asked(LARGE)
        line.connection.connection_lost(ConnectionResetError())
        with pytest.raises(errors.TransportError, match="before an answer: ConnectionResetError"):
            await task

    run(main())


def test_room_to_write_does_not_break_the_silence_before_an_answer(run_skipping: Run) -> None:
    async def main() -> None:
        line = Line()
        task = await line.asked()
        for _ in range(2):
            assert not task.done()
            await later(0.6 * PATIENCE)
            line.connection.pause_writing()
            line.connection.resume_writing()
            await turns()
        assert task.done()
        with pytest.raises(errors.ReadTimeoutError):
            await task

    run_skipping(main())


# time


@pytest.mark.parametrize("came", [b"", b"HTTP/1.1 ", CHUNKED, CHUNKED + b"2\r\n"])
def test_silence_before_the_answer_and_in_it_ends_with_a_read_timeout(run_skipping: Run, came: bytes) -> None:
    async def main() -> None:
        line = Line()
        task = await line.asked()
        line.arrives(came)
        await later(PATIENCE)
        assert task.done()
        with pytest.raises(errors.ReadTimeoutError, match="nothing arrived for 20 s") as caught:
            await task
        assert caught.value.response_started is bool(came)
        assert line.connection.closed

    run_skipping(main())


def test_silence_while_the_writer_is_stopped_is_a_read_timeout(run_skipping: Run) -> None:
    async def main() -> None:
        line = Line()
        line.full = True
        task = await line.asked(LARGE)
        await later(PATIENCE)
        assert task.done()
        with pytest.raises(errors.ReadTimeoutError, match="read nothing more of the request for 20 s"):
            await task

    run_skipping(main())


def test_every_byte_starts_the_silence_anew(run_skipping: Run) -> None:
    async def main() -> None:
        line = Line()
        task = await line.asked()
        for byte in response(b"0123456789"):
            skip(0.6 * PATIENCE)
            await turns(1)
            line.arrives(bytes([byte]))
        assert (await task).complete

    run_skipping(main())


def test_silence_is_not_counted_while_no_task_waits(run_skipping: Run) -> None:
    async def main() -> None:
        line = Line()
        connection = await line.streaming()
        await later(2 * PATIENCE)
        line.arrives(b"2\r\nho\r\n")
        assert await connection.more() == b"ho"

    run_skipping(main())


@pytest.mark.parametrize(("reading", "moments"), [(True, [0.5]), (False, [0.5]), (False, [1.1, 0.4])])
def test_the_total_time_goes_on_whether_anybody_reads_or_not(
    run_skipping: Run, reading: bool, moments: list[float]
) -> None:
    async def main() -> None:
        line = Line()
        connection = await line.streaming(b"2\r\nhi\r\n", total=sum(moments) * PATIENCE)
        if reading:
            assert await connection.more() == b"hi"
            task = asyncio.ensure_future(connection.more())
            await turns()
        for moment in moments:
            assert not connection.closed
            await later(moment * PATIENCE)
        assert connection.closed
        with pytest.raises(errors.DeadlineExceededError):
            await (task if reading else connection.more())  # although there is something to give

    run_skipping(main())


def test_a_call_without_any_time_left_does_not_wait(run_skipping: Run) -> None:
    async def main() -> None:
        deadline = patience(total=1.0)
        skip(1.0)
        with pytest.raises(errors.DeadlineExceededError):
            Line().connection.ask(HEAD % 2, b"{}", deadline, whole=True).send(None)

    run_skipping(main())


def test_an_answer_that_is_complete_is_given_even_after_the_total_time(run_skipping: Run) -> None:
    async def main() -> None:
        line = Line()
        connection = await line.streaming(b"2\r\nhi\r\n0\r\n\r\n", total=PATIENCE)
        await later(PATIENCE)
        assert await connection.more() == b"hi"
        assert await connection.more() == b""

    run_skipping(main())


def test_the_timer_of_an_earlier_wait_ends_neither_an_idle_connection_nor_the_next_wait(run_skipping: Run) -> None:
    async def main() -> None:
        line = Line()
        for moments in ((1.1,), (0.6, 0.6), (0.6, 0.3)):
            task = await line.asked()
            if len(moments) > 1:
                await later(moments[1] * PATIENCE)
                assert not task.done()
            line.arrives(response(b"fine"))
            await task
            line.connection.rest()
            await later(moments[0] * PATIENCE)
            assert not line.connection.closed
        task = await line.asked()
        for _ in range(2):
            assert not task.done()
            await later(0.6 * PATIENCE)
        assert task.done()
        with pytest.raises(errors.ReadTimeoutError):
            await task

    run_skipping(main())


@pytest.mark.parametrize(
    ("limit", "error"), [("read", errors.ReadTimeoutError), ("total", errors.DeadlineExceededError)]
)
def test_a_shorter_wait_brings_the_timer_forward(
    run_skipping: Run, limit: str, error: type[errors.TransportError]
) -> None:
    async def main() -> None:
        line = Line()
        task = await line.asked()
        line.arrives(response(b"fine"))
        await task
        task = await line.asked(**{limit: PATIENCE / 2})
        await later(PATIENCE / 2)
        assert task.done()
        with pytest.raises(error):
            await task

    run_skipping(main())


# closing


@pytest.mark.parametrize("error", [None, errors.EndpointError("the endpoint was closed")])
def test_closing_wakes_the_reader(run: Run, error: errors.EndpointError | None) -> None:
    async def main() -> None:
        connection = await Line().streaming()
        task = asyncio.ensure_future(connection.more())
        await turns()
        connection.rest()
        connection.abort(error)
        with pytest.raises(errors.EndpointError, match="closed"):
            await task

    run(main())


def test_a_connection_that_was_closed_while_it_was_idle_takes_no_request(run: Run) -> None:
    async def main() -> None:
        line = Line()
        line.arrives(b"nobody asked for this")
        assert line.connection.closed
        with pytest.raises(errors.TransportError, match="lost before an answer") as caught:
            await line.connection.ask(HEAD % 2, b"{}", patience(), whole=True)
        assert not caught.value.response_started
        assert line.done == ["abort"]

    run(main())


def test_closing_on_a_loop_that_has_ended_does_nothing(run: Run) -> None:
    async def main() -> Line:
        AsyncConnection(asyncio.get_running_loop(), memoryview(bytearray(1))).abort()  # before it was made
        return Line()

    line = run(main())
    line.connection.abort()
    assert (line.connection.closed, line.done) == (True, [])


# dialling


def test_a_name_that_cannot_be_one_is_a_connect_error(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(errors.ConnectError):
            await dial(asyncio.get_running_loop(), make_address("x" * 64 + ".example", 80, tls=False), patience())

    run(main())


def test_a_transport_without_a_socket_will_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def connected(*_: Any) -> AsyncConnection:
        return Line().connection

    async def main() -> None:
        address = make_address("127.0.0.1", 80, tls=False)
        assert not (await dial(asyncio.get_running_loop(), address, patience())).closed

    monkeypatch.setattr("smendpoint._transport.aio.dial._connect", connected)
    run(main())


def test_a_connection_whose_making_is_cancelled_the_moment_it_stands_is_closed(run: Run) -> None:
    gone: list[bool] = []

    async def main(server: Server) -> None:
        loop = asyncio.get_running_loop()

        class Wrapped:
            run_in_executor = loop.run_in_executor
            is_closed = loop.is_closed

            async def create_connection(self, *arguments: Any, **options: Any) -> None:
                await loop.create_connection(*arguments, **options)
                raise asyncio.CancelledError

        with pytest.raises(errors.ConnectError):
            await dial(Wrapped(), make_address("127.0.0.1", server.port, tls=False), patience())  # type: ignore[arg-type]
        await until(lambda: gone)

    with Server(lambda peer: gone.append(peer.gone())) as server:
        run(main(server))


def test_a_connection_that_is_gone_before_its_tunnel_is_asked_for_is_a_lost_one(run: Run) -> None:
    async def main() -> None:
        connection = Line().connection
        connection.eof_received()
        with pytest.raises(ConnectionResetError, match="while it was being made"):
            await connection.make_ready(make_address("x", 443, tls=True))

    run(main())
