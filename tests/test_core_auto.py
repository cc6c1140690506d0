"""The decoder that recognises what a model sends."""

from __future__ import annotations

import contextlib
import json
import random
from typing import Any

import pytest
from feeding import FUZZ, drive, outcome, same_in_every_cut, ways

from smendpoint._core.decode.auto import AutoDecoder
from smendpoint._core.decode.sse import ServerSentEvent
from smendpoint.errors import StreamDecodeError, StreamError

PRETTY = json.dumps({"a": [1, {"b": None}], "c": "x\u00e9"}, indent=2, ensure_ascii=False)


def event(data: str, **more: Any) -> ServerSentEvent:
    return ServerSentEvent(more.pop("event", "message"), data, **more)


CASES: dict[str, tuple[str, str | None, list[Any]]] = {
    "nothing": ("", None, []),
    "data": ("data: a\n\ndata:b\n\n", "sse", [event("a"), event("b")]),
    "event": ("event: e\ndata: a\n\n", "sse", [event("a", event="e")]),
    "id": ("id: 1\ndata: a\n\n", "sse", [event("a", id="1")]),
    "retry": ("retry: 1\ndata: a\n\n", "sse", [event("a", retry=1)]),
    "comment": (": hello\n\ndata: a\n\n", "sse", [event("a")]),
    "empty lines ahead of events": ("\r\n\n\ndata: a\n\n", "sse", [event("a")]),
    "byte order mark ahead of events": ("\ufeffdata: a\n\n", "sse", [event("a")]),
    "events cut before the last blank line": ("data: a\n", "sse", [event("a")]),
    "lines": ('{"a": 1}\n{"a": 2}\n', "jsonlines", [{"a": 1}, {"a": 2}]),
    "lines with CRLF, no last end": ('{"a": 1}\r\n\r\n{"a": 2}', "jsonlines", [{"a": 1}, {"a": 2}]),
    "one line": ('{"a": 1}\n', "jsonlines", [{"a": 1}]),
    "blank lines ahead of lines": ('\n \n{"a": 1}\n[2]\n', "jsonlines", [{"a": 1}, [2]]),
    "byte order mark ahead of lines": ('\ufeff{"a": 1}\n{"a": 2}', "jsonlines", [{"a": 1}, {"a": 2}]),
    "joined objects": (
        '{"a": 1}{"a": 2}\n{"a": 3} {"a": 4}[5]\n',
        "jsonlines",
        [{"a": 1}, {"a": 2}, {"a": 3}, {"a": 4}, [5]],
    ),
    "joined objects without any line end": (
        '{"a": 1}{"a": "é"}{"a": 3}',
        "jsonlines",
        [{"a": 1}, {"a": "é"}, {"a": 3}],
    ),
    "joined objects, the first on many lines": (PRETTY + PRETTY + "\n[1]\n", "json", [json.loads(PRETTY)] * 2 + [[1]]),
    "joined lists": ("[1][2]\n[3]", "json", [[1], [2], [3]]),
    "one object": ('{"a": 1}', "json", [{"a": 1}]),
    "one object on many lines": (PRETTY, "json", [json.loads(PRETTY)]),
    "one object on many lines with CRLF": (PRETTY.replace("\n", "\r\n"), "json", [json.loads(PRETTY)]),
    "one object, oddly broken": ('{ \n"a"\n:\n1\n}\n', "json", [{"a": 1}]),
    "one list": ('[{"generated_text": "x"}]', "json", [[{"generated_text": "x"}]]),
    "one list on many lines": (" [\n1,\n2]\n", "json", [[1, 2]]),
    "text": ("Hello, world.\nBye.", "text", ["Hello, world.\nBye."]),
    "text like a field": ("database", "text", ["database"]),
    "text that is the start of a field": ("dat", "text", ["dat"]),
    "text that is a field without colon": ("id", "text", ["id"]),
    "text with a field later": ("Hi\ndata: a\n\n", "text", ["Hi\ndata: a\n\n"]),
    "text with a space ahead": (" data: a", "text", [" data: a"]),
    "text with empty lines ahead": ("\n\nHello", "text", ["\n\nHello"]),
    "text of other scripts": ("\u00e9\u20ac\U0001f600", "text", ["\u00e9\u20ac\U0001f600"]),
    "text that begins like a byte order mark": ("\ufb01n", "text", ["\ufb01n"]),
    "text after a byte order mark": ("\ufeffHello", "text", ["Hello"]),
    "a second byte order mark": ("\ufeff\ufeff{", "text", ["\ufeff{"]),
    "a byte order mark": ("\ufeff", None, []),
    "white space": (" \n\t\r\n", "text", [" \n\t\r\n"]),
    "a number": ("42", "text", ["42"]),
    "much white space": (" " * 5000 + "{", "text", [" " * 5000 + "{"]),
}


