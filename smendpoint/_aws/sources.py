"""Where botocore's credentials come from, one fetch at a time."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any

from smendpoint._aws.failures import credentials_error, no_credentials
from smendpoint._core.sigv4 import Credentials
from smendpoint.errors import CredentialsError, SmendpointError

if TYPE_CHECKING:
    from collections.abc import Callable

    from smendpoint._aws.chain import Chain

__all__ = ["ChainSource", "RoleSource"]

# Credentials of a kind that is not known may change at any time: they are asked for again after a minute.
_LEASE_SECONDS = 60.0


class ChainSource:
    """Fetches what botocore's chain gives, be it from a file, SSO, a process, a container or an instance."""

    __slots__ = ("_chain", "_now", "_session", "origin")

    def __init__(self, chain: Chain, session: Any, now: Callable[[], float]) -> None:
        self.origin = "botocore's chain"
        self._chain = chain
        self._session = session
        self._now = now

    def __call__(self, anew: bool) -> tuple[Credentials, float | None]:
        failure: SmendpointError
        try:
            return self._get(anew)
        except SmendpointError as error:
            failure = error
        except Exception as error:
            failure = credentials_error("AWS credentials could not be loaded", error)
        self._session = None  # next time everything is read anew: the reason may be gone
        raise failure

    def _get(self, anew: bool) -> tuple[Credentials, float | None]:
        from botocore.credentials import Credentials as Plain
        from botocore.credentials import RefreshableCredentials as Refreshable

        identity = self._chain.identity
        session = self._session
        if session is None or (anew and identity.session is None):
            session = self._session = self._chain.reopen()
        found = session.get_credentials()
        if found is None:
            raise CredentialsError(no_credentials())
        self.origin = self._place(found, session)
        refreshable = isinstance(found, Refreshable)
        if refreshable and anew and identity.session is not None:
            _refresh_now(found)
        frozen = found.get_frozen_credentials()
        credentials = Credentials(frozen.access_key, frozen.secret_key, frozen.token)
        if refreshable:
            expiry = getattr(found, "_expiry_time", None)
            return credentials, None if expiry is None else expiry.timestamp()
        return credentials, None if type(found) is Plain else self._now() + _LEASE_SECONDS

    def _place(self, found: Any, session: Any) -> str:
        """Where botocore found them, in its own word for it."""
        method = getattr(found, "method", None)
        word = f" ({method})" if isinstance(method, str) else ""
        if self._chain.identity.session is not None:
            return f"the session{word}"
        known = {"env": "the environment (AWS_ACCESS_KEY_ID)", "iam-role": "this machine's role"}
        known["container-role"] = "this container's role"
        return known.get(str(method)) or f"the profile {session.profile or 'default'}{word}"


def _refresh_now(found: Any) -> None:
    """Have a given session's credentials fetched again, which botocore itself does only near their end."""
    refresh = getattr(found, "_protected_refresh", None)
    lock = getattr(found, "_refresh_lock", None)
    if refresh is not None and lock is not None:
        with lock:
            refresh(is_mandatory=True)


class RoleSource:
    """Assumes a role, over and over, with the credentials that the other arguments give."""

    __slots__ = ("_chain", "_session")

    def __init__(self, chain: Chain, session: Any) -> None:
        self._chain = chain
        self._session = session

    def __call__(self, anew: bool) -> tuple[Credentials, float | None]:
        failure: SmendpointError
        try:
            return self._assume()
        except SmendpointError as error:
            failure = error
        except Exception as error:
            failure = credentials_error(f"the role {self._chain.identity.role_arn} could not be assumed", error)
        self._session = None  # next time everything is read anew: the reason may be gone
        raise failure

    def _assume(self) -> tuple[Credentials, float | None]:
        identity = self._chain.identity
        if self._session is None:
            self._session = self._chain.reopen()
        request = {
            "RoleArn": identity.role_arn,
            "RoleSessionName": identity.role_session_name or f"smendpoint-{int(time())}",
        }
        if identity.external_id is not None:
            request["ExternalId"] = identity.external_id
        # A client of its own each time: this happens once an hour, and a connection would not stay open for that long.
        client = self._chain.sts_client(self._session)
        try:
            got = client.assume_role(**request)["Credentials"]
        finally:
            client.close()
        credentials = Credentials(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"])
        return credentials, got["Expiration"].timestamp()
