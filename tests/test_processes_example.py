"""The programs of the page on multiprocessing, each way in which Python starts a process."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from smendpoint.emulator import Emulator

CODE = Path(__file__).resolve().parent.parent / "docs" / "how-to" / "code"
if not CODE.exists():
    pytest.skip("the documentation is not beside these tests", allow_module_level=True)

METHODS = multiprocessing.get_all_start_methods()


def run(program: Path, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("method", METHODS)
def test_answers_of_one_process_are_worked_on_in_others(
    method: str, sagemaker_emulator: Emulator, tmp_path: Path
) -> None:
    source = (CODE / "processes.py").read_text(encoding="utf-8")
    first = 'if __name__ == "__main__":  # a worker imports this file\n'
    assert first in source
    program = tmp_path / "processes.py"
    chosen = f"{first}    import multiprocessing\n\n    multiprocessing.set_start_method({method!r})\n"
    program.write_text(source.replace(first, chosen), encoding="utf-8")
    assert run(program, tmp_path) == "[1, 2, 3, 4, 5, 6, 7, 8]\n"


@pytest.mark.parametrize("method", METHODS)
def test_processes_that_call_get_all_answers(method: str, sagemaker_emulator: Emulator, tmp_path: Path) -> None:
    source = (CODE / "processes_that_call.py").read_text(encoding="utf-8")
    assert '"spawn"' in source
    program = tmp_path / "processes_that_call.py"
    program.write_text(source.replace('"spawn"', repr(method)), encoding="utf-8")
    lines = run(program, tmp_path).splitlines()
    assert sorted(lines) == [f"Ann stayed for {days} days." for days in range(1, 9)]
    assert sagemaker_emulator.total_requests == 8
