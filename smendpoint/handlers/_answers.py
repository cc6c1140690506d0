"""The text, and what is said about it, in the answers of the containers that generate text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint.handlers.base import OutputDetails, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint._container_errors import JSONValue

__all__ = ["answer_details", "answer_text", "content_text", "first_object", "generation_details", "usage_of"]

# The kinds of answers, as `answer_text` names them:
#   generated_text   {"generated_text": "..."}, alone, in a list, or in a list of lists
#   generated_texts  {"generated_texts": ["..."]}
#   generation       {"generation": "..."}, alone, in a list, or as the "body" of LMI's third-party schema
#   outputs          {"outputs": ["..."]}
#   completion       {"choices": [{"text": "..."}]}
#   chat             {"choices": [{"message": {...}}]} or {"generation": {"role": ..., "content": ...}}


def first_object(value: JSONValue) -> dict[str, JSONValue] | None:
    """Give an answer's object: itself, the first of a list, or the first of a list's first list."""
    for _ in range(2):
        if isinstance(value, list) and value:
            value = value[0]
    return value if isinstance(value, dict) else None


def answer_text(value: JSONValue) -> tuple[str, str] | None:
    """Give the kind of an answer and its (first) text; ``None`` where it is no known kind."""
    answer = first_object(value)
    if answer is None:
        return None
    choices = answer.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return _choice_text(choices[0])
    text = answer.get("generated_text")
    if isinstance(text, str):
        return "generated_text", text
    body = answer.get("body")
    generation = body.get("generation") if isinstance(body, dict) else answer.get("generation")
    if isinstance(generation, str):
        return "generation", generation
    if isinstance(generation, dict):
        text = content_text(generation.get("content"))
        return None if text is None else ("chat", text)
    for kind in ("generated_texts", "outputs"):
        texts = answer.get(kind)
        if isinstance(texts, list) and texts and isinstance(texts[0], str):
            return kind, texts[0]
    return None


def _choice_text(choice: dict[str, JSONValue]) -> tuple[str, str] | None:
    text = choice.get("text")
    if isinstance(text, str):
        return "completion", text
    message = choice.get("message")
    if isinstance(message, dict):
        text = content_text(message.get("content"))
        if text is not None:
            return "chat", text
    return None


def content_text(content: JSONValue) -> str | None:
    """Give the text of a message's content, a string or a list of parts; ``None`` for ``None`` and what is neither."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(text for text in texts if isinstance(text, str))
    return None


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
        return OutputDetails(reason if isinstance(reason, str) else None, usage_of(answer.get("usage")), extra or None)
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
    texts = ("generated_text", "generation")
    extra = {name: item for name, item in details.items() if name not in texts}
    return OutputDetails(reason if isinstance(reason, str) else None, usage, extra or None)


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
