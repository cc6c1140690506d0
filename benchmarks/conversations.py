"""Bidirectional streams: what an audio frame costs that is sent and answered."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, TypeAlias

from benchmarks.calls import run
from benchmarks.harness import Context, Cost, Row, by_turns, compared, seconds, timed

FRAME = bytes(range(160)) * 4  # 20 ms: 16-bit samples, 16,000 a second
ENDPOINT = "voice"  # its model sends each part back

Exchange: TypeAlias = "Callable[[], Awaitable[bytes | None]]"
"""Send a frame, and give the bytes that come back."""


def audio(context: Context) -> list[Row]:
    """CPU for one frame, of which each goes out when the one before has come back: as alone as in real time."""
    frames = context.times(1_000)
    clients = {"smendpoint": ours}
    # AWS's own client, which has no blocking twin. It needs Python 3.12.
    if find_spec("aws_sdk_sagemaker_runtime_http2") and find_spec("awscrt"):
        clients["AWS SDK"] = sdk
    sides = [partial(exchanged, client, context, frames) for client in clients.values()]
    *turns, threads = by_turns(context.rounds, *sides, lambda: blocking(context, frames))
    costs = {name: [turn.cpu for turn in one] for name, one in zip(clients, turns, strict=True)}
    return [
        row("audio frame, CPU", {"smendpoint": [turn.cpu for turn in threads]}, "audio"),
        row("audio frame, CPU, async", costs, "audio-asyncio"),
    ]


def row(what: str, costs: dict[str, list[float]], key: str) -> Row:
    """A row of all that take part, which may be smendpoint alone."""
    if len(costs) > 1:
        return compared(what, costs, key=key)
    (own,) = costs.values()
    return Row(what, seconds(own), "", [cost * 1e6 for cost in own], "us", key=key, sides=costs)


def exchanged(
    client: Callable[[Context], contextlib.AbstractAsyncContextManager[Exchange]], context: Context, frames: int
) -> Cost:
    """Exchange so many frames in one conversation, whose first answer has come before."""

    async def work() -> Cost:
        async with client(context) as exchange:
            assert await exchange() == FRAME
            cpu, wall = time.process_time(), time.perf_counter()
            for _ in range(frames):
                assert await exchange() == FRAME
            return Cost((time.process_time() - cpu) / frames, (time.perf_counter() - wall) / frames)

    return run(work(), asyncio.new_event_loop)


def blocking(context: Context, frames: int) -> Cost:
    """The same with the blocking twin."""
    from smendpoint import Endpoint

    with Endpoint(ENDPOINT, endpoint_url=context.voice) as endpoint, endpoint.converse() as talk:
        parts = iter(talk)

        def work(count: int) -> None:
            for _ in range(count):
                talk.send(FRAME)
                assert next(parts).data == FRAME

        work(1)
        cost = timed(lambda: work(frames), frames)
        talk.end_input()
        assert next(parts, None) is None
        return cost


@contextlib.asynccontextmanager
async def ours(context: Context) -> AsyncGenerator[Exchange]:
    from smendpoint import AsyncEndpoint

    async with AsyncEndpoint(ENDPOINT, endpoint_url=context.voice) as endpoint, endpoint.converse() as talk:
        parts = aiter(talk)

        async def exchange() -> bytes:
            await talk.send(FRAME)
            return (await anext(parts)).data

        yield exchange
        await talk.end_input()
        assert await anext(parts, None) is None


@contextlib.asynccontextmanager
async def sdk(context: Context) -> AsyncGenerator[Exchange]:
    from aws_sdk_sagemaker_runtime_http2.client import AsyncSageMakerRuntimeHTTP2Client
    from aws_sdk_sagemaker_runtime_http2.config import AsyncSageMakerRuntimeHTTP2Config
    from aws_sdk_sagemaker_runtime_http2.models import (
        InvokeEndpointWithBidirectionalStreamInput,
        RequestPayloadPart,
        RequestStreamEventPayloadPart,
    )
    from awscrt.io import ClientTlsContext, TlsContextOptions
    from smithy_http.aio.crt import AWSCRTHTTPClient

    trust = TlsContextOptions()
    trust.override_default_trust_store_from_path(None, context.certificates)

    class Transport(AWSCRTHTTPClient):  # type: ignore[misc]  # it is untyped where it is not installed
        """One that trusts the server, for which the SDK has no option. The SDK copies it with its configuration."""

        def __init__(self) -> None:
            super().__init__()
            self._tls_ctx = ClientTlsContext(trust)

        def __deepcopy__(self, memo: Any) -> Transport:
            return self

    config = await AsyncSageMakerRuntimeHTTP2Config.resolve(endpoint_uri=context.voice, transport=Transport())
    client = AsyncSageMakerRuntimeHTTP2Client(config)
    request = InvokeEndpointWithBidirectionalStreamInput(endpoint_name=ENDPOINT)
    stream = await client.invoke_endpoint_with_bidirectional_stream(request)
    event = RequestStreamEventPayloadPart(RequestPayloadPart(bytes_=FRAME))

    async def exchange() -> bytes | None:
        await stream.input_stream.send(event)
        _, answers = await stream.await_output()
        answer: bytes | None = (await answers.receive()).value.bytes_
        return answer

    yield exchange
    await stream.input_stream.close()
    assert await stream.output_stream.receive() is None
    await stream.close()
    await config.transport.close()
