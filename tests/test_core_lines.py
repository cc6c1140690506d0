"""Lines, JSON lines and text: cut anywhere, limited in size, with exact errors."""

from __future__ import annotations

import codecs
import json
from typing import Any

import pytest
from feeding import drive, outcome, same_in_every_cut, ways
from hypothesis import given
from hypothesis import strategies as st
from vectors import require_vectors

from smendpoint._core import json as module
from smendpoint._core.decode.lines import JSONLinesDecoder, LineDecoder, TextDecoder
from smendpoint._core.json import parse_json
from smendpoint.errors import StreamDecodeError

# --- lines


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"a\nb", [b"a", b"b"]),
        (b"\n\n", [b"", b""]),
        (b"a\rb\r\r\n", [b"a\rb\r"]),
        (b"a\r", [b"a\r"]),
        ("a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\n".encode(), ["a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg".encode()]),
    ],
)
def test_lines_end_at_lf_and_crlf_and_at_nothing_else_in_every_cut(data: bytes, lines: list[bytes]) -> None:
    assert same_in_every_cut(LineDecoder, data) == (lines, None, "")


@pytest.mark.parametrize(("end", "rest"), [(b"\n", b"no\n"), (b"\r\n", b"no\n"), (b"", b"")])
def test_a_line_over_the_limit_is_refused_in_every_cut_and_named_by_number(end: bytes, rest: bytes) -> None:
    data = b"1234\r\n123\n12345" + end + rest
    assert same_in_every_cut(lambda: LineDecoder(max_line=4), data) == (
        [b"1234", b"123"],
        StreamDecodeError,
        "line 3 of the stream is longer than 4 bytes",
    )


def test_a_line_over_the_limit_is_refused_before_its_end_has_come() -> None:
    with pytest.raises(StreamDecodeError):
        LineDecoder(max_line=4).feed(b"12345")


def test_a_long_line_in_small_pieces_takes_linear_time() -> None:
    line = bytes(4 * 1024 * 1024)
    items, error = drive(LineDecoder(), (line[place : place + 64] for place in range(0, len(line), 64)))
    assert (items, error) == ([line], None)


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"bc"])).map(b"".join))
def test_any_bytes_give_the_lines_between_the_line_feeds(data: bytes) -> None:
    *whole, last = data.split(b"\n")
    expected = [line.removesuffix(b"\r") for line in whole] + ([last] if last else [])
    assert same_in_every_cut(LineDecoder, data) == (expected, None, "")


# --- JSON lines


def test_blank_lines_crlf_and_a_last_line_without_end_are_read_in_every_cut() -> None:
    data = b'\n{"a": 1}\r\n\r\n  \t\n [1, 2] \n"x"\nnull\n5\n{"last": true}'
    expected = [{"a": 1}, [1, 2], "x", None, 5, {"last": True}]
    assert same_in_every_cut(JSONLinesDecoder, data) == (expected, None, "")


def test_a_line_separator_inside_a_string_does_not_end_the_line() -> None:
    data = '{"text": "one\u2028two\u2029three\u0085"}\n'.encode()
    assert same_in_every_cut(JSONLinesDecoder, data) == ([{"text": "one\u2028two\u2029three\u0085"}], None, "")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"junk", "line 4 of the stream is not JSON"),
        (b"{} {}", "line 4 of the stream is not JSON"),
        (b'{"a"', "line 4 of the stream is not JSON"),
        (b'data: {"a": 1}', "line 4 of the stream is not JSON"),
        ("\u2028".encode(), "line 4 of the stream is not JSON"),
        (b"[" * 100_000, "line 4 of the stream is not JSON"),
        (b"9" * 5000, "line 4 of the stream is not JSON"),
        (b'"\xff"', "line 4 of the stream is not UTF-8"),
        (b'"\xed\xa0\x80"', "line 4 of the stream is not UTF-8"),
    ],
    ids=["word", "two values", "cut", "event", "separator", "deep", "long number", "byte", "surrogate"],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n[]\n", b""])
def test_a_junk_line_is_named_by_its_number_after_the_good_ones(line: bytes, reason: str, end: bytes) -> None:
    data = b'{"a": 1}\n\n{"b": 2}\n' + line + end
    expected: tuple[list[Any], type, str] = ([{"a": 1}, {"b": 2}], StreamDecodeError, reason)
    if len(data) > 1000:
        assert outcome(JSONLinesDecoder(), [data]) == expected
    else:
        assert same_in_every_cut(JSONLinesDecoder, data) == expected


def test_an_error_does_not_hold_the_line() -> None:
    _, error = drive(JSONLinesDecoder(), [b"my secret\n"])
    assert error is not None
    assert "secret" not in repr((error, error.__cause__, error.__context__, error.__dict__))


