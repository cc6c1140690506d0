"""Embeddings of any number of texts: one body of tests for both twins."""

from __future__ import annotations

import asyncio
import builtins
import json
import pickle
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._core.aws.response import ResponseBody
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
        self, inputs: Iterable[Sequence[str]], /, *, max_concurrency: int, **model_kwargs: Any
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
        self, inputs: Iterable[Sequence[str]], /, *, max_concurrency: int, **model_kwargs: Any
    ) -> AsyncIterator[Vectors]:
        try:
            for texts in inputs:
                yield self.answer(texts, {"max_concurrency": max_concurrency, **model_kwargs})
        finally:
            self.closed = True


def got(value: Any) -> Any:
    """What a method of either twin gives."""
    if isinstance(value, Awaitable):

        async def wait() -> Any:
            return await value

        return asyncio.run(wait())
    return value


TWINS = pytest.mark.parametrize(
    ("embeddings", "endpoint_class"), [(Embeddings, Sync), (AsyncEmbeddings, Async)], ids=["sync", "async"]
)


@TWINS
@given(
    texts=st.lists(st.text(max_size=20), max_size=12), batch_size=st.integers(1, 5), max_batch_bytes=st.integers(1, 60)
)
def test_every_text_gets_its_vector_in_batches_that_fit(
    embeddings: Any, endpoint_class: Any, texts: list[str], batch_size: int, max_batch_bytes: int
) -> None:
    endpoint = endpoint_class()
    embedder = embeddings(endpoint, batch_size=batch_size, max_batch_bytes=max_batch_bytes)
    assert got(embedder.embed_documents(texts)) == [[float(len(text))] for text in texts]
    assert [text for call in endpoint.calls for text in call] == texts
    for call in endpoint.calls:
        assert len(call) <= batch_size
        assert len(call) == 1 or len(encode_json(call)) <= max_batch_bytes + 1


@TWINS
def test_no_texts_make_no_call(embeddings: Any, endpoint_class: Any) -> None:
    endpoint = endpoint_class()
    assert got(embeddings(endpoint).embed_documents([])) == []
    assert endpoint.calls == []


@TWINS
def test_documents_and_queries_have_their_own_parameters(embeddings: Any, endpoint_class: Any) -> None:
    endpoint = endpoint_class()
    embedder = embeddings(
        endpoint, batch_size=1, max_concurrency=7, document_kwargs={"input_type": "d"}, query_kwargs={"input_type": "q"}
    )
    got(embedder.embed_documents(["a"]))
    got(embedder.embed_documents(["a", "b"]))
    assert got(embedder.embed_query("abc")) == [3.0]
    mapped = {"max_concurrency": 7, "input_type": "d"}
    assert endpoint.parameters == [{"input_type": "d"}, mapped, mapped, {"input_type": "q"}]
    assert endpoint.closed


@TWINS
def test_the_formats_own_limit_counts(embeddings: Any, endpoint_class: Any) -> None:
    endpoint = endpoint_class(EmbeddingsHandler("jumpstart-text"))
    got(embeddings(endpoint).embed_documents(["a", "b"]))
    assert endpoint.calls == [["a"], ["b"]]


@TWINS
def test_another_number_of_vectors_than_texts_is_an_error(embeddings: Any, endpoint_class: Any) -> None:
    endpoint = endpoint_class()
    endpoint.answer = lambda texts, parameters: [[1.0]]
    with pytest.raises(HandlerError, match="1 vectors for 2 texts"):
        got(embeddings(endpoint).embed_documents(["a", "b"]))
    with pytest.raises(HandlerError, match="1 vectors for 2 texts"):
        got(embeddings(endpoint, batch_size=2).embed_documents(["a", "b", "c"]))
    assert endpoint.closed
    endpoint.answer = lambda texts, parameters: []
    with pytest.raises(HandlerError, match="0 vectors for 1 texts"):
        got(embeddings(endpoint).embed_query("a"))


@TWINS
def test_vectors_that_differ_between_batches_are_an_error(embeddings: Any, endpoint_class: Any) -> None:
    endpoint = endpoint_class()
    endpoint.answer = lambda texts, parameters: [[1.0] * len(texts[0])]
    with pytest.raises(HandlerError, match="between batches: 1 and 2 numbers"):
        got(embeddings(endpoint, batch_size=1).embed_documents(["a", "bb"]))


