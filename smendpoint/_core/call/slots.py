"""A call's slot among the calls in flight: each attempt takes it, and gives it back with its outcome.

An attempt that was refused because of load does not count for the retry policy or its quota: the call queues again,
without the slot.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from smendpoint import errors
from smendpoint._core.aws.response import RawResponse
from smendpoint._core.call.flow import NeedSlot
from smendpoint._core.call.hiding import forget_locals
from smendpoint._core.call.load import outcome_of, refusal_in
from smendpoint._core.call.retry import RETRY_AFTER_MAX_SECONDS, RetryPolicy, honour_retry_after
from smendpoint._core.call.timing import deadline_exceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from smendpoint._core.call.flow import CallState
    from smendpoint._core.call.load import Outcome
    from smendpoint._core.call.timing import Clock

    class Limiter(Protocol):
        """Admits calls: the part of the limiters of `_calls` that a slot uses."""

        clock: Clock
        markers: tuple[str | int, ...]
        """The user's own signs of a refusal."""

        @property
        def limit(self) -> int:
            """How many calls may be in flight at this moment."""
            ...

        @property
        def refused_for(self) -> float:
            """The seconds for which calls have been refused and none has succeeded."""
            ...

        def delay(self) -> float:
            """Return the seconds after which a refused call may try again, if no other call succeeds before that."""
            ...

        def acquire(self, slot: Slot) -> bool:
            """Queue for a slot; return whether it is granted at once."""
            ...

        def release(self, slot: Slot, outcome: Outcome) -> None:
            """Take a slot back, or take it out of the queue."""
            ...


class Slot:
    """One call's place among those in flight.

    Args:
        limiter: the limiter that grants it.
        order: lower for a call that began earlier.

    Attributes:
        asked: whether the call has requested the slot and not given it back.
        held: whether the call has the slot, and so may send.
        queued: whether the call waits for the slot.
        ready_at: before this moment, the call gets the slot only if a successful call gave one back, and `early` is
            true.
        early: whether we chose the moment ourselves. A moment that the server asked for always applies.
        patient: whether an unreachable endpoint counts as one that is not ready: then one call at a time tries, after
            pauses, and the others wait. Otherwise each call tries, and fails on its own.
        since: when the call last got the slot; `None` before the first time.
        on_grant: called in any thread when the call gets the slot; it must not block.
        wake: wakes the waiter; `None` if nothing waits.
    """

    __slots__ = (
        "_refusal",
        "_took",
        "asked",
        "early",
        "held",
        "limiter",
        "on_grant",
        "order",
        "patient",
        "queued",
        "ready_at",
        "since",
        "wake",
    )

    def __init__(self, limiter: Limiter, order: int) -> None:
        self.limiter = limiter
        self.order = order
        self.asked = False
        self.held = False
        self.queued = False
        self.ready_at = -math.inf
        self.early = True
        self.patient = False
        self.since: float | None = None
        self.on_grant: Callable[[], object] | None = None
        self.wake: Callable[[], object] | None = None
        self._refusal: errors.SmendpointError | None = None  # the last one
        self._took: float | None = None

    def __lt__(self, other: Slot) -> bool:
        return self.order < other.order

    def take(self) -> bool:
        """Queue for the slot of the next attempt; return whether the call has it at once."""
        self.asked = True
        return self.held or self.limiter.acquire(self)

    def wait(self, call: CallState) -> Generator[Any, Any, None]:
        """Wait for the slot of the next attempt of `call`.

        Raises:
            DeadlineExceededError: the call's total passed first.
        """
        late = not (yield NeedSlot(self, call.deadline))
        refusal = self._refusal
        if late or (refusal is not None and call.deadline is not None and self._now >= call.deadline):
            refused = refusal is not None
            raise call.add_context(deadline_exceeded(call.timeout, request_sent=refused, answered=refused)) from refusal

    def accepted(self, call: CallState, answer: Any) -> bool:
        """Look at a successful answer, and give the slot back if it is whole; return whether the call has succeeded.

        It has not if the container says, in an answer with status 200, that it refused the call.

        Raises:
            ModelOutputError: the container refused the call, which does not continue.
        """
        if not isinstance(answer, RawResponse):
            return True
        if self.refused_inside(call, answer.body, answer.headers):
            return False
        self._release("ok")
        call.slot = None
        return True

    def refused_inside(self, call: CallState, output: object, headers: Mapping[str, str]) -> bool:
        """Give the slot back if a success is a refusal; return whether the call has queued again.

        Args:
            output: the whole body, or the first chunk of a stream.

        Raises:
            ModelOutputError: it is a refusal, and the call does not continue.
        """
        found = refusal_in(output, self.limiter.markers)
        if found is None:
            return False
        said = found.message or found.type or found.code
        failure = errors.ModelOutputError(
            f"the container says, with status 200, that it refused the call: {said}",
            code=found.code,
            error_type=found.type,
            original_message=found.message,
        )
        call.add_context(failure)
        self.queue_again(call, failure, headers)
        return True

    def refused(self, call: CallState, failure: errors.EndpointError, headers: Mapping[str, str]) -> bool:
        """Give the slot back after a failed attempt; return whether the cause was load and the call has queued again.

        Raises:
            EndpointError: the failure, after which the call does not continue.
        """
        outcome = self._outcome(failure)
        if outcome != "refused":
            self._release(outcome)
            return False
        self.queue_again(call, failure, headers)
        return True

    def queue_again(self, call: CallState, failure: errors.EndpointError, headers: Mapping[str, str]) -> None:
        """Give the slot back after an attempt that was refused because of load, report it, and set when the call is
        sent again.

        Raises:
            EndpointError: the failure, after which the call does not continue.
        """
        policy = call.defaults.policy or RetryPolicy()
        ours, longest = self.limiter.delay(), policy.throttle_timeout
        most = None if longest is None else max(longest, RETRY_AFTER_MAX_SECONDS)
        delay = honour_retry_after(ours, failure, headers, most)
        self._release("refused")
        if longest is not None and self.limiter.refused_for >= longest:
            failure.message = (
                f"{failure.message} | No call to this endpoint has succeeded for {longest:g} s, which is "
                "RetryPolicy.throttle_timeout"
            )
            delay = None
        if call.watcher is not None:
            forget_locals(failure)
            call.watcher.notify("attempt_failed", failure, delay)
        if delay is None:
            raise failure
        call.refusals += 1
        self._refusal = failure
        self.ready_at, self.early = self._now + delay, delay == ours

    def started(self) -> None:
        """Note that a stream has its first chunk: the limit learns from that moment, not from the end."""
        assert self.since is not None
        self._took = self._now - self.since

    def end(self, error: BaseException | None) -> None:
        """Give the slot back at the end of a stream or call. Doing so twice does nothing."""
        if not self.asked:
            return
        if error is not None:
            self._release(self._outcome(error))
        else:
            # The end of a stream that was not read says nothing about load.
            self._release("failed" if self._took is None else "ok")

    def _outcome(self, error: BaseException) -> Outcome:
        if self.patient and isinstance(error, errors.ConnectError):
            return "cold"
        return outcome_of(error, self.limiter.markers)

    def _release(self, outcome: Outcome) -> None:
        self.limiter.release(self, outcome)
        self.asked = False

    @property
    def _now(self) -> float:
        return self.limiter.clock.monotonic()

    def latency(self) -> float | None:
        """Return the latency to learn from, in seconds, if it is not the time that the slot was held."""
        took, self._took = self._took, None
        return took
