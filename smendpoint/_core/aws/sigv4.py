"""AWS Signature Version 4: credentials, and the signer of requests and presigned URLs.

Every call signs, so what does not change is kept: the signing key (four HMACs) for a secret and a day, the date strings
for a second, the canonical form of a path, and all of a request but its payload for credentials and a second. Kept
objects are replaced as a whole and never changed: threads share a signer without a lock.
"""

from __future__ import annotations

from hashlib import sha256
from time import gmtime  # converts its argument here: no clock is read
from typing import TYPE_CHECKING

from smendpoint._core.aws.canonical import (
    ALGORITHM,
    EMPTY_PAYLOAD_HASH,
    UNRESERVED,
    UNSIGNED_HEADERS,
    VISIBLE,
    Hmac,
    canonical_path,
    canonical_query,
    derive_key,
    encode,
    fold,
    payload_hash,
)
from smendpoint._core.frozen import Frozen
from smendpoint.errors import ConfigurationError, CredentialsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "EMPTY_PAYLOAD_HASH",
    "UNSIGNED_HEADERS",
    "Credentials",
    "Signer",
    "payload_hash",
]

# What signing adds: an older value beside it would be sent twice.
_OWN_HEADERS = ("authorization", "x-amz-date", "x-amz-security-token")
# A caller talks to a handful of endpoints; the bound only keeps a fuzzing caller from growing the dictionary for ever.
_MAX_PATHS = 256


class Credentials(Frozen):
    """An access key with its secret, immutable; the secret and the token never show in ``repr``.

    Args:
        access_key: the access key id.
        secret_key: the secret access key.
        token: the session token of temporary credentials.

    Raises:
        CredentialsError: a value is missing, the access key or token cannot stand in a header, or the secret has white
            space in it.
    """

    __slots__ = _fields = ("access_key", "secret_key", "token")

    access_key: str
    secret_key: str
    token: str | None

    def __init__(self, access_key: str, secret_key: str, token: str | None = None) -> None:
        _check_printable("access key", access_key)
        if any(map(str.isspace, _check_text("secret key", secret_key))):
            raise CredentialsError("the secret key holds white space, which none has: was it copied with a line end?")
        if token == "":
            token = None  # how the environment says "no token"
        if token is not None:
            _check_printable("session token", token)
        self._assign(access_key, secret_key, token)

    def __repr__(self) -> str:
        return f"Credentials(access_key={self.access_key!r}, temporary={self.token is not None})"


