"""Which module may import which, what an import costs, and which names are public."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import smendpoint

ROOT = Path(smendpoint.__file__).parent
MODULES = {
    ".".join(("smendpoint", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}

# The rooms, lowest layer first. Each layer has rooms that stand beside each other; a room has packages or modules. A
# module imports from lower layers and from its own room. The longest name that fits says where a module belongs.
LAYERS = (
    ("_version _container_errors errors",),
    ("_core",),
    ("_kwargs _options _typing", "decoders", "prompts"),
    ("handlers", "qa"),
    ("_aws",),
    ("_transport",),
    ("_calls",),
    ("endpoint", "async_endpoint", "routing"),
    ("batch", "bench", "emulator", "langchain", "openai", "asgi"),
    ("integrations",),
    ("cli", "pytest_plugin"),
    ("__main__",),
)
HOMES = {
    f"smendpoint.{name}": (layer, room) for layer, rooms in enumerate(LAYERS) for room in rooms for name in room.split()
} | {"smendpoint": (len(LAYERS), "")}

# Everything that is neither the standard library nor ours, and who may import it.
FOREIGN = {
    "aiobotocore": ("smendpoint._aws", "smendpoint._transport"),
    "botocore": ("smendpoint._aws", "smendpoint._transport", "smendpoint.emulator._auth"),
    "certifi": ("smendpoint._aws",),  # where botocore takes its authorities from, too
    "click": ("smendpoint.integrations.llm",),  # llm shows its errors in a line
    "h2": ("smendpoint._transport.http2", "smendpoint.emulator"),
    "httpx": ("smendpoint.integrations.litellm",),  # LiteLLM's errors have its responses
    "langchain_core": ("smendpoint.integrations",),
    "litellm": ("smendpoint.integrations",),
    "llama_index": ("smendpoint.integrations",),
    "llm": ("smendpoint.integrations",),
    "matplotlib": ("smendpoint.bench",),
    "numpy": ("smendpoint.handlers", "smendpoint.integrations"),
    "opentelemetry": ("smendpoint.integrations",),
    "polars": ("smendpoint.integrations",),
    "prometheus_client": ("smendpoint.cli._serve", "smendpoint.asgi", "smendpoint.integrations"),
    "prompt_toolkit": ("smendpoint.cli",),
    "pydantic": ("smendpoint.integrations",),  # where a framework builds on it
    "pyarrow": ("smendpoint.batch._sources", "smendpoint.batch._total", "smendpoint.integrations"),
    "pytest": ("smendpoint.pytest_plugin",),
    "rich": ("smendpoint.cli",),
    "shtab": ("smendpoint.cli",),
    "starlette": ("smendpoint.asgi",),
    "websockets": ("smendpoint.emulator",),
    "yaml": ("smendpoint.integrations.llm",),  # in which llm's own configuration is written
    "uvicorn": ("smendpoint.cli._serve",),
}
# These subclass what their frameworks define, and can be imported only beside them.
FRAMEWORKS = ("langchain_core", "litellm", "llama_index", "llm")

# Modules that wait: only these may open a socket or run a loop.
WAITING = {"asyncio", "socket", "ssl", "selectors", "http.client", "urllib.request"}
MAY_WAIT = (
    "smendpoint._transport",
    "smendpoint._calls.async_conversation",
    "smendpoint._calls.async_fanout",
    "smendpoint._calls.async_limiter",
    "smendpoint._calls.async_stream",
    "smendpoint._aws",
    "smendpoint.asgi",
    "smendpoint.async_endpoint",
    "smendpoint.bench",
    "smendpoint.emulator",
    "smendpoint.langchain",
    "smendpoint.openai",
    "smendpoint.cli",
    "smendpoint.integrations._langchain_text",
)


def is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports(tree: ast.AST, module: str, *, typing_too: bool) -> Iterator[str]:
    """Every module that is imported anywhere in the tree, as absolute names."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
                base = importlib.util.resolve_name("." * node.level + base, package)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in MODULES else base
        elif isinstance(node, ast.If) and is_type_checking(node.test) and not typing_too:
            for other in node.orelse:
                yield from imports(other, module, typing_too=typing_too)
        else:
            yield from imports(node, module, typing_too=typing_too)


@cache
def imported(module: str, *, typing_too: bool = True) -> frozenset[str]:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    return frozenset(imports(tree, module, typing_too=typing_too))


def longest(module: str, prefixes: Iterable[str]) -> str:
    return max((prefix for prefix in prefixes if f"{module}.".startswith(f"{prefix}.")), key=len)


def outside(module: str) -> set[str]:
    """The packages that a module imports when it runs, without ours."""
    return {name.partition(".")[0] for name in imported(module, typing_too=False)} - {"smendpoint"}


def test_a_module_imports_only_from_lower_layers_or_its_own_room() -> None:
    wrong = []
    for module in MODULES:
        layer, room = HOMES[longest(module, HOMES)]
        for other in imported(module):
            if other.partition(".")[0] == "smendpoint":
                below, beside = HOMES[longest(other, HOMES)]
                if below >= layer and beside != room:
                    wrong.append(f"{module} imports {other}")
    assert not wrong


def circles() -> Iterator[set[str]]:
    """Each set of modules that import each other, directly or through others; what only types need counts too."""
    within_reach: dict[str, set[str]] = {}
    for module in MODULES:
        seen: set[str] = set()
        todo = [module]
        while todo:
            found = (imported(todo.pop()) & MODULES.keys()) - seen
            seen |= found
            todo += found
        within_reach[module] = seen
    for module, reached in within_reach.items():
        circle = {other for other in reached if module in within_reach[other]}
        if circle and module == min(circle):
            yield {name.removeprefix("smendpoint.") for name in circle}


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert not [sorted(circle) for circle in circles()]


