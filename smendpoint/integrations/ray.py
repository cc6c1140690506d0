"""A model on the rows of a Ray dataset."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from smendpoint.integrations.tables import TableMapper

__all__ = ["map_batches"]


def map_batches(dataset: Any, mapper: TableMapper, *, actors: int = 1, **options: Any) -> Any:
    """Return the ``ray.data.Dataset`` with the outputs of its rows. It runs when the dataset is used.

    Args:
        dataset: the dataset.
        mapper: names the columns, and calls the model.
        actors: how many processes call the model. One process has many calls in flight: more are faster only if Python
            is the bottleneck.
        **options: further arguments of ``Dataset.map_batches``, such as ``batch_size`` and ``num_cpus``.
    """
    # Not with an import statement, in which type checkers would see this module itself.
    data: Any = import_module("ray.data")

    class Model:
        # An async generator: Ray has several batches in flight in one actor.
        async def __call__(self, batch: Any) -> AsyncIterator[Any]:
            yield await mapper.acall(batch)

    return dataset.map_batches(Model, batch_format="pyarrow", compute=data.ActorPoolStrategy(size=actors), **options)
