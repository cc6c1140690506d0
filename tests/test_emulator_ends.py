"""Every stream of a stand-in has the end that its format has, however short it is."""

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
    ({"stop_sequences": ["It"]}, ""),  # passed through: only the model acts on it
    ({"stop": ["no such words"]}, "It rains."),
]


CASES: list[tuple[str, Any, Any]] = [
    *((name, TextGenerationHandler(), PROMPT) for name in TEXTS),
    *((name, ChatHandler(), MESSAGES) for name in CHATS),
    *((name, OpenAICompletionsHandler(), PROMPT) for name in ("stand_in", "tgi", "vllm")),
]


@pytest.mark.parametrize(("options", "said"), HOW)
@pytest.mark.parametrize(("name", "handler", "prompt"), CASES)
def test_a_stream_ends(name: str, handler: Any, prompt: Any, options: dict[str, Any], said: str) -> None:
    with Emulator(name) as emulator, emulator.endpoint("my-llm", content_handler=handler) as endpoint:
        with endpoint.stream(prompt, **options) as chunks:
            assert "".join([getattr(chunk, "text", chunk) for chunk in chunks]).strip() == said.strip()


@pytest.mark.parametrize("name", ["stand_in", "tgi", "lmi", "lmi_sse", "lmi_async", "lmi_3p"])
def test_the_last_token_is_sent_even_if_the_text_is_empty(name: str) -> None:
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
