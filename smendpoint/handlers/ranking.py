"""Rerankers, classifiers and similarity search: scores out, typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

from smendpoint.errors import ConfigurationError, HandlerError
from smendpoint.handlers._json import decode_json, encode_json
from smendpoint.handlers._shapes import raise_for_error, unknown_shape
from smendpoint.prompts import is_collection

if TYPE_CHECKING:
    from smendpoint._container_errors import JSONValue
    from smendpoint._core.response import ResponseBody

__all__ = [
    "Classification",
    "ClassificationHandler",
    "Neighbour",
    "RerankFormat",
    "RerankHandler",
    "RerankInput",
    "RerankResult",
    "SimilaritySearchHandler",
]

RerankFormat: TypeAlias = Literal["tei", "openai"]


class RerankInput(NamedTuple):
    """What a reranker compares; a plain pair does as well.

    Attributes:
        query: what the texts are compared with.
        texts: the texts.
    """

    query: str
    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class RerankResult:
    """One text's place.

    Attributes:
        index: which of the given texts it is, from 0.
        score: how well it fits the query; higher is better.
        text: the text, where the model was asked to return it.
    """

    index: int
    score: float
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Classification:
    """One class of a text.

    Attributes:
        label: its name.
        score: the model's confidence, usually from 0 to 1.
    """

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One text that is near to a query.

    Attributes:
        id: the text's place in the corpus, or its id in the training data.
        score: how near it is; higher is nearer.
        text: the text, where the model was asked to return it.
    """

    id: int | str
    score: float
    text: str | None = None


class RerankHandler:
    """A query and texts in, `RerankResult` for each out, best first.

    Args:
        format: ``"tei"`` sends ``{"query", "texts"}`` (text-embeddings-inference), ``"openai"`` sends
            ``{"query", "documents"}`` (vLLM, Cohere, Jina). Both answers are recognised, and so are vLLM's scores.
    """

    __slots__ = ("format",)

    content_type = "application/json"
    accepts = "application/json"
    stop_parameter: str | None = None

    def __init__(self, format: RerankFormat = "tei") -> None:
        if format not in get_args(RerankFormat):
            raise ConfigurationError(f"format must be 'tei' or 'openai', not {format!r}")
        self.format = format

    def transform_input(self, prompt: RerankInput | tuple[str, Sequence[str]], model_kwargs: dict[str, Any]) -> bytes:
        """Give the request."""
        try:
            query, texts = prompt
        except (TypeError, ValueError):
            raise HandlerError("RerankHandler takes a RerankInput, or a pair of a query and a list of texts.") from None
        if not isinstance(query, str) or not is_collection(texts):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers need not use a type checker
            raise HandlerError("RerankHandler takes a query that is a str, and a list of texts.")
        name = "texts" if self.format == "tei" else "documents"
        return encode_json({"query": query, name: list(texts), **model_kwargs})

    def transform_output(self, output: ResponseBody) -> list[RerankResult]:
        """Give the results, best first.

        Raises:
            HandlerError: the answer has another shape.
            ModelOutputError: the container reports an error in a successful answer.
        """
        value = decode_json(output, "RerankHandler")
        raise_for_error(value)
        # "results" of a reranker, "data" of vLLM's scores
        items = value.get("results", value.get("data")) if isinstance(value, dict) else value
        results: list[RerankResult] = []
        for item in items if isinstance(items, list) else [None]:
            index, score = _field(item, "index"), _field(item, "score", "relevance_score")
            number = _number(score)
            if not isinstance(index, int) or number is None:
                raise unknown_shape(value, "RerankHandler", 'a list, or "results", of objects with "index" and "score"')
            text = _field(item, "text", "document")
            text = text if isinstance(text, str) else _field(text, "text")
            results.append(RerankResult(index, number, text if isinstance(text, str) else None))
        return sorted(results, key=lambda result: -result.score)


