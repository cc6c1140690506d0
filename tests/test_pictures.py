"""The pictures of the documentation: a script makes them of real programs, and pages show them."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import sys
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
SCRIPT = DOCS / "pictures" / "terminal.py"
pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not SCRIPT.exists(), reason="there are no pseudo-terminals, or no documentation"
)


def texts(picture: str) -> str:
    """The text that a picture shows."""
    root = xml.etree.ElementTree.fromstring(picture)
    return "\n".join(node.text or "" for node in root.iter() if node.tag.endswith("text")).replace("\xa0", " ")


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"{path.stem}_pictures", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    module = load(SCRIPT)
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    return module


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("stream", r"hospital for 3 days\.\n.*Peter stayed with her\n.*StreamTruncatedError.*\n1\n"),
        ("chat", r"How long did Peter stay\?.*Peter stayed\s+3 days.*arrived, and\s+read.*first text after"),
        ("batch", r"3\d\d of 600 rows.*rows/s"),
        ("doctor", r"127.0.0.1 port 18080.*FAILED.*CUDA\s+out\s+of\s+memory.*log group"),
    ],
)
def test_the_script_makes_a_picture_of_the_running_program(name: str, shown: str, script: Any, tmp_path: Path) -> None:
    script.main([name])
    picture = (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
    assert re.search(shown, texts(picture), re.DOTALL)
    assert not re.search(r"""href=|src=|@import|url\((?!#)""", picture)  # a picture loads nothing


def test_a_streamed_answer_appears_word_by_word_and_is_whole_without_animations(script: Any, tmp_path: Path) -> None:
    script.main(["stream"])
    root = xml.etree.ElementTree.parse(tmp_path / "stream.svg").getroot()
    rectangles = [node for node in root.iter() if node.tag.endswith("rect")]
    (moved,) = [node for node in rectangles if len(node)]
    widths = [float(width) for width in moved[0].attrib["values"].split(";")]
    assert widths == sorted(widths)
    assert widths[-1] == float(moved.attrib["width"])
    assert "repeatCount" not in moved[0].attrib


def test_the_script_makes_a_picture_of_a_sweep(tmp_path: Path) -> None:
    asyncio.run(load(SCRIPT.with_name("bench.py")).main(tmp_path, 9))
    assert "throughput, requests/s" in texts((tmp_path / "bench.svg").read_text(encoding="utf-8"))


def test_every_picture_is_on_a_page_and_every_page_s_picture_is_there() -> None:
    shown = set()
    for page in DOCS.rglob("*.md"):
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            shown.add((page.parent / target).resolve())
    assert shown == set((DOCS / "pictures").glob("*.svg"))
