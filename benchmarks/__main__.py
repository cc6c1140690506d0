"""``python -m benchmarks [NAME ...]``: run all benchmarks, or those that are named, and print one table."""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata

from benchmarks.harness import Row, run, stub, table

BENCHMARKS = {
    "sync": "calls:sync",
    "async": "calls:concurrent",
    "stream": "streams:tokens",
    "loop": "streams:loop",
    "thousand": "streams:thousand",
    "flat": "streams:flat",
    "frame": "frames:frame",
    "import": "processes:imports",
    "cold": "processes:cold",
    "size": "processes:size",
    "capacity": "capacity:capacity",
    "batch": "batches:batch",
    "serve": "serving:serve",
}


def main() -> int:
    """Run, print, and say with the exit status whether a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all where none is given")
    parser.add_argument("--scale", type=float, default=1.0, help="how much to do in each round (default 1)")
    parser.add_argument("--rounds", type=int, default=7, help="how many turns each side has (default 7)")
    parser.add_argument(
        "--events", type=int, default=1_000_000, help="length of the stream of `flat` (default 1,000,000)"
    )
    parser.add_argument(
        "--rows", type=int, default=100_000, help="rows of the batch whose memory is measured (default 100,000)"
    )
    parser.add_argument(
        "--litellm", metavar="PROGRAM", help="LiteLLM's program, for `serve`; by default that on the path"
    )
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(BENCHMARKS)}")
    rows: list[Row] = []
    with stub(arguments.scale, arguments.rounds, arguments.events, arguments.rows, arguments.litellm) as context:
        for name in arguments.names or BENCHMARKS:
            print(f"{name} ...", file=sys.stderr, flush=True)
            # Each benchmark runs in its own process, so that the memory of one does not affect the next.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                rows += process.submit(run, BENCHMARKS[name], context).result()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("botocore", "boto3", "aiobotocore"))
    print(f"Python {platform.python_version()}, {versions}; figures are medians of turns taken by both sides\n")
    print(table(rows))
    return int(any(row.holds is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
