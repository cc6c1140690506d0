"""A proxy: its address, and the headers that it needs."""

from __future__ import annotations


class Proxy:
    """A proxy and the credentials for it, which its ``repr`` does not show.

    Args:
        scheme: ``"http"`` or ``"https"``: the protocol for the proxy itself, whatever goes through it.
        host: its name or address, IPv6 without brackets.
        port: its TCP port.
        username: the user for basic authentication; ``None`` if the URL has none.
        password: the password for basic authentication; may be empty.
        source: the setting that names the proxy, such as ``"HTTPS_PROXY"``; empty if it is not known.
    """

    __slots__ = ("host", "password", "port", "scheme", "source", "username")

    def __init__(
        self,
        scheme: str,
        host: str,
        port: int,
        username: str | None = None,
        password: str | None = None,
        source: str = "",
    ) -> None:
        self.scheme = scheme
        self.host = host
        self.port = port
        self.username = username
        self.password = password
        self.source = source

    @property
    def tls(self) -> bool:
        """Whether the connection to the proxy itself is encrypted."""
        return self.scheme == "https"

    @property
    def url(self) -> str:
        """The URL without credentials, for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def shown(self) -> str:
        """The URL without credentials, and the setting that names it."""
        return f"{self.url} (from {self.source})" if self.source else self.url

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return the header fields that the proxy needs: its credentials, or none."""
        if self.username is None:
            return ()
        from base64 import b64encode  # most programs have no proxy, and few have one with a password

        # RFC 7617 2.1: UTF-8 is the only encoding that servers ever ask for.
        credentials = b64encode(f"{self.username}:{self.password or ''}".encode()).decode("ascii")
        return (("Proxy-Authorization", f"Basic {credentials}"),)

    def __repr__(self) -> str:
        scheme, _, rest = self.url.partition("://")
        secret = "" if self.username is None else "***@"
        return f"Proxy({scheme}://{secret}{rest})"
