"""Many calls of an endpoint that works on a few at once and refuses the rest: goodput as a share of the ideal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any, NamedTuple, TypeAlias

from benchmarks.calls import flood, rate
from benchmarks.harness import Context, Row
from smendpoint.emulator import Emulator, EndpointLoad, ModelRequest

CALLS = 800
CAPACITY = 8
LATENCY = 0.05
IDEAL = CAPACITY / LATENCY  # calls per second
PATIENCE = 60.0  # seconds for a process to start
NAME = "answer"

Work: TypeAlias = "Callable[[Sequence[str]], list[Any]]"
"""Call the endpoint with each input, and give the outputs in the order of their inputs, or an error for an output."""


# -- the endpoint: an emulator in a process of its own


def echo(request: ModelRequest) -> bytes:
    """Answer with the prompt, so that each output shows its input."""
    return json.dumps([{"generated_text": json.loads(request.body)["inputs"]}]).encode()


echo.inline = True  # type: ignore[attr-defined]  # quick enough for the emulator's loop


def serve(pipe: Connection, options: dict[str, Any]) -> None:
    """Run an emulator; give the load on the endpoint and begin anew for each message, until ``None`` comes."""
    with Emulator(echo, keep_requests=0, **options) as emulator:
        pipe.send(emulator.url)
        while pipe.recv() is not None:
            emulator.idle()
            load = emulator.load[NAME]
            emulator.reset()
            pipe.send(load)


@contextlib.contextmanager
def server(**options: Any) -> Generator[tuple[str, Callable[[], EndpointLoad]]]:
    """Give the URL of an emulator, and a function that gives the load since it was called last."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()

    def load() -> EndpointLoad:
        ours.send("load")
        answer: EndpointLoad = ours.recv()
        return answer

    process = context.Process(target=serve, args=(theirs, options))
    process.start()
    try:
        yield ours.recv(), load
    finally:
        ours.send(None)
        process.join()


# -- the sides: each makes a client, and then many calls with it


@contextlib.contextmanager
def blocking(url: str, most: int, ordered: bool) -> Generator[Work]:
    """`Endpoint.map`."""
    from smendpoint import Endpoint

    with Endpoint(NAME, endpoint_url=url) as endpoint:
        yield lambda inputs: list(endpoint.map(inputs, max_concurrency=most, ordered=ordered, return_exceptions=True))


@contextlib.contextmanager
def asynchronous(url: str, most: int, ordered: bool) -> Generator[Work]:
    """`AsyncEndpoint.map`."""
    from smendpoint import AsyncEndpoint

    async def work(inputs: Sequence[str]) -> list[Any]:
        async with AsyncEndpoint(NAME, endpoint_url=url) as endpoint:
            outputs = endpoint.map(inputs, max_concurrency=most, ordered=ordered, return_exceptions=True)
            return [output async for output in outputs]

    yield lambda inputs: asyncio.run(work(inputs))


def members(prompt: str) -> dict[str, Any]:
    """Make the same call with the bare SDK."""
    return {"EndpointName": NAME, "ContentType": "application/json", "Body": json.dumps({"inputs": prompt})}


def text(body: bytes) -> str:
    """Read the model's answer."""
    answer: str = json.loads(body)[0]["generated_text"]
    return answer


@contextlib.contextmanager
def boto3_threads(url: str, mode: str, threads: int) -> Generator[Work]:
    """A boto3 client in that many threads, with the retries of that mode."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    config = Config(max_pool_connections=threads, retries={"mode": mode})
    client: Any = boto3.client("sagemaker-runtime", endpoint_url=url, config=config)

    def call(prompt: str) -> Any:
        try:
            return text(client.invoke_endpoint(**members(prompt))["Body"].read())
        except ClientError as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        yield lambda inputs: list(pool.map(call, inputs))
    client.close()


@contextlib.contextmanager
def aiobotocore_tasks(url: str, mode: str, tasks: int) -> Generator[Work]:
    """An aiobotocore client in that many tasks, with the retries of that mode."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session
    from botocore.exceptions import ClientError

    config = AioConfig(max_pool_connections=tasks, retries={"mode": mode})
    slots = asyncio.Semaphore(tasks)

    async def call(client: Any, prompt: str) -> Any:
        async with slots:
            try:
                response = await client.invoke_endpoint(**members(prompt))
                async with response["Body"] as stream:
                    return text(await stream.read())
            except ClientError as error:
                return error

    async def work(inputs: Sequence[str]) -> list[Any]:
        async with get_session().create_client("sagemaker-runtime", endpoint_url=url, config=config) as client:
            return await asyncio.gather(*(call(client, prompt) for prompt in inputs))

    yield lambda inputs: asyncio.run(work(inputs))


