"""`Endpoint.map`: several blocking calls at a time, in threads, over inputs that are read as slots get free."""

from __future__ import annotations

import sys
from _thread import allocate_lock
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import ref

from smendpoint._transport.deadline import Cancellation, Cancelled
from smendpoint._transport.threads import spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from smendpoint._transport.threads import Spawned

A = TypeVar("A")
B = TypeVar("B")


class _Job:
    """One input on its way to its output."""

    __slots__ = ("cancellation", "done", "error", "output", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.cancellation = Cancellation()
        self.done = allocate_lock()  # not an `Event`: an interrupt inside one may leave its lock taken for ever
        self.done.acquire()
        self.output: Any = None
        self.error: BaseException | None = None

    def run(self, work: Callable[[Any, Cancellation], Any], finished: SimpleQueue[_Job]) -> None:
        """Do the work; never raises."""
        try:
            self.output = work(self.value, self.cancellation)
        except Cancelled:
            pass  # the thread that cancelled it does not wait for the outcome
        except BaseException as error:  # such as a handler's SystemExit: it belongs to the caller's thread
            self.error = error
        self.value = None
        self.done.release()
        finished.put(self)


class _Workers:
    """Threads that run jobs: started one by one as jobs pile up, never more than the limit."""

    def __init__(self, work: Callable[[Any, Cancellation], Any], limit: int, *, stoppable: bool) -> None:
        self._work = work
        self._limit = limit
        self._stoppable = stoppable
        self._threads: list[Spawned] = []
        self._todo: SimpleQueue[Any] = SimpleQueue()
        self.finished: SimpleQueue[_Job] = SimpleQueue()
        self.running: set[_Job] = set()
        # The weak reference ends the threads by itself where an interrupt broke off `stop`: it is not a job.
        self._forgotten = ref(self, self._todo.put)

    def submit(self, job: _Job) -> bool:
        """Have a job run in a thread, and return true; where none can be started, run it here."""
        self.running.add(job)
        if len(self._threads) < min(self._limit, len(self.running)):
            thread = spawn("smendpoint-map", _serve, self._work, self._todo, self.finished, self._forgotten)
            if thread is not None:
                self._threads.append(thread)
        if not self._threads:
            job.run(self._work, self.finished)
            return False
        self._todo.put(job)
        return True

    def stop(self) -> None:
        """End every call and every thread. A call that cannot be stopped ends by itself."""
        if sys.is_finalizing():
            return  # the interpreter has ended the threads without releasing the locks that `join` waits for
        self._todo.put(None)
        for job in self.running:
            job.cancellation.stop()
        if self._stoppable or not self.running:
            for thread in self._threads:
                thread.join()


def _serve(
    work: Callable[[Any, Cancellation], Any], todo: SimpleQueue[Any], finished: SimpleQueue[_Job], forgotten: object
) -> None:
    """Run jobs, in each thread. It holds no reference to the workers but `forgotten`, the weak one that ends it."""
    while isinstance(job := todo.get(), _Job):
        job.run(work, finished)
    todo.put(None)  # for the next thread


def fan_out(
    work: Callable[[A, Cancellation], B],
    inputs: Iterable[A],
    limit: int,
    *,
    stoppable: bool,
    ordered: bool,
    return_exceptions: bool,
) -> Iterator[B | Exception]:
    """Give ``work(value, cancellation)`` for each input, at most `limit` at a time.

    Args:
        work: runs in threads, or in the caller's own where none can be started; ends early when cancelled.
        inputs: read one by one, in the caller's thread.
        limit: the most inputs and outputs that are held at any time.
        stoppable: whether a cancellation ends its work.
        ordered: whether outputs come in the order of their inputs.
        return_exceptions: whether an error takes the place of its output.
    """
    workers = _Workers(work, limit, stoppable=stoppable)
    waiting: deque[_Job] = deque()
    source = iter(inputs)
    exhausted = False
    try:
        while True:
            while not exhausted and len(workers.running) < limit:
                try:
                    job = _Job(next(source))
                except StopIteration:
                    exhausted = True
                else:
                    if ordered:
                        waiting.append(job)
                    if not workers.submit(job):
                        break
            if not workers.running:
                return
            if ordered:
                job = waiting.popleft()
                job.done.acquire()
                workers.finished.get()  # keeps the queue as short as the window
            else:
                job = workers.finished.get()
            workers.running.discard(job)
            if job.error is None:
                yield job.output
            elif return_exceptions and isinstance(job.error, Exception):
                yield job.error
            else:
                raise job.error
    finally:
        workers.stop()
