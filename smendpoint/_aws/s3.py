"""Clients for other services with the credentials, region and settings of an endpoint.

Asynchronous inference needs one for Amazon S3, and ``smendpoint doctor`` one for SageMaker's control plane. A client
asks for the endpoint's own credentials at every request, so that an assumed role is also renewed for these services.
botocore decides their addresses (``AWS_ENDPOINT_URL_S3``, the profile, FIPS, dual stack).
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from smendpoint._aws.failures import configuration_error
from smendpoint._aws.options import FOR_OTHER_CLIENTS, merge_config, options_given
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from typing import TypeAlias

    from smendpoint._aws.identity import Identity
    from smendpoint._aws.target import Target
    from smendpoint._core.call.timing import Timeout

    #: Runs blocking work in a thread.
    InThread: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]

__all__ = ["async_s3_client", "blocking_client", "blocking_s3_client"]

# The options of a Config that also apply to S3.
_FOR_S3 = (
    *FOR_OTHER_CLIENTS,
    "max_pool_connections",
    "request_checksum_calculation",
    "response_checksum_validation",
    "retries",
    "s3",
    "tcp_keepalive",
)
# The data that aiobotocore would read in the event loop, which would block, when the first client is made.
_DATA = ("_retry", "endpoints", "partitions", "sdk-default-configuration")


def blocking_s3_client(identity: Identity, target: Target, timeout: Timeout) -> Any:
    """Make a botocore client for S3; see `blocking_client`."""
    return blocking_client("s3", identity, target, timeout)


def blocking_client(
    service: str,
    identity: Identity,
    target: Target,
    timeout: Timeout,
    *,
    endpoint_url: str | None = None,
    retries: dict[str, Any] | None = None,
) -> Any:
    """Make a botocore client for another service. Reads files.

    Args:
        service: botocore's name for it.
        identity: the identity of the endpoint.
        target: the resolved identity, for its region and credentials.
        timeout: the limits for connecting and for silence, unless the identity's ``Config`` has others.
        endpoint_url: the URL of the service, instead of the one that botocore finds.
        retries: as in a ``Config``; by default the identity's.

    Raises:
        ConfigurationError: botocore refuses a setting.
    """
    from botocore.config import Config
    from botocore.credentials import Credentials, ReadOnlyCredentials
    from botocore.session import Session

    provider = target.credentials

    class OfEndpoint(Credentials):  # type: ignore[misc]  # botocore has no types
        def get_frozen_credentials(self) -> Any:
            now = provider.current() or provider.load()
            return ReadOnlyCredentials(now.access_key, now.secret_key, now.token)

    class Resolver:
        def load_credentials(self) -> Any:
            return OfEndpoint("", "", method="smendpoint")

    session, settings = _configured(Session, identity, timeout)
    if retries is not None:
        settings["retries"] = retries
    session.register_component("credential_provider", Resolver())
    try:
        return session.create_client(
            service, region_name=target.region, endpoint_url=endpoint_url, config=Config(**settings)
        )
    except Exception as error:
        failure = configuration_error(error)
    raise failure  # outside of the handler: the original may quote a password, and must not be the context


@asynccontextmanager
async def async_s3_client(
    identity: Identity, target: Target, timeout: Timeout, in_thread: InThread
) -> AsyncGenerator[Any, None]:
    """Make an aiobotocore client, which is closed at the end of the block.

    Args:
        identity, target, timeout: as for `blocking_s3_client`.
        in_thread: reads files, and fetches credentials, without blocking the event loop.

    Raises:
        ConfigurationError: aiobotocore is not installed, or refuses a setting.
    """
    session, config = await in_thread(lambda: _open_session(identity, target, timeout, in_thread))
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(
                session.create_client("s3", region_name=target.region, config=config)
            )
        except Exception as error:
            failure = configuration_error(error)
        else:
            yield client
            return
        raise failure


def _open_session(identity: Identity, target: Target, timeout: Timeout, in_thread: InThread) -> tuple[Any, Any]:
    """Make an aiobotocore session and its client's configuration; read now all files that it would read later."""
    try:
        # An extra: it need not be installed where pyright looks.
        from aiobotocore.config import AioConfig  # pyright: ignore[reportMissingImports]
        from aiobotocore.credentials import AioCredentials  # pyright: ignore[reportMissingImports]
        from aiobotocore.session import AioSession  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigurationError(
            "AsyncEndpoint reaches Amazon S3 with aiobotocore: pip install 'smendpoint[aiobotocore]', or s3_client="
        ) from error
    from botocore.credentials import ReadOnlyCredentials

    provider = target.credentials

    class OfEndpoint(AioCredentials):  # type: ignore[misc]  # aiobotocore has no types
        async def get_frozen_credentials(self) -> Any:
            now = provider.current() or await in_thread(provider.load)
            return ReadOnlyCredentials(now.access_key, now.secret_key, now.token)

    class Resolver:
        async def load_credentials(self) -> Any:
            return OfEndpoint("", "", method="smendpoint")

    session, settings = _configured(AioSession, identity, timeout)
    session.register_component("credential_provider", Resolver())
    loader = session.get_component("data_loader")
    for name in _DATA:
        loader.load_data(name)
    for kind in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model("s3", kind)
    return session, AioConfig(**settings)


def _configured(session_class: Any, identity: Identity, timeout: Timeout) -> tuple[Any, dict[str, Any]]:
    """Make a session of the identity's profile; return the options of its client's ``Config`` as well."""
    given = identity.botocore_session
    session = session_class(profile=identity.credentials_profile_name if given is None else given.profile)
    options = options_given(merge_config(identity.config, given), _FOR_S3)
    return session, {"connect_timeout": timeout.connect, "read_timeout": timeout.read, **options}
