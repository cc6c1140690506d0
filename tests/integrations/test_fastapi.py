"""The applications of the page on FastAPI and Starlette, under uvicorn, in front of the emulator."""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx
import pytest
from paused import TGI, PausedModel
from web import load, served

from smendpoint.emulator import Emulator

QUESTION = {"prompt": "Peter stayed for 3 days. Question: How long did Peter stay?"}


@pytest.fixture(params=["fastapi_relay", "starlette_relay"])
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = load(request.param)
    monkeypatch.setitem(sys.modules, request.param, module)  # FastAPI looks annotations up there
    return module


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


def test_a_whole_answer_is_json(emulator: Emulator) -> None:
    with served(load("fastapi_relay").app) as url:
        assert httpx.post(f"{url}/answer", json=QUESTION).json() == {"answer": "Peter stayed for 3 days."}


def test_the_openai_app_is_mounted_into_fastapi(emulator: Emulator) -> None:
    with served(load("fastapi_mount").app) as url:
        message = {"role": "user", "content": QUESTION["prompt"]}
        body = {"model": "my-model", "messages": [message]}
        answer = httpx.post(f"{url}/llm/v1/chat/completions", json=body).json()
    assert answer["choices"][0]["message"]["content"] == "Peter stayed for 3 days."
