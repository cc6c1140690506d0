"""`_transport/proxy.py`: proxies are understood as botocore understands them, and their passwords never shown."""

from __future__ import annotations

import base64

import h11
import pytest
from botocore.httpsession import ProxyConfiguration
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._core.http1 import ResponseReader
from smendpoint._transport.proxy import (
    Proxy,
    connect_request,
    parse_proxy,
    refused_tunnel,
    tunnel_stands,
)
from smendpoint.errors import ConfigurationError, ConnectError, ProtocolError


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "username", "password"),
    [
        ("http://proxy.example:3128", "http", "proxy.example", 3128, None, None),
        ("http://proxy.example:3128/", "http", "proxy.example", 3128, None, None),
        ("http://proxy.example", "http", "proxy.example", 80, None, None),
        ("http://proxy.example:", "http", "proxy.example", 80, None, None),
        ("https://proxy.example", "https", "proxy.example", 443, None, None),
        ("HTTP://10.0.0.1:8080", "http", "10.0.0.1", 8080, None, None),
        ("proxy_1:3128", "http", "proxy_1", 3128, None, None),
        ("//proxy.example:3128", "http", "proxy.example", 3128, None, None),
        ("http://[::1]:3128", "http", "::1", 3128, None, None),
        ("http://[fd00::1]", "http", "fd00::1", 80, None, None),
        ("http://user:secret@proxy:1", "http", "proxy", 1, "user", "secret"),
        ("user:secret@proxy:1", "http", "proxy", 1, "user", "secret"),
        ("http://us%40er:p%3Aa%2Fss%25@proxy:1", "http", "proxy", 1, "us@er", "p:a/ss%"),
        ("http://user:p@ss:w@proxy:1", "http", "proxy", 1, "user", "p@ss:w"),
        ("http://us%C3%A9r:p%E2%82%AC@proxy:1", "http", "proxy", 1, "usér", "p€"),
        ("http://user:100%@proxy:1", "http", "proxy", 1, "user", "100%"),
        ("http://token@proxy:1", "http", "proxy", 1, "token", ""),
        ("http://:secret@proxy:1", "http", "proxy", 1, "", "secret"),
        ("http://@proxy:1", "http", "proxy", 1, None, None),
        ("http://:@proxy:1", "http", "proxy", 1, None, None),
    ],
)
def test_a_proxy_url_is_read(
    url: str, scheme: str, host: str, port: int, username: str | None, password: str | None
) -> None:
    proxy = parse_proxy(url)
    assert (proxy.scheme, proxy.host, proxy.port) == (scheme, host, port)
    assert (proxy.username, proxy.password) == (username, password)
    assert proxy.tls is (scheme == "https")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        "http://:3128",
        "http://user:hunter2@",
        "http://user:hunter2@:1",
        "http://user:hunter2@pro xy:1",
        "http://user:hunter2@proxy:0",
        "http://user:hunter2@proxy:65536",
        "http://user:hunter2@proxy:000080",
        "http://user:hunter2@proxy:8o",
        "http://user:hunter2@proxy:²",
        "http://user:hunter2@proxy:1/path",
        "http://user:hunter2@proxy:1?query",
        "http://user:hunter2@pröxy:1",
        "http://user:hunter2@[::1:1",
        "http://user:hunter2@[::1]1",
        "http://user:hunter2@[]:1",
        "http://user:hunter2@[proxy]:1",
        "http://user:hunter2@proxy\r\nX: y",
        "http://us%3Aer:hunter2@proxy:1",
        "http://user:hunter2%0d%0a@proxy:1",
        "http://user:hunter2%00@proxy:1",
        "http://user:hunter2%7f@proxy:1",
        "http://user:hunter2%ff@proxy:1",
    ],
)
def test_a_malformed_proxy_url_is_refused_and_never_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_proxy(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4", "SOCKS", "ftp", "", "hunter2:"])
def test_another_kind_of_proxy_is_refused_with_the_cure(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match="pass client=") as caught:
        parse_proxy(f"{scheme}://user:hunter2@proxy:1080")
    assert "hunter2" not in str(caught.value)


def test_the_kind_of_a_refused_proxy_is_named() -> None:
    with pytest.raises(ConfigurationError, match="'socks5'"):
        parse_proxy("socks5://proxy:1080")


def test_a_repr_and_a_shown_url_hide_the_credentials() -> None:
    proxy = parse_proxy("http://hunter1:hunter2@[::1]:3128")
    assert repr(proxy) == "Proxy(http://***@[::1]:3128)"
    assert proxy.url == "http://[::1]:3128"
    assert repr(parse_proxy("proxy")) == "Proxy(http://proxy:80)"


def test_credentials_are_sent_as_utf_8() -> None:
    [(name, value)] = parse_proxy("http://us%C3%A9r:p%E2%82%AC@proxy").headers()
    assert name == "Proxy-Authorization"
    assert base64.b64decode(value.removeprefix("Basic ")).decode("utf-8") == "usér:p€"


PRINTABLE = st.text([chr(code) for code in range(0x21, 0x7F)], min_size=1)


@given(PRINTABLE.filter(lambda text: ":" not in text), PRINTABLE)
def test_credentials_are_those_that_botocore_sends(username: str, password: str) -> None:
    def encoded(text: str) -> str:
        return "".join(f"%{ord(character):02x}" for character in text)

    url = f"http://{encoded(username)}:{encoded(password)}@proxy:3128"
    assert dict(parse_proxy(url).headers()) == ProxyConfiguration().proxy_headers_for(url)


@given(st.text())
def test_any_text_is_a_proxy_or_a_configuration_error(text: str) -> None:
    for url in (text, f"http://{text}", f"http://{text}@proxy"):
        try:
            proxy = parse_proxy(url)
        except ConfigurationError:
            continue
        connect_request("host", 443, proxy)
        connect_request(proxy.host, proxy.port, proxy)


class TestConnectRequest:
    def test_names_the_service_and_nothing_else(self) -> None:
        assert connect_request("runtime.example", 443, Proxy("http", "proxy", 3128)) == (
            b"CONNECT runtime.example:443 HTTP/1.1\r\nHost: runtime.example:443\r\n\r\n"
        )

    def test_puts_ipv6_in_brackets(self) -> None:
        assert connect_request("::1", 8443, Proxy("http", "proxy", 3128)) == (
            b"CONNECT [::1]:8443 HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n"
        )

    def test_carries_the_credentials(self) -> None:
        assert connect_request("h", 443, Proxy("http", "proxy", 3128, "Aladdin", "open sesame")) == (
            b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n"
            b"Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"  # the example of RFC 7617
        )

    def test_is_read_by_h11(self) -> None:
        server = h11.Connection(h11.SERVER)
        server.receive_data(connect_request("h", 443, Proxy("http", "proxy", 3128, "a", "b")))
        request = server.next_event()
        assert isinstance(request, h11.Request)
        assert (request.method, request.target) == (b"CONNECT", b"h:443")


PROXY = parse_proxy("http://proxy:3128")


class TestTunnel:
    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 Connection established\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nProxy-Agent: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 OK\r\n\r\n",
        ],
    )
    def test_stands_after_a_2xx_answer_and_not_before(self, answer: bytes) -> None:
        assert tunnel_stands(ResponseReader(connect=True), answer, PROXY)
        reader = ResponseReader(connect=True)
        stands = [tunnel_stands(reader, answer[index : index + 1], PROXY) for index in range(len(answer))]
        assert stands == [False] * (len(answer) - 1) + [True]

    @pytest.mark.parametrize(
        ("status", "url", "says"),
        [
            (407, "http://proxy:3128", "asks for credentials"),
            (407, "http://user:hunter2@proxy:3128", "does not accept the credentials"),
            (502, "http://proxy:3128", "cannot reach the service"),
            (503, "http://proxy:3128", "cannot reach the service"),
            (504, "http://proxy:3128", "cannot reach the service"),
            (403, "http://proxy:3128", "allows CONNECT"),
            (302, "http://proxy:3128", "allows CONNECT"),
            (600, "http://proxy:3128", "allows CONNECT"),
        ],
    )
    def test_a_refusal_says_why_and_what_to_do(self, status: int, url: str, says: str) -> None:
        answer = f"HTTP/1.1 {status} No\r\nContent-Length: 1000\r\n\r\n<html>".encode()
        with pytest.raises(ConnectError, match=says) as caught:
            tunnel_stands(ResponseReader(connect=True), answer, parse_proxy(url))
        assert f"http://proxy:3128 did not open a tunnel (status {status})" in str(caught.value)
        assert "hunter2" not in str(caught.value)
        assert not caught.value.request_sent

    def test_a_2xx_status_is_no_refusal(self) -> None:
        assert refused_tunnel(200, PROXY) is None
        assert refused_tunnel(299, PROXY) is None

    def test_a_closed_connection_is_a_connect_error(self) -> None:
        reader = ResponseReader(connect=True)
        assert not tunnel_stands(reader, b"HTTP/1.1 200", PROXY)
        with pytest.raises(ConnectError, match="closed the connection"):
            tunnel_stands(reader, b"", PROXY)

    @pytest.mark.parametrize("answer", [b"SSH-2.0", b"HTTP/1.1 2\r\n\r\n", b"HTTP/1.1 101 Switching\r\n\r\n"])
    def test_what_is_not_http_is_a_connect_error(self, answer: bytes) -> None:
        with pytest.raises(ConnectError, match="not a valid HTTP response") as caught:
            tunnel_stands(ResponseReader(connect=True), answer, PROXY)
        assert isinstance(caught.value.__cause__, ProtocolError)

    def test_bytes_before_we_spoke_are_a_connect_error(self) -> None:
        with pytest.raises(ConnectError, match="do not belong"):
            tunnel_stands(ResponseReader(connect=True), b"HTTP/1.1 200 OK\r\n\r\nhello", PROXY)
