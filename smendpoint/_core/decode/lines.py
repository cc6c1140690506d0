"""Push decoders for lines, JSON lines and plain text."""

from __future__ import annotations

from codecs import utf_8_decode
from typing import Any

from ...errors import StreamDecodeError
from ..json import parse_json
from .push import PushDecoder

MAX_ITEM = 16 * 1024 * 1024
"""The default limit of one line, event or document, in bytes. The service's model allows a body of 6 MiB, and a line is
a small part of one; with the limit, a stream without line ends fails early, and does not run out of memory."""


class _Lines(PushDecoder):
    """The base of the two line decoders: finds the lines."""

    __slots__ = ("_count", "_max_line", "_tail")

    def __init__(self, *, max_line: int = MAX_ITEM) -> None:
        super().__init__()
        self._max_line = max_line
        self._tail = bytearray()  # the start of a line whose end has not arrived
        self._count = 0  # the number of lines so far

    def _split(self, data: bytes) -> list[bytes]:
        """Return the lines that are complete now. Keep the rest, and the failure."""
        pieces = bytes(data).split(b"\n")
        rest = pieces.pop()
        tail = self._tail
        if tail and pieces:
            tail += pieces[0]
            pieces[0] = bytes(tail)
            tail.clear()
        lines: list[bytes] = []
        for piece in pieces:
            line = piece[:-1] if piece.endswith(b"\r") else piece
            if len(line) > self._max_line:
                self._refuse(len(lines))
                break
            lines.append(line)
        else:
            tail += rest
            # A CR may turn out to belong to the line's end, so it does not count yet.
            if len(tail) - tail.endswith(b"\r") > self._max_line:
                self._refuse(len(lines))
        self._count += len(lines)
        return lines

    def _refuse(self, ahead: int) -> None:
        number = self._count + ahead + 1
        self._failure = StreamDecodeError(f"line {number} of the stream is longer than {self._max_line} bytes")

    def _last(self) -> list[bytes]:
        """Give the last line, if it had no end."""
        self._check()
        last = bytes(self._tail)
        self._tail.clear()
        self._count += 1
        return [last] if last else []


class LineDecoder(_Lines):
    """Cuts bytes into lines only at LF and CR LF. An empty line is ``b""``.

    Args:
        max_line: the most bytes of one line, without its end.
    """

    __slots__ = ()

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the lines that they complete, without their ends.

        Raises:
            StreamDecodeError: a line is longer than `max_line`.
        """
        if self._failure is not None:
            self._check()
        return self._deliver(self._split(data))

    def finish(self) -> list[bytes]:
        """Take the end of the bytes and return the last line if it had no end.

        Raises:
            StreamDecodeError: the failure that a feed kept.
        """
        return self._last()


class JSONLinesDecoder(_Lines):
    """Reads one JSON value from each line; blank lines are skipped, the last line needs no end.

    Args:
        max_line: the most bytes of one line, without its end.
    """

    __slots__ = ()

    def feed(self, data: bytes) -> list[Any]:
        """Take the next bytes and return the values of the lines that they complete.

        Raises:
            StreamDecodeError: a line is not UTF-8, not JSON, or longer than `max_line`. The message has its number,
                counted from 1 and including blank lines, but not its content.
        """
        if self._failure is not None:
            self._check()
        return self._deliver(self._parse(self._split(data)))

    def finish(self) -> list[Any]:
        """Take the end of the bytes and return the value of the last line if it had no end.

        Raises:
            StreamDecodeError: that line is not JSON, or `feed` held back a failure.
        """
        values = self._parse(self._last())
        if self._failure is not None:
            self._failure.received = tuple(values)  # no later call would raise it
            self._check()
        return values

    def _parse(self, lines: list[bytes]) -> list[Any]:
        """Return the values of the latest lines. Keep the failure."""
        values: list[Any] = []
        for number, line in enumerate(lines, self._count - len(lines) + 1):
            try:
                values.append(parse_json(line.decode()))
            except UnicodeDecodeError as error:
                self._add_joined(line[: error.start].decode(), values)
                self._failure = StreamDecodeError(f"line {number} of the stream is not UTF-8")
                break
            except ValueError:
                text = line.decode()
                # A blank line has JSON's whitespace, not Unicode's.
                if text.strip(" \t\r") and not self._add_joined(text, values):
                    self._failure = StreamDecodeError(f"line {number} of the stream is not JSON")
                    break
        return values

    def _add_joined(self, text: str, values: list[Any]) -> bool:
        """Add the values of a line with several values; return whether it was one."""
        return False


class TextDecoder(PushDecoder):
    """Reads text in strict UTF-8; a character that is cut in transit waits for its other bytes."""

    __slots__ = ("_position", "_rest")

    def __init__(self) -> None:
        super().__init__()
        self._rest = b""  # the start of a character: three bytes at most
        self._position = 0  # the position of `_rest` in the stream

    def feed(self, data: bytes) -> list[str]:
        """Take the next bytes and return the text that they complete: one string, or none if no character is complete.

        Raises:
            StreamDecodeError: the bytes are not UTF-8. The text before them is delivered first.
        """
        if self._failure is not None:
            self._check()
        data = self._rest + data
        try:
            text, used = utf_8_decode(data, "strict", False)
        except UnicodeDecodeError as error:
            used = error.start
            text = data[:used].decode()
            self._failure = StreamDecodeError(f"the text is not UTF-8 at byte {self._position + used}")
        self._position += used
        self._rest = data[used:]
        return self._deliver([text] if text else [])

    def finish(self) -> list[str]:
        """Take the end of the bytes and return nothing: all whole characters have been returned.

        Raises:
            StreamDecodeError: the text ends inside a character, or `feed` held back a failure.
        """
        self._check()
        if self._rest:
            raise StreamDecodeError(f"the text ends inside the character at byte {self._position}")
        return []
