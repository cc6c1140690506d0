"""Many calls to endpoints of a small capacity: the limit finds it out, and no row is lost or mixed up with another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from twins import NAME, Twin, direct_twin, twin  # noqa: F401

from smendpoint import AdaptiveConcurrency, BytesHandler
from smendpoint.emulator import Emulator, ModelRequest

MAXIMUM = 64


def answer(row: bytes) -> bytes:
    return b"answer to " + row


def rows(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    def model(request: ModelRequest) -> bytes:
        return answer(request.body)

    # Long enough for calls to overlap on a slow machine: a limit that no calls fill is not refused.
    with Emulator(model, capacity=8, latency=0.03) as emulator:
        yield emulator


def limited(first_guess: int = 4) -> AdaptiveConcurrency:
    return AdaptiveConcurrency(first_guess, maximum=MAXIMUM)


def check(emulator: Emulator, count: int, limit: int) -> None:
    """Check that all calls were served, and that the limit that was found is not far from the capacity."""
    load, capacity = emulator.load[NAME], emulator.capacity
    assert isinstance(capacity, int)
    assert load.served + load.running == count  # the slot of a stream comes free after its last byte
    assert load.peak <= capacity
    assert load.refused <= MAXIMUM + count // 2  # a first guess that is far too high costs that many
    # A busy machine may bear fewer calls than an endpoint of a large capacity.
    assert min(capacity, 8) / 4 <= limit <= 2 * capacity
    assert emulator.total_connections <= MAXIMUM


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
@pytest.mark.parametrize("first_guess", [1, 4, 64])
@pytest.mark.parametrize("capacity", [2, 8, 32])
def test_a_map_over_an_endpoint_of_unknown_capacity_gives_every_row_its_answer(
    capacity: int,
    first_guess: int,
    ordered: bool,
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    emulator.capacity = capacity
    inputs = rows(60 + 8 * capacity)
    with direct_twin.endpoint(
        emulator.url, content_handler=BytesHandler(), concurrency=limited(first_guess)
    ) as endpoint:
        outputs = list(endpoint.map(inputs, ordered=ordered))
        check(emulator, len(inputs), endpoint.endpoint.concurrency_limit)
    wanted = [answer(row) for row in inputs]
    assert (outputs if ordered else sorted(outputs)) == (wanted if ordered else sorted(wanted))


def test_a_map_through_a_client_over_the_capacity_gives_every_row_its_answer(
    twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    inputs = rows(100)
    with twin.endpoint(emulator.url, content_handler=BytesHandler(), concurrency=limited()) as endpoint:
        assert list(endpoint.map(inputs)) == [answer(row) for row in inputs]
        check(emulator, len(inputs), endpoint.endpoint.concurrency_limit)


@pytest.mark.parametrize("first_guess", [1, 64])
def test_calls_of_64_threads_or_800_tasks_over_the_capacity_all_get_their_answers(
    first_guess: int,
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    inputs = rows(800)
    with direct_twin.endpoint(emulator.url, content_handler=BytesHandler(), concurrency=limited(first_guess)) as made:
        endpoint = made.endpoint

        async def gathered() -> list[bytes]:
            return list(await asyncio.gather(*[endpoint.invoke(row) for row in inputs]))

        if direct_twin.asynchronous:
            outputs = direct_twin.run(gathered())
        else:
            with ThreadPoolExecutor(64) as threads:
                outputs = list(threads.map(endpoint.invoke, inputs))
        check(emulator, len(inputs), endpoint.concurrency_limit)
    assert outputs == [answer(row) for row in inputs]


def test_streams_over_the_capacity_are_whole(
    direct_twin: Twin,  # noqa: F811
    emulator: Emulator,
) -> None:
    inputs = rows(100)
    with direct_twin.endpoint(emulator.url, content_handler=BytesHandler(), concurrency=limited()) as made:
        endpoint = made.endpoint

        async def collected(row: bytes) -> bytes:
            async with endpoint.stream(row) as stream:
                return b"".join([chunk async for chunk in stream])

        async def gathered() -> list[bytes]:
            return await asyncio.gather(*[collected(row) for row in inputs])

        if direct_twin.asynchronous:
            outputs = direct_twin.run(gathered())
        else:
            with ThreadPoolExecutor(32) as threads:
                outputs = list(threads.map(lambda row: b"".join(endpoint.stream(row)), inputs))
        check(emulator, len(inputs), endpoint.concurrency_limit)
    assert outputs == [answer(row) for row in inputs]
