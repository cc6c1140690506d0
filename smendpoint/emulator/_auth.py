"""Checks signatures like AWS, and makes AWS's answers to wrong ones.

botocore computes the signature that a request should have. So the emulator checks the signer of this package without
sharing code with it.
"""

from __future__ import annotations

import base64
import calendar
import hashlib
import re
import time
import urllib.parse
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

# The only class that is shared with the core: programs make it for `Emulator`.
from smendpoint._core.aws.sigv4 import Credentials as Credentials
from smendpoint.emulator._reply import Reply, error_reply
from smendpoint.emulator._route import ReceivedRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_SKEW = 300.0
"""How far the client's clock may be off, in seconds: what AWS allows."""

BEARER_PREFIX = "sagemaker-api-key-"
BEARER_HOST = "sagemaker.amazonaws.com"

MAX_LIFETIME = 43_200
"""How long a bearer token may be valid, in seconds."""

BIDIRECTIONAL = "InvokeEndpointWithBidirectionalStream"
STREAMED_EVENTS = "STREAMING-AWS4-HMAC-SHA256-EVENTS"

_ALGORITHM = "AWS4-HMAC-SHA256"
_SERVICE = "sagemaker"
_ENCODED_QUERY = re.compile(r"[A-Za-z0-9._~%&=-]*\Z")


class Authorization(NamedTuple):
    """The parts of an ``Authorization`` header of Signature Version 4."""

    access_key: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str


def parse_authorization(value: str) -> Authorization | None:
    """Parse an ``Authorization`` header; ``None`` if it is not one of Signature Version 4."""
    algorithm, _, rest = value.strip().partition(" ")
    items = rest.split(",")
    fields = {name: content for name, _, content in (item.strip().partition("=") for item in items)}
    scope = fields.get("Credential", "").rsplit("/", 4)
    signed, signature = fields.get("SignedHeaders", ""), fields.get("Signature", "")
    # Three parts and nothing else: two Authorization headers, joined, are not one.
    if algorithm != _ALGORITHM or len(items) != 3 or not signed or not signature:
        return None
    if len(scope) != 5 or scope[4] != "aws4_request":
        return None
    return Authorization(scope[0], scope[1], scope[2], scope[3], tuple(signed.split(";")), signature)


def load_botocore() -> None:
    """Import botocore's signer now, so that the first request does not wait for it."""
    import_module("botocore.auth")


