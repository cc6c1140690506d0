"""Resolving through botocore: its credential chain, its configuration, its rules for endpoints.

botocore is asked through its public interface only, as far as it goes: a client that is never called says where it
would send a request (in a presigned URL, which needs no connection), and its session gives the credentials.
"""

from __future__ import annotations

import os
from _thread import allocate_lock
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from smendpoint._aws.credentials import CredentialProvider
from smendpoint._aws.failures import configuration_error, no_region
from smendpoint._aws.machine import ca_bundle, proxy_for, user_agent
from smendpoint._aws.options import read_config
from smendpoint._aws.sources import ChainSource, RoleSource
from smendpoint._aws.target import Target
from smendpoint._aws.url import parse_endpoint_url
from smendpoint._core.operations import validate_region
from smendpoint.errors import ConfigurationError, SmendpointError

if TYPE_CHECKING:
    from collections.abc import Callable

    from smendpoint._aws.identity import Identity
    from smendpoint._aws.options import Settings

__all__ = ["Chain", "resolve_with_botocore"]

_SERVICE = "sagemaker-runtime"
_SUFFIX = "/endpoints/x/invocations"
# botocore's own default, in seconds: who did not choose it gets ours.
_BOTOCORE_TIMEOUT = 60
# The parts of a Config that hold for the calls to STS too. The rest is about this service's endpoint.
_FOR_STS = (
    "connect_timeout",
    "ignore_configured_endpoint_urls",
    "proxies",
    "proxies_config",
    "read_timeout",
    "use_dualstack_endpoint",
    "use_fips_endpoint",
    "user_agent_appid",
    "user_agent_extra",
)

# A session that the caller shares between endpoints; botocore's sessions are not made for several threads at once.
_lock = allocate_lock()


def _renew_lock() -> None:
    global _lock
    _lock = allocate_lock()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows, where it is missing, has no fork
    os.register_at_fork(after_in_child=_renew_lock)


class _Answer(NamedTuple):
    """What botocore says about one identity."""

    session: Any
    config: Any  # the client's, complete
    endpoint_url: str
    request_url: str
    ca_bundle: str | None


def resolve_with_botocore(identity: Identity, *, now: Callable[[], float]) -> Target:
    """Resolve an identity as botocore does.

    Raises:
        ConfigurationError: there is no region, or a setting is malformed, unsafe or not supported.
        CredentialsError: explicit credentials are malformed.
    """
    chain = Chain(identity)
    try:
        answer = chain.ask()
    except SmendpointError:
        raise
    except Exception as error:
        failure = configuration_error(error)
    else:
        return _target(chain, answer, now)
    raise failure  # here, where the original is not its context: it may quote a line of a credentials file


def _target(chain: Chain, answer: _Answer, now: Callable[[], float]) -> Target:
    identity, settings = chain.identity, chain.settings
    url, _, query = answer.request_url.partition("?")
    flags = {"allow_plain_http": identity.allow_plain_http, "allow_link_local": identity.allow_link_local}
    parse_endpoint_url(answer.endpoint_url, source="the endpoint URL", **flags)
    place = parse_endpoint_url(url.removesuffix(_SUFFIX), source="the endpoint URL", **flags)
    limits, theirs = settings.limits, answer.config
    if limits.connect_timeout is None and theirs.connect_timeout != _BOTOCORE_TIMEOUT:
        limits = limits._replace(connect_timeout=theirs.connect_timeout)  # what a defaults_mode says
    return Target(
        url=place,
        region=_signing_region(query),
        region_source=chain.region_source,
        credentials=chain.provider(answer.session, now),
        user_agent=user_agent(settings, theirs.user_agent_appid, answer.session.user_agent_extra),
        proxy=proxy_for(place, settings.proxies),
        ca_bundle=ca_bundle(answer.ca_bundle),
        client_cert=settings.client_cert,
        limits=limits._replace(max_attempts=(theirs.retries or {}).get("total_max_attempts")),
    )


