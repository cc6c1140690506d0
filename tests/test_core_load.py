"""Load, as errors of calls tell of it: each row is an answer of one service or container."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twins import IDS, Twin

from smendpoint import RetryPolicy, errors
from smendpoint._calls.pipeline import Pipeline
from smendpoint._core.aws.eventstream import encode
from smendpoint._core.aws.response import RawResponse, error_from_client, service_error
from smendpoint._core.call.load import (
    CONTAINER_STATUSES,
    MAX_REFUSAL_BYTES,
    SERVICE_ERRORS,
    SIGNS,
    outcome_of,
    refusal_in,
)
from smendpoint.emulator import FAULTS, Emulator
from smendpoint.handlers import AutoHandler, ChatHandler, OpenAICompletionsHandler, TextGenerationHandler

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "errors.md"

MMS_FULL = {
    "code": 503,
    "type": "ServiceUnavailableException",
    "message": "No worker is available to serve request for model: model. Consider increasing job queue size.",
}
TORCHSERVE_FULL = {
    "code": 503,
    "type": "ServiceUnavailableException",
    "message": 'Model "x" has no worker to serve inference request. Please use scale workers API to add workers.',
}
DJL_FULL = {
    "code": 503,
    "type": "WlmCapacityException",
    "message": "Worker queue capacity exceeded for model: X (READY)",
}
PREDICTION_FAILED = {"code": 503, "type": "InternalServerException", "message": "Prediction failed"}
TFS_FULL = {"error": "The batch scheduling queue to which this task was submitted is full"}
TGI_FULL = {"error": "Model is overloaded", "error_type": "overloaded"}
NO_CAPACITY = (
    "Inference Component has no capacity to process this request. ApplicationAutoScaling may be in-progress (if "
    "configured) or try to increase the capacity by invoking UpdateInferenceComponentRuntimeConfig API."
)
FLASK_500 = (
    "<!doctype html><title>500 Internal Server Error</title><h1>Internal Server Error</h1><p>The server encountered an "
    "internal error and was unable to complete your request. Either the server is overloaded or there is an error in "
    "the application.</p>"
)
UNSERVED = (
    "Your invocation timed out while waiting for a response from container primary. Review the latency metrics for "
    "each container in Amazon CloudWatch, resolve the issue, and try again."
)
UNHEARD = (
    "Amazon SageMaker could not get a response from the X endpoint. This can occur when CPU or memory utilization is "
    "high. To check your utilization, see Amazon CloudWatch."
)


def sglang(message: str, status: Any = 503) -> dict[str, Any]:
    return {"object": "error", "message": message, "type": str(status), "param": None, "code": status}


class Said(NamedTuple):
    """An answer of the service itself."""

    name: str
    status: int
    code: str
    message: str | None
    outcome: str


# As botocore has them (retries/standard.py).
THROTTLED = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottledException",
    "TooManyRequestsException",
    "ProvisionedThroughputExceededException",
    "TransactionInProgressException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "LimitExceededException",
    "RequestThrottled",
    "SlowDown",
    "PriorRequestNotComplete",
    "EC2ThrottledException",
]
SERVICE = [
    Said("throttled, real-time", 400, "ThrottlingException", None, "refused"),
    Said("throttled, serverless", 429, "ThrottlingException", "Rate exceeded", "refused"),
    Said("throttled, without a code", 429, "", None, "refused"),
    Said("throttled, with a code that is not known", 429, "SomethingElse", "Slow down", "refused"),
    *(Said(f"throttled, {code}", status, code, None, "refused") for status in (400, 429, 503) for code in THROTTLED),
    Said("the model is being loaded", 429, "ModelNotReadyException", "Wait and try your request again.", "cold"),
    Said("scaled to zero", 400, "ValidationError", NO_CAPACITY, "cold"),
    Said("scaled to zero, OpenAI's route", 400, "validation_error", NO_CAPACITY, "cold"),
    Said("not valid", 400, "ValidationError", "1 validation error detected", "failed"),
    Said("unavailable", 503, "ServiceUnavailable", "The service is unavailable. Try your call again.", "unsure"),
    Said("an internal failure", 500, "InternalFailure", "An internal failure occurred.", "failed"),
    Said("a dependency", 530, "InternalDependencyException", "Contact customer support.", "failed"),
    Said("not allowed", 403, "AccessDeniedException", "No.", "failed"),
    Said("too large", 413, "", None, "failed"),
    # Other APIs that lead to the same models.
    Said("the router throttles", 429, "ThrottlingException", "Too many requests.", "refused"),
    Said("the router has no copies", 429, "ModelNotReadyException", "No copies.", "cold"),
    Said("the router waited for the body", 408, "RequestTimeoutException", "The body did not come.", "failed"),
    Said("the router is unavailable", 503, "ServiceUnavailableException", "Try again.", "unsure"),
    Said("the gateway throttles", 429, "ThrottlingException", "Throttled before it was dispatched", "refused"),
    # Its documentation says that nothing was dispatched; the answer has no words for it that are known.
    Said("the gateway is unavailable", 503, "ServiceUnavailableException", "Unavailable.", "unsure"),
    Said("the gateway lost the model", 502, "BadGatewayException", "Bad gateway", "slow"),
    Said("the gateway waited in vain", 504, "GatewayTimeoutException", "Timed out", "slow"),
]


class Answered(NamedTuple):
    """An answer of a container; the service puts it into a 424."""

    name: str
    status: int
    body: Any
    outcome: str
    refused: tuple[str | int, ...] = ()


CONTAINERS = [
    Answered("no answer in time", 0, UNSERVED, "slow"),
    Answered("the container is gone or starved", 0, UNHEARD, "slow"),
    Answered("TGI", 429, TGI_FULL, "refused"),
    Answered("TGI, in other words", 503, {"error": "Too many requests", "error_type": "overloaded"}, "refused"),
    Answered("TGI, the generation failed", 424, {"error": "failed", "error_type": "generation"}, "failed"),
    Answered("TGI, not valid", 422, {"error": "`inputs` is empty", "error_type": "validation"}, "failed"),
    Answered("TGI, incomplete", 500, {"error": "cut", "error_type": "incomplete_generation"}, "failed"),
    Answered("TEI", 429, TGI_FULL, "refused"),
    Answered("TEI, unhealthy", 503, {"error": "unhealthy", "error_type": "unhealthy"}, "unsure"),
    Answered("vLLM, too many in its queue", 503, sglang("The server is full."), "unsure"),
    Answered("vLLM, and the caller says so", 503, sglang("The server is full."), "refused", (503,)),
    Answered("vLLM, the engine is dead", 500, sglang("EngineCore encountered an issue.", 500), "failed"),
    Answered("SGLang, the queue is full", 503, sglang("The request queue is full."), "refused"),
    Answered("SGLang, waited too long", 503, sglang("Request waiting timeout reached."), "refused"),
    Answered("SGLang, pushed", 503, sglang("The request is aborted by a higher priority request."), "refused"),
    Answered("SGLang, ran too long", 503, sglang("Request running timeout reached."), "slow"),
    Answered("SGLang, no memory", 503, sglang("Retracted under decode memory pressure, twice."), "slow"),
    Answered("DJL", 503, DJL_FULL, "refused"),
    *(
        Answered(f"DJL, set to {status}", status, {**DJL_FULL, "code": status}, "refused")
        for status in (400, 429, 500, 504)
    ),
    Answered("DJL, not ready", 503, {"code": 503, "type": "WlmException", "message": "Model is not ready: X"}, "cold"),
    Answered("DJL, another", 503, {"code": 503, "type": "WlmException", "message": "Worker died"}, "unsure"),
    Answered("DJL, shut down", 503, {"code": 503, "type": "WlmShutdownException", "message": "All down"}, "failed"),
    Answered("DJL, no memory", 507, {"code": 507, "type": "WlmOutOfMemoryException", "message": "OOM"}, "slow"),
    Answered("DJL, no memory, another status", 500, {"type": "WlmOutOfMemoryException", "message": "OOM"}, "slow"),
    Answered("DJL, the handler failed", 424, {"code": 424, "message": "invoke handler failure"}, "failed"),
    Answered("MMS", 503, MMS_FULL, "refused"),
    Answered("TorchServe", 503, TORCHSERVE_FULL, "refused"),
    Answered("MMS and TorchServe, the handler's code failed", 503, PREDICTION_FAILED, "failed"),
    Answered(
        "MMS and TorchServe, the handler's answer is not one",
        503,
        {**PREDICTION_FAILED, "message": "Invalid model predict output"},
        "failed",
    ),
    Answered("Neo, the same without a type", 503, {"code": 503, "message": "Prediction failed"}, "failed"),
    Answered(
        "MMS and TorchServe, the worker died",
        500,
        {"code": 500, "type": "InternalServerException", "message": "Worker died."},
        "failed",
    ),
    Answered(
        "MMS and TorchServe, no memory",
        507,
        {"code": 507, "type": "InternalServerException", "message": "Out of resources"},
        "slow",
    ),
    Answered("Triton", 503, {"error": "Exceeds maximum queue size"}, "refused"),
    Answered("Triton, waited too long", 503, {"error": "Request timeout expired"}, "refused"),
    Answered("Triton for SageMaker", 400, {"error": "[request id: 7] Exceeds maximum queue size"}, "refused"),
    Answered("Triton for SageMaker, waited", 400, {"error": "[request id: 7] Request timeout expired"}, "refused"),
    Answered("Triton for SageMaker, not valid", 400, {"error": "unexpected shape for input"}, "failed"),
    Answered("Triton for SageMaker, no memory", 507, {"error": "failed to load"}, "slow"),
    Answered("TensorFlow Serving", 503, TFS_FULL, "refused"),
    Answered("nginx, no server behind it", 502, "<html><h1>502 Bad Gateway</h1></html>", "slow"),
    Answered("nginx, a silent server behind it", 504, "<html><h1>504 Gateway Time-out</h1></html>", "slow"),
    Answered("nginx, over a limit of its own", 503, "<html><h1>503 Unavailable</h1></html>", "unsure"),
    Answered("nginx, and the caller says so", 503, "<html><h1>503 Unavailable</h1></html>", "refused", (503,)),
    Answered("Flask", 500, FLASK_500, "failed"),
    Answered("MLflow", 504, {"error_code": "BAD", "message": "Request processing time exceeded limit"}, "slow"),
    Answered("uvicorn", 503, "Service Unavailable", "unsure"),
    Answered("uvicorn, and the caller says so", 503, "Service Unavailable", "refused", ("Service Unavailable",)),
    Answered(
        "Ray Serve",
        503,
        "Request dropped due to backpressure (num_queued_requests=9, max_queued_requests=8).",
        "refused",
    ),
    *(
        Answered(f"Sarvam, {status}", status, {"error": {"code": "service_overloaded", "message": "Busy"}}, "refused")
        for status in (429, 503)
    ),
    Answered("a request timeout of a container", 408, "", "slow"),
    Answered("a container of the caller's: 429", 429, "", "refused"),
    Answered("a container of the caller's: another code", 529, {"code": "E_FULL"}, "refused", ("E_FULL",)),
    Answered("a container of the caller's: nothing known", 529, {"code": "E_FULL"}, "failed", ("full", 503)),
]


def document(row: Answered, **members: Any) -> bytes:
    """Make the service's error document around a container's answer."""
    text = row.body if isinstance(row.body, str) else json.dumps(row.body)
    party = "client" if 400 <= row.status < 500 else "server"
    message = (
        f'Received {party} error ({row.status}) from primary with message "{text}". See https://us-west-2.console.aws.'
        "amazon.com/cloudwatch/home in account 123456789012 for more information."
    )
    shown = {"ErrorCode": "ModelError", "Message": message, "LogStreamArn": "arn"}
    return json.dumps({**shown, "OriginalStatusCode": row.status, "OriginalMessage": text, **members}).encode()


def model_error(body: bytes) -> errors.ServiceError:
    return service_error(RawResponse(424, {"x-amzn-errortype": "ModelError"}, body))


@pytest.mark.parametrize("row", SERVICE, ids=lambda row: f"{row.name}, {row.status}")
def test_an_error_of_the_service_says_what_its_code_says(row: Said) -> None:
    body = json.dumps({"message": row.message}).encode()
    error = service_error(RawResponse(row.status, {"x-amzn-errortype": row.code}, body))
    assert outcome_of(error) == row.outcome
    in_body = json.dumps({"__type": row.code, "message": row.message}).encode()
    assert outcome_of(service_error(RawResponse(row.status, {}, in_body))) == row.outcome
    ours = error_from_client(
        {
            "Error": {"Code": row.code or str(row.status), "Message": row.message},
            "ResponseMetadata": {"HTTPStatusCode": row.status},
        }
    )
    assert outcome_of(ours) == row.outcome


@pytest.mark.parametrize("row", CONTAINERS, ids=lambda row: row.name)
def test_an_error_of_a_container_says_what_its_text_says(row: Answered) -> None:
    assert outcome_of(model_error(document(row)), row.refused) == row.outcome


@pytest.mark.parametrize("missing", ["OriginalMessage", "OriginalStatusCode", "both"])
@pytest.mark.parametrize("row", CONTAINERS, ids=lambda row: row.name)
def test_the_services_sentence_stands_for_the_members_that_are_missing(row: Answered, missing: str) -> None:
    gone = ["OriginalMessage", "OriginalStatusCode"] if missing == "both" else [missing]
    assert outcome_of(model_error(document(row, **dict.fromkeys(gone))), row.refused) == row.outcome


@pytest.mark.parametrize("message", ["", "Received server error (503) from primary and could not load the body."])
def test_a_container_that_is_not_quoted_is_known_by_its_status(message: str) -> None:
    error = service_error(RawResponse(424, {}, json.dumps({"Message": message}).encode()))
    assert outcome_of(error) == ("unsure" if message else "failed")


@pytest.mark.parametrize("sign", SIGNS, ids=lambda sign: f"{sign.container} {sign.kind} {sign.words}")
def test_every_sign_is_what_a_container_of_the_table_sends(sign: Any) -> None:
    outcomes = []
    for row in CONTAINERS + STREAMS:
        others = tuple(other for other in SIGNS if other is not sign)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("smendpoint._core.call.load.SIGNS", others)
            outcomes.append(outcome(row) != row.outcome)
    assert any(outcomes)


# The first event of a stream that was answered with 200.
STREAMS = [
    Answered("TGI", 200, TGI_FULL, "refused"),
    Answered("TGI, chat", 200, {"error": {"message": "Model is overloaded", "http_status_code": 422}}, "refused"),
    Answered("TGI, chat, not valid", 200, {"error": {"message": "bad", "http_status_code": 422}}, "failed"),
    Answered("TGI, the generation failed", 200, {"error": "failed", "error_type": "generation"}, "failed"),
    Answered(
        "SGLang",
        200,
        {
            "error": {
                "object": "error",
                "message": "The request queue is full.",
                "type": "SERVICE_UNAVAILABLE",
                "param": None,
                "code": 503,
            }
        },
        "refused",
    ),
    Answered(
        "SGLang, as its users see it",
        200,
        {"error": {"message": "Streaming response failed: [503] The request queue is full.", "code": 503}},
        "refused",
    ),
    Answered("SGLang, ran too long", 200, {"error": sglang("Request running timeout reached.")}, "slow"),
    Answered(
        "SGLang, no memory",
        200,
        {"error": sglang("Streaming response failed: [503] Retracted under decode memory pressure, twice.")},
        "slow",
    ),
    Answered("vLLM, the engine is dead", 200, {"error": {"message": "EngineCore", "code": 500}}, "failed"),
    Answered("a 503 without a reason", 200, {"error": {"message": "Unavailable", "code": 503}}, "unsure"),
    Answered("a 429", 200, {"error": {"message": "Later", "code": 429}}, "refused"),
    Answered("a container of the caller's", 200, {"error": {"message": "E_FULL: later"}}, "refused", ("E_FULL",)),
    Answered("a container of the caller's, by status", 200, {"error": {"code": 529}}, "refused", (529,)),
]
HANDLERS = [AutoHandler(), ChatHandler(), OpenAICompletionsHandler(), TextGenerationHandler()]
PART = {":message-type": "event", ":event-type": "PayloadPart"}
TOKENS = {
    AutoHandler: {"token": {"id": 1, "text": "Hi", "special": False}},
    ChatHandler: {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]},
    OpenAICompletionsHandler: {"choices": [{"index": 0, "text": "Hi", "finish_reason": None}]},
    TextGenerationHandler: {"token": {"id": 1, "text": "Hi", "special": False}},
}


def event(value: Any) -> bytes:
    return b"data:" + json.dumps(value).encode() + b"\n\n"


def failure_of(handler: Any, *payloads: bytes) -> errors.SmendpointError:
    """Give the error of a stream, as its reader gets it."""
    pipeline: Pipeline[Any] = Pipeline(handler.stream_decoder(), ())
    for payload in payloads:
        pipeline.feed(encode(PART, payload))
    pipeline.end()
    assert pipeline.failure is not None
    pipeline.failure.received = tuple(pipeline.received)
    return pipeline.failure


def outcome(row: Answered) -> str:
    if row.status != 200:
        return outcome_of(model_error(document(row)), row.refused)
    return outcome_of(failure_of(AutoHandler(), event(row.body)), row.refused)


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: type(handler).__name__)
@pytest.mark.parametrize("row", STREAMS, ids=lambda row: row.name)
def test_the_first_event_of_a_stream_says_what_its_text_says(row: Answered, handler: Any) -> None:
    error = failure_of(handler, event(row.body))
    assert isinstance(error, errors.ModelOutputError)
    assert outcome_of(error, row.refused) == row.outcome


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: type(handler).__name__)
@pytest.mark.parametrize("row", STREAMS, ids=lambda row: row.name)
def test_after_a_token_no_stream_was_turned_away(row: Answered, handler: Any) -> None:
    error = failure_of(handler, event(TOKENS[type(handler)]), event(row.body))
    assert error.received
    assert outcome_of(error, row.refused) == ("slow" if row.outcome == "slow" else "failed")


@pytest.mark.parametrize("row", STREAMS, ids=lambda row: row.name)
def test_an_error_inside_a_whole_answer_says_what_its_text_says(row: Answered) -> None:
    with pytest.raises(errors.ModelOutputError) as caught:
        AutoHandler().transform_output(json.dumps(row.body).encode())
    assert outcome_of(caught.value, row.refused) == row.outcome
    assert caught.value.container_error.message in caught.value.message


@pytest.mark.parametrize(
    ("headers", "payload", "outcome"),
    [
        ({":exception-type": "ModelStreamError"}, {"ErrorCode": "ModelInvocationTimeExceeded"}, "slow"),
        ({":exception-type": "ModelStreamError"}, {"ErrorCode": "StreamBroken"}, "failed"),
        ({":exception-type": "InternalStreamFailure"}, {"Message": "An internal failure occurred."}, "failed"),
    ],
    ids=["too late", "broken", "internal"],
)
def test_an_event_of_the_service_in_a_stream(headers: dict[str, Any], payload: Any, outcome: str) -> None:
    pipeline: Pipeline[Any] = Pipeline(TextGenerationHandler().stream_decoder(), ())
    pipeline.feed(encode({":message-type": "exception", **headers}, json.dumps(payload).encode()))
    assert pipeline.failure is not None
    assert outcome_of(pipeline.failure) == outcome


def late(cause: BaseException | None = None, *, sent: bool = True, received: tuple[Any, ...] = ()) -> Exception:
    error = errors.DeadlineExceededError("", request_sent=sent)
    error.__cause__ = cause
    error.received = received
    return error


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (errors.ReadTimeoutError(""), "slow"),
        (errors.ReadTimeoutError("", response_started=True), "slow"),
        (late(), "slow"),
        (late(sent=False), "failed"),
        (late(received=("a token",)), "failed"),
        (late(errors.ThrottlingError(429)), "refused"),
        (late(errors.InternalFailureError(500)), "failed"),
        (late(ValueError()), "slow"),
        (errors.TransportError(""), "unsure"),
        (errors.TransportError("", response_started=True), "failed"),
        (errors.TransportError("", request_sent=False), "failed"),
        (errors.ConnectError(""), "failed"),
        (errors.TLSError(""), "failed"),
        (errors.ProtocolError(""), "failed"),
        (errors.StreamTruncatedError(""), "failed"),
        (errors.StreamDecodeError(""), "failed"),
        (errors.StreamError(""), "failed"),
        (errors.HandlerError(""), "failed"),
        (errors.CredentialsError(""), "failed"),
        (errors.EndpointError(""), "failed"),
        (errors.ModelError(424), "failed"),
        (asyncio.CancelledError(), "failed"),
        (KeyboardInterrupt(), "failed"),
        (GeneratorExit(), "failed"),
        (ValueError(), "failed"),
    ],
    ids=repr,
)
def test_an_error_without_an_answer(error: BaseException, outcome: str) -> None:
    assert outcome_of(error, (424, "E_FULL")) == outcome


QUOTED = [row.body["message"] for row in CONTAINERS if isinstance(row.body, dict) and "message" in row.body]


@pytest.mark.parametrize("status", [400, 422, 500])
@pytest.mark.parametrize("words", [*QUOTED, TGI_FULL["error"], TFS_FULL["error"], "Exceeds maximum queue size"])
def test_an_error_that_quotes_the_prompt_is_not_a_refusal(words: str, status: int) -> None:
    """As vLLM's do: the prompt may be a line of a log that is to be explained."""
    body = sglang(f"[{{'type': 'extra_forbidden', 'input': {{'prompt': '{words}'}}}}]", status)
    assert outcome_of(model_error(document(Answered("", status, body, "")))) == "failed"


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize("text", ["overloaded", "The server is overloaded", "Overloaded", "model is overloaded"])
def test_the_word_overloaded_alone_is_not_a_refusal(text: str, status: int) -> None:
    for body in (text, {"error": text}, {"message": text}, {"error": {"message": text}}):
        assert outcome_of(model_error(document(Answered("", status, body, "")))) == "failed"


