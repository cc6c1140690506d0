"""`blocking/pool.py`: connections are used again, the last one first, no more than allowed, never a dead one."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest
from clocks import FakeClock
from inside import pool_of, transport_of
from servers import PATIENCE, bare_environment, fast, make_endpoint  # noqa: F401

from smendpoint._transport.blocking.connection import Connection, Place
from smendpoint._transport.blocking.pool import Pool
from smendpoint._transport.exchange import IDLE_SECONDS
from smendpoint.emulator import Emulator, ModelRequest
from smendpoint.errors import ConfigurationError, DeadlineExceededError

pytestmark = pytest.mark.usefixtures("bare_environment")


class Line:
    """Stands in for a connection."""

    def __init__(self, *, stale: bool = False) -> None:
        self.idle_since = 0.0
        self.stale = stale
        self.closed = False
        self.place: Place | None = None

    def is_stale(self) -> bool:
        return self.stale

    def close(self) -> None:
        self.closed = True


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def for_ever() -> None:
    return None


def pool_with(*lines: Any, limit: int | None = None, clock: Any = None) -> Pool:
    pool = Pool(limit, clock or Clock())
    for line in lines:
        line.place = taken(pool)
    for line in lines:
        pool.give_back(line)
    return pool


def taken(pool: Pool) -> Place:
    place = pool.acquire(for_ever, fresh=True)
    assert isinstance(place, Place)
    return place


class Gate:
    """A model that answers when it is told to; says how many requests it holds."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.inside = threading.Semaphore(0)

    def __call__(self, request: ModelRequest) -> bytes:
        self.inside.release()
        assert self.open.wait(PATIENCE)
        return b'[{"generated_text": "fine"}]'


def test_calls_one_after_another_share_one_connection() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        for _ in range(5):
            endpoint.invoke("Hello")
        assert emulator.total_connections == 1
        assert {request.connection for request in emulator.requests} == {1}


def test_the_connection_that_was_used_last_is_used_first() -> None:
    first, second, third = Line(), Line(), Line()
    pool: Any = pool_with(first, second, third)
    assert pool.acquire(for_ever, fresh=False) is third
    pool.give_back(third)
    assert [pool.acquire(for_ever, fresh=False) for _ in range(3)] == [third, second, first]
    assert taken(pool)


def test_a_stale_connection_is_closed_and_the_next_one_taken() -> None:
    good, stale = Line(), Line(stale=True)
    pool: Any = pool_with(good, stale)
    assert pool.acquire(for_ever, fresh=False) is good
    assert stale.closed
    assert not good.closed


def test_a_connection_that_was_idle_too_long_is_not_used_again() -> None:
    clock = Clock()
    line = Line()
    pool = pool_with(line, clock=clock)
    clock.now += IDLE_SECONDS
    assert isinstance(pool.acquire(for_ever, fresh=False), Place)
    assert line.closed


def test_giving_one_back_closes_those_that_were_idle_too_long() -> None:
    clock = Clock()
    old, new = Line(), Line()
    pool: Any = pool_with(old, clock=clock)
    clock.now += IDLE_SECONDS + 1.0
    new.place = taken(pool)
    pool.give_back(new)
    assert old.closed
    assert not new.closed
    assert pool.acquire(for_ever, fresh=False) is new


def test_an_endpoint_lets_idle_connections_go_by_its_clock() -> None:
    clock = FakeClock()
    with Emulator() as emulator, make_endpoint(emulator.url, clock=clock) as endpoint:
        endpoint.invoke("Hello")
        clock.passed += IDLE_SECONDS - 1.0
        endpoint.invoke("Hello")
        assert emulator.total_connections == 1
        clock.passed += IDLE_SECONDS + 1.0
        endpoint.invoke("Hello")
        assert emulator.total_connections == 2
        emulator.wait_for(lambda it: it.open_connections == 1)


