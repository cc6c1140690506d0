"""A model on the rows of a Daft DataFrame."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from smendpoint.integrations.tables import TableMapper

__all__ = ["with_columns"]

_BOTH = "__smendpoint__"


def with_columns(frame: Any, mapper: TableMapper, *, output_type: Any = None, max_concurrency: int = 256) -> Any:
    """Return the ``daft.DataFrame`` with the outputs of its rows. It runs when the frame is collected.

    Args:
        frame: the frame.
        mapper: names the columns, and calls the model.
        output_type: the Daft type of the column of outputs; by default ``DataType.string()``.
        max_concurrency: how many rows Daft waits for at once. The mapper decides how many of them are sent.

    Raises:
        ConfigurationError: the frame lacks a column, or already has one of the new columns; when it runs, an output is
            a list or a mapping, and there is no `output_type`.
    """
    # Not with an import statement, in which type checkers would see this module itself.
    daft: Any = import_module("daft")
    mapper.check(frame.column_names)  # Daft would replace a column
    text = daft.DataType.string()
    types = {mapper.output_column: text if output_type is None else output_type}
    if mapper.error_column is not None:
        types[mapper.error_column] = text

    method: Any = daft.method(return_dtype=daft.DataType.struct(types))

    @daft.cls(max_concurrency=max_concurrency)
    class Model:
        @method  # type: ignore[untyped-decorator]  # its types are not known here
        async def row(self, *cells: Any) -> dict[str, Any]:
            batch = await mapper.acall({name: [cell] for name, cell in zip(mapper.needed, cells, strict=True)})
            output = batch[mapper.output_column][0]
            if output_type is None and not isinstance(output, (str, int, float, type(None))):
                # A query whose output cannot become a text does not end.
                raise ConfigurationError(
                    f"the column of outputs is text, but the model gave a {type(output).__name__}: set output_type="
                )
            return {name: batch[name][0] for name in types}

    both = frame.with_column(_BOTH, Model().row(*[daft.col(name) for name in mapper.needed]))
    return both.with_columns({name: daft.col(_BOTH)[name] for name in types}).exclude(_BOTH)
