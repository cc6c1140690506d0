"""The shape of a parsed answer, and the handler that reads it. Messages show structures and keys, never values."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from smendpoint._container_errors import container_error
from smendpoint.errors import HandlerError, ModelOutputError
from smendpoint.handlers._json import decode_json, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from smendpoint._container_errors import JSONValue

Output = TypeVar("Output")


def read_answer(
    output: bytes, reader: Callable[[JSONValue], Output | None], handler: str, expected: str, errors: str = "strict"
) -> Output:
    """Parse a JSON answer and return the result of `reader`, which is ``None`` for an answer of another shape.

    The message of an error names `handler`, and the answers that it reads (`expected`, a noun phrase). `errors` is
    ``"strict"`` or ``"replace"``, for half characters.

    Raises:
        HandlerError: the answer is not JSON, or has another shape.
        ModelOutputError: the container reports an error in it.
    """
    value = decode_json(output, handler, errors)
    raise_for_error(value)
    found = reader(value)
    if found is None:
        raise unknown_shape(value, handler, expected)
    return found


def raise_for_error(value: JSONValue) -> None:
    """Raise `ModelOutputError` if a successful answer, or an item of a stream, reports a container's error."""
    error = container_error(value)
    if error is not None:
        said = error.message or "the model reported an error without a message"
        label = ", ".join(str(part) for part in (error.code, error.type) if part is not None)
        text = f"{said} ({label})" if label else said
        raise ModelOutputError(text, code=error.code, error_type=error.type, original_message=error.message)


def unknown_shape(value: JSONValue, reader: str, expected: str) -> HandlerError:
    """Make the error for an answer that `reader`, a handler, does not read.

    The message has the answer's structure, the answers that `reader` reads (`expected`, a noun phrase), and a handler
    that reads this one.
    """
    shown = describe(value)
    return HandlerError(f"{reader} expects {expected}; this answer has the structure {shown}. {advice(value)}.")


def advice(value: JSONValue) -> str:
    """Return which handler reads this answer, with its arguments.

    The handlers' own readers try the answer, so that the advice is right.
    """
    fits = list(_fitting(value))
    if fits:
        # Lists of numbers may be vectors, or predictions.
        alike = isinstance(value, list) and fits[0] == "EmbeddingsHandler"
        return f"{' or '.join(fits[: 2 if alike else 1])} reads this"
    in_stream = _streamed_by(value)
    return "JSONHandler returns it unchanged" if in_stream is None else f"{in_stream} reads this in a stream"


def _fitting(value: JSONValue) -> Iterator[str]:
    # Imported only for an answer that is not understood.
    from contextlib import suppress

    from smendpoint.handlers import _answers, _numbers, _scores
    from smendpoint.handlers._chat_answers import read_completion

    found = _answers.answer_text(value)
    kind = None if found is None else found[0]
    if kind is not None and kind != "chat":
        first = _answers.TEXT_FORMATS[kind].readers[0]
        yield 'JumpStartTextHandler("flan-t5")' if first == "JumpStartTextHandler" else first
    else:
        with suppress(HandlerError):
            if read_completion(value) is not None:
                yield "JumpStartChatHandler" if "generation" in (_answers.first_object(value) or {}) else "ChatHandler"
    for name, reader in (
        ("ClassificationHandler", _scores.read_classes),
        ("RerankHandler", _scores.read_ranking),
        ("SimilaritySearchHandler", _scores.read_neighbours),
        ("SparseEmbeddingsHandler", _scores.read_sparse),
    ):
        if reader(value):
            yield name
    for options in ({}, {"pooling": "mean"}, *({"embedding_type": name} for name in _numbers.EMBEDDING_TYPES)):
        with suppress(HandlerError):
            if _numbers.read_vectors(value, **options):
                shown = ", ".join(f'{name}="{option}"' for name, option in options.items())
                yield f"EmbeddingsHandler({shown})" if shown else "EmbeddingsHandler"
                break
    with suppress(HandlerError):
        predictions, _ = _numbers.read_predictions(value, None, "TabularHandler") or ([], "")
        rows = [item if isinstance(item, list) else [item] for item in predictions]
        if rows and all(_numbers.convert(cell, float) is not None for row in rows for cell in row):
            plain = all(len(row) == 1 for row in rows)
            yield f'{"TabularHandler" if plain else "TabularRowsHandler"}(response="json")'


def _streamed_by(value: JSONValue) -> str | None:
    """Name the handler that reads this as an item of a stream, if one does."""
    if isinstance(value, dict):
        token, choices = value.get("token"), value.get("choices")
        if (
            isinstance(token, dict)
            and isinstance(token.get("text"), str)
            and token.get("special") in (None, True, False)
        ):
            return "TextGenerationHandler"
        choice = choices[0] if isinstance(choices, list) and choices else None
        if isinstance(choice, dict) and choice.get("index") in (None, 0) and _is_delta(choice.get("delta")):
            return "ChatHandler"
    return None


def _is_delta(value: JSONValue) -> bool:
    from smendpoint.handlers._answers import message_text
    from smendpoint.handlers._chat_answers import call_piece, listed_calls, reasoning_text

    try:
        if isinstance(value, dict):
            message_text(value.get("content"))
            reasoning_text(value)
            for piece in listed_calls(value.get("tool_calls")):
                call_piece(piece)
            return True
    except HandlerError:
        pass
    return False
