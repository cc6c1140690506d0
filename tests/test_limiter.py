"""The concurrency limit of an endpoint: slots, refusals, and the order of waiters."""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from clocks import FakeClock
from garbage import collect
from inside import forget
from test_interrupts import Interrupter, no_collector  # noqa: F401
from twins import PATIENCE, Twin, TwinEndpoint, bytes_endpoint, direct_twin, twin  # noqa: F401

from smendpoint import (
    AdaptiveConcurrency,
    AsyncEndpoint,
    BytesHandler,
    CallHooks,
    Endpoint,
    JSONHandler,
    RetryPolicy,
    Timeout,
    errors,
)
from smendpoint._calls.async_limiter import AsyncLimiter
from smendpoint._calls.limiter import Limiter
from smendpoint._transport.deadline import SYSTEM_CLOCK
from smendpoint.emulator import Emulator

KEYS: dict[str, Any] = {
    "region_name": "us-west-2",
    "aws_access_key_id": "AKIDEXAMPLE",
    "aws_secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "content_handler": BytesHandler(),
}
# More than the retry quota of 500 points would pay for, at 5 points a refusal.
MANY = 150


def echo(request: Any) -> bytes:
    return bytes(request.body)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(echo) as emulator:
        yield emulator


def limited(twin: Twin, emulator: Emulator, **options: Any) -> TwinEndpoint:  # noqa: F811
    return bytes_endpoint(twin, emulator.url, **{"concurrency": 1, "clock": FakeClock(), **options})


def test_a_refused_call_costs_no_attempt_and_nothing_of_the_quota(twin: Twin, emulator: Emulator) -> None:  # noqa: F811
    endpoint = limited(twin, emulator)
    emulator.inject(f"throttle_then_ok_{MANY}")
    response = endpoint.send(b"x")
    assert response.body == b"x"
    assert response.attempts == MANY + 1
    emulator.inject("throttle_400_then_ok_1")
    assert endpoint.invoke(b"y") == b"y"


def test_the_header_of_attempts_does_not_count_refusals(direct_twin: Twin, emulator: Emulator) -> None:  # noqa: F811
    emulator.inject("throttle_then_ok_3")
    limited(direct_twin, emulator).invoke(b"x")
    assert {request.headers["amz-sdk-request"] for request in emulator.requests} == {"attempt=1; max=1"}


def test_a_call_that_is_refused_for_too_long_says_so(twin: Twin, emulator: Emulator) -> None:  # noqa: F811
    clock = FakeClock()
    options = {} if twin.lane == "client" else {"retry": RetryPolicy(throttle_timeout=300.0)}
    emulator.capacity = 0
    with pytest.raises(
        errors.ThrottlingError, match=r"succeeded for 300 s, which is RetryPolicy.throttle_timeout"
    ) as e:
        limited(twin, emulator, clock=clock, **options).invoke(b"x")
    assert 300 <= clock.passed < 310
    assert e.value.attempts == emulator.total_requests > 100
    assert not e.value.quota_spent


def test_without_a_throttle_timeout_the_total_ends_the_wait(direct_twin: Twin, emulator: Emulator) -> None:  # noqa: F811
    clock = FakeClock()
    emulator.capacity = 0
    endpoint = limited(
        direct_twin, emulator, clock=clock, retry=RetryPolicy(throttle_timeout=None), timeout=Timeout(total=1000)
    )
    with pytest.raises(errors.DeadlineExceededError, match="the service had refused it so far") as caught:
        endpoint.invoke(b"x")
    assert 1000 <= clock.passed < 1010
    assert isinstance(caught.value.__cause__, errors.ThrottlingError)
    assert caught.value.attempts == emulator.total_requests


def test_a_success_begins_the_throttle_timeout_anew(direct_twin: Twin, emulator: Emulator) -> None:  # noqa: F811
    clock = FakeClock()
    endpoint = limited(direct_twin, emulator, clock=clock, retry=RetryPolicy(throttle_timeout=1.0))
    for _ in range(5):
        emulator.inject("throttle_then_ok_9")
        assert endpoint.invoke(b"x") == b"x"
    assert clock.passed > 1.0


