"""Polars: lazy frames, the streaming engine, and filters that stay behind the calls."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pytest
from conftest import ROWS, answers, endpoint, texts

from smendpoint import AdaptiveConcurrency, EmbeddingsHandler
from smendpoint.emulator import Emulator
from smendpoint.errors import ConfigurationError
from smendpoint.integrations.polars import map_batches
from smendpoint.integrations.tables import TableMapper

pl = pytest.importorskip("polars", reason="polars is not installed")

Engine = Literal["in-memory", "streaming"]


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_every_row_is_answered_and_none_twice(engine: Engine, service: Emulator) -> None:
    with TableMapper(endpoint(service), input_column="text", error_column="error") as mapper:
        lazy = map_batches(pl.LazyFrame({"text": texts()}), mapper)
        answered = lazy.collect(engine=engine)
    assert answered["output"].to_list() == answers()
    assert answered["error"].null_count() == ROWS
    assert answered.schema == lazy.collect_schema()
    assert service.load["my-llm"].served == ROWS


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_a_filter_of_the_outputs_and_a_choice_of_columns_stay_behind_the_calls(
    engine: Engine, service: Emulator
) -> None:
    with TableMapper(endpoint(service), input_column="text") as mapper:
        lazy = map_batches(pl.LazyFrame({"text": texts(4), "other": 1}), mapper)
        found = lazy.filter(pl.col("output") == "ROW 1").select("output").collect(engine=engine)
    assert found["output"].to_list() == ["ROW 1"]


def test_a_column_that_is_there_is_not_replaced(service: Emulator) -> None:
    with TableMapper(endpoint(service), input_column="text") as mapper:
        with pytest.raises(ConfigurationError, match="already has a column 'output'"):
            map_batches(pl.LazyFrame({"text": ["a"], "output": ["kept"]}), mapper)


def test_outputs_may_be_nested_or_null() -> None:
    with Emulator("feature_extraction") as emulator:
        model: Any = emulator.endpoint("m", content_handler=EmbeddingsHandler(pooling="mean"))
        with TableMapper(model, input_column="texts") as mapper:
            kind = pl.List(pl.List(pl.Float64))
            lazy = map_batches(pl.LazyFrame({"texts": [["a"], None]}), mapper, output_type=kind)
            found = lazy.collect()["output"].to_list()
            nulls = lazy.filter(pl.col("texts").is_null()).collect()
    assert [None if cell is None else len(cell) for cell in found] == [1, None]
    assert nulls.schema["output"] == kind


def test_with_a_ledger_a_query_that_runs_again_asks_nothing_again(service: Emulator, tmp_path: Path) -> None:
    with TableMapper(endpoint(service), input_column="text", ledger=tmp_path / "answers") as mapper:
        lazy = map_batches(pl.LazyFrame({"text": texts()}), mapper)
        for _ in range(2):
            assert lazy.collect(engine="streaming")["output"].to_list() == answers()
    assert service.load["my-llm"].served == ROWS


def test_threads_of_the_streaming_engine_that_call_an_adaptive_endpoint_lose_no_row(service: Emulator) -> None:
    with (
        endpoint(service, concurrency=AdaptiveConcurrency()) as model,
        ThreadPoolExecutor(32) as pool,
    ):

        def ask(frame: Any) -> Any:
            return frame.with_columns(output=pl.Series(list(pool.map(model.invoke, frame["text"]))))

        lazy = pl.LazyFrame({"text": texts()}).map_batches(
            ask, schema={"text": pl.String, "output": pl.String}, streamable=True
        )
        assert lazy.collect(engine="streaming")["output"].to_list() == answers()
