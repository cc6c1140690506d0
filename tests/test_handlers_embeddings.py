"""Vectors in every answer of embeddings: their order, their numbers, and the pooling of tokens."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._core.http.body import ResponseBody
from smendpoint.errors import HandlerError
from smendpoint.handlers import EmbeddingsHandler

VECTORS = st.integers(1, 5).flatmap(
    lambda size: st.lists(
        st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=size, max_size=size), max_size=5
    )
)


def read(answer: Any, **options: Any) -> list[list[float]]:
    return EmbeddingsHandler(**options).transform_output(ResponseBody(json.dumps(answer).encode()))


@pytest.mark.parametrize(
    ("type_", "least", "most"), [("int8", -128, 127), ("uint8", 0, 255), ("binary", -128, 127), ("ubinary", 0, 255)]
)
def test_integers_of_a_chosen_type_stay_integers_within_its_limits(type_: Any, least: int, most: int) -> None:
    for answer in ({"embeddings": {type_: [[least, most]]}}, {"data": [{"embedding": [least, most]}]}):
        (vector,) = read(answer, embedding_type=type_)
        assert vector == [least, most]
        assert list(map(type, vector)) == [int, int]
    for number in (least - 1, most + 1, 0.5, True, None, "1"):
        with pytest.raises(HandlerError, match=f"not an integer from {least} to {most}"):
            read([[number]], embedding_type=type_)
    with pytest.raises(HandlerError, match="A vector of the answer is empty"):
        read([[1], []], embedding_type=type_)


def test_embeddings_of_a_type_that_was_not_chosen_say_which_to_choose() -> None:
    answer = {"embeddings": {"int8": [[1]], "ubinary": [[1]]}}
    said = r'"embeddings" are of the type \'int8\' and \'ubinary\''
    with pytest.raises(HandlerError, match=said + ", not 'float': choose embedding_type='int8'"):
        read(answer)
    with pytest.raises(HandlerError, match=said + ", not 'uint8': choose embedding_type='int8'"):
        read(answer, embedding_type="uint8")


@given(VECTORS)
def test_vectors_come_back_unchanged_from_every_shape(vectors: list[list[float]]) -> None:
    data = [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    encoded = [
        {**item, "embedding": base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()}
        for item, vector in zip(data, vectors, strict=True)
    ]
    for answer in (
        vectors,
        {"embedding": vectors},
        {"embeddings": vectors},
        {"embeddings": {"float": vectors}},
        {"vectors": vectors},
        {"data": data[::-1]},
        {"data": encoded},
        {"data": [{"embedding": vector} for vector in vectors]},
        [{"embedding": vector} for vector in vectors],
    ):
        assert read(answer) == vectors


def test_whole_numbers_become_floats() -> None:
    (vector,) = read([[1, 2.5]])
    assert list(map(type, vector)) == [float, float]


def test_token_vectors_need_a_choice_of_pooling() -> None:
    with pytest.raises(HandlerError, match=r"choose pooling='cls'.*or pooling='mean'"):
        read([[[1.0], [2.0]]])


@given(
    st.lists(VECTORS.filter(bool), min_size=1, max_size=3).map(
        lambda texts: [[vector[:1] for vector in text] for text in texts]
    )
)
def test_token_vectors_are_pooled_as_chosen(texts: list[list[list[float]]]) -> None:
    for answer in (texts, [[text] for text in texts]):
        assert read(answer, pooling="cls") == [text[0] for text in texts]
        means = read(answer, pooling="mean")
        assert means == [[pytest.approx(sum(vector[0] for vector in text) / len(text))] for text in texts]


def test_vectors_that_are_pooled_already_stay() -> None:
    assert read([[1.0, 2.0], [3.0, 4.0]], pooling="mean") == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([[1.0], [1.0, 2.0]], "differ in length: 1 to 2 numbers"),
        ([[1.0], []], "empty, or holds something that is not a number"),
        ([[1.0, None]], "empty, or holds something that is not a number"),
        ([[1.0, True]], "empty, or holds something that is not a number"),
        ([[1.0], "x"], "empty, or holds something that is not a number"),
        ([[10**400]], "empty, or holds something that is not a number"),
        ([[[1.0], [1.0, 2.0]]], "tokens differ in length"),
        ([[[[1.0]], [[1.0]]]], "not a list of lists of numbers"),
        ([[[1.0]], 1], "not a list of lists of numbers"),
        ([[[1.0]], []], "not a list of lists of numbers"),
        ({"data": [{"index": 0, "embedding": [1]}, {"index": 2, "embedding": [1]}]}, "not numbered .* from 0 to 1"),
        ({"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}]}, "not numbered .* from 0 to 1"),
        ({"data": [{"index": 0, "embedding": [1]}, {"embedding": [1]}]}, "not numbered .* from 0 to 1"),
        ({"data": [{"embedding": "AA!AAAA=="}]}, "not the base64 of 32-bit floats"),
        ({"data": [{"embedding": "☃"}]}, "not the base64 of 32-bit floats"),
        ({"data": [{"embedding": "AAAA"}]}, "not the base64 of 32-bit floats"),
    ],
)
def test_vectors_that_do_not_fit_each_other_are_an_error(answer: Any, said: str) -> None:
    with pytest.raises(HandlerError, match=said):
        read(answer, pooling="mean")


def test_the_first_tokens_vector_must_be_one() -> None:
    with pytest.raises(HandlerError, match="empty, or holds something that is not a number"):
        read([[[1.0], [2.0]], ["x"]], pooling="cls")


def test_the_dimension_is_checked() -> None:
    assert read([[1.0, 2.0]], dimension=2) == [[1.0, 2.0]]
    assert read([], dimension=2) == []
    with pytest.raises(HandlerError, match="2 numbers, not dimension=3"):
        read([[1.0, 2.0]], dimension=3)
