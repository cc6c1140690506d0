"""The programs of the how-to pages run, each in a process of its own, and print an answer for each row."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENGINE_WAS_SLOW, NO_JAVA

from smendpoint.emulator import Emulator

PROGRAMS = sorted((Path(__file__).parents[2] / "docs" / "how-to" / "code").glob("*_rows.py"))
MODULES = {"spark": "pyspark"}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_the_program_of_a_page_answers_every_row(program: Path, tmp_path: Path) -> None:
    engine = program.stem.removesuffix("_rows")
    if importlib.util.find_spec(MODULES.get(engine, engine)) is None:
        pytest.skip(f"{engine} is not installed")
    if engine == "spark" and NO_JAVA:
        pytest.skip("Spark needs a Java runtime")
    with Emulator(region="us-west-2", capacity=2) as emulator:
        environment = {**os.environ, "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": emulator.url}
        for _ in range(3):
            done = subprocess.run(
                [sys.executable, program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
            )
            if not ENGINE_WAS_SLOW.search(done.stderr):
                break
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Peter stayed for 3 days.") == 3, done.stdout
