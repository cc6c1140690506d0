"""`Endpoint.map`: several blocking calls at a time, in threads, over inputs that are read as slots get free."""

from __future__ import annotations

import sys
from _thread import allocate_lock  # not an `Event`: an interrupt inside one may leave its lock taken for ever
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from weakref import ref

from smendpoint._calls.window import Job, Window
from smendpoint._transport.deadline import Cancellation, Cancelled
from smendpoint._transport.threads import spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from smendpoint._transport.threads import Spawned

    Work: TypeAlias = Callable[[Any, Cancellation, Callable[[], None]], Any]

A = TypeVar("A")


class _Job(Job):
    """A job, with its input."""

    __slots__ = ("_lock", "_value", "_watched", "cancellation", "over", "started")

    def __init__(self, value: Any) -> None:
        super().__init__()
        self._value = value
        self._lock = allocate_lock()
        self._watched = False
        self.cancellation = Cancellation()
        self.started = False
        self.over = False

    def run(self, work: Work, changed: SimpleQueue[_Job]) -> None:
        """Do the work, and put the job into the queue when it is over; never raises."""
        try:
            self.cancellation.check()
            self.output = work(self._value, self.cancellation, lambda: self.mark(changed, started=True))
        except Cancelled:
            pass  # the thread that cancelled it does not wait for the outcome
        except BaseException as error:  # such as a handler's SystemExit: it belongs to the caller's thread
            self.error = error
        self._value = None
        self.over = True
        changed.put(self)

    def mark(self, changed: SimpleQueue[_Job], *, started: bool = False, watched: bool = False) -> None:
        """Note that the job has started, or that its start is waited for. Both together put it into the queue, once."""
        with self._lock:
            told = self.started and self._watched
            self.started |= started
            self._watched |= watched
            tell = self.started and self._watched and not told
        if tell:
            changed.put(self)


class _Workers:
    """Threads that run jobs: started one by one as jobs pile up, never more than jobs are under way."""

    def __init__(self, work: Work, window: Window, *, stoppable: bool) -> None:
        self._work = work
        self._window = window
        self._stoppable = stoppable
        self._threads: list[Spawned] = []
        self._todo: SimpleQueue[Any] = SimpleQueue()
        self._changed: SimpleQueue[_Job] = SimpleQueue()
        # The weak reference ends the threads by itself where an interrupt broke off `stop`: it is not a job.
        self._forgotten = ref(self, self._todo.put)

    def submit(self, value: Any) -> None:
        """Have a job run in a thread; where none can be started, run it here."""
        job = _Job(value)
        self._window.begin(job)
        if len(self._threads) < len(self._window.running):
            thread = spawn("smendpoint-map", _serve, self._work, self._todo, self._changed, self._forgotten)
            if thread is not None:
                self._threads.append(thread)
        if self._threads:
            self._todo.put(job)
        else:
            job.run(self._work, self._changed)

    def look(self) -> None:
        """Tell the window which jobs have ended, and whether the one that was without a slot has started."""
        changed = self._changed
        while not changed.empty():
            self._note(changed.get())
        waiting = self._waiting()
        if waiting is not None and waiting.started:
            self._window.started(waiting)

    def wait(self) -> None:
        """Wait until a job has ended, or has started where that lets the next input be read."""
        waiting = self._waiting()
        if waiting is not None and not self._window.full:  # each wake-up costs as much as the rest of the fan-out
            waiting.mark(self._changed, watched=True)
        self._note(self._changed.get())

    def _waiting(self) -> _Job | None:
        waiting: Any = self._window.without_slot
        return waiting  # type: ignore[no-any-return]  # jobs of this module

    def _note(self, job: _Job) -> None:
        if job.over and job in self._window.running:  # not one whose start was told when it was over already
            self._window.ended(job)

    def stop(self) -> None:
        """End every call and every thread. A call that cannot be stopped ends by itself."""
        if sys.is_finalizing():
            return  # the interpreter has ended the threads without releasing the locks that `join` waits for
        self._todo.put(None)
        running: set[Any] = self._window.running
        for job in running:
            job.cancellation.stop()
        if self._stoppable or not running:
            for thread in self._threads:
                thread.join()


def _serve(work: Work, todo: SimpleQueue[Any], changed: SimpleQueue[_Job], forgotten: object) -> None:
    """Run jobs, in each thread. It holds no reference to the workers but `forgotten`, the weak one that ends it."""
    while isinstance(job := todo.get(), _Job):
        job.run(work, changed)
        del job  # while this thread waits, nothing holds the output that the caller has got
    todo.put(None)  # for the next thread


def fan_out(
    work: Callable[[A, Cancellation, Callable[[], None]], Any],
    inputs: Iterable[A],
    window: Window,
    *,
    stoppable: bool,
) -> Iterator[Any]:
    """Give ``work(value, cancellation, started)`` for each input.

    The work calls ``started()``, in any thread, once its call has got its slot. While one call waits for a slot, no
    further input is read.

    Args:
        work: runs in threads, or in the caller's own where none can be started; ends early when cancelled.
        inputs: read one by one, in the caller's thread.
        window: a new one; it says how many calls may be under way, and which outputs are given.
        stoppable: whether a cancellation ends its work.
    """
    workers = _Workers(work, window, stoppable=stoppable)
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