def _check_text(what: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise CredentialsError(f"the {what} must be a string that is not empty")
    return value


def _check_printable(what: str, value: object) -> None:
    # Other characters would end the header line or change on the way.
    if not VISIBLE.issuperset(map(ord, _check_text(what, value))):
        raise CredentialsError(
            f"the {what} holds a character that no header can carry (white space, a control character or a letter"
            " beyond ASCII): was it copied with a line end?"
        )


class Signer:
    """Signs requests to one service in one region. Safe to share between threads.

    Args:
        region: the region of the credential scope, such as ``"us-east-1"``.
        service: the signing name of the service.
        normalize_path: whether paths are signed with ``.``, ``..`` and empty segments resolved: yes, but for S3.
    """

    __slots__ = ("_key", "_moment", "_normalize", "_paths", "region", "service")

    def __init__(self, *, region: str, service: str = "sagemaker", normalize_path: bool = True) -> None:
        self.region = region
        self.service = service
        self._normalize = normalize_path
        # The second, its stamp (20150830T123600Z), its date (20150830), its scope (that date/us-east-1/sagemaker/...).
        self._moment = (-1, "", "", "")
        # The secret and the date that the signing key is for, and that key.
        self._key = ("", "", Hmac(b""))
        self._paths: dict[str, str] = {}

    def _at(self, timestamp: float) -> tuple[int, str, str, str]:
        moment = self._moment
        second = int(timestamp)
        if moment[0] != second:
            year, month, day, hour, minute, sec = gmtime(second)[:6]
            date = f"{year:04}{month:02}{day:02}"
            stamp = f"{date}T{hour:02}{minute:02}{sec:02}Z"
            moment = self._moment = second, stamp, date, f"{date}/{self.region}/{self.service}/aws4_request"
        return moment

    def _signing_key(self, secret_key: str, date: str, stamp: str, scope: str) -> Hmac:
        """The key of a day, fed with all of the string to sign but the hash at its end."""
        known_secret, known_date, key = self._key
        if known_secret != secret_key or known_date != date:
            key = derive_key(secret_key, date, self.region, self.service)
            self._key = secret_key, date, key
        return key.after(f"{ALGORITHM}\n{stamp}\n{scope}\n".encode())

    def _path(self, path: str) -> str:
        known = self._paths.get(path)
        if known is None:
            known = canonical_path(path, normalize=self._normalize)
            if len(self._paths) >= _MAX_PATHS:
                self._paths = {}
            self._paths[path] = known
        return known

    def prepare(
        self, *, method: str, path: str, query: str = "", headers: Sequence[tuple[str, str]]
    ) -> PreparedRequest:
        """Do once what is the same for every request with this path and these headers.

        Args:
            method: the request method in capitals.
            path: the path as it stands in the request line.
            query: the query string as it stands in the request line, without ``?``.
            headers: the headers that will be sent, with ``Host``; all are signed but those of ``UNSIGNED_HEADERS``.

        Raises:
            ConfigurationError: ``Host`` is missing, a header that signing adds is already there, or text is not
                Unicode.
        """
        try:
            folded = fold(headers)
            if "host" not in folded:
                raise ConfigurationError("a request needs its Host header before it can be signed")
            for own in _OWN_HEADERS:
                if own in folded:
                    raise ConfigurationError(f"the header {own} is added by signing: leave it out")
            start = f"{method}\n{self._path(path)}\n{canonical_query(query)}\n"
            start.encode()
            "".join(folded.values()).encode()
        except UnicodeEncodeError:
            raise _not_unicode() from None
        return PreparedRequest(self, start, folded)

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
        """Sign one request in its query string, so that the URL alone carries the right to make it.

        Args:
            method: the request method in capitals.
            url_host: the ``Host`` that is signed.
            path: the path of the URL.
            query: name and value pairs, not yet encoded.
            headers: other headers that a request with the URL must send.
            payload_hash: what ``payload_hash`` gives for the body.
            credentials: who signs.
            timestamp: the time of signing in seconds since the epoch.
            expires: how many seconds the URL is valid from then on.

        Returns:
            The whole query string, without ``?``, ending in ``X-Amz-Signature``.

        Raises:
            ConfigurationError: text is not Unicode.
        """
        second, stamp, date, scope = self._at(timestamp)
        try:
            folded = fold([*headers, ("host", url_host)])
            pairs = [
                *query,
                ("X-Amz-Algorithm", ALGORITHM),
                ("X-Amz-Credential", f"{credentials.access_key}/{scope}"),
                ("X-Amz-Date", stamp),
                ("X-Amz-Expires", str(expires)),
                ("X-Amz-SignedHeaders", ";".join(sorted(folded))),
            ]
            if credentials.token is not None:
                pairs.append(("X-Amz-Security-Token", credentials.token))
            text = "&".join([f"{encode(name, UNRESERVED)}={encode(value, UNRESERVED)}" for name, value in pairs])
            start = f"{method}\n{self._path(path)}\n{canonical_query(text)}\n"
            _, _, canonical, _ = _template(start, folded, ())
            key = self._signing_key(credentials.secret_key, date, stamp, scope)
            signing = Signing(credentials, second, stamp, "", canonical, key)
            return f"{text}&X-Amz-Signature={signing.signature(payload_hash)}"
        except UnicodeEncodeError:
            raise _not_unicode() from None


class PreparedRequest:
    """A request whose path and headers are ready to be signed many times. Made by ``Signer.prepare``."""

    __slots__ = ("_plain", "_signer", "_signing", "_with_token")

    def __init__(self, signer: Signer, start: str, folded: Mapping[str, str]) -> None:
        self._signer = signer
        self._plain = _template(start, folded, ("x-amz-date",))
        self._with_token = _template(start, folded, ("x-amz-date", "x-amz-security-token"))
        self._signing: Signing | None = None

    def at(self, credentials: Credentials, timestamp: float) -> Signing:
        """Do what is the same for every signing with these credentials in this second, and keep it."""
        signing = self._signing
        if signing is None or signing.credentials is not credentials or signing.second != int(timestamp):
            signing = self._signing = self._sign(credentials, timestamp)
        return signing

    def _sign(self, credentials: Credentials, timestamp: float) -> Signing:
        signer = self._signer
        second, stamp, date, scope = signer._at(timestamp)
        token = credentials.token
        if token is None:
            before, _, after, signed = self._plain
            canonical = f"{before}{stamp}{after}"
        else:
            before, between, after, signed = self._with_token
            canonical = f"{before}{stamp}{between}{token}{after}"
        key = signer._signing_key(credentials.secret_key, date, stamp, scope)
        authorization = f"{ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={signed}, Signature="
        return Signing(credentials, second, stamp, authorization, canonical, key)


class Signing:
    """A request of which only the payload is missing, signed with certain credentials in a certain second.

    Attributes:
        credentials: who signs.
        second: when, in seconds since the epoch.
        stamp: the value of ``X-Amz-Date``.
        authorization: the value of ``Authorization``, up to the signature, which ends it.
    """

    __slots__ = ("_canonical", "_key", "authorization", "credentials", "second", "stamp")

    def __init__(
        self, credentials: Credentials, second: int, stamp: str, authorization: str, canonical: str, key: Hmac
    ) -> None:
        self.credentials = credentials
        self.second = second
        self.stamp = stamp
        self.authorization = authorization
        self._canonical = sha256(canonical.encode())
        self._key = key

    def signature(self, payload_hash: str) -> str:
        """The signature for what ``payload_hash`` gives for the body."""
        canonical = self._canonical.copy()
        canonical.update(payload_hash.encode())
        return self._key.hexdigest(canonical.hexdigest().encode())


def _template(start: str, folded: Mapping[str, str], own: tuple[str, ...]) -> tuple[str, str, str, str]:
    """Cut a canonical request where the values of the `own` headers stand.

    Returns:
        What comes before the date, between the date and the token, and after the last of them up to the payload's hash;
        then the signed names. Without headers of its own, all is in the third.
    """
    names = sorted([*folded, *own])
    parts = [start]
    for name in names:
        if name in own:
            parts[-1] += f"{name}:"
            parts.append("\n")
        else:
            parts[-1] += f"{name}:{folded[name]}\n"
    signed = ";".join(names)
    parts[-1] += f"\n{signed}\n"
    return parts[0], "".join(parts[1:-1]), parts[-1], signed


def _not_unicode() -> ConfigurationError:
    # The text itself would show what was to be signed.
    return ConfigurationError("a request with unpaired surrogates cannot be signed")
