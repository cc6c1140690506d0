"""The real clock."""

from __future__ import annotations

import time as _time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threading import Event


class SystemClock:
    """Time, waiting and chance as the operating system gives them. See `smendpoint.Clock`."""

    __slots__ = ()

    time = staticmethod(_time.time)
    monotonic = staticmethod(_time.monotonic)

    def random(self) -> float:
        """A number in [0, 1)."""
        from random import random  # only retries ask for chance

        return random()

    def sleep(self, seconds: float, wake: Event | None = None) -> None:
        """Block for `seconds`, less where `wake` is set meanwhile."""
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
