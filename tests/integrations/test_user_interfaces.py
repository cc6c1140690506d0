"""The chats of the page on user interfaces, in Streamlit and in Gradio."""

from __future__ import annotations

import json
from typing import Any

import pytest
from web import CODE, load

from smendpoint.emulator import Emulator

QUESTIONS = ["Ann has Dune. Question: What does Ann have?", "Bob has Emma. Question: What does Bob have?"]
ANSWERS = ["Ann has Dune.", "Bob has Emma."]


@pytest.fixture
def chats(emulator: Emulator) -> Emulator:
    emulator.models = {"my-chat": "vllm"}
    return emulator


def sent(emulator: Emulator) -> list[dict[str, Any]]:
    """The messages of the last request, with their texts as text."""
    found: list[dict[str, Any]] = json.loads(emulator.requests[-1].body)["messages"]
    return [{**one, "content": _text(one["content"])} for one in found]


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def conversation() -> list[dict[str, str]]:
    return [
        {"role": "user", "content": QUESTIONS[0]},
        {"role": "assistant", "content": ANSWERS[0]},
        {"role": "user", "content": QUESTIONS[1]},
    ]


def test_a_chat_in_streamlit_streams_answers_and_keeps_the_conversation(chats: Emulator) -> None:
    streamlit = pytest.importorskip("streamlit", reason="Streamlit is not installed")
    from streamlit.testing.v1 import AppTest

    streamlit.cache_resource.clear()
    app = AppTest.from_file(str(CODE / "streamlit_chat.py"), default_timeout=60).run()
    for question in QUESTIONS:
        app.chat_input[0].set_value(question).run()
    assert not app.exception
    shown = [(message.name, message.markdown[0].value) for message in app.chat_message]
    assert shown == [
        ("user", QUESTIONS[0]),
        ("assistant", ANSWERS[0]),
        ("user", QUESTIONS[1]),
        ("assistant", ANSWERS[1]),
    ]
    assert sent(chats) == conversation()


def test_a_chat_in_gradio_streams_answers_and_keeps_the_conversation(chats: Emulator) -> None:
    pytest.importorskip("gradio", reason="Gradio is not installed")
    from gradio_client import Client

    demo = load("gradio_chat").demo
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True)
    try:
        client = Client(url, verbose=False)
        job = client.submit(QUESTIONS[0], api_name="/reply")
        assert job.result(timeout=60) == ANSWERS[0]
        assert job.outputs() == ["Ann", "Ann has", "Ann has Dune.", "Ann has Dune."]
        assert client.predict(QUESTIONS[1], api_name="/reply") == ANSWERS[1]
    finally:
        demo.close()
    assert sent(chats) == conversation()
