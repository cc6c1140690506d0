"""The text in the answers of the containers that generate text. What is said about it is in `_details`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smendpoint._container_errors import JSONValue

__all__ = ["answer_text", "content_text", "first_object"]

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
