"""The number of rows of a source, if it can be known before the source is read."""

from __future__ import annotations

import os
from collections.abc import Sized
from typing import TYPE_CHECKING

from smendpoint.batch._sources import read_items

if TYPE_CHECKING:
    from smendpoint.batch._sources import Source


def total_of(source: Source, format: str | None) -> int | None:
    """Count the rows of a source; `None` if it can be read only once, or cannot be counted.

    A line is a row, unless it is blank. For CSV, whose cells may hold line ends, the number may be too high.
    """
    _, kind = read_items(source, format, None)
    if kind is None:
        return len(source) if isinstance(source, Sized) else None
    path = os.fspath(source)  # type: ignore[arg-type]  # only a file has a kind
    if not os.path.isfile(path):
        return None
    if kind == "parquet":
        from pyarrow.parquet import read_metadata

        rows: int = read_metadata(path).num_rows
        return rows
    with open(path, "rb") as file:
        lines = sum(1 for line in file if line.strip())
    return lines - 1 if kind == "csv" else lines
