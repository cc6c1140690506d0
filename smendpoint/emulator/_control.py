"""The part of the control plane that describes endpoints.

It has ``DescribeEndpoint``, ``ListInferenceComponents`` and ``DescribeInferenceComponent``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, TypeAlias

from smendpoint.emulator._reply import Reply
from smendpoint.emulator._route import ReceivedRequest

Description: TypeAlias = "Mapping[str, Any] | None"
"""Members of ``DescribeEndpoint``'s answer, which replace those of an endpoint in service; ``None`` if the caller is
not allowed to call it."""

TARGET = "x-amz-target"
_TYPE = "application/x-amz-json-1.1"
_PREFIX = "SageMaker."
# The list has fewer facts about a component than its description.
_DESCRIBED_ALONE = ("FailureReason", "RuntimeConfig", "Specification")


def is_control(request: ReceivedRequest) -> bool:
    """Return whether a request is for the control plane."""
    return request.method == "POST" and request.target == "/" and TARGET in request.headers


class Control:
    """Answers for the endpoints of one emulator.

    Attributes:
        descriptions: the descriptions by endpoint name.
        components: the inference components by endpoint name: members of the description of each.
    """

    def __init__(self, region: str, account: str) -> None:
        self._arn = f"arn:aws:sagemaker:{region}:{account}"
        self.descriptions: MutableMapping[str, Description] = {}
        self.components: MutableMapping[str, Sequence[Mapping[str, Any]]] = {}

    def clear(self) -> None:
        """Forget all descriptions."""
        self.descriptions.clear()
        self.components.clear()

    def in_service(self, name: str) -> bool:
        """Return whether calls to an endpoint are answered: for others, the service says that there is none."""
        description = self.descriptions.get(name) or {}
        return description.get("EndpointStatus") not in ("Creating", "Deleting", "Failed", "OutOfService")

    def answer(self, request: ReceivedRequest, has_model: Callable[[str], bool]) -> Reply:
        """Answer a request. An endpoint with a model is known."""
        operation = request.headers[TARGET].removeprefix(_PREFIX)
        if operation == "DescribeInferenceComponent":
            return self._describe_component(_asked(request.body, "InferenceComponentName"))
        name = _asked(request.body, "EndpointName") or _asked(request.body, "EndpointNameEquals")
        described = self.descriptions.get(name, {} if has_model(name) else ...)
        if described is None:
            return _not_allowed(operation)
        if operation == "DescribeEndpoint":
            if described is ...:
                return _failure("ValidationException", f'Could not find endpoint "{self._arn}:endpoint/{name}".')
            return _reply(200, {**self._in_service(name), **described})
        if operation == "ListInferenceComponents":
            listed = [self._component(name, one) for one in self.components.get(name, ())]
            for one in listed:
                for member in _DESCRIBED_ALONE:
                    one.pop(member, None)
            return _reply(200, {"InferenceComponents": listed})
        return _failure("UnknownOperationException", f"The emulator does not have {operation}.")

    def _describe_component(self, name: str) -> Reply:
        for endpoint, components in self.components.items():
            for one in components:
                described = self._component(endpoint, one)
                if described["InferenceComponentName"] == name:
                    if self.descriptions.get(endpoint, ...) is None:
                        return _not_allowed("DescribeInferenceComponent")
                    return _reply(200, described)
        message = f'Could not find inference component "{self._arn}:inference-component/{name}".'
        return _failure("ValidationException", message)

    def _in_service(self, name: str) -> dict[str, Any]:
        counts = {"CurrentInstanceCount": 1, "DesiredInstanceCount": 1, "CurrentWeight": 1.0, "DesiredWeight": 1.0}
        return {
            "EndpointName": name,
            "EndpointArn": f"{self._arn}:endpoint/{name.lower()}",
            "EndpointConfigName": f"{name}-config",
            "ProductionVariants": [{"VariantName": "AllTraffic", **counts}],
            "EndpointStatus": "InService",
            "CreationTime": 1.0,
            "LastModifiedTime": 1.0,
        }

    def _component(self, endpoint: str, given: Mapping[str, Any]) -> dict[str, Any]:
        name = given.get("InferenceComponentName", "component")
        return {
            "InferenceComponentName": name,
            "InferenceComponentArn": f"{self._arn}:inference-component/{name}",
            "EndpointName": endpoint,
            "EndpointArn": f"{self._arn}:endpoint/{endpoint.lower()}",
            "VariantName": "AllTraffic",
            "InferenceComponentStatus": "InService",
            "RuntimeConfig": {"DesiredCopyCount": 1, "CurrentCopyCount": 1},
            "CreationTime": 1.0,
            "LastModifiedTime": 1.0,
            **given,
        }


def _asked(body: bytes, member: str) -> str:
    """Return the name in a request; empty if it has none."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    name = value.get(member) if isinstance(value, dict) else None
    return name if isinstance(name, str) else ""


def refused(refusal: Reply) -> Reply:
    """Convert a refusal of the runtime to the form of the control plane."""
    said: Any = json.loads(refusal.body)
    return _failure(dict(refusal.headers)["x-amzn-ErrorType"], said["Message"])


def _not_allowed(operation: str) -> Reply:
    return _failure("AccessDeniedException", f"User is not authorized to perform: sagemaker:{operation}")


def _failure(code: str, message: str) -> Reply:
    return _reply(400, {"__type": code, "message": message})


def _reply(status: int, value: object) -> Reply:
    return Reply(status, [("Content-Type", _TYPE)], json.dumps(value).encode())
