"""`_transport/timeouts.py`: a limit of time, which loses no result and no cancellation."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from async_loops import PATIENCE, Run, turns

from smendpoint._transport.timeouts import TimedOut, wait_for


def forget(_: object) -> None:
    """Nothing to let go of."""


async def never() -> None:
    await asyncio.get_running_loop().create_future()


async def soon() -> str:
    await turns(1)
    return "done"


def test_a_result_in_time_is_given(run: Run) -> None:
    async def main() -> None:
        assert await wait_for(soon(), PATIENCE, forget) == "done"
        assert await wait_for(soon(), None, forget) == "done"

    run(main())


def test_an_exception_in_time_is_raised_as_it_is(run: Run) -> None:
    error = KeyError("x")

    async def fail() -> None:
        raise error

    async def main() -> None:
        with pytest.raises(KeyError) as caught:
            await wait_for(fail(), PATIENCE, forget)
        assert caught.value is error

    run(main())


class Slow:
    """Something that never ends by itself, and takes a moment to be cancelled."""

    ended = False

    async def __call__(self) -> None:
        try:
            await never()
        finally:
            await turns(1)
            self.ended = True


def test_a_task_that_takes_too_long_is_cancelled_and_has_ended(run: Run) -> None:
    async def main() -> None:
        slow = Slow()
        with pytest.raises(TimedOut):
            await wait_for(slow(), 0.0, forget)
        assert slow.ended

    run(main())


def test_a_result_that_comes_in_spite_of_the_time_limit_is_given(run: Run) -> None:
    async def stubborn() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await never()
        return "at last"

    async def main() -> None:
        assert await wait_for(stubborn(), 0.0, forget) == "at last"

    run(main())


def test_cancellation_from_outside_passes_unchanged_once_the_inside_has_ended(run: Run) -> None:
    async def main() -> None:
        slow = Slow()
        task = asyncio.ensure_future(wait_for(slow(), PATIENCE, forget))
        await turns()
        task.cancel("by me")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.args in (("by me",), ())  # Python 3.10 makes a new one on the way to the awaiting task
        assert slow.ended

    run(main())


@pytest.mark.parametrize("late_first", [True, False])
def test_cancellation_in_the_moment_when_the_time_is_over_is_not_lost(run: Run, late_first: bool) -> None:
    class Rings:
        """A loop whose timers ring when they are told to."""

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self.ring: Any = None
            self.real = loop.call_later
            loop.call_later = self.call_later  # type: ignore[method-assign]  # for this test

        def call_later(self, seconds: float, ring: Any, *arguments: Any, **more: Any) -> asyncio.TimerHandle:
            self.ring = lambda: ring(*arguments)
            return self.real(PATIENCE, ring, *arguments, **more)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, asyncio.SelectorEventLoop):
            return  # the methods of uvloop's cannot be replaced, and the order is made here, not there
        rings = Rings(loop)
        task = asyncio.ensure_future(wait_for(never(), PATIENCE, forget))
        await turns()
        if late_first:
            rings.ring()
            task.cancel()
        else:
            task.cancel()
            rings.ring()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_a_second_cancellation_does_not_wait_for_the_inside(run: Run) -> None:
    disposed: list[str] = []

    async def stubborn(free: asyncio.Event) -> str:
        try:
            await never()
        except asyncio.CancelledError:
            await free.wait()
        return "too late"

    async def main() -> None:
        free = asyncio.Event()
        task = asyncio.ensure_future(wait_for(stubborn(free), PATIENCE, disposed.append))
        await turns()
        task.cancel()
        await turns()
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert disposed == []
        free.set()
        await turns()
        assert disposed == ["too late"]

    run(main())


@pytest.mark.parametrize("fails", [False, True])
def test_a_result_that_comes_together_with_a_cancellation_is_disposed_of_and_an_error_dropped(
    run: Run, fails: bool
) -> None:
    disposed: list[str] = []

    async def main() -> None:
        inner: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(wait_for(inner, PATIENCE, disposed.append))
        await turns()
        if fails:
            inner.set_exception(OSError())
        else:
            inner.set_result("connection")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert disposed == ([] if fails else ["connection"])

    run(main())


def test_a_waiter_that_is_thrown_away_cancels_the_inside(run: Run) -> None:
    async def main() -> None:
        coroutine = wait_for(never(), PATIENCE, forget)
        coroutine.send(None)
        coroutine.close()

    run(main())
