"""A whole response, and the errors made from responses.

``service_error`` turns any response into a ``ServiceError`` and never fails itself: the body may be HTML, empty, cut
off, a list, or not text at all.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from smendpoint._core.aws.operations import RECOMMENDED_MAX_BODY, SERVICE_MAX_BODY
from smendpoint.errors import (
    AccessDeniedError,
    BadGatewayError,
    GatewayTimeoutError,
    InternalDependencyError,
    InternalFailureError,
    ModelError,
    ModelNotReadyError,
    PayloadTooLargeError,
    RequestTimeoutError,
    ResourceNotFoundError,
    ServiceError,
    ServiceUnavailableError,
    ThrottlingError,
    ValidationError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

EXPIRED_TOKEN_CODES = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
"""Codes after which new credentials may help."""

CLOCK_SKEW_CODES = frozenset(
    {
        "AuthFailure",
        "InvalidSignatureException",
        "RequestExpired",
        "RequestInTheFuture",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
"""Codes that a wrong clock may cause; the response's ``Date`` shows whether it did."""

ERROR_CLASSES: Mapping[str | int, type[ServiceError]] = {
    # The errors of the service models.
    "ValidationError": ValidationError,
    "ModelError": ModelError,
    "ModelNotReadyException": ModelNotReadyError,
    "InternalFailure": InternalFailureError,
    "ServiceUnavailable": ServiceUnavailableError,
    "InternalDependencyException": InternalDependencyError,
    "BadGatewayException": BadGatewayError,
    "GatewayTimeoutException": GatewayTimeoutError,
    "PayloadTooLargeException": PayloadTooLargeError,
    "RequestTimeoutException": RequestTimeoutError,
    "ResourceNotFoundException": ResourceNotFoundError,
    # Errors of the layers before the service too, under several names.
    "ValidationException": ValidationError,
    "InternalServerError": InternalFailureError,
    "InternalServerException": InternalFailureError,
    "ServiceUnavailableException": ServiceUnavailableError,
    "BandwidthLimitExceeded": ThrottlingError,
    "EC2ThrottledException": ThrottlingError,
    "LimitExceededException": ThrottlingError,
    "PriorRequestNotComplete": ThrottlingError,
    "ProvisionedThroughputExceededException": ThrottlingError,
    "RequestLimitExceeded": ThrottlingError,
    "RequestThrottled": ThrottlingError,
    "RequestThrottledException": ThrottlingError,
    "SlowDown": ThrottlingError,
    "ThrottledException": ThrottlingError,
    "Throttling": ThrottlingError,
    "ThrottlingException": ThrottlingError,
    "TooManyRequestsException": ThrottlingError,
    "TransactionInProgressException": ThrottlingError,
    "AccessDenied": AccessDeniedError,
    "AccessDeniedException": AccessDeniedError,
    "IncompleteSignature": AccessDeniedError,
    "IncompleteSignatureException": AccessDeniedError,
    "InvalidAccessKeyId": AccessDeniedError,
    "InvalidClientTokenId": AccessDeniedError,
    "InvalidToken": AccessDeniedError,
    "MissingAuthenticationToken": AccessDeniedError,
    "MissingAuthenticationTokenException": AccessDeniedError,
    "NotAuthorized": AccessDeniedError,
    "OptInRequired": AccessDeniedError,
    "UnrecognizedClientException": AccessDeniedError,
    **dict.fromkeys(EXPIRED_TOKEN_CODES | CLOCK_SKEW_CODES, AccessDeniedError),
    400: ValidationError,
    401: AccessDeniedError,
    403: AccessDeniedError,
    404: ResourceNotFoundError,
    408: RequestTimeoutError,
    413: PayloadTooLargeError,
    424: ModelError,
    429: ThrottlingError,
    500: InternalFailureError,
    502: BadGatewayError,
    503: ServiceUnavailableError,
    504: GatewayTimeoutError,
    530: InternalDependencyError,
}
"""The class of an error, by its code, else by its status."""

# The service's words (lower case) for an inference component that is scaled to zero. It sends them as a 400
# ValidationError, and the request makes the component scale out.
_NO_CAPACITY = "no capacity to process this request"

# Known texts of the service's model errors (lower case), each with the hint that is added to its message.
_MODEL_HINTS = (
    (
        "invocation timed out",
        "The container did not answer within the service's time limit (60 seconds for one answer). Ask for less,"
        " stream the answer, or use asynchronous inference.",
    ),
    (
        "could not load the entire response body",
        "The container's answer is larger than the service delivers. Ask for less, stream the answer, or use"
        " asynchronous inference.",
    ),
)
_TOO_LARGE = (
    f"The request body is larger than the service accepts ({SERVICE_MAX_BODY:,} bytes, or {RECOMMENDED_MAX_BODY:,}"
    " through an inference router). Send less at a time, or use asynchronous inference with the input in Amazon S3."
)
_NO_MESSAGE = "The service gave no message"
# The beginning of a gateway's message (lower case) that quotes what serves the model. Its own messages begin with
# "Global Inference Gateway:".
_MODELS_GATEWAY = "inference gateway"
_REDIRECT = "The service answered with a redirect, which is never followed: check the endpoint URL."

