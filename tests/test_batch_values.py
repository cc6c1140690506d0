"""The values of a ledger's lines as JSON that every reader takes, and digests that others can make."""

from __future__ import annotations

import enum
import hashlib
import json
import uuid
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smendpoint.batch._values import digest_of, encode_output
from smendpoint.errors import HandlerError
from smendpoint.handlers import ChatCompletion, Classification, ToolCall, Usage

NAN = float("nan")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=10,
)


class Weather(enum.Enum):
    RAIN = "rain"


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


@given(JSON)
def test_a_json_value_is_written_as_it_is_in_one_line(value: Any) -> None:
    text = encode_output(value)
    assert json.loads(text, parse_constant=refuse) == value
    assert "\n" not in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NAN, "NaN"),
        (
            [1.5, float("inf"), {"a": (-float("inf"), None, True, "x", 3)}],
            [1.5, "Infinity", {"a": ["-Infinity", None, True, "x", 3]}],
        ),
        ({"a": b"\x00\xff", "n": NAN}, {"a": {"base64": "AP8="}, "n": "NaN"}),
        ([bytearray(b"a"), memoryview(b"b")], [{"base64": "YQ=="}, {"base64": "Yg=="}]),
        ((1, 2), [1, 2]),
        (Classification("good", 0.5), {"label": "good", "score": 0.5}),
        ([Classification("good", NAN)], [{"label": "good", "score": "NaN"}]),
        (
            [date(2026, 1, 2), datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc), time(1, 2)],
            ["2026-01-02", "2026-01-02T03:04:00+00:00", "01:02:00"],
        ),
        ([Decimal("1.10"), uuid.UUID(int=1)], ["1.10", "00000000-0000-0000-0000-000000000001"]),
        ([Weather.RAIN], ["rain"]),
    ],
    ids=[
        *("NaN", "infinities", "bytes", "other bytes", "tuple", "label", "label with NaN", "times", "numbers as texts"),
        "enumeration",
    ],
)
def test_a_value_that_json_does_not_have_is_written_without_a_loss(value: Any, expected: Any) -> None:
    assert json.loads(encode_output(value), parse_constant=refuse) == expected


def test_numpy_s_arrays_and_numbers_and_pandas_missing_values_are_written() -> None:
    import numpy
    import pandas

    value = [numpy.array([[0.1, NAN]], "float32"), numpy.int64(3), numpy.bool_(True), pandas.NA, numpy.array("a")]
    expected = [[[float(numpy.float32(0.1)), "NaN"]], 3, True, None, "a"]
    assert json.loads(encode_output(value), parse_constant=refuse) == expected


def test_a_chat_completion_is_an_object_without_what_the_line_has_already() -> None:
    call = ToolCall("c1", "search", "{}")
    output = ChatCompletion("Hi", (call,), "Thinking", "tool_calls", Usage(1, 2, 3), {"choices": []})
    assert json.loads(encode_output(output)) == {
        "text": "Hi",
        "tool_calls": [{"id": "c1", "name": "search", "arguments": "{}"}],
        "reasoning": "Thinking",
        "finish_reason": "tool_calls",
    }


def test_a_model_of_pydantic_is_an_object() -> None:
    from pydantic import BaseModel

    class Answer(BaseModel):
        day: date

    assert json.loads(encode_output([Answer(day=date(2026, 1, 2))])) == [{"day": "2026-01-02"}]


def endless() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def deep() -> Any:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "type object"),
        ({1, 2}, "type set"),
        (Classification, "type type"),
        ([NAN, 1j], "type complex"),
        (endless(), "holds itself"),
        (deep(), "nested too deeply"),
        ({(1,): 2}, "keys must be"),
        ({(1,): NAN}, "keys must be"),
    ],
    ids=["object", "set", "class", "complex", "endless", "deep", "key", "key and nan"],
)
def test_a_value_without_a_form_is_an_error_that_names_its_type(value: Any, message: str) -> None:
    with pytest.raises(HandlerError, match=message):
        encode_output(value)
    with pytest.raises(HandlerError, match=message):
        digest_of(value)


def test_a_long_double_and_a_date_of_numpy_have_no_form() -> None:
    import numpy

    for value in (numpy.longdouble(1), numpy.datetime64("2026-01-02")):
        with pytest.raises(HandlerError, match="JSON has no form"):
            encode_output(value)


@given(JSON, st.dictionaries(st.text(), JSON))
def test_a_digest_is_made_as_the_reference_says(value: Any, parameters: dict[str, Any]) -> None:
    row = {"input": value, "parameters": parameters} if parameters else {"input": value}
    text = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    expected = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    assert digest_of(value, parameters) == expected


def test_a_digest_does_not_depend_on_the_order_of_keys_and_does_on_everything_else() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    values = [({"a": 1}, {}), ({"a": 1.0}, {}), ({"a": "1"}, {}), ({"a": 1}, {"a": 1}), (b"a", {}), ("\ud83d", {})]
    assert len({digest_of(*value) for value in values}) == len(values)
