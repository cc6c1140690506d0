"""Every stream of a stand-in has the end that its format has, however little it says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smendpoint import BytesHandler, ChatHandler, OpenAICompletionsHandler, TextGenerationHandler
from smendpoint.emulator import Emulator

PROMPT = "It rains. Question: Does it rain?"
MESSAGES = [{"role": "user", "content": PROMPT}]
TEXTS = ("stand_in", "tgi", "lmi", "lmi_sse", "lmi_async", "lmi_3p", "lmi_outputs")
CHATS = ("stand_in", "tgi", "vllm", "lmi", "lmi_sse", "lmi_async")
HOW: list[tuple[dict[str, Any], str]] = [
    ({}, "It rains."),
    ({"stop": ["rains"]}, "It "),
    ({"stop": ["It"]}, ""),
    ({"stop_sequences": ["It"]}, ""),  # passed through: the model alone sees to it
    ({"stop": ["no such words"]}, "It rains."),
]


@pytest.mark.parametrize(("options", "said"), HOW)
@pytest.mark.parametrize("name", TEXTS)
def test_a_streamed_text_ends(name: str, options: dict[str, Any], said: str) -> None:
    handler = TextGenerationHandler()
    with Emulator(name) as emulator, emulator.endpoint("my-llm", content_handler=handler) as endpoint:
        with endpoint.stream(PROMPT, **options) as chunks:
            assert "".join(chunks).strip() == said.strip()


@pytest.mark.parametrize("name", ["stand_in", "tgi", "lmi", "lmi_sse", "lmi_async", "lmi_3p"])
def test_the_last_token_is_sent_where_nothing_is_said(name: str) -> None:
    with Emulator(name) as emulator, emulator.endpoint("my-llm", content_handler=BytesHandler()) as endpoint:
        body = {"inputs": PROMPT, "parameters": {"stop_sequences": ["It"]}, "stream": True}
        with endpoint.stream(json.dumps(body).encode()) as chunks:
            assert b'"stop' in b"".join(chunks)  # the reason: stop_sequence, or stop


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_is_cut_to_a_number_of_tokens_ends(name: str, tokens: int) -> None:
    with Emulator(name) as emulator, emulator.endpoint("my-llm") as endpoint:
        with endpoint.stream(PROMPT, max_new_tokens=tokens) as chunks:
            assert "".join(chunks)


@pytest.mark.parametrize(("options", "said"), HOW)
@pytest.mark.parametrize("name", CHATS)
def test_a_streamed_chat_ends(name: str, options: dict[str, Any], said: str) -> None:
    handler = ChatHandler()
    with Emulator(name) as emulator, emulator.endpoint("my-llm", content_handler=handler) as endpoint:
        with endpoint.stream(MESSAGES, **options) as chunks:
            assert "".join([chunk.text for chunk in chunks]).strip() == said.strip()


@pytest.mark.parametrize(("options", "said"), HOW)
@pytest.mark.parametrize("name", ["stand_in", "tgi", "vllm"])
def test_a_streamed_completion_ends(name: str, options: dict[str, Any], said: str) -> None:
    handler = OpenAICompletionsHandler()
    with Emulator(name) as emulator, emulator.endpoint("my-llm", content_handler=handler) as endpoint:
        with endpoint.stream(PROMPT, **options) as chunks:
            assert "".join(chunks).strip() == said.strip()
