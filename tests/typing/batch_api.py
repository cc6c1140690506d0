"""The types of batches. Checked by the type checkers, never run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from smendpoint import AsyncEndpoint, Endpoint, batch

if TYPE_CHECKING:
    from typing_extensions import assert_type


def blocking(endpoint: Endpoint[list[str], list[list[float]]]) -> None:
    summary = batch.run(endpoint, "rows.jsonl", Path("out.jsonl"), format="jsonl", max_errors="5%", batch_rows=32)
    assert_type(summary, batch.Summary)
    assert_type(summary.succeeded, bool)
    assert_type(summary.total, int | None)
    batch.run(endpoint, [["a"], ["b"]], "out.jsonl", progress=lambda progress: progress.done, temperature=0.5)
    batch.run(endpoint, Path("rows"), "out.jsonl", format="yaml")  # type: ignore[arg-type]  # pyright: ignore  # no such format
    batch.run(AsyncEndpoint("my-llm"), "rows.jsonl", "out.jsonl")  # type: ignore[arg-type]  # pyright: ignore  # the other twin


async def asynchronous(endpoint: AsyncEndpoint[str, str]) -> None:
    assert_type(await batch.arun(endpoint, (str(number) for number in range(3)), "out.jsonl"), batch.Summary)
