"""Proxies, without any I/O: what their URLs say, how a tunnel is asked for, and what the answer means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint._core.http1 import render_head
from smendpoint.errors import ConfigurationError, ConnectError, ProtocolError

if TYPE_CHECKING:
    from smendpoint._core.http1 import ResponseReader

__all__ = ["Proxy", "connect_request", "parse_proxy", "refused_tunnel", "tunnel_stands"]

_DEFAULT_PORTS = {"http": 80, "https": 443}
# What a host is made of: a name or an IPv4 address, or an IPv6 address in its brackets. (The underscore is not allowed
# in a host name, but the names of containers have it.)
_HOST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
_IPV6 = frozenset("0123456789abcdefABCDEF:.")
_NOTHING: frozenset[str] = frozenset()


class Proxy:
    """A proxy and the credentials for it, which its ``repr`` does not show.

    Args:
        scheme: ``"http"`` or ``"https"``: how to speak to the proxy itself, whatever goes through it.
        host: its name or address, IPv6 without brackets.
        port: its TCP port.
        username: for basic authentication; ``None`` where the URL has none.
        password: for basic authentication; may be empty.

    Attributes:
        source: what names it, such as ``"HTTPS_PROXY"``; empty where that is not known.
    """

    __slots__ = ("host", "password", "port", "scheme", "source", "username")

    def __init__(
        self, scheme: str, host: str, port: int, username: str | None = None, password: str | None = None
    ) -> None:
        self.source = ""
        self.scheme = scheme
        self.host = host
        self.port = port
        self.username = username
        self.password = password

    @property
    def tls(self) -> bool:
        """Whether the connection to the proxy itself is encrypted."""
        return self.scheme == "https"

    @property
    def url(self) -> str:
        """The URL without credentials, for messages."""
        return f"{self.scheme}://{_authority(self.host, self.port)}"

    @property
    def shown(self) -> str:
        """The URL without credentials, and what names it."""
        return f"{self.url} (from {self.source})" if self.source else self.url

    def headers(self) -> tuple[tuple[str, str], ...]:
        """The header fields that the proxy wants to see: its credentials, or none."""
        if self.username is None:
            return ()
        from base64 import b64encode  # most programs have no proxy, and fewer one that asks for a password

        # RFC 7617 2.1: UTF-8 is what servers that say anything say.
        credentials = b64encode(f"{self.username}:{self.password or ''}".encode()).decode("ascii")
        return (("Proxy-Authorization", f"Basic {credentials}"),)

    def __repr__(self) -> str:
        secret = "" if self.username is None else "***@"
        return f"Proxy({self.scheme}://{secret}{_authority(self.host, self.port)})"


def parse_proxy(url: str) -> Proxy:
    """Read the URL of a proxy.

    Args:
        url: ``[scheme://][user[:password]@]host[:port][/]``. Without a scheme ``http`` is meant, as in botocore; user
            and password are percent-encoded.

    Raises:
        ConfigurationError: the URL is malformed, or the proxy is of another kind than http and https. The message
            never shows the URL, which may hold a password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "http", url.removeprefix("//")
    scheme = scheme.lower()
    if scheme not in _DEFAULT_PORTS:
        kind = repr(scheme) if scheme.isalnum() and scheme.isascii() else "this"
        raise ConfigurationError(
            f"proxies of the kind {kind} are not supported, only http and https: make a boto3, botocore or "
            "aiobotocore client that goes through it, and pass client="
        )
    authority = rest.removesuffix("/")
    userinfo, at, place = authority.rpartition("@")
    host, port = _host_and_port(place, _DEFAULT_PORTS[scheme])
    if not at:
        return Proxy(scheme, host, port)
    user, _, password = userinfo.partition(":")
    username = _decoded(user)
    if ":" in username:
        raise ConfigurationError(
            "the user name in the proxy's URL has a colon, which basic authentication cannot carry"
        )
    if not username and not password:
        return Proxy(scheme, host, port)
    return Proxy(scheme, host, port, username, _decoded(password))


def connect_request(host: str, port: int, proxy: Proxy) -> bytes:
    """Render the request for a tunnel (RFC 9110 9.3.6).

    Args:
        host: where the tunnel is to lead, IPv6 without brackets.
        port: the TCP port there.
        proxy: the proxy that is asked, for its credentials.
    """
    authority = _authority(host, port)
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


def _host_and_port(place: str, default_port: int) -> tuple[str, int]:
    if place.startswith("["):
        host, bracket, rest = place[1:].partition("]")
        allowed, colon, digits = _IPV6 if bracket else _NOTHING, rest[:1], rest[1:]
    else:
        host, colon, digits = place.partition(":")
        allowed = _HOST
    if not host or not allowed.issuperset(host) or colon not in ("", ":"):
        raise ConfigurationError("the host in the proxy's URL is malformed")
    if not digits:
        return host, default_port
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 5 or not 0 < int(digits) < 65_536:
        raise ConfigurationError("the port in the proxy's URL is malformed")
    return host, int(digits)


def _decoded(text: str) -> str:
    from urllib.parse import unquote_to_bytes  # see Proxy.headers

    try:
        decoded = unquote_to_bytes(text).decode()
    except UnicodeError:
        decoded = "\x00"
    if any(character < " " or character == "\x7f" for character in decoded):
        # RFC 7617 2: neither may have a control character.
        raise ConfigurationError("the credentials in the proxy's URL have a control character, or are not UTF-8")
    return decoded


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
