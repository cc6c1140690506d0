"""Blocking calls over TLS: who is trusted, who is not, and that a cut is never taken for an end."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest
from botocore.config import Config
from clocks import FakeClock
from inside import pool_of
from servers import (
    PATIENCE,
    Peer,
    Server,
    bare_environment,  # noqa: F401
    client_certificate,
    fast,
    make_endpoint,
    response,
    server_context,
    trust,
)
from targets import make_address

from smendpoint import RetryPolicy
from smendpoint._core.http.http1 import ResponseReader
from smendpoint._transport.blocking import connection as blocking
from smendpoint._transport.blocking.connection import Connection
from smendpoint._transport.deadline import Deadline
from smendpoint._transport.exchange import ONE_WRITE_BYTES, connection_lost
from smendpoint.emulator import Emulator
from smendpoint.errors import ConfigurationError, ConnectError, ReadTimeoutError, StreamError, TLSError, TransportError
from smendpoint.handlers import BytesHandler

pytestmark = pytest.mark.usefixtures("bare_environment")

ONCE = RetryPolicy(max_attempts=1)


def test_a_trusted_service_is_called_and_its_connection_used_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trust(monkeypatch, tmp_path)
    with Emulator(ssl_context=server_context()) as emulator, make_endpoint(emulator.url) as endpoint:
        assert endpoint.invoke("Hello") == endpoint.invoke("Hello")
        assert "".join(endpoint.stream("Hello")) == endpoint.invoke("Hello")
        assert emulator.total_connections == 1


def test_a_service_by_name_is_asked_for_by_that_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trust(monkeypatch, tmp_path)
    names: list[str] = []
    context = server_context("localhost")
    context.sni_callback = lambda _, name, __: names.append(name)
    with Emulator(ssl_context=context) as emulator, make_endpoint(f"https://localhost:{emulator.port}") as endpoint:
        endpoint.invoke("Hello")
    assert names == ["localhost"]


class Listener:
    """A script that must not be played."""

    def __init__(self) -> None:
        self.heard = 0

    def __call__(self, peer: Peer) -> None:
        self.heard += 1


def test_a_certificate_of_an_unknown_authority_is_refused_and_nothing_is_sent() -> None:
    script = Listener()
    with Server(script, tls=server_context()) as server, make_endpoint(server.url) as endpoint:
        with pytest.raises(TLSError, match=r"certificate of 127.0.0.1:\d+ is not trusted.*AWS_CA_BUNDLE") as caught:
            endpoint.invoke("Hello")
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert (caught.value.attempts, caught.value.request_sent) == (1, False)
        assert server.connections == 1
    assert script.heard == 0


def test_a_certificate_for_another_host_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trust(monkeypatch, tmp_path)
    script = Listener()
    with Server(script, tls=server_context("runtime.sagemaker.example")) as server:
        with make_endpoint(server.url) as endpoint, pytest.raises(TLSError, match=r"127\.0\.0\.1"):
            endpoint.invoke("Hello")
        assert server.connections == 1
    assert script.heard == 0


def test_a_client_certificate_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trust(monkeypatch, tmp_path)
    config = Config(client_cert=client_certificate(tmp_path))
    with (
        Emulator(ssl_context=server_context(client_certificate=True)) as emulator,
        make_endpoint(emulator.url, config=config) as endpoint,
    ):
        assert endpoint.invoke("Hello")


def test_a_service_that_wants_a_client_certificate_refuses_a_client_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trust(monkeypatch, tmp_path)
    context = server_context(client_certificate=True)

    def refuse(peer: Peer) -> None:
        secured = context.wrap_socket(peer.sock, server_side=True, do_handshake_on_connect=False)
        with pytest.raises(ssl.SSLError):
            secured.do_handshake()
        # Closed only once the client has seen the alert: a reset would overtake it.
        with socket.socket(fileno=secured.detach()) as raw:
            raw.settimeout(PATIENCE)
            Peer(raw, 0).gone()

    with Server(refuse) as server, make_endpoint(server.url.replace("http:", "https:")) as endpoint:
        with pytest.raises(TLSError, match="check client_cert") as caught:
            endpoint.invoke("Hello")
        assert caught.value.attempts == 1
        assert server.connections == 1


def test_a_client_certificate_as_two_files_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trust(monkeypatch, tmp_path)
    both = client_certificate(tmp_path)
    config = Config(client_cert=(both, both))
    with (
        Emulator(ssl_context=server_context(client_certificate=True)) as emulator,
        make_endpoint(emulator.url, config=config) as endpoint,
    ):
        assert endpoint.invoke("Hello")


def test_a_bundle_that_is_none_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("no certificates")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with Emulator(ssl_context=server_context()) as emulator, make_endpoint(emulator.url) as endpoint:
        with pytest.raises(ConfigurationError, match="cannot be read"):
            endpoint.invoke("Hello")
        assert emulator.total_connections == 0


def test_a_service_that_speaks_no_tls_is_a_tls_error() -> None:
    def plain(peer: Peer) -> None:
        peer.send(response())
        peer.gone()

    with Server(plain) as server, make_endpoint(server.url.replace("http:", "https:")) as endpoint:
        with pytest.raises(TLSError, match=r"no TLS connection to 127\.0\.0\.1"):
            endpoint.invoke("Hello")
        assert server.connections == 1


def test_a_handshake_that_is_cut_is_a_lost_connection_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trust(monkeypatch, tmp_path)
    context = server_context()

    def cut(peer: Peer) -> None:
        peer.sock.recv(1)
        peer.sock.shutdown(socket.SHUT_RDWR)

    def serve(peer: Peer) -> None:
        with context.wrap_socket(peer.sock, server_side=True) as secured:
            Peer(secured, peer.number).serve()

    with Server(cut, serve) as server, make_endpoint(server.url.replace("http:", "https:")) as endpoint:
        assert endpoint.send("Hello").attempts == 2
    with (
        Server(cut) as server,
        make_endpoint(server.url.replace("http:", "https:"), retry=ONCE) as endpoint,
        pytest.raises(ConnectError),
    ):
        endpoint.invoke("Hello")


def test_a_handshake_that_never_ends_is_no_connection_in_time() -> None:
    with (
        Server(Peer.gone) as server,
        make_endpoint(server.url.replace("http:", "https:"), timeout=fast(connect=0.05), retry=ONCE) as endpoint,
        pytest.raises(ConnectError, match=r"within 0\.05 s"),
    ):
        endpoint.invoke("Hello")


def cut_without_goodbye(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\n\r\nhalf of it")
    socket.socket.shutdown(peer.sock, socket.SHUT_RDWR)


def test_tls_cut_without_a_goodbye_is_no_end_of_a_body_without_a_length(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trust(monkeypatch, tmp_path)
    with Server(cut_without_goodbye, tls=server_context()) as server:
        with make_endpoint(server.url, content_handler=BytesHandler()) as endpoint:
            with pytest.raises(TransportError, match="in the middle of the answer"):
                endpoint.invoke(b"")
            with pytest.raises(StreamError, match="in the middle of the answer"):
                list(endpoint.stream(b""))
        assert server.connections == 2


def test_tls_ended_with_a_goodbye_is_the_end_of_a_body_without_a_length(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        assert isinstance(peer.sock, ssl.SSLSocket)
        peer.sock.unwrap()

    trust(monkeypatch, tmp_path)
    with (
        Server(serve, tls=server_context()) as server,
        make_endpoint(server.url, content_handler=BytesHandler()) as endpoint,
    ):
        assert endpoint.invoke(b"") == b"all of it"


def test_a_stream_closed_by_another_thread_never_reads_ciphertext(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        peer.gone()

    trust(monkeypatch, tmp_path)
    with (
        Server(serve, tls=server_context()) as server,
        make_endpoint(server.url, content_handler=BytesHandler()) as endpoint,
        endpoint.stream(b"") as stream,
    ):
        connection: Any = stream._source._held
        reading = threading.Event()
        arrives = connection._arrives

        def watched(milliseconds: float) -> object:
            reading.set()
            return arrives(milliseconds)

        connection._arrives = watched
        closer = threading.Thread(target=lambda: (reading.wait(PATIENCE), stream.close()))
        closer.start()
        with pytest.raises(StreamError, match="closed before its end"):
            next(stream)
        closer.join(PATIENCE)


def test_who_reads_an_aborted_connection_sees_it_cut(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trust(monkeypatch, tmp_path)
    patience = Deadline(fast(), None, FakeClock().monotonic)
    with Server(Peer.serve, tls=server_context()) as server, make_endpoint(server.url) as endpoint:
        endpoint.invoke("Hello")
        (connection,) = pool_of(endpoint)._idle
        connection.abort()
        for _ in range(2):
            with pytest.raises(TransportError, match="lost before an answer"):
                connection.receive(patience, ResponseReader())


@pytest.mark.parametrize("body", [b"small", b"x" * 100_000], ids=["small", "large"])
def test_a_request_that_tls_refuses_to_send_is_a_lost_connection(body: bytes) -> None:
    class Broken:
        over = True

        def encrypt(self, data: bytes) -> bytes:
            raise ssl.SSLError(1, "protocol is shutdown")

        def end(self) -> bytes:
            return b""  # the peer had said goodbye

    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection: Any = Connection(ours)
        connection._tls = Broken()
        with pytest.raises(TransportError, match="lost before an answer"):
            connection.send(b"HEAD", body, Deadline(fast(), None, FakeClock().monotonic), ResponseReader())
        assert connection.cut_short


class Asked:
    """A TLS channel whose peer asks TLS itself for something, as the tests' own servers do not."""

    over = False

    def __init__(self, *plain: bytes | None) -> None:
        self._plain = list(plain)
        self._reply = b""

    def decrypt(self, data: bytes) -> bytes | None:
        self._reply = b"(reply)"
        return self._plain.pop(0)

    def encrypt(self, data: bytes | memoryview) -> bytes:
        return self.to_send() + bytes(data)

    def to_send(self) -> bytes:
        reply, self._reply = self._reply, b""
        return reply


