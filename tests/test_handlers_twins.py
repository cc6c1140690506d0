"""Every sample through both twins, over a real socket, in pieces of one byte."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from handler_samples import AUTO_STREAMS, AUTO_WHOLE, CHAT_STREAMS, ERRORS, OTHER_WHOLE, TEXT_STREAMS, TEXT_WHOLE
from twins import Twin, direct_twin  # noqa: F401

from smendpoint import ModelError, ModelOutputError
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
def url() -> Iterator[str]:
    with Emulator(model, piece_size=1) as emulator:
        yield emulator.url


def test_every_whole_answer_arrives(url: str, direct_twin: Twin) -> None:  # noqa: F811
    for name, sample in WHOLE.items():
        with direct_twin.endpoint(url, name, content_handler=sample.handler) as endpoint:
            assert endpoint.send(input_for(sample.handler)).output == sample.output, sample.name


def test_every_stream_arrives(url: str, direct_twin: Twin) -> None:  # noqa: F811
    for name, sample in STREAMS.items():
        with (
            direct_twin.endpoint(url, name, content_handler=sample.handler) as endpoint,
            endpoint.stream("Hi") as chunks,
        ):
            text, stream = "".join(map(str, chunks)), chunks.iterator
            assert (text, stream.finish_reason, stream.usage) == (sample.text, sample.finish_reason, sample.usage)


def test_every_error_in_a_successful_answer_raises_and_a_refusal_shows_it_parsed(
    url: str,
    direct_twin: Twin,  # noqa: F811
) -> None:
    for name, sample in ERRONEOUS.items():
        with direct_twin.endpoint(url, name, content_handler=TextGenerationHandler()) as endpoint:
            for operation in ("invoke", "stream"):
                with pytest.raises(ModelOutputError) as raised:
                    endpoint.call(operation, "Hi")
                assert (raised.value.code, raised.value.error_type) == (sample.code, sample.error_type)
        with direct_twin.endpoint(url, f"refused-{name}", content_handler=TextGenerationHandler()) as endpoint:
            with pytest.raises(ModelError) as refused:
                endpoint.invoke("Hi")
            found = refused.value.container_error
            assert found is not None
            assert (found.code, found.type) == (sample.code, sample.error_type)


def test_stop_cuts_a_typed_stream(url: str, direct_twin: Twin) -> None:  # noqa: F811
    name = next(name for name, sample in STREAMS.items() if isinstance(sample.handler, ChatHandler))
    with (
        direct_twin.endpoint(url, name, content_handler=ChatHandler()) as endpoint,
        endpoint.stream("Hi", stop="lo") as chunks,
    ):
        assert "".join(map(str, chunks)) == "Hel"
        assert chunks.iterator.finish_reason == "stop"


def test_embeddings_arrive(url: str, direct_twin: Twin) -> None:  # noqa: F811
    make: Any = AsyncEmbeddings if direct_twin.asynchronous else Embeddings
    with direct_twin.endpoint(url, "vectors", content_handler=EmbeddingsHandler()) as endpoint:
        texts = make(endpoint.endpoint, batch_size=1).embed_documents(["a", "b", "c"])
        assert direct_twin.run(texts) == [[1.0, 2.0]] * 3
        assert direct_twin.run(make(endpoint.endpoint).embed_query("a")) == [1.0, 2.0]


def input_for(handler: Any) -> Any:
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
