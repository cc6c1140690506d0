"""Ray Data: one actor and several, errors in their column."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conftest import answers, endpoint, texts

from smendpoint.emulator import Emulator
from smendpoint.integrations.ray import map_batches
from smendpoint.integrations.tables import TableMapper

ray = pytest.importorskip("ray.data", reason="Ray is not installed")


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    import ray

    ray.init(num_cpus=3, include_dashboard=False, object_store_memory=200 * 2**20, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield ray
    ray.shutdown()


@pytest.mark.parametrize("actors", [1, 2])
def test_every_row_is_answered_and_none_twice(actors: int, engine: Any, service: Emulator) -> None:
    rows = engine.data.from_items([{"text": text} for text in texts()], override_num_blocks=8)
    with TableMapper(endpoint(service), input_column="text", error_column="error") as mapper:
        answered = map_batches(rows, mapper, actors=actors, batch_size=25).to_pandas()
    assert sorted(answered["output"]) == sorted(answers())
    assert (answered["output"] == answered["text"].str.upper()).all()
    assert answered["error"].isna().all()
    assert service.load["my-llm"].served == len(answered)
