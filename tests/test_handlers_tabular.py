"""Tables: rows in every format, predictions of every shape, NumPy's format with and without NumPy."""

from __future__ import annotations

import csv
import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._core.http.body import ResponseBody
from smendpoint.errors import HandlerError
from smendpoint.handlers import NumPyHandler, TabularHandler, TabularRowsHandler
from smendpoint.handlers._npy import read_npy, write_npy

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
ROWS = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(FLOATS, min_size=width, max_size=width), min_size=1, max_size=4)
)


def saved(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


HALF = saved(np.array([0.5]))


def sent(request: Any, table: Any) -> str:
    return TabularHandler(request).transform_input(table, {}).decode()


class Frame:
    """The method of an array that only converts itself to NumPy's."""

    def to_numpy(self) -> Any:
        return np.array([[1, 2], [3, 4]])


@pytest.mark.parametrize(
    "table",
    [
        [[1, 2], [3, 4]],
        ((1, 2), (3, 4)),
        iter([[1, 2], [3, 4]]),
        np.array([[1, 2], [3, 4]]),
        [np.array([1, 2]), np.array([3, 4])],
        [[np.int64(1), np.int32(2)], [3, np.uint8(4)]],
        Frame(),
    ],
)
def test_rows_are_read_from_every_holder(table: Any) -> None:
    assert sent("csv", table) == "1,2\n3,4"


def test_one_row_may_stand_alone() -> None:
    assert sent("csv", [1.5, "a"]) == "1.5,a"
    assert sent("json", np.array([1.5, 2.0])) == "[[1.5,2.0]]"


def test_values_are_written_as_containers_read_them() -> None:
    cells = [1, -2.5, 1e300, np.float64(0.1), np.float32(0.5), True, np.bool_(False), None, "a,b", 'c"d', "e\nf", "☃"]
    line = '1,-2.5,1e+300,0.1,0.5,1,0,,"a,b","c""d","e\nf",☃'
    assert sent("csv", [cells]) == line
    assert next(csv.reader(io.StringIO(line)))[8:] == cells[8:]


def test_json_rows_keep_mappings_and_lists() -> None:
    assert json.loads(sent("json", [{"a": 1}, {"a": 2}])) == [{"a": 1}, {"a": 2}]
    assert json.loads(sent("json", [[[1, 2], True, np.int64(3), {"a": 1}]])) == [[[1, 2], True, 3, {"a": 1}]]
    assert sent("jsonlines", [[1, 2], {"features": [3]}]) == '[1,2]\n{"features":[3]}'


def test_libsvm_rows_have_a_label_and_indices_from_zero() -> None:
    assert sent("libsvm", [[0, 1.5], [2, None]]) == "0 0:0 1:1.5\n0 0:2"
    assert sent("libsvm", [{3: 1.5, 7: 2}]) == "0 3:1.5 7:2"
    assert sent("libsvm", [{np.int64(3): np.float64(1.5)}]) == "0 3:1.5"


@given(ROWS)
def test_any_rows_come_back_unchanged(rows: list[list[float]]) -> None:
    for format_ in ("csv", "json", "jsonlines", "npy"):
        handler = TabularRowsHandler(format_, format_)  # type: ignore[arg-type]  # all four are Literals
        assert handler.transform_output(ResponseBody(handler.transform_input(rows, {}))) == rows


@given(st.lists(FLOATS, min_size=1, max_size=5), st.sampled_from([",", "\n", "\r\n"]), st.booleans())
def test_any_predictions_come_back_unchanged(values: list[float], between: str, end: bool) -> None:
    body = between.join(map(repr, values)) + "\n" * end
    assert TabularHandler().transform_output(ResponseBody(body.encode())) == values


@pytest.mark.parametrize(
    ("response", "body", "options", "predictions"),
    [
        ("csv", b'setosa\n"a,b"\n', {"dtype": str}, ["setosa", "a,b"]),
        ("csv", b"1,2\n", {"dtype": int}, [1, 2]),
        ("csv", b"1.0\n-2\n", {"dtype": int}, [1, -2]),
        ("csv", b"", {}, []),
        ("csv", b"nan", {"dtype": str}, ["nan"]),
        ("csv", b"[UNK]\n[PAD]", {"dtype": str}, ["[UNK]", "[PAD]"]),
        ("csv", b"[1", {"dtype": str}, ["[1"]),
        ("csv", b"[0.5],[1.0]", {}, [0.5, 1.0]),
        ("json", b'["a","b"]', {"dtype": str}, ["a", "b"]),
        ("json", b"[[1.5],[2]]", {}, [1.5, 2.0]),
        ("json", b"[1.0,2]", {"dtype": int}, [1, 2]),
        ("json", b'{"predictions":[0.5]}', {}, [0.5]),
        ("json", b'{"scores":[1,2]}', {}, [1.0, 2.0]),
        ("json", b'{"model":"m","projections":[{"any":1}]}', {}, [1.0]),
        ("json", b'{"outputs":[{"any":1}]}', {}, [1.0]),
        # the field of a prediction that has several: its score, its cluster or the chosen one
        ("json", b'[{"other":1}]', {}, [1.0]),
        ("json", b'[{"other":1,"score":2}]', {}, [2.0]),
        ("json", b'[{"distance_to_cluster":1,"closest_cluster":2}]', {}, [2.0]),
        ("json", b'[{"closest_cluster":1,"score":2,"other":3}]', {}, [2.0]),
        ("json", b'[{"closest_cluster":1,"score":2,"other":3}]', {"key": "other"}, [3.0]),
        ("json", b'{"predictions":[{"score":0.5,"predicted_label":1}]}', {}, [0.5]),
        ("json", b'{"predictions":[{"score":0.5,"predicted_label":1}]}', {"key": "predicted_label", "dtype": int}, [1]),
        ("json", b'{"predictions":[{"predicted_value":0.5}]}', {}, [0.5]),
        ("jsonlines", b'{"score":0.5}\r\n\n{"score":1}', {}, [0.5, 1.0]),
        ("jsonlines", b'{"predictions":[{"score":0.5},{"score":1}]}\n', {}, [0.5, 1.0]),
        ("jsonlines", b"0.5\n1\n", {}, [0.5, 1.0]),
        ("npy", saved(np.array([0.5, 1.5], dtype="<f4")), {}, [0.5, 1.5]),
        ("npy", saved(np.array([[1], [2]], dtype=">i8")), {"dtype": int}, [1, 2]),
        ("npy", saved(np.array(["a", "☃☃"])), {"dtype": str}, ["a", "☃☃"]),
        ("npy", saved(np.array(["a"], dtype=">U3")), {"dtype": str}, ["a"]),
        ("npy", saved(np.array(0.5)), {}, [0.5]),
    ],
)
def test_predictions_are_read(response: Any, body: bytes, options: Any, predictions: Any) -> None:
    found = TabularHandler("csv", response, **options).transform_output(ResponseBody(body))
    assert found == predictions
    assert all(type(value) is options.get("dtype", float) for value in found)


@pytest.mark.parametrize(
    ("response", "body", "options", "rows"),
    [
        ("csv", b"0.1,0.9\n0.8,0.2\n", {}, [[0.1, 0.9], [0.8, 0.2]]),
        ("csv", b"0.1,0.9", {}, [[0.1, 0.9]]),
        # XGBoost's container for several classes: Python's lists with commas, or lines, between them
        ("csv", b"[0.1, 0.9],[8e-1, 0.2]", {}, [[0.1, 0.9], [0.8, 0.2]]),
        ("csv", b"[0.1, 0.9]\n[0.8, 0.2]\n", {}, [[0.1, 0.9], [0.8, 0.2]]),
        ("csv", b"[0.1, 0.9]\r\n[0.8, inf]\r\n", {}, [[0.1, 0.9], [0.8, float("inf")]]),
        ("csv", b"[0.1, 0.9]", {}, [[0.1, 0.9]]),
        ("json", b"[[0.1,0.9]]", {}, [[0.1, 0.9]]),
        ("json", b"[0, 1]", {"dtype": int}, [[0], [1]]),
        (
            "json",
            b'{"predictions":[{"probabilities":[0.1,0.9],"labels":["a"]}]}',
            {"key": "probabilities"},
            [[0.1, 0.9]],
        ),
        ("npy", saved(np.asfortranarray(np.arange(6.0).reshape(2, 3))), {}, [[0, 1, 2], [3, 4, 5]]),
    ],
)
def test_rows_are_read(response: Any, body: bytes, options: Any, rows: Any) -> None:
    assert TabularRowsHandler("csv", response, **options).transform_output(ResponseBody(body)) == rows


@pytest.mark.parametrize(
    ("response", "body", "options", "said"),
    [
        ("csv", b"0.1,0.9\n0.8,0.2\n", {}, "2 for one: TabularRowsHandler reads it"),
        ("csv", b"[0.1, 0.9]", {}, "2 for one: TabularRowsHandler reads it"),
        ("csv", b"1_0\n", {}, "the type float, but finds one that is not: text. Choose another dtype"),
        ("json", b"[[0.1,0.9]]", {}, "2 for one: TabularRowsHandler reads it"),
        ("json", b"[[]]", {}, "0 for one: TabularRowsHandler reads it"),
        ("csv", b"SECRET\n", {}, "predictions of the type float, but finds one that is not: text"),
        ("csv", b"1.5\n", {"dtype": int}, "the type int, but finds one that is not: text"),
        ("csv", b"inf\n", {"dtype": int}, "the type int, but finds one that is not: text"),
        ("csv", b"SECRET\n", {"dtype": int}, "the type int, but finds one that is not: text"),
        ("json", b"[1.5]", {"dtype": int}, "the type int, but finds one that is not: number"),
        ("json", b"[true]", {}, "the type float, but finds one that is not: true/false. JSONHandler returns"),
        ("json", b"[null]", {"dtype": str}, "the type str, but finds one that is not: null"),
        ("json", b"[1" + b"0" * 400 + b"]", {}, "the type float, but finds one that is not: number"),
        ("json", b'[[{"a":1}]]', {}, "finds one that is not: {'a': number}"),
        ("json", b'[{"a":1,"b":2}]', {}, "no 'score' in a prediction that has 'a', 'b'"),
        ("json", b"[{}]", {}, "no 'score' in a prediction that has no fields"),
        ("json", b'[{"a":1}]', {"key": "b"}, "no 'b' in a prediction that has 'a'"),
        ("json", b'{"predictions":1}', {}, "structure {'predictions': number}"),
        ("json", b'{"scores":1}', {}, 'expects a list, or "predictions", "scores", "projections" or'),
        ("json", b"{}", {}, 'expects a list, or "predictions", "scores", "projections" or'),
        ("json", b'{"outputs":{"a":[1],"b":[2]}}', {}, 'expects a list, or "predictions", "scores", "projections" or'),
        ("json", b'{"outputs":{}}', {}, 'expects a list, or "predictions", "scores", "projections" or'),
        ("json", b'{"outputs":{"a":1}}', {}, 'expects a list, or "predictions", "scores", "projections" or'),
        ("json", b'{"outputs":{"a":[1]}}', {"key": "b"}, "finds no 'b' in \"outputs\", which has 'a'"),
        (
            "json",
            b'{"predictions":[{"distance_to_cluster":1}]}',
            {},
            "no 'score' in a prediction in \"predictions\" that has 'distance_to_cluster', and no 'closest_cluster'",
        ),
        (
            "json",
            b'{"predictions":[{"score":1,"label":0},{"label":0}]}',
            {},
            "no 'score' in a prediction in \"predictions\" that has 'label', and no 'closest_cluster'",
        ),
        ("json", b'{"predictions":[{"score":1},2]}', {}, 'in "predictions", such as numbers and objects'),
        ("json", b'{"predictions":[{"score":1},{"score":[2]}]}', {}, "'score', such as lists and numbers"),
        ("json", b'{"outputs":{"y":[[1],null]}}', {}, "in \"outputs\", 'y', such as lists and null"),
        ("json", b'[[1],true,"a"]', {}, "several kinds, such as lists and texts and true or false"),
        # a wrong value is named before a row of several values
        ("json", b'[[1,2],["a"]]', {}, "the type float, but finds one that is not: text"),
        ("json", b"[[1,2],[3]]", {}, "2 for one: TabularRowsHandler reads it"),
        ("json", b'{"generated_text":"a"}', {}, "TextGenerationHandler reads this"),
        ("jsonlines", b"{SECRET", {}, "expects JSON"),
        ("csv", b"\xff", {}, "not CSV in UTF-8: invalid start byte at byte 0"),
        ("csv", b'"a"b\n', {}, "quotes do not match"),
        ("csv", b"1" * 200_000, {}, "a field is too long"),
        ("npy", b"1,2", {}, "not a NumPy array"),
        ("npy", b"\x93NUMPY", {}, "cut off inside its header"),
        ("npy", b"\x93NUMPY\x01\x00\x10", {}, "cut off inside its header"),
        ("npy", b"\x93NUMPY\x01\x00\x02\x00{}", {}, "does not describe plain numbers"),
        ("npy", saved(np.zeros((1, 1, 1))), {}, "3 dimensions"),
        ("npy", saved(np.array([1 + 2j])), {}, "type c16; NumPyHandler reads it"),
        ("npy", saved(np.array([True])), {}, "is not: true/false. NumPyHandler returns the answer unchanged"),
        ("npy", saved(np.array([1.5]))[:-1], {}, "7 bytes of data, but its header says 8"),
        ("npy", saved(np.array(["a"]))[:-4] + b"\xff" * 4, {"dtype": str}, "not Unicode"),
    ],
)  # fmt: skip
def test_other_answers_are_errors_that_say_why(response: Any, body: bytes, options: Any, said: str) -> None:
    with pytest.raises(HandlerError) as raised:
        TabularHandler("csv", response, **options).transform_output(ResponseBody(body))
    assert said in str(raised.value)
    assert "SECRET" not in str(raised.value)
    assert raised.value.__cause__ is None


@given(ROWS | st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=2), min_size=1))
def test_numpy_reads_an_array_that_is_written_without_it(rows: list[list[float]]) -> None:
    data = write_npy(rows)
    array = np.load(io.BytesIO(data), allow_pickle=False)
    assert array.tolist() == rows
    assert data.index(b"\n") % 64 == 63
    assert read_npy(data) == rows


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_that_numpy_writes_is_read(version: Any) -> None:
    for dtype in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", ">f4", "<U2"):
        array = np.array([[0, 1], [1, 0]]).astype(dtype)
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, array, version=version)
        assert read_npy(buffer.getvalue()) == array.tolist()


