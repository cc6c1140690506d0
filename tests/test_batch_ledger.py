"""The ledger of a batch: what it keeps, how it goes on after any end of a run, and what it refuses."""

from __future__ import annotations

import json
import random
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smendpoint.batch._index import Entry, Index
from smendpoint.batch._ledger import Ledger
from smendpoint.batch._lines import read_line
from smendpoint.batch._rows import Row, read_rows
from smendpoint.batch._values import digest_of
from smendpoint.errors import ConfigurationError, HandlerError, LedgerError, ModelError, ReadTimeoutError
from smendpoint.handlers import Usage

DIGEST = digest_of("one")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def rows(*inputs: Any) -> list[Row]:
    return list(read_rows(list(inputs)))


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_bytes().decode()
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def ask(path: Path, source: list[Row], *, fails: tuple[str, ...] = (), **options: Any) -> list[str]:
    """Run a batch whose model says its input again; give the ids that were asked."""
    asked = []
    with Ledger(path, **options) as ledger:
        for row in ledger.pending(source):
            asked.append(row.id)
            if row.id in fails:
                ledger.failed(row, ReadTimeoutError("silence", attempts=1), elapsed=0.5)
            else:
                ledger.succeeded(row, f"said {row.input}", elapsed=0.25)
    return asked


def test_a_line_has_the_row_its_output_the_usage_and_the_time(path: Path) -> None:
    with Ledger(path) as ledger:
        for row in ledger.pending(rows("one")):
            ledger.succeeded(row, "eins", usage=Usage(3, 1, 4), elapsed=0.125)
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    assert lines(path) == [{"id": "0", "digest": DIGEST, "output": "eins", "usage": usage, "elapsed": 0.125}]


def test_the_line_of_a_failure_has_everything_that_its_error_says(path: Path) -> None:
    with Ledger(path) as ledger:
        for row in ledger.pending(rows("one", "two", "three")):
            error: Exception = ModelError(424, "ModelError", "out of memory", "4c-1", attempts=3)
            if row.id == "1":
                error = ReadTimeoutError("silence", endpoint_name="my-endpoint", attempts=1)
            elif row.id == "2":
                error = ValueError("a handler's own")
            ledger.failed(row, error, elapsed=1.0)
    names = ("type", "message", "code", "status", "request_id", "attempts")
    assert [tuple(line["error"][name] for name in names) for line in lines(path)] == [
        ("ModelError", "out of memory", "ModelError", 424, "4c-1", 3),
        ("ReadTimeoutError", "silence", None, None, None, 1),
        ("ValueError", "a handler's own", None, None, None, 0),
    ]


def test_a_second_run_asks_nothing_again(path: Path) -> None:
    source = rows("one", "two", "three")
    assert ask(path, source) == ["0", "1", "2"]
    before = path.read_bytes()
    assert ask(path, source) == []
    assert path.read_bytes() == before


def test_what_failed_is_asked_again_only_when_that_is_wanted(path: Path) -> None:
    source = rows("one", "two", "three")
    ask(path, source, fails=("1",))
    with Ledger(path) as ledger:
        assert list(ledger.pending(source)) == []
        assert (ledger.skipped, ledger.failed_before) == (2, 1)
    assert ask(path, source, retry_failed=True) == ["1"]
    assert ask(path, source, retry_failed=True) == []
    assert [line["id"] for line in lines(path) if "output" in line] == ["0", "2", "1"]


def test_a_ledger_that_is_cut_at_any_byte_goes_on_right(path: Path) -> None:
    source = rows("one", "zwölf", "🦆", {"a": [1, None]})
    with Ledger(path) as ledger:
        for row in ledger.pending(source):
            if row.id == "1":
                ledger.failed(row, ReadTimeoutError("silence"))
            else:
                ledger.succeeded(row, {"said": row.input, "text": "ü\n\u2028"}, elapsed=0.25)
    whole = path.read_bytes()
    ends = [end for end in range(len(whole) + 1) if whole[:end].endswith(b"\n")]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = sum(end <= cut or end == cut + 1 for end in ends)  # of a whole line, the end alone may be missing
        with Ledger(path, retry_failed=True) as ledger:
            asked = [row.id for row in ledger.pending(source)]
        assert asked == [row.id for row in source if int(row.id) >= kept or row.id == "1"]
        assert path.read_bytes() == whole[: ends[kept - 1] if kept else 0]