def _signature(
    method: str,
    url: str,
    headers: Iterable[tuple[str, str]],
    body: bytes,
    stamp: str,
    credentials: Credentials,
    region: str,
) -> str:
    """Compute the signature that a request of this moment should have; every header is signed."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    request = AWSRequest(method, url, data=body)
    for name, value in headers:
        request.headers.add_header(name, value)
    request.context["timestamp"] = stamp
    auth = SigV4Auth(credentials, _SERVICE, region)
    return str(auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request))


def _is_genuine(request: ReceivedRequest, given: Authorization, credentials: Credentials, region: str) -> bool:
    headers = request.headers
    stamp, body_hash = headers.get("x-amz-date", ""), hashlib.sha256(request.body).hexdigest()
    # The events of a bidirectional stream have signatures of their own.
    expected = STREAMED_EVENTS if request.operation == BIDIRECTIONAL else body_hash
    if (given.region, given.service, given.date, len(stamp)) != (region, _SERVICE, stamp[:8], 16):
        return False
    if headers.get("x-amz-content-sha256", body_hash) != expected:  # botocore uses this header as the hash
        return False
    required = {"host", *(name for name in headers if name.startswith("x-amz-"))}
    if not required <= set(given.signed_headers) <= headers.keys():
        return False
    signed = [(name, value) for name, value in request.header_list if name in given.signed_headers]
    url = f"http://emulator{request.target}"
    return given.signature == _signature(request.method, url, signed, request.body, stamp, credentials, region)


def _is_presigned(query: str, fields: dict[str, str], credentials: Credentials, region: str) -> bool:
    """Return whether the query string has its signature, made only over ``Host``."""
    stamp = fields.get("X-Amz-Date", "")
    wanted = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key}/{stamp[:8]}/{region}/{_SERVICE}/aws4_request",
        "X-Amz-SignedHeaders": "host",
        "X-Amz-Security-Token": credentials.token or "",
    }
    pairs = query.split("&")
    if not _ENCODED_QUERY.match(query) or len(fields) != len(pairs):
        return False
    if any(fields.get(name, "") != urllib.parse.quote(value, safe="") for name, value in wanted.items()):
        return False
    rest = "&".join([pair for pair in pairs if not pair.startswith("X-Amz-Signature=")])
    url, headers = f"https://{BEARER_HOST}/?{rest}", [("host", BEARER_HOST)]
    return fields.get("X-Amz-Signature") == _signature("POST", url, headers, b"", stamp, credentials, region)


def _stamp(value: str) -> float | None:
    try:
        return float(calendar.timegm(time.strptime(value, "%Y%m%dT%H%M%SZ")))
    except ValueError:
        return None


def check_clock(request: ReceivedRequest, now: float) -> Reply | None:
    """Refuse a signature that was made too long before or after the time ``now``, like AWS."""
    stamp = request.headers.get("x-amz-date", "")
    signed_at = _stamp(stamp)
    if signed_at is None or abs(signed_at - now) <= MAX_SKEW:
        return None
    word, edge = ("earlier", now - MAX_SKEW) if signed_at < now else ("later", now + MAX_SKEW)
    limit = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(edge))
    kind = "expired" if signed_at < now else "not yet current"
    return error_reply(403, "InvalidSignatureException", f"Signature {kind}: {stamp} is now {word} than {limit}")


def check_signature(request: ReceivedRequest, credentials: Credentials, region: str, now: float) -> Reply | None:
    """Return the refusal of a request that is not signed by ``credentials``; ``None`` if it is."""
    given = parse_authorization(request.headers.get("authorization", ""))
    if given is None:
        return error_reply(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    token = request.headers.get("x-amz-security-token")
    if given.access_key != credentials.access_key or token != credentials.token:
        return error_reply(403, "UnrecognizedClientException", "The security token included in the request is invalid.")
    refusal = check_clock(request, now)
    if refusal is None and not _is_genuine(request, given, credentials, region):
        return error_reply(
            403,
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret"
            " Access Key and signing method. Consult the service documentation for details.",
        )
    return refusal


def check_bearer(request: ReceivedRequest, credentials: Credentials, region: str, now: float) -> Reply | None:
    """Return the refusal of a bearer token that ``credentials`` did not make; ``None`` if they did.

    A token is a presigned URL of SageMaker, without its scheme, in base64.
    """
    _, _, token = request.headers.get("authorization", "").partition("Bearer ")
    try:
        url = base64.b64decode(token.removeprefix(BEARER_PREFIX), validate=True).decode("ascii")
    except ValueError:  # not base64, or not text
        url = ""
    query = url.removeprefix(f"{BEARER_HOST}/?").removesuffix("&Version=1")
    if not token.startswith(BEARER_PREFIX) or f"{BEARER_HOST}/?{query}&Version=1" != url:
        return error_reply(403, "AccessDeniedException", "The bearer token is missing, or is not one of SageMaker's.")
    fields = {name: value for name, _, value in (pair.partition("=") for pair in query.split("&"))}
    signed_at, lifetime = _stamp(fields.get("X-Amz-Date", "")), fields.get("X-Amz-Expires", "")
    if (
        fields.get("Action") != "CallWithBearerToken"
        or signed_at is None
        or not _is_presigned(query, fields, credentials, region)
    ):
        return error_reply(403, "AccessDeniedException", "The bearer token is not signed by these credentials.")
    if not lifetime.isdecimal() or int(lifetime) > MAX_LIFETIME or now > signed_at + int(lifetime):
        return error_reply(403, "ExpiredTokenException", "The bearer token has expired.")
    return None
