"""The client lane for asyncio: calls through a real aiobotocore client, and limits for the waits of aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from async_loops import PATIENCE, Run, make_endpoint, skip, until
from clocks import FakeClock

from smendpoint import AsyncEndpoint, Timeout, errors
from smendpoint._transport.clients.async_client import AsyncClientSource, _discard, raw_response
from smendpoint._transport.deadline import Deadline
from smendpoint.emulator import Emulator
from smendpoint.handlers import BytesHandler

SESSION = get_session()


@contextlib.asynccontextmanager
async def client_of(url: str, **config: Any) -> AsyncIterator[Any]:
    """An aiobotocore client that makes one attempt."""
    settings = {"retries": {"total_max_attempts": 1}, "read_timeout": PATIENCE, **config}
    async with SESSION.create_client(
        "sagemaker-runtime",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="secret",
        config=AioConfig(**settings),
    ) as client:
        yield client


@contextlib.asynccontextmanager
async def endpoint(emulator: Emulator, config: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[Any]:
    async with client_of(emulator.url, **(config or {})) as client:
        yield make_endpoint("", client=client, **options)


def test_the_total_time_holds_for_the_answer_and_for_the_stream(emulator: Emulator) -> None:
    async def main() -> None:
        timeout = Timeout(PATIENCE, PATIENCE, PATIENCE / 2)
        handler = BytesHandler()
        async with endpoint(emulator, content_handler=handler, timeout=timeout, clock=FakeClock()) as called:
            emulator.inject("stall_before_headers", times=1)
            waiting: asyncio.Future[Any] = asyncio.ensure_future(called.invoke(b"Hello"))
            await until(lambda: emulator.requests)
            skip(PATIENCE)
            with pytest.raises(errors.DeadlineExceededError):
                await waiting
            emulator.inject("stall_mid_stream", times=1)
            chunks: list[Any] = []

            async def read() -> None:
                async for chunk in called.stream(b"Hello. What?"):
                    chunks.append(chunk)

            waiting = asyncio.ensure_future(read())
            await until(lambda: chunks)
            skip(PATIENCE)
            with pytest.raises(errors.DeadlineExceededError):
                await waiting

    Run("skipping")(main())


def test_a_call_that_the_client_cannot_end_is_ended(run: Run, emulator: Emulator) -> None:
    """Its own limits allow so much, and a moment more."""

    async def main() -> None:
        config = {"read_timeout": 0.01, "connect_timeout": 0.01, "retries": {"total_max_attempts": 1}}
        async with client_of(emulator.url, **config) as client:

            class Hung:
                meta = client.meta

                async def invoke_endpoint(self, **_: Any) -> None:
                    await asyncio.get_running_loop().create_future()

                invoke_endpoint_with_response_stream = invoke_endpoint

            called = make_endpoint("", client=Hung(), timeout=0.01)
            with pytest.raises(errors.ReadTimeoutError):
                await called.invoke("Hello")

    run(main())


@pytest.mark.parametrize("operation", ["invoke", "stream", "reading"])
def test_cancellation_passes_unchanged_and_frees_the_connection(run: Run, emulator: Emulator, operation: str) -> None:
    chunks: list[Any] = []

    async def call(called: Any) -> None:
        if operation == "invoke":
            await called.invoke(b"Hello")
        else:
            async with called.stream(b"Hello. What?") as stream:
                async for chunk in stream:
                    chunks.append(chunk)

    def seen() -> int:
        return len(chunks if operation == "reading" else emulator.requests)

    async def main() -> None:
        async with endpoint(emulator, {"max_pool_connections": 2}, content_handler=BytesHandler()) as called:
            emulator.inject("stall_mid_stream" if operation == "reading" else "stall_before_headers", times=6)
            for number in range(1, 7):
                task = asyncio.ensure_future(call(called))
                await until(lambda number=number: seen() == number)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await until(lambda: emulator.open_connections == 0)
            assert await called.invoke(b"Hello")

    run(main())


def test_a_stream_that_another_task_closes_ends_for_its_reader(run: Run, emulator: Emulator) -> None:
    async def main() -> None:
        async with endpoint(emulator, content_handler=BytesHandler()) as called:
            emulator.inject("stall_mid_stream", times=1)
            stream = called.stream(b"Hello. What?")
            task = asyncio.ensure_future(read(stream))
            await until(lambda: chunks)
            await stream.aclose()
            with pytest.raises(errors.StreamError, match="closed before its end"):
                await task

    async def read(stream: Any) -> None:
        async for chunk in stream:
            chunks.append(chunk)

    chunks: list[Any] = []

    run(main())


def test_an_answer_that_comes_together_with_a_cancellation_is_let_go() -> None:
    class Raw:
        content = type("Content", (), {"readany": None})()
        closed = False

        def close(self) -> None:
            self.closed = True

    raw = Raw()
    _discard({"Body": type("Body", (), {"_raw_stream": raw})()})
    assert raw.closed
    _discard({})


def test_a_source_reads_closes_and_ends_once(run: Run) -> None:
    class Content:
        def __init__(self, *answers: Any) -> None:
            self.answers = list(answers)

        async def readany(self) -> bytes:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return bytes(answer)

    class Raw:
        def __init__(self, *answers: Any) -> None:
            self.content = Content(*answers)
            self.calls: list[str] = []

        def release(self) -> None:
            self.calls.append("release")

        def close(self) -> None:
            self.calls.append("close")

    patience = Deadline(Timeout(), None, lambda: 0.0)

    async def main() -> None:
        raw = Raw(b"x", b"")
        source = AsyncClientSource(raw, 200, {}, patience)
        assert [await source.read() for _ in range(3)] == [b"x", b"", b""]
        source.close()
        source.abandon()
        assert raw.calls == ["release"]
        raw = Raw(RuntimeError("Connection closed."))  # aiohttp's, for a connection that it has closed
        source = AsyncClientSource(raw, 200, {}, patience)
        with pytest.raises(errors.TransportError, match="lost") as caught:
            await source.read()
        assert isinstance(caught.value.__cause__, RuntimeError)
        source.close()
        source.close()
        assert raw.calls == ["close"]
        sources.append(AsyncClientSource(Raw(), 200, {}, patience))

    sources: list[AsyncClientSource] = []
    run(main())
    sources[0].abandon()  # after its loop


def test_a_client_that_hides_its_bytes_is_refused() -> None:
    with pytest.raises(errors.ConfigurationError, match="gives no access to its bytes"):
        raw_response(object())


def test_only_an_aiobotocore_client_will_do() -> None:
    import botocore.session

    blocking = botocore.session.get_session().create_client("sagemaker-runtime", region_name="us-east-1")
    with pytest.raises(errors.ConfigurationError, match="aiobotocore"):
        AsyncEndpoint("my-llm", client=blocking)
    blocking.close()
