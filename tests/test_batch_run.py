"""`smendpoint.batch`: every row is asked once, its answer is in the ledger, and a second run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import bare_environment  # noqa: F401
from twins import Twin, TwinEndpoint

from smendpoint import (
    BytesHandler,
    ConfigurationError,
    EmbeddingsHandler,
    JSONHandler,
    NumPyHandler,
    RetryPolicy,
    TabularHandler,
    batch,
)
from smendpoint.batch import Summary
from smendpoint.emulator import Emulator, ModelReply, ModelRequest

pytestmark = pytest.mark.usefixtures("bare_environment")
ROWS = [{"n": number} for number in range(20)]


class Model:
    """Answers ``{"n": number}`` with ``{"twice": number}``, and fails for the numbers in `broken`."""

    inline = True

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.broken: set[int] = set()

    def __call__(self, request: ModelRequest) -> bytes | ModelReply:
        value = json.loads(request.body)
        self.asked.append(value)
        if value["n"] in self.broken:
            return ModelReply("broken", status=400)
        return json.dumps({"twice": 2 * value["n"]}).encode()


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def emulator(model: Model) -> Iterator[Emulator]:
    with Emulator(model) as emulator:
        yield emulator


@pytest.fixture
def endpoint(direct_twin: Twin, emulator: Emulator) -> TwinEndpoint:
    return direct_twin.endpoint(emulator.url, content_handler=JSONHandler(), retry=RetryPolicy(max_attempts=1))


def run(endpoint: TwinEndpoint, source: Any, output: Any, **options: Any) -> Summary:
    """`batch.run` or `batch.arun`."""
    ask = batch.arun if endpoint.twin.asynchronous else batch.run
    summary: Summary = endpoint.twin.run(ask(endpoint.endpoint, source, output, **options))
    return summary


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def outputs(path: Path) -> dict[str, Any]:
    """The output of each id; each has one line."""
    found = lines(path)
    assert len({line["id"] for line in found}) == len(found)
    return {line["id"]: line.get("output") for line in found}


def doubled(rows: Iterable[dict[str, int]]) -> dict[str, Any]:
    return {str(number): {"twice": 2 * row["n"]} for number, row in enumerate(rows)}


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


# -- rows


def as_jsonl(folder: Path) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    return path


@pytest.mark.parametrize("source", [as_jsonl, lambda _: ROWS, lambda _: iter(ROWS)], ids=["file", "list", "iterator"])
def test_each_row_of_a_source_is_asked_once_and_has_a_line(
    endpoint: TwinEndpoint, source: Callable[[Path], Any], tmp_path: Path, ledger: Path, model: Model
) -> None:
    summary = run(endpoint, source(tmp_path), ledger)
    assert (summary.rows, summary.done, summary.failed, summary.skipped) == (20, 20, 0, 0)
    assert summary.succeeded
    assert outputs(ledger) == doubled(ROWS)
    assert sorted(value["n"] for value in model.asked) == list(range(20))


def test_a_second_run_asks_for_nothing(endpoint: TwinEndpoint, ledger: Path, emulator: Emulator) -> None:
    run(endpoint, ROWS, ledger)
    summary = run(endpoint, ROWS, ledger)
    assert (summary.done, summary.skipped) == (0, 20)
    assert emulator.total_requests == 20


def test_a_second_run_asks_for_the_rows_that_are_new(endpoint: TwinEndpoint, ledger: Path, model: Model) -> None:
    run(endpoint, ROWS[:5], ledger)
    model.asked.clear()
    run(endpoint, ROWS, ledger)
    assert sorted(value["n"] for value in model.asked) == list(range(5, 20))
    assert outputs(ledger) == doubled(ROWS)


def test_rows_that_failed_are_left_alone_until_they_are_to_be_asked_again(
    endpoint: TwinEndpoint, ledger: Path, model: Model
) -> None:
    model.broken = {3, 4}
    summary = run(endpoint, ROWS, ledger)
    assert (summary.done, summary.failed, summary.succeeded) == (18, 2, False)
    errors = [line["error"] for line in lines(ledger) if "error" in line]
    assert [(error["type"], error["status"], error["attempts"]) for error in errors] == [("ModelError", 424, 1)] * 2
    model.broken.clear()
    summary = run(endpoint, ROWS, ledger)
    assert (summary.done, summary.skipped, summary.failed_before, summary.succeeded) == (0, 18, 2, False)
    summary = run(endpoint, ROWS, ledger, retry_failed=True)
    assert (summary.done, summary.skipped, summary.failed_before, summary.succeeded) == (2, 18, 0, True)


def test_a_row_has_parameters_of_its_own(endpoint: TwinEndpoint, ledger: Path, model: Model) -> None:
    rows = [{"n": 1, "with": {"seed": 7}}, {"n": 2, "with": None}]
    run(endpoint, rows, ledger, param_field="with", temperature=0.5, parameters={"seed": 1, "timeout": 3})
    assert sorted(model.asked, key=lambda value: value["n"]) == [
        {"n": 1, "seed": 7, "temperature": 0.5, "timeout": 3},
        {"n": 2, "seed": 1, "temperature": 0.5, "timeout": 3},
    ]


def test_the_arguments_of_a_call_hold_for_every_row(endpoint: TwinEndpoint, ledger: Path, emulator: Emulator) -> None:
    run(endpoint, ROWS[:2], ledger, timeout=5.0, endpoint_kwargs={"TargetVariant": "blue"})
    assert {asked.headers["x-amzn-sagemaker-target-variant"] for asked in emulator.requests} == {"blue"}


def test_the_ledger_can_be_in_the_order_of_the_source(
    endpoint: TwinEndpoint, ledger: Path, emulator: Emulator, model: Model
) -> None:
    model.broken = {0}
    run(endpoint, ROWS, ledger)
    model.broken.clear()
    run(endpoint, ROWS, ledger, retry_failed=True, ordered=True)
    assert [line["id"] for line in lines(ledger)] == [str(number) for number in range(20)]


def test_an_output_that_json_has_no_form_for_is_the_failure_of_its_row(
    direct_twin: Twin, emulator: Emulator, ledger: Path
) -> None:
    class Strange(JSONHandler):
        def transform_output(self, output: Any) -> Any:
            return object()

    endpoint = direct_twin.endpoint(emulator.url, content_handler=Strange())
    summary = run(endpoint, ROWS[:1], ledger)
    assert (summary.done, summary.failed) == (0, 1)
    (line,) = lines(ledger)
    assert line["error"]["type"] == "HandlerError"
    assert line["error"]["attempts"] == 1


def test_an_input_that_the_handler_cannot_send_is_the_failure_of_its_row(
    endpoint: TwinEndpoint, ledger: Path, emulator: Emulator
) -> None:
    summary = run(endpoint, [{"n": 1}, "text"], ledger, seed=1)
    assert (summary.done, summary.failed) == (1, 1)
    assert emulator.total_requests == 1


def test_the_tokens_that_the_model_counts_are_in_the_line_and_in_the_summary(direct_twin: Twin, ledger: Path) -> None:
    with Emulator("vllm") as emulator:
        from smendpoint import ChatHandler

        endpoint = direct_twin.endpoint(emulator.url, content_handler=ChatHandler())
        summary = run(endpoint, ["It rains. Question: Does it rain?"], ledger)
        (line,) = lines(ledger)
        endpoint.close()
    assert line["output"]["text"] == "It rains."
    assert line["usage"]["prompt_tokens"] == summary.prompt_tokens > 0
    assert line["usage"]["completion_tokens"] == summary.completion_tokens > 0


def test_usage_that_cannot_be_read_is_left_out(direct_twin: Twin, emulator: Emulator, ledger: Path) -> None:
    class Confused(JSONHandler):
        def read_details(self, output: Any) -> Any:
            raise KeyError("usage")

    run(direct_twin.endpoint(emulator.url, content_handler=Confused()), ROWS[:1], ledger)
    assert outputs(ledger) == doubled(ROWS[:1])


def test_a_client_of_aws_serves_as_well(client_twin: Twin, emulator: Emulator, ledger: Path) -> None:
    with client_twin.endpoint(emulator.url, content_handler=JSONHandler()) as endpoint:
        assert run(endpoint, ROWS, ledger).done == 20
    assert outputs(ledger) == doubled(ROWS)


# -- OpenAI's batch format


def openai_row(number: int) -> dict[str, Any]:
    content = f"It rained {number} days. Question: How many days did it rain?"
    body = {"model": "any", "messages": [{"role": "user", "content": content}]}
    return {"custom_id": f"row-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


@pytest.mark.parametrize("handler", [JSONHandler(), BytesHandler()], ids=["its own", "another"])
def test_openai_s_batch_format_is_recognised_and_answered_in_its_own(
    direct_twin: Twin, ledger: Path, handler: Any
) -> None:
    with Emulator("vllm") as emulator:
        endpoint = direct_twin.endpoint(emulator.url, content_handler=handler)
        assert run(endpoint, [openai_row(1), openai_row(2)], ledger).done == 2
        assert run(endpoint, [openai_row(1), openai_row(2)], ledger).skipped == 2
        endpoint.close()
        emulator.disconnected()
    found = {line["custom_id"]: line for line in lines(ledger)}
    for number in (1, 2):
        line = found[f"row-{number}"]
        assert line["error"] is None
        assert line["response"]["status_code"] == 200
        assert line["response"]["body"]["choices"][0]["message"]["content"] == f"It rained {number} days."


@pytest.mark.parametrize(
    ("options", "message"),
    [({"batch_rows": 2}, "leave out batch_rows"), ({"stop": "."}, "leave out stop")],
)
def test_openai_s_batch_format_says_itself_what_is_sent(
    endpoint: TwinEndpoint, ledger: Path, emulator: Emulator, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        run(endpoint, [openai_row(1)], ledger, **options)
    assert emulator.total_requests == 0


# -- many rows in one request


class Vectors:
    """Text-embeddings-inference that gives a vector for each text, or one too few."""

    inline = True

    def __init__(self, missing: int = 0) -> None:
        self.missing = missing
        self.asked: list[Any] = []

    def __call__(self, request: ModelRequest) -> bytes | ModelReply:
        texts = json.loads(request.body)["inputs"]
        self.asked.append(texts)
        if "broken" in texts:
            return ModelReply("broken", status=400)
        vectors = [[float(len(text)), 1.0] for text in texts]
        return json.dumps(vectors[self.missing :]).encode()


def embeddings(twin: Twin, emulator: Emulator, **options: Any) -> TwinEndpoint:
    handler = EmbeddingsHandler(**options)
    return twin.endpoint(emulator.url, content_handler=handler, retry=RetryPolicy(max_attempts=1))


def test_several_rows_go_into_one_request_and_its_output_is_split(direct_twin: Twin, ledger: Path) -> None:
    vectors = Vectors()
    with Emulator(vectors) as emulator, embeddings(direct_twin, emulator) as endpoint:
        summary = run(endpoint, ["a", "bb", "ccc", "dddd", "eeeee"], ledger, batch_rows=2)
    assert sorted(map(len, vectors.asked)) == [1, 2, 2]
    assert summary.done == 5
    assert outputs(ledger) == {str(number): [number + 1.0, 1.0] for number in range(5)}
    assert all("usage" not in line for line in lines(ledger))


def test_a_handler_that_takes_a_list_gets_a_list_of_one_row_by_itself(direct_twin: Twin, ledger: Path) -> None:
    vectors = Vectors()
    with Emulator(vectors) as emulator, embeddings(direct_twin, emulator) as endpoint:
        run(endpoint, ["a", "bb"], ledger)
    assert sorted(vectors.asked) == [["a"], ["bb"]]
    assert outputs(ledger) == {"0": [1.0, 1.0], "1": [2.0, 1.0]}


def test_a_request_has_no_more_rows_than_the_handler_takes(direct_twin: Twin, ledger: Path) -> None:
    def one(request: ModelRequest) -> bytes:
        return json.dumps({"embedding": [float(len(request.body))]}).encode()

    with Emulator(one) as emulator, embeddings(direct_twin, emulator, format="jumpstart-text") as endpoint:
        run(endpoint, ["a", "bb"], ledger, batch_rows=32)
    assert outputs(ledger) == {"0": [1.0], "1": [2.0]}


def test_rows_with_other_parameters_go_into_other_requests(direct_twin: Twin, ledger: Path) -> None:
    rows = [{"text": "a", "p": {"x": 1}}, {"text": "b", "p": {"x": 1}}, {"text": "c", "p": {"x": 2}}]
    vectors = Vectors()
    with Emulator(vectors) as emulator, embeddings(direct_twin, emulator) as endpoint:
        run(endpoint, rows, ledger, input_field="text", param_field="p", batch_rows=10)
    assert sorted(vectors.asked) == [["a", "b"], ["c"]]


@pytest.mark.parametrize(
    ("missing", "rows", "kind", "message"),
    [
        (1, ["a", "b"], "HandlerError", "The model returned 1 outputs for 2 rows."),
        (0, ["a", "broken"], "ModelError", "broken"),
    ],
    ids=["a wrong number", "a failed request"],
)
def test_a_request_that_fails_is_a_failure_of_each_of_its_rows(
    direct_twin: Twin, ledger: Path, missing: int, rows: list[str], kind: str, message: str
) -> None:
    with Emulator(Vectors(missing)) as emulator, embeddings(direct_twin, emulator) as endpoint:
        assert run(endpoint, rows, ledger, batch_rows=2).failed == 2
    found = lines(ledger)
    assert [line["error"]["type"] for line in found] == [kind] * 2
    assert all(message in line["error"]["message"] for line in found)


@pytest.mark.parametrize(
    ("handler", "rows", "expected"),
    [
        (TabularHandler(), [[1, 2], [3, 4]], [3.0, 7.0]),
        (NumPyHandler(), [[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [3.0, 4.0]]),
        (JSONHandler(), ["a", {"b": 1}], ["a", {"b": 1}]),
    ],
    ids=["tabular", "NumPy", "JSON"],
)
def test_rows_of_a_table_and_json_go_together_as_well(
    direct_twin: Twin, ledger: Path, handler: Any, rows: list[Any], expected: list[Any]
) -> None:
    models: Any = "sklearn" if isinstance(handler, TabularHandler) else lambda request: request.body
    with Emulator(models) as emulator, direct_twin.endpoint(emulator.url, content_handler=handler) as endpoint:
        run(endpoint, rows, ledger, batch_rows=2)
        assert emulator.total_requests == 1
    assert outputs(ledger) == {str(number): value for number, value in enumerate(expected)}


@pytest.mark.parametrize("answer", ['{"a": 1}', "7"])
def test_an_output_that_is_not_a_list_cannot_be_split(direct_twin: Twin, ledger: Path, answer: str) -> None:
    def model(_request: ModelRequest) -> str:
        return answer

    with Emulator(model) as emulator, direct_twin.endpoint(emulator.url, content_handler=JSONHandler()) as endpoint:
        assert run(endpoint, ROWS[:2], ledger, batch_rows=2).failed == 2
    assert "and not a list" in lines(ledger)[0]["error"]["message"]
