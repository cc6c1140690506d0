"""Every Python example of the README and the documentation runs, offline, and prints what it says it prints."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from page_examples import FRAMEWORKS, ROOT, examples, run

from smendpoint import errors
from smendpoint.cli import COMMANDS, main
from smendpoint.emulator import FAULTS
from smendpoint.emulator.personalities import PERSONALITIES

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Its examples are files that import each other: tests/test_tutorial.py saves them and runs pytest.
OF_FILES = ROOT / "docs" / "tutorial" / "testing.md"
WITH_EXAMPLES = [page for page in PAGES if page != OF_FILES and examples(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_a_page_run_and_print_what_it_says(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if page.stem in FRAMEWORKS and find_spec(FRAMEWORKS[page.stem]) is None:
        pytest.skip(f"tests/integrations runs them: {FRAMEWORKS[page.stem]} is not installed")
    monkeypatch.chdir(tmp_path)
    run(page, tmp_path)


def test_there_are_examples_and_every_part_of_the_documentation_has_some() -> None:
    parts = {page.relative_to(ROOT).parts[1] for page in WITH_EXAMPLES if page.parent != ROOT}
    assert {"tutorial", "how-to", "reference"} <= parts
    assert ROOT / "README.md" in WITH_EXAMPLES


def test_every_relative_link_leads_to_a_file() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_the_reference_lists_every_fault_and_every_personality() -> None:
    reference = ROOT / "docs" / "reference"
    emulator, handlers = ((reference / name).read_text(encoding="utf-8") for name in ("emulator.md", "handlers.md"))
    rows = [f"| `{one.name}` | {one.description} | {'yes' if one.harmless else 'no'} |" for one in FAULTS.values()]
    assert re.findall(r"^\| `.*\| (?:yes|no) \|$", emulator, re.MULTILINE) == rows
    assert {name for name in PERSONALITIES if f"`{name}`" not in handlers} == {"stand_in"}


def test_the_reference_lists_every_command_and_only_options_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    entries = re.findall(r"^`smendpoint (\w+)[^\n]*`\n: (.*?)(?=^`smendpoint|\Z)", page, re.DOTALL | re.MULTILINE)
    assert [name for name, _ in entries] == [command.__name__.rpartition("._")[2] for command in COMMANDS]
    for name, text in entries:
        with pytest.raises(SystemExit):
            main([name, "--help"])
        options = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
        assert set(re.findall(r"--[a-z][a-z-]*", text)) <= options


def test_the_reference_lists_every_error() -> None:
    table = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    roots = {"SmendpointError", "EndpointError", "StreamError"}
    assert {name for name in errors.__all__ if f"| `{name}` |" not in table} == roots