# How nginx, Go's server and Apache answer plain HTTP on a port for TLS.
_HTTP_TO_TLS = (
    b"plain http request was sent to https port",
    b"client sent an http request to an https server",
    b"speaking plain http to an ssl-enabled server port",
)

_CODE_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_MAX_CODE = 128
_MAX_ASKED_SECONDS = 86_400.0  # a container that asks for more than a day means something else


class RawResponse:
    """A whole HTTP response.

    Args:
        status: the status code.
        headers: lower-case names; the values of one name are joined with ``", "``.
        body: the whole body.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def __repr__(self) -> str:
        return f"RawResponse(status={self.status}, body={len(self.body)} bytes)"


def _text(value: object) -> str | None:
    # JSON can express unpaired surrogates, which could not even be printed.
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def _clean_code(value: object) -> str:
    # "namespace#Name:http://more/about/it" -> "Name"
    if not isinstance(value, str):
        return ""
    code = value.partition(":")[0].rpartition("#")[2].strip()
    return code if len(code) <= _MAX_CODE and _CODE_CHARACTERS.issuperset(code) else ""


def json_object(body: bytes) -> Mapping[str, object]:
    """Return the members of a JSON object; none if the body is anything else."""
    try:
        return _mapping(json.loads(body)) if body.lstrip().startswith(b"{") else {}
    except (ValueError, RecursionError):
        return {}


def _mapping(value: object) -> Mapping[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def error_code(headers: Mapping[str, str], members: Mapping[str, object]) -> str:
    """Return AWS's name of an error, without namespace and URL; empty if there is none.

    It is in ``X-Amzn-ErrorType``, else in the body's `members`.
    """
    candidates = [headers.get("x-amzn-errortype"), members.get("code"), members.get("__type"), members.get("ErrorCode")]
    return next((code for code in map(_clean_code, candidates) if code), "")


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the service's id of the request, to quote to AWS support."""
    return headers.get("x-amzn-requestid") or headers.get("x-amz-request-id") or None


def retry_after(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """Return the seconds that the service asks to wait; ``None`` without a valid request to wait.

    ``x-amz-retry-after`` has milliseconds, ``Retry-After`` seconds or a date. A date is measured from the response's
    own ``Date``, which is from the same clock, or else from `now`, our time in seconds since the epoch.
    """
    milliseconds = whole_number(headers.get("x-amz-retry-after", "").strip())
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "").strip()
    seconds = whole_number(value)
    if seconds is not None:
        return float(seconds)
    date = http_date(value)
    asked_at = server_date(headers)
    if asked_at is None:
        asked_at = now
    return None if date is None or asked_at is None else max(date - asked_at, 0.0)


def service_error(response: RawResponse, *, now: float | None = None) -> ServiceError:
    """Make the error for a response that is not a success. `now` is as in `retry_after`."""
    headers, members = response.headers, json_object(response.body)
    message = _text(members.get("Message")) or _text(members.get("message")) or _no_message(response)
    return _error(response.status, error_code(headers, members), message, request_id(headers), headers, members, now)


def _no_message(response: RawResponse) -> str:
    """Describe a body that is not a JSON object, without showing it; empty if there is nothing to describe."""
    if response.status == 413 or 300 <= response.status < 400 or response.body.lstrip().startswith(b"{"):
        return ""
    if not response.body:
        return f"{_NO_MESSAGE}: the body is empty."
    if any(words in response.body[:4096].lower() for words in _HTTP_TO_TLS):
        return "The server speaks TLS on this port: the URL must begin with https://."
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    shown = kind if kind and kind.isascii() and kind.isprintable() and len(kind) <= 100 else "no content type"
    return f"{_NO_MESSAGE}: the body has {len(response.body)} bytes ({shown})."


def _error(
    status: int,
    code: str,
    message: str,
    identity: str | None,
    headers: Mapping[str, str],
    members: Mapping[str, object],
    now: float | None,
) -> ServiceError:
    """Make the error of the class for its code, else for its status. A missing message is replaced by a sentence."""
    kind = ERROR_CLASSES.get(code) or ERROR_CLASSES.get(status, ServiceError)
    if kind is ValidationError and _NO_CAPACITY in message.lower():
        kind = ModelNotReadyError
    if status == 413 and not (message and code == "PayloadTooLargeException"):  # a gateway names its own limit
        message = f"{message} {_TOO_LARGE}" if message else _TOO_LARGE
    elif not message:
        message = _REDIRECT if 300 <= status < 400 else f"{_NO_MESSAGE}."
    wait = retry_after(headers, now=now)
    if kind is not ModelError:
        return kind(status, code, message, identity, retry_after=wait)
    original = _text(members.get("OriginalMessage"))
    known = f"{message}\n{original or ''}".lower()
    for words, hint in _MODEL_HINTS:
        if words in known:
            message = f"{message} | Hint: {hint}"
    return ModelError(
        status,
        code,
        message,
        identity,
        original_status_code=whole_number(members.get("OriginalStatusCode")),
        original_message=original,
        log_stream_arn=_text(members.get("LogStreamArn")),
        retry_after=_asked_in_body(original) if wait is None else wait,
    )