@pytest.mark.parametrize("first", [None, b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["alone", "together with bytes"])
def test_a_peer_that_wants_an_answer_of_tls_itself_gets_it_before_more_is_waited_for(first: bytes | None) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection: Any = Connection(ours)
        connection._tls = Asked(first, response(b"fine"))
        theirs.sendall(b"please")
        patience = Deadline(fast(), None, FakeClock().monotonic)
        theirs.settimeout(PATIENCE)
        answer: list[bytes] = []
        listener = threading.Thread(target=lambda: (answer.append(theirs.recv(100)), theirs.sendall(b"here it is")))
        listener.start()
        reader = ResponseReader()
        pieces: list[bytes] = []
        while not reader.complete:
            pieces += connection.receive(patience, reader)
        listener.join(PATIENCE)
    assert (pieces, answer) == ([b"fine"], [b"(reply)"])


def test_an_answer_of_tls_itself_never_comes_in_the_middle_of_what_is_being_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Narrow(socket.socket):
        def send(self, data: Any, flags: int = 0) -> int:
            return super().send(bytes(data)[: 10_000 - 1], flags)

    class Ready:
        """Bytes have arrived when the first part of a portion is on its way."""

        sides: ClassVar = [(False, True), (True, True)]

        def __call__(self, sock: socket.socket, seconds: float) -> tuple[bool, bool]:
            return self.sides.pop(0) if self.sides else (False, True)

    monkeypatch.setattr(blocking, "ready", Ready())
    left, theirs = socket.socketpair()
    with Narrow(fileno=left.detach()) as ours, theirs:
        connection: Any = Connection(ours)
        connection._tls = Asked(None)
        theirs.sendall(b"please")
        body = b"x" * (ONE_WRITE_BYTES + 1)
        connection.send(b"H" * 20_000, body, Deadline(fast(), None, FakeClock().monotonic), ResponseReader())
        heard = b""
        while len(heard) < 20_000 + len(b"(reply)") + len(body):
            heard += theirs.recv(200_000)
    assert heard == b"H" * 20_000 + b"(reply)" + body


def test_no_peer_can_begin_another_handshake() -> None:
    context = make_address("127.0.0.1", 1, tls=True).context()
    assert context.options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.parametrize("error", [ssl.SSLEOFError(8, "EOF"), ssl.SSLZeroReturnError(6, "closed")])
def test_a_tls_connection_that_was_closed_is_lost_like_any_other(error: ssl.SSLError) -> None:
    assert type(connection_lost(error, response_started=False)) is TransportError


def test_tls_is_waited_for_as_long_as_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trust(monkeypatch, tmp_path)
    with Emulator(ssl_context=server_context()) as emulator:
        emulator.inject("stall_before_headers")
        with make_endpoint(emulator.url, timeout=fast(read=0.05)) as endpoint, pytest.raises(ReadTimeoutError):
            endpoint.invoke("Hello")