MEMBERS = ["error", "message", "type", "code", "error_type", "detail", "Message", "OriginalMessage", "retry_after"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(MEMBERS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
OUTCOMES = {"refused", "cold", "slow", "unsure", "failed"}


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()), st.integers(0, 999))
def test_any_answer_has_an_outcome(body: bytes, status: int) -> None:
    answer = RawResponse(status, {}, body)
    assert outcome_of(service_error(answer), ("E_FULL", 529)) in OUTCOMES
    assert outcome_of(model_error(body)) in OUTCOMES
    text = body.decode(errors="replace")
    found = model_error(document(Answered("", status, text, "")))
    assert outcome_of(found) in OUTCOMES
    assert found.retry_after is None or 0.0 <= found.retry_after <= 86_400.0
    given = refusal_in(body)
    assert given is None or given == refusal_in(body.decode())


@given(JSON)
def test_any_error_inside_a_success_has_an_outcome(value: Any) -> None:
    try:
        AutoHandler().transform_output(json.dumps(value).encode())
    except errors.SmendpointError as error:
        assert outcome_of(error) in OUTCOMES


# The emulator plays the refusals.


@pytest.mark.parametrize("twin", IDS)
@pytest.mark.parametrize("fault", ["throttle_400_then_ok_1", *FAULTS["overload_<container>"].examples])
def test_a_refusal_over_the_wire_is_known_in_every_lane(fault: str, twin: str) -> None:
    with Emulator() as emulator, contextlib.closing(Twin(twin)) as made:
        endpoint = made.endpoint(emulator.url, retry=RetryPolicy(max_attempts=1))
        for operation in ("invoke", "stream"):
            emulator.inject(fault, times=None if fault.endswith("_1") else 1)
            with pytest.raises(errors.EndpointError) as caught:
                endpoint.invoke("Hello") if operation == "invoke" else list(endpoint.stream("Hello"))
            assert outcome_of(caught.value) == "refused"
        endpoint.close()


