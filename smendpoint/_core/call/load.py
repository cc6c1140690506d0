"""Find out from the error of a call how loaded its endpoint is.

=========  ========================================================================  ============================
outcome    meaning                                                                   the model
=========  ========================================================================  ============================
refused    refused because there were too many calls                                 did not run
cold       not ready: the model is being loaded, or is scaled to zero                did not run
slow       a timeout, as behind a long queue; or there was not enough memory         may have run, or still run
unsure     could be load: unavailable without a reason, or the connection was lost   may have run
failed     anything else; it says nothing about load                                 may have run
=========  ========================================================================  ============================

A sixth outcome, ``"ok"``, is that of a call that succeeded. The texts come from the sources of the service and the
containers. A pattern must match a whole message, and not only a part: an error may quote the prompt, and a prompt may
quote any error.
"""

# Without `from __future__ import annotations`, for a quick cold start: see `_core`.
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from smendpoint import errors
from smendpoint._container_errors import ContainerError, container_error, parse_container_error

Outcome: TypeAlias = Literal["ok", "refused", "cold", "slow", "unsure", "failed"]

# The longest body of a success that may be a refusal: containers send a few hundred bytes.
MAX_REFUSAL_BYTES = 4096


class Sign(NamedTuple):
    """The error of one container, and its meaning.

    Attributes:
        container: the container that sends it.
        outcome: its meaning.
        kind: the error's type or code; empty for any.
        words: the whole message, as a pattern of `fnmatch`.
        status: the container's HTTP status; `None` for any.
    """

    container: str
    outcome: Outcome
    kind: str = ""
    words: str = "*"
    status: int | None = None


# The first match decides; without one `CONTAINER_STATUSES` does. A type outranks the status: DJL's is configurable,
# TGI's chat stream sends 422 for an overload, and Triton's front end for SageMaker sends 400 for everything.
SIGNS = (
    Sign("TGI, TEI", "refused", "overloaded"),
    Sign("TGI", "refused", words="Model is overloaded"),
    Sign("DJL LMI", "refused", "WlmCapacityException"),
    Sign("DJL LMI", "cold", "WlmException", "Model is not ready*"),
    Sign("DJL LMI", "failed", "WlmShutdownException"),
    Sign("DJL LMI", "slow", "WlmOutOfMemoryException"),
    Sign("MMS", "refused", "ServiceUnavailableException", "No worker is available to serve request*"),
    Sign("TorchServe", "refused", "ServiceUnavailableException", "Model * has no worker to serve inference request*"),
    # An exception in the handler's code: these two servers report it with the status of an overload.
    Sign("MMS, TorchServe", "failed", "InternalServerException", status=503),
    Sign("MMS, TorchServe", "failed", words="Prediction failed"),
    # SGLang's stream has "Streaming response failed: [503] " before these.
    Sign("SGLang", "refused", words="*The request queue is full."),
    Sign("SGLang", "refused", words="*Request waiting timeout reached."),
    Sign("SGLang", "refused", words="*The request is aborted by a higher priority request."),
    Sign("SGLang", "slow", words="*Request running timeout reached."),
    Sign("SGLang", "slow", words="Retracted under decode memory pressure*"),
    Sign("SGLang", "slow", words="Streaming response failed: * Retracted under decode memory pressure*"),
    # Triton has "[request id: 1] " before these.
    Sign("Triton", "refused", words="*Exceeds maximum queue size"),
    Sign("Triton", "refused", words="*Request timeout expired"),
    Sign("TensorFlow Serving", "refused", words="The batch scheduling queue to which this task was submitted is full*"),
    Sign("Ray Serve", "refused", words="Request dropped due to backpressure *"),
    Sign("Sarvam", "refused", "service_overloaded"),
)

# 0 means no answer: the service waited in vain, or the container was gone.
CONTAINER_STATUSES: Mapping[int | str | None, Outcome] = {
    429: "refused",
    503: "unsure",
    **dict.fromkeys((0, 408, 502, 504, 507), "slow"),
}

# Errors of the service itself: by their class, else by their status. The class follows AWS's code, because the service
# sends a ThrottlingException as a 400. Behind a gateway's 502 or 504, the model may have run.
SERVICE_ERRORS: Mapping[type[errors.ServiceError] | int, Outcome] = {
    errors.ThrottlingError: "refused",
    errors.ModelNotReadyError: "cold",
    errors.ServiceUnavailableError: "unsure",
    502: "slow",
    504: "slow",
}

_TOO_LATE = "ModelInvocationTimeExceeded"

