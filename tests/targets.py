"""Targets as tests want them, without resolving anything."""

from __future__ import annotations

import threading
from typing import Any

from async_loops import PATIENCE
from clocks import FakeClock

from smendpoint import errors
from smendpoint._aws import CredentialProvider, Target
from smendpoint._aws.url import EndpointURL, parse_proxy
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint._transport.address import Address

KEYS = Credentials("AKIDEXAMPLE", "secret")


class HeldCredentials:
    """A source of credentials that loads them when the test lets it.

    Args:
        lifetime: of the credentials in seconds, `None` for ever.

    Attributes:
        fails: whether there are none.
        threads: in which they were loaded.
        entered: set when a load begins.
        proceed: lets loads end.
        clock: by which credentials run out.
        provider: what calls ask.
    """

    def __init__(self, lifetime: float | None = None) -> None:
        self.lifetime = lifetime
        self.fails = False
        self.threads: list[int] = []
        self.entered = threading.Event()
        self.proceed = threading.Event()
        self.clock = FakeClock()
        self.provider = CredentialProvider(self._load, now=self.clock.time)

    def _load(self, _: bool) -> tuple[Credentials, float | None]:
        self.threads.append(threading.get_ident())
        self.entered.set()
        assert self.proceed.wait(PATIENCE)
        if self.fails:
            raise errors.CredentialsError("there are none")
        return KEYS, None if self.lifetime is None else self.clock.time() + self.lifetime


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
