"""The page of limits: each number on it is the code's, and each number of the code is on it."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import smendpoint

ROOT = Path(smendpoint.__file__).parent
PAGE = ROOT.parent / "docs" / "reference" / "limits.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not here")

# Numbers that limit nothing that a user could meet: caches, shares, sizes of parts of a format, faults to be injected.
NO_LIMITS = {
    "_aws.credentials._ADVISORY_SHARE": "a share",
    "_aws.credentials._LAST_SHARE": "a share",
    "_aws.chain._BOTOCORE_TIMEOUT": "what botocore does without being told",
    "_calls.base.DEBUG": "a level of logging",
    "batch._index._BUFFERED": "how many are written together",
    "batch._index._CACHE_KIB": "a cache",
    "batch._index._FILTER_BITS": "a cache",
    "batch._ledger._FLAGS": "the operating system's own",
    "batch._lock._WINDOWS_OFFSET": "a byte that nobody reads",
    "batch._sources._PARQUET_BUFFER_BYTES": "how much is read at once",
    "batch._sources._PARQUET_ROWS": "how much is read at once",
    "_core.http.body._CHUNK": "botocore's, for those who ask for no other",
    "langchain._embeddings._CHUNK": "LangChain's, for those who ask for no other",
    "_core.decode.auto._OFTEN": "how often a guess is looked at again",
    "_core.call.hiding._CAN_WAIT": "a flag of Python's",
    "_core.http.http1._USUAL_CHUNK_LINE": "the shortest way",
    "_core.http.syntax._USUAL_STATUS_LINE": "the shortest way",
    "_core.aws.conversation._LARGE_PART": "the shortest way",
    "_core.aws.conversation._SIGNED_HEADERS_LENGTH": "a part of the format",
    "_core.aws.eventstream._OVERHEAD": "a part of the format",
    "_core.aws.eventstream._LARGE_FRAME": "the shortest way",
    "_core.call.polling.GROWTH": "from one wait to the next",
    "_core.call.hooks._ALMOST": "a share",
    "_core.call.limit._LEAST_SECONDS": "what no clock tells apart",
    "_core.call.limit._REFUSAL_DECAY": "a weight",
    "_core.call.limit._SUCCESS_WEIGHT": "a weight",
    "_core.call.plateau._LEAST_DISTANCE": "what noise hides",
    "_core.call.plateau._VARIANCE_SAMPLES": "what a variance takes",
    "_core.call.plateau._VARIANCE_WEIGHT": "a weight",
    "_transport.blocking.pool.LOOK_AGAIN_SECONDS": "what nobody notices",
    "_transport.readiness.LONGEST_WAIT": "what the operating system can count",
    "_transport.readiness.READABLE": "the operating system's own",
    "_transport.readiness.WRITABLE": "the operating system's own",
    "_transport.tls._RECORD_BYTES": "a part of the format",
    "_transport.tls._HEAD_BYTES": "a part of the format",
    "emulator._connection._SLOW_READ_SECONDS": "a fault",
    "emulator._peer._LOOK_AGAIN_SECONDS": "a fault",
    "emulator._websocket._READ_SIZE": "how much is read at once",
    "emulator._reply.PIECE_SIZE": "how a text is cut",
    "cli._child.NOT_EXECUTABLE": "a shell's own",
    "cli._child.NOT_FOUND": "a shell's own",
    "cli._child.SIGNALLED": "a shell's own",
    "cli._emulator.PORT": "a default",
    "cli._progress.BAR_WIDTH": "how much a terminal shows",
    "cli._terminal.NARROWEST": "how much a terminal shows",
    "cli._terminal.WIDTH": "how much a terminal shows",
    "handlers._json._MAX_KEYS": "how much a message shows",
    "handlers._json._MAX_KEY_LENGTH": "how much a message shows",
    "handlers._json._MAX_DEPTH": "how much a message shows",
    "handlers._npy._EXACT": "a part of the format",
    "bench._sweep._END": "a share",
    "bench._sweep._MORE": "a ratio",
    "cli._bench.INTERRUPTED": "a shell's own",
    "_aws.http2.PORT": "a port",
    "_transport.http2._FRAME_BYTES": "a part of the format",
    "_transport.http2._FRAME_HEAD_BYTES": "a part of the format",
    "_transport.http2._STREAM": "a part of the format",
    "openai._RENEW_SHARE": "a share",
    "prompts._SHOWN": "how much a message shows",
}
# Caches, what an attacker could otherwise make grow or slow, faults to be injected, what the emulator's models make.
QUIET = (
    "emulator._faults",
    "emulator.personalities",
    "_MAX_REMEMBERED",
    "_MAX_LENGTH_DIGITS",
    "_MAX_CHUNK_SIZE_DIGITS",
    "_KNOWN_",
    "MAX_KNOWN",
    "_MAX_PATHS",
)


def rows() -> list[tuple[str, str, str, str]]:
    """Return the cells of each row: its label, the number, the source and the name in the code."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "`" in line]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [(label, number, source, name.strip("`")) for label, number, _, source, name in cells]


def value(name: str) -> float:
    """The number behind a name such as ``_core.call.timing.Timeout().read``."""
    holder, _, attribute = name.rpartition(".")
    made = holder.endswith("()")
    module, _, kind = holder.removesuffix("()").rpartition(".") if made else (holder, "", "")
    found = importlib.import_module(f"smendpoint.{module}")
    number: float = getattr(getattr(found, kind)() if made else found, attribute)
    return number


@pytest.mark.parametrize("row", rows() if PAGE.exists() else [], ids=lambda row: row[3])
def test_a_number_of_the_page_is_the_code_s_and_has_a_source(row: tuple[str, str, str, str]) -> None:
    label, number, source, name = row
    assert float(number.replace(",", "")) == value(name)
    assert label
    assert source


def constant(module: str, name: str) -> object:
    try:
        return getattr(importlib.import_module(f"smendpoint.{module}"), name, None)
    except ModuleNotFoundError:  # an adapter, whose framework is not installed here
        assert module.startswith("integrations.")
        return None


def test_every_number_of_the_code_is_on_the_page() -> None:
    names = set()
    for path in ROOT.rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                found = constant(module, name) if name.isupper() else None
                if isinstance(found, (int, float)) and not isinstance(found, bool) and found != float("inf"):
                    names.add(f"{module}.{name}")
    names = {name for name in names if not any(quiet in name for quiet in QUIET)}
    assert names - NO_LIMITS.keys() <= {name for *_, name in rows()}


def test_the_limits_of_a_request_are_one_story() -> None:
    """Wherever a text names one of them, it is this number."""
    for path in [*ROOT.rglob("*.py"), *PAGE.parent.parent.rglob("*.md"), ROOT.parent / "README.md"]:
        if path.exists():
            assert "about 25 MB" not in path.read_text()
