"""How the commands write: plain text, and a little emphasis on a terminal."""

from __future__ import annotations

import os
import sys
import textwrap

__all__ = ["Terminal"]


class Terminal:
    """Standard output; styled if it is a terminal and ``NO_COLOR`` is not set."""

    def __init__(self) -> None:
        self.styled = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def _style(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.styled else text

    def title(self, text: str) -> None:
        """Write the heading of a section."""
        print(f"\n{self._style('1', text)}")

    def text(self, text: str) -> None:
        """Write text of any length, indented and wrapped; its line ends stay."""
        for line in text.strip().splitlines():
            print(textwrap.fill(line, 96, initial_indent="  ", subsequent_indent="  ") if line.strip() else "")

    def answer(self, text: str) -> None:
        """Write what the model said."""
        for line in textwrap.wrap(text, 94):
            print(f"  {self._style('32', line)}")

    def row(self, name: str, value: str) -> None:
        """Write a name and its value, in columns."""
        print(f"  {name:<34}{self._style('36', value)}")

    def piece(self, text: str) -> None:
        """Write a piece of an answer at once, without a line end."""
        print(self._style("32", text) if text.strip() else text, end="", flush=True)
