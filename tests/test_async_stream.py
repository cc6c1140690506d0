"""`AsyncStream`: it delivers chunks as they arrive, and frees its connection however it is left."""
# ruff: noqa: F401, F811 (fixtures are imported)

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from async_loops import PATIENCE, Run, make_endpoint, run, run_skipping, settled, skip, turns, until
from clocks import FakeClock
from feeding import encode_part
from garbage import collect
from servers import STREAM_HEAD, Peer, Server, response, stream_chunk
from test_streams import Diary

from smendpoint import AsyncEndpoint, RetryPolicy, Timeout, errors
from smendpoint.emulator import Emulator
from smendpoint.handlers import BytesHandler, TextGenerationHandler


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running
        running.disconnected()


def endpoint(url: str, **options: Any) -> AsyncEndpoint[Any, Any, Any]:
    """An endpoint whose chunks are the parts as they come."""
    return make_endpoint(url, content_handler=BytesHandler(), **options)


def test_chunks_are_given_the_moment_they_arrive(run: Run) -> None:
    proceed = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(STREAM_HEAD)
        for _ in range(3):
            peer.send(stream_chunk(b"chunk"))
            assert proceed.acquire(timeout=PATIENCE)
        peer.send(b"0\r\n\r\n")

    async def main(server: Server) -> None:
        async with endpoint(server.url) as called, called.stream(b"") as stream:
            for _ in range(3):
                assert await stream.__anext__() == b"chunk"
                proceed.release()
            with pytest.raises(StopAsyncIteration):
                await stream.__anext__()

    with Server(script) as server:
        run(main(server))


def test_a_reader_that_takes_its_time_is_not_silence(run_skipping: Run) -> None:
    proceed = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(STREAM_HEAD + stream_chunk(b"one"))
        assert proceed.wait(PATIENCE)
        peer.send(stream_chunk(b"two") + b"0\r\n\r\n")

    async def main(server: Server) -> None:
        async with endpoint(server.url) as called:
            stream = called.stream(b"")
            assert await stream.__anext__() == b"one"
            skip(2 * PATIENCE)
            await turns()
            proceed.set()
            assert await stream.__anext__() == b"two"
            await stream.aclose()

    with Server(script) as server:
        run_skipping(main(server))


def test_the_total_time_holds_for_a_slow_reader_too(run: Run, emulator: Emulator) -> None:
    async def main() -> None:
        async with endpoint(emulator.url, timeout=Timeout(PATIENCE, PATIENCE, 0.5)) as called:
            emulator.inject("stall_mid_stream", times=1)
            stream = called.stream(b"Hello")
            first = await stream.__anext__()
            await until(lambda: emulator.open_connections == 0)  # it ends without a read
            with pytest.raises(errors.DeadlineExceededError) as caught:
                await stream.__anext__()
            assert caught.value.received == (first,)

    run(main())


def test_a_total_time_that_is_all_but_over_is_not_over(run: Run) -> None:
    """A timer that is due at once has no time on uvloop."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(response())
        peer.request()
        peer.send(STREAM_HEAD + stream_chunk(b"one"))
        assert proceed.wait(PATIENCE)
        peer.send(stream_chunk(b"two") + b"0\r\n\r\n")

    async def main(server: Server) -> None:
        async with endpoint(server.url, clock=FakeClock()) as called:
            assert await called.invoke(b"")  # the stream need not connect
            stream = called.stream(b"", timeout=Timeout(PATIENCE, PATIENCE, 1e-5))
            assert await stream.__anext__() == b"one"
            task = asyncio.ensure_future(stream.__anext__())
            await turns()
            proceed.set()
            assert await task == b"two"
            await stream.aclose()

    proceed = threading.Event()
    with Server(script) as server:
        run(main(server))


async def _all(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


# leaving


def _forget(stream: list[Any]) -> None:
    stream.clear()
    collect()


async def _leave(how: str, stream: Any) -> None:
    if how == "aclose":
        await stream.aclose()
        await stream.aclose()
    elif how == "with":
        async with stream:
            pass
    elif how == "generator":

        async def relay() -> Any:
            async with stream:
                async for chunk in stream:
                    yield chunk

        relayed = relay()
        await relayed.__anext__()
        await relayed.aclose()
    elif how == "cancel":
        task = asyncio.ensure_future(stream.__anext__())
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        held = [stream]
        del stream
        if how == "thread":
            await asyncio.get_running_loop().run_in_executor(None, _forget, held)
        else:
            _forget(held)


@pytest.mark.parametrize("read", [False, True], ids=["entered", "read"])
@pytest.mark.parametrize("how", ["aclose", "with", "generator", "cancel", "collect", "thread"])
def test_however_a_stream_is_left_its_connection_is_free_at_once(
    run: Run, emulator: Emulator, how: str, read: bool
) -> None:
    hooks = Diary()

    async def main() -> None:
        async with endpoint(emulator.url, max_connections=1, hooks=hooks) as called:
            emulator.inject("stall_mid_stream" if not read or how != "generator" else "drip", times=3)
            for _ in range(3):
                held = [called.stream(b"Hello")]
                await held[0].__aenter__()
                if read or how == "cancel":
                    await held[0].__anext__()
                await _leave(how, held.pop())
                await until(lambda: emulator.open_connections == 0)
            assert await called.invoke(b"Hello")
        ends = [entry for entry in hooks.entries if entry != "first_byte"]
        assert len(ends) == 4
        if how == "cancel":
            assert isinstance(ends[0], asyncio.CancelledError)
        else:
            assert ends[0] is None

    run(main())


@pytest.mark.parametrize("where", ["here", "in a thread"])
def test_a_stream_that_is_collected_after_its_loop_does_nothing(run: Run, emulator: Emulator, where: str) -> None:
    held: list[Any] = []

    async def main() -> None:
        stream = endpoint(emulator.url).stream(b"Hello")
        await stream.__aenter__()
        held.append(stream)

    run(main())
    if where == "here":
        _forget(held)
    else:
        thread = threading.Thread(target=_forget, args=(held,))
        thread.start()
        thread.join()


def test_a_stream_that_failed_in_its_constructor_can_be_collected() -> None:
    from smendpoint._calls.async_stream import AsyncStream

    AsyncStream.__new__(AsyncStream).__del__()


# several tasks


def test_closing_from_another_task_ends_the_task_that_reads(run: Run, emulator: Emulator) -> None:
    hooks = Diary()

    async def main() -> None:
        async with endpoint(emulator.url, hooks=hooks) as called:
            emulator.inject("stall_mid_stream", times=1)
            stream = called.stream(b"Hello")
            task = asyncio.ensure_future(_all(stream))
            await until(lambda: stream._source)
            await turns(20)
            await stream.aclose()
            with pytest.raises(errors.StreamError, match="closed before its end"):
                await task
            await until(lambda: emulator.open_connections == 0)

    run(main())
    assert hooks.entries == ["first_byte", None]


def test_closing_from_another_task_stops_the_opening(run: Run, emulator: Emulator) -> None:
    async def main() -> None:
        async with endpoint(emulator.url) as called:
            emulator.inject("stall_before_headers", times=1)
            stream = called.stream(b"Hello")
            task = asyncio.ensure_future(stream.__aenter__())
            await until(lambda: emulator.open_connections)
            await stream.aclose()
            with pytest.raises(errors.StreamError, match="closed before its end"):
                await task
            await until(lambda: emulator.open_connections == 0)

    run(main())


class Scripted:
    """A caller with calls of a test."""

    def __init__(self, open: Callable[[], Any]) -> None:
        self.open = open
        self.finished: list[BaseException | None] = []

    async def start(self, _: Any) -> Any:
        outer = self

        class Call:
            attempts = 1
            elapsed = 0.0
            watcher = None

            def named(self, error: Any) -> Any:
                return error

            def finish(self, error: BaseException | None) -> None:
                outer.finished.append(error)

        return Call()

    async def run(self, *_: Any) -> Any:
        return await self.open()


class Source:
    """A stream's body that a test makes."""

    def __init__(self, read: Callable[[], Any] | None = None) -> None:
        self.headers: dict[str, str] = {}
        self._read = read
        self.closed = 0

    async def read(self) -> bytes:
        assert self._read is not None
        return bytes(await self._read())

    def close(self) -> None:
        self.closed += 1