class Chain:
    """One identity's view of botocore."""

    __slots__ = ("_config", "_region", "identity", "region_source", "settings")

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.region_source = ""
        self._region = ""
        self._config: Any = None
        self.settings: Settings = read_config(None)

    def ask(self) -> _Answer:
        """Ask botocore where requests go. Raises what botocore raises."""
        with _lock if self.identity.session is not None else nullcontext():
            session = self.open()
            client = self.client(session)
        return _Answer(
            session=session,
            config=client.meta.config,
            endpoint_url=client.meta.endpoint_url,
            request_url=client.generate_presigned_url("invoke_endpoint", Params={"EndpointName": "x", "Body": b""}),
            ca_bundle=session.get_config_variable("ca_bundle"),
        )

    def open(self) -> Any:
        """Give the botocore session: the given one, or a new one."""
        identity = self.identity
        if identity.session is not None:
            session = getattr(identity.session, "_session", identity.session)  # a boto3 session wraps botocore's
            if type(session).__module__.partition(".")[0] in ("aiobotocore", "aioboto3"):
                raise ConfigurationError(
                    "session must be a botocore or boto3 session; for aiobotocore's, make its client and pass client="
                )
        else:
            from botocore.session import Session

            session = Session(profile=identity.credentials_profile_name)
        self._read_config(session)
        return session

    def _read_config(self, session: Any) -> None:
        config, default = self.identity.config, session.get_default_client_config()
        if config is not None and default is not None:
            config = default.merge(config)
        elif config is None:
            config = default
        self.settings = read_config(config)
        if config is not None and config.retries:
            # Making a client rewrites this mapping, which is the caller's.
            config = config.merge(type(config)(retries=dict(config.retries)))
        self._config = config

    def client(self, session: Any) -> Any:
        """Make a client that will never be called. Its credentials are a dummy, so that none are looked for yet."""
        identity = self.identity
        region = identity.region_name or getattr(self._config, "region_name", None)
        self.region_source = "region_name" if identity.region_name else "config: region_name"
        if not region:
            region = session.get_config_variable("region")
            self.region_source = _region_source(session, region)
        if not region:
            raise ConfigurationError(no_region())
        self._region = region = validate_region(region)
        return session.create_client(
            _SERVICE,
            region_name=region,
            endpoint_url=identity.endpoint_url,
            config=self._config,
            aws_access_key_id="unused",
            aws_secret_access_key="unused",
        )

    def provider(self, session: Any, now: Callable[[], float]) -> CredentialProvider:
        """Make what gives the credentials."""
        identity = self.identity
        explicit = identity.credentials
        if identity.role_arn is not None:
            return CredentialProvider(RoleSource(self, session), now=now, origin=f"the role {identity.role_arn}")
        if explicit is not None:
            given = explicit
            return CredentialProvider(lambda anew: (given, None), now=now, initial=given, origin="aws_access_key_id")
        return CredentialProvider(ChainSource(self, session, now), now=now)

    def reopen(self) -> Any:
        """Make a new session, which reads every file and variable anew; a given session is kept."""
        session = self.open()
        if self.identity.session is None:
            self.client(session)  # the chain uses the region of a session's first client for its own calls
        return session

    def sts_client(self, session: Any) -> Any:
        """Make the client that assumes the role."""
        from botocore.config import Config

        identity = self.identity
        provided = getattr(self._config, "_user_provided_options", {})
        config = Config(**{name: provided[name] for name in _FOR_STS if name in provided})
        return session.create_client(
            "sts",
            region_name=self._region,
            config=config,
            **identity.keys,
        )


def _region_source(session: Any, region: object) -> str:
    """What gave a session its region, in the order in which botocore asks."""
    if session.instance_variables().get("region"):
        return "the session"
    if os.environ.get("AWS_DEFAULT_REGION") == region:
        return "AWS_DEFAULT_REGION"
    return f"the profile {session.profile or 'default'} of the AWS config file"


def _signing_region(query: str) -> str:
    """The region in the scope of a presigned URL: ``X-Amz-Credential=unused%2F<date>%2F<region>%2Fsagemaker%2F...``."""
    for parameter in query.split("&"):
        name, _, value = parameter.partition("=")
        scope = value.split("%2F")
        if name == "X-Amz-Credential" and len(scope) == 5 and scope[3:] == ["sagemaker", "aws4_request"]:
            return validate_region(scope[2])
    raise ConfigurationError(
        "botocore would not sign requests to SageMaker with AWS Signature Version 4 here: look for signature_version "
        "in the AWS config file, and at the session's hooks; or pass client="
    )
