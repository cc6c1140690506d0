"""A model on the rows of a Dask DataFrame."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smendpoint.integrations.tables import TableMapper

__all__ = ["map_partitions"]


def _outputs(frame: Any, mapper: TableMapper, types: dict[str, Any]) -> Any:
    return mapper(frame).astype(types)


def map_partitions(frame: Any, mapper: TableMapper, *, output_type: Any = object) -> Any:
    """Return the ``dask.dataframe.DataFrame`` with the outputs of its rows. It runs when the frame is computed.

    Args:
        frame: the frame, of pandas partitions.
        mapper: names the columns, and calls the model. It goes to each worker once, not with each task.
        output_type: the type of the column of outputs, in the words of pandas.

    Raises:
        ConfigurationError: the frame lacks a column, or already has one of the new columns.
    """
    # Not with an import statement, in which type checkers would see this module itself.
    dask: Any = import_module("dask")
    mapper.check(list(frame.columns))
    types = {mapper.output_column: output_type}
    if mapper.error_column is not None:
        types[mapper.error_column] = object
    meta = frame._meta.assign(**dict.fromkeys(types)).astype(types)
    # A delayed value has its own key in the graph: a worker that has it runs any number of tasks with it.
    return frame.map_partitions(_outputs, dask.delayed(mapper, pure=True), types, meta=meta)
