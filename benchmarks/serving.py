"""``smendpoint serve``: the CPU of its process for a call and for a token, next to LiteLLM's proxy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.calls import run
from benchmarks.harness import Context, Cost, Row, by_turns, seconds

# LiteLLM's proxy does not start without a key, so both sides have one.
KEY = f"sk-{secrets.token_hex(32)}"
MESSAGES = [{"role": "user", "content": "How long was Elizabeth hospitalized?"}]
# Streams at once whose tokens come one at a time. With a single one, a process wakes up from idle for each token, and
# that costs more than the token, and differs from turn to turn.
STREAMS = 20
# Seconds that LiteLLM's proxy has to start: it imports for some ten.
_START_SECONDS = 120.0


class Served:
    """A server in a process of its own, and a connection to it."""

    def __init__(self, process: subprocess.Popen[Any], port: int) -> None:
        self._process = process
        self._port = port
        self.connection = self._connect()

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=60)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    @property
    def cpu(self) -> float:
        """The CPU time of the process so far, in seconds, in steps of a hundredth of one."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cost(self, work: Callable[[], object], units: int) -> Cost:
        """Run something that has the server do ``units`` of work, on a new connection: servers close idle ones."""
        self.connection.close()
        self.connection = self._connect()
        cpu, wall = self.cpu, time.perf_counter()
        work()
        return Cost((self.cpu - cpu) / units, (time.perf_counter() - wall) / units)

    def ask_at_once(self, model: str, number: int) -> list[bytes]:
        """Read so many streams at once, each on a connection of its own."""
        asking = [Served(self._process, self._port) for _ in range(number)]
        try:
            with ThreadPoolExecutor(number) as threads:
                return list(threads.map(lambda one: one.ask(model, stream=True), asking))
        finally:
            for one in asking:
                one.connection.close()

    def ask(self, model: str, *, stream: bool = False) -> bytes:
        """Send a request and read its answer, whole or in chunks; the connection stays."""
        body = json.dumps({"model": model, "messages": MESSAGES, "stream": stream}).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"Authorization: Bearer {KEY}\r\n"
        self.connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        received = bytearray()
        while b"\r\n\r\n" not in received:
            received += self._receive()
        start = received.index(b"\r\n\r\n") + 4
        heading = bytes(received[:start]).lower()
        assert heading.startswith(b"http/1.1 200"), bytes(received)
        if b"\r\ncontent-length:" in heading:
            length = int(heading.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
            while len(received) < start + length:
                received += self._receive()
        else:
            while not received.endswith(b"\r\n0\r\n\r\n"):
                received += self._receive()
        return bytes(received[start:])

    def _receive(self) -> bytes:
        data = self.connection.recv(65_536)
        assert data, "the connection was closed"
        return data


@contextlib.contextmanager
def started(command: list[str], environment: dict[str, str], port: int) -> Iterator[Served | None]:
    """Run a server until the end of the block; `None` where it does not come up, as LiteLLM without its extra."""
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            give_up = time.monotonic() + _START_SECONDS
            served = None
            while served is None and process.poll() is None and time.monotonic() < give_up:
                try:
                    served = Served(process, port)
                except OSError:
                    time.sleep(0.1)
            try:
                yield served
            finally:
                if served is not None:
                    served.connection.close()
        finally:
            process.terminate()
            process.wait(30)


def free_port() -> int:
    """A port that nobody has just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def ours(context: Context, names: list[str]) -> Iterator[Served]:
    """``smendpoint serve``, which serves each endpoint under its name."""
    port = free_port()
    models = [word for name in names for word in ("--model", f"{name}={name}")]
    command = [sys.executable, "-m", "smendpoint", "serve", "--port", str(port), *models]
    environment = {**context.environment(context.plain), "SMENDPOINT_API_KEY": KEY}
    with started(command, environment, port) as served:
        assert served is not None
        yield served


@contextlib.contextmanager
def proxies(context: Context, names: list[str]) -> Iterator[Served | None]:
    """LiteLLM's proxy in front of the same endpoints; ``None`` where it is not installed."""
    program = context.litellm or shutil.which("litellm", path=Path(sys.executable).parent) or shutil.which("litellm")
    if program is None:
        yield None
        return
    models: list[dict[str, Any]] = []
    for name in names:
        operation = "invocations" if name == "chat" else "invocations-response-stream"
        address = f"{context.plain}/endpoints/{name}/{operation}"
        settings = {"model": f"sagemaker_chat/{name}", "sagemaker_base_url": address}
        models.append({"model_name": name, "litellm_params": settings})
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder, "config.yaml")
        configuration.write_text(json.dumps({"model_list": models}))  # JSON is YAML, too
        command = [program, "--config", str(configuration), "--port", str(port), "--host", "127.0.0.1"]
        environment = {
            **context.environment(context.plain),
            "LITELLM_MASTER_KEY": KEY,
        }
        with started(command, environment, port) as served:
            yield served


