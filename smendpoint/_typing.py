"""Types that the twins share: the type variables of endpoints, and what their constructors take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import TypeVar

    from smendpoint._core.hooks import CallHooks
    from smendpoint._core.retry import RetryPolicy
    from smendpoint._core.timing import Clock, Timeout

__all__ = ["AsyncKwargs", "Chunk", "EndpointOptions", "In", "InvokeEndpointKwargs", "Out", "StreamKwargs", "Typed"]

if TYPE_CHECKING:
    In = TypeVar("In", default=str)
    Out = TypeVar("Out", default=str)
    Chunk = TypeVar("Chunk", default=Out)
else:
    # Type checkers see the defaults; at run time `Typed` fills them in. Python itself knows them from 3.13 on, and
    # before that only with a dependency that nothing else here needs.
    from typing import TypeVar

    In = TypeVar("In")
    Out = TypeVar("Out")
    Chunk = TypeVar("Chunk")


class Typed(Generic[In, Out, Chunk]):
    """Has types for what goes in (`str` where nothing else is said), what comes out (`str`), and a stream's chunks.

    Chunks are of the type that comes out, where nothing else is said.
    """

    if not TYPE_CHECKING:

        def __class_getitem__(cls, types):
            given = types if isinstance(types, tuple) else (types,)
            out = given[1] if len(given) > 1 else str
            return super().__class_getitem__((*given, *(str, str, out)[len(given) :]))


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
    hooks: CallHooks | None
    clock: Clock | None
