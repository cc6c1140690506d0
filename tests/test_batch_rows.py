"""Rows of a batch: from files of each kind, standard input and iterables, and the errors of what cannot be read."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smendpoint.batch._rows import Row, read_rows
from smendpoint.batch._values import digest_of
from smendpoint.errors import ConfigurationError


def brief(rows: Any) -> list[tuple[str, Any, dict[str, Any]]]:
    found = list(rows)
    assert [row.number for row in found] == list(range(len(found)))
    assert [row.digest for row in found] == [digest_of(row.input, row.parameters) for row in found]
    return [(row.id, row.input, row.parameters) for row in found]


def write(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "ROWS.NDJSON"])
def test_json_lines_are_inputs_and_their_numbers_are_ids(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, b'\xef\xbb\xbf"one"\r\n\n  \n{"a": [1]}\n3')
    assert brief(read_rows(path)) == [("0", "one", {}), ("1", {"a": [1]}, {}), ("2", 3, {})]


def test_plain_lines_are_texts_without_their_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.txt", '\ufeff one \r\n\n"zwölf"\n\u2028x')
    assert brief(read_rows(str(path))) == [("0", " one ", {}), ("1", '"zwölf"', {}), ("2", "\u2028x", {})]
    with pytest.raises(ConfigurationError, match="plain lines have no fields"):
        read_rows(path, id_field="id")


def test_fields_make_the_id_the_input_and_the_parameters(tmp_path: Path) -> None:
    values = [
        {"key": "a", "prompt": "one", "kwargs": {"max_tokens": 5}, "seed": 1},
        {"key": 7, "prompt": "two", "kwargs": None},
    ]
    path = write(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, values)))
    for source in (path, values):
        rows = read_rows(source, input_field="prompt", id_field="key", param_field=("kwargs", "seed"))
        assert brief(rows) == [("a", "one", {"max_tokens": 5, "seed": 1}), ("7", "two", {})]
        rows = read_rows(source, id_field="key", param_field="kwargs")
        assert brief(rows) == [("a", {"prompt": "one", "seed": 1}, {"max_tokens": 5}), ("7", {"prompt": "two"}, {})]
        rows = read_rows(source, input_field=["key", "prompt"])
        assert brief(rows) == [("0", ["a", "one"], {}), ("1", [7, "two"], {})]


def test_csv_has_a_header_texts_and_parameters_in_json(tmp_path: Path) -> None:
    data = '\ufeffid,text,kwargs,stop\r\na,"two\nlines","{""max_tokens"": 5}",\r\n\r\n007,42,,END\r\n'
    path = write(tmp_path / "rows.csv", data)
    rows = read_rows(path, id_field="id", param_field=["kwargs", "stop"])
    assert brief(rows) == [("a", "two\nlines", {"max_tokens": 5}), ("007", "42", {"stop": "END"})]
    rows = read_rows(path, input_field="text", param_field="kwargs")
    assert brief(rows) == [("0", "two\nlines", {"max_tokens": 5}), ("1", "42", {})]
    assert [row.input for row in read_rows(path)] == [
        {"id": "a", "text": "two\nlines", "kwargs": '{"max_tokens": 5}', "stop": ""},
        {"id": "007", "text": "42", "kwargs": "", "stop": "END"},
    ]


def test_several_columns_of_csv_are_a_list_of_numbers_and_texts(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", "a,b,c\n1,2.5,red\n-3,true,\n")
    rows = read_rows(path, input_field=["b", "a", "c"])
    assert [row.input for row in rows] == [[2.5, 1, "red"], ["true", -3, ""]]


def test_a_cell_and_a_line_may_be_huge_and_the_limit_of_csv_stays(tmp_path: Path) -> None:
    import csv

    text = "x" * 300_000
    assert next(read_rows(write(tmp_path / "a.csv", f"text\n{text}\n"))).input == text
    assert next(read_rows(write(tmp_path / "a.jsonl", json.dumps(text)))).input == text
    assert csv.field_size_limit() < len(text)


def test_parquet_is_read_in_batches_and_only_the_columns_that_are_used(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "rows.parquet"
    numbers = list(range(3000))
    table = pyarrow.table({"key": [f"k{n}" for n in numbers], "n": numbers, "kwargs": [{"seed": n} for n in numbers]})
    pyarrow.parquet.write_table(table, path)
    rows = brief(read_rows(path, input_field="n", id_field="key", param_field="kwargs"))
    assert rows == [(f"k{n}", n, {"seed": n}) for n in numbers]
    assert next(read_rows(path, id_field="key", param_field="kwargs")).input == 0
    assert next(read_rows(path)).input == {"key": "k0", "n": 0, "kwargs": {"seed": 0}}
    assert next(read_rows(path, input_field=["n", "key"])).input == [0, "k0"]
    with pytest.raises(ConfigurationError, match=r"rows\.parquet has no column 'm'"):
        next(read_rows(path, input_field="m"))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConfigurationError, match=r"cannot read .*rows\.parquet as Parquet after row 0"):
        next(read_rows(path))


def test_a_column_of_parameters_must_be_there_and_its_nulls_are_left_out(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"n": [1, 2], "with": [{"a": 1, "b": None}, {"a": None, "b": 2}]}), path)
    assert brief(read_rows(path, param_field="with")) == [("0", 1, {"a": 1}), ("1", 2, {"b": 2})]
    with pytest.raises(ConfigurationError, match="row 0: there is no field 'kwargs'"):
        next(read_rows(path, param_field="kwargs"))


@pytest.mark.parametrize("column", ["text", "day"])
def test_a_value_of_parquet_that_python_does_not_have_is_an_error_with_its_file(tmp_path: Path, column: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    buffers = pyarrow.array([b"\xff"]).buffers()
    values = {"text": pyarrow.Array.from_buffers(pyarrow.string(), 1, buffers), "day": [10**8]}
    parquet.write_table(
        pyarrow.table({column: pyarrow.array(values[column], None if column == "text" else pyarrow.date32())}), path
    )
    with pytest.raises(ConfigurationError, match=r"cannot read .*rows\.parquet as Parquet after row 0"):
        next(read_rows(path))


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'smendpoint\[arrow\]'"):
        next(read_rows(tmp_path / "rows.parquet"))


def test_standard_input_has_json_lines_or_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'"one"\n')))
    assert brief(read_rows("-")) == [("0", "one", {})]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"text\none\n")))
    assert brief(read_rows("-", format="csv")) == [("0", "one", {})]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"text\n\xff\n")))
    with pytest.raises(ConfigurationError, match="standard input, line 2: byte 1 of the line is not UTF-8"):
        list(read_rows("-", format="text"))
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ConfigurationError, match="there is no standard input"):
        next(read_rows("-"))
    with pytest.raises(ConfigurationError, match="Parquet cannot be read from standard input"):
        read_rows("-", format="parquet")


def test_any_iterable_is_read_as_it_is_asked_for() -> None:
    taken = []

    def source() -> Any:
        for number in range(5):
            taken.append(number)
            yield (number, b"\x00")

    rows = read_rows(source())
    assert taken == []
    assert next(rows).input == (0, b"\x00")
    assert taken == [0]


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("rows.xml", {}, r"the name of 'rows\.xml' does not show its format"),
        ("rows.jsonl", {"format": "xml"}, "format must be one of jsonl, csv, text, parquet, not 'xml'"),
        (["one"], {"format": "csv"}, "format is only for files"),
        (b"one", {}, "not of type bytes"),
        ({"a": 1}, {}, "not of type dict"),
        (7, {}, "not of type int"),
    ],
)
def test_a_source_that_does_not_fit_is_an_error_at_once(source: Any, options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_rows(source, **options)


@pytest.mark.parametrize(
    ("name", "data", "options", "message"),
    [
        ("a.jsonl", b'"one"\n\n{"a":\n', {}, "line 3: this is not JSON"),
        ("a.jsonl", b'"one"\n"\xff"\n', {}, "line 2: byte 2 of the line is not UTF-8"),
        ("a.jsonl", b"[" * 100_000, {}, "line 1: this is not JSON"),
        (
            "a.jsonl",
            b'{"x": 1}\n2\n',
            {"id_field": "x"},
            "line 2: fields were named, but this is of type int, not an object",
        ),
        ("a.jsonl", b'{"x": 1}\n{}\n', {"id_field": "x"}, "line 2: there is no field 'x'"),
        (
            "a.jsonl",
            b'{"x": true}\n',
            {"id_field": "x"},
            "line 1: the id in the field 'x' must be a text or an integer",
        ),
        ("a.jsonl", b'{"x": ""}\n', {"id_field": "x"}, "line 1: the id in the field 'x' must be a text or an integer"),
        ("a.jsonl", b'{"x": 1}\n', {"input_field": "y"}, "line 1: there is no field 'y'"),
        ("a.csv", b"a,b\n1,2\n\n1,2,3\n", {}, "line 4: 3 cells, but the header has 2"),
        ("a.csv", b"a,a\n1,2\n", {}, "line 1: the header names a column twice"),
        ("a.csv", b'a\n"x"y\n', {}, "line 2: this is not CSV"),
        ("a.csv", b"a\nb\n\xff\n", {}, "line 3: byte 1 is not UTF-8"),
        ("a.csv", b"a\nb\n", {"input_field": "c"}, "line 2: there is no field 'c'"),
        ("a.csv", b"a\nb\n", {"param_field": "c"}, "line 2: there is no field 'c'"),
    ],
)
def test_a_bad_line_is_an_error_with_file_and_line(
    tmp_path: Path, name: str, data: bytes, options: Any, message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        list(read_rows(write(tmp_path / name, data), **options))
    assert f"{tmp_path / name}, {message}" in str(caught.value)


def test_an_input_that_has_no_digest_is_an_error_with_its_row() -> None:
    with pytest.raises(ConfigurationError, match="row 1: JSON has no form for a value of type object"):
        list(read_rows([1, object()]))


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read .*missing\.jsonl: No such file"):
        next(read_rows(tmp_path / "missing.jsonl"))


@pytest.mark.parametrize("format", ["jsonl", "csv", "text"])
@given(data=st.binary(max_size=80))
def test_any_bytes_are_rows_or_our_error(tmp_path_factory: pytest.TempPathFactory, format: str, data: bytes) -> None:
    path = write(tmp_path_factory.mktemp("fuzz") / "rows", data)
    try:
        assert all(isinstance(row, Row) for row in read_rows(path, format=format))
    except ConfigurationError as error:
        assert str(path) in str(error)


REQUEST = {
    "custom_id": "a-1",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "gpt", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, "stream": False},
}


def test_openai_s_batch_format_is_recognised(tmp_path: Path) -> None:
    other = {"custom_id": "a-2", "url": "/v1/embeddings", "body": {"input": "Hi", "dimensions": 8}}
    path = write(tmp_path / "batch.jsonl", "\n".join(map(json.dumps, [REQUEST, other])))
    for source in (path, [REQUEST, other]):
        rows = list(read_rows(source))
        assert brief(rows) == [
            ("a-1", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}, {}),
            ("a-2", {"input": "Hi", "dimensions": 8}, {}),
        ]
        assert all(row.openai for row in rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"custom_id": 7}, '"custom_id" must be a text'),
        ({"custom_id": ""}, '"custom_id" must be a text'),
        ({"method": "GET"}, '"method" must be "POST"'),
        ({"body": [1]}, '"body" must be an object'),
    ],
)
def test_a_bad_request_of_openai_s_format_is_an_error_with_its_place(change: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"row 1: {message}"):
        list(read_rows([REQUEST, {**REQUEST, **change}]))


def test_a_row_that_is_not_a_request_among_requests_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="row 1: the previous rows are in OpenAI's batch format"):
        list(read_rows([REQUEST, "Hi"]))


def test_a_row_with_named_fields_is_not_taken_for_openai_s_format() -> None:
    (row,) = read_rows([REQUEST], id_field="custom_id", input_field="body")
    assert (row.id, row.input, row.openai) == ("a-1", REQUEST["body"], False)