def test_a_line_that_is_cut_off_is_a_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ask(path, rows("one"))
    path.write_bytes(path.read_bytes() + b'{"id":"1","dig')
    Ledger(path).close()
    assert caplog.messages == [f"{path}: cut off an incomplete line, 14 bytes"]
    Ledger(path).close()
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("damage", [b"hello\n", b"\n", b"[1]\n", b'{"id":"0"}\n', b'{"id":"0","dig\n', b"\xff\n"])
def test_a_line_in_the_middle_that_is_not_one_is_an_error_that_says_where(path: Path, damage: bytes) -> None:
    ask(path, rows("one", "two"))
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + damage + second)
    with pytest.raises(LedgerError, match=r"answers\.jsonl, line 2: this is not a line of a ledger"):
        Ledger(path)
    assert path.read_bytes() == first + damage + second
    path.write_bytes(first + second)
    assert ask(path, rows("one", "two")) == []  # the failure released the lock


@pytest.mark.parametrize("text", [b"hello", b'["a"]', b'{"prompt":"hi"}', b'{"id":"1","text":"a row of an input"}'])
def test_a_file_that_is_not_a_ledger_is_not_cut(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    with pytest.raises(LedgerError, match="line 1"):
        Ledger(path)
    assert path.read_bytes() == text


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_are_a_ledger_or_our_error(tmp_path_factory: pytest.TempPathFactory, data: bytes, ours: bool) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "answers.jsonl"
    line = f'{{"id":"0","digest":"{DIGEST}","output":1}}'.encode()
    written = line[: len(data)] + data + line[len(data) * 2 :] if ours else data
    path.write_bytes(written)
    try:
        Ledger(path).close()
    except LedgerError:
        assert path.read_bytes() == written
    else:
        assert (written + b"\n").startswith(path.read_bytes())


VALUES = st.none() | st.text(max_size=3) | st.just(DIGEST)
NAMES = st.sampled_from(["id", "digest", "output", "error", "custom_id", "response"])


@given(st.dictionaries(NAMES, VALUES | st.dictionaries(st.just("status_code"), VALUES | st.integers(), max_size=1)))
def test_any_object_is_a_line_or_is_not(value: dict[str, Any]) -> None:
    read = read_line(json.dumps(value).encode())
    assert read is None or (isinstance(read.id, str) and read.digest == DIGEST)


def test_an_input_that_changed_is_an_error_that_says_which_and_what_to_do(path: Path) -> None:
    ask(path, rows("one", "two"), fails=("1",))
    with pytest.raises(ConfigurationError, match=r"input of the id '0' \(row 0\) has changed .* choose another output"):
        ask(path, rows("other", "two"))
    with pytest.raises(ConfigurationError, match=r"input of the id '1' \(row 1\) has changed .* retry failed rows"):
        ask(path, rows("one", "other"))
    assert ask(path, rows("one", "other"), retry_failed=True) == ["1"]
    assert ask(path, rows("one", "other")) == []


def test_the_same_id_twice_in_an_input_is_an_error(path: Path) -> None:
    source = list(read_rows([{"key": "a", "x": 1}, {"key": "b", "x": 2}, {"key": "a", "x": 1}], id_field="key"))
    with pytest.raises(ConfigurationError, match="rows 0 and 2 of the input have the same id 'a'"):
        ask(path, source)
    assert [line["id"] for line in lines(path)] == ["a", "b"]
    with pytest.raises(ConfigurationError, match="rows 0 and 2 of the input have the same id 'a'"):
        ask(path, source)


def test_sorting_gives_the_order_of_the_input_and_one_line_for_each_row(path: Path) -> None:
    source = rows(*range(40))
    random.Random(1).shuffle(source)
    ask(path, source, fails=("7", "11"))
    stranger = f'{{"id":"gone","digest":"{DIGEST}","output":1}}\n'
    path.write_text(stranger + path.read_text())
    path.chmod(0o640)
    inputs = sorted(source, key=lambda row: int(row.id))
    with Ledger(path, retry_failed=True) as ledger:
        for row in ledger.pending(inputs):
            if row.id == "7":
                ledger.succeeded(row, "said at last")
            else:
                ledger.failed(row, ReadTimeoutError("again"))
        ledger.sort()
    assert [line["id"] for line in lines(path)] == [row.id for row in inputs] + ["gone"]
    assert lines(path)[7]["output"] == "said at last"
    assert lines(path)[11]["error"]["message"] == "again"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert ask(path, inputs) == []


REQUESTS = [
    {"custom_id": f"a-{number}", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [number]}}
    for number in range(3)
]


