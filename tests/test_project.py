"""The project's files agree with each other."""

from __future__ import annotations

import ast
import configparser
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import smendpoint

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(smendpoint.__file__).parent
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Assign, ast.AnnAssign)


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


def test_the_newest_release_of_the_changelog_is_this_version() -> None:
    newest = re.search(r"^## (?!Unreleased$)(\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == smendpoint.__version__


def test_the_changelog_has_the_groups_of_keep_a_changelog_in_their_order() -> None:
    groups = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    for version in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## ")[1:]:
        found = re.findall(r"^### (.*)", version, re.MULTILINE)
        assert found == [group for group in groups if group in found]
        assert re.match(r"(?:Unreleased|\S+ - \d{4}-\d\d-\d\d)\n", version)


def test_this_version_gets_security_fixes() -> None:
    minor = ".".join(smendpoint.__version__.split(".")[:2])
    assert f"| {minor} | yes |" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_the_page_of_versions_names_the_supported_pythons_and_the_oldest_botocore(
    setup_cfg: configparser.ConfigParser,
) -> None:
    page = (ROOT / "docs" / "project" / "versions.md").read_text(encoding="utf-8")
    supported = re.findall(r"Python :: (3\.\d+)$", setup_cfg["metadata"]["classifiers"], re.MULTILINE)
    assert re.findall(r"^\| (3\.\d+) \|", page, re.MULTILINE) == supported
    for name, section, option in (
        ("botocore", "options", "install_requires"),
        ("aiobotocore", "options.extras_require", "aiobotocore"),
    ):
        (oldest,) = re.findall(rf"^{name}>=([0-9.]+)", setup_cfg[section][option].strip())
        assert re.search(rf"^\*\*{name}\.?\*\*[^*]*\b{re.escape(oldest)}\b", page, re.MULTILINE)


def test_every_public_module_says_what_is_public() -> None:
    public = [
        module.name
        for module in pkgutil.walk_packages([str(PACKAGE)], "smendpoint.")
        if "._" not in module.name and not module.name.endswith("__main__")
    ]
    silent = []
    for name in public:
        path = PACKAGE.joinpath(*name.split(".")[1:])
        source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
        if any(isinstance(node, DEFINITIONS) for node in ast.parse(source).body) and "__all__" not in source:
            silent.append(name)
    assert "smendpoint.handlers" in public
    assert silent == []


@pytest.mark.parametrize("name", ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_every_relative_link_of_a_page_beside_the_readme_leads_to_a_file_of_the_documentation(name: str) -> None:
    # The documentation includes these pages, and resolves links into docs/ only.
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", (ROOT / name).read_text(encoding="utf-8")):
        assert target.startswith("docs/")
        assert (ROOT / target).exists(), f"{name} links to {target}"


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
