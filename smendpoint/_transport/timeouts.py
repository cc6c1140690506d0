"""A time limit on something awaited, with which no cancellation gets lost."""

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
    unchanged, whatever else happens at the same moment: `asyncio.wait_for` before Python 3.12 may swallow it, and what
    cancels the current task, as `asyncio.timeout` does, cannot tell the two apart before 3.11.

    Args:
        awaitable: what to await.
        seconds: how long it may take; `None` for no limit.
        dispose: called with the result where nobody is left to take it.

    Raises:
        TimedOut: it took longer, or was cancelled by someone else than who awaits this.
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
    except BaseException:  # whoever awaited this has been thrown away: there is no loop to wait in
        task.add_done_callback(lambda ended: drop(ended, dispose))
        task.cancel()
        raise
    if task.cancelled():
        raise TimedOut
    return task.result()


def drop(ended: asyncio.Future[T], dispose: Callable[[T], Any]) -> None:
    """Dispose of what nobody is left to take."""
    if not ended.cancelled() and ended.exception() is None:
        dispose(ended.result())
