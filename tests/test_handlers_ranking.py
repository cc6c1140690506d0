"""Rerankers, classifiers and similarity search."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smendpoint._core.aws.response import ResponseBody
from smendpoint.errors import ConfigurationError, HandlerError
from smendpoint.handlers import (
    ClassificationHandler,
    RerankHandler,
    RerankInput,
    RerankResult,
    SimilaritySearchHandler,
    SparseEmbeddingsHandler,
)


@pytest.mark.parametrize("pair", [("q", ["a", "b"]), RerankInput("q", ("a", "b"))])
def test_a_query_and_texts_are_sent_in_both_formats(pair: Any) -> None:
    for format_, first, second in (
        ("tei", "query", "texts"),
        ("openai", "query", "documents"),
        ("score", "text_1", "text_2"),
    ):
        handler = RerankHandler(format_)  # type: ignore[arg-type]  # all are Literals
        body = json.loads(handler.transform_input(pair, {"return_text": True}))
        assert body == {first: "q", second: ["a", "b"], "return_text": True}


def test_a_rerank_format_must_be_known() -> None:
    with pytest.raises(ConfigurationError, match="'tei', 'openai' or 'score', not 'x'"):
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
        [{"index": True, "score": 1}],
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


@pytest.mark.parametrize(
    ("format_", "parameters", "body"),
    [
        ("tei", {"truncate": True}, {"inputs": "a", "truncate": True}),
        ("huggingface", {}, {"inputs": "a"}),
        (
            "huggingface",
            {"candidate_labels": ["x", "y"]},
            {"inputs": "a", "parameters": {"candidate_labels": ["x", "y"]}},
        ),
        ("openai", {"model": "m"}, {"input": "a", "model": "m"}),
        ("blazingtext", {"k": 2}, {"instances": ["a"], "configuration": {"k": 2}}),
        ("blazingtext", {}, {"instances": ["a"]}),
    ],
)
def test_a_text_is_sent_in_the_chosen_format(format_: Any, parameters: Any, body: Any) -> None:
    assert json.loads(ClassificationHandler(format_).transform_input("a", parameters)) == body


def test_a_classification_format_must_be_known() -> None:
    with pytest.raises(ConfigurationError, match="'tei', 'huggingface', 'openai', 'blazingtext', not 'x'"):
        ClassificationHandler("x")  # type: ignore[arg-type]  # what a caller without a type checker may write


def test_a_pair_of_texts_is_sent_as_each_container_reads_it() -> None:
    pair = ("a", "b")
    assert json.loads(ClassificationHandler().transform_input(pair, {})) == {"inputs": ["a", "b"]}
    body = ClassificationHandler("huggingface").transform_input(pair, {"top_k": 1})
    assert json.loads(body) == {"inputs": {"text": "a", "text_pair": "b"}, "parameters": {"top_k": 1}}
    with pytest.raises(HandlerError, match="'openai' has no place for a pair of texts"):
        ClassificationHandler("openai").transform_input(pair, {})


@pytest.mark.parametrize("prompt", [b"\x89PNG", bytearray(b"\x89PNG"), memoryview(b"\x89PNG")])
def test_bytes_are_sent_as_they_are_under_their_own_media_type(prompt: Any) -> None:
    handler = ClassificationHandler(content_type="image/png")
    assert handler.transform_input(prompt, {}) == b"\x89PNG"
    assert handler.content_type == "image/png"
    with pytest.raises(HandlerError, match="no place for model parameters: top_k"):
        handler.transform_input(prompt, {"top_k": 1})
    with pytest.raises(HandlerError, match='choose content_type="image/png"'):
        ClassificationHandler().transform_input(prompt, {})


def test_a_text_under_another_media_type_is_sent_as_it_is() -> None:
    assert ClassificationHandler(content_type="application/x-text").transform_input("☃", {}) == "☃".encode()


def test_a_classifier_takes_one_text() -> None:
    with pytest.raises(
        HandlerError, match=r"one text, a tuple of two, or bytes, not list: for several there is map\(\)"
    ):
        ClassificationHandler().transform_input(["a"], {})  # type: ignore[arg-type]  # what the test is about


def test_a_single_class_needs_no_list() -> None:
    (found,) = ClassificationHandler().transform_output(ResponseBody(b'{"label":"A","score":1}'))
    assert (found.label, found.score) == ("A", 1.0)


@pytest.mark.parametrize(
    "answer",
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
)
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


def test_sparse_texts_are_sent_as_a_list() -> None:
    handler = SparseEmbeddingsHandler()
    assert json.loads(handler.transform_input(["a"], {"truncate": True})) == {"inputs": ["a"], "truncate": True}
    with pytest.raises(HandlerError, match="SparseEmbeddingsHandler takes a list of texts"):
        handler.transform_input("a", {})


@pytest.mark.parametrize("answer", [1, {}, [1], [[1]], [[{"index": 1}]], [[{"index": "1", "value": 1}]]])
def test_what_are_no_sparse_vectors_is_an_error(answer: Any) -> None:
    with pytest.raises(
        HandlerError, match=r'SparseEmbeddingsHandler expects a list for each text .*"index" and "value"'
    ):
        SparseEmbeddingsHandler().transform_output(ResponseBody(json.dumps(answer).encode()))


@pytest.mark.parametrize("answer", [1, [1], [[1]], [[{"id": 1}]], [[{"id": None, "score": 1}]]])
def test_what_are_no_neighbours_is_an_error(answer: Any) -> None:
    with pytest.raises(HandlerError, match="SimilaritySearchHandler expects a list for each query"):
        SimilaritySearchHandler().transform_output(ResponseBody(json.dumps(answer).encode()))
