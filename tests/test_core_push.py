"""The rule of all push decoders: an item that was decoded before a failure is not lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from feeding import encode_part

from smendpoint._core.aws.eventstream import EventStreamDecoder
from smendpoint._core.decode.auto import AutoDecoder
from smendpoint._core.decode.lines import JSONLinesDecoder, LineDecoder, TextDecoder
from smendpoint._core.decode.push import PushDecoder
from smendpoint._core.decode.sse import SSEDecoder
from smendpoint.errors import StreamDecodeError

CASES: list[Any] = [
    pytest.param(EventStreamDecoder, encode_part(b"good") + bytes(16), id="event stream"),
    pytest.param(SSEDecoder, b"data: good\n\ndata: \xff\n\n", id="server-sent events"),
    pytest.param(lambda: LineDecoder(max_line=4), b"good\ntoo long\n", id="lines"),
    pytest.param(JSONLinesDecoder, b'"good"\nbad\n', id="JSON lines"),
    pytest.param(TextDecoder, b"good\xff", id="text"),
    pytest.param(AutoDecoder, b"good\xff", id="automatic"),
]


@pytest.mark.parametrize(("make", "data"), CASES)
def test_items_before_a_failure_come_first_and_the_next_feed_raises(make: Callable[[], Any], data: bytes) -> None:
    decoder = make()
    assert len(decoder.feed(data)) == 1
    with pytest.raises(StreamDecodeError):
        decoder.feed(b"")


@pytest.mark.parametrize(("make", "data"), CASES)
def test_items_before_a_failure_come_first_and_finish_raises(make: Callable[[], Any], data: bytes) -> None:
    decoder = make()
    assert len(decoder.feed(data)) == 1
    with pytest.raises(StreamDecodeError):
        decoder.finish()


@pytest.mark.parametrize(("make", "data"), CASES)
def test_error_has_the_failure_without_another_call(make: Callable[[], Any], data: bytes) -> None:
    decoder = make()
    assert decoder.error is None
    decoder.feed(data)
    error = decoder.error
    with pytest.raises(StreamDecodeError) as caught:
        decoder.finish()
    assert str(error) == str(caught.value)


@pytest.mark.parametrize(("make", "data"), CASES)
def test_a_failed_decoder_stays_failed_and_reads_nothing_more(make: Callable[[], Any], data: bytes) -> None:
    decoder = make()
    decoder.feed(data)
    messages: set[str] = set()
    for call in (decoder.finish, lambda: decoder.feed(data), decoder.finish):
        with pytest.raises(StreamDecodeError) as caught:
            call()
        messages.add(str(caught.value))
    assert len(messages) == 1


@pytest.mark.parametrize(("make", "data"), CASES)
def test_each_raise_has_an_error_of_its_own_with_no_cause_that_could_hold_content(
    make: Callable[[], Any], data: bytes
) -> None:
    decoder = make()
    decoder.feed(data)
    with pytest.raises(StreamDecodeError) as first:
        decoder.feed(b"")
    with pytest.raises(StreamDecodeError) as second:
        decoder.feed(b"")
    assert first.value is not second.value
    assert first.value.__cause__ is first.value.__context__ is None


@pytest.mark.parametrize(("make", "data"), CASES)
def test_bytes_may_come_as_a_bytearray_or_a_memoryview(make: Callable[[], Any], data: bytes) -> None:
    expected = make().feed(data)
    assert make().feed(bytearray(data)) == expected
    assert make().feed(memoryview(data)) == expected


def test_a_decoder_without_failure_has_no_error() -> None:
    assert PushDecoder().error is None


@pytest.mark.parametrize(
    ("make", "data"),
    [(EventStreamDecoder, bytes(16)), (SSEDecoder, b"\xff\n"), (JSONLinesDecoder, b"bad\n"), (TextDecoder, b"\xff")],
)
def test_a_feed_that_decodes_nothing_raises_at_once(make: Callable[[], Any], data: bytes) -> None:
    with pytest.raises(StreamDecodeError):
        make().feed(data)
