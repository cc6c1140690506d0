"""Every Python example of the README and the documentation runs, offline, and prints what it says it prints."""

from __future__ import annotations

import contextlib
import doctest
import gc
import io
import logging
import os
import re
import warnings
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest

from smendpoint import errors
from smendpoint.cli import COMMANDS, main
from smendpoint.emulator import FAULTS, Emulator
from smendpoint.emulator.personalities import PERSONALITIES

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    """A ``python`` block, and what it prints: the ``text`` block right after it. A page's examples share names."""

    line: int
    code: str
    output: str | None


def examples(page: str) -> list[Example]:
    found: list[Example] = []
    end = -1
    for fence in FENCE.finditer(page):
        language, body = fence.groups()
        if language == "python":
            found.append(Example(page.count("\n", 0, fence.start(2)), body, None))
            end = fence.end()
        elif language == "text" and end >= 0 and not page[end : fence.start()].strip():
            found[-1] = found[-1]._replace(output=body)
            end = -1
    return found


WITH_EXAMPLES = [page for page in PAGES if examples(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_a_page_run_and_print_what_it_says(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with Emulator() as emulator, mock.patch.dict(os.environ):  # examples may change it as well
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ |= {
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": emulator.url,
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            "AWS_DEFAULT_REGION": "us-west-2",
            "AWS_REGION": "us-west-2",
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        # Like most scripts, examples leave it to the end of the process to close what they opened.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            run(page)
            gc.collect()
        logging.getLogger("smendpoint").setLevel(logging.NOTSET)


def run(page: Path) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for line, code, output in examples(page.read_text(encoding="utf-8")):
        # Blank lines in front bring the page's own line numbers into tracebacks.
        program = compile("\n" * line + code, str(page), "exec", dont_inherit=True)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(program, names)
        if output is not None:
            got = printed.getvalue().rstrip() + "\n"
            same = doctest.OutputChecker().check_output(output, got, doctest.ELLIPSIS)
            assert same, f"{page}:{line}: expected\n{output}\nprinted\n{got}"


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
