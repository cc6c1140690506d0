"""Every sample through both twins, over a real socket, in pieces of one byte."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from handler_samples import AUTO_STREAMS, AUTO_WHOLE, CHAT_STREAMS, ERRORS, OTHER_WHOLE, TEXT_STREAMS, TEXT_WHOLE

from smendpoint import AsyncEndpoint, Endpoint, ModelError, ModelOutputError
from smendpoint.emulator import Emulator, ModelReply, ModelRequest
from smendpoint.handlers import AsyncEmbeddings, ChatHandler, Embeddings, EmbeddingsHandler, TextGenerationHandler

WHOLE = {f"whole-{number}": sample for number, sample in enumerate((*TEXT_WHOLE, *AUTO_WHOLE, *OTHER_WHOLE))}
STREAMS = {f"stream-{number}": sample for number, sample in enumerate((*TEXT_STREAMS, *CHAT_STREAMS, *AUTO_STREAMS))}
ERRONEOUS = {f"error-{number}": sample for number, sample in enumerate(ERRORS)}
BODIES = {name: sample.body for group in (WHOLE, STREAMS, ERRONEOUS) for name, sample in group.items()}


def model(request: ModelRequest) -> Any:
    name = request.endpoint_name
    if name.startswith("refused-"):
        return ModelReply(BODIES[name.removeprefix("refused-")], status=400)
    if name == "vectors":
        return b"[[1.0, 2.0]]"
    return BODIES[name]


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(model, piece_size=1) as running:
        yield running


def settings(emulator: Emulator, handler: Any) -> dict[str, Any]:
    return {
        "content_handler": handler,
        "endpoint_url": emulator.url,
        "region_name": "us-east-1",
        "aws_access_key_id": "AKIDEXAMPLE",
        "aws_secret_access_key": "secret",
    }


def test_every_whole_answer_through_the_sync_twin(emulator: Emulator) -> None:
    for name, sample in WHOLE.items():
        with Endpoint(name, **settings(emulator, sample.handler)) as endpoint:
            assert endpoint.send(_input(sample.handler)).output == sample.output, sample.name


def test_every_whole_answer_through_the_async_twin(emulator: Emulator) -> None:
    async def run() -> None:
        for name, sample in WHOLE.items():
            async with AsyncEndpoint(name, **settings(emulator, sample.handler)) as endpoint:
                response = await endpoint.send(_input(sample.handler))
                assert response.output == sample.output, sample.name

    asyncio.run(run())


def test_every_stream_through_the_sync_twin(emulator: Emulator) -> None:
    for name, sample in STREAMS.items():
        with (
            Endpoint(name, **settings(emulator, sample.handler)) as endpoint,
            endpoint.stream("Hi") as chunks,
        ):
            text = "".join(map(str, chunks))
            assert (text, chunks.finish_reason, chunks.usage) == (sample.text, sample.finish_reason, sample.usage)


def test_every_stream_through_the_async_twin(emulator: Emulator) -> None:
    async def run() -> None:
        for name, sample in STREAMS.items():
            async with (
                AsyncEndpoint(name, **settings(emulator, sample.handler)) as endpoint,
                endpoint.stream("Hi") as chunks,
            ):
                text = "".join([str(chunk) async for chunk in chunks])
                assert (text, chunks.finish_reason, chunks.usage) == (sample.text, sample.finish_reason, sample.usage)

    asyncio.run(run())


def test_every_error_in_a_successful_answer_raises_and_a_refusal_shows_it_parsed(emulator: Emulator) -> None:
    for name, sample in ERRONEOUS.items():
        with Endpoint(name, **settings(emulator, TextGenerationHandler())) as endpoint:
            with pytest.raises(ModelOutputError) as raised:
                endpoint.invoke("Hi")
            assert (raised.value.code, raised.value.error_type) == (sample.code, sample.error_type)
            with pytest.raises(ModelOutputError), endpoint.stream("Hi") as chunks:
                list(chunks)
        with Endpoint(f"refused-{name}", **settings(emulator, TextGenerationHandler())) as endpoint:
            with pytest.raises(ModelError) as refused:
                endpoint.invoke("Hi")
            found = refused.value.container_error
            assert found is not None
            assert (found.code, found.type) == (sample.code, sample.error_type)


def test_stop_cuts_a_typed_stream(emulator: Emulator) -> None:
    name = next(name for name, sample in STREAMS.items() if isinstance(sample.handler, ChatHandler))
    with (
        Endpoint(name, **settings(emulator, ChatHandler())) as endpoint,
        endpoint.stream("Hi", stop="lo") as chunks,
    ):
        assert "".join(map(str, chunks)) == "Hel"
        assert chunks.finish_reason == "stop"


def test_embeddings_through_both_twins(emulator: Emulator) -> None:
    texts = ["a", "b", "c"]
    with Endpoint("vectors", **settings(emulator, EmbeddingsHandler())) as endpoint:
        assert Embeddings(endpoint, batch_size=1).embed_documents(texts) == [[1.0, 2.0]] * 3
        assert Embeddings(endpoint).embed_query("a") == [1.0, 2.0]

    async def run() -> None:
        async with AsyncEndpoint("vectors", **settings(emulator, EmbeddingsHandler())) as endpoint:
            assert await AsyncEmbeddings(endpoint, batch_size=1).embed_documents(texts) == [[1.0, 2.0]] * 3
            assert await AsyncEmbeddings(endpoint).embed_query("a") == [1.0, 2.0]

    asyncio.run(run())


def _input(handler: Any) -> Any:
    kind = type(handler).__name__
    if kind.endswith("EmbeddingsHandler"):
        return ["a"]
    if handler.content_type.startswith(("image/", "audio/")):
        return b"\x89PNG"
    if kind == "RerankHandler":
        return ("q", ["a", "b"])
    if kind == "SimilaritySearchHandler":
        return {"queries": ["q"]}
    return [[1.0]] if kind.startswith("Tabular") else "Hi"
