"""Whether a request is signed as AWS wants it, and what AWS answers where it is not."""

from __future__ import annotations

import base64
import binascii
import calendar
import time
import urllib.parse

from smendpoint._core.sigv4 import Credentials, payload_hash
from smendpoint._core.sigv4_verify import parse_authorization, verify, verify_presigned
from smendpoint.emulator._reply import Reply, error_reply
from smendpoint.emulator._route import ReceivedRequest

__all__ = ["check_bearer", "check_clock", "check_signature"]

MAX_SKEW = 300.0
"""How far the client's clock may be off, in seconds: what AWS allows."""

BEARER_PREFIX = "sagemaker-api-key-"
BEARER_HOST = "sagemaker.amazonaws.com"

MAX_LIFETIME = 43_200
"""How long a bearer token may be valid, in seconds."""


def _stamp(value: str) -> float | None:
    try:
        return float(calendar.timegm(time.strptime(value, "%Y%m%dT%H%M%SZ")))
    except ValueError:
        return None


def check_clock(request: ReceivedRequest, now: float) -> Reply | None:
    """Refuses a signature that was made too long ago or ahead by the clock ``now``, as AWS does."""
    stamp = request.headers.get("x-amz-date", "")
    signed_at = _stamp(stamp)
    if signed_at is None or abs(signed_at - now) <= MAX_SKEW:
        return None
    word, edge = ("earlier", now - MAX_SKEW) if signed_at < now else ("later", now + MAX_SKEW)
    limit = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(edge))
    kind = "expired" if signed_at < now else "not yet current"
    return error_reply(403, "InvalidSignatureException", f"Signature {kind}: {stamp} is now {word} than {limit}")


def check_signature(request: ReceivedRequest, credentials: Credentials, region: str, now: float) -> Reply | None:
    """Gives the refusal of a request that is not signed by ``credentials``; ``None`` where all is well."""
    given = request.headers.get("authorization", "")
    parsed = parse_authorization(given)
    if parsed is None:
        return error_reply(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    token = request.headers.get("x-amz-security-token")
    if parsed.access_key != credentials.access_key or token != credentials.token:
        return error_reply(403, "UnrecognizedClientException", "The security token included in the request is invalid.")
    refusal = check_clock(request, now)
    if refusal is not None:
        return refusal
    path, _, query = request.target.partition("?")
    genuine = verify(
        method=request.method,
        path=path,
        query=query,
        headers=request.header_list,
        payload_hash=payload_hash(request.body),
        credentials=credentials,
        region=region,
    )
    if not genuine:
        return error_reply(
            403,
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret"
            " Access Key and signing method. Consult the service documentation for details.",
        )
    return None


def check_bearer(request: ReceivedRequest, credentials: Credentials, region: str, now: float) -> Reply | None:
    """Gives the refusal of a bearer token that ``credentials`` did not make; ``None`` where all is well.

    A token is a presigned URL of SageMaker, without its scheme, in base64.
    """
    _, _, token = request.headers.get("authorization", "").partition("Bearer ")
    try:
        url = base64.b64decode(token.removeprefix(BEARER_PREFIX), validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        url = ""
    query = url.removeprefix(f"{BEARER_HOST}/?").removesuffix("&Version=1")
    if not token.startswith(BEARER_PREFIX) or f"{BEARER_HOST}/?{query}&Version=1" != url:
        return error_reply(403, "AccessDeniedException", "The bearer token is missing, or is not one of SageMaker's.")
    fields = urllib.parse.parse_qs(query)
    signed_at, lifetime = _stamp(fields.get("X-Amz-Date", [""])[0]), fields.get("X-Amz-Expires", [""])[0]
    genuine = fields.get("Action") == ["CallWithBearerToken"] and verify_presigned(
        method="POST", url_host=BEARER_HOST, path="/", query=query, credentials=credentials, region=region
    )
    if not genuine or signed_at is None:
        return error_reply(403, "AccessDeniedException", "The bearer token is not signed by these credentials.")
    if not lifetime.isdecimal() or int(lifetime) > MAX_LIFETIME or now > signed_at + int(lifetime):
        return error_reply(403, "ExpiredTokenException", "The bearer token has expired.")
    return None
