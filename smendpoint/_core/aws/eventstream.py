"""The event-stream framing of AWS (``application/vnd.amazon.eventstream``): encoding, decoding, meaning.

A frame is: total length (u32), headers length (u32), CRC-32 of those eight bytes, headers, payload, CRC-32 of all
before it. All numbers are big-endian. `eventheaders` has the format of the headers.

Nothing in the framing says that a stream is complete: `EventStreamDecoder.finish` only checks that the last frame is
whole, and the transport that HTTP ended properly.
"""

from __future__ import annotations

from struct import Struct, pack
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from zlib import crc32

from smendpoint._core.aws.eventheaders import (
    Byte,
    HeaderValue,
    Long,
    Short,
    Timestamp,
    Uuid,
    decode_headers,
    encode_header,
)
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

__all__ = [
    "MAX_HEADERS",
    "MAX_PAYLOAD",
    "Byte",
    "EventStreamDecoder",
    "HeaderValue",
    "Long",
    "Message",
    "Short",
    "Timestamp",
    "Uuid",
    "encode",
    "interpret",
]

MAX_HEADERS = 128 * 1024
"""The most bytes of headers in one frame: the limit that the AWS SDKs share (botocore, aws-c-event-stream)."""

MAX_PAYLOAD = 24 * 1024 * 1024
"""The most bytes of payload in one frame: botocore's limit, the widest of the AWS SDKs'. The service's parts are a few
KiB; the limit is there so that a length field gone wrong fails after 12 bytes, not after 4 GiB."""

_OVERHEAD = 16  # two lengths and two checksums of four bytes each: no frame is shorter
_PRELUDE = Struct(">III")
_CHECKSUM = Struct(">I")
_LARGE_FRAME = 4096
_UNKNOWN: tuple[None, dict[str, HeaderValue]] = (None, {})

# A stream repeats one or two header blocks for its whole life, each about 90 bytes. What does not look like that
# (long, or ever changing) is parsed anew each time instead of filling memory.
_KNOWN_BLOCKS = 32
_KNOWN_BLOCK_SIZE = 512


class Message(NamedTuple):
    """One frame, taken apart.

    Attributes:
        headers: the headers by name, in the order of the frame.
        payload: the payload, as it came.
    """

    headers: dict[str, HeaderValue]
    payload: bytes


def encode(headers: Mapping[str, HeaderValue], payload: bytes = b"") -> bytes:
    """Make one frame.

    Args:
        headers: names (1 to 255 bytes of UTF-8) and values; see `HeaderValue` for how a Python type names a wire type.
        payload: at most `MAX_PAYLOAD` bytes.

    Returns:
        The bytes of the frame, checksums included.

    Raises:
        ConfigurationError: a name or value does not fit the format, or the frame is over the limits.
    """
    block = b"".join(encode_header(name, value) for name, value in headers.items())
    if len(block) > MAX_HEADERS or len(payload) > MAX_PAYLOAD:
        raise ConfigurationError(
            f"an event-stream frame holds at most {MAX_HEADERS} bytes of headers and {MAX_PAYLOAD} of payload, "
            f"not {len(block)} and {len(payload)}"
        )
    lengths = pack(">II", _OVERHEAD + len(block) + len(payload), len(block))
    frame = b"".join((lengths, pack(">I", crc32(lengths)), block, payload))
    return frame + pack(">I", crc32(frame))


def _is_part(headers: Mapping[str, HeaderValue]) -> bool | None:
    """Whether a message with these headers is output (True), to be skipped (False) or a failure (None)."""
    if headers.get(":message-type") != "event":
        return None
    event_type = headers.get(":event-type")
    if not isinstance(event_type, str):
        return None
    return event_type == "PayloadPart"


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
        StreamError: the service reports anything else: an exception that is not modelled, or an error.
    """
    is_part = _is_part(message.headers)
    if is_part is None:
        raise _failure_of(message)
    return message.payload if is_part else b""


def _failure_of(message: Message) -> StreamError:
    """Make the error for a message that is neither output nor to be skipped."""
    headers = message.headers
    message_type = headers.get(":message-type")
    if not isinstance(message_type, str):
        return StreamDecodeError("an event-stream message has no :message-type of type string")
    if message_type == "event":
        return StreamDecodeError("an event-stream event has no :event-type of type string")
    if message_type == "error":
        code = _text(headers.get(":error-code")) or "an error"
        return StreamError(f"the service ended the stream with {code}: {_text(headers.get(':error-message'))}")
    if message_type != "exception":
        return StreamDecodeError("an event-stream message is neither an event nor an exception nor an error")
    details = _exception_details(message.payload)
    text = details.get("message", "")
    exception_type = headers.get(":exception-type")
    if exception_type == "ModelStreamError":
        error_code = details.get("errorcode", "")
        label = f" ({error_code})" if error_code else ""
        return ModelStreamError(f"the model failed while it was streaming{label}: {text}", error_code=error_code)
    if exception_type == "InternalStreamFailure":
        return InternalStreamFailureError(f"the service failed while the model was streaming: {text}")
    return StreamError(f"the service ended the stream with {_text(exception_type) or 'an exception'}: {text}")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _exception_details(payload: bytes) -> dict[str, str]:
    """Read an exception's members, names in lower case; none where the payload cannot be read."""
    import json  # only errors need it

    try:
        parsed = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(parsed, dict):
        return {}
    members = cast("dict[str, Any]", parsed)
    return {name.lower(): value for name, value in members.items() if isinstance(value, str)}