def test_a_cold_start_is_waited_for_by_one_probe_at_a_time(direct_twin: Twin, emulator: Emulator) -> None:  # noqa: F811
    clock = FakeClock()
    emulator.inject("not_ready_then_ok_5")
    response = limited(direct_twin, emulator, clock=clock, concurrency=8).send(b"x")
    assert (response.body, response.attempts) == (b"x", 6)
    assert clock.passed > 5


def test_hooks_see_the_limit_and_the_refusals(direct_twin: Twin, emulator: Emulator) -> None:  # noqa: F811
    seen: list[Any] = []

    class Hooks(CallHooks):
        def attempt_failed(self, call: Any, error: Any, delay: Any) -> None:
            seen.append((call.concurrency_limit, type(error).__name__, delay > 0))

        def call_finished(self, call: Any, error: Any) -> None:
            seen.append((call.concurrency_limit, call.attempts))

    emulator.inject("throttle_then_ok_2")
    limited(direct_twin, emulator, concurrency=6, hooks=Hooks()).invoke(b"x")
    assert seen == [(6, "ThrottlingError", True), (1, "ThrottlingError", True), (1, 3)]


def test_without_a_limit_hooks_see_none(direct_twin: Twin, emulator: Emulator) -> None:  # noqa: F811
    seen = []

    class Hooks(CallHooks):
        def call_finished(self, call: Any, error: Any) -> None:
            seen.append(call.concurrency_limit)

    endpoint = limited(direct_twin, emulator, concurrency=None, hooks=Hooks())
    endpoint.invoke(b"x")
    assert seen == [None]
    assert endpoint.endpoint.concurrency_limit is None


# streams


def test_a_stream_whose_first_event_is_a_refusal_is_sent_again(twin: Twin) -> None:  # noqa: F811
    seen: list[str] = []

    class Hooks(CallHooks):
        def call_started(self, call: Any) -> None:
            seen.append("started")

        def call_finished(self, call: Any, error: Any) -> None:
            seen.append("finished")

    with Emulator("tgi") as emulator:
        endpoint = twin.endpoint(emulator.url, concurrency=1, clock=FakeClock(), hooks=Hooks())
        whole = endpoint.collect("Hello")
        emulator.inject("overload_tgi", times=4)
        with endpoint.stream("Hello") as stream:
            assert list(stream) == whole
        assert stream.iterator.attempts == 5
        assert seen == ["started", "finished"] * 2
        assert stream.iterator.finish_reason is not None
        assert endpoint.collect("Hello") == whole  # the slot is free again


def test_a_handler_that_hands_errors_on_does_not_hand_on_a_refusal_that_begins_a_stream(twin: Twin) -> None:  # noqa: F811
    with Emulator("tgi") as emulator:
        endpoint = twin.endpoint(emulator.url, concurrency=1, clock=FakeClock(), content_handler=JSONHandler())
        whole = endpoint.collect({"inputs": "Hello"})
        emulator.inject("overload_tgi", times=4)
        with endpoint.stream({"inputs": "Hello"}) as stream:
            assert list(stream) == whole
        assert stream.iterator.attempts == 5


