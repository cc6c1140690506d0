"""One call after the other, and many at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from benchmarks.harness import Context, Cost, Row, by_turns, compared, timed
from benchmarks.peers import PARAMETERS, PROMPT, arguments, peers

EXPECTED = "He stayed with her for 3 days."
IN_FLIGHT = 64


def sync(context: Context) -> list[Row]:
    """CPU and wall time of one warm synchronous call, against clients that have a warm connection, too."""
    from smendpoint import Endpoint

    calls = context.times(300)
    rows = []
    for kind, url in (("", context.plain), (", TLS", context.tls)):
        with contextlib.ExitStack() as stack:
            endpoint = stack.enter_context(Endpoint("answer", endpoint_url=url, model_kwargs=PARAMETERS))
            sides: dict[str, Callable[[], Cost]] = {
                "smendpoint": partial(repeated, lambda endpoint=endpoint: endpoint.invoke(PROMPT), calls)
            }
            for peer in peers():
                if peer.call is not None and (peer.name == "boto3" or not kind):
                    sides[peer.name] = partial(repeated, stack.enter_context(peer.call(url)), calls)
            bare = partial(exchanges, url, context.certificates, calls)
            *turns, least = by_turns(context.rounds, *sides.values(), bare)
        cpu, wall = (
            {name: [getattr(turn, cost) for turn in one] for name, one in zip(sides, turns, strict=True)}
            for cost in ("cpu", "wall")
        )
        key = "" if kind else "call"
        rows += [
            compared(f"sync call, CPU{kind}", cpu, target=("<=", 0.1), key=key),
            compared(f"sync call, wall{kind}", wall, key=key and f"{key}-wall"),
            compared(
                f"sync call, CPU over the least{kind}",
                {"smendpoint": cpu["smendpoint"], "bare socket": [turn.cpu for turn in least]},
            ),
        ]
    return rows


def repeated(call: Callable[[], str], calls: int) -> Cost:
    """Make so many calls, one after the other."""

    def work() -> None:
        for _ in range(calls):
            assert call() == EXPECTED

    return timed(work, calls, settle=True)


def exchanges(url: str, certificates: str, calls: int) -> Cost:
    """The same bytes over a bare socket: what nobody can save."""
    address = urlsplit(url)
    body = json.dumps({"inputs": PROMPT, "parameters": PARAMETERS}).encode()
    request = b"POST /endpoints/answer/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(body)
    request += b"X-Filler: " + b"a" * 900 + b"\r\n\r\n" + body
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection((address.hostname or "", address.port or 0)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.scheme == "https":
            trust = ssl.create_default_context(cafile=certificates)
            connection = stack.enter_context(trust.wrap_socket(connection, server_hostname=address.hostname))

        def work() -> None:
            for _ in range(calls):
                connection.sendall(request)
                connection.recv(65_536)

        return timed(work, calls)


def run(work: Coroutine[Any, Any, Cost], loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> Cost:
    """``asyncio.run`` on a given kind of loop."""
    loop = loop_factory()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def flood(call: Callable[[], Awaitable[object]], calls: int) -> Cost:
    """Make all calls, ``IN_FLIGHT`` at a time, after one round that opens the connections."""
    import time

    async def worker(count: int) -> None:
        for _ in range(count):
            await call()

    await asyncio.gather(*(worker(1) for _ in range(IN_FLIGHT)))
    each = max(1, calls // IN_FLIGHT)
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker(each) for _ in range(IN_FLIGHT)))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Cost(cpu / (each * IN_FLIGHT), wall / (each * IN_FLIGHT))


@contextlib.asynccontextmanager
async def peer_client(context: Context, url: str, connections: int) -> AsyncIterator[Any]:
    """An aiobotocore client with room for that many connections."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    config = AioConfig(max_pool_connections=connections)
    client = get_session().create_client("sagemaker-runtime", endpoint_url=url, config=config)
    async with client as ready:
        yield ready


def concurrent(context: Context) -> list[Row]:
    """Calls per second with 64 in flight, against an aiobotocore client; asyncio and uvloop, plain and TLS."""
    from smendpoint import AsyncEndpoint

    async def ours(url: str, calls: int) -> Cost:
        async def call() -> None:
            assert await endpoint.invoke(PROMPT) == EXPECTED

        async with AsyncEndpoint(
            "answer", endpoint_url=url, model_kwargs=PARAMETERS, max_connections=IN_FLIGHT
        ) as endpoint:
            return await flood(call, calls)

    async def peer(url: str, calls: int) -> Cost:
        async def call() -> None:
            response = await client.invoke_endpoint(**arguments())
            async with response["Body"] as stream:
                assert json.loads(await stream.read())[0]["generated_text"] == EXPECTED

        async with peer_client(context, url, IN_FLIGHT) as client:
            return await flood(call, calls)

    loops: list[tuple[str, Callable[[], asyncio.AbstractEventLoop]]] = [("asyncio", asyncio.new_event_loop)]
    with contextlib.suppress(ImportError):
        import uvloop

        loops.append(("uvloop", uvloop.new_event_loop))
    rows = []
    for kind, url in (("", context.plain), (", TLS", context.tls)):
        for name, factory in loops:
            mine, theirs = by_turns(
                context.rounds,
                lambda url=url, factory=factory: run(ours(url, context.times(3_200)), factory),
                lambda url=url, factory=factory: run(peer(url, context.times(320)), factory),
            )
            rates = {"smendpoint": [1 / turn.wall for turn in mine], "aiobotocore": [1 / turn.wall for turn in theirs]}
            target = (">=", 12.0) if not kind else None
            label = f"async calls per second, {IN_FLIGHT} in flight, {name}{kind}"
            key = "" if kind else f"rate-{name}"
            rows.append(compared(label, rates, rate, target=target, key=key))
            costs = {"smendpoint": [turn.cpu for turn in mine], "aiobotocore": [turn.cpu for turn in theirs]}
            rows.append(compared(f"async call, CPU, {name}{kind}", costs, key="" if kind else f"call-{name}"))
    return rows


def rate(values: Sequence[float]) -> str:
    """The median, per second."""
    import statistics

    return f"{statistics.median(values):,.0f}/s"
