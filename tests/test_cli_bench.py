"""``smendpoint bench``: its report, its files, what it shows meanwhile, and how it ends."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clocks import run_virtual
from servers import bare_environment  # noqa: F401

from smendpoint.bench import Load, Record, Run
from smendpoint.cli import _bench_shown, main
from smendpoint.emulator import Emulator, ModelReply, ModelRequest

pytestmark = pytest.mark.usefixtures("bare_environment")


class Model:
    """Counts its requests, and at one of them interrupts the program, or is gone."""

    def __init__(self) -> None:
        self.asked = 0
        self.interrupt_at: int | None = None
        self.gone_at: tuple[int, Emulator | None] = (0, None)

    def __call__(self, request: ModelRequest) -> ModelReply:
        self.asked += 1
        if self.asked == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        if self.asked == self.gone_at[0] and self.gone_at[1] is not None:
            del self.gone_at[1].models["gone"]
        return ModelReply(b'[{"generated_text": "Yes"}]')


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def emulator(model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Emulator]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    monkeypatch.chdir(tmp_path)
    with Emulator({"tgi": "tgi", "vllm": "vllm", "tei": "tei", "yes": model}) as emulator:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", emulator.url)
        yield emulator


def bench(*arguments: str, capsys: pytest.CaptureFixture[str], status: int = 0) -> tuple[str, str]:
    """Give what the command writes to standard output and to standard error."""
    assert main(["bench", *arguments]) == status
    captured = capsys.readouterr()
    return captured.out, captured.err


def figures(*arguments: str, capsys: pytest.CaptureFixture[str], status: int = 0) -> Any:
    return json.loads(bench(*arguments, "--json", "-", capsys=capsys, status=status)[0])


# -- the report

TWO = ("--concurrency", "2", "--count", "8")


@pytest.mark.parametrize(
    ("name", "handler", "length"),
    [("tgi", "text", "max_new_tokens"), ("vllm", "completions", "max_tokens"), ("vllm", "chat", "max_tokens")],
)
def test_each_handler_s_answers_are_streams_of_at_most_so_many_tokens(
    name: str, handler: str, length: str, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--handler", handler, "--input-tokens", "9", "--output-tokens", "5")
    found = figures(name, *TWO, *options, capsys=capsys)
    assert (found["completed"], found["failed"], found["interrupted"]) == (8, 0, False)
    assert found["total_output_tokens"] == 8 * 5
    assert found["median_ttft_ms"] <= found["median_e2el_ms"]
    assert f'"{length}": 5'.replace(" ", "") in emulator.requests[-1].body.decode().replace(" ", "")
    assert {request.operation for request in emulator.requests} == {"InvokeEndpointWithResponseStream"}


def test_embeddings_are_whole_answers(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    found = figures("tei", *TWO, "--handler", "embeddings", capsys=capsys)
    assert found["completed"] == 8
    assert found["mean_ttft_ms"] is None
    assert isinstance(json.loads(emulator.requests[-1].body)["inputs"], list)


def test_the_report_is_exact_in_a_pipe(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = bench("tgi", *TWO, "--goodput", "ttft:60000", "tpot:60000", capsys=capsys)
    shown = re.sub(r"\d[\d.,]*", "N", out)  # E2EL too
    assert [re.sub(r" +", " ", line) for line in shown.splitlines()] == [
        "",
        "N at once",
        " answered N in N s",
        " failed N",
        " requests/s N",
        " requests/s that met the goals N (ttft N ms, tpot N ms)",
        " output tokens/s N",
        " input and output tokens/s N",
        " milliseconds mean std median pN pN",
        " first output (TTFT) N N N N N",
        " each token after it (TPOT) N N N N N",
        " between pieces (ITL) N N N N N",
        " whole answer (ENEL) N N N N N",
    ]
    assert "\x1b" not in out + err


def test_failures_are_in_the_report_and_do_not_end_it(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    emulator.inject("not_ready_then_ok_1")
    out, err = bench("yes", "--rate", "inf", "--count", "6", "--no-stream", capsys=capsys)
    assert re.search(r"failed +1: ModelNotReadyError 1\n", out)
    assert out.startswith("\nall at once\n")
    assert "tokens/s" not in out
    assert "the model was not ready for some requests" in err


@pytest.mark.parametrize("kind", [("--concurrency", "2"), ("--sweep", "1,2")])
def test_the_first_error_of_each_class_is_said_once(
    kind: tuple[str, ...], emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("prompts.jsonl").write_text('"a"\n5\n')
    options = ("--count", "8", "--no-stream", "--prompts", "prompts.jsonl", "--quiet")
    emulator.inject("status_500", times=1)
    _, err = bench("yes", *kind, *options, "--warmup", "1", capsys=capsys)
    assert re.findall(r"the first (\w+): (.{9})", err) == [("HandlerError", "--handler")]
    emulator.inject("status_500", times=2)
    _, err = bench("yes", *kind, *options, capsys=capsys)
    assert sorted(re.findall(r"the first (\w+): ", err)) == ["HandlerError", "InternalFailureError"]


def test_retries_are_those_that_were_asked_for(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    emulator.inject("status_500", times=1)
    assert figures("yes", *TWO, "--no-stream", "--retries", "2", capsys=capsys)["failed"] == 0


def test_without_any_answer_the_status_is_1(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    emulator.inject("status_500")
    out, _ = bench("yes", *TWO, "--plot", "a.svg", capsys=capsys, status=1)
    assert "milliseconds" not in out
    assert not os.path.exists("a.svg")


def test_a_duration_ends_it_without_a_count(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    found = figures("yes", "--concurrency", "1", "--duration", "0.001", "--no-stream", "--warmup", "3", capsys=capsys)
    assert found["completed"] >= 1


def test_without_a_count_there_are_100_requests(
    emulator: Emulator, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    assert figures("yes", "--rate", "5000", "--no-stream", capsys=capsys)["completed"] == model.asked == 100


def test_prompts_come_from_a_file_again_and_again(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    Path("prompts.jsonl").write_text('{"input": "a", "parameters": {"seed": 7}}\n"b"\n')
    options = ("--prompts", "prompts.jsonl", "--param", "seed=1", "--stop", "END")
    bench("yes", "--concurrency", "1", "--count", "4", "--no-stream", *options, capsys=capsys)
    bodies = [json.loads(request.body) for request in emulator.requests]
    assert [(body["inputs"], body["parameters"]["seed"]) for body in bodies] == [("a", 7), ("b", 1)] * 2
    assert bodies[0]["parameters"]["stop"] == ["END"]


# -- sweeps


def test_a_sweep_writes_a_line_for_each_load_and_its_sentence_and_files(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ("--plot", "sweep.svg", "--json", "sweep.json")
    out, err = bench("yes", "--sweep", "1, 2", "--count", "6", "--no-stream", *files, capsys=capsys)
    head, *lines = out.splitlines()
    assert head.split() == [
        "load",
        "answered",
        "failed",
        "requests/s",
        "tokens/s",
        "TTFT",
        "ms",
        "E2EL",
        "ms",
        "p99",
        "ms",
    ]
    assert lines[0].split()[:5] == ["1", "at", "once", "6", "0"]
    assert re.match("It takes", lines[-1])
    found = json.loads(Path("sweep.json").read_text())
    assert found["sentence"] == lines[-1]
    assert [load["max_concurrency"] for load in found["loads"]][:2] == [1, 2]
    assert "<svg" in Path("sweep.svg").read_text()
    assert re.search(r"^1 at once: 6 answered, 0 failed, [\d.,]+ requests/s, median [\d.,]+ ms$", err, re.MULTILINE)


# -- interrupts


@pytest.mark.skipif(sys.platform == "win32", reason="there a process cannot interrupt itself")
@pytest.mark.parametrize("kind", [("--concurrency", "1"), ("--sweep", "1,2")])
def test_an_interrupt_ends_with_the_report_of_what_was_measured(
    kind: tuple[str, ...], emulator: Emulator, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    model.interrupt_at = 9
    arguments = ("yes", *kind, "--count", "1000", "--no-stream", "--json", "cut.json", "--plot", "cut.svg")
    out, _ = bench(*arguments, capsys=capsys, status=130)
    assert "1 at once" in out
    assert "It takes" not in out
    found = json.loads(Path("cut.json").read_text())
    assert (found["interrupted"], found["error"]) == (True, None)
    cut = found["loads"][0] if "loads" in found else found
    assert cut["completed"] == 8
    assert cut["max_client_lag_ms"] >= 0.0
    assert os.path.exists("cut.svg")


@pytest.mark.skipif(sys.platform == "win32", reason="there a process cannot interrupt itself")
def test_a_sweep_that_is_interrupted_says_what_the_loads_before_have_shown(
    emulator: Emulator, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    model.interrupt_at = 53  # in a load between the two
    arguments = ("yes", "--sweep", "1,16", "--count", "20", "--no-stream", "--json", "cut.json")
    out, _ = bench(*arguments, capsys=capsys, status=130)
    found = json.loads(Path("cut.json").read_text())
    first, between, last = found["loads"]
    assert [load["max_concurrency"] for load in (first, last)] == [1, 16]
    assert 1 < between["max_concurrency"] < 16
    assert (first["completed"], last["completed"]) == (20, 20)
    assert between["completed"] < 20
    assert out.splitlines()[-1] == found["sentence"]
    assert f"It takes about {found['knee']} at once" in found["sentence"]


@pytest.mark.parametrize("kind", [("--concurrency", "1"), ("--sweep", "1,2")])
def test_what_was_measured_before_an_error_that_every_call_would_meet_is_reported(
    kind: tuple[str, ...], emulator: Emulator, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator.models["gone"] = model
    model.gone_at = 9, emulator
    arguments = ("gone", *kind, "--count", "1000", "--no-stream", "--json", "cut.json")
    out, err = bench(*arguments, capsys=capsys, status=1)
    assert "1 at once" in out
    assert "not found" in err
    found = json.loads(Path("cut.json").read_text())
    assert found["interrupted"] is False
    assert re.match("ValidationError: .*not found", found["error"])
    assert (found["loads"][0] if "loads" in found else found)["completed"] == 9


def test_an_error_that_the_first_call_meets_is_all_there_is(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = bench("another", *TWO, "--json", "none.json", capsys=capsys, status=1)
    assert (out, os.path.exists("none.json")) == ("", False)
    assert "not found" in err


@pytest.mark.skipif(sys.platform == "win32", reason="there a process cannot interrupt itself")
@pytest.mark.parametrize("warmup", ["0", "5"])
def test_an_interrupt_before_the_first_answer_reports_nothing(
    warmup: str, emulator: Emulator, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    model.interrupt_at = 1
    assert bench("yes", *TWO, "--no-stream", "--warmup", warmup, capsys=capsys, status=130)[0] == ""


# -- what does not fit


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rate", "inf", "--duration", "5"), "with all requests at once, it takes a count"),
        ((*TWO, "--handler", "embeddings", "--output-tokens", "3"), "--output-tokens: embeddings have no length"),
        ((*TWO, "--prompts", "none.txt"), "cannot read the prompts of 'none.txt'"),
        ((*TWO, "--prompts", "none.txt", "--input-tokens", "3"), "--input-tokens is for generated prompts"),
        ((*TWO, "--plot", "a.gif"), "end with .svg, .png, .pdf"),
        ((*TWO, "--plot", "none/a.svg"), "--plot: cannot write 'none/a.svg'"),
        ((*TWO, "--json", "none/a.json"), "--json: cannot write 'none/a.json'"),
        ((*TWO, "--no-stream", "--goodput", "ttft:5"), "a goal of ttft needs streams"),
        ((*TWO, "--param", "x"), "--param takes NAME=VALUE"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_a_request(
    arguments: tuple[str, ...], message: str, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in bench("yes", *arguments, capsys=capsys, status=2)[1]
    assert not emulator.requests


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "one of the arguments --concurrency --rate --sweep is required"),
        (("--concurrency", "0"), "it must be at least 1"),
        (("--rate", "0"), "'0' is not a number above 0, or inf"),
        (("--rate", "x"), "'x' is not a number above 0, or inf"),
        (("--sweep", "1,,2"), "'' is not a whole number"),
        (("--rate", "1", "--goodput", "itl:5"), "'itl:5' is not ttft, tpot or e2el with milliseconds"),
        (("--rate", "1", "--goodput", "ttft:0"), "'ttft:0' is not ttft"),
        (("--rate", "1", "--goodput", "ttft"), "'ttft' is not ttft"),
    ],
)
def test_a_wrong_command_line_is_refused(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "yes", *arguments])
    assert message in capsys.readouterr().err


# -- what is shown meanwhile


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Screen:
    """Make standard error a terminal."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "100", **environment}.items():
        monkeypatch.setenv(name, value)
    found = Screen()
    monkeypatch.setattr(sys, "stderr", found)
    return found


