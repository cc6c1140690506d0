"""The server side of HTTP/1.1, as little of it as a SageMaker client needs. Bytes in, one request out; no I/O."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/1\.([01])\Z")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*\Z")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\Z")
_DIGITS = re.compile(r"[0-9]{1,15}\Z", re.ASCII)
_ABSOLUTE = re.compile(r"https?://([^/?#@]+)([/?].*)?\Z", re.IGNORECASE)

MAX_HEAD = 65_536
"""The largest request head taken, in bytes: well above the 8 to 16 KiB that real servers take. What may stand beside
the data of a chunked body (extensions and trailers) has the same limit."""

MAX_HEADERS = 100
"""The most header lines taken: as many as Python's own HTTP server and Apache take."""


class BadRequest(Exception):
    """The bytes are not a request that this server takes; ``status`` is the answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class RequestReader:
    """Reads one request from the bytes that are pushed into it.

    Args:
        max_body: the largest body wanted, in bytes; ``None`` for no limit.

    Attributes:
        method, target: of the request line, once ``head_complete``; the target without the scheme and host that a
            client puts before it which believes that it talks to a proxy.
        host: the host and port that the request is for: the target's, else the ``Host`` header's; empty without both.
        headers: lower-case names; values of a repeated header joined with ``", "``.
        header_list: every header line as it came, in order.
        content_length: the announced length of the body, ``None`` for a chunked one.
        received: how many bytes of the body have come.
        body: what has come of the body; whole once ``complete``.
        too_large: whether the body is larger than wanted; then it is read to its end, and not kept.
        expects_continue: whether the client waits for ``100 Continue`` before it sends the body.
        keep_alive: whether the client lets the connection carry another request.
    """

    def __init__(self, max_body: int | None = None) -> None:
        self._max_body = max_body
        self.method = ""
        self.target = ""
        self.host = ""
        self.headers: dict[str, str] = {}
        self.header_list: list[tuple[str, str]] = []
        self.content_length: int | None = 0
        self.received = 0
        self.body = bytearray()
        self.too_large = False
        self.expects_continue = False
        self.keep_alive = True
        self.head_complete = False
        self.complete = False
        self._buffer = bytearray()
        self._searched = 0
        self._chunk_left = 0
        self._beside = 0
        self._state = "head"

    @property
    def started(self) -> bool:
        """Whether any byte of the request has come."""
        return self.head_complete or bool(self._buffer)

    @property
    def waiting(self) -> int:
        """How many bytes have come that are not read yet; once ``complete``, of the next requests."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            BadRequest: They are not a request.
        """
        self._buffer += data
        while not self.complete and self._step():
            pass

    def rest(self) -> bytes:
        """Give what came after the request, once ``complete``: the start of the next one."""
        return bytes(self._buffer)

    def _step(self) -> bool:
        if self._state == "head":
            return self._read_head()
        if self._state == "length":
            self._take((self.content_length or 0) - self.received)
            self.complete = self.received == self.content_length
            return False
        return self._read_chunked()

    def _expect(self, size: int) -> None:
        """Note the size that the body is going to have."""
        if self._max_body is not None and size > self._max_body:
            self.too_large = True
            self.body.clear()

    def _take(self, count: int) -> int:
        piece = self._buffer[:count]
        del self._buffer[:count]
        self.received += len(piece)
        if not self.too_large:
            self.body += piece
        return len(piece)

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n", max(0, self._searched - 1))
        if end < 0:
            self._searched = len(self._buffer)
            if self._searched > MAX_HEAD:
                raise BadRequest("a line is too long")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        self._searched = 0
        return line

    def _read_head(self) -> bool:
        while self._buffer.startswith(b"\r\n"):  # RFC 9112 2.2: empty lines before the request line are ignored
            del self._buffer[:2]
        if self._buffer.startswith(b"\x16\x03"):  # the beginning of a TLS handshake, which waits for an answer
            raise BadRequest("this port speaks plain http, not TLS: the URL must begin with http://")
        end = self._buffer.find(b"\r\n\r\n", max(0, self._searched - 3))
        self._searched = len(self._buffer)
        if end > MAX_HEAD or (end < 0 and self._searched > MAX_HEAD):
            raise BadRequest("the request head is too large", 431)
        if end < 0:
            return False
        lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        self._searched = 0
        request = _REQUEST_LINE.match(lines[0])
        if request is None:
            raise BadRequest("bad request line")
        self.method, self.target = request[1].decode("ascii"), request[2].decode("ascii")
        if len(lines) > MAX_HEADERS + 1:
            raise BadRequest("the request has too many headers", 431)
        for line in lines[1:]:
            header = _HEADER.match(line)
            if header is None:
                raise BadRequest("bad header line")
            name, value = header[1].decode("ascii").lower(), header[2].decode("latin-1")
            self.header_list.append((name, value))
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value
        self.host = self.headers.get("host", "")
        absolute = _ABSOLUTE.match(self.target)
        if absolute is not None:  # RFC 9112 3.2.2: a server takes it, and its host wins
            self.host = absolute[1]
            self.target = "/" + (absolute[2] or "").removeprefix("/")
        connection = self.headers.get("connection", "").lower()
        self.keep_alive = connection == "keep-alive" if request[3] == b"0" else connection != "close"
        self.expects_continue = self.headers.get("expect", "").lower() == "100-continue"
        self._choose_framing()
        self.head_complete = True
        return True

    def _choose_framing(self) -> None:
        coding = self.headers.get("transfer-encoding")
        length = self.headers.get("content-length")
        if coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise BadRequest("only one framing, chunked or Content-Length, is taken")
            self.content_length = None
            self._state = "size"
            return
        if length is not None:
            if not _DIGITS.match(length):
                raise BadRequest("bad Content-Length")
            self.content_length = int(length)
            self._expect(self.content_length)
        self._state = "length"

    def _read_chunked(self) -> bool:
        if self._state == "data":
            self._chunk_left -= self._take(self._chunk_left)
            if self._chunk_left or len(self._buffer) < 2:
                return False
            if not self._buffer.startswith(b"\r\n"):
                raise BadRequest("a chunk is longer than announced")
            del self._buffer[:2]
            self._state = "size"
            return True
        line = self._line()
        if line is None:
            return False
        if self._state == "size":
            self._chunk_left, extension = chunk_size(line)
            self._note(extension)
            self._expect(self.received + self._chunk_left)
            self._state = "data" if self._chunk_left else "trailer"
            return True
        self._note(len(line))  # a trailer line is read and ignored
        self.complete = not line
        return not self.complete

    def _note(self, beside: int) -> None:
        """Count the bytes beside the data, which have a limit: they could go on for ever."""
        self._beside += beside
        if self._beside > MAX_HEAD:
            raise BadRequest("there is too much beside the body's data", 431)


def chunk_size(line: bytes) -> tuple[int, int]:
    """Read the line before a chunk: the chunk's size, and how long the line's extension is.

    Raises:
        BadRequest: It is not such a line.
    """
    size = _CHUNK_SIZE.match(line)
    if size is None:
        raise BadRequest("bad chunk size")
    return int(size[1], 16), len(line) - len(size[1])


def render_head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """Render a status line and headers, without any check: faults send what no server should."""
    try:
        # Newer Pythons call 413 "Content Too Large"; servers in the field do not.
        reason = "Request Entity Too Large" if status == 413 else HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Wrap data as one chunk of the chunked transfer coding; ``b""`` makes the end of the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
