"""The retry policy, its numbers and its quota."""

from __future__ import annotations

import json
import pickle
import threading
from typing import Any

import pytest
from vectors import require_vectors

from smendpoint import errors
from smendpoint._core import retry
from smendpoint._core.retry import RetryPolicy, RetryQuota, classify, honour_retry_after


@pytest.fixture
def numbers() -> Any:
    return json.loads((require_vectors("aws-retry") / "vectors.json").read_text())["v2_1"]


def test_the_constants_are_those_of_the_current_sdks(numbers: Any) -> None:
    constants = numbers["constants"]
    assert RetryPolicy().max_attempts == constants["max_attempts"]
    assert RetryPolicy().max_backoff == constants["max_backoff_seconds"]
    assert constants["base_seconds_throttling"] == retry.THROTTLING_BASE_SECONDS
    assert constants["base_seconds_transient"] == retry.TRANSIENT_BASE_SECONDS
    assert constants["quota_capacity"] == retry.QUOTA_CAPACITY
    assert constants["retry_cost_transient"] == retry.TRANSIENT_COST
    assert constants["retry_cost_throttling"] == retry.THROTTLING_COST
    assert constants["no_retry_increment"] == retry.NO_RETRY_INCREMENT
    assert constants["retry_after_max_additional_seconds"] == retry.RETRY_AFTER_MAX_ADDITIONAL_SECONDS


def test_backoff_without_luck_is_the_sdks(numbers: Any) -> None:
    delays = [RetryPolicy().backoff("transient", retry, 1.0) for retry in range(1, 12)]
    assert delays == numbers["backoff_random_1_attempts_1_to_11"]


def test_backoff_is_jittered_in_full() -> None:
    assert RetryPolicy().backoff("throttling", 3, 0.25) == 1.0


def test_backoff_of_an_endless_cold_start_stays_a_number() -> None:
    assert RetryPolicy().backoff("cold_start", 100_000, 1.0) == 20.0


def test_retry_after_stretches_delays_as_in_the_sdks(numbers: Any) -> None:
    from smendpoint._core.response import RawResponse, service_error

    for case in numbers["retry_after"]:
        headers = {"x-amz-retry-after": case["header"]}
        error = service_error(RawResponse(case["status"], headers, b""))
        delay = RetryPolicy().backoff(classify(error).kind, case["attempt"], case["random"])
        assert honour_retry_after(delay, error, headers) == pytest.approx(case["delay"])


def test_an_error_of_the_transport_asks_for_no_wait() -> None:
    assert honour_retry_after(0.05, errors.ConnectError("refused"), {}) == 0.05


def test_the_quota_never_goes_below_what_is_left_nor_above_its_capacity() -> None:
    quota = RetryQuota(threading.Lock())
    quota.release(5)
    assert quota.available == 500
    assert quota.acquire(486)
    assert quota.acquire(14)
    assert not quota.acquire(1)
    quota.release(600)
    assert quota.available == 500


@pytest.mark.parametrize(
    "argument",
    [
        {"max_attempts": 0},
        {"max_attempts": True},
        {"max_attempts": 2.0},
        {"max_backoff": -1},
        {"max_backoff": "20"},
        {"cold_start_timeout": float("inf")},
        {"cold_start_timeout": float("nan")},
    ],
    ids=str,
)
def test_a_value_out_of_range_is_refused_by_name(argument: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match=next(iter(argument))):
        RetryPolicy(**argument)


def test_a_policy_is_a_value() -> None:
    policy = RetryPolicy(max_attempts=5, retry_read_timeout=True)
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert hash(policy) == hash(RetryPolicy(max_attempts=5, retry_read_timeout=True))
    assert policy != RetryPolicy()
    assert policy != 5
    assert repr(policy) == (
        "RetryPolicy(cold_start_timeout=300.0, max_attempts=5, max_backoff=20.0, retry_read_timeout=True)"
    )
    with pytest.raises(AttributeError, match="make a new one"):
        policy.max_attempts = 1


def test_errors_without_a_request_or_response_are_final() -> None:
    assert classify(errors.StreamTruncatedError("cut")) == retry.FINAL


def test_an_unknown_status_is_final() -> None:
    assert classify(errors.ServiceError(418)) == retry.FINAL
