"""The text in the answers of the containers that generate text. What is said about it is in `_details`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint.errors import HandlerError

if TYPE_CHECKING:
    from smendpoint._container_errors import JSONValue

__all__ = [
    "ALL_KINDS",
    "GENERATION_KINDS",
    "JUMPSTART_KINDS",
    "TEXT_FIELDS",
    "answer_text",
    "content_text",
    "first_object",
    "last_reply",
    "message_text",
]

# The kinds of answers, as `answer_text` names them:
#   generated_text    {"generated_text": "..."}, alone, in a list, or in a list of lists; or a conversation, whose last
#                     message is the answer (the Hugging Face pipeline's)
#   summary_text      {"summary_text": "..."} (summarization)
#   translation_text  {"translation_text": "..."} (translation)
#   text_output       {"text_output": "..."} (Triton)
#   generated_texts   {"generated_texts": ["..."]}
#   outputs           {"outputs": ["..."]}
#   generation        {"generation": "..."}, alone, in a list, or as the "body" of LMI's third-party schema
#   completion        {"choices": [{"text": "..."}]}
#   chat              {"choices": [{"message": {...}}]} or {"generation": {"role": ..., "content": ...}}
_ONE_TEXT = ("generated_text", "summary_text", "translation_text", "text_output")
_MANY_TEXTS = ("generated_texts", "outputs")
_TEXTS = (*_ONE_TEXT, *_MANY_TEXTS)

TEXT_FIELDS = frozenset({*_ONE_TEXT, "generation"})
"""The fields that hold the text itself, and so are no details."""

GENERATION_KINDS = frozenset({*_ONE_TEXT, "generation", "outputs"})
JUMPSTART_KINDS = frozenset({"generated_text", "generated_texts", "generation"})
ALL_KINDS = frozenset({*_TEXTS, "generation", "completion", "chat"})


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
    for kind in _TEXTS:
        if kind in answer:
            text = _text_in(answer[kind])
            if text is not None:
                return kind, text
    body = answer.get("body")
    generation = body.get("generation") if isinstance(body, dict) else answer.get("generation")
    if isinstance(generation, str):
        return "generation", generation
    if isinstance(generation, dict):
        text = content_text(generation.get("content"))
        return None if text is None else ("chat", text)
    return None


def _text_in(value: JSONValue) -> str | None:
    """Give a field's text: itself, the first of several, or what a conversation ends with."""
    if isinstance(value, list) and value and isinstance(value[0], str):
        value = value[0]
    if isinstance(value, str):
        return value
    reply = last_reply(value)
    return None if reply is None else content_text(reply.get("content"))


def last_reply(messages: JSONValue) -> dict[str, JSONValue] | None:
    """Give the message with which the assistant ends a conversation; ``None`` where somebody else has the last word."""
    last = messages[-1] if isinstance(messages, list) and messages else None
    return last if isinstance(last, dict) and last.get("role") == "assistant" else None


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
    if not isinstance(content, list):
        return None
    texts: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get("text") if isinstance(part, dict) and kind == "text" else ""
        if not isinstance(kind, str) or not isinstance(text, str):
            return None
        texts.append(text)
    return "".join(texts)


def message_text(content: JSONValue) -> str | None:
    """Give the text of a message's or a delta's content; ``None`` where there is none."""
    text = content_text(content)
    if text is None and content is not None:
        raise HandlerError(
            'The "content" of the answer\'s message is neither text nor a list of parts with a "type", and with "text" '
            "where that is their type."
        )
    return text
