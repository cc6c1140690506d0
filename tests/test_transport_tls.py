"""Calls over TLS: which services are trusted, and that a cut is never taken for an end."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from botocore.config import Config
from clocks import FakeClock
from inside import idle_connections, source_of
from servers import PATIENCE, InThread, Peer, Server, client_certificate, fast, make_endpoint, response, server_context
from targets import make_address
from twins import Twin, bytes_endpoint

from smendpoint._core.http.http1 import ResponseReader
from smendpoint._transport.blocking import connection as blocking
from smendpoint._transport.blocking.connection import Connection
from smendpoint._transport.deadline import Deadline
from smendpoint._transport.exchange import ONE_WRITE_BYTES
from smendpoint.errors import ConfigurationError, ConnectError, StreamError, TLSError, TransportError

pytestmark = pytest.mark.usefixtures("bare_environment")


def over_tls(server: Server) -> str:
    """The URL of a server whose script speaks TLS, or does not."""
    return server.url.replace("http:", "https:")


# which services are trusted


@pytest.mark.usefixtures("trusted")
def test_a_service_is_asked_for_by_its_name_and_its_connection_used_again(caller: Twin) -> None:
    names: list[str] = []
    context = server_context("localhost")
    context.sni_callback = lambda _, name, __: names.append(name)
    with Server(Peer.echo, tls=context) as server:
        with bytes_endpoint(caller, f"https://localhost:{server.port}") as endpoint:
            assert [endpoint.invoke(body) for body in (b"one", b"two")] == [b"one", b"two"]
    assert names == ["localhost"]


class Listener:
    """A script that must not be played."""

    def __init__(self) -> None:
        self.heard = 0

    def __call__(self, peer: Peer) -> None:
        self.heard += 1


def test_a_certificate_of_an_unknown_authority_is_refused_and_nothing_is_sent(caller: Twin) -> None:
    script = Listener()
    with Server(script, tls=server_context()) as server, caller.endpoint(server.url) as endpoint:
        with pytest.raises(TLSError, match=r"certificate of 127.0.0.1:\d+ is not trusted.*AWS_CA_BUNDLE") as caught:
            endpoint.invoke("Hello")
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert (caught.value.attempts, caught.value.request_sent) == (1, False)
        assert server.connections == 1
    assert script.heard == 0


@pytest.mark.usefixtures("trusted")
def test_a_certificate_for_another_host_is_refused(caller: Twin) -> None:
    script = Listener()
    with Server(script, tls=server_context("runtime.sagemaker.example")) as server:
        with caller.endpoint(server.url) as endpoint, pytest.raises(TLSError, match=r"127\.0\.0\.1"):
            endpoint.invoke("Hello")
        assert server.connections == 1
    assert script.heard == 0


@pytest.mark.parametrize("files", [1, 2])
@pytest.mark.usefixtures("trusted")
def test_a_client_certificate_in_one_file_or_two_is_shown(caller: Twin, tmp_path: Path, files: int) -> None:
    path = client_certificate(tmp_path)
    config = Config(client_cert=path if files == 1 else (path, path))
    with Server(Peer.echo, tls=server_context(client_certificate=True)) as server:
        with bytes_endpoint(caller, server.url, config=config) as endpoint:
            assert endpoint.invoke(b"Hello") == b"Hello"


@pytest.mark.usefixtures("trusted")
def test_a_service_that_wants_a_client_certificate_refuses_a_client_without(caller: Twin) -> None:
    context = server_context(client_certificate=True)

    def refuse(peer: Peer) -> None:
        secured = context.wrap_socket(peer.sock, server_side=True, do_handshake_on_connect=False)
        with pytest.raises(ssl.SSLError):
            secured.do_handshake()
        # Closed only once the client has seen the alert: a reset would overtake it.
        with socket.socket(fileno=secured.detach()) as raw:
            raw.settimeout(PATIENCE)
            Peer(raw, 0).gone()

    with Server(refuse) as server, caller.endpoint(over_tls(server)) as endpoint:
        with pytest.raises(TLSError, match="check client_cert") as caught:
            endpoint.invoke("Hello")
        assert caught.value.attempts == 1
        assert server.connections == 1


def test_a_bundle_without_certificates_is_a_configuration_error(
    caller: Twin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("no certificates")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with Server(Peer.gone, tls=server_context()) as server, caller.endpoint(server.url) as endpoint:
        with pytest.raises(ConfigurationError, match="cannot be read"):
            endpoint.invoke("Hello")
        assert server.connections == 0


# handshakes


@pytest.mark.parametrize("answer", [response(), b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_service_that_speaks_no_tls_is_a_tls_error(caller: Twin, answer: bytes) -> None:
    def plain(peer: Peer) -> None:
        peer.sock.recv(65_536)
        peer.send(answer)
        peer.gone()

    with Server(plain) as server, caller.endpoint(over_tls(server)) as endpoint:
        with pytest.raises(TLSError, match=r"no TLS connection to 127\.0\.0\.1") as caught:
            endpoint.invoke("Hello")
        assert (server.connections, caught.value.request_sent) == (1, False)


@pytest.mark.usefixtures("trusted")
def test_a_handshake_that_is_cut_is_a_connect_error_and_tried_again(caller: Twin) -> None:
    context = server_context()

    def cut(peer: Peer) -> None:
        peer.sock.recv(1)
        peer.sock.shutdown(socket.SHUT_RDWR)

    def serve(peer: Peer) -> None:
        with context.wrap_socket(peer.sock, server_side=True) as secured:
            Peer(secured, peer.number).serve()

    with Server(cut, serve) as server, caller.endpoint(over_tls(server), clock=FakeClock()) as endpoint:
        assert endpoint.send("Hello").attempts == 2
    with Server(cut) as server, bytes_endpoint(caller, over_tls(server)) as endpoint, pytest.raises(ConnectError):
        endpoint.invoke(b"Hello")


def test_a_handshake_that_never_ends_counts_against_the_connect_time(caller: Twin) -> None:
    with Server(Peer.gone) as server:
        with bytes_endpoint(caller, over_tls(server), timeout=fast(connect=0.05)) as endpoint:
            with pytest.raises(ConnectError, match=r"within 0\.05 s"):
                endpoint.invoke(b"Hello")


def test_no_peer_can_begin_another_handshake() -> None:
    context = make_address("127.0.0.1", 1, tls=True).context()
    assert context.options & ssl.OP_NO_RENEGOTIATION


# ends


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\n\r\n"


@pytest.mark.usefixtures("trusted")
def test_tls_cut_without_a_goodbye_does_not_end_a_body_without_a_length(caller: Twin) -> None:
    def cut(peer: Peer) -> None:
        peer.request()
        peer.send(HEAD + b"half of it")
        socket.socket.shutdown(peer.sock, socket.SHUT_RDWR)

    with Server(cut, tls=server_context()) as server, bytes_endpoint(caller, server.url) as endpoint:
        for call, kind in ((endpoint.invoke, TransportError), (endpoint.collect, StreamError)):
            with pytest.raises(kind, match="in the middle of the answer"):
                call(b"")
        assert server.connections == 2


@pytest.mark.usefixtures("trusted")
def test_tls_ended_with_a_goodbye_ends_a_body_without_a_length(caller: Twin) -> None:
    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(HEAD + b"all of it")
        assert isinstance(peer.sock, ssl.SSLSocket)
        peer.sock.unwrap()

    with Server(serve, tls=server_context()) as server, bytes_endpoint(caller, server.url) as endpoint:
        assert endpoint.invoke(b"") == b"all of it"
        with endpoint.stream(b"") as stream:
            source = source_of(stream.iterator)
            assert [caller.run(source.read()) for _ in range(2)] == [b"all of it", b""]


# the blocking twin's connection


@pytest.fixture
def deadline() -> Deadline:
    return Deadline(fast(), None, FakeClock().monotonic)


@pytest.mark.usefixtures("trusted")
def test_a_stream_closed_by_another_thread_never_reads_ciphertext() -> None:
    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(HEAD.replace(b"\r\n\r\n", b"\r\nContent-Length: 1000000\r\n\r\n"))
        peer.gone()

    timeout = fast(read=1e9)
    with Server(serve, tls=server_context()) as server, make_endpoint(server.url, timeout=timeout) as endpoint:
        with endpoint.stream("Hello") as stream:
            connection: Any = source_of(stream)._held
            reading = threading.Event()
            arrives = connection._arrives

            def watched(milliseconds: float) -> object:
                reading.set()
                return arrives(milliseconds)

            connection._arrives = watched
            reader = InThread(lambda: next(stream))
            assert reading.wait(PATIENCE)
            stream.close()
            assert "closed before its end" in str(reader.outcome())


@pytest.mark.usefixtures("trusted")
def test_the_reader_of_an_aborted_connection_sees_it_cut(deadline: Deadline) -> None:
    with Server(Peer.serve, tls=server_context()) as server, make_endpoint(server.url) as endpoint:
        endpoint.invoke("Hello")
        (connection,) = idle_connections(endpoint)
        connection.abort()
        for _ in range(2):
            with pytest.raises(TransportError, match="lost before an answer"):
                connection.receive(deadline, ResponseReader())


@pytest.fixture
def pair() -> Iterator[tuple[Any, socket.socket]]:
    """A connection over a socket, and its other end."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)
    with ours, theirs:
        yield Connection(ours), theirs


