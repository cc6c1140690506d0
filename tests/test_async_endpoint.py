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
    """A model that says what it heard."""
    return request.body


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(echo) as running:
        yield running
        running.disconnected()


def echoing(url: str, **options: Any) -> AsyncEndpoint[Any, Any, Any]:
    return make_endpoint(url, content_handler=BytesHandler(), **options)


def test_making_one_needs_no_loop_and_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("this is to wait for the first call")

    monkeypatch.setattr(async_direct, "resolve", forbidden)
    monkeypatch.setattr(socket, "socket", forbidden)
    made = AsyncEndpoint("my-llm")
    assert "my-llm" in repr(made)
    assert made.endpoint_name == "my-llm"


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


def test_map_runs_no_more_calls_than_there_may_be_connections(run: Run, emulator: Emulator) -> None:
    read = 0

    def inputs() -> Iterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield b"x"

    async def main() -> None:
        async with echoing(emulator.url, max_connections=2) as called:
            outputs: Any = called.map(inputs(), max_concurrency=50, endpoint_kwargs={"InferenceId": "x"}, stop=None)
            await outputs.__anext__()
            assert read <= 2 + 1
            await outputs.aclose()
            with pytest.raises(errors.ConfigurationError):
                called.map([b"x"], max_concurrency=0)

    run(main())
    assert emulator.requests[0].headers["x-amzn-sagemaker-inference-id"] == "x"


def test_an_error_of_one_input_takes_its_place_where_that_is_asked_for(run: Run, emulator: Emulator) -> None:
    async def main() -> None:
        async with echoing(emulator.url) as called:
            emulator.inject("status_400_ValidationError", times=1)
            outputs = [output async for output in called.map([b"x"] * 3, max_concurrency=1, return_exceptions=True)]
            assert isinstance(outputs[0], errors.ValidationError)
            assert outputs[1:] == [b"x", b"x"]

    run(main())


def test_an_error_of_the_look_up_names_the_endpoint(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Any) -> None:
        raise errors.ConfigurationError("there is no region")

    monkeypatch.setattr(async_direct, "resolve", fails)
    with pytest.raises(errors.ConfigurationError) as caught:
        run(AsyncEndpoint("my-llm").invoke("Hello"))
    assert caught.value.endpoint_name == "my-llm"


def test_who_watches_hears_how_calls_end(run: Run, emulator: Emulator) -> None:
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


def test_it_pickles_without_its_connections(run: Run, emulator: Emulator) -> None:
    called = echoing(emulator.url)
    run(called.invoke(b"Hello"))
    copied = pickle.loads(pickle.dumps(called))
    assert pools_of(copied) == {}


def test_a_context_manager_closes(run: Run, emulator: Emulator) -> None:
    async def main() -> None:
        async with echoing(emulator.url) as called:
            await called.invoke(b"Hello")
        with pytest.raises(errors.ConfigurationError, match="closed"):
            await called.invoke(b"Hello")

    run(main())


def test_sessions_and_asynchronous_inference_are_at_hand(run: Run, emulator: Emulator) -> None:
    async def main() -> None:
        async with echoing(emulator.url) as called:
            async with called.session() as session:
                assert await session.invoke(b"Hello") == b"Hello"
            handle = await called.submit(b"Hello")
            assert handle.output_location

    run(main())


def test_closing_closes_where_answers_of_asynchronous_inference_are_kept_too(run: Run) -> None:
    class Storage:
        closed = False

        async def close(self) -> None:
            self.closed = True

    async def main() -> None:
        storage = Storage()
        async with echoing("http://127.0.0.1:1") as called:
            called._caller._storage = storage
        assert storage.closed

    run(main())
