"""The names by which the emulator may be called.

A web page can let its own name lead to 127.0.0.1 (DNS rebinding), and then a browser takes the emulator for that page's
own server: the page may send it anything and read the answers. Only the host that they name tells such requests apart.
So a name that somebody can register in the public DNS is refused, unless it is one of those that are allowed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable

from smendpoint.errors import ConfigurationError

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%[^\]]*)?\]|[^\[\]:/\\@\s,]+)(?::[0-9]{0,5})?\Z")

# RFC 6761 keeps the first for this machine, and ICANN has set aside the second for private networks (Docker's
# ``host.docker.internal``): nobody can register a name under them.
_PRIVATE = (".localhost", ".internal")


class Hosts:
    """The hosts that requests may name.

    These are always allowed: addresses, which no DNS leads to; names without a dot, such as ``localhost`` and those of
    the services of Docker Compose; names under ``localhost`` and ``internal``; and no name at all.

    Args:
        allowed: further names; one that begins with a dot stands for all names that end with it, ``"*"`` for every
            name.
        own: names that this machine has anyway.

    Raises:
        ConfigurationError: ``allowed`` is not a list of names.
    """

    def __init__(self, allowed: Iterable[str], *own: str) -> None:
        names = () if isinstance(allowed, str) else tuple(allowed)
        if isinstance(allowed, str) or not all(isinstance(name, str) and name for name in names):
            raise ConfigurationError(f"allowed_hosts must be a list of host names; {allowed!r} is not")
        self._every = "*" in names
        self._names = frozenset(name.lower() for name in (*names, *own))
        self._ends = (*_PRIVATE, *(name for name in self._names if name.startswith(".")))

    def allow(self, authority: str) -> bool:
        """Whether a request may name this host, with or without a port."""
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