# TensorFlow Serving's container sends its server's answer as 200, whatever its status was.


@pytest.mark.parametrize(
    "body",
    [
        TFS_FULL,
        {"error": f"{TFS_FULL['error']}; currently 4 in-flight batches"},
        {"error": {"message": "Model is overloaded"}},
        TGI_FULL,
        MMS_FULL,
        sglang("The request queue is full."),
        {"code": 429, "message": "Later"},
    ],
    ids=json.dumps,
)
def test_a_success_that_is_a_refusal_is_known(body: Any) -> None:
    assert refusal_in(json.dumps(body).encode())
    assert refusal_in(b"\n" + json.dumps(body, indent=1).encode() + b"\n")


def test_a_chunk_that_is_a_refusal_is_known_whatever_the_handler_makes_of_it() -> None:
    text = json.dumps(TGI_FULL)
    for chunk in (TGI_FULL, text, text.encode(), f"data: {text}\n\n", f"data:{text}\r\n\r\n".encode()):
        assert refusal_in(chunk) == (None, "overloaded", "Model is overloaded")
    for chunk in ([TGI_FULL], None, 7, {**TGI_FULL, "token": {}}, f"event: {text}", f"{text}{text}", "\ud800 error"):
        assert refusal_in(chunk) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"error": "',
        b"[" * 4000 + b'"error',
        b'"error"',
        b'[{"error": "Model is overloaded", "error_type": "overloaded"}]',
        json.dumps({"generated_text": json.dumps(TGI_FULL)}).encode(),
        json.dumps({"generated_text": "a", **TGI_FULL}).encode(),
        json.dumps({"predictions": [[0.5]], **TFS_FULL}).encode(),
        json.dumps({"error": 0.25}).encode(),
        json.dumps({"error": ""}).encode(),
        json.dumps({"error": "Incompatible shapes"}).encode(),
        json.dumps({"code": 503, "message": "Unavailable"}).encode(),
        json.dumps({"error": "Model is overloaded" + " " * MAX_REFUSAL_BYTES}).encode(),
        json.dumps({"choices": [{"message": {"content": TFS_FULL["error"]}}]}).encode(),
    ],
    ids=range(14),
)
def test_any_other_success_is_not_a_refusal(body: bytes) -> None:
    assert not refusal_in(body)


