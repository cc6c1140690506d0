"""Answers of other shapes than a handler for embeddings or scores reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smendpoint._core.http.body import ResponseBody
from smendpoint.errors import HandlerError
from smendpoint.handlers import (
    Classification,
    ClassificationHandler,
    EmbeddingsHandler,
    RerankHandler,
    RerankResult,
    SimilaritySearchHandler,
    SparseEmbeddingsHandler,
)

RANKING = 'RerankHandler expects a list, or "results" or "data", of objects'
CLASSES = "ClassificationHandler expects a list of objects"
SPARSE = 'SparseEmbeddingsHandler expects a list for each text of objects with "index" and "value"'
NEIGHBOURS = "SimilaritySearchHandler expects for each query a list of objects"
VECTORS = "EmbeddingsHandler expects a list of vectors"

OTHERS: dict[str, tuple[Any, list[Any]]] = {
    RANKING: (
        RerankHandler(),
        [
            {},
            [1],
            [{"index": 0}],
            [{"score": 1}],
            [{"index": "0", "score": 1}],
            [{"index": 0, "score": True}],
            [{"index": True, "score": 1}],
            [{"index": 0, "score": 10**400}],  # beyond the range of floats
            [{"index": 0, "score": 1, "text": {"text": "a"}}],
            [{"index": 0, "score": 1, "document": {"text": 1}}],
            {"results": 1},
        ],
    ),
    CLASSES: (
        ClassificationHandler(),
        [
            1,
            [[1]],
            [[], []],
            [{"label": "a"}],
            [{"label": 1, "score": 1}],
            {"labels": ["a", "b"], "scores": [1]},
            {"labels": "a", "scores": [1]},
            {"labels": ["a"], "scores": [None]},
            {"data": [{"label": "a", "probs": [0.5, None]}]},
            {"data": [{"label": None, "probs": [0.5]}]},
            {"data": [{"label": "a", "probs": []}]},
            {"data": None},
            [{"labels": ["a"], "scores": [1]}, {"labels": ["a"], "scores": [1]}],
        ],
    ),
    SPARSE: (
        SparseEmbeddingsHandler(),
        [1, {}, [1], [[1]], [[{"index": 1}]], [[{"index": "1", "value": 1}]]],
    ),
    NEIGHBOURS: (
        SimilaritySearchHandler(),
        [1, [1], [[1]], [[{"id": 1}]], [[{"id": None, "score": 1}]], [[{"id": True, "score": 1}]]],
    ),
    VECTORS: (
        EmbeddingsHandler(pooling="mean"),
        [
            {"embeddings": {"base64": [[1]]}},
            {"data": [1]},
            {"data": [{"index": 0, "object": "pooling", "data": "AAAAPwAAgL8="}]},  # only embeddings may be base64
            {"embedding": "text"},
            [[[[[1.0]]]]],
            "x",
            {},
        ],
    ),
}


@pytest.mark.parametrize(
    ("expected", "answer"), [(expected, answer) for expected, (_, answers) in OTHERS.items() for answer in answers]
)
def test_an_answer_of_another_shape_is_an_error_that_says_what_is_expected(expected: str, answer: Any) -> None:
    with pytest.raises(HandlerError) as raised:
        OTHERS[expected][0].transform_output(ResponseBody(json.dumps(answer).encode()))
    assert expected in str(raised.value)


@pytest.mark.parametrize(
    ("handler", "answer", "output"),
    [
        (ClassificationHandler(), {"label": "A", "score": 1}, [Classification("A", 1.0)]),
        (RerankHandler(), [{"index": 0, "score": 1, "document": "a"}], [RerankResult(0, 1.0, "a")]),
        (RerankHandler(), [{"index": 0, "score": 1, "text": "a", "document": 1}], [RerankResult(0, 1.0, "a")]),
    ],
)
def test_looser_shapes_are_read(handler: Any, answer: Any, output: Any) -> None:
    assert handler.transform_output(ResponseBody(json.dumps(answer).encode())) == output
