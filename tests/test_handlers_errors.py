"""A container's own error, parsed: in the answer's text, and on the ModelError that carries it."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from handler_samples import ERRORS, Failed
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._container_errors import container_error
from smendpoint.errors import ModelError
from smendpoint.handlers import (
    ChatHandler,
    ContainerError,
    OpenAICompletionsHandler,
    TextGenerationHandler,
    parse_container_error,
)


@pytest.mark.parametrize("sample", ERRORS, ids=lambda sample: sample.name)
def test_every_containers_error_is_parsed(sample: Failed) -> None:
    error = ModelError(424, original_message=sample.body.decode())
    assert error.container_error is not None
    assert (error.container_error.code, error.container_error.type) == (sample.code, sample.error_type)
    assert pickle.loads(pickle.dumps(error)).container_error == error.container_error


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"error":"bad","error_type":"validation"}', ContainerError(None, "validation", "bad")),
        ('[{"error":"bad"}]', ContainerError(None, None, "bad")),
        ('{"detail":"Not found"}', ContainerError(None, None, "Not found")),
        ('{"detail":[{"loc":["body"],"msg":"a"},{"msg":"b"},{"type":"x"},1]}', ContainerError(None, None, "a; b; ")),
        ('{"message":"bad","code":"E1","type":"T"}', ContainerError("E1", "T", "bad")),
        ('{"Message":"bad"}', ContainerError(None, None, "bad")),
        ('{"error":{"error":"bad"}}', ContainerError(None, None, "bad")),
        ('{"error":{"code":true}}', ContainerError(None, None, "")),
        ('{"error":{"error":{}}}', ContainerError(None, None, "")),
        ('{"error":{"error":{"error":{"error_code":5,"error_msg":"bad"}}}}', ContainerError(5, None, "bad")),
        ('{"error":' * 900 + '{"error":"bad"}' + "}" * 900, ContainerError(None, None, "bad")),
        ('{"error_code":"BAD_REQUEST","message":"bad"}', ContainerError("BAD_REQUEST", None, "bad")),
        ('{"error_code":3,"error_msg":"bad"}', ContainerError(3, None, "bad")),
        ('{"detail":{"error":"bad","code":7}}', ContainerError(7, None, "bad")),
        ('{"detail":{"other":"bad"}}', None),
        ('{"message":"bad","detail":{"msg":"worse"}}', ContainerError(None, None, "bad")),
        ('{"object":"error"}', ContainerError(None, None, "")),
        ('{"message":"bad","error":"bad"}', ContainerError(None, None, "bad")),
        ('{"code":424,"message":"bad"}', ContainerError(424, None, "bad")),
        ("division by zero\nTraceback ...", None),
        ("[" * 100_000, None),
        ("", None),
        ("1", None),
        ("[]", None),
        ("{}", None),
        ('{"error":null}', None),
    ],
)
def test_an_error_response_is_parsed_or_none(text: str, error: ContainerError | None) -> None:
    assert parse_container_error(text) == error
    assert ModelError(424, original_message=text).container_error == error


def test_a_model_error_without_a_message_has_no_container_error() -> None:
    assert ModelError(424).container_error is None


@pytest.mark.parametrize(
    "value",
    [
        {"error": 0.3, "generated_text": "a"},
        {"error": None, "generated_text": "a"},
        {"error": "", "generated_text": "a"},
        {"error": {}},
        {"message": "a"},
        {"code": 200, "message": "a"},
        {"code": 404, "type": 1, "message": "a"},
        {"code": "404", "message": "a"},
        {"detail": "a"},
        {"details": {"finish_reason": "length"}},
        {"details": "error"},
        {"choices": []},
        {"choices": ["error"]},
        {"choices": [{"finish_reason": "stop"}]},
        {"choices": [{"text": "a", "finish_reason": "stop", "stop_reason": "error"}]},
        {"details": {"tokens": [{"error_msg": "early"}, {"text": "a"}]}},
        {"details": {"tokens": []}},
        {"details": {"tokens": ["error"]}},
        {"token": {"text": "a", "error_msg": ""}},
        {"token": {"text": "a", "error_msg": None}},
        {"body": {"stop_reason": "length"}},
        {"body": "error"},
        [{"error": "a"}, {"error": "b"}],
        "error",
        None,
    ],
)
def test_an_answer_that_merely_looks_like_an_error_is_not_one(value: Any) -> None:
    assert container_error(value) is None


@pytest.mark.parametrize(
    ("handler", "item", "texts"),
    [
        (ChatHandler(), {"choices": [{"index": 0, "delta": {"content": "a"}}]}, ["a"]),
        (OpenAICompletionsHandler(), {"choices": [{"index": 0, "text": "a"}]}, ["a"]),
        (TextGenerationHandler(), {"token": {"id": 1, "text": "a"}, "generated_text": None, "details": None}, ["a"]),
    ],
)
def test_a_streams_item_whose_error_is_null_is_read_like_one_without(handler: Any, item: Any, texts: list[str]) -> None:
    decoder = handler.stream_decoder()
    chunks = decoder.feed(b"data: " + json.dumps({"error": None, **item}).encode() + b"\n\n")
    assert [str(chunk) for chunk in chunks] == texts


@given(st.text())
def test_any_text_is_parsed_or_none(text: str) -> None:
    parse_container_error(text)
    assert parse_container_error(json.dumps({"error": text or "x"})) == ContainerError(None, None, text or "x")
