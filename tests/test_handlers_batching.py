"""Embeddings of any number of texts: one body of tests for both twins."""

from __future__ import annotations

import asyncio
import json
import pickle
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._core.http.body import ResponseBody
from smendpoint.errors import ConfigurationError, HandlerError
from smendpoint.handlers import AsyncEmbeddings, Embeddings, EmbeddingsHandler
from smendpoint.handlers._json import encode_json

Vectors = list[list[float]]


class Fake:
    """An endpoint whose model gives each text's length, and notes what it is asked."""

    def __init__(self, handler: Any = None) -> None:
        self.content_handler = handler
        self.calls: list[Sequence[str]] = []
        self.parameters: list[Any] = []
        self.closed = False

    def answer(self, texts: Sequence[str], parameters: Any) -> Vectors:
        self.calls.append(texts)
        self.parameters.append(parameters)
        return [[float(len(text))] for text in texts]


class Sync(Fake):
    def invoke(self, input: Sequence[str], /, **model_kwargs: Any) -> Vectors:
        return self.answer(input, model_kwargs)

    def map(
        self, inputs: Iterable[Sequence[str]], /, *, max_concurrency: int | None, **model_kwargs: Any
    ) -> Iterator[Vectors]:
        try:
            for texts in inputs:
                yield self.answer(texts, {"max_concurrency": max_concurrency, **model_kwargs})
        finally:
            self.closed = True


class Async(Fake):
    async def invoke(self, input: Sequence[str], /, **model_kwargs: Any) -> Vectors:
        return self.answer(input, model_kwargs)

    async def map(
        self, inputs: Iterable[Sequence[str]], /, *, max_concurrency: int | None, **model_kwargs: Any
    ) -> AsyncIterator[Vectors]:
        try:
            for texts in inputs:
                yield self.answer(texts, {"max_concurrency": max_concurrency, **model_kwargs})
        finally:
            self.closed = True


class Kit:
    """One of the twins, on endpoints that answer with each text's length."""

    def __init__(self, embeddings: Any, endpoint: Any) -> None:
        self.embeddings = embeddings
        self.endpoint = endpoint

    def answering(self, answer: Callable[[Sequence[str]], Any], handler: Any = None) -> Any:
        """Make an endpoint that answers so."""
        endpoint = self.endpoint(handler)
        endpoint.answer = lambda texts, parameters: answer(texts)
        return endpoint

    def embed(self, endpoint: Any, texts: Any, **options: Any) -> Any:
        """Give the vectors of the texts."""
        return self.run(self.embeddings(endpoint, **options).embed_documents(texts))

    @staticmethod
    def run(value: Any) -> Any:
        """Give the result of a method of either twin."""
        if isinstance(value, Awaitable):

            async def wait() -> Any:
                return await value

            return asyncio.run(wait())
        return value


@pytest.fixture(scope="module", params=[(Embeddings, Sync), (AsyncEmbeddings, Async)], ids=["sync", "async"])
def kit(request: pytest.FixtureRequest) -> Kit:
    return Kit(*request.param)


LISTS_AND_ARRAYS = pytest.mark.parametrize("as_array", [False, True], ids=["lists", "an array"])


@given(
    texts=st.lists(st.text(max_size=20), max_size=12), batch_size=st.integers(1, 5), max_batch_bytes=st.integers(1, 60)
)
def test_every_text_gets_its_vector_in_batches_that_fit(
    kit: Kit, texts: list[str], batch_size: int, max_batch_bytes: int
) -> None:
    endpoint = kit.endpoint()
    vectors = kit.embed(endpoint, texts, batch_size=batch_size, max_batch_bytes=max_batch_bytes)
    assert vectors == [[float(len(text))] for text in texts]
    assert [text for call in endpoint.calls for text in call] == texts
    for call in endpoint.calls:
        assert len(call) <= batch_size
        assert len(call) == 1 or len(encode_json(call)) <= max_batch_bytes + 1


def test_an_empty_list_of_texts_makes_no_call(kit: Kit) -> None:
    endpoint = kit.endpoint()
    assert kit.embed(endpoint, []) == []
    array = kit.embed(endpoint, [], as_array=True)
    assert (array.dtype, array.shape) == (np.float32, (0, 0))
    assert endpoint.calls == []