LOAD = Load(concurrency=4, count=2000)
RECORDS = [Record(due, due, (due + 0.5,), due + 1.0, error="ModelError" if due == 3 else "") for due in range(2000)]


def run_of(load: Load = LOAD, number: int = 2000, **changed: Any) -> Run:
    found = Run(load, records=RECORDS[:number], lags=[0.0])
    found.report.update(changed)
    return found


def shown(run: Run, *, seconds: float) -> None:
    """Show a load that is under way for so long, and then another that is over."""

    async def main() -> None:
        with _bench_shown.display(quiet=False) as show:
            begun: list[Run] = []
            follow = asyncio.ensure_future(show.follow(begun))
            await asyncio.sleep(seconds / 2)  # nothing has begun
            begun.append(run)
            await asyncio.sleep(seconds / 2)
            follow.cancel()
            await asyncio.wait([follow])
            show.finished(run_of(Load(concurrency=8, count=5)))

    run_virtual(main())


def drawn(screen: Screen) -> str:
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", screen.getvalue())


def test_on_a_terminal_there_is_a_table_with_a_row_for_each_load(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = screen(monkeypatch)
    with _bench_shown.display(quiet=False) as show:
        show.finished(run_of(Load(concurrency=2, count=5)))
        show.finished(run_of())
    assert re.search(r"load +.*answered +.*failed +.*requests/s", drawn(seen))
    assert re.search(r"2 at once.* 1,999 +1 .*1,000", drawn(seen))
    assert re.search(r"4 at once.* 1,999 +1 .*1,000", drawn(seen))


def test_the_table_is_drawn_anew_while_no_request_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = screen(monkeypatch)
    shown(run_of(number=5), seconds=80.0)
    rows = re.findall(r"4 at once +4 +1 +([\d.]+) +([\d.]+) +500 +1,000 +1,000", drawn(seen))
    assert rows[0] == ("0.100", "0.100")  # the clock is at 40 s when it is drawn for the first time
    assert rows[-1] == ("0.0502", "0.0502")


def test_a_load_without_an_answer_yet_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = screen(monkeypatch)
    shown(run_of(number=0), seconds=2.0)
    assert re.search(r"4 at once +0 +0 +- +- +- +- +-", drawn(seen))


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = screen(monkeypatch, NO_COLOR="1")
    with _bench_shown.display(quiet=False) as show:
        show.finished(run_of())
    assert not re.search(r"\x1b\[[\d;]*3\dm", seen.getvalue())


@pytest.mark.parametrize("plain", ["without rich", "a dumb terminal"])
def test_without_a_table_there_are_lines(plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if plain == "without rich":
        seen = screen(monkeypatch)
        monkeypatch.setitem(sys.modules, "rich.console", None)
    else:
        seen = screen(monkeypatch, TERM="dumb")
    shown(run_of(number=22), seconds=22.0)
    assert seen.getvalue().splitlines() == [
        "4 at once: 21 answered, 1 failed so far",
        "8 at once: 1,999 answered, 1 failed, 1.00 requests/s, median 1,000 ms",
    ]


@pytest.mark.parametrize("closed", [False, True])
def test_quiet_shows_nothing(closed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = screen(monkeypatch)
    if closed:
        monkeypatch.setattr(sys, "stderr", None)
    with _bench_shown.display(quiet=not closed) as show:
        show.progress(run_of())
        show.finished(run_of())
    assert seen.getvalue() == ""


@pytest.mark.parametrize("figure", ["p99_client_lag_ms", "p99_send_lag_ms"])
def test_a_client_that_lags_is_warned_about(figure: str) -> None:
    assert list(_bench_shown.doubts([run_of(), run_of(**{figure: None})])) == []
    (doubt,) = _bench_shown.doubts([run_of(), run_of(**{figure: 31.4})])
    assert doubt.startswith("this program itself was up to 31.4 ms late")


def test_tokens_that_were_not_counted_by_the_model_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    _bench_shown.write_run(run_of())
    out = capsys.readouterr().out
    assert re.search(r"output tokens/s +1.00 \(counted as chunks\)", out)
    assert "input and output" not in out  # nobody counted the input


def test_the_report_fits_a_terminal_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    slow = [record._replace(ended=record.due + 900.0, input_tokens=100) for record in RECORDS]
    _bench_shown.write_run(Run(LOAD, {"ttft": 500.0, "tpot": 50.0}, slow))
    out = capsys.readouterr().out
    assert "900,000 900,000" in out
    assert max(map(len, out.splitlines())) <= 80
