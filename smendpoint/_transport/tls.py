"""One TLS connection, without any I/O: it converts between the bytes of the network and those of the application.

`ssl.SSLSocket` asks the system for the head of each TLS record and for its rest, one record at a time. Here one read
brings all records that have arrived.
"""

from __future__ import annotations

import ssl

from smendpoint._core.error_copies import copy_error

__all__ = ["TLSChannel"]

# A TLS record holds at most this (RFC 8446 5.1): a read of this size leaves nothing of it behind.
_RECORD_BYTES = 16_384
# The head of a record: its type, its version, and its length in two bytes.
_HEAD_BYTES = 5


class TLSChannel:
    """The client's side of TLS.

    Args:
        context: the trusted certificates, and the client certificate.
        host: the name that the peer's certificate must be for.

    Attributes:
        over: whether the peer will send no more.
        failure: the reason, unless the peer closed TLS properly.
    """

    __slots__ = ("_begun", "_incoming", "_outgoing", "_tls", "failure", "over")

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        # An ASCII name goes as bytes: for text, Python loads the tables of international names.
        name = host.encode("ascii") if host.isascii() else host
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self.failure: ssl.SSLError | None = None
        self._begun = b""  # the start of a record whose end has not arrived
        self.over = False

    def handshake(self, *, peer_first: bool = False) -> bool:
        """Continue the handshake as far as the arrived bytes allow; return whether it is done.

        Args:
            peer_first: whether the peer may send data before a request. `decrypt` then returns it with what follows.

        Raises:
            OSError: the peer's certificate is wrong, it does not speak TLS, or it sends data before a request.
        """
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        if not peer_first and self._incoming.pending and self.decrypt(self._incoming.read()):
            raise ConnectionError("the peer sent data before any request")
        return True

    @property
    def protocol(self) -> str | None:
        """The protocol that both sides have agreed on (ALPN), after the handshake."""
        return self._tls.selected_alpn_protocol()

    @property
    def at_rest(self) -> bool:
        """Whether only whole records have arrived, and more may come."""
        return not self._begun and not self.over

    def arrived(self, data: bytes) -> None:
        """Add bytes from the network; none if the connection was closed."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def to_send(self) -> bytes:
        """The bytes that TLS itself has to send: a part of the handshake, an alert, often none."""
        return self._outgoing.read()

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """The bytes to send for `data`, after those of `to_send`."""
        left = memoryview(data)
        while left:
            left = left[self._tls.write(left) :]
        return self._outgoing.read()

    def decrypt(self, data: bytes) -> bytes | None:
        """Decrypt bytes from the network; `None` if no record is whole yet.

        Args:
            data: the next bytes; none if the connection was closed.

        Returns:
            The bytes in all records that are whole now; empty if the peer has properly closed TLS.

        Raises:
            ssl.SSLError: the bytes are not the peer's, or the connection was cut off. Bytes before that are returned
            first;
                then ``over`` is set, and `end` raises.
        """
        self.arrived(data)
        chunks: list[bytes] = []
        left = len(data)
        try:
            while True:
                chunk = self._tls.read(_RECORD_BYTES)
                if not chunk:
                    self.over = True
                    break
                chunks.append(chunk)
                self._begun = b""  # OpenSSL does not take more bytes than the record has
                left = self._incoming.pending
                if not left and data:
                    break
        except ssl.SSLWantReadError:
            self._begun = _last_record(self._begun + data[len(data) - left :])
            if not chunks:
                return None
        except ssl.SSLError as error:
            self.over = True
            self.failure = copy_error(error)
            if not chunks:
                raise
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def end(self) -> bytes:
        """Empty bytes if the peer has properly closed TLS, else an error.

        Raises:
            ssl.SSLError: see `decrypt`.
        """
        if self.failure is not None:
            raise copy_error(self.failure)
        return b""


def _last_record(data: bytes) -> bytes:
    """The bytes after the whole records in `data`, which begins with a record (RFC 8446 5.1)."""
    start = 0
    while len(data) - start >= _HEAD_BYTES:
        end = start + _HEAD_BYTES + int.from_bytes(data[start + 3 : start + _HEAD_BYTES], "big")
        if end > len(data):
            break
        start = end
    return data[start:]
