"""JSON for handlers: bytes in both directions, and errors that never show the values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

from smendpoint._core.http.body import ObservedBody
from smendpoint._core.json import parse_json
from smendpoint.errors import ConfigurationError, HandlerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint._container_errors import JSONValue

ErrorsOption: TypeAlias = Literal["strict", "replace"]
"""How half a character is handled, in the words of Python's codecs: an error, or U+FFFD."""


def check_errors(errors: object) -> None:
    """Raise `ConfigurationError` for an ``errors=`` that is neither ``"strict"`` nor ``"replace"``."""
    if errors not in get_args(ErrorsOption):
        raise ConfigurationError(f"errors must be 'strict' or 'replace', not {errors!r}")


def is_missing(value: object) -> bool:
    """Return whether a value is ``None``, or pandas' ``NA`` or ``NaT``, by name: nothing here imports pandas."""
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _plain(value: Any) -> Any:
    """Convert NumPy's numbers, arrays of them, and pandas' missing values to values that `json` knows.

    Raises:
        TypeError: the value is something else.
    """
    if is_missing(value):
        return None
    dtype: Any = getattr(value, "dtype", None)
    # Truth values, integers, floats, texts and objects. Dates would become numbers of nanoseconds, and a long double
    # would stay one.
    if getattr(dtype, "kind", None) in (*"biufUO",) and getattr(dtype, "char", "") != "g" and hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError


# NaN and Infinity are not JSON, though Python would write them. Plain ASCII survives every proxy and container.
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_plain).encode
_MAX_KEYS = 12
_MAX_KEY_LENGTH = 40
_MAX_DEPTH = 4
_SCALARS = {str: "text", int: "number", float: "number", bool: "true/false", type(None): "null"}


def encode_json(value: Any) -> bytes:
    """Return a value as JSON.

    Raises:
        HandlerError: the value cannot be written as JSON; the message names the place and the type, never the value.
    """
    try:
        return _encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = _unserialisable(value, "the input", 0) or f"{type(error).__name__}, as for a value that holds itself"
        raise HandlerError(f"The input cannot be written as JSON: {reason}.") from None


def encode_request(field: str, value: Any, place: str | None, model_kwargs: Mapping[str, Any]) -> bytes:
    """Return a request as JSON: an input in its field, with the model parameters in the field `place` or next to it."""
    if place is None:
        return encode_json({field: value, **model_kwargs})
    return encode_json({field: value, place: model_kwargs} if model_kwargs else {field: value})


