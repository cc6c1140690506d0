"""`AsyncLimiter`: lets in as many calls as the endpoint bears, for asyncio."""

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
    """For asyncio: each event loop that has waiters keeps the time for them."""

    def forget(self) -> None:
        super().forget()
        self._timers: dict[asyncio.AbstractEventLoop, _Timer] = {}

    async def wait(self, slot: Slot, deadline: float | None) -> bool:
        """Wait until a slot that was asked for is held; false if `deadline` passes before."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        timer = self._timers.get(loop)
        if timer is None:
            timer = self._timers[loop] = _Timer(self, loop)
        timer.waiters += 1
        last = None if deadline is None else loop.call_later(deadline - self.clock.monotonic(), _set, woken)
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
            timer.waiters -= 1
            if not timer.waiters:
                timer.stop()
                self._timers.pop(loop, None)

    def _keep_time(self) -> None:
        for timer in [*self._timers.values()]:
            timer.in_loop(timer.start, self.at)


class _Timer:
    """Looks at a limiter at the next moment at which something may change, on one event loop."""

    __slots__ = ("_handle", "_limiter", "_loop", "at", "waiters")

    def __init__(self, limiter: AsyncLimiter, loop: asyncio.AbstractEventLoop) -> None:
        self._limiter = limiter
        self._loop = loop
        self._handle: Any = None
        self.at = math.inf
        self.waiters = 0

    def in_loop(self, deed: Callable[..., object], *arguments: Any) -> None:
        """Do something in the loop's thread: now, or at its next turn."""
        if asyncio._get_running_loop() is self._loop:
            deed(*arguments)
        else:
            with suppress(RuntimeError):  # the loop has ended, and with it the waiters
                self._loop.call_soon_threadsafe(deed, *arguments)

    def start(self, at: float) -> None:
        """Look at the limiter at the moment `at`, if that is sooner than it would."""
        if at >= self.at or not self.waiters:
            return
        self.stop()
        self.at = at
        clock = self._limiter.clock
        seconds = max(0.0, at - clock.monotonic())
        if clock is SYSTEM_CLOCK:
            self._handle = self._loop.call_later(seconds, self._look)
        else:
            self._handle = self._loop.create_task(clock.sleep_async(seconds))
            self._handle.add_done_callback(self._slept)

    def stop(self) -> None:
        """Look no more."""
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
