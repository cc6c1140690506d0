"""One HTTP/2 stream on a connection of its own, without any I/O, over the library `h2`.

A driver passes on the bytes that arrive (`feed`), and sends those that it is given (`to_send`). The library keeps the
rules of HTTP/2 (RFC 9113); this file decides which bytes may go out, and which are acknowledged when.
"""

from __future__ import annotations

from collections import deque
from logging import INFO, getLogger
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._core.aws.response import RawResponse, service_error, whole_number
from smendpoint._transport.exchange import connection_lost

try:
    from h2 import events
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.errors import ErrorCodes
    from h2.settings import SettingCodes, Settings
except ImportError as missing:
    raise errors.ConfigurationError(
        "converse() needs HTTP/2, from the package h2: pip install 'smendpoint[bidi]'"
    ) from missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

# At the level DEBUG, the library of header compression logs each header, with the session token and the signature.
getLogger("hpack").setLevel(INFO)

# At most about this much becomes frames at once: a driver gets more when it has sent that.
SEND_BYTES = 65_536
# A peer that makes the library reply (to PING or SETTINGS) and has not read so many bytes of replies is given up.
MAX_UNREAD_REPLIES = 65_536
# Every peer takes frames of this size (RFC 9113 4.2). Larger ones need its leave, which it may take back.
_FRAME_BYTES = 16_384
# RFC 9113 4.1: the head of a frame begins with the length of the rest, in three bytes.
_FRAME_HEAD_BYTES = 9
# The connection's only stream: the first that a client opens (RFC 9113 5.1.1).
_STREAM = 1


