"""The shapes in which the personalities answer, against those of the containers."""

from __future__ import annotations

import base64
import io
import json
import math
import struct
from typing import Any

import pytest

from smendpoint.emulator import Emulator, ModelReply, ModelRequest
from smendpoint.emulator.personalities import (
    PERSONALITIES,
    blazingtext,
    cohere,
    feature_extraction,
    huggingface,
    jumpstart,
    lmi,
    personality,
    sklearn,
    stand_in,
    tei,
    tgi,
    triton,
    vllm,
    xgboost,
)
from smendpoint.emulator.personalities.vectors import classify, embed
from smendpoint.errors import ConfigurationError
from smendpoint.handlers import (
    AutoHandler,
    ClassificationHandler,
    EmbeddingsHandler,
    JumpStartChatHandler,
    RerankHandler,
    SparseEmbeddingsHandler,
    TabularHandler,
    TabularRowsHandler,
    TextGenerationHandler,
)

PROMPT = "The cat slept for 2 hours.\nQuestion: How long did the cat sleep?"
SAID = "The cat slept for 2 hours."
WORDS = ["The", " cat", " slept", " for", " 2", " hours."]
MESSAGES = [{"role": "system", "content": SAID}, {"role": "user", "content": "How long did the cat sleep?"}]


def ask(model: Any, body: object, **fields: Any) -> ModelReply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = model(ModelRequest(body=data, **fields))
    assert isinstance(reply, ModelReply)
    return reply


def text(reply: ModelReply) -> str:
    if isinstance(reply.body, (bytes, str)):
        return reply.body if isinstance(reply.body, str) else reply.body.decode()
    assert isinstance(reply.body, list)
    return "".join(reply.body)


def value(reply: ModelReply) -> Any:
    assert reply.status == 200
    return json.loads(text(reply))


def events(reply: ModelReply, start: str) -> list[Any]:
    assert reply.content_type == "text/event-stream"
    blocks = text(reply).split("\n\n")
    assert blocks.pop() == ""
    return [json.loads(block.removeprefix(start)) for block in blocks if block.startswith(start) and block[6:7] != "["]


def lines(reply: ModelReply) -> list[Any]:
    assert reply.content_type == "application/jsonlines"
    return [json.loads(line) for line in text(reply).split("\n") if line]


# -- whole answers, and refusals

DETAILED = {"finish_reason": "eos_token", "generated_tokens": 6, "inputs": PROMPT}
THIRD_PARTY = {"generation": SAID, "prompt_token_count": 13, "generation_token_count": 6, "stop_reason": "stop"}
FULL = {"parameters": {"return_full_text": True}}
SHORT = {"parameters": {"return_full_text": False}}
CLASSES = [{"label": "POSITIVE", "score": 0.9}, {"label": "NEGATIVE", "score": 0.95}]
TOOL_CHOICE = {"tools": [{"function": {"name": "first"}}], "tool_choice": {"function": {"name": "no"}}}

ANSWERS: list[tuple[Any, Any, Any]] = [
    (tgi(), {"inputs": PROMPT}, [{"generated_text": SAID}]),
    (tgi(), {"inputs": PROMPT, **FULL}, [{"generated_text": PROMPT + SAID}]),
    (stand_in(), {"inputs": PROMPT}, [{"generated_text": SAID}]),
    (huggingface(), {"inputs": PROMPT}, [{"generated_text": PROMPT + SAID}]),
    (huggingface(), {"inputs": PROMPT, **FULL}, [{"generated_text": PROMPT + SAID}]),
    (huggingface(), {"inputs": PROMPT, **SHORT}, [{"generated_text": SAID}]),
    (huggingface(), {"inputs": [PROMPT, PROMPT]}, [{"generated_text": PROMPT + SAID}] * 2),
    (huggingface(), {"inputs": [MESSAGES], **SHORT}, [[{"generated_text": SAID}]]),
    (huggingface("text-classification"), {"inputs": ["so good", "so bad"]}, CLASSES),
    (lmi(), {"inputs": PROMPT}, {"generated_text": SAID}),
    (lmi(), {"inputs": PROMPT, "parameters": {"details": True}}, {"generated_text": SAID, "details": DETAILED}),
    (lmi(tgi_compatible=True), {"prompt": PROMPT}, [{"generated_text": SAID}]),
    (lmi("3p"), {"inputs": PROMPT}, {"body": THIRD_PARTY, "metering": {}, "content_type": "application/json"}),
    (jumpstart("llama2"), {"inputs": PROMPT}, [{"generation": SAID}]),
    (jumpstart("llama2_chat"), {"inputs": [MESSAGES]}, [{"generation": {"role": "assistant", "content": SAID}}]),
    (jumpstart(), {"inputs": PROMPT, "parameters": {"max_new_tokens": 2}}, {"generated_text": "The cat"}),
    (jumpstart("flan"), {"text_inputs": PROMPT, "num_return_sequences": 2}, {"generated_texts": [SAID, SAID]}),
    (jumpstart("bloomz"), {"text_inputs": PROMPT, "max_length": 2}, [[{"generated_text": "The cat"}]]),
]

