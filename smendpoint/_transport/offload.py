"""Run work that cannot be stopped in a helper thread, so that the caller can stop waiting for it."""

from __future__ import annotations

import _thread  # for a quick cold start: see `_core`
import os
from typing import TYPE_CHECKING, Any, TypeVar

from smendpoint._transport.readiness import LONGEST_WAIT
from smendpoint.errors import copy_error

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")

# At most so many helpers run at the same time: more work waits for one of them to end.
MOST_HELPERS = 16

_under_way: dict[Hashable, _Work] = {}


class _Work:
    """One piece of work and its waiters."""

    __slots__ = ("done", "error", "result")

    def __init__(self) -> None:
        self.done = _thread.allocate_lock()
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


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows, where it is missing, has no fork
    os.register_at_fork(after_in_child=_under_way.clear)  # the threads are the parent's


def within(key: Hashable, work: Callable[[], T], left: Callable[[], float], *, bare: bool = False) -> T:
    """Run `work` in a helper thread and give its result, or stop waiting for it.

    Callers that ask for the same at the same time share one helper. A result that comes too late is dropped. Where no
    thread can be started (the interpreter ends, an isolated subinterpreter, a limit of the system), the work is done
    here, however long it takes.

    Args:
        key: equal for the same work.
        work: what may take long.
        left: says how many seconds may still be waited; raises when that is over.
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
    except BaseException:  # an interrupt must not leave waiters for work that nobody does
        _under_way.pop(key if _under_way.get(key) is mine else None, None)
        raise
    shared.wait(left())
    error = shared.error
    if error is None:
        result: T = shared.result
        return result
    raise copy_error(error)


def _start(bare: bool, run: Callable[..., None], *arguments: Any) -> bool:
    """Start a thread that no end of the program waits for; whether that can be done."""
    from smendpoint._transport.threads import may_start, spawn

    if not bare:
        return spawn("smendpoint-helper", run, *arguments) is not None
    if not may_start():
        return False
    try:
        _thread.start_new_thread(run, arguments)
    except RuntimeError:
        return False
    return True
