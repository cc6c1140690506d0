"""The options of an endpoint. A new option is declared here, and nowhere else.

An option has three lines: one in `CallOptions`, or in a class below it, which type checkers read (or, if it says who
calls and where, in `IdentityOptions` and `IdentityFields`), one in the signature of the constructor, and one in its
docstring. Routers and gateways have the options of an endpoint that make sense for them: `completed` adds the defaults.
`tests/test_options.py` checks that they agree, and that each option does what it says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smendpoint._typing import Chunk, In, Out, Typed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypedDict

    from smendpoint._core.call.hooks import CallHooks
    from smendpoint._core.call.limit import AdaptiveConcurrency
    from smendpoint._core.call.retry import RetryPolicy
    from smendpoint._core.call.timing import Clock, Timeout
    from smendpoint._kwargs import InvokeEndpointKwargs

    class IdentityOptions(TypedDict, total=False):
        """The options that say who calls and where, for callables that pass them on."""

        region_name: str | None
        credentials_profile_name: str | None
        aws_access_key_id: str | None
        aws_secret_access_key: str | None
        aws_session_token: str | None
        role_arn: str | None
        role_session_name: str | None
        external_id: str | None
        session: Any
        endpoint_url: str | None
        config: Any
        allow_plain_http: bool
        allow_link_local: bool

    class CallOptions(IdentityOptions, total=False):
        """The options of all calls, except the name and the content handler."""

        model_kwargs: Mapping[str, Any] | None
        endpoint_kwargs: InvokeEndpointKwargs | Mapping[str, object] | None
        client: Any
        timeout: float | Timeout | None
        retry: RetryPolicy | None
        concurrency: AdaptiveConcurrency | int | None
        max_connections: int | None
        max_response_bytes: int | None
        hooks: CallHooks | Sequence[CallHooks] | None
        clock: Clock | None

    class RouterOptions(CallOptions, total=False):
        """Those of an inference router, except its name, its target and the content handler."""

        s3_client: Any

    class EndpointOptions(RouterOptions, total=False):
        """Those of an endpoint, except its name and the content handler."""

        inference_component_name: str | None

    class GatewayOptions(CallOptions, total=False):
        """Those of a gateway, except its ID and the content handler."""

        customer_identity_token: str | None


MAX_RESPONSE_BYTES = 104_857_600
"""The default limit of a whole answer, in bytes: four times the most that the service delivers."""


class IdentityFields:
    """The options that say who calls and where, with their defaults."""

    region_name: str | None = None
    credentials_profile_name: str | None = None
    aws_access_key_id: str | None = None
    aws_secret_access_key: str | None = None
    aws_session_token: str | None = None
    role_arn: str | None = None
    role_session_name: str | None = None
    external_id: str | None = None
    session: Any = None
    endpoint_url: str | None = None
    config: Any = None
    allow_plain_http: bool = False
    allow_link_local: bool = False


class EndpointArguments(Typed[In, Out, Chunk]):
    """The constructor of `Endpoint` and `AsyncEndpoint`; their overloads add the content handler's types."""

    if TYPE_CHECKING:

        def _construct(self, options: dict[str, Any]) -> None: ...

    def __init__(
        self,
        endpoint_name: str,
        *,
        content_handler: Any = None,
        model_kwargs: Mapping[str, Any] | None = None,
        endpoint_kwargs: InvokeEndpointKwargs | Mapping[str, object] | None = None,
        inference_component_name: str | None = None,
        region_name: str | None = None,
        credentials_profile_name: str | None = None,
        aws_access_key_id: str | None = None,
        aws_secret_access_key: str | None = None,
        aws_session_token: str | None = None,
        role_arn: str | None = None,
        role_session_name: str | None = None,
        external_id: str | None = None,
        session: Any = None,
        endpoint_url: str | None = None,
        config: Any = None,
        allow_plain_http: bool = False,
        allow_link_local: bool = False,
        client: Any = None,
        s3_client: Any = None,
        timeout: float | Timeout | None = None,
        retry: RetryPolicy | None = None,
        concurrency: AdaptiveConcurrency | int | None = None,
        max_connections: int | None = None,
        max_response_bytes: int | None = MAX_RESPONSE_BYTES,
        hooks: CallHooks | Sequence[CallHooks] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Make an endpoint.

        Args:
            endpoint_name: the endpoint's name, 1 to 63 letters, digits and hyphens.
            content_handler: makes requests from inputs and outputs from answers; by default `TextGenerationHandler`.
            model_kwargs: parameters for the model, sent with every call; a call's own take precedence.
            endpoint_kwargs: request members for every call in the AWS spelling, such as ``{"TargetVariant": "blue"}``.
            inference_component_name: the inference component to call, where the endpoint has several.
            region_name: the AWS region; by default what botocore finds.
            credentials_profile_name: a profile of the AWS config files.
            aws_access_key_id: the access key of explicit credentials; needs ``aws_secret_access_key``.
            aws_secret_access_key: the secret key of explicit credentials; needs ``aws_access_key_id``.
            aws_session_token: the session token of explicit temporary credentials.
            role_arn: a role to assume; its credentials are renewed before they expire.
            role_session_name: the name of the role's session in logs.
            external_id: the external id that the role's trust policy requires.
            session: a botocore or boto3 session that supplies credentials and settings.
            endpoint_url: the URL to call instead of the region's own.
            config: a botocore ``Config``; each of its settings takes effect or raises, and none is ignored.
            allow_plain_http: whether calls may leave this machine unencrypted.
            allow_link_local: whether calls may go to link-local and metadata addresses.
            client: a ``sagemaker-runtime`` client, from boto3 or botocore for `Endpoint`, from aiobotocore for
                `AsyncEndpoint`: every call goes through it, with its own retries and timeouts.
            s3_client: an ``s3`` client from the same library, for asynchronous inference; by default one with the
                settings of the endpoint.
            timeout: the limit in seconds for connecting and for silence, or a `Timeout`.
            retry: when to try again; see `RetryPolicy`.
            concurrency: how many calls may be in flight at once, from all threads and tasks. `AdaptiveConcurrency`
                finds out how many the endpoint can take; a number is a fixed maximum; `None` does not limit single
                calls. A stream counts until it ends. A call that the endpoint refuses because of load waits for its
                turn, and that does not count as an attempt.
            max_connections: how many connections may be open at once; `None` for no limit.
            max_response_bytes: the maximum size of a whole answer in bytes; `None` for no limit. By default
                104,857,600, four times the most that the service delivers. Streams are not limited.
            hooks: one object or several that are notified of the steps of each call; see `CallHooks`.
            clock: the source of time, waiting and random numbers; for tests.

        Raises:
            ConfigurationError: an argument is not valid.
        """
        try:
            self._construct(locals())
        except BaseException:  # so that a traceback with variables shows no secret
            del aws_secret_access_key, aws_session_token, external_id, endpoint_kwargs, endpoint_url, config
            raise


# Python's message about an unknown argument shows this name, and users know the class that they called.
EndpointArguments.__init__.__qualname__ = "Endpoint"

_DEFAULTS: dict[str, Any] = vars(EndpointArguments)["__init__"].__kwdefaults__
IDENTITY_OPTIONS: tuple[str, ...] = tuple(IdentityFields.__annotations__)
ENDPOINT_OPTIONS: tuple[str, ...] = tuple(_DEFAULTS)


def completed(given: Mapping[str, Any], called: str, without: Sequence[str]) -> dict[str, Any]:
    """Add the defaults of an endpoint's options to those that were given to another constructor.

    Args:
        given: the given options.
        called: the class that was called, for the message.
        without: the options of an endpoint that the class does not have.

    Raises:
        TypeError: there is no such option.
    """
    for name in given:
        if name in without or name not in _DEFAULTS:
            raise TypeError(f"{called}() got an unexpected keyword argument {name!r}")
    return {**_DEFAULTS, **given}
