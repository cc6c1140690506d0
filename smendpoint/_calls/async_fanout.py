"""`AsyncEndpoint.map`: several calls at a time, in tasks; an input is read when a slot is free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from smendpoint._calls.window import Job, Window

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator

    from smendpoint._calls.async_limiter import AsyncLimiter
    from smendpoint._core.call.slots import Slot

A = TypeVar("A")


class _Job(Job):
    """A job, with its input."""

    __slots__ = ("value",)

    def __init__(self, value: Any, slot: Slot) -> None:
        super().__init__(slot)
        self.value = value


class _Tasks:
    """The tasks of one fan-out, and the inputs that become tasks."""

    def __init__(
        self,
        work: Callable[[Any, Slot], Coroutine[Any, Any, Any]],
        inputs: Iterable[Any] | AsyncIterable[Any],
        limiter: AsyncLimiter,
        window: Window,
    ) -> None:
        self._work = work
        self._limiter = limiter
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        self._window = window
        self._tasks: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Event()
        self._readable = asyncio.Event()  # the task that reads asynchronous inputs waits for it
        self._source: Iterator[Any] = iter(())
        self._reading: asyncio.Task[None] | None = None
        if isinstance(inputs, AsyncIterable):
            self._reading = asyncio.create_task(self._read(inputs))
            self._reading.add_done_callback(self._all_read)
        else:
            self._source = iter(inputs)
        self._timer = limiter.join(self._loop)  # last: `stop` leaves it

    async def _read(self, values: AsyncIterable[Any]) -> None:
        async for value in values:
            if self._window.exhausted:  # a call has ended the fan-out meanwhile
                return
            self._start(value)
            del value
            while not self._window.may_read:
                self._readable.clear()
                await self._readable.wait()

    def _all_read(self, reading: asyncio.Task[None]) -> None:
        if not reading.cancelled():
            reading.exception()  # asyncio would report an error that is never retrieved
        self._changed.set()

    def fill(self) -> None:
        """Start tasks while there are slots and inputs. An error of the inputs is raised."""
        window = self._window
        if self._reading is not None:
            if self._reading.done() and not window.exhausted:
                self._reading.result()
                window.exhausted = True
            return
        while window.may_read:
            try:
                self._start(next(self._source))
            except StopIteration:
                window.exhausted = True

    def _start(self, value: Any) -> None:
        job = _Job(value, self._limiter.slot())
        job.slot.on_grant = partial(self._timer.in_loop, self._launch, job)
        self._window.begin(job)
        if self._window.without_slot is job:
            self._timer.start(self._limiter.at)

    def _launch(self, job: _Job) -> None:
        """Run a job that has its slot."""
        self._window.started(job)
        if self._stopped:
            job.slot.end(None)
            return
        task = job.context.run(self._loop.create_task, self._work(job.value, job.slot))
        job.value = job.slot.on_grant = None
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, job))
        self._wake()

    def _ended(self, job: Job, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        job.error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if job.error is None:
            job.output = task.result()
        job.slot.end(job.error)  # if the work has not done it, or has not begun
        self._window.ended(job)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        if self._reading is not None and self._window.may_read:
            self._readable.set()

    def give(self) -> Any:
        """Return the output that is ready, or raise the error of a call that ends the fan-out."""
        output = self._window.take()
        if self._reading is not None:
            self._wake()
        return output

    async def wait(self) -> None:
        """Wait until an output is ready, an input may be read, or all inputs have been read."""
        self._changed.clear()
        await self._changed.wait()

    async def stop(self) -> None:
        """Cancel the tasks that are still running, and wait for their end."""
        self._stopped = True
        self._limiter.leave(self._timer)
        if self._window.without_slot is not None:
            self._window.without_slot.slot.end(None)
        left = {*self._tasks}
        if self._reading is not None:
            left.add(self._reading)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)


async def fan_out(
    work: Callable[[A, Slot], Coroutine[Any, Any, Any]],
    inputs: Iterable[A] | AsyncIterable[A],
    limiter: AsyncLimiter,
    window: Window,
) -> AsyncGenerator[Any, None]:
    """Yield ``await work(value, slot)`` for each input. Arguments as for `fanout.fan_out`.

    Each call runs in a task of its own. Asynchronous inputs are read in one more task, so that an output never waits
    for the next input.
    """
    tasks = _Tasks(work, inputs, limiter, window)
    try:
        while True:
            tasks.fill()
            if window.ready:
                yield tasks.give()
            elif window.over:
                return
            else:
                await tasks.wait()
    finally:
        await tasks.stop()
