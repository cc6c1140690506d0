"""Errors in OpenAI's shape: the message and the status for a client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._container_errors import container_error

if TYPE_CHECKING:
    from smendpoint._container_errors import JSONValue

# Seconds after which a client may try again, if neither the service nor the container gave a time.
THROTTLED_SECONDS = 1
UNAVAILABLE_SECONDS = 5

_TYPES = {403: "permission_error", 429: "rate_limit_error"}
_CODES = {429: "rate_limit_exceeded", 503: "service_unavailable", 504: "timeout"}


class Failure(Exception):
    """An error for a client.

    Args:
        status: the HTTP status.
        message: the message for the client: it does not name accounts or roles.
        code: OpenAI's code of the error, or one of ours.
        param: the field of the request that is not valid.
        error: the whole error object, if a container gave one.
        headers: the headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        *,
        error: dict[str, JSONValue] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status)
        kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
        own: dict[str, JSONValue] = {
            "message": message,
            "type": kind,
            "param": param,
            "code": code or _CODES.get(status),
        }
        self.status = status
        self.error = own if error is None else {**own, **error}
        self.headers = headers or {}

    @property
    def body(self) -> bytes:
        """The answer's body."""
        return json.dumps({"error": self.error}, separators=(",", ":")).encode()


def failure_of(error: errors.SmendpointError) -> Failure:
    """Make the error that a client gets for a failed call."""
    if isinstance(error, errors.ModelError):
        return _of_container(error)
    if isinstance(error, errors.ModelOutputError):
        said = error.original_message or error.message
        shown: dict[str, JSONValue] = {"type": error.error_type, "code": error.code}
        status = error.code if isinstance(error.code, int) and error.code != 500 else 502
        return _with_status(status, said, {name: value for name, value in shown.items() if value is not None}, None)
    if isinstance(error, errors.ValidationError):
        if "not found" in error.message:
            return Failure(404, "The endpoint of this model does not exist.", "model_not_found", "model")
        return Failure(400, "The service refused the request because it is not valid.", "validation_error")
    if isinstance(error, errors.ModelStreamError) and error.error_code == "ModelInvocationTimeExceeded":
        return Failure(504, "The model did not answer in time.")
    if isinstance(error, errors.ServiceError) and error.status == 413:
        return Failure(413, "The request is larger than the service accepts.", "request_too_large")
    for kinds, status, code, message in _KNOWN:
        if isinstance(error, kinds):
            return _with_status(status, message or error.message, {"code": code}, getattr(error, "retry_after", None))
    return Failure(502, "The call to the model failed.", "upstream_error")


# The kinds of errors with status, code and message; the error's own message if there is none here. The service's
# messages may name accounts and roles, so a client gets them only if they are about its request.
_KNOWN: tuple[tuple[Any, int, str, str], ...] = (
    ((errors.ModelNotReadyError,), 503, "model_not_ready", "The model is not ready yet. Try again later."),
    ((errors.ThrottlingError,), 429, "rate_limit_exceeded", "The model has too many requests. Try again later."),
    ((errors.ServiceUnavailableError,), 503, "service_unavailable", "The model cannot be reached now. Try later."),
    ((errors.ReadTimeoutError, errors.DeadlineExceededError), 504, "timeout", "The model did not answer in time."),
    ((errors.ConnectError, errors.TLSError), 502, "upstream_unreachable", "The model cannot be reached."),
    ((errors.StreamTruncatedError,), 502, "stream_truncated", "The model's answer was cut off before its end."),
    (
        (errors.HandlerError, errors.StreamDecodeError),
        502,
        "bad_upstream_answer",
        "The model's answer cannot be read.",
    ),
    (
        (errors.AccessDeniedError, errors.CredentialsError, errors.ConfigurationError),
        500,
        "server_misconfigured",
        "The server is not set up to call this model; its log says why.",
    ),
)


def _of_container(error: errors.ModelError) -> Failure:
    """Pass on a container's own error: a status below 500 unchanged, others as the statuses of a gateway."""
    status, found = error.original_status_code, error.container_error
    shown: dict[str, JSONValue] = {}
    message = "The model's container answered with an error."
    if found is not None:
        message = found.message or message
        shown = {name: value for name, value in (("type", found.type), ("code", found.code)) if value is not None}
    try:
        whole: JSONValue = json.loads(error.original_message or "")
    except (ValueError, RecursionError):
        whole = None
    own = whole.get("error") if isinstance(whole, dict) else None
    if isinstance(own, dict) and container_error({"error": own}) is not None and "message" in own:
        shown = own
    return _with_status(502 if status in (None, 500) else status, message, shown, error.retry_after)


def _with_status(status: int, message: str, shown: dict[str, JSONValue], retry_after: float | None) -> Failure:
    if status < 400 or status >= 505:
        status = 502
    headers = {}
    if status in (429, 503):
        seconds = retry_after or (THROTTLED_SECONDS if status == 429 else UNAVAILABLE_SECONDS)
        headers["retry-after"] = str(max(1, round(seconds)))
    return Failure(status, message, error=shown, headers=headers)
