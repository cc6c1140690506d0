"""`AsyncEndpoint.map`: several calls at a time, in tasks, over inputs that are read as places get free."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator

A = TypeVar("A")
B = TypeVar("B")


async def fan_out(
    work: Callable[[A], Awaitable[B]],
    inputs: Iterable[A] | AsyncIterable[A],
    limit: int,
    *,
    ordered: bool,
    return_exceptions: bool,
) -> AsyncGenerator[B | Exception, None]:
    """Give what ``work(value)`` awaits for each input, at most `limit` at a time.

    Args:
        work: called in tasks of their own.
        inputs: read one by one, as places get free; asynchronous ones in a task of their own, so that an output never
            waits for the next input.
        limit: the most inputs and outputs that are held at any time.
        ordered: whether outputs come in the order of their inputs.
        return_exceptions: whether an error takes the place of its output.
    """
    running: set[asyncio.Task[B]] = set()
    waiting: deque[asyncio.Task[B]] = deque()  # in the order to be given: of the inputs, or of their completion
    news = asyncio.Event()
    room = asyncio.Event()

    async def run(value: A) -> B:
        return await work(value)

    def start(value: A) -> None:
        task = asyncio.ensure_future(run(value))
        running.add(task)
        if ordered:
            waiting.append(task)
        task.add_done_callback(finished)

    def finished(task: asyncio.Task[B]) -> None:
        if not ordered:
            waiting.append(task)
        heard(task)

    def heard(task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            task.exception()  # it may never be given: that is nothing for asyncio to report
        news.set()

    async def read(values: AsyncIterable[A]) -> None:
        async for value in values:
            start(value)
            while len(running) >= limit:
                room.clear()
                await room.wait()

    reading: asyncio.Task[None] | None = None
    source: Iterator[A] = iter(())
    try:
        if isinstance(inputs, AsyncIterable):
            reading = asyncio.ensure_future(read(inputs))
            reading.add_done_callback(heard)
        else:
            source = iter(inputs)
        exhausted = False
        while True:
            if reading is not None:
                if reading.done() and not exhausted:
                    reading.result()  # what the inputs raised
                    exhausted = True
            else:
                while not exhausted and len(running) < limit:
                    try:
                        start(next(source))
                    except StopIteration:
                        exhausted = True
            if waiting and waiting[0].done():
                task = waiting.popleft()
                error = task.exception()
                if error is None:
                    yield task.result()
                elif return_exceptions and isinstance(error, Exception):
                    yield error
                else:
                    raise error
                running.discard(task)
                room.set()
            elif exhausted and not running:
                return
            else:
                news.clear()
                await news.wait()
    finally:
        left: set[asyncio.Task[Any]] = {*running}
        if reading is not None:
            left.add(reading)
        for unfinished in left:
            unfinished.cancel()
        if left:
            await asyncio.wait(left)
