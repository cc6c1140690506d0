"""The operation and the endpoint that a request target names."""

from __future__ import annotations

import json
import re
import urllib.parse
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

Through: TypeAlias = Literal["", "router", "gateway"]
Kind: TypeAlias = Literal["invoke", "stream", "async", "openai", "converse", "s3", "unknown"]

_ENDPOINT = re.compile(
    r"/endpoints/(?P<name>[^/]+)"
    r"(?:/inference-components/(?P<component>[^/]+)(?=/openai/))?"
    r"/(?:(?P<suffix>invocations|invocations-response-stream|async-invocations|invocations-bidirectional-stream)|openai(?P<path>/v1/.+))\Z"
)
_OPERATIONS: dict[str, tuple[Kind, str]] = {
    "invocations": ("invoke", "InvokeEndpoint"),
    "invocations-response-stream": ("stream", "InvokeEndpointWithResponseStream"),
    "async-invocations": ("async", "InvokeEndpointAsync"),
    "invocations-bidirectional-stream": ("converse", "InvokeEndpointWithBidirectionalStream"),
}


_ROUTED = re.compile(r"/(inference-routers|global-inference-gateway)/([^/]+)/([a-z-]+)\Z")
_ROUTED_OPERATIONS: dict[tuple[str, str], tuple[Kind, str, Through]] = {
    ("inference-routers", "invocations"): ("invoke", "InvokeInferenceRouter", "router"),
    ("inference-routers", "async-invocations"): ("async", "InvokeInferenceRouterAsync", "router"),
    ("global-inference-gateway", "invocations"): ("invoke", "InvokeGlobalInferenceGateway", "gateway"),
    ("global-inference-gateway", "invocations-response-stream"): (
        "stream",
        "InvokeGlobalInferenceGatewayWithResponseStream",
        "gateway",
    ),
}


class Route(NamedTuple):
    """The meaning of a request target.

    ``endpoint_name`` is the name of a router or gateway if the call goes ``through`` one.
    ``model_path`` is the path for the container; for ``s3`` the name of the object, ``s3://bucket/key``. OpenAI's own
    paths, such as ``/v1/models``, do not name an endpoint: the body's ``model`` does.
    """

    kind: Kind
    operation: str
    endpoint_name: str = ""
    component: str = ""
    model_path: str = "/invocations"
    through: Through = ""

    def with_model_of(self, body: bytes) -> Route:
        """Return the route to the endpoint that the body names, if the target names none."""
        if self.kind != "openai" or self.endpoint_name:
            return self
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return self
        name = value.get("model") if isinstance(value, dict) else None
        return self._replace(endpoint_name=name) if isinstance(name, str) else self


@dataclass(frozen=True)
class ReceivedRequest:
    """One complete request that the emulator received.

    Attributes:
        operation: the API's name of the operation; ``"OpenAI"`` for the OpenAI path, ``"S3"`` for the object store.
        endpoint_name: the endpoint, router or gateway that was called; empty if the target names none.
        headers: names in lower case; values of a repeated header joined with ``", "``.
        connection: the number of its connection, counted from 1.
        fault: the name of the fault that was played for it, ``None`` if none was.
    """

    operation: str
    endpoint_name: str
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int
    fault: str | None = None
    header_list: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]], repr=False)
    inference_component: str = ""


def route(method: str, target: str) -> Route:
    """Find the operation of a request line."""
    path = target.partition("?")[0]
    if path.startswith("/s3/"):
        return Route("s3", "S3", model_path="s3://" + urllib.parse.unquote(path[4:]))
    if path.startswith("/v1/"):
        return Route("openai", "OpenAI", model_path=path)
    routed = _ROUTED.match(path)
    if routed is not None and method == "POST" and (routed[1], routed[3]) in _ROUTED_OPERATIONS:
        kind, operation, through = _ROUTED_OPERATIONS[routed[1], routed[3]]
        return Route(kind, operation, urllib.parse.unquote(routed[2]), through=through)
    found = _ENDPOINT.match(path)
    if found is None or (method != "POST" and found["suffix"]):
        return Route("unknown", "")
    name = urllib.parse.unquote(found["name"])
    component = urllib.parse.unquote(found["component"] or "")
    if found["suffix"]:
        kind, operation = _OPERATIONS[found["suffix"]]
        return Route(kind, operation, name)
    return Route("openai", "OpenAI", name, component, found["path"])
