"""The data file of the benchmarks, the charts that are drawn from it, and the page that shows both."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "explanation" / "performance.md"
FIRST_PAGE = ROOT / "docs" / "index.md"
CONVERSATIONS = ROOT / "docs" / "reference" / "conversation.md"
FILE = ROOT / "docs" / "pictures" / "benchmarks.json"
# Only on Python 3.12 can all sides take part in the figures of conversations.
SOURCES = {FIRST_PAGE: FILE, PAGE: FILE, CONVERSATIONS: FILE.with_name("benchmarks-audio.json")}
SPACE = "\N{NO-BREAK SPACE}"
if not FILE.exists():
    pytest.skip("there is no documentation", allow_module_level=True)
sys.path.insert(0, str(ROOT))  # where the tests run against the installed package, the root is not on the path
try:
    from benchmarks import charts, data, page, wording
    from benchmarks.__main__ import BENCHMARKS
    from benchmarks.harness import Row, compared
finally:
    sys.path.remove(str(ROOT))


def texts(path: Path) -> list[str]:
    """The texts of a chart, in order."""
    root = xml.etree.ElementTree.fromstring(path.read_text(encoding="utf-8"))
    return ["".join(node.itertext()).strip().replace(SPACE, " ") for node in root.iter() if node.tag.endswith("text")]


@pytest.fixture
def figures() -> Any:
    """A small data file."""
    sides = {"smendpoint": [65e-6, 60e-6, 70e-6], "boto3": [0.91e-3, 0.9e-3, 0.98e-3], "LiteLLM": [6e-3, 6e-3, 7e-3]}
    goodput = {"goodput": [97.3], "lost": [0], "refused": [12]}
    rows = [
        compared("CPU", sides, key="call"),
        compared("not kept", sides),
        compared("memory", {"smendpoint": [21_000_000], "boto3": [45_700_000]}, key="memory-process"),
        Row("goodput", "", "", [97.3], key="capacity: Endpoint.map", sides=goodput),
    ]
    return data.collected(rows, {"rounds": 3, "scale": 1.0})


def test_a_data_file_has_the_median_the_range_and_the_ratio_of_each_side(figures: Any) -> None:
    assert figures["figures"]["call"]["sides"] == {
        "smendpoint": {"median": 6.5e-05, "low": 6e-05, "high": 7e-05, "ratio": 1},
        "boto3": {"median": 0.00091, "low": 0.0009, "high": 0.00098, "ratio": 14},
        "LiteLLM": {"median": 0.006, "low": 0.006, "high": 0.007, "ratio": 100},
    }
    assert list(figures["figures"]) == ["call", "memory-process", "capacity: Endpoint.map"]


def test_a_data_file_says_when_and_on_what_it_was_measured(figures: Any, tmp_path: Path) -> None:
    data.write(tmp_path / "folder" / "figures.json", figures)
    assert data.read(tmp_path / "folder" / "figures.json") == figures
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", figures["date"])
    assert {"Python", "smendpoint", "botocore", "boto3", "aiobotocore"} <= figures["versions"].keys()
    assert {"processor", "cores", "system"} <= figures["machine"].keys()


def test_charts_show_values_with_their_units_and_where_they_come_from(figures: Any, tmp_path: Path) -> None:
    drawn = {path.name: texts(path) for path in charts.draw(tmp_path, figures)}
    assert set(drawn) == {"benchmarks-call.svg", "benchmarks-memory.svg", "benchmarks-capacity.svg"}
    call = drawn["benchmarks-call.svg"]
    assert {"A call", "CPU time, ms", "smendpoint", "65 µs", "boto3", "910 µs", "LiteLLM", "6 ms"} <= {*call}
    assert figures["date"] in " ".join(call)
    assert f"Python {figures['versions']['Python']}" in " ".join(call)
    assert {"memory, MB", "21 MB", "46 MB"} <= {*drawn["benchmarks-memory.svg"]}
    assert {"Endpoint.map", "97 %"} <= {*drawn["benchmarks-capacity.svg"]}


def test_the_same_figures_give_the_same_charts(figures: Any, tmp_path: Path) -> None:
    first, second = (charts.draw(tmp_path / name, figures) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_chart_loads_nothing_and_has_a_ground_of_its_own(figures: Any, tmp_path: Path) -> None:
    for path in charts.draw(tmp_path, figures):
        picture = path.read_text(encoding="utf-8")
        assert not re.search(r"""src=|@import|url\((?!#)|href="(?!#)""", picture)
        assert "fill: #ffffff" in picture


def test_the_charts_of_the_page_show_the_figures_of_the_data_file(tmp_path: Path) -> None:
    drawn = charts.draw(tmp_path, data.read(FILE))
    assert {path.name for path in drawn} == {path.name for path in FILE.parent.glob("benchmarks-*.svg")}
    for path in drawn:
        assert texts(FILE.with_name(path.name)) == texts(path)


def test_the_figures_of_the_pages_are_those_of_the_data_files() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in SOURCES}
    assert {found[1] for text in texts.values() for found in page.MARKED.finditer(text)} == set(page.BLOCKS)
    assert {path: page.rewritten(text, data.read(SOURCES[path])) for path, text in texts.items()} == texts


@pytest.mark.parametrize("path", [PAGE, CONVERSATIONS], ids=lambda path: path.stem)
def test_outside_of_its_blocks_a_page_has_no_measured_figure(path: Path) -> None:
    text = page.MARKED.sub("", path.read_text(encoding="utf-8"))
    assert re.findall(r"\d[\d.,]*\s?(?:µs|kB|MB)\b|\d times", text) == []


def test_a_page_says_which_figure_it_misses(figures: Any) -> None:
    with pytest.raises(SystemExit, match="the page needs the figure 'token'"):
        page.rewritten(PAGE.read_text(encoding="utf-8"), figures)


def test_the_page_lists_every_benchmark() -> None:
    assert re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE) == list(BENCHMARKS)


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (65.4e-6, "s", "65 µs"),
        (0.000996, "s", "1 ms"),
        (0.91e-3, "s", "910 µs"),
        (0.0912, "s", "91 ms"),
        (1.62, "s", "1.6 s"),
        (17_300, "B", "17 kB"),
        (247_800_000, "B", "250 MB"),
        (0, "B", "0 kB"),
        (97.34, "%", "97 %"),
        (100.0, "%", "100 %"),
        (99.7, "%", "100 %"),
    ],
)
def test_a_quantity_has_two_digits_and_the_unit_in_which_it_reads_best(value: float, unit: str, shown: str) -> None:
    assert wording.quantity(value, unit).replace(SPACE, " ") == shown


def test_the_program_writes_a_data_file_and_draws_from_one(tmp_path: Path, figures: Any) -> None:
    def run(*arguments: str) -> str:
        program = [sys.executable, "-m", "benchmarks", *arguments]
        done = subprocess.run(program, cwd=ROOT, check=False, capture_output=True, text=True, env={**os.environ})
        assert done.returncode in (0, 1), done.stderr  # 1: on a machine at work a target may be missed
        return done.stdout

    written, file = tmp_path / "figures.json", tmp_path / "small.json"
    assert "16 MiB frame" in run("frame", "flat", "--events", "1000", "--rounds", "1", "--json", str(written))
    assert list(json.loads(written.read_text(encoding="utf-8"))["figures"]) == ["memory-flat"]
    data.write(file, figures)
    printed = run("--from", str(file), "--plot", str(tmp_path / "charts"))
    assert [Path(line).name for line in printed.splitlines()] == [
        "benchmarks-call.svg",
        "benchmarks-memory.svg",
        "benchmarks-capacity.svg",
    ]
