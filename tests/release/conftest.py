"""Shared by the tests of a release: the same tree, built in two different surroundings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
NOT_SOURCE = shutil.ignore_patterns(
    *(".git", ".hypothesis", ".tox", ".venv", ".*_cache", ".coverage*", "__pycache__", "*.egg-info"),
    *("_build", "build", "dist", "venv"),
)


class Built(NamedTuple):
    """The distributions that one build made."""

    sdist: Path
    wheel: Path


def built(folder: Path) -> Built:
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Built(sdist, wheel)


def disturb(tree: Path) -> None:
    """Give the files other times and permissions, and leave behind what an earlier build of other sources left."""
    for path in tree.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(path.stat().st_mode & 0o700)
    (tree / "build" / "lib" / "smendpoint").mkdir(parents=True)
    (tree / "build" / "lib" / "smendpoint" / "deleted.py").write_text("")
    (tree / "notes.txt").write_text("not a part of the project")
    (tree / "smendpoint.egg-info").mkdir()
    (tree / "smendpoint.egg-info" / "SOURCES.txt").write_text("notes.txt\n")


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Built, Built]:
    """Build as `python -m build` does, the wheel from the sdist, and in other surroundings, both from the tree."""
    here, there = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("there") / "a folder of another name"
    for folder in (here, there):
        shutil.copytree(ROOT, folder / "tree", ignore=NOT_SOURCE)
    disturb(there / "tree")
    plain = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    other = plain | {"SOURCE_DATE_EPOCH": "1", "LC_ALL": "C", "TZ": "Asia/Tokyo", "USER": "other", "LOGNAME": "other"}
    command = [sys.executable, "-m", "build", "--outdir", "../dist"]
    running = [
        subprocess.Popen(command, cwd=here / "tree", env=plain, umask=0o022),
        subprocess.Popen([*command, "--sdist", "--wheel"], cwd=there / "tree", env=other, umask=0o077),
    ]
    assert [process.wait() for process in running] == [0, 0]
    return built(here / "dist"), built(there / "dist")


@pytest.fixture(scope="session")
def release(builds: tuple[Built, Built]) -> Built:
    return builds[0]
