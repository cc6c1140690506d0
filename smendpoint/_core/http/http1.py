"""Read one HTTP/1.1 response as a client, without any I/O.

The reader supports what a POST (or a proxy's CONNECT) to one host needs, and it is strict. Wherever RFC 9112 lets a
client choose between repairing a malformed response and refusing it, this reader refuses: two programs that repair
differently also disagree about where a response ends. Section numbers in comments are those of RFC 9112 unless another
document is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint._core.http.syntax import (
    CONTROLS,
    HEX_DIGITS,
    UNTIL_CLOSE,
    body_length,
    check_beginning,
    check_trailer,
    chunk_size,
    malformed,
    parse_fields,
    parse_status_line,
    status_lines,
    too_large,
)
from smendpoint.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

# Bytes of a head with its empty line, of each 1xx head, and of the trailers: the most that ``http.client`` takes for a
# single line.
MAX_HEAD = 65_536
# How many 1xx answers may precede the final one. RFC 9110 15.2 gives no number; real services send at most two.
_MAX_INFORMATIONAL = 16
# Bytes, with extensions and line end. 7.1.1 asks for a limit; no line exceeds 100 in practice.
_MAX_CHUNK_LINE = 4_096

# The chunks of a stream of tokens repeat a few sizes: their lines are parsed once.
_chunk_sizes: dict[bytes, int] = {}
_MAX_REMEMBERED_SIZES = 4096
_USUAL_CHUNK_LINE = 8

# How many bytes of an error's body are read: enough for any message.
MAX_ERROR_BODY = 1_048_576

_HEAD_END = b"\r\n\r\n"


class ResponseReader:
    """Read one response, fed with the bytes of a connection, cut anywhere.

    The cuts make no difference to the result, and the time taken is linear in the number of bytes.

    Args:
        max_body: the most bytes that the body of a success may have; ``None`` for no limit. An error's body is not read
            beyond ``MAX_ERROR_BODY``.
        connect: whether the request was a CONNECT, whose 2xx answer never has a body (RFC 9110 9.3.6).

    Attributes:
        started: whether any byte has arrived.
        head_complete: whether ``status`` and ``headers`` are those of the answer (1xx answers are skipped).
        status: the status code, 200 to 999; 0 before ``head_complete``.
        headers: lower-case names; the values of a repeated field joined by ``", "`` (RFC 9110 5.3), read as Latin-1.
        complete: whether the whole message has arrived.
        reusable: once ``complete``: whether the connection may be used for another request. For a CONNECT's 2xx answer:
            whether the tunnel is open and nothing has come through it yet.
        undelivered: the chunks of the body before an error, in the `feed` that raised it.
    """

    __slots__ = (
        "_body_left",
        "_buffer",
        "_connect",
        "_failure",
        "_informational",
        "_keep_alive",
        "_max_body",
        "_read",
        "_remaining",
        "_trailers_left",
        "complete",
        "head_complete",
        "headers",
        "reusable",
        "started",
        "status",
        "undelivered",
    )

    def __init__(self, *, max_body: int | None = None, connect: bool = False) -> None:
        self.started = False
        self.head_complete = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self.reusable = False
        self.undelivered: list[bytes] = []
        # The function that reads the next part, from a position of the data, and returns the position after it. A bound
        # method would refer back to this object, which only the garbage collector could then free.
        self._read: Callable[[ResponseReader, bytes, int, list[bytes]], int] = ResponseReader._read_head
        self._buffer = bytearray()  # the beginning of an incomplete head or line
        self._connect = connect
        self._failure: str | None = None
        self._informational = 0
        self._keep_alive = False
        self._max_body = max_body
        self._remaining = 0  # bytes of the body, the chunk or its line end that have not arrived yet
        self._body_left: int | None = None  # how much longer the body may be, if its length is unknown
        self._trailers_left = MAX_HEAD

    @property
    def closes(self) -> bool:
        """Once ``head_complete``: whether the connection ends with this answer."""
        return not self._keep_alive

    def feed(self, data: bytes) -> list[bytes]:
        """Read bytes from the connection.

        Args:
            data: the next bytes; empty bytes change nothing (the end of the connection is ``feed_eof``).

        Returns:
            The chunks of the body that are now known, framing removed, in order; often ``data`` itself.

        Raises:
            ProtocolError: the bytes are not a valid response. Every later call raises it again.
        """
        if self._failure is not None:
            raise ProtocolError(self._failure, response_started=self.started)
        size = len(data)
        if not size:
            return []
        self.started = True
        body: list[bytes] = []
        position = 0
        try:
            while position < size:
                position = self._read(self, data, position, body)
            if self._body_left is not None and body:
                self._limit_body(body)
        except ProtocolError as error:
            self._failure = error.message
            self._buffer.clear()
            self.undelivered = body
            raise
        return body

    def feed_eof(self) -> None:
        """Note that the peer closed the connection: the regular end of a body without a length.

        Raises:
            ProtocolError: the response is not complete, or had failed before.
        """
        if self._failure is None and not self.complete:
            if self._read is ResponseReader._read_until_close:
                self._finish()
            elif not self.started:
                self._failure = "the connection was closed before any byte of a response arrived"
            elif not self.head_complete:
                self._failure = "the connection was closed inside the head of the response"
            elif self._read is ResponseReader._read_fixed:
                self._failure = (
                    f"the connection was closed {self._remaining} bytes before the end of the response's body "
                    f"(Content-Length: {self.headers['content-length']})"
                )
            else:
                self._failure = "the connection was closed before the last chunk of the response's body"
        self.reusable = False
        if self._failure is not None:
            raise ProtocolError(self._failure, response_started=self.started)

    def _read_head(self, data: bytes, position: int, body: list[bytes]) -> int:
        limit = MAX_HEAD
        buffer = self._buffer
        known = len(buffer)
        if not known:
            end = data.find(_HEAD_END, position, position + limit)
            if end >= 0:
                self._finish_head(data[position:end])
                return end + 4
        buffer += data[position : position + limit - known]
        end = buffer.find(_HEAD_END, known - 3 if known > 3 else 0)
        if end >= 0:
            head = bytes(memoryview(buffer)[:end])
            buffer.clear()
            self._finish_head(head)
            return position + end + 4 - known
        # Refuse bytes that can never become a head now: their sender may be waiting for us.
        check_beginning(buffer, known)
        if len(buffer) >= limit:
            raise malformed(f"the head of the response is longer than {limit} bytes")
        return len(data)

    def _finish_head(self, head: bytes) -> None:
        try:
            self._parse_head(head)
        except ProtocolError:
            check_beginning(head, 0)  # raise the error that the head would have raised if it came in pieces
            raise

    def _parse_head(self, head: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        line = lines[0]
        status, http10 = status_lines.get(line) or parse_status_line(line, head)
        # Deleting every control character must delete exactly the line ends: no bare CR or LF (2.2), no NUL.
        if len(head.translate(None, CONTROLS)) + 2 * (len(lines) - 1) != len(head):
            raise malformed("the head of the response has a control character, or a bare CR or LF")
        del lines[0]
        headers = parse_fields(lines)
        if self._connect and 200 <= status < 300:
            keep_alive = True
            length = 0  # RFC 9110 9.3.6: its framing fields are ignored
        else:
            keep_alive = not http10  # 9.3: HTTP/1.0 may keep the connection; we need not
            connection = headers.get("connection")
            if connection is not None and connection != "keep-alive":
                options = connection.lower().split(",")
                keep_alive = keep_alive and "close" not in [option.strip(" \t") for option in options]
            length = body_length(headers, http10=http10)
            if status < 200:
                self._skip(status)
                return
            if status == 204 or status == 304:
                # 6.3 rule 1: there is no body, whatever the fields say. If they announce one, a careless sender may
                # send it.
                keep_alive = keep_alive and length in (0, UNTIL_CLOSE)
                length = 0
            elif length == UNTIL_CLOSE:
                keep_alive = False
        self.status = status
        self.headers = headers
        self.head_complete = True
        self._keep_alive = keep_alive
        limit = self._max_body if 200 <= status < 300 else MAX_ERROR_BODY
        if limit is not None and not 0 <= length <= limit:
            if length > limit and 200 <= status < 300:
                raise too_large(limit)
            self._body_left = limit
        if length > 0:
            self._remaining = length
            self._read = ResponseReader._read_fixed
        elif not length:
            self._finish()
        elif length == UNTIL_CLOSE:
            self._read = ResponseReader._read_until_close
        else:
            self._read = ResponseReader._read_chunk_line

    def _skip(self, status: int) -> None:
        if status == 101:
            raise malformed("101: the server changed to a protocol that was not asked for")  # RFC 9110 15.2.2
        self._informational += 1
        if self._informational > _MAX_INFORMATIONAL:
            raise malformed(f"more than {_MAX_INFORMATIONAL} informational (1xx) answers came before the response")

    def _limit_body(self, body: list[bytes]) -> None:
        """Refuse a success with a body that is too large; cut off the body of an error."""
        assert self._body_left is not None
        self._body_left -= sum(map(len, body))
        if self._body_left >= 0:
            return
        if 200 <= self.status < 300:
            body.clear()
            self.complete = False
            assert self._max_body is not None
            raise too_large(self._max_body)
        self._finish()
        self.reusable = False
        body[:] = [b"".join(body)[: self._body_left]]

    def _read_fixed(self, data: bytes, position: int, body: list[bytes]) -> int:
        position = self._read_data(data, position, body)
        if not self._remaining:
            self._finish()
        return position

    def _read_until_close(self, data: bytes, position: int, body: list[bytes]) -> int:
        body.append(data[position:])
        return len(data)

    def _read_after_the_end(self, data: bytes, position: int, body: list[bytes]) -> int:
        # These bytes do not answer any request (9.2): the connection cannot be trusted.
        self.reusable = False
        return len(data)

    def _read_data(self, data: bytes, position: int, body: list[bytes]) -> int:
        part = data[position : position + self._remaining]  # bytes: a slice of the whole is the same object
        body.append(part)
        self._remaining -= len(part)
        return position + len(part)

    def _read_chunk_data(self, data: bytes, position: int, body: list[bytes]) -> int:
        position = self._read_data(data, position, body)
        if not self._remaining:
            self._remaining = 2
            self._read = ResponseReader._read_chunk_end
        return position

    def _read_chunk_end(self, data: bytes, position: int, body: list[bytes]) -> int:
        if data[position] != (13 if self._remaining == 2 else 10):
            raise malformed("the data of a chunk is not followed by CRLF: its size is wrong")
        self._remaining -= 1
        if not self._remaining:
            self._read = ResponseReader._read_chunk_line
        return position + 1

    def _read_whole_chunks(self, data: bytes, position: int, body: list[bytes]) -> int:
        """Read the chunks that are whole in the data, up to the first that is not, or has an unusual size line."""
        known = _chunk_sizes
        while True:
            end = data.find(b"\r\n", position, position + _USUAL_CHUNK_LINE)
            if end < 0:
                return position
            line = data[position:end]
            size = known.get(line)
            if size is None:
                # The other path reads these: the end of the body, or a line with an extension.
                if not line or line.translate(None, HEX_DIGITS):
                    return position
                size = int(line, 16)
                if not size:
                    return position
                if len(known) < _MAX_REMEMBERED_SIZES:
                    known[line] = size
            start = end + 2
            stop = start + size
            if data[stop : stop + 2] != b"\r\n":
                return position
            body.append(data[start:stop])
            position = stop + 2

    def _read_chunk_line(self, data: bytes, position: int, body: list[bytes]) -> int:
        if not self._buffer:
            position = self._read_whole_chunks(data, position, body)
            if position == len(data):
                return position
            # As with a head: refuse a line that can never become a chunk size before its end comes.
            if data[position] not in HEX_DIGITS:
                raise malformed("the size of a chunk is not a hexadecimal number")
        line, position = self._read_line(data, position, _MAX_CHUNK_LINE)
        if line is not None:
            self._remaining = chunk_size(line)
            self._read = ResponseReader._read_chunk_data if self._remaining else ResponseReader._read_trailers
        return position

    def _read_trailers(self, data: bytes, position: int, body: list[bytes]) -> int:
        line, position = self._read_line(data, position, self._trailers_left)
        if line is not None:
            self._trailers_left -= len(line) + 2
            if line:
                check_trailer(line)
            else:
                self._finish()
        return position

    def _read_line(self, data: bytes, position: int, limit: int) -> tuple[bytes | None, int]:
        """Return a line without its CRLF, or None if its end has not arrived, and the position after it."""
        buffer = self._buffer
        end = data.find(b"\n", position, position + limit - len(buffer)) + 1
        if not end:
            if len(data) - position + len(buffer) >= limit:
                raise malformed("a chunk-size line or the trailers of the response are too long")
            buffer += data[position:]
            return None, len(data)
        line = data[position:end]
        if buffer:
            buffer += line
            line = bytes(buffer)
            buffer.clear()
        if line[-2:] != b"\r\n":
            raise malformed("a line of the response's chunked body ends in LF without CR")
        return line[:-2], end

    def _finish(self) -> None:
        self._read = ResponseReader._read_after_the_end
        self.complete = True
        self.reusable = self._keep_alive
