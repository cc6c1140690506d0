"""``smendpoint emulator -- COMMAND``: a program that an emulator runs, its surroundings, signals and exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from smendpoint.cli import _child, _emulator, main

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
EMULATOR = [sys.executable, "-m", "smendpoint", "emulator"]
QUESTION = "It rains. Question: Does it rain?"
CLIENTS = f"""
import json, boto3, openai, smendpoint
print(smendpoint.Endpoint("my-llm").invoke("{QUESTION}"))
print(smendpoint.Endpoint("my-llm", region_name="eu-west-3").submit("{QUESTION}").result(timeout=60))
body = json.dumps({{"inputs": "{QUESTION}"}})
answer = boto3.client("sagemaker-runtime").invoke_endpoint(EndpointName="my-llm", Body=body)
print(json.loads(answer["Body"].read())[0]["generated_text"])
print(boto3.client("sagemaker").describe_endpoint(EndpointName="my-llm")["EndpointStatus"])
messages = [{{"role": "user", "content": "{QUESTION}"}}]
print(openai.OpenAI().chat.completions.create(model="", messages=messages).choices[0].message.content)
"""
# Catches SIGINT; after each one it reads a line. A second SIGINT for one key would be noticed in the middle of it.
INTERRUPTED = """
import signal, sys
caught = 0
def count(*_):
    global caught
    caught += 1
signal.signal(signal.SIGINT, count)
print("ready", flush=True)
while not caught:
    signal.pause()
print("caught", flush=True)
sys.stdin.readline()
print("times", caught, flush=True)
sys.exit(5)
"""


def bare(tmp_path: Path, **more: str) -> dict[str, str]:
    """The environment of this process without anything that leads clients anywhere."""
    leads = ("AWS_", "OPENAI_", "NO_PROXY", "no_proxy")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(leads)}
    files = {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
    }
    return {**kept, **files, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **more}


def run(*command: str, env: dict[str, str] | None = None, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*EMULATOR, *command], env=env, input=text, capture_output=True, text=True, timeout=120)


def test_every_client_in_the_command_calls_the_emulator_and_nothing_else_is_written(tmp_path: Path) -> None:
    done = run("--", sys.executable, "-c", CLIENTS, env=bare(tmp_path))
    assert (done.stdout, done.stderr, done.returncode) == ("It rains.\n" * 3 + "InService\nIt rains.\n", "", 0)


def test_settings_of_the_caller_do_not_lead_the_command_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[default]\nignore_configured_endpoint_urls = true\n")
    nowhere = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    env = bare(tmp_path, AWS_PROFILE="mine", AWS_SESSION_TOKEN="token", AWS_REGION="eu-west-3", **nowhere)
    done = run("--model", "my-llm=stand_in", "--", sys.executable, "-c", CLIENTS, env=env)
    assert (done.stdout, done.stderr, done.returncode) == ("It rains.\n" * 3 + "InService\nIt rains.\n", "", 0)


def child(code: str, *arguments: str) -> list[str]:
    return ["emulator", "--", sys.executable, "-c", code, *arguments]


def environment_of_the_child(capfd: pytest.CaptureFixture[str]) -> dict[str, str]:
    assert main(child("import os, json; print(json.dumps(dict(os.environ)))")) == 0
    found: dict[str, str] = json.loads(capfd.readouterr().out)
    return found


def test_the_command_gets_keys_that_nobody_takes_for_real_ones(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDREAL")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "real")
    found = environment_of_the_child(capfd)
    assert (found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"]) == ("emulated", "emulated-secret")
    assert "AWS_SESSION_TOKEN" not in found
    url = found["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"]
    assert found["AWS_ENDPOINT_URL_SAGEMAKER"] == url
    assert found["AWS_ENDPOINT_URL_S3"] == f"{url}/s3"
    assert found["OPENAI_BASE_URL"] == f"{url}/endpoints/my-llm/openai/v1"
    assert os.environ["AWS_ACCESS_KEY_ID"] == "AKIDREAL"


def test_a_stand_in_for_s3_of_the_callers_own_stays(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000")
    assert environment_of_the_child(capfd)["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:9000"


@pytest.mark.parametrize("before", ["", "example.org"])
def test_a_proxy_stays_for_all_but_the_emulator(
    before: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", before)
    found = environment_of_the_child(capfd)
    assert found["http_proxy"] == "http://127.0.0.1:9"
    assert found["no_proxy"] == found["NO_PROXY"] == ",".join(filter(None, [before, "127.0.0.1"]))
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("NO_PROXY", "example.net")
    assert environment_of_the_child(capfd)["no_proxy"] == "example.net,127.0.0.1"


def test_without_a_proxy_no_variable_of_proxies_is_set(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    assert not [name for name in environment_of_the_child(capfd) if name.lower() == "no_proxy"]


def test_programs_beside_a_smendpoint_that_was_called_by_its_path_come_first(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As in a virtual environment that is not activated."""
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "smendpoint")])
    assert environment_of_the_child(capfd)["PATH"] == os.pathsep.join([str(tmp_path), os.defpath])
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "__main__.py")])
    first = environment_of_the_child(capfd)["PATH"].split(os.pathsep)[0]
    assert first == str(Path(sys.executable).parent)


