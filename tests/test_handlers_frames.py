"""Values keep their type: frames of pandas and polars, Arrow tables, NumPy arrays, in every format of a request."""

from __future__ import annotations

import csv
import datetime
import io
import json
import subprocess
import sys
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smendpoint import AsyncEndpoint, Embeddings, Endpoint, StuffDocumentsQA
from smendpoint.errors import ConfigurationError, HandlerError, PromptError
from smendpoint.handlers import (
    EmbeddingsHandler,
    JSONHandler,
    NumPyHandler,
    RerankHandler,
    TabularHandler,
    TextGenerationHandler,
)

LARGE = 2**53 + 1  # the first integer that is not a 64-bit float

INTEGERS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_infinity=False, allow_nan=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")) | st.text('a,"\r\n ', max_size=4)
MOMENTS = st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2100, 1, 1))
AMOUNTS = st.decimals(-1000, 1000, places=2)


def maybe(values: Any) -> Any:
    return values | st.none()


def sent(request: Any, table: Any) -> str:
    return TabularHandler(request).transform_input(table, {}).decode()


def rows_sent(request: Any, table: Any) -> Any:
    text = sent(request, table)
    if request == "jsonlines":
        return [json.loads(line) for line in text.split("\n")]
    return json.loads(text) if request == "json" else json.loads(text)["instances"]


def array_sent(handler: Any, table: Any) -> Any:
    return np.load(io.BytesIO(handler.transform_input(table, {})), allow_pickle=False)


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


# Each kind of column: its values, and how it is made of them.
PANDAS: dict[str, tuple[Any, Any]] = {
    "integers": (INTEGERS, lambda values: pd.Series(values, dtype="int64")),
    "large integers": (st.integers(0, 2**64 - 1), lambda values: pd.Series(values, dtype="uint64")),
    "nullable integers": (maybe(INTEGERS), lambda values: pd.Series(values, dtype="Int64")),
    "floats": (maybe(FLOATS), lambda values: pd.Series(values, dtype="float64")),
    "short floats": (maybe(st.floats(width=32, allow_infinity=False)), lambda values: pd.Series(values, dtype="f4")),
    "nullable floats": (maybe(FLOATS), lambda values: pd.Series(values, dtype="Float64")),
    "booleans": (st.booleans(), lambda values: pd.Series(values, dtype="bool")),
    "nullable booleans": (maybe(st.booleans()), lambda values: pd.Series(values, dtype="boolean")),
    "texts": (maybe(TEXTS), lambda values: pd.Series(values, dtype="string")),
    "categories": (maybe(TEXTS), lambda values: pd.Series(values, dtype="category")),
    "dates": (maybe(st.dates()), lambda values: pd.Series(values, dtype=object)),
    "moments": (maybe(MOMENTS), lambda values: pd.Series(values, dtype="datetime64[ns]")),
    "moments of a zone": (maybe(MOMENTS), lambda values: pd.Series(values, dtype="datetime64[ns, UTC]")),
    "decimals": (maybe(AMOUNTS), lambda values: pd.Series(values, dtype=object)),
    "objects": (maybe(INTEGERS | FLOATS | TEXTS | st.booleans()), lambda values: pd.Series(values, dtype=object)),
}
POLARS: dict[str, tuple[Any, Any]] = {
    "integers": (maybe(INTEGERS), pl.Int64),
    "large integers": (maybe(st.integers(0, 2**64 - 1)), pl.UInt64),
    "floats": (maybe(FLOATS), pl.Float64),
    "short floats": (maybe(st.floats(width=32, allow_infinity=False, allow_nan=False)), pl.Float32),
    "booleans": (maybe(st.booleans()), pl.Boolean),
    "texts": (maybe(TEXTS), pl.String),
    "categories": (maybe(TEXTS), pl.Categorical),
    "dates": (maybe(st.dates()), pl.Date),
    "times": (maybe(st.times()), pl.Time),
    "moments": (maybe(MOMENTS), pl.Datetime("us")),
    "moments of a zone": (maybe(MOMENTS), pl.Datetime("us", "UTC")),
    "decimals": (maybe(AMOUNTS), pl.Decimal(20, 2)),
}


@st.composite
def columns(draw: Any, kinds: Any) -> list[tuple[str, list[Any]]]:
    names = draw(st.lists(st.sampled_from(list(kinds)), min_size=1, max_size=5))
    length = draw(st.integers(1, 4))
    return [(name, draw(st.lists(kinds[name][0], min_size=length, max_size=length))) for name in names]