def test_a_line_in_openai_s_format_has_what_that_has_and_is_gone_on_from(path: Path) -> None:
    first, second, third = source = list(read_rows(REQUESTS))
    with Ledger(path) as ledger:
        assert list(ledger.pending(source)) == source
        ledger.succeeded(first, {"choices": []}, usage=Usage(1, 2, 3), elapsed=0.25, attempts=2, request_id="4c-1")
        ledger.failed(second, ModelError(424, "ModelError", "out of memory", "4c-2", attempts=3), elapsed=0.5)
        ledger.failed(third, ReadTimeoutError("silence", attempts=1))
    found = lines(path)
    ours = [{name: line.pop(name, None) for name in ("digest", "elapsed", "attempts")} for line in found]
    names = [line.pop("id") for line in found]
    assert len(set(names)) == 3
    assert all(re.fullmatch("batch_req_[0-9a-f]{24}", name) for name in names)
    failure = {"message": "out of memory", "type": "ModelError", "param": None, "code": "ModelError"}
    assert found == [
        {
            "custom_id": "a-0",
            "response": {"status_code": 200, "request_id": "4c-1", "body": {"choices": []}},
            "error": None,
        },
        {
            "custom_id": "a-1",
            "response": {"status_code": 424, "request_id": "4c-2", "body": {"error": failure}},
            "error": None,
        },
        {"custom_id": "a-2", "response": None, "error": {"code": "ReadTimeoutError", "message": "silence"}},
    ]
    assert [(line["elapsed"], line["attempts"]) for line in ours] == [(0.25, 2), (0.5, 3), (None, 1)]
    with Ledger(path) as ledger:
        assert list(ledger.pending(source)) == []
        assert (ledger.skipped, ledger.failed_before) == (1, 2)
    assert ask(path, source, retry_failed=True) == ["a-1", "a-2"]
    with pytest.raises(ConfigurationError, match=r"input of the id 'a-0' .* has changed"):
        ask(path, list(read_rows([{**REQUESTS[0], "body": {"messages": []}}])))


def test_a_foreign_line_of_openai_s_format_says_by_its_status_whether_it_succeeded() -> None:
    line: dict[str, Any] = {"id": "batch_req_1", "custom_id": "a", "digest": DIGEST, "error": None}
    for response, expected in (({"status_code": 200}, True), ({"status_code": 500}, False), (None, None)):
        read = read_line(json.dumps({**line, "response": response}).encode())
        assert (None if read is None else read.succeeded) == expected
    read = read_line(json.dumps({**line, "response": {"status_code": 200}, "error": {"code": "x"}}).encode())
    assert read is not None
    assert not read.succeeded


def test_an_output_without_a_form_in_json_is_an_error_and_writes_nothing(path: Path) -> None:
    with Ledger(path) as ledger:
        for row in ledger.pending(rows("one")):
            with pytest.raises(HandlerError, match="JSON has no form for a value of type object"):
                ledger.succeeded(row, object())
    assert path.read_bytes() == b""


def test_half_of_a_surrogate_pair_is_escaped(path: Path) -> None:
    source = list(read_rows([{"key": "\ud83d", "text": "\ud83d"}], id_field="key"))
    assert ask(path, source) == ["\ud83d"]
    assert r'{"id":"\ud83d",' in path.read_text(encoding="utf-8")
    assert ask(path, source) == []


def test_an_id_is_known_again_also_where_python_has_two_halves_for_one_character(path: Path) -> None:
    source = list(read_rows([{"key": "\ud83e\udd86", "text": "one"}], id_field="key"))
    assert len(ask(path, source)) == 1
    assert ask(path, source) == []
    with pytest.raises(ConfigurationError, match="rows 0 and 1 of the input have the same id"):
        ask(path, [source[0], source[0]._replace(id="🦆", number=1)])


def test_an_index_finds_what_it_was_told_however_much_that_is() -> None:
    index, count = Index(), 20_000
    for number in range(count):
        index.put(f"id-{number}", Entry(DIGEST, number=number))
    for number in range(0, count, 2):
        index.put(f"id-{number}", Entry(DIGEST, number % 4 == 0, number * 10, count - number))
    assert index.get("id-1") == Entry(DIGEST, None, None, 1)
    assert index.get("id-2") == Entry(DIGEST, False, 20, count - 2)
    assert index.get("id-4") == Entry(DIGEST, True, 40, count - 4)
    assert index.get(f"id-{count}") is None
    assert list(index.starts()) == [number * 10 for number in range(0, count, 2)][::-1]
    index.close()


def test_the_memory_of_an_index_does_not_grow_with_its_entries() -> None:
    index = Index()
    tracemalloc.start()
    try:
        for number in range(40_000):
            assert index.get(f"id-{number}") is None
            index.put(f"id-{number}", Entry(DIGEST, True, number, number))
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        index.close()
    assert grown < 8_000_000
