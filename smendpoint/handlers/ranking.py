"""Rerankers, classifiers and similarity search: scores out, typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from smendpoint.errors import ConfigurationError, HandlerError
from smendpoint.handlers._json import encode_json, encode_request, is_bytes, raw_body
from smendpoint.handlers._scores import (
    Classification,
    Neighbour,
    RerankResult,
    read_classes,
    read_neighbours,
    read_ranking,
)
from smendpoint.handlers._shapes import read_answer
from smendpoint.prompts import is_collection

if TYPE_CHECKING:
    from smendpoint._core.http.body import ResponseBody

__all__ = [
    "Classification",
    "ClassificationFormat",
    "ClassificationHandler",
    "Neighbour",
    "RerankFormat",
    "RerankHandler",
    "RerankInput",
    "RerankResult",
    "SimilaritySearchHandler",
]

RerankFormat: TypeAlias = Literal["tei", "openai", "score"]
ClassificationFormat: TypeAlias = Literal["tei", "huggingface", "openai", "blazingtext"]

# The fields for the query and for the texts.
_PAIRS = {"tei": ("query", "texts"), "openai": ("query", "documents"), "score": ("text_1", "text_2")}

# The field for the text, and the field for the model parameters: none if they are next to the text.
_PLACES = {
    "tei": ("inputs", None),
    "huggingface": ("inputs", "parameters"),
    "openai": ("input", None),
    "blazingtext": ("instances", "configuration"),
}


class RerankInput(NamedTuple):
    """The input of a reranker; a plain pair works as well.

    Attributes:
        query: the text that the others are compared with.
        texts: the texts to rank.
    """

    query: str
    texts: Sequence[str]


class RerankHandler:
    """A query and texts in, a `RerankResult` for each text out, best first.

    Args:
        format: ``"tei"`` sends ``{"query", "texts"}`` (text-embeddings-inference), ``"openai"`` sends
            ``{"query", "documents"}`` (vLLM, Cohere, Jina), ``"score"`` sends ``{"text_1", "text_2"}`` (vLLM's
            scores). The answers are recognised.
    """

    __slots__ = ("format",)

    content_type = "application/json"
    accepts = "application/json"
    stop_parameter: str | None = None

    def __init__(self, format: RerankFormat = "tei") -> None:
        if format not in _PAIRS:
            raise ConfigurationError(f"format must be 'tei', 'openai' or 'score', not {format!r}")
        self.format = format

    def transform_input(self, prompt: RerankInput | tuple[str, Sequence[str]], model_kwargs: dict[str, Any]) -> bytes:
        """Return the request."""
        try:
            query, texts = prompt
        except (TypeError, ValueError):
            raise HandlerError("RerankHandler takes a RerankInput, or a pair of a query and a list of texts.") from None
        if not isinstance(query, str) or not is_collection(texts):
            raise HandlerError("RerankHandler takes a query that is a str, and a list of texts.")
        first, second = _PAIRS[self.format]
        return encode_json({first: query, second: list(texts), **model_kwargs})

    def transform_output(self, output: ResponseBody) -> list[RerankResult]:
        """Return the results, best first.

        Raises:
            HandlerError: the answer has another shape.
            ModelOutputError: the container reports an error in a successful answer.
        """
        return read_answer(
            output,
            read_ranking,
            "RerankHandler",
            'a list, or "results" or "data", of objects with "index", "score" or "relevance_score", and "text" or '
            '"document" if texts are returned',
        )


class ClassificationHandler:
    """One text, pair of texts or image in, its classes out, the most likely first.

    It recognises the answers of text-embeddings-inference, the Hugging Face toolkit (also zero-shot), vLLM (which names
    only the most likely class), JumpStart and BlazingText. The format of requests is an argument.

    Args:
        format: how the text and the model parameters are sent:

            * ``"tei"``: ``{"inputs": text, **parameters}`` (text-embeddings-inference);
            * ``"huggingface"``: ``{"inputs": text, "parameters": {...}}`` (Hugging Face toolkit); zero-shot models take
              ``candidate_labels`` among the parameters;
            * ``"openai"``: ``{"input": text, **parameters}`` (vLLM, SGLang);
            * ``"blazingtext"``: ``{"instances": [text], "configuration": {...}}``, with ``k``, the number of classes,
              among the parameters.
        parameters_field: the field for model parameters, if it is not the format's usual one.
        content_type: the media type of an input that is bytes, such as ``"image/jpeg"``.
    """

    __slots__ = ("content_type", "format", "parameters_field")

    accepts = "application/json"
    stop_parameter: str | None = None

    def __init__(
        self,
        format: ClassificationFormat = "tei",
        *,
        parameters_field: str | None = None,
        content_type: str = "application/json",
    ) -> None:
        if format not in _PLACES:
            raise ConfigurationError(f"format must be one of {', '.join(map(repr, _PLACES))}, not {format!r}")
        self.format = format
        self.parameters_field = parameters_field or _PLACES[format][1]
        self.content_type = content_type

    def transform_input(self, prompt: str | tuple[str, str] | bytes, model_kwargs: dict[str, Any]) -> bytes:
        """Return the request.

        Args:
            prompt: a text; a tuple of two, for a model that compares them; or the bytes of an image or a sound.
            model_kwargs: the model parameters; bytes have no place for them.
        """
        if is_bytes(prompt) or self.content_type != "application/json":
            return raw_body("ClassificationHandler", prompt, model_kwargs, self.content_type)
        if isinstance(prompt, tuple) and len(prompt) == 2 and all(isinstance(text, str) for text in prompt):
            if self.format not in ("tei", "huggingface"):
                raise HandlerError(f"The format {self.format!r} has no place for a pair of texts.")
            text: Any = list(prompt) if self.format == "tei" else {"text": prompt[0], "text_pair": prompt[1]}
        elif isinstance(prompt, str):
            text = [prompt] if self.format == "blazingtext" else prompt
        else:
            raise HandlerError(
                "ClassificationHandler takes one text, a tuple of two, or bytes, not "
                f"{type(prompt).__name__}: use map() for several."
            )
        return encode_request(_PLACES[self.format][0], text, self.parameters_field, model_kwargs)

    def transform_output(self, output: ResponseBody) -> list[Classification]:
        """Return the classes, the most likely first.

        Raises:
            HandlerError: the answer has another shape.
            ModelOutputError: the container reports an error in a successful answer.
        """
        return read_answer(
            output,
            read_classes,
            "ClassificationHandler",
            'a list of objects with "label" and "score", or one object with lists of "labels" and "scores" or '
            '"probabilities", or of "label" and "prob", or "data" with "label" and "probs"',
        )


class SimilaritySearchHandler:
    """JumpStart's sentence similarity as a search: queries in, the nearest texts of each out.

    The input is a mapping with ``queries``, and with ``corpus`` unless that is the model's training data. Model
    parameters (``top_k``, ``mode``, ``return_text``) are added to it; its own keys take precedence.
    """

    __slots__ = ()

    content_type = "application/json"
    accepts = "application/json"
    stop_parameter: str | None = None

    def transform_input(self, prompt: Mapping[str, Any], model_kwargs: dict[str, Any]) -> bytes:
        """Return the request; without a ``mode``, it gets the one that suits the input."""
        if not isinstance(prompt, Mapping) or "queries" not in prompt:
            raise HandlerError("SimilaritySearchHandler takes a mapping with 'queries', and 'corpus' to search in.")
        mode = "nn_corpus" if "corpus" in prompt else "nn_train_data"
        given = {"mode": mode, **model_kwargs}
        return encode_json({**prompt, **{name: value for name, value in given.items() if name not in prompt}})

    def transform_output(self, output: ResponseBody) -> list[list[Neighbour]]:
        """Return the nearest texts of each query, in the model's order.

        Raises:
            HandlerError: the answer has another shape.
            ModelOutputError: the container reports an error in a successful answer.
        """
        return read_answer(
            output,
            read_neighbours,
            "SimilaritySearchHandler",
            'for each query a list of objects with "id" or "corpus_id", "score", and "text" if it is returned',
        )
