"""The project's files agree with each other."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import smendpoint

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(smendpoint.__file__).parent


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines(value: str) -> list[str]:
    return [line.strip() for line in value.splitlines() if line.strip()]


def test_the_tests_run_against_the_installed_package_where_that_is_asked_for() -> None:
    if "SMENDPOINT_INSTALLED" not in os.environ:
        pytest.skip("only asked for where the built wheel is tested")
    assert PACKAGE != ROOT / "smendpoint"  # tox keeps its environments inside the tree


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()


def test_the_changelog_begins_with_this_version() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == smendpoint.__version__


def test_at_run_time_nothing_is_needed_but_botocore(setup_cfg: configparser.ConfigParser) -> None:
    needed = [re.split(r"[<>=; ]", line)[0] for line in lines(setup_cfg["options"]["install_requires"])]
    assert needed == ["botocore"]


def test_the_optional_extras_are_part_of_what_the_tests_install(setup_cfg: configparser.ConfigParser) -> None:
    extras = setup_cfg["options.extras_require"]
    optional = {line for name in ("aiobotocore", "arrow", "cli", "numpy") for line in lines(extras[name])}
    assert optional <= set(lines(extras["test"]))


def test_each_supported_python_has_an_environment(setup_cfg: configparser.ConfigParser) -> None:
    versions = re.findall(r"Python :: (3\.\d+)$", setup_cfg["metadata"]["classifiers"], re.MULTILINE)
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    environments = [name.strip() for name in tox["tox"]["env_list"].split(",")]
    assert {f"py{version.replace('.', '')}" for version in versions} <= set(environments)
    assert versions[0] == setup_cfg["options"]["python_requires"].removeprefix(">=")


def test_every_setting_that_code_reads_from_the_environment_for_tests_is_documented() -> None:
    read = {
        name
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for name in re.findall(r"environ(?:\.get\(|\[)\"(SMENDPOINT_\w+)\"", path.read_text(encoding="utf-8"))
    }
    documented = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("CONTRIBUTING.md", "tox.ini"))
    assert {name for name in read if name not in documented} == set()


def test_the_benchmarks_explain_themselves() -> None:
    program = [sys.executable, "-m", "benchmarks", "--help"]
    output = subprocess.run(program, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "cold" in output


def test_helpers_of_tests_are_imported_by_their_own_names() -> None:
    # As `tests.helper` they are found only from the source tree, where the installed package would not be tested.
    pattern = re.compile(r"^\s*(from|import) tests\b", re.MULTILINE)
    assert [
        path.name for path in (ROOT / "tests").rglob("*.py") if pattern.search(path.read_text(encoding="utf-8"))
    ] == []
