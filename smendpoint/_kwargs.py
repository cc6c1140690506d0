"""The members that `endpoint_kwargs` may hold, for type checkers."""

from __future__ import annotations

from typing import TypedDict

__all__ = ["AsyncKwargs", "ConverseKwargs", "InvokeEndpointKwargs", "StreamKwargs"]


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


class InvokeEndpointKwargs(StreamKwargs, total=False):
    """The request members of ``InvokeEndpoint``, for `endpoint_kwargs` of `invoke`, `send` and sessions."""

    TargetModel: str
    EnableExplanations: str


class ConverseKwargs(TypedDict, total=False):
    """The request members of ``InvokeEndpointWithBidirectionalStream``, for `endpoint_kwargs` of `converse`."""

    TargetVariant: str
    ModelInvocationPath: str
    ModelQueryString: str


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