def encode_text(text: str) -> bytes:
    """Encode a text in UTF-8. Raise `HandlerError` if it holds half of a surrogate pair."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise HandlerError(
            f"The input cannot be written as UTF-8: {error.reason} at character {error.start}."
        ) from None


def is_bytes(value: object) -> bool:
    """Return whether an input is bytes, which are sent unchanged."""
    return isinstance(value, (bytes, bytearray, memoryview))


def refuse_parameters(subject: str, model_kwargs: Mapping[str, Any]) -> None:
    """Raise `HandlerError` if there are model parameters for a handler or format that has no place for them."""
    if model_kwargs:
        raise HandlerError(f"{subject} has no place for model parameters: {', '.join(sorted(model_kwargs))}.")


def raw_body(handler: str, prompt: object, model_kwargs: Mapping[str, Any], content_type: str = "") -> bytes:
    """Return an input that is bytes, or text in UTF-8.

    Raises:
        HandlerError: the input is neither, there are model parameters, which have no place, or the media type is that
            of JSON, and the input is bytes of something else, such as an image.
    """
    refuse_parameters(handler, model_kwargs)
    if content_type == "application/json":
        raise HandlerError(f'{handler} sends bytes with their media type: set it, as in content_type="image/png".')
    if isinstance(prompt, str):
        return encode_text(prompt)
    if isinstance(prompt, (bytes, bytearray)):
        return bytes(prompt)
    if isinstance(prompt, memoryview):
        return prompt.tobytes()
    raise HandlerError(f"{handler} sends bytes or a str, but this input is of type {type(prompt).__name__}.")


def decode_json(output: bytes, handler: str, errors: str = "strict") -> JSONValue:
    """Parse a JSON answer.

    Args:
        output: the answer.
        handler: the name of the handler, for messages.
        errors: how half a character is handled: ``"strict"`` or ``"replace"``.

    Raises:
        HandlerError: the answer is not JSON, or has half a character; the message never shows the answer.
    """
    if type(output) is ObservedBody and output.parsed is not None:
        return cast("JSONValue", output.parsed)
    try:
        # No guess at the encoding: JSON between systems is UTF-8 (RFC 8259, 8.1).
        text = output.decode()
        value: JSONValue = parse_json(text)
    except ValueError as error:
        # Do not chain: the parser's exceptions hold the whole text.
        raise HandlerError(f"{handler} expects JSON, but {_not_json(output, error)}") from None
    if "\\ud" in text or "\\uD" in text:
        from smendpoint.handlers._halves import mend_json

        value = mend_json(value, replace=errors == "replace")
    if type(output) is ObservedBody:
        output.parsed = value
    return value


def describe(value: JSONValue, depth: int = 0) -> str:
    """Draw the structure of a parsed answer: its keys and types, and none of its values."""
    if isinstance(value, dict):
        if depth == _MAX_DEPTH:
            return "{...}"
        shown = [f"{_key(key)}: {describe(item, depth + 1)}" for key, item in [*value.items()][:_MAX_KEYS]]
        if len(value) > _MAX_KEYS:
            shown.append(f"and {len(value) - _MAX_KEYS} more")
        return "{" + ", ".join(shown) + "}"
    if isinstance(value, list):
        if not value or depth == _MAX_DEPTH:
            return "[...]" if value else "[]"
        rest = f", ... {len(value)} in all" if len(value) > 1 else ""
        return f"[{describe(value[0], depth + 1)}{rest}]"
    return _SCALARS[type(value)]


def _key(key: str) -> str:
    return repr(key if len(key) <= _MAX_KEY_LENGTH else key[:_MAX_KEY_LENGTH] + "...")


def _not_json(output: bytes, error: Exception) -> str:
    start = output[:64].lstrip()
    if not start:
        return "the answer is empty."
    if start.startswith(b"data:"):
        return "the answer is a stream of server-sent events: use stream(), or do not ask the model to stream."
    if start[:1] == b"<":
        return "the answer looks like HTML or XML."
    if start.startswith(b"\x93NUMPY"):
        return "the answer is a NumPy array: use NumPyHandler."
    position = getattr(error, "pos", None)
    where = "" if position is None else f" (parsing stops at character {position})"
    return f"the answer of {len(output)} bytes is not{where}. TextHandler or BytesHandler reads it unchanged."


def _unserialisable(value: Any, place: str, depth: int) -> str | None:
    """Return why a value cannot be written as JSON; ``None`` if no reason is found."""
    if not isinstance(value, (dict, list, tuple, str, int, float)):
        try:
            value = _plain(value)
        except TypeError:
            return f"{place} is of type {type(value).__name__}"
    if isinstance(value, float):
        return f"{place} is not a finite number" if value != value or value in (float("inf"), -float("inf")) else None
    if isinstance(value, int):
        try:
            int.__repr__(value)
        except ValueError:
            return f"{place} is an integer with more digits than Python writes"
    if depth > 20 or isinstance(value, (str, int)) or value is None:
        return None
    members = cast("Mapping[Any, Any]", value).items() if isinstance(value, dict) else enumerate(value)
    for key, item in members:
        if not isinstance(key, (str, int, float)) and key is not None:
            return f"{place} has a key of type {type(key).__name__}"
        found = _unserialisable(item, f"{place}[{key!r}]", depth + 1)
        if found:
            return found
    return None