class Http2Stream:
    """The client's side of one request on a connection of its own, whose body and answer flow at the same time.

    Args:
        headers: the request's pseudo-headers and headers, names in lower case.
        begun: called with status and headers of the answer when they arrive; may raise a `ProtocolError`.
        max_refusal: the most bytes of an error's body that are kept; ``None`` for no limit.

    Attributes:
        status: the status of the answer; 0 before its head has arrived.
        begun: whether the head of an answer has arrived that was asked for, or of a refusal.
        headers: the headers of the answer, names in lower case.
        ended: whether the answer has properly ended.
        failure: the error that ended the stream. Bytes that arrived before it are still there to `take`.
        sent: how many bytes of the body have become frames.
        cut: whether a part of the body was not sent, because the stream was over.
    """

    __slots__ = (
        "_arrived",
        "_ending",
        "_h2",
        "_head",
        "_max_refusal",
        "_note_begun",
        "_queue",
        "_refusal",
        "_replies",
        "_rest",
        "_unacknowledged",
        "begun",
        "cut",
        "ended",
        "failure",
        "headers",
        "sent",
        "status",
    )

    def __init__(
        self,
        headers: Sequence[tuple[str, str]],
        begun: Callable[[int, Mapping[str, str]], object],
        max_refusal: int | None = None,
    ) -> None:
        self._note_begun = begun
        self._max_refusal = max_refusal
        self._queue: deque[memoryview] = deque()  # of the body, not yet in frames
        self._ending = False  # whether the body ends after the queue
        self._arrived = bytearray()  # of the answer's body, not yet taken
        self._unacknowledged = 0
        self._refusal = bytearray()  # the body of an error, as far as it has arrived
        self._replies = b""  # to what was fed
        self._head = b""  # of the frame that is arriving
        self._rest = 0  # how many bytes of that frame are still to come, with its head
        self.status = 0
        self.begun = False
        self.headers: Mapping[str, str] = {}
        self.ended = False
        self.failure: errors.EndpointError | None = None
        self.sent = 0
        self.cut = False
        self._h2: Any = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self._h2.local_settings = Settings(client=True, initial_values={SettingCodes.ENABLE_PUSH: 0})
        self._h2.initiate_connection()
        self._h2.send_headers(_STREAM, headers)

    @property
    def over(self) -> bool:
        """Whether nothing more is sent or arrives."""
        return self.ended or self.failure is not None

    @property
    def readable(self) -> bool:
        """Whether `take` returns bytes, or there will be none any more."""
        return bool(self._arrived) or self.over

    @property
    def pending(self) -> bool:
        """Whether a part of the body, or its end, must still be sent."""
        return (bool(self._queue) or self._ending) and not self.over

    def queue(self, pieces: Iterable[bytes | memoryview], *, end: bool = False) -> None:
        """Add pieces to the body, the last ones if `end` is true. They are not copied before they are sent."""
        if self.over:
            self.cut = True
            return
        self._queue.extend(memoryview(piece) for piece in pieces)
        self._ending = end

    def to_send(self) -> bytes:
        """Return the next bytes for the network, with as much of the body as the peer allows now; perhaps none."""
        room = SEND_BYTES
        while self._queue and room > 0 and not self.over:
            window = min(self._h2.local_flow_control_window(_STREAM), _FRAME_BYTES, room)
            if window <= 0:
                break
            data = self._next(window)
            self._h2.send_data(_STREAM, data)
            self.sent += len(data)
            room -= len(data)
        if self._ending and not self._queue and not self.over:
            self._ending = False
            self._h2.end_stream(_STREAM)
        replies, self._replies = self._replies, b""
        return replies + self._h2.data_to_send()  # type: ignore[no-any-return]  # whether the library has types depends on its version

    def _next(self, most: int) -> bytes:
        """Take at most that many bytes from the queue."""
        pieces = []
        while self._queue and most > 0:
            piece = self._queue.popleft()
            if len(piece) > most:
                self._queue.appendleft(piece[most:])
                piece = piece[:most]
            pieces.append(piece)
            most -= len(piece)
        return b"".join(pieces)

    def reset(self) -> None:
        """Give up the stream: the next `to_send` tells the peer."""
        if not self.over:
            self._h2.reset_stream(_STREAM, ErrorCodes.CANCEL)
            self._drop_body()

    def take(self) -> bytes:
        """Return the bytes of the answer that have arrived, and let the peer send as many more."""
        data, self._arrived = bytes(self._arrived), bytearray()
        self._acknowledge(self._unacknowledged)
        self._unacknowledged = 0
        return data

    def _acknowledge(self, size: int) -> None:
        if size and not self.over:
            self._h2.acknowledge_received_data(size, _STREAM)

    def feed(self, data: bytes) -> None:
        """Read bytes from the network. A failure is noted in `failure`: this raises nothing."""
        for piece in self._frames(data):
            if self.over:
                return
            try:
                received = self._h2.receive_data(piece)
            except Exception as error:  # whatever a library's parser raises for bytes that are not HTTP/2
                self._refuse_bytes(f"the service's bytes are not valid HTTP/2: {type(error).__name__}", error)
                return
            for event in received:
                self._handle(event)
            self._replies += self._h2.data_to_send()
            if len(self._replies) > MAX_UNREAD_REPLIES:
                self._refuse_bytes("the service asks for replies (to PING or SETTINGS), and does not read them")

    def lost(self, error: OSError | None) -> None:
        """Note that the connection has ended; `error` is ``None`` if the peer closed it."""
        if not self.over:
            self._fail_with(connection_lost(error, response_started=self.status > 0), error)

    def fail(self, error: errors.EndpointError) -> None:
        """End the stream with an error, if it is not over."""
        if not self.over:
            self.failure = error.with_traceback(None)
            self._drop_body()

    def _frames(self, data: bytes) -> Iterator[bytes]:
        """Cut the bytes after each frame. If the library refuses a frame, those before it have been read."""
        start = 0
        while start < len(data):
            missing = _FRAME_HEAD_BYTES - len(self._head)
            if missing:
                self._head += data[start : start + missing]
                if len(self._head) < _FRAME_HEAD_BYTES:
                    yield data[start:]
                    return
                length = int.from_bytes(self._head[:3], "big")
                if length > self._h2.max_inbound_frame_size:  # the library would wait for all of it
                    self._refuse_bytes(f"the service's bytes are not valid HTTP/2: a frame of {length} bytes")
                    return
                self._rest = missing + length
            piece = data[start : start + self._rest]
            start += len(piece)
            self._rest -= len(piece)
            if not self._rest:
                self._head = b""
            yield piece

    def _handle(self, event: Any) -> None:
        if isinstance(event, events.ResponseReceived):
            self._read_head(event.headers)
        elif isinstance(event, events.DataReceived):
            self._read_body(event.data, event.flow_controlled_length)
        elif isinstance(event, events.StreamEnded):
            if self.status >= 300:
                self._refuse()
            else:
                self.ended = True
                self._drop_body()
        elif isinstance(event, (events.StreamReset, events.ConnectionTerminated)):
            deed = "reset the stream" if isinstance(event, events.StreamReset) else "ended the connection"
            self._fail_with(
                errors.TransportError(
                    f"the service {deed} ({_code(event.error_code)})", response_started=self.status > 0
                )
            )

    def _read_head(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        headers: dict[str, str] = {}
        for raw_name, raw_value in fields:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        self.status = whole_number(headers.pop(":status", "")) or 0
        self.headers = headers
        if not self.status:
            self.fail(errors.ProtocolError("the service's answer has no valid status"))
            return
        try:
            self._note_begun(self.status, headers)
        except errors.ProtocolError as error:
            self.fail(error)
        else:
            self.begun = True

    def _read_body(self, data: bytes, size: int) -> None:
        """Note data of a frame that takes up `size` bytes of the windows, padding included."""
        if self.status < 300:
            self._arrived += data
            self._unacknowledged += len(data)
            self._acknowledge(size - len(data))
        else:
            self._refusal += data
            self._acknowledge(size)  # nobody takes it
            if self._max_refusal is not None and len(self._refusal) > self._max_refusal:
                self._refuse()

    def _refuse(self) -> None:
        self.fail(service_error(RawResponse(self.status, self.headers, bytes(self._refusal))))

    def _refuse_bytes(self, message: str, cause: Exception | None = None) -> None:
        self._fail_with(errors.ProtocolError(message, response_started=self.status > 0), cause)

    def _fail_with(self, error: errors.TransportError, cause: BaseException | None = None) -> None:
        """Fail with an error of the connection, unless the answer is a refusal: then with that, as far as it came."""
        if self.status >= 300:
            self._refuse()
        else:
            error.__cause__ = None if cause is None else cause.with_traceback(None)
            self.fail(error)

    def _drop_body(self) -> None:
        self.cut = self.cut or bool(self._queue)
        self._queue.clear()
        self._ending = False


def _code(code: Any) -> str:
    """Name an error code of HTTP/2 (RFC 9113 7)."""
    return str(getattr(code, "name", code))
