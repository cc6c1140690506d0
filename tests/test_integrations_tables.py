"""`TableMapper`: batches of each library, their new columns, what is refused, and errors of rows."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from smendpoint import (
    AccessDeniedError,
    AsyncEndpoint,
    AsyncInferenceGateway,
    ChatHandler,
    ClassificationHandler,
    Endpoint,
    InferenceRouter,
    JSONHandler,
    ModelError,
)
from smendpoint.emulator import Emulator
from smendpoint.emulator.models import ModelReply, ModelRequest
from smendpoint.errors import ConfigurationError
from smendpoint.integrations.tables import TableMapper


def model(request: ModelRequest) -> bytes | ModelReply:
    """Give the input with its parameters; fail for the input ``"bad"``."""
    body = json.loads(request.body)
    if body["value"] == "bad":
        return ModelReply(b"no such thing", status=400)
    return json.dumps(body["answer"] if "answer" in body else [body["value"], body.get("p")]).encode()


class Handler(JSONHandler):
    """Sends ``{"value": input, ...parameters}``."""

    def transform_input(self, prompt: Any, model_kwargs: dict[str, Any]) -> bytes:
        return super().transform_input({"value": prompt, **model_kwargs}, {})


@pytest.fixture
def served() -> Iterator[Emulator]:
    with Emulator(model) as running:
        yield running
        running.disconnected()


@pytest.fixture
def make(served: Emulator) -> Iterator[Callable[..., Any]]:
    made: list[TableMapper] = []

    def make(**options: Any) -> TableMapper:
        endpoint = served.endpoint("m", content_handler=Handler())
        made.append(TableMapper(endpoint, **{"input_column": "text", **options}))
        return made[-1]

    yield make
    for mapper in made:
        mapper.close()


def arrays(columns: dict[str, list[Any]]) -> dict[str, Any]:
    made = {}
    for name, cells in columns.items():
        made[name] = np.empty(len(cells), object)
        made[name][:] = cells
    return made


PROMPT = "Peter stayed for 3 days. Question: How long did Peter stay?"

KINDS: dict[str, Callable[[dict[str, list[Any]]], Any]] = {
    "lists": dict,
    "arrays": arrays,
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "arrow": pa.table,
    "arrow batch": pa.RecordBatch.from_pydict,
}


def columns_of(table: Any) -> dict[str, list[Any]]:
    """Give the columns of a table as lists, with ``None`` for nulls."""
    if isinstance(table, pd.DataFrame):
        table = {name: [None if cell is pd.NA else cell for cell in table[name]] for name in table}
    elif isinstance(table, pl.DataFrame):
        table = table.to_dict(as_series=False)
    elif not isinstance(table, dict):
        table = table.to_pydict()
    return {
        name: [None if isinstance(cell, float) and cell != cell else cell for cell in column]
        for name, column in table.items()
    }


def run(mapper: TableMapper, batch: Any, *, awaited: bool) -> Any:
    async def call() -> Any:
        try:
            return await mapper.acall(batch)
        finally:
            await mapper.aclose()

    return asyncio.run(call()) if awaited else mapper(batch)


@pytest.fixture(params=["called", "awaited"])
def awaited(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "awaited")


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_batch_comes_back_as_the_same_kind_with_its_rows_in_order_and_the_new_columns(
    kind: str, make: Callable[..., TableMapper], awaited: bool
) -> None:
    given = {"id": [1, 2, 3, 4], "text": ["a", None, "bad", "d"]}
    batch = KINDS[kind](given)
    answered = run(make(error_column="why"), batch, awaited=awaited)
    assert type(answered) is type(batch)
    found = columns_of(answered)
    assert list(found) == ["id", "text", "output", "why"]
    assert {name: found[name] for name in given} == given
    assert [cell if cell is None else list(cell) for cell in found["output"]] == [["a", None], None, None, ["d", None]]
    assert [found["why"][place] for place in (0, 1, 3)] == [None, None, None]
    assert found["why"][2].startswith("ModelError: ")
    assert list(columns_of(batch)) == ["id", "text"]  # the given one is as it was


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_batch_gets_empty_columns_without_a_call(
    kind: str, make: Callable[..., TableMapper], served: Emulator
) -> None:
    batch = KINDS[kind]({"text": []})
    assert columns_of(make(error_column="why")(batch)) == {"text": [], "output": [], "why": []}
    assert served.total_requests == 0


@pytest.mark.parametrize("kind", ["polars", "arrow"])
def test_the_column_of_errors_holds_texts_where_there_is_no_error(kind: str, make: Callable[..., TableMapper]) -> None:
    answered: Any = make(error_column="why")(KINDS[kind]({"text": ["a"]}))
    assert str(answered["why"].dtype if kind == "polars" else answered["why"].type).lower() == "string"


NULLS = [None, float("nan"), pd.NA, pd.NaT, np.float64("nan"), np.float32("nan"), np.datetime64("NaT", "s")]


@pytest.mark.parametrize("null", NULLS)
def test_a_null_is_not_sent(null: Any, make: Callable[..., TableMapper], served: Emulator) -> None:
    answered = make()({"text": [null]})
    assert answered["output"] == [None]
    assert served.total_requests == 0


def test_an_array_in_a_cell_is_sent_as_a_list(make: Callable[..., TableMapper]) -> None:
    frame = pd.DataFrame({"text": [np.array([1.5, 2.5]), np.array([3, 4])]})
    assert [value for value, _ in make()(frame)["output"]] == [[1.5, 2.5], [3, 4]]
    assert [value for value, _ in make()({"text": np.array([[1, 2], [3, 4]])})["output"]] == [[1, 2], [3, 4]]


COMPLETION = {"text": "The stand-in model read: a", "tool_calls": [], "reasoning": None, "finish_reason": "stop"}
OBJECTS: dict[str, tuple[Any, Any, Any]] = {
    "a completion": (ChatHandler, "vllm", COMPLETION),
    "classes": (
        ClassificationHandler,
        lambda request: b'[{"label": "A", "score": 0.5}]',
        [{"label": "A", "score": 0.5}],
    ),
}


@pytest.mark.parametrize("kind", ["lists", "polars", "arrow"])
@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_that_a_handler_gives_is_a_mapping(name: str, kind: str) -> None:
    handler, served, expected = OBJECTS[name]
    with Emulator(served) as emulator:
        with TableMapper(emulator.endpoint("m", content_handler=handler()), input_column="text") as mapper:
            assert columns_of(mapper(KINDS[kind]({"text": ["a"]})))["output"] == [expected]


PARAMETERS = {
    "mappings": [{"p": 1, "q": None}, {"p": 2}, None],
    "texts": ['{"p": 1}', '{"p": 2, "q": null}', None],
    "pairs": [[("p", 1)], [("p", 2)], []],
}


@pytest.mark.parametrize("form", PARAMETERS)
def test_the_parameters_of_a_row_win_over_all_others(
    form: str, make: Callable[..., TableMapper], served: Emulator, awaited: bool
) -> None:
    mapper = make(params_column="with", p=0, q="kept")
    answered = run(mapper, {"text": ["a", "b", "c"], "with": PARAMETERS[form]}, awaited=awaited)
    assert answered["output"] == [["a", 1], ["b", 2], ["c", 0]]
    assert all(json.loads(request.body)["q"] == "kept" for request in served.requests)


@pytest.mark.parametrize("given", ["[1]", "not JSON", 7, '"text"'])
def test_parameters_that_are_not_a_mapping_are_the_error_of_their_row(
    given: Any, make: Callable[..., TableMapper], served: Emulator
) -> None:
    answered = make(params_column="with", error_column="why")({"text": ["a", "b"], "with": [given, None]})
    assert answered["output"] == [None, ["b", None]]
    assert answered["why"][0].startswith("HandlerError: a row's parameters must be a mapping")
    assert served.total_requests == 1


def test_a_stop_sequence_goes_to_the_model_under_the_handlers_own_name_for_it(
    served: Emulator, make: Callable[..., TableMapper]
) -> None:
    class Stops(Handler):
        stop_parameter = "ends"

    endpoint = served.endpoint("m", content_handler=Stops())
    with TableMapper(endpoint, input_column="t", params_column="p", stop="x", answer="1x2") as mapper:
        assert mapper({"t": ["a"], "p": [None]})["output"] == ["1"]
    assert json.loads(served.requests[0].body)["ends"] == ["x"]


def test_without_a_column_for_errors_the_first_one_is_raised(make: Callable[..., TableMapper], awaited: bool) -> None:
    with pytest.raises(ModelError, match="no such thing"):
        run(make(), {"text": ["a", "bad", "c"]}, awaited=awaited)


def test_an_error_that_every_row_would_meet_is_raised_also_with_a_column_for_errors(
    make: Callable[..., TableMapper], served: Emulator, awaited: bool
) -> None:
    served.inject("status_400_AccessDeniedException")
    with pytest.raises(AccessDeniedError):
        run(make(error_column="why", max_concurrency=1), {"text": ["a"] * 9}, awaited=awaited)
    assert served.total_requests < 9  # some were on their way


REFUSED: dict[str, tuple[dict[str, Any], Any, str]] = {
    "no input": ({}, {"txt": ["a"]}, r"the batch has 0 columns 'text', among \['txt'\]"),
    "no parameters": ({"params_column": "p"}, {"text": ["a"]}, "the batch has 0 columns 'p'"),
    "two inputs": ({}, pd.DataFrame([["a", "b"]], columns=["text", "text"]), "the batch has 2 columns 'text'"),
    "output is there": ({}, {"text": ["a"], "output": [1]}, "the batch already has a column 'output'"),
    "error is there": ({"error_column": "e"}, {"text": ["a"], "e": [1]}, "the batch already has a column 'e'"),
    "the input itself": ({"output_column": "text"}, {"text": ["a"]}, "the batch already has a column 'text'"),
    "not a table": ({}, ["a"], "a batch must be a DataFrame of pandas or polars, .* not of type list"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_batch_with_other_columns_is_refused_before_a_call(
    case: str, make: Callable[..., TableMapper], served: Emulator
) -> None:
    options, batch, message = REFUSED[case]
    with pytest.raises(ConfigurationError, match=message):
        make(**options)(batch)
    assert served.total_requests == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_concurrency": 0}, "max_concurrency must be"),
        ({"error_column": "output"}, "a column each, not both 'output'"),
        ({"output_column": "a", "error_column": "a"}, "a column each, not both 'a'"),
        ({"ordered": True, "enumerated": False}, "leave out enumerated, ordered"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_where_the_mapper_is_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TableMapper(Endpoint("m"), input_column="text", **options)


def test_only_an_endpoint_without_a_client_is_taken() -> None:
    client = botocore.session.get_session().create_client(
        "sagemaker-runtime", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    with pytest.raises(ConfigurationError, match="cannot go to other processes"):
        TableMapper(Endpoint("m", client=client), input_column="text")
    others: tuple[Any, ...] = ("m", InferenceRouter("m", target="t"), AsyncInferenceGateway("g1"))
    for other in others:
        with pytest.raises(ConfigurationError, match=f"must be an Endpoint, not {type(other).__name__}"):
            TableMapper(other, input_column="text")


def test_a_mapper_can_be_pickled_and_calls_where_it_arrives(monkeypatch: pytest.MonkeyPatch, awaited: bool) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDELSEWHERE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "elsewhere")
    with Emulator() as emulator:
        endpoint = AsyncEndpoint("m", region_name="us-east-1", endpoint_url=emulator.url)
        mapper = TableMapper(endpoint, input_column="text", params_column="p", temperature=0.5)
        travelled = pickle.loads(pickle.dumps(mapper))
        batch = {"text": [PROMPT], "p": [None]}
        assert run(travelled, batch, awaited=awaited)["output"] == ["Peter stayed for 3 days."]
        assert json.loads(emulator.requests[0].body)["parameters"] == {"temperature": 0.5}
        travelled.close()


def test_the_mappers_that_arrive_one_after_the_other_share_their_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDELSEWHERE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "elsewhere")
    with Emulator() as emulator:
        endpoint = Endpoint("m", region_name="us-east-1", endpoint_url=emulator.url)
        data = pickle.dumps(TableMapper(endpoint, input_column="text"))
        for _ in range(3):
            pickle.loads(data)({"text": [PROMPT]})
        assert emulator.total_connections == 1
        pickle.loads(data).close()
        emulator.disconnected()


def test_a_mapper_is_shown_without_its_parameters(make: Callable[..., TableMapper]) -> None:
    mapper = make(secret="s")
    assert repr(mapper) == "TableMapper('m', input_column='text', output_column='output')"
    assert mapper.endpoint_name == "m"


def test_a_mapper_with_another_column_for_errors_leaves_the_first_as_it_was(make: Callable[..., TableMapper]) -> None:
    mapper = make()
    assert mapper.with_errors_in("why").error_column == "why"
    assert mapper.error_column is None
    with pytest.raises(ConfigurationError, match="a column each"):
        mapper.with_errors_in("output")


def test_the_outputs_depend_on_the_model_the_parameters_and_the_columns(make: Callable[..., TableMapper]) -> None:
    same = make(p=1).decides()
    assert same[0] == "m"
    assert [make(**options).decides()[2:] == same[2:] for options in ({"p": 1}, {"p": 2}, {"output_column": "o"})] == [
        True,
        False,
        False,
    ]