def pandas_frame(made: Any) -> Any:
    frame = pd.concat([PANDAS[name][1](values) for name, values in made], axis=1)
    frame.columns = ["name" for _ in made]  # two columns may have one name
    return frame


def polars_frame(made: Any) -> Any:
    series = [pl.Series(str(n), values, POLARS[name][1]) for n, (name, values) in enumerate(made)]
    return pl.DataFrame(series)


def as_json(value: Any) -> Any:
    """Give a single value, taken from a frame by its place, as it is in JSON."""
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return None
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (str, int, np.integer)):
        return value if isinstance(value, str) else int(value)
    return value.isoformat() if hasattr(value, "isoformat") else float(value)


# CSV is written by the frame's own library


@given(columns(PANDAS))
def test_csv_is_what_pandas_writes(made: Any) -> None:
    frame = pandas_frame(made)
    expected = frame.to_csv(header=False, index=False, lineterminator="\n")
    # Before Python 3.13 it leaves a lone carriage return without quotes: the test of texts that come back is of these.
    assert sent("csv", frame) == expected or "\r" in expected


@given(columns(POLARS))
def test_csv_is_what_polars_writes(made: Any) -> None:
    frame = polars_frame(made)
    lone = '""' if frame.width == 1 else None
    assert sent("csv", frame) == frame.write_csv(include_header=False, null_value=lone)


@given(st.lists(st.tuples(TEXTS, INTEGERS), min_size=1))
def test_texts_come_back_from_csv_as_they_were(rows: list[tuple[str, int]]) -> None:
    tables = (pd.DataFrame(rows), pl.DataFrame(rows, schema=["a", "b"], orient="row"), pa.table(
        {"a": [text for text, _ in rows], "b": [number for _, number in rows]}
    ), rows)  # fmt: skip
    for table in tables:
        assert cells(sent("csv", table)) == [[text, str(number)] for text, number in rows]


def test_a_row_without_its_only_value_is_not_an_empty_line_which_containers_skip() -> None:
    for frame in (pd.DataFrame({"a": [None, 1.5]}), pl.DataFrame({"a": [None, 1.5]})):
        assert sent("csv", frame) == '""\n1.5\n'
    assert sent("csv", [[None], [1.5], [None]]) == '""\n1.5\n""'


# JSON has each value with its type


@given(columns({name: kind for name, kind in PANDAS.items() if name != "decimals"}))
def test_json_has_each_value_of_pandas(made: Any) -> None:
    frame = pandas_frame(made)
    height, width = frame.shape
    expected = [[as_json(frame.iat[row, column]) for column in range(width)] for row in range(height)]
    for request in ("json", "jsonlines", "instances"):
        assert repr(rows_sent(request, frame)) == repr(expected)


@given(columns({name: kind for name, kind in POLARS.items() if name != "decimals"}))
def test_json_has_each_value_of_polars_and_arrow(made: Any) -> None:
    frame = polars_frame(made)
    expected = [[as_json(value) for value in row] for row in frame.rows()]
    for table in (frame, frame.to_arrow()):
        for request in ("json", "jsonlines", "instances"):
            assert repr(rows_sent(request, table)) == repr(expected)


TABLES = {
    "pandas": pd.DataFrame({"id": [LARGE, 1], "x": [0.5, 2.0]}),
    "polars": pl.DataFrame({"id": [LARGE, 1], "x": [0.5, 2.0]}),
    "arrow": pa.table({"id": [LARGE, 1], "x": [0.5, 2.0]}),
    "an arrow batch": pa.RecordBatch.from_pydict({"id": [LARGE, 1], "x": [0.5, 2.0]}),
    "a structured array": np.array([(LARGE, 0.5), (1, 2.0)], dtype=[("id", "i8"), ("x", "f4")]),
    "rows of a structured array": list(np.array([(LARGE, 0.5), (1, 2.0)], dtype=[("id", "i8"), ("x", "f4")])),
    "an object array": np.array([[LARGE, 0.5], [1, 2.0]], dtype=object),
    "lists": [[np.int64(LARGE), np.float32(0.5)], [1, 2.0]],
    "a list and a tuple": [[*pa.array([LARGE]).to_pylist(), 0.5], (1, 2.0)],
    "rows of polars": [pl.Series([LARGE, 1]), pl.Series([0.5, 2.0])],
}


