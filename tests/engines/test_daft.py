"""Daft: the native runner, errors in their column, parameters of rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROWS, answers, endpoint, texts

from smendpoint import AdaptiveConcurrency, AsyncEndpoint, JSONHandler
from smendpoint.emulator import Emulator
from smendpoint.errors import ConfigurationError
from smendpoint.integrations.daft import with_columns
from smendpoint.integrations.tables import TableMapper

daft = pytest.importorskip("daft", reason="Daft is not installed")


def test_every_row_is_answered_and_none_twice(service: Emulator) -> None:
    frame = daft.from_pydict({"text": texts(), "parameters": [None] * ROWS})
    mapper = TableMapper(endpoint(service), input_column="text", error_column="error", params_column="parameters")
    answered = with_columns(frame, mapper).collect()
    assert answered.column_names == ["text", "parameters", "output", "error"]
    found = answered.to_pydict()
    assert found["output"] == answers()
    assert set(found["error"]) == {None}
    assert service.load["my-llm"].served == ROWS
    mapper.close()


def test_with_a_ledger_a_query_that_runs_again_asks_nothing_again(service: Emulator, tmp_path: Path) -> None:
    with TableMapper(endpoint(service), input_column="text", ledger=tmp_path / "answers") as mapper:
        for _ in range(2):
            frame = with_columns(daft.from_pydict({"text": texts()}), mapper)
            assert frame.to_pydict()["output"] == answers()
    assert service.load["my-llm"].served == ROWS


def test_outputs_may_be_null_or_of_another_type(service: Emulator) -> None:
    service.models["my-llm"] = lambda request: b"[1, 2]"
    with TableMapper(endpoint(service), input_column="text") as mapper:
        frame = with_columns(daft.from_pydict({"text": ["a", None]}), mapper, output_type=list_of_integers())
        assert frame.to_pydict()["output"] == [[1, 2], None]


def test_an_output_that_is_not_a_text_ends_a_query_that_expects_texts(service: Emulator) -> None:
    service.models["my-llm"] = lambda request: b"[1, 2]"
    with TableMapper(endpoint(service), input_column="text") as mapper:
        with pytest.raises(Exception, match="the model gave a list: set output_type="):
            with_columns(daft.from_pydict({"text": ["a"]}), mapper).collect()


def list_of_integers() -> object:
    return daft.DataType.list(daft.DataType.int64())


def test_a_column_that_is_there_is_not_replaced(service: Emulator) -> None:
    with TableMapper(endpoint(service), input_column="text") as mapper:
        with pytest.raises(ConfigurationError, match="already has a column 'output'"):
            with_columns(daft.from_pydict({"text": ["a"], "output": ["kept"]}), mapper)


def test_an_asynchronous_function_that_calls_an_adaptive_endpoint_loses_no_row(service: Emulator) -> None:
    model: AsyncEndpoint[object, object, object] = AsyncEndpoint(
        "my-llm", endpoint_url=service.url, content_handler=JSONHandler(), concurrency=AdaptiveConcurrency()
    )

    @daft.func
    async def ask(text: str) -> str:
        return str(await model.invoke(text))

    frame = daft.from_pydict({"text": texts()}).with_column("output", ask(daft.col("text")))
    assert frame.to_pydict()["output"] == answers()
