"""The event-stream framing of AWS (``application/vnd.amazon.eventstream``): encoding, decoding, meaning.

A frame is: total length (u32), headers length (u32), CRC-32 of those eight bytes, headers, payload, CRC-32 of
everything before it. All numbers are big-endian. `eventheaders` has the format of the headers.

Nothing in the framing shows that a stream is complete: `EventStreamDecoder.finish` only checks that the last frame is
whole, and the transport checks that HTTP ended properly.
"""

from __future__ import annotations

from struct import Struct, pack
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from smendpoint._core.aws.eventheaders import HeaderValue, decode_headers, encode_header
from smendpoint._core.decode.push import PushDecoder
from smendpoint.errors import (
    ConfigurationError,
    InternalStreamFailureError,
    ModelStreamError,
    StreamDecodeError,
    StreamError,
    StreamTruncatedError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_HEADERS = 128 * 1024
"""The most bytes of headers in one frame: the limit that the AWS SDKs share (botocore, aws-c-event-stream)."""

MAX_PAYLOAD = 24 * 1024 * 1024
"""The most bytes of payload in one frame: botocore's limit, the largest of the AWS SDKs. The service's parts are a few
KiB; with the limit, a corrupt length field fails after 12 bytes, not after 4 GiB."""

_OVERHEAD = 16  # two lengths and two checksums of four bytes each: no frame is shorter
_PRELUDE = Struct(">III")
CHECKSUM = Struct(">I")
_LARGE_FRAME = 4096

# A stream repeats one or two header blocks from its beginning to its end, each about 90 bytes. Longer blocks, and more
# of them, are parsed each time, so that they do not fill memory.
_KNOWN_BLOCKS = 32
_KNOWN_BLOCK_SIZE = 512


class Message(NamedTuple):
    """One frame, taken apart.

    Attributes:
        headers: the headers by name, in the order of the frame.
        payload: the payload, unchanged.
    """

    headers: dict[str, HeaderValue]
    payload: bytes


def encode(headers: Mapping[str, HeaderValue], payload: bytes = b"") -> bytes:
    """Make one frame.

    Args:
        headers: names (1 to 255 bytes of UTF-8) and values; `HeaderValue` has the Python type for each wire type.
        payload: at most `MAX_PAYLOAD` bytes.

    Returns:
        The bytes of the frame, including checksums.

    Raises:
        ConfigurationError: a name or value is not valid in the format, or the frame exceeds the limits.
    """
    block = b"".join(encode_header(name, value) for name, value in headers.items())
    frame = b"".join((encode_prelude(len(block), len(payload)), block, payload))
    return frame + CHECKSUM.pack(crc32(frame))


def encode_prelude(headers_length: int, payload_length: int) -> bytes:
    """Make the first 12 bytes of a frame.

    Raises:
        ConfigurationError: the frame exceeds the limits.
    """
    if headers_length > MAX_HEADERS or payload_length > MAX_PAYLOAD:
        raise ConfigurationError(
            f"an event-stream frame holds at most {MAX_HEADERS} bytes of headers and {MAX_PAYLOAD} of payload, "
            f"not {headers_length} and {payload_length}"
        )
    lengths = pack(">II", _OVERHEAD + headers_length + payload_length, headers_length)
    return lengths + CHECKSUM.pack(crc32(lengths))


def interpret(message: Message) -> bytes:
    """Interpret a message of an ``InvokeEndpointWithResponseStream`` answer.

    Args:
        message: a decoded frame.

    Returns:
        The payload of a ``PayloadPart``; ``b""`` for an event of another type, which a client skips.

    Raises:
        ModelStreamError: the service reports that the model failed; `error_code` says how.
        InternalStreamFailureError: the service reports that it failed itself.
        StreamDecodeError: no usable ``:message-type``, or an event without a usable ``:event-type``.
        StreamError: the service reports anything else: an exception that is not in its model, or an error.
    """
    return part_payload(message) or b""


def part_payload(message: Message) -> bytes | None:
    """Return the payload of a ``PayloadPart``, and `None` for an event of another type. Raises as `interpret` does."""
    headers = message.headers
    message_type = headers.get(":message-type")
    # `python -bb` raises where bytes are compared with a text: every type is checked first.
    if not isinstance(message_type, str):
        raise StreamDecodeError("an event-stream message has no :message-type of type string")
    if message_type == "event":
        event_type = headers.get(":event-type")
        if not isinstance(event_type, str):
            raise StreamDecodeError("an event-stream event has no :event-type of type string")
        return message.payload if event_type == "PayloadPart" else None
    if message_type == "error":
        code = text_or_empty(headers.get(":error-code")) or "an error"
        raise StreamError(f"the service ended the stream with {code}: {text_or_empty(headers.get(':error-message'))}")
    if message_type != "exception":
        raise StreamDecodeError("an event-stream message is neither an event nor an exception nor an error")
    from smendpoint._core.aws.response import json_object  # only errors need it

    members = {name.lower(): value for name, value in json_object(message.payload).items()}
    text, error_code = text_or_empty(members.get("message")), text_or_empty(members.get("errorcode"))
    exception_type = text_or_empty(headers.get(":exception-type"))
    if exception_type == "ModelStreamError":
        label = f" ({error_code})" if error_code else ""
        raise ModelStreamError(f"the model failed while it was streaming{label}: {text}", error_code=error_code)
    if exception_type == "InternalStreamFailure":
        raise InternalStreamFailureError(f"the service failed while the model was streaming: {text}")
    raise StreamError(f"the service ended the stream with {exception_type or 'an exception'}: {text}")


def text_or_empty(value: object) -> str:
    """Return a value that should be a text, and ``""`` for any other type."""
    return value if isinstance(value, str) else ""


class EventStreamDecoder(PushDecoder):
    """Turns the bytes of an event stream into messages, however they were cut in transit.

    Frames before a bad one are delivered first; the next call (or this one, if the bad frame came first) raises the
    failure, and so does every later call. `error` holds it without another call.
    """

    __slots__ = ("_buffer", "_known", "_need", "_part_block")

    def __init__(self) -> None:
        super().__init__()
        self._buffer = bytearray()  # the start of a frame that is not whole yet
        self._need = 12  # how long the buffer must be before it can have a whole frame, or a wrong one
        self._known: dict[bytes, dict[str, HeaderValue]] = {}
        self._part_block: Any = None  # the header block of the last part

    def feed(self, data: bytes) -> list[Message]:
        """Read bytes, and return the messages that they complete.

        Args:
            data: the next bytes of the stream, any number of them.

        Returns:
            The messages, of any type; `interpret` reads one.

        Raises:
            StreamDecodeError: a checksum, a length or a header is wrong.
        """
        if self._failure is not None:
            self._check()
        messages: list[Message] = []
        for block, payload in zip(*self._frames(data), strict=True):
            try:
                messages.append(self._message(block, payload))
            except StreamDecodeError as error:
                self._failure = error.with_traceback(None)
                break
        return messages or self._deliver(messages)

    def feed_parts(self, data: bytes) -> list[bytes]:
        """Read bytes, and return the model output that they complete: `feed` and `interpret` in one.

        Args:
            data: the next bytes of the stream, any number of them.

        Returns:
            The payloads of the ``PayloadPart`` events, in order. Events of other types are skipped.

        Raises:
            StreamError: as `interpret`, and `StreamDecodeError` as `feed`.
        """
        if self._failure is not None:
            self._check()
        blocks, payloads = self._frames(data)
        if blocks.count(self._part_block) == len(blocks):  # nearly always: parts with the same headers
            return payloads or self._deliver(payloads)
        parts: list[bytes] = []
        for block, payload in zip(blocks, payloads, strict=True):
            try:
                part = payload if block == self._part_block else part_payload(self._message(block, payload))
            except StreamError as error:
                self._failure = error.with_traceback(None)
                break
            if part is not None:
                parts.append(part)
                self._part_block = block
        return parts or self._deliver(parts)

    def finish(self) -> None:
        """Note that no more bytes will come.

        Raises:
            StreamTruncatedError: the last frame is not whole.
            StreamError: the failure that `feed` held back.
        """
        self._check()
        if self._buffer:
            raise StreamTruncatedError(
                f"the stream was cut off inside a frame: it needs {self._need} bytes or more, {len(self._buffer)} came"
            )

    def _message(self, block: bytes, payload: bytes) -> Message:
        headers = self._known.get(block)
        if headers is None:
            headers = decode_headers(block)
            if len(block) <= _KNOWN_BLOCK_SIZE and len(self._known) < _KNOWN_BLOCKS:
                self._known[block] = headers
        return Message(headers.copy(), payload)

    def _frames(self, data: bytes) -> tuple[list[bytes], list[bytes]]:
        """Return the frames that are whole now: header blocks and payloads. Keep the rest, and the first failure."""
        blocks: list[bytes] = []
        payloads: list[bytes] = []
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) < self._need:
                return blocks, payloads
            data = bytes(buffer)
            buffer.clear()
        elif type(data) is not bytes:  # slices of a bytearray or memoryview cannot be a dictionary's keys
            data = bytes(data)
        position, end, need = 0, len(data), 12
        unpack_prelude, unpack_checksum = _PRELUDE.unpack_from, CHECKSUM.unpack_from
        while end - position >= 12:
            total, headers_length, checksum = unpack_prelude(data, position)
            if crc32(data[position : position + 8]) != checksum:
                self._failure = StreamDecodeError("an event-stream frame has a bad checksum over its lengths")
                return blocks, payloads
            payload_length = total - headers_length - _OVERHEAD
            if payload_length < 0 or headers_length > MAX_HEADERS or payload_length > MAX_PAYLOAD:
                self._failure = StreamDecodeError(
                    f"an event-stream frame has impossible lengths: {total} in all, {headers_length} of headers"
                )
                return blocks, payloads
            after = position + total
            if after > end:
                need = total
                break
            start = position + 12 + headers_length
            block, payload = data[position + 12 : start], data[start : after - 4]
            # For small frames, one copy is faster than three checksums; a large one is not copied.
            if total < _LARGE_FRAME:
                checksum = crc32(data[position : after - 4])
            else:
                checksum = crc32(payload, crc32(block, crc32(data[position : position + 12])))
            if checksum != unpack_checksum(data, after - 4)[0]:
                self._failure = StreamDecodeError("an event-stream frame has a bad checksum")
                return blocks, payloads
            blocks.append(block)
            payloads.append(payload)
            position = after
        if position < end:
            buffer += data[position:] if position else data
        self._need = need
        return blocks, payloads
