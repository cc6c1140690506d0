"""The retry policy, its numbers and its quota."""

from __future__ import annotations

import json
import re
import threading
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from vectors import require_vectors

from smendpoint import errors
from smendpoint._core.aws.response import RawResponse, service_error
from smendpoint._core.call import retry
from smendpoint._core.call.retry import Decision, RetryPolicy, RetryQuota, classify, decide, honour_retry_after

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "errors.md"
NOW = 1_700_000_000.0


def refused(status: int, code: str = "") -> errors.ServiceError:
    return service_error(RawResponse(status, {"x-amzn-errortype": code}, b""))


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
    for case in numbers["retry_after"]:
        headers = {"x-amz-retry-after": case["header"]}
        error = service_error(RawResponse(case["status"], headers, b""))
        delay = RetryPolicy().backoff(classify(error), case["attempt"], case["random"])
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


def test_a_policy_shows_its_values() -> None:
    assert repr(RetryPolicy(max_attempts=5, retry_read_timeout=True)) == (
        "RetryPolicy(cold_start_timeout=300.0, max_attempts=5, max_backoff=20.0, retry_read_timeout=True, "
        "throttle_timeout=300.0)"
    )


def test_errors_without_a_request_or_response_are_final() -> None:
    assert classify(errors.StreamTruncatedError("cut")) == "final"


def test_an_unknown_status_is_final() -> None:
    assert classify(errors.ServiceError(418)) == "final"


def wait(seconds: float, cost: int = 0) -> Decision:
    return Decision("wait", seconds, cost)


def correct(skew: float) -> Decision:
    return Decision("correct", 0.0, skew=skew)


REFRESH = Decision("refresh", 0.0)
FINAL = Decision("final")
NOT_READY = refused(429, "ModelNotReadyException")
EXPIRED = refused(403, "ExpiredTokenException")
SKEWED = refused(403, "RequestTimeTooSkewed")
AHEAD = {"date": formatdate(NOW + 3600, usegmt=True)}
READ_TIMEOUT = errors.ReadTimeoutError("silence")
STREAMED = errors.TransportError("cut", response_started=True)


@pytest.mark.parametrize(
    ("failure", "earlier", "options", "expected"),
    [
        # Failures that are retried, and when.
        (errors.ConnectError("refused"), [], {}, wait(0.05, 14)),
        (errors.TransportError("reset"), [], {}, wait(0.05, 14)),
        (refused(503), [], {}, wait(0.05, 14)),
        (refused(503), [wait(0.05, 14)], {}, wait(0.1, 14)),
        (refused(503), [wait(0.05, 14)] * 2, {}, FINAL),
        (refused(429), [], {}, wait(1.0, 5)),
        (refused(429), [], {"random": 0.25}, wait(0.25, 5)),
        (refused(400, "RequestTimeoutException"), [], {}, wait(0.05, 14)),
        (refused(503), [], {"max_attempts": 1}, FINAL),
        # Neither of these counts as an attempt.
        (refused(503), [REFRESH, correct(9.0), *[wait(1.0)] * 9], {}, wait(0.05, 14)),
        # Cold starts have a budget instead.
        (NOT_READY, [], {}, wait(1.0)),
        (NOT_READY, [wait(1.0), wait(0.05, 14)], {}, wait(2.0)),
        (NOT_READY, [], {"elapsed": 299.0}, wait(1.0)),
        (NOT_READY, [], {"elapsed": 299.5}, FINAL),
        (NOT_READY, [], {"cold_start_timeout": 0}, FINAL),
        # One refresh, one correction.
        (EXPIRED, [], {}, REFRESH),
        (EXPIRED, [correct(9.0), wait(0.05, 14)], {}, REFRESH),
        (EXPIRED, [REFRESH], {}, FINAL),
        (EXPIRED, [], {"signed": False}, FINAL),
        (SKEWED, [], {"headers": AHEAD}, correct(3600.0)),
        (SKEWED, [REFRESH], {"headers": AHEAD}, correct(3600.0)),
        (SKEWED, [correct(9.0)], {"headers": AHEAD}, FINAL),
        (SKEWED, [], {"headers": AHEAD, "signed": False}, FINAL),
        (SKEWED, [], {"headers": AHEAD, "skew": 3500.0}, FINAL),
        (SKEWED, [], {"headers": {"date": formatdate(NOW + 10, usegmt=True)}}, FINAL),
        (SKEWED, [], {}, FINAL),
        # A wait that the service asks for.
        (service_error(RawResponse(503, {"retry-after": "30"}, b"")), [], {}, wait(30.0, 14)),
        (service_error(RawResponse(503, {"retry-after": "61"}, b"")), [], {}, Decision("final", cost=14)),
        # The deadline.
        (refused(429), [], {"left": 1.5}, wait(1.0, 5)),
        (refused(429), [], {"left": 1.0}, Decision("late", cost=5)),
        (EXPIRED, [], {"left": 0.0}, Decision("late")),
        (refused(404), [], {"left": 0.0}, FINAL),
        # Failures that are not sent again, unless the policy asks for it.
        (refused(424, "ModelError"), [], {}, FINAL),
        (refused(400, "ValidationError"), [], {}, FINAL),
        (refused(404), [], {}, FINAL),
        (refused(530, "InternalDependencyException"), [], {}, FINAL),
        (errors.DeadlineExceededError("late"), [], {}, FINAL),
        (errors.ProtocolError("odd", response_started=True), [], {}, FINAL),
        (errors.TLSError("untrusted"), [], {}, FINAL),
        (STREAMED, [], {"retry_read_timeout": True}, FINAL),
        (READ_TIMEOUT, [], {}, FINAL),
        (READ_TIMEOUT, [], {"retry_read_timeout": True}, wait(0.05, 14)),
    ],
)
def test_the_failure_of_an_attempt_and_the_earlier_decisions_decide_how_a_call_goes_on(
    failure: errors.EndpointError, earlier: list[Decision], options: dict[str, Any], expected: Decision
) -> None:
    names = {"max_attempts", "cold_start_timeout", "retry_read_timeout"}
    policy = RetryPolicy(**{name: value for name, value in options.items() if name in names})
    situation = {"headers": {}, "signed": True, "now": NOW, "skew": 0.0, "elapsed": 0.0, "left": None, "random": 1.0}
    situation.update({name: value for name, value in options.items() if name not in names})
    decision = decide(failure, policy, earlier, **situation)
    assert [getattr(decision, name) for name in Decision.__slots__] == [
        getattr(expected, name) for name in Decision.__slots__
    ]


