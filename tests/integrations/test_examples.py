"""The examples of the pages on frameworks run where the framework is installed, and print what the page says.

No environment has both versions of the SageMaker SDK, and neither goes with the frameworks. To run its page, install
``pytest`` and ``sagemaker<3``, or ``sagemaker>=3``, in an environment of their own, and run this module there.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from page_examples import FRAMEWORKS, ROOT, examples, installed, run

OTHERS = {
    path.stem: sorted({example.needs for example in examples(path.read_text(encoding="utf-8")) if example.needs})
    for path in (ROOT / "docs" / "how-to").glob("coming-from-*.md")
}


@pytest.mark.parametrize("name", sorted(FRAMEWORKS))
def test_the_examples_of_a_page_run_and_print_what_it_says(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if find_spec(FRAMEWORKS[name]) is None:
        pytest.skip(f"{FRAMEWORKS[name]} is not installed")
    monkeypatch.chdir(tmp_path)
    run(ROOT / "docs" / "how-to" / f"{name}.md", tmp_path)


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_the_code_of_another_library_prints_what_ours_prints(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    run(ROOT / "docs" / "how-to" / f"{name}.md", tmp_path)
    missing = [needs for needs in OTHERS[name] if not installed(needs)]
    if missing:
        pytest.skip(f"the rest of the page ran, but this is not installed: {', '.join(missing)}")
