"""Sends answers: whole ones, and streams whose truncation a client can detect. Ends a call when its client leaves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from smendpoint.asgi._failures import Failure, failure_of
from smendpoint.errors import SmendpointError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from starlette.types import Receive, Send

    from smendpoint._calls.async_stream import AsyncStream
    from smendpoint.asgi._formats import Asked

_log = logging.getLogger("smendpoint.asgi")

KEEP_ALIVE_SECONDS = 15.0
"""Seconds of silence after which a stream gets a comment: about the interval that the HTML standard recommends."""

# Seconds that the last event of a stream may take when the server shuts down.
_GOODBYE_SECONDS = 1.0
_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx passes on each event at once
}
_UNANSWERED = b": the model has not answered yet\n\n"
_PAUSED = b": the model has paused\n\n"


class Reply:
    """One answer.

    Args:
        send: the ASGI server's function.
        keep_alive: seconds of silence after which a stream gets a comment.
        sleep: waits for a number of seconds; for tests.
    """

    def __init__(
        self, send: Send, keep_alive: float, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._send = send
        self._keep_alive = keep_alive
        self._sleep = sleep
        self._started = False
        self._quiet = True  # nothing has been sent since the last check
        self._comment = _UNANSWERED
        self._writing = asyncio.Lock()

    async def whole(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer in JSON."""
        headers = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        await self._begin(status, headers)
        await self._send({"type": "http.response.body", "body": body})

    async def answer(self, asked: Asked) -> None:
        """Call the model, and send its whole answer."""
        await self.whole(200, await asked.answer())

    async def fail(self, failure: Failure) -> None:
        """Send an error: with its status, or as the last event of a stream that has begun.

        The stream then has no proper end, so the server closes the connection without a last chunk.
        """
        async with self._writing:
            if not self._started:
                await self.whole(failure.status, failure.body, failure.headers)
            else:
                event = b"data: " + failure.body + b"\n\n"
                await self._send({"type": "http.response.body", "body": event, "more_body": True})

    async def stream(self, stream: AsyncStream[Any, Any], asked: Asked) -> None:
        """Send a stream.

        The status is sent with the first event: until then an error has its own status. A stream that is silent for
        `keep_alive` seconds gets a comment, and with it the status 200.
        """
        keeping = asyncio.ensure_future(self._keep_alive_until_cancelled())
        try:
            async with stream:
                render = asked.render
                async for chunk in stream:
                    data = chunk if render is None else render(chunk)
                    if data:
                        self._comment = _PAUSED
                        await self._write(data)
            await self._write(asked.end(stream), more=False)
        finally:
            keeping.cancel()

    async def _keep_alive_until_cancelled(self) -> None:
        while True:
            await self._sleep(self._keep_alive)
            if self._quiet:
                await self._write(self._comment)
            self._quiet = True

    async def _write(self, data: bytes, more: bool = True) -> None:
        async with self._writing:
            if not self._started:
                await self._begin(200, _STREAM_HEADERS)
            self._quiet = False
            await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def _begin(self, status: int, headers: dict[str, str]) -> None:
        self._started = True
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    async def guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the work that answers, and send its failure."""
        try:
            await work
        except Failure as failure:
            await self.fail(failure)
        except SmendpointError as error:
            told = failure_of(error)
            if told.status >= 500 or told.error["code"] == "model_not_found":
                report(error, told)
            await self.fail(told)
        except asyncio.CancelledError:  # the client has gone, and gets nothing, or the server shuts down
            with contextlib.suppress(Exception):
                ending = self.fail(Failure(503, "The server is shutting down.", headers={"connection": "close"}))
                await asyncio.wait_for(ending, _GOODBYE_SECONDS)
            raise


def report(error: SmendpointError, failure: Failure) -> None:
    """Log a failed call. A container's message may quote a prompt, so only the service's own messages are logged."""
    code = failure.error["code"]
    detail = f": {error}" if code == "server_misconfigured" else ""
    request = getattr(error, "request_id", None)
    traced = f", request id {request}" if request else ""
    _log.error(
        "%s on endpoint %s, answered with %d%s%s",
        type(error).__name__,
        error.endpoint_name,
        failure.status,
        traced,
        detail,
    )


async def until_disconnect(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Run `work` while the client is connected; cancel it when the client leaves."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
    if not task.cancelled():
        task.result()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
