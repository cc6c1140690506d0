"""The display of ``smendpoint bench``: its progress on standard error, and its report on standard output."""

from __future__ import annotations

import asyncio
import itertools
import math
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from smendpoint.bench._records import figure, percentile
from smendpoint.cli._terminal import LINE_SECONDS, Terminal, progress_display

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from typing_extensions import Self

    from smendpoint.bench import Load, Record, Run
    from smendpoint.errors import SmendpointError

TABLE_SECONDS = 0.25
"""Seconds between two updates of the table on a terminal."""

LATEST_ANSWERS = 200
"""The number of latest answers whose latencies the table shows while a load is running."""

MAX_LAG_MILLISECONDS = 20.0
"""How late the event loop may be, and requests be sent, in milliseconds, before the command warns."""

_METRICS = {
    "ttft": "first output (TTFT)",
    "tpot": "each token after it (TPOT)",
    "itl": "between pieces (ITL)",
    "e2el": "whole answer (E2EL)",
}
_COLUMNS = ("mean", "std", "median", "p90", "p99")
_COUNTED = {"chunks": "counted as chunks", "mixed": "some counted as chunks"}


def load_name(load: Load) -> str:
    """Name a load."""
    if load.concurrency is not None:
        return f"{load.concurrency} at once"
    return "all at once" if load.rate == math.inf else f"{load.rate:g} requests/s due"


def write_run(run: Run) -> None:
    """Write all figures of a load."""
    report, terminal = run.report, Terminal()
    terminal.title(load_name(run.load))
    errors = ", ".join([f"{name} {count}" for name, count in report["errors"].items()])
    terminal.row("answered", f"{report['completed']:,} in {figure(report['duration'])} s")
    terminal.row("failed", f"{report['failed']:,}" + (f": {errors}" if errors else ""))
    terminal.row("requests/s", figure(report["request_throughput"]))
    if run.goals:
        wanted = ", ".join([f"{name} {limit:g} ms" for name, limit in run.goals.items()])
        terminal.row("requests/s that met the goals", f"{figure(report['request_goodput'])} ({wanted})")
    if report["total_input_tokens"] or report["total_output_tokens"]:
        counted = _COUNTED.get(report["token_counts"])
        terminal.row("output tokens/s", figure(report["output_throughput"]) + (f" ({counted})" if counted else ""))
    if report["total_input_tokens"]:
        terminal.row("input and output tokens/s", figure(report["total_token_throughput"]))
    if report["completed"]:
        terminal.row("milliseconds", "".join([f" {name:>7}" for name in _COLUMNS]))
        for metric, label in _METRICS.items():
            if report[f"mean_{metric}_ms"] is not None:
                cells = [figure(report[f"{name}_{metric}_ms"]) for name in _COLUMNS]
                terminal.row(label, "".join([f" {cell:>7}" for cell in cells]))


