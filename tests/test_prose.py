"""The mechanical part of the rule for prose in CONTRIBUTING: words that a text of the project does not use."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Code whose docstrings and comments keep the rule. Add a module here once it does.
MODULES = [
    *sorted((ROOT / "smendpoint").rglob("*.py")),
    *sorted((ROOT / "benchmarks").glob("*.py")),
    *sorted(
        path
        for name in (
            *("aws_*", "batch*", "langchain*", "qa", "prompts", "core_frozen", "core_limit*", "core_load"),
            *("call", "call_keywords", "stream*", "async_stream", "session", "submit", "fanout", "async_fanout", "map"),
            *(
                "hooks",
                "openai",
                "endpoint",
                "async_endpoint",
                "options",
                "parity",
                "messages",
                "pickled",
                "response",
                "shared",
                "many_calls",
            ),
            *("transport_*", "leaks", "cancellation", "lanes", "no_threads", "cold_starts", "hosts", "interrupts"),
            *("fault_matrix", "retry_matrix", "cut_everywhere", "canary", "integrations_*", "limiter", "many_calls"),
            *(
                "handlers_schemas",
                "handlers_typed",
                "cli_invoke",
                "cli_chat",
                "chat_tools",
                "cli_doctor",
                "cli_help",
                "cli_child",
                "tutorial",
                "pictures",
                "processes_example",
                "other_clients",
                "cli_serve",
                "asgi*",
                "bench*",
                "cli_bench",
                "site",
            ),
        )
        for path in (ROOT / "tests").glob(f"test_{name}.py")
    ),
    *sorted((ROOT / "tests" / "engines").glob("*.py")),
    *sorted((ROOT / "tests" / "integrations").glob("*.py")),
    *sorted((ROOT / "tests" / "release").glob("*.py")),
    *sorted((ROOT / "scripts").glob("*.py")),
    *(
        ROOT / "tests" / f"{name}.py"
        for name in (
            "async_loops",
            "clocks",
            "conftest",
            "garbage",
            "inside",
            "load_simulation",
            "page_examples",
            "paused",
            "random_interrupts",
            "servers",
            "serving",
            "targets",
            "twins",
        )
    ),
]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
# A quotation may break the rule, such as the examples of the rule itself.
QUOTED = re.compile(r'"[^"\n]*"|^\| In this order: .*|^\| There is no answer; .*|^\| One opens it .*', re.MULTILINE)

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
    """Give the page without its code and its quotations."""
    return QUOTED.sub("", CODE.sub("`code`", page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_keeps_the_mechanical_part_of_the_rule_for_prose(page: Path) -> None:
    text = prose(page.read_text(encoding="utf-8"))
    broken = [f"{rule}: {found[0].strip()!r}" for rule, words in BROKEN.items() for found in words.finditer(text)]
    assert not broken


def texts(source: str) -> list[str]:
    """Give the docstrings and the comments of a module, the lines of a comment joined."""
    found = [ast.get_docstring(node) for node in ast.walk(ast.parse(source)) if isinstance(node, DOCUMENTED)]
    comments = re.findall(r"(?:^[^\n\"'#]*# [^\n]*\n)+", source, re.MULTILINE)
    return [text for text in found if text] + [re.sub(r"^[^#\n]*# ", "", text, flags=re.MULTILINE) for text in comments]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_docstrings_and_comments_keep_the_mechanical_part_of_the_rule(module: Path) -> None:
    broken = [
        f"{rule}: {found[0].strip()!r}"
        for text in texts(module.read_text(encoding="utf-8"))
        for rule, words in BROKEN.items()
        for found in words.finditer(prose(text))
    ]
    assert not broken


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


def test_the_names_on_the_page_of_the_life_of_a_call_are_those_of_the_code() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "smendpoint").rglob("*.py"))
    text = re.sub(r"^```.*?^```$", "", CALL.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    names = set(re.findall(r"`(\w+)`", text))
    places = {
        path.relative_to(ROOT / "smendpoint").with_suffix("").parts[-1] for path in (ROOT / "smendpoint").rglob("*")
    }
    assert names
    assert {name for name in names - places if not re.search(rf"\b{name}\b", code)} == set()
