"""Time: the real clock, the time limits of one attempt, and a way to stop a blocking call from another thread."""

from __future__ import annotations

import time as _time
from _thread import TIMEOUT_MAX, allocate_lock  # for a quick cold start: see `_core`
from contextlib import suppress
from typing import TYPE_CHECKING

from smendpoint import errors
from smendpoint._core.call.timing import deadline_exceeded

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event
    from typing import Any

    from smendpoint._core.call.timing import Clock, Timeout
    from smendpoint._transport.address import Address


class SystemClock:
    """Time, waiting and random numbers from the operating system. See `smendpoint.Clock`."""

    __slots__ = ()

    time = staticmethod(_time.time)
    monotonic = staticmethod(_time.monotonic)

    def random(self) -> float:
        """A number in [0, 1)."""
        from random import random  # only retries need random numbers

        return random()

    def sleep(self, seconds: float, wake: Event | None = None) -> None:
        """Block for `seconds`, or until `wake` is set."""
        if wake is None:
            _time.sleep(seconds)
        else:
            wake.wait(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Suspend for `seconds`."""
        import asyncio

        await asyncio.sleep(seconds)

    def __reduce__(self) -> str:
        return "SYSTEM_CLOCK"


SYSTEM_CLOCK = SystemClock()


class Cancelled(BaseException):
    """A blocking call was stopped from another thread. Users never see it: nothing waits for the result any more."""


class Wake:
    """A `threading.Event` for one waiter. In a real one, an interrupt may leave its lock locked forever."""

    __slots__ = ("_cleared",)

    def __init__(self) -> None:
        self._cleared = allocate_lock()  # locked unless it is set
        self._cleared.acquire()

    def is_set(self) -> bool:
        """Whether `set` was called, and `clear` was not called since."""
        return not self._cleared.locked()

    def set(self) -> None:
        """Wake the waiter."""
        with suppress(RuntimeError):  # it was set
            self._cleared.release()

    def clear(self) -> None:
        """Make the next `wait` wait."""
        self._cleared.acquire(blocking=False)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most `timeout` seconds; return whether it is."""
        if not self._cleared.acquire(timeout=-1 if timeout is None else min(timeout, TIMEOUT_MAX)):
            return False
        self.set()
        return True


class Cancellation:
    """Stops a blocking call from another thread.

    Attributes:
        stopped: whether `stop` was called.
    """

    __slots__ = ("_abort", "_lock", "stopped")

    def __init__(self) -> None:
        self.stopped = False
        self._lock = allocate_lock()
        self._abort: Callable[[], object] | None = None

    def enter(self, abort: Callable[[], object]) -> None:
        """Let `stop` call `abort`, which ends the wait that follows and does not block.

        Raises:
            Cancelled: the call was stopped before.
        """
        with self._lock:
            self.check()
            self._abort = abort

    def leave(self) -> None:
        """Keep `stop` from calling the function that `enter` was given."""
        with self._lock:
            self._abort = None

    def check(self) -> None:
        """Raise `Cancelled` if the call was stopped."""
        if self.stopped:
            raise Cancelled

    def stop(self) -> None:
        """Stop the call: its wait ends now."""
        with self._lock:
            self.stopped = True
            if self._abort is not None:
                self._abort()

    def sleep(self, clock: Clock, seconds: float) -> None:
        """Sleep by the clock, or until the call is stopped."""
        wake: Any = Wake()  # instead of an `Event`
        self.enter(wake.set)
        try:
            clock.sleep(seconds, wake)
        finally:
            self.leave()


class Deadline:
    """How long one attempt may still wait, for the next byte and in total, and whether it was cancelled.

    Args:
        timeout: the limits set by the caller.
        at: when the whole call must be over; `None` for no limit.
        monotonic: the clock of `at`.
        cancellation: may stop the call from another thread.
    """

    __slots__ = ("_monotonic", "at", "cancellation", "timeout")

    def __init__(
        self,
        timeout: Timeout,
        at: float | None,
        monotonic: Callable[[], float],
        cancellation: Cancellation | None = None,
    ) -> None:
        self.timeout = timeout
        self.at = at
        self._monotonic = monotonic
        self.cancellation = cancellation

    def enter(self, abort: Callable[[], object]) -> None:
        """See `Cancellation.enter`."""
        if self.cancellation is not None:
            self.cancellation.enter(abort)

    def leave(self) -> None:
        """See `Cancellation.leave`. Leave before closing: `stop` must not shut down a reused descriptor."""
        if self.cancellation is not None:
            self.cancellation.leave()

    def within(self, seconds: float, *, request_sent: bool = True) -> float:
        """The smaller of `seconds` and the rest of the total.

        Raises:
            DeadlineExceededError: nothing is left.
        """
        if self.at is None:
            return seconds
        left = self.at - self._monotonic()
        if left <= 0.0:
            raise deadline_exceeded(self.timeout, request_sent=request_sent)
        return min(seconds, left)

    def queueing(self) -> float | None:
        """How many seconds the call may wait for a free connection; `None` for no limit.

        Raises:
            Cancelled: the call was stopped.
            DeadlineExceededError: nothing is left.
        """
        if self.cancellation is not None:
            self.cancellation.check()
        return None if self.at is None else self.within(float("inf"), request_sent=False)

    def connect_by(self) -> float:
        """The moment by which a connection must be ready, on the clock of `left`."""
        return self._monotonic() + self.within(self.timeout.connect, request_sent=False)

    def remaining(self) -> float:
        """The rest of the total in seconds; infinite without a limit."""
        return float("inf") if self.at is None else self.at - self._monotonic()

    def left(self, moment: float) -> float:
        """The seconds until `moment`; raises `TimeoutError` if it has passed."""
        seconds = moment - self._monotonic()
        if seconds <= 0.0:
            raise TimeoutError
        return seconds

    @property
    def over(self) -> bool:
        """Whether nothing is left of the total."""
        return self.at is not None and self._monotonic() >= self.at

    def silence(self, *, response_started: bool, sending: bool = False) -> errors.TransportError:
        """The error for a wait in vain: for bytes, or, while `sending`, for the peer to read the request."""
        if self.over:
            return deadline_exceeded(self.timeout)
        seconds = f"{self.timeout.read:g} s"
        return errors.ReadTimeoutError(
            f"the service read nothing more of the request for {seconds}, and does not have all of it. "
            "Raise Timeout.read, or send less at a time"
            if sending
            else f"nothing arrived for {seconds}; the model may still be running. "
            "Raise Timeout.read, or ask the model for less",
            response_started=response_started,
        )

    def no_connection(self, address: Address) -> errors.TransportError:
        """The error for a connection that was not made in time."""
        if self.over:
            return deadline_exceeded(self.timeout, request_sent=False)
        return errors.ConnectError(
            f"no connection to {address.peer} within {self.timeout.connect:g} s. {address.advice}, or raise "
            "Timeout.connect"
        )
