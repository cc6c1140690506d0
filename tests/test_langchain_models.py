"""LangChain's models over real sockets: every way to call, with connections of their own and through a boto3 client."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from servers import PATIENCE, bare_environment  # noqa: F401

from smendpoint import AsyncEndpoint, Endpoint, Timeout
from smendpoint.emulator import Emulator, ModelRequest
from smendpoint.errors import (
    AccessDeniedError,
    ConfigurationError,
    HandlerError,
    PromptError,
    SmendpointError,
    ValidationError,
)
from smendpoint.langchain import (
    Document,
    EmbeddingsContentHandler,
    Generation,
    LLMContentHandler,
    LLMResult,
    SagemakerEndpoint,
    SagemakerEndpointEmbeddings,
    load_qa_chain,
)

pytestmark = pytest.mark.usefixtures("bare_environment")


class Texts(LLMContentHandler):
    content_type = "application/json"
    accepts = "application/json"

    def transform_input(self, prompt: str, model_kwargs: dict[str, Any]) -> Any:
        return json.dumps({"inputs": prompt, **model_kwargs})  # a text, as botocore takes it too

    def transform_output(self, output: Any) -> str:
        return "".join(json.loads(line)["text"] for line in output.read().splitlines())


class Vectors(EmbeddingsContentHandler):
    content_type = "application/json"
    accepts = "application/json"

    def transform_input(self, prompt: list[str], model_kwargs: dict[str, Any]) -> bytes:
        return json.dumps({"texts": prompt, **model_kwargs}).encode()

    def transform_output(self, output: Any) -> list[list[float]]:
        vectors: list[list[float]] = json.loads(output.read().decode("utf-8"))["vectors"]
        return vectors


def model(request: ModelRequest) -> Any:
    """Answer with the prompt, in two chunks; the vectors are the lengths of the texts."""
    sent = json.loads(request.body)
    if "texts" in sent:
        return json.dumps({"vectors": [[float(len(text)), float("\n" in text)] for text in sent["texts"]]}).encode()
    pieces = [f"<{sent['inputs']}", f"{sent.get('tone', '')}>"]
    lines = [json.dumps({"text": piece}).encode() + b"\n" for piece in pieces]
    return lines if request.streaming else b"".join(lines)


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with Emulator(model) as running:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "thing")
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", running.url)
        yield running


@pytest.fixture(params=["own connections", "client"])
def options(request: pytest.FixtureRequest, emulator: Emulator) -> Iterator[dict[str, Any]]:
    """Arguments of a model, in either lane."""
    found: dict[str, Any] = {"endpoint_name": "my-llm", "region_name": "us-west-2"}
    if request.param == "client":
        found["client"] = boto3.client("sagemaker-runtime", region_name="us-west-2", endpoint_url=emulator.url)
    yield found
    if "client" in found:
        found["client"].close()


@pytest.fixture(params=[False, True], ids=["whole", "streaming"])
def llm(request: pytest.FixtureRequest, options: dict[str, Any]) -> Iterator[SagemakerEndpoint]:
    made = SagemakerEndpoint(**options, content_handler=Texts(), streaming=request.param)
    yield made
    made.close()


def test_every_way_to_call_gives_the_same_answers(llm: SagemakerEndpoint) -> None:
    async def awaited() -> list[Any]:
        return [
            await llm.ainvoke("p", tone="!"),
            "".join([chunk async for chunk in llm.astream("p", tone="!")]),
            await llm.abatch(["p", "q"], {"max_concurrency": 2}, tone="!"),
            await llm.abatch([]),
            await llm.agenerate(["p"], tone="!"),
        ]

    expected = ["<p!>", "<p!>", ["<p!>", "<q!>"], [], LLMResult([[Generation("<p!>")]])]
    with llm.stream("p", tone="!") as chunks:
        streamed = "".join(chunks)
    assert llm("p", tone="!") == "<p!>"
    assert [
        llm.invoke("p", {"callbacks": None, "tags": []}, tone="!", callbacks=None),
        streamed,
        llm.batch(["p", "q"], [{"max_concurrency": 2}, {}], tone="!"),
        llm.batch([], []),
        llm.generate(["p"], tone="!"),
    ] == expected
    assert asyncio.run(awaited()) == expected
    assert asyncio.run(llm.ainvoke("p")) == "<p>"  # on another event loop, and without closing


def test_stop_ends_every_kind_of_answer(llm: SagemakerEndpoint) -> None:
    async def awaited() -> list[Any]:
        return [
            await llm.ainvoke("p", stop=["!"], tone="!?"),
            "".join([chunk async for chunk in llm.astream("p", stop=["!"], tone="!?")]),
            await llm.abatch(["p"], stop=["!"], tone="!?"),
        ]

    with llm.stream("p", stop=["!"], tone="!?") as chunks:
        assert "".join(chunks) == llm("p", ["!"], tone="!?") == "<p"
    assert llm.batch(["p"], stop=["!"], tone="!?") == ["<p"]
    assert llm.generate(["p"], ["!"], tone="!?").generations[0][0].text == "<p"
    assert asyncio.run(awaited()) == ["<p", "<p", ["<p"]]


def test_an_error_may_take_the_place_of_an_answer(llm: SagemakerEndpoint, emulator: Emulator) -> None:
    def refuse() -> None:
        emulator.clear_faults()
        emulator.inject("status_400_ValidationError", times=1)

    async def awaited(**options: Any) -> Any:
        return await llm.abatch(["p", "q"], {"max_concurrency": 1}, **options)

    for batch in (llm.batch, lambda prompts, config, **options: asyncio.run(awaited(**options))):
        refuse()
        error, answer = batch(["p", "q"], {"max_concurrency": 1}, return_exceptions=True)
        assert isinstance(error, ValidationError)
        assert answer == "<q>"
        refuse()
        with pytest.raises(ValidationError):
            batch(["p", "q"], {"max_concurrency": 1})
        emulator.inject("status_403_AccessDeniedException")
        refused = batch(["p", "q"], {"max_concurrency": 1}, return_exceptions=True)
        assert [type(error) for error in refused] == [AccessDeniedError] * 2


def test_a_stream_that_is_left_early_lets_its_connection_go(options: dict[str, Any], emulator: Emulator) -> None:
    llm = SagemakerEndpoint(**options, content_handler=Texts())

    async def first() -> str:
        stream: Any = llm.astream("p")
        chunk: str = await stream.__anext__()
        await stream.aclose()
        await llm.aclose()
        return chunk

    assert asyncio.run(first()) == "<p"


def test_a_prompt_value_is_taken_as_its_text(llm: SagemakerEndpoint) -> None:
    class Value:
        def to_string(self) -> str:
            return "p"

    value: Any = Value()
    assert llm.invoke(value) == "<p>"


@pytest.mark.parametrize("prompt", [None, b"p", ["p"]])
def test_a_prompt_that_is_not_a_text_is_refused(prompt: Any, llm: SagemakerEndpoint) -> None:
    for call in (llm, llm.invoke, llm.stream, awaiting(llm.ainvoke)):
        with pytest.raises(PromptError, match="a prompt must be text, not"):
            call(prompt)


@pytest.mark.parametrize("prompts", ["p", b"p", {"p": 1}, None])
def test_a_batch_is_a_list_of_prompts(prompts: Any, llm: SagemakerEndpoint, emulator: Emulator) -> None:
    for call in (llm.batch, llm.generate, *[awaiting(method) for method in (llm.abatch, llm.agenerate)]):
        with pytest.raises(PromptError, match=f"a list of texts, not one {type(prompts).__name__}"):
            call(prompts)
    with pytest.raises(PromptError, match="a prompt must be text, not int"):
        llm.batch(["p", 1])  # type: ignore[list-item]  # that is the point
    assert not emulator.requests


def awaiting(method: Any) -> Any:
    return lambda *args, **kwargs: asyncio.run(method(*args, **kwargs))


def test_an_argument_without_effect_is_refused_by_every_way_to_call(llm: SagemakerEndpoint, emulator: Emulator) -> None:
    async def streamed(*args: Any, **kwargs: Any) -> None:
        async for _ in llm.astream(*args, **kwargs):
            raise AssertionError

    calls = [llm.batch, awaiting(llm.abatch)]
    for call in calls:
        for config in ({"callbacks": [print]}, [{}, {"callbacks": [print]}]):
            with pytest.raises(ConfigurationError, match="a config of SagemakerEndpoint has no 'callbacks'"):
                call(["p"], config)
        with pytest.raises(ConfigurationError, match="has no 'callbacks'"):
            call(["p"], callbacks=[print])
    for call in (llm.invoke, llm.stream, awaiting(llm.ainvoke), awaiting(streamed)):
        with pytest.raises(ConfigurationError, match="SagemakerEndpoint has no 'callbacks', 'max_concurrency'"):
            call("p", {"callbacks": [print], "max_concurrency": 2, "tags": []})
    for call in (llm, llm.invoke, llm.stream):
        with pytest.raises(ConfigurationError, match="SagemakerEndpoint has no 'callbacks'"):
            call("p", callbacks=[print])
    assert not emulator.requests


def test_chunks_of_another_type_are_not_joined(options: dict[str, Any], emulator: Emulator) -> None:
    class Objects(Texts):
        def transform_output(self, output: Any) -> Any:
            return json.loads(output.read().splitlines()[0])

    llm = SagemakerEndpoint(**options, content_handler=Objects(), streaming=True)
    for call in (llm.invoke, awaiting(llm.ainvoke)):
        with pytest.raises(HandlerError, match="chunks are text"):
            call("p")
    llm.close()


# Construction


@pytest.mark.parametrize("name", ["streeming", "region", "callbacks", "cache", "rate_limiter"])
def test_an_argument_that_would_have_no_effect_is_refused(name: str) -> None:
    options: dict[str, Any] = {name: True}
    with pytest.raises(ConfigurationError, match=f"SagemakerEndpoint has no '{name}'"):
        SagemakerEndpoint(endpoint_name="my-llm", **options)


def test_an_argument_of_langchains_that_asks_for_nothing_is_accepted() -> None:
    harmless: dict[str, Any] = {"callbacks": None, "verbose": False, "cache": None, "tags": []}
    made = SagemakerEndpoint(endpoint_name="my-llm", **harmless)
    assert repr(made) == "SagemakerEndpoint(endpoint_name='my-llm')"
    with pytest.raises(ConfigurationError):
        SagemakerEndpoint(endpoint_name="my-llm", streeming=None)  # type: ignore[call-arg]  # that is the test


def test_an_empty_region_counts_as_not_given_as_in_langchain(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    llm = SagemakerEndpoint(endpoint_name="my-llm", region_name="", content_handler=Texts())
    assert llm("p") == "<p>"
    assert "/eu-west-3/sagemaker/" in emulator.requests[0].headers["authorization"]
    llm.close()


@pytest.mark.parametrize("kind", [SagemakerEndpoint, SagemakerEndpointEmbeddings])
def test_every_argument_of_an_endpoint_is_taken_also_as_none(kind: Any) -> None:
    names = [
        name
        for name, parameter in inspect.signature(Endpoint.__init__).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    assert len(names) > 20
    kind(endpoint_name="my-llm", **dict.fromkeys(names))
    assert "streaming" in inspect.signature(SagemakerEndpoint.__init__).parameters
    SagemakerEndpoint(endpoint_name="my-llm", streaming=None)


class SecretStr:
    """The part of pydantic's class that is used."""

    def __init__(self, value: str) -> None:
        self._value = value

    def get_secret_value(self) -> str:
        return self._value


