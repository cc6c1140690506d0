"""A clock for tests: it does not wait, and records each wait."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from threading import Event, Lock
from typing import Any, TypeVar

T = TypeVar("T")


class FakeClock:
    """Time that passes only when someone sleeps.

    Args:
        now: what `time` gives at first, in seconds since the epoch.
        chance: what `random` gives.
    """

    def __init__(self, now: float = 1_700_000_000.0, chance: float = 1.0) -> None:
        self.now = now
        self.chance = chance
        self.passed = 0.0
        self.slept: list[float] = []

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.passed

    def random(self) -> float:
        return self.chance

    def sleep(self, seconds: float, wake: Event | None = None) -> None:
        self.slept.append(seconds)
        self.now += seconds
        self.passed += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)
        await asyncio.sleep(0)  # others run meanwhile


class VirtualTime:
    """The time of all event loops of a program: it jumps to the next timer when each of them waits.

    Bytes between two loops arrive at once, over loopback. So where no loop finds any, there are none under way. While a
    thread works for a loop, time stands still.

    Attributes:
        now: the time, in seconds.
        threads: how many calls run in threads of the loops' executors.
        changes: how often a loop may have sent bytes to another one.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.threads = 0
        self.changes = 0
        self._lock = Lock()
        self._loops: set[_Selector] = set()
        self._waiting: dict[_Selector, float] = {}
        self._quiet: set[_Selector] = set()

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Make a loop with this time."""
        return _Loop(self)

    def added(self, loop: _Selector) -> None:
        with self._lock:
            self._loops.add(loop)

    def removed(self, loop: _Selector) -> None:
        with self._lock:
            self._loops.discard(loop)

    def waits(self, loop: _Selector, seconds: float) -> None:
        """Take that a loop waits, for at most so long. The others have to look again: it may have sent them bytes."""
        with self._lock:
            self._waiting[loop] = self.now + seconds
            self._look_again()

    def _look_again(self) -> None:
        self.changes += 1
        self._quiet.clear()

    def found_nothing(self, loop: _Selector, changes: int) -> bool:
        """Take that a loop that waits had no bytes, and say whether its time has come.

        That counts only if it began to look after the last change, the one with the number `changes`.
        """
        with self._lock:
            if changes == self.changes:
                self._quiet.add(loop)
            if self._quiet == self._loops and not self.threads and min(self._waiting.values()) < math.inf:
                self.now = max(self.now, min(self._waiting.values()))
                self._quiet.clear()
            return self.now >= self._waiting[loop]

    def threads_work(self, more: int) -> None:
        """Take that so many more calls run in threads, or fewer."""
        with self._lock:
            self.threads += more

    def works(self, loop: _Selector) -> None:
        """Take that a loop does not wait any more."""
        with self._lock:
            del self._waiting[loop]
            self._look_again()


# Real seconds for which a loop waits for bytes at a time, and lets other threads run: they may move the time on.
_PAUSE = 0.0002


class _Selector(selectors.SelectSelector):
    """Looks for bytes until there are some, or time has jumped."""

    def __init__(self, time: VirtualTime) -> None:
        super().__init__()
        self._time = time
        time.added(self)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        self._time.waits(self, math.inf if timeout is None else timeout)
        over = False
        while not events and not over:
            changes = self._time.changes
            events = super().select(_PAUSE)
            over = not events and self._time.found_nothing(self, changes)
        self._time.works(self)
        return events

    def close(self) -> None:
        self._time.removed(self)
        super().close()


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, time: VirtualTime) -> None:
        self._virtual = time
        super().__init__(_Selector(time))

    def time(self) -> float:
        return self._virtual.now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        self._virtual.threads_work(1)
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._over)
        return future

    def _over(self, _future: object) -> None:
        self._virtual.threads_work(-1)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the threads in real time: virtual time would be over at once."""
        await super().shutdown_default_executor()


@contextmanager
def virtual_time() -> Iterator[VirtualTime]:
    """Let every event loop that is made meanwhile have one virtual time."""
    time = VirtualTime()
    before = asyncio.new_event_loop, asyncio.events.new_event_loop
    asyncio.new_event_loop = asyncio.events.new_event_loop = time.new_loop
    try:
        yield time
    finally:
        asyncio.new_event_loop, asyncio.events.new_event_loop = before


def run_virtual(main: Coroutine[Any, Any, T], time: VirtualTime | None = None) -> T:
    """Run a coroutine on a loop with a virtual time; no task may be left."""
    loop = (time or VirtualTime()).new_loop()
    try:
        result = loop.run_until_complete(main)
        assert not asyncio.all_tasks(loop)
        return result
    finally:
        loop.close()
