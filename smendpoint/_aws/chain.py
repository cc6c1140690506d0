"""Resolving through botocore: its credential chain, its configuration, its rules for endpoints.

This uses botocore's public interface as far as possible: a client that is never called shows where it would send a
request (in a presigned URL, which needs no connection), and its session has the credentials.
"""

from __future__ import annotations

import os
from _thread import allocate_lock
from contextlib import nullcontext
from time import time
from typing import TYPE_CHECKING, Any

from smendpoint._aws.credentials import CredentialProvider
from smendpoint._aws.failures import configuration_error, credentials_error, no_credentials, no_region, unknown_service
from smendpoint._aws.machine import ca_bundle, proxy_for, user_agent
from smendpoint._aws.options import FOR_OTHER_CLIENTS, merge_config, options_given, read_config
from smendpoint._aws.target import Target
from smendpoint._core.aws.operations import validate_region
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint.errors import ConfigurationError, CredentialsError, SmendpointError

if TYPE_CHECKING:
    from collections.abc import Callable

    from smendpoint._aws.identity import Identity
    from smendpoint._core.aws.operations import Service

__all__ = ["Chain", "resolve_with_botocore"]

# botocore's own default, in seconds. A configuration that does not set it gets our default.
_BOTOCORE_TIMEOUT = 60
# Credentials of an unknown kind may change at any time: after a minute the session is asked for new ones.
_LEASE_SECONDS = 60.0

# Endpoints may share a user's session; botocore's sessions are not thread-safe.
_lock = allocate_lock()


def _renew_lock() -> None:
    global _lock
    _lock = allocate_lock()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows, where it is missing, has no fork
    os.register_at_fork(after_in_child=_renew_lock)


def resolve_with_botocore(identity: Identity, *, now: Callable[[], float]) -> Target:
    """Resolve an identity as botocore does. Raises as `smendpoint._aws.resolve` does."""
    try:
        return Chain(identity, now).resolve()
    except SmendpointError:
        raise
    except Exception as error:
        failure = configuration_error(error)
    raise failure  # outside of the handler: the original may quote a credentials file, and must not be the context