def test_arguments_reach_both_twins(emulator: Emulator) -> None:
    llm = SagemakerEndpoint(
        endpoint_name="my-llm",
        region_name="eu-west-1",
        aws_access_key_id=SecretStr("given"),  # type: ignore[arg-type]  # langchain-aws takes these
        aws_secret_access_key="key",
        endpoint_url=emulator.url,
        inference_component_name="part",
        endpoint_kwargs={"CustomAttributes": "a=1"},
        model_kwargs={"tone": "!"},
        timeout=Timeout(connect=PATIENCE, read=PATIENCE),
        content_handler=Texts(),
    )
    assert [llm.invoke("p"), asyncio.run(llm.ainvoke("p"))] == ["<p!>"] * 2
    assert len(emulator.requests) == 2
    for request in emulator.requests:
        assert "Credential=given/" in request.headers["authorization"]
        assert "/eu-west-1/sagemaker/" in request.headers["authorization"]
        assert request.headers["x-amzn-sagemaker-inference-component"] == "part"
        assert request.headers["x-amzn-sagemaker-custom-attributes"] == "a=1"
    llm.close()


def test_a_client_knows_who_asks_as_in_langchain(emulator: Emulator) -> None:
    client = boto3.client("sagemaker-runtime", region_name="us-west-2", endpoint_url=emulator.url)
    ignored: dict[str, Any] = {
        "region_name": "",
        "credentials_profile_name": "nobody",
        "aws_access_key_id": "a",
        "aws_secret_access_key": "b",
        "endpoint_url": "https://example.com",
        "config": object(),
    }
    llm = SagemakerEndpoint(endpoint_name="my-llm", client=client, content_handler=Texts(), **ignored)
    assert [llm.invoke("p"), asyncio.run(llm.ainvoke("p"))] == ["<p>"] * 2
    with pytest.raises(ConfigurationError, match="leave out role_arn"):
        SagemakerEndpoint(endpoint_name="my-llm", client=client, role_arn="arn:aws:iam::123456789012:role/r")
    asyncio.run(llm.aclose())
    client.close()


