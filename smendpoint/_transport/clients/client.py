"""The client lane, blocking: every call goes through a boto3 or botocore client that was given."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._core.aws.response import RawResponse
from smendpoint._transport.clients.adapter import (
    METHODS,
    ClientLane,
    answer_head,
    answer_of_failure,
    call_arguments,
    check_final,
    failed_by_itself,
    harmless_cause,
    retried,
    translate,
)
from smendpoint._transport.deadline import Deadline
from smendpoint._transport.exchange import RECV_BYTES, bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from smendpoint._core.aws.renderer import CallRequest
    from smendpoint._core.call.timing import Timeout
    from smendpoint._transport.deadline import Cancellation


class ClientTransport(ClientLane):
    """Performs calls through a client, with the client's own hooks, credentials, retries and timeouts.

    Args:
        client: for ``sagemaker-runtime``.
        clock: where time comes from.

    Raises:
        ConfigurationError: it is no such client.
    """

    asynchronous = False
    stoppable = False  # a client's call cannot be ended from outside

    def resolve(self) -> None:
        """Nothing to look up: the client knows where calls go."""

    def refresh_ahead(self) -> None:
        """Renew nothing: the client signs."""

    def close(self) -> None:
        """The client is its maker's to close."""

    def perform(self, step: Any, request: CallRequest, timeout: Timeout, cancellation: Cancellation | None) -> Any:
        """Make the one attempt that a call through a client has."""
        if cancellation is not None:
            cancellation.check()
        deadline = Deadline(timeout, step.deadline, self._clock.monotonic)
        method = getattr(self._client, METHODS[request.operation.name])
        try:
            response = method(**call_arguments(request))
        except Exception as error:
            return answer_of_failure(error, step)
        step.extra = retried(response)
        status, headers = answer_head(request.operation, response)
        source = ClientSource(raw_stream(response.get("Body")), status, headers, deadline)
        try:
            # http.client takes 103 for the answer. The final one is still to come: never reuse this connection.
            check_final(status, headers)
            step.begun(status, headers)
            if request.streaming and status < 300:
                return source
            body = b"".join(bounded(iter(source.read, b""), request.max_answer))
        except BaseException:
            source.close()
            raise
        source.close()
        return RawResponse(status, headers, body)


def raw_stream(body: Any) -> Any:
    """The bytes under botocore's ``StreamingBody`` or ``EventStream``.

    botocore's own iterator over an event stream ends without a word where the stream was cut, so it is not used.

    Raises:
        ConfigurationError: this botocore keeps them elsewhere.
    """
    if body is None:
        return None
    raw = getattr(body, "_raw_stream", None)
    if raw is None and callable(getattr(body, "read", None)):
        return body  # a mock's file, for example
    if raw is None:
        raise errors.ConfigurationError(
            f"the client's answer, {type(body).__name__}, gives no access to its bytes: leave client= out, or use a "
            "version of botocore that smendpoint is tested with"
        )
    return raw


def socket_under(raw: Any) -> Any:
    """The socket that a response of urllib3 is read from; `None` for a mock, and where the answer has ended."""
    try:
        sock = raw._fp.fp.raw._sock
    except AttributeError:
        return None
    return sock if isinstance(sock, socket.socket) else None


def reader_of(raw: Any) -> Callable[[], bytes]:
    """A function that gives the next bytes of `raw` as soon as there are any."""
    read = getattr(raw, "read1", None)
    if read is None and callable(getattr(raw, "stream", None)):
        chunks = raw.stream(RECV_BYTES)  # urllib3 before 2.2 has no read1, and its read waits for all bytes asked for
        return lambda: next(chunks, b"")
    read = read or raw.read
    return lambda: read(RECV_BYTES)


class ClientSource:
    """The body of a client's answer, as it arrives. One thread reads; any thread may close."""

    __slots__ = (
        "_deadline",
        "_doubtful",
        "_expected",
        "_lock",
        "_pid",
        "_raw",
        "_read",
        "_reading",
        "_whole",
        "headers",
        "status",
    )

    def __init__(self, raw: Any, status: int, headers: Mapping[str, str], deadline: Deadline) -> None:
        self._raw = raw
        self._read = None if raw is None else reader_of(raw)
        self._deadline = deadline
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._reading = False
        self._whole = False
        self.status = status
        self.headers = headers
        length = headers.get("content-length", "")
        chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        # A body that ends early looks like the end to urllib3's read1, so the length is checked here.
        self._expected: int | None = None
        if length and not chunked and raw is not None:
            if not (length.isascii() and length.isdigit()):
                # http.client then reads until the connection is closed, which may be never.
                self.close()
                raise errors.ProtocolError("the Content-Length of the answer is no number", response_started=True)
            self._expected = int(length)
        # http.client takes a head that was cut for a whole one. Then nothing says how long the body is, and none comes.
        from_network = type(raw).__module__.partition(".")[0] == "urllib3"
        self._doubtful = from_network and not length and not chunked and status != 204

    def read(self) -> bytes:
        """The next bytes as soon as there are any; empty when the answer has properly ended, or was closed.

        Raises:
            TransportError: it did not end properly, or nothing came in time.
        """
        with self._lock:
            raw, read = self._raw, self._read
            if raw is None or read is None:
                return b""
            self._reading = True
        try:
            return self._next(raw, read)
        finally:
            with self._lock:
                self._reading = False
                closed = self._raw is None
            if closed:  # by another thread, or at the end
                self._finish(raw)

    def _next(self, raw: Any, read: Callable[[], bytes]) -> bytes:
        try:
            sock = socket_under(raw)
            if sock is not None:  # our own limits hold beside the client's
                sock.settimeout(self._deadline.within(self._deadline.timeout.read))
            data = read()
        except Exception as error:
            ours = translate(error, response_started=True) or failed_by_itself(error, response_started=True)
            if ours is None:
                raise
            if isinstance(ours, errors.ReadTimeoutError):
                ours = self._deadline.silence(response_started=True)
            raise ours from harmless_cause(error, ours)
        if not isinstance(data, bytes):  # a mock's, which would go on for ever
            raise errors.ConfigurationError(
                f"the client's answer gives {type(data).__name__} where its bytes should be: have a mocked Body give "
                "bytes, such as io.BytesIO does"
            )
        if self._expected is not None:
            self._expected -= len(data)
            if not data and self._expected > 0:
                raise errors.ProtocolError("the answer is shorter than it said", response_started=True)
        if not data:
            if self._doubtful:
                raise errors.ProtocolError(
                    "the answer ended in its head, or has neither a body nor a length", response_started=True
                )
            self._whole, self._raw = True, None
        self._doubtful = False
        return data

    def _finish(self, raw: Any) -> None:
        """Give the connection back to the client where the answer is whole; else close it."""
        for name in ("release_conn", "close") if self._whole else ("close",):
            method = getattr(raw, name, None)
            if method is not None:
                method()
                return

    def close(self) -> None:
        """Let the connection go. Bytes that have not been read are lost."""
        with self._lock:
            raw, self._raw = self._raw, None
            if raw is None:
                return
            sock = socket_under(raw)
            if sock is not None and self._pid == os.getpid():  # in a forked child it is the parent that uses it
                with suppress(OSError):  # it may be closed already
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
            if self._reading:
                return  # the thread that reads wakes up, and closes: http.client does not bear two at a time
        self._finish(raw)
