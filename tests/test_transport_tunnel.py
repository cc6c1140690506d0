"""Calls through proxies: tunnels for https, the absolute form for http, passwords, and the ways around."""

from __future__ import annotations

import base64

import pytest
from servers import Peer, Proxy, Server, closed_port, fast, response, server_context
from twins import Twin, bytes_endpoint

from smendpoint.errors import ConfigurationError, ConnectError, ServiceError, TLSError

pytestmark = pytest.mark.usefixtures("bare_environment")

SECRET = b"Basic " + base64.b64encode(b"us@er:pass")
ELSEWHERE = "https://service.invalid"


def with_password(proxy: Server) -> str:
    return proxy.url.replace("//", "//us%40er:pass@")


@pytest.mark.usefixtures("trusted")
def test_https_goes_through_a_tunnel_that_is_used_again_and_the_service_sees_no_password(
    caller: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[bytes] = []

    def serve(peer: Peer) -> None:
        while head := peer.head():
            heads.append(head.lower())
            peer.send(response(peer.body(head)))

    with Server(serve, tls=server_context()) as server, Proxy(SECRET) as proxy:
        monkeypatch.setenv("https_proxy", with_password(proxy))
        with bytes_endpoint(caller, server.url) as endpoint:
            for body in (b"Hello", bytes(200_000)):
                assert endpoint.invoke(body) == body
        authority = f"127.0.0.1:{server.port}".encode()
        asked = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nProxy-Authorization: %b" % (authority, authority, SECRET)
        assert proxy.heads == [asked]
        assert server.connections == 1
    assert [b"proxy-authorization" in head for head in heads] == [False, False]


def test_plain_http_goes_to_the_proxy_in_absolute_form(caller: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(Peer.echo) as server, Proxy(SECRET) as proxy:
        monkeypatch.setenv("http_proxy", with_password(proxy))
        with bytes_endpoint(caller, server.url) as endpoint:
            for body in (b"one", b"two"):
                assert endpoint.invoke(body) == body
        assert server.connections == proxy.connections == 1
        assert proxy.heads[0].startswith(f"POST {server.url}/endpoints/my-llm/invocations HTTP/1.1".encode())
        assert f"\r\nHost: 127.0.0.1:{server.port}\r\n".encode() in proxy.heads[0]
        assert b"Proxy-Authorization: " + SECRET in proxy.heads[0]


def test_no_proxy_is_a_way_around(caller: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(Peer.echo) as server, Proxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with bytes_endpoint(caller, server.url) as endpoint:
            assert endpoint.invoke(b"Hello") == b"Hello"
        assert proxy.connections == 0


@pytest.mark.parametrize(
    ("userinfo", "cure"), [("", "it requires credentials"), ("us%40er:wrong@", "it does not accept")]
)
def test_a_proxy_that_wants_another_password_is_a_connect_error(
    caller: Twin, monkeypatch: pytest.MonkeyPatch, userinfo: str, cure: str
) -> None:
    with Proxy(SECRET) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", f"//{userinfo}"))
        endpoint = bytes_endpoint(caller, ELSEWHERE)
        with endpoint, pytest.raises(ConnectError, match=rf"status 407\): {cure}") as caught:
            endpoint.invoke(b"Hello")
    assert "wrong" not in str(caught.value)
    assert proxy.heads[0].startswith(b"CONNECT service.invalid:443 HTTP/1.1")


def test_a_407_to_a_plain_request_is_an_answer(caller: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(Peer.echo) as server, Proxy(SECRET) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with bytes_endpoint(caller, server.url) as endpoint, pytest.raises(ServiceError) as caught:
            endpoint.invoke(b"Hello")
        assert (caught.value.status, server.connections) == (407, 0)


def test_a_proxy_that_refuses_connections_is_a_connect_error(caller: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    with closed_port() as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        said = rf"no connection to the proxy http://127.0.0.1:{port} \(from https_proxy\): Connection refused.*NO_PROXY"
        with bytes_endpoint(caller, ELSEWHERE) as endpoint, pytest.raises(ConnectError, match=said):
            endpoint.invoke(b"Hello")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "closed the connection"),
        (b"HTTP/1.1 2", "closed the connection"),
        (response(b"", status="403 Forbidden"), "status 403"),
        (b"HTTP/1.1 200 OK\r\n\r\nsurprise", "bytes that do not belong"),
        (b"garbage\r\n\r\n", "did not open a tunnel"),
    ],
)
def test_a_proxy_that_opens_no_tunnel_is_a_connect_error(
    caller: Twin, monkeypatch: pytest.MonkeyPatch, answer: bytes, message: str
) -> None:
    with Proxy(connect_answer=answer) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with bytes_endpoint(caller, ELSEWHERE) as endpoint, pytest.raises(ConnectError, match=message):
            endpoint.invoke(b"Hello")


@pytest.mark.usefixtures("trusted")
def test_a_proxy_may_answer_bit_by_bit(caller: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    context = server_context()

    def serve(peer: Peer) -> None:
        peer.head()
        for byte in b"HTTP/1.1 200 OK\r\n\r\n":
            peer.send(bytes([byte]))
        with context.wrap_socket(peer.sock, server_side=True) as secured:
            Peer(secured, 1).echo()

    with Server(serve) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with bytes_endpoint(caller, "https://127.0.0.1:1") as endpoint:
            assert endpoint.invoke(b"Hello") == b"Hello"


def test_a_proxy_that_is_silent_counts_against_the_connect_time(caller: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(Peer.gone) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        endpoint = bytes_endpoint(caller, ELSEWHERE, timeout=fast(connect=0.05))
        with endpoint, pytest.raises(ConnectError, match=r"within 0\.05 s"):
            endpoint.invoke(b"Hello")


def test_a_tunnel_that_is_cut_in_a_handshake_is_a_connect_error(caller: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.sock.recv(10)

    with Server(cut) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with bytes_endpoint(caller, ELSEWHERE) as endpoint, pytest.raises(ConnectError):
            endpoint.invoke(b"Hello")


def test_a_service_that_is_not_trusted_is_found_out_through_a_tunnel(
    caller: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(Peer.gone, tls=server_context()) as server, Proxy() as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with bytes_endpoint(caller, server.url) as endpoint, pytest.raises(TLSError, match="not trusted"):
            endpoint.invoke(b"Hello")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_itself_behind_tls_is_refused_and_the_way_out_is_said(
    caller: Twin, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    with Server(Peer.gone) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url.replace("http://", "https://user:secret@"))
        url = ELSEWHERE if scheme == "https" else "http://127.0.0.1:1"
        endpoint = bytes_endpoint(caller, url)
        with endpoint, pytest.raises(ConfigurationError, match=r"https://127\.0\.0\.1.* pass client=") as caught:
            endpoint.invoke(b"Hello")
        assert proxy.connections == 0
    assert "secret" not in str(caught.value)
