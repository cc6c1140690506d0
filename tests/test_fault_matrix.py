"""Every fault, on both twins, in both lanes, called and streamed: it ends as the reference says, and leaves nothing.

The table in ``docs/reference/faults-and-errors.md`` is the data of these tests.
"""

from __future__ import annotations

import contextlib
import gc
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from garbage import collect
from twins import IDS, PATIENCE, Twin

from smendpoint import ChatHandler, RetryPolicy, Timeout, errors
from smendpoint.emulator import FAULTS, Emulator, ModelRequest
from smendpoint.emulator.faults import find_fault

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "faults-and-errors.md"
ROW = re.compile(r"^\| `([a-z0-9_A-Z]+)` \| (invoke|stream|both) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)

# After these, a careful client waits for something that will not come: the only tests that wait.
STALLING = {"stall_before_headers", "stall_mid_stream", "chunk_size_bad"}
STALL_SECONDS = 0.2
# These play one whole event before they strike, so that much is handed on in any case.
AFTER_ONE_EVENT = {
    name
    for name, fault in FAULTS.items()
    if fault.operations == FAULTS["crc_message"].operations and not fault.harmless
} | {"chunk_size_bad", "reset_mid_stream", "stall_mid_stream", "fin_mid_frame"}
# These come from the operating system, so there is a cause to keep.
CAUSED = {"refuse", "reset_before_headers", "reset_mid_stream"}
# The emulator does not count requests that were not received whole; aiohttp follows a redirect, ten times.
UNRECEIVED = ("refuse", "early_413", "early_413_reset", "idle_death", "idle_reset", "reuse_reset")
UNCOUNTED = {(name, twin) for name in UNRECEIVED for twin in IDS} | {("redirect", "async-client")}


class Case(NamedTuple):
    """One cell of the table.

    Attributes:
        fault: its name.
        operation: ``"invoke"`` or ``"stream"``.
        twin: one of `IDS`.
        outcomes: what may happen: ``"answer"``, or names of our exceptions.
    """

    fault: str
    operation: str
    twin: str
    outcomes: frozenset[str]

    def __str__(self) -> str:
        return f"{self.fault}-{self.operation}-{self.twin}"


def read_table() -> list[Case]:
    cases = []
    for fault, operations, direct, boto, aio in ROW.findall(PAGE.read_text(encoding="utf-8")):
        for operation in ("invoke", "stream") if operations == "both" else (operations,):
            cells = dict(zip(IDS, (direct, boto, direct, aio), strict=True))
            cases += [
                Case(fault, operation, twin, frozenset(cell.replace("`", "").split(" or ")))
                for twin, cell in cells.items()
            ]
    return cases


CASES = read_table()
TEXTS = ("Once", " upon", " a", " tîme")
SHORT = TEXTS[:1]


def tokens(texts: tuple[str, ...]) -> list[dict[str, Any]]:
    """The last one says that it is."""
    made: list[dict[str, Any]] = [{"token": {"text": text}} for text in texts]
    made[-1]["generated_text"] = "".join(texts)
    return made


def sse(asked: ModelRequest, texts: tuple[str, ...] = TEXTS) -> bytes | list[bytes]:
    """text-generation-inference's answers."""
    if not asked.streaming:
        return json.dumps([{"generated_text": "".join(texts)}]).encode()
    return [f"data:{json.dumps(token, ensure_ascii=False)}\n\n".encode() for token in tokens(texts)]


def short(asked: ModelRequest) -> bytes | list[bytes]:
    return sse(asked, SHORT)


def json_lines(asked: ModelRequest) -> bytes | list[bytes]:
    """LMI's streamed answers."""
    return [json.dumps(token).encode() + b"\n" for token in tokens(TEXTS)]


def chat(asked: ModelRequest) -> bytes | list[bytes]:
    """OpenAI's answers."""
    if not asked.streaming:
        return json.dumps({"choices": [{"message": {"role": "assistant", "content": "".join(TEXTS)}}]}).encode()
    deltas = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in TEXTS]
    return [f"data: {json.dumps(delta)}\n\n".encode() for delta in deltas] + [b"data: [DONE]\n\n"]


