"""Whether, and when, a failed request is sent again.

One question decides: *may the model have run already?* A request that cannot have reached the model is sent again. One
that may have reached it follows the rules of the AWS SDKs' standard retry mode. One that is known to be running, or to
have failed for good, is not repeated, because inference costs money and time.

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
# A longer `Retry-After` ends the call: the caller can decide better than a blocked call.
RETRY_AFTER_MAX_SECONDS = 60.0
# A clock that is further off than this is corrected even if the service only says that the signature is wrong.
SKEW_SECONDS = 240.0


class RetryPolicy(Frozen):
    """When a call is tried again, and after which delay.

    ====================================================  ==================================================
    failure                                               action
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
    ``BadGatewayException``, ``GatewayTimeoutException``  not sent again: the model may have run
    a certificate that is not trusted                     not sent again
    anything after a stream's first byte                  not sent again
    ====================================================  ==================================================

    Delays grow exponentially with full jitter; a quota that all calls of an endpoint share stops retries when most
    of them fail. A wait that the server asks for, in ``x-amz-retry-after`` or ``Retry-After``, is honoured.

    Args:
        max_attempts: the maximum number of requests for one call, including the first; 1 turns retries off. Credential
            refresh, clock correction and cold start are counted separately.
        max_backoff: the longest delay before a retry, in seconds.
        cold_start_timeout: for how many seconds from the call's start a `ModelNotReadyError` leads to another attempt;
            0 turns this off. Each wait is logged to ``smendpoint.call`` at ``INFO``.
        retry_read_timeout: whether a read timeout is tried again. The model may then run twice.
        throttle_timeout: if the number of calls in flight is limited (with ``concurrency=``, and in `Endpoint.map`), a
            call that is refused because of load waits for its turn, which does not count as an attempt. It fails when
            no call to the endpoint has succeeded for this many seconds; `None` for no limit. It waits as long as the
            server asks, but fails at once if that is longer than both a minute and these seconds. A batch that can no
            longer reach the endpoint waits for the same time.

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
        """Return the delay before retry number `retry` (from 1), in seconds, for a `random` number in [0, 1]."""
        base = TRANSIENT_BASE_SECONDS if kind == "transient" else THROTTLING_BASE_SECONDS
        # The exponent is limited so that a long cold start cannot overflow a float.
        return random * min(base * 2.0 ** min(retry - 1, 30), self.max_backoff)


class RetryQuota:
    """A token bucket that all calls of one endpoint share, so that retries stop when most calls fail.

    The caller passes `lock`: the core itself does no threading.
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
        """Take `cost`; return `False` if less is left."""
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
# final. A test compares docs/reference/errors.md, and the table of `RetryPolicy`, with this.
VERDICTS: Mapping[type[errors.ServiceError] | str | int, Kind] = {
    errors.ModelNotReadyError: "cold_start",
    errors.ThrottlingError: "throttling",
    errors.ModelError: "final",
    **dict.fromkeys(EXPIRED_TOKEN_CODES, "expired"),
    **dict.fromkeys(CLOCK_SKEW_CODES, "skew"),
    # The service gave up waiting for the rest of the request; the status that comes with these is 400 or 408.
    "RequestTimeout": "transient",
    "RequestTimeoutException": "transient",
    # A gateway had passed the request on, and may have tried two of its targets: the model may have run, or still runs.
    "BadGatewayException": "final",
    "GatewayTimeoutException": "final",
    500: "transient",
    502: "transient",
    503: "transient",
    504: "transient",
}


# The cost of a retry. Waiting for a cold start costs nothing.
COSTS: Mapping[Kind, int] = {"transient": TRANSIENT_COST, "throttling": THROTTLING_COST}


def classify(error: errors.EndpointError, *, retry_read_timeout: bool = False) -> Kind:
    """Return what `error` means for retrying."""
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
        seconds: the wait before the next attempt; ``None`` if there is none.
        cost: what the failure takes from the quota. A failure that would be retried takes it even if the wait would be
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
    """Decide how a call continues after a failed attempt.

    Args:
        failure: the failure of the attempt.
        policy: the policy of the endpoint.
        earlier: the decisions after the call's earlier attempts, in order.
        headers: the headers of the attempt's answer; empty if there was none.
        signed: whether the attempt was signed.
        now: our time, in seconds since the epoch.
        skew: how far the signature assumed the service's clock to be ahead of ours, in seconds.
        elapsed: seconds since the call began.
        left: seconds until the call's deadline; ``None`` if it has none.
        random: a number in [0, 1], for the delay.
    """
    kind = classify(failure, retry_read_timeout=policy.retry_read_timeout)
    decision = Decision("final")
    if kind == "expired":
        if signed and all(other.action != "refresh" for other in earlier):
            decision = Decision("refresh", 0.0)
    elif kind == "skew":
        other_skew = clock_skew(headers, now, skew)
        first = signed and all(other.action != "correct" for other in earlier)
        if first and other_skew is not None:
            decision = Decision("correct", 0.0, skew=other_skew)
    elif kind != "final":
        # A cold start has its own time budget; anything else is limited by the attempts of the policy.
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


def clock_skew(headers: Mapping[str, str], now: float, skew: float) -> float | None:
    """Return how far the service's clock is ahead of ours, if a wrong clock explains that it refused a signature.

    Args:
        headers: the headers of the answer.
        now: our time, in seconds since the epoch.
        skew: as in `decide`.
    """
    date = server_date(headers)
    # If the clocks agree, something else is wrong with the signature.
    return None if date is None or abs(date - now - skew) < SKEW_SECONDS else date - now


def refund(earlier: Sequence[Decision]) -> int:
    """Return the amount that a success gives back to the quota: the cost of its last retry, or else a little."""
    return next((decision.cost for decision in reversed(earlier) if decision.cost), NO_RETRY_INCREMENT)


def honour_retry_after(
    delay: float, error: errors.EndpointError, headers: Mapping[str, str], most: float | None = RETRY_AFTER_MAX_SECONDS
) -> float | None:
    """Extend `delay` to the wait that the server asked for; `None` if that is longer than `most`, in seconds."""
    asked = error.retry_after if isinstance(error, errors.ServiceError) else None
    if asked is None or asked <= delay:
        return delay
    if "x-amz-retry-after" in headers:
        return min(asked, delay + RETRY_AFTER_MAX_ADDITIONAL_SECONDS)
    return asked if most is None or asked <= most else None
