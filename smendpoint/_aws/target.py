"""Where calls go, and with which settings: the result of resolving an identity."""

# Without `from __future__ import annotations`, for a quick cold start: see `_core`.
from typing import NamedTuple

from smendpoint._aws.credentials import CredentialProvider
from smendpoint._aws.url import EndpointURL
from smendpoint._core.call.timing import Timeout
from smendpoint._core.http.proxy import Proxy

__all__ = ["Limits", "Target"]


class Limits(NamedTuple):
    """Limits that botocore's configuration sets; ``None`` if it sets none.

    Attributes:
        connect_timeout: seconds.
        read_timeout: seconds.
        max_pool_connections: how many connections.
        max_attempts: how many requests a call may use, including the first. ``AWS_MAX_ATTEMPTS`` and the profile also
            set it.
    """

    connect_timeout: float | None = None
    read_timeout: float | None = None
    max_pool_connections: int | None = None
    max_attempts: int | None = None

    def timeout(self, default: Timeout) -> Timeout:
        """Return the timeout of a call; ``default`` supplies what the configuration does not set."""
        return Timeout(self.connect_timeout or default.connect, self.read_timeout or default.read)


class Target(NamedTuple):
    """Everything that our own transport needs, resolved as botocore resolves it.

    Attributes:
        url: where requests go.
        region: the region that requests are signed for.
        region_source: the setting that names the region, such as ``"AWS_DEFAULT_REGION"``.
        credentials: the provider to ask for credentials.
        user_agent: the value of the ``User-Agent`` header.
        proxy: the proxy to go through, ``None`` if connections are direct. ``NO_PROXY`` has been applied.
        ca_bundle: the file of trusted certificates: a configured one, else certifi's or botocore's. ``None`` stands for
            the system's, if neither exists. Certificates are always verified.
        client_cert: the file of a TLS client certificate, or the files of certificate and key.
        limits: the limits that the configuration sets.
    """

    url: EndpointURL
    region: str
    region_source: str
    credentials: CredentialProvider
    user_agent: str
    proxy: Proxy | None = None
    ca_bundle: str | None = None
    client_cert: str | tuple[str, str] | None = None
    limits: Limits = Limits()

    @property
    def server(self) -> tuple[str, int]:
        """The host and the port that are called."""
        return self.url.host, self.url.port

    def origin(self) -> str:
        """Describe where calls go and as whom, and the sources of both; for the error about an unknown endpoint."""
        return (
            f"it was looked for in {self.region} (from {self.region_source}), in the account of the credentials from "
            f"{self.credentials.origin}"
        )

    def __repr__(self) -> str:
        proxied = "" if self.proxy is None else ", through a proxy"
        return f"<Target {self.url} in {self.region}{proxied}>"
