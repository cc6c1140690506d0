"""How the containers that people run on SageMaker say in JSON that something went wrong.

Read from the containers' sources: text-generation-inference and text-embeddings-inference (``error``/``error_type``),
DJL LMI (``error``/``code``/``message``, or a final token or choice with ``finish_reason`` ``"error"``), vLLM and SGLang
(OpenAI's error object, nested, or flat with ``object: "error"``), the multi-model server under the Hugging Face and DJL
toolkits (``code``/``type``/``message``), FastAPI (``detail``).
"""

# Without `from __future__ import annotations`: see `_aws/url.py`.
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

__all__ = ["ContainerError", "JSONValue", "container_error", "parse_container_error"]

JSONValue: TypeAlias = "dict[str, JSONValue] | list[JSONValue] | str | int | float | bool | None"


class ContainerError(NamedTuple):
    """A container's own error.

    Attributes:
        code: its status or error code as it gave it; ``None`` where it gave none.
        type: its name for the error, such as ``"validation"``; ``None`` where it gave none.
        message: its message; empty where it gave none.
    """

    code: int | str | None
    type: str | None
    message: str


def container_error(value: JSONValue) -> ContainerError | None:
    """Give the error that a parsed answer reports; ``None`` where it reports none.

    Only what no answer can be is taken for an error: an answer that has a field named ``message``, or an ``error`` that
    is empty or a number, is none.
    """
    if isinstance(value, list):
        return container_error(value[0]) if len(value) == 1 else None
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if isinstance(error, str) and error:
        prefix = value.get("message")
        said = f"{prefix}: {error}" if isinstance(prefix, str) and prefix and prefix != error else error
        return ContainerError(_code(value), _text(value, "error_type", "type"), said)
    if isinstance(error, dict) and error:
        return ContainerError(_code(error), _text(error, "type", "error_type"), _text(error, "message", "error") or "")
    if value.get("object") == "error":
        return ContainerError(_code(value), _text(value, "type"), _text(value, "message") or "")
    code, kind, message = value.get("code"), value.get("type"), value.get("message")
    if isinstance(code, int) and code >= 400 and isinstance(message, str) and (kind is None or isinstance(kind, str)):
        return ContainerError(code, kind, message)
    choices = value.get("choices")
    for told in (value.get("details"), choices[0] if isinstance(choices, list) and choices else None):
        if isinstance(told, dict) and told.get("finish_reason") == "error":
            return ContainerError(_code(value), None, "")
    return None


def parse_container_error(text: str) -> ContainerError | None:
    """Give the error in the text of a container's error response; ``None`` where it is not JSON of a known shape.

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
    if isinstance(detail, list):  # FastAPI's validation errors: one object for each
        messages = [_text(item, "msg") or "" for item in detail if isinstance(item, dict)]
        return ContainerError(_code(value), None, "; ".join(messages))
    message = _text(value, "message", "Message", "detail")
    return None if message is None else ContainerError(_code(value), _text(value, "type"), message)


def _code(value: Mapping[str, JSONValue]) -> int | str | None:
    for name in ("code", "http_status_code"):
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
