"""The command ``smendpoint``: what it prints, and its exit status."""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import smendpoint
from smendpoint.cli import COMMANDS, _chat, _emulator, _progress, main
from smendpoint.cli._terminal import Output, Terminal, complain, visible
from smendpoint.emulator import FAULTS, Credentials, Emulator
from smendpoint.emulator.personalities import PERSONALITIES

SAID = "The cat slept for 2 hours."
PROMPT = f"{SAID}\nQuestion: How long did the cat sleep?"


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with Emulator(
        {"my-llm": "tgi", "chat": "vllm", "table": "sklearn", "echo": lambda asked: asked.body},
        region="eu-west-1",
        credentials=Credentials("AKID", "secret"),
    ) as emulator:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", emulator.url)
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        yield emulator


class Input:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


# -- the command itself


NAMES = [command.__name__.rpartition("._")[2] for command in COMMANDS]
USAGE = "usage: smendpoint"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--version"], 0, f"smendpoint {smendpoint.__version__}\n"),
        (["--help"], 0, USAGE),
        *(([name, "--help"], 0, f"{USAGE} {name}") for name in NAMES),
        ([], 2, USAGE),
        (["nonsense"], 2, USAGE),
        (["invoke"], 2, f"{USAGE} invoke"),
        (["invoke", "x", "--handler", "nonsense"], 2, f"{USAGE} invoke"),
        (["invoke", "my-llm", "x", "--stream", "y"], 2, "unrecognized arguments: "),
        (["invoke", "my-llm", "--stream", "x", "y"], 2, "unrecognized arguments: "),
        (["invoke", "my-llm", "--stream", "--x"], 2, "unrecognized arguments: "),
    ],
)
def test_help_and_version_end_with_0_and_a_wrong_command_line_with_2(
    arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(arguments)
    assert exit_status.value.code == status
    captured = capsys.readouterr()
    assert message in (captured.err if status else captured.out)


def test_the_package_can_be_run_as_a_module(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["smendpoint", "emulator", "--list"])
    monkeypatch.delitem(sys.modules, "smendpoint.__main__", raising=False)
    with pytest.raises(SystemExit) as exit_status:
        importlib.import_module("smendpoint.__main__")
    assert exit_status.value.code == 0
    assert capsys.readouterr().out.startswith("Personalities:")


def test_a_reader_that_closes_the_pipe_gets_no_traceback() -> None:
    program = [sys.executable, "-m", "smendpoint", "emulator", "--list"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_output_that_nobody_reads_goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=1) as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert main(["emulator", "--list"]) == 1
        assert os.path.samestat(os.fstat(writer), os.stat(os.devnull))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_output_that_cannot_be_written_ends_with_1_and_one_line() -> None:
    with open("/dev/full", "wb") as full:
        program = [sys.executable, "-m", "smendpoint", "emulator", "--list"]
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "smendpoint: cannot write the output: No space left on device\n",
    )


def test_output_that_fails_goes_nowhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    reader, writer = os.pipe()
    with open(writer, "w") as output, open(reader):
        monkeypatch.setattr(sys, "stdout", output)
        monkeypatch.setattr(_emulator, "_models", fails)
        assert main(["emulator"]) == 1
    assert capsys.readouterr().err == "smendpoint: cannot write the output: No space left on device\n"


def test_without_a_standard_output_nothing_is_done(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["invoke", "my-llm", PROMPT]) == 2
    assert capsys.readouterr().err == "smendpoint: there is no standard output to write to\n"
    assert emulator.requests == []


def test_an_interrupted_command_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(done: threading.Event) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_emulator, "wait", interrupted)
    assert main(["emulator", "--port", "0"]) == 130


# -- demo


def test_the_demo_answers_from_the_document_and_says_that_the_model_is_a_stand_in(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "of somebody")
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert "The model is a stand-in" in out
    assert "Question\n  How long was Elizabeth hospitalized?\n" in out
    assert "\n  Therefore, Peter stayed with her at the hospital for 3 days without leaving.\n\nThe same" in out
    assert re.search(r"\n  Therefore, Peter stayed with her\n  StreamTruncatedError: the stream was cut", out)
    assert re.search(r"\n  100 answers in \d+\.\d\d s", out)
    assert len(re.findall(r"\d\.\d\d ms", out)) == 4
    assert "\x1b" not in out


