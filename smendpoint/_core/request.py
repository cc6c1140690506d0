"""The requests of the SageMaker runtime: which members each operation has, and how they are checked and rendered.

The tables repeat botocore's service model of ``sagemaker-runtime`` (version 2017-05-13) as data; a test compares them
with the model that is installed.
"""

# Without `from __future__ import annotations`, for the NamedTuple: see `_aws/url.py`.
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from smendpoint._core.request_rules import (
    COMPONENT,
    DIGITS,
    EXTENSION,
    FILE,
    FREE_TEXT,
    ID,
    LABEL,
    LOCATION,
    NAME,
    NAME_FORM,
    NEW_SESSION,
    NUMBER,
    SESSION,
    TEXT,
    Member,
    alnum_ends,
    plain,
)
from smendpoint.errors import ConfigurationError

__all__ = [
    "INVOKE_ENDPOINT",
    "INVOKE_ENDPOINT_ASYNC",
    "INVOKE_ENDPOINT_STREAM",
    "MAX_ASYNC_BODY",
    "OPERATIONS",
    "RECOMMENDED_MAX_BODY",
    "Member",
    "Operation",
    "RequestHead",
    "check_async_body",
    "request_head",
    "validate_endpoint_name",
    "validate_region",
]

RECOMMENDED_MAX_BODY = 6_291_456
"""Bytes: the limit of the service's API model for a body (6 MiB), from its definition in botocore. The service
itself takes more, see ``SERVICE_MAX_BODY``: a larger body is sent, with a warning."""

MAX_ASYNC_BODY = 128_000
"""Bytes: the limit of InvokeEndpointAsync for a body that is sent along; larger inputs go through Amazon S3."""


class Operation:
    """One operation of the service.

    Attributes:
        name: AWS's name of the operation.
        path_suffix: the last segment of its path.
        members: the request members by AWS name, but ``EndpointName`` and ``Body``.
        outputs: the response members that travel as headers, by AWS name, to their lower-case header names.
        errors: the names of the errors that the service model lists for it.
        max_body: bytes, the model's limit for ``Body``.
    """

    __slots__ = ("errors", "max_body", "members", "name", "outputs", "path_suffix")

    def __init__(
        self,
        *,
        name: str,
        path_suffix: str,
        members: Mapping[str, Member],
        outputs: Mapping[str, str],
        errors: frozenset[str],
        max_body: int,
    ) -> None:
        self.name = name
        self.path_suffix = path_suffix
        self.members = members
        self.outputs = outputs
        self.errors = errors
        self.max_body = max_body


class RequestHead(NamedTuple):
    """The part of a request that its members decide: no ``Host``, length or signature yet."""

    path: str
    headers: tuple[tuple[str, str], ...]


_PREFIX = "X-Amzn-SageMaker-"
_CUSTOM_ATTRIBUTES = Member(_PREFIX + "Custom-Attributes", TEXT, 0, 1024)
_TARGET_VARIANT = Member(_PREFIX + "Target-Variant", NAME, 0, 63)
_TARGET_CONTAINER = Member(_PREFIX + "Target-Container-Hostname", NAME, 0, 63)
_INFERENCE_ID = Member(_PREFIX + "Inference-Id", ID, 1, 64)
_INFERENCE_COMPONENT = Member(_PREFIX + "Inference-Component", COMPONENT, 0, 63)
_PREFIX_AWARE_ID = Member(_PREFIX + "Prefix-Aware-Id", ID, 1, 64)
_CONTENT_TYPE = Member("Content-Type", TEXT, 0, 1024)
_AMZN_ACCEPT = Member(_PREFIX + "Accept", TEXT, 0, 1024)
_VARIANT_OUTPUT = "x-amzn-invoked-production-variant"
_CUSTOM_ATTRIBUTES_OUTPUT = "x-amzn-sagemaker-custom-attributes"
_COMMON_ERRORS = frozenset({"InternalFailure", "ServiceUnavailable", "ValidationError"})

