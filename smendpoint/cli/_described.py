"""The check of `doctor` that asks SageMaker's control plane about the endpoint and its inference component."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smendpoint._core.aws.response import CLOCK_SKEW_CODES
from smendpoint.cli._checks import FAILED, OK, WARNING, Finding

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    #: Asks the control plane: the operation and its arguments. Raises `Refusal` if there is no answer.
    Ask: TypeAlias = Callable[[str, dict[str, Any]], dict[str, Any]]

RENEW = "Sign in again, or renew the keys or the session token."
# The service's codes for credentials that are wrong or too old.
NOT_ACCEPTED = (
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "UnrecognizedClientException",
)


class Refusal(Exception):
    """The control plane refused the request, or could not be reached.

    Args:
        code: the service's error code; empty if it did not answer.
        message: its message.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code
        self.message = message

    @property
    def finds_nothing(self) -> bool:
        """Whether there is nothing with the requested name."""
        return self.code == "ValidationException" and "not find" in self.message


def check_endpoint(
    name: str,
    component: str | None,
    ask: Ask,
    *,
    clock_is_off: bool = False,
) -> Finding:
    """Check the endpoint's description, and that of the inference component.

    Args:
        name: the endpoint's name.
        component: the inference component to call.
        ask: asks the control plane.
        clock_is_off: whether this machine's clock is wrong. Unlike calls, these requests are signed with it, and
            refused.
    """
    try:
        found = ask("describe_endpoint", {"EndpointName": name})
    except Refusal as refusal:
        if refusal.finds_nothing:
            advice = "Check the name, the region and the account: an endpoint exists in one region of one account."
            return Finding("endpoint", FAILED, f"there is no endpoint {name}", advice)
        if clock_is_off and refusal.code in CLOCK_SKEW_CODES:
            why = f"it cannot be described while this machine's clock is wrong: {refusal}"
            return Finding("endpoint", WARNING, why, "Set the clock (NTP).")
        if refusal.code in CLOCK_SKEW_CODES:
            advice = "Check the secret access key, and that the region matches --endpoint-url."
            return Finding("endpoint", FAILED, f"the signature is not accepted: {refusal}", advice)
        if refusal.code in NOT_ACCEPTED:
            return Finding("endpoint", FAILED, f"the credentials are not accepted: {refusal}", RENEW)
        return Finding(
            "endpoint",
            WARNING,
            f"it cannot be described: {refusal}",
            "Calls do not need this permission, sagemaker:DescribeEndpoint.",
        )
    status = str(found.get("EndpointStatus"))
    variants = found.get("ProductionVariants") or ()
    text = f"{status}: {', '.join(map(_variant, variants)) or 'no variants'}"
    if status in ("Creating", "Updating", "SystemUpdating", "RollingBack"):
        serves = status != "Creating"
        advice = "It still serves calls." if serves else "Wait until it is InService; that takes some minutes."
        return Finding("endpoint", WARNING if serves else FAILED, text, advice)
    if status == "UpdateRollbackFailed":
        return Finding("endpoint", WARNING, text, "It serves calls, partly with its previous models: update it again.")
    if status != "InService":
        reason = found.get("FailureReason") or "no reason is given"
        return Finding(
            "endpoint", FAILED, f"{text}; {reason}", "Fix the cause, then update the endpoint or create it again."
        )
    finding = _with_component(name, component, text, ask)
    if finding.status == OK and variants and not any(map(_has_instances, variants)):
        advice = "It is scaled to zero: the first calls wait some minutes for an instance, if its scaling adds one."
        return finding._replace(status=WARNING, advice=advice)
    return finding


def _variant(given: dict[str, Any]) -> str:
    name = given.get("VariantName")
    if "CurrentServerlessConfig" in given:
        return f"{name}, serverless"
    count = given.get("CurrentInstanceCount", 0)
    return f"{name} with {count} instance{'' if count == 1 else 's'}"


def _has_instances(variant: dict[str, Any]) -> bool:
    return "CurrentServerlessConfig" in variant or variant.get("CurrentInstanceCount", 0) > 0


def _with_component(name: str, component: str | None, text: str, ask: Ask) -> Finding:
    """Add the inference component to the finding on an endpoint that serves."""
    if component is None:
        known = _components(name, ask)
        if not known:
            return Finding("endpoint", OK, text)
        advice = f"Name one with --component (inference_component_name): {', '.join(known)}."
        return Finding("endpoint", FAILED, f"{text}; it has inference components", advice)
    try:
        found = ask("describe_inference_component", {"InferenceComponentName": component})
    except Refusal as refusal:
        if not refusal.finds_nothing:
            why = f"{text}; the inference component {component} cannot be described: {refusal}"
            return Finding(
                "endpoint", WARNING, why, "Calls do not need this permission, sagemaker:DescribeInferenceComponent."
            )
        known = _components(name, ask)
        advice = f"It has {', '.join(known)}." if known else "It has none: leave out --component."
        if known is None:
            advice = "Check the component's name."
        return Finding("endpoint", FAILED, f"{text}; there is no inference component {component}", advice)
    owner = found.get("EndpointName")
    if owner != name:
        return Finding("endpoint", FAILED, f"{text}; {component} belongs to another endpoint", f"Call {owner}.")
    return _component(component, found, text)


def _components(name: str, ask: Ask) -> list[str] | None:
    """Name an endpoint's inference components, as many as one answer has; `None` if listing them is not allowed."""
    try:
        listed = ask("list_inference_components", {"EndpointNameEquals": name})["InferenceComponents"]
    except Refusal:
        return None
    return [str(one.get("InferenceComponentName")) for one in listed]


def _component(name: str, found: dict[str, Any], before: str) -> Finding:
    """Check the description of an inference component: its status, and the number of its copies, if it has one."""
    status = str(found.get("InferenceComponentStatus"))
    copies = found.get("RuntimeConfig") or {}
    current, wanted = copies.get("CurrentCopyCount", 0), copies.get("DesiredCopyCount")
    text = f"{before}; {name} is {status}"
    if wanted is not None:
        text += f": {current} of {wanted} {'copy' if wanted == 1 else 'copies'} in service"
    if status == "Failed":
        reason = found.get("FailureReason") or "no reason is given"
        advice = "Fix the cause, then update the component or create it again."
        return Finding("endpoint", WARNING if current else FAILED, f"{text}; {reason}", advice)
    if status == "Deleting":
        return Finding("endpoint", FAILED, text, "Call another component, or create this one again.")
    if status == "Creating":
        advice = "Wait until it is InService; that takes some minutes."
        return Finding("endpoint", FAILED, f"{text}: starting", advice)
    if wanted is None or current:
        return Finding("endpoint", OK, text)
    if wanted:
        advice = "Calls wait until a copy is in service: that may take minutes."
        return Finding("endpoint", WARNING, f"{text}: starting", advice)
    advice = "The first calls wait some minutes for a copy, if its scaling adds one."
    return Finding("endpoint", WARNING, f"{text}: scaled to zero", advice)
