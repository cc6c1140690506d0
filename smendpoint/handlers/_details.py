"""What the answers of the containers that generate text say beside the text: finish reason, token counts, the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint.handlers._answers import TEXT_FIELDS, first_object, reason_of
from smendpoint.handlers.base import OutputDetails, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint._container_errors import JSONValue

__all__ = ["answer_details", "generation_details", "usage_of"]


def answer_details(value: JSONValue) -> OutputDetails:
    """Give what an answer of any known kind says about itself."""
    answer = first_object(value)
    if answer is None:
        return OutputDetails()
    choices = answer.get("choices")
    if isinstance(choices, list):
        choice = choices[0] if choices else None
        extra: dict[str, JSONValue] = {}
        reason: JSONValue = None
        if isinstance(choice, dict):
            reason = choice.get("finish_reason")
            told = ("finish_reason", "index", "message", "text")
            extra = {name: item for name, item in choice.items() if name not in told and item is not None}
        return OutputDetails(reason_of(reason), usage_of(answer.get("usage")), extra or None)
    for name in ("details", "body"):
        details = answer.get(name)
        if isinstance(details, dict):
            return generation_details(details)
    return generation_details(answer)


def generation_details(details: Mapping[str, JSONValue]) -> OutputDetails:
    """Read TGI's and LMI's ``details``, or the counts of LMI's third-party schema beside the text."""
    reason = details.get("finish_reason") or details.get("stop_reason")
    prompt = _count(details, "input_length", "prompt_token_count", "prompt_tokens")
    completion = _count(details, "generated_tokens", "generation_token_count")
    usage = None
    if prompt is not None or completion is not None:
        usage = Usage(prompt, completion, None if prompt is None or completion is None else prompt + completion)
    extra = {name: item for name, item in details.items() if name not in TEXT_FIELDS}
    return OutputDetails(reason_of(reason), usage, extra or None)


def usage_of(value: JSONValue) -> Usage | None:
    """Read OpenAI's ``usage``; ``None`` where there is none."""
    if not isinstance(value, dict):
        return None
    return Usage(_count(value, "prompt_tokens"), _count(value, "completion_tokens"), _count(value, "total_tokens"))


def _count(values: Mapping[str, JSONValue], *names: str) -> int | None:
    for name in names:
        count = values.get(name)
        if isinstance(count, int) and not isinstance(count, bool):
            return count
    return None