MODELS = {
    "drip": short,  # a byte a millisecond
    "json_no_final_newline": json_lines,
    "inband_error_openai": chat,
}


@pytest.fixture(scope="module", autouse=True)
def quick_garbage_collection() -> Iterator[None]:
    """Leave the objects alone that exist already."""
    collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_fault_ends_as_the_reference_says_and_the_next_call_works(case: Case) -> None:
    fault = find_fault(case.fault)
    model = MODELS.get(case.fault, sse)
    whole = "".join(SHORT if model is short else TEXTS)
    handler = ChatHandler() if model is chat else None
    timeout = Timeout(connect=PATIENCE, read=STALL_SECONDS if case.fault in STALLING else PATIENCE)
    retry = RetryPolicy(max_attempts=2, max_backoff=0.0)
    with Emulator(model, piece_size=None) as emulator, contextlib.closing(Twin(case.twin)) as twin:
        endpoint = twin.endpoint(
            emulator.url,
            content_handler=handler,
            timeout=timeout,
            retry=retry,
            renewing=case.fault == "expired_then_ok",
        )

        def ask() -> str:
            handed_on: list[str] = []
            try:
                if case.operation == "invoke":
                    return str(get_text(endpoint.invoke("Hello")))
                with endpoint.stream("Hello") as stream:
                    for chunk in stream:
                        handed_on.append(get_text(chunk))
            except errors.SmendpointError as error:
                assert [get_text(chunk) for chunk in error.received] == handed_on
                raise
            return "".join(handed_on)

        emulator.inject(case.fault)
        if fault.after is not None:  # it strikes the next request on the connection
            assert ask() == whole
        before = len(emulator.requests)
        try:
            outcome = "answer"
            assert ask() == whole
        except errors.SmendpointError as error:
            outcome = type(error).__name__
            assert error.endpoint_name == "my-llm"
            assert error.attempts >= 1
            if (case.fault, case.twin) not in UNCOUNTED:
                assert error.attempts == len(emulator.requests) - before
            assert case.fault not in CAUSED or error.__cause__ is not None or outcome == "ProtocolError"
            if case.operation == "stream" and case.fault in AFTER_ONE_EVENT and isinstance(error, errors.StreamError):
                assert "".join(map(get_text, error.received)).startswith(TEXTS[0])
            copy = pickle.loads(pickle.dumps(error))
            assert type(copy) is type(error)
            assert str(copy) == str(error)
            assert vars(copy) == vars(error)
        assert outcome in case.outcomes
        emulator.clear_faults()
        assert ask() == whole
        endpoint.close()
        if case.twin == "sync-client":
            collect()  # botocore's event stream and its generator hold each other, and with them the connection
        emulator.disconnected()


def get_text(value: object) -> str:
    return value if isinstance(value, str) else value.text  # type: ignore[attr-defined]  # a chat chunk


def test_the_reference_has_each_fault_for_each_call_that_can_suffer_it() -> None:
    expected = {
        (name, operation)
        for fault in FAULTS.values()
        for name in fault.examples
        for operation in ("invoke", "stream")
        if operation in fault.operations
    }
    assert {(case.fault, case.operation) for case in CASES} == expected
    assert len(CASES) == 4 * len(expected)


def test_the_reference_names_only_our_errors() -> None:
    assert {name for case in CASES for name in case.outcomes} - {"answer"} <= set(errors.__all__)


def test_exactly_the_harmless_faults_are_answered_in_the_direct_lane() -> None:
    for case in CASES:
        if case.twin.endswith("direct"):
            assert ("answer" in case.outcomes) == find_fault(case.fault).harmless, case
            assert len(case.outcomes) == 1
