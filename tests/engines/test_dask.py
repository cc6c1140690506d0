"""Dask: partitions on several worker processes, a bag over capacity, tasks that each carry an endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import ROWS, answers, endpoint, texts

from smendpoint import AdaptiveConcurrency
from smendpoint.emulator import Emulator
from smendpoint.errors import ConfigurationError
from smendpoint.integrations.dask import map_partitions
from smendpoint.integrations.tables import TableMapper

dd = pytest.importorskip("dask.dataframe", reason="Dask is not installed")
distributed = pytest.importorskip("dask.distributed", reason="Dask is not installed")

WORKERS = 2
THREADS = 2


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    with (
        suppress(TimeoutError, asyncio.TimeoutError),  # a worker took too long to end: see `ENGINE_WAS_SLOW`
        distributed.LocalCluster(n_workers=WORKERS, threads_per_worker=THREADS, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_every_row_is_answered_and_none_twice(engine: Any, service: Emulator) -> None:
    frame = dd.from_pandas(pd.DataFrame({"text": texts()}), npartitions=16)
    with TableMapper(endpoint(service), input_column="text", error_column="error") as mapper:
        lazy = map_partitions(frame, mapper, output_type="string")
        answered = lazy.compute()
    assert list(answered["output"]) == answers()
    assert answered["error"].isna().all()
    assert list(answered.dtypes) == list(lazy.dtypes)
    assert service.load["my-llm"].served == ROWS


def test_with_a_ledger_a_frame_that_is_computed_again_asks_nothing_again(
    engine: Any, service: Emulator, tmp_path: Path
) -> None:
    frame = dd.from_pandas(pd.DataFrame({"text": texts()}), npartitions=16)
    with TableMapper(endpoint(service), input_column="text", ledger=tmp_path / "answers") as mapper:
        for _ in range(2):
            assert list(map_partitions(frame, mapper).compute()["output"]) == answers()
    assert service.load["my-llm"].served == ROWS


def test_a_column_that_is_there_is_not_replaced(service: Emulator) -> None:
    with TableMapper(endpoint(service), input_column="text") as mapper:
        with pytest.raises(ConfigurationError, match="already has a column 'output'"):
            map_partitions(dd.from_pandas(pd.DataFrame({"text": ["a"], "output": ["kept"]}), npartitions=1), mapper)


def test_a_bag_whose_threads_call_an_adaptive_endpoint_loses_no_row(service: Emulator) -> None:
    import dask.bag

    with endpoint(service, concurrency=AdaptiveConcurrency()) as model:
        bag = dask.bag.from_sequence(texts(), npartitions=40).map(model.invoke)
        assert bag.compute(scheduler="threads", num_workers=32) == answers()


def test_tasks_that_each_carry_an_endpoint_share_the_connections_of_their_worker(
    engine: Any, service: Emulator
) -> None:
    model = endpoint(service, concurrency=AdaptiveConcurrency())
    tasks = [engine.submit(type(model).invoke, model, text, pure=False) for text in texts(200)]
    assert engine.gather(tasks) == answers(200)
    assert service.total_connections <= WORKERS * THREADS