@pytest.mark.parametrize(("text", "kind", "items"), CASES.values(), ids=CASES.keys())
def test_each_kind_is_recognised_and_read_in_every_cut(text: str, kind: str | None, items: list[Any]) -> None:
    for pieces in ways(text.encode(), randomly=2):
        decoder = AutoDecoder()
        assert outcome(decoder, pieces) == (items, None, "")
        assert decoder.kind == kind


@pytest.mark.parametrize(
    ("head", "next_byte", "kind"),
    [
        ("", "H", "text"),
        ("", "[", "json"),
        ("", ":", "sse"),
        ("dat", "e", "text"),
        ("data", ":", "sse"),
        ("d", "o", "text"),
        ("i", "d", None),
        ("id", ":", "sse"),
        ("retry", ":", "sse"),
        ("event", "s", "text"),
        ("\n", "H", "text"),
        ("\n", "d", None),
        ("{", "}", None),
        ("{}", "\n", "jsonlines"),
        ("{", "\n", "json"),
    ],
)
def test_it_decides_at_the_byte_that_decides(head: str, next_byte: str, kind: str | None) -> None:
    decoder = AutoDecoder()
    assert decoder.feed(head.encode()) == []
    assert decoder.kind is None
    decoder.feed(next_byte.encode())
    assert decoder.kind == kind


def test_each_joined_object_is_given_as_soon_as_it_is_whole() -> None:
    decoder = AutoDecoder()
    assert decoder.feed(b'{"a": 1}{') == [{"a": 1}]
    assert decoder.feed(b'"a": "\xc3') == []
    assert decoder.feed(b'\xa9"}') == [{"a": "é"}]
    assert decoder.feed(b'{"a": 3}{"a": "') == [{"a": 3}]
    assert decoder.feed(b"\xc3}") == []  # it looks like an end, and is half a character
    assert decoder.feed(b'"') == []


def test_each_item_is_given_as_soon_as_it_is_whole() -> None:
    decoder = AutoDecoder()
    assert decoder.feed(b"data: a\n") == []
    assert decoder.feed(b"\n") == [event("a")]
    decoder = AutoDecoder()
    assert decoder.feed(b'{"a": 1}') == []
    assert decoder.feed(b"\n{") == [{"a": 1}]
    decoder = AutoDecoder()
    assert decoder.feed(b"H") == ["H"]
    assert decoder.feed(b"i") == ["i"]


