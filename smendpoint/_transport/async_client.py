"""The client lane for asyncio: every call goes through an aiobotocore client that was given."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._core.response import RawResponse
from smendpoint._transport.alarm import Alarm
from smendpoint._transport.common import Patience
from smendpoint._transport.foreign import (
    METHODS,
    answer_headers,
    call_arguments,
    check_client,
    longest_call,
    pool_size,
    retried,
    translate,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint._core.timing import Clock, Timeout
    from smendpoint._core.wire import CallRequest


class AsyncClientTransport:
    """Performs calls through a client, with the client's own hooks, credentials and retries.

    The client's timeouts hold too, but there are answers over which aiohttp waits past them: a watch is kept above it.

    Args:
        client: an aiobotocore client for ``sagemaker-runtime``.
        clock: where time comes from.

    Raises:
        ConfigurationError: it is no such client.
    """

    credentials = None  # the client signs

    def __init__(self, client: Any, clock: Clock) -> None:
        check_client(client, asynchronous=True)
        self._client = client
        self._clock = clock
        self.max_connections = pool_size(client)

    async def prepare(self) -> None:
        """Nothing to look up: the client knows where calls go."""

    def refresh_due(self) -> bool:
        """The client renews its credentials."""
        return False

    def forget(self) -> None:
        """After a fork: a client looks after its own connections."""

    async def close(self) -> None:
        """The client is its maker's to close."""

    async def perform(self, step: Any, request: CallRequest, timeout: Timeout) -> Any:
        """Make the one attempt that a call through a client has."""
        patience = Patience(timeout, step.deadline, self._clock.monotonic)
        method = getattr(self._client, METHODS[request.operation.name])
        loop = asyncio.get_running_loop()
        try:
            async with Alarm(loop, patience.within(longest_call(self._client, timeout))):
                response = await method(**call_arguments(request))
        except TimeoutError as error:
            raise patience.silence(response_started=False) from error
        except Exception as error:
            step.extra = retried(getattr(error, "response", None))
            ours = translate(error)
            if ours is None:
                raise
            raise ours from error
        step.extra = retried(response)
        if step.started is not None:
            step.started()
        status = (response.get("ResponseMetadata") or {}).get("HTTPStatusCode", 200)
        headers = answer_headers(request.operation, response)
        source = AsyncClientSource(raw_response(response.get("Body")), status, headers, patience)
        if request.streaming:
            return source
        try:
            pieces = []
            while piece := await source.read():
                pieces.append(piece)
        finally:
            source.close()
        return RawResponse(status, headers, b"".join(pieces))


def raw_response(body: Any) -> Any:
    """The aiohttp response under aiobotocore's ``StreamingBody`` or ``AioEventStream``.

    aiobotocore's own iterator over an event stream ends without a word where the stream was cut, so it is not used.

    Raises:
        ConfigurationError: this aiobotocore keeps it elsewhere.
    """
    if body is None:
        return None
    raw = getattr(body, "_raw_stream", None)
    if raw is None or not hasattr(getattr(raw, "content", None), "readany"):
        raise errors.ConfigurationError(
            f"the client's answer, {type(body).__name__}, gives no access to its bytes: leave client= out, or use a "
            "version of aiobotocore that smendpoint is tested with, over aiohttp"
        )
    return raw


class AsyncClientSource:
    """The body of a client's answer, as it arrives."""

    __slots__ = ("_patience", "_raw", "headers", "status")

    def __init__(self, raw: Any, status: int, headers: Mapping[str, str], patience: Patience) -> None:
        self._raw = raw
        self._patience = patience
        self.status = status
        self.headers = headers

    async def read(self) -> bytes:
        """The next bytes as soon as there are any; empty when the answer has properly ended.

        Raises:
            TransportError: it did not end properly, or nothing came in time.
        """
        raw, patience = self._raw, self._patience
        if raw is None:
            return b""
        try:
            async with Alarm(asyncio.get_running_loop(), patience.within(patience.timeout.read)):
                data: bytes = await raw.content.readany()
        except Exception as error:
            ours = translate(error, response_started=True)
            if ours is None:
                raise
            if isinstance(ours, errors.ReadTimeoutError):
                ours = patience.silence(response_started=True)
            raise ours from error
        if not data:
            self._raw = None
            raw.release()
        return data

    def close(self) -> None:
        """Let the connection go. Bytes that have not been read are lost."""
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.close()