class ClassificationHandler:
    """One text in, its classes out, the most likely first: text-embeddings-inference and the Hugging Face toolkit.

    Args:
        parameters_field: where model parameters go: ``None`` beside the text (text-embeddings-inference),
            ``"parameters"`` in an object of their own (Hugging Face).
    """

    __slots__ = ("parameters_field",)

    content_type = "application/json"
    accepts = "application/json"
    stop_parameter: str | None = None

    def __init__(self, *, parameters_field: str | None = None) -> None:
        self.parameters_field = parameters_field

    def transform_input(self, prompt: str, model_kwargs: dict[str, Any]) -> bytes:
        """Give the request."""
        if not isinstance(prompt, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers need not use a type checker
            raise HandlerError(
                f"ClassificationHandler takes one text, not {type(prompt).__name__}: for several there is map()."
            )
        if self.parameters_field is not None and model_kwargs:
            return encode_json({"inputs": prompt, self.parameters_field: model_kwargs})
        return encode_json({"inputs": prompt, **model_kwargs})

    def transform_output(self, output: ResponseBody) -> list[Classification]:
        """Give the classes, the most likely first.

        Raises:
            HandlerError: the answer has another shape.
            ModelOutputError: the container reports an error in a successful answer.
        """
        value = decode_json(output, "ClassificationHandler")
        raise_for_error(value)
        items: JSONValue = value
        if isinstance(items, list) and len(items) == 1 and isinstance(items[0], list):
            items = items[0]  # all classes of one text, as the Hugging Face toolkit gives them
        classes: list[Classification] = []
        for item in items if isinstance(items, list) else [items]:
            label, score = _field(item, "label"), _number(_field(item, "score"))
            if not isinstance(label, str) or score is None:
                raise unknown_shape(value, "ClassificationHandler", 'a list of objects with "label" and "score"')
            classes.append(Classification(label, score))
        return sorted(classes, key=lambda found: -found.score)


class SimilaritySearchHandler:
    """JumpStart's sentence similarity as a search: queries in, the nearest texts of each out.

    The input is a mapping with ``queries``, and ``corpus`` where that is not the model's training data. Model
    parameters (``top_k``, ``mode``, ``return_text``) are added to it; its own keys win.
    """

    __slots__ = ()

    content_type = "application/json"
    accepts = "application/json"
    stop_parameter: str | None = None

    def transform_input(self, prompt: Mapping[str, Any], model_kwargs: dict[str, Any]) -> bytes:
        """Give the request; without a ``mode``, the one that fits the input."""
        if not isinstance(prompt, Mapping) or "queries" not in prompt:  # pyright: ignore[reportUnnecessaryIsInstance]  # callers need not use a type checker
            raise HandlerError("SimilaritySearchHandler takes a mapping with 'queries', and 'corpus' to search in.")
        mode = "nn_corpus" if "corpus" in prompt else "nn_train_data"
        return encode_json({"mode": mode, **model_kwargs, **prompt})

    def transform_output(self, output: ResponseBody) -> list[list[Neighbour]]:
        """Give the nearest texts of each query, in the model's order.

        Raises:
            HandlerError: the answer has another shape.
            ModelOutputError: the container reports an error in a successful answer.
        """
        value = decode_json(output, "SimilaritySearchHandler")
        raise_for_error(value)
        expected = 'a list for each query of objects with "id" or "corpus_id", and "score"'
        found: list[list[Neighbour]] = []
        for query in value if isinstance(value, list) else [None]:
            if not isinstance(query, list):
                raise unknown_shape(value, "SimilaritySearchHandler", expected)
            neighbours: list[Neighbour] = []
            for item in query:
                name, score = _field(item, "id", "corpus_id"), _number(_field(item, "score"))
                if not isinstance(name, (int, str)) or score is None:
                    raise unknown_shape(value, "SimilaritySearchHandler", expected)
                text = _field(item, "text")
                neighbours.append(Neighbour(name, score, text if isinstance(text, str) else None))
            found.append(neighbours)
        return found


def _field(item: JSONValue, *names: str) -> JSONValue:
    if isinstance(item, dict):
        for name in names:
            if name in item:
                return item[name]
    return None


def _number(value: JSONValue) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return None
    return None
