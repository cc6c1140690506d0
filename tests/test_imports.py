"""Which module may import which, what an import costs, and which names are public."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import smendpoint

ROOT = Path(smendpoint.__file__).parent
MODULES = {
    ".".join(("smendpoint", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}

# A module imports only from layers below its own, or from its own package. The longest prefix counts.
LAYERS = {
    "smendpoint._container_errors": -1,
    "smendpoint._version": 0,
    "smendpoint.errors": 0,
    "smendpoint._core": 1,
    "smendpoint.decoders": 2,
    "smendpoint.handlers": 2,
    "smendpoint._kwargs": 2,
    "smendpoint._options": 2,
    "smendpoint._typing": 2,
    "smendpoint.prompts": 2,
    "smendpoint.qa": 2,
    "smendpoint._aws": 3,
    "smendpoint._transport": 3,
    "smendpoint._arguments": 4,
    "smendpoint._async_fanout": 4,
    "smendpoint._async_stream": 4,
    "smendpoint._call": 4,
    "smendpoint._fanout": 4,
    "smendpoint._inference": 4,
    "smendpoint._pipeline": 4,
    "smendpoint._response": 4,
    "smendpoint._session": 4,
    "smendpoint._stream": 4,
    "smendpoint.async_endpoint": 4,
    "smendpoint.async_inference": 4,
    "smendpoint.async_session": 4,
    "smendpoint.endpoint": 4,
    "smendpoint.inference": 4,
    "smendpoint.session": 4,
    "smendpoint.emulator": 5,
    "smendpoint.langchain": 5,
    "smendpoint.openai": 5,
    "smendpoint.cli": 6,
    "smendpoint.pytest_plugin": 6,
    "smendpoint": 7,
    "smendpoint.__main__": 7,
}

# Everything that is neither the standard library nor ours, and who may import it.
FOREIGN = {
    "aiobotocore": ("smendpoint._aws", "smendpoint._transport"),
    "botocore": ("smendpoint._aws", "smendpoint._transport", "smendpoint.emulator._auth"),
    "certifi": ("smendpoint._aws",),  # where botocore takes its authorities from, too
    "numpy": ("smendpoint.handlers",),
    "pytest": ("smendpoint.pytest_plugin",),
}

# What waits: only these may open a socket or run a loop.
WAITING = {"asyncio", "socket", "ssl", "selectors", "http.client", "urllib.request"}
MAY_WAIT = (
    "smendpoint._transport",
    "smendpoint._async_fanout",
    "smendpoint._async_stream",
    "smendpoint._aws",
    "smendpoint.async_endpoint",
    "smendpoint.emulator",
    "smendpoint.langchain",
    "smendpoint.openai",
    "smendpoint.cli",
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


def imported(module: str, *, typing_too: bool = True) -> set[str]:
    return set(imports(ast.parse(MODULES[module].read_text(encoding="utf-8")), module, typing_too=typing_too))


def longest(module: str, prefixes: Iterator[str] | dict[str, int]) -> str:
    return max((prefix for prefix in prefixes if f"{module}.".startswith(f"{prefix}.")), key=len)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_lower_layers_or_its_own_package(module: str) -> None:
    home = longest(module, LAYERS)
    for other in imported(module):
        if other.split(".")[0] != "smendpoint":
            continue
        package = longest(other, LAYERS)
        assert package == home or LAYERS[package] < LAYERS[home] or LAYERS[package] == LAYERS[home] in (2, 3, 4), (
            f"{module} (layer {LAYERS[home]}) imports {other} (layer {LAYERS[package]})"
        )


# The emulator judges what the core does, so it has its own code for all of it. `Credentials` is the one value that both
# use: a program makes it to be given to `Emulator`. What makes endpoints for the emulator's users is beside the judge.
SHARED_WITH_THE_CORE = {"smendpoint.emulator._auth": "from smendpoint._core.sigv4 import Credentials"}
MAKES_ENDPOINTS = "smendpoint.emulator._endpoints"


def test_the_emulator_stands_on_the_public_decoders_and_errors_alone() -> None:
    for module in MODULES:
        if longest(module, LAYERS) == "smendpoint.emulator" and module != MAKES_ENDPOINTS:
            source = MODULES[module].read_text(encoding="utf-8")
            tree = ast.parse(source.replace(SHARED_WITH_THE_CORE.get(module, "\0"), ""))
            ours = {longest(name, LAYERS) for name in imports(tree, module, typing_too=True) if name.startswith("smend")}
            assert ours <= {"smendpoint.errors", "smendpoint.decoders", "smendpoint.emulator"}, module


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_the_foreign_packages_that_it_may(module: str) -> None:
    for other in imported(module, typing_too=False):
        top = other.split(".")[0]
        if top != "smendpoint" and top not in sys.stdlib_module_names:
            assert module.startswith(FOREIGN[top]), f"{module} imports {other}"


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("smendpoint._core")])
def test_the_core_needs_only_the_standard_library(module: str) -> None:
    for other in imported(module, typing_too=False):
        top = other.split(".")[0]
        assert top == "smendpoint" or top in sys.stdlib_module_names, f"{module} imports {other}"


@pytest.mark.parametrize("module", MODULES)
def test_only_the_transports_and_what_stands_on_them_wait(module: str) -> None:
    if not module.startswith(MAY_WAIT):
        assert not imported(module, typing_too=False) & WAITING


@pytest.mark.parametrize("module", MODULES)
def test_no_module_is_longer_than_420_lines(module: str) -> None:
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= 420


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


def test_the_asynchronous_twin_is_loaded_on_first_use() -> None:
    assert "smendpoint.async_endpoint" not in loaded_by("from smendpoint import Endpoint")


def test_the_public_names_are_sorted_and_unique() -> None:
    assert list(smendpoint.__all__) == sorted(set(smendpoint.__all__))


@pytest.mark.parametrize("name", smendpoint.__all__)
def test_every_public_name_loads(name: str) -> None:
    assert getattr(smendpoint, name) is not None


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


@pytest.mark.parametrize("module", [module for module in MODULES if module != "smendpoint.__main__"])
def test_all_names_what_is_there(module: str) -> None:
    loaded = importlib.import_module(module)
    assert all(hasattr(loaded, name) for name in getattr(loaded, "__all__", []))


def test_every_folder_with_code_is_a_package_that_gets_installed() -> None:
    assert all((path.parent / "__init__.py").exists() for path in MODULES.values())
