"""The preface of a connection, without any I/O: the tunnel through a proxy, then the TLS handshake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint._core.http.http1 import ResponseReader
from smendpoint._core.http.syntax import render_head
from smendpoint._transport.tls import TLSChannel
from smendpoint.errors import ConnectError, ProtocolError

if TYPE_CHECKING:
    from smendpoint._core.http.proxy import Proxy
    from smendpoint._transport.address import Address

__all__ = ["Preface", "connect_request", "tunnel_stands"]


class Preface:
    """Makes a connection ready for its first request: send `to_send`, `feed` the answer, until that returns true.

    Args:
        address: an address that is reached over TLS.

    Attributes:
        tls: TLS over the connection, when the preface is done. Its last bytes go out with the first request.
    """

    __slots__ = ("_proxy", "_reader", "_request", "tls")

    def __init__(self, address: Address) -> None:
        url, self._proxy = address.target.url, address.target.proxy
        self.tls = TLSChannel(address.context(), url.host)
        self._reader = ResponseReader(connect=True)
        self._request = b""
        if self._proxy is None:
            self.tls.handshake()
        else:
            self._request = connect_request(url.host, url.port, self._proxy)

    def to_send(self) -> bytes:
        """Give the bytes to send next: perhaps none, after a failure of TLS an alert."""
        request, self._request = self._request, b""
        return request or self.tls.to_send()

    def feed(self, data: bytes) -> bool:
        """Read the next bytes, none if the peer has closed the connection; whether the preface is done.

        Raises:
            ConnectError: the proxy opens no tunnel.
            OSError: the handshake failed, see `TLSChannel.handshake`.
        """
        if self._proxy is None:
            self.tls.arrived(data)
            return self.tls.handshake()
        if tunnel_stands(self._reader, data, self._proxy):
            self._proxy = None
            self.tls.handshake()
        return False


def connect_request(host: str, port: int, proxy: Proxy) -> bytes:
    """Render the request for a tunnel (RFC 9110 9.3.6).

    Args:
        host: the tunnel's other end, IPv6 without brackets.
        port: the TCP port there.
        proxy: the proxy that is asked, for its credentials.
    """
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return render_head("CONNECT", authority, [("Host", authority), *proxy.headers()])


def tunnel_stands(reader: ResponseReader, data: bytes, proxy: Proxy) -> bool:
    """Read the proxy's answer to `connect_request`; whether the tunnel stands, or more of the answer is to come.

    Args:
        reader: made with ``connect=True``, the same for all of the answer.
        data: the next bytes of the answer; none if the proxy closed the connection.
        proxy: the proxy that was asked.

    Raises:
        ConnectError: the proxy opens no tunnel. Nothing of the call itself has been sent, so it is safe to try again.
    """
    if not data:
        raise ConnectError(f"the proxy {proxy.shown} closed the connection without opening a tunnel")
    try:
        reader.feed(data)
    except ProtocolError as error:
        raise ConnectError(f"the proxy {proxy.shown} did not open a tunnel: {error.message}") from error
    if not reader.head_complete:
        return False
    status = reader.status
    if not 200 <= status < 300:
        raise ConnectError(f"the proxy {proxy.shown} did not open a tunnel (status {status}): {_cure(status, proxy)}")
    if not reader.reusable:
        # In TLS the client speaks first, so these bytes are not from the service.
        raise ConnectError(f"the proxy {proxy.shown} sent bytes that do not belong to a tunnel")
    return True


def _cure(status: int, proxy: Proxy) -> str:
    if status == 407:
        if proxy.username is None:
            return "it asks for credentials: put user:password@ before the host in the proxy's URL"
        return "it does not accept the credentials in the proxy's URL"
    if status in (502, 503, 504):
        return "it cannot reach the service: check the region and the network behind the proxy"
    return "check that it allows CONNECT to the service, or exclude the service with NO_PROXY"
