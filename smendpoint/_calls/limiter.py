"""`Limiter`: admits as many calls as the endpoint can take, in the order of their arrival.

The rule in `_core/call/limit` decides how many. Each attempt of a call takes a slot and gives it back with its outcome.
A call that was refused because of load queues again without a slot, ahead of the calls that arrived after it.
"""

from __future__ import annotations

import math
from _thread import RLock
from bisect import insort
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from smendpoint._core.call.limit import AdaptiveConcurrency, Limit
from smendpoint._core.call.slots import Slot
from smendpoint._transport.deadline import Wake

if TYPE_CHECKING:
    from collections.abc import Callable

    from smendpoint._core.call.load import Outcome
    from smendpoint._core.call.timing import Clock
    from smendpoint._transport.deadline import Cancellation


class LimiterBase:
    """The half of `Limiter` and `AsyncLimiter` that does not wait.

    Args:
        concurrency: how many calls at first, at least and at most; or a fixed number, which only refusals lower.
        clock: the source of time and random numbers.
    """

    def __init__(self, concurrency: AdaptiveConcurrency | int, clock: Clock) -> None:
        self._adaptive = not isinstance(concurrency, int)
        if isinstance(concurrency, int):
            concurrency = AdaptiveConcurrency(concurrency, 1, concurrency)
        self._config = concurrency
        self.markers = concurrency.refused
        self.clock = clock
        self.refusals = 0
        self._orders = 0
        self.forget()

    def forget(self) -> None:
        """Start afresh in the child of a fork: calls and locks belong to the parent."""
        # Reentrant: the garbage collector may end a stream, which releases its slot, at any moment.
        self._lock = RLock()
        self._handling = False
        self._rule = self._new_rule()
        self._events: deque[tuple[Slot | None, Outcome | None]] = deque()
        self._held: set[Slot] = set()
        self._new: deque[Slot] = deque()  # waiting for their first attempt
        self._again: list[Slot] = []  # waiting for a further attempt; the oldest call first
        self._refused_since: float | None = None
        # Whether the latest outcome was a success: then a single call bypasses the rule, which learns nothing from it.
        self._calm = False
        self.at = math.inf  # when something may change although no call ends

    def at_most(self, connections: int | None) -> None:
        """Admit at most as many calls as connections: further calls would hold a slot and wait for a connection."""
        config = self._config
        if connections is not None and connections < config.maximum:
            initial, minimum = min(config.initial, connections), min(config.minimum, connections)
            self._config = AdaptiveConcurrency(initial, minimum, connections, refused=config.refused)
            with self._lock:
                self._rule = self._new_rule()

    def _new_rule(self) -> Limit:
        return Limit(self._config, self.clock.random, plateau=self._adaptive)

    @property
    def limit(self) -> int:
        """How many calls may be in flight at this moment."""
        return int(self._rule.limit)

    def slot(self) -> Slot:
        """Make the slot object of a new call, which has not been granted the slot yet."""
        self._orders = order = self._orders + 1
        return Slot(self, order)

    def delay(self) -> float:
        """Return the seconds after which a refused call may try again, if no other call succeeds before that."""
        return self._rule.refusal_delay()

    @property
    def refused_for(self) -> float:
        """The seconds for which calls have been refused and none has succeeded."""
        since = self._refused_since
        return 0.0 if since is None else self.clock.monotonic() - since

    def acquire(self, slot: Slot) -> bool:
        """Queue for a slot; return whether it is granted at once."""
        if slot.queued:
            return False
        if self._calm:
            with self._lock:
                if not self._held:
                    slot.since = self.clock.monotonic()
                    slot.held = True
                    self._held.add(slot)
                    if slot.on_grant is not None:
                        self._call_on_grant(slot)
                    return True
        self.handle(slot, None)
        return slot.held

    @staticmethod
    def _call_on_grant(slot: Slot) -> None:
        assert slot.on_grant is not None
        slot.on_grant()
        slot.on_grant = None

    def release(self, slot: Slot, outcome: Outcome) -> None:
        """Take a slot back, or take it out of the queue."""
        if self._calm and outcome == "ok":
            with self._lock:
                if len(self._held) == 1 and not (self._new or self._again or self._events):
                    self._held.discard(slot)
                    slot.held = False
                    return
        self.handle(slot, outcome)

    def handle(self, slot: Slot | None, outcome: Outcome | None) -> None:
        """Handle an event: a slot is requested (no outcome) or given back; without a slot, time has passed.

        If an interrupt, or a release by the garbage collector, comes in the middle, the next call handles the event. It
        stays in the queue until then, and handling it twice does nothing.
        """
        events = self._events
        events.append((slot, outcome))
        while events:
            with self._lock:
                if self._handling:
                    return  # a call further up this thread's stack looks at the events again
                self._handling = True
                try:
                    self._rule.running = len(self._held)
                    now = self.clock.monotonic()
                    freed = False
                    while events:
                        freed |= self._note(*events[0], now)
                        events.popleft()
                    self._admit(now, freed)
                finally:
                    self._handling = False

    # Each step below can be interrupted after any statement, and repeated.

    def _note(self, slot: Slot | None, outcome: Outcome | None, now: float) -> bool:
        """Note an event; return whether it is a success, which shows that the endpoint has a free place."""
        if slot is None:
            return False
        if outcome is None:
            self._queue(slot)
            return False
        if slot.queued:
            self._leave_queue(slot)
        return self._give_back(slot, outcome, now)

    def _give_back(self, slot: Slot, outcome: Outcome, now: float) -> bool:
        """Take back a slot that is held; return whether its call succeeded."""
        slot.held = False
        if slot not in self._held:
            return False
        self._held.discard(slot)
        self._calm = outcome == "ok"
        if outcome == "ok":
            self._refused_since = None
        elif outcome == "refused":
            self.refusals += 1
            if self._refused_since is None:
                self._refused_since = now
        assert slot.since is not None
        self._rule.finished(outcome, slot.since, now, slot.latency())
        return outcome == "ok"

    def _queue(self, slot: Slot) -> None:
        if slot.since is not None:
            if slot not in self._again:
                insort(self._again, slot)
        else:
            if not (self._held or self._new or self._again):
                self._refused_since = None  # no call was made for a while
            if not self._new or self._new[-1] is not slot:
                self._new.append(slot)
        slot.queued = True

    def _leave_queue(self, slot: Slot) -> None:
        if self._new and self._new[0] is slot:
            self._new.popleft()
        else:
            for queue in (self._new, self._again):
                with suppress(ValueError):
                    queue.remove(slot)
        slot.queued = False

    def _admit(self, now: float, freed: bool) -> None:
        """Grant slots to waiters, and find out when to look again."""
        slot: Slot | None = None
        while self._new or self._again:
            slot = None
            if self._again:
                slot = next((slot for slot in self._again if slot.ready_at <= now or (freed and slot.early)), None)
            if slot is None:
                if not self._new:
                    break
                slot = self._new[0]
            if slot not in self._held:
                if not self._rule.try_start(now):
                    break
                slot.since = now
                self._held.add(slot)
            freed = False
            slot.held = True
            if slot.wake is not None:
                slot.wake()
            if slot.on_grant is not None:
                self._call_on_grant(slot)
            self._leave_queue(slot)
        at = math.inf
        if self._new or self._again:
            at = min((slot.ready_at for slot in self._again if slot.ready_at > now), default=math.inf)
            wake = None if slot is None else self._rule.wake(now)  # without one, only time delays calls
            if wake is not None:
                at = min(at, wake)
        sooner, self.at = at < self.at, at
        if sooner:
            self._keep_time()

    if TYPE_CHECKING:

        def _keep_time(self) -> None:
            """Arrange that `handle` is called at `at`, which is sooner than before; the lock is held."""