def test_numpy_arrays_go_out_and_come_back_the_same() -> None:
    handler = NumPyHandler()
    for array in (np.arange(6.0).reshape(1, 2, 3), np.array([1 + 2j]), np.array(["a"])):
        again = handler.transform_output(ResponseBody(handler.transform_input(array, {})))
        assert again.dtype == array.dtype
        assert again.tolist() == array.tolist()
    assert handler.transform_output(ResponseBody(handler.transform_input([[1, 2]], {}))).shape == (1, 2)


@pytest.mark.parametrize("value", [[object()], [[1], [2, 3]]])
def test_numpy_objects_are_not_sent(value: Any) -> None:
    with pytest.raises(HandlerError, match="cannot make an array of plain values"):
        NumPyHandler().transform_input(value, {})


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"1,2", "answer of 3 bytes is not one"),
        (saved(np.zeros(3))[:-1], "not a whole NumPy array"),
        (pickled(), "not a whole NumPy array of plain values"),
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 3) + b"{:\n", "not a whole NumPy array"),
    ],
)
def test_an_answer_that_is_not_a_whole_array_is_an_error(body: bytes, said: str) -> None:
    with pytest.raises(HandlerError, match=said):
        NumPyHandler().transform_output(ResponseBody(body))


@pytest.mark.usefixtures("without_numpy")
def test_without_numpy_the_error_names_the_extra_and_lists_still_work() -> None:
    body = ResponseBody(HALF)
    for call in (lambda: NumPyHandler().transform_input([1], {}), lambda: NumPyHandler().transform_output(body)):
        with pytest.raises(HandlerError, match=r"smendpoint\[numpy\]"):
            call()
    handler = TabularHandler("npy", "npy")
    assert handler.transform_input([[0.5]], {}).endswith(struct.pack("<d", 0.5))
    assert handler.transform_output(body) == [0.5]
