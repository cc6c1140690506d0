"""One call as a generator: its steps, and its end."""

from __future__ import annotations

import json
import threading
from email.utils import formatdate
from typing import Any

import pytest
from clocks import FakeClock

from smendpoint import errors
from smendpoint._core.aws.response import RawResponse
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint._core.call.flow import (
    CallDefaults,
    CallState,
    NeedCredentials,
    Send,
    Sleep,
    call_flow,
    deadline_exceeded,
)
from smendpoint._core.call.hooks import CallHooks, CallInfo, Watcher
from smendpoint._core.call.retry import QUOTA_CAPACITY, RetryPolicy, RetryQuota
from smendpoint._core.call.timing import Timeout

OLD = Credentials("AKIDOLD", "old-secret")
NEW = Credentials("AKIDNEW", "new-secret")
OK = RawResponse(200, {"x-amzn-requestid": "r-1"}, b"[]")


def answer(status: int, code: str = "", **headers: str) -> RawResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RawResponse(status, named, json.dumps({"__type": code, "message": "no"}).encode())


class Source:
    """Credentials that are at hand, or not."""

    def __init__(self, *credentials: Credentials | None) -> None:
        self._credentials = list(credentials)

    def current(self) -> Credentials | None:
        return self._credentials.pop(0) if len(self._credentials) > 1 else self._credentials[0]


STANDARD = RetryPolicy()
AT_HAND = Source(OLD)


class Script:
    """Runs a flow against given outcomes, and records its steps."""

    def __init__(
        self,
        *outcomes: Any,
        policy: RetryPolicy | None = STANDARD,
        timeout: Timeout | None = None,
        source: Source | None = AT_HAND,
        clock: FakeClock | None = None,
        quota: RetryQuota | None = None,
        hooks: CallHooks | None = None,
    ) -> None:
        self.clock = clock or FakeClock()
        self.defaults = CallDefaults(
            endpoint_name="my-llm",
            policy=policy,
            quota=quota or RetryQuota(threading.Lock()),
            timeout=timeout or Timeout(),
            credentials=source,
            clock=self.clock,
        )
        watcher = None
        if hooks is not None:
            call, monotonic = CallInfo("my-llm", "InvokeEndpoint", "id"), self.clock.monotonic
            watcher = Watcher(call, (hooks,), None, monotonic, monotonic())
        self.call: CallState = CallState(self.defaults, watcher, self.clock.monotonic())
        self.steps: list[Any] = []
        self._outcomes = list(outcomes)

    def run(self) -> Any:
        flow = call_flow(self.call)
        try:
            step = next(flow)
            while True:
                self.steps.append(step)
                if isinstance(step, Sleep):
                    self.clock.sleep(step.seconds)
                    step = flow.send(None)
                    continue
                outcome = self._outcomes.pop(0)
                if isinstance(step, Send) and step.started is not None and not isinstance(outcome, Exception):
                    step.started(outcome.status, outcome.headers)  # as a transport does
                step = flow.throw(outcome) if isinstance(outcome, Exception) else flow.send(outcome)
        except StopIteration as stop:
            return stop.value

    @property
    def sent(self) -> list[Send]:
        return [step for step in self.steps if isinstance(step, Send)]


def test_a_success_is_returned_after_one_attempt() -> None:
    script = Script(OK)
    assert script.run() is OK
    assert [(send.attempt, send.max_attempts, send.credentials) for send in script.sent] == [(1, 3, OLD)]
    assert script.call.attempts == 1


def test_missing_credentials_are_asked_for_before_anything_is_sent() -> None:
    script = Script(NEW, OK, source=Source(None, NEW))
    script.run()
    first, second = script.steps
    assert isinstance(first, NeedCredentials)
    assert first.rejected is None
    assert second.credentials is NEW


@pytest.mark.parametrize("kind", [errors.ConfigurationError, errors.CredentialsError])
def test_a_step_that_a_transport_cannot_do_is_an_error_that_names_the_endpoint_and_is_not_tried_again(
    kind: type[errors.SmendpointError],
) -> None:
    script = Script(kind("no"))
    with pytest.raises(kind) as caught:
        script.run()
    assert caught.value.endpoint_name == "my-llm"
    assert len(script.sent) == 1


