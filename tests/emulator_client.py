"""A client that shows what an emulator puts on the wire, byte for byte."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import socket
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from smendpoint.emulator import Emulator

PATHS = {
    "invoke": "/endpoints/my-llm/invocations",
    "stream": "/endpoints/my-llm/invocations-response-stream",
    "async": "/endpoints/my-llm/async-invocations",
    "openai": "/endpoints/my-llm/openai/v1/chat/completions",
}
ID = b"00000000-0000-0000-0000-000000000000"
NOW = 1_700_000_000.0
DATE = b"Tue, 14 Nov 2023 22:13:20 GMT"
PATIENCE = 10.0  # seconds; only ever waited for when a test fails

_REQUEST_ID = re.compile(rb"(?<=x-amzn-RequestId: )[0-9a-f-]{36}")


def request(
    kind: str = "invoke",
    body: bytes = b"{}",
    *,
    headers: tuple[str, ...] = (),
    method: str = "POST",
    path: str | None = None,
) -> bytes:
    """The bytes of a request."""
    lines = [
        f"{method} {PATHS[kind] if path is None else path} HTTP/1.1",
        "Host: emulator",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


class RawClient:
    """A plain socket to an emulator. Request ids in what it reads are replaced by `ID`."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.socket = socket.create_connection((emulator.host, emulator.port), timeout=PATIENCE)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> RawClient:
        self.socket.sendall(data)
        return self

    def read(self, size: int) -> bytes:
        """Exactly so many bytes, or what came before the end."""
        received = b""
        while len(received) < size:
            data = self.socket.recv(size - len(received))
            if not data:
                break
            received += data
        return _REQUEST_ID.sub(ID, received)

    def read_until(self, marker: bytes) -> bytes:
        received = b""
        while not received.endswith(marker):
            data = self.socket.recv(1)
            assert data, received
            received += data
        return _REQUEST_ID.sub(ID, received)

    def read_all(self) -> bytes:
        """Everything until the server closes."""
        received = b""
        while data := self.socket.recv(65_536):
            received += data
        return _REQUEST_ID.sub(ID, received)

    def exchange(self, data: bytes) -> tuple[bytes, bytes]:
        """Sends a request, and reads head and body of a response with Content-Length."""
        head = self.send(data).read_until(b"\r\n\r\n")
        found = re.search(rb"Content-Length: (\d+)", head)
        return head, self.read(int(found[1])) if found else b""

    def ends(self, how: str) -> bool:
        """Whether nothing more comes, and the connection ends like this: ``fin``, ``reset``, ``stall``, ``open``."""
        if how in ("stall", "open"):
            self.emulator.wait_for(
                lambda emulator: emulator.stalled == 1 if how == "stall" else not emulator.active_requests
            )
            self.socket.setblocking(False)
        try:
            return self.socket.recv(65_536) == b"" and how == "fin"
        except BlockingIOError:
            return how in ("stall", "open")
        except ConnectionResetError:
            return how == "reset"


def call(emulator: Emulator, data: bytes) -> tuple[bytes, bytes]:
    """Head and body of the answer to one request."""
    with RawClient(emulator) as client:
        return client.exchange(data)


def status(emulator: Emulator, data: bytes) -> int:
    """The status of the answer to one request."""
    return int(call(emulator, data)[0].split()[1])


class Container(http.server.BaseHTTPRequestHandler):
    """Answers with what it was asked; ``/v1/nothing`` is not there, and a body ``fail`` fails."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        said = {"asked": f"{self.command} {self.path}", "type": self.headers["Content-Type"], "body": body.decode()}
        answer = json.dumps(said).encode()
        self.send_response(404 if self.path == "/v1/nothing" else 500 if body == b"fail" else 200)
        self.send_header("Content-Type", "text/x-echo")
        custom_attributes = "X-Amzn-SageMaker-Custom-Attributes"
        self.send_header(custom_attributes, self.headers.get(custom_attributes, ""))
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, *arguments: Any) -> None:
        pass


@contextlib.contextmanager
def container() -> Iterator[str]:
    """Run a `Container`, and give its URL."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Container) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def chunks(response: bytes) -> list[bytes]:
    """The chunks of a whole chunked response."""
    body, found = response.partition(b"\r\n\r\n")[2], []
    while body != b"0\r\n\r\n":
        size, _, rest = body.partition(b"\r\n")
        data, body = rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        found.append(data)
    return found


def plain(body: bytes, *, content_type: str = "application/json", length: str | None = None) -> bytes:
    """A model's whole answer as the emulator sends it."""
    return head(content_type) + f"Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def head(content_type: str = "application/json") -> bytes:
    """The head of a model's answer without the header that frames the body, and without its end."""
    return (
        b"HTTP/1.1 200 OK\r\nx-amzn-RequestId: " + ID + b"\r\nDate: " + DATE + b"\r\n"
        b"Content-Type: " + content_type.encode() + b"\r\nx-Amzn-Invoked-Production-Variant: AllTraffic\r\n"
    )


def stream_head(content_type: str = "application/json") -> bytes:
    """The head of a streamed answer, as `head`."""
    return (
        b"HTTP/1.1 200 OK\r\nx-amzn-RequestId: " + ID + b"\r\nDate: " + DATE + b"\r\n"
        b"Content-Type: application/vnd.amazon.eventstream\r\n"
        b"X-Amzn-SageMaker-Content-Type: " + content_type.encode() + b"\r\n"
        b"x-Amzn-Invoked-Production-Variant: AllTraffic\r\n"
    )
