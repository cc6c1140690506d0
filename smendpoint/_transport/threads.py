"""Threads that start completely or not at all, and helper threads whose callers can stop waiting."""

from __future__ import annotations

import _thread  # for a quick cold start: see `_core`
import os
import sys
from _thread import allocate_lock, start_new_thread
from typing import TYPE_CHECKING, Any, TypeVar

from smendpoint._core.error_copies import copy_error
from smendpoint._transport.readiness import LONGEST_WAIT

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Callable, Hashable

T = TypeVar("T")

__all__ = ["Spawned", "may_start", "off_loop", "run_in_helper", "spawn"]

# At most this many helpers run at the same time: more work waits until one of them ends.
MOST_HELPERS = 16


class Spawned:
    """Work that was given to a thread.

    It does not hold the thread itself: when a thread object is deleted, Python code runs in which an interrupt is lost.
    """

    __slots__ = ("_ended", "_started")

    def __init__(self) -> None:
        self._started = allocate_lock()
        self._started.acquire()
        self._ended = allocate_lock()
        self._ended.acquire()

    def run(self, work: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        """Do the work, in the thread."""
        try:
            work(*arguments)
        finally:
            self._ended.release()

    def join(self) -> None:
        """Wait until the work has ended."""
        with self._ended:
            pass

    def run_in_thread(self, name: str, work: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        """In a bare thread: start a full one, which debuggers know, or do its work if none can be started."""
        from threading import Thread

        alone = False
        try:
            Thread(target=self.run, args=(work, arguments), name=name, daemon=True).start()
        except RuntimeError:  # this one is the last that the system has
            alone = True
        finally:
            self._started.release()
        if alone:
            self.run(work, arguments)

    def wait_for_start(self) -> None:
        """Wait until the thread runs. Python 3.10 may crash if a program ends while a bare thread is at work."""
        self._started.acquire()


def spawn(name: str, work: Callable[..., object], *arguments: Any) -> Spawned | None:
    """Call `work` in a new thread, which does not keep the program from ending.

    `Thread.start` waits for the new thread with a lock that an interrupt may leave locked forever. Only the main thread
    gets interrupts, so a bare thread calls it here.

    Args:
        name: the thread's name, shown by debuggers.
        work: the function to call.
        *arguments: its arguments.

    Returns:
        The thread; `None` if none can be started: at the interpreter's end, in an isolated subinterpreter, or at the
        system's limit.
    """
    if not may_start():
        return None
    # The thread that imports it first is considered the main one.
    import threading  # noqa: F401  # pyright: ignore[reportUnusedImport]  # for the reason above

    spawned = Spawned()
    try:
        start_new_thread(spawned.run_in_thread, (name, work, arguments))
    except RuntimeError:
        return None
    spawned.wait_for_start()
    return spawned


def may_start() -> bool:
    """Whether a thread may be started that does not keep the program from ending.

    An interpreter without daemon threads, such as an isolated subinterpreter, does not survive an end before that of
    its threads.
    """
    allowed = getattr(_thread, "daemon_threads_allowed", None)
    return not sys.is_finalizing() and (allowed is None or allowed())


def off_loop(loop: AbstractEventLoop, work: Callable[[], T]) -> Future[T]:
    """Do `work` in a thread and return the future of its result; do it at once if no thread can be started."""
    try:
        return loop.run_in_executor(None, work)
    except RuntimeError:
        done: Future[T] = loop.create_future()
        try:
            done.set_result(work())
        except Exception as error:
            done.set_exception(error)
        return done


class _Work:
    """The work of a helper thread, and its waiters."""

    __slots__ = ("done", "error", "result")

    def __init__(self) -> None:
        self.done = allocate_lock()
        self.done.acquire()
        self.error: Exception | None = TimeoutError()  # of work that was interrupted
        self.result: Any = None

    def run(self, key: Hashable, work: Callable[[], object]) -> None:
        try:
            self.result = work()
        except Exception as error:
            self.error = error
        else:
            self.error = None
        finally:
            _under_way.pop(key, None)
            self.done.release()

    def wait(self, seconds: float) -> None:
        if not self.done.acquire(timeout=min(seconds, LONGEST_WAIT)):
            raise TimeoutError
        self.done.release()


_under_way: dict[Hashable, _Work] = {}

if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows, where it is missing, has no fork
    os.register_at_fork(after_in_child=_under_way.clear)  # the threads are the parent's


def run_in_helper(key: Hashable, work: Callable[[], T], left: Callable[[], float], *, bare: bool = False) -> T:
    """Run `work`, which cannot be stopped, in a helper thread, and return its result or stop waiting for it.

    Callers with the same work at the same time share one helper. A result that comes too late is dropped. If no thread
    can be started (see `spawn`), the work is done here, however long it takes.

    Args:
        key: equal for the same work.
        work: the work, which may take long.
        left: returns how many seconds the caller may still wait; raises when the time is over.
        bare: whether to use a thread that the module `threading` does not know: for work that runs no Python.

    Raises:
        TimeoutError: the time was over first.
    """
    if len(_under_way) >= MOST_HELPERS and key not in _under_way:
        for oldest in [*_under_way.values()][:1]:
            oldest.wait(left())
    mine = _Work()
    try:
        shared = _under_way.setdefault(key, mine)
        if shared is mine and not _start(bare, mine.run, key, work):
            mine.run(key, work)
    except BaseException:  # an interrupt must not leave waiters for work that is never done
        _under_way.pop(key if _under_way.get(key) is mine else None, None)
        raise
    shared.wait(left())
    error = shared.error
    if error is None:
        result: T = shared.result
        return result
    raise copy_error(error)


def _start(bare: bool, run: Callable[..., None], *arguments: Any) -> bool:
    """Start a thread that does not keep the program from ending; return whether that was possible."""
    if not bare:
        return spawn("smendpoint-helper", run, *arguments) is not None
    if not may_start():
        return False
    try:
        start_new_thread(run, arguments)
    except RuntimeError:
        return False
    return True