@pytest.mark.parametrize("name", TABLES)
def test_an_integer_beside_a_float_stays_an_integer(name: str) -> None:
    table = TABLES[name]
    if name == "rows of polars":
        assert rows_sent("json", table) == [[LARGE, 1], [0.5, 2.0]]
        return
    assert sent("csv", table) == f"{LARGE},0.5\n1,2.0" + "\n" * (name in ("pandas", "polars"))
    assert repr(rows_sent("json", table)) == repr(rows_sent("jsonlines", table)) == f"[[{LARGE}, 0.5], [1, 2.0]]"
    assert sent("libsvm", table) == f"0 0:{LARGE} 1:0.5\n0 0:1 1:2.0"
    for handler in (TabularHandler("npy"), NumPyHandler()):
        if name.startswith(("a structured", "rows of a s", "an object")) and isinstance(handler, NumPyHandler):
            continue
        with pytest.raises(HandlerError, match="several types, and an array of a single type would change one"):
            handler.transform_input(table, {})


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": [True, False]}),
        pl.DataFrame({"a": [1, None], "b": [True, False]}),
        pa.table({"a": [1, None], "b": [True, False]}),
        np.ma.array([[1, True], [2, False]], mask=[[0, 0], [1, 0]], dtype=object),
        [[1, True], [pd.NA, np.bool_(False)]],
        [[1, True], [pd.NaT, False]],
        [np.ma.array([1, 1], mask=[0, 0]), [np.ma.masked, 0]],
    ],
)
def test_a_missing_value_stays_missing_and_does_not_become_nan(table: Any) -> None:
    own = isinstance(table, (pd.DataFrame, pl.DataFrame))
    assert sent("csv", table).lower() == ("1,true\n,false\n" if own else "1,1\n,0")
    assert sent("libsvm", table) == "0 0:1 1:1\n0 1:0"
    with pytest.raises(HandlerError, match="Row 1 has a value that is not a number"):
        sent("npy", table)
    parsed = rows_sent("json", table)
    assert parsed == [[1, True], [None, False]]


def test_dates_of_numpy_are_sent_as_dates_and_not_as_nanoseconds() -> None:
    moments = np.array([["2020-01-02", "NaT"]], dtype="M8[ns]")
    for table in (moments, [list(moments[0])], list(moments)):
        assert sent("csv", table) == "2020-01-02T00:00:00.000000000,"
        assert rows_sent("json", table) == [["2020-01-02T00:00:00.000000000", None]]
    fields = np.array([("2020-01-02", 1)], dtype=[("day", "M8[D]"), ("n", "u1")])
    assert rows_sent("json", fields) == rows_sent("json", list(fields)) == [["2020-01-02", 1]]


def test_dates_and_decimals_of_python_are_written_in_iso_and_as_they_are() -> None:
    moment = datetime.datetime(2020, 1, 2, 3, 4, tzinfo=datetime.timezone.utc)
    row = [datetime.date(2020, 1, 2), datetime.time(3, 4), moment]
    assert sent("csv", [[*row, Decimal("1.50")]]) == "2020-01-02,03:04:00,2020-01-02 03:04:00+00:00,1.50"
    expected = ["2020-01-02", "03:04:00", "2020-01-02T03:04:00+00:00"]
    assert rows_sent("json", [row]) == [expected]
    assert rows_sent("json", [{"a": moment, "b": [1, (2,)]}]) == [{"a": expected[2], "b": [1, [2]]}]


def test_series_and_other_holders_of_one_row() -> None:
    for row in (pd.Series([1, None], dtype="Int64"), pl.Series([1, None]), pa.array([1, None]), pd.array([1, None])):
        assert rows_sent("json", row) == [[1, None]]
        assert rows_sent("json", [row, row]) == [[1, None], [1, None]]
    assert rows_sent("json", pd.Index([LARGE])) == [[LARGE]]
    assert rows_sent("json", pd.Series([1.5, None])) == [[1.5, None]]


def test_lists_within_a_frame_are_for_json_alone() -> None:
    for frame in (
        pd.DataFrame({"a": [[1, 2]]}),
        pl.DataFrame({"a": [[1, 2]]}),
        pa.table({"a": [[1, 2]]}),
        [[np.array([1, 2])]],
    ):
        assert rows_sent("json", frame) == [[[1, 2]]]
        with pytest.raises(HandlerError, match=r"value of type (list|ndarray)|polars does not write .*List\(Int64\)"):
            sent("csv", frame)


