"""``python -m benchmarks [NAME ...]``: measure all, or what is named, and print one table."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks import charts, data, page
from benchmarks.harness import Row, run, stub, table

BENCHMARKS = {
    "sync": "calls:sync",
    "async": "calls:concurrent",
    "stream": "streams:tokens",
    "loop": "streams:loop",
    "thousand": "streams:thousand",
    "flat": "streams:flat",
    "frame": "frames:frame",
    "audio": "conversations:audio",
    "import": "processes:imports",
    "cold": "processes:cold",
    "size": "processes:size",
    "memory": "memory:memory",
    "capacity": "capacity:capacity",
    "sweep": "capacity:sweep",
    "batch": "batches:batch",
    "serve": "serving:serve",
}
# They run only where they are named: they take a quarter of an hour.
LONG = frozenset({"sweep"})


def parser() -> argparse.ArgumentParser:
    """Declare the arguments."""
    known = f"of {', '.join(BENCHMARKS)}; where none is given, all but {', '.join(LONG)}"
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.add_argument("names", nargs="*", metavar="NAME", help=known)
    made.add_argument("--scale", type=float, default=1.0, help="how much to do in each round (default 1)")
    made.add_argument("--rounds", type=int, default=5, help="how many turns each side has at most (default 5)")
    made.add_argument(
        "--events", type=int, default=1_000_000, help="length of the stream of `flat` (default 1,000,000)"
    )
    made.add_argument(
        "--rows", type=int, default=100_000, help="rows of the batch whose memory is measured (default 100,000)"
    )
    made.add_argument(
        "--litellm", metavar="PROGRAM", help="LiteLLM's program, for `serve`; by default that on the path"
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures, the machine, the date and versions")
    made.add_argument("--plot", type=Path, metavar="FOLDER", help="draw the charts; needs matplotlib")
    made.add_argument(
        "--page", type=Path, metavar="FILE", action="append", default=[], help="rewrite the marked figures of this page"
    )
    made.add_argument("--from", type=Path, metavar="FILE", dest="source", help="measure nothing: read this data file")
    return made


def main() -> int:
    """Measure, print, draw, and say with the exit status whether a target was missed."""
    declared = parser()
    arguments = declared.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        declared.error(f"unknown: {', '.join(unknown)}; known: {', '.join(BENCHMARKS)}")
    rows: list[Row] = []
    failed: list[str] = []
    if arguments.source is not None:
        figures = data.read(arguments.source)
    else:
        rows, failed = measure(arguments)
        figures = data.collected(rows, {name: getattr(arguments, name) for name in ("rounds", "scale")})
        versions = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
        print(f"{versions}; figures are medians of turns taken by all sides\n")
        print(table(rows))
    if arguments.json is not None:
        data.write(arguments.json, figures)
    if arguments.plot is not None:
        for path in charts.draw(arguments.plot, figures):
            print(path)
    for path in arguments.page:
        page.rewrite(path, figures)
    return int(bool(failed) or any(row.holds is False for row in rows))


def measure(arguments: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """Run the benchmarks, each in its own process, so that the memory of one does not affect the next.

    Returns:
        Their rows, and the names of those that failed: the figures of the others are kept.
    """
    rows: list[Row] = []
    failed: list[str] = []
    names = arguments.names or [name for name in BENCHMARKS if name not in LONG]
    with stub(arguments.scale, arguments.rounds, arguments.events, arguments.rows, arguments.litellm) as context:
        for name in names:
            print(f"{name} ...", file=sys.stderr, flush=True)
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                try:
                    rows += process.submit(run, BENCHMARKS[name], context).result()
                except Exception:
                    traceback.print_exc()
                    failed.append(name)
    return rows, failed


if __name__ == "__main__":
    sys.exit(main())
