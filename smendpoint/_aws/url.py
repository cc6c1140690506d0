"""Endpoint and proxy URLs, read strictly: any URL that is not clearly a safe address for signed requests is refused.

``urllib.parse`` is avoided on purpose: its import takes milliseconds, and it is lenient where this must be strict (it
drops tabs and line breaks, and reads ``x@evil.example:443`` as a host and its userinfo).
"""

# Without `from __future__ import annotations`, for a quick cold start: see `_core`.
from typing import NamedTuple

from smendpoint._core.http.proxy import Proxy
from smendpoint.errors import ConfigurationError

__all__ = ["EndpointURL", "parse_endpoint_url", "parse_proxy"]

_HEX = frozenset("0123456789abcdefABCDEF")
_LABEL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
# The underscore is not allowed in a host name, but the names of containers have it.
_PROXY_LABEL = _LABEL | {"_"}
# RFC 3986 section 3.3: unreserved, sub-delims, ":" and "@"; "%" is checked separately.
_PATH = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=:@/%")
_DEFAULT_PORTS = {"http": 80, "https": 443}
# Names under which clouds publish the address of their metadata service.
_METADATA_NAMES = frozenset({"instance-data", "instance-data.ec2.internal", "metadata.google.internal"})
_MAX_LENGTH = 2048


class EndpointURL(NamedTuple):
    """Where requests go.

    Attributes:
        scheme: ``"https"`` or ``"http"``.
        host: the name or address to connect to, in lower case, IPv6 without brackets.
        port: the TCP port.
        host_header: the value of the ``Host`` header: with brackets, and with the port unless it is the scheme's own.
        base_path: the part before ``/endpoints/...``, without a slash at its end; empty for all AWS endpoints.
        loopback_only: whether connections must stay on this machine, because nothing on them is encrypted.
    """

    scheme: str
    host: str
    port: int
    host_header: str
    base_path: str
    loopback_only: bool

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.scheme == "https"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host_header}{self.base_path}"


def parse_endpoint_url(
    url: object,
    *,
    allow_plain_http: bool = False,
    allow_link_local: bool = False,
    source: str = "endpoint_url",
) -> EndpointURL:
    """Read the URL of an endpoint.

    Args:
        url: ``scheme://host[:port][/base/path]``.
        allow_plain_http: whether ``http`` may leave this machine; to loopback it always may.
        allow_link_local: whether the host may be a link-local or metadata address.
        source: the setting that has it, for messages.

    Raises:
        ConfigurationError: the URL is malformed, or not a safe address for signed requests. The message never repeats
            the URL, which may hold a password.
    """
    scheme, authority, path = _split(url, source)
    if scheme not in _DEFAULT_PORTS:
        raise ConfigurationError(f"{source} must start with https:// or http://")
    if "@" in authority:
        raise ConfigurationError(f"{source} must not contain a user name or password")
    host, port, shown = _host_and_port(authority, scheme, source, _LABEL)
    loopback, link_local = _nature(host)
    if link_local and not allow_link_local:
        raise ConfigurationError(
            f"{source} points to {shown}, a link-local or metadata address: signed requests are not sent there"
        )
    if scheme == "http" and not (loopback or allow_plain_http):
        raise ConfigurationError(
            f"{source} uses plain http to {shown}: requests would travel unencrypted; use https, or allow it with "
            "allow_plain_http=True"
        )
    if path.endswith("/"):
        path = path[:-1]
    _check_path(path, source)
    header = shown if port == _DEFAULT_PORTS[scheme] else f"{shown}:{port}"
    return EndpointURL(scheme, host, port, header, path, scheme == "http" and not allow_plain_http)


def parse_proxy(url: object, *, source: str) -> Proxy:
    """Read the URL of a proxy; without a scheme, it is ``http``, as in botocore.

    Args:
        url: ``[scheme://][user[:password]@]host[:port][/]``; user and password are percent-encoded.
        source: the setting that names it, for messages.

    Raises:
        ConfigurationError: the URL is malformed or names a kind of proxy that is not supported. The message never
            repeats the URL, which may hold a password.
    """
    if isinstance(url, str) and "://" not in url:
        url = "http://" + url.removeprefix("//")
    scheme, authority, path = _split(url, source)
    if scheme not in _DEFAULT_PORTS:
        kind = repr(scheme) if scheme.isalnum() else "this"
        raise ConfigurationError(
            f"{source} names a proxy of the kind {kind}; only http and https proxies are supported here: pass "
            "client= to go through another kind"
        )
    if path not in ("", "/"):
        raise ConfigurationError(f"{source} must not have a path")
    userinfo, _, place = authority.rpartition("@")
    host, port, _ = _host_and_port(place, scheme, source, _PROXY_LABEL)
    user, _, password = userinfo.partition(":")
    if not user and not password:
        return Proxy(scheme, host, port, source=source)
    username = _decoded(user, source)
    if ":" in username:
        raise ConfigurationError(f"the user name in {source} has a colon, which basic authentication does not allow")
    return Proxy(scheme, host, port, username, _decoded(password, source), source)


