"""`_calls.fanout`: several calls at a time, over inputs that are read as slots get free; nothing is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from clocks import FakeClock
from inside import pool_of
from servers import PATIENCE, bare_environment, make_endpoint  # noqa: F401

from smendpoint import errors
from smendpoint._calls.fanout import _Workers, fan_out
from smendpoint._calls.limiter import Limiter
from smendpoint._calls.window import HELD_PER_CALL, Window
from smendpoint._core.call.slots import Slot
from smendpoint._transport.deadline import SYSTEM_CLOCK, Cancellation, Cancelled
from smendpoint._transport.threads import spawn
from smendpoint.emulator import Emulator, ModelRequest
from smendpoint.handlers import BytesHandler

pytestmark = pytest.mark.usefixtures("bare_environment")

Work = Callable[[Any, Cancellation, Slot], Any]
MANY = 10_000_000
READ = int(os.environ.get("SMENDPOINT_MAP_INPUTS", "2000"))
"""The number of inputs of the test that reads many."""


def run(
    work: Callable[[Any, Cancellation], Any],
    inputs: Any,
    cap: int | None = 3,
    *,
    slots: Limiter | None = None,
    stoppable: bool = True,
    **options: Any,
) -> Iterator[Any]:
    """Fan out work that leaves its slot alone; by default there are enough of them."""
    return fan_out(slotless(work), inputs, slots or enough(), Window(cap, **options), stoppable=stoppable)


def slotless(work: Callable[[Any, Cancellation], Any]) -> Work:
    return lambda value, scope, slot: work(value, scope)


def enough() -> Limiter:
    return Limiter(1000, SYSTEM_CLOCK)


def stops(scope: Cancellation) -> bool:
    """Wait for the work to be stopped, and return true."""
    stopped = threading.Event()
    with suppress(Cancelled):  # it was, before this could wait
        scope.enter(stopped.set)
        stopped.wait(PATIENCE)
    return scope.stopped


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "smendpoint-map"]


def gone() -> bool:
    """Whether all threads have ended, or are just about to."""
    for thread in threads():
        thread.join(PATIENCE)
    return threads() == []


class Turns:
    """Work that a test ends."""

    def __init__(self) -> None:
        self.begun: dict[Any, threading.Event] = {}
        self.ends: dict[Any, threading.Event] = {}
        self.lock = threading.Lock()

    def event(self, events: dict[Any, threading.Event], value: Any) -> threading.Event:
        with self.lock:
            return events.setdefault(value, threading.Event())

    def __call__(self, value: Any, scope: Cancellation) -> Any:
        self.event(self.begun, value).set()
        assert self.event(self.ends, value).wait(PATIENCE)
        return value * 10

    def wait_for(self, value: Any) -> None:
        assert self.event(self.begun, value).wait(PATIENCE)

    def end(self, *values: Any) -> None:
        for value in values:
            self.event(self.ends, value).set()


def test_outputs_come_in_the_order_of_their_inputs() -> None:
    turns = Turns()
    results = run(turns, [1, 2, 3])
    reader = threading.Thread(target=lambda: (turns.wait_for(3), turns.end(3, 2, 1)))
    reader.start()
    assert list(results) == [10, 20, 30]
    reader.join(PATIENCE)


def test_outputs_come_as_they_are_ready_where_order_does_not_matter() -> None:
    turns = Turns()
    results = run(turns, [1, 2, 3], ordered=False)
    turns.end(3)
    assert next(results) == 30
    turns.end(1)
    assert next(results) == 10
    turns.end(2)
    assert list(results) == [20]


def test_without_inputs_there_are_no_outputs() -> None:
    assert list(run(lambda value, scope: value, [])) == []
    assert gone()


def test_nothing_is_read_before_the_first_output_is_asked_for() -> None:
    read: list[int] = []

    def inputs() -> Iterator[int]:
        read.append(1)
        yield 1

    results = run(lambda value, scope: value, inputs())
    assert read == []
    assert list(results) == [1]


@pytest.mark.parametrize("ordered", [True, False])
def test_of_ten_million_inputs_only_a_windowful_is_ever_held(ordered: bool) -> None:
    limit = 4
    alive = 0
    most = 0
    lock = threading.Lock()

    class Held:
        def __init__(self) -> None:
            nonlocal alive, most
            with lock:
                alive += 1
                most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            with lock:
                alive -= 1

    read = 0

    def inputs() -> Iterator[Held]:
        nonlocal read
        for _ in range(MANY):
            read += 1
            yield Held()

    # In order, a thread that comes to its turn late holds back the outputs of the others.
    window = limit * HELD_PER_CALL if ordered else 0
    results = run(lambda value, scope: Held(), inputs(), limit, ordered=ordered)
    for number, output in enumerate(results, 1):
        assert isinstance(output, Held)
        assert read - number <= window + limit
        del output
        if number == READ:
            break
    results.close()  # type: ignore[attr-defined]  # it is a generator
    # Inputs and outputs in the window, and one that is passed on at each end of it.
    assert most <= window + 2 * limit + 2
    assert gone()


def test_no_more_threads_than_inputs_are_started() -> None:
    turns = Turns()
    results = run(turns, [1], 50)
    reader = threading.Thread(target=lambda: (turns.wait_for(1), turns.end(1)))
    reader.start()
    assert next(results) == 10
    reader.join(PATIENCE)
    assert len(threads()) == 1
    assert list(results) == []
    assert gone()


@pytest.mark.parametrize("ordered", [True, False])
def test_one_input_more_is_read_than_there_are_slots(ordered: bool) -> None:
    """It is at hand when a slot gets free, and no other one is read before."""
    lock = threading.Lock()
    read, over, most = 0, 0, 0

    def inputs() -> Iterator[int]:
        nonlocal read, most
        for value in range(200):
            with lock:
                read += 1
                most = max(most, read - over)
            yield value

    def work(value: int, scope: Cancellation) -> int:
        nonlocal over
        with lock:
            over += 1
        return value

    outputs = list(run(work, inputs(), None, slots=Limiter(3, SYSTEM_CLOCK), ordered=ordered))
    assert sorted(outputs) == list(range(200))
    assert most <= 4
    assert gone()


def test_a_job_starts_when_another_thread_gives_its_slot_back() -> None:
    limiter = Limiter(1, SYSTEM_CLOCK)
    other = limiter.slot()
    assert other.take()
    results = run(lambda value, scope: value, range(3), None, slots=limiter)
    giver = threading.Thread(target=other.end, args=(None,))
    giver.start()
    assert list(results) == [0, 1, 2]
    giver.join(PATIENCE)
    assert gone()


def test_a_job_that_two_threads_get_is_done_once() -> None:
    """The state after an interrupt in the limiter, which grants a slot again."""
    limiter = Limiter(1, SYSTEM_CLOCK)
    other = limiter.slot()
    assert other.take()
    done: list[int] = []
    window = Window(None)
    workers = _Workers(slotless(lambda value, scope: done.append(value)), limiter, window, stoppable=True)
    workers.submit(1)
    assert window.without_slot is not None
    granted = window.without_slot.slot.on_grant
    assert granted is not None
    granted()
    other.end(None)
    while window.running:
        workers.wait()
        workers.look()
    workers.stop()
    assert done == [1]
    assert gone()


def test_a_map_that_is_left_while_a_job_waits_for_its_slot_gives_all_slots_back() -> None:
    limiter = Limiter(1, SYSTEM_CLOCK)
    results = run(lambda value, scope: value, range(3), None, slots=limiter)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert limiter.slot().take()
    assert gone()


def test_while_the_caller_of_a_map_is_busy_another_waiter_keeps_the_time() -> None:
    class Clock(FakeClock):
        def sleep(self, seconds: float, wake: Any = None) -> None:
            wake.wait(PATIENCE)

    class Watched(Limiter):
        def watch(self, *arguments: Any) -> None:
            go.set()
            super().watch(*arguments)

    limiter = Watched(1, Clock())
    other = limiter.slot()
    woken, go = threading.Event(), threading.Event()

    def inputs() -> Iterator[int]:
        yield 1
        assert not other.take()
        other.wake = woken.set  # as a thread that waits for it does
        yield 2

    def work(value: int, scope: Cancellation, slot: Slot) -> None:
        go.wait(PATIENCE)
        raise errors.ModelNotReadyError(429, "ModelNotReadyException", "loading")  # nothing starts for some seconds

    results = fan_out(work, inputs(), limiter, Window(None, return_exceptions=True), stoppable=True)
    assert isinstance(next(results), errors.ModelNotReadyError)
    assert woken.is_set()
    results.close()  # type: ignore[attr-defined]  # it is a generator
    other.end(None)


def test_an_interrupt_that_comes_after_a_job_has_queued_loses_no_slot() -> None:
    class Interrupted(Limiter):
        def acquire(self, slot: Slot) -> bool:
            if not super().acquire(slot):
                raise KeyboardInterrupt
            return True

    limiter = Interrupted(1, SYSTEM_CLOCK)
    go = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        list(run(lambda value, scope: go.wait(PATIENCE), range(2), None, slots=limiter, stoppable=False))
    last = limiter.slot()
    with suppress(KeyboardInterrupt):
        last.take()
    go.set()
    assert limiter.wait(last, limiter.clock.monotonic() + PATIENCE, None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_map_can_be_left_in_the_child_of_a_fork_which_has_none_of_its_threads() -> None:
    results: Any = run(lambda value, scope: value, range(50))
    assert next(results) == 0
    child = os.fork()
    if not child:  # pragma: no cover - in the child
        try:
            signal.alarm(20)
            results.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(results) == [*range(1, 50)]


def test_a_job_that_fails_before_its_call_gives_its_slot_back() -> None:
    def work(value: int, scope: Cancellation) -> int:
        raise LookupError(value)

    found = list(run(work, range(5), None, slots=Limiter(1, SYSTEM_CLOCK), return_exceptions=True))
    assert [error.args for error in found] == [(value,) for value in range(5)]


def test_a_slow_answer_holds_back_the_other_calls_only_where_the_window_is_full() -> None:
    turns = Turns()
    read = 0
    window = 2 * HELD_PER_CALL

    def inputs() -> Iterator[int]:
        nonlocal read
        for value in range(2 * window):
            read += 1
            yield value

    turns.end(*range(1, 2 * window))
    results = run(turns, inputs(), 2)
    reader = threading.Thread(target=lambda: (turns.wait_for(window), turns.end(0)))
    reader.start()
    assert next(results) == 0
    reader.join(PATIENCE)
    assert read <= window + 1
    assert list(results) == [value * 10 for value in range(1, 2 * window)]


def test_finished_outputs_are_given_before_more_inputs_are_read() -> None:
    """At most one input is read for each output that is ready."""
    read = 0
    ends = threading.Barrier(5)

    def inputs() -> Iterator[int]:
        nonlocal read
        for value in range(100):
            read += 1
            yield value

    def work(value: int, scope: Cancellation) -> int:
        if value < 5:
            ends.wait(PATIENCE)
        return value

    results = run(work, inputs(), 5, ordered=False)
    for number, _ in enumerate(results, 1):
        assert read <= number + 5
    assert read == 100


@pytest.mark.parametrize("ordered", [True, False])
def test_outputs_can_be_joined_to_their_inputs(ordered: bool) -> None:
    pairs = run(divide, [1, 0, 5], 2, ordered=ordered, return_exceptions=True, enumerated=True)
    first, (index, error), last = sorted(pairs, key=lambda pair: pair[0])
    assert (first, index, type(error), last) == ((0, 10.0), 1, ZeroDivisionError, (2, 2.0))


def test_an_error_that_will_end_the_iteration_stops_the_reading_at_once() -> None:
    turns = Turns()
    read: list[int] = []

    def inputs() -> Iterator[int]:
        for value in range(100):
            read.append(value)
            yield value

    def work(value: int, scope: Cancellation) -> Any:
        if value == 1:
            turns.end(0)
            raise LookupError
        return turns(value, scope)

    results = run(work, inputs(), 2)
    assert next(results) == 0
    with pytest.raises(LookupError):
        next(results)
    assert len(read) <= 3  # the third one if the output was ready before the error
    assert gone()


def divide(value: int, scope: Cancellation) -> float:
    return 10 / value


def test_an_error_ends_the_iteration() -> None:
    results = run(divide, [1, 0, 2], 1)
    assert next(results) == 10.0
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []
    assert gone()


@pytest.mark.parametrize("ordered", [True, False])
def test_an_error_can_take_the_place_of_its_output(ordered: bool) -> None:
    first, error, last = run(divide, [1, 0, 2], 1, return_exceptions=True, ordered=ordered)
    assert (first, type(error), last) == (10.0, ZeroDivisionError, 5.0)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_an_error_that_is_not_an_exception_is_raised_and_never_an_output(error: BaseException) -> None:
    def work(value: int, scope: Cancellation) -> int:
        raise error

    with pytest.raises(type(error)):
        list(run(work, [1], return_exceptions=True))


def test_inputs_that_fail_end_the_iteration_and_the_calls() -> None:
    begun, stopped = threading.Event(), threading.Event()

    def work(value: int, scope: Cancellation) -> int:
        begun.set()
        assert stops(scope)
        stopped.set()
        return value

    def inputs() -> Iterator[int]:
        yield 1
        assert begun.wait(PATIENCE)
        raise LookupError("no more to read")

    with pytest.raises(LookupError):
        list(run(work, inputs()))
    assert stopped.is_set()
    assert gone()


def test_leaving_early_stops_the_calls_and_waits_for_them() -> None:
    def work(value: int, scope: Cancellation) -> int:
        if value:
            assert stops(scope)
            scope.check()
        return value

    results = run(work, range(5))
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert gone()


def test_leaving_early_does_not_wait_for_calls_that_cannot_be_stopped() -> None:
    turns = Turns()
    results = run(turns, [1, 2], stoppable=False)
    reader = threading.Thread(target=lambda: (turns.wait_for(2), turns.end(1)))
    reader.start()
    assert next(results) == 10
    reader.join(PATIENCE)
    running = threads()
    results.close()  # type: ignore[attr-defined]  # it is a generator
    turns.end(2)
    for thread in running:
        thread.join(PATIENCE)
    assert gone()


def test_an_interrupt_while_a_thread_starts_reaches_the_caller_and_leaves_no_thread_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*arguments: Any) -> Any:
        spawn(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr("smendpoint._calls.fanout.spawn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(run(lambda value, scope: stops(scope), [1, 2, 3]))
    assert gone()


def test_workers_that_are_garbage_collected_end_their_threads() -> None:
    """The state after an interrupt in `stop`."""
    turns = Turns()
    workers = _Workers(slotless(turns), enough(), Window(1), stoppable=True)
    workers.submit(1)
    turns.wait_for(1)
    (thread,) = threads()
    del workers
    turns.end(1)
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_program_may_end_in_the_middle_of_a_map() -> None:
    program = (
        "from smendpoint._calls.fanout import fan_out\n"
        "from smendpoint._calls.limiter import Limiter\n"
        "from smendpoint._calls.window import Window\n"
        "from smendpoint._transport.deadline import SYSTEM_CLOCK\n"
        "def work(value, scope, slot):\n"
        "    return True\n"
        "results = fan_out(work, range(1000), Limiter(9, SYSTEM_CLOCK), Window(3), stoppable=True)\n"
        "print(next(results))\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_threads_that_ended_with_the_interpreter_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns()
    workers = _Workers(slotless(turns), enough(), Window(1), stoppable=True)
    workers.submit(1)
    turns.wait_for(1)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "is_finalizing", lambda: True)
        workers.stop()
    assert len(threads()) == 1
    turns.end(1)
    workers.stop()
    assert gone()


def test_leaving_when_nothing_runs_leaves_nothing_behind() -> None:
    results = run(lambda value, scope: value, [1], stoppable=False)
    assert next(results) == 1
    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert gone()


# through an endpoint


def test_leaving_a_map_early_ends_the_calls_that_are_under_way() -> None:
    under_way = threading.Semaphore(0)

    def model(request: ModelRequest) -> bytes:
        if request.body == b"hang":
            under_way.release()
            assert request.disconnected.wait(PATIENCE)
        elif request.body == b"go":  # not before, since an output that is ready is given before further inputs are read
            assert under_way.acquire(timeout=PATIENCE)
            assert under_way.acquire(timeout=PATIENCE)
        return request.body

    with Emulator(model) as emulator, make_endpoint(emulator.url, content_handler=BytesHandler()) as endpoint:
        results: Any = endpoint.map([b"go", b"hang", b"hang"], max_concurrency=3)
        assert next(results) == b"go"
        assert len(emulator.requests) == 3
        results.close()
        assert gone()
        # The connection of the first call may be idle, if no other call had taken it.
        emulator.wait_for(lambda it: it.open_connections <= 1)
        assert pool_of(endpoint).busy == 0
        assert endpoint.invoke(b"again") == b"again"
        assert len(emulator.requests) == 4


def test_leaving_a_map_early_does_not_wait_for_a_slot_that_the_caller_holds() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url, max_connections=2) as endpoint:
        results: Any = endpoint.map(["Hello"] * 10, max_concurrency=2)
        next(results)
        streams = []
        for _ in range(2):  # takes every slot, so that the calls of the map wait
            streams.append(endpoint.stream("Hello"))
            next(streams[-1])
        results.close()
        assert gone()
        for stream in streams:
            stream.close()
        assert pool_of(endpoint).busy == 0


def test_leaving_a_map_early_leaves_other_calls_alone() -> None:
    """A call of the map that is over may have handed its connection on to another one."""
    release = threading.Event()

    def model(request: ModelRequest) -> bytes:
        if request.body == b"slow":
            arrived.set()
            assert release.wait(PATIENCE)
        return request.body

    arrived = threading.Event()
    with Emulator(model) as emulator, make_endpoint(emulator.url, content_handler=BytesHandler()) as endpoint:
        pool = pool_of(endpoint)
        give_back, given_back = pool.give_back, threading.Semaphore(0)
        pool.give_back = lambda connection: (give_back(connection), given_back.release())
        results: Any = endpoint.map([b"1", b"2"], max_concurrency=2)
        assert next(results) == b"1"
        for _ in range(2):
            assert given_back.acquire(timeout=PATIENCE)
        outputs: list[bytes] = []
        slow = threading.Thread(target=lambda: outputs.append(endpoint.invoke(b"slow")))
        slow.start()
        assert arrived.wait(PATIENCE)
        results.close()
        release.set()
        slow.join(PATIENCE)
        assert outputs == [b"slow"]
        assert len(emulator.requests) == 3  # it was not cut and sent again
