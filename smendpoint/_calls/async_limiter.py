"""`AsyncLimiter`: admits as many calls as the endpoint can take, for asyncio."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from smendpoint._calls.limiter import LimiterBase
from smendpoint._transport.deadline import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from smendpoint._core.call.slots import Slot


class AsyncLimiter(LimiterBase):
    """The limiter for asyncio: each event loop that has waiters keeps the time for them."""

    def forget(self) -> None:
        super().forget()
        self._timers: dict[asyncio.AbstractEventLoop, Timer] = {}

    async def wait(self, slot: Slot, deadline: float | None) -> bool:
        """Wait until a requested slot is granted; return false if `deadline` passes first."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        last = None if deadline is None else loop.call_later(deadline - self.clock.monotonic(), _set, woken)
        timer = self.join(loop)
        slot.wake = lambda: timer.in_loop(_set, woken)
        try:
            timer.start(self.at)
            if not slot.held:
                await woken
            return slot.held
        finally:
            slot.wake = None
            if last is not None:
                last.cancel()
            self.leave(timer)

    def join(self, loop: asyncio.AbstractEventLoop) -> Timer:
        """Return the timer of an event loop that has one more waiter."""
        timer = self._timers.get(loop)
        if timer is None:
            timer = self._timers[loop] = Timer(self, loop)
        timer.waiters += 1
        return timer

    def leave(self, timer: Timer) -> None:
        """Stop the timer of an event loop after its last waiter."""
        timer.waiters -= 1
        if not timer.waiters:
            timer.stop()
            self._timers.pop(timer.loop, None)

    def _keep_time(self) -> None:
        for timer in [*self._timers.values()]:
            timer.in_loop(timer.start, self.at)


class Timer:
    """Looks at a limiter at the next moment at which something may change, on one event loop."""

    __slots__ = ("_handle", "_limiter", "at", "loop", "waiters")

    def __init__(self, limiter: AsyncLimiter, loop: asyncio.AbstractEventLoop) -> None:
        self._limiter = limiter
        self.loop = loop
        self._handle: Any = None
        self.at = math.inf
        self.waiters = 0

    def in_loop(self, deed: Callable[..., object], *arguments: Any) -> None:
        """Do something in the loop's thread: now, or at its next turn."""
        if asyncio._get_running_loop() is self.loop:
            deed(*arguments)
        else:
            with suppress(RuntimeError):  # the loop has ended, and so have its waiters
                self.loop.call_soon_threadsafe(deed, *arguments)

    def start(self, at: float) -> None:
        """Look at the limiter at the moment `at`, if that is sooner than planned."""
        if at >= self.at or not self.waiters:
            return
        self.stop()
        self.at = at
        clock = self._limiter.clock
        seconds = max(0.0, at - clock.monotonic())
        if clock is SYSTEM_CLOCK:
            self._handle = self.loop.call_later(seconds, self._look)
        else:
            self._handle = self.loop.create_task(clock.sleep_async(seconds))
            self._handle.add_done_callback(self._slept)

    def stop(self) -> None:
        """Stop looking."""
        handle, self._handle = self._handle, None
        self.at = math.inf
        if handle is not None:
            handle.cancel()

    def _slept(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._look()

    def _look(self) -> None:
        self._handle = None
        self.at = math.inf
        self._limiter.handle(None, None)
        self.start(self._limiter.at)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
