"""Routing by prefix compares the beginnings of bodies: the same input has the same one, whatever follows it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pytest

from smendpoint import handlers
from smendpoint.handlers import (
    AutoHandler,
    BytesHandler,
    ChatHandler,
    ClassificationHandler,
    EmbeddingsHandler,
    JSONHandler,
    JumpStartChatHandler,
    JumpStartTextHandler,
    NumPyHandler,
    OpenAICompletionsHandler,
    RerankHandler,
    SimilaritySearchHandler,
    SparseEmbeddingsHandler,
    TabularHandler,
    TabularRowsHandler,
    TextGenerationHandler,
    TextHandler,
)
from smendpoint.handlers.ranking import RerankFormat

SYSTEM = "You are a careful assistant. " * 20


@dataclass
class Review:
    stars: int


def chat(question: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"content": question, "role": "user"}]


def text(question: str) -> str:
    return SYSTEM + question


def texts(question: str) -> list[str]:
    return [SYSTEM, question]


# Handlers with model parameters, and an input made from a question, after the beginning that all inputs share.
WITH_PARAMETERS: list[tuple[Any, Any]] = [
    (TextGenerationHandler(), text),
    (TextGenerationHandler(details=True), text),
    (OpenAICompletionsHandler(), text),
    *[(JumpStartTextHandler(family), text) for family in ("llama-2", "llama-3", "flan-t5", "gpt-j", "bloomz")],
    (ChatHandler(), chat),
    (ChatHandler(output_type=Review), chat),
    (JumpStartChatHandler(), chat),
    (AutoHandler(), chat),
    *[
        (AutoHandler(prompt_format=each), text)
        for each in ("inputs", "prompt", "messages", "text_inputs", "text_input")
    ],
    *[(EmbeddingsHandler(each), texts) for each in ("tei", "lmi", "huggingface", "openai", "cohere", "blazingtext")],
    (EmbeddingsHandler("jumpstart"), texts),
    (SparseEmbeddingsHandler(), texts),
    *[(RerankHandler(each), lambda question: (SYSTEM, [question])) for each in get_args(RerankFormat)],
    *[(ClassificationHandler(each), text) for each in ("tei", "huggingface", "openai")],
    (ClassificationHandler("blazingtext"), text),
    (SimilaritySearchHandler(), lambda question: {"queries": texts(question), "corpus": texts(question)}),
    (JSONHandler(), lambda question: {"messages": chat(question)}),
]
# Those that send nothing but the input.
WITHOUT: list[tuple[Any, Any]] = [
    (BytesHandler(), lambda question: text(question).encode()),
    (TextHandler(), text),
    (NumPyHandler(), lambda question: np.frombuffer(f"{question:8}"[:8].encode())),
    *[(TabularHandler(request=each), lambda question: [[1.0], [len(question)]]) for each in ("csv", "json")],
    (TabularRowsHandler(), lambda question: [[1.0], [len(question)]]),
]
EVERY = [*WITH_PARAMETERS, *WITHOUT]


def bodies(handler: Any, value: Any, parameters: dict[str, Any]) -> list[bytes]:
    """The requests for a whole answer, and for a stream if the handler makes another one for it."""
    makers = [handler.transform_input, getattr(handler, "transform_stream_input", handler.transform_input)]
    return [make(value, dict(parameters)) for make in makers]


def shared_by(one: bytes, other: bytes) -> bytes:
    """The longest common beginning."""
    for at, (mine, its) in enumerate(zip(one, other, strict=False)):
        if mine != its:
            return one[:at]
    return min(one, other)


def ids(case: tuple[Any, Any]) -> str:
    return type(case[0]).__name__


def test_every_handler_is_here() -> None:
    names = {name for name in handlers.__all__ if name.endswith("Handler")} - {
        "ContentHandler",
        "StreamingContentHandler",
    }
    assert {ids(case) for case in EVERY} == names


@pytest.mark.parametrize("case", EVERY, ids=ids)
def test_the_same_input_gives_the_same_bytes(case: tuple[Any, Any]) -> None:
    handler, make = case
    parameters = {"zeta": 1, "alpha": 2} if case in WITH_PARAMETERS else {}
    assert bodies(handler, make("Why?"), parameters) == bodies(handler, make("Why?"), parameters)


@pytest.mark.parametrize("case", WITH_PARAMETERS, ids=ids)
def test_parameters_come_after_the_input(case: tuple[Any, Any]) -> None:
    handler, make = case
    whole, streamed = bodies(handler, make("Why?"), {"alpha": 2})
    for others in ({}, {"zeta": 1}, {"model": "m", "alpha": 2}):
        for body in bodies(handler, make("Why?"), others):
            for one in (whole, streamed):
                assert b"Why?" in shared_by(one, body)


@pytest.mark.parametrize("case", WITH_PARAMETERS, ids=ids)
def test_inputs_that_begin_alike_give_bodies_that_begin_alike(case: tuple[Any, Any]) -> None:
    handler, make = case
    for one, other in zip(
        bodies(handler, make("Why?"), {"alpha": 2}), bodies(handler, make("How?"), {"zeta": 1}), strict=True
    ):
        shared = shared_by(one, other)
        assert SYSTEM.encode() in shared
        assert one[len(shared) :].startswith(b"Why?")  # they differ where the inputs do, and not before
        # Nothing but the names of the fields comes before the input.
        assert len(one.partition(SYSTEM.encode())[0]) <= len('{"messages":[{"role":"system","content":"')


def test_the_names_in_a_message_have_a_fixed_order() -> None:
    turned = [{"name": "ann", "content": "Hi", "role": "user"}, {"tool_calls": [], "role": "assistant"}]
    sent = json.loads(ChatHandler().transform_input(turned, {}))["messages"]
    assert [list(message) for message in sent] == [["role", "content", "name"], ["role", "tool_calls"]]
    assert sent == turned
