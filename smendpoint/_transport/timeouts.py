"""Await with a time limit, without losing a cancellation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class TimedOut(Exception):
    """What was awaited has been cancelled: its time was over."""


async def wait_for(awaitable: Awaitable[T], seconds: float | None, dispose: Callable[[T], object]) -> T:
    """Await something for at most so long.

    It runs in a task of its own, which has ended when this returns or raises. A cancellation from outside passes
    unchanged, even at the moment when the time is over: `asyncio.wait_for` before Python 3.12 may swallow it, and what
    cancels the current task, as `asyncio.timeout` does, cannot tell the two apart before 3.11.

    Args:
        awaitable: what to await.
        seconds: how long it may take; `None` for no limit.
        dispose: called with the result if this was cancelled meanwhile.

    Raises:
        TimedOut: it took longer, or something else cancelled it.
    """
    task = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        task.add_done_callback(lambda ended: drop(ended, dispose))
        await asyncio.wait({task})
        raise
    except BaseException:  # such as GeneratorExit: the loop has ended, so nothing can be awaited
        task.add_done_callback(lambda ended: drop(ended, dispose))
        task.cancel()
        raise
    if task.cancelled():
        raise TimedOut
    return task.result()


def drop(ended: asyncio.Future[T], dispose: Callable[[T], Any]) -> None:
    """Dispose of a result whose waiter is gone."""
    if not ended.cancelled() and ended.exception() is None:
        dispose(ended.result())


def mark_retrieved(done: asyncio.Future[Any]) -> None:
    """Retrieve the error, so that asyncio does not report it: all waiters may have been cancelled."""
    if not done.cancelled():
        done.exception()
