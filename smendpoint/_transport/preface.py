"""The preface of a connection, without any I/O: the tunnel through a proxy, then the TLS handshake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint._core.http.http1 import ResponseReader
from smendpoint._core.http.syntax import render_head
from smendpoint._transport.address import no_http2
from smendpoint._transport.tls import TLSChannel
from smendpoint.errors import ConnectError, ProtocolError

if TYPE_CHECKING:
    from smendpoint._core.http.proxy import Proxy
    from smendpoint._transport.address import Address

__all__ = ["Preface", "connect_request", "tunnel_stands"]


class Preface:
    """Makes a connection ready for its first request: send `to_send`, `feed` the answer, until that returns true.

    Args:
        address: an address that has a preface.

    Attributes:
        tls: TLS over the connection, when the preface is done; `None` without TLS. Its last bytes are sent with the
            first request.
    """

    __slots__ = ("_address", "_proxy", "_reader", "_request", "tls")

    def __init__(self, address: Address) -> None:
        self._address = address
        url, self._proxy = address.target.url, address.target.proxy
        self.tls = TLSChannel(address.context(), url.host) if url.tls else None
        self._reader = ResponseReader(connect=True)
        self._request = b""
        if self._proxy is None:
            self._handshake()
        else:
            self._request = connect_request(url.host, url.port, self._proxy)

    def to_send(self) -> bytes:
        """Return the bytes to send next: perhaps none; after a TLS failure, an alert."""
        request, self._request = self._request, b""
        return request or (b"" if self.tls is None else self.tls.to_send())

    def feed(self, data: bytes) -> bool:
        """Read the next bytes, none if the peer has closed the connection; return whether the preface is done.

        Raises:
            ConnectError: the proxy does not open a tunnel.
            TLSError: the peer does not speak HTTP/2, and must.
            OSError: the handshake failed, see `TLSChannel.handshake`.
        """
        if self._proxy is None:
            assert self.tls is not None
            self.tls.arrived(data)
        elif tunnel_stands(self._reader, data, self._proxy):
            self._proxy = None
        else:
            return False
        return self._handshake()

    def _handshake(self) -> bool:
        """Continue the TLS handshake, if there is TLS; return whether it is done."""
        if self.tls is None:
            return True
        # In HTTP/2 both sides begin with their settings, and after TLS 1.2 the service may be the first.
        done = self.tls.handshake(peer_first=self._address.http2)
        if done and self._address.http2 and self.tls.protocol != "h2":
            raise no_http2(self._address)
        return done


def connect_request(host: str, port: int, proxy: Proxy) -> bytes:
    """Render the request for a tunnel (RFC 9110 9.3.6).

    Args:
        host: the tunnel's other end, IPv6 without brackets.
        port: the TCP port there.
        proxy: the proxy, for its credentials.
    """
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return render_head("CONNECT", authority, [("Host", authority), *proxy.headers()])


def tunnel_stands(reader: ResponseReader, data: bytes, proxy: Proxy) -> bool:
    """Read the proxy's answer to `connect_request`; return whether the tunnel is open, or more of the answer must come.

    Args:
        reader: a reader made with ``connect=True``, the same for the whole answer.
        data: the next bytes of the answer; none if the proxy closed the connection.
        proxy: the proxy.

    Raises:
        ConnectError: the proxy does not open a tunnel. Nothing of the call itself was sent, so it is safe to try again.
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
            return "it requires credentials: put user:password@ before the host in the proxy's URL"
        return "it does not accept the credentials in the proxy's URL"
    if status in (502, 503, 504):
        return "it cannot reach the service: check the region and the network behind the proxy"
    return "check that it allows CONNECT to the service, or exclude the service with NO_PROXY"
