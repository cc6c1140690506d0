"""Rows of a table as bytes, and the predictions in an answer as lists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from smendpoint.errors import HandlerError
from smendpoint.handlers._json import decode_json, encode_json, encode_text
from smendpoint.handlers._npy import array_as_npy, read_npy, write_npy
from smendpoint.handlers._predictions import read_predictions
from smendpoint.handlers._rows import as_cell, as_rows, frame_as_csv
from smendpoint.handlers._shapes import raise_for_error, unknown_shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from smendpoint._container_errors import JSONValue
    from smendpoint.handlers._rows import Row

__all__ = ["READERS", "WRITERS", "is_bracketed", "read_items"]

_BETWEEN_ROWS = re.compile(r"\](?:, ?|\r?\n)\[")


def _even(rows: Sequence[Row], media: str) -> Iterator[tuple[int, Sequence[Any]]]:
    """Give each row, with its number, where rows must be sequences of equal length."""
    for number, row in enumerate(rows):
        if isinstance(row, Mapping):
            raise HandlerError(f"Row {number} is a mapping, and {media} has no column names: give its values in order.")
        if len(row) != len(rows[0]):
            raise HandlerError(f"Row {number} has {len(row)} values, and row 0 has {len(rows[0])}.")
        yield number, row


def _write_csv(table: Any) -> bytes:
    text = frame_as_csv(table)
    if text is None:
        # No line end after the last row: some containers would read it as one more row. An empty line they would skip,
        # and give one prediction less: a row whose only value is missing has quotes instead.
        lines = [
            ",".join([_csv_cell(cell, number) for cell in row]) or '""' for number, row in _even(as_rows(table), "CSV")
        ]
        text = "\n".join(lines)
    return encode_text(text)


def _csv_cell(cell: Any, row: int) -> str:
    if type(cell) is float:
        return repr(cell)
    value = as_cell(cell, row)
    if value is None:
        return ""
    if isinstance(value, (int, float)):
        return _number(value, row)
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text


def _number(value: float | int, row: int) -> str:
    """Write a number as Python does; a truth value is 1 or 0 for these models."""
    try:
        return repr(value if isinstance(value, float) else int(value))
    except ValueError:
        raise HandlerError(f"Row {row} has an integer of more digits than Python writes.") from None


def _write_json(table: Any) -> bytes:
    return encode_json([_json_row(row, number) for number, row in enumerate(as_rows(table))])


def _write_instances(table: Any) -> bytes:
    return b'{"instances":' + _write_json(table) + b"}"


def _write_json_lines(table: Any) -> bytes:
    return b"\n".join(encode_json(_json_row(row, number)) for number, row in enumerate(as_rows(table)))


def _json_row(row: Row, number: int) -> Any:
    if isinstance(row, Mapping):
        return {name: _json_cell(cell, number) for name, cell in row.items()}
    return [_json_cell(cell, number) for cell in row]


def _json_cell(cell: Any, row: int) -> Any:
    if isinstance(cell, (float, int, str, list, tuple, dict)) or getattr(cell, "shape", None):
        return cell
    value: Any = as_cell(cell, row)
    return value.isoformat() if hasattr(value, "isoformat") else value


def _write_libsvm(table: Any) -> bytes:
    """Write ``label index:value ...`` with indices from 0, and 0 for the label that a prediction does not have.

    Newer XGBoost containers skip the label; older ones read the first word of a line as one and would lose a feature.
    """
    lines: list[str] = []
    for number, row in enumerate(as_rows(table)):
        pairs = row.items() if isinstance(row, Mapping) else enumerate(row)
        words = ["0"]
        for name, cell in pairs:
            index, value = as_cell(name, number), as_cell(cell, number)
            if not isinstance(index, int) or not (value is None or isinstance(value, (int, float))):
                raise HandlerError(f"Row {number} must have whole numbers as indices and numbers as values for libsvm.")
            if value is not None:
                words.append(f"{index}:{_number(value, number)}")
        lines.append(" ".join(words))
    return "\n".join(lines).encode()


def _write_npy(table: Any) -> bytes:
    data = array_as_npy(table)
    if data is not None:
        return data
    return write_npy(
        [
            [_npy_cell(cell, number) for cell in row]
            for number, row in _even(as_rows(table, nan_is_missing=False), "NumPy")
        ]
    )


def _npy_cell(cell: Any, row: int) -> float | int:
    value = as_cell(cell, row)
    if not isinstance(value, (int, float)):
        raise HandlerError(f"Row {row} has a value that is not a number.")
    return value


def _read_csv(body: bytes) -> JSONValue:
    import csv
    from io import StringIO

    try:
        text = body.decode()
        rows = _bracketed_rows(text) if is_bracketed(body) else None
        return rows or [[*row] for row in csv.reader(StringIO(text, newline=""), strict=True) if row]
    except UnicodeDecodeError as error:
        raise HandlerError(f"The answer is not CSV in UTF-8: {error.reason} at byte {error.start}.") from None
    except csv.Error:
        raise HandlerError("The answer is not CSV: its quotes do not match, or a field is too long.") from None


def is_bracketed(body: bytes) -> bool:
    """Say whether an answer in CSV may be one of `_bracketed_rows`."""
    return body.lstrip()[:1] == b"["


def _bracketed_rows(text: str) -> JSONValue:
    """Read ``[0.1, 0.9],[0.8, 0.2]``: so XGBoost's container writes several values for each row, in "CSV".

    Its batch mode puts line ends between the rows. Anything else in brackets, such as labels, is taken as it is.
    """
    text = text.strip()
    rows = [row.split(",") for row in _BETWEEN_ROWS.split(text[1:-1])] if text.endswith("]") else []
    try:
        for row in rows:
            for cell in row:
                float(cell)
    except ValueError:
        return None
    return [[*row] for row in rows]


def _read_json(body: bytes) -> JSONValue:
    return decode_json(body, "TabularHandler")


def _read_json_lines(body: bytes) -> JSONValue:
    return [decode_json(line, "TabularHandler") for line in body.split(b"\n") if line.strip()]


def _read_npy(body: bytes) -> JSONValue:
    cells = read_npy(body)
    return [list(cell) if isinstance(cell, list) else cell for cell in cells]


WRITERS = {
    "csv": ("text/csv", _write_csv),
    "json": ("application/json", _write_json),
    "instances": ("application/json", _write_instances),
    "jsonlines": ("application/jsonlines", _write_json_lines),
    "libsvm": ("text/libsvm", _write_libsvm),
    "npy": ("application/x-npy", _write_npy),
}
READERS = {
    "csv": ("text/csv", _read_csv),
    "json": ("application/json", _read_json),
    "jsonlines": ("application/jsonlines", _read_json_lines),
    "npy": ("application/x-npy", _read_npy),
}


def read_items(body: bytes, media: str, key: str | None, handler: str) -> tuple[list[JSONValue], str]:
    """Give an answer's predictions, each a value or a list of values, and where they are, for messages.

    Args:
        body: the answer.
        media: one of `READERS`.
        key: the field of a prediction that is an object (see `read_predictions`).
        handler: the handler's name, for messages.
    """
    value = READERS[media][1](body)
    raise_for_error(value)
    if media == "jsonlines" and isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0] if "predictions" in value[0] else value
    found = read_predictions(value, key, handler)
    if found is None:
        raise unknown_shape(
            value, handler, 'a list, or "predictions", "scores", "projections" or (of TF Serving) "outputs"'
        )
    return found
