"""Spark: partitions on several worker processes, errors as texts, and tasks that Spark runs again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import CAPACITY, NO_JAVA, ROWS, answers, endpoint, model, texts

from smendpoint import EmbeddingsHandler, Endpoint
from smendpoint.emulator import Emulator
from smendpoint.emulator.models import ModelReply, ModelRequest
from smendpoint.errors import ConfigurationError
from smendpoint.integrations.spark import map_in_pandas
from smendpoint.integrations.tables import TableMapper

sql = pytest.importorskip("pyspark.sql", reason="Spark is not installed")
pytestmark = pytest.mark.skipif(NO_JAVA, reason="Spark needs a Java runtime")


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    # Two threads, so two Python processes; each task may run eight times.
    settings = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "1g",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    session = sql.SparkSession.builder.master("local[2,8]").config(map=settings).getOrCreate()
    yield session
    session.stop()


def frame_of(engine: Any, partitions: int = 4) -> Any:
    return engine.createDataFrame([(text,) for text in texts()], "text string").repartition(partitions)


def test_every_row_is_answered_and_none_twice(engine: Any, service: Emulator) -> None:
    with TableMapper(endpoint(service), input_column="text") as mapper:
        answered = map_in_pandas(frame_of(engine), mapper).collect()
    assert sorted(row["output"] for row in answered) == sorted(answers())
    assert {row["error"] for row in answered} == {None}
    assert service.load["my-llm"].served == ROWS


def test_errors_are_texts_in_their_column_by_default(engine: Any, service: Emulator) -> None:
    service.inject("status_400_ValidationError", times=1)
    frame = engine.createDataFrame([("a",), ("b",), (None,)], "text string").coalesce(1)
    with TableMapper(endpoint(service), input_column="text", max_concurrency=1) as mapper:
        answered = map_in_pandas(frame, mapper).collect()
    assert [row["output"] for row in answered] == [None, "B", None]
    assert answered[0]["error"].startswith("ValidationError: 400")
    assert [row["error"] for row in answered[1:]] == [None, None]


def test_a_column_that_is_there_is_not_replaced(engine: Any, service: Emulator) -> None:
    with TableMapper(endpoint(service), input_column="text") as mapper:
        with pytest.raises(ConfigurationError, match="already has a column 'output'"):
            map_in_pandas(engine.createDataFrame([("a", "kept")], "text string, output string"), mapper)


def test_outputs_may_be_nested(engine: Any) -> None:
    with Emulator("feature_extraction", region="us-west-2") as emulator:
        model: Any = Endpoint("my-llm", endpoint_url=emulator.url, content_handler=EmbeddingsHandler(pooling="mean"))
        frame = engine.createDataFrame([(["a", "b"],)], "text array<string>")
        with TableMapper(model, input_column="text") as mapper:
            (row,) = map_in_pandas(frame, mapper, output_type="array<array<double>>").collect()
    assert len(row["output"]) == 2
    assert all(isinstance(number, float) for number in row["output"][0])


def test_the_tasks_of_a_process_share_its_connections_though_each_has_its_own_mapper(
    engine: Any, service: Emulator
) -> None:
    with TableMapper(endpoint(service), input_column="text", max_concurrency=1) as mapper:
        map_in_pandas(frame_of(engine, partitions=16), mapper).collect()
    assert service.total_connections < 16


def test_a_task_that_failed_in_the_middle_pays_again_only_what_was_in_flight(
    engine: Any, service: Emulator, tmp_path: Path
) -> None:
    paid: list[str] = []
    failed: list[str] = []

    def fails_once(request: ModelRequest) -> str | ModelReply:
        text = json.loads(request.body)
        if text.endswith("50") and text not in failed:
            failed.append(text)
            return ModelReply(b"once", status=400)
        paid.append(text)
        return model(request)

    service.models["my-llm"] = fails_once
    # Three calls of a process run, and four at most have ended and are not written yet.
    options: dict[str, Any] = {"ledger": tmp_path / "answers", "max_concurrency": 3}
    with TableMapper(endpoint(service), input_column="text", **options) as mapper:
        answered = map_in_pandas(frame_of(engine), mapper, error_column=None).collect()
    assert sorted(row["output"] for row in answered) == sorted(answers())
    assert len(failed) == 4
    assert set(paid) == set(texts())
    assert len(paid) <= ROWS + len(failed) * CAPACITY


def test_a_task_that_failed_after_its_calls_pays_nothing_again(engine: Any, service: Emulator, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()

    def fails_once(batches: Iterator[Any]) -> Iterator[Any]:
        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None
        for batch in batches:
            mark = marks / str(context.partitionId())
            if not mark.exists():
                mark.touch()
                raise RuntimeError("once for each partition")
            yield batch

    with TableMapper(endpoint(service), input_column="text", ledger=tmp_path / "answers") as mapper:
        answered = map_in_pandas(frame_of(engine), mapper)
        found = answered.mapInPandas(fails_once, answered.schema).collect()
    assert sorted(row["output"] for row in found) == sorted(answers())
    assert len(list(marks.iterdir())) == 4
    assert service.load["my-llm"].served == ROWS
