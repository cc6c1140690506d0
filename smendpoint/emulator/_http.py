"""The server side of HTTP/1.1, only as much as a SageMaker client needs. Bytes in, one request out; no I/O."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/1\.([01])\Z")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*\Z")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\Z")
_DIGITS = re.compile(r"[0-9]{1,15}\Z", re.ASCII)
_ABSOLUTE = re.compile(r"https?://([^/?#@]+)([/?].*)?\Z", re.IGNORECASE)

MAX_HEAD = 65_536
"""The largest accepted request head, in bytes: well above the 8 to 16 KiB that real servers accept. The extensions and
trailers of a chunked body have the same limit."""

MAX_HEADERS = 100
"""The most accepted header lines: as many as Python's own HTTP server and Apache accept."""


class BadRequest(Exception):
    """The bytes are not a request that this server accepts; ``status`` is the answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class RequestReader:
    """Reads one request from the bytes that are pushed into it.

    Args:
        max_body: the largest accepted body, in bytes; ``None`` for no limit.

    Attributes:
        method, target: from the request line, once ``head_complete``. The target does not include the scheme and host
            that a client sends to a proxy.
        host: the host and port of the request: the target's, else the ``Host`` header's; empty without both.
        headers: lower-case names; values of a repeated header joined with ``", "``.
        header_list: every header line unchanged, in order.
        content_length: the announced length of the body, ``None`` for a chunked one.
        received: how many bytes of the body have arrived.
        body: the bytes of the body so far; whole once ``complete``.
        too_large: whether the body is too large; then it is read to its end, but not kept.
        expects_continue: whether the client waits for ``100 Continue`` before it sends the body.
        keep_alive: whether the client allows another request on the connection.
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
        self._beside = 0
        self._reading = self._read()

    @property
    def started(self) -> bool:
        """Whether any byte of the request has arrived."""
        return self.head_complete or bool(self._buffer)

    @property
    def waiting(self) -> int:
        """How many arrived bytes are not read yet; once ``complete``, they belong to the next requests."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            BadRequest: They are not a request. Later bytes are not read.
        """
        self._buffer += data
        next(self._reading, None)

    def rest(self) -> bytes:
        """Return the bytes after the request, once ``complete``: the start of the next one."""
        return bytes(self._buffer)

    # Each of these yields when it needs more bytes.

    def _read(self) -> Generator[None]:
        yield from self._read_head()
        self.head_complete = True
        if self.content_length is None:
            yield from self._read_chunks()
        else:
            self._expect(self.content_length)
            yield from self._read_body(self.content_length)
        self.complete = True

    def _read_head(self) -> Generator[None]:
        searched, end = 0, -1
        while end < 0:
            while self._buffer.startswith(b"\r\n"):  # RFC 9112 2.2: empty lines before the request line are ignored
                del self._buffer[:2]
            if self._buffer.startswith(b"\x16\x03"):  # the beginning of a TLS handshake, which waits for an answer
                raise BadRequest("this port uses plain http, not TLS: the URL must begin with http://")
            end = self._buffer.find(b"\r\n\r\n", max(0, searched - 3))
            searched = len(self._buffer)
            if (searched if end < 0 else end) > MAX_HEAD:
                raise BadRequest("the request head is too large", 431)
            if end < 0:
                yield
        request_line, *lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        request = _REQUEST_LINE.match(request_line)
        if request is None:
            raise BadRequest("bad request line")
        self.method, self.target = request[1].decode("ascii"), request[2].decode("ascii")
        if len(lines) > MAX_HEADERS:
            raise BadRequest("the request has too many headers", 431)
        for line in lines:
            header = _HEADER.match(line)
            if header is None:
                raise BadRequest("bad header line")
            name, value = header[1].decode("ascii").lower(), header[2].decode("latin-1")
            self.header_list.append((name, value))
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value
        self.host = self.headers.get("host", "")
        absolute = _ABSOLUTE.match(self.target)
        if absolute is not None:  # RFC 9112 3.2.2: a server accepts it, and its host takes precedence
            self.host = absolute[1]
            self.target = "/" + (absolute[2] or "").removeprefix("/")
        connection = self.headers.get("connection", "").lower()
        self.keep_alive = connection == "keep-alive" if request[3] == b"0" else connection != "close"
        self.expects_continue = self.headers.get("expect", "").lower() == "100-continue"
        self.content_length = _body_length(self.headers)

    def _read_chunks(self) -> Generator[None]:
        size = -1
        while size:
            size, extension = chunk_size((yield from self._read_line()))
            self._count_beside(extension)
            self._expect(self.received + size)
            yield from self._read_body(size)
            while size and len(self._buffer) < 2:
                yield
            if size and not self._buffer.startswith(b"\r\n"):
                raise BadRequest("a chunk is longer than announced")
            del self._buffer[: 2 if size else 0]
        while trailer := (yield from self._read_line()):  # read and ignored
            self._count_beside(len(trailer))

    def _read_line(self) -> Generator[None, None, bytes]:
        searched = 0
        while (end := self._buffer.find(b"\r\n", max(0, searched - 1))) < 0:
            searched = len(self._buffer)
            if searched > MAX_HEAD:
                raise BadRequest("a line is too long")
            yield
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _read_body(self, count: int) -> Generator[None]:
        """Read ``count`` bytes of the body."""
        while True:
            piece = self._buffer[:count]
            del self._buffer[:count]
            count -= len(piece)
            self.received += len(piece)
            if not self.too_large:
                self.body += piece
            if not count:
                return
            yield

    def _expect(self, size: int) -> None:
        """Note the expected size of the body."""
        if self._max_body is not None and size > self._max_body:
            self.too_large = True
            self.body.clear()

    def _count_beside(self, count: int) -> None:
        """Count the bytes besides the data, which have a limit, because they could continue forever."""
        self._beside += count
        if self._beside > MAX_HEAD:
            raise BadRequest("the body has too many bytes besides its data", 431)


def _body_length(headers: dict[str, str]) -> int | None:
    """Return the length of the body that a head announces; ``None`` for a chunked one."""
    coding, length = headers.get("transfer-encoding"), headers.get("content-length", "0")
    if coding is not None:
        if coding.lower() != "chunked" or "content-length" in headers:
            raise BadRequest("only one framing, chunked or Content-Length, is allowed")
        return None
    if not _DIGITS.match(length):
        raise BadRequest("bad Content-Length")
    return int(length)


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
    """Render a status line and headers without any check, because faults send what no server should."""
    try:
        # Newer Pythons call 413 "Content Too Large"; real servers do not.
        reason = "Request Entity Too Large" if status == 413 else HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Wrap data as one chunk of the chunked transfer coding; ``b""`` makes the end of the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
