"""A `TableMapper` with a ledger: what has an answer is not asked again, whichever process had it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smendpoint import Endpoint, JSONHandler, ModelError
from smendpoint.emulator import Emulator
from smendpoint.emulator.models import ModelReply, ModelRequest
from smendpoint.integrations.tables import TableMapper


def model(request: ModelRequest) -> bytes | ModelReply:
    if b"bad" in request.body:
        return ModelReply(b"no such thing", status=400)
    return request.body


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDELSEWHERE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "elsewhere")
    with Emulator(model) as running:
        yield running
        running.disconnected()


@pytest.fixture
def ask(served: Emulator, tmp_path: Path) -> Callable[..., Any]:
    """Map texts with a new mapper, and give the outputs."""

    def ask(texts: list[Any], **options: Any) -> Any:
        handler = options.pop("handler", JSONHandler())
        batch = {"text": texts, **options.pop("columns", {})}
        endpoint: Any = served.endpoint("m", content_handler=handler, model_kwargs=options.pop("model_kwargs", None))
        with TableMapper(endpoint, input_column="text", ledger=tmp_path / "answers", **options) as mapper:
            answered = mapper(batch)
        return (answered["output"], answered["why"]) if "error_column" in options else answered["output"]

    return ask


def test_what_has_an_answer_is_not_asked_again(ask: Callable[..., Any], served: Emulator) -> None:
    texts = ["a", None, "b", {"deep": [1, None]}]
    assert ask(texts) == texts
    assert ask([*texts, "new"]) == [*texts, "new"]
    assert served.total_requests == 4


def test_rows_with_one_input_are_asked_once(ask: Callable[..., Any], served: Emulator) -> None:
    assert ask(["a", "b", "a", "a"]) == ["a", "b", "a", "a"]
    assert served.total_requests == 2


def test_other_parameters_are_another_question(ask: Callable[..., Any], served: Emulator) -> None:
    row = {"x": 1}
    ask([row])
    ask([row], temperature=0)
    ask([row], temperature=1)
    ask([row], model_kwargs={"temperature": 2})
    assert served.total_requests == 4
    ask([row], model_kwargs={"temperature": 1})
    ask([row], params_column="p", columns={"p": ['{"temperature": 1}']})
    assert served.total_requests == 4
    ask([row], timeout=20)
    assert served.total_requests == 4


def test_a_failure_is_asked_again_and_what_came_before_it_is_not(ask: Callable[..., Any], served: Emulator) -> None:
    with pytest.raises(ModelError, match="no such thing"):
        ask(["a", "bad", "b"], max_concurrency=1)
    outputs, errors = ask(["a", "bad", "b"], error_column="why", max_concurrency=1)
    assert outputs == ["a", None, "b"]
    assert errors[1].startswith("ModelError: ")
    asked = [request.body for request in served.requests]
    assert asked.count(b'"a"') == 1
    assert asked.count(b'"bad"') == 2


PROGRAM = """
import sys
from smendpoint import Endpoint, JSONHandler
from smendpoint.integrations.tables import TableMapper
endpoint = Endpoint("m", region_name="us-east-1", endpoint_url=sys.argv[1], content_handler=JSONHandler())
with TableMapper(endpoint, input_column="text", ledger=sys.argv[2]) as mapper:
    mapper({"text": ["a", "b"]})
"""


def test_the_answers_of_another_process_are_found_also_while_both_run(
    ask: Callable[..., Any], served: Emulator, tmp_path: Path
) -> None:
    ask(["c"])
    program = [sys.executable, "-c", PROGRAM, served.url, "answers"]
    subprocess.run(program, check=True, cwd=tmp_path)
    assert served.total_requests == 3
    assert ask(["a", "b", "c"]) == ["a", "b", "c"]
    assert served.total_requests == 3
    assert len(list((tmp_path / "answers" / "m").glob("*.jsonl"))) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_the_child_of_a_fork_writes_to_a_file_of_its_own(
    ask: Callable[..., Any], served: Emulator, tmp_path: Path
) -> None:
    ask(["a"])
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if ask(["a", "b"]) == ["a", "b"] else 1
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert ask(["a", "b"]) == ["a", "b"]
    assert served.total_requests == 2
    files = list((tmp_path / "answers" / "m").iterdir())
    assert sorted(len(file.read_text().splitlines()) for file in files) == [1, 1]


def test_a_line_that_is_not_whole_is_read_once_it_is(ask: Callable[..., Any], served: Emulator, tmp_path: Path) -> None:
    ask(["a"])
    (own,) = (tmp_path / "answers" / "m").iterdir()
    line = json.loads(own.read_text()) | {"output": "from elsewhere"}
    other = own.with_name("other.jsonl")
    other.write_text("not a line\n" + json.dumps(line)[:-1])
    (own.parent / "notes.txt").write_text("not a ledger")
    assert ask(["a"]) == ["a"]
    other.write_text("not a line\n" + json.dumps(line) + "\n")
    assert ask(["a"]) == ["from elsewhere"]
    assert served.total_requests == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not delete an open file")
def test_answers_that_were_deleted_while_the_process_runs_are_asked_and_written_again(
    ask: Callable[..., Any], served: Emulator, tmp_path: Path
) -> None:
    ask(["a"])
    for asked in (2, 3):
        shutil.rmtree(tmp_path / "answers")
        assert ask(["a"]) == ask(["a"]) == ["a"]
        assert served.total_requests == asked
    (ledger,) = (tmp_path / "answers" / "m").iterdir()
    ledger.rename(ledger.with_name("moved.jsonl"))
    assert ask(["a"]) == ["a"]
    assert served.total_requests == 3
    shutil.rmtree(tmp_path / "answers")
    assert ask(["a"]) == ["a"]
    assert served.total_requests == 4


def test_members_of_the_endpoint_and_of_the_mapper_both_belong_to_the_question(
    served: Emulator, tmp_path: Path
) -> None:
    for variant in ("blue", "green"):
        endpoint = served.endpoint("m", content_handler=JSONHandler(), endpoint_kwargs={"TargetVariant": variant})
        own = {"EnableExplanations": "`true`"}
        with TableMapper(endpoint, input_column="text", ledger=tmp_path, endpoint_kwargs=own) as mapper:
            mapper({"text": ["a"]})
    assert served.total_requests == 2


def test_a_value_without_a_form_in_json_is_the_error_of_its_row(ask: Callable[..., Any], served: Emulator) -> None:
    class Odd(JSONHandler):
        def transform_output(self, output: Any) -> Any:
            return {1, 2} if b"set" in output else (1, 2)

    outputs, errors = ask([{1}, "set", "pair"], handler=Odd(), error_column="why")
    assert outputs == [None, None, [1, 2]]  # as a later run finds it
    assert [error is None or error.partition(":")[0] for error in errors] == ["HandlerError", "HandlerError", True]
    assert served.total_requests == 2
    assert ask(["pair"], handler=Odd()) == [[1, 2]]
    assert served.total_requests == 2


def test_each_endpoint_has_its_own_answers(ask: Callable[..., Any], served: Emulator, tmp_path: Path) -> None:
    ask(["a"])
    endpoint = Endpoint("n", region_name="us-east-1", endpoint_url=served.url, content_handler=JSONHandler())
    with TableMapper(endpoint, input_column="text", ledger=str(tmp_path / "answers")) as mapper:
        mapper({"text": ["a"]})
    assert served.total_requests == 2
