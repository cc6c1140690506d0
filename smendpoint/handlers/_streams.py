"""The base classes of the ready-made handlers' stream decoders: JSON items from any framing.

`AutoDecoder` recognises the framing: server-sent events, JSON lines, a single JSON document, or plain text. Rules:

* Chunks before a failure are returned first, and the next call raises it. At the end, when no call follows, the failure
  takes precedence.
* ``[DONE]`` ends a stream of server-sent events; the bytes after it are not read. A stream may also end without it,
  like those of TGI, and of LMI, which turns it into blank lines.
* A stream whose format has an end (`_answers`) must show it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from smendpoint._core.decode.auto import SSE_STARTS, AutoDecoder
from smendpoint._core.decode.push import LayeredDecoder
from smendpoint._core.json import parse_json
from smendpoint.errors import HandlerError, SmendpointError, StreamDecodeError, StreamError, StreamTruncatedError
from smendpoint.handlers._answers import ENDS, named_in, reason_of, usage_of
from smendpoint.handlers._halves import Halves, mend_json
from smendpoint.handlers._shapes import raise_for_error, unknown_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smendpoint._container_errors import JSONValue
    from smendpoint._core.decode.sse import SSEDecoder
    from smendpoint.handlers._json import ErrorsOption
    from smendpoint.handlers.base import OutputDetails, Usage

Chunk = TypeVar("Chunk")

_DONE = "[DONE]"
# The fields of OpenAI's chunks besides the choices.
_ENVELOPE = frozenset({"id", "object", "created", "model", "service_tier", "system_fingerprint", "usage"})


class ItemDecoder(LayeredDecoder, Generic[Chunk]):
    """The base: bytes in, parsed items to `_read`, chunks out.

    Args:
        handler: the handler's name, for messages.
    """

    __slots__ = ("_done", "_events", "_handler", "_items", "_source")

    def __init__(self, handler: str) -> None:
        super().__init__()
        self._handler = handler
        self._source = AutoDecoder()
        # the source's own decoder, once the stream is known to be server-sent events
        self._events: SSEDecoder | None = None
        self._done = False
        self._items = 0

    @property
    def error(self) -> Exception | None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]  # handlers raise other errors too
        """The failure that the next `feed` or `finish` raises; ``None`` while all is well."""
        if self._failure is not None or self._done:
            failure: Exception | None = self._failure
            return failure
        return (self._events or self._source).error

    def feed(self, data: bytes) -> list[Chunk]:
        """Take the next bytes and return the chunks that they complete."""
        if self._failed:
            self._check()
        chunks: list[Chunk] = []
        if self._done or not data:
            return chunks
        try:
            if self._events is not None:
                for text in self._events.feed_data(data):
                    self._read_event(text, chunks)
            else:
                items = self._source.feed(data)
                if items:
                    self._read_items(items, chunks)
        except Exception as error:  # any error is raised after the chunks that came before it
            self._fail(error, chunks)
        return chunks

    def finish(self) -> list[Chunk]:
        """Take the end of the bytes and return the chunks that were still held back.

        Raises:
            StreamTruncatedError: the payload's own end is missing; ``received`` has the chunks that were held back.
        """
        chunks: list[Chunk] = []
        self.finish_into(chunks)
        return chunks

    def finish_into(self, chunks: list[Chunk]) -> None:
        """Do the same as `finish`, but append the chunks to the caller's list: a failure does not lose them."""
        self._check()
        if self._done:
            return
        self._failed = True
        may_be_half = self.error is None  # an error that appears only at the end may come from an incomplete item
        try:
            self._read_rest(chunks)
            self._flush(chunks)
            missing = None if self._done else self._missing()
            if missing is not None:
                raise StreamTruncatedError(missing)
        except SmendpointError as error:
            error.received = tuple(chunks)
            missing = self._missing() if may_be_half and isinstance(error, StreamDecodeError) else None
            if missing is None:
                raise
            raise StreamTruncatedError(f"{missing} ({error.message})", received=chunks) from error
        self._failed = False
        self._done = True

    def _read_rest(self, chunks: list[Chunk]) -> None:
        """Read the items that waited for the end, and then raise the failure that follows them, if any."""
        failure: StreamError | None = None
        try:
            items: Sequence[Any] = self._source.finish()
        except StreamError as error:
            failure, items = error, error.received
        self._read_items(items, chunks)
        if failure is not None:
            raise failure

    def _flush(self, chunks: list[Chunk]) -> None:
        """Append the ends of the texts, at the end of the answer."""

    def _missing(self) -> str | None:
        """Return which end of the payload is missing, or ``None``."""
        return None

    def _read(self, value: JSONValue, chunks: list[Chunk]) -> None:
        """Read one item and append its chunks."""
        raise AssertionError  # pragma: no cover  # every decoder has its own

    def _read_text(self, text: str, chunks: list[Chunk]) -> None:
        """Read a piece of a stream that is plain text, and append its chunks."""
        if not text.strip():
            return
        if any(start.startswith(text.encode()) for start in SSE_STARTS):
            raise StreamDecodeError("line 1 of the server-sent events has no end")
        raise HandlerError(
            f"{self._handler} expects a stream of server-sent events or JSON lines, but this one is plain text. "
            "TextHandler or AutoHandler reads it."
        )

    def _read_items(self, items: Sequence[Any], chunks: list[Chunk]) -> None:
        kind = self._source.kind
        for item in items:
            if kind == "jsonlines" or kind == "json":
                self._read(item, chunks)
            elif kind == "text":
                self._read_text(item, chunks)
            else:
                self._events = self._source._events
                self._read_event(item.data, chunks)

    def _read_event(self, text: str, chunks: list[Chunk]) -> None:
        if self._done:
            return
        self._items += 1
        try:
            value: JSONValue = parse_json(text)
        except ValueError:
            stripped = text.strip()
            if stripped == _DONE:
                self._done = True
                self._flush(chunks)
                return
            if not stripped:
                return
            raise StreamDecodeError(f"server-sent event {self._items} of the stream is not JSON") from None
        self._read(value, chunks)


