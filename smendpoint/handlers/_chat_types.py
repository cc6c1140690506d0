"""What chat models answer: typed, and light enough to be made for every token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from smendpoint.errors import HandlerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint.handlers.base import Usage

__all__ = ["ChatChunk", "ChatCompletion", "ToolCall", "ToolCallDelta"]


class ToolCall(NamedTuple):
    """A function that the model wants called.

    Attributes:
        id: names the call; its answer, a message with the role ``"tool"``, repeats it. Empty where none was given.
        name: the function's name.
        arguments: its arguments, JSON as the model wrote it, which need not be valid.
    """

    id: str
    name: str
    arguments: str

    def parse_arguments(self) -> Any:
        """Give the parsed arguments; no text at all counts as no arguments.

        Raises:
            HandlerError: the model did not write JSON.
        """
        from smendpoint._core.decode.lines import parse_json

        if not self.arguments.strip():
            return {}
        try:
            return parse_json(self.arguments)
        except ValueError:
            raise HandlerError(f"The model's arguments for the tool {self.name!r} are not JSON.") from None


class ToolCallDelta(NamedTuple):
    """A piece of a tool call in a stream.

    Attributes:
        call_index: which of the answer's tool calls it belongs to: pieces of one call have the same number, those of
            two never. It is the server's number where that is the call's alone (some number all calls 0).
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
        text: what the model said; empty where it only calls tools.
        tool_calls: the functions that it wants called.
        reasoning: what it thought before it spoke, where the container gives that apart; otherwise ``None``.
        finish_reason: why it stopped, in the container's word (``"stop"``, ``"length"``, ``"tool_calls"`` ...).
        usage: the token counts.
        raw: the answer as it came, parsed; the last chunk of a stream. For fields that have no attribute here.
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
        """Give the same answer with another text."""
        return self._replace(text=text)

    def to_message(self) -> dict[str, Any]:
        """Give the answer as the message that continues the conversation."""
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
        text: the next piece of what the model says; may be empty.
        reasoning: the next piece of what it thinks; may be empty.
        tool_calls: the next pieces of tool calls. The decoder's ``completion`` has them put together.
        finish_reason: why the model stopped, in the last chunk.
    """

    text: str
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    finish_reason: str | None = None

    def __str__(self) -> str:
        return self.text

    def replace_text(self, text: str) -> ChatChunk:
        """Give the same chunk with another text."""
        return self._replace(text=text)
