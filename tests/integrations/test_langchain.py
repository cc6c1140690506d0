"""LangChain's classes do what its users expect, and what this package promises: both ways to wait, one test body."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from scripted_model import model as scripted

from smendpoint import (
    AsyncEndpoint,
    AutoHandler,
    ChatHandler,
    ConfigurationError,
    CredentialsError,
    EmbeddingsHandler,
    Endpoint,
    HandlerError,
    ModelError,
    OpenAICompletionsHandler,
    ReadTimeoutError,
    RetryPolicy,
    StreamTruncatedError,
    Timeout,
)
from smendpoint._options import ENDPOINT_OPTIONS
from smendpoint.emulator import Emulator
from smendpoint.emulator.models import ModelReply, ModelRequest

pytest.importorskip("langchain_core")

import botocore.session
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.load import dumps, load
from langchain_core.load.dump import dumpd
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import BaseModel, ValidationError

from smendpoint.integrations.langchain import ChatSageMaker, SageMakerEmbeddings, SageMakerLLM

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYSECRETKEY"
KEYS: dict[str, Any] = {"aws_access_key_id": "AKIDSECRET", "aws_secret_access_key": SECRET}
CLASSES = [ChatSageMaker, SageMakerLLM, SageMakerEmbeddings]
PATIENCE = 20.0


@pytest.fixture
def service(emulator: Emulator) -> Emulator:
    """The service of the other tests, with a model of each kind."""
    emulator.models = {"chat": scripted, "text": "tgi", "vectors": "tei", "completions": "vllm"}
    return emulator


class Way:
    """One of the two ways to call a model; the awaited one has an event loop of its own."""

    def __init__(self, asynchronous: bool) -> None:
        self.asynchronous = asynchronous

    def invoke(self, model: Any, value: Any, **options: Any) -> Any:
        return asyncio.run(model.ainvoke(value, **options)) if self.asynchronous else model.invoke(value, **options)

    def batch(self, model: Any, values: Any, **options: Any) -> Any:
        return asyncio.run(model.abatch(values, **options)) if self.asynchronous else model.batch(values, **options)

    def generate(self, model: Any, values: Any, **options: Any) -> Any:
        return (
            asyncio.run(model.agenerate(values, **options)) if self.asynchronous else model.generate(values, **options)
        )

    def stream(self, model: Any, value: Any, **options: Any) -> list[Any]:
        if not self.asynchronous:
            return list(model.stream(value, **options))

        async def collect() -> list[Any]:
            return [chunk async for chunk in model.astream(value, **options)]

        return asyncio.run(collect())

    def embed(self, model: SageMakerEmbeddings, texts: list[str]) -> list[list[float]]:
        return asyncio.run(model.aembed_documents(texts)) if self.asynchronous else model.embed_documents(texts)


@pytest.fixture(params=[False, True], ids=["plain", "awaited"])
def way(request: pytest.FixtureRequest) -> Way:
    return Way(request.param)


def body(service: Emulator, number: int = -1) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(service.requests[number].body)
    return found


def merged(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


def says(*choices: dict[str, Any], **fields: Any) -> Callable[[ModelRequest], str]:
    """Make a container with OpenAI's interface that gives this answer."""
    return lambda request: json.dumps({"id": "cmpl-7", "model": "played", "choices": list(choices), **fields})


def choice(**message: Any) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": "stop"}


# -- arguments


@pytest.mark.parametrize("model_class", CLASSES)
def test_a_model_has_every_option_of_an_endpoint(model_class: type[BaseModel]) -> None:
    assert set(ENDPOINT_OPTIONS) <= model_class.model_fields.keys()


@pytest.mark.parametrize("model_class", CLASSES)
def test_a_misspelt_argument_is_refused_and_the_error_shows_no_key(model_class: type[BaseModel]) -> None:
    with pytest.raises(ValidationError, match="temprature") as caught:
        model_class(endpoint_name="chat", temprature=0, **KEYS)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("model_class", CLASSES)
def test_an_error_of_an_endpoint_s_arguments_is_the_endpoint_s_own(model_class: type[BaseModel]) -> None:
    for wrong in (
        {"endpoint_name": "not valid"},
        {},
        {"endpoint_name": "chat", "timeout": -1},
        {"endpoint_name": "chat", "endpoint": object()},
        {"endpoint_name": "chat", "max_retries": 1, "retry": RetryPolicy()},
        {"endpoint_name": "other", "endpoint": Endpoint("chat")},
        {"endpoint": Endpoint("chat"), "region_name": "us-west-2"},
    ):
        with pytest.raises(ConfigurationError):
            model_class(**wrong)


