"""A clock for tests: it does not wait, and records each wait."""

from __future__ import annotations

import asyncio
from threading import Event


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
