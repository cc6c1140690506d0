"""What the twins' constructors and methods take by keyword, for type checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint._core.hooks import CallHooks
    from smendpoint._core.retry import RetryPolicy
    from smendpoint._core.timing import Clock, Timeout

__all__ = ["AsyncKwargs", "EndpointOptions", "InvokeEndpointKwargs", "StreamKwargs"]


class InvokeEndpointKwargs(TypedDict, total=False):
    """The request members of ``InvokeEndpoint``, for `endpoint_kwargs` of `invoke`, `send` and sessions."""

    ContentType: str
    Accept: str
    CustomAttributes: str
    TargetModel: str
    TargetVariant: str
    TargetContainerHostname: str
    InferenceId: str
    EnableExplanations: str
    InferenceComponentName: str
    SessionId: str
    PrefixAwareId: str


class StreamKwargs(TypedDict, total=False):
    """The request members of ``InvokeEndpointWithResponseStream``, for `endpoint_kwargs` of `stream`."""

    ContentType: str
    Accept: str
    CustomAttributes: str
    TargetVariant: str
    TargetContainerHostname: str
    InferenceId: str
    InferenceComponentName: str
    SessionId: str
    PrefixAwareId: str


class AsyncKwargs(TypedDict, total=False):
    """The request members of ``InvokeEndpointAsync``, for `endpoint_kwargs` of `submit`."""

    ContentType: str
    Accept: str
    CustomAttributes: str
    InferenceId: str
    InputLocation: str
    S3OutputPathExtension: str
    Filename: str
    RequestTTLSeconds: int
    InvocationTimeoutSeconds: int


class EndpointOptions(TypedDict, total=False):
    """What both constructors take beside the name and the content handler."""

    model_kwargs: Mapping[str, Any] | None
    endpoint_kwargs: InvokeEndpointKwargs | Mapping[str, object] | None
    inference_component_name: str | None
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
    client: Any
    s3_client: Any
    timeout: float | Timeout | None
    retry: RetryPolicy | None
    max_connections: int | None
    max_response_bytes: int | None
    hooks: CallHooks | None
    clock: Clock | None