INVOKE_ENDPOINT = Operation(
    name="InvokeEndpoint",
    path_suffix="invocations",
    members=MappingProxyType(
        {
            "ContentType": _CONTENT_TYPE,
            "Accept": Member("Accept", TEXT, 0, 1024),
            "CustomAttributes": _CUSTOM_ATTRIBUTES,
            "TargetModel": Member(_PREFIX + "Target-Model", ID, 1, 1024),
            "TargetVariant": _TARGET_VARIANT,
            "TargetContainerHostname": _TARGET_CONTAINER,
            "InferenceId": _INFERENCE_ID,
            "EnableExplanations": Member(_PREFIX + "Enable-Explanations", FREE_TEXT, 1, 64),
            "InferenceComponentName": _INFERENCE_COMPONENT,
            "SessionId": Member(_PREFIX + "Session-Id", NEW_SESSION, 0, 256),
            "PrefixAwareId": _PREFIX_AWARE_ID,
        }
    ),
    outputs=MappingProxyType(
        {
            "ContentType": "content-type",
            "InvokedProductionVariant": _VARIANT_OUTPUT,
            "CustomAttributes": _CUSTOM_ATTRIBUTES_OUTPUT,
            "NewSessionId": "x-amzn-sagemaker-new-session-id",
            "ClosedSessionId": "x-amzn-sagemaker-closed-session-id",
        }
    ),
    errors=_COMMON_ERRORS | {"ModelError", "InternalDependencyException", "ModelNotReadyException"},
    max_body=RECOMMENDED_MAX_BODY,
)

INVOKE_ENDPOINT_STREAM = Operation(
    name="InvokeEndpointWithResponseStream",
    path_suffix="invocations-response-stream",
    members=MappingProxyType(
        {
            "ContentType": _CONTENT_TYPE,
            "Accept": _AMZN_ACCEPT,
            "CustomAttributes": _CUSTOM_ATTRIBUTES,
            "TargetVariant": _TARGET_VARIANT,
            "TargetContainerHostname": _TARGET_CONTAINER,
            "InferenceId": _INFERENCE_ID,
            "InferenceComponentName": _INFERENCE_COMPONENT,
            "SessionId": Member(_PREFIX + "Session-Id", SESSION, 0, 256),
            "PrefixAwareId": _PREFIX_AWARE_ID,
        }
    ),
    outputs=MappingProxyType(
        {
            "ContentType": "x-amzn-sagemaker-content-type",
            "InvokedProductionVariant": _VARIANT_OUTPUT,
            "CustomAttributes": _CUSTOM_ATTRIBUTES_OUTPUT,
        }
    ),
    errors=_COMMON_ERRORS | {"ModelError", "ModelStreamError", "InternalStreamFailure"},
    max_body=RECOMMENDED_MAX_BODY,
)

INVOKE_ENDPOINT_ASYNC = Operation(
    name="InvokeEndpointAsync",
    path_suffix="async-invocations",
    members=MappingProxyType(
        {
            "ContentType": Member(_PREFIX + "Content-Type", TEXT, 0, 1024),
            "Accept": _AMZN_ACCEPT,
            "CustomAttributes": _CUSTOM_ATTRIBUTES,
            "InferenceId": _INFERENCE_ID,
            "InputLocation": Member(_PREFIX + "InputLocation", LOCATION, 1, 1024),
            "S3OutputPathExtension": Member(_PREFIX + "S3OutputPathExtension", EXTENSION, 1, 512),
            "Filename": Member(_PREFIX + "Filename", FILE, 1, 32),
            "RequestTTLSeconds": Member(_PREFIX + "RequestTTLSeconds", NUMBER, 60, 21_600, number=True),
            "InvocationTimeoutSeconds": Member(_PREFIX + "InvocationTimeoutSeconds", NUMBER, 1, 3_600, number=True),
        }
    ),
    # InferenceId, its one other output, comes in the JSON body.
    outputs=MappingProxyType(
        {
            "OutputLocation": "x-amzn-sagemaker-outputlocation",
            "FailureLocation": "x-amzn-sagemaker-failurelocation",
        }
    ),
    errors=_COMMON_ERRORS,
    max_body=MAX_ASYNC_BODY,
)

OPERATIONS = (INVOKE_ENDPOINT, INVOKE_ENDPOINT_STREAM, INVOKE_ENDPOINT_ASYNC)


