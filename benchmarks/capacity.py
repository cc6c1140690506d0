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
from smendpoint import AdaptiveConcurrency, AsyncEndpoint, Endpoint, SmendpointError
from smendpoint.emulator import Emulator, ModelRequest

CALLS = 800
CAPACITY = 8
LATENCY = 0.05
IDEAL_CALLS = 192  # that measure the ideal, just before each side's calls: the machine's speed changes
GUESSES = (1, 4, 64)  # of the capacity, from which a limit is found
FIXED = (8, 16, 64)
PATIENCE = 60.0  # seconds for a process to start
NAME = "answer"

Work: TypeAlias = "Callable[[Sequence[str]], list[Any]]"
"""Call the endpoint with each input, and give the outputs; where one was lost, the error."""

Maker: TypeAlias = "Callable[..., contextlib.AbstractContextManager[Work]]"
"""Make a client of the endpoint at a URL, with further arguments."""


# -- the endpoint: an emulator in a process of its own


class Served(NamedTuple):
    """How many calls an emulator refused, and when it answered the others, on the clock that processes share."""

    refused: int
    answered: list[float]

    def rate(self, begin: float, end: float) -> float:
        """Give the answers a second between two moments."""
        return sum(begin < moment <= end for moment in self.answered) / (end - begin)


def echo(request: ModelRequest) -> bytes:
    """Answer with the prompt, so that each output shows its input."""
    return json.dumps([{"generated_text": json.loads(request.body)["inputs"]}]).encode()


def serve(pipe: Connection) -> None:
    """Run an emulator. For each message say what it served, and begin anew with the settings in it."""
    answered: list[float] = []

    def model(request: ModelRequest) -> bytes:
        answered.append(time.monotonic())
        return echo(request)

    model.inline = True  # type: ignore[attr-defined]  # quick enough for the emulator's loop
    with Emulator(model, keep_requests=0, capacity=CAPACITY, latency=LATENCY) as emulator:
        pipe.send(emulator.url)
        while (settings := pipe.recv()) is not None:
            emulator.idle()
            served = Served(emulator.load[NAME].refused, [*answered])
            answered.clear()
            emulator.reset()
            for name, value in settings.items():
                setattr(emulator, name, value)
            pipe.send(served)


