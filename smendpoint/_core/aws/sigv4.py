"""AWS Signature Version 4: credentials, canonical forms, and the signer of requests and presigned URLs.

The rules are those of the "Signature Version 4" chapter of the IAM user guide. Unsigned headers and the folding of
white space are as in botocore, so that both produce the same signature for the same request.

Every call signs, so unchanged parts are kept: the signing key (four HMACs) for a secret and a day, and the whole
request except its payload for credentials and a second. Kept objects are replaced as a whole and never changed, so
threads share a signer without a lock.
"""

from __future__ import annotations

from hashlib import sha256
from time import gmtime, strftime  # these convert their arguments here: no clock is read
from typing import TYPE_CHECKING

from smendpoint._core.frozen import Frozen
from smendpoint.errors import ConfigurationError, CredentialsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ALGORITHM = "AWS4-HMAC-SHA256"
EVENT_ALGORITHM = "AWS4-HMAC-SHA256-PAYLOAD"
EMPTY_PAYLOAD_HASH = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
# In the place of the payload's hash: the body is a stream of events, each with a signature of its own. The signature
# of such a request is the first in the chain.
STREAMING_EVENTS = "STREAMING-AWS4-HMAC-SHA256-EVENTS"

# Headers that proxies and tracing may change on the way; the list is botocore's.
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
# Signing adds these headers. An older value would be sent together with the new one.
_OWN_HEADERS = ("authorization", "x-amz-date", "x-amz-security-token")


class Credentials(Frozen):
    """An access key with its secret, immutable; the secret and the token never show in ``repr``.

    Args:
        access_key: the access key id.
        secret_key: the secret access key.
        token: the session token of temporary credentials.

    Raises:
        CredentialsError: a value is missing, the access key or token cannot be in a header, or the secret contains
            white space or a byte that is not UTF-8.
    """

    __slots__ = _fields = ("access_key", "secret_key", "token")

    access_key: str
    secret_key: str
    token: str | None

    def __init__(self, access_key: str, secret_key: str, token: str | None = None) -> None:
        _check_printable("access key", access_key)
        if any(map(str.isspace, _check_text("secret key", secret_key))):
            raise CredentialsError("the secret key contains white space: was it copied with a line end?")
        if any("\ud800" <= character <= "\udfff" for character in secret_key):
            # Python reads bytes of the environment that are not UTF-8 like this. No signature can be made with them.
            raise CredentialsError("the secret key contains a byte that is not UTF-8: was it copied completely?")
        if token == "":
            token = None  # an empty variable of the environment stands for no token
        if token is not None:
            _check_printable("session token", token)
        self._assign(access_key, secret_key, token)

    def __repr__(self) -> str:
        return f"Credentials(access_key={self.access_key!r}, temporary={self.token is not None})"


