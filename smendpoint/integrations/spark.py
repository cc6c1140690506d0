"""A model on the rows of a Spark DataFrame."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smendpoint.integrations.tables import TableMapper

__all__ = ["map_in_pandas"]


def map_in_pandas(
    frame: Any, mapper: TableMapper, *, output_type: Any = "string", error_column: str | None = "error"
) -> Any:
    """Return the ``pyspark.sql.DataFrame`` with the outputs of its rows. It runs when an action needs it.

    Args:
        frame: the frame.
        mapper: names the columns, and calls the model.
        output_type: the type of the column of outputs: a Spark type, or its name, such as ``"array<double>"``.
        error_column: the column for errors if the mapper has none. With ``None``, the first error fails its task, which
            Spark runs again, and then the job: the driver gets the error as text inside one of Spark's own.

    Raises:
        ConfigurationError: the frame lacks a column, or already has one of the new columns.
    """
    sql: Any = import_module("pyspark.sql.types")
    mapper = mapper.with_errors_in(mapper.error_column or error_column)
    mapper.check(frame.columns)
    if isinstance(output_type, str):
        output_type = sql.StructType.fromDDL(f"output {output_type}")["output"].dataType
    schema = sql.StructType([*frame.schema.fields]).add(mapper.output_column, output_type)
    if mapper.error_column is not None:
        schema.add(mapper.error_column, sql.StringType())

    def run(batches: Iterator[Any]) -> Iterator[Any]:
        return map(mapper, batches)

    return frame.mapInPandas(run, schema)
