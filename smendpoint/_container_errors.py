"""The errors that the containers on SageMaker report in JSON.

Read from the containers' sources: text-generation-inference and text-embeddings-inference (``error``/``error_type``),
DJL LMI (``error``/``code``/``message``; ``error_msg``/``error_code`` in an ``error`` or in an ``error`` inside that; a
final token with ``error_msg``; a token, choice or body whose finish reason is ``"error"``), vLLM and SGLang (OpenAI's
error object, nested, or flat with ``object: "error"``), the multi-model server under the Hugging Face and DJL toolkits
(``code``/``type``/``message``), MLflow (``error_code``/``message``), FastAPI (``detail``).
"""

# Without `from __future__ import annotations`, for a quick cold start: see `_core`.
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

__all__ = ["ContainerError", "JSONValue", "container_error", "parse_container_error"]

JSONValue: TypeAlias = "dict[str, JSONValue] | list[JSONValue] | str | int | float | bool | None"


# An answer with none of these is not an error, unless its object or its choice says so. The `stop_reason` of a choice
# does not count: vLLM puts the stop sequence there, which may be any text.
_ERROR_FIELDS = frozenset({"error", "code", "details", "body", "token"})


class ContainerError(NamedTuple):
    """A container's own error.

    Attributes:
        code: its status or error code, unchanged; ``None`` if it gave none.
        type: its name for the error, such as ``"validation"``; ``None`` if it gave none.
        message: its message; empty if it gave none.
    """

    code: int | str | None
    type: str | None
    message: str


def container_error(value: JSONValue) -> ContainerError | None:
    """Return the error that a parsed answer reports; ``None`` if it reports none.

    Only a value that cannot be an answer is an error. A field named ``message`` alone, or an ``error`` that is empty or
    a number, is not enough.
    """
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        return None
    choices = value.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    failed = isinstance(choice, dict) and choice.get("finish_reason") == "error"
    if not failed and _ERROR_FIELDS.isdisjoint(value) and value.get("object") != "error":
        return None  # true of nearly all answers and chunks
    error = value.get("error")
    if isinstance(error, str) and error:
        prefix = value.get("message")
        said = f"{prefix}: {error}" if isinstance(prefix, str) and prefix and prefix != error else error
        return ContainerError(_code(value), _text(value, "error_type", "type"), said)
    if isinstance(error, dict) and error:
        inner = error.get("error")
        while isinstance(inner, dict) and inner:  # LMI's third-party schema nests errors
            error, inner = inner, inner.get("error")
        said = _text(error, "message", "error", "error_msg") or ""
        return ContainerError(_code(error), _text(error, "type", "error_type"), said)
    if value.get("object") == "error":
        return ContainerError(_code(value), _text(value, "type"), _text(value, "message") or "")
    code, kind, message = value.get("code"), value.get("type"), value.get("message")
    if isinstance(code, int) and code >= 400 and isinstance(message, str) and (kind is None or isinstance(kind, str)):
        return ContainerError(code, kind, message)
    return _ended_in_error(value) or (ContainerError(_code(value), None, "") if failed else None)


def _ended_in_error(value: Mapping[str, JSONValue]) -> ContainerError | None:
    """Return the error that ended a text: LMI reports it in the last token, the details or the body."""
    details, body, token = map(value.get, ("details", "body", "token"))
    tokens = details.get("tokens") if isinstance(details, dict) else None
    for last in (token, tokens[-1] if isinstance(tokens, list) and tokens else None):
        said = _text(last, "error_msg") if isinstance(last, dict) else None
        if said:
            return ContainerError(_code(value), None, said)
    for said_in, name in ((details, "finish_reason"), (body, "stop_reason")):
        if isinstance(said_in, dict) and said_in.get(name) == "error":
            return ContainerError(_code(value), None, "")
    return None


def parse_container_error(text: str) -> ContainerError | None:
    """Return the error in the text of a container's error response; ``None`` if it is not JSON of a known shape.

    The response is known to be an error, so a bare ``message`` or FastAPI's ``detail`` counts here too.
    """
    from json import loads

    try:
        value: JSONValue = loads(text)
    except (ValueError, RecursionError):
        return None
    found = container_error(value)
    if found is not None or not isinstance(value, dict):
        return found
    detail = value.get("detail")
    if isinstance(detail, list):  # FastAPI's validation errors: a list of objects
        messages = [_text(item, "msg") or "" for item in detail if isinstance(item, dict)]
        return ContainerError(_code(value), None, "; ".join(messages))
    message = _text(value, "message", "Message", "detail", "error_msg")
    if message is None and isinstance(detail, dict):
        value, message = detail, _text(detail, "message", "msg", "error", "error_msg")
    return None if message is None else ContainerError(_code(value), _text(value, "type"), message)


def _code(value: Mapping[str, JSONValue]) -> int | str | None:
    for name in ("code", "http_status_code", "error_code"):
        code = value.get(name)
        if isinstance(code, (int, str)) and not isinstance(code, bool):
            return code
    return None


def _text(value: Mapping[str, JSONValue], *names: str) -> str | None:
    for name in names:
        text = value.get(name)
        if isinstance(text, str):
            return text
    return None
