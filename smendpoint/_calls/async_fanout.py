"""`AsyncEndpoint.map`: several calls at a time, in tasks, over inputs that are read as slots get free."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator

A = TypeVar("A")
B = TypeVar("B")


class _Tasks(Generic[A, B]):
    """The tasks of one fan-out, at most `limit` of them, and the inputs that become tasks.

    Attributes:
        waiting: the tasks whose outputs are still to be given, in the order of the inputs or of their completion.
    """

    def __init__(
        self,
        work: Callable[[A], Coroutine[Any, Any, B]],
        inputs: Iterable[A] | AsyncIterable[A],
        limit: int,
        *,
        ordered: bool,
    ) -> None:
        self._work = work
        self._limit = limit
        self._ordered = ordered
        self._running: set[asyncio.Task[B]] = set()
        self.waiting: deque[asyncio.Task[B]] = deque()
        self._changed = asyncio.Event()
        self._slot_free = asyncio.Event()
        self._exhausted = False
        self._source: Iterator[A] = iter(())
        self._reading: asyncio.Task[None] | None = None
        if isinstance(inputs, AsyncIterable):
            self._reading = asyncio.create_task(self._read(inputs))
            self._reading.add_done_callback(self._notify)
        else:
            self._source = iter(inputs)

    @property
    def over(self) -> bool:
        """Whether every input has been read, and its output given."""
        return self._exhausted and not self._running

    async def _read(self, values: AsyncIterable[A]) -> None:
        async for value in values:
            self._start(value)
            while len(self._running) >= self._limit:
                self._slot_free.clear()
                await self._slot_free.wait()

    def fill(self) -> None:
        """Start a task in each free slot, as far as there are inputs. Raises what the inputs raise."""
        if self._reading is not None:
            if self._reading.done() and not self._exhausted:
                self._reading.result()
                self._exhausted = True
            return
        while not self._exhausted and len(self._running) < self._limit:
            try:
                self._start(next(self._source))
            except StopIteration:
                self._exhausted = True

    def _start(self, value: A) -> None:
        task = asyncio.create_task(self._work(value))
        self._running.add(task)
        if self._ordered:
            self.waiting.append(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[B]) -> None:
        if not self._ordered:
            self.waiting.append(task)
        self._notify(task)

    def _notify(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            task.exception()  # asyncio would report an error that is never given
        self._changed.set()

    async def wait(self) -> None:
        """Wait until a task has ended, or all inputs have been read."""
        self._changed.clear()
        await self._changed.wait()

    def free(self, task: asyncio.Task[B]) -> None:
        """Free the slot of a task whose output has been given."""
        self._running.discard(task)
        self._slot_free.set()

    async def stop(self) -> None:
        """Cancel what is still running, and wait for its end."""
        left: set[asyncio.Task[Any]] = {*self._running}
        if self._reading is not None:
            left.add(self._reading)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)


async def fan_out(
    work: Callable[[A], Coroutine[Any, Any, B]],
    inputs: Iterable[A] | AsyncIterable[A],
    limit: int,
    *,
    ordered: bool,
    return_exceptions: bool,
) -> AsyncGenerator[B | Exception, None]:
    """Give the result of ``work(value)`` for each input, at most `limit` at a time. Arguments as for `fanout.fan_out`.

    Each call runs in a task of its own. Asynchronous inputs are read in one more, so that an output never waits for the
    next input.
    """
    tasks = _Tasks(work, inputs, limit, ordered=ordered)
    try:
        while True:
            tasks.fill()
            if tasks.waiting and tasks.waiting[0].done():
                task = tasks.waiting.popleft()
                error = task.exception()
                if error is None:
                    yield task.result()
                elif return_exceptions and isinstance(error, Exception):
                    yield error
                else:
                    raise error
                tasks.free(task)
            elif tasks.over:
                return
            else:
                await tasks.wait()
    finally:
        await tasks.stop()
