"""`AsyncEndpoint.map`: several calls at a time, in tasks, over inputs that are read as places get free."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator

A = TypeVar("A")
B = TypeVar("B")


async def fan_out(
    work: Callable[[A], Awaitable[B]],
    inputs: Iterable[A] | AsyncIterable[A],
    limit: int,
    *,
    ordered: bool,
    return_exceptions: bool,
) -> AsyncIterator[B | Exception]:
    """Give what ``work(value)`` awaits for each input, at most `limit` at a time.

    Args:
        work: called in tasks of their own.
        inputs: read one by one, as places get free.
        limit: the most inputs and outputs that are held at any time.
        ordered: whether outputs come in the order of their inputs.
        return_exceptions: whether an error takes the place of its output.
    """
    running: set[asyncio.Task[B]] = set()
    waiting: deque[asyncio.Task[B]] = deque()  # in the order to be given: of the inputs, or of their completion
    arrived = asyncio.Event()

    async def run(value: A) -> B:
        return await work(value)

    def finished(task: asyncio.Task[B]) -> None:
        if not ordered:
            waiting.append(task)
        arrived.set()

    source: Any = _read(inputs)
    exhausted = False
    try:
        while True:
            while not exhausted and len(running) < limit:
                try:
                    value = await source.__anext__() if isinstance(inputs, AsyncIterable) else next(source)
                except (StopIteration, StopAsyncIteration):
                    exhausted = True
                else:
                    task = asyncio.ensure_future(run(value))
                    running.add(task)
                    if ordered:
                        waiting.append(task)
                    task.add_done_callback(finished)
            if not running:
                return
            while not (waiting and waiting[0].done()):
                arrived.clear()
                await arrived.wait()
            task = waiting.popleft()
            running.discard(task)
            error = task.exception()
            if error is None:
                yield task.result()
            elif return_exceptions and isinstance(error, Exception):
                yield error
            else:
                raise error
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)


def _read(inputs: Iterable[A] | AsyncIterable[A]) -> Iterator[A] | AsyncIterator[A]:
    return inputs.__aiter__() if isinstance(inputs, AsyncIterable) else iter(inputs)
