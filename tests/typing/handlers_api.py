"""The types of handlers. Checked by the type checkers, never run."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy
import pydantic

if sys.version_info >= (3, 11):
    from typing import assert_type
else:
    from typing_extensions import assert_type

from smendpoint import (
    AsyncEndpoint,
    AsyncStream,
    ChatPromptTemplate,
    Endpoint,
    InferenceHandle,
    ModelError,
    ResponseBody,
    Stream,
    StuffDocumentsQA,
)
from smendpoint.decoders import JSONLinesDecoder
from smendpoint.handlers import (
    AsyncEmbeddings,
    AutoHandler,
    BytesHandler,
    ChatChunk,
    ChatCompletion,
    ChatHandler,
    ChatStreamDecoder,
    Classification,
    ClassificationHandler,
    ContainerError,
    ContentHandler,
    Embeddings,
    EmbeddingsHandler,
    JSONHandler,
    JumpStartTextHandler,
    MappedDecoder,
    NumPyHandler,
    OpenAICompletionsHandler,
    RerankHandler,
    RerankResult,
    StreamDecoder,
    StreamingContentHandler,
    TabularHandler,
    TabularRowsHandler,
    TextGenerationHandler,
    TextHandler,
    line_decoder,
)
from smendpoint.prompts import Message


class Sentiment:
    """A handler of a user's own: no base class, ten lines, and one more method to stream."""

    content_type = "application/json"
    accepts = "application/json"

    def transform_input(self, prompt: str, model_kwargs: dict[str, Any]) -> bytes:
        return prompt.encode()

    def transform_output(self, output: ResponseBody) -> float:
        return float(output)

    def stream_decoder(self) -> StreamDecoder[float]:
        return MappedDecoder(JSONLinesDecoder(), float)


@dataclass
class City:
    name: str


class CityDict(TypedDict):
    name: str


class CityModel(pydantic.BaseModel):
    name: str


def check_handlers(body: ResponseBody) -> None:
    own: StreamingContentHandler[str, float, float] = Sentiment()
    plain: ContentHandler[str, float] = Sentiment()
    text: StreamingContentHandler[str, str, str] = TextGenerationHandler()
    completions: StreamingContentHandler[str, str, str] = OpenAICompletionsHandler()
    jumpstart: StreamingContentHandler[str, str, str] = JumpStartTextHandler("llama-2")
    chat: StreamingContentHandler[list[dict[str, Any]], ChatCompletion, ChatChunk] = ChatHandler()
    auto: StreamingContentHandler[str | list[dict[str, Any]], str, str] = AutoHandler()
    raw: StreamingContentHandler[bytes, bytes, bytes] = BytesHandler()
    words: StreamingContentHandler[str, str, str] = TextHandler()
    anything: StreamingContentHandler[Any, Any, Any] = JSONHandler()
    vectors: ContentHandler[list[str], list[list[float]]] = EmbeddingsHandler("huggingface", pooling="mean")
    ranks: ContentHandler[tuple[str, list[str]], list[RerankResult]] = RerankHandler()
    classes: ContentHandler[str, list[Classification]] = ClassificationHandler()
    arrays: ContentHandler[numpy.ndarray[Any, Any], numpy.ndarray[Any, Any]] = NumPyHandler()
    _ = own, plain, text, completions, jumpstart, chat, auto, raw, words, anything, vectors, ranks, classes, arrays

    assert_type(TabularHandler().transform_output(body), list[float])
    assert_type(TabularHandler("csv", "json", dtype=int).transform_output(body), list[int])
    assert_type(TabularHandler(dtype=str).transform_output(body), list[str])
    assert_type(TabularRowsHandler("libsvm").transform_output(body), list[list[float]])
    assert_type(TabularRowsHandler(dtype=int).transform_output(body), list[list[int]])
    named: TabularHandler = TabularHandler("csv")
    assert_type(named.transform_output(body), list[float])
    assert_type(ChatHandler().stream_decoder().completion, ChatCompletion)
    assert_type(line_decoder(Sentiment()), StreamDecoder[float])
    assert_type(ModelError(424).container_error, ContainerError | None)


