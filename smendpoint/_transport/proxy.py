"""Tunnels through a proxy, without any I/O: how one is asked for, and what the answer means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint._core.http.http1 import render_head
from smendpoint.errors import ConnectError, ProtocolError

if TYPE_CHECKING:
    from smendpoint._core.http.http1 import ResponseReader
    from smendpoint._core.http.proxy import Proxy

__all__ = ["connect_request", "refused_tunnel", "tunnel_stands"]


def connect_request(host: str, port: int, proxy: Proxy) -> bytes:
    """Render the request for a tunnel (RFC 9110 9.3.6).

    Args:
        host: where the tunnel is to lead, IPv6 without brackets.
        port: the TCP port there.
        proxy: the proxy that is asked, for its credentials.
    """
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return render_head("CONNECT", authority, [("Host", authority), *proxy.headers()])


def tunnel_stands(reader: ResponseReader, data: bytes, proxy: Proxy) -> bool:
    """Take what the proxy answered to ``connect_request``; nothing means that it closed the connection.

    Args:
        reader: made with ``connect=True``, the same for all of the answer.
        data: the next bytes of the answer.
        proxy: the proxy that was asked.

    Returns:
        Whether the tunnel stands. If not, more of the answer is to come.

    Raises:
        ConnectError: there will be no tunnel. Nothing of the call itself has been sent, so it is safe to try again.
    """
    if not data:
        raise ConnectError(f"the proxy {proxy.shown} closed the connection without opening a tunnel")
    try:
        reader.feed(data)
    except ProtocolError as error:
        raise ConnectError(f"the proxy {proxy.shown} did not open a tunnel: {error.message}") from error
    if not reader.head_complete:
        return False
    failure = refused_tunnel(reader.status, proxy)
    if failure is not None:
        raise failure
    if not reader.reusable:
        # In TLS the client speaks first: whatever came is not from the service.
        raise ConnectError(f"the proxy {proxy.shown} sent bytes that do not belong to a tunnel")
    return True


def refused_tunnel(status: int, proxy: Proxy) -> ConnectError | None:
    """Our error for a proxy's answer to CONNECT; ``None`` where it opened the tunnel.

    Args:
        status: the answer's status code.
        proxy: the proxy that was asked.
    """
    if 200 <= status < 300:
        return None
    if status == 407:
        cure = (
            "it asks for credentials: put user:password@ before the host in the proxy's URL"
            if proxy.username is None
            else "it does not accept the credentials in the proxy's URL"
        )
    elif status in (502, 503, 504):
        cure = "it cannot reach the service: check the region and the network behind the proxy"
    else:
        cure = "check that it allows CONNECT to the service, or except the service with NO_PROXY"
    return ConnectError(f"the proxy {proxy.shown} did not open a tunnel (status {status}): {cure}")