# Embeddings


def test_vectors_come_in_the_order_of_their_texts_in_requests_of_a_size(
    options: dict[str, Any], emulator: Emulator
) -> None:
    model = SagemakerEndpointEmbeddings(**options, content_handler=Vectors(), model_kwargs={"normalize": True})
    texts = ["a" * length for length in range(70)]
    expected = [[float(length), 0.0] for length in range(70)]

    async def awaited() -> list[Any]:
        found = [
            await model.aembed_documents(texts),
            await model.aembed_documents(texts, chunk_size=30),
            await model.aembed_query("abc"),
        ]
        await model.aclose()
        return found

    for made in (
        lambda: [model.embed_documents(texts), model.embed_documents(texts, 30), model.embed_query("abc")],
        lambda: asyncio.run(awaited()),
    ):
        emulator.reset()
        assert made() == [expected, expected, [3.0, 0.0]]
        sizes = sorted(len(json.loads(request.body)["texts"]) for request in emulator.requests)
        assert sizes == [1, 6, 10, 30, 30, 64]
        assert all(json.loads(request.body)["normalize"] for request in emulator.requests)
    assert model.embed_documents([], None) == []
    assert repr(model) == "SagemakerEndpointEmbeddings(endpoint_name='my-llm')"
    assert model.endpoint.endpoint_name == "my-llm"
    model.close()


