"""A model on the rows of a dataset of Hugging Face."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smendpoint.integrations.tables import TableMapper

__all__ = ["map_dataset"]


def map_dataset(dataset: Any, mapper: TableMapper, *, output_type: Any = "string", **options: Any) -> Any:
    """Give the ``datasets.Dataset`` or ``IterableDataset`` with the outputs of its rows.

    A `Dataset` is mapped at once, and its result is cached on disk: the same rows, model and parameters make no call
    the next time, in another process too.

    Args:
        dataset: the dataset.
        mapper: says which columns, and calls the model.
        output_type: the feature of the column of outputs, such as ``datasets.Sequence(datasets.Value("float64"))``, or
            the name of a type.
        **options: further arguments of ``Dataset.map``, such as ``batch_size`` and ``num_proc``.
    """
    # Not by a statement, in which type checkers would see this module itself.
    datasets: Any = import_module("datasets")
    features = None
    if dataset.features is not None:  # those of an iterable may not be known
        output = datasets.Value(output_type) if isinstance(output_type, str) else output_type
        features = datasets.Features({**dataset.features, mapper.output_column: output})
        if mapper.error_column is not None:
            features[mapper.error_column] = datasets.Value("string")
    if isinstance(dataset, datasets.Dataset):
        # Of what decides the outputs alone: the library's own would change with a time-out, too.
        decides = (dataset._fingerprint, mapper.decides(), features)
        options.setdefault("new_fingerprint", datasets.fingerprint.Hasher.hash(decides))
    return dataset.map(mapper, batched=True, features=features, **options)
