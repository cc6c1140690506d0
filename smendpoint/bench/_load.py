"""The load: a closed loop, in which each client sends once it has its answer, or an open loop of arriving requests."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from typing import TypeAlias

    from typing_extensions import Self

    from smendpoint.bench._inputs import Prompt
    from smendpoint.bench._records import Record

    Ask: TypeAlias = Callable[[Prompt, float], Awaitable[Record]]
    """Makes a request that was due at a moment, and returns the measurement."""

FAILURE_PAUSE_SECONDS = 0.1
"""Seconds that a client of a closed loop waits after a failed request, so as not to flood an endpoint that refuses."""


@dataclass(frozen=True)
class Load:
    """How requests are sent, and for how long. Set one of `concurrency` and `rate`, and `count` or `duration`.

    Attributes:
        concurrency: in a closed loop, the number of clients.
        rate: in an open loop, the average number of requests that arrive per second (a Poisson process). ``math.inf``
            for all of them at once.
        count: the most requests; ``None`` if only the duration limits them.
        duration: seconds in which requests are sent; ``None`` if only the count limits them.
        seed: the seed of the arrivals.
    """

    concurrency: int | None = None
    rate: float | None = None
    count: int | None = None
    duration: float | None = None
    seed: int = 0

    def check(self) -> None:
        """Raise `ConfigurationError` if it is not valid."""
        if (self.concurrency is None) == (self.rate is None):
            raise ConfigurationError("a load takes one of concurrency and rate")
        for name, kind in (("concurrency", int), ("rate", (int, float)), ("count", int), ("duration", (int, float))):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, kind) and value > 0):
                whole = "a whole number" if kind is int else "a number"
                raise ConfigurationError(f"{name} must be {whole} above 0, not {value!r}")
        if self.count is None and (self.duration is None or self.rate == math.inf):
            raise ConfigurationError("a load takes a count or a duration; with all requests at once, it takes a count")


def arrivals(load: Load) -> Iterator[float]:
    """Yield the moments at which requests arrive in an open loop, in seconds after the start, without end."""
    assert load.rate is not None
    chance, moment = random.Random(load.seed), 0.0
    while True:
        yield moment
        moment += chance.expovariate(load.rate)


class _Tasks:
    """Tasks that end together, for ``async with``: the first exception cancels the others."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._failed = asyncio.get_running_loop().create_future()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and self._failure is None:
            self._failure = error
            self._failed.set_result(None)

    async def sleep(self, seconds: float) -> bool:
        """Wait, at least until the tasks have run; return whether one has failed, which ends the wait."""
        if seconds > 0:
            await asyncio.wait([self._failed], timeout=seconds)
        else:
            await asyncio.sleep(0)
        return self._failure is not None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            if exc_info[0] is None and self._failure is None and self._tasks:
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
        if self._failure is not None:
            raise self._failure


async def drive(load: Load, prompts: Iterator[Prompt], ask: Ask, done: Callable[[Record], object]) -> None:
    """Send requests until the load is over or there are no more prompts, and wait for their answers.

    Cancelling it, or an exception of `ask`, cancels the calls in flight.
    """
    now = asyncio.get_running_loop().time
    began, until = now(), math.inf if load.duration is None else load.duration
    prompts = itertools.islice(prompts, load.count)

    async def client() -> None:
        while now() - began < until and (prompt := next(prompts, None)) is not None:
            record = await ask(prompt, now())
            done(record)
            if record.error:
                await asyncio.sleep(FAILURE_PAUSE_SECONDS)

    async def one(prompt: Prompt, due: float) -> None:
        done(await ask(prompt, due))

    async with _Tasks() as tasks:
        for _ in range(load.concurrency or 0):
            tasks.start(client())
        moments = () if load.rate is None else itertools.takewhile(lambda moment: moment < until, arrivals(load))
        for moment, prompt in zip(moments, prompts, strict=False):
            due = began + moment
            if await tasks.sleep(due - now()):
                break
            tasks.start(one(prompt, due))
