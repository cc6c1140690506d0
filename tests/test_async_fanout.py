"""`AsyncEndpoint.map`: order, bounds, errors, and leaving early."""
# ruff: noqa: F401, F811 (fixtures are imported)

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import pytest
from async_loops import PATIENCE, Run, others, run, settled, turns
from garbage import collect

from smendpoint._calls.async_fanout import fan_out
from smendpoint._calls.async_limiter import AsyncLimiter
from smendpoint._calls.window import HELD_PER_CALL, Window
from smendpoint._core.call.slots import Slot
from smendpoint._transport.deadline import SYSTEM_CLOCK


async def double(value: int) -> int:
    await turns(value * 7 % 5)
    return value * 2


async def counting(values: Iterable[int]) -> AsyncIterator[int]:
    for value in values:
        await asyncio.sleep(0)
        yield value


def mapped(work: Any, inputs: Any, cap: int | None, *, slots: int = 1000, **options: Any) -> Any:
    """Fan out work that leaves its slot alone."""
    return fan_out(lambda value, slot: work(value), inputs, AsyncLimiter(slots, SYSTEM_CLOCK), Window(cap, **options))


KINDS = pytest.mark.parametrize("given", [iter, counting], ids=["iterable", "asynchronous"])
ORDERED = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "as completed"])


@KINDS
@ORDERED
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_every_input_has_its_output(run: Run, given: Any, ordered: bool, limit: int) -> None:
    async def main() -> None:
        outputs = [output async for output in mapped(double, given(range(40)), limit, ordered=ordered)]
        assert (outputs if ordered else sorted(outputs)) == [value * 2 for value in range(40)]
        assert [output async for output in mapped(double, given(()), limit, ordered=ordered)] == []

    run(main())


def test_inputs_that_cannot_be_iterated_leave_no_event_loop_behind() -> None:
    class Broken:
        def __iter__(self) -> Iterator[int]:
            raise OSError("gone")

    limiter = AsyncLimiter(1, SYSTEM_CLOCK)
    loops = []

    async def main() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        with pytest.raises(OSError, match="gone"):
            await fan_out(lambda value, slot: double(value), Broken(), limiter, Window(None)).__anext__()

    asyncio.run(main())
    collect()
    assert loops[0]() is None


def test_outputs_come_as_they_are_ready_where_order_is_not_asked_for(run: Run) -> None:
    async def main() -> None:
        gates = [asyncio.Event() for _ in range(3)]

        async def work(number: int) -> int:
            await gates[number].wait()
            return number

        outputs = mapped(work, range(3), 3, ordered=False)
        given = []
        for number in (2, 0, 1):
            gates[number].set()
            given.append(await outputs.__anext__())
        assert given == [2, 0, 1]
        await outputs.aclose()

    run(main())


@KINDS
@ORDERED
def test_no_more_than_the_limit_is_read_ahead_or_held(run: Run, given: Any, ordered: bool) -> None:
    read = [0]

    def inputs() -> Iterator[int]:
        for value in itertools.count():
            read[0] += 1
            yield value

    async def main() -> None:
        running = [0, 0]

        async def work(value: int) -> int:
            running[0] += 1
            running[1] = max(running)
            await turns(20)
            running[0] -= 1
            return value

        outputs = mapped(work, given(inputs()), 4, ordered=ordered)
        for taken in range(1, 50):
            await outputs.__anext__()
            await turns(10)
            assert read[0] <= taken + 4
        assert running[1] == 4
        await outputs.aclose()

    run(main())


def test_an_output_does_not_wait_for_the_next_input(run: Run) -> None:
    async def main() -> None:
        queue: asyncio.Queue[int] = asyncio.Queue()

        async def inputs() -> AsyncIterator[int]:
            while True:
                yield await queue.get()

        outputs = mapped(double, inputs(), 8)
        for value in range(3):
            queue.put_nowait(value)
            assert await asyncio.wait_for(outputs.__anext__(), PATIENCE) == value * 2
        await outputs.aclose()

    run(main())


def test_asynchronous_inputs_are_all_read_in_one_task(run: Run) -> None:
    """A task group that the inputs enter must be left by the task that entered it."""

    async def main() -> None:
        tasks = set()

        async def inputs() -> AsyncIterator[int]:
            for value in range(5):
                tasks.add(asyncio.current_task())
                yield value
            tasks.add(asyncio.current_task())

        assert [output async for output in mapped(double, inputs(), 2)] == [0, 2, 4, 6, 8]
        assert len(tasks) == 1

    run(main())


@KINDS
@ORDERED
def test_one_input_more_is_read_than_there_are_slots(run: Run, given: Any, ordered: bool) -> None:
    read, over, most = 0, 0, 0

    def inputs() -> Iterator[int]:
        nonlocal read, most
        for value in range(100):
            read += 1
            most = max(most, read - over)
            yield value

    async def main() -> None:
        async def work(value: int) -> int:
            nonlocal over
            await turns(value % 5)
            over += 1
            return value

        outputs = [output async for output in mapped(work, given(inputs()), None, slots=3, ordered=ordered)]
        assert sorted(outputs) == list(range(100))
        assert most <= 4

    run(main())


