"""`_calls.response`: the facts that came with an output, read from headers and, on request, from the body."""

from __future__ import annotations

from typing import Any

import pytest

from smendpoint import Response
from smendpoint.errors import HandlerError
from smendpoint.handlers import TextGenerationHandler
from smendpoint.handlers.base import OutputDetails, Usage

BODY = b'[{"generated_text": "fine", "details": {"finish_reason": "length", "generated_tokens": 3}}]'
HEADERS = {
    "content-type": "application/json",
    "x-amzn-requestid": "request-1",
    "x-amzn-invoked-production-variant": "blue",
    "x-amzn-sagemaker-custom-attributes": "trace=1",
    "x-amzn-sagemaker-new-session-id": "session-1; Expires=2023-11-14T22:13:20Z",
    "x-amzn-sagemaker-closed-session-id": "session-0",
}


def response(handler: Any = None, headers: Any = HEADERS, body: bytes = BODY) -> Response[str]:
    return Response(output="fine", body=body, headers=headers, attempts=2, elapsed=0.25, handler=handler)


def test_headers_are_read() -> None:
    made = response()
    assert (made.output, made.body, made.attempts, made.elapsed) == ("fine", BODY, 2, 0.25)
    assert made.content_type == "application/json"
    assert made.request_id == "request-1"
    assert made.invoked_production_variant == "blue"
    assert made.custom_attributes == "trace=1"
    assert (made.new_session_id, made.new_session_expires) == ("session-1", 1_700_000_000.0)
    assert made.closed_session_id == "session-0"


def test_facts_that_were_not_sent_are_none() -> None:
    made = response(headers={})
    assert made.content_type is made.request_id is made.invoked_production_variant is made.custom_attributes is None
    assert made.new_session_id is made.new_session_expires is made.closed_session_id is None
    assert made.finish_reason is made.usage is made.details is None


def test_the_type_of_a_stream_is_that_of_the_model() -> None:
    headers = {"content-type": "application/vnd.amazon.eventstream", "x-amzn-sagemaker-content-type": "text/plain"}
    assert response(headers=headers).content_type == "text/plain"


def test_details_of_an_answer_are_read_when_they_are_asked_for() -> None:
    made = response(TextGenerationHandler())
    assert made.finish_reason == "length"
    assert made.usage == Usage(completion_tokens=3)
    assert made.details is not None


def test_a_handler_that_knows_nothing_about_its_answers_says_nothing() -> None:
    assert response(object()).finish_reason is None


def test_a_handler_that_fails_to_read_details_is_named() -> None:
    class Failing:
        def read_details(self, output: Any) -> OutputDetails:
            raise LookupError("secret")

    with pytest.raises(HandlerError, match="Failing could not read the output's details: LookupError") as caught:
        response(Failing()).usage  # noqa: B018 - asking is the test
    assert isinstance(caught.value.__cause__, LookupError)
    with pytest.raises(HandlerError, match="JSON"):
        response(TextGenerationHandler(), body=b"<html>").usage  # noqa: B018 - asking is the test


def test_its_repr_shows_no_output() -> None:
    assert repr(response()) == (
        f"Response({len(BODY)} bytes of application/json, request_id='request-1', attempts=2, elapsed=0.250)"
    )
