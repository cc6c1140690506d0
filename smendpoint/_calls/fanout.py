"""`Endpoint.map`: several blocking calls at a time, in threads, over inputs that are read as slots get free."""

from __future__ import annotations

import os
import sys
from collections import deque
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from weakref import ref

from smendpoint._calls.window import Job, Window
from smendpoint._transport.deadline import Cancellation, Cancelled, Wake
from smendpoint._transport.threads import spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from smendpoint._calls.limiter import Limiter
    from smendpoint._core.call.slots import Slot
    from smendpoint._transport.threads import Spawned

    Work: TypeAlias = Callable[[Any, Cancellation, Slot], Any]

A = TypeVar("A")


class _Job(Job):
    """A job, with its input."""

    __slots__ = ("_input", "cancellation")

    def __init__(self, value: Any, slot: Slot) -> None:
        super().__init__(slot)
        self._input = [value]
        self.cancellation = Cancellation()

    def run(self, work: Work) -> bool:
        """Do the work, and never raise. After an interrupt two threads may get the job: false in the later one."""
        try:
            value = self._input.pop()
        except IndexError:
            return False
        try:
            self.cancellation.check()
            self.output = self.context.run(work, value, self.cancellation, self.slot)
        except Cancelled:
            pass  # the thread that cancelled it does not wait for the outcome
        except BaseException as error:  # such as a handler's SystemExit: it belongs to the caller's thread
            self.error = error
        self.slot.end(self.error)  # where the work has not
        return True


class _Workers:
    """Threads that run jobs: started one by one as jobs pile up, never more than jobs are under way."""

    def __init__(self, work: Work, limiter: Limiter, window: Window, *, stoppable: bool) -> None:
        self._work = work
        self._limiter = limiter
        self._window = window
        self._stoppable = stoppable
        self._process = os.getpid()
        self._threads: list[Spawned] = []
        self._todo: SimpleQueue[Any] = SimpleQueue()
        self._over: deque[_Job] = deque()  # jobs that are over, of which the window does not know yet
        self._wake = Wake()  # set after something was added to these, and when a job has got its slot
        # The weak reference ends the threads by itself where an interrupt broke off `stop`: it is not a job.
        self._forgotten = ref(self, self._todo.put)

    def submit(self, value: Any) -> None:
        """Have a job run in a thread as soon as it has a slot; where no thread can be started, run it here."""
        job = _Job(value, self._limiter.slot())
        if len(self._threads) <= len(self._window.running):
            thread = spawn("smendpoint-map", _serve, self._work, self._todo, self._over, self._wake, self._forgotten)
            if thread is not None:
                self._threads.append(thread)
        if self._threads:
            job.slot.on_grant = partial(self._todo.put, job)
        self._window.begin(job)
        if not self._threads:
            job.run(self._work)
            self._over.append(job)
            self._wake.set()

    def look(self) -> None:
        """Tell the window which jobs are over, and whether the one that was without a slot has got it."""
        while self._over:
            self._window.ended(self._over.popleft())
        waiting = self._window.without_slot
        if waiting is not None and waiting.slot.since is not None:
            self._window.started(waiting)

    def wait(self) -> None:
        """Wait until a job is over, or has got its slot."""
        waiting = self._window.without_slot
        if waiting is None:
            self._wake.wait()
        else:
            self._limiter.watch(waiting.slot, self._wake, self._over.__len__)
        self._wake.clear()

    def stop(self) -> None:
        """End every call and every thread. A call that cannot be stopped ends by itself."""
        if sys.is_finalizing() or os.getpid() != self._process:
            return  # the threads are gone, at the interpreter's end or by a fork, and left locks that `join` waits for
        running: set[Any] = self._window.running
        for job in running:
            job.cancellation.stop()
            if job.slot.since is None:
                job.slot.end(None)  # it would come when no thread is left for the job
        self._todo.put(None)
        if self._stoppable or not running:
            for thread in self._threads:
                thread.join()
            for job in running:
                job.slot.end(None)  # of one that no thread has got


def _serve(work: Work, todo: SimpleQueue[Any], over: deque[_Job], wake: Wake, forgotten: object) -> None:
    """Run jobs, in each thread. It holds no reference to the workers but `forgotten`, the weak one that ends it."""
    while isinstance(job := todo.get(), _Job):
        if job.run(work):
            over.append(job)
            wake.set()
        del job  # while this thread waits, nothing holds the output that the caller has got
    todo.put(None)  # for the next thread


def fan_out(
    work: Callable[[A, Cancellation, Slot], Any],
    inputs: Iterable[A],
    limiter: Limiter,
    window: Window,
    *,
    stoppable: bool,
) -> Iterator[Any]:
    """Give ``work(value, cancellation, slot)`` for each input. While one call waits for its slot, no input is read.

    Args:
        work: runs in threads, or in the caller's own where none can be started; ends early when cancelled.
        inputs: read one by one, in the caller's thread.
        limiter: gives the slots.
        window: a new one; it says how many calls may be under way, and which outputs are given.
        stoppable: whether a cancellation ends its work.
    """
    workers = _Workers(work, limiter, window, stoppable=stoppable)
    source = iter(inputs)
    try:
        while True:
            workers.look()
            if window.may_read:
                try:
                    value = next(source)
                except StopIteration:
                    window.exhausted = True
                else:
                    workers.submit(value)
                    del value
            elif window.ready:
                yield window.take()
            elif window.over:
                return
            else:
                workers.wait()
    finally:
        workers.stop()
