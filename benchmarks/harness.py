"""Starting the stub, measuring by turns, and the table."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
# How long a process sleeps to see whether its threads still work, and when that is given up.
_IDLE_SECONDS = 0.02
_SETTLED_SECONDS = 10.0


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        figures: what the target is about, one for each round.
        key: names the figure in the data file; one without a key is printed and not kept.
        sides: each side's own figures, one for each round, in seconds, bytes, percent or a count; smendpoint's first.
    """

    what: str
    ours: str
    peer: str
    figures: Sequence[float]
    unit: str = "x"
    target: tuple[str, float] | None = None
    key: str = ""
    sides: Mapping[str, Sequence[float]] = {}

    @property
    def holds(self) -> bool | None:
        """Whether the median meets the target; ``None`` where there is none."""
        if self.target is None:
            return None
        median = statistics.median(self.figures)
        return median <= self.target[1] if self.target[0] == "<=" else median >= self.target[1]


class Context(NamedTuple):
    """The input of a benchmark: the stub's address, the environment that sets it, and the amount of work."""

    plain: str
    tls: str
    voice: str
    certificates: str
    scale: float
    rounds: int
    events: int
    rows: int
    litellm: str | None = None

    def times(self, count: int) -> int:
        """A count fitted to the scale that was asked for."""
        return max(1, int(count * self.scale))

    def environment(self, url: str) -> dict[str, str]:
        """The environment of a child process that calls the stub."""
        return {**os.environ, "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url}


@contextlib.contextmanager
def stub(scale: float, rounds: int, events: int, rows: int, litellm: str | None = None) -> Iterator[Context]:
    """Run the stub, and lead every AWS client of this process and its children to its credentials and certificates."""
    import trustme

    with tempfile.TemporaryDirectory() as folder:
        authority = trustme.CA()
        pem, certificates = str(Path(folder, "server.pem")), str(Path(folder, "ca.pem"))
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem)
        authority.cert_pem.write_to_path(certificates)
        # Without byte code, a process would compile what it imports: what is installed has been compiled.
        for name in [name for name in os.environ if name.startswith("AWS_") or name == "PYTHONDONTWRITEBYTECODE"]:
            del os.environ[name]
        os.environ.update(
            AWS_ACCESS_KEY_ID="AKIDEXAMPLE",
            AWS_SECRET_ACCESS_KEY="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            AWS_SESSION_TOKEN="A" * 400,  # temporary credentials, as on Lambda, EC2 and ECS; their tokens are long
            AWS_REGION="us-east-1",
            AWS_DEFAULT_REGION="us-east-1",
            AWS_CA_BUNDLE=certificates,
            AWS_CONFIG_FILE=str(Path(folder, "none")),
            AWS_SHARED_CREDENTIALS_FILE=str(Path(folder, "none")),
            AWS_EC2_METADATA_DISABLED="true",
            NO_PROXY="*",
            LITELLM_LOCAL_MODEL_COST_MAP="True",  # else importing LiteLLM downloads one
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.stub", pem], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            urls = json.loads(process.stdout.readline())
            yield Context(urls["plain"], urls["tls"], urls["voice"], certificates, scale, rounds, events, rows, litellm)
        finally:
            process.stdin.close()
            process.wait(10)
            process.stdout.close()


def run(place: str, context: Context) -> list[Row]:
    """Run one benchmark, ``module:function``, in this process."""
    module, function = place.split(":")
    rows: list[Row] = getattr(import_module(f"benchmarks.{module}"), function)(context)
    return rows


class Cost(NamedTuple):
    """The time of one unit of work, in seconds."""

    cpu: float
    wall: float


def timed(work: Callable[[], object], units: int, *, settle: bool = False) -> Cost:
    """Run something that does ``units`` of work.

    Args:
        work: what is run.
        units: how many of them it does.
        settle: count the CPU time that threads take afterwards, too: LiteLLM's log in the background, and the next
            side would pay for it.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    ended, wall = time.process_time(), time.perf_counter() - wall
    give_up = time.perf_counter() + _SETTLED_SECONDS
    while settle and time.perf_counter() < give_up:
        time.sleep(_IDLE_SECONDS)
        before, ended = ended, time.process_time()
        if ended - before < _IDLE_SECONDS / 20:
            break
    return Cost((ended - cpu) / units, wall / units)


def by_turns(rounds: int, *sides: Callable[[], Cost]) -> list[list[Cost]]:
    """Run the sides A B A B ..., after one turn each to warm up: what else the machine does falls on all of them."""
    for side in sides:
        side()
    # One side's imports are not to make the other's garbage collections slower.
    gc.collect()
    gc.freeze()
    turns = [[side() for side in sides] for _ in range(rounds)]
    return [list(column) for column in zip(*turns, strict=True)]


def ratios(ours: Sequence[float], peers: Sequence[float]) -> list[float]:
    """Ours over the peer's, turn by turn."""
    return [a / b for a, b in zip(ours, peers, strict=True)]


def compared(
    what: str,
    sides: Mapping[str, Sequence[float]],
    shown: Callable[[Sequence[float]], str] | None = None,
    *,
    target: tuple[str, float] | None = None,
    key: str = "",
) -> Row:
    """Make a row of several sides: smendpoint's, which is the first, and its ratio to the second."""
    shown = shown or seconds
    (_, ours), *peers = sides.items()
    peer = ", ".join(f"{name} {shown(values)}" for name, values in peers)
    return Row(what, shown(ours), peer, ratios(ours, peers[0][1]), target=target, key=key, sides=sides)


def kib(values: Sequence[float]) -> str:
    """The median of a number of bytes."""
    return f"{statistics.median(values) / 1024:,.1f} KiB"


def seconds(values: Sequence[float]) -> str:
    """The median, in the unit that reads best."""
    median = statistics.median(values)
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "us")):
        if median * factor >= 1:
            return f"{median * factor:.3g} {unit}"
    return f"{median * 1e9:.3g} ns"


def table(rows: Sequence[Row]) -> str:
    """All rows, aligned."""
    cells = [("", "smendpoint", "peer", "median (min to max)", "target", "")]
    for row in rows:
        low, middle, high = min(row.figures), statistics.median(row.figures), max(row.figures)
        spread = (
            f"{middle:.3g} ({low:.3g} to {high:.3g}) {row.unit}" if len(row.figures) > 1 else f"{middle:.3g} {row.unit}"
        )
        target = f"{row.target[0]} {row.target[1]:g}" if row.target else ""
        verdict = {None: "", True: "holds", False: "MISSED"}[row.holds]
        cells.append((row.what, row.ours, row.peer, spread, target, verdict))
    widths = [max(len(line[column]) for line in cells) for column in range(6)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )
