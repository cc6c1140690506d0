"""The part of signing that is computed from text alone: canonical forms and the signing key.

The rules are those of the "Signature Version 4" chapter of the IAM user guide; which headers stay unsigned, and how
white space is folded, is as in botocore, so that both give the same signature for the same request.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_PAYLOAD_HASH = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

# Headers that proxies and tracing change on the way; the list is botocore's.
UNSIGNED_HEADERS = frozenset(
    {
        "baggage",
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-amzn-trace-id",
    }
)

UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PATH_SAFE = UNRESERVED | {0x2F}
VISIBLE = frozenset(range(0x21, 0x7F))


def payload_hash(body: bytes) -> str:
    """Give the lower-case hexadecimal SHA-256 of a request body."""
    return sha256(body).hexdigest()


def percent_encode(text: str, safe: frozenset[int] = UNRESERVED) -> str:
    """Percent-encode the bytes of a text that are not `safe`."""
    data = text.encode()
    if safe.issuperset(data):
        return text
    return "".join([chr(byte) if byte in safe else f"%{byte:02X}" for byte in data])


def canonical_path(path: str) -> str:
    """Give the canonical URI of a path as it stands in the request line.

    Services other than S3 have ``.``, ``..`` and empty segments resolved, and each segment encoded once more than it
    was sent, so ``%20`` becomes ``%2520``.
    """
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    tail = "/" if kept and path.endswith("/") else ""
    return percent_encode(f"/{'/'.join(kept)}{tail}", _PATH_SAFE)


def canonical_query(query: str) -> str:
    """Give the canonical form of an already encoded query string: its pairs sorted, each with its ``=``.

    Only what cannot stand in a request line (a space, a control character, a letter beyond ASCII) is encoded here.
    """
    if not query:
        return ""
    pairs = sorted(percent_encode(pair, VISIBLE).partition("=")[::2] for pair in query.split("&"))
    return "&".join([f"{name}={value}" for name, value in pairs])


def signed_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Give the headers that are signed, by lower-case name: white space folded, values of one name joined."""
    signed: dict[str, str] = {}
    for name, value in headers:
        lower = name.lower()
        if lower not in UNSIGNED_HEADERS:
            folded = " ".join(value.split())
            signed[lower] = f"{signed[lower]},{folded}" if lower in signed else folded
    return signed


def canonical_headers(signed: Mapping[str, str]) -> tuple[str, str]:
    """Give the lines of a canonical request between query and payload hash, and the names of the headers there."""
    order = sorted(signed)
    names = ";".join(order)
    lines = [f"{name}:{signed[name]}\n" for name in order]
    return f"{''.join(lines)}\n{names}\n", names


def derive_key(secret_key: str, date: str, region: str, service: str) -> Hmac:
    """Give the signing key of a secret for one day, region and service."""
    key = Hmac(f"AWS4{secret_key}".encode())
    for part in (date, region, service, "aws4_request"):
        key = Hmac(bytes.fromhex(key.hexdigest(part.encode())))
    return key


class Hmac:
    """HMAC-SHA256 (RFC 2104) whose key has been hashed once.

    The standard library's ``hmac.digest`` hashes the key each time, which is most of its cost for a short message.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        if len(key) > 64:  # SHA-256's block size
            key = sha256(key).digest()
        block = key.ljust(64, b"\0")
        self._inner = sha256(bytes([byte ^ 0x36 for byte in block]))
        self._outer = sha256(bytes([byte ^ 0x5C for byte in block]))

    def after(self, start: bytes) -> Hmac:
        """Make an `Hmac` for messages that begin with `start`; its `hexdigest` takes the rest of the message."""
        other = Hmac.__new__(Hmac)
        other._inner, other._outer = self._inner.copy(), self._outer
        other._inner.update(start)
        return other

    def hexdigest(self, message: bytes) -> str:
        """Give the message's code, in hex."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.hexdigest()