def test_the_limit_holds_for_json_lines_too() -> None:
    expected = ([1], StreamDecodeError, "line 2 of the stream is longer than 4 bytes")
    assert same_in_every_cut(lambda: JSONLinesDecoder(max_line=4), b"1\n12345\n1\n") == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(JSON, max_size=5), st.sampled_from(["\n", "\r\n", "\n\n", " \n"]))
def test_all_json_lines_that_python_writes_are_read(values: list[Any], end: str) -> None:
    data = "".join(json.dumps(value, ensure_ascii=False) + end for value in values)
    encoded = data.encode("utf-8", "surrogatepass")
    for pieces in ways(encoded, randomly=1):
        assert drive(JSONLinesDecoder(), pieces) == (values, None)


@pytest.mark.parametrize("text", [' {"a": 1}', '{"a": 1}\n', "\t5 ", '"x"', "NaN", "-Infinity"])
def test_a_json_value_is_parsed_as_the_json_module_parses_it(text: str) -> None:
    assert repr(parse_json(text)) == repr(json.loads(text))


def test_a_thread_that_comes_while_the_parser_is_made_parses_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []

    class Made(json.JSONDecoder):
        @property
        def scan_once(self) -> Any:
            if not found:  # what another thread might do at this very moment
                found.append(None)
                found.append(parse_json("[1]"))
            return vars(self)["made"]

        @scan_once.setter
        def scan_once(self, made: Any) -> None:
            vars(self)["made"] = made

    monkeypatch.setattr(module, "_json_decoder", None)
    monkeypatch.delattr(module, "_scan", raising=False)
    monkeypatch.setattr(json, "JSONDecoder", Made)
    assert parse_json("[2]") == [2]
    assert found[1] == [1]


@pytest.mark.parametrize("text", ["", " ", "{", "1 2", "[" * 100_000])
def test_a_text_that_is_not_one_json_value_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(Expecting|Extra data|nested)"):
        parse_json(text)


# --- text


def test_a_character_that_is_cut_waits_for_its_other_bytes() -> None:
    decoder = TextDecoder()
    assert decoder.feed("a\u20ac".encode()[:3]) == ["a"]
    assert decoder.feed("\u20ac".encode()[2:]) == ["\u20ac"]
    assert decoder.finish() == []


def test_every_cut_of_a_text_gives_the_same_text() -> None:
    text = "h\u00e9llo \u20ac \U0001f600 \ufeff\0\r\n\u2028"
    assert same_in_every_cut(TextDecoder, text.encode()) == ([text], None, "")


@pytest.mark.parametrize("end", ["\u20ac".encode()[:1], "\u20ac".encode()[:2], "\U0001f600".encode()[:3]])
def test_a_text_that_ends_inside_a_character_is_refused_with_its_position(end: bytes) -> None:
    assert same_in_every_cut(TextDecoder, b"four" + end) == (
        ["four"],
        StreamDecodeError,
        "the text ends inside the character at byte 4",
    )


def test_bytes_that_are_not_utf8_are_refused_with_their_position_after_the_text_before_them() -> None:
    assert same_in_every_cut(TextDecoder, b"four\x80five") == (
        ["four"],
        StreamDecodeError,
        "the text is not UTF-8 at byte 4",
    )


def strict(data: bytes) -> tuple[str, bool]:
    """Give the text that Python decodes up to the first error, and whether there was none."""
    try:
        return data.decode(), True
    except UnicodeDecodeError as error:
        return data[: error.start].decode(), False


CHARACTER_PARTS = [b"a", b"\xc3", b"\xa9", b"\xe2\x82", b"\xac", b"\xf0\x9f", b"\x98", b"\xed", b"\xff"]


@given(st.lists(st.sampled_from(CHARACTER_PARTS)))
def test_any_bytes_are_text_exactly_where_python_says_so(parts: list[bytes]) -> None:
    data = b"".join(parts)
    text, whole = strict(data)
    items, kind, _ = same_in_every_cut(TextDecoder, data)
    assert "".join(items) == text
    assert kind is (None if whole else StreamDecodeError)


def test_the_utf8_test_file_is_read_line_by_line_as_python_reads_it() -> None:
    lines = (require_vectors("utf8tests") / "utf8tests.bin").read_bytes().split(b"\n")
    refused = 0
    for line in lines:
        text, whole = strict(line)
        for pieces in ways(line, randomly=1):
            items, error = drive(TextDecoder(), pieces)
            assert "".join(items) == text
            assert (error is None) is whole
        refused += not whole
    assert refused > 20


def test_the_valid_lines_of_the_utf8_test_file_are_one_text() -> None:
    lines = (require_vectors("utf8tests") / "utf8tests.bin").read_bytes().split(b"\n")
    data = b"\n".join(line for line in lines if strict(line)[1])
    decoder = TextDecoder()
    text = "".join(item for place in range(len(data)) for item in decoder.feed(data[place : place + 1]))
    assert decoder.finish() == []
    assert text == codecs.decode(data, "utf-8")
