"""A model on the rows of a lazy frame of polars."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smendpoint.integrations.tables import TableMapper

__all__ = ["map_batches"]


def map_batches(frame: Any, mapper: TableMapper, *, output_type: Any = None) -> Any:
    """Return the ``polars.LazyFrame`` with the outputs of its rows. It runs when the frame is collected.

    The streaming engine, ``collect(engine="streaming")``, calls the mapper in several threads at once.

    Args:
        frame: the lazy frame.
        mapper: names the columns, and calls the model.
        output_type: the polars type of the column of outputs; by default ``polars.String``.

    Raises:
        ConfigurationError: the frame lacks a column, or already has one of the new columns.
    """
    # Not with an import statement, in which type checkers would see this module itself.
    pl: Any = import_module("polars")
    schema = frame.collect_schema()
    mapper.check(schema.names())
    types = {mapper.output_column: pl.String if output_type is None else output_type}
    if mapper.error_column is not None:
        types[mapper.error_column] = pl.String

    def run(batch: Any) -> Any:
        return mapper(batch).cast(types)

    # A filter or a selection of the new columns must not be moved before the calls.
    return frame.map_batches(
        run,
        predicate_pushdown=False,
        projection_pushdown=False,
        schema={**schema, **types},
        streamable=True,
    )
