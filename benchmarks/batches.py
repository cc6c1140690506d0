"""A batch next to the bare `map`: the time that its ledger takes, and whether memory grows with the rows."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.calls import EXPECTED, rate
from benchmarks.harness import Context, Row, by_turns, compared, ratios, timed
from benchmarks.streams import resident

ROWS = 20_000  # of each turn
IN_FLIGHT = 16
SETTLED = 10_000  # rows after which memory is to be flat


def batch(context: Context) -> list[Row]:
    """Time of `batch.run` and `batch.arun` over that of `map`, and the memory of a long batch."""
    count = min(context.times(ROWS), context.rows)
    table = []
    for label, ours, bare in (("", run, mapped), (", async", arun, async_mapped)):
        mine, theirs = by_turns(
            min(context.rounds, 3),
            lambda work=ours: timed(lambda: work(context.plain, prompts(count)), count),
            lambda work=bare: timed(lambda: work(context.plain, prompts(count), count), count),
        )
        a, b = [turn.wall for turn in mine], [turn.wall for turn in theirs]
        rates = {"batch": [1 / turn for turn in a], "map": [1 / turn for turn in b]}
        row = compared(
            f"rows of a batch, time{label}", rates, rate, target=("<=", 1.5), key="batch-async" if label else "batch"
        )
        table.append(row._replace(figures=ratios(a, b)))
    return [*table, *memory(context)]


def prompts(count: int) -> Iterator[str]:
    """Give the inputs of a batch."""
    return (f"Input {number}" for number in range(count))


def run(url: str, inputs: Iterator[str]) -> None:
    """Run a batch with threads."""
    from smendpoint import Endpoint, batch

    with tempfile.TemporaryDirectory() as folder, Endpoint("answer", endpoint_url=url) as endpoint:
        summary = batch.run(endpoint, inputs, Path(folder, "ledger.jsonl"), max_concurrency=IN_FLIGHT)
    assert summary.failed == 0


def arun(url: str, inputs: Iterator[str]) -> None:
    """Run a batch with tasks."""
    from smendpoint import AsyncEndpoint, batch

    async def work() -> None:
        async with AsyncEndpoint("answer", endpoint_url=url) as endpoint:
            summary = await batch.arun(endpoint, inputs, Path(folder, "ledger.jsonl"), max_concurrency=IN_FLIGHT)
        assert summary.failed == 0

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(work())


def mapped(url: str, inputs: Iterator[str], count: int) -> None:
    """Make the same calls with `Endpoint.map`, and drop the outputs."""
    from smendpoint import Endpoint

    with Endpoint("answer", endpoint_url=url) as endpoint:
        outputs = endpoint.map(inputs, max_concurrency=IN_FLIGHT, ordered=False)
        assert sum(output == EXPECTED for output in outputs) == count


def async_mapped(url: str, inputs: Iterator[str], count: int) -> None:
    """Make the same calls with `AsyncEndpoint.map`, and drop the outputs."""
    from smendpoint import AsyncEndpoint

    async def work() -> None:
        async with AsyncEndpoint("answer", endpoint_url=url) as endpoint:
            outputs = endpoint.map(inputs, max_concurrency=IN_FLIGHT, ordered=False)
            assert len([None async for output in outputs if output == EXPECTED]) == count

    asyncio.run(work())


def memory(context: Context) -> list[Row]:
    """How much memory a `map` and a batch take after their first 10,000 rows."""
    settled = min(SETTLED, context.rows // 2)
    marks: list[float] = []

    def inputs() -> Iterator[str]:
        for number, prompt in enumerate(prompts(context.rows)):
            if number in (0, settled):
                marks.append(resident())
            yield prompt
        marks.append(resident())

    mapped(context.plain, inputs(), context.rows)
    run(context.plain, inputs())
    rows = []
    # Of the index of a batch's ids, 12 MiB are in memory: a part of the cache of its file, and the bits of a filter.
    for name, (first, early, late), most in (("map", marks[:3], 1_024.0), ("batch", marks[3:], 16_384.0)):
        label, grown = f"memory growth of a {name}", late - early
        rows += [
            Row(f"{label}, first {settled:,} rows", f"{early - first:.0f} KiB", "", [early - first], "KiB"),
            Row(
                f"{label}, next {context.rows - settled:,} rows",
                f"{grown:.0f} KiB",
                "",
                [grown],
                "KiB",
                ("<=", most),
                f"memory-{name}",
                {f"{context.rows - settled:,} rows": [grown * 1024]},
            ),
        ]
    return rows
