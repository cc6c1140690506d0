"""Rerankers, classifiers and similarity search."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smendpoint._core.response import ResponseBody
from smendpoint.errors import ConfigurationError, HandlerError
from smendpoint.handlers import ClassificationHandler, RerankHandler, RerankInput, RerankResult, SimilaritySearchHandler


@pytest.mark.parametrize("pair", [("q", ["a", "b"]), RerankInput("q", ("a", "b"))])
def test_a_query_and_texts_are_sent_in_both_formats(pair: Any) -> None:
    for format_, name in (("tei", "texts"), ("openai", "documents")):
        handler = RerankHandler(format_)  # type: ignore[arg-type]  # both are Literals
        body = json.loads(handler.transform_input(pair, {"return_text": True}))
        assert body == {"query": "q", name: ["a", "b"], "return_text": True}


def test_a_rerank_format_must_be_known() -> None:
    with pytest.raises(ConfigurationError, match="'tei' or 'openai', not 'x'"):
        RerankHandler("x")  # type: ignore[arg-type]  # what a caller without a type checker may write


@pytest.mark.parametrize("value", ["q", None, ("q",), (1, ["a"]), ("q", "a")])
def test_a_reranker_takes_a_pair(value: Any) -> None:
    with pytest.raises(HandlerError, match="RerankHandler takes a"):
        RerankHandler().transform_input(value, {})


def test_vllms_scores_are_read() -> None:
    scores = [{"index": 0, "object": "score", "score": 0.2}, {"index": 1, "object": "score", "score": 0.9}]
    body = json.dumps({"id": "score-1", "object": "list", "data": scores, "model": "m"}).encode()
    assert RerankHandler("openai").transform_output(ResponseBody(body)) == [RerankResult(1, 0.9), RerankResult(0, 0.2)]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [1],
        [{"index": 0}],
        [{"score": 1}],
        [{"index": "0", "score": 1}],
        [{"index": 0, "score": True}],
        {"results": 1},
    ],
)
def test_what_is_no_ranking_is_an_error(answer: Any) -> None:
    with pytest.raises(HandlerError, match='RerankHandler expects a list, or "results"'):
        RerankHandler().transform_output(ResponseBody(json.dumps(answer).encode()))


def test_a_number_beyond_floats_is_no_score() -> None:
    with pytest.raises(HandlerError, match="RerankHandler expects"):
        RerankHandler().transform_output(ResponseBody(b'[{"index":0,"score":1' + b"0" * 400 + b"}]"))


def test_a_text_is_sent_with_its_parameters() -> None:
    assert json.loads(ClassificationHandler().transform_input("a", {"truncate": True})) == {
        "inputs": "a",
        "truncate": True,
    }
    handler = ClassificationHandler(parameters_field="parameters")
    assert json.loads(handler.transform_input("a", {"top_k": 1})) == {"inputs": "a", "parameters": {"top_k": 1}}
    assert json.loads(handler.transform_input("a", {})) == {"inputs": "a"}


def test_a_classifier_takes_one_text() -> None:
    with pytest.raises(HandlerError, match=r"one text, not list: for several there is map\(\)"):
        ClassificationHandler().transform_input(["a"], {})  # type: ignore[arg-type]  # what the test is about


def test_a_single_class_needs_no_list() -> None:
    (found,) = ClassificationHandler().transform_output(ResponseBody(b'{"label":"A","score":1}'))
    assert (found.label, found.score) == ("A", 1.0)


@pytest.mark.parametrize("answer", [1, [[1]], [[], []], [{"label": "a"}], [{"label": 1, "score": 1}]])
def test_what_are_no_classes_is_an_error(answer: Any) -> None:
    with pytest.raises(HandlerError, match="ClassificationHandler expects a list"):
        ClassificationHandler().transform_output(ResponseBody(json.dumps(answer).encode()))


def test_a_search_is_in_the_corpus_that_is_given_or_in_the_training_data() -> None:
    handler = SimilaritySearchHandler()
    corpus = {"corpus": ["a"], "queries": ["q"]}
    assert json.loads(handler.transform_input(corpus, {"top_k": 3})) == {**corpus, "top_k": 3, "mode": "nn_corpus"}
    body = handler.transform_input({"queries": ["q"], "mode": "m"}, {"mode": "nn_train_data", "return_text": True})
    assert json.loads(body) == {"queries": ["q"], "mode": "m", "return_text": True}
    assert json.loads(handler.transform_input({"queries": ["q"]}, {}))["mode"] == "nn_train_data"


@pytest.mark.parametrize("value", [["q"], {"corpus": []}])
def test_a_search_needs_queries(value: Any) -> None:
    with pytest.raises(HandlerError, match="a mapping with 'queries'"):
        SimilaritySearchHandler().transform_input(value, {})


@pytest.mark.parametrize("answer", [1, [1], [[1]], [[{"id": 1}]], [[{"id": None, "score": 1}]]])
def test_what_are_no_neighbours_is_an_error(answer: Any) -> None:
    with pytest.raises(HandlerError, match="SimilaritySearchHandler expects a list for each query"):
        SimilaritySearchHandler().transform_output(ResponseBody(json.dumps(answer).encode()))
