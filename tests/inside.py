"""The private parts of an endpoint that tests need: one place to change when they move."""

from __future__ import annotations

import select
from typing import Any

from smendpoint._calls import share as _share
from smendpoint._core.aws.operations import INVOKE_ENDPOINT


def transport_of(endpoint: Any) -> Any:
    """The transport of an endpoint of either twin."""
    return endpoint._caller.transport


def pool_of(endpoint: Any) -> Any:
    """The pool of a blocking endpoint's connections; `busy` is how many calls have one."""
    return transport_of(endpoint)._pool


def pools_of(endpoint: Any) -> Any:
    """The pools of an asynchronous endpoint's connections, by event loop."""
    return transport_of(endpoint)._pools


def idle_connections(endpoint: Any) -> list[Any]:
    """The open connections of an endpoint of either twin that no call uses."""
    transport = transport_of(endpoint)
    pools = transport._pools.values() if hasattr(transport, "_pools") else [transport._pool]
    return [connection for pool in pools for connection in pool._idle]


def in_use(endpoint: Any) -> int:
    """How many places in the pools of an endpoint of either twin are taken by calls, or waited for."""
    transport = transport_of(endpoint)
    if hasattr(transport, "_pools"):
        return sum(pool._places + len(pool._busy) + len(pool._waiting) for pool in transport._pools.values())
    pool = transport._pool
    assert {connection.place.ref for connection in pool._idle} <= pool._places
    return int(pool.busy) + len(pool._waiting)


def forget(endpoint: Any) -> None:
    """Have an endpoint of either twin start afresh, as in a forked child."""
    endpoint._caller.forget()


def has_arrived(connection: Any, seconds: float) -> bool:
    """Whether something arrives at a connection in that time and is not read, or the connection is closed."""
    sock = socket_of(connection)
    return sock.fileno() < 0 or bool(select.select([sock], [], [], seconds)[0])


def socket_of(connection: Any) -> Any:
    """The socket under a connection of either twin."""
    return getattr(connection, "_socket", None) or connection._transport.get_extra_info("socket")


def source_of(stream: Any) -> Any:
    """The transport's source of an open stream of either twin."""
    return stream._source


def send(endpoint: Any, cancellation: Any) -> Any:
    """Have a blocking endpoint make a call that another thread can stop."""
    request, _ = endpoint._request(INVOKE_ENDPOINT, "Hello", (), None, None, {})
    return endpoint._caller.send(request, cancellation)


def share_lock() -> Any:
    """The lock of what unpickled endpoints share."""
    return _share._lock


def start_shares_afresh() -> None:
    """Do what a forked child does for what unpickled endpoints share."""
    _share._after_fork_in_child()


def waits_for_its_socket(conversation: Any) -> bool:
    """Whether the socket of an open conversation of either twin takes no more of what is to be sent."""
    line = conversation._line
    if hasattr(line, "_writable"):
        return not line._writable
    with line._lock:  # which is held while it sends
        return bool(line._outgoing)
