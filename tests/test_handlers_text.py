"""Text generation: requests of every family, details, the members of a stream beside its text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from handler_samples import CHAT_WHOLE, COMPLETION_WHOLE, LLAMA_CHAT, LMI_3P, LMI_WHOLE, TGI_WHOLE
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._core.http.body import ResponseBody
from smendpoint.errors import HandlerError
from smendpoint.handlers import (
    AutoHandler,
    JumpStartTextHandler,
    OpenAICompletionsHandler,
    OutputDetails,
    TextGenerationHandler,
    Usage,
)
from smendpoint.handlers._answers import may_have_usage

INPUTS = {"inputs": "Hi", "parameters": {"top_p": 0.9}}
TEXT_INPUTS = {"text_inputs": "Hi", "top_p": 0.9}
TEXT_INPUT = {"text_input": "Hi", "top_p": 0.9}
PROMPT = {"prompt": "Hi", "top_p": 0.9}
MESSAGES = {"messages": [{"role": "user", "content": "Hi"}], "top_p": 0.9}
STREAM = {"stream": True}
USAGE = {"stream_options": {"include_usage": True}}
DETAILED = {"inputs": "Hi", "parameters": {"details": True, "top_p": 0.9}}


@pytest.mark.parametrize(
    ("handler", "request_", "stream_request", "stop"),
    [
        (TextGenerationHandler(), INPUTS, INPUTS | STREAM, "stop"),
        (TextGenerationHandler(stop_parameter=None), INPUTS, INPUTS | STREAM, None),
        (TextGenerationHandler(details=True), DETAILED, DETAILED | STREAM, "stop"),
        (OpenAICompletionsHandler(), PROMPT, PROMPT | STREAM | USAGE, "stop"),
        (JumpStartTextHandler("llama-2"), INPUTS, INPUTS | STREAM, "stop"),
        (JumpStartTextHandler("llama-3"), INPUTS, INPUTS | STREAM, "stop"),
        (JumpStartTextHandler("flan-t5"), TEXT_INPUTS, TEXT_INPUTS, None),
        (JumpStartTextHandler("gpt-j"), TEXT_INPUTS, TEXT_INPUTS, None),
        (JumpStartTextHandler("bloomz"), TEXT_INPUTS, TEXT_INPUTS, None),
        (AutoHandler(), INPUTS, INPUTS | STREAM, "stop"),
        (AutoHandler(prompt_format="prompt"), PROMPT, PROMPT | STREAM, "stop"),
        (AutoHandler(prompt_format="messages"), MESSAGES, MESSAGES | STREAM, "stop"),
        (AutoHandler(prompt_format="text_inputs"), TEXT_INPUTS, TEXT_INPUTS | STREAM, "stop"),
        (AutoHandler(prompt_format="text_input", stop_parameter=None), TEXT_INPUT, TEXT_INPUT | STREAM, None),
    ],
)
def test_a_prompt_becomes_the_request_of_the_family_or_format(
    handler: Any, request_: Any, stream_request: Any, stop: str | None
) -> None:
    assert json.loads(handler.transform_input("Hi", {"top_p": 0.9})) == request_
    assert json.loads(handler.transform_stream_input("Hi", {"top_p": 0.9})) == stream_request
    assert handler.stop_parameter == stop


def test_the_callers_parameters_win_over_the_handlers() -> None:
    body = TextGenerationHandler(details=True).transform_input("Hi", {"details": False})
    assert json.loads(body)["parameters"] == {"details": False}
    body = OpenAICompletionsHandler().transform_stream_input("Hi", {"stream_options": None})
    assert json.loads(body)["stream_options"] is None


def test_the_callers_parameters_are_not_changed() -> None:
    parameters = {"top_p": 0.9}
    for handler in (TextGenerationHandler(details=True), OpenAICompletionsHandler(), JumpStartTextHandler("gpt-j")):
        handler.transform_input("Hi", parameters)
        handler.transform_stream_input("Hi", parameters)
    assert parameters == {"top_p": 0.9}


@given(st.text(), st.dictionaries(st.text(), st.integers()))
def test_any_prompt_and_parameters_reach_the_container_unchanged(prompt: str, parameters: dict[str, Any]) -> None:
    body = TextGenerationHandler().transform_input(prompt, parameters)
    assert json.loads(body) == {"inputs": prompt, "parameters": parameters}


@given(st.text())
def test_any_text_comes_back_unchanged(text: str) -> None:
    body = json.dumps([{"generated_text": text}], ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert TextGenerationHandler().transform_output(ResponseBody(body)) == text


@given(st.lists(st.text(), max_size=6), st.sampled_from(["\n", "\n\n"]))
def test_any_pieces_come_back_unchanged(texts: list[str], end: str) -> None:
    start = "data:" if end == "\n\n" else ""
    items: list[Any] = [{"token": {"text": text}} for text in texts] + [{"token": {}, "details": {}}]
    stream = "".join(f"{start}{json.dumps(item)}{end}" for item in items).encode()
    decoder = TextGenerationHandler().stream_decoder()
    assert decoder.feed(stream) + decoder.finish() == [text for text in texts if text]


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        (b'{"generated_texts":["a"]}', 'JumpStartTextHandler("flan-t5") reads this'),
        (COMPLETION_WHOLE, "OpenAICompletionsHandler reads this"),
        (CHAT_WHOLE, "ChatHandler reads this"),
        (b'{"choices":[]}', "JSONHandler returns it unchanged"),
        (b'{"choices":[{"delta":{"content":"a"}}]}', "ChatHandler reads this in a stream"),
        (b'{"choices":[{"delta":"a"}]}', "JSONHandler returns it unchanged"),
        (b'{"choices":[{"delta":{"content":1}}]}', "JSONHandler returns it unchanged"),
        (b'{"choices":[{"delta":{"tool_calls":[{"index":"0"}]}}]}', "JSONHandler returns it unchanged"),
        (b'{"token":{"text":"a","special":0}}', "TextGenerationHandler reads this in a stream"),
        (b'{"token":{"text":1}}', "JSONHandler returns it unchanged"),
        (LLAMA_CHAT, "JumpStartChatHandler reads this"),
        (b"[[0.5]]", 'EmbeddingsHandler or TabularHandler(response="json") reads this'),
        (b'{"data":[{"index":0,"embedding":[1]}]}', "EmbeddingsHandler reads this"),
        (b'[{"label":"a","score":1}]', "ClassificationHandler reads this"),
        (b'[{"index":0,"score":1}]', "RerankHandler reads this"),
        (b'{"results":[{"index":0,"relevance_score":1}]}', "RerankHandler reads this"),
        (b'[[{"id":0,"score":1}]]', "SimilaritySearchHandler reads this"),
        (b'{"predictions":[{"score":1}]}', 'TabularHandler(response="json") reads this'),
        (b'{"data":[{"index":0,"score":1}]}', "RerankHandler reads this"),
        (b'{"data":[{"index":0,"label":"a","probs":[1.0]}]}', "ClassificationHandler reads this"),
        (b'{"new":1}', "JSONHandler returns it unchanged"),
        (b'{"generated_text":1}', "JSONHandler returns it unchanged"),
        (b'{"generation":"a"}', None),
        (b"[true]", "JSONHandler returns it unchanged"),
        (b"[]", "JSONHandler returns it unchanged"),
        (b'"a"', "JSONHandler returns it unchanged"),
        (b'{"data":[],"results":[1]}', "JSONHandler returns it unchanged"),
    ],
)
def test_an_unknown_shape_names_the_handler_that_fits(body: bytes, fits: str | None) -> None:
    handler = TextGenerationHandler()
    if fits is None:
        assert handler.transform_output(ResponseBody(body)) == "a"
        return
    with pytest.raises(HandlerError, match="TextGenerationHandler expects") as raised:
        handler.transform_output(ResponseBody(body))
    assert str(raised.value).endswith(f"{fits}.")


@pytest.mark.parametrize(
    "body",
    [
        b'{"token":{"text":"a"},"generated_text":"a"}',
        b'{"generation":"a"}',
        b'{"body":{"generation":"a"}}',
        b'{"outputs":["a"]}',
    ],
)
def test_the_default_handler_is_named_for_what_it_reads(body: bytes) -> None:
    with pytest.raises(HandlerError, match="TextGenerationHandler reads this"):
        OpenAICompletionsHandler().transform_output(ResponseBody(body))


@pytest.mark.parametrize(
    ("handler", "body", "details"),
    [
        (
            TextGenerationHandler(),
            TGI_WHOLE,
            OutputDetails(
                "length",
                Usage(None, 64, None),
                {"finish_reason": "length", "generated_tokens": 64, "seed": None, "prefill": [], "tokens": []},
            ),
        ),
        (
            TextGenerationHandler(),
            LMI_WHOLE,
            OutputDetails(
                "length",
                Usage(None, 16, None),
                {"finish_reason": "length", "generated_tokens": 16, "inputs": "What is"},
            ),
        ),
        (
            TextGenerationHandler(),
            LMI_3P,
            OutputDetails(
                "length",
                Usage(4, 12, 16),
                {"prompt_token_count": 4, "generation_token_count": 12, "stop_reason": "length"},
            ),
        ),
        (TextGenerationHandler(), b'[{"generated_text":"a"}]', OutputDetails()),
        (TextGenerationHandler(), b"[]", OutputDetails()),
        (OpenAICompletionsHandler(), COMPLETION_WHOLE, OutputDetails("length", Usage(5, 1, 6))),
        (
            OpenAICompletionsHandler(),
            b'{"choices":[{"text":"a","finish_reason":null,"logprobs":{"tokens":["a"]}}],"usage":{"prompt_tokens":true}}',
            OutputDetails(None, Usage(), {"logprobs": {"tokens": ["a"]}}),
        ),
        (OpenAICompletionsHandler(), b'{"choices":[]}', OutputDetails()),
        (AutoHandler(), CHAT_WHOLE, OutputDetails("stop", Usage(5, 1, 6), None, "m", "chatcmpl-1")),
    ],
)
def test_a_whole_answers_details_are_read(handler: Any, body: bytes, details: OutputDetails) -> None:
    assert handler.read_details(ResponseBody(body)) == details
    assert details.usage is None or may_have_usage(body)


@pytest.mark.parametrize(
    "name",
    ["input_length", "prompt_token_count", "prompt_tokens", "generated_tokens", "generation_token_count"],
)
def test_an_answer_with_any_token_count_is_known_without_parsing_it(name: str) -> None:
    body = json.dumps([{"generated_text": "a", "details": {name: 3}}]).encode()
    assert TextGenerationHandler().read_details(ResponseBody(body)).usage is not None
    assert may_have_usage(body)
    assert not may_have_usage(b'[{"generated_text":"a"}]')


TOKENS = (
    b'data:{"token":{"id":1,"text":"a","logprob":-0.5,"special":false},"generated_text":null,"details":null}\n\n'
    b'data:{"token":{"id":2,"text":"</s>","logprob":-0.1,"special":true},"generated_text":"a",'
    b'"details":{"finish_reason":"eos_token","generated_tokens":2,"seed":7}}\n\n'
)


def test_a_streams_tokens_are_kept_where_details_are_asked_for() -> None:
    decoder = TextGenerationHandler(details=True).stream_decoder()
    assert decoder.details is None
    assert decoder.feed(TOKENS) == ["a"]
    assert decoder.details == {
        "finish_reason": "eos_token",
        "generated_tokens": 2,
        "seed": 7,
        "tokens": [
            {"id": 1, "text": "a", "logprob": -0.5, "special": False},
            {"id": 2, "text": "</s>", "logprob": -0.1, "special": True},
        ],
    }


def test_a_streams_tokens_are_not_kept_otherwise() -> None:
    decoder = TextGenerationHandler().stream_decoder()
    decoder.feed(TOKENS)
    assert decoder.details == {"finish_reason": "eos_token", "generated_tokens": 2, "seed": 7}


def test_streamed_log_probabilities_of_completions_are_in_the_details() -> None:
    decoder = OpenAICompletionsHandler().stream_decoder()
    decoder.feed(b'data: {"choices":[{"text":"a","logprobs":{"tokens":["a"]}}]}\n\n')
    decoder.feed(b'data: {"choices":[{"text":"b","logprobs":{"tokens":["b"]}}]}\n\n')
    assert decoder.details == {"logprobs": [{"tokens": ["a"]}, {"tokens": ["b"]}]}


def test_only_the_first_of_several_streamed_answers_is_given() -> None:
    decoder = OpenAICompletionsHandler().stream_decoder()
    chunks = decoder.feed(
        b'data: {"choices":[{"index":0,"text":"a"}]}\n\ndata: {"choices":[{"index":1,"text":"B"}]}\n\n'
    )
    assert chunks == ["a"]


def test_pieces_without_tokens_are_pieces() -> None:
    decoder = TextGenerationHandler().stream_decoder()
    chunks = decoder.feed(
        b'{"generated_text":"a"}\n{"generated_text":" b"}\n{"generation":" c","stop_reason":"stop"}\n'
    )
    assert chunks == ["a", " b", " c"]
    assert decoder.finish_reason == "stop"


def test_a_token_without_its_empty_text_gives_no_piece() -> None:
    decoder = TextGenerationHandler().stream_decoder()
    chunks = decoder.feed(b'{"token":{"id":[1],"text":"a"}}\n{"token":{"id":[2]}}\n{"token":{"text":" b"}}\n')
    assert chunks == ["a", " b"]


def test_the_whole_text_after_its_pieces_is_not_repeated() -> None:
    decoder = TextGenerationHandler().stream_decoder()
    chunks = decoder.feed(
        b'{"token":{"text":"a"}}\n{"token":{"text":" b"}}\n{"generated_text":"a b","details":{"finish_reason":"x"}}\n'
    )
    assert chunks == ["a", " b"]
    assert decoder.finish_reason == "x"


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (b'{"token":{"text":1}}', "structure {'token': {'text': number}}"),
        (b'{"choices":[{"delta":{"content":"a"}}]}', "ChatHandler reads this in a stream"),
        (b'{"choices":[{"text":"a"}]}', "OpenAICompletionsHandler reads this"),
        (b"[1]", 'EmbeddingsHandler or TabularHandler(response="json") reads this'),
        (b'{"data":[{"index":0,"score":1}]}', "RerankHandler reads this"),
        (b'{"data":[{"index":0,"label":"a","probs":[1.0]}]}', "ClassificationHandler reads this"),
        (b'{"new":1}', "JSONHandler returns it unchanged"),
    ],
)
def test_an_unknown_item_of_a_stream_is_an_error(item: bytes, said: str) -> None:
    decoder = TextGenerationHandler().stream_decoder()
    with pytest.raises(HandlerError) as raised:
        decoder.feed(b"data: " + item + b"\n\n")
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "item", [b'{"token":{"text":"a"}}', b'{"choices":[{"delta":{"content":"a"}}]}', b'{"choices":[{"message":{}}]}']
)
def test_a_completion_stream_has_nothing_else(item: bytes) -> None:
    decoder = OpenAICompletionsHandler().stream_decoder()
    with pytest.raises(HandlerError, match="OpenAICompletionsHandler expects"):
        decoder.feed(item + b"\n")


def test_a_completion_without_text_has_none() -> None:
    decoder = OpenAICompletionsHandler().stream_decoder()
    assert decoder.feed(b'data: {"choices":[{"text":null,"finish_reason":"stop"}]}\n\n') == []
    assert decoder.finish_reason == "stop"
