"""Prompts: made of words, or read from a file."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any, NamedTuple

from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Short words, each of which is one token for most models.
_WORDS = (
    "the and for that with from this have not but you are was his her they one all can will would there some time them"
    " then now out over also back after use two how our work first well way even new want any give day most us"
)


class Prompt(NamedTuple):
    """An input for an endpoint, as its handler takes it, and parameters of its own."""

    input: Any
    parameters: Mapping[str, Any] = {}


def prompts(input_tokens: int = 256, seed: int = 0) -> Iterator[Prompt]:
    """Make prompts without end, of random words.

    Args:
        input_tokens: about how many tokens each has: it has so many words. The model's own count is in the report.
        seed: of the words. No two prompts are alike from the first word on, so no cache of prefixes helps.
    """
    chance, words = random.Random(seed), _WORDS.split()
    number = 0
    while True:
        number += 1
        yield Prompt(" ".join([str(number), *chance.choices(words, k=max(0, input_tokens - 1))]))


def read_prompts(path: str) -> list[Prompt]:
    """Read prompts from a file: its lines, or of a ``.jsonl`` file the JSON of each line.

    That is an input, or an object with ``input``, ``prompt``, ``text`` or ``messages``, and with ``parameters``.

    Raises:
        ConfigurationError: the file cannot be read, or does not fit.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.rstrip("\r\n") for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the prompts of {path!r}: {error}") from None
    if not lines:
        raise ConfigurationError(f"there is no prompt in {path!r}")
    if not path.endswith((".jsonl", ".ndjson")):
        return [Prompt(line) for line in lines]
    return [_read(line, f"line {number} of {path!r}") for number, line in enumerate(lines, 1)]


def _read(line: str, place: str) -> Prompt:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise ConfigurationError(f"{place} is not JSON") from None
    if not isinstance(row, dict):
        return Prompt(row)
    name = next((name for name in ("input", "prompt", "text", "messages") if name in row), None)
    own = row.get("parameters", {})
    if name is None or not isinstance(own, dict):
        raise ConfigurationError(f"{place} must have input, prompt, text or messages; parameters must be an object")
    return Prompt(row[name], own)
