"""A time limit on a block of asyncio code."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType


class Alarm:
    """``async with Alarm(loop, seconds):`` raises `TimeoutError` where the block takes longer.

    A cancellation from outside passes unchanged. (`asyncio.timeout` came with Python 3.11; `asyncio.wait_for` before
    3.12 may swallow a cancellation.)
    """

    __slots__ = ("_cancelling", "_handle", "_rang", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        task = asyncio.current_task(loop)
        assert task is not None
        self._task: asyncio.Task[Any] = task
        self._cancelling = _cancelling(task)
        self._rang = False
        self._handle = loop.call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._rang = True
        self._task.cancel()

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._handle.cancel()
        if not self._rang:
            return
        uncancel = getattr(self._task, "uncancel", None)  # from Python 3.11 on
        left = self._cancelling if uncancel is None else uncancel()
        if left <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error


def _cancelling(task: asyncio.Task[Any]) -> int:
    count = getattr(task, "cancelling", None)  # from Python 3.11 on
    return 0 if count is None else int(count())
