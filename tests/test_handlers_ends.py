"""A stream whose format has an end is a success only with that end; the docs have the same table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from feeding import encode_part, framed, ways
from twins import Twin

from smendpoint import Endpoint, errors
from smendpoint._calls.pipeline import Pipeline
from smendpoint.emulator import Emulator
from smendpoint.emulator.personalities import PERSONALITIES
from smendpoint.handlers import (
    AutoHandler,
    BytesHandler,
    ChatHandler,
    JSONHandler,
    JumpStartChatHandler,
    JumpStartTextHandler,
    OpenAICompletionsHandler,
    TextGenerationHandler,
    TextHandler,
)
from smendpoint.handlers._answers import ENDS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "handlers.md"
DONE = b"data: [DONE]\n\n"


class Sample(NamedTuple):
    """A stream of one format.

    Attributes:
        handlers: the handlers that read it.
        items: its items up to the end.
        ends: items that are an end each, and give no text.
        text: the text of the items.
    """

    handlers: list[Any]
    items: list[Any]
    ends: list[Any]
    text: str


def chat(content: str | None = None, reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content, **delta}, "finish_reason": reason}]}


def completion(text: str, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": text, "finish_reason": reason}]}


def token(text: str, **last: Any) -> dict[str, Any]:
    return {"token": {"id": 1, "text": text, "special": False}, "generated_text": None, "details": None, **last}


def third_party(text: str, reason: str | None) -> dict[str, Any]:
    return {"body": {"generation": text, "stop_reason": reason}, "metering": {}}


def other(choice: dict[str, Any]) -> dict[str, Any]:
    """Give the same choice of a second answer, which the handlers do not give."""
    return {"choices": [{**choice["choices"][0], "index": 1}]}


ARGUMENTS = {"index": 0, "id": "c1", "function": {"name": "add", "arguments": '{"a'}}
SAMPLES = {
    "chat": Sample(
        [ChatHandler(), AutoHandler()],
        [chat("a"), chat(" b", role=None)],
        [chat("", "stop"), chat(None, "length")],
        "a b",
    ),
    "chat, without the member": Sample(
        [ChatHandler(), AutoHandler()], [{"choices": [{"delta": {"content": "a"}}]}], [chat(None, "stop")], "a"
    ),
    "chat, the other of two answers has ended": Sample(
        [ChatHandler(), AutoHandler()],
        [chat("a"), other(chat("B")), other(chat(None, "stop"))],
        [chat(None, "stop"), {"choices": [*other(chat(None, None))["choices"], *chat(None, "stop")["choices"]]}],
        "a",
    ),
    "chat, with token counts": Sample(
        [ChatHandler(), AutoHandler()],
        [chat("a"), {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}],
        [chat(None, "stop")],
        "a",
    ),
    "chat, inside a tool call's arguments": Sample(
        [ChatHandler()], [chat("a"), chat(None, tool_calls=[ARGUMENTS])], [chat(None, "tool_calls")], "a"
    ),
    "completion": Sample(
        [OpenAICompletionsHandler(), AutoHandler()],
        [completion("a"), completion(" b")],
        [completion("", "stop")],
        "a b",
    ),
    "tokens": Sample(
        [TextGenerationHandler(), JumpStartTextHandler("llama-3"), AutoHandler()],
        [token("a"), token(" b")],
        [
            token("", generated_text="a b"),
            token("", details={"finish_reason": "length"}),
            token("", generated_text="", details={}),
            {"generated_text": "a b", "details": {"finish_reason": "length"}},
        ],
        "a b",
    ),
    "LMI's tokens": Sample(
        [TextGenerationHandler(), AutoHandler()],
        [{"token": {"id": 1, "text": "a", "log_prob": -0.1}}],
        [{"token": {"id": 2, "text": ""}, "generated_text": "a", "details": {"finish_reason": "length"}}],
        "a",
    ),
    "LMI's third-party schema": Sample(
        [TextGenerationHandler(), AutoHandler()],
        [third_party("a", None), third_party(" b", None)],
        [third_party("", "length")],
        "a b",
    ),
    "generation": Sample(
        [TextGenerationHandler(), JumpStartTextHandler("llama-2"), AutoHandler()],
        [{"generation": "a", "stop_reason": None}],
        [{"generation": "", "stop_reason": "stop"}],
        "a",
    ),
}
CASES = [(name, handler) for name, sample in SAMPLES.items() for handler in sample.handlers]
WITHOUT_END: dict[str, tuple[Any, bytes]] = {
    "outputs": (TextGenerationHandler(), b'{"outputs": ["a"]}\n{"outputs": [" b"]}\n'),
    "outputs, any handler": (AutoHandler(), b'{"outputs": ["a"]}\n{"outputs": [" b"]}\n'),
    "plain text": (TextHandler(), b"a b"),
    "plain text, any handler": (AutoHandler(), b"a b"),
    "bytes": (BytesHandler(), b"a b"),
    "JSON": (JSONHandler(), b'{"choices":[{"delta":{"content":"a"},"finish_reason":null}]}\n'),
}
WHOLE: dict[str, tuple[Any, Any]] = {
    "a chat": (ChatHandler(), {"choices": [{"message": {"content": "a b"}, "finish_reason": None}]}),
    "a chat, any handler": (AutoHandler(), {"choices": [{"message": {"content": "a b"}}]}),
    "a Llama chat": (JumpStartChatHandler(), [{"generation": {"role": "assistant", "content": "a b"}}]),
    "a completion": (OpenAICompletionsHandler(), {"choices": [{"text": "a b"}]}),
    "a completion in a list": (OpenAICompletionsHandler(), [{"choices": [{"text": "a b", "finish_reason": None}]}]),
    "TGI": (TextGenerationHandler(), [{"generated_text": "a b"}]),
    "LMI": (TextGenerationHandler(), {"generated_text": "a b"}),
    "LMI's third-party schema": (TextGenerationHandler(), {"body": {"generation": "a b"}}),
    "Llama": (JumpStartTextHandler("llama-2"), [{"generation": "a b"}]),
    "Flan": (JumpStartTextHandler("flan-t5"), {"generated_texts": ["a b"]}),
}


def with_options(handler: Any, **options: Any) -> Any:
    """Give a handler of the same kind, with these options."""
    family = [handler.family] if isinstance(handler, JumpStartTextHandler) else []
    return type(handler)(*family, **options)


def outcome(handler: Any, pieces: list[bytes], stop: list[str] | None = None) -> tuple[str, str]:
    """Give the text of the chunks, and the name of the error, which carries the same text."""
    pipeline: Pipeline[Any] = Pipeline(handler.stream_decoder(), stop or [])
    chunks: list[Any] = []
    for piece in pieces:
        if piece and not pipeline.done:
            chunks += pipeline.feed(encode_part(piece))
    if not pipeline.done:
        chunks += pipeline.end()
    assert list(pipeline.received) == chunks
    return "".join(map(str, chunks)), type(pipeline.failure).__name__ if pipeline.failure else ""


@pytest.mark.parametrize("framing", ["events", "lines"])
@pytest.mark.parametrize(("name", "handler"), CASES)
def test_a_stream_is_whole_with_either_mark_and_truncated_without(name: str, handler: Any, framing: str) -> None:
    sample = SAMPLES[name]
    body = framed(sample.items, framing)
    for pieces in ways(body, randomly=2):
        assert outcome(handler, pieces) == (sample.text, "StreamTruncatedError")
    for end in sample.ends:
        assert outcome(handler, [body, framed([end], framing)]) == (sample.text, "")
    if framing == "events":
        assert outcome(handler, [body, DONE]) == (sample.text, "")
        assert outcome(handler, [DONE]) == ("", "")


@pytest.mark.parametrize("framing", ["events", "lines"])
@pytest.mark.parametrize(("name", "handler"), CASES)
def test_no_beginning_of_a_stream_is_a_success(name: str, handler: Any, framing: str) -> None:
    sample = SAMPLES[name]
    body, end = framed(sample.items, framing), framed(sample.ends[:1], framing)
    for place in range(len(body + end) - (2 if framing == "events" else 1)):
        if place in range(1, 5) and framing == "events" and isinstance(handler, AutoHandler):
            continue  # these bytes may be plain text
        text, error = outcome(handler, [(body + end)[:place]])
        assert sample.text.startswith(text)
        assert error == "StreamTruncatedError"


@pytest.mark.parametrize("framing", ["events", "lines"])
@pytest.mark.parametrize(("name", "handler"), CASES)
def test_a_handler_that_asks_for_no_end_takes_the_chunks_that_came(name: str, handler: Any, framing: str) -> None:
    sample = SAMPLES[name]
    lenient = with_options(handler, require_end=False)
    assert outcome(lenient, [framed(sample.items, framing)]) == (sample.text, "")
    assert outcome(lenient, []) == ("", "")
    assert outcome(lenient, [framed(sample.items, framing), b"data: {" if framing == "events" else b"{"]) == (
        sample.text,
        "StreamDecodeError",
    )


@pytest.mark.parametrize("body", [b"", b"\n", b":\n\n", b": ping\n\n: ping\n\n", b"event: ping\n\n", b"\r\n \n"])
@pytest.mark.parametrize("handler", {type(handler): handler for _, handler in CASES}.values())
def test_a_stream_of_nothing_is_truncated(handler: Any, body: bytes) -> None:
    if body.strip(b"\r\n ") or not isinstance(handler, AutoHandler) or not body:  # blank lines are a text too
        assert outcome(handler, [body]) == ("", "StreamTruncatedError")


@pytest.mark.parametrize(("handler", "body"), WITHOUT_END.values(), ids=list(WITHOUT_END))
def test_a_format_without_an_end_may_end_anywhere(handler: Any, body: bytes) -> None:
    text, error = outcome(handler, [body])
    assert error == ""
    assert text == "a b" or isinstance(handler, (JSONHandler, BytesHandler))


@pytest.mark.parametrize(("handler", "value"), WHOLE.values(), ids=list(WHOLE))
def test_a_whole_answer_is_its_own_end_and_a_part_of_one_is_not(handler: Any, value: Any) -> None:
    body = json.dumps(value).encode()
    for pieces in ways(body, randomly=2):
        assert outcome(handler, pieces) == ("a b", "")
    for place in range(len(body)):
        assert outcome(handler, [body[:place]]) == ("", "StreamTruncatedError")


def test_a_last_item_without_its_line_end_is_given_before_the_error() -> None:
    for framing in ("events", "lines"):
        body = framed([token("a"), token("b")], framing).rstrip(b"\n")
        assert outcome(TextGenerationHandler(), [body]) == ("ab", "StreamTruncatedError")
    decoder = ChatHandler().stream_decoder()
    decoder.feed(framed([chat("a"), chat("b")], "events").rstrip(b"\n"))
    with pytest.raises(errors.StreamTruncatedError) as raised:
        decoder.finish()
    assert [chunk.text for chunk in raised.value.received] == ["b"]
    with pytest.raises(errors.StreamDecodeError, match="failed before"):
        decoder.finish()


def test_an_error_in_the_stream_stays_that_error() -> None:
    for framing in ("events", "lines"):
        body = framed([chat("a"), {"error": {"message": "out of memory", "code": 500}}], framing)
        for pieces in ways(body, randomly=2):
            assert outcome(ChatHandler(), pieces) == ("a", "ModelOutputError")
        body = framed([token("a"), {"surprise": 1}], framing)
        assert outcome(TextGenerationHandler(), [body]) == ("a", "HandlerError")
        assert outcome(TextGenerationHandler(), [body.rstrip(b"\n")]) == ("a", "HandlerError")


def test_an_item_that_is_broken_in_the_middle_is_not_a_truncation() -> None:
    body = framed([token("a")], "events") + b"data: {nonsense}\n\n"
    assert outcome(TextGenerationHandler(), [body]) == ("a", "StreamDecodeError")
    assert outcome(TextGenerationHandler(), [body + framed([token("b", details={})], "events")]) == (
        "a",
        "StreamDecodeError",
    )


def test_an_item_that_is_cut_after_the_end_is_still_an_error() -> None:
    body = framed([chat("a"), chat(None, "stop")], "events") + b'data: {"choices":[],"usa'
    assert outcome(ChatHandler(), [body]) == ("a", "StreamDecodeError")


def test_a_stop_sequence_is_an_end() -> None:
    body = framed([chat("a"), chat(" b, and")], "events")
    for pieces in ways(body, randomly=2):
        assert outcome(ChatHandler(), pieces, [", "]) == ("a b", "")
        assert outcome(ChatHandler(), pieces, ["andy"]) == ("a b, and", "StreamTruncatedError")
        # The longer one may have begun before the shorter one; only a proper end decides.
        assert outcome(ChatHandler(), pieces, ["and", "b, andy"]) == ("a b, ", "StreamTruncatedError")
        assert outcome(ChatHandler(), [*pieces, DONE], ["and", "b, andy"]) == ("a b, ", "")


def test_the_error_names_the_mark_and_the_option() -> None:
    decoder = TextGenerationHandler().stream_decoder()
    decoder.feed(framed([token("a")], "events"))
    with pytest.raises(
        errors.StreamTruncatedError, match=r'the last token, with "generated_text" or "details", is missing'
    ):
        decoder.finish()
    decoder = ChatHandler().stream_decoder()
    with pytest.raises(errors.StreamTruncatedError, match=r"no part of an answer.*ChatHandler\(require_end=False\)"):
        decoder.finish()


def test_a_decoder_that_has_finished_may_be_finished_again() -> None:
    decoder = ChatHandler().stream_decoder()
    decoder.feed(framed([chat("a", "stop")], "events"))
    assert decoder.finish() == decoder.finish() == []


def test_the_page_names_the_end_of_each_format() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## The end of a stream")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \((`.+`)\) \| .+? \| (.+?) \|$", section, re.MULTILINE)
    named = {key: end for _, keys, end in rows for key in re.findall(r"`(\w+)`", keys)}
    assert named.keys() == ENDS.keys() - {"document"}
    for key, end in ENDS.items():
        if key == "document":  # it has the mark of a chunk
            assert end.mark == ENDS["chunk"].mark
        elif end.mark:
            assert end.mark.rstrip(",").replace('"', "") in named[key].replace("`", "")
        else:
            assert named[key] in ("none", "itself")


@pytest.mark.parametrize("ending", [b"", b'data:{"token":{"text":"!"},"details":{}}\n\n'], ids=["cut", "whole"])
def test_both_twins_in_both_lanes_say_that_a_stream_was_cut(twin: Twin, ending: bytes) -> None:
    body = framed([token("a"), token(" b")], "events") + ending
    with Emulator(lambda asked: body, piece_size=40) as emulator:
        strict = twin.endpoint(emulator.url)
        lenient = twin.endpoint(emulator.url, content_handler=TextGenerationHandler(require_end=False))
        assert "".join(lenient.collect("Hello")) == ("a b!" if ending else "a b")
        if ending:
            assert "".join(strict.collect("Hello")) == "a b!"
        else:
            with pytest.raises(errors.StreamTruncatedError) as raised:
                strict.collect("Hello")
            assert "".join(raised.value.received) == "a b"
            assert raised.value.endpoint_name == "my-llm"
            assert raised.value.attempts == 1


PROMPT = "The library opens at 9. Question: When does the library open?"
TEXTS = [name for name in PERSONALITIES if name.startswith(("tgi", "lmi", "vllm", "stand_in", "huggingface", "jumpst"))]


@pytest.mark.parametrize("parameters", [{}, {"stop_sequences": ["The"]}], ids=["", "nothing-is-left"])
@pytest.mark.parametrize(
    "name",
    [
        name
        for name in TEXTS
        if not name.endswith(("classification", "embedding", "similarity", "zero_shot", "classify", "score"))
    ],
)
def test_every_personality_of_the_emulator_ends_its_streams(name: str, parameters: dict[str, Any]) -> None:
    handler: Any = AutoHandler()
    if name in ("jumpstart_flan", "jumpstart_bloomz"):
        handler = AutoHandler(prompt_format="text_inputs")
    elif name == "vllm":
        handler = AutoHandler(prompt_format="messages")
    elif name == "jumpstart_llama2_chat":
        handler = JumpStartChatHandler()
    with (
        Emulator(name) as emulator,
        Endpoint(
            "my-llm",
            content_handler=handler,
            endpoint_kwargs={"CustomAttributes": "accept_eula=true"},
            endpoint_url=emulator.url,
            region_name="us-west-2",
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="secret",
        ) as endpoint,
        endpoint.stream(PROMPT, **parameters) as chunks,
    ):
        text = "".join(map(str, chunks))
    prompt_first = name == "huggingface"
    assert text.removeprefix(PROMPT if prompt_first else "") == ("" if parameters else "The library opens at 9.")
