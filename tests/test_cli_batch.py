"""The command ``smendpoint batch``: what it writes, what it says, its exit status, and that it can be killed."""

from __future__ import annotations

import collections
import io
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smendpoint import ModelNotReadyError, ThrottlingError
from smendpoint._core.call.hooks import CallInfo
from smendpoint.batch import Progress
from smendpoint.cli import main
from smendpoint.cli._batch import EXAMPLES, _Waiting
from smendpoint.cli._progress import LINE_SECONDS, Bar, Lines, describe, display, duration
from smendpoint.emulator import Emulator, ModelReply, ModelRequest

KILLS = int(os.environ.get("SMENDPOINT_BATCH_KILLS", "4"))
KILLED_ROWS = int(os.environ.get("SMENDPOINT_BATCH_ROWS", "200"))
COMMAND = [sys.executable, "-m", "smendpoint", "batch", "my-llm"]


class Model:
    """Gives back what it gets; fails for `broken`, and waits before it answers what `held` begins with."""

    def __init__(self) -> None:
        self.asked: collections.Counter[bytes] = collections.Counter()
        self.broken = b"\0"
        self.held: int | None = None

    def __call__(self, request: ModelRequest) -> bytes | ModelReply:
        self.asked[request.body] += 1
        if self.held is not None and self.asked.total() > self.held:
            request.disconnected.wait()
        return ModelReply("broken", status=400) if self.broken in request.body else request.body

    @property
    def inline(self) -> bool:
        return self.held is None


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch, model: Model) -> Iterator[Emulator]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    models: Any = {"my-llm": model, "tgi": "tgi", "chat": "vllm", "tei": "tei", "table": "sklearn"}
    with Emulator(models, region="eu-west-1") as emulator:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", emulator.url)
        yield emulator


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments for ten rows, ``row 0`` to ``row 9``, as plain text; the folder is the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("rows.txt").write_text("".join(f"row {number}\n" for number in range(10)))
    return ["rows.txt", "-o", "out.jsonl", "--handler", "plain"]


