"""The stream decoder of chat models: OpenAI's chunks, with tool calls assembled as they arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint.errors import HandlerError, StreamDecodeError
from smendpoint.handlers._answers import answer_details, content_text, reason_of
from smendpoint.handlers._chat_answers import (
    ChatChunk,
    ChatCompletion,
    ToolCall,
    ToolCallDelta,
    call_piece,
    check_named,
    listed_calls,
    read_completion,
    reasoning_text,
)
from smendpoint.handlers._halves import Halves
from smendpoint.handlers._shapes import raise_for_error, unknown_shape
from smendpoint.handlers._streams import DetailedDecoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smendpoint._container_errors import JSONValue
    from smendpoint.handlers._json import ErrorsOption


class _OpenCall:
    """A tool call that is still being written.

    Args:
        number: its place among the answer's calls, the ``call_index`` of its deltas.
        index: the server's number for it, or its place if the server gives none.
        halves: joins the characters of its arguments.
    """

    __slots__ = ("halves", "id", "index", "name", "number")

    def __init__(self, number: int, index: int, halves: Halves) -> None:
        self.number = number
        self.index = index
        self.halves = halves
        self.id = ""
        self.name = ""

    def add(self, call_id: str, name: str, arguments: str) -> ToolCallDelta:
        """Add a piece and return its new fields: some servers repeat the id and the name in every piece."""
        call_id = "" if self.id else call_id
        name = "" if self.name else name
        self.id = self.id or call_id
        self.name = self.name or name
        return ToolCallDelta(self.number, call_id, name, self.halves.join(arguments))


class ChatStreamDecoder(DetailedDecoder[ChatChunk]):
    """Decodes the chunks of a chat answer, and joins them to the answer so far: ``stream.decoder`` is one.

    Args:
        handler: the handler's name, for messages.
        expected: the answers that it reads, for messages.
        require_end: whether a stream without a finish reason and without ``[DONE]`` is an error.
        errors: how half a character is handled.
    """

    __slots__ = ("_calls", "_chunks", "_current", "_replace", "_thought_halves")

    def __init__(
        self, handler: str, expected: str, *, require_end: bool = True, errors: ErrorsOption = "strict"
    ) -> None:
        super().__init__(handler, expected, require_end=require_end, errors=errors)
        self._replace = errors == "replace"
        self._thought_halves = Halves(self._replace)  # of the reasoning
        self._chunks: list[ChatChunk] = []
        self._calls: dict[int, _OpenCall] = {}  # by number
        self._current: dict[int | None, _OpenCall] = {}  # by the server's index; at None, the latest one

    @property
    def completion(self) -> ChatCompletion:
        """The answer from the chunks so far: the whole answer once the stream has ended.

        This is the answer of the model: if ``stop=`` ended the stream, the text here may go beyond that point.
        """
        return ChatStreamDecoder.complete(self, self._chunks, self.finish_reason)

    def complete(self, chunks: Sequence[ChatChunk], finish_reason: str | None = None) -> ChatCompletion:
        """Return the answer that chunks form: all of them, like `completion`, or those up to a stop sequence.

        Args:
            chunks: chunks of this decoder, in order.
            finish_reason: why they end.
        """
        calls: dict[int, list[ToolCallDelta]] = {}
        for chunk in chunks:
            for delta in chunk.tool_calls:
                calls.setdefault(delta.call_index, []).append(delta)
        return ChatCompletion(
            text="".join([chunk.text for chunk in chunks]),
            tool_calls=tuple(
                ToolCall(
                    "".join([delta.id for delta in deltas]),
                    "".join([delta.name for delta in deltas]),
                    "".join([delta.arguments for delta in deltas]),
                )
                for _, deltas in sorted(calls.items())
            ),
            reasoning="".join([chunk.reasoning for chunk in chunks]) or None,
            finish_reason=finish_reason,
            usage=self.usage,
            raw=self._item,
        )

    def finish_into(self, chunks: list[ChatChunk]) -> None:
        """Do the same as `finish`, but append the chunks to the caller's list; a tool call must have a name."""
        super().finish_into(chunks)
        try:
            check_named(self.completion.tool_calls)
        except HandlerError as error:
            error.received = tuple(chunks)
            raise

    def _read(self, value: JSONValue, chunks: list[ChatChunk]) -> None:
        if isinstance(value, dict) and not value.get("error"):
            choices = value.get("choices")
            if isinstance(choices, list):
                choice = self._first_choice(value, choices)
                self._item = value
                if choice is None:
                    return
                delta = choice.get("delta")
                if delta is None and not choice.keys() & {"message", "text"}:
                    delta = {}
                if isinstance(delta, dict):
                    self._read_delta(value, choice, delta, chunks)
                    return
            elif self._has_no_news(value):
                return
        elif self._read_each(value, chunks):
            return
        raise_for_error(value)
        completion = read_completion(value)
        if completion is None:
            raise unknown_shape(value, self._handler, self._expected)
        self._read_whole(completion, chunks)
        self._note(answer_details(value))

    def _read_delta(
        self,
        value: dict[str, JSONValue],
        choice: dict[str, JSONValue],
        delta: dict[str, JSONValue],
        chunks: list[ChatChunk],
    ) -> None:
        content = delta.get("content")
        text = content if isinstance(content, str) else content_text(content)
        if text is None:
            if content is not None:
                raise unknown_shape(value, self._handler, self._expected)
            text = ""
        if not text.isascii() or self._halves.held:
            text = self._join(text, chunks)
        reasoning = ""
        if "reasoning_content" in delta or "reasoning" in delta:
            reasoning = self._thought_halves.join(reasoning_text(delta) or "")
        pieces = delta.get("tool_calls")
        calls = self._read_calls(pieces) if pieces else ()
        reason = choice.get("finish_reason")
        if reason is not None:
            reason = reason_of(reason)
            if reason is not None:
                try:
                    ends = self._ends()
                except StreamDecodeError:
                    self._append(ChatChunk(text, reasoning, calls), chunks)
                    raise
                text, reasoning, calls = text + ends.text, reasoning + ends.reasoning, calls + ends.tool_calls
        if text or reasoning or calls or reason:
            chunk = ChatChunk(text, reasoning, calls, reason)
            self._chunks.append(chunk)
            chunks.append(chunk)

    def _append(self, chunk: ChatChunk, chunks: list[ChatChunk]) -> None:
        self._chunks.append(chunk)
        chunks.append(chunk)

    def _join(self, text: str, chunks: list[ChatChunk]) -> str:
        try:
            return self._halves.join(text)
        except StreamDecodeError as error:
            for before in error.received:
                self._append(ChatChunk(before), chunks)
            raise

    def _ends(self) -> ChatChunk:
        """Return the ends of the texts: half a character that is still held stays alone."""
        ends = [(call.number, call.halves.end()) for call in self._calls.values()]
        calls = tuple(ToolCallDelta(number, "", "", end) for number, end in ends if end)
        return ChatChunk(self._halves.end(), self._thought_halves.end(), calls)

    def _flush(self, chunks: list[ChatChunk]) -> None:
        ends = self._ends()
        if any(ends):
            self._append(ends, chunks)

    def _read_calls(self, pieces: JSONValue) -> tuple[ToolCallDelta, ...]:
        deltas: list[ToolCallDelta] = []
        for piece in listed_calls(pieces):
            index, call = call_piece(piece)
            deltas.append(self._call_of(index, call.id, call.name).add(*call))
        return tuple(deltas)

    def _call_of(self, index: int | None, call_id: str, name: str) -> _OpenCall:
        """Return the call that a piece belongs to.

        It continues the latest call at its index (without an index, the latest of all), unless it has another id or, if
        one of the two has no id, another name. Without an index, a name alone begins a call: two calls may be for the
        same function. A piece with an id may also continue an earlier call.
        """
        call = self._current.get(index)
        if call is not None:
            if call_id and call.id:
                continues = call_id == call.id
            else:
                continues = not (name and call.name) or (index is not None and name == call.name)
            if not continues:
                call = None
        if call is None and call_id:
            known = (call for call in self._calls.values() if call.id == call_id and index in (None, call.index))
            call = next(known, None)
        if call is None:
            call = self._open_call(index)
        self._current[index] = self._current[None] = call
        return call

    def _open_call(self, index: int | None) -> _OpenCall:
        """Begin a call. Its number is the server's index, unless another call already has that number."""
        number = index
        if number is None or number in self._calls:
            number = max(self._calls, default=-1) + 1
        call = self._calls[number] = _OpenCall(number, number if index is None else index, Halves(self._replace))
        if index is None:
            self._current[number] = call
        return call

    def _read_whole(self, completion: ChatCompletion, chunks: list[ChatChunk]) -> None:
        """Append the whole answer of a container that does not stream, as one chunk."""
        text = self._join(completion.text, chunks)
        reasoning = self._thought_halves.join(completion.reasoning or "")
        calls = [self._open_call(None).add(*call) for call in completion.tool_calls]
        self._kind, self._item = "chat", dict(completion.raw or {})
        self._append(ChatChunk(text, reasoning, tuple(calls), completion.finish_reason), chunks)
