"""The messages for chat models and their answers: types, checks and readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from smendpoint.errors import HandlerError
from smendpoint.handlers._answers import answer_details, first_object, last_reply, message_text
from smendpoint.handlers._json import encode_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from smendpoint._container_errors import JSONValue
    from smendpoint.handlers.base import Usage

ChatInput: TypeAlias = "str | Sequence[Mapping[str, Any]]"
"""Messages, oldest first, each a mapping with ``role`` and ``content``; or a ``str``: one user message."""


class ToolCall(NamedTuple):
    """A function that the model wants called.

    Attributes:
        id: the id of the call, which its result (a message with the role ``"tool"``) repeats; empty if none was given.
        name: the function's name.
        arguments: its arguments: JSON as the model wrote it, which may be invalid.
    """

    id: str
    name: str
    arguments: str

    def parse_arguments(self) -> Any:
        """Return the parsed arguments; an empty text counts as no arguments.

        Raises:
            HandlerError: the model did not write JSON.
        """
        from smendpoint._core.json import parse_json

        if not self.arguments.strip():
            return {}
        try:
            return parse_json(self.arguments)
        except ValueError:
            raise HandlerError(f"The model's arguments for the tool {self.name!r} are not JSON.") from None


class ToolCallDelta(NamedTuple):
    """A piece of a tool call in a stream.

    Attributes:
        call_index: the tool call that it belongs to: pieces of one call have the same number, and no other call has it.
            It is the server's number if that is unique (some servers number all calls 0).
        id: the call's id, in its first piece; otherwise empty.
        name: the function's name, in its first piece; otherwise empty.
        arguments: the next piece of its arguments.
    """

    call_index: int
    id: str
    name: str
    arguments: str


class ChatCompletion(NamedTuple):
    """A chat model's whole answer. ``str()`` of it is its text.

    Attributes:
        text: the model's text; empty if it only calls tools.
        tool_calls: the functions that it wants called.
        reasoning: its reasoning before the text, if the container separates it; otherwise ``None``.
        finish_reason: why it stopped, in the container's word (``"stop"``, ``"length"``, ``"tool_calls"`` ...).
        usage: the token counts.
        raw: the parsed answer, or the last chunk of a stream, for fields that have no attribute here.
    """

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    raw: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return self.text

    def replace_text(self, text: str) -> ChatCompletion:
        """Return a copy of the answer with another text."""
        return self._replace(text=text)

    def to_message(self) -> dict[str, Any]:
        """Convert the answer to the message that continues the conversation."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text or (None if self.tool_calls else "")}
        if self.tool_calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self.tool_calls
            ]
        return message


class ChatChunk(NamedTuple):
    """A piece of a chat model's streamed answer. ``str()`` of it is its text.

    Attributes:
        text: the next piece of the model's text; may be empty.
        reasoning: the next piece of its reasoning; may be empty.
        tool_calls: the next pieces of tool calls. The decoder's ``completion`` has the whole calls.
        finish_reason: why the model stopped, in the last chunk.
    """

    text: str
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    finish_reason: str | None = None

    def __str__(self) -> str:
        return self.text

    def replace_text(self, text: str) -> ChatChunk:
        """Return a copy of the chunk with another text."""
        return self._replace(text=text)


