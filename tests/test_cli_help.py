"""The help of every command, its examples, and completion in shells."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from smendpoint.cli import COMMANDS, _parser, main
from smendpoint.cli._completion import SHELLS

NAMES = [command.__name__.rpartition("._")[2] for command in COMMANDS]
EXAMPLES = [line for command in COMMANDS for line in command.EXAMPLES.strip().splitlines()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("columns", ["50", "80", "160"])
def test_the_help_of_every_command_ends_with_examples(
    name: str, columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    examples = text.partition("\nexamples:\n")[2].splitlines()
    assert examples
    assert all(line.startswith("  ") and f"smendpoint {name}" in line for line in examples)
    assert "\x1b" not in text


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_command_line_that_parses(example: str) -> None:
    command = re.split(r" < ", example.split(" | ")[-1])[0]
    words = [word for word in shlex.split(command) if "=..." not in word]
    assert words[0] == "smendpoint"
    _parser().parse_args(words[1:])


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_gets_its_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", shell])
    assert not ended.value.code
    script = capsys.readouterr().out
    for word in (*NAMES, "--stream" if shell != "fish" else "stream"):
        assert word in script


COMPLETE = """
source {script}
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_LINE="${{COMP_WORDS[*]}}"
COMP_POINT=${{#COMP_LINE}}
_shtab_smendpoint
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["smendpoint", "inv"], {"invoke"}),
        (["smendpoint", "chat", "my-chat", "--sys"], {"--system"}),
        (["smendpoint", "invoke", "my-llm", "--handler", "tab"], {"tabular", "tabular-rows"}),
        (["smendpoint", "invoke", "my-llm", "--schema", "sta"], {"stay.json"}),
    ],
)
def test_bash_completes_commands_options_choices_and_files(
    typed: list[str], expected: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--print-completion", "bash"])
    script = tmp_path / "completion"
    script.write_text(capsys.readouterr().out)
    (tmp_path / "stay.json").touch()
    program = COMPLETE.format(script=script, words=" ".join(typed))
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert {word.strip() for word in done.stdout.split()} == expected, done.stderr


def test_completion_without_shtab_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", "zsh"])
    assert ended.value.code == 1
    assert "--print-completion needs shtab: pip install 'smendpoint[cli]'" in capsys.readouterr().err


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[Any]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", "nope"])
    assert ended.value.code == 2
    assert "choose from" in capsys.readouterr().err
