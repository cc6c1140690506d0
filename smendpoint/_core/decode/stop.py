"""Stop sequences: end a text where the first of them begins, however the text was cut in transit."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, cast

from ...errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Pattern:
    """One stop sequence, and how much of it the end of the text matches (the automaton of Knuth, Morris and Pratt)."""

    __slots__ = ("borders", "state", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.state = 0  # how many characters at the end of the text so far are the start of the stop sequence
        # borders[n]: the longest proper prefix of the first n characters that is their suffix too
        self.borders = borders = [0, 0]
        length = 0
        for character in text[1:]:
            while length and text[length] != character:
                length = borders[length]
            if text[length] == character:
                length += 1
            borders.append(length)

    def scan(self, chunk: str) -> int:
        """Read a chunk up to the end of the first match; return its place in the chunk, or -1 if there is none."""
        text, borders, state = self.text, self.borders, self.state
        first, size = text[0], len(text)
        position, end = 0, len(chunk)
        while position < end:
            if state == 0:
                position = chunk.find(first, position)  # most text is far from any stop: skip at C speed
                if position < 0:
                    break
                state = 1
            else:
                character = chunk[position]
                while state and text[state] != character:
                    state = borders[state]
                if text[state] == character:
                    state += 1
            position += 1
            if state == size:
                return position
        self.state = state
        return -1


class StopMatcher:
    """Passes on the text before the first stop sequence, across any cuts, and no part of the sequence itself.

    The stop sequence that *begins* first counts, as in ``text[:min(found positions)]`` over the whole text. Only an end
    of the text that may be the start of a stop sequence is held back; the rest is passed on at once. Matching is
    literal. For each stop sequence, the time is linear in the text, even for hostile sequences.

    Args:
        stop: the stop sequences; with an empty list, all text is passed on.

    Raises:
        ConfigurationError: `stop` is a bare string, or an item of it is not a string or is empty.

    Attributes:
        hit: whether a stop sequence has ended the text. After that, no more text is passed on.
    """

    __slots__ = ("_candidate", "_holder", "_patterns", "hit")

    def __init__(self, stop: Sequence[str]) -> None:
        if isinstance(stop, (str, bytes)):
            raise ConfigurationError("stop must be a list of strings, not one string: write stop=[...]")
        for item in cast("Sequence[object]", stop):
            if not isinstance(item, str) or not item:
                raise ConfigurationError("each stop sequence must be a non-empty string")
        self._patterns = [_Pattern(text) for text in dict.fromkeys(stop)]
        # The text held back is always a start of a stop sequence, so it need not be stored a second time: it is the
        # first `_holder.state` characters of `_holder.text`.
        self._holder: _Pattern | None = None
        # Where in the held text a complete match begins, while a longer sequence that began earlier may still follow.
        self._candidate: int | None = None
        self.hit = False

    def feed(self, text: str) -> str:
        """Take the next piece of text and return the text that can be passed on now; after a hit always ``""``."""
        if self.hit or not text:
            return ""
        if not self._patterns:
            return text
        held = "" if self._holder is None else self._holder.text
        held_size = 0 if self._holder is None else self._holder.state
        size = held_size + len(text)
        match = self._candidate  # positions count from the start of the held text
        for pattern in self._patterns:
            end = pattern.scan(text)
            if end >= 0:
                start = held_size + end - len(pattern.text)
                match = start if match is None else min(match, start)
                pattern.state = 0
        if match is not None:
            # Only a sequence that may have begun before the match can still change where the text ends.
            self._patterns = [pattern for pattern in self._patterns if size - pattern.state < match]
            if not self._patterns:
                self.hit = True
                return _slice(held, held_size, text, match)
        self._holder = holder = max(self._patterns, key=attrgetter("state"))
        safe = size - holder.state
        self._candidate = None if match is None else match - safe
        return _slice(held, held_size, text, safe)

    def finish(self) -> str:
        """Take the end of the text and return the text that was held back and is not part of a stop sequence."""
        if self.hit or self._holder is None:
            return ""
        held = self._holder.text[: self._holder.state]
        self._holder = None
        if self._candidate is not None:
            self.hit = True
            return held[: self._candidate]
        return held


def _slice(held: str, held_size: int, text: str, size: int) -> str:
    """Give the first `size` characters of the held text and the new text after it."""
    if size <= held_size:
        return held[:size]
    return held[:held_size] + text[: size - held_size] if held_size else text[:size]