@pytest.mark.parametrize(
    ("data", "items", "reason"),
    [
        (b'{"a": 1}\njunk\n', [{"a": 1}], "line 2 of the stream is not JSON"),
        (b'{"a": 1}\n{"a"', [{"a": 1}], "line 2 of the stream is not JSON"),
        (b'\n{"a": x}\n{"a": 1}\n', [], "line 2 of the stream is not JSON"),
        (b'{"a": "\n"}', [], "line 1 of the stream is not JSON"),
        (b'{"a": "\xff"}\n{}\n', [], "line 1 of the stream is not UTF-8"),
        (b'{"a": 1', [], "the stream is not one JSON document: see line 1, column 8"),
        (b"{\n1", [], "the stream is not one JSON document: see line 2, column 1"),
        (b"[1] 2", [], "the stream is not one JSON document: see line 1, column 5"),
        (b'{"a": 1}{"a": 2} 3\n', [{"a": 1}, {"a": 2}], "line 1 of the stream is not JSON"),
        (b'{"a": 1}{"a": 2}{"a"', [{"a": 1}, {"a": 2}], "line 1 of the stream is not JSON"),
        (b'{"a": 1}{"a": 2}\xff\n', [{"a": 1}, {"a": 2}], "line 1 of the stream is not UTF-8"),
        (b"[1,\xff]", [], "the JSON document is not UTF-8 at byte 3"),
        (b"Hello\xff", ["Hello"], "the text is not UTF-8 at byte 5"),
        (b"\xef\xbb", [], "the text ends inside the character at byte 0"),
        (b"data: a\n\ndata: \xff\n", [event("a")], "line 3 of the server-sent events is not UTF-8"),
    ],
)
def test_a_stream_that_does_not_go_on_as_it_began_is_refused_in_every_cut(
    data: bytes, items: list[Any], reason: str
) -> None:
    assert same_in_every_cut(AutoDecoder, data) == (items, StreamDecodeError, reason)


@pytest.mark.parametrize("data", [b"[" * 100_000, b"{" + b'"a":{' * 100_000 + b"\n"])
def test_a_value_nested_too_deeply_is_refused(data: bytes) -> None:
    items, error = drive(AutoDecoder(), [data])
    assert items == []
    assert type(error) is StreamDecodeError


@pytest.mark.parametrize(
    "data", [b"data: 1234567", b'{"a": 1234567', b'{"a": 12345}\n', b"[1, 2, 3, 4, 5", b'{\n"a": 1234567']
)
def test_an_item_over_the_limit_is_refused_in_every_cut_before_its_end_has_come(data: bytes) -> None:
    for pieces in ways(data):
        decoder = AutoDecoder(max_item=10)
        with contextlib.suppress(StreamDecodeError):
            for piece in pieces:
                decoder.feed(piece)
        assert "than 10 bytes" in str(decoder.error)


def test_a_line_of_just_the_limit_may_end_with_crlf() -> None:
    assert same_in_every_cut(lambda: AutoDecoder(max_item=8), b'{"a": 1}\r\n{"a": 2}\r\n')[0] == [{"a": 1}, {"a": 2}]


def test_a_long_first_line_and_a_long_document_in_small_pieces_take_linear_time() -> None:
    long = b'{"a": "' + b"x" * 1_999_996 + b'}}{"}\n'
    for data in (long, b"[" + b" " * 2_000_000 + b"]", b'{"a": 1}\n' + long):
        items, error = drive(AutoDecoder(), (data[place : place + 32] for place in range(0, len(data), 32)))
        assert (items[-1:], error) == ([json.loads(data.splitlines()[-1])], None)


def test_mutated_streams_are_read_or_refused_with_our_error() -> None:
    numbers = random.Random(11)
    seeds = [text.encode() for text, _, _ in CASES.values() if 0 < len(text) < 100]
    for _ in range(FUZZ // 4):
        data = bytearray(numbers.choice(seeds))
        for _ in range(numbers.randrange(1, 4)):
            place = numbers.randrange(len(data))
            data[place : place + numbers.randrange(3)] = numbers.randbytes(numbers.randrange(3))
            data = data or bytearray(1)
        whole = outcome(AutoDecoder(), [bytes(data)])
        assert outcome(AutoDecoder(), [bytes(data[place : place + 1]) for place in range(len(data))]) == whole
        assert whole[1] is None or issubclass(whole[1], StreamError)