def test_a_refusal_that_begins_a_stream_for_too_long_is_not_handed_on_either(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator("tgi") as emulator:
        clock = FakeClock()
        endpoint = direct_twin.endpoint(emulator.url, concurrency=1, clock=clock, content_handler=JSONHandler())
        emulator.inject("overload_tgi")
        with pytest.raises(
            errors.ModelOutputError, match=r"Model is overloaded \| No call .*throttle_timeout"
        ) as caught:
            endpoint.collect({"inputs": "Hello"})
        assert caught.value.received == ()
        assert caught.value.attempts == emulator.total_requests
        assert 300 <= clock.passed < 310
        emulator.clear_faults()
        assert "generated_text" in str(endpoint.collect({"inputs": "Hello"}))


def test_a_stream_that_is_refused_for_too_long_raises_the_refusal(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator("tgi") as emulator:
        clock = FakeClock()
        endpoint = direct_twin.endpoint(emulator.url, concurrency=1, clock=clock)
        emulator.inject("overload_tgi")
        with pytest.raises(errors.ModelOutputError, match="throttle_timeout") as caught:
            endpoint.collect("Hello")
        assert 300 <= clock.passed < 310
        assert caught.value.attempts == emulator.total_requests
        emulator.clear_faults()
        assert endpoint.collect("Hello")


def test_failures_before_and_after_a_refusal_in_a_stream_count_together(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator("tgi") as emulator:
        endpoint = direct_twin.endpoint(
            emulator.url, concurrency=1, clock=FakeClock(), retry=RetryPolicy(max_attempts=3)
        )
        emulator.inject("status_503", times=2)
        emulator.inject("overload_tgi", times=1)
        emulator.inject("status_503")
        with pytest.raises(errors.ServiceUnavailableError) as caught:
            endpoint.collect("Hello")
        assert caught.value.attempts == 4


def test_without_a_limit_a_refusal_in_a_stream_is_an_error(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator("tgi") as emulator:
        emulator.inject("overload_tgi", times=1)
        with pytest.raises(errors.ModelOutputError):
            direct_twin.endpoint(emulator.url).collect("Hello")


def test_an_answer_with_status_200_that_says_it_was_refused_is_sent_again(twin: Twin) -> None:  # noqa: F811
    said = "The batch scheduling queue to which this task was submitted is full"
    answers = [f'{{"error": "{said}"}}'.encode()] * 3 + [b"[1]"]
    seen: list[Any] = []

    class Hooks(CallHooks):
        def attempt_failed(self, call: Any, error: Any, retry_delay: Any) -> None:
            seen.append(error)

    with Emulator(lambda request: answers.pop(0)) as emulator:
        response = limited(twin, emulator, hooks=Hooks()).send(b"x")
        assert (response.body, response.attempts) == (b"[1]", 4)
    assert {(type(error), error.code, error.original_message, said in str(error)) for error in seen} == {
        (errors.ModelOutputError, None, said, True)
    }


def test_an_answer_that_goes_on_saying_so_becomes_an_error(direct_twin: Twin) -> None:  # noqa: F811
    said = b'{"error": "The batch scheduling queue to which this task was submitted is full"}'
    answers = [said]
    with Emulator(lambda request: answers[-1]) as emulator:
        clock = FakeClock()
        endpoint = limited(direct_twin, emulator, clock=clock)
        with pytest.raises(errors.ModelOutputError, match=r"task was submitted is full \| No call .*throttle_timeout"):
            endpoint.invoke(b"x")
        assert 300 <= clock.passed < 310
        answers.append(b"[1]")
        assert endpoint.invoke(b"x") == b"[1]"


def test_a_stream_whose_decoder_fails_at_once_is_not_sent_again(direct_twin: Twin) -> None:  # noqa: F811
    class Broken(BytesHandler):
        def stream_decoder(self) -> Any:
            return self

        def feed(self, data: bytes) -> Any:
            raise ValueError

    with Emulator(echo) as emulator:
        endpoint = limited(direct_twin, emulator, content_handler=Broken())
        with pytest.raises(errors.HandlerError):
            endpoint.collect(b"x")
        assert emulator.total_requests == 1
        assert endpoint.invoke(b"x") == b"x"


def test_a_decoder_that_cannot_be_made_for_a_stream_that_was_refused_ends_its_call(direct_twin: Twin) -> None:  # noqa: F811
    made: list[None] = []
    finished: list[Any] = []

    class Handler(JSONHandler):
        def stream_decoder(self) -> Any:
            made.append(None)
            if len(made) > 1:
                raise ValueError
            return super().stream_decoder()

    class Hooks(CallHooks):
        def call_finished(self, call: Any, error: Any) -> None:
            finished.append(type(error))

    with Emulator("tgi") as emulator:
        emulator.inject("overload_tgi", times=1)
        endpoint = limited(direct_twin, emulator, content_handler=Handler(), hooks=Hooks())
        stream = endpoint.stream({"inputs": "Hello"})
        with pytest.raises(errors.HandlerError, match="make a stream decoder"):
            next(stream)
        with pytest.raises(errors.StreamError, match="closed"):
            next(stream)
        assert finished == [errors.HandlerError]
        assert emulator.total_requests == 1


def test_a_stream_that_fails_gives_its_slot_back(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator("tgi") as emulator:
        endpoint = direct_twin.endpoint(emulator.url, concurrency=1)
        emulator.inject("fin_mid_frame", times=1)
        with pytest.raises(errors.StreamError):
            endpoint.collect("Hello")
        assert endpoint.collect("Hello")


@pytest.mark.parametrize("end", ["read", "closed", "garbage"])
def test_a_stream_holds_its_slot_until_it_ends(direct_twin: Twin, end: str) -> None:  # noqa: F811
    with Emulator("tgi") as emulator:
        endpoint = direct_twin.endpoint(emulator.url, concurrency=1, model_kwargs={"max_new_tokens": 30})
        stream = endpoint.stream("Hello").__enter__()
        next(stream)
        before = emulator.total_requests
        with pytest.raises(errors.DeadlineExceededError, match="nothing was sent"):
            endpoint.invoke("Hello", timeout=Timeout(total=0.05))
        assert emulator.total_requests == before
        if end == "read":
            list(stream)
        elif end == "closed":
            stream.close()
        del stream
        collect()
        assert endpoint.invoke("Hello", timeout=Timeout(total=20.0))


# limits


@pytest.mark.parametrize("limit", [3, AdaptiveConcurrency(3, 3, 3)])
def test_never_more_calls_are_in_flight_than_the_limit_allows(direct_twin: Twin, limit: Any) -> None:  # noqa: F811
    with Emulator(echo, latency=0.01) as emulator:
        endpoint = limited(direct_twin, emulator, concurrency=limit, clock=None)
        inputs = [b"%d" % number for number in range(40)]
        assert list(endpoint.map(inputs, max_concurrency=20)) == inputs
        assert emulator.load["my-llm"].peak == 3
        assert endpoint.endpoint.concurrency_limit == 3


def test_no_more_calls_are_let_in_than_there_may_be_connections(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator(echo, latency=0.01) as emulator:
        endpoint = limited(direct_twin, emulator, concurrency=AdaptiveConcurrency(8, 4), max_connections=2, clock=None)
        assert endpoint.endpoint.concurrency_limit == 2
        inputs = [b"%d" % number for number in range(20)]
        assert list(endpoint.map(inputs, max_concurrency=20)) == inputs
        assert emulator.load["my-llm"].peak == 2


def test_no_more_calls_are_let_in_than_botocores_configuration_has_connections(direct_twin: Twin) -> None:  # noqa: F811
    from botocore.config import Config

    with Emulator(echo, latency=0.01) as emulator:
        endpoint = limited(direct_twin, emulator, concurrency=8, config=Config(max_pool_connections=2), clock=None)
        endpoint.invoke(b"x")
        assert endpoint.endpoint.concurrency_limit == 2


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "4"])
def test_a_limit_that_is_not_one_is_refused(value: Any) -> None:
    for make in (Endpoint, AsyncEndpoint):
        with pytest.raises(errors.ConfigurationError, match="concurrency must be"):
            make("my-llm", concurrency=value)


def test_asynchronous_inference_is_not_limited(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator("tgi") as emulator:
        endpoint = direct_twin.endpoint(emulator.url, concurrency=1)
        with endpoint.stream("Hello"):
            handle = direct_twin.run(endpoint.endpoint.submit(input_location="s3://bucket/in"))
        assert handle.output_location


def test_a_pickled_endpoint_keeps_its_limit() -> None:
    endpoint = pickle.loads(pickle.dumps(Endpoint("my-llm", concurrency=AdaptiveConcurrency(2))))
    assert endpoint.concurrency_limit == 2


# waiters


def test_threads_share_the_slots_of_an_endpoint_and_lose_nothing() -> None:
    with (
        Emulator(echo, capacity=2, latency=0.002) as emulator,
        Endpoint("my-llm", endpoint_url=emulator.url, concurrency=AdaptiveConcurrency(16), **KEYS) as endpoint,
    ):
        got: dict[int, bytes] = {}

        def work(first: int) -> None:
            for number in range(first, first + 20):
                got[number] = endpoint.invoke(b"%d" % number)

        threads = [threading.Thread(target=work, args=(20 * index,)) for index in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        emulator.idle()
        assert got == {number: b"%d" % number for number in range(320)}
        load = emulator.load["my-llm"]
        assert load.served == 320
        assert load.refused < 320
        assert endpoint.concurrency_limit is not None
        assert endpoint.concurrency_limit <= 8


def test_tasks_on_several_event_loops_share_the_slots_of_an_endpoint() -> None:
    with Emulator(echo, capacity=2, latency=0.002) as emulator:
        endpoint = AsyncEndpoint("my-llm", endpoint_url=emulator.url, concurrency=AdaptiveConcurrency(8), **KEYS)
        got: list[bytes] = []

        async def work(first: int) -> None:
            inputs = [b"%d" % number for number in range(first, first + 50)]
            answers = await asyncio.gather(*map(endpoint.invoke, inputs))
            assert answers == inputs
            got.extend(answers)

        threads = [threading.Thread(target=asyncio.run, args=(work(50 * index),)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        emulator.idle()
        assert len(got) == 200
        assert emulator.load["my-llm"].served == 200
        asyncio.run(endpoint.aclose())


def test_a_task_that_is_cancelled_while_it_waits_leaves_its_place(emulator: Emulator) -> None:
    async def main() -> None:
        async with AsyncEndpoint("my-llm", endpoint_url=emulator.url, concurrency=1, **KEYS) as endpoint:
            stream = await endpoint.stream(b"x").open()
            tasks = [asyncio.ensure_future(endpoint.invoke(b"%d" % number)) for number in range(4)]
            await asyncio.sleep(0)
            tasks[0].cancel()
            tasks[2].cancel()
            await stream.aclose()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(one) for one in ended] == [asyncio.CancelledError, bytes, asyncio.CancelledError, bytes]

    asyncio.run(main())
    assert emulator.total_requests == 3


def test_leaving_a_map_ends_its_waiters(direct_twin: Twin, emulator: Emulator) -> None:  # noqa: F811
    endpoint = limited(direct_twin, emulator, clock=None)
    answers = endpoint.map([b"%d" % number for number in range(9)], max_concurrency=4)
    assert next(answers) == b"0"
    answers.close()  # type: ignore[attr-defined]  # of the twins
    assert endpoint.invoke(b"x") == b"x"


def test_a_stream_can_be_closed_while_it_waits_for_its_slot(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator("tgi") as emulator:
        endpoint = direct_twin.endpoint(emulator.url, concurrency=1)
        with endpoint.stream("Hello"):
            waiting = endpoint.stream("Hello").iterator
            if direct_twin.asynchronous:

                async def close() -> None:
                    task = asyncio.ensure_future(waiting.open())
                    await asyncio.sleep(0)
                    await waiting.aclose()
                    with pytest.raises(errors.StreamError, match="closed"):
                        await task

                direct_twin.run(close())
            else:
                closer = threading.Timer(0.01, waiting.close)
                closer.start()
                with pytest.raises(errors.StreamError, match="closed"):
                    waiting.open()
                closer.join()
        assert endpoint.invoke("Hello")
        assert emulator.total_requests == 2


def test_an_endpoint_that_starts_afresh_has_free_slots(direct_twin: Twin, emulator: Emulator) -> None:  # noqa: F811
    endpoint = limited(direct_twin, emulator, clock=None)
    endpoint.stream(b"x").__enter__()
    forget(endpoint.endpoint)  # as in the child of a fork
    assert endpoint.invoke(b"y") == b"y"


def test_a_slot_that_is_granted_before_its_task_waits_is_not_waited_for() -> None:
    async def main() -> None:
        limiter = AsyncLimiter(1, SYSTEM_CLOCK)
        slot = limiter.slot()
        assert slot.take()
        assert await limiter.wait(slot, None)

    asyncio.run(main())


def test_the_time_is_kept_as_long_as_a_task_waits() -> None:
    async def main() -> None:
        sleeping, ended = asyncio.Event(), asyncio.Event()

        class Clock(FakeClock):
            async def sleep_async(self, seconds: float) -> None:
                sleeping.set()
                try:
                    await asyncio.sleep(PATIENCE)
                finally:
                    ended.set()

        limiter = AsyncLimiter(AdaptiveConcurrency(1), Clock())
        first, second = limiter.slot(), limiter.slot()
        assert first.take()
        assert not second.take()
        waiting = asyncio.ensure_future(limiter.wait(second, None))
        await sleeping.wait()
        first.end(None)
        assert await waiting
        await ended.wait()

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_begins_with_free_slots(emulator: Emulator) -> None:
    with Endpoint("my-llm", endpoint_url=emulator.url, concurrency=1, **KEYS) as endpoint:
        with endpoint.stream(b"x"):
            child = os.fork()
            if not child:  # pragma: no cover - in the child
                try:
                    signal.alarm(20)
                    os._exit(0 if endpoint.invoke(b"y") == b"y" else 1)
                finally:
                    os._exit(2)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert endpoint.invoke(b"z") == b"z"


@pytest.mark.usefixtures("no_collector")
def test_an_interrupt_at_any_step_loses_no_slot_and_no_waiter() -> None:
    for number in itertools.count(1):
        limiter = Limiter(3, FakeClock())
        slots = [limiter.slot() for _ in range(5)]
        others, mine = slots[3:], slots[:3]

        def deed() -> None:
            for slot in mine:  # noqa: B023
                slot.take()
            limiter.release(mine[0], "refused")  # noqa: B023
            mine[0].take()  # noqa: B023
            for slot in mine:  # noqa: B023
                slot.end(None)

        # As another thread would, while this one is inside.
        for slot in others:
            slot.asked = True
            limiter._events.append((slot, None))
        interrupted = Interrupter(number).during(deed)
        for slot in mine:  # as each call does at its end
            slot.end(None)
        limiter.handle(None, None)  # as the other thread does
        assert [slot.held for slot in others] == [True, True]
        for slot in others:
            slot.end(None)
        more = [limiter.slot() for _ in range(4)]
        for slot in more:
            slot.take()
        assert [slot.held for slot in more] == [True, True, True, False]
        if not interrupted:
            break
    assert number > 20


def test_asking_twice_for_a_slot_queues_once() -> None:
    limiter = Limiter(1, FakeClock())
    first, second, third = (limiter.slot() for _ in range(3))
    assert first.take()
    assert not second.take()
    assert not third.take()
    assert not second.take()
    first.end(None)
    assert second.held
    second.end(None)
    assert third.held


def test_a_stream_that_the_garbage_collector_ends_inside_the_limiter_gives_its_slot_back() -> None:
    class Clock(FakeClock):
        def random(self) -> float:  # which the limit asks for at a refusal
            waiting.end(None)
            held.end(None)
            return super().random()

    limiter = Limiter(3, Clock())
    held, refused, waiting = (limiter.slot() for _ in range(3))
    for slot in (held, refused):
        slot.take()
    limiter.handle(refused, "refused")
    assert not held.held
    more = [limiter.slot() for _ in range(4)]
    for slot in more:
        slot.take()
    assert sum(slot.held for slot in more) == limiter.limit


def test_nothing_looks_at_the_time_before_a_refused_call_may_go_again() -> None:
    clock = FakeClock()
    limiter = Limiter(AdaptiveConcurrency(2), clock)
    running, refused = limiter.slot(), limiter.slot()
    assert running.take()
    for _ in range(2):  # the first one is forgiven
        assert refused.take()
        limiter.release(refused, "refused")
    refused.ready_at = 60.0
    assert not refused.take()
    clock.passed = 30.0  # by now the limit would let one more call start
    limiter.handle(None, None)
    assert limiter.at == 60.0
    clock.passed = 60.0
    limiter.handle(None, None)
    assert refused.held


def refusal(retry_after: float | None) -> errors.ThrottlingError:
    return errors.ThrottlingError(429, "ThrottlingException", "slow down", retry_after=retry_after)


def unwatched_call() -> Any:
    return SimpleNamespace(defaults=SimpleNamespace(policy=RetryPolicy()), watcher=None, refusals=0)


@pytest.mark.parametrize(("asked", "sent"), [(None, True), (30.0, False)])
def test_a_success_lets_a_refused_call_go_early_unless_the_server_asked_it_to_wait(
    asked: float | None, sent: bool
) -> None:
    clock = FakeClock()
    limiter = Limiter(2, clock)
    good, refused = limiter.slot(), limiter.slot()
    assert good.take()
    assert refused.take()
    refused.queue_again(unwatched_call(), refusal(asked), {})
    assert not refused.take()
    limiter.release(good, "ok")
    assert refused.held is sent
    clock.passed = 30.0
    limiter.handle(None, None)
    assert refused.held


def test_a_refused_call_waits_as_long_as_the_server_asks_within_the_throttle_timeout() -> None:
    slot = Limiter(1, FakeClock()).slot()
    assert slot.take()
    slot.queue_again(unwatched_call(), refusal(120.0), {})
    assert slot.ready_at == 120.0
    with pytest.raises(errors.ThrottlingError):
        slot.queue_again(unwatched_call(), refusal(301.0), {})