def test_documents_and_queries_have_their_own_parameters(kit: Kit) -> None:
    endpoint = kit.endpoint()
    options = {"document_kwargs": {"input_type": "d"}, "query_kwargs": {"input_type": "q"}}
    embedder = kit.embeddings(endpoint, batch_size=1, max_concurrency=7, **options)
    kit.run(embedder.embed_documents(["a"]))
    kit.run(embedder.embed_documents(["a", "b"]))
    assert kit.run(embedder.embed_query("abc")) == [3.0]
    mapped = {"max_concurrency": 7, "input_type": "d"}
    assert endpoint.parameters == [{"input_type": "d"}, mapped, mapped, {"input_type": "q"}]
    assert endpoint.closed


def test_the_formats_own_limit_counts(kit: Kit) -> None:
    endpoint = kit.endpoint(EmbeddingsHandler("jumpstart-text"))
    kit.embed(endpoint, ["a", "b"])
    assert endpoint.calls == [["a"], ["b"]]


@LISTS_AND_ARRAYS
def test_another_number_of_vectors_than_texts_is_an_error(kit: Kit, as_array: bool) -> None:
    endpoint = kit.answering(lambda texts: [[1.0]])
    with pytest.raises(HandlerError, match="1 vectors for 2 texts"):
        kit.embed(endpoint, ["a", "b"], as_array=as_array)
    with pytest.raises(HandlerError, match="1 vectors for 2 texts"):
        kit.embed(endpoint, ["a", "b", "c"], batch_size=2, as_array=as_array)
    assert endpoint.closed
    with pytest.raises(HandlerError, match="0 vectors for 1 texts"):
        kit.run(kit.embeddings(kit.answering(lambda texts: []), as_array=as_array).embed_query("a"))


@LISTS_AND_ARRAYS
def test_vectors_that_differ_between_batches_are_an_error(kit: Kit, as_array: bool) -> None:
    endpoint = kit.answering(lambda texts: [[1.0] * len(texts[0])])
    with pytest.raises(HandlerError, match="between batches: 1 and 2 numbers"):
        kit.embed(endpoint, ["a", "bb"], batch_size=1, as_array=as_array)


def test_the_number_of_requests_in_flight_is_found_out_unless_it_is_given(kit: Kit) -> None:
    endpoint = kit.endpoint()
    kit.embed(endpoint, ["a", "b"], batch_size=1)
    assert [given["max_concurrency"] for given in endpoint.parameters] == [None, None]


@pytest.mark.parametrize("name", ["batch_size", "max_batch_bytes", "max_concurrency"])
def test_limits_are_at_least_one(kit: Kit, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be at least 1, not 0"):
        kit.embeddings(kit.endpoint(), **{name: 0})


def test_documents_are_a_list(kit: Kit) -> None:
    with pytest.raises(HandlerError, match="use embed_query for a single one"):
        kit.embed(kit.endpoint(), "a")


def test_an_iterator_of_answers_that_cannot_be_closed_is_read(kit: Kit) -> None:
    class Plain:
        def __init__(self, answers: list[Vectors]) -> None:
            self.answers = iter(answers)

        def __iter__(self) -> Plain:
            return self

        __aiter__ = __iter__

        def __next__(self) -> Vectors:
            return next(self.answers)

        async def __anext__(self) -> Vectors:
            for answer in self.answers:
                return answer
            raise StopAsyncIteration

    endpoint = kit.endpoint()
    endpoint.map = lambda inputs, **kwargs: Plain([[[1.0]], [[2.0]]])
    assert kit.embed(endpoint, ["a", "b"], batch_size=1) == [[1.0], [2.0]]


@pytest.mark.parametrize(
    ("answered", "said"),
    [
        ([["a"]], "0 vectors for 1 texts"),
        ([["a"], ["b"], ["c"]], "1 vectors for 0 texts"),
        ([["a"], ["b"], []], "0 vectors for 0 texts"),
    ],
)
def test_another_number_of_answers_than_batches_is_an_error(kit: Kit, answered: list[list[str]], said: str) -> None:
    endpoint = kit.endpoint()
    whole = endpoint.map
    endpoint.map = lambda inputs, **kwargs: whole(answered, **kwargs)
    with pytest.raises(HandlerError, match=said):
        kit.embed(endpoint, ["a", "b"], batch_size=1)


@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=12), batch_size=st.integers(1, 5))
def test_arrays_hold_what_lists_do(kit: Kit, texts: list[str], batch_size: int) -> None:
    lists = kit.embed(kit.endpoint(), texts, batch_size=batch_size)
    array = kit.embed(kit.endpoint(), texts, batch_size=batch_size, as_array=True)
    assert (array.dtype, array.shape) == (np.float32, (len(texts), 1))
    assert array.tolist() == lists
    vector = kit.run(kit.embeddings(kit.endpoint(), as_array=True).embed_query(texts[0]))
    assert (vector.dtype, vector.tolist()) == (np.float32, lists[0])