def test_a_fresh_connection_pushes_out_the_oldest_idle_one_where_the_limit_would_be_passed() -> None:
    oldest, newest = Line(), Line()
    pool: Any = pool_with(oldest, newest, limit=2)
    held = taken(pool)
    assert oldest.closed
    assert not newest.closed
    assert pool.acquire(for_ever, fresh=False) is newest
    assert pool.busy == 2
    assert held


def test_a_fresh_connection_leaves_idle_ones_alone_below_the_limit() -> None:
    line = Line()
    pool: Any = pool_with(line, limit=2)
    assert taken(pool)
    assert not line.closed


def test_closing_closes_what_is_idle_and_later_what_is_given_back() -> None:
    idle, busy = Line(), Line()
    pool: Any = pool_with(idle)
    busy.place = taken(pool)
    pool.close()
    assert idle.closed
    pool.give_back(busy)
    assert busy.closed
    with pytest.raises(ConfigurationError, match="the endpoint is closed"):
        pool.acquire(for_ever, fresh=False)


def test_who_waits_for_a_place_when_the_pool_is_closed_gets_none() -> None:
    pool: Any = Pool(1, Clock())
    held = taken(pool)
    waiting = threading.Event()
    errors: list[BaseException] = []

    def wait() -> float:
        waiting.set()
        return PATIENCE

    def run() -> None:
        try:
            pool.acquire(wait, fresh=False)
        except ConfigurationError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert waiting.wait(PATIENCE)
    pool.close()
    thread.join(PATIENCE)
    assert len(errors) == 1
    assert held


def test_after_a_fork_nothing_is_idle_and_nothing_is_busy() -> None:
    line = Line()
    pool: Any = pool_with(line, limit=1)
    assert pool.acquire(for_ever, fresh=False) is line
    pool.forget()
    held = taken(pool)
    pool.give_back(line)  # of a call that was under way when the process forked
    assert line.closed
    assert pool.busy == 1
    pool.free(held)
    assert pool.busy == 0


def test_a_stream_that_is_collected_while_the_pool_is_at_work_gives_its_place_back() -> None:
    pool: Any = Pool(2, Clock())
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


def test_a_place_that_nobody_holds_any_more_is_free() -> None:
    pool = Pool(1, Clock())
    for _ in range(3):
        taken(pool)  # and forgotten
    assert pool.busy == 0


def test_a_connection_that_nobody_holds_any_more_leaves_its_place() -> None:
    line = Line()
    pool: Any = pool_with(line, limit=1)
    assert pool.acquire(for_ever, fresh=False) is line
    assert pool.busy == 1
    del line
    assert pool.busy == 0


