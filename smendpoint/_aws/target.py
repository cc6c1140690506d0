"""Where calls go and with what: the result of resolving an identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smendpoint._aws.credentials import CredentialProvider

__all__ = ["Target"]


class Target:
    """What the direct lane needs to know, resolved as botocore resolves it.

    Attributes:
        region: the region that requests are signed for.
        scheme: ``"https"`` or ``"http"``.
        host: the name or address to connect to; IPv6 without brackets.
        port: the TCP port.
        host_header: the value of the ``Host`` header.
        loopback_only: whether connections must stay on this machine, because nothing on them is encrypted.
        base_path: what stands before ``/endpoints/...``; empty for AWS's own endpoints.
        proxy_url: the proxy to go through, with its scheme and port, ``None`` where the way is direct. ``NO_PROXY``
            has been applied. It may hold a password.
        ca_bundle: the file of trusted certificates: a configured one, else certifi's or botocore's. ``None``, where
            neither is there: the system's. Certificates are always verified.
        client_cert: the file of a TLS client certificate, or the files of certificate and key.
        credentials: where to ask for credentials.
        user_agent: the value of the ``User-Agent`` header.
        connect_timeout: seconds; ``None`` where no botocore ``Config`` says so.
        read_timeout: seconds; ``None`` where no botocore ``Config`` says so.
        max_pool_connections: how many connections; ``None`` where no botocore ``Config`` says so.
        max_attempts: how many requests a call may cost, the first included; ``None`` where neither a ``Config``, nor
            ``AWS_MAX_ATTEMPTS``, nor the profile says so.
        region_source: what said the region, such as ``"AWS_DEFAULT_REGION"``.
        proxy_source: what named the proxy, such as ``"HTTPS_PROXY"``.
    """

    __slots__ = (
        "base_path",
        "ca_bundle",
        "client_cert",
        "connect_timeout",
        "credentials",
        "host",
        "host_header",
        "loopback_only",
        "max_attempts",
        "max_pool_connections",
        "port",
        "proxy_source",
        "proxy_url",
        "read_timeout",
        "region",
        "region_source",
        "scheme",
        "user_agent",
    )

    def __init__(
        self,
        *,
        region: str,
        scheme: str,
        host: str,
        port: int,
        host_header: str,
        credentials: CredentialProvider,
        user_agent: str,
        loopback_only: bool = False,
        base_path: str = "",
        proxy_url: str | None = None,
        ca_bundle: str | None = None,
        client_cert: str | tuple[str, str] | None = None,
        connect_timeout: float | None = None,
        read_timeout: float | None = None,
        max_pool_connections: int | None = None,
        max_attempts: int | None = None,
        region_source: str = "region_name",
        proxy_source: str = "",
    ) -> None:
        self.region = region
        self.region_source = region_source
        self.proxy_source = proxy_source
        self.scheme = scheme
        self.host = host
        self.port = port
        self.host_header = host_header
        self.credentials = credentials
        self.user_agent = user_agent
        self.loopback_only = loopback_only
        self.base_path = base_path
        self.proxy_url = proxy_url
        self.ca_bundle = ca_bundle
        self.client_cert = client_cert
        self.connect_timeout = connect_timeout
        self.read_timeout = read_timeout
        self.max_pool_connections = max_pool_connections
        self.max_attempts = max_attempts

    @property
    def url(self) -> str:
        """The endpoint's URL, to be shown: without userinfo, query or slash at its end."""
        return f"{self.scheme}://{self.host_header}{self.base_path}"

    def origin(self) -> str:
        """Where calls go and as whom, and where both come from; for the error that there is no such endpoint."""
        return (
            f"it was looked for in {self.region} (from {self.region_source}), in the account of the credentials from "
            f"{self.credentials.origin}"
        )

    def __repr__(self) -> str:
        proxied = "" if self.proxy_url is None else ", through a proxy"
        return f"<Target {self.url} in {self.region}{proxied}>"