def test_failing_credentials_end_the_call_without_an_attempt() -> None:
    script = Script(errors.CredentialsError("none"), source=Source(None))
    with pytest.raises(errors.CredentialsError) as caught:
        script.run()
    assert caught.value.endpoint_name == "my-llm"
    assert caught.value.attempts == 0


def test_without_a_source_attempts_are_not_signed() -> None:
    script = Script(OK, source=None)
    script.run()
    assert script.sent[0].credentials is None


def test_a_transient_failure_is_tried_three_times_with_growing_delays() -> None:
    script = Script(*[answer(503)] * 3)
    with pytest.raises(errors.ServiceError) as caught:
        script.run()
    assert caught.value.attempts == 3
    assert script.clock.slept == [0.05, 0.1]


def test_a_model_that_is_not_ready_is_waited_for_beyond_max_attempts() -> None:
    script = Script(*[answer(429, "ModelNotReadyException")] * 6, OK)
    assert script.run() is OK
    assert script.clock.slept == [1.0, 2.0, 4.0, 8.0, 16.0, 20.0]
    assert [send.attempt for send in script.sent] == [1, 2, 3, 4, 5, 6, 7]


def test_a_model_that_never_gets_ready_ends_the_call_within_its_budget() -> None:
    script = Script(*[answer(429, "ModelNotReadyException")] * 50)
    with pytest.raises(errors.ModelNotReadyError):
        script.run()
    assert 280 < sum(script.clock.slept) <= 300


def test_cold_starts_take_nothing_from_the_quota_and_leave_retries_for_later() -> None:
    script = Script(answer(429, "ModelNotReadyException"), answer(500), answer(500), OK)
    assert script.run() is OK
    assert script.defaults.quota.available == QUOTA_CAPACITY - 14


def test_an_expired_token_is_refreshed_once_and_tried_once() -> None:
    script = Script(answer(403, "ExpiredTokenException"), NEW, OK, source=Source(OLD, NEW))
    assert script.run() is OK
    refresh = script.steps[1]
    assert isinstance(refresh, NeedCredentials)
    assert refresh.rejected is OLD
    assert script.sent[1].credentials is NEW
    assert script.clock.slept == []


def test_an_expired_token_that_its_source_cannot_replace_is_not_sent_again() -> None:
    script = Script(answer(403, "ExpiredTokenException"), OLD)
    with pytest.raises(errors.AccessDeniedError):
        script.run()
    assert len(script.sent) == 1


def test_a_clock_that_is_off_takes_the_servers_time_for_this_and_later_calls() -> None:
    ahead = FakeClock().now + 3600
    script = Script(answer(403, "SignatureDoesNotMatch", date=formatdate(ahead, usegmt=True)), OK)
    assert script.run() is OK
    assert script.sent[1].timestamp == ahead
    assert script.defaults.skew == 3600


def date(ahead: float) -> str:
    """A header of a service whose clock is so many seconds ahead of the fake one."""
    return formatdate(FakeClock().now + ahead, usegmt=True)


@pytest.mark.parametrize(
    "after",
    [
        [answer(403, "InvalidSignatureException", date=date(3600))],
        [answer(403, "RequestTimeTooSkewed", date=date(-3600))],
        [answer(424, "ModelError")],
        [answer(500), answer(500), answer(500)],
        [errors.ReadTimeoutError("silence")],
        [errors.ProtocolError("not HTTP", response_started=True)],
    ],
    ids=lambda after: str(getattr(after[0], "status", "broken")),
)
def test_the_services_clock_is_forgotten_where_the_retry_that_used_it_failed(after: list[Any]) -> None:
    script = Script(answer(403, "RequestTimeTooSkewed", date=date(3600)), *after)
    with pytest.raises(errors.EndpointError):
        script.run()
    assert script.sent[1].timestamp == FakeClock().now + 3600
    assert script.defaults.skew == 0.0


def test_the_services_clock_is_kept_by_the_first_success_after_other_retries() -> None:
    script = Script(answer(403, "RequestTimeTooSkewed", date=date(3600)), answer(500), answer(500), OK)
    assert script.run() is OK
    assert all(send.timestamp >= FakeClock().now + 3600 for send in script.sent[1:])
    assert script.defaults.skew == 3600


def test_a_clock_that_was_right_before_outlives_a_correction_that_fails() -> None:
    script = Script(answer(403, "RequestTimeTooSkewed", date=date(7200)), answer(403, "AccessDenied"))
    script.defaults.skew = 3600.0
    with pytest.raises(errors.AccessDeniedError):
        script.run()
    assert [send.timestamp - FakeClock().now for send in script.sent] == [3600, 7200]
    assert script.defaults.skew == 3600.0


