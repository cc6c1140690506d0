"""The client lane for asyncio: every call goes through the user's aiobotocore client."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._core.call.timing import deadline_exceeded
from smendpoint._transport.clients.adapter import ClientLane, answer_head, begin, call_arguments, longest_call, retried
from smendpoint._transport.clients.failures import answer_of_failure, connection_broke, raise_for, translate
from smendpoint._transport.deadline import Deadline
from smendpoint._transport.exchange import read_body_async
from smendpoint._transport.timeouts import TimedOut, wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint._core.aws.renderer import CallRequest
    from smendpoint._core.call.timing import Timeout


class AsyncClientTransport(ClientLane):
    """An `AsyncTransport` through an aiobotocore client, with the client's own hooks, credentials and retries.

    The client's timeouts also apply, but for some answers aiohttp waits past them, so this has its own timers.
    """

    asynchronous = True

    async def resolve(self) -> None:
        """The client knows where calls go."""

    async def refresh_ahead(self) -> None:
        """The client renews its credentials."""

    async def close(self) -> None:
        """Do nothing: the client belongs to the user, who closes it."""

    async def perform(self, step: Any, request: CallRequest, timeout: Timeout) -> Any:
        deadline = Deadline(timeout, step.deadline, self._clock.monotonic)
        longest = longest_call(self._client, timeout)
        seconds = deadline.within(longest, request_sent=False)
        try:
            response = await wait_for(self._method(request)(**call_arguments(request)), seconds, _discard)
        except TimedOut:
            raise _silence(deadline, response_started=False, by_total=seconds < longest) from None
        except Exception as error:
            return answer_of_failure(error, step)
        step.extra = retried(response)
        status, headers = answer_head(request.operation, response)
        source = AsyncClientSource(raw_response(response.get("Body")), status, headers, deadline)
        begin(source, step)
        if request.streaming and status < 300:
            return source
        return await read_body_async(source, request.max_answer)


def raw_response(body: Any) -> Any:
    """Find the aiohttp response under aiobotocore's ``StreamingBody`` or ``AioEventStream``.

    aiobotocore's own iterator over an event stream ends silently when the stream is cut off, so it is not used.

    Raises:
        ConfigurationError: this aiobotocore keeps it elsewhere.
    """
    if body is None:
        return None
    # Up to aiobotocore 2, a StreamingBody is a proxy around it.
    raw = getattr(body, "_raw_stream", None) or getattr(body, "__wrapped__", None)
    if raw is None or not hasattr(getattr(raw, "content", None), "readany"):
        raise errors.ConfigurationError(
            f"the client's answer, {type(body).__name__}, gives no access to its bytes: leave client= out, or use a "
            "version of aiobotocore that smendpoint is tested with, over aiohttp"
        )
    return raw


def _discard(response: Any) -> None:
    """Close an answer whose waiter was cancelled."""
    raw = raw_response(response.get("Body"))
    if raw is not None:
        raw.close()


def _unread(content: Any) -> bytes:
    """Take the bytes that had arrived when the answer failed: aiohttp's reader raises before it returns them."""
    waiting = getattr(content, "_buffer", None)
    if not waiting:
        return b""
    data = b"".join(waiting)
    waiting.clear()
    return data


def loss_under(raw: Any) -> OSError | None:
    """The error that ended the connection under an answer without a length; `None` if the peer closed it.

    aiohttp treats a connection that was reset as closed, but its protocol keeps the error.
    """
    exception = getattr(getattr(raw, "_protocol", None), "exception", None)
    error = exception() if callable(exception) else None
    return error if isinstance(error, OSError) else None


def _silence(deadline: Deadline, *, response_started: bool, by_total: bool) -> errors.TransportError:
    """The error for a wait in vain. The loop's clock timed it, which may differ from the call's."""
    return deadline_exceeded(deadline.timeout) if by_total else deadline.silence(response_started=response_started)


class AsyncClientSource:
    """The body of a client's answer."""

    __slots__ = ("_deadline", "_late", "_loop", "_raw", "headers", "status")

    def __init__(self, raw: Any, status: int, headers: Mapping[str, str], deadline: Deadline) -> None:
        self._raw = raw
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._late = False
        self.status = status
        self.headers = headers

    async def read(self) -> bytes:
        raw, deadline = self._raw, self._deadline
        if raw is None:
            return b""
        seconds = deadline.within(deadline.timeout.read)
        timer = self._loop.call_later(seconds, self._on_timer)
        try:
            data: bytes = await raw.content.readany()
        except Exception as error:
            if self._late:
                by_total = seconds < deadline.timeout.read
                raise _silence(deadline, response_started=True, by_total=by_total) from error
            arrived = _unread(raw.content)
            if arrived:
                # The next read has the same failure. aiohttp keeps it: its traceback would lead back to the stream.
                error.__traceback__ = None
                return arrived
            # Any exception is about the connection: aiohttp raises a bare RuntimeError for one that it had closed.
            raise_for(error, translate(error, response_started=True) or connection_broke(error))
        finally:
            timer.cancel()
        if not data:
            self._raw = None
            raw.release()
            if "content-length" not in self.headers and "transfer-encoding" not in self.headers:
                reset = loss_under(raw)
                if reset is not None:
                    raise connection_broke(reset) from reset
        return data

    def _on_timer(self) -> None:
        """Close the connection, which wakes the reader."""
        self._late = True
        self.close()

    def close(self) -> None:
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.close()

    def abandon(self) -> None:
        raw, self._raw = self._raw, None
        if raw is not None:
            with suppress(RuntimeError):  # the loop has ended, and so has the connection
                self._loop.call_soon_threadsafe(raw.close)