@pytest.mark.parametrize("body", [b"small", b"x" * 100_000], ids=["small", "large"])
def test_a_request_that_tls_refuses_to_send_is_a_lost_connection(pair: Any, deadline: Deadline, body: bytes) -> None:
    class Broken:
        over = True

        def encrypt(self, data: bytes) -> bytes:
            raise ssl.SSLError(1, "protocol is shutdown")

        def end(self) -> bytes:
            return b""  # the peer had said goodbye

    connection, _ = pair
    connection._tls = Broken()
    with pytest.raises(TransportError, match="lost before an answer"):
        connection.send(b"HEAD", body, deadline, ResponseReader())
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
def test_a_peer_that_wants_an_answer_of_tls_itself_gets_it_before_more_is_waited_for(
    pair: Any, deadline: Deadline, first: bytes | None
) -> None:
    connection, theirs = pair
    connection._tls = Asked(first, response(b"fine"))
    theirs.sendall(b"please")
    answer: list[bytes] = []
    listener = threading.Thread(target=lambda: (answer.append(theirs.recv(100)), theirs.sendall(b"here it is")))
    listener.start()
    reader = ResponseReader()
    pieces: list[bytes] = []
    while not reader.complete:
        pieces += connection.receive(deadline, reader)
    listener.join(PATIENCE)
    assert (pieces, answer) == ([b"fine"], [b"(reply)"])


def test_an_answer_of_tls_itself_never_comes_in_the_middle_of_what_is_being_sent(
    monkeypatch: pytest.MonkeyPatch, deadline: Deadline
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
        connection.send(b"H" * 20_000, body, deadline, ResponseReader())
        heard = b""
        while len(heard) < 20_000 + len(b"(reply)") + len(body):
            heard += theirs.recv(200_000)
    assert heard == b"H" * 20_000 + b"(reply)" + body