def lines(path: str = "out.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def outputs(path: str = "out.jsonl") -> dict[str, Any]:
    found = lines(path)
    assert len({line["id"] for line in found}) == len(found)
    return {line["id"]: line.get("output") for line in found}


ANSWERED = {str(number): f"row {number}" for number in range(10)}


# -- what it asks, and what it writes


def test_batch_asks_for_each_row_and_goes_on_where_it_was(
    emulator: Emulator, rows: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", "my-llm", *rows]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("smendpoint: 10 of 10 rows, 10 done, 0 failed, ")
    assert outputs() == ANSWERED
    assert main(["batch", "my-llm", *rows]) == 0
    assert "10 of 10 rows, 0 done, 0 failed, 10 known from before, " in capsys.readouterr().err
    assert emulator.total_requests == 10


SAID = "It rains. Question: Does it rain?"


@pytest.mark.parametrize(
    ("name", "content", "arguments", "expected"),
    [
        ("a.jsonl", json.dumps(SAID), ["tgi"], {"0": "It rains."}),
        ("a.jsonl", json.dumps(SAID), ["tgi", "--param", "max_new_tokens=1"], {"0": "It"}),
        ("a.jsonl", json.dumps(SAID), ["tgi", "--stop", " rains"], {"0": "It"}),
        (
            "a.jsonl",
            json.dumps({"key": "x", "ask": SAID, "most": {"max_new_tokens": 1}}),
            ["tgi", "--input-field", "ask", "--id-field", "key", "--param-field", "most"],
            {"x": "It"},
        ),
        ("a.csv", f'ask,key\n"{SAID}",x\n', ["tgi", "--id-field", "key"], {"x": "It rains."}),
        ("a.data", SAID, ["tgi", "--format", "text"], {"0": "It rains."}),
        ("a.jsonl", '{"b": 1}', ["my-llm", "--handler", "json", "--content-type", "text/x"], {"0": {"b": 1}}),
        (
            "a.csv",
            "a,b\n1,2\n3,4\n",
            ["table", "--handler", "tabular", "--input-field", "a", "--input-field", "b"],
            {"0": 3.0, "1": 7.0},
        ),
    ],
    ids=["JSON lines", "a parameter", "a stop sequence", "fields", "CSV", "lines", "a handler", "a table"],
)
def test_batch_reads_the_input_as_its_options_say(
    emulator: Emulator,
    tmp_path: Path,
    name: str,
    content: str,
    arguments: list[str],
    expected: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / name).write_text(content)
    output = str(tmp_path / "out")
    assert main(["batch", *arguments, str(tmp_path / name), "-o", output, "--quiet"]) == 0
    assert outputs(output) == expected
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_quiet_does_not_count_the_rows_beforehand(
    emulator: Emulator, rows: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("smendpoint.batch._job.total_of", lambda *arguments: asked.append(arguments))
    assert main(["batch", "my-llm", *rows, "--quiet"]) == 0
    assert asked == []


def test_batch_puts_several_texts_into_one_request(emulator: Emulator, rows: list[str]) -> None:
    arguments = [*rows[:3], "--handler", "embeddings", "--batch-rows", "4", "--handler-option", "format=tei"]
    assert main(["batch", "tei", *arguments]) == 0
    assert emulator.total_requests == 3
    assert {type(output) for output in outputs().values()} == {list}


def test_batch_answers_openai_s_format_in_its_own(emulator: Emulator, rows: list[str]) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": SAID}]}
    request = {"custom_id": "x", "method": "POST", "url": "/v1/chat/completions", "body": body}
    Path("requests.jsonl").write_text(json.dumps(request))
    assert main(["batch", "chat", "requests.jsonl", "-o", "out.jsonl"]) == 0
    (line,) = lines()
    assert line["custom_id"] == "x"
    assert line["response"]["body"]["choices"][0]["message"]["content"] == "It rains."


def test_batch_reads_standard_input_and_writes_to_standard_output(emulator: Emulator) -> None:
    arguments = ["-", "-o", "-", "--handler", "json", "--quiet"]
    done = subprocess.run([*COMMAND, *arguments], input='{"a": 1}\n', capture_output=True, text=True, check=True)
    assert (json.loads(done.stdout)["output"], done.stderr) == ({"a": 1}, "")


def test_batch_sorts_the_output_and_asks_again_for_what_failed(
    emulator: Emulator, rows: list[str], model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    model.broken = b"row 0"
    assert main(["batch", "my-llm", *rows]) == 1
    hint = ". --retry-failed sends the rows that failed again\n"
    said = capsys.readouterr().err
    assert "9 done, 1 failed" in said
    assert said.endswith(hint)
    model.broken = b"\0"
    assert main(["batch", "my-llm", *rows]) == 1
    assert capsys.readouterr().err.endswith(hint)
    assert main(["batch", "my-llm", *rows, "--retry-failed", "--ordered"]) == 0
    assert list(outputs().items()) == list(ANSWERED.items())


PAGES = Path(__file__).resolve().parent.parent / "docs"
SHELL = re.compile(r"^ *(?:[a-z]+ [\w.]+ \| )?smendpoint (batch .+)$", re.MULTILINE)


@pytest.mark.skipif(not PAGES.exists(), reason="the documentation is not here")
def test_the_commands_that_texts_show_are_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("smendpoint.cli._batch._run", lambda arguments: (asked.append(arguments.output) or 0, ""))
    texts = [EXAMPLES, *(page.read_text(encoding="utf-8") for page in PAGES.rglob("*.md"))]
    shown = [shlex.split(line) for text in texts for line in SHELL.findall(text.replace("\\\n", ""))]
    assert {main(command) for command in shown} == {0}
    assert len(asked) == len(shown) > 10


# -- its exit status


def test_too_many_errors_end_with_3(
    emulator: Emulator, rows: list[str], model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    model.broken = b"row"
    assert main(["batch", "my-llm", *rows, "--max-errors", "2", "--max-concurrency", "1"]) == 3
    assert "TooManyErrorsError: more rows failed than --max-errors 2 allows" in capsys.readouterr().err
    assert 3 <= model.asked.total() < 10


def test_an_endpoint_that_is_not_there_ends_with_3(
    emulator: Emulator, rows: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", "nothing", *rows]) == 3
    assert (
        "0 rows were answered and 0 failed, which out.jsonl keeps: run it again to continue" in capsys.readouterr().err
    )
    assert main(["batch", "nothing", *rows, "-o", "-"]) == 3
    said = capsys.readouterr().err
    assert "0 rows were answered and 0 failed [" in said
    assert "goes on" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.txt"], "cannot read nothing.txt"),
        (["rows.txt", "--batch-rows", "0"], "--batch-rows must be a whole number of at least 1"),
        (["rows.txt", "--max-errors", "some"], "--max-errors must be"),
        (["rows.txt", "--handler-option", "colour=red"], "'text': got an unexpected keyword argument 'colour'"),
        (["rows.txt", "--handler-option", "red"], "--handler-option takes NAME=VALUE"),
        (["rows.txt", "--handler", "embeddings", "--handler-option", "format=x"], "format must be one of"),
        (["rows.txt", "--accept", "text/csv"], "the handler 'text' has its own content types"),
        (["rows.txt", "-o", "rows.txt"], "is the input: choose another output"),
    ],
)
def test_arguments_that_do_not_fit_end_with_2(
    emulator: Emulator, rows: list[str], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", "my-llm", "-o", "out.jsonl", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert emulator.requests == []


def test_an_input_that_has_changed_ends_with_2(
    emulator: Emulator, rows: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", "my-llm", *rows]) == 0
    Path("rows.txt").write_text("another\n")
    assert main(["batch", "my-llm", *rows]) == 2
    assert "has changed since it was sent" in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_an_output_that_cannot_be_written_ends_with_4(
    emulator: Emulator, rows: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", "my-llm", "rows.txt", "-o", "/dev/full", "--handler", "plain"]) == 4
    assert "No space left on device" in capsys.readouterr().err


def test_progress_that_nobody_reads_ends_with_4(
    emulator: Emulator, rows: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=1) as standard_error:
        monkeypatch.setattr(sys, "stderr", standard_error)
        monkeypatch.setattr("smendpoint.cli._progress.LINE_SECONDS", 0.0)
        assert main(["batch", "my-llm", *rows]) == 4
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", None)
        assert main(["batch", "my-llm", *rows]) == 0
    assert outputs() == ANSWERED
    assert emulator.total_requests == 10


def running(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
@pytest.mark.parametrize(
    ("number", "status", "message"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")]
)
def test_an_interrupt_keeps_what_was_answered_and_says_how_to_go_on(
    emulator: Emulator, rows: list[str], model: Model, number: str, status: int, message: str
) -> None:
    model.held = 5
    with running(*rows, "--max-concurrency", "1") as process:
        emulator.wait_for(lambda emulator: emulator.total_requests > 5)
        process.send_signal(getattr(signal, number))
        _, said = process.communicate()
    assert process.returncode == status
    assert (
        said == f"smendpoint: {message}: out.jsonl has the answers so far; the same command continues with the rest\n"
    )
    assert outputs() == {str(number): f"row {number}" for number in range(5)}
    model.held = None
    assert main(["batch", "my-llm", *rows]) == 0
    assert outputs() == ANSWERED
    assert emulator.total_requests == 11


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_heard_wherever_the_command_is(
    number: signal.Signals,
    status: int,
    rows: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("smendpoint.cli._batch._run", lambda _: signal.raise_signal(number))
    Path("out.jsonl").touch()
    assert main(["batch", "my-llm", *rows]) == status
    assert "out.jsonl has the answers so far" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_nothing_is_promised_of_an_output_that_is_not_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("smendpoint.cli._batch._run", lambda _: signal.raise_signal(signal.SIGINT))
    assert main(["batch", "my-llm", "rows.txt", "-o", "-"]) == 130
    assert capsys.readouterr().err == "smendpoint: interrupted\n"


def test_a_second_process_on_one_ledger_is_refused(
    emulator: Emulator, rows: list[str], model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    model.held = 0
    with running(*rows, "--max-concurrency", "1") as process:
        emulator.wait_for(lambda emulator: emulator.total_requests > 0)
        assert main(["batch", "my-llm", *rows]) == 2
        assert "another process is writing to the ledger" in capsys.readouterr().err
        process.kill()
        process.communicate()
    assert emulator.total_requests == 1


def test_a_reader_of_the_output_that_goes_away_ends_the_command_with_4(
    emulator: Emulator, rows: list[str], model: Model
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with running("rows.txt", "-o", "-", "--handler", "plain", stdout=writer) as process:
        os.close(writer)
        _, said = process.communicate()
    assert process.returncode == 4
    assert "the reader of the output - has gone" in said


@pytest.mark.skipif(os.name == "nt", reason="needs limits of a process")
def test_a_disk_that_is_full_leaves_whole_lines_and_a_later_run_goes_on(emulator: Emulator, rows: list[str]) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))"
    program = f"{limited}; import sys; from smendpoint.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", program, "batch", "my-llm", *rows], stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 4
    assert "cannot write to the ledger" in done.stderr
    assert 0 < len(lines()) < 10
    assert main(["batch", "my-llm", *rows]) == 0
    assert outputs() == ANSWERED


def test_a_command_that_is_killed_at_any_moment_loses_no_row_and_repeats_only_those_under_way(
    emulator: Emulator, rows: list[str], model: Model
) -> None:
    in_flight = 8
    count = KILLED_ROWS
    Path("rows.txt").write_text("".join(f"row {number}\n" for number in range(count)))
    arguments = [*rows, "--max-concurrency", str(in_flight), "--quiet"]
    for _ in range(KILLS):
        last = emulator.total_requests + random.randrange(1, max(2, count // (KILLS + 1)))
        with running(*arguments) as process:
            emulator.wait_for(lambda emulator, last=last: emulator.total_requests >= last, timeout=60)  # type: ignore[misc]
            process.kill()
            process.communicate()
    assert main(["batch", "my-llm", *arguments]) == 0
    assert outputs() == {str(number): f"row {number}" for number in range(count)}
    assert emulator.total_requests <= count + KILLS * in_flight
    assert max(model.asked.values()) <= 1 + KILLS
    asked = emulator.total_requests
    assert main(["batch", "my-llm", *arguments]) == 0
    assert emulator.total_requests == asked


# -- progress


PROGRESS = Progress(
    rows=60,
    total=100,
    done=30,
    failed=10,
    skipped=9,
    failed_before=1,
    elapsed=20.0,
    concurrency=8,
    refusals=1234,
    prompt_tokens=2000,
    completion_tokens=300,
)
SENTENCE = (
    "50 of 100 rows, 30 done, 10 failed, 10 known from before, 2.0 rows/s, concurrency 8, 1,234 refusals, "
    "2,000 + 300 tokens, 0:20 so far, 0:25 left"
)


def test_a_line_of_progress_says_what_is_known() -> None:
    assert describe(PROGRESS) == SENTENCE
    assert describe(Progress()) == "0 rows, 0 done, 0 failed, 0.0 rows/s, 0 refusals, 0:00 so far"
    assert duration(3909) == "1:05:09"


def test_without_a_terminal_a_line_is_written_from_time_to_time(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    for tenth in range(501):
        lines(Progress(elapsed=tenth / 10))
    written = capsys.readouterr().err.splitlines()
    assert len(written) == 50 // LINE_SECONDS
    assert written[0].endswith("0:10 so far")


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_bar_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    screen = Screen()
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", screen)
    with display(quiet=False) as show:
        assert isinstance(show, Bar)
        show(PROGRESS)
    assert SENTENCE in screen.getvalue()
    assert "\u2501" in screen.getvalue()


@pytest.mark.parametrize(("terminal", "rich"), [(True, False), (False, True)], ids=["without rich", "without one"])
def test_lines_are_written_where_no_bar_can_be_drawn(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, rich: bool
) -> None:
    if not rich:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(sys, "stderr", Screen() if terminal else io.StringIO())
    with display(quiet=False) as show:
        assert type(show) is Lines


@pytest.mark.parametrize("quiet", [True, False])
def test_nothing_is_shown_where_nobody_wants_it(monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    standard_error = io.StringIO() if quiet else None
    monkeypatch.setattr(sys, "stderr", standard_error)
    with display(quiet=quiet) as show:
        show(PROGRESS)
    assert standard_error is None or standard_error.getvalue() == ""


def test_a_model_that_is_waited_for_is_reported_once_until_it_answers(capsys: pytest.CaptureFixture[str]) -> None:
    waiting = _Waiting()
    call = CallInfo("my-llm", "InvokeEndpoint", "id")
    error = ModelNotReadyError(429, "ModelNotReadyException")
    reported = []
    for step in (lambda: None, lambda: waiting.call_finished(call, error), lambda: waiting.call_finished(call, None)):
        step()
        waiting.attempt_failed(call, ThrottlingError(429), 1.0)
        waiting.attempt_failed(call, error, None)
        waiting.attempt_failed(call, error, 1.0)
        reported.append(capsys.readouterr().err)
    said = (
        "smendpoint: the model is not ready, it is still being loaded (ModelNotReadyException); the rows wait for it\n"
    )
    assert reported == [said, "", said]
