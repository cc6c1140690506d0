"""The addresses of a host: which may be used, and in which order they are tried."""

from __future__ import annotations

from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smendpoint._transport.common import Address

# How long one address has before the next is tried beside it: RFC 8305 section 5, "Connection Attempt Delay".
STAGGER_SECONDS = 0.25


def is_literal(host: str) -> bool:
    """Whether a host is an address already, so that nobody has to be asked about it."""
    return ":" in host or host.rpartition(".")[2].isdecimal()


def to_try(address: Address, found: Sequence[Any]) -> list[Any]:
    """Put the addresses of a host in the order in which they are tried.

    The address that stood last comes first; then the resolver's order, families in turn (RFC 8305 section 4), so that a
    family which does not work here costs one stagger and no more.

    Args:
        address: where to.
        found: what ``getaddrinfo`` says.

    Raises:
        ConfigurationError: the connection must not leave this machine, and would.
        OSError: there are none.
    """
    if not found:
        raise OSError("the name has no address")
    if address.target.url.loopback_only:
        found = [info for info in found if _is_loopback(info[4][0])]
        if not found:
            raise ConfigurationError(_leaves(address))
    if len(found) == 1:
        return list(found)
    family = found[0][0]
    same = [info for info in found if info[0] == family]
    others = [info for info in found if info[0] != family]
    ordered = [info for info in chain.from_iterable(zip_longest(same, others)) if info is not None]
    ordered.sort(key=lambda info: info[4] != address.stood)  # which is stable
    return ordered


def stagger(seconds: float, count: int) -> float:
    """How long one of `count` addresses has before the next is tried too; even the last gets half of the `seconds`."""
    return min(STAGGER_SECONDS, seconds / (2 * count))


def _is_loopback(host: str) -> bool:
    return host.startswith(("127.", "::ffff:127.")) or host == "::1"


def _leaves(address: Address) -> str:
    host, proxy = address.target.url.host, address.target.proxy
    cure = "use https, or allow it with allow_plain_http=True"
    if proxy is not None:
        return (
            f"the proxy {proxy.url} is not on this machine: requests to {host} would travel "
            f"unencrypted; set NO_PROXY={host} to go there directly, {cure}"
        )
    return (
        f"{host} is not this machine, whatever its name says: requests would travel unencrypted; "
        f"give the address 127.0.0.1 if that is meant, {cure}"
    )