def test_line_feeds_are_spaces_for_embeddings_as_in_langchain(options: dict[str, Any]) -> None:
    model = SagemakerEndpointEmbeddings(**options, content_handler=Vectors())
    assert model.embed_query("a\nb") == [3.0, 0.0]
    assert model.embed_documents(["a\nb\n"]) == [[4.0, 0.0]]
    model.close()


@pytest.mark.parametrize("texts", ["text", [1], {"text": 1}, None])
def test_anything_but_a_list_of_texts_is_refused(texts: Any, options: dict[str, Any], emulator: Emulator) -> None:
    model = SagemakerEndpointEmbeddings(**options)
    for call in (model.embed_documents, awaiting(model.aembed_documents)):
        with pytest.raises(HandlerError, match="takes texts: a list of them, or one for embed_query"):
            call(texts)
    with pytest.raises(HandlerError, match="takes texts"):
        model.embed_query(None)  # type: ignore[arg-type]  # that is the point
    assert not emulator.requests
    with pytest.raises(ConfigurationError, match="SagemakerEndpointEmbeddings has no 'chunk_size'"):
        SagemakerEndpointEmbeddings(**options, chunk_size=5)


# A chain


def test_a_chain_answers_over_every_kind_of_model(options: dict[str, Any], emulator: Emulator) -> None:
    inputs = {"input_documents": [Document(page_content="a")], "question": "q"}
    blocking = Endpoint("my-llm", region_name="us-west-2", content_handler=Texts())
    awaited = AsyncEndpoint("my-llm", region_name="us-west-2", content_handler=Texts())
    llm = SagemakerEndpoint(**options, content_handler=Texts())
    for endpoint in (llm, blocking, awaited):
        chain = load_qa_chain(endpoint, prompt="{context}|{question}|{tone}")
        if endpoint is not awaited:
            assert chain.run({**inputs, "tone": "kind"}) == "<a|q|kind>"
        answer = asyncio.run(chain.ainvoke({**inputs, "tone": "kind"}))
        assert answer == {**inputs, "tone": "kind", "output_text": "<a|q|kind>"}
        short = asyncio.run(chain.ainvoke({**inputs, "tone": "kind"}, return_only_outputs=True))
        assert short == {"output_text": "<a|q|kind>"}
        assert asyncio.run(chain.acall({**inputs, "tone": "kind"}, return_only_outputs=True)) == short
        assert asyncio.run(chain.arun(**inputs, tone="kind")) == asyncio.run(chain.arun({**inputs, "tone": "kind"}))
        with pytest.raises(ConfigurationError, match="this chain has no 'callbacks'"):
            asyncio.run(chain.acall(inputs, callbacks=[print]))  # type: ignore[arg-type]  # that is the point
        with pytest.raises(PromptError, match="one mapping or as keywords"):
            asyncio.run(chain.arun())
        with pytest.raises(PromptError, match="missing: 'tone'"):
            asyncio.run(chain.ainvoke(inputs))
        with pytest.raises(ConfigurationError, match="this chain has no 'tags'"):
            asyncio.run(chain.ainvoke(inputs, tags=["x"]))  # type: ignore[arg-type]  # that is the point
    llm.close()
    blocking.close()


def test_a_failed_call_of_a_chain_is_our_error(options: dict[str, Any], emulator: Emulator) -> None:
    emulator.inject("status_400_ValidationError")
    llm = SagemakerEndpoint(**options, content_handler=Texts())
    with pytest.raises(SmendpointError):
        asyncio.run(load_qa_chain(llm).ainvoke({"input_documents": ["a"], "question": "q"}))
    llm.close()