def test_options_of_the_endpoint_arrive_at_the_service(service: Emulator, way: Way) -> None:
    model = ChatSageMaker(
        endpoint_name="chat",
        inference_component_name="component",
        endpoint_kwargs={"CustomAttributes": "one"},
        endpoint_url=service.url,
        region_name="us-west-2",
        timeout=Timeout(read=5),
        **KEYS,
    )
    way.invoke(model, "Hello")
    headers = service.requests[-1].headers
    assert headers["x-amzn-sagemaker-inference-component"] == "component"
    assert headers["x-amzn-sagemaker-custom-attributes"] == "one"
    assert "AKIDSECRET" in headers["authorization"]


def test_parameters_go_into_the_request_and_a_call_s_own_win(service: Emulator, way: Way) -> None:
    model = ChatSageMaker(
        endpoint_name="chat", model="adapter", temperature=0.5, max_tokens=50, top_p=0.9, model_kwargs={"seed": 7}
    )
    way.invoke(model, "Hello", temperature=0, seed=8)
    sent = body(service)
    assert (sent["model"], sent["temperature"], sent["max_tokens"], sent["top_p"], sent["seed"]) == (
        *("adapter", 0, 50, 0.9),
        8,
    )
    assert sent["messages"] == [{"role": "user", "content": "Hello"}]


def test_a_call_may_have_its_own_timeout(service: Emulator, way: Way) -> None:
    service.inject("stall_before_headers", times=2)
    for call in (way.invoke, way.stream):
        with pytest.raises(ReadTimeoutError):
            call(ChatSageMaker(endpoint_name="chat"), "Hello", timeout=0.05)


def test_hooks_are_told_of_every_call(service: Emulator, way: Way) -> None:
    class Seen:
        def __init__(self) -> None:
            self.calls: list[Any] = []

        def call_finished(self, call: Any, *_: Any) -> None:
            self.calls.append(call)

    seen = Seen()
    chat = ChatSageMaker(endpoint_name="chat", hooks=seen, temperature=0)
    way.invoke(chat, "Hello")
    way.stream(chat, "Hello")
    assert [call.streaming for call in seen.calls] == [False, True]
    assert all(call.parameters["temperature"] == 0 for call in seen.calls)
    assert all(call.usage.total_tokens for call in seen.calls)


def test_max_retries_is_the_number_of_further_attempts(service: Emulator, way: Way) -> None:
    service.inject("status_500", times=3)
    model = ChatSageMaker(endpoint_name="chat", max_retries=0)
    with pytest.raises(Exception, match="500") as caught:
        way.invoke(model, "Hello")
    assert caught.value.attempts == 1  # type: ignore[attr-defined]  # every error of the package has it


def test_a_given_endpoint_is_called_and_stays_open(service: Emulator, way: Way) -> None:
    with Endpoint("chat", content_handler=ChatHandler(), model_kwargs={"seed": 7}) as endpoint:
        with ChatSageMaker(endpoint=endpoint) as model:
            assert way.invoke(model, "Hello").text
            assert body(service)["seed"] == 7
            assert model.endpoint_name == "chat"
        assert endpoint.invoke("Hello").text


def test_an_asynchronous_endpoint_can_be_given(service: Emulator, way: Way) -> None:
    model = ChatSageMaker(endpoint=AsyncEndpoint("chat", content_handler=ChatHandler()))
    assert way.invoke(model, "Hello").text


def test_a_given_endpoint_without_a_handler_of_its_own_gets_the_one_that_fits(service: Emulator, way: Way) -> None:
    assert way.invoke(ChatSageMaker(endpoint=Endpoint("chat")), "Hello").usage_metadata
    assert way.embed(SageMakerEmbeddings(endpoint=Endpoint("vectors")), ["one"])


def test_a_client_that_must_be_awaited_makes_no_plain_call() -> None:
    model = ChatSageMaker(endpoint=AsyncEndpoint("chat", content_handler=ChatHandler(), client=Mock()))
    with pytest.raises(ConfigurationError, match="such as ainvoke"):
        model.invoke("Hello")


def test_a_client_of_botocore_makes_every_call(service: Emulator, way: Way) -> None:
    client = botocore.session.get_session().create_client(
        "sagemaker-runtime", region_name="us-west-2", endpoint_url=service.url
    )
    chat = ChatSageMaker(endpoint_name="chat", client=client)
    assert way.invoke(chat, "Hello").text
    assert merged(way.stream(chat, "Hello")).text
    text = SageMakerLLM(endpoint_name="text", client=client)
    assert way.invoke(text, "Hello")
    assert "".join(way.stream(text, "Hello"))
    vectors = SageMakerEmbeddings(endpoint_name="vectors", client=client)
    assert len(way.embed(vectors, ["one", "two"])) == 2
    if way.asynchronous:
        assert asyncio.run(vectors.aembed_query("one"))
    assert all("Botocore" in request.headers["user-agent"] for request in service.requests)
    client.close()


# -- what others may see


