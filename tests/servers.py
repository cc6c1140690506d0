"""Servers on loopback beside the emulator: scripts on a bare socket, TLS, proxies, a port that never answers."""

from __future__ import annotations

import array
import contextlib
import functools
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from aws_standins import clear_environment
from feeding import encode_part

from smendpoint import Endpoint, Timeout

if sys.platform == "linux":
    import fcntl
    import termios

# Seconds that are only ever waited for when a test fails.
PATIENCE = 20.0


def response(body: bytes = b'[{"generated_text": "fine"}]', *headers: str, status: str = "200 OK") -> bytes:
    """A whole response with a length."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def make_endpoint(url: str, **options: Any) -> Endpoint[Any, Any, Any]:
    """An endpoint whose limits only a test that fails reaches."""
    options.setdefault("timeout", PATIENCE)
    return Endpoint(
        "my-llm",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        **options,
    )


def fast(read: float = PATIENCE, connect: float = PATIENCE, total: float | None = None) -> Timeout:
    """Make limits; those that a test does not name are out of reach."""
    return Timeout(connect=connect, read=read, total=total)


class InThread:
    """Work in a thread of its own."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._outcome: Any = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome = self._work()
        except BaseException as error:
            self._outcome = error

    def outcome(self) -> Any:
        """Wait for its end; give its result, or the exception that it raised."""
        self._thread.join(PATIENCE / 2)  # before a server gives up, which would end it too
        assert not self._thread.is_alive()
        return self._outcome


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing in the environment has a say in where calls go."""
    clear_environment(monkeypatch, tmp_path)


class Peer:
    """One connection, from the server's side.

    Attributes:
        sock: the socket.
        number: counted from 1.
    """

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        self._buffer = b""

    def request(self) -> tuple[bytes, bytes]:
        """Read one request: its head and its body; empty where the client has closed."""
        head = self.head()
        return head, self.body(head)

    def body(self, head: bytes) -> bytes:
        """Read a request's body."""
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = bytearray(self._buffer)  # bytes would be copied with every piece of a large body
        self._buffer = b""
        while len(body) < length:
            data = self.sock.recv(65_536)
            if not data:
                return bytes(body)
            body += data
        self._buffer = bytes(body[length:])
        return bytes(body[:length])

    def head(self) -> bytes:
        """Read a request's head."""
        while b"\r\n\r\n" not in self._buffer:
            data = self.sock.recv(65_536)
            if not data:
                return b""
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def serve(self, answer: bytes | None = None) -> None:
        """Answer every request, until the client closes."""
        while self.request()[0]:
            self.send(response() if answer is None else answer)

    def echo(self) -> None:
        """Answer every request with its own body, until the client closes."""
        while (request := self.request())[0]:
            self.send(response(request[1]))

    def keep_little_room(self) -> None:
        """Have a client wait that sends some megabytes, until they are read."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)

    def gone(self) -> bool:
        """Wait until the client closes or aborts the connection."""
        with contextlib.suppress(OSError):
            while self.sock.recv(65_536):
                pass
        return True

    def delivered(self) -> None:
        """Wait until the client's system has all bytes that were sent: a reset discards the others."""
        waiting = array.array("i", [1])
        while sys.platform == "linux" and waiting[0]:
            fcntl.ioctl(self.sock.fileno(), termios.TIOCOUTQ, waiting)

    def reset(self) -> None:
        """Close the connection so that the client gets a TCP reset, after all that was sent."""
        self.delivered()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()


Script = Callable[[Peer], object]


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def stream_chunk(payload: bytes) -> bytes:
    """Make the HTTP chunk of one frame."""
    frame = encode_part(payload)
    return b"%x\r\n%b\r\n" % (len(frame), frame)


def endless(peer: Peer) -> None:
    """Send one part of a stream, and nothing more."""
    peer.request()
    peer.send(STREAM_HEAD + stream_chunk(b"one"))
    peer.gone()


