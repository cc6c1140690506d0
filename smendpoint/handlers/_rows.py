"""Rows of cells from whatever holds a table: lists, NumPy arrays, frames of pandas and polars, Arrow tables.

Nothing here imports those libraries: what a table can do tells which of them it is from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from smendpoint.errors import HandlerError
from smendpoint.handlers._json import is_missing

if TYPE_CHECKING:
    from datetime import date, time
    from decimal import Decimal

__all__ = ["Cell", "Row", "as_cell", "as_list", "as_rows", "columns_of", "frame_as_csv"]

Row: TypeAlias = "Sequence[Any] | Mapping[Any, Any]"
Cell: TypeAlias = "str | int | float | Decimal | date | time | None"

_BYTES_LIKE = (str, bytes, bytearray)
_EMPTY = "A table needs at least one row."


def as_rows(table: Any, *, nan_is_missing: bool = True) -> list[Row]:
    """Give the rows of a list of rows, of one row, of a NumPy array, or of a frame; each value keeps its type.

    Args:
        table: the rows.
        nan_is_missing: whether a NaN in a pandas column, where it stands for a missing number, becomes ``None``.

    Raises:
        HandlerError: it is none of them, or has no row.
    """
    columns = columns_of(table)
    if columns is not None:
        # One by one: in an array of all of them, the integers beside floats would be floats.
        rows: list[Any] = list(zip(*(as_list(column, nan_is_missing) for column in columns), strict=True))
        if not rows:
            raise HandlerError(_EMPTY)
        return rows
    table = as_list(table, nan_is_missing)
    # A set has no order, and would give the values one of its own.
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
        raise HandlerError("A table is a sequence of rows, and this one has rows and single values.")
    return rows


def columns_of(table: Any) -> list[Any] | None:
    """Give the columns of a frame, an Arrow table or a structured NumPy array; ``None`` for anything else."""
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
    """Give a column, an array or a row of one as a list of cells; anything else as it is."""
    if isinstance(values, (list, tuple, str, int, float)):
        return cast("Any", values)
    if hasattr(values, "__array_interface__"):
        names = values.dtype.names
        if not values.shape:
            return [values[name] for name in names] if names else values
        # As Python's own, the dates of NumPy can be mere numbers of nanoseconds.
        return list(values) if values.dtype.kind in "mM" else values.tolist()
    if hasattr(values, "iloc"):
        cells = values.tolist()
        # A type of NumPy's own has no `na_value`: there, NaN stands for a missing number.
        if not nan_is_missing and values.dtype.kind == "f" and not hasattr(values.dtype, "na_value"):
            return cells
        gone = values.isna()
        return [None if mark else cell for cell, mark in zip(cells, gone, strict=True)] if gone.any() else cells
    for name in ("to_pylist", "to_list", "tolist"):  # Arrow, polars, other arrays
        if hasattr(values, name):
            return getattr(values, name)()
    return values.to_numpy().tolist() if hasattr(values, "to_numpy") else values


def as_cell(cell: Any, row: int) -> Cell:
    """Give a cell as one of Python's own types, and ``None`` where it is missing.

    Args:
        cell: a value; a date of NumPy's becomes text in the ISO format.
        row: the row's number, for messages.

    Raises:
        HandlerError: it is not a single value that a table can hold.
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


def frame_as_csv(table: Any) -> str | None:
    """Give what a frame's own library writes as CSV, without a line of names; ``None`` where the table is no frame.

    Raises:
        HandlerError: the frame is empty, or holds what has no place in CSV.
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
        except Exception as error:  # whatever polars raises, for a type that CSV cannot hold
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
        # Before Python 3.13 its `csv` leaves a lone carriage return without quotes, and readers see a row's end there.
        text = table.to_csv(header=False, index=False, lineterminator="\n", quoting=2)
    return text
