"""`Endpoint.map`: several blocking calls at a time, in threads; an input is read when a slot is free."""

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
        """Do the work, and never raise. After an interrupt two threads may get the job: the later one returns false."""
        try:
            value = self._input.pop()
        except IndexError:
            return False
        try:
            self.cancellation.check()
            self.output = self.context.run(work, value, self.cancellation, self.slot)
        except Cancelled:
            pass  # the thread that cancelled it does not wait for the outcome
        except BaseException as error:  # such as a handler's SystemExit: it is raised in the caller's thread
            self.error = error
        self.slot.end(self.error)  # if the work has not done it
        return True


class _Workers:
    """Threads that run jobs: started one by one as jobs pile up, never more than there are jobs in flight."""

    def __init__(self, work: Work, limiter: Limiter, window: Window, *, stoppable: bool) -> None:
        self._work = work
        self._limiter = limiter
        self._window = window
        self._stoppable = stoppable
        self._process = os.getpid()
        self._threads: list[Spawned] = []
        self._todo: SimpleQueue[Any] = SimpleQueue()
        self._over: deque[_Job] = deque()  # finished jobs that the window does not know of yet
        self._wake = Wake()  # set after something was added to these, and when a job has been granted its slot
        # The weak reference ends the threads even if an interrupt broke off `stop`: it is not a job.
        self._forgotten = ref(self, self._todo.put)

    def submit(self, value: Any) -> None:
        """Have a job run in a thread as soon as it has a slot; if no thread can be started, run it here."""
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
        """Tell the window which jobs are over, and whether the one without a slot now has one."""
        while self._over:
            self._window.ended(self._over.popleft())
        waiting = self._window.without_slot
        if waiting is not None and waiting.slot.since is not None:
            self._window.started(waiting)

    def wait(self) -> None:
        """Wait until a job is over, or has been granted its slot."""
        waiting = self._window.without_slot
        if waiting is None:
            self._wake.wait()
        else:
            self._limiter.watch(waiting.slot, self._wake, self._over.__len__)
        self._wake.clear()

    def stop(self) -> None:
        """End every call and every thread. A call that cannot be stopped runs to its end."""
        if sys.is_finalizing() or os.getpid() != self._process:
            return  # the interpreter's end or a fork removed the threads, which left locks that `join` would wait for
        running: set[Any] = self._window.running
        for job in running:
            job.cancellation.stop()
            if job.slot.since is None:
                job.slot.end(None)  # it would be granted when no thread is left for the job
        self._todo.put(None)
        if self._stoppable or not running:
            for thread in self._threads:
                thread.join()
            for job in running:
                job.slot.end(None)  # of a job that no thread has taken


def _serve(work: Work, todo: SimpleQueue[Any], over: deque[_Job], wake: Wake, forgotten: object) -> None:
    """Run jobs, in each thread. Its only reference to the workers is `forgotten`, the weak one that ends it."""
    while isinstance(job := todo.get(), _Job):
        if job.run(work):
            over.append(job)
            wake.set()
        del job  # while this thread waits, nothing here keeps the output that the caller has
    todo.put(None)  # for the next thread


def fan_out(
    work: Callable[[A, Cancellation, Slot], Any],
    inputs: Iterable[A],
    limiter: Limiter,
    window: Window,
    *,
    stoppable: bool,
) -> Iterator[Any]:
    """Yield ``work(value, cancellation, slot)`` for each input. While one call waits for its slot, no input is read.

    Args:
        work: runs in threads, or in the caller's own if none can be started; ends early when cancelled.
        inputs: read one by one, in the caller's thread.
        limiter: gives the slots.
        window: a new one; it decides how many calls may be in flight, and which outputs are given.
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
