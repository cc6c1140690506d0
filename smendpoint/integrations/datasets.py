"""A model on the rows of a dataset of Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smendpoint.integrations.tables import TableMapper

__all__ = ["map_dataset"]


class _NewColumns:
    """Gives the new columns alone. The library adds them to the others, which need not be decoded and encoded again."""

    def __init__(self, mapper: TableMapper) -> None:
        self._mapper = mapper

    def __call__(self, batch: Any) -> Any:
        mapper = self._mapper
        if not isinstance(batch, Mapping):
            return mapper(batch)  # a table takes the place of the given one
        mapper.check(list(batch))
        answered = mapper({name: batch[name] for name in mapper.needed})
        return {name: answered[name] for name in mapper.added}


def map_dataset(dataset: Any, mapper: TableMapper, *, output_type: Any = "string", **options: Any) -> Any:
    """Give the ``datasets.Dataset`` or ``IterableDataset`` with the outputs of its rows.

    A `Dataset` is mapped at once, and its result is cached on disk: the same rows, model and parameters make no call
    the next time, in another process too.

    Args:
        dataset: the dataset.
        mapper: says which columns, and calls the model.
        output_type: the feature of the column of outputs, such as ``datasets.Sequence(datasets.Value("float64"))``, or
            the name of a type.
        **options: further arguments of ``Dataset.map``, such as ``batch_size``, ``remove_columns`` and ``num_proc``.

    Raises:
        ConfigurationError: the dataset lacks a column, or has one of the new columns already.
    """
    # Not by a statement, in which type checkers would see this module itself.
    datasets: Any = import_module("datasets")
    features = None
    if dataset.features is not None:  # those of an iterable may not be known
        output = datasets.Value(output_type) if isinstance(output_type, str) else output_type
        features = datasets.Features({**dataset.features, mapper.output_column: output})
        if mapper.error_column is not None:
            features[mapper.error_column] = datasets.Value("string")
        removed = options.get("remove_columns") or []
        for name in [removed] if isinstance(removed, str) else removed:
            features.pop(name, None)  # the library says which of them it does not know
    if isinstance(dataset, datasets.Dataset):
        mapper.check(dataset.column_names)
        if not len(dataset):  # the library would give it back as it is
            empty: dict[str, list[Any]] = {name: [] for name in features or ()}
            return datasets.Dataset.from_dict(empty, features=features, split=dataset.split)
        # Of what decides the outputs alone: the library's own would change with a time-out, too.
        decides = (dataset._fingerprint, mapper.decides(), features, options.get("drop_last_batch"))
        options.setdefault("new_fingerprint", datasets.fingerprint.Hasher.hash(decides))
    return dataset.map(_NewColumns(mapper), batched=True, features=features, **options)
