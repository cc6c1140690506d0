"""Server-sent events (``text/event-stream``), by the WHATWG HTML standard, as a push decoder.

Two things differ from a browser: text must be valid UTF-8 (a browser replaces other bytes with U+FFFD), and
`SSEDecoder.finish` returns a last event without its blank line (a browser drops it), because some model servers end
their streams like that.
"""

from __future__ import annotations

from typing import NamedTuple

from ...errors import StreamDecodeError
from .lines import MAX_ITEM
from .push import PushDecoder

BOM = b"\xef\xbb\xbf"


class ServerSentEvent(NamedTuple):
    """One event.

    Attributes:
        event: its type; ``"message"`` if the server gave none.
        data: its data, the lines joined with LF.
        id: the latest id from the server, in this event or before it; ``""`` if it gave none.
        retry: the reconnection time in this event, in milliseconds.
    """

    event: str
    data: str
    id: str = ""
    retry: int | None = None


class SSEDecoder(PushDecoder):
    """Turns the bytes of a stream of server-sent events into events, however they were cut in transit.

    Lines end with LF, CR LF or CR; comments and unknown fields are skipped; an event without data is not an event.

    Args:
        max_event: the most bytes of one event's lines, and of any line.
    """

    __slots__ = ("_after_cr", "_data", "_event", "_id", "_max_event", "_number", "_retry", "_size", "_tail")

    def __init__(self, *, max_event: int = MAX_ITEM) -> None:
        super().__init__()
        self._max_event = max_event
        self._tail = bytearray()  # the start of a line whose end has not arrived
        self._after_cr = False  # whether a LF at this point belongs to the CR before it
        self._number = 0  # the number of the last complete line
        self._data: list[str] = []
        self._size = 0  # bytes of the data lines of the open event
        self._event = ""
        self._id = ""
        self._retry: int | None = None

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes and return the events that they complete.

        Raises:
            StreamDecodeError: a line is not UTF-8, or an event is larger than `max_event`.
        """
        if self._failure is not None:
            self._check()
        data = bytes(data)
        if self._after_cr and data:
            self._after_cr = False
            if data.startswith(b"\n"):
                data = data[1:]
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = data.split(b"\n")
        rest = lines.pop()
        tail = self._tail
        if tail and lines:
            tail += lines[0]
            lines[0] = bytes(tail)
            tail.clear()
        events = self._read(lines)
        if self._failure is None:
            tail += rest
            if len(tail) + self._size > self._max_event:
                self._refuse_size(self._number + 1)
        return self._deliver(events)

    def feed_data(self, data: bytes) -> list[str]:
        """Do the same as `feed`, but return only the data of the events.

        It is faster if the bytes are whole events of one data line each, like most of a token stream.
        """
        texts = self._read_whole(data)
        return [event.data for event in self.feed(data)] if texts is None else texts

    def _read_whole(self, data: bytes) -> list[str] | None:
        """Return the data of whole events of one line each; `None`, with nothing read, if the bytes are not that."""
        if (
            not data.endswith(b"\n\n")
            or self._tail
            or self._data
            or self._event
            or self._failure is not None
            or len(data) > self._max_event
            or b"\r" in data
        ):
            return None
        try:
            events = data.decode().split("\n\n")
        except UnicodeDecodeError:
            return None
        del events[-1]
        lines = 2 * len(events)
        if data.count(b"\n") != lines:
            return None
        texts: list[str] = []
        for event in events:
            if event.startswith("data: "):
                texts.append(event[6:])
            elif event.startswith("data:"):
                texts.append(event[5:])
            else:
                return None
        self._number += lines
        self._after_cr = False
        self._retry = None
        return texts

    def finish(self) -> list[ServerSentEvent]:
        """Take the end of the bytes and return the last event if it has data and only its blank line is missing.

        Raises:
            StreamDecodeError: the last line is not UTF-8, or `feed` held back a failure.
        """
        self._check()
        lines = [bytes(self._tail), b""] if self._tail else [b""]
        self._tail.clear()
        return self._deliver(self._read(lines))

    def _read(self, lines: list[bytes]) -> list[ServerSentEvent]:
        events: list[ServerSentEvent] = []
        for raw in lines:
            self._number += 1
            if not raw:
                if self._data:
                    event = self._event or "message"
                    events.append(ServerSentEvent(event, "\n".join(self._data), self._id, self._retry))
                    self._data.clear()
                    self._size = 0
                self._event = ""
                self._retry = None
                continue
            if len(raw) + self._size > self._max_event:
                self._refuse_size(self._number)
                break
            if self._number == 1 and raw.startswith(BOM):
                raw = raw[3:]
            try:
                line = raw.decode()
            except UnicodeDecodeError:
                self._failure = StreamDecodeError(f"line {self._number} of the server-sent events is not UTF-8")
                break
            name, _, value = line.partition(":")
            if value.startswith(" "):
                value = value[1:]
            if name == "data":
                self._data.append(value)
                self._size += len(raw)
            elif name == "event":
                self._event = value
            elif name == "id":
                if "\0" not in value:
                    self._id = value
            elif name == "retry" and value.isascii() and value.isdigit() and len(value) <= 18:
                # 18 digits fit into 64 bits and are 31 million years: no reconnection time is longer.
                self._retry = int(value)
        return events

    def _refuse_size(self, number: int) -> None:
        self._failure = StreamDecodeError(
            f"the server-sent event at line {number} is larger than {self._max_event} bytes"
        )
