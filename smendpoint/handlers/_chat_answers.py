"""The whole answers of chat models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint.handlers._answers import content_text, first_object, last_reply
from smendpoint.handlers._chat_types import ChatCompletion, ToolCall
from smendpoint.handlers._details import answer_details
from smendpoint.handlers._json import encode_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint._container_errors import JSONValue

__all__ = ["argument_text", "read_completion", "reasoning_text"]


def read_completion(value: JSONValue) -> ChatCompletion | None:
    """Read OpenAI's ``choices[0].message``, JumpStart Llama's ``generation`` or what the Hugging Face pipeline's
    conversation, ``generated_text``, ends with; ``None`` for any other shape.
    """
    answer = first_object(value)
    if answer is None:
        return None
    message = answer.get("generation") or last_reply(answer.get("generated_text"))
    choices = answer.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        message = choices[0].get("message")
    if not isinstance(message, dict):
        return None
    text = content_text(message.get("content"))
    calls = _tool_calls(message.get("tool_calls"))
    reasoning = reasoning_text(message)
    if text is None and "content" not in message and not calls and reasoning is None:
        return None
    details = answer_details(value)
    return ChatCompletion(text or "", calls, reasoning, details.finish_reason, details.usage, answer)


def reasoning_text(message: Mapping[str, JSONValue]) -> str | None:
    """Give the reasoning of a message or a delta: ``reasoning_content``, or ``reasoning`` from vLLM 0.16 on."""
    reasoning = message.get("reasoning_content")
    if reasoning is None:
        reasoning = message.get("reasoning")
    return reasoning if isinstance(reasoning, str) else None


def argument_text(arguments: JSONValue) -> str:
    """Give a tool call's arguments as text; TGI sends them as an object."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else encode_json(arguments).decode()


def _tool_calls(calls: JSONValue) -> tuple[ToolCall, ...]:
    read: list[ToolCall] = []
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(call, dict) and isinstance(function, dict):
            call_id, name = call.get("id"), function.get("name")
            read.append(
                ToolCall(
                    "" if call_id is None else str(call_id),
                    name if isinstance(name, str) else "",
                    argument_text(function.get("arguments")),
                )
            )
    return tuple(read)