def test_the_callers_own_marks_count_in_a_success_too() -> None:
    assert refusal_in(b'{"error": "all workers are busy"}', ["workers are busy"])
    assert refusal_in(b'{"error": {"code": 529, "message": ""}}', [529])
    assert not refusal_in(b'{"answer": "all workers are busy"}', ["workers are busy"])


def test_the_statuses_of_containers_are_those_that_the_rows_show() -> None:
    assert CONTAINER_STATUSES.keys() <= {row.status for row in CONTAINERS}


# The page of the reference has the same tables.


def page_rows(header: str) -> list[list[str]]:
    """Give the cells of the table under a header, in which code is without its backticks."""
    lines = PAGE.read_text(encoding="utf-8").partition(f"\n{header}\n")[2].splitlines()[1:]
    rows = lines[: lines.index("")]
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows]


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not here")
def test_the_reference_lists_the_signs_of_the_containers() -> None:
    expected = [
        [sign.container, sign.kind, sign.words.removeprefix("*") and sign.words, str(sign.status or ""), sign.outcome]
        for sign in SIGNS
    ]
    assert page_rows("| container | type or code | message | status | outcome |") == expected


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not here")
def test_the_reference_lists_the_statuses_of_the_containers() -> None:
    rows = page_rows("| the container's status | outcome |")
    listed = {int(status): outcome for statuses, outcome in rows[:-1] for status in statuses.split(", ")}
    assert listed == CONTAINER_STATUSES
    assert rows[-1] == ["any other", "failed"]


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not here")
def test_the_reference_lists_the_errors_of_the_service() -> None:
    rows = dict(page_rows("| error | outcome |"))
    named = {key.__name__: outcome for key, outcome in SERVICE_ERRORS.items() if isinstance(key, type)}
    assert named.items() <= rows.items()
    assert rows["ServiceError` with status 502 or 504"] == SERVICE_ERRORS[502] == SERVICE_ERRORS[504]
    assert {key for key in SERVICE_ERRORS if isinstance(key, int)} == {502, 504}
    assert {row[0] for row in page_rows("| outcome | meaning | the model | the limit |")} == OUTCOMES


# The wait that a container asks for is in its answer's body: the service drops its headers.


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"error": {"code": "service_overloaded", "retry_after": 3}}, 3.0),
        ({"error": "busy", "retry_after": 0.5}, 0.5),
        ({"retry_after": 0}, 0.0),
        ({"retry_after": 86_400}, 86_400.0),
        *(({"retry_after": value}, None) for value in (-1, 86_401, 10**400, float("nan"), True, None, "3", [3])),
        ({"error": ["retry_after", 3]}, None),
        ('["retry_after"]', None),
        ('{"retry_after": 3', None),
        ("", None),
    ],
    ids=repr,
)
def test_a_containers_wish_to_wait_is_read(body: Any, seconds: float | None) -> None:
    assert model_error(document(Answered("", 429, body, ""))).retry_after == seconds


def test_the_services_own_wish_to_wait_comes_first() -> None:
    body = document(Answered("", 429, {"retry_after": 3}, ""))
    headers = {"x-amzn-errortype": "ModelError", "retry-after": "1"}
    assert service_error(RawResponse(424, headers, body)).retry_after == 1.0
