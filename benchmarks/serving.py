"""``smendpoint serve``: the CPU that it adds to a call and to a token, over calling the endpoint directly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.calls import run
from benchmarks.harness import ROOT, Context, Cost, Row, by_turns, seconds

MESSAGES = [{"role": "user", "content": "How long did Peter stay?"}]
# LiteLLM's proxy needs longer to start than anything else here.
START_SECONDS = 120
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_of(process: subprocess.Popen[Any]) -> float:
    """The CPU that a process has used, in seconds, to a hundredth."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextlib.contextmanager
def server(command: list[str], environment: dict[str, str], port: int) -> Iterator[subprocess.Popen[Any]]:
    """Run a server until its port answers, and end it."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
    )
    try:
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                asyncio.run(ask(port, "m", streaming=False))
                break
            except (OSError, AssertionError):
                if process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.2)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def ask(port: int, model: str, *, streaming: bool) -> int:
    """Ask once over a connection of its own, with as little work as can be; gives how many events there were."""
    body = json.dumps({"model": model, "messages": MESSAGES, "stream": streaming}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer unused\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write(head.encode() + body)
    received = await reader.read()
    writer.close()
    assert received.startswith(b"HTTP/1.1 200"), received[:200]
    return received.count(b'"content":')


def serve(context: Context) -> list[Row]:
    """Both servers, and calls that go straight to the endpoint."""
    calls, count = context.times(300), context.times(40) * 100
    stream = f"chat-{count}"
    environment = context.environment(context.plain)
    direct_call, direct_token = _direct(context, calls, stream, count)

    ports = {"smendpoint": 18_431, "litellm": 18_432}
    sides = {"smendpoint": _smendpoint(ports["smendpoint"], stream)}
    if find_spec("litellm") is not None and find_spec("litellm.proxy") is not None:
        sides["litellm"] = _litellm(ports["litellm"], stream, context)
    found: dict[str, list[list[Cost]]] = {}
    with contextlib.ExitStack() as running:
        for name, command in sides.items():
            try:
                process = running.enter_context(server(command, environment, ports[name]))
            except (OSError, AssertionError) as error:
                print(f"serve: {name} cannot be measured: {type(error).__name__}", file=sys.stderr)
                continue
            found[name] = by_turns(
                context.rounds,
                _spent(process, lambda port=ports[name]: _many(port, calls), calls),
                _spent(process, lambda port=ports[name]: _one_stream(port, count), count),
                direct_call,
                direct_token,
            )
    rows = []
    for name, (call, token, plain_call, plain_token) in found.items():
        per_call = [(a.cpu - b.cpu) * 1e3 for a, b in zip(call, plain_call, strict=True)]
        per_token = [(a.cpu - b.cpu) * 1e6 for a, b in zip(token, plain_token, strict=True)]
        ours = name == "smendpoint"
        for what, unit, added, whole, plain, target in (
            ("call", "ms", per_call, call, plain_call, 1.0),
            ("streamed token", "us", per_token, token, plain_token, 25.0),
        ):
            served, straight = seconds([one.cpu for one in whole]), seconds([one.cpu for one in plain])
            label = f"CPU that {'serve' if ours else name + chr(39) + 's proxy'} adds to a {what}"
            rows.append(Row(label, served, f"direct {straight}", added, unit, ("<=", target) if ours else None))
    return rows


def _smendpoint(port: int, stream: str) -> list[str]:
    models = ("--model", f"m={stream}")
    return [sys.executable, "-m", "smendpoint", "serve", "--port", str(port), *models]


def _litellm(port: int, stream: str, context: Context) -> list[str]:
    """LiteLLM's proxy with its own provider for SageMaker's chats."""
    config = Path(context.certificates).with_name("litellm.json")
    parameters = {"model": f"sagemaker_chat/{stream}", "sagemaker_base_url": f"{context.plain}/endpoints/{stream}"}
    config.write_text(json.dumps({"model_list": [{"model_name": "m", "litellm_params": parameters}]}))
    return [str(Path(sys.executable).with_name("litellm")), "--port", str(port), "--config", str(config)]


def _spent(process: subprocess.Popen[Any], work: Callable[[], None], units: int) -> Callable[[], Cost]:
    def side() -> Cost:
        cpu, wall = cpu_of(process), time.perf_counter()
        work()
        return Cost((cpu_of(process) - cpu) / units, (time.perf_counter() - wall) / units)

    return side


def _many(port: int, calls: int) -> None:
    async def go() -> None:
        for _ in range(calls):
            assert await ask(port, "m", streaming=False) == 1

    asyncio.run(go())


def _one_stream(port: int, count: int) -> None:
    assert asyncio.run(ask(port, "m", streaming=True)) == count


def _direct(context: Context, calls: int, stream: str, count: int) -> tuple[Callable[[], Cost], Callable[[], Cost]]:
    """Calls and a stream of a program that needs no server."""
    from smendpoint import AsyncEndpoint, ChatHandler

    async def whole() -> Cost:
        async with AsyncEndpoint(stream, endpoint_url=context.plain, content_handler=ChatHandler()) as endpoint:
            await endpoint.invoke(MESSAGES)
            cpu = time.process_time()
            for _ in range(calls):
                await endpoint.invoke(MESSAGES)
            return Cost((time.process_time() - cpu) / calls, 0.0)

    async def streamed() -> Cost:
        async with AsyncEndpoint(stream, endpoint_url=context.plain, content_handler=ChatHandler()) as endpoint:
            await endpoint.invoke(MESSAGES)
            cpu = time.process_time()
            async with endpoint.stream(MESSAGES) as chunks:
                received = sum([1 async for chunk in chunks if chunk.text])
            assert received == count
            return Cost((time.process_time() - cpu) / count, 0.0)

    return lambda: run(whole(), asyncio.new_event_loop), lambda: run(streamed(), asyncio.new_event_loop)