def _check_text(what: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise CredentialsError(f"the {what} must be a non-empty string")
    return value


def _check_printable(what: str, value: object) -> None:
    # Other characters would end the header line, or change in transit.
    if not VISIBLE.issuperset(map(ord, _check_text(what, value))):
        raise CredentialsError(
            f"the {what} contains a character that is not valid in a header (white space, a control character or a"
            " non-ASCII letter): was it copied with a line end?"
        )


def payload_hash(body: bytes) -> str:
    """Return the lower-case hexadecimal SHA-256 of a request body."""
    return sha256(body).hexdigest()


def percent_encode(text: str, safe: frozenset[int] = UNRESERVED) -> str:
    """Percent-encode the bytes of a text that are not `safe`."""
    data = text.encode()
    if safe.issuperset(data):
        return text
    return "".join([chr(byte) if byte in safe else f"%{byte:02X}" for byte in data])


def canonical_path(path: str) -> str:
    """Return the canonical URI of a path in a request line.

    For services other than S3, ``.``, ``..`` and empty segments are resolved, and each segment is encoded once more, so
    ``%20`` becomes ``%2520``.
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
    """Return the canonical form of an already encoded query string: its pairs sorted, each with its ``=``.

    Only characters that cannot be in a request line (a space, a control character, a non-ASCII letter) are encoded
    here.
    """
    if not query:
        return ""
    pairs = sorted(percent_encode(pair, VISIBLE).partition("=")[::2] for pair in query.split("&"))
    return "&".join([f"{name}={value}" for name, value in pairs])


def signed_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the signed headers, by lower-case name: white space folded, values of one name joined."""
    signed: dict[str, str] = {}
    for name, value in headers:
        lower = name.lower()
        if lower not in UNSIGNED_HEADERS:
            folded = " ".join(value.split())
            signed[lower] = f"{signed[lower]},{folded}" if lower in signed else folded
    return signed


def canonical_headers(signed: Mapping[str, str]) -> tuple[str, str]:
    """Return the lines of a canonical request between query and payload hash, and the names of its headers."""
    order = sorted(signed)
    names = ";".join(order)
    lines = [f"{name}:{signed[name]}\n" for name in order]
    return f"{''.join(lines)}\n{names}\n", names


def derive_key(secret_key: str, date: str, region: str, service: str) -> Hmac:
    """Return the signing key of a secret for one day, region and service."""
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
        block = int.from_bytes(key.ljust(64, b"\0"), "big")
        inner, outer = (int.from_bytes(byte * 64, "big") for byte in (b"\x36", b"\x5c"))
        self._inner = sha256((block ^ inner).to_bytes(64, "big"))
        self._outer = sha256((block ^ outer).to_bytes(64, "big"))

    def after(self, start: bytes) -> Hmac:
        """Make an `Hmac` for messages that begin with `start`; its `hexdigest` takes the rest of the message."""
        other = Hmac.__new__(Hmac)
        other._inner, other._outer = self._inner.copy(), self._outer
        other._inner.update(start)
        return other

    def hexdigest(self, message: bytes) -> str:
        """Return the message's authentication code, in hex."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.hexdigest()


class Signer:
    """Signs requests to one service in one region. Safe to share between threads.

    Args:
        region: the region of the credential scope, such as ``"us-east-1"``.
        service: the signing name of the service.
    """

    __slots__ = ("_key", "region", "service")

    def __init__(self, *, region: str, service: str = "sagemaker") -> None:
        self.region = region
        self.service = service
        # The secret and the date of the signing key, and the key.
        self._key = ("", "", Hmac(b""))

    def signable(
        self, *, method: str, path: str, query: str = "", headers: Iterable[tuple[str, str]]
    ) -> SignableRequest:
        """Prepare the part that is the same for every request with this path and these headers.

        Args:
            method: the request method in capitals.
            path: the path in the request line.
            query: the query string in the request line, without ``?``.
            headers: the headers to send; all except those of ``UNSIGNED_HEADERS`` are signed.

        Raises:
            ConfigurationError: ``Host`` is missing, a header that signing adds is present, or text is not Unicode.
        """
        signed = signed_headers(headers)
        if "host" not in signed:
            raise ConfigurationError("a request needs its Host header before it can be signed")
        for own in _OWN_HEADERS:
            if own in signed:
                raise ConfigurationError(f"the header {own} is added by signing: leave it out")
        _check_unicode(path, query, *signed.values())
        return SignableRequest(self, _start(method, path, query), signed)

    def presign(
        self,
        *,
        method: str,
        url_host: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        headers: Sequence[tuple[str, str]] = (),
        payload_hash: str = EMPTY_PAYLOAD_HASH,
        credentials: Credentials,
        timestamp: float,
        expires: int,
    ) -> str:
        """Sign one request in its query string, so that the URL alone is enough to make it.

        Args:
            method: the request method in capitals.
            url_host: the ``Host`` that is signed.
            path: the path of the URL.
            query: name and value pairs, not yet encoded.
            headers: other headers that a request with the URL must send.
            payload_hash: the result of ``payload_hash`` for the body.
            credentials: the credentials to sign with.
            timestamp: the time of signing in seconds since the epoch.
            expires: for how many seconds the URL is valid.

        Returns:
            The whole query string, without ``?``, ending in ``X-Amz-Signature``.

        Raises:
            ConfigurationError: text is not Unicode.
        """
        stamp, scope = self._date(timestamp)
        lines, names = canonical_headers(signed_headers([*headers, ("host", url_host)]))
        pairs = [
            *query,
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", f"{credentials.access_key}/{scope}"),
            ("X-Amz-Date", stamp),
            ("X-Amz-Expires", str(expires)),
            ("X-Amz-SignedHeaders", names),
        ]
        if credentials.token is not None:
            pairs.append(("X-Amz-Security-Token", credentials.token))
        _check_unicode(path, lines, credentials.secret_key, *map("".join, pairs))
        text = "&".join([f"{percent_encode(name)}={percent_encode(value)}" for name, value in pairs])
        key = self._key_at(credentials, stamp, scope)
        signing = Signing(credentials, 0, "", f"{_start(method, path, text)}{lines}", key)
        return f"{text}&X-Amz-Signature={signing.signature(payload_hash)}"

    def event_key(self, credentials: Credentials, second: int) -> Hmac:
        """Return the signing key for the events of a second, after the string to sign up to the signature before."""
        return self._key_at(credentials, *self._date(second), EVENT_ALGORITHM)

    def _date(self, timestamp: float) -> tuple[str, str]:
        """Return the time as in signatures, such as ``20150830T123600Z``, and the credential scope of that day."""
        stamp = strftime("%Y%m%dT%H%M%SZ", gmtime(int(timestamp)))
        return stamp, f"{stamp[:8]}/{self.region}/{self.service}/aws4_request"

    def _key_at(self, credentials: Credentials, stamp: str, scope: str, algorithm: str = ALGORITHM) -> Hmac:
        """Return the signing key of a day, after the string to sign up to its scope."""
        secret_key, date = credentials.secret_key, stamp[:8]
        known_secret, known_date, key = self._key
        if known_secret != secret_key or known_date != date:
            key = derive_key(secret_key, date, self.region, self.service)
            self._key = secret_key, date, key
        return key.after(f"{algorithm}\n{stamp}\n{scope}\n".encode())


class SignableRequest:
    """A request whose path and headers are ready to be signed many times. Made by ``Signer.signable``."""

    __slots__ = ("_signed", "_signer", "_signing", "_start")

    def __init__(self, signer: Signer, start: str, signed: Mapping[str, str]) -> None:
        self._signer = signer
        self._start = start
        self._signed = signed
        self._signing: Signing | None = None

    def at(self, credentials: Credentials, timestamp: float) -> Signing:
        """Prepare the part that is the same for every signature with these credentials in this second, and keep it."""
        signing = self._signing
        if signing is None or signing.credentials is not credentials or signing.second != int(timestamp):
            signing = self._signing = self._sign(credentials, int(timestamp))
        return signing

    def _sign(self, credentials: Credentials, second: int) -> Signing:
        stamp, scope = self._signer._date(second)
        signed = {**self._signed, "x-amz-date": stamp}
        added = f"X-Amz-Date: {stamp}\r\n"
        if credentials.token is not None:
            signed["x-amz-security-token"] = credentials.token
            added += f"X-Amz-Security-Token: {credentials.token}\r\n"
        lines, names = canonical_headers(signed)
        added += (
            f"Authorization: {ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature="
        )
        return Signing(credentials, second, added, self._start + lines, self._signer._key_at(credentials, stamp, scope))


class Signing:
    """A request without its payload, ready for a signature with certain credentials in a certain second.

    Attributes:
        credentials: the credentials to sign with.
        second: the time, in seconds since the epoch.
        headers: the header lines that signing adds, up to the signature at the end of the last one.
    """

    __slots__ = ("_canonical", "_key", "credentials", "headers", "second")

    def __init__(self, credentials: Credentials, second: int, headers: str, canonical: str, key: Hmac) -> None:
        self.credentials = credentials
        self.second = second
        self.headers = headers
        self._canonical = sha256(canonical.encode())
        self._key = key

    def signature(self, payload_hash: str) -> str:
        """Return the signature for the result of ``payload_hash`` for the body."""
        canonical = self._canonical.copy()
        canonical.update(payload_hash.encode())
        return self._key.hexdigest(canonical.hexdigest().encode())


def _start(method: str, path: str, query: str) -> str:
    """Return the canonical request up to its headers."""
    return f"{method}\n{canonical_path(path)}\n{canonical_query(query)}\n"


def _check_unicode(*texts: str) -> None:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:  # its message would show the text
        raise ConfigurationError("a request with unpaired surrogates cannot be signed") from None
