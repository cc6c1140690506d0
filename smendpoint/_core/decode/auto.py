"""A push decoder that finds out by itself what a model is sending."""

from __future__ import annotations

from typing import Any, Literal

from ...errors import StreamDecodeError, StreamError
from .lines import MAX_ITEM, JSONLinesDecoder, TextDecoder, parse_joined, parse_json
from .push import PushDecoder
from .sse import SSEDecoder

__all__ = ["AutoDecoder", "StreamKind"]

StreamKind = Literal["sse", "jsonlines", "json", "text"]

_BOM = b"\xef\xbb\xbf"
_WHITESPACE = b" \t\r\n"
_SSE_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")

# A text may begin with white space, and so may a JSON document, but none begins with this much of it.
_MAX_WHITESPACE = 4096


# A line that goes on without an end is looked at again with every piece until it has this many bytes, and then each
# time that it has twice as many, or it would take quadratic time.
_OFTEN = 4096


class _JoinedLinesDecoder(JSONLinesDecoder):
    """Reads JSON lines whose objects may follow one another without a line end: each is given when it is whole."""

    __slots__ = ("_begun", "_next")

    def __init__(self, *, max_line: int) -> None:
        super().__init__(max_line=max_line)
        self._begun = False  # values of the line were given ahead of its end
        self._next = 0  # how large the rest must be to be looked at again

    def feed(self, data: bytes) -> list[Any]:
        if self._failure is not None:
            self._check()
        number = self._count
        lines = self._split(data)
        values = self._parse(lines, number) if self._begun else JSONLinesDecoder._parse(self, lines, number)
        if self._tail and self._failure is None:
            self._read_ahead(values)
        return values or self._deliver(values)

    def _parse(self, lines: list[bytes], number: int) -> list[Any]:
        if not self._begun or not lines:
            return super()._parse(lines, number)
        self._begun = False
        # What goes on with joined values must be such, and not a number.
        values = super()._parse([b"[]" + lines[0]], number)[1:]
        return values if self._failure is not None else values + super()._parse(lines[1:], number + 1)

    def _read_ahead(self, values: list[Any]) -> None:
        tail = self._tail
        if len(tail) < self._next:
            return
        self._next = 2 * len(tail) if len(tail) > _OFTEN else 0
        if b"}" not in tail:
            return
        end = len(tail)
        try:
            text = tail.decode()
        except UnicodeDecodeError as error:  # cut inside a character, or the end of the line tells
            end = error.start
            text = tail[:end].decode()
        whole, place = parse_joined(text)
        if whole:
            values += whole
            tail[:end] = text[place:].encode()
            self._begun = True
            self._next = 0

    def _add_joined(self, text: str, values: list[Any]) -> bool:
        whole, place = parse_joined(text)
        values += whole
        return not text[place:].strip(" \t\r")


class _DocumentDecoder(PushDecoder):
    """Reads JSON documents, which may have many lines: nothing is given before the end."""

    __slots__ = ("_buffer", "_max_item")

    def __init__(self, max_item: int) -> None:
        super().__init__()
        self._buffer = bytearray()
        self._max_item = max_item

    def feed(self, data: bytes) -> list[Any]:
        self._check()
        self._buffer += data
        if len(self._buffer) > self._max_item:
            self._failure = StreamDecodeError(f"the JSON document is larger than {self._max_item} bytes")
            self._check()
        return []

    def finish(self) -> list[Any]:
        self._check()
        data = bytes(self._buffer)
        self._buffer.clear()
        text = ""
        try:
            text = data.decode()
            return [parse_json(text)] if data else []
        except UnicodeDecodeError as error:
            message = f"the JSON document is not UTF-8 at byte {error.start}"
        except ValueError as error:
            values, place = parse_joined(text)
            if not text[place:].strip():
                return values
            line, column = getattr(error, "lineno", "?"), getattr(error, "colno", "?")
            message = f"the stream is not one JSON document: see line {line}, column {column}"
        self._failure = StreamDecodeError(message)
        return self._deliver([])