REFUSED: list[tuple[Any, Any, int, set[str]]] = [
    (tgi(), b"not json", 400, {"error", "error_type"}),
    (tgi(), [], 400, {"error", "error_type"}),
    (tgi(), {}, 422, {"error", "error_type"}),
    (tgi(), {"inputs": 5}, 422, {"error", "error_type"}),
    (tgi(), {"inputs": "x", "parameters": []}, 422, {"error", "error_type"}),
    (tgi(), {"inputs": "x", "parameters": {"max_new_tokens": 0}}, 422, {"error", "error_type"}),
    (tgi(), {"inputs": "x", "parameters": {"stop": [1]}}, 422, {"error", "error_type"}),
    (lmi(), {"nothing": 1}, 422, {"error", "code"}),
    (huggingface(), {}, 422, {"code", "type", "message"}),
    (feature_extraction("vectors"), {}, 422, {"code", "type", "message"}),
    (triton(), {"prompt": "x"}, 400, {"error"}),
    (vllm(), {"messages": []}, 400, {"error"}),
    (vllm(), {"messages": ["text"]}, 400, {"error"}),
    (vllm(), {"messages": [{"role": "system", "content": "x"}]}, 400, {"error"}),
    (vllm(), {"messages": MESSAGES, **TOOL_CHOICE}, 400, {"error"}),
    (vllm(), {"prompt": [], "stream": True}, 400, {"error"}),
    (vllm(), {"input": 7}, 400, {"error"}),
    (vllm(), {}, 400, {"error"}),
    (tei(), {"inputs": []}, 400, {"error", "error_type"}),
    (tei(), {"inputs": 1}, 422, {"error", "error_type"}),
    (tei("rerank"), {"query": "q", "texts": []}, 400, {"error", "error_type"}),
    (tei("rerank"), {"query": [], "texts": ["a"]}, 400, {"error", "error_type"}),
    (cohere(), {}, 422, {"message"}),
    (cohere(), {"texts": ["a"], "embedding_types": ["int3"]}, 400, {"message"}),
    (blazingtext(), {"instances": 5}, 422, {"error"}),
    (jumpstart("llama2_chat"), {"inputs": PROMPT}, 424, {"code", "message", "error"}),
    (jumpstart("embedding"), b"{", 400, {"code", "message", "error"}),
    (jumpstart("embedding"), b"7", 422, {"code", "message", "error"}),
    (jumpstart("embedding"), b"{}", 422, {"code", "message", "error"}),
]
EULA = {"custom_attributes": "accept_eula=true"}


@pytest.mark.parametrize(("model", "body", "answer"), ANSWERS)
def test_each_container_answers_in_its_shape(model: Any, body: Any, answer: Any) -> None:
    assert value(ask(model, body, **EULA)) == answer


@pytest.mark.parametrize(("model", "body", "status", "document"), REFUSED)
def test_each_container_refuses_with_its_error_document(model: Any, body: Any, status: int, document: set[str]) -> None:
    reply = ask(model, body, **EULA)
    found = json.loads(text(reply))
    assert (reply.status, found.keys()) == (status, document)
    assert "vllm" not in repr(model) or found["error"]["type"] == "BadRequestError"
    assert found.get("type", "InternalServerException") == "InternalServerException"


