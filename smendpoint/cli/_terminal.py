"""The output of the commands: plain text, with a little emphasis on a terminal."""

from __future__ import annotations

import codecs
import os
import re
import shutil
import sys
import textwrap
from contextlib import suppress
from typing import TextIO, TypeVar

T = TypeVar("T")

LINE_SECONDS = 10.0
"""Seconds between two lines of progress if nothing is drawn."""

WIDTH = 96
"""The maximum number of columns that text is wrapped to."""

NARROWEST = 40
"""The minimum number of columns that text is wrapped to: a narrower terminal wraps it again."""

# A terminal obeys these and does not show them: the controls C0 (all but tab and line end, before which a
# carriage return is harmless) and C1, delete, and the marks that change the direction of text.
_CONTROLS = re.compile(r"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Escape each character that a terminal would obey, such as ``\\x1b``."""
    return _CONTROLS.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def draws(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that can move its cursor, so that its text can be drawn again."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _colours(stream: TextIO) -> bool:
    """Return whether a stream gets colours: the environment decides, or else whether it is a terminal with colours."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or draws(stream)


def progress_display(quiet: bool, silent: type[T], lines: type[T], drawn: type[T]) -> T:
    """Make the progress display on standard error: drawn on a terminal, if rich is installed, or else in lines."""
    if quiet or sys.stderr is None:
        return silent()
    if draws(sys.stderr):
        with suppress(ImportError):  # drawing is not worth an error
            return drawn()
    return lines()


def complain(message: str) -> None:
    """Write a message to standard error, if there is one; escape the control characters of a terminal."""
    if sys.stderr is not None:
        print(f"smendpoint: {visible(message) if sys.stderr.isatty() else message}", file=sys.stderr, flush=True)


def discard(stream: TextIO) -> None:
    """Discard everything that is written to a stream: Python flushes it at exit, and would fail again."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


class Output:
    """Writes a model's output to standard output unchanged, but escapes the control characters of a terminal."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def text(self, text: str, end: str = "") -> None:
        """Write text at once."""
        print(visible(text) if self._terminal else text, end=end, flush=True)

    def data(self, data: bytes) -> None:
        """Write bytes at once; on a terminal as UTF-8, and half a character only with its other half."""
        if self._terminal:
            self.text(self._decoder.decode(data))
        else:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def close(self) -> None:
        """Write the rest: half a character."""
        if self._terminal:
            self.text(self._decoder.decode(b"", final=True))


class Terminal:
    """Standard output: styled if it has colours, and wrapped to the width of the terminal."""

    def __init__(self) -> None:
        self.styled = _colours(sys.stdout)
        self._width = max(NARROWEST, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))
        self._terminal = sys.stdout.isatty()

    def _style(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.styled else text

    def _wrap(self, text: str, indent: int) -> str:
        """Wrap text between words, so that an address or a name can be copied in one piece."""
        blank = " " * indent
        lines = textwrap.wrap(text, self._width - indent, break_long_words=False, break_on_hyphens=False)
        return "\n".join([blank + line for line in lines])

    def _line(self, text: str, indent: int) -> str:
        """Wrap text; in a pipe it stays one line, as programs expect."""
        return self._wrap(text, indent) if self._terminal else text

    def title(self, text: str) -> None:
        """Write the heading of a section."""
        print(f"\n{self._style('1', text)}")

    def text(self, text: str) -> None:
        """Write text of any length, indented and wrapped; its line ends stay."""
        for line in text.strip().splitlines():
            print(self._wrap(line, 2))

    def sentence(self, text: str) -> None:
        """Write a sentence after an empty line; in a pipe it stays one line."""
        print(f"\n{self._line(text, 0)}")

    def row(self, name: str, value: str, width: int = 34) -> None:
        """Write a name and its value, in columns; the first is ``width`` columns wide."""
        print(f"  {name:<{width}}{self._style('36', value)}")

    def code(self, text: str) -> None:
        """Write a line that is not wrapped."""
        print(f"  {self._style('36', text)}")

    def finding(self, name: str, mark: str, colour: str, text: str, advice: str) -> None:
        """Write a finding, and below it the advice; in a pipe the finding is one line."""
        print(f"{self._style(colour, f'{mark:<8}')}{name:<12}{self._line(visible(text), 20).lstrip()}", flush=True)
        if advice:
            print(self._wrap(visible(advice), 20), flush=True)

    def piece(self, text: str) -> None:
        """Write a piece of an answer at once, without a line end."""
        print(self._style("32", text) if text.strip() else text, end="", flush=True)
