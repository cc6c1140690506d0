"""`AsyncEndpoint.map`: several calls at a time, in tasks, over inputs that are read as slots get free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from smendpoint._calls.window import Job, Window

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator

A = TypeVar("A")


class _Tasks:
    """The tasks of one fan-out, and the inputs that become tasks."""

    def __init__(
        self,
        work: Callable[[Any, Callable[[], None]], Coroutine[Any, Any, Any]],
        inputs: Iterable[Any] | AsyncIterable[Any],
        window: Window,
    ) -> None:
        self._work = work
        self._window = window
        self._tasks: set[asyncio.Task[Any]] = set()
        self._changed = self._readable = asyncio.Event()
        self._source: Iterator[Any] = iter(())
        self._reading: asyncio.Task[None] | None = None
        if isinstance(inputs, AsyncIterable):
            self._readable = asyncio.Event()  # which the task that reads waits for
            self._reading = asyncio.create_task(self._read(inputs))
            self._reading.add_done_callback(self._all_read)
        else:
            self._source = iter(inputs)

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
            reading.exception()  # asyncio would report an error that is never given
        self._changed.set()

    def fill(self) -> None:
        """Start tasks as far as there are slots and inputs. Raises what the inputs raise."""
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
        job = Job()
        self._window.begin(job)
        task = asyncio.create_task(self._work(value, partial(self._started, job)))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, job))

    def _started(self, job: Job) -> None:
        self._window.started(job)
        self._wake()

    def _ended(self, job: Job, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        job.error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if job.error is None:
            job.output = task.result()
        self._window.ended(job)
        self._wake()

    def _wake(self) -> None:
        window = self._window
        if window.may_read:
            self._readable.set()
        if window.ready or window.over:
            self._changed.set()

    def give(self) -> Any:
        """Give the output that is ready. Raises the error of a call that ends the fan-out."""
        output = self._window.take()
        self._wake()
        return output

    async def wait(self) -> None:
        """Wait until an output is ready, or an input is to be read, or all inputs have been read."""
        self._changed.clear()
        await self._changed.wait()

    async def stop(self) -> None:
        """Cancel what is still running, and wait for its end."""
        left = {*self._tasks}
        if self._reading is not None:
            left.add(self._reading)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)


async def fan_out(
    work: Callable[[A, Callable[[], None]], Coroutine[Any, Any, Any]],
    inputs: Iterable[A] | AsyncIterable[A],
    window: Window,
) -> AsyncGenerator[Any, None]:
    """Give ``await work(value, started)`` for each input. Arguments as for `fanout.fan_out`.

    Each call runs in a task of its own, in which the work calls ``started()``. Asynchronous inputs are read in one more
    task, so that an output never waits for the next input.
    """
    tasks = _Tasks(work, inputs, window)
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
