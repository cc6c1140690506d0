"""The applications of the page on FastAPI and Starlette, under uvicorn, in front of the emulator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from paused import TGI, PausedModel
from serving import connect
from web import CODE, load, served

from smendpoint.emulator import Emulator
from smendpoint.emulator.models import ModelReply, ModelRequest

QUESTION = {"prompt": "Peter stayed for 3 days. Question: How long did Peter stay?"}


@pytest.fixture(params=["fastapi_relay", "starlette_relay"])
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = load(request.param)
    monkeypatch.setitem(sys.modules, request.param, module)  # FastAPI looks annotations up there
    return module


only_fastapi = pytest.mark.parametrize("program", ["fastapi_relay"], indirect=True)


def events(text: str) -> list[tuple[str, Any]]:
    blocks = [block.split("\n") for block in text.split("\n\n")[:-1]]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def test_chunks_arrive_as_events_and_the_last_says_that_the_answer_is_whole(program: Any, emulator: Emulator) -> None:
    with served(program.app) as url:
        response = httpx.post(f"{url}/stream", json=QUESTION)
    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, last = events(response.text)
    assert "".join(data for _, data in chunks) == "Peter stayed for 3 days."
    assert last == ("done", "eos_token")


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [
        ("status_400_ValidationError", 502, "ValidationError"),
        ("status_400_ThrottlingException", 503, "ThrottlingError"),
    ],
)
def test_a_failure_before_the_stream_begins_has_the_right_status(
    fault: str, status: int, error: str, program: Any, emulator: Emulator
) -> None:
    emulator.inject(fault, times=20)
    with served(program.app) as url:
        response = httpx.post(f"{url}/stream", json=QUESTION, timeout=60)
    assert (response.status_code, response.json()) == (status, {"error": error})


def test_a_failure_in_the_middle_is_the_last_event(program: Any, emulator: Emulator) -> None:
    emulator.inject("fin_mid_frame", times=1)
    with served(program.app) as url:
        response = httpx.post(f"{url}/stream", json=QUESTION)
    assert events(response.text)[-1] == ("failed", "StreamTruncatedError")


def test_a_browser_that_leaves_ends_the_call_upstream(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    paused = PausedModel(TGI)
    with Emulator({"my-llm": paused}, region="us-west-2") as service:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", service.url)
        with served(program.app) as url:
            with httpx.stream("POST", f"{url}/stream", json=QUESTION) as response:
                texts = response.iter_text()  # httpx disconnects when this is collected
                assert "Peter" in next(texts)
                assert service.open_connections == 1
            service.disconnected()  # waits until the endpoint has left, while the model still has more to say
            paused.go_on.set()


@only_fastapi
def test_a_whole_answer_is_json(program: Any, emulator: Emulator) -> None:
    with served(program.app) as url:
        assert httpx.post(f"{url}/answer", json=QUESTION).json() == {"answer": "Peter stayed for 3 days."}


@only_fastapi
def test_an_answer_is_streamed_as_plain_text(program: Any, emulator: Emulator) -> None:
    with served(program.app) as url:
        response = httpx.post(f"{url}/text", json=QUESTION)
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text == "Peter stayed for 3 days."


@only_fastapi
def test_plain_text_that_is_cut_does_not_end_as_a_whole_answer_does(program: Any, emulator: Emulator) -> None:
    emulator.inject("fin_mid_frame", times=1)
    with served(program.app) as url, pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{url}/text", json=QUESTION)


@only_fastapi
@pytest.mark.parametrize("path", ["answer", "stream", "text"])
def test_a_deadline_of_the_request_is_kept_to(path: str, program: Any, emulator: Emulator) -> None:
    emulator.inject("stall_before_headers")
    with served(program.app) as url:
        response = httpx.post(f"{url}/{path}", json={**QUESTION, "seconds": 0.2}, timeout=60)
    assert (response.status_code, response.json()) == (504, {"error": "DeadlineExceededError"})


@only_fastapi
@pytest.mark.parametrize(("original", "status"), [(422, 422), (500, 502)])
def test_a_prompt_that_the_container_refuses_is_the_client_s_error(
    original: int, status: int, program: Any, emulator: Emulator
) -> None:
    emulator.models = {"my-llm": lambda request: ModelReply(b"{}", status=original)}
    with served(program.app) as url:
        assert httpx.post(f"{url}/answer", json=QUESTION).status_code == status


@only_fastapi
def test_a_client_that_leaves_ends_the_call_of_a_whole_answer(program: Any, emulator: Emulator) -> None:
    running, left = threading.Event(), threading.Event()

    def model(request: ModelRequest) -> bytes:
        running.set()
        assert left.wait(20)
        return b'[{"generated_text": "too late"}]'

    emulator.models = {"my-llm": model}
    with served(program.app) as url:
        client = connect(int(url.rpartition(":")[2]), "/answer", QUESTION)
        assert running.wait(20)
        client.close()
        emulator.disconnected()
        left.set()


def test_the_page_s_own_tests_pass(tmp_path: Path) -> None:
    for name in ("fastapi_relay.py", "test_fastapi_relay.py"):
        shutil.copy(CODE / name, tmp_path)
    path = os.pathsep.join([str(CODE.parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-q"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_the_openai_app_is_mounted_into_fastapi(emulator: Emulator) -> None:
    with served(load("fastapi_mount").app) as url:
        message = {"role": "user", "content": QUESTION["prompt"]}
        body = {"model": "my-model", "messages": [message]}
        answer = httpx.post(f"{url}/llm/v1/chat/completions", json=body).json()
    assert answer["choices"][0]["message"]["content"] == "Peter stayed for 3 days."
