"""The client lane, blocking: every call goes through the user's boto3 or botocore client."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._transport.clients.adapter import ClientLane, answer_head, begin, call_arguments, retried
from smendpoint._transport.clients.failures import answer_of_failure, failed_by_itself, raise_for, translate
from smendpoint._transport.deadline import Deadline
from smendpoint._transport.exchange import RECV_BYTES, SharedSource, read_body

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from smendpoint._core.aws.renderer import CallRequest
    from smendpoint._core.call.timing import Timeout
    from smendpoint._transport.deadline import Cancellation


class ClientTransport(ClientLane):
    """A `Transport` through a client, with the client's own hooks, credentials, retries and timeouts."""

    asynchronous = False
    stoppable = False  # a client's call cannot be ended from outside

    def resolve(self) -> None:
        """The client knows where calls go."""

    def refresh_ahead(self) -> None:
        """The client renews its credentials."""

    def close(self) -> None:
        """Do nothing: the client belongs to the user, who closes it."""

    def perform(self, step: Any, request: CallRequest, timeout: Timeout, cancellation: Cancellation | None) -> Any:
        if cancellation is not None:
            cancellation.check()
        deadline = Deadline(timeout, step.deadline, self._clock.monotonic)
        try:
            response = self._method(request)(**call_arguments(request))
        except Exception as error:
            return answer_of_failure(error, step)
        step.extra = retried(response)
        status, headers = answer_head(request.operation, response)
        source = ClientSource(raw_stream(response.get("Body")), status, headers, deadline)
        # http.client treats 103 as the answer. The final answer is still to come, so never reuse this connection.
        begin(source, step)
        return source if request.streaming and status < 300 else read_body(source, request.max_answer)


def raw_stream(body: Any) -> Any:
    """Find the bytes under botocore's ``StreamingBody`` or ``EventStream``.

    botocore's own iterator over an event stream ends silently when the stream is cut off, so it is not used.

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
    """The socket under a response of urllib3; `None` for a mock, and once the answer has ended."""
    try:
        sock = raw._fp.fp.raw._sock
    except AttributeError:
        return None
    return sock if isinstance(sock, socket.socket) else None


def reader_of(raw: Any) -> Callable[[], bytes]:
    """Make a function that returns the next bytes of `raw` as soon as there are any."""
    read = getattr(raw, "read1", None)
    if read is None and callable(getattr(raw, "stream", None)):
        chunks = raw.stream(RECV_BYTES)  # urllib3 before 2.2 has no read1, and its read waits for all requested bytes
        return lambda: next(chunks, b"")
    read = read or raw.read
    return lambda: read(RECV_BYTES)


class ClientSource(SharedSource):
    """The body of a client's answer."""

    __slots__ = ("_deadline", "_doubtful", "_expected", "_read")

    def __init__(self, raw: Any, status: int, headers: Mapping[str, str], deadline: Deadline) -> None:
        super().__init__(raw, status, headers)
        self._read = None if raw is None else reader_of(raw)
        self._deadline = deadline
        length = headers.get("content-length", "")
        chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        # For urllib3's read1, a body that ends early looks complete, so the length is checked here.
        self._expected: int | None = None
        if length and not chunked and raw is not None:
            if not (length.isascii() and length.isdigit()):
                # http.client then reads until the connection is closed, which may be never.
                self.close()
                raise errors.ProtocolError("the Content-Length of the answer is not a number", response_started=True)
            self._expected = int(length)
        # http.client treats a head that was cut off as complete: then there is neither a length nor a body.
        from_network = type(raw).__module__.partition(".")[0] == "urllib3"
        self._doubtful = from_network and not length and not chunked and status != 204

    def _next(self, held: Any) -> bytes:
        assert self._read is not None
        try:
            sock = socket_under(held)
            if sock is not None:  # our own limits apply besides the client's
                sock.settimeout(self._deadline.within(self._deadline.timeout.read))
            data = self._read()
        except Exception as error:
            ours = translate(error, response_started=True) or failed_by_itself(error, response_started=True)
            if isinstance(ours, errors.ReadTimeoutError):
                ours = self._deadline.silence(response_started=True)
            raise_for(error, ours)
        if not isinstance(data, bytes):  # a mock's, which would never end
            raise errors.ConfigurationError(
                f"the client's answer returns {type(data).__name__} instead of bytes: a mocked Body must return "
                "bytes, like io.BytesIO"
            )
        if self._expected is not None:
            self._expected -= len(data)
            if not data and self._expected > 0:
                raise errors.ProtocolError("the answer is shorter than announced", response_started=True)
        if not data and self._doubtful:
            raise errors.ProtocolError(
                "the answer ended in its head, or has neither a body nor a length", response_started=True
            )
        self._doubtful = False
        return data

    def _abort(self, held: Any) -> None:
        sock = socket_under(held)
        if sock is not None:
            with suppress(OSError):  # it may already be closed
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _release(self, held: Any, *, whole: bool) -> None:
        let_go = (getattr(held, "release_conn", None) if whole else None) or getattr(held, "close", None)
        if let_go is not None:
            let_go()
