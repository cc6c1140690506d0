"""Events of bidirectional streams: reading and checking those of the client, and writing those of the model."""

from __future__ import annotations

import hashlib
import hmac
import struct
import time
from collections import deque
from typing import TYPE_CHECKING

from smendpoint.decoders import EventStreamDecoder, Message, Timestamp, encode
from smendpoint.emulator._auth import MAX_SKEW, Credentials, parse_authorization
from smendpoint.emulator._running import as_bytes
from smendpoint.emulator.models import ModelPart
from smendpoint.errors import StreamError

if TYPE_CHECKING:
    from collections.abc import Callable

_DATE_HEADER = b"\x05:date\x08"  # the name with its length, and type 8: a time


class Refused(Exception):
    """The client's request or one of its events is refused.

    Args:
        status: the status if the response has not begun.
        code: the service's name of the error.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class SignatureChain:
    """Checks the signature of one event after another; each one includes the one before.

    Args:
        credentials: the credentials that sign.
        region: the region that is signed for.
        authorization: the request's ``Authorization`` header: the chain begins with its signature.
        clock: returns the time in seconds since the epoch.
    """

    def __init__(self, credentials: Credentials, region: str, authorization: str, clock: Callable[[], float]) -> None:
        given = parse_authorization(authorization)
        self._prior = "" if given is None else given.signature
        self._secret = credentials.secret_key
        self._region = region
        self._clock = clock

    def check(self, message: Message) -> None:
        """Check an event.

        Raises:
            Refused: It is not the next event that these credentials signed.
        """
        date, signature = message.headers.get(":date"), message.headers.get(":chunk-signature")
        if not isinstance(date, Timestamp) or not isinstance(signature, bytes):
            raise Refused(403, "MissingAuthenticationTokenException", "An event is not signed.")
        if abs(date / 1000 - self._clock()) > MAX_SKEW:
            raise Refused(403, "InvalidSignatureException", "Signature expired: the date of an event is out of range.")
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(date // 1000))
        scope = (stamp[:8], self._region, "sagemaker", "aws4_request")
        header = _DATE_HEADER + struct.pack(">q", date)
        to_sign = "\n".join(
            (
                "AWS4-HMAC-SHA256-PAYLOAD",
                stamp,
                "/".join(scope),
                self._prior,
                hashlib.sha256(header).hexdigest(),
                hashlib.sha256(message.payload).hexdigest(),
            )
        )
        key = f"AWS4{self._secret}".encode()
        for part in (*scope, to_sign):
            key = hmac.digest(key, part.encode(), "sha256")
        if not hmac.compare_digest(key, signature):
            raise Refused(
                403,
                "InvalidSignatureException",
                "The event signature we calculated does not match the signature you provided. Check your AWS Secret"
                " Access Key and signing method. Consult the service documentation for details.",
            )
        self._prior = key.hex()


class EventReader:
    """Turns the bytes of the client's input into parts.

    Args:
        chain: checks the events; ``None`` to accept any, signed or not.
    """

    def __init__(self, chain: SignatureChain | None) -> None:
        self._chain = chain
        self._decoder = EventStreamDecoder()
        self._ended = False
        self._messages: deque[Message] = deque()

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            Refused: They are not events.
        """
        try:
            self._messages.extend(self._decoder.feed(data))
        except StreamError as error:
            raise _malformed(str(error)) from error

    def next(self) -> ModelPart | None:
        """Return the next part, if it is there.

        Raises:
            Refused: It is not a part, or its signature is wrong.
        """
        while self._messages:
            message = self._messages.popleft()
            if self._chain is not None:
                self._chain.check(message)
            if self._ended:
                raise _malformed("an event comes after the end of the input")
            if ":chunk-signature" not in message.headers:
                return _part(message)
            if message.payload:
                return _part(self._unwrap(message.payload))
            self._ended = True
        return None

    def finish(self) -> None:
        """Note that no more bytes will come.

        Raises:
            Refused: The last event is not whole, or the end of the input is not signed.
        """
        try:
            self._decoder.finish()
        except StreamError as error:
            raise _malformed(str(error)) from error
        if self._chain is not None and not self._ended:
            raise Refused(403, "InvalidSignatureException", "The end of the input is not signed.")

    def _unwrap(self, payload: bytes) -> Message:
        decoder = EventStreamDecoder()
        try:
            messages = decoder.feed(payload)
            decoder.finish()
        except StreamError as error:
            raise _malformed(str(error)) from error
        if len(messages) != 1:
            raise _malformed("a signed event holds exactly one event")
        return messages[0]


def _malformed(message: str) -> Refused:
    return Refused(400, "InputValidationError", f"The input is not a stream of PayloadPart events: {message}")


def _part(message: Message) -> ModelPart:
    headers = message.headers
    if (headers.get(":message-type"), headers.get(":event-type")) != ("event", "PayloadPart"):
        raise _malformed("an event has another type")
    kind, state = headers.get("DataType", "BINARY"), headers.get("CompletionState", "COMPLETE")
    if kind not in ("UTF8", "BINARY") or state not in ("PARTIAL", "COMPLETE"):
        raise _malformed(f"an event has DataType {kind!r} and CompletionState {state!r}")
    try:
        text = message.payload.decode() if kind == "UTF8" else None
    except UnicodeDecodeError:
        raise _malformed("an event of DataType UTF8 is not UTF-8") from None
    return ModelPart(message.payload, text, state == "PARTIAL")


def part_event(data: bytes | str, partial: bool) -> bytes:
    """Encode a part of the model's answer."""
    headers = {
        ":message-type": "event",
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
        "DataType": "UTF8" if isinstance(data, str) else "BINARY",
        "CompletionState": "PARTIAL" if partial else "COMPLETE",
    }
    return encode(headers, as_bytes(data))