def test_the_order_of_a_path_that_has_smendpoint_already_stays(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = os.pathsep.join([os.defpath, str(tmp_path)])
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "smendpoint")])
    assert environment_of_the_child(capfd)["PATH"] == path


@posix
def test_python_is_the_one_of_an_environment_that_is_not_activated(tmp_path: Path) -> None:
    done = run("--", "python", "-c", "import sys; print(sys.prefix)", env=bare(tmp_path, PATH=os.defpath))
    assert (done.stdout, done.stderr) == (f"{sys.prefix}\n", "")


def test_the_streams_are_the_commands_own(tmp_path: Path) -> None:
    program = "import sys; print(sys.stdin.read().upper()); print('b', file=sys.stderr)"
    done = run("--", sys.executable, "-c", program, env=bare(tmp_path), text="a")
    assert (done.stdout, done.stderr) == ("A\n", "b\n")


def test_the_arguments_of_the_command_are_left_as_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--port", "1", "--", "-x", "a b", ""]
    assert main(child("import sys; print(sys.argv[1:])", *arguments)) == 0
    assert capfd.readouterr().out == f"{arguments}\n"


def test_the_two_hyphens_may_be_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["emulator", "--capacity", "2", sys.executable, "-c", "print(1)"]) == 0
    assert capfd.readouterr().out == "1\n"


def test_a_command_may_have_a_port_that_is_known_beforehand(
    unused_tcp_port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    program = "import os; print(os.environ['AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME'])"
    assert main(["emulator", "--port", str(unused_tcp_port), "--", sys.executable, "-c", program]) == 0
    assert capfd.readouterr().out == f"http://127.0.0.1:{unused_tcp_port}\n"


@pytest.fixture
def unused_tcp_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@pytest.mark.parametrize("status", [0, 3])
def test_the_exit_status_is_the_commands(status: int) -> None:
    assert main(child(f"import sys; sys.exit({status})")) == status


@posix
def test_the_exit_status_of_a_command_that_a_signal_ended_is_what_a_shell_says() -> None:
    assert main(child("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")) == 128 + signal.SIGKILL


def test_a_command_that_does_not_exist_ends_with_127(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["emulator", "--", "no-such-command"]) == 127
    assert capsys.readouterr().err == "smendpoint: cannot run 'no-such-command': No such file or directory\n"


@pytest.mark.parametrize(("mode", "why"), [(0o600, "Permission denied"), (0o700, "Exec format error")])
@posix
def test_a_file_that_cannot_be_run_ends_with_126(
    mode: int, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"\x00\x01")
    (tmp_path / "file").chmod(mode)
    assert main(["emulator", str(tmp_path / "file")]) == 126
    assert capsys.readouterr().err == f"smendpoint: cannot run '{tmp_path / 'file'}': {why}\n"


# -- signals

TOLD = """
import os, signal, sys
def end(number, frame):
    print(signal.Signals(number).name, flush=True)
    sys.exit(9)
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    signal.signal(getattr(signal, name), end)
os.kill(os.getppid(), getattr(signal, sys.argv[1]))
signal.pause()
"""


@contextmanager
def handled_as(handler: signal.Handlers, number: signal.Signals) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_signal_to_end_is_passed_on_and_the_command_ends_as_it_likes(
    name: str, terminal: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_child, "_keys_reach_us", lambda: terminal)
    with handled_as(signal.SIG_DFL, signal.Signals[name]):  # `nohup` may ignore it
        assert main(child(TOLD, name)) == 9
        assert signal.getsignal(signal.Signals[name]) is signal.SIG_DFL
    assert capfd.readouterr().out == f"{name}\n"


@posix
def test_an_interrupt_that_no_key_of_the_terminal_sent_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_child, "_keys_reach_us", lambda: False)
    assert main(child(TOLD, "SIGINT")) == 9
    assert capfd.readouterr().out == "SIGINT\n"