@KINDS
def test_a_job_that_fails_before_its_call_gives_its_slot_back(run: Run, given: Any) -> None:
    async def main() -> None:
        async def work(value: int) -> int:
            raise LookupError(value)

        found = [error async for error in mapped(work, given(range(5)), None, slots=1, return_exceptions=True)]
        assert [error.args for error in found] == [(value,) for value in range(5)]

    run(main())


@KINDS
def test_a_map_that_is_left_while_a_job_waits_for_its_slot_gives_all_slots_back(run: Run, given: Any) -> None:
    async def main() -> None:
        limiter = AsyncLimiter(1, SYSTEM_CLOCK)

        async def work(value: int, slot: Slot) -> int:
            return value

        results = fan_out(work, given(range(3)), limiter, Window(None))
        assert await results.__anext__() == 0
        await results.aclose()
        assert limiter.slot().take()

    run(main())


async def waiting_for_a_slot() -> tuple[AsyncLimiter, Slot, Any, asyncio.Future[int]]:
    """A map whose first job waits for the only slot: the limiter, the slot's holder, the map and its first output."""
    limiter = AsyncLimiter(1, SYSTEM_CLOCK)
    other = limiter.slot()
    assert other.take()

    async def work(value: int, slot: Slot) -> int:
        return value

    results = fan_out(work, range(2), limiter, Window(None))
    first = asyncio.ensure_future(results.__anext__())
    await turns(3)
    return limiter, other, results, first


def test_a_slot_that_another_thread_gives_to_a_map_that_is_left_is_given_back(run: Run) -> None:
    async def main() -> None:
        limiter, other, _results, first = await waiting_for_a_slot()
        first.cancel()
        giver = threading.Thread(target=other.end, args=(None,))
        giver.start()
        giver.join(PATIENCE)  # the loop learns of it after the cancellation
        await asyncio.wait({first})
        await turns(3)
        assert limiter.slot().take()

    run(main())


def test_a_job_starts_when_another_thread_gives_its_slot_back(run: Run) -> None:
    async def main() -> None:
        _limiter, other, results, first = await waiting_for_a_slot()
        await asyncio.get_running_loop().run_in_executor(None, other.end, None)
        assert await first == 0
        await results.aclose()

    run(main())


@KINDS
def test_a_slow_answer_holds_back_the_other_calls_only_where_the_window_is_full(run: Run, given: Any) -> None:
    window = 2 * HELD_PER_CALL
    read = 0

    def inputs() -> Iterator[int]:
        nonlocal read
        for value in range(2 * window):
            read += 1
            yield value

    async def main() -> None:
        head = asyncio.Event()

        async def work(value: int) -> int:
            if value == 0:
                await head.wait()
            if value == window:
                asyncio.get_running_loop().call_later(0, head.set)
            return value

        outputs = mapped(work, given(inputs()), 2)
        assert await outputs.__anext__() == 0
        assert window < read <= window + 2
        assert [output async for output in outputs] == list(range(1, 2 * window))

    run(main())


@KINDS
@ORDERED
def test_outputs_can_be_joined_to_their_inputs(run: Run, given: Any, ordered: bool) -> None:
    async def main() -> None:
        outputs = mapped(fails_at_three, given(range(5)), 2, ordered=ordered, return_exceptions=True, enumerated=True)
        pairs = {index: output async for index, output in outputs}
        assert type(pairs.pop(3)) is KeyError
        assert pairs == {0: 0, 1: 1, 2: 2, 4: 4}

    run(main())


@KINDS
def test_an_error_that_will_end_the_iteration_stops_the_reading_at_once(run: Run, given: Any) -> None:
    read: list[int] = []

    def inputs() -> Iterator[int]:
        for value in range(100):
            read.append(value)
            yield value

    async def main() -> None:
        failed = asyncio.Event()

        async def work(value: int) -> int:
            if value == 1:
                failed.set()
                raise LookupError
            await failed.wait()
            await turns(20)
            return value

        outputs = mapped(work, given(inputs()), 3)
        assert await outputs.__anext__() == 0
        with pytest.raises(LookupError):
            await outputs.__anext__()
        assert len(read) <= 3
        assert not others()

    run(main())


