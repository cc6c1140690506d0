"""Timeouts, and the clock: the source of time, waiting and random numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from smendpoint._core.frozen import Frozen
from smendpoint.errors import ConfigurationError, DeadlineExceededError

if TYPE_CHECKING:
    from threading import Event
    from typing import Any


def check_number(name: str, value: Any, *, least: float, above: bool = False) -> float:
    """Return `value` as a float. Raise a `ConfigurationError` if it is not a number, not finite, or too small."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigurationError(f"{name} must be a finite number, not {value!r}")
    if value < least or (above and value == least):
        raise ConfigurationError(f"{name} must be {'above' if above else 'at least'} {least:g}, not {value!r}")
    return float(value)


class Timeout(Frozen):
    """How long the phases of a call may take, in seconds.

    Args:
        connect: the limit for one connection: name lookup, TCP, proxy and TLS together.
        read: the limit for silence: the longest wait for the next byte of an answer. The service itself gives a model
            60 s, so with the default of 70 s the service's own error arrives first.
        total: the limit for the whole call: loading credentials, queueing for a connection, connecting, every attempt
            and the waits between them, and the body or the whole stream. `None` for no limit.

    Raises:
        ConfigurationError: a value is not a finite number above 0.
    """

    __slots__ = _fields = ("connect", "read", "total")

    connect: float
    read: float
    total: float | None

    def __init__(self, connect: float = 10.0, read: float = 70.0, total: float | None = None) -> None:
        self._assign(
            check_number("timeout.connect", connect, least=0.0, above=True),
            check_number("timeout.read", read, least=0.0, above=True),
            None if total is None else check_number("timeout.total", total, least=0.0, above=True),
        )

    def __repr__(self) -> str:
        return f"Timeout(connect={self.connect:g}, read={self.read:g}, total={self.total!r})"

    @classmethod
    def of(cls, value: float | Timeout) -> Timeout:
        """Return a `Timeout` unchanged; for a number, return one with that limit for connecting and for silence."""
        if isinstance(value, Timeout):
            return value
        seconds = check_number("timeout", value, least=0.0, above=True)
        return cls(connect=seconds, read=seconds)


def deadline_exceeded(timeout: Timeout, *, request_sent: bool = True, answered: bool = False) -> DeadlineExceededError:
    """Make the error for a call that took more than `timeout.total`.

    Args:
        timeout: the timeout of the call.
        request_sent: whether any byte of the last attempt may have reached the service.
        answered: whether the service had refused that attempt: then the model is not running.
    """
    state = "nothing was sent" if not request_sent else "the model may still be running"
    state = "the service had refused it so far" if answered else state
    return DeadlineExceededError(
        f"the call took more than its total of {timeout.total:g} s; {state}. "
        "Raise Timeout.total, or ask for less in one call",
        request_sent=request_sent,
    )


class Clock(Protocol):
    """The source of time, waiting and random numbers for an endpoint. Tests pass their own, and never wait."""

    def time(self) -> float:
        """Return the seconds since the epoch, for signatures."""
        ...

    def monotonic(self) -> float:
        """Return the seconds since some fixed moment, for durations and deadlines."""
        ...

    def random(self) -> float:
        """Return a number in [0, 1), for the jitter of a retry's delay."""
        ...

    def sleep(self, seconds: float, wake: Event | None = None) -> None:
        """Block for `seconds`, or until `wake` is set: `Endpoint` waits with this."""
        ...

    async def sleep_async(self, seconds: float) -> None:
        """Suspend for `seconds`: `AsyncEndpoint` waits with this."""
        ...
