"""Prompts: generated from words, or read from a file."""

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
    """An input for an endpoint's handler, with its own parameters."""

    input: Any
    parameters: Mapping[str, Any] = {}


def prompts(input_tokens: int = 256, seed: int = 0) -> Iterator[Prompt]:
    """Generate prompts of random words, without end.

    No two begin with the same word, so a prefix cache does not help; but the same seed generates the same prompts
    again, and a cache may have them from the previous run.

    Args:
        input_tokens: the number of words, and so about the number of tokens. The model's own count is in the report.
        seed: the seed of the words.
    """
    chance, words = random.Random(seed), _WORDS.split()
    number = 0
    while True:
        number += 1
        yield Prompt(" ".join([str(number), *chance.choices(words, k=max(0, input_tokens - 1))]))


def read_prompts(path: str) -> list[Prompt]:
    """Read prompts from a file: its lines, or for a ``.jsonl`` file the JSON of each line.

    That is an input, or an object with ``input``, ``prompt``, ``text`` or ``messages``, and with ``parameters``.

    Raises:
        ConfigurationError: the file cannot be read, or its content is not valid.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [(number, line.rstrip("\r\n")) for number, line in enumerate(file, 1) if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the prompts of {path!r}: {error}") from None
    if not lines:
        raise ConfigurationError(f"there is no prompt in {path!r}")
    if not path.endswith((".jsonl", ".ndjson")):
        return [Prompt(line) for _, line in lines]
    return [_read(line, f"line {number} of {path!r}") for number, line in lines]


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
