"""The mechanical part of the rule for prose in CONTRIBUTING: words that a text of the project does not use."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = [
    path
    for folder in ("benchmarks", "docs", "scripts", "smendpoint", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
MESSAGES = sorted((ROOT / "smendpoint").rglob("*.py"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
# A quotation may break the rule, such as the examples of the rule itself.
QUOTED = re.compile(r'"[^"\n]*"|^\| In this order: .*|^\| There is no answer; .*|^\| One opens it .*', re.MULTILINE)

SPELLED = ("benchmarks", "docs", "scripts", "smendpoint", "tests")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

BROKEN = {
    '"is no", where "is not a" is meant': re.compile(
        r"(?<!\bthere )\b(?:is|are|was|were) no (?!longer\b|more\b)", re.IGNORECASE
    ),
    'a sentence that opens with a bare "who" or "what"': re.compile(
        r"(?:^\s*(?:\* |\d+\. )?|[.!?:;] |\n\n)(?:\*\*)?(?:Who|What)(?:ever)?\b(?![^.!?]*\?)"
    ),
}


CALL = ROOT / "docs" / "explanation" / "life-of-a-call.md"


def prose(page: str) -> str:
    """Return the page without its code and its quotations."""
    return QUOTED.sub("", CODE.sub("`code`", page))


def broken_rules(texts: list[str]) -> list[str]:
    """Name each rule that the prose of a text breaks, with the words that break it."""
    return [
        f"{rule}: {found[0].strip()!r}"
        for text in map(prose, texts)
        for rule, words in BROKEN.items()
        for found in words.finditer(text)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_keeps_the_mechanical_part_of_the_rule_for_prose(page: Path) -> None:
    assert broken_rules([page.read_text(encoding="utf-8")]) == []


def texts(source: str) -> list[str]:
    """Return the docstrings and the comments of a module, with the lines of a comment joined."""
    found = [ast.get_docstring(node) for node in ast.walk(ast.parse(source)) if isinstance(node, DOCUMENTED)]
    comments = re.findall(r"(?:^[^\n\"'#]*# [^\n]*\n)+", source, re.MULTILINE)
    return [text for text in found if text] + [re.sub(r"^[^#\n]*# ", "", text, flags=re.MULTILINE) for text in comments]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_docstrings_and_comments_keep_the_mechanical_part_of_the_rule(module: Path) -> None:
    assert broken_rules(texts(module.read_text(encoding="utf-8"))) == []


def messages(source: str) -> list[str]:
    """Return the strings of a module that may be messages: with a space, and not docstrings."""
    tree = ast.parse(source)
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    found = [
        "".join([str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values])
        if isinstance(node, ast.JoinedStr)
        else node.value
        for node in ast.walk(tree)
        if isinstance(node, (ast.JoinedStr, ast.Constant)) and id(node) not in statements | parts
    ]
    return [text for text in found if isinstance(text, str) and " " in text]


@pytest.mark.parametrize("module", MESSAGES, ids=lambda module: str(module.relative_to(ROOT)))
def test_messages_and_help_texts_keep_the_mechanical_part_of_the_rule(module: Path) -> None:
    broken = [
        f"{rule}: {text!r}"
        for text in messages(module.read_text(encoding="utf-8"))
        for rule, words in BROKEN.items()
        if words.search(CODE.sub("`code`", text))
    ]
    assert not broken


def test_the_spelling_is_that_of_codespell() -> None:
    command = shutil.which("codespell")
    if command is None:
        pytest.skip("codespell is not installed: the environment of `tox -e lint` has it")
    pages = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("*.md"))]
    checked = subprocess.run([command, *SPELLED, *pages], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


@pytest.mark.parametrize(
    "text",
    ["A region that is no name.", "What is left is dropped.", "All ends. Who asks again waits.", "* What is read"],
)
def test_a_text_that_breaks_the_rule_is_noticed(text: str) -> None:
    assert any(words.search(prose(text)) for words in BROKEN.values())


@pytest.mark.parametrize(
    "text", ["There is no base class.", "It is no longer read.", "What is a slot?", 'Never write "is no".', "`What is`"]
)
def test_a_text_that_keeps_the_rule_passes(text: str) -> None:
    assert not any(words.search(prose(text)) for words in BROKEN.values())


def test_the_messages_of_a_module_are_found() -> None:
    source = '"""A docstring."""\nraise ValueError("a plain one")\nraise ValueError(f"no {1} at all")\nname = "word"\n'
    assert messages(source) == ["a plain one", "no {} at all"]


def test_the_names_on_the_page_of_the_life_of_a_call_are_those_of_the_code() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "smendpoint").rglob("*.py"))
    text = re.sub(r"^```.*?^```$", "", CALL.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    names = set(re.findall(r"`(\w+)`", text))
    places = {
        path.relative_to(ROOT / "smendpoint").with_suffix("").parts[-1] for path in (ROOT / "smendpoint").rglob("*")
    }
    assert names
    assert {name for name in names - places if not re.search(rf"\b{name}\b", code)} == set()
