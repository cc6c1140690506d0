"""How often a request is sent, counted where it arrives: at the server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clocks import FakeClock
from twins import Twin

from smendpoint import CallHooks, CallInfo, RetryPolicy, Timeout, errors
from smendpoint.emulator import Emulator

Errors = type[errors.EndpointError] | tuple[type[errors.EndpointError], ...]

CALLS = ("invoke", "stream")
QUOTA = 500  # of the AWS SDKs' standard mode
TRANSIENT_COST = 14  # of a retry

# Sent once, by default: the model is running, has run, or will never run.
ONCE: dict[str, Errors] = {
    "stall_before_headers": errors.ReadTimeoutError,
    "garbage_status_line": errors.ProtocolError,
    "redirect": errors.ServiceError,
    "reset_mid_stream": (errors.TransportError, errors.StreamTruncatedError),
    "stall_mid_stream": errors.ReadTimeoutError,
    "status_400_ValidationError": errors.ValidationError,
    "status_403_AccessDeniedException": errors.AccessDeniedError,
    "status_404": errors.ResourceNotFoundError,
    "status_413": errors.PayloadTooLargeError,
    "status_424_ModelError": errors.ModelError,
    "status_530_InternalDependencyException": errors.InternalDependencyError,
}
# Sent three times in all: it cannot have reached the model, or every SDK does so.
THRICE: dict[str, type[errors.EndpointError]] = {
    "reset_before_headers": errors.TransportError,
    "fin_before_headers": errors.TransportError,
    "status_400_RequestTimeoutException": errors.RequestTimeoutError,
    "status_408_RequestTimeout": errors.RequestTimeoutError,
    "status_400_ThrottlingException": errors.ThrottlingError,
    "status_429_ThrottlingException": errors.ThrottlingError,
    "status_500_InternalFailure": errors.InternalFailureError,
    "status_502": errors.BadGatewayError,
    "status_503_ServiceUnavailable": errors.ServiceUnavailableError,
    "status_504": errors.GatewayTimeoutError,
}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def emulator(clock: FakeClock) -> Iterator[Emulator]:
    with Emulator("tgi", clock=clock.time) as emulator:
        yield emulator


def limits(fault: str) -> Timeout:
    return Timeout(read=0.2) if fault.startswith("stall") else Timeout(read=20.0)


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("fault", ONCE)
def test_a_request_that_may_run_or_has_run_is_sent_once(
    direct_twin: Twin, emulator: Emulator, clock: FakeClock, fault: str, operation: str
) -> None:
    emulator.inject(fault)
    endpoint = direct_twin.endpoint(emulator.url, timeout=limits(fault), clock=clock)
    with pytest.raises(ONCE[fault]) as caught:
        endpoint.call(operation, "Hello")
    assert len(emulator.requests) == caught.value.attempts == 1
    assert clock.slept == []


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("fault", THRICE)
def test_a_request_that_cannot_have_run_is_sent_three_times(
    direct_twin: Twin, emulator: Emulator, clock: FakeClock, fault: str, operation: str
) -> None:
    emulator.inject(fault)
    endpoint = direct_twin.endpoint(emulator.url, clock=clock)
    with pytest.raises(THRICE[fault]) as caught:
        endpoint.call(operation, "Hello")
    assert len(emulator.requests) == caught.value.attempts == 3
    base = 1.0 if "Throttling" in fault else 0.05
    assert clock.slept == [base, 2 * base]  # the fake clock's chance is the longest delay
    ids = {request.headers["amz-sdk-invocation-id"] for request in emulator.requests}
    assert len(ids) == 1


@pytest.mark.parametrize("operation", CALLS)
def test_a_retry_that_succeeds_gives_the_answer(
    direct_twin: Twin, emulator: Emulator, clock: FakeClock, operation: str
) -> None:
    emulator.inject("throttle_then_ok_2")
    assert direct_twin.endpoint(emulator.url, clock=clock).call(operation, "Hello")
    assert len(emulator.requests) == 3


@pytest.mark.parametrize("operation", CALLS)
def test_six_times_not_ready_and_then_the_answer_under_default_settings(
    direct_twin: Twin, emulator: Emulator, clock: FakeClock, operation: str
) -> None:
    emulator.inject("not_ready_then_ok_6")
    assert direct_twin.endpoint(emulator.url, clock=clock).call(operation, "Hello")
    assert len(emulator.requests) == 7
    assert clock.slept == [1.0, 2.0, 4.0, 8.0, 16.0, 20.0]


def test_a_model_that_is_never_ready_is_given_up_within_the_budget(
    direct_twin: Twin, emulator: Emulator, clock: FakeClock
) -> None:
    emulator.inject("status_429_ModelNotReadyException")
    endpoint = direct_twin.endpoint(emulator.url, clock=clock, retry=RetryPolicy(cold_start_timeout=60.0))
    with pytest.raises(errors.ModelNotReadyError) as caught:
        endpoint.invoke("Hello")
    assert sum(clock.slept) <= 60.0
    assert len(emulator.requests) == caught.value.attempts == len(clock.slept) + 1


@pytest.mark.parametrize("fault", ["expired_then_ok", "skewed_date"])
@pytest.mark.parametrize("operation", CALLS)
def test_a_token_and_a_clock_are_put_right_once(
    direct_twin: Twin, emulator: Emulator, clock: FakeClock, fault: str, operation: str
) -> None:
    emulator.inject(fault)
    endpoint = direct_twin.endpoint(emulator.url, clock=clock, renewing=True)
    assert endpoint.call(operation, "Hello")
    assert len(emulator.requests) == 2
    assert endpoint.call(operation, "Hello")
    assert len(emulator.requests) == 3
    assert clock.slept == []


@pytest.mark.parametrize("operation", CALLS)
def test_the_services_clock_is_kept_only_by_a_retry_that_succeeds(
    direct_twin: Twin, emulator: Emulator, clock: FakeClock, operation: str
) -> None:
    emulator.inject("skewed_date", times=1)
    emulator.inject("status_403_AccessDeniedException", times=1)
    endpoint = direct_twin.endpoint(emulator.url, clock=clock)
    with pytest.raises(errors.AccessDeniedError):
        endpoint.call(operation, "Hello")
    assert endpoint.call(operation, "Hello")
    ours, theirs, again = [request.headers["x-amz-date"] for request in emulator.requests]
    assert ours == again != theirs


def test_credentials_that_cannot_be_renewed_are_not_tried_twice(direct_twin: Twin, emulator: Emulator) -> None:
    emulator.inject("expired_then_ok")
    with pytest.raises(errors.AccessDeniedError):
        direct_twin.endpoint(emulator.url).invoke("Hello")
    assert len(emulator.requests) == 1


@pytest.mark.parametrize("fault", ["status_403_ExpiredTokenException", "status_403_RequestTimeTooSkewed"])
def test_a_failure_that_cannot_be_put_right_is_not_tried_for_ever(
    direct_twin: Twin, emulator: Emulator, clock: FakeClock, fault: str
) -> None:
    emulator.inject(fault)
    with pytest.raises(errors.AccessDeniedError) as caught:
        direct_twin.endpoint(emulator.url, clock=clock, renewing=True).invoke("Hello")
    assert len(emulator.requests) == caught.value.attempts <= 2


def test_a_hundred_calls_into_a_dead_server_stay_within_the_quota(
    direct_twin: Twin, emulator: Emulator, clock: FakeClock
) -> None:
    emulator.inject("reset_before_headers")
    endpoint = direct_twin.endpoint(emulator.url, clock=clock)
    for _ in range(100):
        with pytest.raises(errors.TransportError):
            endpoint.invoke("Hello")
    assert len(emulator.requests) == 100 + QUOTA // TRANSIENT_COST


class Attempts(CallHooks):
    """Counts attempts where no server can."""

    count = 0

    def attempt_started(self, call: CallInfo) -> None:
        self.count += 1


def test_a_hundred_calls_to_where_nothing_listens_stay_within_the_quota(
    direct_twin: Twin, emulator: Emulator, clock: FakeClock
) -> None:
    emulator.inject("refuse")
    attempts = Attempts()
    endpoint = direct_twin.endpoint(emulator.url, clock=clock, hooks=attempts)
    for _ in range(100):
        with pytest.raises(errors.ConnectError):
            endpoint.invoke("Hello")
    assert attempts.count == 100 + QUOTA // TRANSIENT_COST


def test_success_fills_the_quota_again(direct_twin: Twin, emulator: Emulator, clock: FakeClock) -> None:
    endpoint = direct_twin.endpoint(emulator.url, clock=clock)
    for _ in range(2 * QUOTA // TRANSIENT_COST):
        emulator.inject("status_500_InternalFailure", times=1)
        endpoint.invoke("Hello")
    assert len(emulator.requests) == 2 * (2 * QUOTA // TRANSIENT_COST)


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("fault", [*ONCE, *THRICE, "status_429_ModelNotReadyException"])
def test_through_a_client_each_failure_is_the_one_of_the_direct_lane_and_is_sent_once(
    client_twin: Twin, emulator: Emulator, clock: FakeClock, fault: str, operation: str
) -> None:
    emulator.inject(fault)
    endpoint = client_twin.endpoint(emulator.url, timeout=limits(fault), clock=clock)
    with pytest.raises({**ONCE, **THRICE}.get(fault, errors.ModelNotReadyError)) as caught:
        endpoint.call(operation, "Hello")
    assert caught.value.attempts == 1
    if fault != "redirect":  # aiohttp follows it, ten times
        assert len(emulator.requests) == 1
    assert clock.slept == []


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("fault", ["status_503_ServiceUnavailable", "reset_before_headers"])
@pytest.mark.parametrize("retries", [0, 1])
def test_a_client_retries_as_it_was_told_and_nothing_is_added(
    client_twin: Twin, emulator: Emulator, clock: FakeClock, fault: str, operation: str, retries: int
) -> None:
    emulator.inject(fault)
    endpoint = client_twin.endpoint(emulator.url, client_retries=retries, clock=clock)
    with pytest.raises(errors.EndpointError) as caught:
        endpoint.call(operation, "Hello")
    assert len(emulator.requests) == 1 + retries
    assert clock.slept == []
    if isinstance(caught.value, errors.ServiceError):  # a client does not say it with a lost connection
        assert caught.value.attempts == 1 + retries


def test_a_client_that_retried_in_secret_is_counted_in_the_answer(client_twin: Twin, emulator: Emulator) -> None:
    emulator.inject("status_503_ServiceUnavailable", times=1)
    assert client_twin.endpoint(emulator.url, client_retries=1).send("Hello").attempts == 2
    assert len(emulator.requests) == 2