class AutoDecoder(PushDecoder):
    """Recognises server-sent events, JSON lines, a single JSON document and plain text, and decodes them.

    It decides on the first bytes that can decide, and holds back no more than those:

    * ``data:``, ``event:``, ``id:``, ``retry:`` or ``:`` means server-sent events;
    * ``{`` means JSON: lines, if the first line is a value of its own or several of them, else a single document;
    * ``[`` means a single JSON document;
    * anything else means plain text.

    A byte order mark ahead of these is dropped. White space ahead of JSON and of text, and empty lines ahead of
    server-sent events, do not matter; text is given with them. JSON objects may also follow one another without a line
    end. What was decoded before a failure is delivered
    before it.

    Args:
        max_item: the most bytes of one event, line or document. Plain text is unlimited.
    """

    __slots__ = ("_brace", "_decoder", "_head", "_kind", "_max_item", "_next", "_past_bom", "_searched")

    def __init__(self, *, max_item: int = MAX_ITEM) -> None:
        super().__init__()
        self._max_item = max_item
        self._head = bytearray()  # what came before the decision
        self._past_bom = False
        self._brace = -1  # where in it the `{` is that begins a line or a document
        self._searched = 0  # up to where there is no line end after that
        self._next = 0  # how large the head must be to be looked at again
        self._kind: StreamKind | None = None
        self._decoder: SSEDecoder | JSONLinesDecoder | TextDecoder | _DocumentDecoder | None = None

    @property
    def kind(self) -> StreamKind | None:
        """What the stream is: ``"sse"``, ``"jsonlines"``, ``"json"`` or ``"text"``; ``None`` until that is known."""
        return self._kind

    @property
    def error(self) -> StreamError | None:
        """The failure that the next `feed` or `finish` raises; ``None`` while all is well."""
        return super().error if self._decoder is None else self._decoder.error

    def feed(self, data: bytes) -> list[Any]:
        """Takes bytes, gives the items that they complete.

        Args:
            data: the next bytes of the stream, any number of them.

        Returns:
            A `ServerSentEvent` for each event, a JSON value for each line, or a string for a piece of text.

        Raises:
            StreamDecodeError: the bytes are not what they began as, or an item is larger than `max_item`.
        """
        if self._decoder is not None:
            return self._decoder.feed(data)
        self._check()
        self._head += data
        kind = self._recognise(ended=False)
        if kind is not None:
            return self._start(kind)
        # One more than allowed, for the CR that may belong to the line's end.
        if len(self._head) > self._max_item + 1:
            self._failure = StreamDecodeError(f"line 1 of the stream is longer than {self._max_item} bytes")
            self._check()
        return []

    def finish(self) -> list[Any]:
        """Says that no more bytes will come.

        Returns:
            The items that only waited for the end.

        Raises:
            StreamDecodeError: what is left is not a whole item, or the failure that a feed had kept back.
        """
        self._check()
        items: list[Any] = []
        if self._decoder is None and self._head:
            kind = self._recognise(ended=True)
            items = self._start(kind or "text")
        if self._decoder is not None:
            items += self._decoder.finish()
        return items

    def _start(self, kind: StreamKind) -> list[Any]:
        self._kind = kind
        if kind == "sse":
            self._decoder = SSEDecoder(max_event=self._max_item)
        elif kind == "jsonlines":
            self._decoder = _JoinedLinesDecoder(max_line=self._max_item)
        elif kind == "json":
            self._decoder = _DocumentDecoder(self._max_item)
        else:
            self._decoder = TextDecoder()
        head = bytes(self._head)
        self._head.clear()
        return self._decoder.feed(head)

    def _recognise(self, *, ended: bool) -> StreamKind | None:
        head = self._head
        if self._brace < 0:
            if not self._past_bom:
                if not ended and len(head) < len(_BOM) and _BOM.startswith(head):
                    return None
                if head.startswith(_BOM):
                    del head[: len(_BOM)]
                self._past_bom = True
            body = head.lstrip(_WHITESPACE)
            blank = head[: len(head) - len(body)]
            if len(blank) > _MAX_WHITESPACE:
                return "text"
            if not body:
                return "text" if ended else None
            if body.startswith(b"["):
                return "json"
            if not body.startswith(b"{"):
                return self._recognise_event(bytes(body), ended) if not blank.strip(b"\r\n") else "text"
            self._brace = self._searched = len(blank)
        end = head.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(head)
            return "jsonlines" if self._begins_joined() else "json" if ended else None
        return _kind_of_line(bytes(head[self._brace : end]))

    def _begins_joined(self) -> bool:
        """Whether the first line, whose end has not come, has a whole object and then another one."""
        head = self._head
        if len(head) < self._next:
            return False
        self._next = 2 * len(head) if len(head) > _OFTEN else 0
        return b"}{" in head and bool(parse_joined(head[self._brace :].decode(errors="replace"))[0])

    @staticmethod
    def _recognise_event(body: bytes, ended: bool) -> StreamKind | None:
        if body.startswith(_SSE_STARTS):
            return "sse"
        may_follow = not ended and any(start.startswith(body) for start in _SSE_STARTS)
        return None if may_follow else "text"


def _kind_of_line(line: bytes) -> StreamKind:
    """Tells the first of many JSON lines from the first line of one document."""
    # Whatever is wrong with a line that is not the start of a document: the line decoder says so, with its number.
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return "jsonlines"
    try:
        parse_json(text)
    except ValueError as error:
        # What is missing at the very end may follow on the next line. What is wrong before that stays wrong.
        if getattr(error, "pos", -1) >= len(text.rstrip(" \t\r")):
            return "json"
    return "jsonlines"
