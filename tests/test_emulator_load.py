"""The load on the emulator's endpoints: capacity, queue and latency, and what is counted of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from emulator_client import RawClient, call, request, status
from twins import NAME, Twin, bytes_endpoint

from smendpoint import BytesHandler, ThrottlingError
from smendpoint.emulator import Emulator, EndpointLoad, ModelRequest
from smendpoint.emulator import _load as load_module
from smendpoint.emulator._load import Slots
from smendpoint.errors import ConfigurationError

LONG = 60.0  # seconds; a latency that no test waits for


def echo(asked: ModelRequest) -> bytes:
    return asked.body


echo.inline = True  # type: ignore[attr-defined]  # runs in the emulator's loop, so that order is the order of requests


def load(name: str = NAME, **load: int) -> Callable[[Emulator], bool]:
    """Whether the load on an endpoint has these numbers."""
    return lambda emulator: load.items() <= emulator.load[name]._asdict().items()


@contextlib.contextmanager
def clients(emulator: Emulator, count: int) -> Generator[list[RawClient]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(RawClient(emulator)) for _ in range(count)]


# -- capacity


def test_an_endpoint_at_its_capacity_refuses_as_the_service_does() -> None:
    with Emulator(echo, capacity=2, latency={NAME: LONG}) as emulator, clients(emulator, 2) as busy:
        for client in busy:
            client.send(request())
        emulator.wait_for(load(running=2))
        head, body = call(emulator, request())
        assert head.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
        assert b"x-amzn-ErrorType: ThrottlingException\r\n" in head
        assert json.loads(body) == {"Message": "Rate exceeded"}
        assert emulator.load == {NAME: EndpointLoad(running=2, peak=2, refused=1)}
        assert status(emulator, request(path="/endpoints/other/invocations")) == 200


def test_a_client_that_has_the_whole_answer_finds_the_slot_free_and_the_call_counted() -> None:
    with Emulator(echo, capacity=1) as emulator, emulator.endpoint(NAME, content_handler=BytesHandler()) as endpoint:
        for number in range(0, 300, 2):
            assert endpoint.invoke(b"x") == b"x"
            assert emulator.load == {NAME: EndpointLoad(served=number + 1, peak=1)}
            assert b"".join(endpoint.stream(b"parts, several of them")) == b"parts, several of them"
            assert emulator.load == {NAME: EndpointLoad(served=number + 2, peak=1)}


def test_a_refused_call_is_a_throttling_error(twin: Twin) -> None:
    with Emulator(echo, capacity=0) as emulator, bytes_endpoint(twin, emulator.url) as endpoint:
        for operation in ("invoke", "stream"):
            with pytest.raises(ThrottlingError) as refused:
                endpoint.call(operation, b"x")
            assert (refused.value.status, refused.value.code) == (429, "ThrottlingException")
        assert emulator.load[NAME] == EndpointLoad(refused=2)
        emulator.capacity = None
        assert endpoint.invoke(b"x") == b"x"
        assert endpoint.collect(b"x") == [b"x"]


def test_a_stream_holds_its_slot_until_its_end(twin: Twin) -> None:
    more = threading.Event()

    def parts(asked: ModelRequest) -> Iterator[bytes]:
        yield b"first"
        more.wait()
        yield b"last"

    with Emulator(parts, capacity=1) as emulator, bytes_endpoint(twin, emulator.url) as endpoint:
        with endpoint.stream(b"") as stream:
            assert next(stream) == b"first"
            assert emulator.load[NAME].running == 1
            assert status(emulator, request()) == 429
            more.set()
            assert list(stream) == [b"last"]
        emulator.wait_for(load(running=0, served=1, refused=1))


def test_a_stream_on_the_openai_path_holds_its_slot_until_its_end() -> None:
    with Emulator(lambda asked: iter([b"part"]), capacity=1) as emulator, RawClient(emulator) as client:
        emulator.inject("stall_mid_stream", times=1)
        client.send(request("openai", b'{"stream": true}'))
        emulator.wait_for(lambda emulator: emulator.stalled == 1)
        assert status(emulator, request("openai")) == 429
        assert status(emulator, request("openai", method="GET", path=f"/endpoints/{NAME}/openai/v1/models")) == 200


def test_several_clients_are_never_served_beyond_the_capacity(twin: Twin) -> None:
    with Emulator(echo, capacity=3, queue=None, latency=0.001) as emulator:
        with bytes_endpoint(twin, emulator.url) as one, bytes_endpoint(twin, emulator.url) as other:
            inputs = [b"%d" % number for number in range(40)]
            first, second = (each.map(inputs, max_concurrency=8) for each in (one, other))
            assert list(zip(first, second, strict=True)) == [(value, value) for value in inputs]
        emulator.idle()
        assert emulator.load[NAME].peak <= 3
        assert emulator.load[NAME]._replace(peak=0) == EndpointLoad(served=80)


# -- the queue


def test_requests_wait_in_their_order_until_a_slot_is_free() -> None:
    order: list[bytes] = []

    def model(asked: ModelRequest) -> bytes:
        order.append(asked.body)
        return b""

    model.inline = True  # type: ignore[attr-defined]
    with Emulator(model, capacity=0, queue=3) as emulator, clients(emulator, 3) as waiting:
        for number, client in enumerate(waiting, 1):
            client.send(request(body=b"%d" % number))
            emulator.wait_for(load(queued=number))
        assert status(emulator, request()) == 429
        assert emulator.load[NAME] == EndpointLoad(queued=3, refused=1)
        emulator.capacity = 1
        for client in waiting:
            assert b" 200 " in client.read_until(b"\r\n\r\n")
        assert order == [b"1", b"2", b"3"]
        emulator.idle()
        assert emulator.load[NAME] == EndpointLoad(served=3, peak=1, refused=1)


def test_more_capacity_lets_those_in_that_wait_and_less_of_it_nobody() -> None:
    with Emulator(echo, capacity=1, queue=None, latency=LONG) as emulator, clients(emulator, 6) as several:
        for client in several:
            client.send(request())
        emulator.wait_for(load(running=1, queued=5))
        emulator.capacity = 4
        assert emulator.load[NAME] == EndpointLoad(running=4, queued=2, peak=4)
        emulator.capacity = 2
        several[0].socket.close()
        emulator.wait_for(lambda emulator: emulator.open_connections == 5)
        assert emulator.load[NAME].running + emulator.load[NAME].served == 4
        emulator.capacity = None
        emulator.wait_for(load(queued=0))


def test_a_shorter_queue_leaves_those_alone_that_wait() -> None:
    with Emulator(echo, capacity=0, queue=2) as emulator, clients(emulator, 2) as waiting:
        for client in waiting:
            client.send(request())
        emulator.wait_for(load(queued=2))
        emulator.queue = 0
        assert status(emulator, request()) == 429
        emulator.capacity = 1
        assert [b" 200 " in client.read_until(b"\r\n\r\n") for client in waiting] == [True, True]


# -- clients that leave


def test_a_client_that_leaves_gives_back_its_slot_and_its_position_in_the_queue() -> None:
    with Emulator(echo, capacity=1, queue=None, latency=LONG) as emulator, clients(emulator, 3) as (one, two, three):
        one.send(request())
        emulator.wait_for(load(running=1))
        for number, client in enumerate((two, three), 1):
            client.send(request(body=b"%d" % number))
            emulator.wait_for(load(queued=number))
        two.socket.close()
        emulator.wait_for(load(queued=1))
        emulator.latency = 0
        one.socket.close()
        assert b" 200 " in three.read_until(b"\r\n\r\n")
        emulator.idle()
        assert emulator.load[NAME] == EndpointLoad(served=2, peak=1)


def test_a_client_that_leaves_a_stream_gives_back_its_slot(twin: Twin) -> None:
    async def parts(asked: ModelRequest) -> Any:
        async def endless() -> Any:
            while True:
                yield b"part"
                await asyncio.sleep(0)

        return endless()

    with Emulator(parts, capacity=1) as emulator, bytes_endpoint(twin, emulator.url) as endpoint:
        with endpoint.stream(b"") as stream:
            next(stream)
            assert emulator.load[NAME].running == 1
        emulator.wait_for(load(running=0, served=1))


def test_the_model_does_not_run_for_a_client_that_left_before() -> None:
    asked: list[ModelRequest] = []
    with Emulator(lambda one: asked.append(one) or b"", capacity=1, latency=LONG) as emulator:
        with RawClient(emulator) as client:
            client.send(request())
            emulator.wait_for(load(running=1))
        emulator.disconnected()
        assert emulator.load[NAME] == EndpointLoad(served=1, peak=1)
        assert asked == []


def test_a_client_that_leaves_just_when_it_gets_a_slot_gives_it_back() -> None:
    async def scenario() -> dict[str, EndpointLoad]:
        slots = Slots(threading.Condition(), 1, 0, None)
        ends: list[list[Callable[[], object]]] = [[], [], []]
        await slots.take(NAME, ends[0])
        waiting = [asyncio.create_task(slots.take(NAME, at_end)) for at_end in ends[1:]]
        await asyncio.sleep(0)
        for deed in ends[0]:
            deed()
        waiting[0].cancel()
        left, stayed = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(left, asyncio.CancelledError)
        assert stayed is True
        return slots.snapshot()

    assert asyncio.run(scenario()) == {NAME: EndpointLoad(running=1, served=2, peak=1)}


# -- what takes a slot


def test_asynchronous_inference_has_a_queue_of_its_own() -> None:
    with Emulator(echo, capacity=0, latency=LONG) as emulator:
        assert status(emulator, request("async")) == 202
        emulator.idle()
        assert len(emulator.objects) == 1
        assert emulator.load == {}


def test_a_fault_in_place_of_the_answer_takes_no_slot_and_one_that_spoils_it_does() -> None:
    with Emulator(echo, capacity=1) as emulator, RawClient(emulator) as client:
        emulator.inject("status_503", times=1)
        assert status(emulator, request()) == 503
        assert emulator.load == {}
        emulator.inject("stall_before_headers", times=1)
        client.send(request())
        emulator.wait_for(lambda emulator: emulator.stalled == 1)
        assert status(emulator, request()) == 429


def test_an_endpoint_that_does_not_exist_has_no_slots() -> None:
    with Emulator({NAME: echo}, capacity=0) as emulator:
        assert status(emulator, request(path="/endpoints/other/invocations")) == 400
        assert emulator.load == {}


# -- the settings


def test_each_endpoint_can_have_numbers_of_its_own() -> None:
    capacity = {"none": 0, "any": None, "queues": 0}
    with Emulator(echo, capacity=capacity, queue={"queues": 1}, latency={"queues": LONG}) as emulator:
        capacity["none"] = 10
        answers = {name: request(path=f"/endpoints/{name}/invocations") for name in ("none", "any", "other", "queues")}
        with RawClient(emulator) as client:
            client.send(answers.pop("queues"))
            emulator.wait_for(load("queues", queued=1))
            assert {name: status(emulator, data) for name, data in answers.items()} == {
                "none": 429,
                "any": 200,
                "other": 200,
            }
            emulator.capacity = {"any": None, "queues": 1}
            emulator.wait_for(load("queues", running=1, queued=0))


def test_settings_by_name_change_as_a_whole() -> None:
    emulator = Emulator(capacity={"a": 1})
    with pytest.raises(TypeError):
        emulator.capacity["a"] = 2  # type: ignore[index]


def test_a_reset_returns_to_the_settings_that_it_was_made_with_and_forgets_what_was_counted() -> None:
    with Emulator(echo, capacity=3, queue=2) as emulator, RawClient(emulator) as client:
        emulator.capacity, emulator.queue, emulator.latency = 0, None, 1.5
        client.send(request())
        emulator.wait_for(load(queued=1))
        emulator.reset()
        assert (emulator.capacity, emulator.queue, emulator.latency) == (3, 2, 0)
        assert emulator.load == {}
        assert status(emulator, request()) == 200
    emulator.capacity = 7
    emulator.reset()
    assert emulator.capacity == 3
    assert emulator.load == {}


def test_an_emulator_that_stops_leaves_nobody_waiting() -> None:
    with Emulator(echo, capacity=0, queue=None) as emulator, RawClient(emulator) as client:
        client.send(request())
        emulator.wait_for(load(queued=1))
        emulator.stop()
        assert client.ends("reset")
        assert emulator.load[NAME] == EndpointLoad()


@pytest.mark.parametrize("value", [-1, 1.5, "8", {"a": -1}, {"a": 0.5}])
@pytest.mark.parametrize("name", ["capacity", "queue"])
def test_capacity_and_queue_are_whole_numbers(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be a whole number of at least 0, or None"):
        Emulator(**{name: value})
    with Emulator() as emulator, pytest.raises(ConfigurationError, match=name):
        setattr(emulator, name, value)


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), None, "1", {"a": -1}])
def test_latency_is_a_time(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="latency must be a number of seconds of at least 0"):
        Emulator(latency=value)


def test_a_client_that_calls_many_names_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "MAX_KNOWN_ENDPOINTS", 3)
    with Emulator(echo, latency={"busy": LONG}) as emulator, RawClient(emulator) as client:
        client.send(request(path="/endpoints/busy/invocations"))
        emulator.wait_for(load("busy", running=1))
        for number in range(10):
            assert status(emulator, request(path=f"/endpoints/{number}/invocations")) == 200
        assert list(emulator.load) == ["busy", "8", "9"]
        assert emulator.load["7"] == EndpointLoad()
