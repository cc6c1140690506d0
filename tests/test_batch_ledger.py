"""The ledger of a batch: what it keeps, how it goes on after any end of a run, and what it refuses."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smendpoint.batch._ledger import Ledger
from smendpoint.batch._lines import read_line
from smendpoint.batch._rows import Row, read_rows
from smendpoint.batch._values import digest_of
from smendpoint.errors import ConfigurationError, LedgerError, ModelError, ReadTimeoutError
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
        ("KeyError", '"a handler\'s own"'.replace('"', ""), None, None, None, 0),
    ] or lines(path)[2]["error"]["message"] == str(ValueError("a handler's own"))


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
            size = path.stat().st_size
            assert ledger.repaired == max(0, cut - size)
        assert asked == [row.id for row in source if int(row.id) >= kept or row.id == "1"]
        assert path.read_bytes() == whole[: ends[kept - 1] if kept else 0]


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
        with Ledger(path) as ledger:
            kept = len(written) - ledger.repaired
    except LedgerError:
        assert path.read_bytes() == written
    else:
        assert path.read_bytes() in (written[:kept], written[:kept] + b"\n")


VALUES = st.none() | st.text(max_size=3) | st.just(DIGEST)
NAMES = st.sampled_from(["id", "digest", "output", "error", "custom_id", "response"])


@given(st.dictionaries(NAMES, VALUES | st.dictionaries(st.just("status_code"), VALUES | st.integers(), max_size=1)))
def test_any_object_is_a_line_or_is_not(value: dict[str, Any]) -> None:
    read = read_line(json.dumps(value).encode())
    assert read is None or (isinstance(read.id, str) and read.digest == DIGEST)


def test_an_input_that_changed_is_an_error_that_says_which_and_what_to_do(path: Path) -> None:
    ask(path, rows("one", "two"), fails=("1",))
    with pytest.raises(ConfigurationError, match=r"input of the id '0' \(row 0\) has changed .* give another output"):
        ask(path, rows("other", "two"))
    with pytest.raises(ConfigurationError, match=r"input of the id '1' \(row 1\) has changed .* ask failed rows again"):
        ask(path, rows("one", "other"))
    assert ask(path, rows("one", "other"), retry_failed=True) == ["1"]
    assert ask(path, rows("one", "other")) == []


def test_the_same_id_twice_in_an_input_is_an_error(path: Path) -> None:
    source = list(read_rows([{"key": "a", "x": 1}, {"key": "b", "x": 2}, {"key": "a", "x": 1}], id_field="key"))
    with pytest.raises(ConfigurationError, match="the id 'a' names row 0 and row 2"):
        ask(path, source)
    assert [line["id"] for line in lines(path)] == ["a", "b"]
    with pytest.raises(ConfigurationError, match="the id 'a' names row 0 and row 2"):
        ask(path, source)


def test_a_ledger_that_is_open_is_refused_to_another(path: Path) -> None:
    with Ledger(path):
        with pytest.raises(LedgerError, match="another process writes to the ledger"):
            Ledger(path)
    Ledger(path).close()


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
