"""`Share`: the parts that unpickled or copied endpoints of one configuration share in a process.

A framework that sends an endpoint with each of its tasks makes a copy for each. The copies share the connections, the
resolved target with its credentials, and the limits, so that two hundred copies cost a process no more than one.
"""

from __future__ import annotations

import io
import os
import pickle
from _thread import RLock
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Protocol

    from smendpoint._aws import Identity
    from smendpoint._core.call.timing import Clock

    class Sharer(Protocol):
        """The parts of a caller that it shares, and those that decide with which callers."""

        name: str
        identity: Identity
        clock: Clock
        transport: Any
        limiter: Any
        share: Any

        @property
        def limits(self) -> tuple[object, ...]:
            """The options that apply to all calls together."""
            ...


class Share:
    """The transport, the defaults and the limiter that several callers use. It lives as long as one of these callers.

    Args:
        first: the caller whose transport and limiter are shared.

    Attributes:
        closed: whether the last of its users has left.
    """

    def __init__(self, first: Sharer) -> None:
        self._users: WeakSet[Any] = WeakSet()  # those not closed and not garbage-collected
        self.transport = first.transport
        self.limiter = first.limiter
        self.closed = False

    def add(self, caller: Sharer) -> None:
        """Have a new caller use the shared parts instead of its own."""
        self._users.add(caller)
        caller.share = self
        caller.transport = self.transport
        caller.limiter = self.limiter

    def leave(self, caller: Sharer) -> Any:
        """Return a transport that can be closed without harm to the other users; for the last user, the shared one.

        The calls of `caller` in flight keep their connections.
        """
        with _lock:
            caller.share = None
            self._users.discard(caller)
            self.closed = not self._users
        return self.transport if self.closed else self.transport.detached()

    def forget(self) -> None:
        """Start afresh in the child of a fork."""
        vars(self).pop("_defaults", None)


def join(caller: Sharer) -> None:
    """Have a new caller share with the callers of its configuration, if configurations can be compared."""
    key = _key(caller)
    if key is None:
        return
    with _lock:
        share = _shares.get(key)
        if share is None or share.closed:
            share = _shares[key] = Share(caller)
        share.add(caller)


def _key(caller: Sharer) -> Hashable | None:
    """Return the content of a configuration; `None` if it holds something that cannot be compared.

    The content handler, parameters and hooks belong to each endpoint: they do not affect the shared parts. A clock has
    state, so it is compared as an object. So is an identity with secrets, which only copies have: pickled bytes do not
    tell one secret from another, and an endpoint must never call with the secrets of another.
    """
    content = io.BytesIO()
    pickler = pickle.Pickler(content, pickle.HIGHEST_PROTOCOL)
    pickler.fast = True  # the same bytes for equal strings, whether they are one object or several
    try:
        pickler.dump((caller.name, caller.identity, caller.limits))
    except Exception:  # an option's own code may raise anything
        return None
    own = None if caller.identity.travels else id(caller.identity)  # the share holds both, so each id stays in use
    return type(caller), content.getvalue(), id(caller.clock), own


_shares: WeakValueDictionary[Hashable, Share] = WeakValueDictionary()
# Reentrant: the garbage collector may run a finalizer that closes an endpoint, at any moment.
_lock = RLock()


def _after_fork_in_child() -> None:
    global _lock  # a thread of the parent may have held it
    _lock = RLock()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows does not fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
