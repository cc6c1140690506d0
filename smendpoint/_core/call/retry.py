"""Whether, and when, a failed request is sent again.

One question decides: *may the model have run already?* A request that cannot have reached the model is sent again; one
that may have reached it follows the rules of the AWS SDKs' standard retry mode; one that is known to be running, or to
have failed for good, is not repeated: inference costs money and time.

The numbers are those of the AWS SDKs' standard mode as revised in 2026 (botocore, ``retries/standard.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint import errors
from smendpoint._core.aws.response import CLOCK_SKEW_CODES, EXPIRED_TOKEN_CODES, server_date
from smendpoint._core.call.timing import check_number
from smendpoint._core.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from threading import Lock
    from typing import Literal, TypeAlias

    Kind: TypeAlias = Literal["transient", "throttling", "cold_start", "expired", "skew", "final"]
    Action: TypeAlias = Literal["wait", "refresh", "correct", "late", "final"]

THROTTLING_BASE_SECONDS = 1.0
TRANSIENT_BASE_SECONDS = 0.05
QUOTA_CAPACITY = 500
THROTTLING_COST = 5
TRANSIENT_COST = 14
NO_RETRY_INCREMENT = 1
# How far `x-amz-retry-after` may stretch our own delay.
RETRY_AFTER_MAX_ADDITIONAL_SECONDS = 5.0
# A longer `Retry-After` ends the call: its caller can wait better than a blocked call.
RETRY_AFTER_MAX_SECONDS = 60.0
# A clock that is further off than this is corrected even where the service only says that the signature is wrong.
SKEW_SECONDS = 240.0


class RetryPolicy(Frozen):
    """When a call is tried again, and how long it waits before.

    ====================================================  ==================================================
    what happened                                         what is done
    ====================================================  ==================================================
    no connection                                         sent again: nothing had been sent
    throttled (429, or 400 ``ThrottlingException``)       sent again, first delay up to 1 s
    500, 502, 503, 504; reset before any response byte    sent again, first delay up to 0.05 s
    the request did not arrive (``RequestTimeout``)       sent again, first delay up to 0.05 s
    ``ModelNotReadyException``, or scaled to zero         sent again until ``cold_start_timeout`` has passed
    expired session token                                 credentials are refreshed, sent again once
    clock skew                                            the server's clock is tried, sent again once
    read timeout                                          not sent again: the model is still running
    424, 530, any other 4xx, a broken response            not sent again
    a certificate that is not trusted                     not sent again
    anything after a stream's first byte                  not sent again
    ====================================================  ==================================================

    Delays grow exponentially with full jitter; a quota that all calls of an endpoint share stops retries when most
    of them fail. A wait that the server asks for, in ``x-amz-retry-after`` or ``Retry-After``, is honoured.

    Args:
        max_attempts: requests in all for one call, the first included; 1 switches retries off. Credential refresh,
            clock correction and cold start are counted apart.
        max_backoff: the longest delay before a retry, in seconds.
        cold_start_timeout: how long, in seconds from the call's start, a `ModelNotReadyError` is answered with another
            attempt; 0 switches that off. Each wait is logged under ``smendpoint.call`` at ``INFO``.
        retry_read_timeout: whether a read timeout is tried again. The model may then run twice.
        throttle_timeout: where the number of calls in flight is limited (``concurrency=``, and in `Endpoint.map`), a
            call that is refused because of load waits for its turn, without costing an attempt. It fails when no call
            of the endpoint has succeeded for so many seconds; `None` for any time. It waits as long as the server asks,
            and fails at once where that is longer than a minute and than these seconds. A batch that cannot reach the
            endpoint any more waits as long.

    Raises:
        ConfigurationError: a value is out of range.
    """

    __slots__ = _fields = (
        "max_attempts",
        "max_backoff",
        "cold_start_timeout",
        "retry_read_timeout",
        "throttle_timeout",
    )

    max_attempts: int
    max_backoff: float
    cold_start_timeout: float
    retry_read_timeout: bool
    throttle_timeout: float | None

    def __init__(
        self,
        *,
        max_attempts: int = 3,
        max_backoff: float = 20.0,
        cold_start_timeout: float = 300.0,
        retry_read_timeout: bool = False,
        throttle_timeout: float | None = 300.0,
    ) -> None:
        if isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1:
            raise errors.ConfigurationError(f"max_attempts must be a whole number of at least 1, not {max_attempts!r}")
        self._assign(
            max_attempts,
            check_number("max_backoff", max_backoff, least=0.0),
            check_number("cold_start_timeout", cold_start_timeout, least=0.0),
            bool(retry_read_timeout),
            None if throttle_timeout is None else check_number("throttle_timeout", throttle_timeout, least=0.0),
        )

    def __repr__(self) -> str:
        return f"RetryPolicy({', '.join([f'{name}={getattr(self, name)!r}' for name in sorted(self._fields)])})"

    def backoff(self, kind: str, retry: int, random: float) -> float:
        """Give the delay before retry number `retry` (from 1), in seconds, for a `random` number in [0, 1]."""
        base = TRANSIENT_BASE_SECONDS if kind == "transient" else THROTTLING_BASE_SECONDS
        # The exponent is capped so that a long cold start cannot overflow a float.
        return random * min(base * 2.0 ** min(retry - 1, 30), self.max_backoff)


class RetryQuota:
    """A token bucket that all calls of one endpoint share, so that retries stop when most calls fail.

    `lock` is injected: the core does no threading of its own.
    """

    __slots__ = ("_available", "_lock")

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._available = QUOTA_CAPACITY

    @property
    def available(self) -> int:
        """The part of `QUOTA_CAPACITY` that is left."""
        return self._available

    def acquire(self, cost: int) -> bool:
        """Take `cost`; `False` where less is left."""
        with self._lock:
            if cost > self._available:
                return False
            self._available -= cost
            return True

    def release(self, amount: int) -> None:
        """Give back the amount that a successful call had taken."""
        if self._available < QUOTA_CAPACITY:
            with self._lock:
                self._available = min(self._available + amount, QUOTA_CAPACITY)


# The meaning of a service error for retrying: by its class, else by its code, else by its status; anything else is
# final. A test holds docs/reference/errors.md, and the table of `RetryPolicy`, against this.
VERDICTS: Mapping[type[errors.ServiceError] | str | int, Kind] = {
    errors.ModelNotReadyError: "cold_start",
    errors.ThrottlingError: "throttling",
    errors.ModelError: "final",
    **dict.fromkeys(EXPIRED_TOKEN_CODES, "expired"),
    **dict.fromkeys(CLOCK_SKEW_CODES, "skew"),
    # The service gave up waiting for the rest of the request; the status that comes with these is 400 or 408.
    "RequestTimeout": "transient",
    "RequestTimeoutException": "transient",
    500: "transient",
    502: "transient",
    503: "transient",
    504: "transient",
}


# The cost of a retry. Waiting for a cold start costs nothing.
COSTS: Mapping[Kind, int] = {"transient": TRANSIENT_COST, "throttling": THROTTLING_COST}


def classify(error: errors.EndpointError, *, retry_read_timeout: bool = False) -> Kind:
    """Say what `error` means for retrying."""
    if isinstance(error, errors.ServiceError):
        for key in (type(error), error.code, error.status):
            if key in VERDICTS:
                return VERDICTS[key]
        return "final"
    if not isinstance(error, errors.TransportError) or error.response_started:
        return "final"
    if isinstance(error, errors.ReadTimeoutError):
        return "transient" if retry_read_timeout else "final"
    final = isinstance(error, (errors.DeadlineExceededError, errors.ProtocolError, errors.TLSError))
    return "final" if final else "transient"


class Decision:
    """The next step of a call after a failed attempt.

    Attributes:
        action: ``"wait"``, ``"refresh"`` (load other credentials) or ``"correct"`` (sign with the service's time), and
            send the request again; ``"late"``: raise `DeadlineExceededError`, because the deadline would pass before
            that; ``"final"``: raise the failure.
        seconds: how long it waits before the next attempt; ``None`` where there is none.
        cost: what the failure takes from the quota. One that would be repeated takes it even where the wait would be
            too long: the quota counts how often calls fail.
        skew: for a correction: how far the service's clock is ahead of ours, in seconds.
    """

    __slots__ = ("action", "cost", "seconds", "skew")

    def __init__(self, action: Action, seconds: float | None = None, cost: int = 0, skew: float = 0.0) -> None:
        self.action = action
        self.seconds = seconds
        self.cost = cost
        self.skew = skew


def decide(
    failure: errors.EndpointError,
    policy: RetryPolicy,
    earlier: Sequence[Decision],
    *,
    headers: Mapping[str, str],
    signed: bool,
    now: float,
    skew: float,
    elapsed: float,
    left: float | None,
    random: float,
) -> Decision:
    """Decide how a call goes on after a failed attempt.

    Args:
        failure: of the attempt.
        policy: the endpoint's.
        earlier: the decisions after the call's earlier attempts, in order.
        headers: of the attempt's answer; empty where there was none.
        signed: whether the attempt was signed.
        now: our time, in seconds since the epoch.
        skew: how far ahead of ours the signature took the service's clock to be, in seconds.
        elapsed: seconds since the call began.
        left: seconds until the call's deadline; ``None`` where it has none.
        random: a number in [0, 1], for the delay.
    """
    kind = classify(failure, retry_read_timeout=policy.retry_read_timeout)
    decision = Decision("final")
    if kind == "expired":
        if signed and all(other.action != "refresh" for other in earlier):
            decision = Decision("refresh", 0.0)
    elif kind == "skew":
        date = server_date(headers)
        # Where the clocks agree, something else is wrong with the signature.
        first = signed and all(other.action != "correct" for other in earlier)
        if first and date is not None and abs(date - now - skew) >= SKEW_SECONDS:
            decision = Decision("correct", 0.0, skew=date - now)
    elif kind != "final":
        # A cold start is waited for within its own budget, anything else within the attempts of the policy.
        cost = COSTS.get(kind, 0)
        retry = 1 + sum(other.action == "wait" and bool(other.cost) == bool(cost) for other in earlier)
        if not cost or retry < policy.max_attempts:
            seconds = honour_retry_after(policy.backoff(kind, retry, random), failure, headers)
            if seconds is None or (not cost and elapsed + seconds > policy.cold_start_timeout):
                decision = Decision("final", cost=cost)
            else:
                decision = Decision("wait", seconds, cost)
    if decision.seconds is not None and left is not None and decision.seconds >= left:
        return Decision("late", cost=decision.cost)
    return decision


def refund(earlier: Sequence[Decision]) -> int:
    """Give the amount that a success gives back to the quota: the cost of its last retry, or a little without one."""
    return next((decision.cost for decision in reversed(earlier) if decision.cost), NO_RETRY_INCREMENT)


def honour_retry_after(
    delay: float, error: errors.EndpointError, headers: Mapping[str, str], most: float | None = RETRY_AFTER_MAX_SECONDS
) -> float | None:
    """Stretch `delay` to the wait that the server asked for; `None` where that is longer than `most`, in seconds."""
    asked = error.retry_after if isinstance(error, errors.ServiceError) else None
    if asked is None or asked <= delay:
        return delay
    if "x-amz-retry-after" in headers:
        return min(asked, delay + RETRY_AFTER_MAX_ADDITIONAL_SECONDS)
    return asked if most is None or asked <= most else None
