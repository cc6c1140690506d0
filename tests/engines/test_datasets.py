"""Hugging Face datasets: several processes, the cache and its fingerprint, iterable datasets."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROWS, answers, endpoint, texts

from smendpoint import AdaptiveConcurrency, AsyncEndpoint, JSONHandler, Timeout
from smendpoint.emulator import Emulator
from smendpoint.errors import ConfigurationError
from smendpoint.integrations.datasets import map_dataset
from smendpoint.integrations.tables import TableMapper

datasets = pytest.importorskip("datasets", reason="datasets is not installed")


def test_every_row_is_answered_and_none_twice(service: Emulator) -> None:
    dataset = datasets.Dataset.from_dict({"text": texts()})
    with TableMapper(endpoint(service), input_column="text", error_column="error") as mapper:
        answered = map_dataset(dataset, mapper, batch_size=50, num_proc=2)
    assert list(answered["output"]) == answers()
    assert set(answered["error"]) == {None}
    assert service.load["my-llm"].served == ROWS


def test_the_same_rows_and_parameters_are_in_the_cache_and_others_are_not(service: Emulator, tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": texts(4)}).save_to_disk(tmp_path / "rows")

    def mapped(limit: float, **parameters: object) -> int:
        dataset = datasets.load_from_disk(tmp_path / "rows")
        model = endpoint(service, timeout=Timeout(read=limit), model_kwargs=None)
        with TableMapper(model, input_column="text", **parameters) as mapper:  # type: ignore[arg-type]
            map_dataset(dataset, mapper)
        return service.load["my-llm"].served

    assert [mapped(20), mapped(30), mapped(30, output_column="answer")] == [4, 4, 8]


def test_columns_that_the_model_does_not_need_stay_as_they_are_and_are_not_decoded(service: Emulator) -> None:
    rows = {"text": texts(4), "picture": [{"bytes": b"not a picture", "path": ""}] * 4}
    dataset = datasets.Dataset.from_dict(rows).cast_column("picture", datasets.Image())
    with TableMapper(endpoint(service), input_column="text") as mapper:
        answered = map_dataset(dataset, mapper)
    assert list(answered["output"]) == answers(4)
    assert answered.cast_column("picture", datasets.Image(decode=False))[:]["picture"] == rows["picture"]


def test_columns_to_remove_and_a_batch_to_drop_are_honoured_also_after_the_cache_has_all(
    service: Emulator, tmp_path: Path
) -> None:
    datasets.Dataset.from_dict({"text": texts(3), "other": [1, 2, 3]}).save_to_disk(tmp_path / "rows")
    dataset = datasets.load_from_disk(tmp_path / "rows")
    with TableMapper(endpoint(service), input_column="text") as mapper:
        assert map_dataset(dataset, mapper).column_names == ["text", "other", "output"]
        for removed, left in ((["other"], ["text", "output"]), ("text", ["other", "output"])):
            assert map_dataset(dataset, mapper, remove_columns=removed).column_names == left
        assert map_dataset(dataset, mapper, batch_size=2, drop_last_batch=True).num_rows == 2


def test_a_dataset_without_rows_gets_the_new_columns(service: Emulator) -> None:
    features = datasets.Features({"text": datasets.Value("string")})
    with TableMapper(endpoint(service), input_column="text", error_column="error") as mapper:
        answered = map_dataset(datasets.Dataset.from_dict({"text": []}, features=features), mapper)
    assert answered.to_dict() == {"text": [], "output": [], "error": []}


@pytest.mark.parametrize("kind", ["pandas", "arrow", "polars", "numpy"])
def test_a_dataset_whose_batches_are_tables_or_arrays_is_answered_too(kind: str, service: Emulator) -> None:
    if kind == "polars":
        pytest.importorskip("polars", reason="polars is not installed")
    dataset = datasets.Dataset.from_dict({"text": texts(4)}).with_format(kind)
    with TableMapper(endpoint(service), input_column="text") as mapper:
        answered = map_dataset(dataset, mapper)
    assert list(answered.with_format(None)["output"]) == answers(4)


@pytest.mark.parametrize("iterable", [False, True])
def test_a_column_that_is_there_is_not_replaced(iterable: bool, service: Emulator) -> None:
    dataset = datasets.Dataset.from_dict({"text": ["a"], "output": ["kept"]})
    with TableMapper(endpoint(service), input_column="text") as mapper:
        with pytest.raises(ConfigurationError, match="already has a column 'output'"):
            list(map_dataset(dataset.to_iterable_dataset() if iterable else dataset, mapper))
    assert service.total_requests == 0


def test_with_a_ledger_a_dataset_that_is_mapped_again_without_the_cache_asks_nothing_again(
    service: Emulator, tmp_path: Path
) -> None:
    dataset = datasets.Dataset.from_dict({"text": texts()})
    with TableMapper(endpoint(service), input_column="text", ledger=tmp_path / "answers") as mapper:
        for _ in range(2):
            answered = map_dataset(dataset, mapper, batch_size=50, num_proc=2, load_from_cache_file=False)
            assert list(answered["output"]) == answers()
    assert service.load["my-llm"].served == ROWS


def test_an_iterable_dataset_is_mapped_as_it_is_read(service: Emulator) -> None:
    dataset = datasets.Dataset.from_dict({"text": texts(10)}).to_iterable_dataset()
    with TableMapper(endpoint(service), input_column="text") as mapper:
        rows = iter(map_dataset(dataset, mapper, batch_size=5))
        assert next(rows) == {"text": "row 0", "output": "ROW 0"}
        assert service.load["my-llm"].served == 5
        assert [row["output"] for row in rows] == answers(10)[1:]


def test_an_asynchronous_function_that_calls_an_adaptive_endpoint_loses_no_row(service: Emulator) -> None:
    model: AsyncEndpoint[object, object, object] = AsyncEndpoint(
        "my-llm", endpoint_url=service.url, content_handler=JSONHandler(), concurrency=AdaptiveConcurrency()
    )

    async def ask(row: dict[str, str]) -> dict[str, object]:
        return {"output": await model.invoke(row["text"])}

    answered = datasets.Dataset.from_dict({"text": texts()}).map(ask)
    assert list(answered["output"]) == answers()
