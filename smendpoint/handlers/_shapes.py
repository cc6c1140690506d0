"""Which shape a parsed answer has, and which handler reads it. Messages show structures and keys, never values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint._container_errors import container_error
from smendpoint.errors import HandlerError, ModelOutputError
from smendpoint.handlers._json import describe

if TYPE_CHECKING:
    from smendpoint._container_errors import JSONValue

__all__ = ["fitting_handler", "raise_for_error", "unknown_shape"]

_BY_KEY = (
    ("generated_texts", 'JumpStartTextHandler("flan-t5")'),
    ("generated_text", "TextGenerationHandler"),
    ("token", "TextGenerationHandler"),
    ("outputs", "TextGenerationHandler"),
    ("embedding", "EmbeddingsHandler"),
    ("embeddings", "EmbeddingsHandler"),
    ("vectors", "EmbeddingsHandler"),
    ("relevance_score", "RerankHandler"),
    ("predictions", "TabularHandler"),
)


def raise_for_error(value: JSONValue) -> None:
    """Raise `ModelOutputError` where a successful answer, or an item of a stream, reports a container's error."""
    error = container_error(value)
    if error is not None:
        said = error.message or "the model reported an error without a message"
        label = ", ".join(str(part) for part in (error.code, error.type) if part is not None)
        raise ModelOutputError(f"{said} ({label})" if label else said, code=error.code, error_type=error.type)


def unknown_shape(value: JSONValue, reader: str, expected: str) -> HandlerError:
    """Give the error for an answer that ``reader`` does not know: what was there, and who could read it.

    Args:
        value: the parsed answer.
        reader: the name of the handler that met it.
        expected: what it reads, as a half sentence.
    """
    fits = fitting_handler(value)
    advice = f" {fits} reads this." if fits and fits != reader else " JSONHandler gives it as it is."
    return HandlerError(f"{reader} expects {expected}; this answer has the structure {describe(value)}.{advice}")


def fitting_handler(value: JSONValue) -> str | None:
    """Name the handler that reads an answer of this shape; ``None`` where none is known."""
    if isinstance(value, list):
        return _for_list(value)
    if isinstance(value, dict):
        return _for_object(value)
    return None


def _for_object(value: dict[str, JSONValue]) -> str | None:
    choices = value.get("choices")
    if isinstance(choices, list):
        first = choices[0] if choices else None
        if isinstance(first, dict) and "text" in first:
            return "OpenAICompletionsHandler"
        return "ChatHandler"
    if "generation" in value:
        return "JumpStartChatHandler" if isinstance(value["generation"], dict) else "TextGenerationHandler"
    body = value.get("body")
    if isinstance(body, dict) and "generation" in body:
        return "TextGenerationHandler"
    data, results = value.get("data"), value.get("results")
    for nested in (data, results):
        if isinstance(nested, list) and nested and isinstance(nested[0], dict):
            return _for_object(nested[0])
    for key, handler in _BY_KEY:
        if key in value:
            return handler
    if "score" in value:
        if "label" in value:
            return "ClassificationHandler"
        return "SimilaritySearchHandler" if value.keys() & {"id", "corpus_id"} else "RerankHandler"
    return None


def _for_list(value: list[JSONValue]) -> str | None:
    first = value[0] if value else None
    if isinstance(first, (dict, list)):
        return fitting_handler(first)
    if isinstance(first, (int, float)) and not isinstance(first, bool):
        # One vector, or one number for each row: both look alike.
        return "EmbeddingsHandler or TabularHandler"
    return None
