"""The whole answers of chat models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint.errors import HandlerError
from smendpoint.handlers._answers import first_object, last_reply, message_text
from smendpoint.handlers._chat_types import ChatCompletion, ToolCall
from smendpoint.handlers._details import answer_details
from smendpoint.handlers._json import encode_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from smendpoint._container_errors import JSONValue

__all__ = [
    "call_piece",
    "check_named",
    "listed_calls",
    "read_completion",
    "reasoning_text",
]


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
    text = message_text(message.get("content"))
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


def _argument_text(arguments: JSONValue) -> str:
    """Give a tool call's arguments as text; TGI sends them as an object."""
    if isinstance(arguments, str):
        return arguments
    if arguments is None:
        return ""
    if not isinstance(arguments, dict):
        raise HandlerError('The "arguments" of a tool call are neither text nor an object.')
    return encode_json(arguments).decode()


def _call_function(call: JSONValue) -> tuple[str, str, dict[str, JSONValue]]:
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


def call_piece(piece: JSONValue) -> tuple[int | None, str, str, str]:
    """Give what a piece of a streamed tool call says: its index, and its id, name and arguments, each maybe empty."""
    call_id, name, function = _call_function(piece)
    index = piece.get("index") if isinstance(piece, dict) else None
    if index is not None and (not isinstance(index, int) or isinstance(index, bool)):
        raise HandlerError('The "index" of a tool call is not a whole number.')
    return index, call_id, name, _argument_text(function.get("arguments"))


def listed_calls(calls: JSONValue) -> list[JSONValue]:
    """Give the tool calls of a message or a delta; TGI sends a single one without its list."""
    if calls is None:
        return []
    if not isinstance(calls, (list, dict)):
        raise HandlerError('The "tool_calls" of the answer\'s message are not a list.')
    return calls if isinstance(calls, list) else [calls]


def check_named(calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
    """Give whole tool calls, each of which must name its function."""
    named = tuple(calls)
    if not all(call.name for call in named):
        raise HandlerError('An item of the answer\'s "tool_calls" has no "function" with a "name".')
    return named


def _tool_calls(calls: JSONValue) -> tuple[ToolCall, ...]:
    read: list[ToolCall] = []
    for call in listed_calls(calls):
        call_id, name, function = _call_function(call)
        read.append(ToolCall(call_id, name, _argument_text(function.get("arguments"))))
    return check_named(read)
