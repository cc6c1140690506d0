"""A push decoder that recognises the format of a model's stream."""

from __future__ import annotations

from typing import Any, Literal

from ...errors import StreamDecodeError, StreamError
from ..json import parse_joined, parse_json
from .lines import MAX_ITEM, JSONLinesDecoder, TextDecoder
from .push import PushDecoder
from .sse import BOM, SSEDecoder

StreamKind = Literal["sse", "jsonlines", "json", "text"]

SSE_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")
"""How server-sent events begin."""

# A text may begin with white space, and so may a JSON document, but not with this much of it.
_MAX_WHITESPACE = 4096

# A line without an end is parsed again with every piece until it has this many bytes, and then each time
# that it has twice as many: every time would take quadratic time.
_OFTEN = 4096


class _JoinedLinesDecoder(JSONLinesDecoder):
    """Reads JSON lines whose objects may follow one another without a line end: each is returned when complete."""

    __slots__ = ("_begun", "_next")

    def __init__(self, *, max_line: int) -> None:
        super().__init__(max_line=max_line)
        self._begun = False  # whether values of the line were returned before its end
        self._next = 0  # how large the rest must be to be parsed again

    def feed(self, data: bytes) -> list[Any]:
        if self._failure is not None:
            self._check()
        lines = self._split(data)
        values: list[Any] = []
        if lines:
            values = self._parse(lines) if self._begun else JSONLinesDecoder._parse(self, lines)
        if self._tail and self._failure is None:
            self._read_ahead(values)
        return values or self._deliver(values)

    def _parse(self, lines: list[bytes]) -> list[Any]:
        if not self._begun or not lines:
            return super()._parse(lines)
        self._begun = False
        # Only objects and arrays may follow, as they may follow an array: a number or a text may not.
        return super()._parse([b"[]" + lines[0], *lines[1:]])[1:]

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
        except UnicodeDecodeError as error:  # a cut inside a character, or a failure at the end of the line
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
    """Reads JSON documents, which may have many lines: returns nothing before the end."""

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

    It decides by the first bytes that are enough, and holds back only those:

    * ``data:``, ``event:``, ``id:``, ``retry:`` or ``:`` means server-sent events;
    * ``{`` means JSON: lines, if the first line is a whole value or several, else a single document;
    * ``[`` means a single JSON document;
    * anything else means plain text.

    A byte order mark before these is dropped. White space before JSON and text, and empty lines before server-sent
    events, do not matter; text keeps them. JSON objects may also follow one another without a line end.

    Args:
        max_item: the most bytes of one event, line or document. Plain text is unlimited.

    Attributes:
        kind: the format of the stream: ``"sse"``, ``"jsonlines"``, ``"json"`` or ``"text"``; ``None`` until it is
            known.
    """

    __slots__ = ("_brace", "_decoder", "_head", "_max_item", "_next", "_past_bom", "_searched", "kind")

    def __init__(self, *, max_item: int = MAX_ITEM) -> None:
        super().__init__()
        self._max_item = max_item
        self._head = bytearray()  # the bytes before the decision
        self._past_bom = False
        self._brace = -1  # the place in the head of the `{` that begins a line or a document
        self._searched = 0  # the place up to which no line end follows the brace
        self._next = 0  # how large the head must be to be parsed again
        self.kind: StreamKind | None = None
        self._decoder: SSEDecoder | JSONLinesDecoder | TextDecoder | _DocumentDecoder | None = None

    @property
    def _events(self) -> SSEDecoder | None:
        """The decoder of the stream, once it is known to be server-sent events."""
        return self._decoder if isinstance(self._decoder, SSEDecoder) else None

    @property
    def error(self) -> StreamError | None:
        """The failure that the next `feed` or `finish` raises; ``None`` while all is well."""
        return super().error if self._decoder is None else self._decoder.error

    def feed(self, data: bytes) -> list[Any]:
        """Take the next bytes and return the items that they complete.

        Returns:
            A `ServerSentEvent` for each event, a JSON value for each line, or a string for a piece of text.

        Raises:
            StreamDecodeError: the stream does not keep its format, or an item is larger than `max_item`.
        """
        if self._decoder is not None:
            return self._decoder.feed(data)
        self._check()
        self._head += data
        kind = self._recognise(ended=False)
        if kind is not None:
            return self._start(kind)
        # One more than allowed: a CR may belong to the line's end.
        if len(self._head) > self._max_item + 1:
            self._failure = StreamDecodeError(f"line 1 of the stream is longer than {self._max_item} bytes")
            self._check()
        return []

    def finish(self) -> list[Any]:
        """Take the end of the bytes and return the items that waited for it.

        Raises:
            StreamDecodeError: the bytes end inside an item, or `feed` held back a failure.
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
        self.kind = kind
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
                if not ended and len(head) < len(BOM) and BOM.startswith(head):
                    return None
                if head.startswith(BOM):
                    del head[: len(BOM)]
                self._past_bom = True
            body = head.lstrip(b" \t\r\n")
            blank = head[: len(head) - len(body)]
            if len(blank) > _MAX_WHITESPACE:
                return "text"
            if not body:
                return "text" if ended else None
            if body.startswith(b"["):
                return "json"
            if not body.startswith(b"{"):
                return "text" if blank.strip(b"\r\n") else _kind_of_start(bytes(body), ended)
            self._brace = self._searched = len(blank)
        end = head.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(head)
            return "jsonlines" if self._begins_joined() else "json" if ended else None
        return _kind_of_line(bytes(head[self._brace : end]))

    def _begins_joined(self) -> bool:
        """Return whether the first line, whose end has not arrived, has a whole object and then another one."""
        head = self._head
        if len(head) < self._next:
            return False
        self._next = 2 * len(head) if len(head) > _OFTEN else 0
        return b"}{" in head and bool(parse_joined(head[self._brace :].decode(errors="replace"))[0])


def _kind_of_start(body: bytes, ended: bool) -> StreamKind | None:
    """Tell server-sent events from plain text; `None` if that needs more bytes."""
    if body.startswith(SSE_STARTS):
        return "sse"
    undecided = not ended and any(start.startswith(body) for start in SSE_STARTS)
    return None if undecided else "text"


def _kind_of_line(line: bytes) -> StreamKind:
    """Tell the first of many JSON lines from the first line of one document.

    A bad line that cannot be the start of a document is a JSON line: the line decoder's error has its number.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return "jsonlines"
    try:
        parse_json(text)
    except ValueError as error:
        # Text that is missing at the very end may follow on the next line. An error before the end stays one.
        if getattr(error, "pos", -1) >= len(text.rstrip(" \t\r")):
            return "json"
    return "jsonlines"
