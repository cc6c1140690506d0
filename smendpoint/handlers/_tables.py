"""Rows of a table as bytes, and the predictions in an answer as lists."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from smendpoint.errors import HandlerError
from smendpoint.handlers._json import decode_json, encode_json, encode_text
from smendpoint.handlers._npy import read_npy, write_npy
from smendpoint.handlers._predictions import read_predictions
from smendpoint.handlers._shapes import raise_for_error, unknown_shape

if TYPE_CHECKING:
    from smendpoint._container_errors import JSONValue

__all__ = ["READERS", "WRITERS", "as_rows", "is_bracketed", "read_items"]

_BETWEEN_ROWS = re.compile(r"\](?:, ?|\r?\n)\[")

Row: TypeAlias = "Sequence[Any] | Mapping[Any, Any]"


def as_rows(table: Any) -> list[Row]:
    """Give the rows of a list of rows, of one row, of a NumPy array or of a pandas DataFrame.

    Raises:
        HandlerError: it is none of them, or has no row.
    """
    if hasattr(table, "to_numpy"):
        table = table.to_numpy()
    if hasattr(table, "tolist"):
        table = table.tolist()
    if isinstance(table, (str, bytes, Mapping)) or not hasattr(table, "__iter__"):
        raise HandlerError(f"A table is a sequence of rows, or one row, not {type(cast('Any', table)).__name__}.")
    rows: list[Any] = [row.tolist() if hasattr(row, "tolist") else row for row in table]
    nested = [isinstance(row, (Sequence, Mapping)) and not isinstance(row, (str, bytes)) for row in rows]
    if not rows:
        raise HandlerError("A table needs at least one row.")
    if not any(nested):
        return [rows]
    if not all(nested):
        raise HandlerError("A table is a sequence of rows, and this one has rows and single values.")
    return rows


def _plain_rows(rows: Sequence[Row], media: str) -> list[list[Any]]:
    """Give rows that must be sequences of equal length."""
    plain: list[list[Any]] = []
    for number, row in enumerate(rows):
        if isinstance(row, Mapping):
            raise HandlerError(f"Row {number} is a mapping, and {media} has no column names: give its values in order.")
        if len(row) != len(rows[0]):
            raise HandlerError(f"Row {number} has {len(row)} values, and row 0 has {len(rows[0])}.")
        plain.append([_scalar(cell, number) for cell in row])
    return plain


def _scalar(cell: Any, row: int) -> str | int | float | None:
    """Give a cell as one of Python's own: NumPy's numbers have `item`, and a truth value is 1 or 0 for these models."""
    if not isinstance(cell, (str, int, float)) and hasattr(cell, "item"):
        cell = cell.item()
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, int):
        return int(cell)
    if isinstance(cell, float):
        return float(cell)
    raise HandlerError(f"Row {row} has a value of type {type(cell).__name__}.")


def _write_csv(rows: Sequence[Row]) -> bytes:
    # No line end after the last row: some containers would read it as one more row. An empty line they would skip, and
    # give one prediction less: a row whose only value is missing has quotes instead.
    lines = [",".join(map(_csv_cell, row)) or '""' for row in _plain_rows(rows, "CSV")]
    return encode_text("\n".join(lines))


def _csv_cell(cell: str | int | float | None) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return '"' + cell.replace('"', '""') + '"' if any(mark in cell for mark in ',"\r\n') else cell
    return repr(cell)


def _write_json(rows: Sequence[Row]) -> bytes:
    return encode_json([_json_row(row, number) for number, row in enumerate(rows)])


def _write_instances(rows: Sequence[Row]) -> bytes:
    return b'{"instances":' + _write_json(rows) + b"}"


def _write_json_lines(rows: Sequence[Row]) -> bytes:
    return b"\n".join(encode_json(_json_row(row, number)) for number, row in enumerate(rows))


def _json_row(row: Row, number: int) -> Any:
    if isinstance(row, Mapping):
        return dict(row)
    return [cell if isinstance(cell, (list, dict, bool)) else _scalar(cell, number) for cell in row]


def _write_libsvm(rows: Sequence[Row]) -> bytes:
    """Write ``label index:value ...`` with indices from 0, and 0 for the label that a prediction does not have.

    Newer XGBoost containers skip the label; older ones read the first word of a line as one and would lose a feature.
    """
    lines: list[str] = []
    for number, row in enumerate(rows):
        pairs = row.items() if isinstance(row, Mapping) else enumerate(row)
        words = ["0"]
        for name, cell in pairs:
            index, value = _scalar(name, number), _scalar(cell, number)
            if not isinstance(index, int) or isinstance(value, str):
                raise HandlerError(f"Row {number} must have whole numbers as indices and numbers as values for libsvm.")
            if value is not None:
                words.append(f"{index}:{value!r}")
        lines.append(" ".join(words))
    return "\n".join(lines).encode()


def _write_npy(rows: Sequence[Row]) -> bytes:
    plain = _plain_rows(rows, "NumPy")
    for number, row in enumerate(plain):
        if any(cell is None or isinstance(cell, str) for cell in row):
            raise HandlerError(f"Row {number} has a value that is not a number.")
    return write_npy(plain)


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
