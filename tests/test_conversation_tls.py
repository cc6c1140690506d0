"""Conversations over TLS, where the peer must choose HTTP/2 (ALPN), and through proxies."""

from __future__ import annotations

import base64
import socket
import ssl

import pytest
from servers import PATIENCE, Peer, Proxy, Server, client_certificate, closed_port, fast, response, server_context
from test_conversation import MEGABYTE, echo
from test_conversation_faults import ENDED_HEAD, SETTINGS
from twins import NAME, Twin

from smendpoint import RetryPolicy, errors
from smendpoint.emulator import Emulator

pytestmark = pytest.mark.usefixtures("bare_environment")

SECRET = b"Basic " + base64.b64encode(b"us@er:pass")
NOT_HTTP2 = r"127\.0\.0\.1:\d+ does not speak HTTP/2 .*converse\(\) needs it"


def context(*protocols: str, name: str = "127.0.0.1") -> ssl.SSLContext:
    """The settings of a server that chooses one of these protocols; of none, it chooses nothing."""
    made = server_context(name)
    if protocols:
        made.set_alpn_protocols(list(protocols))
    return made


def secured() -> Emulator:
    return Emulator({NAME: echo}, ssl_context=context("h2", "http/1.1"))


def over_tls(server: Server) -> str:
    return server.url.replace("http:", "https:")


@pytest.mark.usefixtures("trusted")
def test_parts_of_any_size_go_both_ways_over_tls(caller: Twin) -> None:
    sent = [b"", b"x", MEGABYTE[:16_384], MEGABYTE[:65_537], MEGABYTE * 3, b"end"]
    with secured() as emulator, caller.endpoint(emulator.url).converse() as talk:
        reading = talk.beside("list")
        for data in sent:
            talk.send(data)
        talk.end_input()
        assert [part.data for part in reading.outcome()] == sent
        emulator.disconnected()


@pytest.mark.usefixtures("trusted")
def test_calls_and_conversations_of_an_endpoint_each_speak_their_own_http(caller: Twin) -> None:
    with Emulator({NAME: echo, "other": lambda _: b'{"a": 1}'}, ssl_context=context("h2", "http/1.1")) as emulator:
        with caller.endpoint(emulator.url) as endpoint:
            with pytest.raises(errors.ModelError):  # its model only converses
                endpoint.invoke("Hello")
            with endpoint.converse() as talk:
                talk.send("a")
                assert next(talk).text == "a"
        assert emulator.total_connections == 2


@pytest.mark.parametrize("protocols", [(), ("http/1.1",)], ids=["nothing", "http/1.1"])
@pytest.mark.usefixtures("trusted")
def test_a_peer_that_does_not_choose_http_2_is_a_tls_error_and_nothing_is_sent(
    caller: Twin, protocols: tuple[str, ...]
) -> None:
    heard: list[bytes] = []

    def listen(peer: Peer) -> None:
        heard.append(peer.sock.recv(10))

    with Server(listen, tls=context(*protocols)) as server, caller.endpoint(server.url) as endpoint:
        with pytest.raises(errors.TLSError, match=NOT_HTTP2) as caught:
            endpoint.converse().open()
        assert (caught.value.attempts, caught.value.request_sent, caught.value.endpoint_name) == (1, False, NAME)
    assert heard in ([], [b""])


# A fatal alert of TLS 1.2, which is also that of 1.3: no_application_protocol (RFC 7301 3.2), handshake_failure.
ALERT = b"\x15\x03\x03\x00\x02\x02"


@pytest.mark.parametrize(
    ("description", "says"), [(b"\x78", NOT_HTTP2), (b"\x28", "no TLS connection to .*HANDSHAKE_FAILURE")]
)
@pytest.mark.usefixtures("trusted")
def test_a_peer_that_refuses_the_protocol_in_the_handshake_is_a_tls_error(
    caller: Twin, description: bytes, says: str
) -> None:
    def refuse(peer: Peer) -> None:
        peer.sock.recv(65_536)
        peer.send(ALERT + description)
        peer.gone()

    with Server(refuse) as server, caller.endpoint(over_tls(server)) as endpoint:
        with pytest.raises(errors.TLSError, match=says) as caught:
            endpoint.converse().open()
        assert (caught.value.attempts, caught.value.request_sent) == (1, False)


@pytest.mark.usefixtures("trusted")
def test_the_alert_of_a_call_is_not_said_to_be_about_http_2(caller: Twin) -> None:
    def refuse(peer: Peer) -> None:
        peer.sock.recv(65_536)
        peer.send(ALERT + b"\x78")
        peer.gone()

    with Server(refuse) as server, caller.endpoint(over_tls(server)) as endpoint:
        with pytest.raises(errors.TLSError, match=r"(?i)no.application.protocol") as caught:
            endpoint.invoke("Hello")
        assert "HTTP/2" not in str(caught.value)


