"""The first page's statements about boto3 and aiobotocore hold for the versions that are installed, and for ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import warnings
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError as BotocoreReadTimeout
from garbage import collect
from paused import TGI

from smendpoint import ModelOutputError, ReadTimeoutError, StreamTruncatedError, Timeout
from smendpoint.emulator import Emulator, ModelRequest

pytestmark = pytest.mark.usefixtures("bare_environment")

KEYS: dict[str, Any] = {
    "region_name": "us-west-2",
    "aws_access_key_id": "AKIDEXAMPLE",
    "aws_secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
}
NAME = "my-llm"
PROMPT = "Peter stayed for 3 days. Question: How long did Peter stay?"
BODY = json.dumps({"inputs": PROMPT, "stream": True}).encode()
# Seconds within which a call that has a connection has its answer.
SOON = 0.5


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(region="us-west-2") as running:
        yield running


def blocking(url: str, **config: Any) -> Any:
    return contextlib.closing(
        boto3.client("sagemaker-runtime", endpoint_url=url, config=Config(**config), verify=False, **KEYS)
    )


@contextlib.asynccontextmanager
async def awaited(url: str, **config: Any) -> AsyncIterator[Any]:
    made = get_session().create_client(
        "sagemaker-runtime", endpoint_url=url, config=AioConfig(**config), verify=False, **KEYS
    )
    async with made as client:
        yield client


def boto3_stream(url: str) -> bytes:
    with blocking(url) as client:
        events = client.invoke_endpoint_with_response_stream(EndpointName=NAME, Body=BODY)["Body"]
        received = b"".join(event["PayloadPart"]["Bytes"] for event in events)
        events.close()
    return received


def aiobotocore_stream(url: str) -> bytes:
    async def main() -> bytes:
        async with awaited(url) as client:
            events = (await client.invoke_endpoint_with_response_stream(EndpointName=NAME, Body=BODY))["Body"]
            return b"".join([event["PayloadPart"]["Bytes"] async for event in events])

    return asyncio.run(main())


@pytest.mark.parametrize("read", [boto3_stream, aiobotocore_stream])
def test_a_stream_that_ends_inside_a_frame_looks_complete_to_others_and_is_an_error_here(
    read: Any, emulator: Emulator
) -> None:
    whole = read(emulator.url)
    emulator.inject("frame_cut_clean_end")
    assert 0 < len(read(emulator.url)) < len(whole)
    with emulator.endpoint(NAME) as endpoint, pytest.raises(StreamTruncatedError, match="cut off inside a frame"):
        list(endpoint.stream(PROMPT))


@pytest.mark.parametrize("read", [boto3_stream, aiobotocore_stream])
def test_an_error_that_the_container_streams_is_part_of_the_answer_to_others_and_an_error_here(
    read: Any, emulator: Emulator
) -> None:
    emulator.inject("inband_error_tgi")
    assert b'"error"' in read(emulator.url)
    with emulator.endpoint(NAME) as endpoint, pytest.raises(ModelOutputError):
        list(endpoint.stream(PROMPT))


def test_after_a_silence_boto3_has_the_model_run_again_and_this_package_does_not(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _seconds: None))
    emulator.inject("stall_before_headers")
    with blocking(emulator.url, read_timeout=0.05) as client, pytest.raises(BotocoreReadTimeout):
        client.invoke_endpoint(EndpointName=NAME, Body=BODY)
    runs = len(emulator.requests)
    assert runs > 1
    with emulator.endpoint(NAME, timeout=Timeout(read=0.05)) as endpoint, pytest.raises(ReadTimeoutError):
        endpoint.invoke(PROMPT)
    assert len(emulator.requests) == runs + 1


async def cancelled(reading: AsyncIterator[object]) -> None:
    """Read a stream in a task, and cancel the task after the first chunk."""
    first = asyncio.Event()

    async def read() -> None:
        async for _ in reading:
            first.set()

    task = asyncio.create_task(read())
    await first.wait()
    task.cancel()
    await asyncio.wait({task})


def endless(request: ModelRequest) -> Iterator[bytes]:
    """Stream one word, and the next when the client has gone; answer at once what is not streamed."""
    yield TGI if request.streaming else b'[{"generated_text": "Peter"}]'
    if request.streaming:
        request.disconnected.wait()


def test_a_cancelled_stream_keeps_its_connection_in_aiobotocore_and_gives_it_back_here() -> None:
    async def theirs(emulator: Emulator) -> None:
        async with awaited(emulator.url, max_pool_connections=1) as client:
            answer = await client.invoke_endpoint_with_response_stream(EndpointName=NAME, Body=BODY)
            await cancelled(answer["Body"])
            del answer
            collect()
            with pytest.raises(asyncio.TimeoutError):  # the only connection is never free again
                await asyncio.wait_for(client.invoke_endpoint(EndpointName=NAME, Body=BODY), SOON)

    async def ours(emulator: Emulator) -> None:
        async with emulator.async_endpoint(NAME, max_connections=1) as endpoint:
            await cancelled(endpoint.stream(PROMPT))
            await asyncio.to_thread(emulator.disconnected)
            assert await endpoint.invoke(PROMPT) == "Peter"

    with Emulator({NAME: endless}, region="us-west-2", piece_size=None) as emulator:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            asyncio.run(theirs(emulator))
            collect()
        emulator.disconnected()
        asyncio.run(ours(emulator))
