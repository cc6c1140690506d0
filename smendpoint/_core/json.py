"""JSON values in text, parsed in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from json import JSONDecoder

_BLANKS = frozenset(" \t\r\n")

_json_decoder: JSONDecoder | None = None
_scan: Callable[[str, int], tuple[Any, int]]  # the C scanner of that decoder


def parse_json(text: str) -> Any:
    """Parse one JSON value. ``NaN`` and ``Infinity`` are read as Python writes them, because model servers write them.

    Raises:
        ValueError: this is not one JSON value, or it is nested too deeply for the interpreter. The error may hold the
            text: do not pass it on.
    """
    global _json_decoder, _scan
    if _json_decoder is None:
        from json import JSONDecoder  # on first use: the import takes milliseconds

        decoder = JSONDecoder()
        # Set the scanner first: a thread that sees the decoder assumes that both are ready.
        _scan = decoder.scan_once  # type: ignore[attr-defined]  # there since Python 2.6, not in typeshed
        _json_decoder = decoder
    try:
        try:
            # One pass; `decode` searches for white space at both ends, which token lines do not have.
            value, end = _scan(text, 0)
            if end == len(text):
                return value
        except (ValueError, StopIteration):
            pass
        return _json_decoder.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_joined(text: str) -> tuple[list[Any], int]:
    """Parse JSON objects and arrays that follow one another, with white space between them or without.

    Returns:
        The complete values, and the place in the text after them, where another one may have begun.
    """
    from json import JSONDecoder

    scan = JSONDecoder().raw_decode
    values: list[Any] = []
    place = 0
    while True:
        while text[place : place + 1] in _BLANKS:
            place += 1
        if not text.startswith(("{", "["), place):
            return values, place
        try:
            value, place = scan(text, place)
        except (ValueError, RecursionError):
            return values, place
        values.append(value)
