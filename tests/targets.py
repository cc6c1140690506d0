"""Targets as tests want them, without resolving anything."""

from __future__ import annotations

from typing import Any

from smendpoint._aws import CredentialProvider, Target
from smendpoint._aws.url import EndpointURL, parse_proxy
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint._transport.address import Address

KEYS = Credentials("AKIDEXAMPLE", "secret")


def make_target(
    host: str,
    port: int,
    *,
    tls: bool,
    loopback_only: bool = False,
    proxy: str | None = None,
    credentials: CredentialProvider | None = None,
    **options: Any,
) -> Target:
    """Make a target of a host and a port; by default for the credentials ``KEYS``."""
    return Target(
        url=EndpointURL("https" if tls else "http", host, port, f"{host}:{port}", "", loopback_only),
        region="us-east-1",
        region_source="region_name",
        credentials=credentials or CredentialProvider(lambda anew: (KEYS, None), now=float, initial=KEYS),
        user_agent="test",
        proxy=None if proxy is None else parse_proxy(proxy, source=""),
        **options,
    )


def make_address(host: str, port: int, **options: Any) -> Address:
    """Make the address of a target; arguments as for `make_target`."""
    return Address(make_target(host, port, **options))
