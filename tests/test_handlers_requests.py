"""Requests of the handlers for embeddings, scores and tables, and the inputs and options that each handler refuses."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from smendpoint.errors import ConfigurationError, HandlerError
from smendpoint.handlers import (
    AutoHandler,
    BytesHandler,
    ChatHandler,
    ClassificationHandler,
    EmbeddingsHandler,
    JSONHandler,
    JumpStartChatHandler,
    JumpStartTextHandler,
    NumPyHandler,
    OpenAICompletionsHandler,
    RerankHandler,
    RerankInput,
    SimilaritySearchHandler,
    SparseEmbeddingsHandler,
    TabularHandler,
    TabularRowsHandler,
    TextGenerationHandler,
    TextHandler,
)

TEXTS = ["a", "b"]
TRUNCATE = {"truncate": True}
CORPUS = {"corpus": ["a"], "queries": ["q"]}
LABELS = {"candidate_labels": ["x", "y"]}
PAIR = {"text": "a", "text_pair": "b"}
ROWS = [[1, 2.5], [3, 4]]

# A handler, an input, model parameters, and the request as JSON.
REQUESTS: list[tuple[Any, Any, dict[str, Any], Any]] = [
    (EmbeddingsHandler("tei"), TEXTS, TRUNCATE, {"inputs": TEXTS, **TRUNCATE}),
    (EmbeddingsHandler("tei"), TEXTS, {"inputs": ["c"]}, {"inputs": ["c"]}),  # a parameter wins
    (EmbeddingsHandler("lmi"), TEXTS, TRUNCATE, {"inputs": TEXTS, **TRUNCATE}),
    (EmbeddingsHandler("huggingface"), TEXTS, TRUNCATE, {"inputs": TEXTS, "parameters": TRUNCATE}),
    (EmbeddingsHandler("huggingface"), ("a",), {}, {"inputs": ["a"]}),
    (EmbeddingsHandler("openai"), TEXTS, TRUNCATE, {"input": TEXTS, **TRUNCATE}),
    (EmbeddingsHandler("openai", embedding_type="int8"), ["a"], {}, {"input": ["a"]}),
    (EmbeddingsHandler("cohere"), TEXTS, TRUNCATE, {"texts": TEXTS, **TRUNCATE}),
    (
        EmbeddingsHandler("cohere", embedding_type="int8"),
        ["a"],
        {"input_type": "x"},
        {"texts": ["a"], "embedding_types": ["int8"], "input_type": "x"},
    ),
    (
        EmbeddingsHandler("cohere", embedding_type="int8"),
        ["a"],
        {"embedding_types": ["int8", "float"]},
        {"texts": ["a"], "embedding_types": ["int8", "float"]},
    ),
    (EmbeddingsHandler("blazingtext"), TEXTS, TRUNCATE, {"instances": TEXTS, **TRUNCATE}),
    (EmbeddingsHandler("jumpstart"), TEXTS, TRUNCATE, {"text_inputs": TEXTS, **TRUNCATE}),
    (EmbeddingsHandler("jumpstart-similarity", content_type="application/json"), TEXTS, {}, TEXTS),
    (SparseEmbeddingsHandler(), ["a"], TRUNCATE, {"inputs": ["a"], **TRUNCATE}),
    (RerankHandler(), ("q", TEXTS), TRUNCATE, {"query": "q", "texts": TEXTS, **TRUNCATE}),
    (RerankHandler("tei"), RerankInput("q", ("a", "b")), {}, {"query": "q", "texts": TEXTS}),
    (RerankHandler("openai"), ("q", TEXTS), TRUNCATE, {"query": "q", "documents": TEXTS, **TRUNCATE}),
    (RerankHandler("score"), ("q", TEXTS), TRUNCATE, {"text_1": "q", "text_2": TEXTS, **TRUNCATE}),
    (ClassificationHandler(), "a", TRUNCATE, {"inputs": "a", **TRUNCATE}),
    (ClassificationHandler(), ("a", "b"), {}, {"inputs": TEXTS}),
    (ClassificationHandler(parameters_field="options"), "a", TRUNCATE, {"inputs": "a", "options": TRUNCATE}),
    (ClassificationHandler(parameters_field="options"), "a", {}, {"inputs": "a"}),
    (ClassificationHandler("huggingface"), "a", {}, {"inputs": "a"}),
    (ClassificationHandler("huggingface"), "a", LABELS, {"inputs": "a", "parameters": LABELS}),
    (ClassificationHandler("huggingface"), ("a", "b"), {"top_k": 1}, {"inputs": PAIR, "parameters": {"top_k": 1}}),
    (ClassificationHandler("openai"), "a", {"model": "m"}, {"input": "a", "model": "m"}),
    (ClassificationHandler("blazingtext"), "a", {"k": 2}, {"instances": ["a"], "configuration": {"k": 2}}),
    (ClassificationHandler("blazingtext"), "a", {}, {"instances": ["a"]}),
    (SimilaritySearchHandler(), CORPUS, {"top_k": 3}, {**CORPUS, "top_k": 3, "mode": "nn_corpus"}),
    (SimilaritySearchHandler(), {"queries": ["q"]}, {}, {"queries": ["q"], "mode": "nn_train_data"}),
    (SimilaritySearchHandler(), {"queries": ["q"], "mode": "m"}, {"mode": "n"}, {"queries": ["q"], "mode": "m"}),
    (TabularHandler("instances", "json"), ROWS, {}, {"instances": ROWS}),
    (TabularHandler("instances", "json"), [{"features": [1, 2.5]}], {}, {"instances": [{"features": [1, 2.5]}]}),
    (TabularRowsHandler("instances", "json"), [ROWS], {}, {"instances": [ROWS]}),
]


@pytest.mark.parametrize(("handler", "value", "parameters", "request_"), REQUESTS)
def test_an_input_becomes_the_request_of_the_format(handler: Any, value: Any, parameters: Any, request_: Any) -> None:
    assert json.loads(handler.transform_input(value, parameters)) == request_
    assert handler.content_type == "application/json"
    assert getattr(handler, "max_batch_size", None) is None


@pytest.mark.parametrize("value", [b"\x89PNG", bytearray(b"\x89PNG"), memoryview(b"\x89PNG")])
@pytest.mark.parametrize("make", [ClassificationHandler, JSONHandler])
def test_bytes_are_sent_unchanged_under_their_own_media_type(make: Any, value: Any) -> None:
    handler = make(content_type="image/png")
    assert (handler.transform_input(value, {}), handler.content_type) == (b"\x89PNG", "image/png")


@pytest.mark.parametrize(
    ("handler", "value"),
    [(EmbeddingsHandler("jumpstart-text"), ["☃"]), (ClassificationHandler(content_type="application/x-text"), "☃")],
)
def test_a_text_under_its_own_media_type_is_sent_unchanged(handler: Any, value: Any) -> None:
    assert (handler.transform_input(value, {}), handler.content_type) == ("☃".encode(), "application/x-text")


def test_a_format_of_single_texts_has_a_limit() -> None:
    assert EmbeddingsHandler("jumpstart-text").max_batch_size == 1


NO_PLACE = "has no place for model parameters: a, b"


@pytest.mark.parametrize(
    ("handler", "value", "parameters", "said"),
    [
        (EmbeddingsHandler(), "SECRET", {}, "EmbeddingsHandler takes a list of texts: put a single one into a list"),
        (EmbeddingsHandler(), b"SECRET", {}, "put a single one into a list"),
        (EmbeddingsHandler(), 1, {}, "a list of texts, not int"),
        (EmbeddingsHandler(), ["a", 1], {}, "Text 1 must be a str, not int"),
        (EmbeddingsHandler("jumpstart-text"), TEXTS, {}, "one text per call, not 2"),
        (SparseEmbeddingsHandler(), "SECRET", {}, "SparseEmbeddingsHandler takes a list of texts"),
        (RerankHandler(), "q", {}, "RerankHandler takes a RerankInput, or a pair"),
        (RerankHandler(), None, {}, "RerankHandler takes a RerankInput, or a pair"),
        (RerankHandler(), ("q",), {}, "RerankHandler takes a RerankInput, or a pair"),
        (RerankHandler(), (1, ["SECRET"]), {}, "RerankHandler takes a query that is a str, and a list of texts"),
        (RerankHandler(), ("q", "SECRET"), {}, "RerankHandler takes a query that is a str, and a list of texts"),
        (
            ClassificationHandler(),
            ["a"],
            {},
            "one text, a tuple of two, or bytes, not list: use map() for several",
        ),
        (ClassificationHandler("openai"), ("a", "b"), {}, "'openai' has no place for a pair of texts"),
        (ClassificationHandler(), b"SECRET", {}, 'set it, as in content_type="image/png"'),
        (SimilaritySearchHandler(), ["q"], {}, "a mapping with 'queries'"),
        (JSONHandler(), b"SECRET", {}, 'with their media type: set it, as in content_type="image/png"'),
        (JSONHandler(), [1], {"b": 3}, "parameters (b)"),
        (TextHandler(), 1, {}, "TextHandler sends bytes or a str, but this input is of type int"),
        (BytesHandler(), 1, {}, "BytesHandler sends bytes or a str, but this input is of type int"),
        (
            TextGenerationHandler(),
            [{"role": "SECRET"}],
            {},
            "sends a str, but this input is of type list. Use ChatHandler for messages",
        ),
        (
            OpenAICompletionsHandler(),
            b"SECRET",
            {},
            "sends a str, but this input is of type bytes. Use ChatHandler for messages",
        ),
        (
            JumpStartTextHandler("gpt-j"),
            None,
            {},
            "sends a str, but this input is of type NoneType. Use ChatHandler for messages",
        ),
        (SimilaritySearchHandler(), {"corpus": []}, {}, "a mapping with 'queries'"),
        (EmbeddingsHandler("jumpstart-text"), ["a"], {"b": 1, "a": 2}, f"The format 'jumpstart-text' {NO_PLACE}"),
        (EmbeddingsHandler("jumpstart-similarity"), ["a"], {"b": 1, "a": 2}, NO_PLACE),
        (ClassificationHandler(content_type="image/png"), b"x", {"b": 1, "a": 2}, f"ClassificationHandler {NO_PLACE}"),
        (JSONHandler(content_type="audio/wav"), b"x", {"b": 1, "a": 2}, f"JSONHandler {NO_PLACE}"),
        (TextHandler(), "x", {"b": 1, "a": 2}, f"TextHandler {NO_PLACE}"),
        (BytesHandler(), b"x", {"b": 1, "a": 2}, f"BytesHandler {NO_PLACE}"),
        (TabularHandler(), [[1]], {"b": 1, "a": 2}, f"TabularHandler {NO_PLACE}"),
        (TabularRowsHandler("json", "json"), [[1]], {"b": 1, "a": 2}, f"TabularRowsHandler {NO_PLACE}"),
        (NumPyHandler(), [[1]], {"b": 1, "a": 2}, f"NumPyHandler {NO_PLACE}"),
    ],
)
def test_an_input_or_a_parameter_without_a_place_is_refused(
    handler: Any, value: Any, parameters: Any, said: str
) -> None:
    with pytest.raises(HandlerError) as raised:
        handler.transform_input(value, parameters)
    assert said in str(raised.value)
    assert "SECRET" not in str(raised.value)


WITH_ERRORS: list[Any] = [
    AutoHandler,
    ChatHandler,
    JSONHandler,
    JumpStartChatHandler,
    OpenAICompletionsHandler,
    TextGenerationHandler,
    partial(JumpStartTextHandler, "bloomz"),
]


@pytest.mark.parametrize(
    ("handler", "options", "said"),
    [
        (EmbeddingsHandler, {"format": "x"}, "format must be one of 'tei', 'lmi', "),
        (EmbeddingsHandler, {"pooling": "x"}, "pooling must be one of 'cls', 'mean', None, not 'x'"),
        (EmbeddingsHandler, {"embedding_type": "x"}, "'int8', 'uint8', 'binary', 'ubinary', None, not 'x'"),
        (RerankHandler, {"format": "x"}, "format must be 'tei', 'openai' or 'score', not 'x'"),
        (ClassificationHandler, {"format": "x"}, "one of 'tei', 'huggingface', 'openai', 'blazingtext', not 'x'"),
        (TabularHandler, {"request": "x"}, "one of csv, json, instances, jsonlines, libsvm, npy, not 'x'"),
        (TabularHandler, {"response": "libsvm"}, "response must be one of csv, json, jsonlines, npy, not 'libsvm'"),
        (TabularRowsHandler, {"dtype": bool}, "dtype must be float, int or str, not <class 'bool'>"),
        (AutoHandler, {"prompt_format": "x"}, "one of inputs, prompt, messages, text_inputs, text_input, not 'x'"),
        (JumpStartTextHandler, {"family": "x"}, "one of llama-2, llama-3, flan-t5, gpt-j, bloomz, not 'x'"),
        *((make, {"errors": "x"}, "errors must be 'strict' or 'replace', not 'x'") for make in WITH_ERRORS),
    ],
)
def test_an_unknown_value_of_an_option_is_refused_with_the_known_ones(handler: Any, options: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        handler(**options)
    assert said in str(raised.value)


def test_the_formats_of_a_table_set_the_media_types() -> None:
    media = {"csv": "text/csv", "json": "application/json", "jsonlines": "application/jsonlines"}
    media |= {"npy": "application/x-npy", "libsvm": "text/libsvm"}
    for request, response in (("csv", "csv"), ("json", "jsonlines"), ("jsonlines", "json"), ("libsvm", "npy")):
        handler: Any = TabularHandler(request, response)  # type: ignore[arg-type]  # all are Literals
        assert (handler.content_type, handler.accepts) == (media[request], media[response])
    assert TabularHandler("npy").content_type == NumPyHandler().content_type == NumPyHandler().accepts == media["npy"]
