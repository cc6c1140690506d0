"""`OpenAIApp` in front of an emulator, under a real uvicorn on loopback."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import uvicorn

from smendpoint.asgi import OpenAIApp, ServedModel
from smendpoint.emulator import Emulator

MESSAGES = [{"role": "user", "content": "Peter stayed for 3 days. Question: How long did Peter stay?"}]
ANSWER = "Peter stayed for 3 days."


@contextmanager
def served(app: Any, **options: Any) -> Iterator[int]:
    """Serve an ASGI application by uvicorn in a thread, and give its port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        config = uvicorn.Config(app, log_level="critical", log_config=None, ws="none", http="h11", **options)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def app_for(emulator: Emulator, name: str, format: str = "openai", *, model: str | None = None, **options: Any) -> Any:
    """Make an application that serves one endpoint of an emulator, under the endpoint's name."""
    apart = {
        option: options.pop(option)
        for option in ("retry", "timeout", "concurrency", "endpoint_kwargs")
        if option in options
    }
    endpoint = emulator.async_endpoint(name, **apart)
    return OpenAIApp({name: ServedModel(endpoint, format, model)}, **options)


def connect(port: int, path: str, body: Any = None, *, method: str = "POST", **headers: str) -> socket.socket:
    """Send a request as curl would, and give the connection."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    given = {"Host": "127.0.0.1", "Content_Type": "application/json", "Content_Length": str(len(data)), **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items() if value)
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(f"{method} {path} HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode() + data)
    return connection


def read_all(connection: socket.socket) -> tuple[int, str, bytes]:
    """Read an answer to the connection's end: its status, its head in lower case, and the rest as it came."""
    received = b""
    while data := connection.recv(65_536):
        received += data
    head, _, rest = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode().lower(), rest


def ask(port: int, path: str, body: Any = None, **options: Any) -> tuple[int, str, Any]:
    """Send a request and read its answer, whose body is JSON: status, head, value."""
    with closing(connect(port, path, body, **options)) as connection:
        status, head, rest = read_all(connection)
    return status, head, json.loads(rest)
