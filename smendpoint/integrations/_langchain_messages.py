"""Conversions between LangChain's messages and the inputs and outputs of content handlers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, convert_to_openai_messages
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk

from smendpoint.errors import HandlerError
from smendpoint.handlers import ChatCompletion
from smendpoint.handlers._chat_answers import ChatChunk
from smendpoint.integrations._langchain_base import PROVIDER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smendpoint.handlers.base import Usage

__all__ = ["from_chunk", "from_output", "metadata_of", "to_openai", "usage_of"]

# Blocks of an answer's content that containers do not take back: tool calls have a field, and reasoning is left out.
_NOT_SENT = {
    "invalid_tool_call",
    "non_standard",
    "reasoning",
    "redacted_thinking",
    "server_tool_call",
    "server_tool_result",
    "thinking",
    "tool_call",
    "tool_call_chunk",
}


def to_openai(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Convert messages to the form of OpenAI's chat completions."""
    made: list[dict[str, Any]] = []
    for message in messages:
        if isinstance(message, AIMessage):
            made.append(_answer_to_openai(message))
        else:  # results of tools inside a user message become messages before it
            made += convert_to_openai_messages([message])
    return made


def _answer_to_openai(message: AIMessage) -> dict[str, Any]:
    if isinstance(message.content, list):
        kept = [part for part in message.content if isinstance(part, str) or part.get("type") not in _NOT_SENT]
        message = message.model_copy(update={"content": kept})
    answer = convert_to_openai_messages(message)
    answer["content"] = answer.get("content") or ""
    if message.invalid_tool_calls:  # the results that answer them follow
        functions = [
            {
                "type": "function",
                "id": call["id"],
                "function": {"name": call["name"] or "", "arguments": call["args"] or ""},
            }
            for call in message.invalid_tool_calls
        ]
        answer["tool_calls"] = [*answer.get("tool_calls", []), *functions]
    return answer


def from_output(output: Any) -> AIMessage:
    """Make a message from a content handler's output: a `ChatCompletion`, a text, or a LangChain message."""
    if isinstance(output, ChatCompletion):
        raw = output.raw or {}
        message = AIMessage(
            output.text,
            additional_kwargs=_reasoning(output.reasoning),
            response_metadata=metadata_of(raw, output.finish_reason),
            usage_metadata=usage_of(output.usage, raw),
        )
        for call in output.tool_calls:
            try:
                arguments = call.parse_arguments()
            except HandlerError as error:
                arguments, reason = None, error.message
            else:
                reason = f"The model's arguments for the tool {call.name!r} are not an object."
            if isinstance(arguments, dict):
                message.tool_calls.append(tool_call(name=call.name, args=arguments, id=call.id))
            else:
                wrong = invalid_tool_call(name=call.name, args=call.arguments, id=call.id, error=reason)
                message.invalid_tool_calls.append(wrong)
        return message
    if isinstance(output, AIMessage):
        return output
    return AIMessage(_text(output))


def from_chunk(chunk: Any) -> AIMessageChunk | None:
    """Make a message chunk from a decoder's chunk; ``None`` if that is empty."""
    if isinstance(chunk, ChatChunk):
        if not (chunk.text or chunk.reasoning or chunk.tool_calls):
            return None
        calls = [
            tool_call_chunk(name=piece.name or None, args=piece.arguments, id=piece.id or None, index=piece.call_index)
            for piece in chunk.tool_calls
        ]
        return AIMessageChunk(content=chunk.text, additional_kwargs=_reasoning(chunk.reasoning), tool_call_chunks=calls)
    if isinstance(chunk, AIMessageChunk):
        return chunk
    if isinstance(chunk, AIMessage):
        return AIMessageChunk(**chunk.model_dump(exclude={"type"}))
    text = _text(chunk)
    return AIMessageChunk(content=text) if text else None


def _text(output: Any) -> str:
    if isinstance(output, str):
        return output
    raise HandlerError(
        f"ChatSageMaker needs a content handler that returns a ChatCompletion, a text or an AIMessage, not "
        f"{type(output).__name__}: ChatHandler() reads the answers of chat models"
    )


def _reasoning(text: str | None) -> dict[str, Any]:
    """Return the reasoning in the place where LangChain expects it."""
    return {"reasoning_content": text} if text else {}


def metadata_of(raw: Mapping[str, Any], finish_reason: str | None, **more: Any) -> dict[str, Any]:
    """Return a message's ``response_metadata``: facts from the container and the service."""
    choices = raw.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else {}
    found = {
        "finish_reason": finish_reason,
        "id": raw.get("id"),
        "logprobs": choice.get("logprobs"),
        "model_name": raw.get("model"),
        "model_provider": PROVIDER,
        "system_fingerprint": raw.get("system_fingerprint"),
        **more,
    }
    return {name: value for name, value in found.items() if value is not None}


def usage_of(usage: Usage | None, raw: Mapping[str, Any]) -> UsageMetadata | None:
    """Return the token counts with LangChain's names; ``None`` if there are none."""
    if usage is None or (usage.prompt_tokens is None and usage.completion_tokens is None):
        return None
    asked, generated = usage.prompt_tokens or 0, usage.completion_tokens or 0
    made = UsageMetadata(
        input_tokens=asked, output_tokens=generated, total_tokens=usage.total_tokens or asked + generated
    )
    counts = raw.get("usage")
    inputs = _counts(counts, "prompt_tokens_details", audio="audio_tokens", cache_read="cached_tokens")
    outputs = _counts(counts, "completion_tokens_details", audio="audio_tokens", reasoning="reasoning_tokens")
    if inputs:
        made["input_token_details"] = cast("InputTokenDetails", inputs)
    if outputs:
        made["output_token_details"] = cast("OutputTokenDetails", outputs)
    return made


def _counts(usage: Any, field: str, **names: str) -> dict[str, int]:
    details = usage.get(field) if isinstance(usage, Mapping) else None
    if not isinstance(details, Mapping):
        return {}
    found = {ours: details.get(theirs) for ours, theirs in names.items()}
    return {name: count for name, count in found.items() if isinstance(count, int)}
