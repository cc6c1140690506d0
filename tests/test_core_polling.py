"""Waiting for the answer of asynchronous inference, step by step."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from clocks import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from smendpoint import errors
from smendpoint._core.call.flow import Sleep
from smendpoint._core.call.polling import FIRST_DELAY, LONGEST_DELAY, Get, Outcome, look, split_location, wait

OUTPUT, FAILURE = "s3://bucket/a.out", "s3://bucket/a-error.out"


def denied(code: str = "AccessDenied") -> errors.AccessDeniedError:
    return errors.AccessDeniedError(403, code, "Access Denied")


def run(flow: Generator[Any, Any, Any], clock: FakeClock, *answers: object) -> Any:
    """Drive the flow: each look has the next answer, the last one again and again; sleeping moves the clock."""
    left = list(answers)
    outcome: Any = None
    failure: BaseException | None = None
    try:
        while True:
            step = flow.send(outcome) if failure is None else flow.throw(failure)
            outcome = failure = None
            if isinstance(step, Sleep):
                clock.sleep(step.seconds)
                continue
            assert isinstance(step, Get)
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, dict):
                answer = answer.get(step.location)
            if isinstance(answer, BaseException):
                failure = answer
            else:
                outcome = answer
    except StopIteration as stop:
        return stop.value


@pytest.mark.parametrize("location", ["s3://bucket/key", "s3://b/deep/er/key.out"])
def test_a_location_is_a_bucket_and_a_key(location: str) -> None:
    bucket, key = split_location(location)
    assert f"s3://{bucket}/{key}" == location


@pytest.mark.parametrize(
    "location", ["", "bucket/key", "s3://", "s3://bucket", "s3://bucket/", "s3:///key", "https://b/k"]
)
def test_anything_else_is_refused_as_a_location(location: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="s3://bucket/key"):
        split_location(location)


def test_an_output_is_found_at_the_first_look_without_looking_for_a_failure() -> None:
    clock = FakeClock()
    assert run(wait(OUTPUT, FAILURE, None, clock), clock, b"text") == Outcome(True, b"text")
    assert clock.slept == []


def test_an_empty_output_is_an_output() -> None:
    assert run(look(OUTPUT, FAILURE), FakeClock(), b"") == Outcome(True, b"")


def test_a_failure_is_found_where_there_is_no_output() -> None:
    assert run(look(OUTPUT, FAILURE), FakeClock(), {FAILURE: b"why"}) == Outcome(False, b"why")


def test_without_a_failure_location_only_the_output_is_looked_for() -> None:
    assert run(look(OUTPUT, None), FakeClock(), {FAILURE: b"why"}) is None


def test_the_looks_grow_apart_up_to_a_limit() -> None:
    clock = FakeClock()
    absent = [None] * 40
    assert run(wait(OUTPUT, FAILURE, None, clock), clock, *absent, b"late") == Outcome(True, b"late")
    assert clock.slept[0] == FIRST_DELAY
    assert clock.slept == sorted(clock.slept)
    assert clock.slept[-1] == LONGEST_DELAY
    assert len(clock.slept) == 20


def test_chance_halves_a_pause_at_most() -> None:
    clock = FakeClock(chance=0.0)
    run(wait(OUTPUT, None, None, clock), clock, None, b"late")
    assert clock.slept == [FIRST_DELAY / 2]


def test_when_the_time_is_over_there_is_a_last_look_and_then_an_error() -> None:
    clock = FakeClock()
    with pytest.raises(errors.DeadlineExceededError, match=r"no answer after 2 s.*called again"):
        run(wait(OUTPUT, FAILURE, 2, clock), clock, None)
    assert clock.passed == pytest.approx(2)


def test_an_output_that_comes_with_the_last_look_counts() -> None:
    clock = FakeClock()
    assert run(wait(OUTPUT, None, 0.25, clock), clock, None, b"just") == Outcome(True, b"just")
    assert clock.slept == [0.25]


def test_with_no_time_at_all_there_is_one_look() -> None:
    clock = FakeClock()
    with pytest.raises(errors.DeadlineExceededError):
        run(wait(OUTPUT, FAILURE, 0, clock), clock, None)
    assert clock.slept == []


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "1", True])
def test_a_timeout_that_is_not_a_duration_is_refused(timeout: Any) -> None:
    clock = FakeClock()
    with pytest.raises(errors.ConfigurationError, match="timeout"):
        run(wait(OUTPUT, None, timeout, clock), clock, None)


def test_without_a_timeout_denied_access_is_an_error_at_once_that_says_what_to_allow() -> None:
    clock = FakeClock()
    with pytest.raises(errors.AccessDeniedError, match="s3:ListBucket"):
        run(wait(OUTPUT, FAILURE, None, clock), clock, denied())
    assert clock.slept == []


def test_with_a_timeout_denied_access_may_mean_not_yet() -> None:
    clock = FakeClock()
    answers = [denied(), denied(), denied(), denied(), b"text"]
    assert run(wait(OUTPUT, FAILURE, 60, clock), clock, *answers) == Outcome(True, b"text")


def test_denied_access_is_the_error_when_the_time_is_over() -> None:
    clock = FakeClock()
    answers = [denied() for _ in range(100)]
    with pytest.raises(errors.AccessDeniedError, match="pass a timeout to result"):
        run(wait(OUTPUT, None, 5, clock), clock, *answers)
    assert clock.passed == pytest.approx(5)


def test_a_failure_counts_though_the_output_may_not_be_read() -> None:
    assert run(look(OUTPUT, FAILURE), FakeClock(), {OUTPUT: denied(), FAILURE: b"why"}) == Outcome(False, b"why")


def test_a_single_look_raises_denied_access() -> None:
    with pytest.raises(errors.AccessDeniedError):
        run(look(OUTPUT, FAILURE), FakeClock(), {FAILURE: denied()})


@pytest.mark.parametrize(
    "error", [denied("ExpiredToken"), errors.ConnectError("no"), errors.ServiceError(404, "NoSuchBucket")]
)
def test_any_other_error_ends_the_wait(error: errors.EndpointError) -> None:
    clock = FakeClock()
    with pytest.raises(type(error)) as caught:
        run(wait(OUTPUT, FAILURE, 60, clock), clock, error)
    assert caught.value is error
    assert clock.slept == []


@given(
    timeout=st.floats(0, 10_000),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_a_wait_takes_as_long_as_it_was_given_and_no_longer(timeout: float, chance: float) -> None:
    clock = FakeClock(chance=chance)
    with pytest.raises(errors.DeadlineExceededError):
        run(wait(OUTPUT, FAILURE, timeout, clock), clock, None)
    assert clock.passed == pytest.approx(timeout)
    assert all(0 < pause <= LONGEST_DELAY for pause in clock.slept)
