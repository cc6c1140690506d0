"""Await with a time limit, or together with others, without losing a cancellation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from smendpoint._core.error_copies import copy_error
from smendpoint.errors import SmendpointError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class TimedOut(Exception):
    """The time was over before the result was ready."""


async def wait_for(awaitable: Awaitable[T], seconds: float | None, dispose: Callable[[T], object]) -> T:
    """Await something for a limited time, and then cancel it.

    It runs in a separate task, which has ended when this returns or raises. A cancellation from outside passes
    unchanged, even at the moment when the time is over: `asyncio.wait_for` before Python 3.12 may swallow it, and a
    timeout that cancels the current task, like `asyncio.timeout`, cannot tell the two apart before 3.11.

    Args:
        awaitable: runs in the task.
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


async def share(future: asyncio.Future[T], seconds: float | None = None) -> T:
    """Wait for a future that others wait for too.

    Cancelling one waiter does not affect the rest. Each of them gets its own error.

    Raises:
        TimedOut: the future was not done in time. It continues.
    """
    await asyncio.wait({future}, timeout=seconds)
    if not future.done():
        raise TimedOut
    error = future.exception()
    if isinstance(error, SmendpointError):
        raise copy_error(error)
    return future.result()


def drop(ended: asyncio.Future[T], dispose: Callable[[T], Any]) -> None:
    """Dispose of the result of a task whose waiter is gone."""
    if not ended.cancelled() and ended.exception() is None:
        dispose(ended.result())


def mark_retrieved(done: asyncio.Future[Any]) -> None:
    """Retrieve the error, so that asyncio does not report it: all waiters may have been cancelled."""
    if not done.cancelled():
        done.exception()