@pytest.mark.parametrize("model_class", CLASSES)
def test_no_secret_is_in_a_repr_or_in_what_langchain_writes_down(model_class: Any) -> None:
    model = model_class(
        endpoint_name="chat",
        role_arn="arn:aws:iam::123456789012:role/caller",
        external_id=SECRET,
        endpoint_kwargs={"CustomAttributes": SECRET},
        aws_session_token=SECRET,
        **KEYS,
    )
    shown = [repr(model), str(model)]
    if hasattr(model, "to_json"):
        shown += [dumps(model), str(model.lc_attributes), str(model._get_ls_params()), str(model._identifying_params)]
    assert not [text for text in shown if SECRET in text or "AKIDSECRET" in text]


@pytest.mark.parametrize("model_class", CLASSES)
def test_no_key_is_in_the_variables_of_a_traceback(model_class: Any) -> None:
    for wrong in ({"temprature": 0}, {"timeout": -1}):
        with pytest.raises(ValueError, match="t") as caught:
            model_class(endpoint_name="chat", **wrong, **KEYS)
        inside = caught.traceback[1:]
        assert inside
        assert SECRET not in "".join(str(entry.frame.f_locals) for entry in inside)


@pytest.mark.parametrize("model_class", CLASSES)
def test_no_key_is_in_a_pickle(model_class: Any) -> None:
    pickled = pickle.dumps(model_class(endpoint_name="chat", aws_session_token=SECRET, **KEYS))
    assert SECRET.encode() not in pickled
    assert b"AKIDSECRET" not in pickled
    model = pickle.loads(pickled)
    with pytest.raises(CredentialsError, match="pickle"):
        (model.embed_query if model_class is SageMakerEmbeddings else model.invoke)("Hello")


