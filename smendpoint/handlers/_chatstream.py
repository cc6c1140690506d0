"""The stream decoder of chat models: OpenAI's chunks, with tool calls put together on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint.handlers._answers import content_text
from smendpoint.handlers._chat_answers import argument_text, read_completion, reasoning_text
from smendpoint.handlers._chat_types import ChatChunk, ChatCompletion, ToolCall, ToolCallDelta
from smendpoint.handlers._decoding import DetailedDecoder
from smendpoint.handlers._details import answer_details
from smendpoint.handlers._shapes import raise_for_error, unknown_shape

if TYPE_CHECKING:
    from smendpoint._container_errors import JSONValue

__all__ = ["ChatStreamDecoder"]


class _OpenCall:
    """A tool call that is still being written."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []


class ChatStreamDecoder(DetailedDecoder[ChatChunk]):
    """Gives the chunks of a chat answer, and at any time the answer that they make so far: ``stream.decoder`` is one.

    Args:
        handler: the handler's name, for messages.
        expected: what it reads, for messages.
    """

    __slots__ = ("_calls", "_expected", "_last", "_reasoning", "_text")

    def __init__(self, handler: str, expected: str) -> None:
        super().__init__(handler)
        self._expected = expected
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, _OpenCall] = {}
        self._last: dict[str, JSONValue] | None = None

    @property
    def completion(self) -> ChatCompletion:
        """What the chunks make, put together: the whole answer once the stream has ended.

        It is what the model said: where ``stop=`` has ended the stream, its text goes on from there.
        """
        return ChatCompletion(
            text="".join(self._text),
            tool_calls=tuple(
                ToolCall(call.id, call.name, "".join(call.arguments)) for _, call in sorted(self._calls.items())
            ),
            reasoning="".join(self._reasoning) if self._reasoning else None,
            finish_reason=self.finish_reason,
            usage=self.usage,
            raw=self._last,
        )

    def _take(self, value: JSONValue, chunks: list[ChatChunk]) -> None:
        if isinstance(value, dict) and not value.get("error"):
            choices = value.get("choices")
            if isinstance(choices, list):
                choice = self._first_choice(value, choices)
                self._last = value
                if choice is None:
                    return
                delta = choice.get("delta")
                if isinstance(delta, dict):
                    self._take_delta(choice, delta, chunks)
                    return
        raise_for_error(value)
        completion = read_completion(value)
        if completion is None:
            raise unknown_shape(value, self._handler, self._expected)
        self._take_whole(completion, chunks)
        self._note(answer_details(value))

    def _take_delta(self, choice: dict[str, JSONValue], delta: dict[str, JSONValue], chunks: list[ChatChunk]) -> None:
        content = delta.get("content")
        text = content if isinstance(content, str) else content_text(content) or ""
        reasoning = reasoning_text(delta) or ""
        pieces = delta.get("tool_calls")
        calls = self._take_calls(pieces) if pieces else ()
        reason = choice.get("finish_reason")
        if text or reasoning or calls or reason:
            if text:
                self._text.append(text)
            if reasoning:
                self._reasoning.append(reasoning)
            chunks.append(ChatChunk(text, reasoning, calls, reason if isinstance(reason, str) else None))

    def _take_calls(self, pieces: JSONValue) -> tuple[ToolCallDelta, ...]:
        """Read a chunk's tool calls; TGI sends a single one without its list."""
        deltas: list[ToolCallDelta] = []
        for piece in pieces if isinstance(pieces, list) else [pieces]:
            if not isinstance(piece, dict):
                continue
            function = piece.get("function")
            function = function if isinstance(function, dict) else {}
            call_id, name = piece.get("id"), function.get("name")
            call_id = call_id if isinstance(call_id, str) else ""
            name = name if isinstance(name, str) else ""
            arguments = argument_text(function.get("arguments"))
            index = self._index_of(piece.get("index"), call_id, name)
            call = self._calls.setdefault(index, _OpenCall())
            call.id = call.id or call_id
            call.name = call.name or name
            call.arguments.append(arguments)
            deltas.append(ToolCallDelta(index, call_id, name, arguments))
        return tuple(deltas)

    def _index_of(self, given: JSONValue, call_id: str, name: str) -> int:
        """Give the index of a piece's call. Without one, a new id or name begins a new call."""
        if isinstance(given, int):
            return given
        last = max(self._calls, default=-1)
        if last < 0:
            return 0
        call = self._calls[last]
        is_new = call_id != call.id if call_id and call.id else bool(name and call.name)
        return last + 1 if is_new else last

    def _take_whole(self, completion: ChatCompletion, chunks: list[ChatChunk]) -> None:
        """Hand on a whole answer, of a container that does not stream, as one chunk."""
        first = len(self._calls)
        calls: list[ToolCallDelta] = []
        for index, call in enumerate(completion.tool_calls, first):
            calls.append(ToolCallDelta(index, *call))
            opened = self._calls[index] = _OpenCall()
            opened.id, opened.name = call.id, call.name
            opened.arguments.append(call.arguments)
        self._text.append(completion.text)
        if completion.reasoning:
            self._reasoning.append(completion.reasoning)
        self._last = dict(completion.raw or {})
        chunks.append(ChatChunk(completion.text, completion.reasoning or "", tuple(calls), completion.finish_reason))