def _shown(value: str) -> str:
    return ascii(value if len(value) <= 80 else value[:80] + "...")


def validate_endpoint_name(name: object) -> str:
    """Check an endpoint's name: 1 to 63 letters, digits and hyphens.

    Args:
        name: what the caller gave.

    Returns:
        The name.

    Raises:
        ConfigurationError: it is no such name, and could change the path of the request.
    """
    if not isinstance(name, str):
        raise ConfigurationError(f"the endpoint name must be a str, not {type(name).__name__}")
    if not 1 <= len(name) <= 63 or not LABEL.issuperset(name) or not alnum_ends(name):
        hint = ""
        if name.startswith(("arn:", "http:", "https:")):
            hint = ": give the name alone, not an ARN or a URL"
        raise ConfigurationError(f"the endpoint name must be 1 to 63 {NAME_FORM}, not {_shown(name)}{hint}")
    return plain(name)


def validate_region(region: object) -> str:
    """Check a region's name, which becomes part of a host name: 1 to 63 letters, digits and hyphens.

    Args:
        region: what the caller gave.

    Returns:
        The region.

    Raises:
        ConfigurationError: it is no host label, and could change the host that is called.
    """
    if not isinstance(region, str):
        raise ConfigurationError(f"the region must be a str, not {type(region).__name__}")
    label = 1 <= len(region) <= 63 and LABEL.issuperset(region) and alnum_ends(region)
    if not label or DIGITS.issuperset(region):
        raise ConfigurationError(
            f"the region must be a name such as 'us-east-1' ({NAME_FORM}, not digits alone), not {_shown(region)}"
        )
    return plain(region)


def _unknown_member(operation: Operation, name: object) -> ConfigurationError:
    known = ", ".join(operation.members)
    if name == "EndpointName":
        return ConfigurationError("EndpointName is not a further member: it is the endpoint's own name")
    if name == "Body":
        return ConfigurationError("Body is not a further member: the content handler makes it")
    shown = _shown(name) if isinstance(name, str) else f"a key of type {type(name).__name__}"
    elsewhere = [other.name for other in OPERATIONS if name in other.members]
    where = f" ({' and '.join(elsewhere)} has it)" if elsewhere else ""
    return ConfigurationError(f"{operation.name} has no member {shown}{where}; it has {known}")


def request_head(operation: Operation, endpoint_name: str, members: Mapping[str, object]) -> RequestHead:
    """Check every member of a request and render its path and headers.

    Args:
        operation: which operation.
        endpoint_name: the endpoint.
        members: the other members by AWS name, without ``Body``.

    Returns:
        The path and the headers, in the order of ``members``.

    Raises:
        ConfigurationError: a name or a value does not fit.
    """
    path = f"/endpoints/{validate_endpoint_name(endpoint_name)}/{operation.path_suffix}"
    headers: list[tuple[str, str]] = []
    for name, value in members.items():
        member = operation.members.get(name)
        if member is None:
            raise _unknown_member(operation, name)
        headers.append((member.header, member.render(name, value)))
    return RequestHead(path, tuple(headers))


def check_async_body(body: bytes | None, members: Mapping[str, object]) -> None:
    """Check that InvokeEndpointAsync has exactly one input: a small body, or ``InputLocation``.

    Args:
        body: what is to be sent along; ``None`` or empty where the input lies in Amazon S3.
        members: the other members by AWS name.

    Raises:
        ConfigurationError: there are two inputs or none, or the body is larger than ``MAX_ASYNC_BODY``.
    """
    located = "InputLocation" in members
    if body and located:
        raise ConfigurationError("InvokeEndpointAsync takes a body or InputLocation, not both")
    if body is None and not located:
        raise ConfigurationError("InvokeEndpointAsync needs a body or InputLocation")
    if body is not None and len(body) > MAX_ASYNC_BODY:
        raise ConfigurationError(
            f"InvokeEndpointAsync takes at most {MAX_ASYNC_BODY} bytes along with the call, not {len(body)}:"
            " upload the input to Amazon S3 and give its InputLocation"
        )