class Secret:
    def __str__(self) -> str:
        return "SECRET"


@pytest.mark.parametrize("request_", ["csv", "json", "jsonlines", "libsvm", "npy"])
@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pd.DataFrame({"a": [Secret()]}), "Row 0 has a value of type Secret"),
        (pd.DataFrame({"a": [1, b"SECRET"]}), "Row 1 has a value of type bytes"),
        (pd.DataFrame({"a": pd.Series([b"SECRET"], dtype=pd.ArrowDtype(pa.binary()))}), "Row 0 .* type bytes"),
        (pl.DataFrame({"a": [b"SECRET"]}), "Row 0 has a value of type bytes|ComputeError.*Binary"),
        (pl.DataFrame({"a": [datetime.timedelta(1)]}), "Row 0 .* type timedelta|ComputeError.*Duration"),
        (np.array([[b"SECRET"]]), "Row 0 has a value of type bytes"),
        (np.array([[1, 2]], dtype="m8[ns]"), "Row 0 has a value of type timedelta64"),
        (np.array([[1, 2]], dtype="g"), "Row 0 has a value of type (longdouble|float128)"),
        (np.array([[1j]]), "Row 0 has a value of type complex"),
        (pd.DataFrame({"a": []}), "at least one row"),
        (pd.DataFrame(index=range(3)), "at least one row"),
        (pl.DataFrame(), "at least one row"),
        (pa.table({}), "at least one row"),
        (np.array(5), "a sequence of rows, or one row, not ndarray"),
        (pl.LazyFrame({"a": [1]}), "a sequence of rows, or one row, not LazyFrame"),
        ({1, 2}, "a sequence of rows, or one row, not set"),
        (bytearray(b"12"), "a sequence of rows, or one row, not bytearray"),
        ([[1], b"SECRET"], "has rows and single values"),
    ],
)
def test_a_value_that_no_format_holds_is_refused_with_its_type(request_: Any, table: Any, said: str) -> None:
    with pytest.raises(HandlerError, match=said) as raised:
        sent(request_, table)
    assert "SECRET" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("request_", "table", "said"),
    [
        ("csv", "SECRET", "sequence of rows, or one row, not str"),
        ("csv", {"SECRET": 1}, "sequence of rows, or one row, not dict"),
        ("csv", 1, "sequence of rows, or one row, not int"),
        ("csv", [], "at least one row"),
        ("csv", [[1], 2], "has rows and single values"),
        ("csv", [[1, 2], [3]], "Row 1 has 1 values, but row 0 has 2"),
        ("csv", [{"SECRET": 1}], "Row 0 is a mapping, but CSV has no column names"),
        ("csv", [[1, object()]], "Row 0 has a value of type object"),
        ("json", [[1, object()]], "Row 0 has a value of type object"),
        ("json", [[float("nan")]], "not a finite number"),
        ("csv", [["\ud800"]], "cannot be written as UTF-8"),
        ("libsvm", [{"SECRET": 1}], "Row 0 must have whole numbers as indices and numbers as values"),
        ("libsvm", [[1], ["SECRET"]], "Row 1 must have whole numbers as indices and numbers as values"),
        ("npy", [[1, "SECRET"]], "Row 0 has a value that is not a number"),
        ("npy", [[1], [None]], "Row 1 has a value that is not a number"),
        ("npy", [[2**63]], "fits neither 64-bit integers nor 64-bit floats"),
        ("npy", [[0.5, 10**400]], "fits neither 64-bit integers nor 64-bit floats"),
        ("csv", [[10**5000]], "an integer with more digits than Python writes"),
        ("libsvm", [[10**5000]], "an integer with more digits than Python writes"),
        ("json", [[10**5000]], "an integer with more digits than Python writes"),
        ("json", pd.DataFrame({"a": [Decimal(1)]}), "the input.* is of type Decimal"),
        ("json", pd.DataFrame({"a": [float("inf")]}), "is not a finite number"),
        ("json", pl.DataFrame({"a": [float("nan")]}), "is not a finite number"),
        ("json", pd.DataFrame({"a": [pd.Timedelta(1)]}), "Row 0 has a value of type Timedelta"),
        ("libsvm", pd.DataFrame({"a": ["SECRET"]}), "numbers as values for libsvm"),
        ("npy", pd.DataFrame({"a": ["SECRET"]}), "Row 0 has a value that is not a number"),
        ("npy", pd.DataFrame({"a": [pd.Timestamp(0)]}), "Row 0 has a value that is not a number"),
    ],
)
def test_a_value_that_one_format_does_not_hold_is_refused_with_its_place(request_: Any, table: Any, said: str) -> None:
    with pytest.raises(HandlerError, match=said) as raised:
        sent(request_, table)
    assert "SECRET" not in str(raised.value)


