"""The progress of ``smendpoint batch`` on standard error: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from smendpoint.cli._terminal import LINE_SECONDS, progress_display

if TYPE_CHECKING:
    from typing_extensions import Self

    from smendpoint.batch import Progress

BAR_WIDTH = 20


def duration(seconds: float) -> str:
    """Format a time, such as ``1:05:09``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def describe(progress: Progress) -> str:
    """Describe the progress of a batch in one line."""
    known = progress.done + progress.failed + progress.skipped + progress.failed_before
    of_all = "" if progress.total is None else f" of {progress.total:,}"
    parts = [f"{known:,}{of_all} rows", f"{progress.done:,} done", f"{progress.failed:,} failed"]
    if progress.skipped or progress.failed_before:
        parts.append(f"{progress.skipped + progress.failed_before:,} known from before")
    parts.append(f"{progress.rate:,.1f} rows/s")
    if progress.concurrency is not None:
        parts.append(f"concurrency {progress.concurrency}")
    parts.append(f"{progress.refusals:,} refusals")
    if progress.prompt_tokens or progress.completion_tokens:
        parts.append(f"{progress.prompt_tokens:,} + {progress.completion_tokens:,} tokens")
    parts.append(f"{duration(progress.elapsed)} so far")
    if progress.left is not None:
        parts.append(f"{duration(progress.left)} left")
    return ", ".join(parts)


class Quiet:
    """Shows nothing."""

    def __call__(self, progress: Progress) -> None:
        """Handle the current progress."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass


class Lines(Quiet):
    """Writes a line from time to time, by the batch's own clock."""

    def __init__(self) -> None:
        self._next = LINE_SECONDS

    def __call__(self, progress: Progress) -> None:
        if progress.elapsed >= self._next:
            self._next = progress.elapsed + LINE_SECONDS
            print(describe(progress), file=sys.stderr, flush=True)


class Bar(Quiet):
    """Draws a bar. It needs rich (the extra ``smendpoint[cli]``).

    Raises:
        ImportError: rich is not installed.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Display
        from rich.table import Column

        # The bar keeps its width; the text takes as many lines as it needs.
        bar = BarColumn(BAR_WIDTH, table_column=Column(min_width=BAR_WIDTH))
        text = TextColumn("{task.description}", markup=False, table_column=Column(ratio=1))
        self._display = Display(bar, text, console=Console(stderr=True), expand=True, transient=True)
        self._task = self._display.add_task("", total=None)

    def __call__(self, progress: Progress) -> None:
        known = progress.done + progress.failed + progress.skipped + progress.failed_before
        self._display.update(
            self._task, description=describe(progress), completed=known, total=progress.total, refresh=False
        )

    def __enter__(self) -> Self:
        self._display.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._display.stop()


def display(*, quiet: bool) -> Quiet:
    """Return the progress display, for use inside ``with``."""
    return progress_display(quiet, Quiet, Lines, Bar)