@pytest.mark.parametrize("family", ["llama2", "llama2_chat"])
def test_llama2_wants_its_licence_accepted(family: Any) -> None:
    reply = ask(jumpstart(family), {"inputs": PROMPT})
    assert reply.status == 424
    assert "accept_eula=true" in json.loads(text(reply))["error"]


# -- text generation


@pytest.mark.parametrize(
    ("parameters", "said", "reason"),
    [
        ({"max_new_tokens": 2}, "The cat", "length"),
        ({"stop": [" slept"]}, "The cat", "stop_sequence"),
        ({"stop_sequences": "for"}, "The cat slept ", "stop_sequence"),
        ({"max_new_tokens": 99, "stop": ["never"]}, SAID, "eos_token"),
    ],
)
def test_tgi_says_why_it_ended(parameters: dict[str, Any], said: str, reason: str) -> None:
    (result,) = value(ask(tgi(), {"inputs": PROMPT, "parameters": {**parameters, "details": True}}))
    assert result["generated_text"] == said
    assert result["details"]["finish_reason"] == reason
    assert "".join(token["text"] for token in result["details"]["tokens"]) == said


def test_tgi_streams_events_without_a_blank_after_data_and_ends_with_a_special_token() -> None:
    reply = ask(tgi(), {"inputs": PROMPT, "stream": True})
    assert text(reply).startswith(':\n\ndata:{"index":1,')
    found = events(reply, "data:")
    assert [event["token"]["text"] for event in found] == [*WORDS, "</s>"]
    assert [event["token"]["special"] for event in found] == [False] * 6 + [True]
    assert found[-1]["generated_text"] == SAID
    assert found[-1]["details"]["finish_reason"] == "eos_token"
    assert all(event["generated_text"] is event["details"] is None for event in found[:-1])


def test_tgi_stream_that_is_cut_by_length_has_no_special_token() -> None:
    found = events(ask(tgi(), {"inputs": PROMPT, "parameters": {"max_new_tokens": 2}, "stream": True}), "data:")
    assert [event["token"]["text"] for event in found] == ["The", " cat"]
    assert found[-1]["details"]["finish_reason"] == "length"


def test_the_stand_in_answers_plain_text_with_plain_text() -> None:
    reply = ask(stand_in(), PROMPT.encode())
    assert (text(reply), reply.content_type) == (SAID, "text/plain; charset=utf-8")


def test_lmi_streams_json_lines() -> None:
    found = lines(ask(lmi(), {"inputs": PROMPT, "stream": True}))
    assert [line["token"]["text"] for line in found] == WORDS
    assert found[0].keys() == {"token"}
    assert found[-1]["generated_text"] == SAID
    assert found[-1]["details"]["generated_tokens"] == 6


def test_lmi_streams_the_same_as_events() -> None:
    body = {"inputs": PROMPT, "stream": True}
    assert events(ask(lmi("sse"), body), "data:") == lines(ask(lmi(), body))


def test_lmi_streams_outputs() -> None:
    found = lines(ask(lmi("outputs"), {"inputs": PROMPT, "stream": True}))
    assert found == [{"outputs": [word]} for word in WORDS]


def test_lmi_streams_the_lines_of_its_asynchronous_handlers() -> None:
    found = lines(ask(lmi("async"), {"inputs": PROMPT, "stream": True}))
    assert [line["token"]["text"] for line in found] == WORDS
    assert "logprob" in found[0]["token"]
    assert found[0]["generated_text"] is None


def test_lmi_streams_the_third_party_schema() -> None:
    found = lines(ask(lmi("3p"), {"inputs": PROMPT, "parameters": {"max_new_tokens": 2}, "stream": True}))
    assert [line["body"]["generation"] for line in found] == WORDS[:2]
    assert [line["body"]["stop_reason"] for line in found] == [None, "length"]


@pytest.mark.parametrize(("shape", "blank"), [("jsonlines", False), ("async", True)])
def test_lmi_streams_chat_as_json_lines(shape: Any, blank: bool) -> None:
    reply = ask(lmi(shape), {"messages": MESSAGES, "stream": True})
    assert lines(reply)[1]["choices"][0]["delta"] == {"content": "The"}
    assert text(reply).endswith("\n\n") is blank