# Values in other inputs, and in parameters


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(LARGE), str(LARGE)),
        (np.uint8(1), "1"),
        (np.float32(0.5), "0.5"),
        (np.bool_(True), "true"),
        (np.str_("a"), '"a"'),
        (pd.NA, "null"),
        (pd.NaT, "null"),
        (np.array([[1, 2], [3, 4]], dtype="i2"), "[[1,2],[3,4]]"),
        (np.array([LARGE, 0.5, None, "a"], dtype=object), f'[{LARGE},0.5,null,"a"]'),
        (np.ma.array([1, 2], mask=[0, 1]), "[1,null]"),
        (pd.Series([1, None], dtype="Int64"), "[1,null]"),
    ],
)
def test_json_has_numbers_and_arrays_of_numpy_wherever_they_stand(value: Any, expected: str) -> None:
    body = JSONHandler().transform_input({"a": [value]}, {"b": value})
    assert body == f'{{"a":[{expected}],"b":{expected}}}'.encode()
    text = TextGenerationHandler().transform_input("Hello", {"b": value})
    assert text == f'{{"inputs":"Hello","parameters":{{"b":{expected}}}}}'.encode()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": [1, {2, 3}]}, r"the input\['a'\]\[0\]\['a'\]\[1\] is of type set"),
        ({"a": float("nan")}, r"the input\['a'\]\[0\]\['a'\] is not a finite number"),
        ([float("-inf")], r"the input\['a'\]\[0\]\[0\] is not a finite number"),
        ({"a": {(1, 2): 3}}, r"the input\['a'\]\[0\]\['a'\] has a key of type tuple"),
        (({"a": 1}, None, "x", object()), r"the input\['a'\]\[0\]\[3\] is of type object"),
        ([b"SECRET"], r"the input\['a'\]\[0\]\[0\] is of type bytes"),
        (datetime.date(2020, 1, 2), "is of type date"),
        (pd.Timestamp(0), "is of type Timestamp"),
        (Decimal(1), "is of type Decimal"),
        ({1}, "is of type set"),
        (b"SECRET", "is of type bytes"),
        (float("nan"), "is not a finite number"),
        (np.float32("nan"), "is not a finite number"),
        (np.array([1, np.inf]), r"\['a'\]\[0\]\[1\] is not a finite number"),
        (np.array([Decimal(1)], dtype=object), r"\['a'\]\[0\]\[0\] is of type Decimal"),
        (np.datetime64("2020-01-02", "ns"), "is of type datetime64"),
        (np.timedelta64(1, "ns"), "is of type timedelta64"),
        (np.longdouble(1), "is of type (longdouble|float128)"),
        (pd.DataFrame({"a": [1]}), "is of type DataFrame"),
        ([10**5000], "is an integer with more digits than Python writes"),
    ],
)
def test_a_value_that_json_does_not_hold_is_named_by_place_and_type(value: Any, said: str) -> None:
    with pytest.raises(HandlerError, match=said) as raised:
        JSONHandler().transform_input({"a": [value]}, {})
    assert "SECRET" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("frame", [pd.DataFrame({"inputs": ["a"], "b": ["c"]}), pl.DataFrame({"inputs": ["a"]})])
def test_a_frame_is_not_a_list_of_its_columns_names(frame: Any) -> None:
    name = type(frame).__name__
    with pytest.raises(HandlerError, match=f"takes a list of texts, not {name}"):
        EmbeddingsHandler().transform_input(frame, {})
    with pytest.raises(HandlerError, match=f"takes a list of texts, not {name}"):
        Embeddings(Endpoint("my-llm", content_handler=EmbeddingsHandler())).embed_documents(frame)
    with pytest.raises(HandlerError, match="a query that is a str, and a list of texts"):
        RerankHandler().transform_input(("query", frame), {})
    with pytest.raises(PromptError, match=f"must be a list of documents, not one {name}"):
        StuffDocumentsQA(Endpoint("my-llm")).answer("question", frame)
    for make in (Endpoint, AsyncEndpoint):
        with pytest.raises(ConfigurationError, match=f"not one {name}"):
            make("my-llm").map(frame, max_concurrency=2)


