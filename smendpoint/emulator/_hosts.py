"""The names by which the emulator may be called.

A web page can let its own name point to 127.0.0.1 (DNS rebinding), and then a browser treats the emulator as that
page's
own server: the page may send it anything and read the answers. Only the host in such requests reveals them. So a name
that somebody can register in the public DNS is refused, unless it is explicitly allowed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable

from smendpoint.emulator._reply import Reply, error_reply
from smendpoint.errors import ConfigurationError

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%[^\]]*)?\]|[^\[\]:/\\@\s,]+)(?::[0-9]{0,5})?\Z")

# RFC 6761 reserves the first for this machine, and ICANN has set aside the second for private networks (Docker's
# ``host.docker.internal``): names under them cannot be registered.
_PRIVATE = (".localhost", ".internal")


class Hosts:
    """The hosts that requests may name.

    These are always allowed: addresses, which do not come from DNS; names without a dot, such as ``localhost`` and the
        services of Docker Compose; names under ``localhost`` and ``internal``; and no name at all.

    Args:
        allowed: further names; one that begins with a dot stands for all names that end with it, ``"*"`` for every
            name.
        own: this machine's own names.

    Raises:
        ConfigurationError: ``allowed`` is not a list of names.
    """

    def __init__(self, allowed: Iterable[str], *own: str) -> None:
        names = () if isinstance(allowed, str) else tuple(allowed)
        if isinstance(allowed, str) or not all(isinstance(name, str) and name for name in names):
            raise ConfigurationError(f"allowed_hosts must be a list of host names, not {allowed!r}")
        self._every = "*" in names
        self._names = frozenset(name.lower() for name in (*names, *own))
        self._ends = (*_PRIVATE, *(name for name in self._names if name.startswith(".")))

    def allow(self, authority: str) -> bool:
        """Return whether a request may name this host, with or without a port."""
        if self._every or not authority:
            return True
        found = _HOST.match(authority)
        if found is None:
            return False
        name = found[1].lower().removesuffix(".")
        if name.startswith("[") or name in self._names or name.endswith(self._ends):
            return True
        with contextlib.suppress(ValueError):
            ipaddress.IPv4Address(name)
            return True
        return "." not in name


def misdirected(host: str) -> Reply:
    """Make the answer to a request for another host."""
    return error_reply(
        421,
        "",
        f"This is an emulator on somebody's machine, and {host!r} is not its name. To call it by that name, allow"
        " the name: Emulator(allowed_hosts=[...]), smendpoint emulator --allow-host NAME.",
    )
