"""Nothing is left behind: no socket at the server, no task, no warning, however a stream is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import servers
from async_loops import KINDS, PATIENCE, Run, make_endpoint, settled, turns, until
from clocks import FakeClock
from garbage import collect
from inside import idle_connections, in_use
from servers import server_context

from smendpoint import errors
from smendpoint.emulator import Emulator
from smendpoint.handlers import BytesHandler

ROOT = Path(__file__).resolve().parent.parent
STREAMS = int(os.environ.get("SMENDPOINT_STREAMS", "300"))
FAULTS = (None, None, "slice_29", "stall_mid_stream", "stall_before_headers", "status_503", "reset_mid_stream")
WAYS = ("read", "break", "aclose", "with", "generator", "cancel", "drop", "drop in a thread", "throw", "time out")


class Left(Exception):
    """An exception in the middle of a stream."""


async def relay(stream: Any) -> AsyncIterator[bytes]:
    async with stream:
        async for chunk in stream:
            yield chunk


async def use(called: Any, dice: random.Random) -> None:
    """One stream, read so far, and left in some way."""
    way = dice.choice(WAYS)
    chunks = dice.randrange(4)
    held = [called.stream(b"Peter went to hospital for three days. How long was Peter in hospital?")]
    try:
        if way == "generator":
            relayed = relay(held.pop())
            async for _ in relayed:
                if not chunks:
                    break
                chunks -= 1
            if dice.random() < 0.5:
                await relayed.aclose()
            return
        if dice.random() < 0.3:
            await held[0].__aenter__()
        while chunks:
            await held[0].__anext__()
            chunks -= 1
        if way == "read":
            async for _ in held[0]:
                pass
        elif way == "break":
            async for _ in held[0]:
                break
        elif way == "aclose":
            await held[0].aclose()
        elif way in ("with", "throw"):
            async with held[0]:
                if way == "throw":
                    raise Left
        elif way == "time out":
            waiting = asyncio.ensure_future(held[0].__anext__())
            waiting.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # retrieved in any case
            await turns(dice.randrange(20))
            waiting.cancel()  # as a limit of time does
            await asyncio.wait({waiting})
            with contextlib.suppress(asyncio.CancelledError):
                waiting.result()
        elif way == "drop in a thread":
            await asyncio.get_running_loop().run_in_executor(None, held.clear)
    except (StopAsyncIteration, Left):
        pass


async def one(called: Any, seed: int, *, stalls: bool) -> str:
    """One stream, perhaps cancelled at a random turn of the loop; gives how that ended.

    Args:
        called: the endpoint.
        seed: of what is left to chance.
        stalls: whether streams may wait for what will not come, and are to be cancelled at last.
    """
    dice = random.Random(seed)
    task = asyncio.ensure_future(use(called, dice))
    cancelled_at = dice.choice((dice.randrange(20), dice.randrange(200), dice.randrange(400), None))
    for turn in range(400):
        if task.done():
            break
        if turn == cancelled_at:
            task.cancel()
        await turns(1)
    if stalls:
        task.cancel()
    await asyncio.wait({task}, timeout=PATIENCE)
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    if error is not None and not isinstance(error, errors.SmendpointError):
        raise error
    return "failed" if error else "ended"


async def storm(called: Any, emulator: Emulator, count: int, width: int) -> dict[str, int]:
    """Many streams, some at a time, while the server misbehaves now and then."""
    outcomes: dict[str, int] = {}
    dice = random.Random(count)
    for start in range(0, count, width):
        fault = dice.choice(FAULTS)
        if fault is not None:
            emulator.inject(fault, times=dice.randrange(1, width))
        stalls = fault is not None and "stall" in fault
        streams = (one(called, start + index, stalls=stalls) for index in range(width))
        for outcome in await asyncio.gather(*streams):
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        emulator.clear_faults()
    return outcomes


@pytest.mark.parametrize("limit", [None, 3], ids=["unlimited", "queueing"])
def test_streams_cancelled_or_abandoned_at_random_leave_nothing(
    run: Run, emulator: Emulator, limit: int | None
) -> None:
    async def main() -> None:
        options: dict[str, Any] = {"content_handler": BytesHandler(), "max_connections": limit, "clock": FakeClock()}
        async with make_endpoint(emulator.url, **options) as called:
            outcomes = await storm(called, emulator, STREAMS, 25)
            assert outcomes["cancelled"]
            assert outcomes["ended"]
            collect()
            await settled()
            await turns()
            assert in_use(called) == 0
            await until(lambda: emulator.open_connections == len(idle_connections(called)))
            assert await called.invoke(b"Hello")
            assert b"".join([chunk async for chunk in called.stream(b"Hello")])
            print(f"\n{run.kind}, limit {limit}: {outcomes}, {emulator.total_connections} connections")

    run(main())
    emulator.disconnected()


@contextlib.asynccontextmanager
async def through_client(emulator: Emulator) -> AsyncIterator[Any]:
    """An endpoint that calls through an aiobotocore client."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    async with get_session().create_client(
        "sagemaker-runtime",
        region_name="us-east-1",
        endpoint_url=emulator.url,
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="secret",
        config=AioConfig(retries={"total_max_attempts": 1}, max_pool_connections=10),
    ) as client:
        yield make_endpoint("", client=client, content_handler=BytesHandler())


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_streams_through_a_client_leave_nothing_either(kind: str, emulator: Emulator) -> None:
    async def main() -> None:
        async with through_client(emulator) as called:
            await storm(called, emulator, STREAMS // 3, 25)
            collect()
            await settled()
            # aiohttp keeps idle connections; ten calls at once still go through.
            assert all(await asyncio.gather(*(called.invoke(b"Hello") for _ in range(10))))
            assert emulator.open_connections <= 10
            print(f"\n{kind}: {emulator.total_connections} connections")

    Run(kind)(main())
    emulator.disconnected()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_stream_through_a_client_that_is_dropped_before_its_failure_is_freed_at_once(
    kind: str, emulator: Emulator
) -> None:
    """aiohttp keeps the error that ended the connection: the traceback of a read in it led back to the stream."""

    def streams() -> int:
        return sum(type(thing).__name__ == "AsyncStream" for thing in gc.get_objects())

    async def main() -> None:
        async with through_client(emulator) as called:
            emulator.inject("fin_mid_frame")
            stream = await called.stream(b"Hello").open()
            await until(lambda: emulator.open_connections == 0)
            await turns()
            before = streams()
            assert await anext(stream)
            del stream
            assert streams() == before - 1

    collect()
    gc.disable()
    try:
        Run(kind)(main())
    finally:
        gc.enable()


def test_the_memory_that_calls_hold_does_not_grow(run: Run, emulator: Emulator) -> None:
    async def main() -> None:
        async with make_endpoint(emulator.url, content_handler=BytesHandler(), max_connections=4) as called:

            async def some(count: int) -> None:
                for seed in range(count):
                    await called.invoke(b"Hello")
                    async with called.stream(b"Hello") as stream:
                        async for _ in stream:
                            if seed % 2:
                                break

            await some(30)
            collect()
            tracemalloc.start()
            await some(30)
            collect()
            before, _ = tracemalloc.get_traced_memory()
            await some(60)
            collect()
            after, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            # The emulator, in this process, writes down each request: some kilobytes.
            assert after - before < 60 * 2 * 8192

    run(main())


PROGRAM = """
import asyncio, gc, sys, warnings
sys.path.insert(0, {root!r})
from smendpoint import AsyncEndpoint
from smendpoint.handlers import BytesHandler

url, kind, how = sys.argv[1:]
if kind == "uvloop":
    import uvloop
    new_loop = uvloop.new_event_loop
else:
    new_loop = asyncio.new_event_loop

endpoint = AsyncEndpoint(
    "my-llm", endpoint_url=url, region_name="us-east-1", aws_access_key_id="AKIDEXAMPLE",
    aws_secret_access_key="secret", content_handler=BytesHandler(),
)
kept = []

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60.0  # other programs may slow this one down
    assert await endpoint.invoke(b"Hello")
    if how == "stream":
        stream = endpoint.stream(b"Hello")
        await stream.__anext__()
        kept.append(stream)
    elif how == "map":
        outputs = endpoint.map([b"Hello"] * 9, max_concurrency=3)
        await outputs.__anext__()
        kept.append(outputs)
    elif how == "task":
        kept.append(asyncio.ensure_future(endpoint.invoke(b"Hello")))
        await asyncio.sleep(0)
    elif how == "closed":
        await endpoint.aclose()

def run(main):
    # As asyncio.run does it, whatever the version of Python, on either kind of loop.
    loop = new_loop()
    try:
        loop.run_until_complete(main)
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

asyncio.run(main()) if kind == "asyncio" else run(main())
if how != "closed":
    run(main())
if how == "fork":
    import os
    warnings.simplefilter("ignore")
    child = os.fork()
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        run(main())
    else:
        run(main())
"""


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("how", ["invoke", "stream", "map", "task", "closed", "fork"])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_nothing_warns_when_the_interpreter_ends(
    kind: str, how: str, tls: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if how == "fork" and (not hasattr(os, "fork") or tls):
        pytest.skip("this system does not fork, or that was tried without TLS")
    servers.trust(monkeypatch, tmp_path)
    with Emulator(ssl_context=server_context() if tls else None) as emulator:
        ended = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM.format(root=str(ROOT)), emulator.url, kind, how],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.stderr == ""
        assert ended.returncode == 0
        emulator.disconnected()