@pytest.mark.parametrize("model_class", [ChatSageMaker, SageMakerLLM])
def test_a_model_that_langchain_wrote_down_can_be_loaded(model_class: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_class(
        endpoint_name="chat", region_name="us-west-2", temperature=0.5, timeout=Timeout(read=5), hooks=None, **KEYS
    )
    for name, value in KEYS.items():
        monkeypatch.setenv(name.upper(), value)
    options: dict[str, Any] = {"valid_namespaces": ["smendpoint"]}
    if "allowed_objects" in inspect.signature(load).parameters:  # newer versions load by name only
        options |= {"allowed_objects": [model_class], "secrets_from_env": True}
    found = load(dumpd(model), **options)
    assert isinstance(found, model_class)
    assert (found.endpoint_name, found.region_name, found.temperature) == ("chat", "us-west-2", 0.5)
    assert found.aws_secret_access_key.get_secret_value() == SECRET


def test_langsmith_gets_the_provider_the_model_and_the_parameters() -> None:
    chat = ChatSageMaker(endpoint_name="chat", temperature=0.5, model_kwargs={"max_tokens": 5}, stop=["x"])
    assert chat._get_ls_params() == {
        "ls_provider": "amazon_sagemaker",
        "ls_model_type": "chat",
        "ls_model_name": "chat",
        "ls_temperature": 0.5,
        "ls_max_tokens": 5,
        "ls_stop": ["x"],
    }
    assert chat._get_ls_params(stop=["y"], temperature=0)["ls_stop"] == ["y"]
    text = SageMakerLLM(endpoint_name="text", inference_component_name="component", model_kwargs={"max_new_tokens": 5})
    assert text._get_ls_params()["ls_model_name"] == "component"
    assert text._get_ls_params()["ls_max_tokens"] == 5
    assert text._get_ls_params(model="adapter")["ls_model_name"] == "adapter"


def test_a_pickled_model_calls_with_what_its_process_finds(service: Emulator, way: Way) -> None:
    model = pickle.loads(pickle.dumps(ChatSageMaker(endpoint_name="chat", temperature=0.5)))
    assert way.invoke(model, "Hello").text
    assert body(service)["temperature"] == 0.5
    configurable = model.configurable_fields(top_p=ConfigurableField(id="share"))
    assert way.invoke(configurable, "Hello", config={"configurable": {"share": 0.5}}).text
    assert body(service)["top_p"] == 0.5


def test_a_cache_tells_endpoints_apart(service: Emulator, way: Way) -> None:
    service.models = {"one": says(choice(content="one")), "two": says(choice(content="two"))}
    cache = InMemoryCache()
    for name in ("one", "two", "one"):
        assert way.invoke(ChatSageMaker(endpoint_name=name, cache=cache), "Hello").text == name
    assert service.total_requests == 2


# -- copies, connections, event loops


def test_copies_share_connections_unless_they_are_of_another_endpoint(service: Emulator) -> None:
    with ChatSageMaker(endpoint_name="chat") as model:
        for copied in (model.model_copy(update={"temperature": 0.5}), copy.deepcopy(model), copy.copy(model)):
            copied.invoke("Hello")
        assert service.total_connections == 1
        assert model.temperature is None
        other = model.model_copy(update={"endpoint_name": "text", "content_handler": OpenAICompletionsHandler()})
        assert other.endpoint_name == "text"
        other.close()
        model.invoke("Hello")
    with pytest.raises(ValidationError, match="frozen"):
        model.endpoint_name = "other"


def test_a_configurable_model_keeps_its_connections(service: Emulator, way: Way) -> None:
    service.models = {"chat": scripted, "other": scripted}
    model = ChatSageMaker(endpoint_name="chat").configurable_fields(
        temperature=ConfigurableField(id="heat"), endpoint_name=ConfigurableField(id="name")
    )
    if way.asynchronous:

        async def ask() -> None:
            for heat in (0, 1):
                await model.ainvoke("Hello", {"configurable": {"heat": heat}})

        asyncio.run(ask())
    else:
        for heat in (0, 1):
            model.invoke("Hello", {"configurable": {"heat": heat}})
    assert [json.loads(request.body)["temperature"] for request in service.requests] == [0, 1]
    assert service.total_connections == 1
    way.invoke(model, "Hello", config={"configurable": {"name": "other"}})
    assert service.requests[-1].endpoint_name == "other"


def test_one_model_is_used_on_several_event_loops_and_closed(service: Emulator) -> None:
    model = ChatSageMaker(endpoint_name="chat")

    async def ask() -> None:
        await asyncio.gather(*[model.ainvoke("Hello") for _ in range(4)])

    asyncio.run(ask())
    asyncio.run(ask())

    async def close() -> None:
        async with model:
            await ask()
        with pytest.raises(ConfigurationError, match="closed"):
            await model.ainvoke("Hello")

    asyncio.run(close())
    with pytest.raises(ConfigurationError, match="closed"):
        model.invoke("Hello")


def test_awaited_calls_use_no_thread(service: Emulator) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("a thread is used")

    async def ask() -> None:
        chat, text = ChatSageMaker(endpoint_name="chat"), SageMakerLLM(endpoint_name="text")
        vectors = SageMakerEmbeddings(endpoint_name="vectors")
        async with chat, text, vectors:
            # The first call of each reads the AWS configuration, which is files.
            await asyncio.gather(chat.ainvoke("Hello"), text.ainvoke("Hello"), vectors.aembed_query("one"))
            asyncio.get_running_loop().run_in_executor = refuse  # type: ignore[method-assign,assignment]  # from here
            await chat.ainvoke("Hello")
            await chat.bind_tools([age_of]).ainvoke("How old is 'Ada'?")
            await chat.abatch(["Hello", "Hey"])
            await text.abatch(["Hello", "Hey"])
            await text.agenerate(["Hello", "Hey"])
            assert [chunk async for chunk in chat.astream("Hello")]
            assert [chunk async for chunk in text.astream("Hello")]
            await vectors.aembed_documents(["one", "two"])
            await vectors.aembed_query("one")

    asyncio.run(ask())


# -- answers


def test_an_answer_has_usage_and_what_is_known_about_it(service: Emulator, way: Way) -> None:
    for answer in (
        way.invoke(ChatSageMaker(endpoint_name="chat"), "Hello"),
        merged(way.stream(ChatSageMaker(endpoint_name="chat"), "Hello")),
    ):
        about = answer.response_metadata
        assert about["finish_reason"] == "stop"
        assert about["model_name"]
        assert about["id"] == "chatcmpl-1"
        assert len(about["request_id"]) == 36
        assert about["model_provider"] == "amazon_sagemaker"
        assert answer.usage_metadata["total_tokens"] == sum(
            answer.usage_metadata[name] for name in ("input_tokens", "output_tokens")
        )


def test_details_of_the_counts_and_log_probabilities_are_kept(service: Emulator, way: Way) -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    one = {**choice(content="Yes", reasoning_content="Let me see."), "logprobs": {"content": []}}
    service.models = {"chat": says(one, usage=usage, system_fingerprint="fp")}
    answer = way.invoke(ChatSageMaker(endpoint_name="chat"), "Hello")
    assert answer.usage_metadata == {
        "input_tokens": 10,
        "output_tokens": 5,
        "total_tokens": 15,
        "input_token_details": {"cache_read": 8},
        "output_token_details": {"reasoning": 3},
    }
    assert answer.response_metadata["logprobs"] == {"content": []}
    assert answer.response_metadata["system_fingerprint"] == "fp"
    assert answer.additional_kwargs == {"reasoning_content": "Let me see."}
    assert [block["type"] for block in answer.content_blocks] == ["reasoning", "text"]


def test_reasoning_streams_apart_from_the_text(service: Emulator, way: Way) -> None:
    thinking = {"chat_template_kwargs": {"enable_thinking": True}}
    whole = merged(way.stream(ChatSageMaker(endpoint_name="chat", model_kwargs=thinking), "Hello"))
    assert whole.additional_kwargs["reasoning_content"]
    assert whole.text
    assert whole.additional_kwargs["reasoning_content"] not in whole.text


def test_an_answer_ends_at_a_stop_sequence_of_the_call_or_of_the_model(service: Emulator, way: Way) -> None:
    service.models = {"chat": says(choice(content="one two three"), {**choice(content="two three"), "index": 1})}
    model = ChatSageMaker(endpoint_name="chat", stop=[" three"])
    assert way.invoke(model, "Hello").text == "one two"
    assert way.invoke(model, "Hello", stop=[" two"]).text == "one"
    assert body(service)["stop"] == [" two"]
    assert merged(way.stream(model, "Hello", stop=[" two"])).text == "one"
    among_parameters = ChatSageMaker(endpoint_name="chat", model_kwargs={"stop": [" three"]})
    assert way.invoke(among_parameters, "Hello").text == "one two"
    assert way.invoke(among_parameters, "Hello", stop=[" two"]).text == "one"
    single = ChatSageMaker(endpoint_name="chat", stop=" three")
    (found,) = way.generate(single, [[HumanMessage("Hello")]], n=2).generations
    assert [one.text for one in found] == ["one two", "two"]


def test_generate_gives_n_answers_and_counts_them_once(service: Emulator, way: Way) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    service.models = {"chat": says(choice(content="one"), choice(content="two"), usage=usage)}
    model = ChatSageMaker(endpoint_name="chat", n=2)
    result = way.generate(model, [[HumanMessage("Hello")]])
    assert [one.text for one in result.generations[0]] == ["one", "two"]
    assert [bool(one.message.usage_metadata) for one in result.generations[0]] == [True, False]
    assert body(service)["n"] == 2
    with pytest.raises(ConfigurationError, match="a stream has one answer"):
        way.stream(model, "Hello")


def test_arguments_that_are_not_json_are_invalid_and_go_back_as_the_model_wrote_them(
    service: Emulator, way: Way
) -> None:
    calls = [
        {"id": "a", "type": "function", "function": {"name": "add", "arguments": '{"a": 1'}},
        {"id": "b", "type": "function", "function": {"name": "add", "arguments": "[1]"}},
        {"id": "c", "type": "function", "function": {"name": "add", "arguments": ""}},
    ]
    service.models = {"chat": says(choice(tool_calls=calls))}
    model = ChatSageMaker(endpoint_name="chat")
    answer = way.invoke(model, "Hello")
    assert [call["id"] for call in answer.invalid_tool_calls] == ["a", "b"]
    assert all(call["error"] for call in answer.invalid_tool_calls)
    assert [(call["id"], call["args"]) for call in answer.tool_calls] == [("c", {})]
    way.invoke(model, [HumanMessage("Hello"), answer, ToolMessage("not JSON", tool_call_id="a", status="error")])
    sent = body(service)["messages"]
    assert {call["id"]: call["function"]["arguments"] for call in sent[1]["tool_calls"]} == {
        "a": '{"a": 1',
        "b": "[1]",
        "c": "{}",
    }
    assert sent[2] == {"role": "tool", "tool_call_id": "a", "content": "not JSON"}


def test_parts_of_a_message_are_sent_as_openai_has_them(service: Emulator, way: Way) -> None:
    model = ChatSageMaker(endpoint_name="chat")
    parts = [
        {"type": "text", "text": "Look."},
        {"type": "image", "base64": "QUJD", "mime_type": "image/png"},
        {"type": "image", "url": "https://example.com/cat.png"},
    ]
    thoughts = [{"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": "A cat."}]
    way.invoke(model, [SystemMessage("Be brief."), HumanMessage(parts), AIMessage(thoughts), HumanMessage("Sure?")])
    assert body(service)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look."},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
            ],
        },
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "Sure?"},
    ]