def test_lmi_answers_chat_in_one_piece_and_as_events() -> None:
    assert value(ask(lmi(), {"messages": MESSAGES}))["choices"][0]["message"]["content"] == SAID
    assert text(ask(lmi("sse"), {"messages": MESSAGES, "stream": True})).endswith("data: [DONE]\n\n")


# -- OpenAI's shapes


@pytest.mark.parametrize("make", [vllm, tgi, stand_in])
def test_chat_answers_the_last_message_of_the_user(make: Any) -> None:
    result = value(ask(make(), {"model": "m", "messages": MESSAGES}))
    assert result["model"] == "m"
    assert result["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": SAID}, "finish_reason": "stop"}
    ]
    assert result["usage"]["completion_tokens"] == 6


def test_chat_reads_text_parts_and_skips_others() -> None:
    parts = [{"type": "image_url", "image_url": {"url": "data:"}}, {"type": "text", "text": PROMPT}]
    messages = [{"role": "assistant", "content": None}, {"role": "user", "content": parts}]
    assert value(ask(vllm(), {"messages": messages}))["choices"][0]["message"]["content"] == SAID


def test_chat_streams_role_content_finish_usage_and_the_end_mark() -> None:
    body = {"messages": MESSAGES, "stream": True, "max_tokens": 2, "stream_options": {"include_usage": True}}
    reply = ask(vllm(), body)
    assert text(reply).endswith("data: [DONE]\n\n")
    found = events(reply, "data: ")
    deltas = [event["choices"][0]["delta"] for event in found[:-1]]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "The"}, {"content": " cat"}, {}]
    assert found[-2]["choices"][0]["finish_reason"] == "length"
    assert found[-1]["choices"] == []
    assert found[-1]["usage"]["total_tokens"] == found[-1]["usage"]["prompt_tokens"] + 2


TOOLS = [
    {"type": "function", "function": {"name": "first"}},
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
        },
    },
]


@pytest.mark.parametrize("number", ["x", 0, 101, 10**12, True, 1.5, None])
@pytest.mark.parametrize(
    ("family", "body"),
    [
        ("flan", {"text_inputs": PROMPT, "num_return_sequences": ...}),
        ("bloomz", {"text_inputs": PROMPT, "num_return_sequences": ...}),
        ("similarity", {"corpus": ["a"], "queries": ["b"], "top_k": ...}),
    ],
)
def test_jumpstart_gives_a_hundred_things_at_most(family: Any, body: dict[str, Any], number: object) -> None:
    reply = ask(jumpstart(family), {name: number if kept is ... else kept for name, kept in body.items()})
    assert reply.status == 422
    assert "must be a whole number from 1 to 100" in json.loads(text(reply))["error"]


