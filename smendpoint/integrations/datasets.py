"""A model on the rows of a Hugging Face dataset."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smendpoint.integrations.tables import TableMapper

__all__ = ["map_dataset"]


class _NewColumns:
    """Returns only the new columns. The library adds them to the others without decoding these."""

    def __init__(self, mapper: TableMapper) -> None:
        self._mapper = mapper

    def __call__(self, batch: Any) -> Any:
        mapper = self._mapper
        if not isinstance(batch, Mapping):
            return mapper(batch)  # a table replaces the given one
        mapper.check(list(batch))
        answered = mapper({name: batch[name] for name in mapper.needed})
        return {name: answered[name] for name in mapper.added}


def map_dataset(dataset: Any, mapper: TableMapper, *, output_type: Any = "string", **options: Any) -> Any:
    """Return the ``datasets.Dataset`` or ``IterableDataset`` with the outputs of its rows.

    A `Dataset` is mapped at once, and its result is cached on disk: the next time, the same rows, model and parameters
    make no call, even in another process.

    Args:
        dataset: the dataset.
        mapper: names the columns, and calls the model.
        output_type: the feature of the column of outputs, such as ``datasets.Sequence(datasets.Value("float64"))``, or
            the name of a type.
        **options: further arguments of ``Dataset.map``, such as ``batch_size``, ``remove_columns`` and ``num_proc``.

    Raises:
        ConfigurationError: the dataset lacks a column, or already has one of the new columns.
    """
    # Not with an import statement, in which type checkers would see this module itself.
    datasets: Any = import_module("datasets")
    features = None
    if dataset.features is not None:  # those of an iterable may not be known
        output = datasets.Value(output_type) if isinstance(output_type, str) else output_type
        features = datasets.Features({**dataset.features, mapper.output_column: output})
        if mapper.error_column is not None:
            features[mapper.error_column] = datasets.Value("string")
        removed = options.get("remove_columns") or []
        for name in [removed] if isinstance(removed, str) else removed:
            features.pop(name, None)  # the library reports those that it does not know
    if isinstance(dataset, datasets.Dataset):
        mapper.check(dataset.column_names)
        if not len(dataset):  # the library would return it unchanged
            empty: dict[str, list[Any]] = {name: [] for name in features or ()}
            return datasets.Dataset.from_dict(empty, features=features, split=dataset.split)
        # Made only from what decides the outputs: the library's own fingerprint would also change with a timeout.
        decides = (dataset._fingerprint, mapper.decides(), features, options.get("drop_last_batch"))
        options.setdefault("new_fingerprint", datasets.fingerprint.Hasher.hash(decides))
    return dataset.map(_NewColumns(mapper), batched=True, features=features, **options)