def read_completion(value: JSONValue) -> ChatCompletion | None:
    """Read OpenAI's ``choices[0].message``, JumpStart Llama's ``generation``, or the last message of the Hugging Face
    pipeline's conversation in ``generated_text``; give ``None`` for any other shape.

    Raises:
        HandlerError: a field of the message has an unexpected type.
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
    calls = check_named(map(_read_call, listed_calls(message.get("tool_calls"))))
    reasoning = reasoning_text(message)
    if text is None and "content" not in message and not calls and reasoning is None:
        return None
    details = answer_details(value)
    return ChatCompletion(text or "", calls, reasoning, details.finish_reason, details.usage, answer)


def reasoning_text(message: Mapping[str, JSONValue]) -> str | None:
    """Return the reasoning of a message or a delta: ``reasoning_content``, or ``reasoning`` from vLLM 0.16 on."""
    for name in ("reasoning_content", "reasoning"):
        reasoning = message.get(name)
        if isinstance(reasoning, str):
            return reasoning
        if reasoning is not None:
            raise HandlerError(f'The "{name}" of the answer is not text.')
    return None


def refusal_text(value: JSONValue | Mapping[str, Any]) -> str:
    """Return the text of a model that refuses to answer: ``refusal`` of the first message, or of its delta."""
    choices: Any = value.get("choices") if isinstance(value, Mapping) else None
    choice: Any = choices[0] if isinstance(choices, list) and choices else None
    message: Any = (choice.get("message") or choice.get("delta")) if isinstance(choice, dict) else None
    refusal: Any = message.get("refusal") if isinstance(message, dict) else None
    return refusal if isinstance(refusal, str) else ""


def _read_call(call: JSONValue) -> ToolCall:
    """Read a tool call, or a piece of one, with an empty text for each field that it does not have."""
    if not isinstance(call, dict):
        raise HandlerError('An item of the answer\'s "tool_calls" is not an object.')
    function, call_id = call.get("function"), call.get("id")
    if function is None:
        function = {}
    if not isinstance(function, dict):
        raise HandlerError('The "function" of a tool call is not an object.')
    name, arguments = function.get("name"), function.get("arguments")
    if isinstance(call_id, int) and not isinstance(call_id, bool):
        call_id = str(call_id)
    for field, said in (("id", call_id), ("name", name)):
        if said is not None and not isinstance(said, str):
            raise HandlerError(f'The "{field}" of a tool call is not text.')
    if isinstance(arguments, dict):  # TGI's
        arguments = encode_json(arguments).decode()
    if arguments is not None and not isinstance(arguments, str):
        raise HandlerError('The "arguments" of a tool call are neither text nor an object.')
    return ToolCall(str(call_id or ""), str(name or ""), arguments or "")


def call_piece(piece: JSONValue) -> tuple[int | None, ToolCall]:
    """Read a piece of a streamed tool call: its index, if it has one, and its fields, each of which may be empty."""
    call = _read_call(piece)
    index = piece.get("index") if isinstance(piece, dict) else None
    if index is not None and (not isinstance(index, int) or isinstance(index, bool)):
        raise HandlerError('The "index" of a tool call is not a whole number.')
    return index, call


def listed_calls(calls: JSONValue) -> list[JSONValue]:
    """Return the tool calls of a message or a delta; TGI sends a single one without its list."""
    if calls is None:
        return []
    if not isinstance(calls, (list, dict)):
        raise HandlerError('The "tool_calls" of the answer\'s message are not a list.')
    return calls if isinstance(calls, list) else [calls]


def check_named(calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
    """Return whole tool calls. Raise `HandlerError` if one does not name its function."""
    named = tuple(calls)
    if not all(call.name for call in named):
        raise HandlerError('An item of the answer\'s "tool_calls" has no "function" with a "name".')
    return named


def check_messages(prompt: object) -> list[dict[str, Any]]:
    """Return the messages of an input, after the checks that suit all containers.

    Args:
        prompt: messages, or a ``str`` that becomes one user message.

    Raises:
        HandlerError: it is neither; the error says which message is not valid and why, without showing it.
    """
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    if not isinstance(prompt, Sequence) or isinstance(prompt, (bytes, bytearray)):
        raise HandlerError(f"A chat takes a str or a sequence of messages, not {type(cast('Any', prompt)).__name__}.")
    messages = cast("Sequence[object]", prompt)
    if not messages:
        raise HandlerError("A chat needs at least one message.")
    return [_message(message, number) for number, message in enumerate(messages)]


def _message(message: object, number: int) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise HandlerError(f"Message {number} must be a mapping with role and content, not {type(message).__name__}.")
    fields: dict[str, Any] = dict(cast("Mapping[str, Any]", message))
    if not isinstance(fields.get("role"), str):
        raise HandlerError(f"Message {number} has no role (a str such as 'system', 'user' or 'assistant').")
    content: Any = fields.get("content")
    if isinstance(content, (list, tuple)):
        for index, part in enumerate(cast("Sequence[object]", content)):
            kind = cast("Mapping[str, Any]", part).get("type") if isinstance(part, Mapping) else None
            if not isinstance(kind, str):
                raise HandlerError(
                    f"Part {index} of message {number} has no type (a str such as 'text' or 'image_url')."
                )
    elif content is not None and not isinstance(content, str):
        raise HandlerError(
            f"The content of message {number} must be a str or a list of parts, not {type(content).__name__}."
        )
    elif content is None and fields["role"] != "assistant":
        # An assistant's message may have tool calls instead.
        raise HandlerError(f"Message {number} ({fields['role']!r}) has no content.")
    # In a fixed order, so that equal messages are equal bytes, which routing by prefix compares.
    first: dict[str, Any] = {name: fields[name] for name in ("role", "content") if name in fields}
    return {**first, **fields}
