"""Cold starts in both lanes: which failures are one, how long calls wait, and where the wait is announced."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from clocks import FakeClock
from twins import Twin, TwinEndpoint

from smendpoint import CallHooks, CallInfo, RetryPolicy, Timeout, errors
from smendpoint._core.aws.response import RawResponse, error_from_client, service_error
from smendpoint.cli import main
from smendpoint.emulator import Emulator
from smendpoint.handlers import BytesHandler

pytestmark = pytest.mark.usefixtures("bare_environment")

NO_CAPACITY = (
    "Inference Component has no capacity to process this request. ApplicationAutoScaling may be in-progress (if "
    "configured) or try to increase the capacity by invoking UpdateInferenceComponentRuntimeConfig API."
)
FAULTS = {
    "not_ready_then_ok": "the model is not ready, it is still being loaded (ModelNotReadyException)",
    "no_capacity_then_ok": "the model is not ready, its inference component is scaled to zero (ValidationError)",
}
PROMPT = b"a prompt that is nobody's business"


class Heard(CallHooks):
    """Writes down the attempts that failed."""

    def __init__(self) -> None:
        self.failed: list[tuple[int, str, float | None]] = []

    def attempt_failed(self, call: CallInfo, error: errors.SmendpointError, delay: float | None) -> None:
        self.failed.append((call.attempts, type(error).__name__, delay))


class Watched:
    """The clock, the hooks and the log of an endpoint.

    Attributes:
        clock: of the endpoint.
        hooks: of the endpoint.
    """

    def __init__(self, log: pytest.LogCaptureFixture) -> None:
        log.set_level(logging.INFO, "smendpoint")
        self.clock = FakeClock()
        self.hooks = Heard()
        self._log = log

    def endpoint(self, twin: Twin, emulator: Emulator, **options: Any) -> TwinEndpoint:
        """Make an endpoint that is watched."""
        return twin.endpoint(
            emulator.url, content_handler=BytesHandler(), clock=self.clock, hooks=self.hooks, **options
        )

    def said(self) -> list[str]:
        """Give the messages that were logged for information."""
        return [record.getMessage() for record in self._log.records if record.levelno == logging.INFO]


@pytest.fixture
def watched(caplog: pytest.LogCaptureFixture) -> Watched:
    return Watched(caplog)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(lambda request: request.body, piece_size=None) as running:
        yield running


@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (400, "ValidationError", NO_CAPACITY, errors.ModelNotReadyError),
        (400, "ValidationException", NO_CAPACITY, errors.ModelNotReadyError),
        (400, "", NO_CAPACITY, errors.ModelNotReadyError),
        (400, "ValidationError", NO_CAPACITY.upper(), errors.ModelNotReadyError),
        (400, "ValidationError", "Endpoint has no capacity to process this request.", errors.ModelNotReadyError),
        (429, "ModelNotReadyException", "Wait.", errors.ModelNotReadyError),
        (400, "ValidationError", "Inference Component Name header is required.", errors.ValidationError),
        (400, "ValidationError", "", errors.ValidationError),
        (
            424,
            "ModelError",
            f'Received client error (400) with message "{NO_CAPACITY}"',
            errors.ModelError,
        ),
        (400, "ThrottlingException", NO_CAPACITY, errors.ThrottlingError),
        (503, "ServiceUnavailable", NO_CAPACITY, errors.ServiceUnavailableError),
    ],
)
def test_a_component_that_is_scaled_to_zero_is_a_model_that_is_not_ready(
    status: int, code: str, message: str, kind: type[errors.ServiceError]
) -> None:
    body = json.dumps({"__type": code, "message": message}).encode()
    parts = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    for error in (service_error(RawResponse(status, {}, body)), error_from_client(parts)):
        assert type(error) is kind
        assert (error.status, error.code) == (status, code)


@pytest.mark.parametrize("operation", ["invoke", "stream"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_cold_start_is_waited_for_and_each_wait_is_heard(
    fault: str,
    operation: str,
    direct_twin: Twin,
    emulator: Emulator,
    watched: Watched,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with watched.endpoint(direct_twin, emulator) as endpoint:
        emulator.inject(f"{fault}_4")
        assert endpoint.call(operation, PROMPT) in (PROMPT, [PROMPT])
    assert watched.clock.slept == [1.0, 2.0, 4.0, 8.0]
    assert watched.hooks.failed == [(number + 1, "ModelNotReadyError", 2.0**number) for number in range(4)]
    assert watched.said() == [
        f"endpoint my-llm: {FAULTS[fault]}; {passed} s have passed, next attempt in {passed + 1} s, "
        "giving up 300 s after the call's start"
        for passed in (0.0, 1.0, 3.0, 7.0)
    ]
    assert {record.name for record in caplog.records} == {"smendpoint.call"}
    assert PROMPT.decode() not in caplog.text


@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_waited_for_within_its_budget_and_no_longer(
    fault: str, direct_twin: Twin, emulator: Emulator, watched: Watched
) -> None:
    retry = RetryPolicy(max_attempts=1, cold_start_timeout=10.0)
    with watched.endpoint(direct_twin, emulator, retry=retry) as endpoint:
        emulator.inject(f"{fault}_9999")
        with pytest.raises(errors.ModelNotReadyError) as caught:
            endpoint.invoke(PROMPT)
    assert caught.value.attempts == 4
    assert watched.clock.slept == [1.0, 2.0, 4.0]
    assert [delay for _, _, delay in watched.hooks.failed] == [1.0, 2.0, 4.0, None]
    assert len(watched.said()) == 3
    assert all("giving up 10 s after" in line for line in watched.said())


def test_a_wait_that_the_deadline_leaves_no_time_for_is_not_announced(
    direct_twin: Twin, emulator: Emulator, watched: Watched
) -> None:
    with watched.endpoint(direct_twin, emulator) as endpoint:
        emulator.inject("no_capacity_then_ok_9")
        with pytest.raises(errors.DeadlineExceededError):
            endpoint.invoke(PROMPT, timeout=Timeout(total=2.5))
    assert watched.clock.slept == [1.0]
    assert [delay for _, _, delay in watched.hooks.failed] == [1.0, None]
    assert len(watched.said()) == 1


@pytest.mark.parametrize("operation", ["invoke", "stream"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_given_clients_cold_start_is_the_same_error(
    fault: str, operation: str, client_twin: Twin, emulator: Emulator, watched: Watched
) -> None:
    with watched.endpoint(client_twin, emulator) as endpoint:
        emulator.inject(f"{fault}_1")
        with pytest.raises(errors.ModelNotReadyError) as caught:
            endpoint.call(operation, PROMPT)
        assert caught.value.status in (400, 429)
        assert caught.value.attempts == 1
        assert endpoint.call(operation, PROMPT)
    assert watched.clock.slept == []


def test_other_failures_that_are_tried_again_are_not_announced(
    direct_twin: Twin, emulator: Emulator, watched: Watched
) -> None:
    with watched.endpoint(direct_twin, emulator) as endpoint:
        emulator.inject("throttle_then_ok_2")
        endpoint.invoke(PROMPT)
    assert len(watched.clock.slept) == 2
    assert watched.said() == []


def test_a_wait_does_not_import_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    from smendpoint._core.call.hooks import log_cold_start

    monkeypatch.delitem(sys.modules, "logging")
    log_cold_start("my-llm", errors.ModelNotReadyError(429), elapsed=0.0, delay=1.0, budget=300.0)
    assert "logging" not in sys.modules


@pytest.mark.parametrize("stream", [[], ["--stream"]])
@pytest.mark.parametrize("fault", FAULTS)
def test_the_command_says_on_standard_error_that_and_why_it_waits(
    fault: str,
    stream: list[str],
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from smendpoint._transport.deadline import SystemClock

    monkeypatch.setattr(SystemClock, "random", lambda self: 0.0)  # no delay is the shortest
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "thing")
    arguments = ["invoke", "my-llm", "Hello", "--handler", "plain", "--region", "us-west-2"]
    arguments += ["--endpoint-url", emulator.url, *stream]
    emulator.inject(f"{fault}_2")
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert shown.out == "Hello\n"
    assert shown.err == f"smendpoint: {FAULTS[fault]}: 0 s have passed, next attempt in 0 s\n" * 2

    emulator.inject(f"{fault}_1")
    monkeypatch.setattr(sys, "stderr", None)
    assert main(arguments) == 0
    assert capsys.readouterr().out == "Hello\n"