@contextlib.contextmanager
def server() -> Generator[tuple[str, Callable[..., Served]]]:
    """Give the URL of an emulator, and a function that says what it served and lets it begin anew, with settings."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()

    def anew(**settings: object) -> Served:
        ours.send(settings)
        served: Served = ours.recv()
        return served

    process = context.Process(target=serve, args=(theirs,))
    process.start()
    try:
        yield ours.recv(), anew
    finally:
        ours.send(None)
        process.join()


# -- the sides: each makes a client, and then many calls with it


@contextlib.contextmanager
def blocking(url: str, ordered: bool, most: int | None = None, guess: int | None = None) -> Generator[Work]:
    """`Endpoint.map`, with at most so many calls in flight, or with a limit that is found out."""
    with Endpoint(NAME, endpoint_url=url, concurrency=limit(guess)) as endpoint:
        yield lambda inputs: list(endpoint.map(inputs, max_concurrency=most, ordered=ordered, return_exceptions=True))


@contextlib.contextmanager
def asynchronous(url: str, ordered: bool, most: int | None = None, guess: int | None = None) -> Generator[Work]:
    """`AsyncEndpoint.map`, likewise."""

    async def work(inputs: Sequence[str]) -> list[Any]:
        async with AsyncEndpoint(NAME, endpoint_url=url, concurrency=limit(guess)) as endpoint:
            outputs = endpoint.map(inputs, max_concurrency=most, ordered=ordered, return_exceptions=True)
            return [output async for output in outputs]

    yield lambda inputs: asyncio.run(work(inputs))


@contextlib.contextmanager
def many_threads(url: str, guess: int) -> Generator[Work]:
    """`Endpoint.invoke` in 64 threads, with a limit that is found out."""

    def call(prompt: str) -> Any:
        try:
            return endpoint.invoke(prompt)
        except SmendpointError as error:
            return error

    with Endpoint(NAME, endpoint_url=url, concurrency=limit(guess)) as endpoint, ThreadPoolExecutor(64) as pool:
        yield lambda inputs: list(pool.map(call, inputs))


@contextlib.contextmanager
def many_tasks(url: str, guess: int) -> Generator[Work]:
    """`AsyncEndpoint.invoke` in a task for each input, with a limit that is found out."""

    async def work(inputs: Sequence[str]) -> list[Any]:
        async with AsyncEndpoint(NAME, endpoint_url=url, concurrency=limit(guess)) as endpoint:
            return await asyncio.gather(*map(endpoint.invoke, inputs), return_exceptions=True)

    yield lambda inputs: asyncio.run(work(inputs))


def limit(guess: int | None) -> AdaptiveConcurrency | None:
    """Begin to find a limit with a first guess."""
    return None if guess is None else AdaptiveConcurrency(initial=guess)


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
    """One way to make many calls.

    Attributes:
        ours: whether it is smendpoint's.
        found: whether the limit is found out, which has a target.
        shown: its name in the data file; without one it takes part only where all do.
    """

    label: str
    make: Maker
    arguments: dict[str, Any]
    ours: bool = False
    found: bool = False
    shown: str = ""


def few() -> list[Side]:
    """List what users compare: `map` as it is, and the SDKs with as many threads or tasks as one may choose."""
    ours = {"ours": True, "found": True}
    return [
        Side("map", blocking, {"ordered": True}, **ours, shown="Endpoint.map"),
        Side("async map", asynchronous, {"ordered": True}, **ours, shown="AsyncEndpoint.map"),
        *(
            Side(
                f"boto3 {mode}, {threads} threads",
                boto3_threads,
                {"mode": mode, "threads": threads},
                shown=f"boto3, {threads} threads{', adaptive' if mode == 'adaptive' else ''}",
            )
            for mode, threads in (("standard", 8), ("standard", 64), ("adaptive", 64))
        ),
        Side(
            "aiobotocore standard, 64 tasks",
            aiobotocore_tasks,
            {"mode": "standard", "tasks": 64},
            shown="aiobotocore, 64 tasks",
        ),
    ]


def sides() -> list[Side]:
    """List all of them."""
    listed: list[Side] = []
    makers: tuple[tuple[str, Maker], ...] = (("map", blocking), ("async map", asynchronous))
    for name, make in makers:
        for ordered in (True, False):
            label = f"{name}, {'ordered' if ordered else 'as completed'}"
            for guess in GUESSES:
                arguments = {"ordered": ordered, "guess": guess}
                listed.append(Side(f"{label}, limit found from {guess}", make, arguments, ours=True, found=True))
            for most in FIXED:
                arguments = {"ordered": ordered, "most": most}
                listed.append(Side(f"{label}, max_concurrency={most}", make, arguments, ours=True))
    makers = (("64 threads over invoke", many_threads), ("all tasks over invoke", many_tasks))
    for name, make in makers:
        for guess in GUESSES:
            listed.append(Side(f"{name}, limit found from {guess}", make, {"guess": guess}, ours=True, found=True))
    for mode in ("standard", "adaptive"):
        for threads in FIXED:
            settings = {"mode": mode, "threads": threads}
            listed.append(Side(f"boto3 {mode}, {threads} threads", boto3_threads, settings))
    for tasks in FIXED:
        settings = {"mode": "standard", "tasks": tasks}
        listed.append(Side(f"aiobotocore standard, {tasks} tasks", aiobotocore_tasks, settings))
    return listed


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
    if side.arguments.get("ordered", True):
        assert all(output == value for output, value in zip(outputs, inputs, strict=True) if isinstance(output, str))
    return Turn(started, ended, len(succeeded))


def capacity(context: Context) -> list[Row]:
    """Goodput of what users compare, in one process."""
    return compare(context, few(), (1,))


def sweep(context: Context) -> list[Row]:
    """Goodput of all sides: from several first guesses, in one process and in four."""
    return compare(context, sides(), (1, 4))


def compare(context: Context, chosen: Sequence[Side], divided: Sequence[int]) -> list[Row]:
    """Goodput as a share of the ideal, outputs that were lost, and refusals; with the calls divided among processes."""
    calls, lost = context.times(CALLS), 0
    ideals, rows = [], []
    spawn = multiprocessing.get_context("spawn")
    with server() as (url, anew):
        for processes in divided:
            inputs = [[str(number) for number in range(calls)[first::processes]] for first in range(processes)]
            with ProcessPoolExecutor(processes, spawn, prepare, (spawn.Barrier(processes),)) as pool:
                for side in chosen:
                    anew(queue=None)
                    ideals.append(asyncio.run(ideal(url)))
                    anew()
                    turns = list(pool.map(turn, [side] * processes, [url] * processes, inputs))
                    rows += rows_of(side, calls, turns, anew(), ideals[-1])
                    if side.found:
                        lost += calls - sum(one.succeeded for one in turns)
    figures = (
        rate(ideals),
        f"without a network {CAPACITY / LATENCY:.0f}/s",
        [one * LATENCY / CAPACITY for one in ideals],
    )
    return [
        Row("the ideal: calls per second with all slots taken", *figures),
        *rows,
        Row("outputs lost where the limit is found", str(lost), "", [lost], "", ("<=", 0)),
    ]


async def ideal(url: str) -> float:
    """Measure the calls per second that the emulator answers while many more wait in its queue."""
    async with AsyncEndpoint(NAME, endpoint_url=url) as endpoint:
        return 1 / (await flood(lambda: endpoint.invoke("Hello"), IDEAL_CALLS)).wall


def rows_of(side: Side, calls: int, turns: list[Turn], served: Served, ideal: float) -> list[Row]:
    """Give the rows of one side: the whole run, and of several processes the time in which all of them called."""
    began, ended = min(one.started for one in turns), max(one.ended for one in turns)
    succeeded = sum(one.succeeded for one in turns)
    note = f"{ended - began:.1f} s, {calls - succeeded} lost, {served.refused} refused"
    if ended > began + 2:
        note += f", {100 * served.rate(began + 1, ended) / ideal:.0f} % after the first second"
    label = f"goodput, {side.label}{'' if len(turns) == 1 else f', {len(turns)} processes'}"
    target = (">=", 85.0) if side.found else None

    def row(label: str, note: str, rate: float, target: Any) -> Row:
        return Row(label, note if side.ours else "", "" if side.ours else note, [100 * rate / ideal], "%", target)

    whole = succeeded / (ended - began)
    if len(turns) == 1:
        figures = (100 * whole / ideal, float(calls - succeeded), float(served.refused))
        sides = {name: [figure] for name, figure in zip(("goodput", "lost", "refused"), figures, strict=True)}
        key = side.shown and f"capacity: {side.shown}"
        return [row(label, note, whole, target)._replace(key=key, sides=sides)]
    first = min(one.ended for one in turns)
    together = f"{label}, until one ended"
    return [row(label, note, whole, None), row(together, f"{first - began:.1f} s", served.rate(began, first), target)]
