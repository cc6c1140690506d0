"""Renders Markdown as it arrives. It needs rich.

Complete blocks are printed once. Only the last one, which still grows, is drawn again and again, and never taller than
the screen, because lines that have scrolled away cannot be drawn over.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown as Rendered
from rich.segment import Segment

from smendpoint.cli._terminal import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

# How often the last block is drawn per second: rendering takes longer than a fast model takes for a token.
REDRAWS_PER_SECOND = 12
# The first and the last line of a code block, at any depth of a list. Inline code may also begin with backticks.
_FENCE = re.compile(r" *(```+(?!.*`)|~~~+)")


class Blocks:
    """Cuts a growing text into blocks: at a line without indentation after a blank line, outside of fences.

    An indented line after a blank one belongs to the list above it.
    """

    def __init__(self) -> None:
        self.rest = ""
        self._seen = 0  # the length of the part of `rest` whose lines have been checked
        self._blank = False  # whether the last of these is blank
        self._fence = ""

    def feed(self, text: str) -> list[str]:
        """Return the blocks that `text` completes; the text after them is `rest`."""
        self.rest += text
        blocks: list[str] = []
        while True:
            if self._blank and self.rest[self._seen : self._seen + 1].strip():
                blocks.append(self.rest[: self._seen])
                self.rest, self._seen, self._blank = self.rest[self._seen :], 0, False
            end = self.rest.find("\n", self._seen)
            if end < 0:
                return [block for block in blocks if block.strip()]
            self._look(self.rest[self._seen : end])
            self._seen = end + 1

    def _look(self, line: str) -> None:
        """Note whether a line is blank outside of a fence, and whether it begins or ends one."""
        mark = _FENCE.match(line)
        if not self._fence:
            self._blank = not line.strip()
            self._fence = mark[1] if mark else ""
        elif mark and mark[1].startswith(self._fence) and not line[mark.end() :].strip():
            self._fence = ""


class Tail:
    """The last lines of a rendered text that fit on the screen.

    They leave room for the ``^C`` that the terminal writes after them when the user types Ctrl-C: on the next line, it
    would prevent drawing over the last one.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        narrower = options.update(width=max(1, options.max_width - len("^C")))
        lines = console.render_lines(Rendered(self._text), narrower, pad=False)
        for line in lines[-max(1, console.height - 1) :]:
            yield from line
            yield Segment.line()


class Markdown:
    """Writes answers to standard output as Markdown."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)

    def show(self, texts: Iterator[str]) -> None:
        """Write a text whose pieces arrive one after the other. A failure loses none of them."""
        blocks = Blocks()
        with Live(console=self._console, transient=True, refresh_per_second=REDRAWS_PER_SECOND) as live:
            try:
                for text in texts:
                    for block in blocks.feed(visible(text)):
                        live.update("", refresh=True)
                        self._console.print(Rendered(block), end="\n\n")
                    live.update(Tail(blocks.rest))
            finally:
                live.update("", refresh=True)
                if blocks.rest.strip():
                    self._console.print(Rendered(blocks.rest))