class JSONItemDecoder(ItemDecoder[Any]):
    """Returns each parsed item.

    Args:
        handler: the handler's name, for messages.
        errors: how half a character is handled.
    """

    __slots__ = ("_escapes", "_replace")

    def __init__(self, handler: str, errors: ErrorsOption = "strict") -> None:
        super().__init__(handler)
        self._replace = errors == "replace"
        self._escapes = False  # whether there may have been an escape, which may be half a character

    def complete(self, chunks: Sequence[Any], finish_reason: str | None = None) -> list[Any]:
        """Return the list of the values."""
        return list(chunks)

    def feed(self, data: bytes) -> list[Any]:
        """Take the next bytes and return the values that they complete."""
        if not self._escapes and (b"\\u" in data or data[-1:] == b"\\"):
            self._escapes = True
        return super().feed(data)

    def _read(self, value: JSONValue, chunks: list[Any]) -> None:
        if self._escapes:
            try:
                value = mend_json(value, replace=self._replace)
            except HandlerError as error:
                raise StreamDecodeError(error.message) from None
        chunks.append(value)


class DetailedDecoder(ItemDecoder[Chunk]):
    """The base class of the decoders of answers: collects the details, and knows whether the answer is complete.

    Args:
        handler: the handler's name, for messages.
        expected: the answers that it reads, for messages.
        require_end: whether a stream without the end of its format is an error.
        errors: how half a character is handled.

    Attributes:
        finish_reason: why the model stopped, once it has given the reason.
        usage: the token counts, once it has given them.
    """

    __slots__ = (
        "_details",
        "_ended",
        "_expected",
        "_halves",
        "_item",
        "_kind",
        "_logprobs",
        "_require_end",
        "finish_reason",
        "usage",
    )

    def __init__(
        self, handler: str, expected: str, *, require_end: bool = True, errors: ErrorsOption = "strict"
    ) -> None:
        super().__init__(handler)
        self._halves = Halves(errors == "replace")  # of the text
        self._expected = expected
        self._require_end = require_end
        self._kind = "chunk"  # of the latest item, a key of `ENDS`
        self._item: dict[str, JSONValue] | None = None  # the latest item; `None` before there is one
        self._ended = False  # an item before it was marked as the last one
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self._details: dict[str, Any] | None = None
        self._logprobs: list[JSONValue] = []

    @property
    def details(self) -> dict[str, Any] | None:
        """The other facts from the model, unchanged.

        If log-probabilities were requested in an OpenAI format, ``"logprobs"`` is the list of each chunk's.
        """
        if not self._logprobs:
            return self._details
        return {**(self._details or {}), "logprobs": self._logprobs}

    @property
    def response_model(self) -> str | None:
        """The model's name in the latest chunk."""
        return named_in(self._item or {})[0]

    @property
    def response_id(self) -> str | None:
        """The container's id of the answer, in the latest chunk."""
        return named_in(self._item or {})[1]

    def _missing(self) -> str | None:
        if self._ended or not self._require_end:
            return None
        item = self._item
        if item is None:
            what = "it has no part of an answer"
        else:
            end = ENDS[self._kind]
            # JSON without lines and events ends with its last bracket.
            alone = self._kind == "chunk" and self._source.kind == "json"
            if end.is_last(item) or (alone and ENDS["document"].is_last(item)):
                return None
            what = f"{end.mark} is missing"
        return (
            f"the stream ended before the model's answer did: {what}. If the container ends its answers like this, "
            f"use {self._handler}(require_end=False)"
        )

    def _note(self, found: OutputDetails) -> None:
        self.finish_reason = found.finish_reason or self.finish_reason
        self.usage = found.usage or self.usage
        if found.details:
            self._details = {**(self._details or {}), **found.details}

    def _read_each(self, value: JSONValue, chunks: list[Chunk]) -> bool:
        """Read an array of chunks; return whether it was one. An array of whole answers is one whole answer."""
        first = value[0] if isinstance(value, list) and value else None
        if not isinstance(first, dict) or not _is_chunk(first):
            return False
        for item in value if isinstance(value, list) else ():
            self._read(item, chunks)
        self._ended = self._ended or self._source.kind == "json"
        return True

    def _has_no_news(self, value: dict[str, JSONValue]) -> bool:
        """Return whether a chunk has no choice, and note its token counts if it has any."""
        if value["choices"] is not None if "choices" in value else not value.keys() <= _ENVELOPE:
            return False
        self.usage = usage_of(value.get("usage")) or self.usage
        return True

    def _first_choice(self, value: dict[str, JSONValue], choices: list[JSONValue]) -> dict[str, JSONValue] | None:
        """Return an OpenAI chunk's choice, and note the rest of the chunk; ``None`` for a choice of another answer.

        Only the first of several answers (``n``) is streamed; a chunk without choices carries the token counts.
        """
        usage = value.get("usage")
        if usage is not None:
            self.usage = usage_of(usage) or self.usage
        for choice in choices:
            if not isinstance(choice, dict):
                raise unknown_shape(value, self._handler, self._expected)
            index = choice.get("index")
            if not index:
                reason = choice.get("finish_reason")
                if reason is not None:
                    if reason == "error":
                        raise_for_error(value)
                    self.finish_reason = reason_of(reason) or self.finish_reason
                    self._ended = self._ended or ENDS["chunk"].is_last(value)
                logprobs = choice.get("logprobs")
                if logprobs is not None:
                    self._logprobs.append(logprobs)
                return choice
            if not isinstance(index, int) or isinstance(index, bool):
                raise HandlerError('The "index" of a choice is not a whole number.')
        return None


def _is_chunk(item: dict[str, JSONValue]) -> bool:
    """Return whether an array's first item is a piece of an answer, and not the first of several answers."""
    choices = item.get("choices")
    if isinstance(choices, list):
        return not any(isinstance(choice, dict) and "message" in choice for choice in choices)
    return "token" in item or "outputs" in item or not ENDS["generation"].is_last(item)
