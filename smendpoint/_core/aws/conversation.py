"""Both directions of an ``InvokeEndpointWithBidirectionalStream``: parts to bytes, and bytes to parts.

The client sends each event inside another message, which has two headers: the time of signing and a signature. A
signature covers the one before it, back to the signature of the request (`sigv4.STREAMING_EVENTS`), so nobody can
leave out, repeat or reorder events. An empty signed message ends the input. The service's events are not signed.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from hashlib import sha256
from typing import TYPE_CHECKING
from zlib import crc32

from smendpoint._core.aws.eventheaders import encode_header
from smendpoint._core.aws.eventstream import CHECKSUM, EventStreamDecoder, encode_prelude, part_payload, text_or_empty
from smendpoint._core.aws.sigv4 import EMPTY_PAYLOAD_HASH, Signer
from smendpoint._core.decode.push import PushDecoder
from smendpoint._core.error_copies import copy_error
from smendpoint._core.frozen import Frozen
from smendpoint.errors import ConfigurationError, StreamDecodeError, StreamError, StreamTruncatedError

if TYPE_CHECKING:
    from smendpoint._core.aws.eventstream import Message
    from smendpoint._core.aws.sigv4 import Credentials

_EVENT = {":message-type": "event", ":event-type": "PayloadPart", ":content-type": "application/octet-stream"}
_UTF8, _PARTIAL = "UTF8", "PARTIAL"
# The headers of an event, by whether it is text and whether it is partial.
_BLOCKS = {
    (text, partial): b"".join(
        encode_header(name, value)
        for name, value in {
            **_EVENT,
            "DataType": _UTF8 if text else "BINARY",
            "CompletionState": _PARTIAL if partial else "COMPLETE",
        }.items()
    )
    for text in (False, True)
    for partial in (False, True)
}

# The two headers of a signed message, each up to its value: types 8 (a time) and 6 (bytes, here 32).
_DATE_START = b"\x05:date\x08"
_SIGNATURE_START = b"\x10:chunk-signature\x06\x00\x20"
_SIGNED_HEADERS_LENGTH = len(_DATE_START) + 8 + len(_SIGNATURE_START) + 32

# One piece is simpler to send than three. Below this size its copy takes under 3 % of the time for hashing; from 256
# KiB it takes 10 %.
_LARGE_PART = 65_536


class ConversationPart(Frozen):
    """A part of the model's side of a conversation, immutable.

    Attributes:
        data: the bytes, as they came.
        text: for a part of text, the characters that are whole by now: a part that is `partial` may end inside a
            character, which then begins the text of the next part. ``None`` for a binary part.
        partial: whether more parts of the same message follow.
    """

    __slots__ = _fields = ("data", "text", "partial")

    data: bytes
    text: str | None
    partial: bool

    def __init__(self, data: bytes, text: str | None, partial: bool) -> None:
        self._assign(data, text, partial)

    def __repr__(self) -> str:
        what = "binary" if self.text is None else f"{len(self.text)} characters"
        return f"<ConversationPart of {len(self.data)} bytes ({what}){', partial' if self.partial else ''}>"


class PartEncoder:
    """Makes the signed messages of one conversation. Their order is the order of the calls: one caller at a time.

    Args:
        region: the region of the credential scope, such as ``"us-east-1"``.
        seed: the signature of the request, 64 lower-case hexadecimal digits.
        service: the signing name of the service.

    Raises:
        ConfigurationError: the seed is not a signature.
    """

    __slots__ = ("_prior", "_signer")

    def __init__(self, *, region: str, seed: str, service: str = "sagemaker") -> None:
        if len(seed) != 64 or not set(seed) <= set("0123456789abcdef"):
            raise ConfigurationError("the seed of a conversation must be a signature: 64 lower-case hexadecimal digits")
        self._signer = Signer(region=region, service=service)
        self._prior = seed

    def part(
        self, payload: bytes, *, text: bool, partial: bool, credentials: Credentials, timestamp: float
    ) -> list[bytes | memoryview]:
        """Make the signed message of one part.

        Args:
            payload: the bytes of the part. A large payload is not copied: do not change it before it is sent.
            text: whether the payload is text in UTF-8. It is not checked.
            partial: whether more parts of the same message follow.
            credentials: the credentials to sign with; they may differ from the ones before.
            timestamp: the time of signing in seconds since the epoch.

        Returns:
            The pieces of the message, in order: one, or three around a large payload.

        Raises:
            ConfigurationError: the payload is larger than a frame may be. The chain of signatures is as before.
        """
        block = _BLOCKS[text, partial]
        start = encode_prelude(len(block), len(payload)) + block
        checksum = CHECKSUM.pack(crc32(payload, crc32(start)))
        digest = sha256(start)
        digest.update(payload)
        digest.update(checksum)
        outer = encode_prelude(_SIGNED_HEADERS_LENGTH, len(start) + len(payload) + len(checksum))
        head = b"".join((outer, self._headers(digest.hexdigest(), credentials, timestamp), start))
        tail = checksum + CHECKSUM.pack(crc32(checksum, crc32(payload, crc32(head))))
        if len(payload) < _LARGE_PART:
            return [b"".join((head, payload, tail))]
        return [head, memoryview(payload), tail]

    def end(self, *, credentials: Credentials, timestamp: float) -> bytes:
        """Make the message that ends the input: signed like the others, with an empty payload.

        Args:
            credentials: the credentials to sign with.
            timestamp: the time of signing in seconds since the epoch.
        """
        message = encode_prelude(_SIGNED_HEADERS_LENGTH, 0) + self._headers(EMPTY_PAYLOAD_HASH, credentials, timestamp)
        return message + CHECKSUM.pack(crc32(message))

    def _headers(self, payload_hash: str, credentials: Credentials, timestamp: float) -> bytes:
        """Return the headers of a signed message; its signature is then the last one of the chain."""
        # The header has milliseconds, and the string to sign the second in which they are: AWS's signers do the same.
        milliseconds = int(timestamp * 1000)
        date = _DATE_START + milliseconds.to_bytes(8, "big", signed=True)
        key = self._signer.event_key(credentials, milliseconds // 1000)
        self._prior = key.hexdigest(f"{self._prior}\n{sha256(date).hexdigest()}\n{payload_hash}".encode())
        return b"".join((date, _SIGNATURE_START, bytes.fromhex(self._prior)))


class PartDecoder(PushDecoder):
    """Turns the bytes of the model's side of a conversation into parts, however they were cut in transit.

    Parts before a failure are delivered first; the next call (or this one, if nothing came before it) raises the
    failure, and so does every later call.

    A part is text if its ``DataType`` is ``UTF8``, and partial if its ``CompletionState`` is ``PARTIAL``. All else,
    which includes values that AWS may add, means the defaults ``BINARY`` and ``COMPLETE``: such a part is delivered,
    and its bytes are as they came. Binary parts between the partial parts of a text do not disturb it.
    """

    __slots__ = ("_characters", "_messages")

    def __init__(self) -> None:
        super().__init__()
        self._messages = EventStreamDecoder()
        self._characters = getincrementaldecoder("utf-8")()

    def feed(self, data: bytes) -> list[ConversationPart]:
        """Read bytes, and return the parts that they complete. Events of other types are skipped.

        Args:
            data: the next bytes of the stream, any number of them.

        Raises:
            ModelStreamError: the service reports that the model failed; `error_code` says how.
            InternalStreamFailureError: the service reports that it failed itself.
            StreamDecodeError: a frame is wrong, or a text is not UTF-8.
            StreamError: the service reports anything else.
        """
        self._check()
        parts: list[ConversationPart] = []
        try:
            for message in self._messages.feed(data):
                payload = part_payload(message)
                if payload is not None:
                    parts.append(self._part(message, payload))
        except StreamError as error:
            self._failure = copy_error(error)
        else:
            self._failure = self._messages.error
        return parts or self._deliver(parts)

    def finish(self) -> None:
        """Note that no more bytes will come.

        A last part that is `partial` is not an error: models decide where their messages end.

        Raises:
            StreamTruncatedError: the last frame or the last character is not whole.
            StreamError: the failure that `feed` held back.
        """
        self._check()
        self._messages.finish()
        if self._characters.getstate()[0]:
            raise StreamTruncatedError("the stream was cut off inside a character")

    def _part(self, message: Message, payload: bytes) -> ConversationPart:
        partial = text_or_empty(message.headers.get("CompletionState")) == _PARTIAL
        text = None
        if text_or_empty(message.headers.get("DataType")) == _UTF8:
            try:
                text = self._characters.decode(payload, not partial)
            except UnicodeDecodeError as error:
                raise StreamDecodeError(f"a part of text is not UTF-8: {error.reason}") from None
        return ConversationPart(payload, text, partial)