class Limiter(LimiterBase):
    """The blocking limiter: one of the waiters keeps the time for all."""

    def forget(self) -> None:
        super().forget()
        self._keeper: Slot | None = None

    def wait(self, slot: Slot, deadline: float | None, cancellation: Cancellation | None) -> bool:
        """Wait until a requested slot is granted; return false if `deadline` passes first.

        Raises:
            Cancelled: the call was stopped.
        """
        wake: Any = Wake()
        slot.wake = wake.set
        try:
            if cancellation is not None:
                cancellation.enter(wake.set)
            while not slot.held:
                if cancellation is not None:
                    cancellation.check()
                if deadline is not None and self.clock.monotonic() >= deadline:
                    return False
                self._sleep(slot, wake, math.inf if deadline is None else deadline)
            return True
        finally:
            slot.wake = None
            self._leave(slot)
            if cancellation is not None:
                cancellation.leave()

    def watch(self, slot: Slot, wake: Any, enough: Callable[[], object]) -> None:
        """Wait until a requested slot has been granted, or `enough` is true, and `wake` was set after that."""
        try:
            self._wake_with(slot, wake.set)
            while slot.since is None and not enough():
                self._sleep(slot, wake, math.inf)
        finally:
            self._wake_with(slot, None)
            self._leave(slot)

    def _wake_with(self, slot: Slot, wake: Callable[[], object] | None) -> None:
        """Set the function that wakes the watcher of a slot, until a thread with that slot waits for another."""
        with self._lock:
            if slot.since is None:
                slot.wake = wake

    def _sleep(self, slot: Slot, wake: Any, until: float) -> None:
        """Sleep until a moment, or until `wake` is set, and keep the time for all waiters if no other waiter does."""
        if self._keeper is None:
            self._keeper = slot
        if self._keeper is slot:
            until = min(until, self.at)
        if until == math.inf:
            wake.wait()
        else:
            seconds = until - self.clock.monotonic()
            if seconds > 0:
                self.clock.sleep(seconds, wake)
        wake.clear()
        self.handle(None, None)

    def _leave(self, slot: Slot) -> None:
        if self._keeper is slot:
            self._keeper = None
        if self._keeper is None:
            self._keep_time()

    def _keep_time(self) -> None:
        """Have a waiter check the time: the one that keeps it, or else the one that will wait longest."""
        for slot in (self._keeper, *reversed(self._new), *reversed(self._again)):
            wake = None if slot is None else slot.wake
            if wake is not None:
                wake()
                return
