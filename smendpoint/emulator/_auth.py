"""Whether a request is signed as AWS wants it, and what AWS answers where it is not."""

from __future__ import annotations

import calendar
import time

from smendpoint._core.sigv4 import (
    Credentials,
    parse_authorization,
    payload_hash,
    verify,
)
from smendpoint.emulator._reply import Reply, error_reply
from smendpoint.emulator._route import ReceivedRequest

__all__ = ["check_clock", "check_signature"]

MAX_SKEW = 300.0
"""How far the client's clock may be off, in seconds: what AWS allows."""


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
