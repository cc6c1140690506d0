"""The asyncio transport's connections: who gets a place, in which order, and that none is ever lost."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from async_loops import PATIENCE, Run, settled, skip, turns

from smendpoint import Timeout, errors
from smendpoint._transport.aio.pool import LoopPool
from smendpoint._transport.deadline import Deadline
from smendpoint._transport.exchange import IDLE_SECONDS


class Connection:
    """What the pool sees of a connection."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.closed = False
        self.cut_short = False
        self.idle_since = 0.0
        self.error: Any = None

    def is_stale(self) -> bool:
        return self.closed

    def rest(self) -> None:
        pass

    def abort(self, error: Any = None) -> None:
        self.closed = True
        self.error = error


class Pool(LoopPool):
    """A pool with a clock of its own, of stand-ins for connections."""

    def __init__(self, limit: int | None = 1) -> None:
        self.now = 1000.0
        self.forgotten: list[Any] = []
        super().__init__(asyncio.get_running_loop(), limit, lambda: self.now, self.forgotten.append)

    async def open(self, name: str = "", total: float | None = None, *, fresh: bool = False) -> Any:
        """What a call does: take a connection, or make one."""
        connection: Any = await self.acquire(self.patience(total), fresh=fresh)
        if connection is None:
            connection = Connection(name)
            self.adopt(connection)
        return connection

    def patience(self, total: float | None = None) -> Deadline:
        timeout = Timeout(PATIENCE, PATIENCE, total)
        return Deadline(timeout, None if total is None else self.now + total, lambda: self.now)


def test_the_connection_that_came_back_last_is_used_first(run: Run) -> None:
    async def main() -> None:
        pool = Pool(None)
        first, second = await pool.open("first"), await pool.open("second")
        pool.give_back(first, reusable=True)
        pool.give_back(second, reusable=True)
        assert await pool.open() is second
        assert await pool.open() is first

    run(main())


@pytest.mark.parametrize("flaw", ["not reusable", "closed", "cut_short"])
def test_what_cannot_be_used_again_is_closed(run: Run, flaw: str) -> None:
    async def main() -> None:
        pool = Pool()
        connection = await pool.open("old")
        if flaw != "not reusable":
            setattr(connection, flaw, True)
        pool.give_back(connection, reusable=flaw != "not reusable")
        assert connection.closed
        assert (await pool.open("new")).name == "new"

    run(main())


def test_a_connection_that_died_idle_or_was_idle_too_long_is_not_used(run: Run) -> None:
    async def main() -> None:
        pool = Pool(None)
        dead, old = await pool.open("dead"), await pool.open("old")
        pool.give_back(old, reusable=True)
        pool.give_back(dead, reusable=True)
        dead.closed = True
        pool.now += IDLE_SECONDS
        assert (await pool.open("new")).name == "new"
        assert old.closed

    run(main())


def test_connections_idle_for_too_long_are_closed_when_another_comes_back(run: Run) -> None:
    async def main() -> None:
        pool = Pool(None)
        old, young = await pool.open("old"), await pool.open("young")
        pool.give_back(old, reusable=True)
        pool.now += IDLE_SECONDS + 1
        pool.give_back(young, reusable=True)
        assert old.closed
        assert not young.closed

    run(main())


def test_a_fresh_connection_makes_the_oldest_idle_one_give_way(run: Run) -> None:
    async def main() -> None:
        pool = Pool(2)
        first, second = await pool.open("first"), await pool.open("second")
        pool.give_back(first, reusable=True)
        pool.give_back(second, reusable=True)
        third = await pool.open("third", fresh=True)
        assert third.name == "third"
        assert first.closed
        assert not second.closed
        assert (await Pool(None).open("x", fresh=True)).name == "x"
        assert (await Pool(1).open("x", fresh=True)).name == "x"

    run(main())


def test_places_go_to_who_has_waited_longest(run: Run) -> None:
    order: list[int] = []

    async def call(pool: Pool, number: int) -> None:
        connection = await pool.open()
        order.append(number)
        await turns(2)
        pool.give_back(connection, reusable=True)

    async def main() -> None:
        pool = Pool(2)
        await asyncio.gather(*(call(pool, number) for number in range(20)))
        assert order == list(range(20))

    run(main())


def test_a_newcomer_does_not_overtake_who_was_just_given_a_place(run: Run) -> None:
    order: list[str] = []

    async def call(pool: Pool, name: str) -> None:
        connection = await pool.open()
        order.append(name)
        pool.give_back(connection, reusable=True)

    async def main() -> None:
        pool = Pool(1)
        connection = await pool.open()
        queued = asyncio.ensure_future(call(pool, "queued"))
        await turns()
        pool.give_back(connection, reusable=True)
        await asyncio.gather(call(pool, "newcomer"), queued)
        assert order == ["queued", "newcomer"]

    run(main())