def test_chat_calls_the_tool_that_is_chosen() -> None:
    choice = {"type": "function", "function": {"name": "weather"}}
    messages = [{"role": "user", "content": "Bonn"}]
    result = value(ask(vllm(), {"messages": messages, "tools": TOOLS, "tool_choice": choice}))
    (chosen,) = result["choices"]
    assert chosen["finish_reason"] == "tool_calls"
    assert chosen["message"]["content"] is None
    assert chosen["message"]["tool_calls"] == [
        {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bonn"}'}}
    ]


def test_chat_streams_the_arguments_of_a_tool_call_in_pieces() -> None:
    choice = {"function": {"name": "weather"}}
    body = {"messages": [{"role": "user", "content": "Bonn"}], "tools": TOOLS, "tool_choice": choice, "stream": True}
    found = events(ask(vllm(), body), "data: ")
    calls = [event["choices"][0]["delta"]["tool_calls"][0] for event in found[1:-1]]
    assert calls[0]["function"]["name"] == "weather"
    assert "".join(call["function"]["arguments"] for call in calls) == '{"city":"Bonn"}'
    assert found[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_chat_says_the_result_of_a_tool_unless_a_tool_must_be_called() -> None:
    messages = [*MESSAGES, {"role": "tool", "tool_call_id": "call-1", "content": "21 degrees"}]
    body = {"messages": messages, "tools": TOOLS}
    (said,) = value(ask(vllm(), body))["choices"]
    assert (said["message"]["content"], said["finish_reason"]) == ("21 degrees", "stop")
    (called,) = value(ask(vllm(), {**body, "tool_choice": "required"}))["choices"]
    assert called["finish_reason"] == "tool_calls"


def test_chat_calls_the_first_tool_unless_told_not_to() -> None:
    body = {"messages": MESSAGES, "tools": TOOLS}
    assert value(ask(vllm(), body))["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "first"
    assert value(ask(vllm(), {**body, "tool_choice": "none"}))["choices"][0]["message"]["content"] == SAID


def test_chat_thinks_aloud_when_asked() -> None:
    body = {"messages": MESSAGES, "chat_template_kwargs": {"enable_thinking": True}}
    assert value(ask(vllm(), body))["choices"][0]["message"]["reasoning_content"]
    assert events(ask(vllm(), {**body, "stream": True}), "data: ")[1]["choices"][0]["delta"]["reasoning_content"]


def test_completions_answer_every_prompt() -> None:
    assert value(ask(vllm(), {"prompt": []}))["choices"] == []
    result = value(ask(vllm(), {"prompt": [PROMPT, PROMPT], "max_tokens": 2}))
    assert [(one["index"], one["text"], one["finish_reason"]) for one in result["choices"]] == [
        (0, "The cat", "length"),
        (1, "The cat", "length"),
    ]


@pytest.mark.parametrize("usage", [True, False])
def test_completions_stream(usage: bool) -> None:
    body = {"prompt": PROMPT, "stream": True, "stream_options": {"include_usage": usage}}
    found = events(ask(vllm(), body), "data: ")
    assert "".join(event["choices"][0]["text"] for event in found if event["choices"]) == SAID
    assert ("usage" in found[-1]) is usage


# -- vectors


def test_openai_embeddings_come_as_numbers_or_in_base64() -> None:
    numbers = value(ask(vllm(), {"input": ["a cat", "a dog"]}))["data"]
    coded = value(ask(vllm(), {"input": ["a cat", "a dog"], "encoding_format": "base64"}))["data"]
    assert [one["index"] for one in numbers] == [0, 1]
    for one, other in zip(numbers, coded, strict=True):
        assert struct.unpack("<8f", base64.b64decode(other["embedding"])) == pytest.approx(one["embedding"])


def test_vectors_are_of_length_one_and_always_the_same() -> None:
    (vector,) = value(ask(tei(), {"inputs": "a cat"}))
    assert math.isclose(sum(number * number for number in vector), 1, abs_tol=1e-5)
    assert value(ask(tei(), {"inputs": ["a cat"]})) == [vector]


def test_tei_gives_fewer_dimensions_when_asked() -> None:
    assert len(value(ask(tei(), {"inputs": "a cat", "dimensions": 3}))[0]) == 3


def test_tei_reranks_by_score() -> None:
    body = {"query": "cats that sleep", "texts": ["Stocks fell.", "The cat sleeps."], "return_text": True}
    ranks = value(ask(tei("rerank"), body))
    assert [rank["index"] for rank in ranks] == [1, 0]
    assert ranks[0]["text"] == "The cat sleeps."
    assert "text" not in value(ask(tei("rerank"), {**body, "return_text": False}))[0]


def test_tei_classifies_one_text_or_several() -> None:
    assert value(ask(tei("classify"), {"inputs": "so good"})) == [{"score": 0.9, "label": "POSITIVE"}]
    assert value(ask(tei("classify"), {"inputs": ["so bad"]}))[0][0]["label"] == "NEGATIVE"


@pytest.mark.parametrize(("shape", "depth"), [("tokens", 3), ("nested", 4)])
def test_feature_extraction_gives_a_vector_for_every_token(shape: Any, depth: int) -> None:
    found = value(ask(feature_extraction(shape), {"inputs": ["two words", "one"]}))
    assert len(found) == 2
    tokens = found[0] if depth == 3 else found[0][0]
    assert [len(token) for token in tokens] == [8, 8, 8, 8]


def test_the_inference_script_for_sentence_transformers_gives_vectors() -> None:
    model = personality("sentence_transformers")
    assert len(value(ask(model, {"inputs": ["a", "b"]}))["vectors"]) == 2


def test_cohere_gives_vectors_plain_or_by_type() -> None:
    plain = value(ask(cohere(), {"texts": ["a"], "input_type": "search_document"}))["embeddings"]
    assert value(ask(cohere(), {"texts": ["a"], "embedding_types": ["float"]}))["embeddings"] == {"float": plain}


# -- JumpStart


def test_jumpstart_embeds_plain_text_lists_and_text_inputs() -> None:
    model = jumpstart("embedding")
    one = value(ask(model, b"a cat", content_type="application/x-text"))["embedding"]
    assert value(ask(model, ["a cat"], content_type="application/x-text"))["embedding"] == [one]
    assert value(ask(model, {"text_inputs": "a cat"}))["embedding"] == [one]


def test_jumpstart_similarity_finds_neighbours_in_the_corpus() -> None:
    model = jumpstart("similarity")
    body = {"corpus": ["Stocks fell.", "The cat sleeps."], "queries": ["cats that sleep"], "mode": "nn_corpus"}
    ((nearest,),) = value(ask(model, body))
    assert nearest["corpus_id"] == 1
    assert len(value(ask(model, ["a", "b"]))["embedding"]) == 2


# -- tables


def npy(rows: list[list[float]], *, kind: str = "<f8", code: str = "d", shape: Any = None) -> bytes:
    shape = (len(rows), len(rows[0])) if shape is None else shape
    header = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    numbers = [number for row in rows for number in row]
    return (
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + struct.pack(f"<{len(numbers)}{code}", *numbers)
    )


CSV, JSON, NPY = "text/csv", "application/json", "application/x-npy"
LINES = "application/jsonlines"
# The container, the type and the bytes of its input, the type that is accepted, the answer and its type.
PREDICTED: list[tuple[Any, str, bytes, str, str, str]] = [
    (sklearn(), CSV, b"1,2\n3,4.5\n\n", "", "[3.0, 7.5]", JSON),
    (sklearn(), "", b"1,2\n3,4.5", "", "[3.0, 7.5]", JSON),
    (sklearn(), JSON, b"[[1, 2], [3, 4.5]]", "", "[3.0, 7.5]", JSON),
    (sklearn(), f"{JSON}; charset=utf-8", b'{"instances": [{"features": [1, 2]}, [3, 4.5]]}', "", "[3.0, 7.5]", JSON),
    (sklearn(), JSON, b'{"data": [[1, 2], [3, 4.5]]}', "", "[3.0, 7.5]", JSON),
    (sklearn(), NPY, npy([[1, 2], [3, 4.5]]), "", "[3.0, 7.5]", JSON),
    (sklearn(), CSV, b"1,2\n3,4.5", CSV, "3.0\n7.5\n", CSV),
    (sklearn(), CSV, b"1,2\n3,4.5", "image/png, */*;q=0.1", "[3.0, 7.5]", JSON),
    (xgboost(), CSV, b"1,2\n3,4.5", "", "3.0,7.5", CSV),
    (xgboost(), "text/libsvm", b"1 0:1 1:2\n0:3 7:4.5\n\n", "", "3.0,7.5", CSV),
    (xgboost(), "text/x-libsvm", b"0:1 1:2\n0:3 7:4.5", "", "3.0,7.5", CSV),
    (xgboost(), "", b"1,2", JSON, '{"predictions": [{"score": 3.0}]}', JSON),
    (xgboost(), "", b"1,2", LINES, '{"score": 3.0}\n', LINES),
]
NOT_PREDICTED: list[tuple[Any, str, bytes, str, int]] = [
    (sklearn(), "image/png", b"1", "", 415),
    (sklearn(), "", b"1", "image/png", 406),
    (sklearn(), "", b"a,b", "", 400),
    (sklearn(), JSON, b"{", "", 400),
    (sklearn(), JSON, b"7", "", 400),
    (sklearn(), JSON, b'[[1], "x"]', "", 400),
    (sklearn(), JSON, b"{}", "", 400),
    (sklearn(), NPY, b"nothing", "", 400),
    (sklearn(), NPY, npy([[1]])[:-3], "", 400),
    (sklearn(), NPY, npy([[1]], kind="<c16"), "", 400),
    (sklearn(), NPY, npy([[1, 2]], shape=(2,)), "", 400),
    (sklearn(), NPY, npy([[1]], shape=7), "", 400),
    (xgboost(), JSON, b"[[1, 2]]", "", 415),
    (xgboost(), LINES, b"[1, 2]", "", 415),
    (xgboost(), NPY, npy([[1, 2]]), "", 415),
]


@pytest.mark.parametrize(("model", "content_type", "body", "accept", "answer", "answered_type"), PREDICTED)
def test_the_prediction_for_a_row_is_its_sum(
    model: Any, content_type: str, body: bytes, accept: str, answer: str, answered_type: str
) -> None:
    reply = ask(model, body, content_type=content_type, accept=accept)
    assert (reply.status, text(reply), reply.content_type) == (200, answer, answered_type)


@pytest.mark.parametrize(("model", "content_type", "body", "accept", "status"), NOT_PREDICTED)
def test_tables_and_types_that_a_container_does_not_take_are_refused(
    model: Any, content_type: str, body: bytes, accept: str, status: int
) -> None:
    assert ask(model, body, content_type=content_type, accept=accept).status == status


def test_sklearn_writes_arrays_that_numpy_reads() -> None:
    numpy = pytest.importorskip("numpy")
    reply = ask(sklearn(), b"1,2\n3,4.5", accept=NPY)
    assert isinstance(reply.body, bytes)
    assert numpy.load(io.BytesIO(reply.body)).tolist() == [3.0, 7.5]
    assert len(reply.body) % 8 == 0


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["float64", "float32", "int64", "int32"])
def test_sklearn_reads_what_numpy_writes(kind: str, order: str) -> None:
    numpy = pytest.importorskip("numpy")
    file = io.BytesIO()
    numpy.save(file, numpy.array([[1, 2], [3, 4]], dtype=kind, order=order))
    assert value(ask(sklearn(), file.getvalue(), content_type="application/x-npy")) == [3.0, 7.0]


# -- stateful sessions


@pytest.mark.parametrize("name", ["tgi", "lmi", "vllm"])
def test_opening_and_closing_a_session_is_answered_before_the_model(name: str) -> None:
    for kind in ("NEW_SESSION", "CLOSE"):
        assert value(ask(personality(name), {"requestType": kind}, session_id="s")) == {}
        assert ask(personality(name), {"requestType": kind}).status >= 400


@pytest.mark.parametrize("body", [b"no json", b"[" * 200_000, b"[]"])
def test_inside_a_session_everything_else_is_for_the_model(body: bytes) -> None:
    assert ask(tgi(), body, session_id="s").status >= 400
    assert value(ask(tgi(), {"inputs": PROMPT}, session_id="s")) == [{"generated_text": SAID}]


# -- as the handlers meet them


ROWS = [[1.0, 2.0], [-3.0, 0.5]]
MET: list[tuple[str, Any, Any, dict[str, Any], Any]] = [
    ("huggingface_summarization", TextGenerationHandler(), PROMPT, {}, SAID),
    ("huggingface_translation", TextGenerationHandler(), PROMPT, {"max_new_tokens": 2}, "The cat"),
    ("triton", AutoHandler(prompt_format="text_input"), PROMPT, {}, SAID),
    ("linear_learner", TabularHandler("csv", "json"), ROWS, {}, [3.0, -2.5]),
    ("linear_learner", TabularHandler("csv", "json", dtype=int, key="predicted_label"), ROWS, {}, [1, 0]),
    ("linear_learner", TabularHandler("instances", "json"), [{"features": row} for row in ROWS], {}, [3.0, -2.5]),
    ("linear_learner", TabularHandler("csv", "jsonlines"), ROWS, {}, [3.0, -2.5]),
    ("k_means", TabularHandler("csv", "json"), ROWS, {}, [3.0, -2.5]),
    ("k_means", TabularHandler("csv", "json", key="distance_to_cluster"), ROWS, {}, [3.0, 2.5]),
    ("random_cut_forest", TabularHandler("csv", "json"), ROWS, {}, [3.0, -2.5]),
    ("pca", TabularRowsHandler("csv", "json"), ROWS, {}, [[3.0], [-2.5]]),
    ("tf_serving", TabularHandler("instances", "json"), ROWS, {}, [3.0, -2.5]),
]


@pytest.mark.parametrize(("name", "handler", "prompt", "parameters", "output"), MET)
def test_the_handler_of_a_container_reads_its_personality(
    name: str, handler: Any, prompt: Any, parameters: dict[str, Any], output: Any
) -> None:
    assert met(name, handler, prompt, **parameters) == output


def met(model: str, handler: Any, prompt: Any, **parameters: Any) -> Any:
    with Emulator(model) as emulator, emulator.endpoint("e", content_handler=handler) as endpoint:
        return endpoint.invoke(prompt, **parameters)


def test_the_huggingface_toolkit_goes_on_with_a_conversation() -> None:
    assert met("huggingface", JumpStartChatHandler(), MESSAGES).text == SAID
    assert met("huggingface", JumpStartChatHandler(), MESSAGES, max_new_tokens=2).text == "The cat"


def test_triton_streams_events() -> None:
    with (
        Emulator("triton") as emulator,
        emulator.endpoint("e", content_handler=AutoHandler(prompt_format="text_input")) as endpoint,
        endpoint.stream(PROMPT) as chunks,
    ):
        assert list(chunks) == WORDS


def test_zero_shot_labels_are_ranked() -> None:
    handler = ClassificationHandler("huggingface")
    found = met("huggingface_zero_shot", handler, "a cat that sleeps", candidate_labels=["stocks", "a cat that sleeps"])
    assert [one.label for one in found] == ["a cat that sleeps", "stocks"]
    assert sum(one.score for one in found) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("said", "label"), [("so good", "POSITIVE"), ("so bad", "NEGATIVE")])
def test_classes_come_in_the_shapes_of_vllm_and_blazingtext(said: str, label: str) -> None:
    (found,) = met("vllm_classify", ClassificationHandler("openai"), said)
    assert (found.label, found.score) == (label, classify(said)["score"])
    (only,) = met("blazingtext", ClassificationHandler("blazingtext"), said)
    assert only.label == f"__label__{label}"
    best, other = met("blazingtext", ClassificationHandler("blazingtext"), said, k=2)
    assert (best.label, best.score + other.score) == (f"__label__{label}", pytest.approx(1))


def test_vllm_scores_and_ranks_pairs() -> None:
    texts = ["Stocks fell.", "The cat sleeps."]
    scores = met("vllm_score", RerankHandler("score"), ("cats that sleep", texts))
    ranks = met("vllm_score", RerankHandler("openai"), ("cats that sleep", texts))
    assert [one.index for one in scores] == [one.index for one in ranks] == [1, 0]
    assert ranks[0].text == texts[1]


def test_sparse_and_word_vectors_are_always_the_same() -> None:
    one, other = met("tei_sparse", SparseEmbeddingsHandler(), ["a cat", "the cat"])
    assert one.keys() & other.keys()
    assert all(weight > 0 for weight in one.values())
    assert met("blazingtext_words", EmbeddingsHandler("blazingtext"), ["cat"]) == [embed("cat")]


@pytest.mark.parametrize(("type_", "numbers"), [("int8", 8), ("uint8", 8), ("binary", 1), ("ubinary", 1), ("float", 8)])
def test_cohere_quantises_its_vectors(type_: Any, numbers: int) -> None:
    (vector,) = met("cohere", EmbeddingsHandler("cohere", embedding_type=type_, dimension=numbers), ["a cat"])
    signs = [(number > 0) for number in embed("a cat")]
    if type_ in ("binary", "ubinary"):
        packed = int(vector[0]) + (128 if type_ == "binary" else 0)
        assert [bool(packed & (1 << (7 - place))) for place in range(8)] == signs
    else:
        assert [number > (128 if type_ == "uint8" else 0) for number in vector] == signs


# -- by name


@pytest.mark.parametrize("name", PERSONALITIES)
def test_every_personality_can_be_asked_for_by_name_and_says_its_name(name: str) -> None:
    model = personality(name)
    assert repr(model).startswith("<personality ")
    assert getattr(model, "inline", False)


def test_a_personality_that_does_not_exist_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="nonsense"):
        Emulator({"my-llm": "nonsense"})
    with pytest.raises(ConfigurationError, match="nonsense"):
        Emulator("nonsense")