class Upper:
    """A content handler as they are written for LangChain: it gives a text, or a message."""

    content_type = accepts = "application/json"

    def __init__(self, gives: Callable[[str], Any]) -> None:
        self.gives = gives

    def transform_input(self, prompt: list[dict[str, Any]], model_kwargs: dict[str, Any]) -> bytes:
        return json.dumps({"messages": prompt, **model_kwargs}).encode()

    def transform_output(self, output: Any) -> Any:
        return self.gives(output.read().decode().upper())


def test_a_content_handler_may_give_a_text_or_a_message(service: Emulator, way: Way) -> None:
    service.models = {"chat": lambda request: "hello\n"}
    for gives in (str, AIMessage, lambda text: AIMessageChunk(content=text)):
        model = ChatSageMaker(endpoint_name="chat", content_handler=Upper(gives))
        assert way.invoke(model, "Hello").text.strip() == "HELLO"
        assert merged(way.stream(model, "Hello")).text.strip() == "HELLO"
    with pytest.raises(HandlerError, match="ChatHandler"):
        way.invoke(ChatSageMaker(endpoint_name="chat", content_handler=Upper(list)), "Hello")


# -- errors and cancellation


def test_a_stream_that_is_cut_keeps_what_had_come(service: Emulator, way: Way) -> None:
    service.models = {"chat": Cut()}
    tokens = Tokens()
    with pytest.raises(StreamTruncatedError) as caught:
        way.stream(ChatSageMaker(endpoint_name="chat"), "Hello", config={"callbacks": [tokens]})
    assert "".join(chunk.text for chunk in caught.value.received) == "".join(tokens.texts)
    assert tokens.texts
    assert tokens.errors == [caught.value]