@pytest.mark.parametrize(
    ("type_", "dtype", "number"),
    [
        (None, np.float32, 0.5),
        ("float", np.float32, 0.5),
        ("int8", np.int8, -128),
        ("binary", np.int8, -128),
        ("uint8", np.uint8, 255),
        ("ubinary", np.uint8, 255),
    ],
)
def test_an_array_has_the_type_of_the_handlers_numbers(kit: Kit, type_: Any, dtype: Any, number: float) -> None:
    endpoint = kit.answering(lambda texts: [[number]] * len(texts), EmbeddingsHandler("cohere", embedding_type=type_))
    array = kit.embed(endpoint, ["a", "b"], batch_size=1, as_array=True)
    assert (array.dtype, array.tolist()) == (dtype, [[number], [number]])


def test_infinite_numbers_stay_and_a_number_that_would_become_infinite_is_an_error(kit: Kit) -> None:
    endpoint = kit.answering(lambda texts: [[float("inf"), float("-inf"), 3e38]])
    (row,) = kit.embed(endpoint, ["a"], as_array=True)
    assert row.tolist() == [float("inf"), float("-inf"), float(np.float32(3e38))]
    with pytest.raises(HandlerError, match="a number that is too large for float32"):
        kit.embed(kit.answering(lambda texts: [[1e39]]), ["a"], as_array=True)


@pytest.mark.parametrize("answer", [[[1.0], [1.0, 2.0]], [[1.0], ["a"]], [[10**400], [1]], [[None], [{}]]])
def test_vectors_that_make_no_array_are_our_error(kit: Kit, answer: Any) -> None:
    with pytest.raises(HandlerError, match="differ in length, or hold something that is not a number"):
        kit.embed(kit.answering(lambda texts: answer), ["a", "b"], as_array=True)


def test_an_embedder_of_arrays_pickles() -> None:
    embedder = pickle.loads(pickle.dumps(Embeddings(Sync(), as_array=True)))
    assert embedder.embed_documents(["ab"]).tolist() == [[2.0]]


def test_many_texts_take_little_more_memory_than_their_array() -> None:
    # The peak counts all memory of Python and NumPy, with each batch's JSON, its text and its lists.
    count, size = 3000, 128
    body = json.dumps([[number / 7 for number in range(size)]] * 32).encode()
    part = json.dumps([[number / 7 for number in range(size)]] * (count % 32)).encode()

    class Model(Sync):
        def answer(self, texts: Sequence[str], parameters: Any) -> Vectors:
            return EmbeddingsHandler().transform_output(ResponseBody(body if len(texts) == 32 else part))

    embedder = Embeddings(Model(EmbeddingsHandler()), as_array=True)
    texts = [f"text {number}" for number in range(count)]
    tracemalloc.start()
    try:
        array = embedder.embed_documents(texts)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert array.shape == (count, size)
    assert array.nbytes == 4 * count * size
    assert peak < 2.5 * array.nbytes


@pytest.mark.usefixtures("without_numpy")
def test_without_numpy_the_error_names_the_extra_before_any_call(kit: Kit) -> None:
    with pytest.raises(HandlerError, match=r"as_array=True\) needs NumPy: pip install 'smendpoint\[numpy\]'"):
        kit.embeddings(kit.endpoint(), as_array=True)
    assert kit.embed(kit.endpoint(), ["a"]) == [[1.0]]
