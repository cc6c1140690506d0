"""Containers with formats of their own behind `OpenAIApp`: exact, or a clear 400."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from serving import ANSWER, MESSAGES, app_for, ask, served

from smendpoint.asgi import OpenAIApp, ServedModel
from smendpoint.emulator import Emulator, ModelRequest

openai = pytest.importorskip("openai", reason="the openai package is not installed")

PROMPT = MESSAGES[0]["content"]
TEXT = "/v1/completions"


def client(port: int) -> Any:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)


@pytest.mark.parametrize(
    ("personality", "format"),
    [
        ("tgi", "tgi"),
        ("lmi", "lmi"),
        ("lmi_sse", "lmi"),
        ("jumpstart_llama3", "jumpstart-llama-3"),
        ("jumpstart_llama2", "jumpstart-llama-2"),
    ],
)
def test_text_containers_complete_whole_and_streamed(personality: str, format: str) -> None:
    with (
        Emulator({"m": personality}) as emulator,
        served(app_for(emulator, "m", format, endpoint_kwargs={"CustomAttributes": "accept_eula=true"})) as port,
        client(port) as caller,
    ):
        whole = caller.completions.create(model="m", prompt=PROMPT, max_tokens=50, temperature=0)
        assert whole.choices[0].text.strip() == ANSWER
        assert whole.choices[0].finish_reason == "stop"
        with caller.completions.create(
            model="m", prompt=[PROMPT], max_tokens=50, stream=True, stream_options={"include_usage": True}
        ) as stream:
            chunks = list(stream)
        choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
        assert "".join(choice.text for choice in choices).strip() == ANSWER
        assert [choice.finish_reason for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
        assert json.loads(emulator.requests[0].body)["parameters"]["max_new_tokens"] == 50


@pytest.mark.parametrize(
    ("personality", "format"), [("huggingface", "huggingface"), ("jumpstart_flan", "jumpstart-flan-t5")]
)
def test_containers_that_do_not_stream_complete(personality: str, format: str) -> None:
    with (
        Emulator({"m": personality}) as emulator,
        served(app_for(emulator, "m", format)) as port,
        client(port) as caller,
    ):
        found = caller.completions.create(model="m", prompt=PROMPT, stop=["for"]).choices[0]
        assert "for" not in found.text
        assert found.finish_reason == "stop"


def test_token_counts_come_where_the_container_has_all_of_them() -> None:
    def model(request: ModelRequest) -> str:
        details = {"finish_reason": "length", "generated_tokens": 2, "input_length": 3}
        if request.streaming:
            return f'data:{{"token": {{"text": "a"}}, "generated_text": "a", "details": {json.dumps(details)}}}\n\n'
        return json.dumps({"generated_text": "a", "details": details})

    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    with Emulator({"m": model}) as emulator, served(app_for(emulator, "m", "tgi")) as port, client(port) as caller:
        whole = caller.completions.create(model="m", prompt="x", stop="b")
        assert whole.usage.model_dump(exclude_none=True) == usage
        assert whole.choices[0].finish_reason == "length"
        options = {"include_usage": True}
        chunks = list(caller.completions.create(model="m", prompt="x", stream=True, stream_options=options))
        assert chunks[-1].usage.model_dump(exclude_none=True) == usage


def test_jumpstarts_chat_takes_messages_whole_and_streamed() -> None:
    with (
        Emulator({"m": "jumpstart_llama2_chat"}) as emulator,
        served(
            OpenAIApp(
                {
                    "m": ServedModel(
                        emulator.async_endpoint("m", endpoint_kwargs={"CustomAttributes": "accept_eula=true"}),
                        "jumpstart-chat",
                    )
                }
            )
        ) as port,
        client(port) as caller,
    ):
        whole = caller.chat.completions.create(model="m", messages=MESSAGES, max_completion_tokens=50)
        assert whole.choices[0].message.content.strip() == ANSWER
        for messages in (None, [], "text", [{"content": "x"}]):
            status, _, answer = ask(port, "/v1/chat/completions", {"model": "m", "messages": messages})
            assert (status, answer["error"]["param"]) == (400, "messages")


def test_a_chats_stream_has_the_texts_as_deltas() -> None:
    def model(request: ModelRequest) -> bytes:
        return (
            b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}\n\n'
            b'data: {"choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": null}]}\n\n'
            b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
        )

    with Emulator({"m": model}) as emulator, served(app_for(emulator, "m", "jumpstart-chat")) as port:
        with client(port) as caller:
            stream = caller.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            choices = [chunk.choices[0] for chunk in stream]
    assert "".join(choice.delta.content or "" for choice in choices) == "Hello"
    assert choices[-1].finish_reason == "stop"


@pytest.mark.parametrize(
    ("format", "fields", "param"),
    [
        ("tgi", {"n": 2}, "n"),
        ("tgi", {"logprobs": 0}, "logprobs"),
        ("tgi", {"echo": True}, "echo"),
        ("tgi", {"suffix": "x"}, "suffix"),
        ("tgi", {"presence_penalty": 0.5}, "presence_penalty"),
        ("lmi", {"frequency_penalty": 0.5}, "frequency_penalty"),
        ("tgi", {"temperature": -1}, "temperature"),
        ("tgi", {"temperature": "hot"}, "temperature"),
        ("tgi", {"stop": [1]}, "stop"),
        ("tgi", {"stop": 1}, "stop"),
        ("tgi", {"prompt": ["a", "b"]}, "prompt"),
        ("tgi", {"prompt": [[1, 2]]}, "prompt"),
        ("jumpstart-flan-t5", {"max_tokens": 5}, "max_tokens"),
    ],
)
def test_fields_without_an_exact_equivalent_are_refused(format: str, fields: dict[str, Any], param: str) -> None:
    with Emulator({"m": "tgi"}) as emulator, served(app_for(emulator, "m", format)) as port:
        status, _, answer = ask(port, TEXT, {"model": "m", "prompt": "x", **fields})
        assert (status, answer["error"]["param"]) == (400, param)
        assert emulator.total_requests == 0


def test_fields_are_translated_and_those_that_ask_for_nothing_are_left_out() -> None:
    with Emulator({"m": "tgi"}) as emulator, served(app_for(emulator, "m", "tgi")) as port:
        asked = {
            "model": "m",
            "prompt": PROMPT,
            "n": 1,
            "best_of": 1,
            "echo": False,
            "presence_penalty": 0.0,
            "logit_bias": {},
            "suffix": None,
            "user": "me",
            "stop": ["days"],
            "max_tokens": 9,
            "temperature": 0.5,
            "top_p": 1,
            "seed": 3,
            "frequency_penalty": 0.25,
            "top_k": 5,
        }
        status, _, answer = ask(port, TEXT, asked)
        assert (status, answer["choices"][0]["finish_reason"]) == (200, "stop")
        ask(port, TEXT, {"model": "m", "prompt": PROMPT, "temperature": 0, "frequency_penalty": 0, "top_p": 0.5})
        first, second = (json.loads(request.body)["parameters"] for request in emulator.requests)
    assert first == {
        "details": True,
        "stop": ["days"],
        "max_new_tokens": 9,
        "do_sample": True,
        "temperature": 0.5,
        "seed": 3,
        "frequency_penalty": 0.25,
        "top_k": 5,
    }
    assert second == {"details": True, "do_sample": False, "top_p": 0.5}


def test_paths_that_a_container_does_not_have_are_refused() -> None:
    with Emulator({"m": "tgi"}) as emulator, served(app_for(emulator, "m", "tgi")) as port:
        status, _, answer = ask(port, "/v1/chat/completions", {"model": "m", "messages": MESSAGES})
    assert status == 400
    assert "/v1/completions" in answer["error"]["message"]


# -- embeddings


def test_embeddings_come_as_floats_and_in_base64() -> None:
    with Emulator({"m": "tei"}) as emulator, served(app_for(emulator, "m", "tei")) as port:
        floats = ask(port, "/v1/embeddings", {"model": "m", "input": ["a", "b"]})[2]
        assert [item["index"] for item in floats["data"]] == [0, 1]
        packed = ask(port, "/v1/embeddings", {"model": "m", "input": "a", "encoding_format": "base64"})[2]
        found = base64.b64decode(packed["data"][0]["embedding"])
        vector = floats["data"][0]["embedding"]
        assert struct.unpack(f"<{len(vector)}f", found) == pytest.approx(vector)
        with client(port) as caller:
            many = caller.embeddings.create(model="m", input=[str(number) for number in range(70)])
        assert len(many.data) == 70
        assert many.data[0].embedding != many.data[1].embedding


@pytest.mark.parametrize(
    ("format", "fields", "param"),
    [
        ("tei", {"input": [1, 2]}, "input"),
        ("tei", {"input": [[1, 2]]}, "input"),
        ("tei", {"input": []}, "input"),
        ("tei", {"input": None}, "input"),
        ("tei", {"encoding_format": "hex"}, "encoding_format"),
        ("tei", {"stream": True}, "stream"),
        ("huggingface", {"dimensions": 3}, "dimensions"),
    ],
)
def test_embeddings_that_a_container_cannot_give_are_refused(format: str, fields: dict[str, Any], param: str) -> None:
    with Emulator({"m": "tei"}) as emulator, served(app_for(emulator, "m", format)) as port:
        status, _, answer = ask(port, "/v1/embeddings", {"model": "m", "input": "a", **fields})
    assert (status, answer["error"]["param"]) == (400, param)


def test_a_number_that_32_bits_do_not_hold_is_given_as_a_float_and_refused_in_base64() -> None:
    def model(request: ModelRequest) -> str:
        return "[[1e300, 0.5]]"

    with Emulator({"m": model}) as emulator, served(app_for(emulator, "m", "tei")) as port:
        asked = {"model": "m", "input": "a"}
        assert ask(port, "/v1/embeddings", asked)[2]["data"][0]["embedding"] == [1e300, 0.5]
        status, _, answer = ask(port, "/v1/embeddings", {**asked, "encoding_format": "base64"})
    assert status == 502
    assert "32 bits" in answer["error"]["message"]


def test_dimensions_that_the_container_has_are_given() -> None:
    with Emulator({"m": "tei"}) as emulator, served(app_for(emulator, "m", "tei")) as port:
        status, _, answer = ask(port, "/v1/embeddings", {"model": "m", "input": "a", "dimensions": 8})
    assert status == 200
    assert len(answer["data"][0]["embedding"]) == 8


def test_dimensions_that_the_model_ignores_are_refused() -> None:
    with Emulator({"m": lambda _request: "[[1, 2]]"}) as emulator, served(app_for(emulator, "m", "tei")) as port:
        status, _, answer = ask(port, "/v1/embeddings", {"model": "m", "input": "a", "dimensions": 3})
    assert (status, answer["error"]["param"]) == (400, "dimensions")
    assert "have 2 dimensions" in answer["error"]["message"]
