"""Cancellation at every single await of every operation: it passes unchanged, and nothing is left behind.

The canceller wraps every coroutine that an operation runs, those in tasks of its own included, and counts their awaits.
At the n-th it cancels the operation: as the await begins, or as its result is there. Then comes n + 1, until the
operation ends before it is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import select
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import servers
from async_loops import PATIENCE, Run, make_endpoint, settled, until
from clocks import FakeClock
from inside import in_use, transport_of
from servers import Peer, Server, server_context

from smendpoint import AsyncEndpoint, RetryPolicy, errors
from smendpoint.emulator import Emulator
from smendpoint.handlers import BytesHandler

MESSAGE = "by the test"


class Canceller:
    """Cancels a task at the n-th await of all that run for it.

    Args:
        number: which one, from 1.
        late: whether the result of what is awaited has come.
    """

    def __init__(self, number: int, *, late: bool) -> None:
        self.left = number
        self.late = late
        self.task: asyncio.Task[Any] | None = None

    def factory(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        """Makes every task one whose awaits are counted."""
        return asyncio.Task(Watched(self, coroutine), loop=loop, **options)

    def step(self, future: Any) -> None:
        """An await begins."""
        self.left -= 1
        if self.left == 0 and self.task is not None:
            if self.late and future is not None:
                future.add_done_callback(self._cancel)
            else:
                self._cancel()

    def _cancel(self, _: object = None) -> None:
        assert self.task is not None
        self.task.cancel(MESSAGE)

    @property
    def done(self) -> bool:
        """Whether there were not so many awaits."""
        return self.left > 0


class Watched(Coroutine[Any, Any, Any]):
    """A coroutine whose awaits are counted."""

    def __init__(self, canceller: Canceller, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._canceller = canceller
        self._coroutine = coroutine

    def send(self, value: Any) -> Any:
        future = self._coroutine.send(value)
        self._canceller.step(future)
        return future

    def throw(self, *error: Any) -> Any:
        future = self._coroutine.throw(*error)
        self._canceller.step(future)
        return future

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise AssertionError("only tasks run it")


class Ground:
    """A server, and endpoints for it."""

    def __init__(self, emulator: Emulator, url: str, **options: Any) -> None:
        self.emulator = emulator
        self.url = url
        self.options = options

    @contextlib.asynccontextmanager
    async def endpoint(self) -> AsyncIterator[AsyncEndpoint[Any, Any, Any]]:
        called = make_endpoint(
            self.url,
            content_handler=BytesHandler(),
            retry=RetryPolicy(max_attempts=2),
            clock=FakeClock(),
            **self.options,
        )
        try:
            yield called
        finally:
            await called.aclose()


Operation = Callable[[AsyncEndpoint[Any, Any, Any], Emulator], Awaitable[Any]]


async def cold(called: AsyncEndpoint[Any, Any, Any], _: Emulator) -> None:
    assert await called.invoke(b"Hello")


async def warm(called: AsyncEndpoint[Any, Any, Any], _: Emulator) -> None:
    assert await called.invoke(b"Hello")
    assert (await called.send(b"Hello")).attempts


async def retried(called: AsyncEndpoint[Any, Any, Any], emulator: Emulator) -> None:
    emulator.inject("status_503", times=1)
    assert await called.invoke(b"Hello")


async def large(called: AsyncEndpoint[Any, Any, Any], _: Emulator) -> None:
    assert await called.invoke(bytes(1_500_000))


async def stream_entered(called: AsyncEndpoint[Any, Any, Any], _: Emulator) -> None:
    async with called.stream(b"Hello. What?") as stream:
        assert [chunk async for chunk in stream]


async def stream_dripping(called: AsyncEndpoint[Any, Any, Any], emulator: Emulator) -> None:
    emulator.inject("slice_29", times=1)
    assert [chunk async for chunk in called.stream(b"Hello. What?")]


async def relayed(called: AsyncEndpoint[Any, Any, Any], _: Emulator) -> None:
    async def relay() -> AsyncIterator[bytes]:
        async with called.stream(b"Hello. What?") as stream:
            async for chunk in stream:
                yield chunk

    async with contextlib.aclosing(relay()) as chunks:
        assert [chunk async for chunk in chunks]


async def several(called: AsyncEndpoint[Any, Any, Any], _: Emulator) -> None:
    async with contextlib.aclosing(called.map([b"Hello"] * 4, max_concurrency=2)) as outputs:  # type: ignore[type-var]
        assert len([output async for output in outputs]) == 4


async def several_read(called: AsyncEndpoint[Any, Any, Any], _: Emulator) -> None:
    async def inputs() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield b"Hello"

    outputs: Any = called.map(inputs(), max_concurrency=2, ordered=False)
    async with contextlib.aclosing(outputs):
        assert len([output async for output in outputs]) == 3


async def queued(called: AsyncEndpoint[Any, Any, Any], _: Emulator) -> None:
    assert all(await asyncio.gather(*(called.invoke(b"Hello") for _ in range(3))))


OPERATIONS = {
    operation.__name__: operation
    for operation in (
        cold,
        warm,
        retried,
        large,
        stream_entered,
        stream_dripping,
        relayed,
        several,
        several_read,
        queued,
    )
}


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


async def check(ground: Ground, operation: Operation, number: int, *, late: bool) -> bool:
    """Cancel one operation once, and check that nothing is left; gives whether it ended by itself."""
    emulator = ground.emulator
    loop = asyncio.get_running_loop()
    canceller = Canceller(number, late=late)
    async with ground.endpoint() as called:
        if operation is not cold:
            await transport_of(called).resolve()
        loop.set_task_factory(canceller.factory)  # type: ignore[arg-type]  # it is one
        canceller.task = task = loop.create_task(operation(called, emulator))  # type: ignore[arg-type]
        try:
            await asyncio.wait({task})
        finally:
            loop.set_task_factory(None)
        await settled()
        assert not canceller.task.cancelled() or not canceller.done
        if not task.cancelled():
            task.result()  # it ended before, or in the moment of, its cancellation
        elif sys.version_info >= (3, 11):
            with pytest.raises(asyncio.CancelledError, match=MESSAGE):
                await task
        emulator.clear_faults()
        assert in_use(called) == 0
        assert await called.invoke(b"Hello")
        assert in_use(called) == 0
    return canceller.done


async def check_all(ground: Ground, operation: Operation, *, late: bool) -> int:
    for number in itertools.count(1):
        if await check(ground, operation, number, late=late):
            return number
    raise AssertionError


LATE = pytest.mark.parametrize("late", [False, True], ids=["at the await", "at its result"])


@LATE
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_cancelled_at_any_await_it_passes_unchanged_and_leaves_nothing(
    run: Run, emulator: Emulator, name: str, late: bool
) -> None:
    options = {"max_connections": 1} if name in ("queued", "several") else {}
    assert run(check_all(Ground(emulator, emulator.url, **options), OPERATIONS[name], late=late)) > 3
    emulator.disconnected()


def ends_tls_for(emulator: Emulator) -> Callable[[Peer], None]:
    """A script: hand everything on. The emulator's own TLS is asyncio's, which warns on Python 3.10 when cut short."""

    def script(peer: Peer) -> None:
        tls: Any = peer.sock  # of which only one thread at a time may make use
        with socket.create_connection((emulator.host, emulator.port), timeout=PATIENCE) as upstream:
            while True:
                ready = [tls] if tls.pending() else select.select([tls, upstream], [], [], PATIENCE)[0]
                for source, sink in ((tls, upstream), (upstream, tls)):
                    if source in ready:
                        data = source.recv(65_536)
                        if not data:
                            return
                        sink.sendall(data)

    return script


@LATE
def test_cancelled_at_any_await_of_the_tls_handshake(
    run: Run, emulator: Emulator, late: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    servers.trust(monkeypatch, tmp_path)
    with Server(ends_tls_for(emulator), tls=server_context()) as server:
        assert run(check_all(Ground(emulator, server.url), warm, late=late)) > 3
        assert run(check_all(Ground(emulator, server.url), stream_entered, late=late)) > 3
        emulator.disconnected()


@LATE
def test_cancelled_at_any_await_on_the_way_through_a_proxy(
    run: Run, emulator: Emulator, late: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    servers.trust(monkeypatch, tmp_path)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Server(ends_tls_for(emulator), tls=server_context()) as server, servers.Proxy() as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        assert run(check_all(Ground(emulator, server.url), stream_entered, late=late)) > 3
        emulator.disconnected()


@LATE
def test_closing_can_be_cancelled_at_any_await_and_has_closed(run: Run, emulator: Emulator, late: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in itertools.count(1):
            canceller = Canceller(number, late=late)
            called = make_endpoint(emulator.url, content_handler=BytesHandler())
            await called.invoke(b"Hello")
            emulator.inject("stall_before_headers", times=1)
            call = asyncio.ensure_future(called.invoke(b"Hello"))
            await until(lambda: emulator.requests and emulator.requests[-1].fault)
            loop.set_task_factory(canceller.factory)  # type: ignore[arg-type]  # it is one
            canceller.task = task = loop.create_task(called.aclose())
            await asyncio.wait({task, call})
            loop.set_task_factory(None)
            with pytest.raises(errors.EndpointError, match="the endpoint was closed"):
                await call
            await settled()
            with pytest.raises(errors.ConfigurationError, match="is closed"):
                await called.invoke(b"Hello")
            await called.aclose()
            emulator.clear_faults()
            if canceller.done:
                break

    run(main())
    emulator.disconnected()
