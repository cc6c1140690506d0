"""The whole answers of chat models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint.errors import HandlerError
from smendpoint.handlers._answers import content_text, first_object, last_reply
from smendpoint.handlers._chat_types import ChatCompletion, ToolCall
from smendpoint.handlers._details import answer_details
from smendpoint.handlers._json import encode_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint._container_errors import JSONValue

__all__ = ["argument_text", "call_function", "read_completion", "reasoning_text"]


def read_completion(value: JSONValue) -> ChatCompletion | None:
    """Read OpenAI's ``choices[0].message``, JumpStart Llama's ``generation`` or what the Hugging Face pipeline's
    conversation, ``generated_text``, ends with; ``None`` for any other shape.

    Raises:
        HandlerError: a field of the message is of another type than it can be.
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
    content = message.get("content")
    text = content_text(content)
    if text is None and content is not None:
        raise HandlerError(
            'The "content" of the answer\'s message is neither text nor a list of parts with a "type", and with "text" '
            "where that is their type."
        )
    calls = _tool_calls(message.get("tool_calls"))
    reasoning = reasoning_text(message)
    if text is None and "content" not in message and not calls and reasoning is None:
        return None
    details = answer_details(value)
    return ChatCompletion(text or "", calls, reasoning, details.finish_reason, details.usage, answer)


def reasoning_text(message: Mapping[str, JSONValue]) -> str | None:
    """Give the reasoning of a message or a delta: ``reasoning_content``, or ``reasoning`` from vLLM 0.16 on."""
    for name in ("reasoning_content", "reasoning"):
        reasoning = message.get(name)
        if isinstance(reasoning, str):
            return reasoning
        if reasoning is not None:
            raise HandlerError(f'The "{name}" of the answer is not text.')
    return None


def argument_text(arguments: JSONValue) -> str:
    """Give a tool call's arguments as text; TGI sends them as an object."""
    if isinstance(arguments, str):
        return arguments
    if arguments is None:
        return ""
    if not isinstance(arguments, dict):
        raise HandlerError('The "arguments" of a tool call are neither text nor an object.')
    return encode_json(arguments).decode()


def call_function(call: JSONValue) -> tuple[str, str, dict[str, JSONValue]]:
    """Give a tool call's id and name, each empty where it is not said, and its function."""
    if not isinstance(call, dict):
        raise HandlerError('An item of the answer\'s "tool_calls" is not an object.')
    function, call_id = call.get("function"), call.get("id")
    if function is None:
        function = {}
    if not isinstance(function, dict):
        raise HandlerError('The "function" of a tool call is not an object.')
    name = function.get("name")
    if isinstance(call_id, int) and not isinstance(call_id, bool):
        call_id = str(call_id)
    for field, said in (("id", call_id), ("name", name)):
        if said is not None and not isinstance(said, str):
            raise HandlerError(f'The "{field}" of a tool call is not text.')
    return str(call_id or ""), str(name or ""), function


def _tool_calls(calls: JSONValue) -> tuple[ToolCall, ...]:
    if calls is None:
        return ()
    if not isinstance(calls, (list, dict)):
        raise HandlerError('The "tool_calls" of the answer\'s message are not a list.')
    read: list[ToolCall] = []
    for call in calls if isinstance(calls, list) else [calls]:
        call_id, name, function = call_function(call)
        if not name:
            raise HandlerError('An item of the answer\'s "tool_calls" has no "function" with a "name".')
        read.append(ToolCall(call_id, name, argument_text(function.get("arguments"))))
    return tuple(read)
