"""Ray Data: one actor and several, errors in their column."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import RAY_WAS_SLOW, ROWS, answers, endpoint, texts

from smendpoint.emulator import Emulator
from smendpoint.integrations.ray import map_batches
from smendpoint.integrations.tables import TableMapper

ray = pytest.importorskip("ray.data", reason="Ray is not installed")


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    import ray

    for left in (2, 1, 0):
        try:
            ray.init(num_cpus=3, include_dashboard=False, object_store_memory=200 * 2**20, log_to_driver=False)
            break
        except Exception as error:  # Ray raises nothing more exact, and gives a node 30 seconds on any machine
            ray.shutdown()
            if not left or RAY_WAS_SLOW not in str(error):
                raise
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


def test_with_a_ledger_a_dataset_that_runs_again_asks_nothing_again(
    engine: Any, service: Emulator, tmp_path: Path
) -> None:
    rows = engine.data.from_items([{"text": text} for text in texts()], override_num_blocks=8)
    with TableMapper(endpoint(service), input_column="text", ledger=tmp_path / "answers") as mapper:
        for _ in range(2):
            answered = map_batches(rows, mapper, batch_size=25).to_pandas()
            assert sorted(answered["output"]) == sorted(answers())
    assert service.load["my-llm"].served == ROWS
