"""`Endpoint.map`: several blocking calls at a time, in threads, over inputs that are read as places get free."""

from __future__ import annotations

import sys
import threading
from collections import deque
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from smendpoint._transport.direct import Cancelled, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

A = TypeVar("A")
B = TypeVar("B")


class _Job:
    """One input on its way to its output."""

    __slots__ = ("done", "error", "output", "scope", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.scope = Scope()
        self.done = threading.Event()
        self.output: Any = None
        self.error: BaseException | None = None


class _Workers:
    """Threads that run jobs: started one by one as jobs pile up, never more than the limit."""

    def __init__(self, work: Callable[[Any, Scope], Any], limit: int, *, stoppable: bool) -> None:
        self._work = work
        self._limit = limit
        self._stoppable = stoppable
        self._threads: list[threading.Thread] = []
        self._todo: SimpleQueue[_Job | None] = SimpleQueue()
        self.finished: SimpleQueue[_Job] = SimpleQueue()
        self.running: set[_Job] = set()

    def submit(self, job: _Job) -> None:
        self.running.add(job)
        self._todo.put(job)
        if len(self._threads) < min(self._limit, len(self.running)):
            thread = threading.Thread(target=self._serve, name="smendpoint-map", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self) -> None:
        while (job := self._todo.get()) is not None:
            try:
                job.output = self._work(job.value, job.scope)
            except Cancelled:
                pass  # whoever cancelled does not wait for the outcome
            except BaseException as error:  # such as a handler's SystemExit: the caller's thread is who should see it
                job.error = error
            job.value = None
            job.done.set()
            self.finished.put(job)
        self._todo.put(None)  # for the next thread

    def stop(self) -> None:
        """End every call that is under way, and every thread; what cannot be stopped ends by itself."""
        if sys.is_finalizing():
            return  # the threads have gone with the interpreter, without saying so to who waits for them
        self._todo.put(None)  # first: whatever interrupts this, no thread stays for ever
        for job in self.running:
            job.scope.stop()
        if self._stoppable or not self.running:
            for thread in self._threads:
                with suppress(RuntimeError):  # an interrupt came while it was starting: it ends by itself
                    thread.join()


def fan_out(
    work: Callable[[A, Scope], B],
    inputs: Iterable[A],
    limit: int,
    *,
    stoppable: bool,
    ordered: bool,
    return_exceptions: bool,
) -> Iterator[B | Exception]:
    """Give ``work(value, scope)`` for each input, at most `limit` at a time.

    Args:
        work: called in threads; ends early when its scope is stopped.
        inputs: read one by one, in the caller's thread.
        limit: the most inputs and outputs that are held at any time.
        stoppable: whether stopping a scope ends its work.
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
                    workers.submit(job)
                    if ordered:
                        waiting.append(job)
            if not workers.running:
                return
            if ordered:
                job = waiting.popleft()
                job.done.wait()
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
