"""The shared cases, bodies and inputs that went wrong for people: in every cut, on both twins, in both lanes.

They lie beside the project, in ``../shared/cases/cases.json``, and not in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from feeding import encode_part, ways
from twins import Twin

from smendpoint import errors, handlers
from smendpoint._calls.pipeline import Pipeline
from smendpoint._core.http.body import ResponseBody
from smendpoint.emulator import Emulator

ROOT = Path(__file__).resolve().parent.parent
FILE = next((path for parent in ROOT.parents if (path := parent / "shared" / "cases" / "cases.json").is_file()), None)
CASES: list[dict[str, Any]] = [] if FILE is None else json.loads(FILE.read_text(encoding="utf-8"))
ANSWERS = {f"case-{number}": case for number, case in enumerate(CASES) if "body" in case}
REQUESTS = [case for case in CASES if case["mode"] == "request"]

needs_cases = pytest.mark.skipif(FILE is None, reason="shared/cases/cases.json is not beside the project")


class Outcome:
    """The outcome of a case.

    Attributes:
        chunks: of a stream.
        output: of a whole answer.
        error: what was raised.
    """

    def __init__(self) -> None:
        self.chunks: list[Any] = []
        self.output: Any = None
        self.error: errors.SmendpointError | None = None
        self.completion: Any = None

    @property
    def text(self) -> str:
        return "".join(map(str, self.chunks))


def check_tool_calls(outcome: Outcome, calls: Any) -> None:
    assert [list(call) for call in outcome.completion.tool_calls] == calls


def check_text(outcome: Outcome, text: Any) -> None:
    assert outcome.text == text


def check_error(outcome: Outcome, name: Any) -> None:
    assert type(outcome.error).__name__ == name


def check_received(outcome: Outcome, text: Any) -> None:
    assert outcome.error is not None
    assert "".join(map(str, outcome.error.received)) == outcome.text == text


def check_message(outcome: Outcome, text: Any) -> None:
    assert text in str(outcome.error)


def check_code(outcome: Outcome, code: Any) -> None:
    assert isinstance(outcome.error, errors.ModelOutputError)
    assert str(outcome.error.code) == code


def check_finish_reasons(outcome: Outcome, reasons: Any) -> None:
    assert [chunk.finish_reason for chunk in outcome.chunks] == reasons


def check_advice(outcome: Outcome, handler: Any) -> None:
    assert outcome.error is None or isinstance(outcome.error, errors.HandlerError)
    assert f"{handler} reads" not in str(outcome.error)


CHECKS: dict[str, Callable[[Outcome, Any], None]] = {
    "tool_calls": check_tool_calls,
    "text": check_text,
    "error": check_error,
    "received": check_received,
    "message_has": check_message,
    "code": check_code,
    "finish_reasons_of_chunks": check_finish_reasons,
    "must_not_advise": check_advice,
}


def check(case: dict[str, Any], outcome: Outcome) -> None:
    expected = case["expect"]
    for what, value in expected.items():
        CHECKS[what](outcome, value)
    if not expected.keys() & {"error", "must_not_advise"}:
        assert outcome.error is None


def handler_of(case: dict[str, Any]) -> Any:
    return eval(case["handler"], {name: getattr(handlers, name) for name in handlers.__all__})


def name_of(case: Any) -> str:
    return case["name"] if isinstance(case, dict) else str(case)


@needs_cases
@pytest.mark.parametrize("case", ANSWERS.values(), ids=name_of)
def test_a_case_is_right_however_it_is_cut(case: dict[str, Any]) -> None:
    body = case["body"].encode()
    for pieces in ways(body):
        outcome = Outcome()
        if case["mode"] == "whole":
            try:
                outcome.output = handler_of(case).transform_output(ResponseBody(b"".join(pieces)))
            except errors.SmendpointError as error:
                outcome.error = error
        else:
            pipeline: Pipeline[Any] = Pipeline(handler_of(case).stream_decoder(), [])
            for piece in pieces:
                outcome.chunks += pipeline.feed(encode_part(piece))
            outcome.chunks += pipeline.end()
            outcome.error = pipeline.failure
            if outcome.error is not None:
                outcome.error.received = tuple(pipeline.received)
            outcome.completion = pipeline.completion()
        check(case, outcome)


@pytest.fixture(scope="module", params=[None, 1], ids=["whole", "cut-at-every-byte"])
def emulator(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    with Emulator(lambda asked: ANSWERS[asked.endpoint_name]["body"].encode(), piece_size=request.param) as running:
        yield running


@needs_cases
@pytest.mark.parametrize("name", ANSWERS, ids=lambda name: name_of(ANSWERS[name]))
def test_a_case_is_right_on_both_twins_in_both_lanes(emulator: Emulator, twin: Twin, name: str) -> None:
    case = ANSWERS[name]
    endpoint = twin.endpoint(emulator.url, name, content_handler=handler_of(case))
    outcome = Outcome()
    prompt: Any = [[1.0]] if "Tabular" in case["handler"] else "Hello"
    try:
        if case["mode"] == "whole":
            outcome.output = endpoint.invoke(prompt)
        else:
            with endpoint.stream(prompt) as stream:
                try:
                    for chunk in stream:
                        outcome.chunks.append(chunk)
                finally:
                    outcome.completion = stream.iterator.completion
    except errors.SmendpointError as error:
        outcome.error = error
    check(case, outcome)


@needs_cases
@pytest.mark.parametrize("case", REQUESTS, ids=name_of)
def test_a_request_keeps_its_values(case: dict[str, Any]) -> None:
    pandas = pytest.importorskip("pandas")
    value = eval(case["input"], {"pandas": pandas})
    make, _, _ = case["handler"].partition(" for REQUEST in ")
    for form, expected in case["expect"].items():
        handler = eval(make, {"TabularHandler": handlers.TabularHandler, "REQUEST": form})
        body = handler.transform_input(value, {}).decode()
        if form == "csv":
            assert body == expected
        else:
            # The text too: 9007199254740993.0 would be equal to the float that it is not.
            assert json.loads(body) == expected
            assert body == json.dumps(expected, separators=(",", ":"))


@needs_cases
def test_every_case_has_a_check() -> None:
    assert len(ANSWERS) + len(REQUESTS) == len(CASES)
    assert {what for case in ANSWERS.values() for what in case["expect"]} <= CHECKS.keys()
