"""Pools of connections: the last one is used first, no more are open than allowed, and no place is ever lost."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from async_loops import Run, settled, skip, turns
from clocks import FakeClock
from garbage import collect
from servers import PATIENCE, InThread, fast, make_endpoint
from twins import Twin

from smendpoint import errors
from smendpoint._transport.aio.pool import LoopPool
from smendpoint._transport.blocking.connection import Place
from smendpoint._transport.blocking.pool import Pool
from smendpoint._transport.deadline import Deadline
from smendpoint._transport.exchange import IDLE_SECONDS
from smendpoint.emulator import Emulator, ModelRequest

pytestmark = pytest.mark.usefixtures("bare_environment")


class Line:
    """A stand-in for a connection, for the pools of both twins."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self.cut_short = False
        self.stale = False
        self.closed = False
        self.error: Any = None
        self.place: Any = None

    def is_stale(self) -> bool:
        return self.stale

    def rest(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def abort(self, error: Any = None) -> None:
        self.closed = True
        self.error = error


# both twins


class Blocking:
    """A blocking pool, for calls that make stand-ins of connections."""

    def __init__(self, limit: int | None = None) -> None:
        self.clock = FakeClock()
        self.pool: Any = Pool(limit, self.clock.monotonic)

    def open(self, *, fresh: bool = False) -> Line:
        """Take an idle connection or make one, as a call does."""
        held = self.pool.acquire(lambda: None, fresh=fresh)
        if isinstance(held, Place):
            line, place = Line(), held
            line.place = place
            return line
        assert isinstance(held, Line)
        return held

    def give_back(self, line: Line) -> None:
        self.pool.give_back(line)

    def close(self) -> None:
        self.pool.close()


class Asynchronous(Blocking):
    """A pool of asyncio, on a loop that runs only meanwhile."""

    loop: asyncio.AbstractEventLoop

    def __init__(self, limit: int | None = None) -> None:
        self.clock = FakeClock()
        self.pool = LoopPool(self.loop, limit, self.clock.monotonic, lambda _: None)

    def open(self, *, fresh: bool = False) -> Line:
        deadline = Deadline(fast(), None, self.clock.monotonic)
        line: Any = self.loop.run_until_complete(self.pool.acquire(deadline, fresh=fresh))
        if line is None:
            line = Line()
            self.pool.adopt(line)
        assert isinstance(line, Line)
        return line

    def give_back(self, line: Line) -> None:
        self.pool.give_back(line, reusable=True)

    def close(self) -> None:
        self.pool.shut()


@pytest.fixture(params=[Blocking, Asynchronous])
def make_pool(request: pytest.FixtureRequest) -> Iterator[type[Blocking]]:
    """Makes the pool of either twin."""
    Asynchronous.loop = asyncio.new_event_loop()
    yield request.param
    Asynchronous.loop.close()


def test_the_connection_that_was_used_last_is_used_first(make_pool: type[Blocking]) -> None:
    pool = make_pool()
    lines = [pool.open() for _ in range(3)]
    for line in lines:
        pool.give_back(line)
    assert [pool.open() for _ in range(3)] == lines[::-1]
    assert pool.open() not in lines


def test_a_stale_connection_is_closed_and_the_next_one_taken(make_pool: type[Blocking]) -> None:
    pool = make_pool()
    good, stale = pool.open(), pool.open()
    for line in (good, stale):
        pool.give_back(line)
    stale.stale = True
    assert pool.open() is good
    assert (good.closed, stale.closed) == (False, True)


def test_a_connection_that_was_idle_too_long_is_not_used_again(make_pool: type[Blocking]) -> None:
    pool = make_pool()
    old = pool.open()
    pool.give_back(old)
    pool.clock.passed += IDLE_SECONDS
    assert pool.open() is not old
    assert old.closed


def test_giving_one_back_closes_those_that_were_idle_too_long(make_pool: type[Blocking]) -> None:
    pool = make_pool()
    old, young = pool.open(), pool.open()
    pool.give_back(old)
    pool.clock.passed += IDLE_SECONDS + 1.0
    pool.give_back(young)
    assert (old.closed, young.closed) == (True, False)
    assert pool.open() is young


@pytest.mark.parametrize("limit", [1, 2, 3, None])
def test_a_fresh_connection_closes_the_oldest_idle_one_if_the_limit_would_be_passed(
    make_pool: type[Blocking], limit: int | None
) -> None:
    pool = make_pool(limit)
    lines = [pool.open() for _ in range(min(limit or 2, 2))]
    for line in lines:
        pool.give_back(line)
    assert pool.open(fresh=True) not in lines
    closed = [line.closed for line in lines]
    assert closed == [limit is not None and limit < 3, False][: len(lines)]


def test_closing_closes_what_is_idle_and_later_what_is_given_back(make_pool: type[Blocking]) -> None:
    pool = make_pool()
    busy, idle = pool.open(), pool.open()
    pool.give_back(idle)
    pool.close()
    assert idle.closed
    pool.give_back(busy)
    assert busy.closed
    with pytest.raises(errors.ConfigurationError, match="the endpoint is closed"):
        pool.open()


def test_an_endpoint_lets_idle_connections_go_by_its_clock(caller: Twin) -> None:
    clock = FakeClock()
    with Emulator() as emulator, caller.endpoint(emulator.url, clock=clock) as endpoint:
        for seconds, connections in ((0.0, 1), (IDLE_SECONDS - 1.0, 1), (IDLE_SECONDS + 1.0, 2)):
            clock.passed += seconds
            endpoint.invoke("Hello")
            caller.settle()
            assert emulator.total_connections == connections
        emulator.wait_for(lambda it: it.open_connections == 1)


def test_waiting_for_a_connection_counts_against_the_total_time(caller: Twin) -> None:
    with Emulator() as emulator, caller.endpoint(emulator.url, max_connections=1) as endpoint:
        with endpoint.stream("Hello"):
            with pytest.raises(errors.DeadlineExceededError, match=r"total of 0\.05 s") as caught:
                endpoint.invoke("Hello", timeout=fast(total=0.05))
        assert caught.value.request_sent is False
        assert caught.value.attempts == 1
        assert endpoint.invoke("Hello")  # nobody took a place that was not given back
        assert len(emulator.requests) == 2


# the blocking twin


def for_ever() -> None:
    return None


def blocking(limit: int | None = None) -> Any:
    return Pool(limit, FakeClock().monotonic)


def with_idle(line: Line, limit: int | None = None) -> Any:
    pool = blocking(limit)
    line.place = taken(pool)
    pool.give_back(line)
    return pool


def taken(pool: Any) -> Place:
    place = pool.acquire(for_ever, fresh=True)
    assert isinstance(place, Place)
    return place


class Waiter(InThread):
    """A thread that waits for a place.

    Args:
        pool: of the place.
        left: how long it waits; raised if it is an exception.
    """

    def __init__(self, pool: Any, left: Any = PATIENCE) -> None:
        self.left = left
        self._waiting = threading.Event()
        super().__init__(lambda: pool.acquire(self._wait, fresh=True))
        assert self._waiting.wait(PATIENCE)

    def _wait(self) -> float:
        self._waiting.set()
        if isinstance(self.left, Exception):
            raise self.left
        return float(self.left)


def test_closing_wakes_the_waiters_which_get_no_place() -> None:
    pool = blocking(1)
    held = taken(pool)
    waiter = Waiter(pool)
    pool.close()
    assert isinstance(waiter.outcome(), errors.ConfigurationError)
    assert held


def test_a_waiter_can_be_woken_to_think_again() -> None:
    pool = blocking(1)
    held = taken(pool)
    waiter = Waiter(pool)
    waiter.left = TimeoutError()
    pool.abort()
    assert waiter.outcome() is waiter.left
    assert held


def test_a_waiter_that_would_wait_for_ages_waits_until_there_is_a_place() -> None:
    pool = blocking(1)
    held = taken(pool)
    waiter = Waiter(pool, 1e300)
    pool.free(held)
    assert isinstance(waiter.outcome(), Place)


def test_after_a_fork_nothing_is_idle_and_nothing_is_busy() -> None:
    line = Line()
    pool = with_idle(line, limit=1)
    assert pool.acquire(for_ever, fresh=False) is line
    pool.forget()
    held = taken(pool)
    pool.give_back(line)  # of a call that was under way when the process forked
    assert line.closed
    assert pool.busy == 1
    pool.free(held)
    assert pool.busy == 0


def test_a_stream_that_is_collected_while_the_pool_is_at_work_gives_its_place_back() -> None:
    pool = blocking(2)
    held = taken(pool)

    class Collected(Line):
        def is_stale(self) -> bool:
            pool.free(held)  # as the garbage collector may, in the same thread
            return False

    line = Collected()
    line.place = taken(pool)
    pool.give_back(line)
    assert pool.acquire(for_ever, fresh=False) is line
    assert taken(pool)


def test_a_place_whose_holder_was_collected_is_free() -> None:
    pool = blocking(1)
    for _ in range(3):
        taken(pool)  # and forgotten
    assert pool.busy == 0


def test_a_connection_that_was_collected_leaves_its_place() -> None:
    line = Line()
    pool = with_idle(line, limit=1)
    assert pool.acquire(for_ever, fresh=False) is line
    assert pool.busy == 1
    del line
    assert pool.busy == 0


def test_a_place_that_comes_free_before_the_waiter_listens_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by the garbage collector, in the thread that is just about to wait."""
    monkeypatch.setattr("smendpoint._transport.blocking.pool.LOOK_AGAIN_SECONDS", 0.001)
    pool = blocking(1)
    held = [taken(pool)]
    assert isinstance(pool.acquire(held.clear, fresh=True), Place)


def test_a_place_twice_given_back_is_one_place() -> None:
    pool = blocking(2)
    first, second = taken(pool), taken(pool)
    for _ in range(2):
        pool.free(first)
    assert pool.busy == 1
    assert second


def test_a_waiter_that_was_woken_and_gives_up_wakes_the_next() -> None:
    pool = blocking(1)
    held = taken(pool)
    next_one = threading.Lock()
    next_one.acquire()

    def wait() -> float:
        pool._waiting.append(next_one)
        pool.free(held)  # wakes this one
        raise TimeoutError

    with pytest.raises(TimeoutError):
        pool.acquire(wait, fresh=False)
    assert not next_one.locked()
    assert not pool._waiting


def test_an_endpoint_that_is_collected_closes_its_connections_without_a_warning() -> None:
    with Emulator() as emulator:
        endpoint = make_endpoint(emulator.url)
        endpoint.invoke("Hello")
        assert emulator.open_connections == 1
        del endpoint
        collect()  # and nothing warns of a socket that was left open
        emulator.disconnected()


def interrupt(*_: Any) -> Any:
    raise KeyboardInterrupt


def test_an_interrupt_while_a_connection_is_chosen_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line()
    pool = with_idle(line, limit=1)
    monkeypatch.setattr(line, "is_stale", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pool.acquire(for_ever, fresh=False)
    assert isinstance(pool.acquire(lambda: pytest.fail("there is no place"), fresh=False), Place)


class Gate:
    """A model that answers when it is told to; says how many requests it holds."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.inside = threading.Semaphore(0)

    def __call__(self, request: ModelRequest) -> bytes:
        self.inside.release()
        assert self.open.wait(PATIENCE)
        return b'[{"generated_text": "fine"}]'


def test_an_endpoint_opens_no_more_connections_than_allowed_and_serves_every_thread() -> None:
    gate = Gate()
    with Emulator(gate) as emulator, make_endpoint(emulator.url, max_connections=2) as endpoint:
        outputs: list[str] = []
        threads = [threading.Thread(target=lambda: outputs.append(endpoint.invoke("Hello"))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for _ in range(2):
            assert gate.inside.acquire(timeout=PATIENCE)
        assert emulator.open_connections == 2
        gate.open.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert outputs == ["fine"] * 6
        assert emulator.total_connections == 2


def test_waking_no_waiter_does_nothing() -> None:
    pool = blocking()
    pool.abort()
    assert taken(pool)


# asyncio


class Queue(LoopPool):
    """A pool with a clock of its own, of stand-ins for connections."""

    def __init__(self, limit: int | None = 1) -> None:
        self.clock = FakeClock()
        self.forgotten: list[Any] = []
        super().__init__(asyncio.get_running_loop(), limit, self.clock.monotonic, self.forgotten.append)

    async def open(self, total: float | None = None) -> Any:
        """Take an idle connection or make one, as a call does."""
        connection: Any = await self.acquire(self.deadline(total), fresh=False)
        if connection is None:
            connection = Line()
            self.adopt(connection)
        return connection

    def deadline(self, total: float | None = None) -> Deadline:
        """Make the limits of a call with this total time."""
        at = None if total is None else self.clock.passed + total
        return Deadline(fast(total=total), at, self.clock.monotonic)

    async def is_free(self) -> bool:
        """Whether no place is taken: as many connections as allowed can be opened at once, and one more cannot."""
        assert self.limit is not None
        lines = [await asyncio.wait_for(self.open(), PATIENCE) for _ in range(self.limit)]
        one_more = asyncio.ensure_future(self.open())
        await turns()
        waits = not one_more.done()
        one_more.cancel()
        await asyncio.wait({one_more})
        for line in lines:
            self.give_back(line, reusable=True)
        return waits


@pytest.mark.parametrize("flaw", ["not reusable", "closed", "cut_short"])
def test_a_connection_that_cannot_be_used_again_is_closed(run: Run, flaw: str) -> None:
    async def main() -> None:
        pool = Queue()
        connection = await pool.open()
        if flaw != "not reusable":
            setattr(connection, flaw, True)
        pool.give_back(connection, reusable=flaw != "not reusable")
        assert connection.closed
        assert await pool.open() is not connection

    run(main())


def test_places_go_to_the_waiter_that_has_waited_longest(run: Run) -> None:
    order: list[int] = []

    async def call(pool: Queue, number: int) -> None:
        connection = await pool.open()
        order.append(number)
        await turns(2)
        pool.give_back(connection, reusable=True)

    async def main() -> None:
        pool = Queue(2)
        await asyncio.gather(*(call(pool, number) for number in range(20)))
        assert order == list(range(20))

    run(main())


def test_a_newcomer_does_not_overtake_a_waiter_that_was_just_given_a_place(run: Run) -> None:
    order: list[str] = []

    async def call(pool: Queue, name: str) -> None:
        connection = await pool.open()
        order.append(name)
        pool.give_back(connection, reusable=True)

    async def main() -> None:
        pool = Queue(1)
        connection = await pool.open()
        queued = asyncio.ensure_future(call(pool, "queued"))
        await turns()
        pool.give_back(connection, reusable=True)
        await asyncio.gather(call(pool, "newcomer"), queued)
        assert order == ["queued", "newcomer"]

    run(main())


@pytest.mark.parametrize("seed", range(40))
def test_no_place_is_lost_or_given_twice_by_cancellation_at_any_turn(run: Run, seed: int) -> None:
    """Cancel callers at any turn of the loop: while they queue, when they have just got a place, while they hold it."""

    async def main() -> None:
        pool = Queue(2)
        held = [0, 0]  # now, and at most

        async def call() -> None:
            connection = await pool.open(total=PATIENCE if seed % 2 else None)
            held[0] += 1
            held[1] = max(held)
            try:
                await turns(2)
            finally:
                held[0] -= 1
                pool.give_back(connection, reusable=seed % 3 > 0)

        tasks = [asyncio.ensure_future(call()) for _ in range(12)]
        for turn in itertools.count():
            if all(task.done() for task in tasks):
                break
            tasks[(seed * 7 + turn * (seed % 5 + 1)) % len(tasks)].cancel()
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} <= {type(None), asyncio.CancelledError}
        assert held[1] <= 2
        assert await pool.is_free()

    run(main())


def test_a_caller_that_is_thrown_away_leaves_the_queue(run: Run) -> None:
    async def main() -> None:
        pool = Queue(1)
        connection = await pool.open()
        coroutine = pool.open()
        coroutine.send(None)
        coroutine.close()
        pool.give_back(connection, reusable=True)
        assert await pool.is_free()

    run(main())


def test_queueing_counts_against_the_total_time(run_skipping: Run) -> None:
    async def main() -> None:
        pool = Queue(1)
        connection = await pool.open()
        queued = asyncio.ensure_future(pool.open(total=PATIENCE))
        await turns()
        skip(PATIENCE)
        with pytest.raises(errors.DeadlineExceededError) as caught:
            await queued
        assert not caught.value.request_sent
        pool.give_back(connection, reusable=True)
        assert await pool.is_free()
        assert await pool.open() is connection

    run_skipping(main())


def test_a_call_without_any_time_left_does_not_queue(run: Run) -> None:
    async def main() -> None:
        pool = Queue(1)
        connection = await pool.open()
        deadline = pool.deadline(1.0)
        pool.clock.passed += 1.0
        with pytest.raises(errors.DeadlineExceededError):
            await pool.acquire(deadline, fresh=False)
        pool.give_back(connection, reusable=True)
        assert await pool.is_free()

    run(main())


@pytest.mark.parametrize("moment", range(4))
def test_a_place_that_comes_too_late_goes_to_the_next(run_skipping: Run, moment: int) -> None:
    async def main() -> None:
        pool = Queue(1)
        connection = await pool.open()
        late = asyncio.ensure_future(pool.open(total=PATIENCE))
        await turns()
        next_one = asyncio.ensure_future(pool.open())
        await turns()
        skip(PATIENCE)
        await turns(2 + moment)  # the timer of the first has rung
        pool.give_back(connection, reusable=True)
        assert await next_one is connection
        with pytest.raises(errors.DeadlineExceededError):
            await late

    run_skipping(main())


def test_a_place_that_comes_just_before_the_time_is_over_is_taken(run_skipping: Run) -> None:
    async def main() -> None:
        pool = Queue(1)
        connection = await pool.open()
        queued = asyncio.ensure_future(pool.open(total=PATIENCE))
        await turns()
        pool.give_back(connection, reusable=True)
        skip(PATIENCE)  # the timer rings before the call goes on
        assert await queued is connection

    run_skipping(main())


def test_closing_aborts_everything_and_wakes_the_waiters(run: Run) -> None:
    async def main() -> None:
        pool = Queue(2)
        idle, busy = await pool.open(), await pool.open()
        pool.give_back(idle, reusable=True)
        assert await pool.open() is idle
        pool.give_back(idle, reusable=True)
        await pool.open()
        queued = [asyncio.ensure_future(pool.open()) for _ in range(2)]
        await turns()
        queued[1].cancel()
        await pool.close()
        await pool.close()
        assert idle.closed
        assert busy.closed
        assert isinstance(busy.error, errors.EndpointError)
        with pytest.raises(errors.ConfigurationError, match="closed while"):
            await queued[0]
        with pytest.raises(errors.ConfigurationError, match="is closed"):
            await pool.open()
        pool.give_back(busy, reusable=True)
        assert pool.forgotten == [pool]
        await settled()

    run(main())


def test_a_connection_that_is_made_after_the_pool_was_closed_is_refused(run: Run) -> None:
    async def main() -> None:
        pool = Queue()
        assert await pool.acquire(pool.deadline(), fresh=False) is None
        await pool.close()
        connection: Any = Line()
        with pytest.raises(errors.EndpointError, match="closed"):
            pool.adopt(connection)
        pool.give_back(connection, reusable=False)
        assert connection.closed

    run(main())


def test_the_end_of_the_loop_closes_the_pool(run: Run) -> None:
    pools: list[Queue] = []
    connections: list[Any] = []

    async def main() -> None:
        pools.append(Queue())
        await pools[0].guard()
        connections.append(await pools[0].open())

    run(main())
    assert connections[0].closed
    assert pools[0].forgotten


def test_closing_a_guarded_pool_ends_its_guard(run: Run) -> None:
    async def main() -> None:
        pool = Queue()
        await pool.guard()
        await pool.close()
        assert pool._guarded is None

    run(main())


def test_acquire_nowait_gives_an_idle_connection_or_none(run: Run) -> None:
    async def main() -> None:
        pool = Queue(1)
        assert pool.acquire_nowait() is None  # there is none
        connection = await pool.open()
        assert pool.acquire_nowait() is None  # others have all places
        pool.give_back(connection, reusable=True)
        assert pool.acquire_nowait() is connection
        pool.give_back(connection, reusable=True)
        pool.clock.passed += IDLE_SECONDS
        assert pool.acquire_nowait() is None  # it is too old
        assert connection.closed
        pool.shut()
        assert pool.acquire_nowait() is None

    run(main())