def test_a_place_that_comes_free_while_nobody_listens_yet_is_found_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As by the garbage collector, in the thread that is just about to wait."""
    monkeypatch.setattr("smendpoint._transport.blocking.pool.LOOK_AGAIN_SECONDS", 0.001)
    pool = Pool(1, Clock())
    held = [taken(pool)]
    assert isinstance(pool.acquire(held.clear, fresh=True), Place)


def test_a_place_twice_given_back_is_one_place() -> None:
    pool = Pool(2, Clock())
    first, second = taken(pool), taken(pool)
    for _ in range(2):
        pool.free(first)
    assert pool.busy == 1
    assert second


def test_who_was_woken_and_does_not_want_the_place_any_more_wakes_the_next() -> None:
    pool: Any = Pool(1, Clock())
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


def test_an_endpoint_that_nobody_closed_is_forgotten_with_its_connections() -> None:
    with Emulator() as emulator:
        endpoint = make_endpoint(emulator.url)
        endpoint.invoke("Hello")
        assert emulator.open_connections == 1
        del endpoint
        gc.collect()  # and nothing warns of a socket that was left open
        emulator.disconnected()


def interrupt(*_: Any) -> Any:
    raise KeyboardInterrupt


def test_an_interrupt_while_a_connection_is_chosen_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line()
    pool = pool_with(line, limit=1)
    monkeypatch.setattr(line, "is_stale", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pool.acquire(for_ever, fresh=False)
    assert isinstance(pool.acquire(lambda: pytest.fail("there is no place"), fresh=False), Place)


@pytest.mark.parametrize("moment", ["abort", "close"])
def test_an_interrupt_while_a_stream_is_closed_gives_its_place_back(
    monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    with Emulator() as emulator, make_endpoint(emulator.url, max_connections=1, timeout=fast(total=PATIENCE)) as llm:
        stream = llm.stream("Hello")
        next(stream)
        with monkeypatch.context() as patch:
            patch.setattr(Connection, moment, interrupt)
            with pytest.raises(KeyboardInterrupt):
                stream.close()
        assert llm.invoke("Hello")


def test_an_interrupt_as_a_stream_is_about_to_be_read_gives_its_place_back() -> None:
    class Interrupting:
        """A lock that an interrupt follows, the first time."""

        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.times = 0

        def __enter__(self) -> None:
            self.lock.acquire()

        def __exit__(self, *exc_info: object) -> None:
            self.lock.release()
            self.times += 1
            if self.times == 1:
                raise KeyboardInterrupt

    with Emulator() as emulator, make_endpoint(emulator.url, max_connections=1, timeout=fast(total=PATIENCE)) as llm:
        stream = llm.stream("Hello")
        with stream:
            stream._source._lock = Interrupting()
            with pytest.raises(KeyboardInterrupt):
                next(stream)
        assert llm.invoke("Hello")


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


def test_waiting_for_a_connection_counts_against_the_total_time() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url, max_connections=1) as endpoint:
        with endpoint.stream("Hello"):
            hasty = make_endpoint(emulator.url, max_connections=1, timeout=fast(total=0.05))
            transport_of(hasty)._pool = pool_of(endpoint)
            with pytest.raises(DeadlineExceededError, match=r"total of 0\.05 s") as caught:
                hasty.invoke("Hello")
        assert caught.value.request_sent is False
        assert caught.value.attempts == 1
        assert endpoint.invoke("Hello")  # nobody took a place that was not given back
        assert len(emulator.requests) == 2


def test_who_would_wait_for_ages_for_a_place_waits_until_there_is_one() -> None:
    pool = pool_with(limit=1)
    held = taken(pool)
    asked = threading.Event()

    def ages() -> float:
        asked.set()
        return 1e300

    giver = threading.Thread(target=lambda: (asked.wait(PATIENCE), pool.free(held)))
    giver.start()
    assert isinstance(pool.acquire(ages, fresh=True), Place)
    giver.join(PATIENCE)


def test_an_open_stream_holds_its_connection_and_gives_it_back_at_its_end() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url, max_connections=1) as endpoint:
        assert list(endpoint.stream("Hello"))
        assert endpoint.invoke("Hello")
        assert emulator.total_connections == 1


def test_a_stream_that_nobody_holds_gives_its_place_back() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url, max_connections=1) as endpoint:
        next(endpoint.stream("Hello"))
        gc.collect()  # where the interpreter does not count references
        emulator.disconnected()
        assert endpoint.invoke("Hello")


def test_where_nobody_can_wait_there_is_nobody_to_wake() -> None:
    pool = pool_with()
    pool.abort()
    assert taken(pool)


def test_who_waits_for_a_place_can_be_woken_to_think_again() -> None:
    pool: Any = Pool(1, Clock())
    held = taken(pool)
    waiting = threading.Event()
    asked: list[str] = []

    def wait() -> float:
        if waiting.is_set():
            raise TimeoutError
        waiting.set()
        return PATIENCE

    def run() -> None:
        try:
            pool.acquire(wait, fresh=False)
        except TimeoutError:
            asked.append("again")

    thread = threading.Thread(target=run)
    thread.start()
    assert waiting.wait(PATIENCE)
    pool.abort()
    thread.join(PATIENCE)
    assert asked == ["again"]
    assert held
