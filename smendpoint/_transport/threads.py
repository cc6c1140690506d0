"""Threads that start as a whole or not at all, where the interpreter and the system let any start."""

from __future__ import annotations

import _thread
import sys
from _thread import allocate_lock, start_new_thread
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Callable

T = TypeVar("T")

__all__ = ["Spawned", "may_start", "off_loop", "spawn"]


class Spawned:
    """Work that was given to a thread.

    It does not hold the thread itself: as that goes, code of Python's runs in which an interrupt would be lost.
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
        """In a bare thread: start a full one, which debuggers know, or do its work where none can be started."""
        from threading import Thread

        alone = False
        try:
            Thread(target=self.run, args=(work, arguments), name=name, daemon=True).start()
        except RuntimeError:  # the system has no more, but this one
            alone = True
        finally:
            self._started.release()
        if alone:
            self.run(work, arguments)

    def wait_for_start(self) -> None:
        """Wait until the thread runs. Python 3.10 may crash where a program ends while a bare thread is at work."""
        self._started.acquire()


def spawn(name: str, work: Callable[..., object], *arguments: Any) -> Spawned | None:
    """Call `work` in a thread of its own, which does not keep the program from ending.

    `Thread.start` waits for the new thread by means of a lock that an interrupt may leave taken for ever. Interrupts
    come to the main thread alone, so it is a bare thread that calls it here.

    Args:
        name: the thread's name, shown by debuggers.
        work: what to call.
        *arguments: what to call it with.

    Returns:
        The thread; `None` where none can be started: at the interpreter's end, in an isolated subinterpreter, where the
        system has no more.
    """
    if not may_start():
        return None
    # Whichever thread imports it first is taken for the main one.
    import threading  # noqa: F401  # pyright: ignore[reportUnusedImport]  # for the reason above

    spawned = Spawned()
    try:
        start_new_thread(spawned.run_in_thread, (name, work, arguments))
    except RuntimeError:
        return None
    spawned.wait_for_start()
    return spawned


def may_start() -> bool:
    """Whether a thread may be started that no end of the program waits for.

    Where there are no daemon threads, as in isolated subinterpreters, an interpreter does not survive to end before one
    of its threads.
    """
    return not sys.is_finalizing() and getattr(_thread, "daemon_threads_allowed", _always)()


def _always() -> bool:
    return True


def off_loop(loop: AbstractEventLoop, work: Callable[[], T]) -> Future[T]:
    """Do `work` in a thread and give the future of its result; do it at once where no thread can be started."""
    try:
        return loop.run_in_executor(None, work)
    except RuntimeError:
        done: Future[T] = loop.create_future()
        try:
            done.set_result(work())
        except Exception as error:
            done.set_exception(error)
        return done
