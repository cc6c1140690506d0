"""Blocking calls through proxies: tunnels for https, the absolute form for http, passwords, and the ways around."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from servers import (
    Peer,
    Proxy,
    Server,
    bare_environment,  # noqa: F401
    closed_port,
    fast,
    make_endpoint,
    response,
    server_context,
    trust,
)

from smendpoint import RetryPolicy
from smendpoint.emulator import Emulator
from smendpoint.errors import ConfigurationError, ConnectError, ServiceError

pytestmark = pytest.mark.usefixtures("bare_environment")

ONCE = RetryPolicy(max_attempts=1)
SECRET = b"Basic " + base64.b64encode(b"us@er:pass")


def test_https_goes_through_a_tunnel_that_is_used_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trust(monkeypatch, tmp_path)
    with Emulator(ssl_context=server_context()) as emulator, Proxy() as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with make_endpoint(emulator.url) as endpoint:
            assert endpoint.invoke("Hello") == endpoint.invoke("Hello")
        authority = f"127.0.0.1:{emulator.port}".encode()
        assert proxy.heads == [b"CONNECT " + authority + b" HTTP/1.1\r\nHost: " + authority]
        assert emulator.total_connections == 1
        assert b"authorization" not in b"".join(proxy.heads).lower()


def test_plain_http_goes_to_the_proxy_in_absolute_form(monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator() as emulator, Proxy(SECRET) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//us%40er:pass@"))
        with make_endpoint(emulator.url) as endpoint:
            assert endpoint.invoke("Hello") == endpoint.invoke("Hello")
        (request, again) = emulator.requests
        assert request.headers["host"] == f"127.0.0.1:{emulator.port}"
        assert request.connection == again.connection == 1
        assert proxy.heads[0].startswith(f"POST {emulator.url}/endpoints/my-llm/invocations HTTP/1.1".encode())
        assert b"Proxy-Authorization: " + SECRET in proxy.heads[0]


def test_a_tunnel_is_asked_for_with_the_password_and_the_service_never_sees_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trust(monkeypatch, tmp_path)
    with Emulator(ssl_context=server_context()) as emulator, Proxy(SECRET) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//us%40er:pass@"))
        with make_endpoint(emulator.url) as endpoint:
            endpoint.invoke("Hello")
        assert "proxy-authorization" not in emulator.requests[0].headers


def test_no_proxy_is_a_way_around(monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator() as emulator, Proxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with make_endpoint(emulator.url) as endpoint:
            endpoint.invoke("Hello")
        assert proxy.connections == 0


@pytest.mark.parametrize(
    ("userinfo", "cure"), [("", "it asks for credentials"), ("us%40er:wrong@", "it does not accept")]
)
def test_a_proxy_that_wants_another_password_is_no_connection(
    monkeypatch: pytest.MonkeyPatch, userinfo: str, cure: str
) -> None:
    with Proxy(SECRET) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", f"//{userinfo}"))
        endpoint = make_endpoint("https://service.invalid", retry=ONCE)
        with endpoint, pytest.raises(ConnectError, match=rf"status 407\): {cure}") as caught:
            endpoint.invoke("Hello")
    assert "wrong" not in str(caught.value)
    assert proxy.heads[0].startswith(b"CONNECT service.invalid:443 HTTP/1.1")


def test_a_407_to_a_plain_request_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator() as emulator, Proxy(SECRET) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with make_endpoint(emulator.url) as endpoint, pytest.raises(ServiceError) as caught:
            endpoint.invoke("Hello")
        assert caught.value.status == 407
        assert emulator.requests == []


def test_a_proxy_that_refuses_connections_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with closed_port() as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        endpoint = make_endpoint("https://service.invalid", retry=ONCE)
        said = rf"no connection to the proxy http://127.0.0.1:{port} \(from https_proxy\): Connection refused.*NO_PROXY"
        with endpoint, pytest.raises(ConnectError, match=said):
            endpoint.invoke("Hello")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "closed the connection"),
        (response(b"", status="403 Forbidden"), "status 403"),
        (b"HTTP/1.1 200 OK\r\n\r\nsurprise", "bytes that do not belong"),
        (b"garbage\r\n\r\n", "did not open a tunnel"),
    ],
)
def test_a_proxy_that_opens_no_tunnel_is_no_connection(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, message: str
) -> None:
    with Proxy(connect_answer=answer) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        endpoint = make_endpoint("https://service.invalid", retry=ONCE)
        with endpoint, pytest.raises(ConnectError, match=message):
            endpoint.invoke("Hello")


def test_a_proxy_may_answer_bit_by_bit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    context = server_context()

    def serve(peer: Peer) -> None:
        peer.head()
        for byte in b"HTTP/1.1 200 OK\r\n\r\n":
            peer.send(bytes([byte]))
        with context.wrap_socket(peer.sock, server_side=True) as secured:
            Peer(secured, 1).serve()

    trust(monkeypatch, tmp_path)
    with Server(serve) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with make_endpoint("https://127.0.0.1:1") as endpoint:
            assert endpoint.invoke("Hello") == "fine"


def test_a_proxy_that_is_silent_is_no_connection_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(Peer.gone) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        endpoint = make_endpoint("https://service.invalid", timeout=fast(connect=0.05), retry=ONCE)
        with endpoint, pytest.raises(ConnectError, match=r"within 0\.05 s"):
            endpoint.invoke("Hello")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_itself_behind_tls_is_refused_and_the_way_out_is_said(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    with Server(Peer.gone) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url.replace("http://", "https://user:secret@"))
        url = "https://service.invalid" if scheme == "https" else "http://127.0.0.1:1"
        with make_endpoint(url) as endpoint, pytest.raises(ConfigurationError, match="pass client=") as caught:
            endpoint.invoke("Hello")
        assert proxy.connections == 0
    assert "secret" not in str(caught.value)
