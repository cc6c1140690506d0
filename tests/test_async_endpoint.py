"""`AsyncEndpoint`: its calls, on both kinds of event loop."""
# ruff: noqa: F401, F811 (fixtures are imported)

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from async_loops import PATIENCE, Run, make_endpoint, run, settled, turns, until
from inside import pools_of

from smendpoint import AsyncEndpoint, CallHooks, Timeout, errors
from smendpoint._transport.aio import transport as async_direct
from smendpoint.emulator import Emulator, ModelRequest
from smendpoint.handlers import BytesHandler


def echo(request: ModelRequest) -> bytes:
    """A model that repeats the request."""
    return request.body


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(echo) as running:
        yield running
        running.disconnected()


def echoing(url: str, **options: Any) -> AsyncEndpoint[Any, Any, Any]:
    return make_endpoint(url, content_handler=BytesHandler(), **options)


def test_every_call_gets_its_own_answer(run: Run, emulator: Emulator) -> None:
    async def main() -> None:
        async with echoing(emulator.url, max_connections=8) as called:
            prompts = [b"prompt %d" % number for number in range(200)]
            assert await asyncio.gather(*(called.invoke(prompt) for prompt in prompts)) == prompts
            assert [output async for output in called.map(prompts, max_concurrency=100)] == prompts
            assert await called(b"called") == b"called"
            answer = await called.send(b"sent")
            assert (answer.output, answer.body, answer.attempts) == (b"sent", b"sent", 1)
            assert answer.elapsed > 0.0
        assert emulator.total_connections <= 8

    run(main())


def test_calls_and_streams_run_side_by_side(run: Run, emulator: Emulator) -> None:
    async def main() -> None:
        async with echoing(emulator.url) as called:

            async def streamed(prompt: bytes) -> bytes:
                async with called.stream(prompt) as stream:
                    return b"".join([chunk async for chunk in stream])

            prompts = [b"prompt %d " % number * 20 for number in range(50)]
            assert await asyncio.gather(*map(streamed, prompts), *map(called.invoke, prompts)) == prompts * 2

    run(main())


def test_hooks_get_the_end_of_each_call(run: Run, emulator: Emulator) -> None:
    ends: list[BaseException | None] = []

    class Hooks(CallHooks):
        def call_finished(self, call: Any, error: BaseException | None) -> None:
            ends.append(error)

    async def main() -> None:
        async with echoing(emulator.url, hooks=Hooks()) as called:
            await called.invoke(b"Hello")
            emulator.inject("status_400_ValidationError", times=1)
            with pytest.raises(errors.ValidationError):
                await called.invoke(b"Hello")
            emulator.inject("stall_before_headers", times=1)
            task = asyncio.ensure_future(called.invoke(b"Hello"))
            await until(lambda: len(emulator.requests) == 3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main())
    assert [type(end) for end in ends] == [type(None), errors.ValidationError, asyncio.CancelledError]


def test_the_total_time_holds_over_everything(run: Run, emulator: Emulator) -> None:
    async def main() -> None:
        async with echoing(emulator.url, max_connections=1, timeout=Timeout(PATIENCE, PATIENCE, 0.5)) as called:
            await called.invoke(b"Hello")
            emulator.inject("stall_before_headers", times=1)
            outcomes = await asyncio.gather(*(called.invoke(b"Hello") for _ in range(3)), return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} <= {errors.DeadlineExceededError, bytes}
            assert isinstance(outcomes[0], errors.DeadlineExceededError)
            assert await called.invoke(b"Hello") == b"Hello"

    run(main())
