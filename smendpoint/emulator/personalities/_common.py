"""What the personalities share: reading requests, cutting text into tokens."""

from __future__ import annotations

import json
import re
from typing import Any, cast

from smendpoint.emulator.models import ModelReply, ModelRequest

__all__ = ["Refused", "dump", "generate", "json_body", "json_reply"]

_TOKEN = re.compile(r"\s*\S+|\s+\Z")


class Refused(Exception):
    """The container does not take this request."""


def dump(value: object) -> str:
    """Writes JSON with its characters as they are, so that streams have multi-byte characters to be cut in."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def json_reply(value: object, *, status: int = 200, content_type: str = "application/json") -> ModelReply:
    """Makes an answer of one JSON value."""
    return ModelReply(dump(value), status=status, content_type=content_type)


def json_body(request: ModelRequest) -> dict[str, Any]:
    """Reads a request that must be a JSON object.

    Raises:
        Refused: It is not.
    """
    try:
        value: Any = json.loads(request.body)
    except ValueError:
        raise Refused("the body is not JSON") from None
    if not isinstance(value, dict):
        raise Refused("the body is not a JSON object")
    return cast("dict[str, Any]", value)


def generate(text: str, *, limit: int | None, stop: list[str]) -> tuple[list[str], str]:
    """Cuts an answer into tokens, under a model's limits.

    Args:
        text: the whole answer.
        limit: the most tokens that are wanted.
        stop: strings at which the answer ends.

    Returns:
        The tokens (words with the blank before them), and why they end: ``"length"``, ``"stop_sequence"``,
        ``"eos_token"``.
    """
    ends = [position for position in (text.find(word) for word in stop if word) if position >= 0]
    reason = "eos_token"
    if ends:
        text, reason = text[: min(ends)], "stop_sequence"
    tokens = _TOKEN.findall(text)
    if limit is not None and len(tokens) > limit:
        tokens, reason = tokens[:limit], "length"
    return tokens, reason
