"""The requests to inference routers and to the global inference gateway.

From botocore's service models of ``sagemaker-inference-router-runtime`` (version 2026-01-01) and
``sagemaker-gateway-runtime`` (2026-10-01).
"""

# Without `from __future__ import annotations`, for a quick cold start: see `_core`.
from smendpoint._core.aws.operations import (
    INVOKE_ENDPOINT,
    INVOKE_ENDPOINT_ASYNC,
    RECOMMENDED_MAX_BODY,
    Member,
    Operation,
    Service,
)
from smendpoint.errors import ConfigurationError

ROUTER_READ_TIMEOUT = 170.0
"""Seconds: AWS's advice for clients of a router, which may try a second destination. Each gets 60 s for its model."""

GATEWAY_MAX_BODY = 10_485_760
"""Bytes: the limit of a gateway for a request body (10 MiB), from its definition in botocore."""

_PREFIX = "X-Amzn-SageMaker-"

ROUTER = Service(
    name="sagemaker-inference-router-runtime",
    host="inferencerouter-runtime.sagemaker",
    path="inference-routers",
    name_member="InferenceRouterName",
    name_word="the inference router name",
    longest_name=63,
    invoke="InvokeInferenceRouter",
    max_body=RECOMMENDED_MAX_BODY,
    refused_above=RECOMMENDED_MAX_BODY,
    read_timeout=ROUTER_READ_TIMEOUT,
)
_TARGET = Member(_PREFIX + "Routing-Target-Name", 63)
_ROUTED = ("ContentType", "Accept", "InferenceId", "PrefixAwareId", "CustomAttributes")

INVOKE_ROUTER = Operation(
    "InvokeInferenceRouter",
    "invocations",
    {"RoutingTargetName": _TARGET, **{name: INVOKE_ENDPOINT.members[name] for name in _ROUTED}},
    {
        "ContentType": "content-type",
        "InvokedRoutedResourceArn": "x-amzn-sagemaker-invoked-routed-resource-arn",
        "RoutingReason": "x-amzn-sagemaker-invoked-routing-reason",
        "InvokedProductionVariant": "x-amzn-invoked-production-variant",
        "CustomAttributes": "x-amzn-sagemaker-custom-attributes",
    },
    ROUTER,
    ("RoutingTargetName",),
)

INVOKE_ROUTER_ASYNC = Operation(
    "InvokeInferenceRouterAsync",
    "async-invocations",
    {
        "RoutingTargetName": _TARGET,
        **INVOKE_ENDPOINT_ASYNC.members,
        "Filename": Member(_PREFIX + "Filename", 64),
    },
    INVOKE_ENDPOINT_ASYNC.outputs,
    ROUTER,
    ("RoutingTargetName", "InputLocation"),
)

GATEWAY = Service(
    name="sagemaker-gateway-runtime",
    host="gateway-runtime.sagemaker",
    path="global-inference-gateway",
    name_member="GatewayId",
    name_word="the gateway ID",
    longest_name=64,
    invoke="InvokeGlobalInferenceGateway",
    max_body=GATEWAY_MAX_BODY,
    refused_above=GATEWAY_MAX_BODY,
)


class _JSONType(Member):
    """The content type of a gateway's requests, which refuses all but JSON with a 415."""

    __slots__ = ()

    def render(self, name: str, value: object) -> str:
        text = super().render(name, value)
        if text.partition(";")[0].strip().lower() != "application/json":
            raise ConfigurationError(
                f"{name} must be application/json, which is all that a gateway takes: use a content handler that sends "
                "OpenAI's JSON, such as ChatHandler"
            )
        return text


_GATEWAY_MEMBERS = {
    "ContentType": _JSONType("Content-Type", 1024),
    "Accept": Member("Accept", None),
    "CustomerIdentityToken": Member(_PREFIX + "Customer-Identity-Token", None),
}
INVOKE_GATEWAY = Operation(
    "InvokeGlobalInferenceGateway", "invocations", _GATEWAY_MEMBERS, {}, GATEWAY, ("ContentType",)
)
INVOKE_GATEWAY_STREAM = Operation(
    "InvokeGlobalInferenceGatewayWithResponseStream",
    "invocations-response-stream",
    _GATEWAY_MEMBERS,
    {},
    GATEWAY,
    ("ContentType",),
)
