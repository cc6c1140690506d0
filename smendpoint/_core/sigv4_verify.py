"""Checks signatures of Signature Version 4 that others made, as the service does. The emulator needs it."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, NamedTuple

from smendpoint._core.sigv4_canonical import (
    ALGORITHM,
    EMPTY_PAYLOAD_HASH,
    UNRESERVED,
    canonical_path,
    canonical_query,
    canonical_request,
    derive_key,
    encode,
    fold,
    signature_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smendpoint._core.sigv4 import Credentials

__all__ = ["Authorization", "expected_authorization", "parse_authorization", "verify", "verify_presigned"]


class Authorization(NamedTuple):
    """The parts of an ``Authorization`` header of Signature Version 4."""

    access_key: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str


def parse_authorization(value: str) -> Authorization | None:
    """Take an ``Authorization`` header apart; ``None`` where it is not one of Signature Version 4."""
    algorithm, _, rest = value.strip().partition(" ")
    items = rest.split(",")
    fields: dict[str, str] = {}
    for item in items:
        name, _, content = item.strip().partition("=")
        fields[name] = content
    scope = fields.get("Credential", "").rsplit("/", 4)
    signed = fields.get("SignedHeaders", "")
    signature = fields.get("Signature", "")
    # Three parts and nothing else: two Authorization headers, joined, are not one.
    if algorithm != ALGORITHM or len(items) != 3 or not signed or not signature:
        return None
    if len(scope) != 5 or scope[4] != "aws4_request":
        return None
    return Authorization(scope[0], scope[1], scope[2], scope[3], tuple(signed.split(";")), signature)


def expected_authorization(
    *,
    method: str,
    path: str,
    query: str = "",
    headers: Sequence[tuple[str, str]],
    payload_hash: str,
    credentials: Credentials,
    region: str,
    service: str = "sagemaker",
    normalize: bool = True,
) -> str | None:
    """What the ``Authorization`` header of a received request ought to be.

    It is recomputed from what arrived, over the headers that ``SignedHeaders`` names, so it equals the received one
    exactly when the sender holds the same secret and nothing signed was changed on the way.

    Args:
        method: the request method.
        path: the path as it stood in the request line.
        query: the query string as it stood in the request line, without ``?``.
        headers: every header that arrived.
        payload_hash: what ``payload_hash`` gives for the body that arrived.
        credentials: whose signature it should be.
        region: the region that the scope must name.
        service: the service that the scope must name.
        normalize: as in ``canonical_path``.

    Returns:
        The header's value; ``None`` where the request is not signed, not dated, signed for another key, region,
        service or day, with another session token, or leaves out ``Host`` or an ``X-Amz-`` header that it carries.
    """
    folded = fold(headers)
    given = parse_authorization(folded.get("authorization", ""))
    stamp = folded.get("x-amz-date", "")
    if given is None or len(stamp) != 16 or stamp[:8] != given.date:
        return None
    if (given.access_key, given.region, given.service) != (credentials.access_key, region, service):
        return None
    names = given.signed_headers
    required = {"host", *(name for name in folded if name.startswith("x-amz-"))}
    if not required.issubset(names) or any(name not in folded for name in names):
        return None
    if folded.get("x-amz-security-token") != credentials.token:
        return None
    scope = f"{given.date}/{region}/{service}/aws4_request"
    signed = ";".join(names)
    canonical = canonical_request(
        method, canonical_path(path, normalize=normalize), canonical_query(query), folded, names, signed, payload_hash
    )
    key = derive_key(credentials.secret_key, given.date, region, service)
    signature = signature_of(key, stamp, scope, canonical)
    return f"{ALGORITHM} Credential={given.access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"


def verify(
    *,
    method: str,
    path: str,
    query: str = "",
    headers: Sequence[tuple[str, str]],
    payload_hash: str,
    credentials: Credentials,
    region: str,
    service: str = "sagemaker",
) -> bool:
    """Whether a received request carries the right signature; arguments as in ``expected_authorization``.

    How old the signature may be is the caller's to decide, from ``X-Amz-Date``.
    """
    expected = expected_authorization(
        method=method,
        path=path,
        query=query,
        headers=headers,
        payload_hash=payload_hash,
        credentials=credentials,
        region=region,
        service=service,
    )
    given = parse_authorization(fold(headers).get("authorization", ""))
    return expected is not None and given is not None and _same(given.signature, expected.rpartition("=")[2])


def verify_presigned(
    *,
    method: str,
    url_host: str,
    path: str,
    query: str,
    payload_hash: str = EMPTY_PAYLOAD_HASH,
    credentials: Credentials,
    region: str,
    service: str = "sagemaker",
) -> bool:
    """Whether a query string that ``Signer.presign`` could have made, with ``Host`` as its one header, is right.

    Whether it has expired is the caller's to decide, from ``X-Amz-Date`` and ``X-Amz-Expires``.
    """
    pairs = query.split("&")
    fields: dict[str, str] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        fields[name] = value
    stamp, signature = fields.get("X-Amz-Date", ""), fields.get("X-Amz-Signature", "")
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    wanted = {
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key}/{scope}",
        "X-Amz-SignedHeaders": "host",
        "X-Amz-Security-Token": credentials.token or "",
    }
    if len(fields) != len(pairs) or any(
        fields.get(name, "") != encode(value, UNRESERVED) for name, value in wanted.items()
    ):
        return False
    rest = canonical_query("&".join([pair for pair in pairs if not pair.startswith("X-Amz-Signature=")]))
    names = ("host",)
    canonical = canonical_request(method, canonical_path(path), rest, {"host": url_host}, names, "host", payload_hash)
    key = derive_key(credentials.secret_key, stamp[:8], region, service)
    return _same(signature, signature_of(key, stamp, scope, canonical))


def _same(given: str, expected: str) -> bool:
    # Bytes, because compare_digest refuses text beyond ASCII, which a received signature may hold.
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())