def _decoded(text: str, source: str) -> str:
    from urllib.parse import unquote_to_bytes  # most programs have no proxy, and few have one with a password

    try:
        decoded = unquote_to_bytes(text).decode()
    except UnicodeError:
        decoded = "\x00"
    if any(character < " " or character == "\x7f" for character in decoded):
        # RFC 7617 2: neither may have a control character.
        raise ConfigurationError(f"the credentials in {source} have a control character, or are not UTF-8")
    return decoded


def _split(url: object, source: str) -> tuple[str, str, str]:
    if not isinstance(url, str) or not url:
        raise ConfigurationError(f"{source} must be a non-empty string")
    if len(url) > _MAX_LENGTH:
        raise ConfigurationError(f"{source} is longer than {_MAX_LENGTH} characters")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigurationError(f"{source} must be printable ASCII without spaces")
    if "?" in url or "#" in url or "\\" in url:
        raise ConfigurationError(f"{source} must not have a query, a fragment or a backslash")
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ConfigurationError(f"{source} must be a whole URL, such as https://host.example")
    authority, slash, path = rest.partition("/")
    return scheme.lower(), authority, slash + path


def _host_and_port(authority: str, scheme: str, source: str, allowed: frozenset[str]) -> tuple[str, int, str]:
    """Return the host, the port, and the host in the form for a URL."""
    authority = authority.lower()
    if authority.startswith("["):
        host, bracket, rest = authority[1:].partition("]")
        shown = f"[{host}]"
        if not bracket or (rest and not rest.startswith(":")) or _ipv6(host) is None:
            raise ConfigurationError(f"{source} has a malformed IPv6 address")
        colon, digits = rest[:1], rest[1:]
    else:
        host, colon, digits = authority.partition(":")
        shown = host
        _check_name(host, source, allowed)
    if not colon:
        return host, _DEFAULT_PORTS[scheme], shown
    if not digits.isdecimal() or len(digits) > 5 or not 0 < int(digits) < 65_536:
        raise ConfigurationError(f"{source} has a malformed port")
    return host, int(digits), shown


def _check_name(host: str, source: str, allowed: frozenset[str]) -> None:
    labels = host.split(".")
    if len(host) > 253 or any(
        not 0 < len(label) < 64 or not allowed.issuperset(label) or label[0] == "-" or label[-1] == "-"
        for label in labels
    ):
        raise ConfigurationError(f"{source} has a malformed host name")
    # Resolvers read "2852039166", "0251.254.169.254" and "0xa9fea9fe" as addresses: only the usual form is accepted.
    last = labels[-1]
    if (last.isdecimal() or (last.startswith("0x") and _HEX.issuperset(last[2:]))) and _ipv4(host) is None:
        raise ConfigurationError(f"{source} has a malformed IPv4 address")


def _ipv4(host: str) -> int | None:
    parts = host.split(".")
    value = 0
    for part in parts:
        if not part.isdecimal() or len(part) > 3 or (len(part) > 1 and part[0] == "0") or int(part) > 255:
            return None
        value = value << 8 | int(part)
    return value if len(parts) == 4 else None


def _ipv6(host: str) -> int | None:
    from ipaddress import AddressValueError, IPv6Address  # 6 ms, and hardly ever needed

    try:
        return None if "%" in host else int(IPv6Address(host))
    except AddressValueError:
        return None


def _nature(host: str) -> tuple[bool, bool]:
    """Return whether the host is loopback, and whether it is link-local or a metadata service."""
    number = _ipv4(host)
    if number is not None:
        return _nature_of_ipv4(number)
    value = _ipv6(host) if ":" in host else None
    if value is None:
        return host == "localhost" or host.endswith(".localhost"), host in _METADATA_NAMES
    if value == 1:
        return True, False
    high = value >> 32
    # IPv4 within IPv6: compatible, mapped (RFC 4291), NAT64 (RFC 6052), 6to4 (RFC 3056).
    if high in (0, 0xFFFF, 0x64_FF9B << 64):
        return _nature_of_ipv4(value & 0xFFFF_FFFF)
    if value >> 112 == 0x2002:
        return _nature_of_ipv4(value >> 80 & 0xFFFF_FFFF)
    # fe80::/10 is link-local; under fd00:ec2::/32 EC2 publishes its metadata and credential services.
    return False, value >> 118 == 0xFE80 >> 6 or value >> 96 == 0xFD00_0EC2


def _nature_of_ipv4(number: int) -> tuple[bool, bool]:
    return number >> 24 == 127, number >> 16 == 169 << 8 | 254


def _check_path(path: str, source: str) -> None:
    if not path:
        return
    if not _PATH.issuperset(path):
        raise ConfigurationError(f"{source} has a character in its path that must be percent-encoded")
    if any(len(text) < 2 or not _HEX.issuperset(text[:2]) for text in path.split("%")[1:]):
        raise ConfigurationError(f"{source} has a malformed percent-encoding in its path")
    for segment in path[1:].split("/"):
        if segment.lower().replace("%2e", ".") in ("", ".", ".."):
            raise ConfigurationError(f"{source} has an empty or a dot segment in its path")
