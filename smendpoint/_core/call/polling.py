"""Polling for the answer of asynchronous inference, as a generator that does no I/O.

SageMaker writes the answer, or its failure, to an object in Amazon S3. Nothing reports its arrival.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from smendpoint import errors
from smendpoint._core.call.flow import Sleep
from smendpoint._core.call.timing import check_number

if TYPE_CHECKING:
    from collections.abc import Generator

    from smendpoint._core.call.timing import Clock

# Seconds between two checks. They grow: a quick answer is found soon, and a slow one takes few requests.
FIRST_DELAY = 0.5
LONGEST_DELAY = 15.0
GROWTH = 1.5

_HINT = (
    "without the permission s3:ListBucket, S3 also answers like this for an object that does not exist yet. Allow "
    "s3:ListBucket on the bucket, or pass a timeout to result(): it then keeps checking until the timeout"
)


class Get(NamedTuple):
    """Get the object at `location`: its bytes, or `None` if there is none."""

    location: str


class Outcome(NamedTuple):
    """The object that was found: the model's answer, or the service's report of its failure."""

    ok: bool
    body: bytes


def split_location(location: str) -> tuple[str, str]:
    """Return the bucket and key of ``s3://bucket/key``.

    Raises:
        ConfigurationError: it is not such a location.
    """
    scheme, _, rest = location.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket or not key:
        raise errors.ConfigurationError(f"a location in Amazon S3 must be 's3://bucket/key', not {location[:80]!r}")
    return bucket, key


def look(output: str, failure: str | None) -> Generator[Get | Sleep, bytes | None, Outcome | None]:
    """Check once for the answer, then for the failure. Return `None` if neither exists.

    Raises:
        AccessDeniedError: reading an object is not allowed, which may only mean that it does not exist yet.
    """
    denied: errors.AccessDeniedError | None = None
    for location in filter(None, (output, failure)):
        try:
            body = yield Get(location)
        except errors.AccessDeniedError as error:
            if error.code != "AccessDenied":  # such as an expired token: waiting does not help
                raise
            denied = error
        else:
            if body is not None:
                return Outcome(location is output, body)
    if denied is not None:
        denied.message = f"{denied.message} | Hint: {_HINT}"
        raise denied
    return None


def wait(
    output: str, failure: str | None, timeout: float | None, clock: Clock
) -> Generator[Get | Sleep, bytes | None, Outcome]:
    """Check until the answer or the failure exists.

    Args:
        output: where the answer will be.
        failure: where the failure will be; `None` if that is not known.
        timeout: seconds; 0 checks once; `None` for no limit.
        clock: the source of time and random numbers.

    Raises:
        DeadlineExceededError: neither existed in time.
        AccessDeniedError: neither existed in time, or there is no timeout, and S3 does not tell whether one exists.
        ConfigurationError: `timeout` is not a finite number of at least 0.
    """
    deadline = None if timeout is None else clock.monotonic() + check_number("timeout", timeout, least=0.0)
    delay = FIRST_DELAY
    while True:
        denied: errors.AccessDeniedError | None = None
        try:
            found = yield from look(output, failure)
            if found is not None:
                return found
        except errors.AccessDeniedError as error:
            if deadline is None or error.code != "AccessDenied":
                raise
            denied = error
        pause = delay * (0.5 + clock.random() / 2)
        if deadline is not None:
            left = deadline - clock.monotonic()
            if left <= 0.0:
                raise denied or errors.DeadlineExceededError(
                    f"no answer after {timeout:g} s; the model may still be running, and result() may be called again"
                )
            pause = min(pause, left)
        yield Sleep(pause)
        delay = min(delay * GROWTH, LONGEST_DELAY)