def test_an_input_that_comes_after_such_an_error_is_not_sent(run: Run) -> None:
    async def main() -> None:
        sent: list[int] = []
        failed = asyncio.Event()
        waiting = asyncio.Event()

        async def inputs() -> AsyncIterator[int]:
            yield 0
            yield 1
            waiting.set()
            await failed.wait()
            await turns()
            yield 2

        async def work(value: int) -> int:
            sent.append(value)
            await waiting.wait()
            if value == 0:
                await turns(20)
                return value
            failed.set()
            raise LookupError

        outputs = mapped(work, inputs(), 3)
        assert await outputs.__anext__() == 0
        with pytest.raises(LookupError):
            await outputs.__anext__()
        assert sent == [0, 1]

    run(main())


async def fails_at_three(value: int) -> int:
    await turns(value)
    if value == 3:
        raise KeyError(value)
    return value


@KINDS
@ORDERED
def test_an_error_ends_the_iteration_and_the_other_tasks(run: Run, given: Any, ordered: bool) -> None:
    async def main() -> None:
        outputs = []
        with contextlib.suppress(KeyError):
            async for output in mapped(fails_at_three, given(itertools.count()), 4, ordered=ordered):
                outputs.append(output)
            pytest.fail("it did not end with the error")
        assert outputs == [0, 1, 2]
        assert not others()

    run(main())


@ORDERED
def test_with_return_exceptions_an_error_takes_the_place_of_its_output(run: Run, ordered: bool) -> None:
    async def main() -> None:
        outputs = [
            output async for output in mapped(fails_at_three, range(6), 2, ordered=ordered, return_exceptions=True)
        ]
        assert [output for output in outputs if isinstance(output, int)] == [0, 1, 2, 4, 5]
        assert [type(output) for output in outputs].count(KeyError) == 1

    run(main())


def test_an_error_that_is_not_an_exception_ends_the_iteration_in_any_case(run: Run) -> None:
    class Stop(BaseException):
        pass

    async def main() -> None:
        async def work(_: int) -> None:
            future = asyncio.get_running_loop().create_future()
            future.set_exception(Stop())
            await future

        task: asyncio.Future[Any] = asyncio.ensure_future(mapped(work, [1], 1, return_exceptions=True).__anext__())
        await asyncio.wait({task})
        assert isinstance(task.exception(), Stop)

    run(main())


@KINDS
def test_errors_that_are_not_delivered_are_not_reported(run: Run, given: Any) -> None:
    """Several fail at once: the first ends the iteration, the others are neither raised nor logged."""

    async def main() -> None:
        async def fail(value: int) -> None:
            raise KeyError(value)

        with pytest.raises(KeyError, match="0"):
            await mapped(fail, given(range(5)), 5).__anext__()

    run(main())
    collect()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_error_of_the_inputs_ends_the_iteration_and_the_tasks(run: Run, asynchronous: bool) -> None:
    def inputs() -> Iterator[int]:
        yield 1
        raise KeyError("inputs")

    async def never(_: int) -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        outputs = mapped(never, counting(inputs()) if asynchronous else inputs(), 2)
        with pytest.raises(KeyError, match="inputs"):
            await outputs.__anext__()
        assert not others()

    run(main())


@KINDS
@pytest.mark.parametrize("how", ["break", "aclose", "cancel", "collect"])
def test_leaving_early_stops_the_tasks(run: Run, given: Any, how: str) -> None:
    async def main() -> None:
        started: list[int] = []
        stopped: list[int] = []

        async def work(value: int) -> int:
            if value:
                started.append(value)
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    stopped.append(value)
            await turns(10)  # until the others have started
            return value

        async def iterate() -> None:
            outputs = mapped(work, given(itertools.count()), 4)
            async for output in outputs:
                assert output == 0
                if how == "break":
                    break
                if how == "aclose":
                    await outputs.aclose()
                    assert sorted(stopped) == sorted(started)

        task = asyncio.ensure_future(iterate())
        await turns(20)
        if how == "cancel":
            task.cancel()
        if how == "collect":
            outputs = mapped(work, given(itertools.count()), 4)
            await outputs.__anext__()
            task.cancel()
            del outputs
        await asyncio.wait({task})
        await settled()
        assert started
        assert sorted(stopped) == sorted(started)

    run(main())


def test_a_second_cancellation_does_not_wait_for_tasks_that_are_being_stopped(run: Run) -> None:
    async def main() -> None:
        free = asyncio.Event()

        async def stubborn(_: int) -> None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                await free.wait()
                raise KeyError("nobody hears this") from None

        task: asyncio.Future[Any] = asyncio.ensure_future(mapped(stubborn, range(2), 2).__anext__())
        await turns()
        task.cancel()
        await turns()
        assert not task.done()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        free.set()

    run(main())


def test_the_inputs_that_are_done_with_are_not_held() -> None:
    async def work(value: int) -> bytes:
        return bytes(1000)

    async def main() -> None:
        outputs = mapped(work, itertools.count(), 8)
        for _ in range(1000):
            await outputs.__anext__()
        tracemalloc.start()
        for _ in range(10_000):
            await outputs.__anext__()
        current, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert current < 200_000
        await outputs.aclose()

    asyncio.run(main())
