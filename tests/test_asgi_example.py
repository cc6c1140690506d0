"""The worked ASGI server of the documentation, in a real server, over real sockets."""

from __future__ import annotations

import importlib.util
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from paused import TGI, PausedModel

from smendpoint import AsyncEndpoint
from smendpoint.emulator import Emulator

uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")

SOURCE = Path(__file__).resolve().parent.parent / "docs" / "how-to" / "code" / "asgi_relay.py"
if not SOURCE.exists():
    pytest.skip("the documentation is not beside these tests", allow_module_level=True)

QUESTION = b"Peter stayed for 3 days. Question: How long did Peter stay?"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("asgi_relay", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Server:
    """The application under uvicorn, in a thread."""

    def __init__(self, app: Any) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        config = uvicorn.Config(app, lifespan="on", log_level="critical", log_config=None, ws="none")
        self._server = uvicorn.Server(config)
        self._started = threading.Event()
        original = self._server.startup

        async def startup(*args: Any, **kwargs: Any) -> None:
            await original(*args, **kwargs)
            self._started.set()

        self._server.startup = startup
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]})

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(20)

    def ask_to_stop(self) -> None:
        self._server.should_exit = True

    def stop(self) -> None:
        self.ask_to_stop()
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._listener.close()

    def connect(self, body: bytes = QUESTION, method: str = "POST", path: str = "/generate") -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        return sock

    def ask(self, body: bytes = QUESTION, method: str = "POST", path: str = "/generate") -> tuple[int, bytes]:
        with closing(self.connect(body, method, path)) as sock:
            return parse(read_all(sock))


REST = (
    b'data:{"token":{"id":2,"text":" stayed.","special":false},"generated_text":"Peter stayed.",'
    b'"details":{"finish_reason":"eos_token","generated_tokens":2}}\n\n'
)


@pytest.fixture
def paused() -> PausedModel:
    return PausedModel(TGI, REST)


def read_until(sock: socket.socket, mark: bytes) -> bytes:
    received = b""
    while mark not in received:
        received += sock.recv(65_536)
    return received


def read_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65_536), b""))


def parse(raw: bytes) -> tuple[int, bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        pieces = []
        while body:
            size, _, rest = body.partition(b"\r\n")
            pieces.append(rest[: int(size, 16)])
            body = rest[int(size, 16) + 2 :]
        body = b"".join(pieces)
    return int(head.split(b" ")[1]), body


def events(body: bytes) -> list[tuple[str, Any]]:
    found = []
    for block in body.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def endpoint_on(emulator: Emulator, **options: Any) -> AsyncEndpoint:
    return AsyncEndpoint(
        "my-llm",
        endpoint_url=emulator.url,
        region_name="us-east-1",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="secret",
        **options,
    )


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture
def serve(emulator: Emulator) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(**options: Any) -> Server:
        server = Server(load().Relay(endpoint_on(emulator, **options)))
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


def test_chunks_arrive_as_events_and_the_last_says_that_it_is_whole(serve: Callable[..., Server]) -> None:
    status, body = serve().ask()
    assert status == 200
    *chunks, last = events(body)
    assert "".join(data for _, data in chunks) == "Peter stayed for 3 days."
    assert len(chunks) > 1
    assert last == ("done", {"finish_reason": "eos_token"})


def test_a_browser_that_leaves_ends_the_call_upstream(paused: PausedModel) -> None:
    with Emulator({"my-llm": paused}) as emulator:
        server = Server(load().Relay(endpoint_on(emulator)))
        server.start()
        sock = server.connect()
        read_until(sock, b"data: ")
        assert emulator.open_connections == 1
        sock.close()
        emulator.disconnected()
        paused.go_on.set()
        server.stop()


def test_a_failure_before_the_first_event_is_an_honest_status(serve: Callable[..., Server], emulator: Emulator) -> None:
    server = serve()
    emulator.inject("status_400_ValidationError", times=1)
    assert server.ask() == (502, b'{"error": "ValidationError"}')


@pytest.mark.parametrize(
    ("fault", "options", "status"),
    [
        ("status_400_ThrottlingException", {}, 503),
        ("stall_before_headers", {"timeout": 0.2}, 504),
    ],
)
def test_what_can_be_tried_later_says_so(
    fault: str, options: Any, status: int, serve: Callable[..., Server], emulator: Emulator
) -> None:
    from smendpoint import RetryPolicy

    server = serve(retry=RetryPolicy(max_attempts=1), **options)
    emulator.inject(fault)
    assert server.ask()[0] == status


def test_a_cut_stream_ends_with_an_event_that_says_so(serve: Callable[..., Server], emulator: Emulator) -> None:
    server = serve()
    emulator.inject("fin_mid_frame", times=1)
    status, body = server.ask()
    assert status == 200
    assert events(body)[-1] == ("failed", {"error": "StreamTruncatedError"})


def test_an_answer_under_way_is_finished_before_the_server_stops(paused: PausedModel) -> None:
    with Emulator({"my-llm": paused}) as emulator:
        server = Server(load().Relay(endpoint_on(emulator)))
        server.start()
        sock = server.connect()
        received = read_until(sock, b"data: ")
        server.ask_to_stop()
        paused.go_on.set()
        with closing(sock):
            status, body = parse(received + read_all(sock))
        assert status == 200
        assert events(body)[-1] == ("done", {"finish_reason": "eos_token"})
        server.stop()
        emulator.disconnected()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/generate", b"", 405),
        ("POST", "/", b"", 404),
        ("POST", "/generate", b"x" * 100_001, 413),
        ("POST", "/generate", b"\xff", 413),
    ],
)
def test_other_requests_are_refused(
    method: str, path: str, body: bytes, status: int, serve: Callable[..., Server], emulator: Emulator
) -> None:
    assert serve().ask(body, method, path)[0] == status
    assert emulator.total_connections == 0