class Server:
    """Plays one script for each connection, each in a thread; the last script goes on for all that follow.

    Attributes:
        port: where it listens.
        connections: how many there have been.
        failures: what scripts raised.
    """

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = scripts
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self.failures: list[BaseException] = []
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    @property
    def url(self) -> str:
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            sock.settimeout(PATIENCE)
            thread = threading.Thread(target=self._play, args=(sock, self.connections), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _play(self, sock: socket.socket, number: int) -> None:
        self._open.append(sock)
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
                self._open.append(sock)
            self._scripts[min(number, len(self._scripts)) - 1](Peer(sock, number))
        except (OSError, EOFError):
            pass  # the client has gone
        except BaseException as error:
            self.failures.append(error)
        finally:
            sock.close()

    def __enter__(self) -> Server:
        self._threads[0].start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        assert not self.failures, self.failures


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """A port that never answers: its queue of connections is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):  # how many fit is the kernel's to say
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(("127.0.0.1", port))
        yield port


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections, and that nobody else gets meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


class Proxy(Server):
    """A proxy for CONNECT and for plain requests, perhaps with a password.

    Attributes:
        heads: of the requests that it got.
    """

    def __init__(self, authorization: bytes | None = None, connect_answer: bytes | None = None) -> None:
        super().__init__(self._relay)
        self.heads: list[bytes] = []
        self._authorization = authorization
        self._connect_answer = connect_answer

    def _relay(self, peer: Peer) -> None:
        head = peer.head()
        if not head:
            return
        self.heads.append(head)
        if self._authorization is not None and b"Proxy-Authorization: " + self._authorization not in head:
            peer.send(response(b"", "Connection: close", status="407 Proxy Authentication Required"))
            return
        method, target, _ = head.split(b"\r\n")[0].split(b" ")
        if method == b"CONNECT":
            self._tunnel(peer, target)
        else:
            self._forward(peer, head)

    def _tunnel(self, peer: Peer, target: bytes) -> None:
        if self._connect_answer is not None:
            peer.send(self._connect_answer)
            return
        with self._upstream(target) as upstream:
            peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(upstream, peer.sock), daemon=True)
            back.start()
            pump(peer.sock, upstream)
            back.join(PATIENCE)

    def _forward(self, peer: Peer, head: bytes) -> None:
        authority = head.split(b" ")[1].removeprefix(b"http://").partition(b"/")[0]
        with self._upstream(authority) as upstream:
            server = Peer(upstream, peer.number)
            while head:
                server.send(head.replace(b"http://" + authority, b"", 1) + b"\r\n\r\n" + peer.body(head))
                peer.send(b"\r\n\r\n".join(server.request()))  # a response reads the same
                head = peer.head()

    def _upstream(self, authority: bytes) -> socket.socket:
        host, _, port = authority.decode().rpartition(":")
        upstream = socket.create_connection((host, int(port)), timeout=PATIENCE)
        self._open.append(upstream)
        return upstream


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Hand on everything, and the end."""
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


@functools.cache
def authority() -> trustme.CA:
    """The authority that signs the certificates of these tests."""
    return trustme.CA()


@functools.cache
def _certificate(name: str) -> trustme.LeafCert:
    return authority().issue_cert(name)


def server_context(name: str = "127.0.0.1", *, client_certificate: bool = False) -> ssl.SSLContext:
    """The settings of a TLS server whose certificate is for `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _certificate(name).configure_cert(context)
    if client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        authority().configure_trust(context)
    return context


def trust(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have this process trust the servers of these tests."""
    bundle = folder / "ca.pem"
    authority().cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))


@pytest.fixture
def trusted(bare_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The file of certificates by which this process trusts the servers of these tests."""
    trust(monkeypatch, tmp_path)
    return str(tmp_path / "ca.pem")


@pytest.fixture(params=["plain", "tls"])
def tls(request: pytest.FixtureRequest, trusted: str) -> ssl.SSLContext | None:
    """The settings of a TLS server that this process trusts, or `None` for a plain one."""
    return server_context() if request.param == "tls" else None


def client_certificate(folder: Path) -> str:
    """A file with a certificate of the client and its key."""
    path = folder / "client.pem"
    leaf = _certificate("client@example.com")
    path.write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    return str(path)
