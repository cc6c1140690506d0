"""Pictures of what was measured."""

from __future__ import annotations

import heapq
import random
import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from smendpoint import errors
from smendpoint.bench import Load, Record, Run, plot


def simulated(clients: int, *, failing: float = 0.0, streamed: bool = True) -> Run:
    """Measure a queue with eight servers, of which each takes about a fifth of a second."""
    chance = random.Random(clients)
    servers, ready, records = [0.0] * 8, [0.0] * clients, []
    for _ in range(20 * clients):
        due = heapq.heappop(ready)
        began = max(due, heapq.heappop(servers))
        ended = began + chance.lognormvariate(-1.6, 0.3)
        heapq.heappush(servers, ended)
        heapq.heappush(ready, ended)
        error = "ThrottlingError" if chance.random() < failing else ""
        pieces = (began + 0.05, ended) if streamed else ()
        records.append(Record(due, due, pieces, ended, 10, 20, streamed, error))
    load = Load(concurrency=clients, count=len(records))
    return Run(load, records=records)


SWEEP = [simulated(1), simulated(4), simulated(8), simulated(16), simulated(32, failing=0.3), simulated(33)]


def texts(path: Path) -> str:
    root = xml.etree.ElementTree.fromstring(path.read_text(encoding="utf-8"))
    return "\n".join(["".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("text")])


def drawn(folder: Path, runs: Sequence[Run], **options: Any) -> str:
    path = folder / "picture.svg"
    plot(str(path), runs, **options)
    return texts(path)


def test_a_picture_of_a_sweep_shows_latency_against_throughput_and_the_knee(tmp_path: Path) -> None:
    shown = drawn(tmp_path, SWEEP, knee=8, title="my-llm").splitlines()
    assert {"my-llm", "throughput, requests/s", "latency, ms", "median", "99th percentile", "some failed"} <= {*shown}
    assert "Latency against throughput, by calls at once: about 8" in shown
    assert "How long requests take with 8 at once" in shown
    assert {"1", "4", "8", "16", "32"} <= {*shown}


def test_loads_whose_names_would_cover_each_other_are_not_all_named(tmp_path: Path) -> None:
    shown = drawn(tmp_path, [*SWEEP, Run(Load(concurrency=77, count=1), records=SWEEP[2].records)], knee=8)
    assert "77" not in shown.splitlines()


def test_a_sweep_without_a_knee_has_a_picture_too(tmp_path: Path) -> None:
    shown = drawn(tmp_path, SWEEP[:2]).splitlines()
    assert "Latency against throughput, by calls at once" in shown
    assert "some failed" not in shown


def test_a_picture_of_one_load_shows_its_course(tmp_path: Path) -> None:
    shown = drawn(tmp_path, [simulated(8, failing=0.2)]).splitlines()
    assert {"Requests in the course of the run", "answered", "failed", "first output (TTFT)"} <= {*shown}
    open_loop = Run(Load(rate=4.0, count=160), records=SWEEP[2].records)
    shown = drawn(tmp_path, [open_loop]).splitlines()
    assert "How long requests take" in shown
    assert "failed" not in shown


def test_whole_answers_have_no_first_output(tmp_path: Path) -> None:
    shown = drawn(tmp_path, [simulated(2, streamed=False)])
    assert "whole answer (E2EL)" in shown
    assert "first output" not in shown


def test_streams_without_output_have_no_first_output(tmp_path: Path) -> None:
    one = Record(0.0, 0.0, (), 1.0)
    load = Load(concurrency=1, count=1)
    assert "first output" not in drawn(tmp_path, [Run(load, records=[one])])


@pytest.mark.parametrize("end", ["svg", "pdf", "png"])
def test_the_same_figures_give_the_same_picture(end: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.{end}" for name in "ab"]
    for path in paths:
        plot(str(path), SWEEP, knee=8)
    first, second = [path.read_bytes() for path in paths]
    assert first == second
    assert first.startswith({"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}[end])


def test_a_picture_leaves_matplotlib_as_it_was(tmp_path: Path) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    plot(str(tmp_path / "a.svg"), SWEEP)
    assert dict(mpl.rcParams) == before
    program = "import sys; import smendpoint.bench; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout.strip() == b"False"


def test_a_picture_that_cannot_be_drawn_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"end with \.svg, \.png, \.pdf, unlike 'a\.gif'"):
        plot("a.gif", SWEEP)
    failed = simulated(1, failing=1.1)
    with pytest.raises(errors.ConfigurationError, match="nothing to draw"):
        plot(str(tmp_path / "a.svg"), [failed])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(errors.ConfigurationError, match=r"pip install 'smendpoint\[plot\]'"):
        plot(str(tmp_path / "a.svg"), SWEEP)