def test_a_certificate_of_an_unknown_authority_is_refused(caller: Twin) -> None:
    with secured() as emulator, caller.endpoint(emulator.url) as endpoint:
        with pytest.raises(errors.TLSError, match=r"certificate of 127.0.0.1:\d+ is not trusted.*AWS_CA_BUNDLE"):
            endpoint.converse().open()
        assert emulator.requests == []


@pytest.mark.usefixtures("trusted")
def test_a_certificate_for_another_host_is_refused(caller: Twin) -> None:
    with Emulator({NAME: echo}, ssl_context=context("h2", name="runtime.sagemaker.example")) as emulator:
        with caller.endpoint(emulator.url) as endpoint, pytest.raises(errors.TLSError, match=r"127\.0\.0\.1"):
            endpoint.converse().open()


@pytest.mark.parametrize("answer", [response(), b"HTTP/1.1 400 Bad Request\r\n\r\n"])
@pytest.mark.usefixtures("trusted")
def test_a_service_that_speaks_no_tls_is_a_tls_error(caller: Twin, answer: bytes) -> None:
    def plain(peer: Peer) -> None:
        peer.sock.recv(65_536)
        peer.send(answer)
        peer.gone()

    with Server(plain) as server, caller.endpoint(over_tls(server)) as endpoint:
        with pytest.raises(errors.TLSError, match="does not speak TLS on this port"):
            endpoint.converse().open()


@pytest.mark.usefixtures("trusted")
def test_a_handshake_that_is_cut_is_tried_again(caller: Twin) -> None:
    def cut(peer: Peer) -> None:
        peer.sock.recv(10)

    retry = RetryPolicy(max_attempts=2, max_backoff=0.0)
    with Server(cut) as server, caller.endpoint(over_tls(server), retry=retry) as endpoint:
        with pytest.raises(errors.ConnectError) as caught:
            endpoint.converse().open()
        assert caught.value.attempts == 2


@pytest.mark.usefixtures("trusted")
def test_a_handshake_that_never_ends_counts_against_the_connect_time(caller: Twin) -> None:
    with Server(Peer.gone) as server, caller.endpoint(over_tls(server)) as endpoint:
        with pytest.raises(errors.ConnectError, match=r"within 0\.2 s"):
            endpoint.converse(timeout=fast(connect=0.2)).open()


@pytest.mark.usefixtures("trusted")
def test_the_settings_of_a_service_may_come_with_the_end_of_the_handshake(caller: Twin) -> None:
    made = context("h2")
    made.maximum_version = ssl.TLSVersion.TLSv1_2  # in which the handshake ends with the service's message

    def serve(peer: Peer) -> None:
        arrived, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = made.wrap_bio(arrived, leaving, server_side=True)
        done = False
        while not done:
            arrived.write(peer.sock.recv(65_536))
            try:
                tls.do_handshake()
                done = True
                tls.write(SETTINGS)
            except ssl.SSLWantReadError:
                pass
            peer.send(leaving.read())
        peer.sock.recv(65_536)
        tls.write(ENDED_HEAD)
        peer.send(leaving.read())
        peer.gone()

    with Server(serve) as server, caller.endpoint(over_tls(server)).converse() as talk:
        assert list(talk) == []


@pytest.mark.usefixtures("trusted")
def test_a_peer_that_wants_a_client_certificate_refuses_a_client_without(caller: Twin) -> None:
    made = server_context(client_certificate=True)
    made.set_alpn_protocols(["h2"])

    def refuse(peer: Peer) -> None:
        wrapped = made.wrap_socket(peer.sock, server_side=True, do_handshake_on_connect=False)
        with pytest.raises(ssl.SSLError):
            wrapped.do_handshake()
        # Closed only once the client has seen the alert: a reset would overtake it.
        with socket.socket(fileno=wrapped.detach()) as raw:
            raw.settimeout(PATIENCE)
            Peer(raw, 0).gone()

    with Server(refuse) as server, caller.endpoint(over_tls(server)) as endpoint:
        with pytest.raises(errors.TLSError, match="check client_cert"), endpoint.converse() as talk:
            next(talk)


@pytest.mark.usefixtures("trusted")
def test_a_client_certificate_is_shown(caller: Twin, tmp_path: object) -> None:
    from pathlib import Path

    from botocore.config import Config

    made = server_context(client_certificate=True)
    made.set_alpn_protocols(["h2"])
    config = Config(client_cert=client_certificate(Path(str(tmp_path))))
    with Emulator({NAME: echo}, ssl_context=made) as emulator:
        with caller.endpoint(emulator.url, config=config).converse() as talk:
            talk.send("a")
            assert next(talk).text == "a"


@pytest.mark.parametrize("fault", ["h2_fin", "h2_reset", "h2_rst_stream", "h2_goaway", "h2_event_cut"])
@pytest.mark.usefixtures("trusted")
def test_a_cut_in_tls_loses_no_part_that_had_arrived(caller: Twin, fault: str) -> None:
    with secured() as emulator:
        emulator.inject(fault)
        with caller.endpoint(emulator.url).converse() as talk:
            talk.send("a")
            assert next(talk).text == "a"
            with pytest.raises(errors.StreamTruncatedError) as caught:
                next(talk)
            assert [part.text for part in caught.value.received] == ["a"]
        caller.settle()
        emulator.disconnected()


