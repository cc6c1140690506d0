"""The room that finds out who calls and where: region, URL, proxy, certificates, limits, credentials.

An `Identity` holds an endpoint's arguments, checked but not yet resolved. At the first call, a transport has it
resolved to a `Target`. `environment` resolves it from the arguments and the environment alone, if the result is
provably the same as botocore's; otherwise `chain` asks botocore, and `options` reads its `Config`. Later calls only ask
the target's `CredentialProvider`, which renews credentials before they expire. `url` and `machine` read the settings
that both ways need, `failures` words the errors, and `s3` makes the client for asynchronous inference.

This room may import `_core`, `_options` and `errors`, but never the transport: it reads files, but has no event loops.
It imports botocore only to ask it, because the import costs more than a call.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

from smendpoint._aws.credentials import CredentialProvider
from smendpoint._aws.identity import Identity
from smendpoint._aws.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CredentialProvider", "Identity", "Target", "resolve"]


def resolve(identity: Identity, *, now: Callable[[], float] | None = None) -> Target:
    """Find out where to call and with which settings, exactly as botocore would.

    Reads the environment and files, so it blocks; it never opens a connection, unless ``defaults_mode`` is ``auto``
    (then botocore asks the instance's metadata service where it runs). Credentials are not loaded yet, unless they
    are explicit or in the environment.

    Args:
        identity: the arguments.
        now: the time as seconds since the epoch; by default the system's clock.

    Raises:
        ConfigurationError: there is no region, or a setting is malformed, unsafe or not supported.
        CredentialsError: explicit credentials, or those in the environment, are malformed; or they were left out when
            the identity was pickled.
    """
    if identity.left_behind:
        from smendpoint._aws.failures import left_behind

        raise left_behind(identity)
    from smendpoint._aws.environment import resolve_from_environment

    clock = time if now is None else now
    target = resolve_from_environment(identity, now=clock)
    if target is None:
        from smendpoint._aws.chain import resolve_with_botocore

        target = resolve_with_botocore(identity, now=clock)
    return target