@TWINS
@pytest.mark.parametrize("name", ["batch_size", "max_batch_bytes", "max_concurrency"])
def test_limits_are_at_least_one(embeddings: Any, endpoint_class: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be at least 1, not 0"):
        embeddings(endpoint_class(), **{name: 0})


@TWINS
def test_documents_are_a_list(embeddings: Any, endpoint_class: Any) -> None:
    with pytest.raises(HandlerError, match="for a single one there is embed_query"):
        got(embeddings(endpoint_class()).embed_documents("a"))


@TWINS
def test_any_iterator_of_answers_will_do(embeddings: Any, endpoint_class: Any) -> None:
    class Plain:
        """An iterator that cannot be closed."""

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

    endpoint = endpoint_class()
    endpoint.map = lambda inputs, **kwargs: Plain([[[1.0]], [[2.0]]])
    assert got(embeddings(endpoint, batch_size=1).embed_documents(["a", "b"])) == [[1.0], [2.0]]


@pytest.mark.parametrize(("answers", "said"), [(1, "0 vectors for 1 texts"), (3, "1 vectors for 0 texts")])
@TWINS
def test_another_number_of_answers_than_batches_is_an_error(
    embeddings: Any, endpoint_class: Any, answers: int, said: str
) -> None:
    endpoint = endpoint_class()
    whole = endpoint.map
    endpoint.map = lambda inputs, **kwargs: whole([["a"]] * answers, **kwargs)
    with pytest.raises(HandlerError, match=said):
        got(embeddings(endpoint, batch_size=1).embed_documents(["a", "b"]))


@TWINS
@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=12), batch_size=st.integers(1, 5))
def test_arrays_hold_what_lists_do(embeddings: Any, endpoint_class: Any, texts: list[str], batch_size: int) -> None:
    lists = got(embeddings(endpoint_class(), batch_size=batch_size).embed_documents(texts))
    array = got(embeddings(endpoint_class(), batch_size=batch_size, as_array=True).embed_documents(texts))
    assert (array.dtype, array.shape) == (np.float32, (len(texts), 1))
    assert array.tolist() == lists
    vector = got(embeddings(endpoint_class(), as_array=True).embed_query(texts[0]))
    assert (vector.dtype, vector.tolist()) == (np.float32, lists[0])


@TWINS
def test_no_texts_are_an_empty_array(embeddings: Any, endpoint_class: Any) -> None:
    array = got(embeddings(endpoint_class(), as_array=True).embed_documents([]))
    assert (array.dtype, array.shape) == (np.float32, (0, 0))


@TWINS
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
def test_an_array_has_the_type_of_the_handlers_numbers(
    embeddings: Any, endpoint_class: Any, type_: Any, dtype: Any, number: float
) -> None:
    endpoint = endpoint_class(EmbeddingsHandler("cohere", embedding_type=type_))
    endpoint.answer = lambda texts, parameters: [[number]] * len(texts)
    array = got(embeddings(endpoint, batch_size=1, as_array=True).embed_documents(["a", "b"]))
    assert (array.dtype, array.tolist()) == (dtype, [[number], [number]])


@TWINS
def test_infinite_numbers_stay_and_those_that_would_become_so_are_an_error(
    embeddings: Any, endpoint_class: Any
) -> None:
    endpoint = endpoint_class()
    endpoint.answer = lambda texts, parameters: [[float("inf"), float("-inf"), 3e38]]
    (row,) = got(embeddings(endpoint, as_array=True).embed_documents(["a"]))
    assert row.tolist() == [float("inf"), float("-inf"), float(np.float32(3e38))]
    endpoint.answer = lambda texts, parameters: [[1e39]]
    with pytest.raises(HandlerError, match="a number that is too large for float32"):
        got(embeddings(endpoint, as_array=True).embed_documents(["a"]))


@TWINS
@pytest.mark.parametrize("answer", [[[1.0], [1.0, 2.0]], [[1.0], ["a"]], [[10**400], [1]], [[None], [{}]]])
def test_what_makes_no_array_is_our_error(embeddings: Any, endpoint_class: Any, answer: Any) -> None:
    endpoint = endpoint_class()
    endpoint.answer = lambda texts, parameters: answer
    with pytest.raises(HandlerError, match="differ in length, or hold something that is not a number"):
        got(embeddings(endpoint, as_array=True).embed_documents(["a", "b"]))


@TWINS
def test_arrays_check_what_lists_check(embeddings: Any, endpoint_class: Any) -> None:
    endpoint = endpoint_class()
    endpoint.answer = lambda texts, parameters: [[1.0] * len(texts[0])]
    with pytest.raises(HandlerError, match="between batches: 1 and 2 numbers"):
        got(embeddings(endpoint, batch_size=1, as_array=True).embed_documents(["a", "bb"]))
    with pytest.raises(HandlerError, match="1 vectors for 2 texts"):
        got(embeddings(endpoint, as_array=True).embed_documents(["a", "b"]))


def test_an_embedder_of_arrays_pickles() -> None:
    embedder = pickle.loads(pickle.dumps(Embeddings(Sync(), as_array=True)))
    assert embedder.embed_documents(["ab"]).tolist() == [[2.0]]


def test_many_texts_take_little_more_memory_than_their_array() -> None:
    # What is measured: all that Python and NumPy hold at the peak, each batch's JSON, its text and its lists included.
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


@TWINS
def test_without_numpy_the_error_names_the_extra_before_any_call(
    embeddings: Any, endpoint_class: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without_numpy(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "numpy":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "numpy")
    monkeypatch.setattr(builtins, "__import__", without_numpy)
    with pytest.raises(HandlerError, match=r"as_array=True\) needs NumPy: pip install 'smendpoint\[numpy\]'"):
        embeddings(endpoint_class(), as_array=True)
    assert got(embeddings(endpoint_class()).embed_documents(["a"])) == [[1.0]]
