"""Texts in, one vector of floats for each out, for every container that makes embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

from smendpoint.errors import ConfigurationError, HandlerError
from smendpoint.handlers._json import decode_json, encode_json, encode_request, encode_text, refuse_parameters
from smendpoint.handlers._numbers import read_vectors
from smendpoint.handlers._shapes import read_answer
from smendpoint.prompts import is_collection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smendpoint._core.http.body import ResponseBody
    from smendpoint.handlers.base import OutputDetails

__all__ = ["EmbeddingFormat", "EmbeddingType", "EmbeddingsHandler", "Pooling", "SparseEmbeddingsHandler"]

EmbeddingFormat: TypeAlias = Literal[
    "tei",
    "lmi",
    "huggingface",
    "openai",
    "cohere",
    "blazingtext",
    "jumpstart",
    "jumpstart-text",
    "jumpstart-similarity",
]
EmbeddingType: TypeAlias = Literal["float", "int8", "uint8", "binary", "ubinary"]
Pooling: TypeAlias = Literal["cls", "mean"]

# The field for the texts, and the field for the model parameters: none if they are next to the texts.
_FIELDS = {
    "tei": ("inputs", None),
    "lmi": ("inputs", None),
    "huggingface": ("inputs", "parameters"),
    "openai": ("input", None),
    "cohere": ("texts", None),
    "blazingtext": ("instances", None),
    "jumpstart": ("text_inputs", None),
}


class EmbeddingsHandler:
    """Texts in, a list of vectors out, in the same order. Answers are recognised; the format of requests is an
    argument.

    `Embeddings` and `AsyncEmbeddings` use it for any number of texts, in batches.

    Args:
        format: how the texts are sent:

            * ``"tei"``, ``"lmi"``: ``{"inputs": [...], **parameters}`` (text-embeddings-inference, LMI);
            * ``"huggingface"``: ``{"inputs": [...], "parameters": {...}}`` (Hugging Face toolkit, sentence-transformers
              and other models with an ``inference.py``);
            * ``"openai"``: ``{"input": [...], **parameters}`` (vLLM, including its pooling models, and SGLang);
            * ``"cohere"``: ``{"texts": [...], **parameters}``, with ``input_type`` among the parameters;
            * ``"blazingtext"``: ``{"instances": [...], **parameters}`` (the vectors of words);
            * ``"jumpstart"``: ``{"text_inputs": [...], **parameters}`` (GPT-J);
            * ``"jumpstart-text"``: the text itself, one per call (TensorFlow models);
            * ``"jumpstart-similarity"``: ``[...]`` (BGE, GTE, E5, MiniLM).
        pooling: for a model that answers with a vector for each token (Hugging Face ``feature-extraction``): ``"cls"``
            takes the first token's, ``"mean"`` the average of all, including padding if the container pads.
        embedding_type: the type of the vectors' numbers; ``None`` for floats. ``"int8"`` and ``"uint8"`` are
            quantised, ``"binary"`` and ``"ubinary"`` hold eight dimensions in each number; these stay integers.
            For Cohere's models it is also sent (``embedding_types``).
        dimension: the length of each vector; ``None`` accepts any length that is the same for all.
        content_type: the media type of the request, if it is not the format's usual one.
    """

    __slots__ = ("content_type", "dimension", "embedding_type", "format", "max_batch_size", "pooling")

    accepts = "application/json"
    task = "embeddings"
    stop_parameter: str | None = None
    takes_many = True

    def __init__(
        self,
        format: EmbeddingFormat = "tei",
        *,
        pooling: Pooling | None = None,
        embedding_type: EmbeddingType | None = None,
        dimension: int | None = None,
        content_type: str | None = None,
    ) -> None:
        for name, value, known in (
            ("format", format, get_args(EmbeddingFormat)),
            ("pooling", pooling, (*get_args(Pooling), None)),
            ("embedding_type", embedding_type, (*get_args(EmbeddingType), None)),
        ):
            if value not in known:
                raise ConfigurationError(f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}")
        self.format = format
        self.pooling = pooling
        self.embedding_type = embedding_type
        self.dimension = dimension
        self.content_type = content_type or ("application/json" if format in _FIELDS else "application/x-text")
        self.max_batch_size = 1 if format == "jumpstart-text" else None
        """The most texts in a request, if the format has a limit."""

    def transform_input(self, prompt: Sequence[str], model_kwargs: dict[str, Any]) -> bytes:
        """Return the request for some texts."""
        texts = _checked_texts(prompt, "EmbeddingsHandler")
        if self.embedding_type is not None and self.format == "cohere":
            model_kwargs = {"embedding_types": [self.embedding_type], **model_kwargs}
        if self.format in _FIELDS:
            field, place = _FIELDS[self.format]
            return encode_request(field, texts, place, model_kwargs)
        refuse_parameters(f"The format {self.format!r}", model_kwargs)
        if self.format == "jumpstart-similarity":
            return encode_json(texts)
        if len(texts) != 1:
            raise HandlerError(f"The format {self.format!r} takes one text per call, not {len(texts)}; see Embeddings.")
        return encode_text(texts[0])

    def transform_output(self, output: ResponseBody) -> list[list[float]]:
        """Return the vectors.

        Raises:
            HandlerError: the answer has another shape, or its vectors differ in length or do not match ``dimension``.
            ModelOutputError: the container reports an error in a successful answer.
        """
        vectors = read_answer(
            output,
            lambda value: read_vectors(value, pooling=self.pooling, embedding_type=self.embedding_type),
            "EmbeddingsHandler",
            'a list of vectors, or "data", "embedding", "embeddings", "vector" or "vectors"',
        )
        if vectors and self.dimension is not None and len(vectors[0]) != self.dimension:
            raise HandlerError(f"The model's vectors have {len(vectors[0])} numbers, not dimension={self.dimension}.")
        return vectors

    def read_details(self, output: ResponseBody) -> OutputDetails:
        """Return the token counts of a whole answer, its name of the model, and its id."""
        from smendpoint.handlers._answers import named_in, usage_of
        from smendpoint.handlers.base import OutputDetails

        answer = decode_json(output, "EmbeddingsHandler")
        if not isinstance(answer, dict):
            return OutputDetails()
        return OutputDetails(None, usage_of(answer.get("usage")), None, *named_in(answer))


class SparseEmbeddingsHandler:
    """Texts in, the weights of each by token index out: text-embeddings-inference with a SPLADE model.

    The request is ``{"inputs": [...], **parameters}``. An index that is absent has the weight 0.
    """

    __slots__ = ()

    content_type = "application/json"
    accepts = "application/json"
    task = "embeddings"
    stop_parameter: str | None = None
    takes_many = True

    def transform_input(self, prompt: Sequence[str], model_kwargs: dict[str, Any]) -> bytes:
        """Return the request for some texts."""
        return encode_json({"inputs": _checked_texts(prompt, "SparseEmbeddingsHandler"), **model_kwargs})

    def transform_output(self, output: ResponseBody) -> list[dict[int, float]]:
        """Return the weights of each text.

        Raises:
            HandlerError: the answer has another shape.
            ModelOutputError: the container reports an error in a successful answer.
        """
        from smendpoint.handlers._scores import read_sparse  # with dataclasses, which the other handler does not need

        expected = 'a list for each text of objects with "index" and "value"'
        return read_answer(output, read_sparse, "SparseEmbeddingsHandler", expected)


def _checked_texts(texts: object, handler: str) -> list[str]:
    if isinstance(texts, (str, bytes)):
        raise HandlerError(f"{handler} takes a list of texts: put a single one into a list.")
    if not is_collection(texts):
        raise HandlerError(f"{handler} takes a list of texts, not {type(texts).__name__}.")
    listed = list(cast("Sequence[str]", texts))
    for index, text in enumerate(listed):
        if not isinstance(text, str):
            raise HandlerError(f"Text {index} must be a str, not {type(text).__name__}.")
    return listed
