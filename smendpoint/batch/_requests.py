"""From rows to requests, and from the output of a request back to the outputs of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from smendpoint.errors import HandlerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from smendpoint.batch._rows import Row


def rows_of_a_request(handler: Any, asked: int | None) -> int | None:
    """Return how many rows one request takes.

    Args:
        handler: the content handler. If its ``takes_many`` is true, it takes a list of inputs; its
            ``max_batch_size``, if it has one, is the maximum for one request.
        asked: the number that the caller wants; `None` for one.

    Returns:
        The number; `None` if the input of a row is the input of a request, without a list around it.
    """
    if asked is None:
        return 1 if getattr(handler, "takes_many", False) else None
    most: int | None = getattr(handler, "max_batch_size", None)
    return asked if most is None else min(asked, most)


def group(rows: Iterable[Row], size: int | None) -> Iterator[list[Row]]:
    """Yield the rows of each request: at most `size`, all with the same parameters."""
    batch: list[Row] = []
    for row in rows:
        if batch and row.parameters != batch[0].parameters:
            yield batch
            batch = []
        batch.append(row)
        if len(batch) == (size or 1):
            yield batch
            batch = []
    if batch:
        yield batch


def split(output: Any, rows: int) -> list[Any]:
    """Give the outputs of the rows of one request.

    Raises:
        HandlerError: the output is not a list of the same length.
    """
    try:
        outputs = None if isinstance(output, (str, bytes, Mapping)) else list(output)
    except TypeError:
        outputs = None
    if outputs is None:
        raise HandlerError(f"The model returned a {type(output).__name__} for {rows} rows, and not a list.")
    if len(outputs) != rows:
        raise HandlerError(f"The model returned {len(outputs)} outputs for {rows} rows.")
    return outputs