def serve(context: Context) -> list[Row]:
    """CPU of the server's process for a call and a token, and what of it is added to calling the endpoint directly.

    The direct caller signs, sends, receives and unpacks frames, and reads nothing of what they hold. So what the server
    takes beyond that is for its own clients: reading requests, finding the end of an answer, sending.
    """
    from smendpoint import AsyncEndpoint
    from smendpoint.handlers import BytesHandler

    handler = BytesHandler(content_type="application/json")
    calls, paced = context.times(400), context.times(1_000)
    burst = context.times(200) * 100
    streams = {
        "one at a time": (f"chatpaced-{paced}-5", paced, STREAMS),
        "in bursts": (f"chattokens-{burst}", burst, 1),
    }
    body = json.dumps({"messages": MESSAGES})
    names = ["chat", *(name for name, *_ in streams.values())]

    async def call_directly() -> Cost:
        async with AsyncEndpoint("chat", endpoint_url=context.plain, content_handler=handler) as endpoint:
            await endpoint.invoke(body)
            cpu, wall = time.process_time(), time.perf_counter()
            for _ in range(calls):
                await endpoint.invoke(body)
            return Cost((time.process_time() - cpu) / calls, (time.perf_counter() - wall) / calls)

    async def stream_directly(name: str, count: int, at_once: int) -> Cost:
        async def read(endpoint: AsyncEndpoint[Any, Any, Any]) -> None:
            async with endpoint.stream(body) as chunks:
                async for _ in chunks:
                    pass

        async with AsyncEndpoint(name, endpoint_url=context.plain, content_handler=handler) as endpoint:
            async with endpoint.stream(body):
                pass  # credentials are loaded before the clock starts
            cpu, wall = time.process_time(), time.perf_counter()
            await asyncio.gather(*[read(endpoint) for _ in range(at_once)])
            tokens = count * at_once
            return Cost((time.process_time() - cpu) / tokens, (time.perf_counter() - wall) / tokens)

    def through(served: Served, name: str, count: int, at_once: int | None) -> Cost:
        def work() -> None:
            if at_once is not None:
                for answer in served.ask_at_once(name, at_once):
                    assert answer.count(b'"content":') >= count - 1
            else:
                for _ in range(count):
                    assert b"3 days" in served.ask(name)

        return served.cost(work, count * (at_once or 1))

    def row(
        what: str, direct: Callable[[], Cost], name: str, count: int, target: float, at_once: int | None = None
    ) -> Row:
        stream = at_once is not None
        sides = [lambda: through(mine, name, count, at_once), direct]
        proxy = theirs
        if proxy is not None:
            sides.append(lambda: through(proxy, name, count, at_once))
        a, b, *others = ([turn.cpu for turn in side] for side in by_turns(min(context.rounds, 3), *sides))
        peer = f", LiteLLM {seconds(others[0])}" if others else ", no LiteLLM proxy"
        factor, unit = (1e6, "us") if stream else (1e3, "ms")
        added = [(with_server - alone) * factor for with_server, alone in zip(a, b, strict=True)]
        figures = {"smendpoint serve": a, "the endpoint itself": b, **({"LiteLLM proxy": others[0]} if others else {})}
        key = {"chat": "serve-call", "chatpaced": "serve-token", "chattokens": "serve-burst"}[name.split("-")[0]]
        return Row(what, seconds(a), f"direct {seconds(b)}{peer}", added, f"{unit} added", ("<=", target), key, figures)

    with ours(context, names) as mine, proxies(context, names) as theirs:
        rows = [
            row("served call, CPU", lambda: run(call_directly(), asyncio.new_event_loop), "chat", calls, 1.0),
        ]
        for kind, (name, count, at_once) in streams.items():

            def direct(name: str = name, count: int = count, at_once: int = at_once) -> Cost:
                return run(stream_directly(name, count, at_once), asyncio.new_event_loop)

            rows.append(row(f"served token, CPU, {kind}", direct, name, count, 25.0, at_once))
    return rows