def test_an_error_of_the_container_is_the_package_s_own(service: Emulator, way: Way) -> None:
    service.models = {"chat": lambda request: ModelReply(b'{"message": "too long", "code": 400}', status=400)}
    for call in (way.invoke, way.stream):
        with pytest.raises(ModelError) as caught:
            call(ChatSageMaker(endpoint_name="chat"), "Hello")
        assert caught.value.original_status_code == 400


class Cut:
    """A model that dies in the middle of its stream."""

    def __call__(self, request: ModelRequest) -> ModelReply:
        return ModelReply(self.parts(), content_type="text/event-stream")

    def parts(self) -> Iterator[str]:
        for _ in range(2):
            yield 'data: {"choices": [{"delta": {"content": "more "}}]}\n\n'


class Endless:
    """A model that streams until its client has gone."""

    def __call__(self, request: ModelRequest) -> ModelReply:
        return ModelReply(self.parts(request), content_type="text/event-stream")

    def parts(self, request: ModelRequest) -> Iterator[str]:
        while not request.disconnected.wait(0.001):
            yield 'data: {"choices": [{"delta": {"content": "more "}}]}\n\n'


def test_leaving_a_stream_ends_the_call(service: Emulator, way: Way) -> None:
    service.models = {"chat": Endless(), "text": Endless()}
    text = SageMakerLLM(endpoint_name="text", content_handler=AutoHandler())
    for model in (ChatSageMaker(endpoint_name="chat"), text):
        if way.asynchronous:

            async def leave(model: Any) -> None:
                async for _ in model.astream("Hello"):
                    break
                assert service.active_requests == 1
                await asyncio.to_thread(service.idle, PATIENCE)

            asyncio.run(leave(model))
        else:
            for _ in model.stream("Hello"):
                break
            service.idle(PATIENCE)


def test_cancelling_a_task_ends_the_call(service: Emulator) -> None:
    service.models = {"chat": Endless(), "text": Endless()}
    text = SageMakerLLM(endpoint_name="text", content_handler=AutoHandler(), streaming=True)
    for model in (ChatSageMaker(endpoint_name="chat", streaming=True), text):

        async def cancel(model: Any) -> None:
            began = asyncio.Event()

            class Began(AsyncCallbackHandler):
                async def on_llm_new_token(self, token: str, **_: Any) -> None:
                    began.set()

            task = asyncio.ensure_future(model.ainvoke("Hello", config={"callbacks": [Began()]}))
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(service.idle, PATIENCE)

        asyncio.run(cancel(model))


# -- LangChain's machinery


class Tokens(BaseCallbackHandler):
    """Keeps what it is told."""

    run_inline = True

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.errors: list[BaseException] = []

    def on_llm_new_token(self, token: Any, **_: Any) -> None:
        self.texts.append(token)

    def on_llm_error(self, error: BaseException, **_: Any) -> None:
        self.errors.append(error)


def test_callbacks_get_each_token_also_of_an_invoke_that_streams(service: Emulator, way: Way) -> None:
    for model in (
        ChatSageMaker(endpoint_name="chat", streaming=True),
        SageMakerLLM(endpoint_name="text", streaming=True),
    ):
        invoked, streamed = Tokens(), Tokens()
        answer = way.invoke(model, "Hello", config={"callbacks": [invoked]})
        way.stream(model, "Hello", config={"callbacks": [streamed]})
        assert "".join(invoked.texts) == "".join(streamed.texts) == (answer if isinstance(answer, str) else answer.text)
        assert len(invoked.texts) > 2
    assert {request.operation for request in service.requests} == {"InvokeEndpointWithResponseStream"}


def test_a_chain_streams_and_tells_its_events(service: Emulator, way: Way) -> None:
    chain = ChatPromptTemplate.from_template("Say {what}.") | ChatSageMaker(endpoint_name="chat") | StrOutputParser()
    assert way.invoke(chain, {"what": "hello"}) == "".join(way.stream(chain, {"what": "hello"}))

    async def events() -> list[Any]:
        return [event async for event in chain.astream_events({"what": "hello"}, version="v2")]

    found = [event["event"] for event in asyncio.run(events())]
    assert found.count("on_chat_model_stream") > 2
    assert found.count("on_chat_model_end") == 1


def test_a_batch_asks_no_more_at_once_than_the_endpoint_bears(emulator: Emulator, way: Way) -> None:
    with Emulator({"chat": scripted, "text": "tgi"}, region="us-west-2", capacity=2, latency=0.005) as small:
        options: dict[str, Any] = {"endpoint_url": small.url, "region_name": "us-west-2"}
        chat = ChatSageMaker(endpoint_name="chat", **options)
        text = SageMakerLLM(endpoint_name="text", **options)
        questions = [f"Question {number}" for number in range(24)]
        assert len({answer.text for answer in way.batch(chat, questions)}) == 24
        assert len(set(way.batch(text, questions))) == 24
        assert small.load["chat"].peak <= 2