# The members that containers give an error, and a model's output does not consist of.
_ERROR_MEMBERS = frozenset(
    {"code", "error", "error_code", "error_type", "http_status_code", "message", "object", "param"}
    | {"retry_after", "type"}
)


def outcome_of(error: BaseException, refused: Sequence[str | int] = ()) -> Outcome:
    """Return what the error of an attempt, or of the stream that it began, means for the load of the endpoint.

    Args:
        error: any exception.
        refused: the user's own signs of a refusal, besides `SIGNS`: a `str` is a part of the error's text, type or
            code, an `int` its HTTP status.
    """
    if isinstance(error, errors.ModelError):
        status, text = _of_container(error)
        return _classify(status, parse_container_error(text) or ContainerError(None, None, text.strip()), text, refused)
    if isinstance(error, errors.ServiceError):
        return SERVICE_ERRORS.get(type(error)) or SERVICE_ERRORS.get(error.status, "failed")
    if isinstance(error, errors.ModelOutputError):
        outcome = _of_answer(error.container_error, refused)
        # Once the model has begun its answer, the call was not refused.
        return outcome if outcome == "slow" or not error.received else "failed"
    if isinstance(error, errors.ModelStreamError):
        return "slow" if error.error_code == _TOO_LATE else "failed"
    return _of_connection(error, refused) if isinstance(error, errors.TransportError) else "failed"


def refusal_in(output: object, refused: Sequence[str | int] = ()) -> ContainerError | None:
    """Return the refusal inside a success: TensorFlow Serving's container sends the errors of its server as 200.

    A success is a refusal if it is a single JSON object with only an error, and the error is a refusal: `None` for
    anything else. A stream may begin with one, because TGI and SGLang have already sent the head.

    Args:
        output: the body of a whole answer; or the first chunk of a stream, in the form of the handler: a parsed value,
            or a text or bytes with or without the ``data:`` of a server-sent event.
        refused: as in `outcome_of`.
    """
    value: Any = output
    if isinstance(output, (bytes, str)):
        body = output.encode(errors="replace") if isinstance(output, str) else output
        if len(body) > MAX_REFUSAL_BYTES or (b'"error' not in body and b'"code"' not in body):
            return None
        from json import loads

        try:
            value = loads(body.removeprefix(b"data:"))
        except (ValueError, RecursionError):
            return None
    found = container_error(value) if isinstance(value, dict) and value.keys() <= _ERROR_MEMBERS else None
    return found if found is not None and _of_answer(found, refused) == "refused" else None


def _classify(status: int | str | None, found: ContainerError, text: str, refused: Sequence[str | int]) -> Outcome:
    from fnmatch import fnmatchcase

    if any(marker == status if isinstance(marker, int) else marker in text for marker in refused):
        return "refused"
    for sign in SIGNS:
        if (
            (not sign.kind or sign.kind in (found.type, found.code))
            and sign.status in (None, status)
            and fnmatchcase(found.message, sign.words)
        ):
            return sign.outcome
    return CONTAINER_STATUSES.get(status, "failed")


def _of_answer(found: ContainerError, refused: Sequence[str | int]) -> Outcome:
    """Return what an error inside a success means. Its only possible status is the container's own code."""
    return _classify(found.code, found, f"{found.message}\n{found.type}\n{found.code}", refused)


def _of_container(error: errors.ModelError) -> tuple[int | None, str]:
    """Return the container's status and answer. If the service gave no members for them, its message has both."""
    status, text = error.original_status_code, error.original_message
    if status is None or not text:
        import re

        found = re.match(
            r'Received (?:client|server) error \((\d{1,3})\) from \S+(?: with message "(.*)"\. See )?',
            error.message,
            re.DOTALL,
        )
        if found is not None:
            status = int(found[1]) if status is None else status
            text = text or found[2]
    return status, text or ""


def _of_connection(error: errors.TransportError, refused: Sequence[str | int]) -> Outcome:
    if isinstance(error, errors.ReadTimeoutError):
        return "slow"
    if isinstance(error, errors.DeadlineExceededError):
        if isinstance(error.__cause__, errors.EndpointError):
            return outcome_of(error.__cause__, refused)  # it passed before the next attempt, after this one
        # If an answer had begun, it was too long, or it was not read. Otherwise the model had not begun one.
        return "slow" if error.request_sent and not error.received else "failed"
    # Servers and load balancers that are over their limits drop connections, but so does any restart. If a call found
    # no connection, no trust or no HTTP, the cause is the network, the settings or another program, and not the model.
    lost = error.request_sent and not error.response_started
    return "unsure" if lost and not isinstance(error, errors.ProtocolError) else "failed"