class Side(NamedTuple):
    """One way to make many calls. ``ordered`` is whether outputs come in the order of their inputs."""

    label: str
    make: Callable[..., contextlib.AbstractContextManager[Work]]
    arguments: dict[str, Any]
    ours: bool = False
    ordered: bool = True


def sides() -> list[Side]:
    """List all of them."""
    found = []
    for name, make in (("map", blocking), ("async map", asynchronous)):
        for ordered in (True, False):
            label = f"{name}, {'ordered' if ordered else 'as completed'}"
            for most in (8, 16, 64):
                limits = {"most": most, "ordered": ordered}
                found.append(Side(f"{label}, max_concurrency={most}", make, limits, True, ordered))
    for mode in ("standard", "adaptive"):
        for most in (8, 16, 64):
            found.append(Side(f"boto3 {mode}, {most} threads", boto3_threads, {"mode": mode, "threads": most}))
    for most in (8, 16, 64):
        arguments = {"mode": "standard", "tasks": most}
        found.append(Side(f"aiobotocore standard, {most} tasks", aiobotocore_tasks, arguments))
    return found


# -- turns: each side makes all calls once, in one process or divided among several


class Turn(NamedTuple):
    """When the calls of one process began and ended, on the clock that processes share, and how many succeeded."""

    started: float
    ended: float
    succeeded: int


start: Barrier
"""Where the processes of a turn wait for each other, so that all begin at once."""


def prepare(barrier: Barrier) -> None:
    """Begin a worker process."""
    global start
    start = barrier  # it reaches a process only while that starts


def turn(side: Side, url: str, inputs: Sequence[str]) -> Turn:
    """Make the calls of one process."""
    with side.make(url, **side.arguments) as work:
        start.wait(PATIENCE)
        started = time.monotonic()
        outputs = work(inputs)
        ended = time.monotonic()
    succeeded = [output for output in outputs if isinstance(output, str)]
    assert len(outputs) == len(inputs)
    assert set(succeeded) <= set(inputs)
    assert len(set(succeeded)) == len(succeeded)
    if side.ordered:
        assert all(output == value for output, value in zip(outputs, inputs, strict=True) if isinstance(output, str))
    return Turn(started, ended, len(succeeded))


def capacity(context: Context) -> list[Row]:
    """Goodput as a share of the ideal, outputs that were lost, and refusals; in one process, and in four."""
    calls = context.times(CALLS)
    rows = [unlimited(context)]
    spawn = multiprocessing.get_context("spawn")
    with server(capacity=CAPACITY, latency=LATENCY) as (url, load):
        for processes in (1, 4):
            inputs = [[str(number) for number in range(calls)[first::processes]] for first in range(processes)]
            with ProcessPoolExecutor(processes, spawn, prepare, (spawn.Barrier(processes),)) as pool:
                for side in sides():
                    turns = list(pool.map(turn, [side] * processes, [url] * processes, inputs))
                    rows.append(row(side, processes, calls, turns, load().refused))
    return rows


def row(side: Side, processes: int, calls: int, turns: list[Turn], refused: int) -> Row:
    """Give the row of one side."""
    seconds = max(one.ended for one in turns) - min(one.started for one in turns)
    succeeded = sum(one.succeeded for one in turns)
    share = succeeded / seconds / IDEAL
    note = f"{seconds:.1f} s, {calls - succeeded} lost, {refused} refused"
    label = f"goodput, {side.label}{'' if processes == 1 else f', {processes} processes'}"
    return Row(label, note if side.ours else "", "" if side.ours else note, [100 * share], "%")


def unlimited(context: Context) -> Row:
    """Calls per second of an emulator without a limit: how far it is from limiting what is measured."""
    from smendpoint import AsyncEndpoint

    async def calls(url: str) -> float:
        async with AsyncEndpoint(NAME, endpoint_url=url) as endpoint:
            cost = await flood(lambda: endpoint.invoke("Hello"), context.times(3_200))
        return 1 / cost.wall

    with server() as (url, _):
        found = [asyncio.run(calls(url))]
    label = "calls per second of the emulator without a limit"
    return Row(label, rate(found), f"ideal with it {IDEAL:.0f}/s", [found[0] / IDEAL])