@pytest.mark.usefixtures("trusted")
def test_a_wait_in_tls_ends_with_its_limit(caller: Twin) -> None:
    for fault, data in (("h2_stall", b""), ("h2_window_closed", MEGABYTE)):
        with secured() as emulator:
            emulator.inject(fault)
            with caller.endpoint(emulator.url).converse(timeout=fast(read=0.2)) as talk:
                with pytest.raises(errors.ReadTimeoutError):  # noqa: PT012 - either of them
                    talk.send(data)
                    list(talk)
            emulator.disconnected()


# proxies


def with_password(proxy: Server) -> str:
    return proxy.url.replace("//", "//us%40er:pass@")


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.usefixtures("trusted")
def test_a_conversation_goes_through_a_tunnel_and_the_service_sees_no_password(
    caller: Twin, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    made = context("h2") if tls else None
    with Emulator({NAME: echo}, ssl_context=made) as emulator, Proxy(SECRET) as proxy:
        monkeypatch.setenv("https_proxy" if tls else "http_proxy", with_password(proxy))
        with caller.endpoint(emulator.url).converse() as talk:
            reading = talk.beside("list")
            for data in (b"one", MEGABYTE):
                talk.send(data)
            talk.end_input()
            assert [part.data for part in reading.outcome()] == [b"one", MEGABYTE]
        authority = f"127.0.0.1:{emulator.port}".encode()
        assert proxy.heads == [
            b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nProxy-Authorization: %b" % (authority, authority, SECRET)
        ]
        (request,) = emulator.requests
        assert "proxy-authorization" not in request.headers


def test_no_proxy_is_a_way_around(caller: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator({NAME: echo}) as emulator, Proxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with caller.endpoint(emulator.url).converse() as talk:
            talk.send("a")
            assert next(talk).text == "a"
        assert proxy.connections == 0


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", r"status 403\).*allows CONNECT"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "cannot reach the service"),
        (b"", "closed the connection without opening a tunnel"),
        (b"SSH-2.0-server\r\n", "did not open a tunnel"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "do not belong to a tunnel"),
    ],
    ids=["403", "502", "closed", "another protocol", "more bytes"],
)
@pytest.mark.usefixtures("trusted")
def test_a_proxy_that_opens_no_tunnel_is_a_connect_error(
    caller: Twin, monkeypatch: pytest.MonkeyPatch, scheme: str, answer: bytes, says: str
) -> None:
    with Proxy(connect_answer=answer) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
        endpoint = caller.endpoint(f"{scheme}://127.0.0.1:9", retry=RetryPolicy(max_attempts=1))
        with pytest.raises(errors.ConnectError, match=says) as caught:
            endpoint.converse().open()
        assert (caught.value.endpoint_name, caught.value.attempts) == (NAME, 1)
        assert proxy.heads[0].startswith(b"CONNECT 127.0.0.1:9 HTTP/1.1")


@pytest.mark.parametrize(
    ("userinfo", "cure"), [("", "it requires credentials"), ("us%40er:wrong@", "it does not accept")]
)
def test_a_proxy_that_wants_another_password_is_a_connect_error(
    caller: Twin, monkeypatch: pytest.MonkeyPatch, userinfo: str, cure: str
) -> None:
    with Proxy(SECRET) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", f"//{userinfo}"))
        endpoint = caller.endpoint("http://127.0.0.1:9", retry=RetryPolicy(max_attempts=1))
        with pytest.raises(errors.ConnectError, match=rf"status 407\): {cure}") as caught:
            endpoint.converse().open()
    assert "wrong" not in str(caught.value)


def test_a_proxy_that_refuses_connections_is_named(caller: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    with closed_port() as port:
        monkeypatch.setenv("https_proxy", f"http://us:secret@127.0.0.1:{port}")
        endpoint = caller.endpoint("https://service.invalid", retry=RetryPolicy(max_attempts=1))
        with pytest.raises(
            errors.ConnectError, match=rf"no connection to the proxy http://127\.0\.0\.1:{port}"
        ) as caught:
            endpoint.converse().open()
    assert "secret" not in str(caught.value)


def test_the_tunnel_is_to_the_port_of_conversations(caller: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy(connect_answer=b"HTTP/1.1 403 No\r\n\r\n") as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        endpoint = caller.endpoint("https://service.invalid", retry=RetryPolicy(max_attempts=1))
        with pytest.raises(errors.ConnectError):
            endpoint.converse().open()
        assert proxy.heads[0].startswith(b"CONNECT service.invalid:8443 HTTP/1.1")


def test_a_proxy_that_is_itself_behind_tls_is_refused(caller: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(Peer.gone) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "https://user:secret@"))
        with pytest.raises(errors.ConfigurationError, match=r"https://127\.0\.0\.1") as caught:
            caller.endpoint("http://127.0.0.1:9").converse().open()
        assert proxy.connections == 0
    assert "secret" not in str(caught.value)
