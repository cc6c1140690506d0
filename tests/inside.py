"""What tests see of an endpoint from the inside: one place to mend when the inside moves."""

from __future__ import annotations

from typing import Any

from smendpoint._core.aws.operations import INVOKE_ENDPOINT


def transport_of(endpoint: Any) -> Any:
    """What an endpoint of either twin sends with."""
    return endpoint._caller.transport


def pool_of(endpoint: Any) -> Any:
    """The pool of a blocking endpoint's connections; `busy` is how many calls have one."""
    return transport_of(endpoint)._pool


def pools_of(endpoint: Any) -> Any:
    """The pools of an asynchronous endpoint's connections, by event loop."""
    return transport_of(endpoint)._pools


def send(endpoint: Any, cancellation: Any) -> Any:
    """Have a blocking endpoint make a call that another thread can stop."""
    request, _ = endpoint._request(INVOKE_ENDPOINT, "Hello", (), None, None, {})
    return endpoint._caller.send(request, cancellation)