def test_texts_may_be_a_column_of_a_frame_or_an_array() -> None:
    for texts in (pd.Series(["a", "b"]), pl.Series(["a", "b"]), np.array(["a", "b"]), ("a", "b"), iter(["a", "b"])):
        assert json.loads(EmbeddingsHandler().transform_input(texts, {})) == {"inputs": ["a", "b"]}


# NumPy's format


@pytest.mark.parametrize("dtype", ["?", "i1", "u8", ">i4", "f2", "f4", ">f8"])
def test_an_array_of_numbers_is_sent_with_its_own_type(dtype: str) -> None:
    array = np.array([[0, 1], [1, 0]]).astype(dtype)
    for table, shape in (
        (array, (2, 2)),
        (np.asfortranarray(array), (2, 2)),
        (array[0], (1, 2)),
        (array[:, :1], (2, 1)),
        (np.array([2**64 - 1], dtype="u8"), (1, 1)),
    ):
        found = array_sent(TabularHandler("npy"), table)
        assert (found.dtype, found.shape) == (table.dtype, shape)
        assert found.ravel().tolist() == table.ravel().tolist()


def test_nan_is_a_number_in_a_column_of_floats() -> None:
    frame = pd.DataFrame({"a": [1.5, None], "b": [1, 2]})
    for handler in (TabularHandler("npy"), NumPyHandler()):
        assert repr(array_sent(handler, frame).tolist()) == "[[1.5, 1.0], [nan, 2.0]]"


NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9) | st.floats() | st.booleans() | TEXTS


@settings(max_examples=300)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=3))
@example([(0, 2**53 + 1), (0, 0.0)])
def test_an_array_holds_what_was_given_or_is_refused(rows: list[Any]) -> None:
    frame = pd.DataFrame([list(row) for row in rows], dtype=object).infer_objects()
    tables: list[tuple[Any, list[Any]]] = [
        (rows, rows),
        (frame, list(frame.itertuples(index=False, name=None))),  # pandas may have made floats of its integers
        (np.array(rows, dtype=object), rows),
    ]
    for handler in (TabularHandler("npy"), NumPyHandler()):
        for table, held in tables:
            try:
                found = array_sent(handler, table).tolist()
            except HandlerError:
                continue
            for row, old_row in zip(found, held, strict=True):
                for new, old in zip(row, old_row, strict=True):
                    assert new == old or (new != new and old != old)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([LARGE, 0.5], "several types"),
        (pd.Series([LARGE, None], dtype="Int64").astype(object), "cannot make an array of plain values"),
        (pl.Series([LARGE, None]), "several types"),
        ([1, "a"], "several types"),
        (["a\0"], "several types"),
        ([b"a", 1], "several types"),
        ([LARGE, 1j], "several types"),
        ([10**400, 0.5], "cannot make an array of plain values"),
        (np.ma.array([1, 2], mask=[0, 1]), "masked values"),
    ],
)
def test_numpy_changes_no_value_on_its_way_into_an_array(values: Any, said: str) -> None:
    with pytest.raises(HandlerError, match=said):
        NumPyHandler().transform_input(values, {})


def test_large_numbers_that_an_array_holds_are_sent() -> None:
    for values in (
        [2.0**60, 2**60],
        pd.DataFrame({"a": [2.0**60, None]}),
        pl.Series([2.0**60, float("nan")]),
        ["a", "b"],
    ):
        assert array_sent(NumPyHandler(), values).size == 2
    assert array_sent(NumPyHandler(), np.ma.array([1, 2])).tolist() == [1, 2]


def test_importing_the_handlers_and_writing_a_table_imports_neither_pandas_nor_polars_nor_numpy() -> None:
    program = (
        "import sys, smendpoint.handlers as handlers\n"
        "for name in ('csv', 'json', 'jsonlines', 'libsvm', 'npy'):\n"
        "    handlers.TabularHandler(name).transform_input([[1, 0.5]], {})\n"
        "print([name for name in ('numpy', 'pandas', 'polars', 'pyarrow', 'decimal') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
