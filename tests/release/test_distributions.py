"""The distributions hold what they should, and the same tree gives the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from conftest import ROOT, Built
from trove_classifiers import classifiers

MIB = 1024 * 1024


def members(sdist: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(sdist) as archive:
        return {member.name.partition("/")[2]: member for member in archive.getmembers()}


@pytest.fixture(scope="module")
def metadata(release: Built) -> Message:
    with zipfile.ZipFile(release.wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def test_the_same_tree_gives_the_same_sdist_in_other_surroundings(builds: tuple[Built, Built]) -> None:
    here, there = builds
    assert here.sdist.name == there.sdist.name
    assert here.sdist.read_bytes() == there.sdist.read_bytes()


def test_a_wheel_built_from_the_sdist_is_the_wheel_built_from_the_tree(builds: tuple[Built, Built]) -> None:
    from_sdist, from_tree = builds
    assert from_sdist.wheel.name == from_tree.wheel.name
    assert from_sdist.wheel.read_bytes() == from_tree.wheel.read_bytes()


def test_the_sdist_holds_every_tracked_file_and_nothing_else_but_its_metadata(release: Built) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("only a clone knows what is tracked")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    files = {name for name in members(release.sdist) if not name.startswith("smendpoint.egg-info/")} - {"PKG-INFO"}
    assert files == set(listed.stdout.splitlines())


def test_the_sdist_is_small(release: Built) -> None:
    assert release.sdist.stat().st_size < 3 * MIB


def test_the_sdist_says_nothing_of_who_built_it(release: Built) -> None:
    assert {(one.uid, one.gid, one.uname, one.gname) for one in members(release.sdist).values()} == {(0, 0, "", "")}


def test_a_program_in_the_sdist_can_be_executed_and_other_files_cannot(release: Built) -> None:
    modes = {name: member.mode for name, member in members(release.sdist).items()}
    assert modes.pop(".ci/run") == 0o755
    assert set(modes.values()) == {0o644}


def test_the_wheel_holds_the_package_and_its_metadata_alone(release: Built) -> None:
    with zipfile.ZipFile(release.wheel) as archive:
        places = {name.partition("/")[0] for name in archive.namelist()}
    assert places == {"smendpoint", release.wheel.name.replace("-py3-none-any.whl", ".dist-info")}


def test_the_wheel_needs_five_other_distributions(release: Built, tmp_path: Path) -> None:
    venv.create(tmp_path, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(tmp_path / "bin" / "python")]
    subprocess.run([*pip, "install", "--quiet", str(release.wheel)], check=True)
    listed = subprocess.run([*pip, "list", "--format", "freeze"], check=True, capture_output=True, text=True).stdout
    names = {line.partition("==")[0] for line in listed.splitlines()}
    assert names == {"botocore", "jmespath", "python-dateutil", "six", "smendpoint", "urllib3"}


def test_the_licence_is_an_expression_and_its_text_comes_along(metadata: Message, release: Built) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License"] is None
    assert metadata.get_all("License-File") == ["LICENSE"]
    with zipfile.ZipFile(release.wheel) as archive:
        (text,) = [archive.read(name) for name in archive.namelist() if name.endswith("/licenses/LICENSE")]
    assert text == (ROOT / "LICENSE").read_bytes()


def test_the_classifiers_are_known_ones_and_leave_the_licence_to_the_expression(metadata: Message) -> None:
    named = metadata.get_all("Classifier")
    assert named is not None
    assert set(named) <= classifiers
    assert [name for name in named if name.startswith("License ::")] == []


def test_what_developers_need_is_not_a_part_of_the_metadata(metadata: Message) -> None:
    extras = metadata.get_all("Provides-Extra")
    assert extras is not None
    assert "test" in extras
    assert {"dev", "docs", "lint", "release", "types"}.isdisjoint(extras)


def test_twine_accepts_both_distributions(release: Built) -> None:
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *map(str, release)], check=True)


def test_check_wheel_contents_finds_nothing(release: Built) -> None:
    subprocess.run([sys.executable, "-m", "check_wheel_contents", str(release.wheel)], check=True)


def test_the_hooks_of_pre_commit_pass() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("pre-commit works on a clone")
    # The hooks run the tools beside this Python, whether or not its environment is activated.
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    command = [sys.executable, "-m", "pre_commit", "run", "--all-files"]
    run = subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": tools}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