def test_a_batch_gives_each_input_its_own_error(service: Emulator, way: Way) -> None:
    def picky(request: ModelRequest) -> Any:
        if b"bad" in request.body:
            return ModelReply(b"no", status=400)
        return scripted(request) if b"messages" in request.body else json.dumps([{"generated_text": "good"}])

    service.models = {"chat": picky, "text": picky}
    for model in (ChatSageMaker(endpoint_name="chat"), SageMakerLLM(endpoint_name="text")):
        answers = way.batch(model, ["one", "bad", "two"], return_exceptions=True)
        assert [isinstance(answer, ModelError) for answer in answers] == [False, True, False]
        with pytest.raises(ModelError):
            way.batch(model, ["one", "bad", "two"])


# -- tools and structured output


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@tool
def age_of(name: str) -> int:
    """Give a person's age."""
    return {"Ada": 36}[name]


@tool
def now() -> str:
    """Give the time."""
    return "noon"


def test_an_agent_calls_a_tool_and_says_its_result(service: Emulator, way: Way) -> None:
    model = ChatSageMaker(endpoint_name="chat").bind_tools([age_of, now])
    messages: list[Any] = [HumanMessage("How old is 'Ada'?")]
    for _ in range(3):
        answer = way.invoke(model, messages)
        messages.append(answer)
        if not answer.tool_calls:
            break
        messages += [{"age_of": age_of, "now": now}[call["name"]].invoke(call) for call in answer.tool_calls]
    assert [type(message).__name__ for message in messages] == ["HumanMessage", "AIMessage", "ToolMessage", "AIMessage"]
    assert "36" in answer.text


def test_an_agent_of_langchain_calls_tools_streams_and_gives_objects(service: Emulator, way: Way) -> None:
    agents = pytest.importorskip("langchain.agents")
    from langchain.agents.structured_output import ProviderStrategy, ToolStrategy

    model = ChatSageMaker(endpoint_name="chat")
    question = {"messages": [("user", "How old is 'Ada'?")]}
    agent = agents.create_agent(model, [age_of])
    assert "36" in way.invoke(agent, question)["messages"][-1].text
    pieces = way.stream(agent, question, stream_mode="messages")
    assert any(piece.tool_call_chunks for piece, _ in pieces if isinstance(piece, AIMessageChunk))
    assert any(piece.text == "36" for piece, about in pieces if about["langgraph_node"] == "model")
    for strategy in (ToolStrategy, ProviderStrategy):
        agent = agents.create_agent(model, [], response_format=strategy(Person))
        assert isinstance(way.invoke(agent, question)["structured_response"], Person)


def test_pieces_of_tool_calls_stream_and_make_the_call(service: Emulator, way: Way) -> None:
    chunks = way.stream(ChatSageMaker(endpoint_name="chat").bind_tools([age_of]), "How old is 'Ada'?")
    pieces = [piece for chunk in chunks for piece in chunk.tool_call_chunks]
    assert len(pieces) > 1
    assert [bool(piece["name"]) for piece in pieces] == [True, *[False] * (len(pieces) - 1)]
    (call,) = merged(chunks).tool_calls
    assert (call["name"], call["args"]) == ("age_of", {"name": "Ada"})
    assert merged(chunks).response_metadata["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("any", "required"),
        ("required", "required"),
        (True, "required"),
        (False, "none"),
        ("none", "none"),
        ("auto", "auto"),
        ("now", {"type": "function", "function": {"name": "now"}}),
        ({"type": "function", "function": {"name": "now"}}, {"type": "function", "function": {"name": "now"}}),
        (None, None),
    ],
)
def test_a_choice_of_tools_is_sent_as_openai_has_it(service: Emulator, given: Any, sent: Any) -> None:
    model = ChatSageMaker(endpoint_name="chat")
    model.bind_tools([age_of, now], tool_choice=given, strict=True, parallel_tool_calls=False).invoke(
        "How old is 'Ada'?"
    )
    assert body(service).get("tool_choice") == sent
    assert body(service)["parallel_tool_calls"] is False
    assert [one["function"]["strict"] for one in body(service)["tools"]] == [True, True]


def test_a_choice_that_is_not_among_the_tools_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="age_of, now"):
        ChatSageMaker(endpoint_name="chat").bind_tools([age_of, now], tool_choice="later")


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output_is_an_object_of_the_class(service: Emulator, way: Way, method: Any) -> None:
    model = ChatSageMaker(endpoint_name="chat").with_structured_output(Person, method=method, strict=True)
    found = way.invoke(model, "'Ada' is 36.")
    assert isinstance(found, Person)
    if method == "json_schema":
        wanted = body(service)["response_format"]["json_schema"]
        assert (wanted["name"], wanted["strict"]) == ("Person", True)
        assert wanted["schema"]["additionalProperties"] is False
        assert wanted["schema"]["required"] == ["name", "age"]
    else:
        assert found == Person(name="Ada", age=36)
        assert body(service)["tools"][0]["function"]["strict"] is True
        assert body(service)["tool_choice"]["function"]["name"] == "Person"


