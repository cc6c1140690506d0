"""One TLS connection, without any I/O: bytes of the network in, bytes of the application out, and the other way round.

`ssl.SSLSocket` asks the system for the head of each TLS record and for its rest, one record at a time. Here one read
brings whatever has arrived, as many records as that may be.
"""

from __future__ import annotations

import ssl

from smendpoint.errors import copy_error

__all__ = ["TLSChannel"]

# The most that one TLS record holds (RFC 8446 5.1): a read of this size leaves nothing of it behind.
_RECORD_BYTES = 16_384
# Of a record: its type, its version, and its length in two bytes.
_HEAD_BYTES = 5


class TLSChannel:
    """The client's side of TLS.

    Args:
        context: the trusted certificates, and the client certificate.
        host: the name that the peer's certificate must be for.

    Attributes:
        over: whether the peer will say no more.
        failure: why, where it did not say so properly.
    """

    __slots__ = ("_begun", "_incoming", "_outgoing", "_tls", "failure", "over")

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        # As bytes, where that will do: for text, Python loads the tables of international names.
        name = host.encode("ascii") if host.isascii() else host
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self.failure: ssl.SSLError | None = None
        self._begun = b""  # of a record whose end has not come
        self.over = False

    def handshake(self) -> bool:
        """Go on with the handshake as far as what has arrived allows; whether it is done.

        Raises:
            OSError: the peer's certificate is wrong, it does not speak TLS, or it speaks before it was asked.
        """
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        if self._incoming.pending and self.decrypt(self._incoming.read()):
            raise ConnectionError("the peer sent an answer before anything was asked")
        return True

    @property
    def at_rest(self) -> bool:
        """Whether all that has arrived was a whole number of records, and more may come."""
        return not self._begun and not self.over

    def arrived(self, data: bytes) -> None:
        """Take what the network gave; nothing means that the connection was closed."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def to_send(self) -> bytes:
        """What TLS itself has to say: parts of the handshake, an alert. Often nothing."""
        return self._outgoing.read()

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """What to send for `data`; what `to_send` would have given comes before it."""
        left = memoryview(data)
        while left:
            left = left[self._tls.write(left) :]
        return self._outgoing.read()

    def decrypt(self, data: bytes) -> bytes | None:
        """What `data` from the network says; `None` where more is needed to tell.

        Args:
            data: the next bytes; none where the connection was closed.

        Returns:
            The bytes in all records that are whole now; none where the peer has properly said that no more will come.

        Raises:
            ssl.SSLError: what came is not the peer's, or the connection was cut. Where something came before that,
                it is given first; then ``over`` is set, and `end` raises.
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
                self._begun = b""  # OpenSSL takes no byte more than the record has
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
        """How it ended: nothing where the peer said so, else an error.

        Raises:
            ssl.SSLError: see `decrypt`.
        """
        if self.failure is not None:
            raise copy_error(self.failure)
        return b""


def _last_record(data: bytes) -> bytes:
    """What follows the records that are whole in `data`, which begins with a record (RFC 8446 5.1)."""
    start = 0
    while len(data) - start >= _HEAD_BYTES:
        end = start + _HEAD_BYTES + int.from_bytes(data[start + 3 : start + _HEAD_BYTES], "big")
        if end > len(data):
            break
        start = end
    return data[start:]
