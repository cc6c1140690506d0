"""Chunks that bring no news, and items that no line end or event divides: they are read like any other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from feeding import framed, ways
from feeding import read as read_all

from smendpoint.errors import HandlerError
from smendpoint.handlers import (
    AutoHandler,
    ChatHandler,
    JSONHandler,
    OpenAICompletionsHandler,
    TextGenerationHandler,
    Usage,
)

USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
HEAD = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "system_fingerprint": None}
NO_NEWS: dict[str, Any] = {
    "an empty object": {},
    "nothing but the envelope": HEAD,
    "choices are null": {**HEAD, "choices": None},
    "choices are null beside token counts": {**HEAD, "choices": None, "usage": USAGE},
    "no choices beside token counts": {"usage": USAGE},
    "no choices": {**HEAD, "choices": []},
    "choices are null beside an unknown field": {"choices": None, "prompt_filter_results": [1]},
    "delta is null": {"choices": [{"index": 0, "delta": None, "finish_reason": None}]},
    "delta is absent": {"choices": [{"index": 0, "finish_reason": None}]},
    "delta is empty": {"choices": [{"index": 0, "delta": {}}]},
    "content is null": {"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}]},
    "finish reason None": {"choices": [{"index": 0, "delta": {}, "finish_reason": "None"}]},
    "finish reason empty": {"choices": [{"index": 0, "delta": {}, "finish_reason": ""}]},
    "of another answer": {"choices": [{"index": 1, "delta": {"content": "B"}, "finish_reason": "length"}]},
}
FORMATS: dict[str, tuple[list[Any], Any, Any]] = {
    "chat": (
        [ChatHandler(), AutoHandler()],
        {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {"content": "b"}, "finish_reason": "stop"}]},
    ),
    "chat, with null in the last": (
        [ChatHandler(), AutoHandler()],
        {"choices": [{"index": 0, "delta": {"content": "ab"}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": None, "finish_reason": "stop"}]},
    ),
    "completion": (
        [OpenAICompletionsHandler(), AutoHandler()],
        {"choices": [{"index": 0, "text": "a", "finish_reason": "None"}]},
        {"choices": [{"index": 0, "text": "b", "finish_reason": "stop"}]},
    ),
    "tokens": (
        [TextGenerationHandler(), AutoHandler()],
        {"token": {"text": "a"}},
        {"token": {"text": "b"}, "details": {"finish_reason": "stop"}},
    ),
    "outputs": ([TextGenerationHandler(), AutoHandler()], {"outputs": ["a"]}, {"outputs": ["b"]}),
    "pieces": (
        [TextGenerationHandler(), AutoHandler()],
        {"generation": "a", "stop_reason": None},
        {"generation": "b", "stop_reason": "stop"},
    ),
}
CASES = [(name, handler) for name, (handlers, _, _) in FORMATS.items() for handler in handlers]


def read(handler: Any, pieces: list[bytes]) -> tuple[str, Any]:
    decoder = handler.stream_decoder()
    return "".join(map(str, read_all(decoder, pieces))), decoder


@pytest.mark.parametrize("framing", ["events", "lines"])
@pytest.mark.parametrize(("name", "handler"), CASES)
def test_a_chunk_without_news_changes_nothing_wherever_it_comes(name: str, handler: Any, framing: str) -> None:
    _, first, last = FORMATS[name]
    for what, idle in NO_NEWS.items():
        if "choices" in idle and not {"chat", "completion"} & set(name.replace(",", "").split()):
            continue
        if isinstance(handler, OpenAICompletionsHandler) and "delta" in json.dumps(idle):
            continue  # that is another format
        for items in ([idle, first, last], [first, idle, last], [first, last, idle]):
            text, decoder = read(handler, [framed(items, framing)])
            assert text == "ab", what
            assert decoder.usage == (Usage(1, 2, 3) if "usage" in idle else None)
            assert decoder.finish_reason == (None if name == "outputs" else "stop")


@pytest.mark.parametrize("idle", NO_NEWS.values(), ids=list(NO_NEWS))
def test_a_chat_chunk_without_news_gives_no_chunk(idle: Any) -> None:
    decoder = ChatHandler(require_end=False).stream_decoder()
    assert decoder.feed(framed([idle], "events")) + decoder.finish() == []


def test_the_reason_none_of_old_sglang_is_none() -> None:
    reasons = ["None", "None", "stop"]
    items = [{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": reason}]} for reason in reasons]
    decoder = ChatHandler().stream_decoder()
    chunks = decoder.feed(framed(items, "events"))
    assert [chunk.finish_reason for chunk in chunks] == [None, None, "stop"]


@pytest.mark.parametrize(
    ("handler", "item"),
    [
        (ChatHandler(), {"choices": "a"}),
        (ChatHandler(), {"choices": ["a"]}),
        (ChatHandler(), {"choices": [{"delta": "a"}]}),
        (ChatHandler(), {"choices": [{"delta": {"content": 5}}]}),
        (ChatHandler(), {"choices": [{"text": "a"}]}),
        (AutoHandler(), {"choices": "a"}),
        (AutoHandler(), {"choices": ["a"]}),
        (AutoHandler(), {"choices": [{"delta": "a"}]}),
        (AutoHandler(), {"choices": [{"delta": {"content": 5}}]}),
        (AutoHandler(), {"choices": [{"text": 5}]}),
        (OpenAICompletionsHandler(), {"choices": [{"message": {}}]}),
        (TextGenerationHandler(), {"choices": None, "usage": "a", "token": {"text": 5}}),
        (ChatHandler(), {"usage": USAGE, "data": []}),
    ],
)
def test_a_field_of_another_type_is_named_and_not_skipped(handler: Any, item: Any) -> None:
    field = next(name for name in ("data", "delta", "text", "token", "message", "choices") if name in json.dumps(item))
    with pytest.raises(HandlerError, match=f"'{field}'"):
        handler.stream_decoder().feed(framed([item], "events"))


JOINS = {
    "nothing between": "{0}{1}",
    "a blank between": "{0} {1}",
    "a line end later": "{0}{1}\n",
    "in one line of several": "\n{0}{1}\n\n",
    "an array": "[{0},{1}]",
    "an array over lines": "[\n{0},\n{1}\n]\n",
}


@pytest.mark.parametrize("join", JOINS.values(), ids=list(JOINS))
@pytest.mark.parametrize(("name", "handler"), CASES)
def test_joined_items_are_read_however_they_are_cut(name: str, handler: Any, join: str) -> None:
    _, first, last = FORMATS[name]
    for dump in (json.dumps, lambda item: json.dumps(item, indent=1)):
        body = join.replace("{0}", dump(first)).replace("{1}", dump(last)).encode()
        for pieces in ways(body, randomly=3):
            assert read(handler, pieces)[0] == "ab"


def test_joined_items_are_handed_on_when_they_are_whole() -> None:
    decoder = TextGenerationHandler().stream_decoder()
    assert decoder.feed(b'{"outputs": ["a"]}{"outputs": ["b') == ["a"]
    assert decoder.feed(b'"]}') == ["b"]
    assert decoder.feed(b'{"outputs": ["c"]}') == ["c"]
    assert decoder.finish() == []


def test_an_array_of_answers_is_one_answer_and_json_stays_an_array() -> None:
    body = b'[{"generated_text": "a"}, {"generated_text": "b"}]'
    assert read(TextGenerationHandler(), [body])[0] == "a"
    assert JSONHandler().stream_decoder().feed(body) == []
    decoder = JSONHandler().stream_decoder()
    assert read_all(decoder, [b'[{"outputs": ["a"]},', b"2]"]) == [[{"outputs": ["a"]}, 2]]


def test_items_before_a_broken_joined_item_are_not_lost() -> None:
    decoder = TextGenerationHandler().stream_decoder()
    assert decoder.feed(b'{"outputs": ["a"]}\n{"outputs": ["b"]} {"outputs": [') == ["a", "b"]
    chunks: list[Any] = []
    with pytest.raises(Exception, match="line 2 of the stream is not JSON"):
        decoder.finish_into(chunks)
