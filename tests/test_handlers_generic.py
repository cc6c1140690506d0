"""JSON, text and unchanged bytes; values that JSON cannot hold; structures drawn without values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from feeding import drive, read, ways
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._core.http.body import ResponseBody
from smendpoint.errors import HandlerError, StreamDecodeError
from smendpoint.handlers import BytesHandler, JSONHandler, TextHandler
from smendpoint.handlers._json import describe

JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_json_goes_out_and_comes_back_the_same(value: Any) -> None:
    handler = JSONHandler()
    assert handler.transform_output(ResponseBody(handler.transform_input(value, {}))) == value


@given(st.lists(JSON_VALUES, max_size=5), st.booleans())
def test_streamed_json_comes_back_the_same(values: list[Any], events: bool) -> None:
    values = [{"value": value} for value in values]  # an object begins JSON lines
    start, end = ("data:", "\n\n") if events else ("", "\n")
    stream = "".join(f"{start}{json.dumps(value)}{end}" for value in values).encode()
    assert read(JSONHandler().stream_decoder(), [stream]) == values


def test_json_takes_parameters_into_a_dict_whose_own_keys_win() -> None:
    body = JSONHandler().transform_input({"a": 1}, {"a": 2, "b": 3})
    assert json.loads(body) == {"a": 1, "b": 3}


def test_media_types_can_be_chosen() -> None:
    handlers = [make(content_type="a/b", accepts="c/d") for make in (JSONHandler, BytesHandler, TextHandler)]
    assert {(handler.content_type, handler.accepts) for handler in handlers} == {("a/b", "c/d")}


def test_an_input_that_holds_itself_is_an_error() -> None:
    circle: list[Any] = [1.5, {"a": 1}]
    circle.append(circle)
    with pytest.raises(HandlerError, match="as for a value that holds itself"):
        JSONHandler().transform_input(circle, {})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the answer is empty"),
        (b"  \n", "the answer is empty"),
        (b"<html>SECRET", "looks like HTML"),
        (b"data: {}\n\n", "server-sent events: use stream"),
        (b"\x93NUMPY\x01", "NumPy array: use NumPyHandler"),
        (b'{"a": SECRET', r"of 12 bytes is not \(parsing stops at character 6\)"),
        (b"[" * 100_000, "of 100000 bytes is not"),
        (b"\xff\xfe\xff", "of 3 bytes is not"),
        (b"1" * 5000, "of 5000 bytes is not"),
    ],
)
def test_an_answer_that_is_not_json_is_an_error_that_does_not_show_it(body: bytes, said: str) -> None:
    with pytest.raises(HandlerError, match=said) as raised:
        JSONHandler().transform_output(ResponseBody(body))
    assert "SECRET" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


def test_a_plain_text_stream_is_not_json() -> None:
    decoder = JSONHandler().stream_decoder()
    with pytest.raises(HandlerError, match="this one is plain text"):
        decoder.feed(b"Once upon a time")


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\n", b""])
def test_an_event_that_is_not_json_is_named_by_its_number(end: bytes) -> None:
    decoder = JSONHandler().stream_decoder()
    assert decoder.feed(b"data: 1\n\n") == [1]
    with pytest.raises(StreamDecodeError, match="event 2 of the stream is not JSON"):
        read(decoder, [b"data: {SECRET}" + end])


def test_the_line_of_a_broken_event_is_counted_from_the_streams_start() -> None:
    for pieces in ([b"data: 1\n\n", b"data: 2\n\n", b"data: \xff\n\n"], [b"data: 1\n\ndata: 2\n\ndata: \xff\n\n"]):
        decoder = JSONHandler().stream_decoder()
        with pytest.raises(StreamDecodeError, match="line 5 of the server-sent events is not UTF-8"):
            read(decoder, pieces)


def test_a_decoder_tells_its_pending_failure() -> None:
    decoder = JSONHandler().stream_decoder()
    assert getattr(decoder, "error", 0) is None
    assert decoder.feed(b"data: 1\n\ndata: {\n\n") == [1]
    assert isinstance(getattr(decoder, "error", None), StreamDecodeError)
    decoder = JSONHandler().stream_decoder()
    assert decoder.feed(b"data: 1\n\n\xff\n") == [1]
    assert isinstance(getattr(decoder, "error", None), StreamDecodeError)
    decoder = JSONHandler().stream_decoder()
    assert decoder.feed(b"data: 1\n\ndata: [DONE]\n\n\xff\n") == [1]
    assert getattr(decoder, "error", 0) is None
    assert decoder.finish() == []


def test_every_form_of_events_gives_the_same_values() -> None:
    stream = (
        b"\xef\xbb\xbf: ping\n\ndata: 1\n\ndata:2\n\nevent: x\nid: 4\ndata: [3,\ndata: 4]\n\ndata:\n\ndata: \r\n\r\n"
        b"data: 5\r\r:\ndata:  6\n\ndata: [DONE] \n\ndata: junk\n\n"
    )
    for pieces in ways(stream):
        decoder = JSONHandler().stream_decoder()
        assert read(decoder, pieces) == [1, 2, [3, 4], 5, 6]
        assert decoder.feed(b"data: 7\n\n") == []


def test_an_open_event_is_not_taken_for_a_whole_one() -> None:
    for start in (b"data: 1\n\ndata: [2,\n", b"data: 1\n\ndata", b"data: 1\n\nevent: x\n", b"data: 1\n\nda\r"):
        for end in (b"data: 3]\n\n", b": 2\n\n", b"data: 2\n\n"):
            (values, error), (other_values, other_error) = (
                drive(JSONHandler().stream_decoder(), pieces) for pieces in ([start + end], [start, end])
            )
            assert (values, str(error)) == (other_values, str(other_error))


def test_bytes_go_through_unchanged() -> None:
    handler = BytesHandler()
    for value in (b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")):
        assert handler.transform_input(value, {}) == b"\x00\xff"
    assert handler.transform_input("☃", {}) == "☃".encode()
    output = handler.transform_output(ResponseBody(b"\x00\xff"))
    assert (output, type(output)) == (b"\x00\xff", bytes)


def test_streamed_bytes_are_handed_on_as_they_arrive() -> None:
    decoder = BytesHandler().stream_decoder()
    assert [decoder.feed(b"a"), decoder.feed(b""), decoder.feed(b"bc"), decoder.finish()] == [[b"a"], [], [b"bc"], []]


def test_text_goes_out_and_comes_back_in_utf_8() -> None:
    handler = TextHandler()
    assert handler.transform_output(ResponseBody(handler.transform_input("☃", {}))) == "☃"


def test_streamed_text_is_never_half_a_character() -> None:
    for pieces in ways("a☃𝄞".encode()):
        assert "".join(read(TextHandler().stream_decoder(), pieces)) == "a☃𝄞"


def test_an_answer_that_is_not_utf_8_is_an_error_that_says_where() -> None:
    with pytest.raises(HandlerError, match=r"invalid start byte at byte 3.*BytesHandler"):
        TextHandler().transform_output(ResponseBody(b"abc\xff"))


def test_half_a_surrogate_pair_cannot_be_sent_as_text() -> None:
    with pytest.raises(HandlerError, match="surrogates not allowed at character 1"):
        TextHandler().transform_input("a\ud800", {})


@pytest.mark.parametrize(
    ("value", "drawn"),
    [
        ({"a": "x", "b": 1, "c": 1.5}, "{'a': text, 'b': number, 'c': number}"),
        ([True], "[true/false]"),
        ([None, 1], "[null, ... 2 in all]"),
        ([], "[]"),
        ({}, "{}"),
        ([["x"], ["y"]], "[[text], ... 2 in all]"),
        ({"a": {"b": {"c": {"d": {"e": 1}}}}}, "{'a': {'b': {'c': {'d': {...}}}}}"),
        ({"a": {"b": {"c": {"f": [1], "g": []}}}}, "{'a': {'b': {'c': {'f': [...], 'g': []}}}}"),
        ({"k" * 50: 1}, "{'" + "k" * 40 + "...': number}"),
        (
            dict.fromkeys("abcdefghijklmn"),
            "{" + ", ".join(f"'{key}': null" for key in "abcdefghijkl") + ", and 2 more}",
        ),
    ],
)
def test_a_structure_is_drawn_without_values(value: Any, drawn: str) -> None:
    assert describe(value) == drawn
