"""The columns of a batch from any library: read as lists, and returned with more columns.

Nothing here imports a library other than that of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from smendpoint.errors import ConfigurationError
from smendpoint.handlers._json import is_missing
from smendpoint.handlers._tables import as_list

if TYPE_CHECKING:
    from collections.abc import Sequence

Batch = TypeVar("Batch")


def names(batch: Any) -> list[str]:
    """Give the names of the columns.

    Raises:
        ConfigurationError: the batch is not a table.
    """
    if isinstance(batch, Mapping):
        return list(batch)
    for place in ("column_names", "columns"):  # Arrow's `columns` are the columns themselves
        if hasattr(batch, place):
            return list(getattr(batch, place))
    raise ConfigurationError(
        "a batch must be a DataFrame of pandas or polars, an Arrow table or a dict of columns, "
        f"not of type {type(batch).__name__}"
    )


def cells(batch: Any, name: str) -> list[Any]:
    """Give the cells of a column: ``None`` for a missing one, lists for arrays."""
    return [_cell(cell) for cell in as_list(batch[name], nan_is_missing=True)]


def _cell(cell: Any) -> Any:
    """Return a cell, or ``None`` if it is null in the form of any of the libraries."""
    scalar = isinstance(cell, float) or getattr(cell, "shape", None) == ()  # a float of Python or NumPy
    null = is_missing(cell) or (scalar and cell != cell)
    return None if null else as_list(cell, nan_is_missing=False)


def with_columns(batch: Batch, added: Mapping[str, Sequence[Any]], texts: str | None) -> Batch:
    """Return a batch of the same type with more columns; the given one does not change.

    Args:
        batch: the batch.
        added: the new columns.
        texts: the new column that holds texts, even if all of them are null.
    """
    table: Any = batch
    if isinstance(batch, Mapping):
        arrays = any(hasattr(column, "__array_interface__") for column in batch.values())
        table = {**batch, **({name: _array(column) for name, column in added.items()} if arrays else added)}
    elif hasattr(batch, "append_column"):
        import pyarrow as pa

        for name, column in added.items():
            table = table.append_column(name, pa.array(map(_plain, column), pa.string() if name == texts else None))
    elif hasattr(batch, "with_columns"):
        import polars as pl

        table = table.with_columns(
            pl.Series(name, map(_plain, column), pl.String if name == texts else None, strict=False)
            for name, column in added.items()
        )
    else:
        table = table.copy(deep=False)
        for name, column in added.items():
            table[name] = column
    return table  # type: ignore[no-any-return]  # of the type of the batch, as said above


def _array(values: Sequence[Any]) -> Any:
    """Return an array with one cell for each value: NumPy would treat lists of equal length as a second dimension."""
    import numpy as np

    array = np.empty(len(values), object)
    for place, value in enumerate(values):
        array[place] = value
    return array


def _plain(value: Any) -> Any:
    """Convert a NumPy array to lists: Arrow and polars take only arrays of one dimension."""
    return value.tolist() if hasattr(value, "__array_interface__") else value
