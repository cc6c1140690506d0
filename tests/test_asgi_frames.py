"""The decoder that hands on the events of containers with OpenAI's interface, cut anywhere."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smendpoint.asgi._frames import EventPasser, PassingHandler
from smendpoint.errors import ModelOutputError, StreamDecodeError, StreamError, StreamTruncatedError

TEXT = b'data: {"choices": [{"index": 0, "delta": {"content": "an error, and [DONE]"}}]}\n\n'
LAST = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}\n\n'
DONE = b"data: [DONE]\n\n"
SECOND, SECOND_LAST = (event.replace(b'"index": 0', b'"index": 1') for event in (TEXT, LAST))


def read(data: bytes, size: int = 1 << 20) -> bytes:
    """Decode a whole stream that comes in pieces of a size."""
    decoder = EventPasser()
    chunks = [chunk for place in range(0, len(data), size) for chunk in decoder.feed(data[place : place + size])]
    return b"".join([*chunks, *decoder.finish()])


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1 << 20])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (TEXT + LAST + DONE, TEXT + LAST + DONE),
        (b" \n" + TEXT + LAST, TEXT + LAST + DONE),
        (TEXT + LAST + USAGE + DONE + TEXT, TEXT + LAST + USAGE + DONE),
        (TEXT + LAST.strip(), TEXT + LAST + DONE),
        (TEXT + DONE.strip(), TEXT + DONE),
        ((TEXT + LAST + DONE).replace(b"\n", b"\r\n"), TEXT + LAST + DONE),
        ((TEXT + LAST + DONE).replace(b"\n", b"\r"), TEXT + LAST + DONE),
        (b": error\n\n" + TEXT + LAST, b": error\n\n" + TEXT + LAST + DONE),
        (b'data: {"errors": 1}\n\n' + LAST, b'data: {"errors": 1}\n\n' + LAST + DONE),
        ((TEXT + LAST).replace(b"data: ", b"").replace(b"\n\n", b"\n"), TEXT + LAST + DONE),
        ((TEXT + LAST).replace(b"data: ", b"").replace(b"\n\n", b"\n\n\n").strip(), TEXT + LAST + DONE),
    ],
)
def test_whole_events_come_out_however_they_were_cut(data: bytes, expected: bytes, size: int) -> None:
    assert read(data, size) == expected


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (TEXT + SECOND + LAST + SECOND_LAST, True),
        (SECOND + SECOND_LAST + TEXT + LAST, True),
        (TEXT + SECOND + LAST + SECOND, False),
        (TEXT + SECOND + SECOND_LAST + TEXT, False),
        (TEXT + SECOND + LAST + DONE, True),
    ],
)
def test_each_choice_has_an_end(data: bytes, whole: bool) -> None:
    if whole:
        assert read(data).endswith(DONE)
    else:
        with pytest.raises(StreamTruncatedError):
            read(data)


@given(cuts=st.lists(st.integers(0, 400)))
def test_any_cuts_give_the_same_events(cuts: list[int]) -> None:
    data = (TEXT + LAST + USAGE + DONE).replace(b"\n", b"\r\n")
    decoder, places = EventPasser(), [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [chunk for start, end in pairwise(places) for chunk in decoder.feed(data[start:end])]
    assert b"".join([*chunks, *decoder.finish()]) == TEXT + LAST + USAGE + DONE
    assert (decoder.finish_reason, decoder.usage) == ("stop", (1, 2, 3))


@given(pieces=st.lists(st.binary(max_size=60) | st.sampled_from([TEXT, LAST, USAGE, DONE, b"data: ", b"{"])))
def test_any_bytes_give_events_or_one_of_our_errors(pieces: list[bytes]) -> None:
    decoder = EventPasser()
    try:
        for piece in pieces:
            decoder.feed(piece)
        decoder.finish()
    except StreamError:
        pass


@pytest.mark.parametrize(
    ("data", "error", "before"),
    [
        (b"", StreamTruncatedError, b""),
        (TEXT, StreamTruncatedError, TEXT),
        (TEXT + LAST + TEXT[:30], StreamTruncatedError, TEXT + LAST),
        (TEXT + b"data: error\n\n", StreamDecodeError, TEXT),
        (TEXT + b'data: {"error": {"message": "no"}}\n\n' + LAST, ModelOutputError, TEXT),
        (TEXT + b'data: {"error": "no"}', ModelOutputError, TEXT),
        (b'data: {"error": "no"}\n\n', ModelOutputError, b""),
        (TEXT + b'event: error\ndata: {"error": "no", "error_type": "generation"}\n\n', ModelOutputError, TEXT),
    ],
)
def test_a_failure_comes_after_the_events_before_it(data: bytes, error: type[Exception], before: bytes) -> None:
    decoder, chunks = EventPasser(), list[bytes]()
    with pytest.raises(error):  # noqa: PT012  # which of the two fails depends on the case
        chunks += decoder.feed(data)
        decoder.finish_into(chunks)
    assert b"".join(chunks) == before


def test_a_failure_is_raised_by_the_next_feed() -> None:
    decoder = EventPasser()
    assert decoder.feed(TEXT + b"data: error\n\n") == [TEXT]
    assert isinstance(decoder.error, StreamDecodeError)
    with pytest.raises(StreamDecodeError):
        decoder.feed(LAST)


def test_an_event_without_an_end_is_refused_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smendpoint.asgi._frames.MAX_ITEM", 100)
    decoder = EventPasser()
    decoder.feed(b"data: " + b"x" * 90)
    with pytest.raises(StreamDecodeError, match="100 bytes"):
        decoder.feed(b"x" * 10)


def test_a_whole_answer_becomes_a_chunk() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}, 1]}
    answer = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}, 2]}
    event = read(json.dumps(answer).encode()).removesuffix(DONE)
    value = json.loads(event.removeprefix(b"data: "))
    assert value["object"] == "chat.completion.chunk"
    assert value["choices"][0]["delta"]["tool_calls"] == [{"id": "a", "index": 0}, 1]
    assert "message" not in value["choices"][0]
    text = {"choices": [{"index": 0, "message": {"content": "x"}}]}
    assert b'"delta":{"content":"x"}' in read(json.dumps(text).encode())


def test_details_of_an_answer_are_read_for_hooks() -> None:
    from smendpoint._core.http.body import ResponseBody

    handler = PassingHandler()
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    whole = ResponseBody(json.dumps({"choices": [{"finish_reason": "stop"}], "usage": usage}).encode())
    assert handler.read_details(whole)[:2] == ("stop", (1, 2, 3))
    assert handler.read_details(ResponseBody(b"{}"))[:2] == (None, None)