def write_sweep(runs: Sequence[Run], sentence: str) -> None:
    """Write a line for each load, and the result."""
    rows = [_HEADINGS, *[_row(run.load, run.report) for run in runs]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        print(
            f"{first:<{widths[0]}}"
            + "".join([f"  {cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True)])
        )
    if sentence:
        Terminal().sentence(sentence)


def first_failures(runs: Sequence[Run]) -> Iterable[SmendpointError]:
    """Return one error of each class, from the first load that has it."""
    found: dict[str, SmendpointError] = {}
    for run in runs:
        found = {name: error for name, error in run.failures.items() if name in run.report["errors"]} | found
    return found.values()


def doubts(runs: Sequence[Run]) -> Iterator[str]:
    """Yield the reasons why the figures are less certain."""
    reports = [run.report for run in runs]
    lag = max([report[name] or 0.0 for report in reports for name in ("p99_client_lag_ms", "p99_send_lag_ms")])
    if lag > MAX_LAG_MILLISECONDS:
        yield (
            f"this program itself was up to {figure(lag)} ms late (99th percentile), and the figures include that:"
            " use a machine with more free CPU, or a smaller load"
        )
    if any(report["cold_starts"] for report in reports):
        yield "the model was not ready for some requests: wait until it is, and measure again"


class Lines:
    """Writes a line from time to time, and one for each load.

    Attributes:
        every: seconds between two looks at the running load.
    """

    every = LINE_SECONDS

    async def follow(self, runs: Sequence[Run]) -> None:
        """Show the running load, the last one that was started, from time to time."""
        while True:
            await asyncio.sleep(self.every)
            if runs:
                self.progress(runs[-1])

    def progress(self, run: Run) -> None:
        """Show the running load."""
        failed = sum([bool(record.error) for record in run.records])
        self.write(f"{load_name(run.load)}: {len(run.records) - failed:,} answered, {failed:,} failed so far")

    def finished(self, run: Run) -> None:
        """Handle a load that is over."""
        report = run.report
        self.write(
            f"{load_name(run.load)}: {report['completed']:,} answered, {report['failed']:,} failed,"
            f" {figure(report['request_throughput'])} requests/s, median {figure(report['median_e2el_ms'])} ms"
        )

    def write(self, line: str) -> None:
        """Write a line."""
        print(line, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass


class Quiet(Lines):
    """Shows nothing."""

    def write(self, line: str) -> None:
        """Ignore a line."""


class Table(Lines):
    """Draws a table with a row for each load. It needs rich (the extra ``smendpoint[cli]``).

    Raises:
        ImportError: rich is not installed.
    """

    every = TABLE_SECONDS

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.live import Live

        self._rows: list[tuple[str, ...]] = []
        self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
        self._counts: _Counts | None = None

    def progress(self, run: Run) -> None:
        """Show the running load, with the latencies of its latest answers."""
        if self._counts is None or self._counts.run is not run:
            self._counts = _Counts(run)
        self._draw([*self._rows, _row(run.load, self._counts.figures(asyncio.get_running_loop().time()))])

    def finished(self, run: Run) -> None:
        """Handle a load that is over."""
        self._rows.append(_row(run.load, run.report))
        self._draw(self._rows)

    def _draw(self, rows: Sequence[tuple[str, ...]]) -> None:
        from rich.table import Table as Drawn

        table = Drawn(box=None, header_style="bold", pad_edge=False)
        for index, name in enumerate(_HEADINGS):
            table.add_column(name, justify="right" if index else "left", style=None if index else "cyan")
        for row in rows:
            table.add_row(*row)
        self._live.update(table, refresh=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.stop()


class _Counts:
    """The counts of a running load. They look at each request only once, to save time."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._seen = 0
        self._tokens = 0
        self._latest: deque[Record] = deque(maxlen=LATEST_ANSWERS)
        self._answered = 0

    def figures(self, now: float) -> dict[str, Any]:
        """Return the figures of a row, at a moment of the event loop's clock."""
        records = self.run.records
        for record in itertools.islice(records, self._seen, None):
            if not record.error:
                self._answered += 1
                self._tokens += record.tokens
                self._latest.append(record)
        self._seen = len(records)
        seconds = (now - records[0].due if records else 0.0) or math.inf
        ttft = sorted([1e3 * value for record in self._latest for value in record.ttft])
        e2el = sorted([1e3 * value for record in self._latest for value in record.e2el])
        return {
            "completed": self._answered,
            "failed": self._seen - self._answered,
            "request_throughput": self._answered / seconds,
            "output_throughput": self._tokens / seconds,
            "median_ttft_ms": percentile(ttft, 50) if ttft else None,
            "median_e2el_ms": percentile(e2el, 50) if e2el else None,
            "p99_e2el_ms": percentile(e2el, 99) if e2el else None,
        }


_HEADINGS = ("load", "answered", "failed", "requests/s", "tokens/s", "TTFT ms", "E2EL ms", "p99 ms")
_FIGURES = ("request_throughput", "output_throughput", "median_ttft_ms", "median_e2el_ms", "p99_e2el_ms")


def _row(load: Load, report: Mapping[str, Any]) -> tuple[str, ...]:
    counts = [f"{report[field]:,}" for field in ("completed", "failed")]
    return load_name(load), *counts, *[figure(report[field] or None) for field in _FIGURES]


def display(*, quiet: bool) -> Lines:
    """Return the progress display, for use inside ``with``."""
    return progress_display(quiet, Quiet, Lines, Table)