# The emulator checks the core, so it has its own code for the same tasks. `Credentials` is the only class of both:
# a program makes it for `Emulator`. The module that makes endpoints is not part of these checks.
SHARED_WITH_THE_CORE = {
    "smendpoint.emulator._auth": "from smendpoint._core.aws.sigv4 import Credentials as Credentials\n"
}
MAKES_ENDPOINTS = "smendpoint.emulator._endpoints"


def test_the_emulator_stands_on_the_public_decoders_and_errors_alone() -> None:
    for module in MODULES:
        if module.startswith("smendpoint.emulator") and module != MAKES_ENDPOINTS:
            source = MODULES[module].read_text(encoding="utf-8")
            tree = ast.parse(source.replace(SHARED_WITH_THE_CORE.get(module, "\0"), ""))
            names = {name for name in imports(tree, module, typing_too=True) if name.startswith("smendpoint")}
            ours = {".".join(name.split(".")[:2]) for name in names}
            assert ours <= {"smendpoint.errors", "smendpoint.decoders", "smendpoint.emulator"}, module


def test_a_module_imports_only_the_foreign_packages_that_it_may() -> None:
    wrong = [
        f"{module} imports {top}"
        for module in MODULES
        for top in outside(module) - sys.stdlib_module_names
        if not module.startswith(FOREIGN[top])
    ]
    assert not wrong


def test_the_core_needs_only_the_standard_library() -> None:
    core = [module for module in MODULES if module.startswith("smendpoint._core")]
    assert not [module for module in core if outside(module) - sys.stdlib_module_names]


def test_only_the_transports_and_what_stands_on_them_wait() -> None:
    others = [module for module in MODULES if not module.startswith(MAY_WAIT)]
    assert not [module for module in others if imported(module, typing_too=False) & WAITING]


def test_no_module_is_longer_than_420_lines() -> None:
    assert not [name for name, path in MODULES.items() if len(path.read_text(encoding="utf-8").splitlines()) > 420]


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after this code, beyond what it starts with."""
    program = f"import sys; before = set(sys.modules); {code}; print(*(set(sys.modules) - before))"
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(output.stdout.split())


def test_importing_the_package_loads_nothing_but_the_package() -> None:
    assert loaded_by("import smendpoint") - {"__future__"} == {"smendpoint", "smendpoint._version"}


def test_importing_the_synchronous_twin_loads_neither_botocore_nor_asyncio() -> None:
    tops = {name.split(".")[0] for name in loaded_by("from smendpoint import Endpoint")}
    assert not tops & {"botocore", "asyncio", "aiobotocore", "boto3", "numpy", "http", "email"}
    assert not tops & {"datetime", "hmac", "random", "ssl", "threading", "urllib"}  # what not every call needs


def test_importing_the_synchronous_twin_compiles_no_annotation() -> None:
    # NamedTuple and TypeVar(bound=...) do that to a text: it is most of what they cost, and the first one costs most.
    loaded_by("import typing; del typing.ForwardRef.__init__; from smendpoint import Endpoint")


def test_a_handler_of_numbers_loads_neither_dataclasses_nor_numpy() -> None:
    names = "EmbeddingsHandler, Embeddings, TabularHandler"
    assert not loaded_by(f"from smendpoint.handlers import {names}") & {"dataclasses", "inspect", "numpy"}


def test_the_asynchronous_twin_is_loaded_on_first_use() -> None:
    assert "smendpoint.async_endpoint" not in loaded_by("from smendpoint import Endpoint")


def test_the_public_names_are_sorted_and_unique() -> None:
    assert list(smendpoint.__all__) == sorted(set(smendpoint.__all__))


def test_every_public_name_loads() -> None:
    assert not [name for name in smendpoint.__all__ if getattr(smendpoint, name) is None]


def test_the_names_for_type_checkers_are_those_that_load() -> None:
    tree = ast.parse(MODULES["smendpoint"].read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and is_type_checking(node.test))
    declared: dict[str, object] = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        assert node.module is not None
        for alias in node.names:
            declared[alias.name] = getattr(importlib.import_module(node.module), alias.name)
    assert sorted({*declared, "__version__"}) == smendpoint.__all__
    assert all(getattr(smendpoint, name) is value for name, value in declared.items())


@pytest.mark.parametrize("source", ["errors", "handlers", "handlers.base"])
def test_all_errors_and_handlers_are_public_at_the_top(source: str) -> None:
    module = importlib.import_module(f"smendpoint.{source}")
    if source == "handlers.base":
        assert {"ContentHandler", "StreamDecoder", "StreamingContentHandler"} <= set(smendpoint.__all__)
    else:
        names = {name for name in module.__all__ if source == "errors" or name.endswith("Handler")}
        assert names <= set(smendpoint.__all__)


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Endpiont'"):
        smendpoint.Endpiont  # type: ignore[attr-defined]  # noqa: B018 - the misspelt name is the test


def test_dir_lists_the_public_names_before_they_are_loaded() -> None:
    assert set(smendpoint.__all__) <= set(dir(smendpoint))


def test_all_names_what_is_there() -> None:
    for module in MODULES.keys() - {"smendpoint.__main__"}:
        if any(top in FRAMEWORKS and importlib.util.find_spec(top) is None for top in outside(module)):
            continue
        loaded = importlib.import_module(module)
        assert not [name for name in getattr(loaded, "__all__", []) if not hasattr(loaded, name)], module


def test_every_folder_with_code_is_a_package_that_gets_installed() -> None:
    assert all((path.parent / "__init__.py").exists() for path in MODULES.values())