class EventStreamDecoder(PushDecoder):
    """Turns the bytes of an event stream into messages, however they were cut in transit.

    Frames before a bad one are delivered first; the failure is raised by the next call (or at once, if the bad frame
    came first), and by every call after it. `error` tells of it without another call.
    """

    __slots__ = ("_buffer", "_known", "_need")

    def __init__(self) -> None:
        super().__init__()
        self._buffer = bytearray()  # the start of a frame that is not whole yet
        self._need = 12  # how long the buffer must be before it is worth looking at it again
        self._known: dict[bytes, tuple[bool | None, dict[str, HeaderValue]]] = {}

    def feed(self, data: bytes) -> list[Message]:
        """Read bytes, and return the messages that they complete.

        Args:
            data: the next bytes of the stream, any number of them.

        Returns:
            The messages, of whatever type; `interpret` says what one means.

        Raises:
            StreamDecodeError: a checksum, a length or a header is wrong.
        """
        if self._failure is not None:
            self._check()
        messages: list[Message] = []
        for block, payload in zip(*self._frames(data), strict=True):
            try:
                headers = (self._known.get(block) or self._learn(block))[1]
            except StreamDecodeError as error:
                self._failure = error.with_traceback(None)
                break
            messages.append(Message(headers.copy(), payload))
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
        known = self._known
        if blocks and blocks.count(blocks[0]) == len(blocks) and known.get(blocks[0], _UNKNOWN)[0]:
            return payloads  # nearly always: frames of one kind, and that kind is PayloadPart
        parts: list[bytes] = []
        for block, payload in zip(blocks, payloads, strict=True):
            try:
                is_part, headers = known.get(block) or self._learn(block)
            except StreamDecodeError as error:
                self._failure = error.with_traceback(None)
                break
            if is_part:
                parts.append(payload)
            elif is_part is None:
                self._failure = _failure_of(Message(headers, payload))
                break
        return parts or self._deliver(parts)

    def finish(self) -> None:
        """Note that no more bytes will come.

        Raises:
            StreamTruncatedError: the last frame is not whole.
            StreamError: the failure that a feed had kept back.
        """
        self._check()
        if self._buffer:
            raise StreamTruncatedError(
                f"the stream was cut inside a frame: it needs {self._need} bytes or more, {len(self._buffer)} came"
            )

    def _learn(self, block: bytes) -> tuple[bool | None, dict[str, HeaderValue]]:
        headers = decode_headers(block)
        meaning = _is_part(headers), headers
        if len(block) <= _KNOWN_BLOCK_SIZE and len(self._known) < _KNOWN_BLOCKS:
            self._known[block] = meaning
        return meaning

    def _frames(self, data: bytes) -> tuple[list[bytes], list[bytes]]:
        """Cut out the frames that are whole now: header blocks and payloads. Keep the rest, and the first failure."""
        blocks: list[bytes] = []
        payloads: list[bytes] = []
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) < self._need:
                return blocks, payloads
            data = bytes(buffer)
            buffer.clear()
        elif type(data) is not bytes:  # a bytearray or memoryview would not do as a dictionary's key
            data = bytes(data)
        position, end, need = 0, len(data), 12
        unpack_prelude, unpack_checksum = _PRELUDE.unpack_from, _CHECKSUM.unpack_from
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
            if end - position < total:
                need = total
                break
            payload_start = position + 12 + headers_length
            position += total
            block = data[payload_start - headers_length : payload_start]
            payload = data[payload_start : position - 4]
            # For small frames one copy is quicker than three checksums; a large one is not copied for it.
            if total < _LARGE_FRAME:
                checksum = crc32(data[position - total : position - 4])
            else:
                checksum = crc32(payload, crc32(block, crc32(data[position - total : position - total + 12])))
            if checksum != unpack_checksum(data, position - 4)[0]:
                self._failure = StreamDecodeError("an event-stream frame has a bad checksum")
                return blocks, payloads
            blocks.append(block)
            payloads.append(payload)
        if position < end:
            buffer += data[position:] if position else data
        self._need = need
        return blocks, payloads
