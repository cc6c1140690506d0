"""Dask: partitions on several worker processes, a bag over capacity, tasks that each carry an endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from conftest import ROWS, answers, endpoint, texts

from smendpoint.emulator import Emulator
from smendpoint.integrations.dask import map_partitions
from smendpoint.integrations.tables import TableMapper

dd = pytest.importorskip("dask.dataframe", reason="Dask is not installed")
distributed = pytest.importorskip("dask.distributed", reason="Dask is not installed")

WORKERS = 2


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    with distributed.LocalCluster(n_workers=WORKERS, threads_per_worker=2, dashboard_address=None) as cluster:
        with distributed.Client(cluster) as client:
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
