"""`AsyncStream`: a model's output while it arrives, for asyncio."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._calls.stream import StreamBase
from smendpoint._transport.timeouts import TimedOut, wait_for
from smendpoint._typing import Made, Piece

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from smendpoint._calls.base import CallerBase
    from smendpoint._calls.caller import AsyncCaller
    from smendpoint._core.aws.renderer import CallRequest
    from smendpoint._transport import AsyncSource


class AsyncStream(StreamBase[Piece, Made]):
    """A model's output while it arrives: an async iterator of chunks, and an async context manager.

    The stream closes itself at its end and after any failure. It ends normally only if the model's answer is complete;
    otherwise iterating raises a `SmendpointError`, whose ``received`` has the chunks so far.
    """

    __slots__ = ("_opening", "_reading")
    _caller: AsyncCaller[Any, Any, Any]
    _source: AsyncSource | None

    def __init__(self, caller: CallerBase[Any, Any, Any], request: CallRequest, stop: Sequence[str]) -> None:
        super().__init__(caller, request, stop)
        self._opening: asyncio.Future[AsyncSource] | None = None
        self._reading = False

    async def __aenter__(self) -> Self:
        await self._ensure_open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        while not self._ready:
            if self._over:
                self._check_end()
                raise StopAsyncIteration
            await self._advance()
        return self._ready.popleft()

    async def open(self) -> Self:
        """Send the request and wait for the answer to begin, so that a refusal is known before anything is shown.

        ``async with``, or reading the first chunk, also opens a stream. Opening it again does nothing.

        Returns:
            The stream itself.

        Raises:
            SmendpointError: as for `AsyncEndpoint.invoke`; or the stream was closed, or another task is reading it.
        """
        self._claim_reading()
        try:
            await self._ensure_open()
        finally:
            self._reading = False
        self._check_open()
        return self

    def _claim_reading(self) -> None:
        if self._reading:
            raise errors.ConfigurationError("another task is reading this stream: only one task can read it")
        self._reading = True

    async def _ensure_open(self) -> None:
        """Send the request, unless that was done, and wait for the answer to begin."""
        if self._source is not None or self._over:
            return
        # In a task of its own, so that closing from another task can stop it.
        opening = self._opening = asyncio.ensure_future(self._send())
        try:
            source = await wait_for(opening, None, self._dispose)
            if not self._over:
                assert self._call is not None
                self._read_head(self._call, source)
        except TimedOut:
            self._over = True  # something other than `aclose` may have cancelled the task
            raise self._closed_error() from None
        except BaseException as error:
            self._fail_opening(error)
            raise
        finally:
            self._opening = None
        if self._over:  # closed at the moment it opened
            self._dispose(source)
            raise self._closed_error()

    async def _send(self) -> AsyncSource:
        call = self._call = self._call or await self._caller.start(self._request)
        source: AsyncSource = await self._caller.run(self._request, call)
        return source

    def _dispose(self, source: AsyncSource) -> None:
        """Close an answer that arrived too late."""
        source.close()
        if self._call is not None:
            self._call.finish(None)

    async def _advance(self) -> None:
        """Wait for the next bytes and decode them."""
        self._claim_reading()
        try:
            await self._ensure_open()
            chunks = await self._read()
        finally:
            self._reading = False
        if self._over:
            return  # another task closed it
        if self._first_chunk is not None or not self._refused(chunks):
            self._deliver(chunks)

    async def _read(self) -> list[Piece]:
        pipeline, source = self._pipeline, self._source
        assert source is not None
        try:
            data = await source.read()
        except errors.SmendpointError as error:
            return [] if self._over else pipeline.cut(error)
        except BaseException as error:
            self._close(error)
            raise
        if self._over:
            return []
        return pipeline.feed(data) if data else pipeline.end()

    async def aclose(self) -> None:
        """Close the connection, even if the answer is incomplete. Any task may do it, even twice."""
        self._close(None)

    def _stop_opening(self) -> None:
        if self._opening is not None:
            self._opening.cancel()

    def __del__(self) -> None:
        if not getattr(self, "_over", True) and self._source is not None:
            self._finish(None)
            self._source.abandon()
