"""The handler that recognises: its requests, and the answers that have no text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from handler_samples import CHAT_WHOLE

from smendpoint._core.aws.response import ResponseBody
from smendpoint.errors import HandlerError
from smendpoint.handlers import AutoHandler, OutputDetails, Usage

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("prompt_format", "request_"),
    [
        ("inputs", {"inputs": "Hi", "parameters": {"top_p": 1}}),
        ("prompt", {"prompt": "Hi", "top_p": 1}),
        ("messages", {"messages": MESSAGES, "top_p": 1}),
        ("text_inputs", {"text_inputs": "Hi", "top_p": 1}),
        ("text_input", {"text_input": "Hi", "top_p": 1}),
    ],
)
def test_a_prompt_is_sent_in_the_chosen_format(prompt_format: Any, request_: Any) -> None:
    handler = AutoHandler(prompt_format=prompt_format)
    assert json.loads(handler.transform_input("Hi", {"top_p": 1})) == request_
    assert json.loads(handler.transform_stream_input("Hi", {"top_p": 1})) == {"stream": True, **request_}


def test_messages_are_sent_as_messages() -> None:
    assert json.loads(AutoHandler().transform_input(MESSAGES, {"n": 1})) == {"messages": MESSAGES, "n": 1}


def test_an_answer_of_tool_calls_alone_is_an_error() -> None:
    message = {"content": None, "tool_calls": [{"id": "1", "function": {"name": "a", "arguments": "{}"}}]}
    body = json.dumps({"choices": [{"message": message}]}).encode()
    with pytest.raises(HandlerError, match=r"only tool calls\. ChatHandler reads it"):
        AutoHandler().transform_output(ResponseBody(body))
    decoder = AutoHandler().stream_decoder()
    with pytest.raises(HandlerError, match=r"has tool calls\. ChatHandler reads it"):
        decoder.feed(b'data: {"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}\n\n')


@pytest.mark.parametrize("message", [{"content": ""}, {"content": None}, {"content": None, "reasoning": "Hm"}])
def test_an_empty_answer_is_empty(message: Any) -> None:
    body = json.dumps({"choices": [{"message": message}]}).encode()
    assert AutoHandler().transform_output(ResponseBody(body)) == ""


def test_an_empty_text_is_empty() -> None:
    assert AutoHandler().transform_output(ResponseBody(b'[{"generated_text":""}]')) == ""


def test_an_answer_without_text_is_an_error_that_names_the_handler_that_reads_it() -> None:
    with pytest.raises(HandlerError, match=r"EmbeddingsHandler or TabularHandler.response=.json.. reads this"):
        AutoHandler().transform_output(ResponseBody(b"[[0.5]]"))


def test_details_of_every_kind_are_read() -> None:
    assert AutoHandler().read_details(ResponseBody(CHAT_WHOLE)) == OutputDetails("stop", Usage(5, 1, 6))