def scripted(open: Callable[[], Any], emulator_url: str = "http://127.0.0.1:1") -> tuple[Any, Scripted]:
    stream: Any = endpoint(emulator_url).stream(b"")
    fake = Scripted(open)
    stream._caller = fake
    return stream, fake


def test_closing_in_the_moment_when_the_answer_begins_closes_the_answer(run: Run) -> None:
    async def main() -> None:
        source = Source()

        async def open() -> Source:
            stream._over = True
            return source

        stream, fake = scripted(open)
        with pytest.raises(errors.StreamError, match="closed before its end"):
            await stream.__aenter__()
        assert (source.closed, fake.finished) == (1, [None])

    run(main())


def test_a_result_that_comes_together_with_a_cancellation_is_closed(run: Run) -> None:
    async def main() -> None:
        source = Source()
        stream, fake = scripted(lambda: asyncio.sleep(0, source))
        task = asyncio.ensure_future(stream.__aenter__())
        await turns(2)
        assert stream._opening is not None
        while not stream._opening.done():
            await turns(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (source.closed, fake.finished) == (1, [None])
        stream._call = None
        stream._dispose(source)

    run(main())


def test_an_opening_that_other_code_cancels_leaves_the_stream_closed(run: Run) -> None:
    async def main() -> None:
        stream, _ = scripted(lambda: asyncio.get_running_loop().create_future())
        task = asyncio.ensure_future(stream.__aenter__())
        await turns()
        stream._opening.cancel()
        with pytest.raises(errors.StreamError, match="closed before its end"):
            await task
        with pytest.raises(errors.StreamError, match="closed before its end"):
            await stream.__anext__()

    run(main())


@pytest.mark.parametrize("outcome", ["bytes", "end", "error"])
def test_bytes_that_are_read_in_the_moment_of_closing_are_not_delivered(run: Run, outcome: str) -> None:
    async def main() -> None:
        async def read() -> bytes:
            await stream.aclose()
            if outcome == "error":
                raise errors.TransportError("lost")
            return encode_part(b"x") if outcome == "bytes" else b""

        source = Source(read)
        stream, fake = scripted(lambda: asyncio.sleep(0, source))
        with pytest.raises(errors.StreamError, match="closed before its end"):
            await stream.__anext__()
        assert (source.closed, fake.finished) == (1, [None])

    run(main())


def test_a_second_task_that_reads_one_stream_is_refused(run: Run, emulator: Emulator) -> None:
    async def main() -> None:
        async with endpoint(emulator.url) as called:
            emulator.inject("stall_before_headers", times=1)
            async with contextlib.AsyncExitStack() as stack:
                stream = called.stream(b"Hello")
                stack.push_async_callback(stream.aclose)
                first = asyncio.ensure_future(stream.__anext__())
                await turns()
                with pytest.raises(errors.ConfigurationError, match="another task"):
                    await stream.__anext__()
                first.cancel()
                await asyncio.wait({first})

    run(main())