def _asked_in_body(text: str | None) -> float | None:
    """Return the seconds that a container asks to wait, in ``retry_after``: the service drops its headers."""
    members = json_object(text.encode()) if text and '"retry_after"' in text else {}
    for asked in (members.get("retry_after"), _mapping(members.get("error")).get("retry_after")):
        if isinstance(asked, (int, float)) and not isinstance(asked, bool) and 0 <= asked <= _MAX_ASKED_SECONDS:
            return float(asked)
    return None


def no_such_endpoint(error: ServiceError) -> bool:
    """Whether the service does not know what was called: "Endpoint x of account 1 not found."."""
    said = error.message.lower()
    if error.code == "ResourceNotFoundException":
        return not said.startswith(_MODELS_GATEWAY)
    return isinstance(error, ValidationError) and "not found" in said and ("endpoint" in said or "router" in said)


def error_from_client(response: Mapping[str, object], *, now: float | None = None) -> ServiceError:
    """Make the same error from the ``response`` of a botocore ``ClientError``, which may be incomplete."""
    error, metadata = _mapping(response.get("Error")), _mapping(response.get("ResponseMetadata"))
    headers = {
        name.lower(): value
        for name, value in _mapping(metadata.get("HTTPHeaders")).items()
        if isinstance(name, str) and isinstance(value, str)  # a stub may have anything
    }
    status = whole_number(metadata.get("HTTPStatusCode")) or 0
    code = _clean_code(error.get("Code"))
    if code == str(status):
        code = ""  # botocore puts the status here if the service gave no code
    code = code or _clean_code(headers.get("x-amzn-errortype"))  # botocore ignores this header if the body is empty
    message = _text(error.get("Message")) or _text(response.get("Message")) or ""
    identity = _text(metadata.get("RequestId")) or request_id(headers)
    return _error(status, code, message, identity, headers, response, now)


def server_date(headers: Mapping[str, str]) -> float | None:
    """Return the response's ``Date`` in seconds since the epoch; ``None`` if there is no valid one."""
    return http_date(headers.get("date", ""))


def session_id(headers: Mapping[str, str]) -> tuple[str, float | None] | None:
    """Return the id of a stateful session that this response opened; ``None`` without one.

    ``X-Amzn-SageMaker-New-Session-Id`` is ``id; Expires=2026-01-31T12:00:00Z``. The second item is the expiry, in
    seconds since the epoch; ``None`` if the header has none.
    """
    value = headers.get("x-amzn-sagemaker-new-session-id", "")
    identity, _, parameter = value.partition(";")
    identity = identity.strip()
    if not identity:
        return None
    name, _, moment = parameter.strip().partition("=")
    if name.strip().lower() != "expires" or not moment.strip().endswith("Z"):
        return identity, None
    date, _, clock = moment.strip()[:-1].partition("T")
    return identity, epoch([*date.split("-"), *clock.split(":")])


# Numbers and times from headers and JSON: a value or `None`, never an exception.


def whole_number(value: object) -> int | None:
    """Make an ``int``, or the digits of one; ``None`` for everything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    # Eighteen digits are more than any status or wait needs, and far fewer than Python refuses to convert.
    if isinstance(value, str) and len(value) <= 18 and value.isascii() and value.isdigit():
        return int(value)
    return None


def http_date(value: str) -> float | None:
    """Return the epoch seconds of an HTTP date (RFC 9110 section 5.6.7, all three forms)."""
    words = value.replace("-", " ").replace(",", " ").split()
    if len(words) == 6 and words[5].upper() == "GMT":
        # Sun, 06 Nov 1994 08:49:37 GMT, and the obsolete Sunday, 06-Nov-94 08:49:37 GMT
        day, month, year, clock = words[1:5]
    elif len(words) == 5:
        # The obsolete Sun Nov  6 08:49:37 1994
        month, day, clock, year = words[1:5]
    else:
        return None
    number = _MONTHS.index(month.lower()) + 1 if month.lower() in _MONTHS else 0
    return epoch([year, str(number), day, *clock.split(":")])


def epoch(fields: list[str]) -> float | None:
    """Return the seconds since the epoch of year, month, day, hour, minute and second, in UTC."""
    numbers = [number for number in map(whole_number, fields) if number is not None]
    if len(numbers) != len(fields) or len(numbers) != 6:
        return None
    if len(fields[0]) == 2:
        # The century of a two-digit year follows RFC 6265: the service began well after 1970.
        numbers[0] += 2000 if numbers[0] < 70 else 1900
    from datetime import datetime, timezone  # only errors and stateful sessions have dates

    year, month, day, hour, minute, second = numbers
    try:
        # 60 is a leap second, which a clock that counts seconds since the epoch does not have.
        return datetime(year, month, day, hour, minute, 59 if second == 60 else second, tzinfo=timezone.utc).timestamp()
    except (ValueError, OverflowError):
        return None
