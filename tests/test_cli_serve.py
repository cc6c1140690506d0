"""``smendpoint serve``: its options, and the running server."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import uvicorn
from paused import OPENAI, PausedModel
from servers import bare_environment  # noqa: F401
from serving import ANSWER, MESSAGES, ask, connect, read_all

from smendpoint.cli import _serve, main
from smendpoint.emulator import Emulator

pytestmark = pytest.mark.usefixtures("bare_environment")

CHAT = "/v1/chat/completions"
BODY = {"model": "chat", "messages": MESSAGES}
MODEL = ("--model", "chat=my-llm")


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Emulator]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    monkeypatch.chdir(tmp_path)
    with Emulator({"my-llm": "vllm", "my-text": "jumpstart_llama2"}) as emulator:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", emulator.url)
        yield emulator


def while_serving(monkeypatch: pytest.MonkeyPatch, talk: Callable[[int], None], *arguments: str) -> None:
    """Run the command, talk to it in a thread, and then end it with SIGTERM."""
    failures: list[BaseException] = []
    listen = _serve.listen

    def listening(host: str, port: int) -> socket.socket:
        listener = listen(host, port)
        thread.start()
        ports.append(listener.getsockname()[1])
        known.set()
        return listener

    def client() -> None:
        known.wait(20)  # connections wait until the server takes them
        try:
            talk(ports[0])
        except BaseException as error:
            failures.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    ports: list[int] = []
    known, thread = threading.Event(), threading.Thread(target=client)
    monkeypatch.setattr(_serve, "listen", listening)
    assert main(["serve", "--port", "0", *arguments]) == 0
    thread.join(20)
    if failures:
        raise failures[0]


def test_it_says_where_it_serves_answers_and_counts(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ports: list[int] = []

    def talk(port: int) -> None:
        ports.append(port)
        status, _, answer = ask(port, CHAT, BODY)
        assert (status, answer["choices"][0]["message"]["content"]) == (200, ANSWER)
        with closing(connect(port, "/metrics", method="GET")) as connection:
            metrics = read_all(connection)[2].decode()
        assert 'endpoint="my-llm"' in metrics
        assert "process_cpu_seconds_total" in metrics
        assert "stayed" not in metrics
        assert ask(port, "/v1/models", method="GET")[2]["data"][0]["id"] == "chat"
        assert ask(port, "/healthz", method="GET")[2] == {"status": "ok"}

    while_serving(monkeypatch, talk, *MODEL)
    said = capsys.readouterr()
    assert said.out == f"Serving chat at http://127.0.0.1:{ports[0]}/v1\n"
    assert said.err == ""


def test_it_serves_on_ipv6_and_gives_custom_attributes(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def talk(port: int) -> None:
        body = json.dumps({"model": "text", "prompt": "It rains. Question: Does it rain?"}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: [::1]:{port}\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("::1", port), timeout=20) as connection:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
            status, _, rest = read_all(connection)
        assert (status, json.loads(rest)["choices"][0]["text"].strip()) == (200, "It rains.")

    served = ("--model", "text=my-text", "--format", "text=jumpstart-llama-2")
    while_serving(monkeypatch, talk, "--host", "::1", *served, "--custom-attributes", "accept_eula=true")
    assert "http://[::1]:" in capsys.readouterr().out


REST = b'data: {"choices":[{"index":0,"delta":{"content":" stayed"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def test_sigterm_lets_a_running_stream_come_to_its_end(monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> None:
    paused = PausedModel(OPENAI, REST)
    with Emulator(paused, region="us-west-2") as service:
        command = [sys.executable, "-m", "smendpoint", "serve", "--port", "0", *MODEL, "--endpoint-url", service.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            port = int(process.stdout.readline().rpartition("/v1")[0].rpartition(":")[2])
            with closing(connect(port, CHAT, {**BODY, "stream": True})) as connection:
                received = b""
                while b"Peter" not in received:
                    received += connection.recv(65_536)
                process.send_signal(signal.SIGTERM)
                while True:  # no more connections are taken
                    try:
                        socket.create_connection(("127.0.0.1", port), timeout=20).close()
                    except OSError:
                        break
                paused.go_on.set()
                received += b"".join(iter(lambda: connection.recv(65_536), b""))
            assert b" stayed" in received
            assert received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            assert process.wait(20) == 0


def test_a_connection_that_is_kept_hears_from_healthz_that_the_server_drains(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals: list[int] = []
    tick, handle_exit = uvicorn.Server.on_tick, uvicorn.Server.handle_exit

    async def end_by_the_second(server: uvicorn.Server, counter: int) -> bool:
        return await tick(server, counter) and len(signals) == 2  # the end would close the connection

    def count(server: uvicorn.Server, sig: int, frame: FrameType | None) -> None:
        signals.append(sig)
        handle_exit(server, sig, frame)

    def talk(port: int) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:

            def health() -> int:
                connection.request("GET", "/healthz")
                with connection.getresponse() as response:
                    response.read()
                return response.status

            try:
                assert health() == 200
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
            assert any(health() == 503 for _ in range(10_000))

    monkeypatch.setattr(uvicorn.Server, "on_tick", end_by_the_second)
    monkeypatch.setattr(uvicorn.Server, "handle_exit", count)
    while_serving(monkeypatch, talk, *MODEL)


def test_a_stream_that_outlives_the_grace_period_ends_with_an_error(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paused = PausedModel(OPENAI, REST)
    with Emulator(paused, region="us-west-2") as service:
        ended: list[bytes] = []

        def talk(port: int) -> None:
            connection = connect(port, CHAT, {**BODY, "stream": True})
            received = b""
            while b"Peter" not in received:
                received += connection.recv(65_536)

            def read() -> None:
                with closing(connection):
                    ended.append(b"".join(iter(lambda: connection.recv(65_536), b"")))

            reader.append(threading.Thread(target=read))
            reader[0].start()

        reader: list[threading.Thread] = []
        while_serving(monkeypatch, talk, *MODEL, "--endpoint-url", service.url, "--grace", "0.1")
        reader[0].join(20)
        paused.go_on.set()
        assert b"The server is shutting down." in ended[0]
        assert not ended[0].endswith(b"0\r\n\r\n")
    logged = capsys.readouterr().err
    assert "Cancel 1 running task(s)" in logged
    assert "Traceback" not in logged


@pytest.mark.parametrize(
    ("options", "environment", "message"),
    [
        (("--model", "chat"), {}, "--model takes NAME=ENDPOINT[:COMPONENT], not 'chat'"),
        ((*MODEL, *MODEL), {}, "chat appears twice"),
        ((*MODEL, "--format", "other=tgi"), {}, "--format names 'other', which no --model does"),
        ((*MODEL, "--format", "chat=nope"), {}, "must be one of openai, tgi"),
        (
            (*MODEL, "--format", "chat=tgi", "--container-model", "chat=x"),
            {},
            "needs a container of the format 'openai'",
        ),
        ((*MODEL, "--host", "0.0.0.0"), {}, "anyone who can reach 0.0.0.0 could call the models"),
        ((*MODEL, "--host", "example.com"), {}, "anyone who can reach example.com"),
        ((*MODEL, "--no-auth", "--api-key", "k"), {}, "--no-auth cannot be used with a key"),
        ((*MODEL, "--no-auth"), {"SMENDPOINT_API_KEY": "k"}, "--no-auth cannot be used with a key"),
        ((*MODEL, "--api-key", ""), {}, "--api-key must be text"),
        ((*MODEL, "--api-key-file", "none"), {}, "--api-key-file cannot be read: No such file"),
        ((*MODEL, "--api-key-file", "binary"), {}, "--api-key-file cannot be read: it is not UTF-8"),
        ((*MODEL, "--api-key-file", "empty"), {}, "--api-key-file has no key"),
        ((*MODEL, "--max-concurrency", "0"), {}, "--max-concurrency must be a whole number of at least 1, not 0"),
        ((*MODEL, "--max-body", "0"), {}, "--max-body must be above 0, not 0"),
        ((*MODEL, "--port", "99999"), {}, "cannot listen on 127.0.0.1 port 99999: "),
    ],
)
def test_a_command_line_that_is_wrong_is_refused(
    options: tuple[str, ...],
    environment: dict[str, str],
    message: str,
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("binary").write_bytes(b"\xff")
    Path("empty").write_text("\n \n")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["serve", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_port_that_is_taken_is_refused(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    port = emulator.url.rpartition(":")[2]
    assert main(["serve", *MODEL, "--port", port]) == 2
    assert "Address already in use" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["option", "variable", "file"])
def test_a_key_is_asked_for(where: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    options: tuple[str, ...] = ()
    if where == "option":
        options = ("--api-key", "secret")
    elif where == "variable":
        monkeypatch.setenv("SMENDPOINT_API_KEY", "secret")
    else:
        Path("keys").write_text("another\nsecret\n")
        options = ("--api-key-file", "keys")

    def talk(port: int) -> None:
        assert ask(port, CHAT, BODY)[0] == 401
        assert ask(port, CHAT, BODY, Authorization="Bearer wrong")[0] == 401
        assert ask(port, CHAT, BODY, Authorization="Bearer secret", Host="any.example.com")[0] == 200

    while_serving(monkeypatch, talk, *MODEL, *options)


def test_only_the_names_of_this_machine_are_served_without_a_key(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def talk(port: int) -> None:
        assert ask(port, CHAT, BODY, Host="attacker.example.com")[0] == 421
        assert ask(port, CHAT, BODY, Host=f"localhost:{port}")[0] == 200

    while_serving(monkeypatch, talk, *MODEL)


def test_no_key_is_asked_for_where_that_is_said(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    def talk(port: int) -> None:
        assert ask(port, CHAT, BODY, Host="any.example.com")[0] == 200

    options = ("--no-auth", "--max-body", "100000", "--max-concurrency", "2", "--container-model", "chat=")
    while_serving(monkeypatch, talk, *MODEL, "--host", "0.0.0.0", *options)
    assert json.loads(emulator.requests[0].body)["model"] == ""


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_only_loopback_addresses_need_no_key(host: str, loopback: bool) -> None:
    assert _serve.is_loopback(host) is loopback


@pytest.mark.parametrize("missing", ["uvicorn", "starlette.applications", "prometheus_client"])
def test_what_is_not_installed_is_named(
    missing: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = ("smendpoint.asgi", "smendpoint.integrations.prom")
    for name in sorted([name for name in sys.modules if name.startswith(ours)], reverse=True):  # members first
        package, _, member = name.rpartition(".")
        monkeypatch.setattr(sys.modules[package], member, sys.modules[name])  # an import replaces it
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["serve", *MODEL]) == 1
    assert f"serve needs {missing}: pip install 'smendpoint[serve]'" in capsys.readouterr().err


def test_cut_streams_and_cancelled_answers_are_not_logged_by_uvicorn() -> None:
    def record(message: str) -> Any:
        import logging

        return logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, message, (), None)

    assert not _serve.is_news(record("ASGI callable returned without completing response."))
    assert not _serve.is_news(record("Traceback ...\nasyncio.exceptions.CancelledError\n"))
    assert _serve.is_news(record("something else"))