class Chain:
    """One identity's view of botocore. Calling it fetches credentials, for a `CredentialProvider`.

    Attributes:
        origin: the source of the last credentials, for messages.
        account: the account that botocore learned with them: from the role's ARN, or from the container or sign-in that
            gave them. `None` for keys of a file or of the environment, where the account may be wrong.
    """

    __slots__ = ("_config", "_identity", "_now", "_region", "_region_source", "_session", "account", "origin")

    def __init__(self, identity: Identity, now: Callable[[], float]) -> None:
        self._identity = identity
        self._now = now
        self._config: Any = None
        self._region = self._region_source = ""
        self._session: Any = None
        self.account: str | None = None
        self.origin = "botocore's chain" if identity.role_arn is None else f"the role {identity.role_arn}"

    def resolve(self) -> Target:
        """Ask botocore where requests go. Raise botocore's errors and ours."""
        identity = self._identity
        with _lock if identity.session is not None else nullcontext():
            session = self._session = self._open_session()
            settings = read_config(self._config)
            client = self._make_client(session)
        config = client.meta.config
        called, _, query = _presigned(client, identity.service).partition("?")
        identity.parse_url(client.meta.endpoint_url, "the endpoint URL")
        url = identity.parse_url(called.removesuffix(f"/{identity.service.path}/x/invocations"), "the endpoint URL")
        limits = settings.limits._replace(max_attempts=(config.retries or {}).get("total_max_attempts"))
        if limits.connect_timeout is None and config.connect_timeout != _BOTOCORE_TIMEOUT:
            limits = limits._replace(connect_timeout=config.connect_timeout)  # from a defaults_mode
        explicit = identity.credentials
        if explicit is not None and identity.role_arn is None:
            provider = CredentialProvider.of_explicit(explicit, self._now)
        else:
            provider = CredentialProvider(self, now=self._now)
        return Target(
            url=url,
            region=_signing_region(query),
            region_source=self._region_source,
            credentials=provider,
            user_agent=user_agent(
                config.user_agent_appid,
                session.user_agent_extra,
                whole=settings.user_agent,
                extra=settings.user_agent_extra,
            ),
            proxy=proxy_for(url, settings.proxies),
            ca_bundle=ca_bundle(session.get_config_variable("ca_bundle")),
            client_cert=settings.client_cert,
            limits=limits,
        )

    def _open_session(self) -> Any:
        """Return the given botocore session, or a new one, and read the configuration."""
        session = self._identity.botocore_session
        if session is not None:
            if type(session).__module__.partition(".")[0] in ("aiobotocore", "aioboto3"):
                raise ConfigurationError(
                    "session must be a botocore or boto3 session; with aiobotocore, make a client and pass client="
                )
        else:
            from botocore.session import Session

            session = Session(profile=self._identity.credentials_profile_name)
        self._config = merge_config(self._identity.config, session)
        return session

    def _make_client(self, session: Any) -> Any:
        """Make a client that is never called. Its dummy credentials keep botocore from looking for real ones."""
        from botocore.exceptions import UnknownServiceError

        identity = self._identity
        region = identity.region_name or getattr(self._config, "region_name", None)
        self._region_source = "region_name" if identity.region_name else "config: region_name"
        if not region:
            region = session.get_config_variable("region")
            self._region_source = _region_source(session, region)
        if not region:
            raise ConfigurationError(no_region())
        self._region = validate_region(region, self._region_source)
        config = self._config
        if config is not None and config.retries:
            # Making a client rewrites this mapping, which belongs to the caller.
            config = config.merge(type(config)(retries=dict(config.retries)))
        try:
            return session.create_client(
                identity.service.name,
                region_name=self._region,
                endpoint_url=identity.endpoint_url,
                config=config,
                aws_access_key_id="unused",
                aws_secret_access_key="unused",
            )
        except UnknownServiceError as error:
            raise ConfigurationError(unknown_service(identity.service)) from error

    def __call__(self, anew: bool) -> tuple[Credentials, float | None]:
        """Fetch credentials, as a `Fetch`."""
        role = self._identity.role_arn
        try:
            return self._find(anew) if role is None else self._assume_role()
        except SmendpointError as error:
            failure = error
        except Exception as error:
            wanted = "AWS credentials could not be loaded" if role is None else f"the role {role} could not be assumed"
            failure = credentials_error(wanted, error)
        self._session = None  # the next fetch reads everything again: the cause may be gone
        raise failure

    def _reopen(self) -> Any:
        """Make a new session, which reads every file and variable again; a given session is kept."""
        session = self._session = self._open_session()
        if self._identity.session is None:
            self._make_client(session)  # the chain uses the region of a session's first client for its own calls
        return session

    def _find(self, anew: bool) -> tuple[Credentials, float | None]:
        """Ask botocore's chain: a file, SSO, a process, a container or an instance."""
        from botocore.credentials import Credentials as Plain
        from botocore.credentials import RefreshableCredentials as Refreshable

        given = self._identity.session is not None
        session = self._session
        if session is None or (anew and not given):
            session = self._reopen()
        found = session.get_credentials()
        if found is None:
            raise CredentialsError(no_credentials())
        self.origin = _credentials_source(found, session, given=given)
        refreshable = isinstance(found, Refreshable)
        if refreshable and anew and given:
            _refresh_now(found)
        frozen = found.get_frozen_credentials()
        credentials = Credentials(frozen.access_key, frozen.secret_key, frozen.token)
        if refreshable:
            self.account = getattr(frozen, "account_id", None)  # older versions of botocore have none
            expiry = getattr(found, "_expiry_time", None)
            return credentials, None if expiry is None else expiry.timestamp()
        return credentials, None if type(found) is Plain else self._now() + _LEASE_SECONDS

    def _assume_role(self) -> tuple[Credentials, float | None]:
        """Assume the role with the credentials from the other arguments."""
        identity = self._identity
        request = {
            "RoleArn": identity.role_arn,
            "RoleSessionName": identity.role_session_name or f"smendpoint-{int(time())}",
        }
        if identity.external_id is not None:
            request["ExternalId"] = identity.external_id
        # Each fetch makes a client: fetches are an hour apart, and no connection stays open for that long.
        client = self.sts_client(self._session or self._reopen())
        try:
            got = client.assume_role(**request)["Credentials"]
        finally:
            client.close()
        credentials = Credentials(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"])
        return credentials, got["Expiration"].timestamp()

    def sts_client(self, session: Any) -> Any:
        """Make the client that assumes the role."""
        from botocore.config import Config

        config = Config(**options_given(self._config, FOR_OTHER_CLIENTS))
        return session.create_client("sts", region_name=self._region, config=config, **self._identity.keys)


def _presigned(client: Any, service: Service) -> str:
    """Return the URL, with a signature in its query, that the client would call."""
    from botocore import xform_name

    required = client.meta.service_model.operation_model(service.invoke).input_shape.required_members
    members = {**dict.fromkeys(required, "x"), service.name_member: "x", "Body": b""}
    signed: str = client.generate_presigned_url(xform_name(service.invoke), Params=members)
    return signed


def _region_source(session: Any, region: object) -> str:
    """Name the setting that gave a session its region, in botocore's order."""
    if session.instance_variables().get("region"):
        return "the session"
    if os.environ.get("AWS_DEFAULT_REGION") == region:
        return "AWS_DEFAULT_REGION"
    return f"the profile {session.profile or 'default'} of the AWS config file"


def _signing_region(query: str) -> str:
    """Read the region from a presigned URL: ``X-Amz-Credential=unused%2F<date>%2F<region>%2Fsagemaker%2F...``."""
    for parameter in query.split("&"):
        name, _, value = parameter.partition("=")
        scope = value.split("%2F")
        if name == "X-Amz-Credential" and len(scope) == 5 and scope[3:] == ["sagemaker", "aws4_request"]:
            return validate_region(scope[2])
    raise ConfigurationError(
        "botocore would not sign requests to SageMaker with AWS Signature Version 4 here: look for signature_version "
        "in the AWS config file, and at the session's hooks; or pass client="
    )


def _credentials_source(found: Any, session: Any, *, given: bool) -> str:
    """Name the place where botocore found credentials."""
    method = getattr(found, "method", None)
    word = f" ({method})" if isinstance(method, str) else ""
    if given:
        return f"the session{word}"
    known = {
        "env": "the environment (AWS_ACCESS_KEY_ID)",
        "iam-role": "this machine's role",
        "container-role": "this container's role",
    }
    return known.get(str(method)) or f"the profile {session.profile or 'default'}{word}"


def _refresh_now(found: Any) -> None:
    """Make a given session fetch its credentials again; botocore itself does so only shortly before they expire."""
    refresh = getattr(found, "_protected_refresh", None)
    lock = getattr(found, "_refresh_lock", None)
    if refresh is not None and lock is not None:
        with lock:
            refresh(is_mandatory=True)
