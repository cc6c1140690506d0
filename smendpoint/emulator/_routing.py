"""Inference routers and the global inference gateway: what they check and add, and their errors.

A router and a gateway have a model by their own name, like an endpoint. AWS's documentation does not give the texts of
a router's errors: those here are our own.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from smendpoint.emulator._reply import Reply, error_reply
from smendpoint.emulator._running import PREFIX

if TYPE_CHECKING:
    from smendpoint.emulator._route import ReceivedRequest, Route
    from smendpoint.emulator.models import Model, ModelRequest

MAX_ROUTED_BODY = 6_291_456
"""Bytes: the limit of a router for a request body."""

MAX_GATEWAY_BODY = 10_485_760
"""Bytes: the limit of a gateway for a request body, and for a whole answer."""

MAX_QUOTED = 256
"""Bytes of a model's error that a gateway quotes."""

_GATEWAY = "Global Inference Gateway:"
# The gateway's error for a status of the model's container: its status, else for each 4xx and for each 5xx.
_GATEWAY_ERRORS = {
    401: (403, "AccessDeniedException"),
    403: (403, "AccessDeniedException"),
    404: (404, "ResourceNotFoundException"),
    408: (504, "GatewayTimeoutException"),
    429: (429, "ThrottlingException"),
    504: (504, "GatewayTimeoutException"),
}


def refusal(model: Model | None, request: ReceivedRequest, route: Route, account: str) -> Reply | None:
    """Return the answer to a request to a router or gateway that reaches no model; ``None`` if it does."""
    return (_gateways if route.through == "gateway" else _routers)(model, request, route, account)


def _routers(model: Model | None, request: ReceivedRequest, route: Route, account: str) -> Reply | None:
    wrong = None
    if f"{PREFIX}routing-target-name" not in request.headers:
        wrong = "RoutingTargetName must be given."
    elif model is None:
        wrong = f"Inference router {route.endpoint_name} of account {account} not found."
    elif route.kind == "async" and f"{PREFIX}inputlocation" not in request.headers:
        wrong = "InputLocation must be given."
    elif route.kind == "invoke" and not request.body:
        wrong = "Body must not be empty."
    if wrong is not None:
        return error_reply(400, "ValidationException", wrong)
    if len(request.body) > MAX_ROUTED_BODY:
        return error_reply(413, "", f"Body must have at most {MAX_ROUTED_BODY} bytes.")
    return None


def _gateways(model: Model | None, request: ReceivedRequest, route: Route, account: str) -> Reply | None:
    if model is None:
        detail = {"ResourceId": route.endpoint_name, "ResourceType": "global-inference-gateway"}
        message = f"{_GATEWAY} gateway {route.endpoint_name} of account {account} not found"
        return error_reply(404, "ResourceNotFoundException", message, **detail)
    if len(request.body) > MAX_GATEWAY_BODY:
        message = f"{_GATEWAY} the request body exceeds {MAX_GATEWAY_BODY} bytes"
        return error_reply(413, "PayloadTooLargeException", message)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        return error_reply(415, "", f"{_GATEWAY} the content type must be application/json")
    if not isinstance(_object(request.body).get("model"), str):
        return error_reply(400, "ValidationException", f"{_GATEWAY} the body must be a JSON object with a model")
    return None


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def asked(request: ModelRequest, route: Route) -> ModelRequest:
    """Return the request for the model: a gateway sets ``stream`` to what the operation says."""
    if route.through != "gateway":
        return request
    body = {**_object(request.body), "stream": request.streaming}
    return replace(request, body=json.dumps(body).encode())


def answered(reply: Reply, request: ReceivedRequest, route: Route, region: str, account: str) -> Reply:
    """Return the model's reply with what a router adds to it; a gateway refuses one that is too large."""
    if route.through == "router":
        target = request.headers[f"{PREFIX}routing-target-name"]
        arn = f"arn:aws:sagemaker:{region}:{account}:endpoint/{target}"
        reply.headers.append(("X-Amzn-SageMaker-Invoked-Routed-Resource-Arn", arn))
        reply.headers.append(("X-Amzn-SageMaker-Invoked-Routing-Reason", "local-preferred"))
    elif len(reply.body) > MAX_GATEWAY_BODY:
        message = f"{_GATEWAY} the response exceeded {MAX_GATEWAY_BODY} bytes"
        return error_reply(502, "BadGatewayException", message)
    return reply


def gateway_error(status: int, original: str) -> Reply:
    """Make a gateway's error for an error of the model's container."""
    own = (400, "ValidationException") if status < 500 else (502, "BadGatewayException")
    shown, code = _GATEWAY_ERRORS.get(status, own)
    quoted = original.encode()[:MAX_QUOTED].decode("utf-8", "ignore")
    reply = error_reply(shown, code, f"inference gateway (model server): {status} {quoted}")
    if status == 429:
        reply.headers.append(("Retry-After", "1"))
    return reply