def test_a_delay_of_zero_is_not_a_sleep() -> None:
    script = Script(answer(500), OK, clock=FakeClock(chance=0.0))
    assert script.run() is OK
    assert not [step for step in script.steps if isinstance(step, Sleep)]


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    script = Script(answer(429), timeout=Timeout(total=0.5))
    with pytest.raises(errors.DeadlineExceededError) as caught:
        script.run()
    assert isinstance(caught.value.__cause__, errors.ThrottlingError)
    assert script.clock.slept == []
    assert caught.value.attempts == 1


def test_every_step_has_the_deadline() -> None:
    script = Script(NEW, OK, source=Source(None, NEW), timeout=Timeout(total=9))
    script.run()
    assert [step.deadline for step in script.steps] == [9.0, 9.0]


def test_an_empty_quota_ends_retrying() -> None:
    quota = RetryQuota(threading.Lock())
    assert quota.acquire(QUOTA_CAPACITY - 14)
    script = Script(answer(500), answer(500), quota=quota)
    with pytest.raises(errors.InternalFailureError) as caught:
        script.run()
    assert caught.value.attempts == 2
    assert quota.available == 0


def test_a_retry_that_succeeds_gives_back_what_it_took() -> None:
    script = Script(answer(500), OK)
    script.run()
    assert script.defaults.quota.available == QUOTA_CAPACITY


def test_a_call_that_is_run_again_gives_back_what_it_took_once() -> None:
    """As a stream is that began with a refusal."""
    quota = RetryQuota(threading.Lock())
    assert quota.acquire(100)
    script = Script(answer(500), OK, OK, quota=quota)
    script.run()
    assert quota.available == QUOTA_CAPACITY - 100
    script.run()
    assert quota.available == QUOTA_CAPACITY - 99


def test_a_transport_that_retries_by_itself_is_not_retried_on_top() -> None:
    script = Script(errors.TransportError("reset"), policy=None, source=None)
    with pytest.raises(errors.TransportError):
        script.run()
    assert len(script.sent) == 1


@pytest.mark.parametrize("outcome", [OK, errors.ConnectError("refused")], ids=["answer", "error"])
def test_attempts_of_a_transports_own_are_counted(outcome: Any) -> None:
    script = Script(outcome, policy=None, source=None)
    flow = call_flow(script.call)
    send = next(flow)
    send.extra = 2
    with pytest.raises((StopIteration, errors.ConnectError)):
        flow.throw(outcome) if isinstance(outcome, Exception) else flow.send(outcome)
    assert script.call.attempts == 3


class Recorder(CallHooks):
    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def call_started(self, call: CallInfo) -> None:
        self.heard.append(("started", call.attempts))

    def attempt_started(self, call: CallInfo) -> None:
        self.heard.append(("attempt", call.attempts, call.status, call.request_id))

    def attempt_failed(self, call: CallInfo, error: errors.SmendpointError, delay: float | None) -> None:
        self.heard.append(("failed", call.status, type(error).__name__, delay))

    def first_byte(self, call: CallInfo) -> None:
        self.heard.append(("byte", call.elapsed, call.status, call.request_id))

    def call_finished(self, call: CallInfo, error: BaseException | None) -> None:
        self.heard.append(("finished", call.status, call.request_id, error))


def test_hooks_are_called_for_every_attempt_in_order() -> None:
    recorder = Recorder()
    script = Script(answer(500), OK, hooks=recorder)
    script.run()
    script.call.finish(None)
    assert recorder.heard == [
        ("started", 0),
        ("attempt", 1, None, None),
        ("byte", 0.0, 500, None),
        ("failed", 500, "InternalFailureError", 0.05),
        ("attempt", 2, None, None),
        ("byte", 0.05, 200, "r-1"),
        ("finished", 200, "r-1", None),
    ]


def test_a_call_without_a_watcher_reports_nothing() -> None:
    script = Script(OK)
    script.run()
    assert script.sent[0].started is None
    script.call.finish(None)


def test_the_deadlines_error_says_whether_the_model_may_be_running() -> None:
    error = deadline_exceeded(Timeout(total=2), request_sent=False)
    assert not error.request_sent
    assert "2 s" in str(error)
