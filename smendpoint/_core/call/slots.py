"""A call's place among those in flight: each attempt takes it, and gives it back with its outcome.

An attempt that was refused because of load costs no attempt of the retry policy and nothing of its quota: the call
queues again, without the slot.
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
        """Lets calls in; the limiters of `_calls` as a slot sees them."""

        clock: Clock
        markers: tuple[str | int, ...]
        """The user's own signs of a refusal."""

        @property
        def limit(self) -> int:
            """How many calls may be in flight at this moment."""
            ...

        @property
        def refused_for(self) -> float:
            """For how many seconds calls have been refused, and none has succeeded."""
            ...

        def delay(self) -> float:
            """Give the seconds after which a refused call may try again, if no other call succeeds before."""
            ...

        def acquire(self, slot: Slot) -> bool:
            """Queue for a slot; whether it is held at once."""
            ...

        def release(self, slot: Slot, outcome: Outcome) -> None:
            """Take a slot back, or take it out of the queue."""
            ...


class Slot:
    """One call's place among those in flight.

    Args:
        limiter: gives it.
        order: lower for a call that began earlier.

    Attributes:
        asked: whether the call has asked for it, and has not given it back.
        held: whether the call has it, and so may send.
        queued: whether the call waits for it.
        ready_at: before this moment, the call gets it only when a call that succeeded has given one back, and only if
            `early`.
        early: whether the moment is of our own choice. One that the server asked for holds in any case.
        patient: whether an endpoint that cannot be reached counts as one that is not ready: then one call at a time
            tries, after pauses, and the others wait. Otherwise each call tries, and fails by itself.
        since: when the call got it the last time; `None` before the first time.
        on_grant: called in any thread when the call gets the slot; it must not block.
        wake: wakes the waiter; `None` where nothing waits.
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
        """Queue for the slot of the next attempt; whether the call has it at once."""
        self.asked = True
        return self.held or self.limiter.acquire(self)

    def wait(self, call: CallState) -> Generator[Any, Any, None]:
        """Wait for the slot of the next attempt of `call`.

        Raises:
            DeadlineExceededError: the call's total was over before.
        """
        late = not (yield NeedSlot(self, call.deadline))
        refusal = self._refusal
        if late or (refusal is not None and call.deadline is not None and self._now >= call.deadline):
            refused = refusal is not None
            raise call.add_context(deadline_exceeded(call.timeout, request_sent=refused, answered=refused)) from refusal

    def accepted(self, call: CallState, answer: Any) -> bool:
        """Look at a successful answer, and give the slot back if it is whole; whether the call has succeeded.

        A container may say in an answer with status 200 that it refused the call: then it has not.

        Raises:
            ModelOutputError: so it says, and the call does not go on.
        """
        if not isinstance(answer, RawResponse):
            return True
        if self.refused_inside(call, answer.body, answer.headers):
            return False
        self._release("ok")
        call.slot = None
        return True

    def refused_inside(self, call: CallState, output: object, headers: Mapping[str, str]) -> bool:
        """Give the slot back if a success is a refusal; whether the call has queued again.

        Args:
            output: the whole body, or the first chunk of a stream.

        Raises:
            ModelOutputError: it is a refusal, after which the call does not go on.
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
        """Give the slot back after an attempt that failed; whether that was for load, and the call has queued again.

        Raises:
            EndpointError: it is the failure, after which the call does not go on.
        """
        outcome = self._outcome(failure)
        if outcome != "refused":
            self._release(outcome)
            return False
        self.queue_again(call, failure, headers)
        return True

    def queue_again(self, call: CallState, failure: errors.EndpointError, headers: Mapping[str, str]) -> None:
        """Give the slot back after an attempt that was refused for load, report that, and say when the call goes again.

        Raises:
            EndpointError: it is the failure, after which the call does not go on.
        """
        policy = call.defaults.policy or RetryPolicy()
        ours, longest = self.limiter.delay(), policy.throttle_timeout
        most = None if longest is None else max(longest, RETRY_AFTER_MAX_SECONDS)
        delay = honour_retry_after(ours, failure, headers, most)
        self._release("refused")
        if longest is not None and self.limiter.refused_for >= longest:
            failure.message = (
                f"{failure.message} | Nothing of this endpoint has succeeded for {longest:g} s, which is "
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
        """Note that a stream has given its first chunk: the limit learns from that moment, not from its end."""
        assert self.since is not None
        self._took = self._now - self.since

    def end(self, error: BaseException | None) -> None:
        """Give the slot back at the end of a stream, or wherever else its call ends. Doing so twice does nothing."""
        if not self.asked:
            return
        if error is not None:
            self._release(self._outcome(error))
        else:
            # The end of a stream that nobody read says nothing.
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
        """Give the latency to learn from, in seconds, where it is not the time that the slot was held."""
        took, self._took = self._took, None
        return took
