"""One exchange over a connection, in any of the transports: sizes, lost connections, and the body of an answer."""

from __future__ import annotations

import os
from _thread import allocate_lock  # for a quick cold start: see `_core`
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._core.aws.response import RawResponse
from smendpoint._core.http.syntax import too_large

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint._core.http.http1 import ResponseReader
    from smendpoint._transport import AsyncSource, Source


RECV_BYTES = 65_536
# A body up to this size is sent in one write together with its head; a larger one is watched for an early answer.
ONE_WRITE_BYTES = 65_536
# Hashing a body of this size takes about a millisecond; under asyncio a larger body is hashed in a thread.
HASH_OFF_LOOP_BYTES = 1_048_576
# An idle connection older than this is not used again: load balancers in front of a service usually close after 60 s.
IDLE_SECONDS = 45.0


def connection_lost(error: OSError | None, *, response_started: bool) -> errors.TransportError:
    """Our error for a connection that broke after the request went out; `error` is `None` if the peer closed it."""
    import ssl

    reason = getattr(error, "reason", None) or ""
    if isinstance(error, ssl.SSLError) and not response_started and "ALERT" in reason:
        # In TLS 1.3 a client certificate is judged only after the client's side of the handshake is done.
        return errors.TLSError(f"the service refused the TLS connection ({reason}): check client_cert in config=")
    how = "closed by the peer" if error is None else (error.strerror or type(error).__name__)
    when = "in the middle of the answer" if response_started else "before an answer"
    return errors.TransportError(f"the connection was lost {when}: {how}", response_started=response_started)


def died_unheard(error: BaseException) -> bool:
    """Whether a reused connection was lost before any byte of an answer, as an idle one may be at any moment."""
    return type(error) is errors.TransportError and not error.response_started


def out_of_turn(reader: ResponseReader, *, cut_short: bool) -> bool:
    """Whether the answer on a reused connection is not an answer to its request.

    Everything that arrives after the request was sent counts as its answer, with two exceptions. A 408 that closes the
    connection means that no request has arrived (RFC 9110 15.5.9; balancers send it when a connection has been idle for
    too long). And a model cannot have succeeded with an input whose end it has not seen.

    Args:
        reader: has the answer's head.
        cut_short: whether the request was not sent completely.
    """
    return (reader.status == 408 and reader.closes) or (cut_short and 200 <= reader.status < 300)


def joined(chunks: list[bytes]) -> list[bytes]:
    """Join the chunks into one, for a list that keeps many: each costs some 33 bytes besides its own."""
    return [b"".join(chunks)] if len(chunks) > 1 else chunks


def read_body(source: Source, limit: int | None = None) -> RawResponse:
    """Read an answer to its end, and close it; a body of more than `limit` bytes is a `ProtocolError`."""
    chunks = []
    size = 0
    try:
        while chunk := source.read():
            size = _counted(size, chunk, limit)
            chunks.append(chunk)
    finally:
        source.close()
    return RawResponse(source.status, source.headers, b"".join(chunks))


async def read_body_async(source: AsyncSource, limit: int | None = None) -> RawResponse:
    """`read_body` with ``await``."""
    chunks = []
    size = 0
    try:
        while chunk := await source.read():
            size = _counted(size, chunk, limit)
            chunks.append(chunk)
    finally:
        source.close()
    return RawResponse(source.status, source.headers, b"".join(chunks))


def _counted(size: int, chunk: bytes, limit: int | None) -> int:
    size += len(chunk)
    if limit is not None and size > limit:
        raise too_large(limit)
    return size


def opened_before_fork(what: str) -> errors.TransportError:
    """Make the error for a child that uses a stream or a conversation of its parent."""
    return errors.TransportError(
        f"this {what} was opened before a fork and belongs to the parent process", response_started=True
    )


class SharedSource:
    """The base class of both blocking sources: one thread reads, and any thread may close.

    Args:
        held: the connection of the bytes; `None` if there are none.
        status: the status of the answer.
        headers: the headers of the answer.
    """

    __slots__ = ("_held", "_lock", "_pid", "_reading", "headers", "status")

    def __init__(self, held: Any, status: int, headers: Mapping[str, str]) -> None:
        self._held = held  # until the end, or `close`
        self._pid = os.getpid()
        self._lock = allocate_lock()
        self._reading = False
        self.status = status
        self.headers = headers

    def read(self) -> bytes:
        if self._pid != os.getpid():
            raise opened_before_fork("stream")
        held = None
        ended = False
        try:
            with self._lock:
                if self._reading:
                    raise errors.TransportError(
                        "two threads are reading this stream at once: only one may read it",
                        response_started=True,
                    )
                held = self._held
                if held is None:
                    return b""
                self._reading = True
            data = self._next(held)
            ended = not data
            return data
        finally:
            if held is not None:
                with self._lock:
                    self._reading = False
                    closed = self._held is None
                    if ended:
                        self._held = None
                if closed or ended:
                    self._release(held, whole=not closed)

    def close(self) -> None:
        unread = None
        try:
            if self._pid != os.getpid():
                # The parent still reads, and one of its threads may have held the lock.
                unread, self._held = self._held, None
                return
            with self._lock:
                held, self._held = self._held, None
                if held is None:
                    return
                if not self._reading:
                    unread = held
                self._abort(held)  # a thread that reads wakes up and releases it
        finally:  # after an interrupt too
            if unread is not None:
                self._release(unread, whole=False)

    if TYPE_CHECKING:  # each source has its own

        def _next(self, held: Any) -> bytes:
            """Wait for the next bytes; empty when the answer has properly ended."""
            raise NotImplementedError

        def _abort(self, held: Any) -> None:
            """Wake the thread that waits for bytes."""

        def _release(self, held: Any, *, whole: bool) -> None:
            """Return the connection back after a `whole` answer; else close it."""
