"""`_transport/preface.py`: the request for a tunnel, and the meaning of a proxy's answer."""

from __future__ import annotations

import h11
import pytest

from smendpoint._aws.url import parse_proxy
from smendpoint._core.http.http1 import ResponseReader
from smendpoint._core.http.proxy import Proxy
from smendpoint._transport.preface import (
    connect_request,
    tunnel_stands,
)
from smendpoint.errors import ConnectError, ProtocolError


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


PROXY = parse_proxy("http://proxy:3128", source="")


class TestTunnel:
    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 Connection established\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nProxy-Agent: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 OK\r\n\r\n",
            b"HTTP/1.1 299 OK\r\n\r\n",
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
            (407, "http://proxy:3128", "requires credentials"),
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
            tunnel_stands(ResponseReader(connect=True), answer, parse_proxy(url, source=""))
        assert f"http://proxy:3128 did not open a tunnel (status {status})" in str(caught.value)
        assert "hunter2" not in str(caught.value)
        assert not caught.value.request_sent

    def test_a_closed_connection_is_a_connect_error(self) -> None:
        reader = ResponseReader(connect=True)
        assert not tunnel_stands(reader, b"HTTP/1.1 200", PROXY)
        with pytest.raises(ConnectError, match="closed the connection"):
            tunnel_stands(reader, b"", PROXY)

    @pytest.mark.parametrize("answer", [b"SSH-2.0", b"HTTP/1.1 2\r\n\r\n", b"HTTP/1.1 101 Switching\r\n\r\n"])
    def test_an_answer_that_is_not_http_is_a_connect_error(self, answer: bytes) -> None:
        with pytest.raises(ConnectError, match="not a valid HTTP response") as caught:
            tunnel_stands(ResponseReader(connect=True), answer, PROXY)
        assert isinstance(caught.value.__cause__, ProtocolError)

    def test_bytes_before_we_spoke_are_a_connect_error(self) -> None:
        with pytest.raises(ConnectError, match="do not belong"):
            tunnel_stands(ResponseReader(connect=True), b"HTTP/1.1 200 OK\r\n\r\nhello", PROXY)