@posix
def test_an_interrupt_that_the_command_gets_itself_is_not_sent_twice(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_child, "_keys_reach_us", lambda: True)
    program = "import os, signal; os.kill(os.getppid(), signal.SIGINT); print('not interrupted')"
    assert main(child(program)) == 0
    assert capfd.readouterr().out == "not interrupted\n"


@posix
def test_a_signal_while_the_command_is_being_started_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    start = subprocess.Popen

    def interrupted(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        signal.raise_signal(signal.SIGTERM)
        return start(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    assert main(child("import signal; signal.pause()")) == 128 + signal.SIGTERM


@posix
def test_a_signal_that_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    with handled_as(signal.SIG_IGN, signal.SIGHUP):  # as `nohup` does
        assert main(child("import os, signal; os.kill(os.getppid(), 1); os.kill(os.getpid(), 1)")) == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


@posix
def test_keys_reach_the_command_in_the_foreground_of_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_child, "_TERMINAL", os.devnull)
    monkeypatch.setattr(os, "tcgetpgrp", lambda terminal: os.getpgrp())
    assert _child._keys_reach_us()
    monkeypatch.setattr(os, "tcgetpgrp", lambda terminal: os.getpgrp() + 1)
    assert not _child._keys_reach_us()
    monkeypatch.setattr(_child, "_TERMINAL", str(tmp_path / "none"))
    assert not _child._keys_reach_us()


LAUNCHER = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@posix
def test_the_terminals_control_c_reaches_the_command_once_and_the_emulator_outlives_it(tmp_path: Path) -> None:
    ours, terminal = os.openpty()
    program = [sys.executable, "-c", LAUNCHER, *EMULATOR, "--", sys.executable, "-c", INTERRUPTED]
    with os.fdopen(ours, "r+b", buffering=0) as keyboard:
        process = subprocess.Popen(
            program, stdin=terminal, stdout=subprocess.PIPE, env=bare(tmp_path), start_new_session=True, text=True
        )
        os.close(terminal)
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            keyboard.write(b"\x03")
            assert process.stdout.readline() == "caught\n"
            keyboard.write(b"\n")
            assert process.stdout.readline() == "times 1\n"
            assert process.wait() == 5


@pytest.mark.parametrize(("command", "port"), [([], _emulator.PORT), (["--"], _emulator.PORT), (["--", "true"], 0)])
def test_an_emulator_alone_has_its_usual_port_and_one_with_a_command_any(
    command: list[str], port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(emulator: Any) -> None:
        raise OSError("not today")

    monkeypatch.setattr("smendpoint.emulator.Emulator.start", refuse)
    assert main(["emulator", *command]) == 2
    assert capsys.readouterr().err == f"smendpoint: cannot listen on 127.0.0.1 port {port}: not today\n"
