"""The examples of the pages on frameworks run where the framework is installed, and print what the page says."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from page_examples import FRAMEWORKS, ROOT, run


@pytest.mark.parametrize("name", sorted(FRAMEWORKS))
def test_the_examples_of_a_page_run_and_print_what_it_says(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if find_spec(FRAMEWORKS[name]) is None:
        pytest.skip(f"{FRAMEWORKS[name]} is not installed")
    monkeypatch.chdir(tmp_path)
    run(ROOT / "docs" / "how-to" / f"{name}.md", tmp_path)