def test_a_schema_needs_no_title(service: Emulator, way: Way) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    for method in ("json_schema", "function_calling"):
        model = ChatSageMaker(endpoint_name="chat").with_structured_output(schema, method=method)
        assert isinstance(way.invoke(model, "36?")["age"], int)


def test_include_raw_gives_the_message_and_the_error(service: Emulator, way: Way) -> None:
    model = ChatSageMaker(endpoint_name="chat")
    good = way.invoke(model.with_structured_output(Person, include_raw=True), "'Ada' is 36.")
    assert isinstance(good["parsed"], Person)
    assert good["parsing_error"] is None
    assert good["raw"].usage_metadata
    service.models = {"chat": says(choice(content="I cannot say."))}
    bad = way.invoke(model.with_structured_output(Person, include_raw=True), "Who?")
    assert bad["raw"].text == "I cannot say."
    assert bad["parsed"] is None
    assert bad["parsing_error"] is not None
    with pytest.raises(type(bad["parsing_error"])):
        way.invoke(model.with_structured_output(Person), "Who?")


def test_json_mode_needs_no_schema(service: Emulator, way: Way) -> None:
    model = ChatSageMaker(endpoint_name="chat").with_structured_output(method="json_mode")
    assert way.invoke(model, "JSON with 'one' and 'two', please.").keys() == {"one", "two"}
    assert body(service)["response_format"] == {"type": "json_object"}


def test_a_method_that_is_not_known_and_a_missing_schema_are_refused() -> None:
    model = ChatSageMaker(endpoint_name="chat")
    with pytest.raises(ConfigurationError, match="json_mode"):
        model.with_structured_output(Person, method="xml")  # type: ignore[arg-type]  # the mistake is the test
    with pytest.raises(ConfigurationError, match="needs a schema"):
        model.with_structured_output()


# -- texts


def test_a_text_has_its_finish_reason_and_the_limit_has_the_container_s_name(service: Emulator, way: Way) -> None:
    model = SageMakerLLM(endpoint_name="text", max_tokens=2, model_kwargs={"details": True})
    (found,) = way.generate(model, ["one two three"]).generations
    assert found[0].generation_info["finish_reason"] == "length"
    assert found[0].generation_info["token_usage"]["output_tokens"] == 2
    assert body(service)["parameters"]["max_new_tokens"] == 2
    other = SageMakerLLM(endpoint_name="completions", content_handler=OpenAICompletionsHandler(), max_tokens=2)
    result = way.generate(other, ["one two three", "four"])
    assert result.llm_output["token_usage"]["output_tokens"] == 4
    assert body(service)["max_tokens"] == 2


def test_a_text_ends_at_a_stop_sequence_and_streams_its_end(service: Emulator, way: Way) -> None:
    model = SageMakerLLM(endpoint_name="text", stop=["model"])
    whole = way.invoke(model, "Hello")
    assert "model" not in whole
    assert "".join(way.stream(model, "Hello")) == whole
    assert body(service)["parameters"]["stop"] == ["model"]


def test_a_failure_among_several_prompts_is_raised(service: Emulator, way: Way) -> None:
    service.models = {"text": lambda request: ModelReply(b"no", status=400)}
    with pytest.raises(ModelError):
        way.generate(SageMakerLLM(endpoint_name="text"), ["one", "two", "three"])


# -- embeddings


def test_vectors_come_in_batches_in_order(service: Emulator, way: Way) -> None:
    model = SageMakerEmbeddings(
        endpoint_name="vectors",
        batch_size=2,
        model_kwargs={"normalize": True},
        document_kwargs={"prompt_name": "passage"},
        query_kwargs={"prompt_name": "query"},
    )
    texts = ["one", "two", "three", "four", "five"]
    assert way.embed(model, texts) == [model.embed_query(text) for text in texts]
    sent = [json.loads(request.body) for request in service.requests]
    assert sorted(len(one["inputs"]) for one in sent[:3]) == [1, 2, 2]
    assert {one["prompt_name"] for one in sent[:3]} == {"passage"}
    assert {one["prompt_name"] for one in sent[3:]} == {"query"}
    assert all(one["normalize"] for one in sent)
    assert way.embed(model, []) == []


def test_embeddings_fill_a_vector_store(service: Emulator) -> None:
    model = SageMakerEmbeddings(endpoint_name="vectors", content_handler=EmbeddingsHandler("tei"))
    store = InMemoryVectorStore.from_texts(["The cat sleeps.", "Rates rise."], model)
    assert store.similarity_search("The cat sleeps.", k=1)[0].page_content == "The cat sleeps."