@pytest.mark.parametrize("styled", [False, True])
def test_the_demo_fits_a_terminal_of_80_columns(styled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "" if styled else "1")
    monkeypatch.delenv("TERM", raising=False)
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    assert main(["demo"]) == 0
    written = screen.getvalue()
    assert ("\x1b" in written) is styled
    shown = re.sub(r"\x1b\[\d+m", "", written)
    assert "for 3 days" in shown
    assert [line for line in shown.splitlines() if len(line) > 80] == []


def test_the_demo_needs_nothing_from_its_surroundings() -> None:
    program = [sys.executable, "-m", "smendpoint", "demo"]
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "SYSTEMROOT", "PYTHONPATH")}
    nowhere = {"HTTP_PROXY": "http://127.0.0.1:9", "AWS_PROFILE": "nothing", "AWS_CONFIG_FILE": os.devnull}
    result = subprocess.run(program, capture_output=True, text=True, env={**kept, **nowhere}, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert "3 days" in result.stdout


# -- the terminal


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("kind", "environment", "styled"),
    [
        (Screen, {}, True),
        (Screen, {"NO_COLOR": "1"}, False),
        (Screen, {"NO_COLOR": ""}, True),
        (Screen, {"TERM": "dumb"}, False),
        (Screen, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        (Screen, {"TERM": "dumb", "FORCE_COLOR": "1"}, True),
        (io.StringIO, {}, False),
        (io.StringIO, {"FORCE_COLOR": "1"}, True),
    ],
)
def test_a_terminal_gets_colours_and_a_pipe_does_not_unless_the_environment_decides(
    kind: type[io.StringIO], environment: dict[str, str], styled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    screen = kind()
    monkeypatch.setattr(sys, "stdout", screen)
    terminal = Terminal()
    terminal.title("Title")
    terminal.piece(" ")
    terminal.piece("piece")
    assert terminal.styled is styled
    assert ("\x1b[1mTitle\x1b[0m" in screen.getvalue()) is styled
    assert screen.getvalue().endswith("\x1b[32mpiece\x1b[0m" if styled else " piece")


URL = "https://runtime.sagemaker.us-west-2.amazonaws.com/endpoints/my-llm/invocations"


@pytest.mark.parametrize(("columns", "longest"), [("1", 40), ("50", 50), ("200", 96)])
def test_texts_are_wrapped_to_the_width_of_the_terminal(
    columns: str, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    words = "one " * 200
    terminal = Terminal()
    terminal.text(f"{words}\n\n{words}")
    terminal.finding("call", "ok", "32", words, words)
    plain = re.sub(r"\x1b\[\d+m", "", screen.getvalue())
    assert longest - 4 < max(map(len, plain.splitlines())) <= longest
    assert "\n\n" in plain
    terminal.finding("call", "ok", "32", f"us-west-2 {URL}", URL)
    assert screen.getvalue().count(URL) == 2


def test_in_a_pipe_a_finding_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    Terminal().finding("call", "ok", "32", "one " * 40 + "end", "")
    assert capsys.readouterr().out == f"ok      call        {'one ' * 40}end\n"


@pytest.mark.parametrize("shown", ["chat", "batch"])
def test_nothing_is_drawn_on_a_terminal_that_cannot(shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {
        "chat": lambda: _chat._markdown(argparse.Namespace(plain=False)) is not None,
        "batch": lambda: isinstance(_progress.display(quiet=False), _progress.Bar),
    }[shown]
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, Screen())
    monkeypatch.setenv("TERM", "xterm")
    assert drawn()
    monkeypatch.setenv("TERM", "dumb")
    assert not drawn()


# -- invoke


@pytest.mark.parametrize(
    ("arguments", "out"),
    [
        (["my-llm", PROMPT], f"{SAID}\n"),
        (["my-llm", PROMPT, "--param", "max_new_tokens=2"], "The cat\n"),
        (["my-llm", PROMPT, "--stop", " slept", "--stop", "never"], "The cat\n"),
        (["my-llm", PROMPT, "--stream"], f"{SAID}\n"),
        (["my-llm", PROMPT, "--stream", "--param", "max_new_tokens=2"], "The cat\n"),
        (["chat", PROMPT, "--handler", "completions"], f"{SAID}\n"),
        (["chat", PROMPT, "--handler", "chat"], f"{SAID}\n"),
        (["chat", PROMPT, "--handler", "chat", "--stream"], f"{SAID}\n"),
        (["echo", '{"a": 1}', "--handler", "json"], '{"a": 1}\n'),
        (["echo", "hé", "--handler", "plain"], "hé\n"),
        (["echo", "hé", "--handler", "bytes"], "hé"),
        (["echo", "hé", "--handler", "bytes", "--stream"], "hé"),
        (["table", "1,2", "--handler", "plain", "--content-type", "text/csv", "--accept", "text/csv"], "3.0\n\n"),
        (["my-llm", PROMPT, "--region", "eu-west-1", "--timeout", "5"], f"{SAID}\n"),
    ],
)
def test_invoke_writes_the_output(
    emulator: Emulator, arguments: list[str], out: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    status = main(["invoke", *arguments])
    captured = capfdbinary.readouterr()
    assert (status, captured.err.decode()) == (0, "")
    assert captured.out.decode() == out


def test_invoke_takes_the_endpoint_url_and_the_component(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME")
    arguments = ["invoke", "my-llm", PROMPT, "--endpoint-url", emulator.url, "--component", "part"]
    assert main([*arguments, "--param", "a=text"]) == 0
    assert emulator.requests[0].inference_component == "part"
    assert json.loads(emulator.requests[0].body)["parameters"] == {"a": "text"}
    assert main([*arguments, "--param", "timeout=5", "--param", "stop=x", "--stop", "END"]) == 0
    assert json.loads(emulator.requests[1].body)["parameters"] == {"timeout": 5, "stop": "x"}
    assert SAID in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["my-llm", "--stream", PROMPT], ["--stream", "my-llm", PROMPT], ["my-llm", PROMPT, "--stream"]]
)
def test_options_may_stand_anywhere(
    emulator: Emulator, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["invoke", *arguments]) == 0
    assert capsys.readouterr().out == f"{SAID}\n"


def test_an_argument_may_be_any_bytes(emulator: Emulator) -> None:
    main(["invoke", "echo", "--handler", "bytes", os.fsdecode(b"\xff\x00")])
    assert emulator.requests[-1].body == b"\xff\x00"


def test_characters_that_a_terminal_does_not_know_are_escaped_and_a_pipe_gets_utf_8(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for terminal, shown in ((True, rb"caf\xe9"), (False, "caf\xe9".encode())):
        screen = Tty(terminal=terminal, encoding="ascii")
        monkeypatch.setattr(sys, "stdout", screen)
        assert main(["invoke", "echo", "--handler", "plain", "caf\xe9"]) == 0
        assert screen.shown.splitlines() == [shown]


def test_the_output_may_be_any_text_stream(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    assert main(["invoke", "my-llm", PROMPT]) == 0
    assert written.getvalue() == f"{SAID}\n"


@pytest.mark.parametrize("arguments", [["my-llm"], ["my-llm", "-"], ["my-llm", "--stream", "-"]])
def test_invoke_reads_standard_input(
    emulator: Emulator, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Input(PROMPT.encode()))
    assert main(["invoke", *arguments]) == 0
    assert capsys.readouterr().out == f"{SAID}\n"


def test_invoke_uses_the_profile(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"
    file.write_text("[mine]\naws_access_key_id = AKID\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    assert main(["invoke", "my-llm", PROMPT, "--profile", "mine"]) == 0
    assert capsys.readouterr().out == f"{SAID}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing", "x"], "smendpoint: ValidationError: 400 ValidationError: Endpoint nothing of account"),
        (["echo", "x"], "smendpoint: "),
    ],
)
def test_a_failed_call_ends_with_1_and_a_message_without_a_traceback(
    emulator: Emulator, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["invoke", *arguments]) == 1
    err = capsys.readouterr().err
    assert err.startswith(message)
    assert "Traceback" not in err


def test_a_stream_that_fails_ends_with_1_after_what_was_received(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator.inject("inband_error_tgi")
    assert main(["invoke", "my-llm", PROMPT, "--stream"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "Once"
    assert captured.err.startswith("smendpoint: ModelOutputError: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["my-llm", "x", "--param", "nothing"],
        ["my-llm", "x", "--param", "=1"],
        ["my-llm", "x", "--accept", "text/csv"],
        ["not an endpoint", "x"],
        ["echo", "{", "--handler", "json"],
        ["echo", "[" * 100_000, "--handler", "json"],
        ["my-llm", "x", "--region", "not a region"],
    ],
)
def test_arguments_that_do_not_fit_end_with_2(
    emulator: Emulator, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["invoke", *arguments]) == 2
    assert capsys.readouterr().err.startswith("smendpoint: ")
    assert emulator.requests == []


class Directory:
    class buffer:
        @staticmethod
        def read() -> bytes:
            raise IsADirectoryError(21, "Is a directory")


@pytest.mark.parametrize(
    ("standard_input", "message"),
    [
        (Input(b"\xff"), "the input is not UTF-8 text: use --handler bytes"),
        (None, "there is no standard input: pass INPUT"),
        (Directory, "cannot read standard input: Is a directory"),
    ],
    ids=["not text", "none", "a directory"],
)
def test_a_standard_input_that_cannot_be_used_ends_with_2(
    standard_input: Any, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", standard_input)
    assert main(["invoke", "my-llm"]) == 2
    assert capsys.readouterr().err == f"smendpoint: {message}\n"


# -- emulator


def test_the_emulator_lists_its_personalities_and_faults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["emulator", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name}" in out for name in (*PERSONALITIES, *FAULTS))


def fetch(url: str, endpoint: str) -> Any:
    data = json.dumps({"inputs": PROMPT}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/endpoints/{endpoint}/invocations", data)) as answer:
        return json.load(answer)


def test_the_emulator_plays_models_and_faults_until_it_is_interrupted(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers: list[Any] = []

    def use(done: threading.Event) -> None:
        url = capsys.readouterr().out.partition("=")[2].partition("\n")[0]
        with pytest.raises(urllib.error.HTTPError, match="429") as throttled:
            fetch(url, "one")
        throttled.value.close()
        answers.append(fetch(url, "one"))
        # Behind the second endpoint is not a container but another emulator, which does not know /invocations.
        with pytest.raises(urllib.error.HTTPError, match="424") as failed:
            fetch(url, "two")
        answers.append(json.load(failed.value)["OriginalStatusCode"])
        failed.value.close()

    monkeypatch.setattr(_emulator, "wait", use)
    arguments = ["--model", "one=lmi", "--model", f"two={emulator.url}", "--fault", "throttle_then_ok_1"]
    assert main(["emulator", "--port", "0", *arguments]) == 0
    assert answers == [{"generated_text": SAID}, 404]


@pytest.mark.parametrize(("queue", "queued"), [([], 0), (["--queue", "1"], 1), (["--queue"], 2)])
def test_the_emulator_has_the_capacity_and_the_queue_that_the_command_line_gives(
    queue: list[str], queued: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[tuple[Any, ...]] = []

    class Noted(Emulator):
        def start(self) -> Noted:
            made.append((self.capacity, self.latency, self.queue))
            return super().start()

    monkeypatch.setattr("smendpoint.emulator.Emulator", Noted)
    monkeypatch.setattr(_emulator, "wait", lambda done: None)
    assert main(["emulator", "--port", "0", "--capacity", "8", "--latency", "0.05", *queue]) == 0
    assert made == [(8, 0.05, (0, 1, None)[queued])]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model", "nothing"],
        ["--model", "a=nothing"],
        ["--model", "=tgi"],
        ["--model", "a=ftp://x"],
        ["--model", "a=http://x:y"],
        ["--model", "a=http://["],
        ["--fault", "nothing"],
        ["--capacity", "-1"],
        ["--latency", "nan"],
        ["--port", "65536"],
        ["--port", "-1"],
    ],
)
def test_an_emulator_of_what_does_not_exist_ends_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["emulator", "--port", "0", *arguments]) == 2
    assert capsys.readouterr().err.startswith("smendpoint: ")


def test_a_port_that_is_taken_ends_with_2(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["emulator", "--port", str(emulator.port)]) == 2
    assert "in use" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_waiting_and_its_handler_is_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with _emulator.interruptions() as done:
        signal.raise_signal(number)
        _emulator.wait(done)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]")])
def test_the_emulator_prints_all_that_a_shell_needs(
    host: str, address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shell reads what it printed, and programs in that shell lead to the emulator."""
    answers: list[str] = []
    program = """
import json, os, boto3, openai, smendpoint
print(smendpoint.Endpoint("a-model").invoke("It rains. Question: Does it rain?"))
body = json.dumps({"inputs": "It rains. Question: Does it rain?"})
answer = boto3.client("sagemaker-runtime").invoke_endpoint(EndpointName="a-model", Body=body)
print(json.loads(answer["Body"].read())[0]["generated_text"])
chat = openai.OpenAI().chat.completions
messages = [{"role": "user", "content": "It rains. Question: Does it rain?"}]
print(chat.create(model="", messages=messages).choices[0].message.content)
"""

    def use(done: threading.Event) -> None:
        printed = capsys.readouterr().out
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "OPENAI_"))}
        ran = subprocess.run(
            ["sh", "-ec", f'{printed}\nexec "$@"', "sh", sys.executable, "-c", program],
            env={**kept, "AWS_CONFIG_FILE": os.devnull, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
        )
        answers.append(ran.stdout + ran.stderr)
        assert f"http://{address}:" in printed

    monkeypatch.setattr(_emulator, "wait", use)
    arguments = ["--host", host, "--model", "a-model=tgi", "--shell", "bash"]
    assert main(["emulator", "--port", "0", *arguments]) == 0
    assert answers == ["It rains.\n" * 3]


def test_the_emulator_prints_for_powershell_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_emulator, "wait", lambda done: None)
    assert main(["emulator", "--port", "0", "--shell", "powershell", "--model", "it's=tgi"]) == 0
    lines = [line.removeprefix("# ") for line in capsys.readouterr().out.splitlines()]
    variables = [line for line in lines if line.startswith("$Env:")]
    assert len(variables) == 11
    assert all(re.fullmatch(r"\$Env:[A-Z0-9_]+ = '[^']+'", line) for line in variables)
    assert "/endpoints/it%27s/openai/v1'" in "".join(variables)


def test_the_emulator_ends_with_0_when_it_is_interrupted() -> None:
    program = [sys.executable, "-m", "smendpoint", "emulator", "--port", "0"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = iter(process.stdout.readline, "")
        url = next(lines).strip().partition("=")[2]
        assert any(line.startswith("# any region") for line in lines)
        assert fetch(url, "any") == [{"generated_text": SAID}]
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
        assert process.wait() == 0


# -- characters that a terminal would obey


class Tty(io.TextIOWrapper):
    """Standard output or standard error as a terminal; or as a pipe."""

    def __init__(self, *, terminal: bool = True, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def shown(self) -> bytes:
        raw: Any = self.buffer
        return bytes(raw.getvalue())


# The title of the window, a cleared screen, a carriage return, C1's CSI, text that runs backwards.
NASTY = "a\x1b]0;x\x07\x1b[2J\rb\x9b1m\u202ec\u2066\x00\x7f\u200f"
HARMLESS = "tab\tline\nCRLF\r\n caf\u00e9 \u65e5\u672c \U0001f600"
SHOWN = r"a\x1b]0;x\x07\x1b[2J\x0db\x9b1m\u202ec\u2066\x00\x7f\u200f"


def test_characters_that_a_terminal_would_obey_are_escaped_and_no_others() -> None:
    assert visible(NASTY) == SHOWN
    assert visible(HARMLESS) == HARMLESS
    for code in [*range(0x20), *range(0x7F, 0xA0)]:
        assert (visible(chr(code)) == chr(code)) is (chr(code) in "\t\n")


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    ("handler", "stream"), [("plain", False), ("plain", True), ("bytes", False), ("bytes", True), ("json", False)]
)
def test_a_model_does_nothing_to_a_terminal_and_a_pipe_gets_it_as_it_is(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, handler: str, stream: bool, terminal: bool
) -> None:
    screen = Tty(terminal=terminal)
    monkeypatch.setattr("sys.stdout", screen)
    text = json.dumps([NASTY], ensure_ascii=False) if handler == "json" else NASTY
    monkeypatch.setattr("sys.stdin", Input(text.encode()))
    options = ["--stream"] if stream else []
    assert main(["invoke", "echo", "--handler", handler, "--accept", "*/*", *options]) == 0
    assert screen.shown.decode().rstrip("\n") == (visible(text) if terminal else text)
    assert terminal is False or b"\x1b" not in screen.shown


def test_bytes_on_a_terminal_are_text_and_no_half_character_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Tty()
    monkeypatch.setattr("sys.stdout", screen)
    out = Output()
    for piece in (b"caf\xc3", b"\xa9\x1b", b"\xff", b"\xe6\x97"):
        out.data(piece)
    out.close()
    assert screen.shown.decode() == "caf\u00e9\\x1b\\xff\\xe6\\x97"


@pytest.mark.parametrize("terminal", [True, False])
def test_the_message_of_a_failed_container_does_nothing_to_a_terminal(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    emulator.models["echo"] = lambda asked: (_ for _ in ()).throw(RuntimeError(NASTY))
    screen = Tty(terminal=terminal)
    monkeypatch.setattr("sys.stderr", screen)
    assert main(["invoke", "echo", "hello"]) == 1
    assert b"ModelError" in screen.shown
    assert (b"\x1b" in screen.shown) is not terminal
    assert (b"\\x1b]0;x" in screen.shown) is terminal


def test_without_a_standard_error_no_message_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    complain("nobody hears it")