def check_endpoints() -> None:
    assert_type(Endpoint("e").invoke("Hi"), str)
    assert_type(Endpoint("e", content_handler=ChatHandler()).invoke("Hi"), ChatCompletion)
    assert_type(Endpoint("e", content_handler=TabularHandler(dtype=int)).invoke([[1]]), list[int])
    assert_type(Endpoint("e").stream("Hi").completion, str)
    assert_type(Endpoint("e").stream("Hi").open(), Stream[str])
    assert_type(Endpoint("e", content_handler=ChatHandler()).stream("Hi"), Stream[ChatChunk, ChatCompletion])
    assert_type(Endpoint("e", content_handler=ChatHandler()).stream("Hi").completion, ChatCompletion)
    assert_type(Endpoint("e", content_handler=BytesHandler()).stream(b"Hi").open().completion, bytes)
    assert_type(Endpoint("e", content_handler=AutoHandler()).session().stream("Hi").completion, str)
    decoder = Endpoint("e", content_handler=ChatHandler()).stream("Hi").decoder
    if isinstance(decoder, ChatStreamDecoder):
        assert_type(decoder.completion, ChatCompletion)
    embeddings = Embeddings(Endpoint("e", content_handler=EmbeddingsHandler()), batch_size=8)
    assert_type(embeddings.embed_documents(["a"]), list[list[float]])
    assert_type(embeddings.embed_query("a"), list[float])
    arrays = Embeddings(Endpoint("e", content_handler=EmbeddingsHandler()), as_array=True)
    assert_type(arrays.embed_documents(["a"]), numpy.ndarray[Any, Any])
    assert_type(arrays.embed_query("a"), numpy.ndarray[Any, Any])
    named: Embeddings = embeddings
    assert_type(named.embed_query("a"), list[float])


def check_output_types() -> None:
    record = Endpoint("e", content_handler=ChatHandler(output_type=City))
    assert_type(record, Endpoint[str | Sequence[Mapping[str, Any]], City, ChatChunk])
    assert_type(record.invoke([{"role": "user", "content": "Hi"}]), City)
    assert_type(record.send("Hi").output, City)
    assert_type(record.stream("Hi"), Stream[ChatChunk, City])
    assert_type(record.stream("Hi").completion, City)
    assert_type(list(record.map(["Hi"])), list[City])
    assert_type(record.submit("Hi"), InferenceHandle[City])
    assert_type(Endpoint("e", content_handler=ChatHandler(output_type=CityDict)).invoke("Hi"), CityDict)
    assert_type(Endpoint("e", content_handler=ChatHandler(output_type=CityModel)).invoke("Hi"), CityModel)
    assert_type(ChatHandler(require_end=False).transform_output(ResponseBody()), ChatCompletion)
    promised: Endpoint[list[Message], City, ChatChunk] = Endpoint("e", content_handler=ChatHandler(output_type=City))
    assert_type(promised.invoke([]), City)
    answers = StuffDocumentsQA(record, prompt=[("system", "{context}"), ("user", "{question}")])
    assert_type(answers.answer("Where?", ["In Ghent."]), City)
    ChatHandler(output_type=City("x"))  # type: ignore[call-overload]  # pyright: ignore  # wrong on purpose


async def check_async_endpoints() -> None:
    record = AsyncEndpoint("e", content_handler=ChatHandler(output_type=City))
    assert_type(await record.invoke("Hi"), City)
    assert_type((await record.stream("Hi").open()).completion, City)
    assert_type(await AsyncEndpoint("e").stream("Hi").open(), AsyncStream[str])
    stream = AsyncEndpoint("e", content_handler=ChatHandler()).stream("Hi")
    assert_type((await stream.open()).completion, ChatCompletion)
    assert_type(await AsyncEndpoint("e", content_handler=ChatHandler()).invoke("Hi"), ChatCompletion)
    embeddings = AsyncEmbeddings(AsyncEndpoint("e", content_handler=EmbeddingsHandler()), max_concurrency=8)
    assert_type(await embeddings.embed_documents(["a"]), list[list[float]])
    assert_type(await embeddings.embed_query("a"), list[float])
    arrays = AsyncEmbeddings(AsyncEndpoint("e", content_handler=EmbeddingsHandler()), as_array=True)
    assert_type(await arrays.embed_documents(["a"]), numpy.ndarray[Any, Any])
    assert_type(await arrays.embed_query("a"), numpy.ndarray[Any, Any])


def check_prompts() -> None:
    ChatPromptTemplate([("system", "{a}"), {"role": "user", "content": "{b}"}])
    ChatPromptTemplate([{"role": "user", "content": "{b}"}])
    ChatPromptTemplate([1])  # type: ignore[list-item]  # pyright: ignore  # wrong on purpose
