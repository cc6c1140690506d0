"""The tutorial as a reader follows it: the files are saved, the commands run, and print what the pages say."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

import pytest
from page_examples import FENCE, ROOT

PAGES = sorted((ROOT / "docs" / "tutorial").glob("*.md"))
NAME = re.compile(r"[Ss]ave \w+(?: \w+)* as\s`(\w+\.py)`")
PROMPT = ("smendpoint emulator -- python", "smendpoint emulator -- python -i documents.py")
pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="the commands are for a POSIX shell"),
    pytest.mark.skipif(not PAGES, reason="the documentation is not here"),
]


class Step(NamedTuple):
    """A file to save, or commands to run; then what is typed and what is printed."""

    name: str
    text: str
    printed: str


def steps(page: str) -> list[Step]:
    """Give what the page tells a reader to do, in order."""
    found: list[Step] = []
    end = 0
    for fence in FENCE.finditer(page):
        between, (language, _, body) = page[end : fence.start()], fence.groups()
        named = NAME.findall(between)
        if language == "sh":
            found.append(Step("", body, ""))
        elif language == "python":
            found.append(Step(named[-1] if named else "typed", body, ""))
        elif language == "text" and not between.strip():
            found[-1] = found[-1]._replace(printed=body)
        end = fence.end()
    return found


def test_a_page_is_read_as_files_and_commands() -> None:
    page = "Save this as `a.py`:\n\n```python\nx\n```\n\n```sh\npython a.py\n```\n\n```text\ny\n```\n"
    assert steps(page) == [Step("a.py", "x\n", ""), Step("", "python a.py\n", "y\n")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_print_what_it_says(page: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    installed = "smendpoint" in entry_points(group="pytest11").names
    options = {
        "python": "",
        "smendpoint": "-m smendpoint",
        "pytest": "-m pytest" if installed else "-m pytest -p smendpoint.pytest_plugin",
    }
    for name, option in options.items():
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {option} "$@"\n')
        program.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST"))}
    environment |= {
        "PATH": os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "PYTHONSTARTUP": "",
    }
    todo = steps(page.read_text(encoding="utf-8"))
    assert todo
    for number, (name, text, printed) in enumerate(todo):
        if name.endswith(".py"):
            (tmp_path / name).write_text(text)
        elif not name and not text.startswith("python3 -m venv"):
            typed = "".join([after.text + "\n" for after in todo[number + 1 :] if after.name == "typed"])
            at_prompt = text.strip() in PROMPT
            if at_prompt:
                printed = "...\n" if " -i " in text else ""
                printed += "".join([after.printed for after in todo[number + 1 :] if after.name == "typed"])
            done = subprocess.run(
                ["sh", "-c", text],
                cwd=tmp_path,
                env=environment,
                input=typed if at_prompt else "",
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL if at_prompt else subprocess.STDOUT,
                text=True,
                timeout=300,
            )
            same = doctest.OutputChecker().check_output(printed, done.stdout, doctest.ELLIPSIS)
            assert same, f"{text}expected\n{printed}\nprinted\n{done.stdout}"
