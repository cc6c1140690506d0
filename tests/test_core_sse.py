"""Server-sent events by the WHATWG standard, in every cut."""

from __future__ import annotations

import random
import re

import pytest
from feeding import FUZZ, drive, same_in_every_cut, ways
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._core.decode.sse import ServerSentEvent, SSEDecoder
from smendpoint.errors import StreamDecodeError, StreamError


def message(data: str, id: str = "", retry: int | None = None, event: str = "message") -> ServerSentEvent:
    return ServerSentEvent(event, data, id, retry)


# The first four are the examples of the standard, section 9.2.6 "Interpreting an event stream".
CASES: dict[str, tuple[str, list[ServerSentEvent]]] = {
    "several data lines": ("data: YHOO\ndata: +2\ndata: 10\n\n", [message("YHOO\n+2\n10")]),
    "ids": (
        ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [message("first event", "1"), message("second event"), message(" third event")],
    ),
    "data without colon": ("data\n\ndata\ndata\n\ndata:\n\n", [message(""), message("\n"), message("")]),
    "one space is dropped": ("data:test\n\ndata: test\n\n", [message("test"), message("test")]),
    "types": ("event: add\ndata: 1\n\ndata: 2\n\n", [message("1", event="add"), message("2")]),
    "type without data": ("event: add\n\ndata: 2\n\n", [message("2")]),
    "last type counts": (
        "event: a\nevent: b\ndata: 1\n\nevent: a\nevent\ndata: 2\n\n",
        [message("1", event="b"), message("2")],
    ),
    "an id stays": ("id: 1\ndata: a\n\ndata: b\n\n", [message("a", "1"), message("b", "1")]),
    "an id of its own": ("id: 7\n\ndata: b\n\n", [message("b", "7")]),
    "an id with NUL is ignored": ("id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n", [message("a", "1"), message("b", "1")]),
    "retry": ("retry: 1500\ndata: a\n\ndata: b\n\n", [message("a", retry=1500), message("b")]),
    "retry that is no number": ("retry: 1s\nretry: \u0661\nretry: -1\nretry:\ndata: a\n\n", [message("a")]),
    "retry that is no time": ("retry: " + "9" * 5000 + "\ndata: a\n\n", [message("a")]),
    "comments": (":\n: hello\n:data: x\ndata: a\n:\ndata: b\n:\n\n:\n", [message("a\nb")]),
    "unknown fields": ("Data: x\n data: y\ndata : z\nfoo\nfoo: bar\ndata: a\n\n", [message("a")]),
    "colons in the value": ("data: a: b:c\ndata::\n\n", [message("a: b:c\n:")]),
    "no data, no event": ("\n\n\nid: 1\n\nretry: 5\n\n\n", []),
    "separators are text": (
        "data: \u2028a\u2029b\u0085\x0b\x0c\x1c\n\n",
        [message("\u2028a\u2029b\u0085\x0b\x0c\x1c")],
    ),
    "byte order mark": ("\ufeffdata: a\n\n", [message("a")]),
    "byte order mark alone": ("\ufeff\ndata: a\n\n", [message("a")]),
    "byte order mark later": ("data: a\n\ufeffdata: b\n\n\ufeffdata: c\n\n", [message("a")]),
    "two byte order marks": ("\ufeff\ufeffdata: a\n\n", []),
    "text generation, no space": ('data:{"a":1}\n\n:\n\ndata:{"a":2}\n\n', [message('{"a":1}'), message('{"a":2}')]),
    "characters of all lengths": ("data: \u00e9\u20ac\U0001f600\n\n", [message("\u00e9\u20ac\U0001f600")]),
    "no final blank line": ("data: a\n\ndata: b\n", [message("a"), message("b")]),
    "no final line end": ("data: a\n\nevent: e\ndata: b", [message("a"), message("b", event="e")]),
    "cut in a field without data": ("data: a\n\nevent: e", [message("a")]),
    "nothing": ("", []),
}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize(("text", "events"), CASES.values(), ids=CASES.keys())
def test_a_stream_means_the_same_in_every_cut_and_with_every_line_end(
    text: str, events: list[ServerSentEvent], end: str
) -> None:
    data = text.replace("\n", end).encode()
    if len(data) > 1000:
        assert drive(SSEDecoder(), [data]) == (events, None)
    else:
        assert same_in_every_cut(SSEDecoder, data) == (events, None, "")


@pytest.mark.parametrize("stream", [text for text, _ in CASES.values()], ids=list(CASES))
def test_feed_data_gives_the_data_of_what_feed_gives_and_either_may_follow_the_other(stream: str) -> None:
    data = stream.encode() + b"data: whole\n\n"
    for pieces in ways(data):
        whole, mixed = SSEDecoder(), SSEDecoder()
        events: list[ServerSentEvent] = []
        texts: list[str] = []
        for number, piece in enumerate(pieces):
            events += whole.feed(piece)
            if number % 2:
                found = mixed.feed(piece)
                assert found == events[len(events) - len(found) :]
                texts += [event.data for event in found]
            else:
                texts += mixed.feed_data(piece)
        assert texts == [event.data for event in events]
        assert mixed.finish() == whole.finish()


