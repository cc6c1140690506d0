"""Token streams: what each token costs, what a thousand at once do to the loop, and what stays in memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.calls import peer_client, run
from benchmarks.harness import Context, Cost, Row, by_turns, compared, kib, seconds, timed
from benchmarks.peers import Stream, boto3_stream, peers

if TYPE_CHECKING:
    from smendpoint import Endpoint

STREAMS, PACED = 1_000, 20  # at once, and how many tokens each has
TEXT = "".join(f" t{index % 10}" for index in range(1, 101))


def tokens(context: Context) -> list[Row]:
    """CPU for one token, decoded down to its text, against the peers' raw events, whose JSON nobody has read yet."""
    from smendpoint import AsyncEndpoint, Endpoint

    count = context.times(40) * 100
    expected = TEXT * (count // 100)
    rows = []
    for kind, url in (("", context.plain), (", TLS", context.tls)):
        with contextlib.ExitStack() as stack:
            endpoint = stack.enter_context(Endpoint(f"tokens-{count}", endpoint_url=url))
            sides: dict[str, Callable[[], Cost]] = {"smendpoint": partial(whole, endpoint, expected, count)}
            for peer in peers():
                if peer.stream is not None and (peer.name == "boto3" or not kind):
                    # Frameworks take a hundred microseconds for a token, so they need fewer of them.
                    some = count if peer.name == "boto3" else max(1, count // 10)
                    sides[peer.name] = partial(counted, stack.enter_context(peer.stream(url, f"tokens-{some}")), some)
            turns = by_turns(context.rounds, *sides.values())
        costs = {name: [turn.cpu for turn in one] for name, one in zip(sides, turns, strict=True)}
        rows.append(compared(f"streamed token, CPU{kind}", costs, target=("<=", 1 / 3), key="" if kind else "token"))

    # The same, but each token comes a millisecond after the one before, in a packet of its own: waking up and receiving
    # cost both sides the same.
    paced = context.times(500)
    name = f"paced-{paced}-1"
    with Endpoint(name, endpoint_url=context.plain) as slow, boto3_stream(context.plain, name) as slow_peer:
        turns = by_turns(
            min(3, context.rounds),
            lambda: timed(lambda: one_at_a_time(slow, paced), paced),
            partial(counted, slow_peer, paced),
        )
    costs = {name: [turn.cpu for turn in one] for name, one in zip(("smendpoint", "boto3"), turns, strict=True)}
    rows.append(compared("streamed token, CPU, one at a time", costs, key="token-paced"))

    async def ours_async() -> Cost:
        async with AsyncEndpoint(f"tokens-{count}", endpoint_url=context.plain) as endpoint:
            async with endpoint.stream("Hello", max_new_tokens=1):
                pass  # connections and credentials are made before the clock starts
            cpu, wall = time.process_time(), time.perf_counter()
            async with endpoint.stream("Hello") as chunks:
                received = [chunk async for chunk in chunks]
            cost = Cost((time.process_time() - cpu) / count, (time.perf_counter() - wall) / count)
        assert "".join(received) == expected
        return cost

    async def peer_async() -> Cost:
        arguments = {"EndpointName": f"tokens-{count}", "Body": b"{}"}
        async with peer_client(context, context.plain, 1) as client:
            cpu, wall = time.process_time(), time.perf_counter()
            response = await client.invoke_endpoint_with_response_stream(**arguments)
            received = 0
            async for event in response["Body"]:
                received += bool(event["PayloadPart"]["Bytes"])
            cost = Cost((time.process_time() - cpu) / count, (time.perf_counter() - wall) / count)
        assert received == count
        return cost

    mine, theirs = by_turns(
        context.rounds,
        lambda: run(ours_async(), asyncio.new_event_loop),
        lambda: run(peer_async(), asyncio.new_event_loop),
    )
    costs = {"smendpoint": [turn.cpu for turn in mine], "aiobotocore": [turn.cpu for turn in theirs]}
    rows.append(compared("streamed token, CPU, async", costs, target=("<=", 1 / 3), key="token-asyncio"))
    return rows


def whole(endpoint: Endpoint[Any, Any, Any], expected: str, count: int) -> Cost:
    """Read one stream down to its text."""

    def work() -> None:
        with endpoint.stream("Hello") as chunks:
            assert "".join(chunks) == expected

    return timed(work, count, settle=True)


def one_at_a_time(endpoint: Endpoint[Any, Any, Any], count: int) -> None:
    """Read one stream whose tokens come apart."""
    with endpoint.stream("Hello") as chunks:
        assert sum(1 for _ in chunks) == count


def counted(stream: Stream, count: int) -> Cost:
    """Read one stream of another client."""

    def work() -> None:
        assert sum(1 for token in stream() if token) == count

    return timed(work, count, settle=True)


class Heartbeat:
    """The longest time that the loop did not come round, in seconds, beyond the millisecond asked for."""

    interval = 0.001

    def __init__(self) -> None:
        self.longest = 0.0

    async def beat(self) -> None:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(self.interval)
            self.longest = max(self.longest, time.perf_counter() - started - self.interval)

    @contextlib.asynccontextmanager
    async def watching(self) -> Any:
        task = asyncio.create_task(self.beat())
        await asyncio.sleep(0)
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def consume(endpoint: Any, count: int, delays: list[float]) -> None:
    """Read one paced stream, whose chunks are the times at which they were written."""
    received = 0
    async with endpoint.stream("Hello") as chunks:
        async for chunk in chunks:
            delays.append(time.monotonic() - float(chunk))
            received += 1
    assert received == count


def loop(context: Context) -> list[Row]:
    """How long the loop is blocked while 100 streams start and run, and another endpoint is created and called."""
    from smendpoint import AsyncEndpoint

    async def ours() -> Cost:
        delays: list[float] = []
        async with (
            Heartbeat().watching() as heart,
            AsyncEndpoint("paced-20-50", endpoint_url=context.plain, max_connections=100) as endpoint,
        ):
            tasks = []
            for _ in range(100):
                tasks.append(asyncio.create_task(consume(endpoint, 20, delays)))
                await asyncio.sleep(0.002)
            async with AsyncEndpoint("answer", endpoint_url=context.plain) as another:
                await another.invoke("Hello")
            await asyncio.gather(*tasks)
        return Cost(0.0, heart.longest)

    async def idle() -> Cost:
        async with Heartbeat().watching() as heart:
            await asyncio.sleep(0.5)
        return Cost(0.0, heart.longest)

    mine, machine = by_turns(
        context.rounds, lambda: run(ours(), asyncio.new_event_loop), lambda: run(idle(), asyncio.new_event_loop)
    )
    a, b = [turn.wall for turn in mine], [turn.wall for turn in machine]
    figures = [value * 1e3 for value in a]
    return [Row("loop blocked, 100 streams", seconds(a), f"idle loop {seconds(b)}", figures, "ms", ("<=", 10.0))]


def thousand(context: Context) -> list[Row]:
    """A thousand streams of one process, 5 tokens a second each: the delay of a token, and the memory of a stream."""
    from smendpoint import AsyncEndpoint

    allow_files()
    streams, count = STREAMS, PACED

    async def ours() -> tuple[list[float], float, float]:
        delays: list[float] = []
        name = f"paced-{count}-200"
        async with AsyncEndpoint(name, endpoint_url=context.plain, max_connections=streams) as endpoint:
            await consume(endpoint, count, [])
            gc.collect()
            before = resident()
            async with Heartbeat().watching() as heart:
                tasks = [asyncio.create_task(consume(endpoint, count, delays)) for _ in range(streams)]
                await asyncio.sleep(count * 0.2 / 2)
                memory = (resident() - before) * 1024 / streams
                heart.longest = 0.0  # from here on all are connected, and none is being opened
                await asyncio.gather(*tasks)
        return sorted(delays[streams * count // 2 :]), memory, heart.longest

    events = asyncio.new_event_loop()
    try:
        turns = [events.run_until_complete(ours()) for _ in range(min(3, context.rounds))]
    finally:
        events.close()
    p99 = [delays[len(delays) * 99 // 100] for delays, _, _ in turns]
    middle = [statistics.median(delays) for delays, _, _ in turns]
    blocked = [longest for _, _, longest in turns]
    # Only the first turn grows the process: later ones use its memory again. So the peer has a process of its own.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        peer = process.submit(peer_memory, context).result()
    memory = turns[0][1]
    return [
        Row(
            "token delay, p99 of 1,000 streams",
            seconds(p99),
            f"median {seconds(middle)}",
            [v * 1e3 for v in p99],
            "ms",
            ("<=", 50.0),
            "delay",
            {"p99": p99, "median": middle},
        ),
        Row(
            "loop blocked, 1,000 streams",
            seconds(blocked),
            "",
            [v * 1e3 for v in blocked],
            "ms",
            ("<=", 50.0),
            "blocked",
            {"smendpoint": blocked},
        ),
        Row(
            "memory of a stream",
            kib([memory]),
            f"aiobotocore {kib([peer])}",
            [memory / 1024],
            "KiB",
            ("<=", 25.0),
            "memory-stream",
            {"smendpoint": [memory], "aiobotocore": [peer]},
        ),
    ]


def peer_memory(context: Context) -> float:
    """The memory of one of a thousand streams of aiobotocore, whose events nobody decodes."""
    arguments = {"EndpointName": f"paced-{PACED}-200", "Body": b"{}"}

    async def read(client: Any) -> None:
        response = await client.invoke_endpoint_with_response_stream(**arguments)
        async for event in response["Body"]:
            assert event["PayloadPart"]["Bytes"]

    async def work() -> float:
        async with peer_client(context, context.plain, STREAMS) as client:
            await read(client)
            gc.collect()
            before = resident()
            tasks = [asyncio.create_task(read(client)) for _ in range(STREAMS)]
            await asyncio.sleep(PACED * 0.2 / 2)
            memory = (resident() - before) * 1024 / STREAMS
            await asyncio.gather(*tasks)
        return memory

    allow_files()
    return asyncio.run(work())


def allow_files() -> None:
    """Allow this process a file descriptor for each stream."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard < 0 else max(soft, min(hard, 4_096)), hard))


def flat(context: Context) -> list[Row]:
    """Whether memory grows along one long stream."""
    from smendpoint import Endpoint

    count = max(10, context.events // 100) * 100
    marks = (1, count // 5, count)

    def measure(endpoint: Any) -> Iterator[float]:
        with endpoint.stream("Hello") as chunks:
            for number, _ in enumerate(chunks, 1):
                if number in marks:
                    yield resident()

    with Endpoint(f"tokens-{count}", endpoint_url=context.plain) as endpoint:
        first, early, late = measure(endpoint)
    # Delivered chunks stay in `received` up to a limit, for an error; after that memory does not grow.
    return [
        Row(f"memory growth, first {count // 5:,} events", f"{early - first:.0f} KiB", "", [early - first], "KiB"),
        Row(
            f"memory growth, next {count * 4 // 5:,} events",
            f"{late - early:.0f} KiB",
            "",
            [late - early],
            "KiB",
            ("<=", 1_024.0),
            "memory-flat",
            {f"{count * 4 // 5:,} tokens": [(late - early) * 1024]},
        ),
    ]


def resident() -> float:
    """The memory of this process in KiB: now where the system says so, else its maximum so far."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize() / 1_024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
