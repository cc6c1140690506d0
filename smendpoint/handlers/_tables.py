"""Write rows of a table as CSV, JSON and libsvm, and read rows from CSV.

A table is any object that holds rows: lists, NumPy arrays, frames of pandas and polars, Arrow tables. Nothing here
imports those libraries: the attributes of a table show which library it is from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from smendpoint.errors import HandlerError
from smendpoint.handlers._json import encode_json, encode_text, is_missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, time
    from decimal import Decimal

    from smendpoint._container_errors import JSONValue

Row: TypeAlias = "Sequence[Any] | Mapping[Any, Any]"
Cell: TypeAlias = "str | int | float | Decimal | date | time | None"

_BYTES_LIKE = (str, bytes, bytearray)
_EMPTY = "A table needs at least one row."
_BETWEEN_ROWS = re.compile(r"\](?:, ?|\r?\n)\[")


def as_rows(table: Any, *, nan_is_missing: bool = True) -> list[Row]:
    """Return the rows of a list of rows, of one row, of a NumPy array, or of a frame; each value keeps its type.

    In pandas' columns of floats, NaN stands for a missing number: it becomes ``None`` if `nan_is_missing`.

    Raises:
        HandlerError: it is not a table, or has no row.
    """
    columns = columns_of(table)
    if columns is not None:
        # One by one: in an array of all columns, integers next to floats would become floats.
        rows: list[Any] = list(zip(*(as_list(column, nan_is_missing) for column in columns), strict=True))
        if not rows:
            raise HandlerError(_EMPTY)
        return rows
    table = as_list(table, nan_is_missing)
    # A set has no order of its own.
    single = isinstance(table, (*_BYTES_LIKE, Mapping, Set)) or getattr(table, "shape", None) == ()
    if single or not hasattr(table, "__iter__"):
        raise HandlerError(f"A table is a sequence of rows, or one row, not {type(cast('Any', table)).__name__}.")
    rows = [row if isinstance(row, list) else as_list(row, nan_is_missing) for row in table]
    nested = [
        isinstance(row, list) or (isinstance(row, (Sequence, Mapping)) and not isinstance(row, _BYTES_LIKE))
        for row in rows
    ]
    if not rows:
        raise HandlerError(_EMPTY)
    if not any(nested):
        return [rows]
    if not all(nested):
        raise HandlerError("A table is a sequence of rows, but this one has rows and single values.")
    return rows


def columns_of(table: Any) -> list[Any] | None:
    """Return the columns of a frame, an Arrow table or a structured NumPy array; ``None`` for anything else."""
    if isinstance(table, (list, tuple)):
        return None
    if hasattr(table, "iloc"):  # pandas; two of its columns may have one name
        return [column for _, column in table.items()] if hasattr(table, "columns") else None
    if hasattr(table, "get_columns"):  # polars
        return list(table.get_columns())
    if hasattr(table, "to_pylist") and hasattr(table, "columns"):  # Arrow
        return list(table.columns)
    names = getattr(getattr(table, "dtype", None), "names", None)
    return [table[name] for name in names] if names and len(table.shape) == 1 else None


def as_list(values: Any, nan_is_missing: bool) -> Any:
    """Return a column, an array or a row of one as a list of cells; anything else unchanged."""
    if isinstance(values, (list, tuple, str, int, float)):
        return cast("Any", values)
    if hasattr(values, "__array_interface__"):
        names = values.dtype.names
        if not values.shape:
            return [values[name] for name in names] if names else values
        # `tolist` would turn some dates into numbers of nanoseconds.
        return list(values) if values.dtype.kind in "mM" else values.tolist()
    if hasattr(values, "iloc"):
        cells = values.tolist()
        # NumPy's own types have no `na_value`: there, NaN stands for a missing number.
        if not nan_is_missing and values.dtype.kind == "f" and not hasattr(values.dtype, "na_value"):
            return cells
        gone = values.isna()
        return [None if mark else cell for cell, mark in zip(cells, gone, strict=True)] if gone.any() else cells
    for name in ("to_pylist", "to_list", "tolist"):  # Arrow, polars, other arrays
        if hasattr(values, name):
            return getattr(values, name)()
    return values.to_numpy().tolist() if hasattr(values, "to_numpy") else values


def as_cell(cell: Any, row: int) -> Cell:
    """Convert a cell to one of Python's own types, or ``None`` if it is missing; NumPy's dates become ISO texts.

    Raises:
        HandlerError: it is not a single value that a table can hold. The message names the row.
    """
    if type(cell) is float or type(cell) is int:
        return cell
    if hasattr(cell, "__array_interface__") and not cell.shape:
        kind = cell.dtype.kind
        if kind == "M":
            text = str(cell)
            return None if text == "NaT" else text
        if kind != "m":
            cell = cell.tolist()
    if cell is None or isinstance(cell, (str, bool)):
        return cell
    if isinstance(cell, int):
        return int(cell)
    if isinstance(cell, float):
        return float(cell)
    if is_missing(cell):
        return None
    from datetime import date, time
    from decimal import Decimal

    if isinstance(cell, (date, time, Decimal)):
        return cell
    raise HandlerError(f"Row {row} has a value of type {type(cell).__name__}.")


def even_rows(rows: Sequence[Row], media: str) -> Iterator[tuple[int, Sequence[Any]]]:
    """Yield each row with its number; rows must be sequences of equal length."""
    for number, row in enumerate(rows):
        if isinstance(row, Mapping):
            raise HandlerError(f"Row {number} is a mapping, but {media} has no column names: pass its values in order.")
        if len(row) != len(rows[0]):
            raise HandlerError(f"Row {number} has {len(row)} values, but row 0 has {len(rows[0])}.")
        yield number, row


def write_csv(table: Any) -> bytes:
    """Write CSV without a line of column names."""
    text = _frame_as_csv(table)
    if text is None:
        # No line end after the last row: some containers would read it as one more row. They skip an empty line, and
        # return one prediction less: so a row whose only value is missing has quotes instead.
        lines = [
            ",".join([_csv_cell(cell, number) for cell in row]) or '""'
            for number, row in even_rows(as_rows(table), "CSV")
        ]
        text = "\n".join(lines)
    return encode_text(text)


def _frame_as_csv(table: Any) -> str | None:
    """Let a frame's own library write CSV; ``None`` if the table is not a frame.

    Raises:
        HandlerError: the frame is empty, or holds a value that CSV cannot hold.
    """
    pandas = hasattr(table, "iloc") and hasattr(table, "columns")
    if not pandas and not (hasattr(table, "get_columns") and hasattr(table, "write_csv")):
        return None
    if 0 in table.shape:
        raise HandlerError(_EMPTY)
    if not pandas:
        # A row whose only value is missing would be an empty line, which containers skip.
        missing = '""' if table.shape[1] == 1 else None
        try:
            text: str = table.write_csv(include_header=False, null_value=missing)
        except Exception as error:  # for a type that CSV cannot hold; polars does not document the exception
            types = ", ".join(dict.fromkeys(map(str, table.dtypes)))
            raise HandlerError(
                f"polars does not write this frame as CSV ({type(error).__name__}); its types are {types}."
            ) from None
        return text
    for _, column in table.items():
        if column.dtype.kind not in "biufcmM":  # pandas would write any object as its `str`
            for number, cell in {type(cell): (number, cell) for number, cell in enumerate(column)}.values():
                as_cell(cell, number)
    text = table.to_csv(header=False, index=False, lineterminator="\n")
    if "\r" in text:
        # Before Python 3.13, `csv` leaves a lone carriage return without quotes, and readers see the end of a row
        # there.
        text = table.to_csv(header=False, index=False, lineterminator="\n", quoting=2)
    return text


def _csv_cell(cell: Any, row: int) -> str:
    if type(cell) is float:
        return repr(cell)
    value = as_cell(cell, row)
    if value is None:
        return ""
    if isinstance(value, (int, float)):
        return _digits(value, row)
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text


def _digits(value: float | int, row: int) -> str:
    """Write a number as Python does; a truth value is 1 or 0 for these models."""
    try:
        return repr(value if isinstance(value, float) else int(value))
    except ValueError:
        raise HandlerError(f"Row {row} has an integer with more digits than Python writes.") from None


def write_json(table: Any) -> bytes:
    """Write a list of rows; a row that is a mapping stays one."""
    return encode_json([_json_row(row, number) for number, row in enumerate(as_rows(table))])


def write_instances(table: Any) -> bytes:
    """Write a list of rows as ``instances``."""
    return b'{"instances":' + write_json(table) + b"}"


def write_json_lines(table: Any) -> bytes:
    """Write a row in each line."""
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


def write_libsvm(table: Any) -> bytes:
    """Write ``label index:value ...`` with indices from 0, and 0 for the label that a prediction does not have.

    Newer XGBoost containers skip the label; older ones read the first word of a line as the label and would lose a
    feature.
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
                words.append(f"{index}:{_digits(value, number)}")
        lines.append(" ".join(words))
    return "\n".join(lines).encode()


def read_csv(body: bytes) -> list[JSONValue]:
    """Read the rows of CSV, each a list of texts; empty lines are skipped."""
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
    """Return whether an answer in CSV may have each row in brackets."""
    return body.lstrip()[:1] == b"["


def _bracketed_rows(text: str) -> list[JSONValue] | None:
    """Read ``[0.1, 0.9],[0.8, 0.2]``: XGBoost's container writes several values for each row like this, as "CSV".

    Its batch mode puts line ends between the rows. Anything else in brackets, such as labels, stays unchanged.
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