@pytest.mark.parametrize("seed", range(40))
def test_no_place_is_lost_or_given_twice_whoever_is_cancelled_when(run: Run, seed: int) -> None:
    """Cancel callers at any turn of the loop: while they queue, when they have just got a place, while they hold it."""

    async def main() -> None:
        pool = Pool(2)
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
        assert pool._places == 0
        assert not pool._waiting
        await asyncio.wait_for(asyncio.gather(call(), call(), call()), PATIENCE)

    run(main())


def test_who_is_cancelled_just_after_another_cancelled_one_was_skipped_sees_only_that(run: Run) -> None:
    async def main() -> None:
        pool = Pool(1)
        connection = await pool.open()
        queued = asyncio.ensure_future(pool.open())
        await turns()
        queued.cancel()
        pool.give_back(connection, reusable=True)  # skips the one that is cancelled before that one has noticed
        with pytest.raises(asyncio.CancelledError):
            await queued
        assert pool._places == 0

    run(main())


def test_a_place_without_a_connection_is_given_back_too(run: Run) -> None:
    async def main() -> None:
        pool = Pool(1)
        assert await pool.acquire(pool.patience(), fresh=False) is None
        pool.give_back(None, reusable=False)
        assert pool._places == 0

    run(main())


def test_a_caller_that_is_thrown_away_leaves_the_queue(run: Run) -> None:
    async def main() -> None:
        pool = Pool(1)
        connection = await pool.open()
        coroutine = pool.open()
        coroutine.send(None)
        coroutine.close()
        pool.give_back(connection, reusable=True)
        assert pool._places == 0

    run(main())


def test_queueing_counts_against_the_total_time(run_skipping: Run) -> None:
    async def main() -> None:
        pool = Pool(1)
        connection = await pool.open()
        queued = asyncio.ensure_future(pool.open(total=PATIENCE))
        await turns()
        skip(PATIENCE)
        with pytest.raises(errors.DeadlineExceededError) as caught:
            await queued
        assert not caught.value.request_sent
        pool.give_back(connection, reusable=True)
        assert pool._places == 0
        assert await pool.open() is connection

    run_skipping(main())


def test_who_has_no_time_left_does_not_queue(run: Run) -> None:
    async def main() -> None:
        pool = Pool(1)
        connection = await pool.open()
        patience = pool.patience(1.0)
        pool.now += 1.0
        with pytest.raises(errors.DeadlineExceededError):
            await pool.acquire(patience, fresh=False)
        pool.give_back(connection, reusable=True)
        assert pool._places == 0

    run(main())


@pytest.mark.parametrize("moment", range(4))
def test_a_place_that_comes_too_late_goes_to_the_next(run_skipping: Run, moment: int) -> None:
    async def main() -> None:
        pool = Pool(1)
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
        pool = Pool(1)
        connection = await pool.open()
        queued = asyncio.ensure_future(pool.open(total=PATIENCE))
        await turns()
        pool.give_back(connection, reusable=True)
        skip(PATIENCE)  # the timer rings before the call goes on
        assert await queued is connection

    run_skipping(main())


def test_closing_aborts_everything_and_wakes_who_waits(run: Run) -> None:
    async def main() -> None:
        pool = Pool(2)
        idle, busy = await pool.open("idle"), await pool.open("busy")
        pool.give_back(idle, reusable=True)
        assert await pool.open() is idle
        pool.give_back(idle, reusable=True)
        await pool.open("another")
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
        assert pool.forgotten == [pool.loop]
        await settled()

    run(main())


def test_a_connection_that_stands_only_when_the_pool_is_closed_is_refused(run: Run) -> None:
    async def main() -> None:
        pool = Pool()
        assert await pool.acquire(pool.patience(), fresh=False) is None
        await pool.close()
        connection: Any = Connection()
        with pytest.raises(errors.EndpointError, match="closed"):
            pool.adopt(connection)
        pool.give_back(connection, reusable=False)
        assert connection.closed

    run(main())


def test_the_end_of_the_loop_closes_the_pool(run: Run) -> None:
    pools: list[Pool] = []
    connections: list[Any] = []

    async def main() -> None:
        pools.append(Pool())
        await pools[0].guard()
        connections.append(await pools[0].open())

    run(main())
    assert connections[0].closed
    assert pools[0].forgotten


def test_closing_a_guarded_pool_ends_its_guard(run: Run) -> None:
    async def main() -> None:
        pool = Pool()
        await pool.guard()
        await pool.close()
        assert pool._guarded is None

    run(main())


def test_a_spare_connection_is_had_without_waiting_or_not_at_all(run: Run) -> None:
    async def main() -> None:
        pool = Pool(1)
        assert pool.acquire_nowait() is None  # there is none
        assert pool._places == 0
        connection = await pool.open()
        assert pool.acquire_nowait() is None  # others have all places
        pool.give_back(connection, reusable=True)
        assert pool.acquire_nowait() is connection
        assert pool._places == 1
        pool.give_back(connection, reusable=True)
        pool.now += IDLE_SECONDS
        assert pool.acquire_nowait() is None  # it is too old
        assert connection.closed
        pool.shut()
        assert pool.acquire_nowait() is None

    run(main())