def test_feed_data_leaves_nothing_of_an_event_that_it_has_read() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"retry: 1\n") == []
    assert decoder.feed_data(b"data: a\n\n") == ["a"]
    assert decoder.feed(b"data: b\n\n") == [message("b")]


def test_line_ends_of_all_kinds_may_be_mixed() -> None:
    data = b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\r\rdata: e\n\n\r\n\r"
    assert same_in_every_cut(SSEDecoder, data)[0] == [message("a\nb\nc"), message("d"), message("e")]


def test_an_event_is_given_at_its_blank_line_though_a_lf_may_follow_the_cr() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\r\r") == [message("a")]
    assert decoder.feed(b"\ndata: b\r\n\r") == [message("b")]
    assert decoder.feed(b"\n") == []


def test_many_events_in_one_piece_are_all_given() -> None:
    data = b"".join(b"data: %d\n\n" % number for number in range(1000))
    assert [event.data for event in SSEDecoder().feed(data)] == [str(number) for number in range(1000)]


@pytest.mark.parametrize("line", [b"data: \xff", b"data: \xed\xa0\x80", b": \xc3", b"foo: \x80", b"\xef\xbb"])
@pytest.mark.parametrize("end", [b"\n\n", b""])
def test_a_line_that_is_not_utf8_is_named_by_number_after_the_events_before_it(line: bytes, end: bytes) -> None:
    data = b"data: a\n\n" + line + end
    assert same_in_every_cut(SSEDecoder, data) == (
        [message("a")],
        StreamDecodeError,
        "line 3 of the server-sent events is not UTF-8",
    )


@pytest.mark.parametrize(
    "event",
    [b"data: 45678901", b"data: 45\ndata: 45\n", b"data\ndata\ndata\ndata\n", b"data\n: 45678901", b": 34567890123"],
)
def test_an_event_over_the_limit_is_refused_in_every_cut(event: bytes) -> None:
    data = b"data: 6789\n\n: 34567890\n: 34567890\n" + event + b"\n\n"
    items, error, text = same_in_every_cut(lambda: SSEDecoder(max_event=12), data)
    assert (items, error) == ([message("6789")], StreamDecodeError)
    assert re.fullmatch(r"the server-sent event at line \d is larger than 12 bytes", text)


def test_an_event_over_the_limit_is_refused_before_its_end_has_come() -> None:
    with pytest.raises(StreamDecodeError):
        SSEDecoder(max_event=12).feed(b"data: 4567890")


def test_comments_without_end_do_not_count_as_one_event() -> None:
    decoder = SSEDecoder(max_event=12)
    assert [decoder.feed(b": ping\n") for _ in range(1000)] == [[]] * 1000


def test_a_long_line_in_small_pieces_takes_linear_time() -> None:
    line = b"data:" + bytes(4 * 1024 * 1024) + b"\n\n"
    items, error = drive(SSEDecoder(), (line[place : place + 64] for place in range(0, len(line), 64)))
    assert [len(item.data) for item in items] == [4 * 1024 * 1024]
    assert error is None


def by_the_letter(text: str) -> list[ServerSentEvent]:
    """The standard's algorithm, step by step, on the whole text; the last event may lack its blank line."""
    events: list[ServerSentEvent] = []
    data, event, last_id, retry = "", "", "", None
    lines = re.split("\r\n|\r|\n", text.removeprefix("\ufeff"))
    for line in [*lines, ""]:
        if not line:
            if data:
                events.append(ServerSentEvent(event or "message", data[:-1], last_id, retry))
            data, event, retry = "", "", None
        elif not line.startswith(":"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "data":
                data += value + "\n"
            elif field == "event":
                event = value
            elif field == "id" and "\0" not in value:
                last_id = value
            elif field == "retry" and re.fullmatch("[0-9]+", value):
                retry = int(value)
    return events


FIELDS = ["data", "event", "id", "retry"]
PIECES = [*FIELDS, ":", ": ", " ", "\n", "\r", "\r\n", "\n\n", "a", "\u00e9", "1", "\0", "\ufeff"]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_any_text_means_what_the_standards_algorithm_says(text: str) -> None:
    assert same_in_every_cut(SSEDecoder, text.encode()) == (by_the_letter(text), None, "")


def test_mutated_streams_are_read_or_refused_with_our_error() -> None:
    numbers = random.Random(7)
    seed = "\ufeffid: 1\r\nevent: add\r\ndata: \u20ac\r\n\r\nretry: 10\ndata\n\n: c\rdata: x\r\r".encode()
    for _ in range(FUZZ // 4):
        data = bytearray(seed)
        for _ in range(numbers.randrange(1, 5)):
            place = numbers.randrange(len(data))
            data[place : place + numbers.randrange(3)] = numbers.randbytes(numbers.randrange(3))
            data = data or bytearray(1)
        items, error = drive(SSEDecoder(max_event=40), [bytes(data[:20]), bytes(data[20:])])
        assert all(isinstance(item, ServerSentEvent) for item in items)
        assert error is None or isinstance(error, StreamError)