needs_page = pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not here")
# The beginnings of the page's words, and their verdicts.
SAID = {
    "until `RetryPolicy.cold_start_timeout`": "cold_start",
    "yes, first delay up to 1 s": "throttling",
    "yes, first delay up to 0.05 s": "transient",
    "once, with fresh credentials": "expired",
    "once, with the service's time": "skew",
    "no": "final",
}


def table(section: str) -> list[list[str]]:
    """The cells of each row of the table under a heading of the page."""
    text = PAGE.read_text(encoding="utf-8").partition(f"# {section}\n")[2]
    lines = text.partition("\n#")[0].splitlines()
    return [re.split(r" *\| *", line.strip("| ")) for line in lines if line.startswith("|")][2:]


def spelt(key: type | str | int) -> str:
    """A key of the verdicts as the page spells it."""
    return str(key) if isinstance(key, int) else f"`{key if isinstance(key, str) else key.__name__}`"


@needs_page
def test_the_page_of_errors_has_a_row_for_each_verdict_and_no_other() -> None:
    rows = {
        answer: SAID[next(start for start in SAID if said.startswith(start))]
        for answers, said in table("Answers that are retried")
        for answer in answers.split(", ")
    }
    assert rows.pop("anything else") == "final"
    assert rows == {spelt(key): kind for key, kind in retry.VERDICTS.items()}


# Every status, the codes that decide by themselves, and one that a status does not say.
ANSWERS = [refused(status) for status in range(300, 600)]
ANSWERS += [refused(408 if "Timeout" in str(code) else 403, str(code)) for code in retry.VERDICTS]
ANSWERS += [refused(400, "RequestTimeout"), NOT_READY]


@needs_page
@pytest.mark.parametrize("kind", sorted({type(error) for error in ANSWERS}, key=str), ids=lambda kind: kind.__name__)
def test_the_page_of_errors_says_for_each_exception_whether_it_is_sent_again(kind: type[errors.ServiceError]) -> None:
    finals = {classify(error) == "final" for error in ANSWERS if type(error) is kind}
    said = next(again for name, _, again, *_ in table("Errors") if name == f"`{kind.__name__}`")
    if len(finals) == 2:
        assert "(#answers-that-are-retried)" in said
    else:
        assert said.startswith("no") == finals.pop()


def test_the_policys_own_table_has_every_status_that_is_sent_again() -> None:
    row = next(line for line in str(RetryPolicy.__doc__).splitlines() if "500" in line)
    assert {int(status) for status in re.findall(r"\d{3}", row)} == {
        key for key in retry.VERDICTS if isinstance(key, int)
    }
