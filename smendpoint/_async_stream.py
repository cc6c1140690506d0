"""`AsyncStream`: a model's output while it arrives, for asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from smendpoint import errors
from smendpoint._stream import StreamBase

if TYPE_CHECKING:
    from typing_extensions import Self

    from smendpoint.async_endpoint import AsyncEndpoint

Chunk = TypeVar("Chunk")


class AsyncStream(StreamBase[Chunk]):
    """A model's output while it arrives: an async iterator of chunks, and an async context manager.

    The stream closes by itself at its end and at any failure. It ends normally only if the model's answer came whole;
    otherwise iterating raises a `SmendpointError` whose ``received`` has the chunks until then.
    """

    __slots__ = ()
    _endpoint: AsyncEndpoint[Any, Any, Chunk]

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        while not self._ready:
            if not self._over:
                await self._advance()
                continue
            failure = self._failure()
            if failure is not None:
                raise failure
            if not self._pipeline.done:
                raise self._closed_error()
            raise StopAsyncIteration
        return self._ready.popleft()

    async def _open(self) -> None:
        """Send the request, unless that is done."""
        if self._source is None and not self._over:
            try:
                self._call = await self._endpoint._start(self._request)
                self._begun(self._call, await self._endpoint._run(self._request, self._call))
            except BaseException:
                self._over = True
                raise

    async def _advance(self) -> None:
        """Wait for the next bytes and decode them."""
        await self._open()
        pipeline, source = self._pipeline, self._source
        try:
            data = await source.read()
        except errors.SmendpointError as error:
            if not self._over:  # otherwise `aclose` in another task is why
                self._take(pipeline.cut(error))
        except BaseException:
            self._close()
            raise
        else:
            self._take(pipeline.feed(data) if data else pipeline.end())
        if pipeline.done and not self._over:
            source.close()
            self._settle(self._failure())

    async def aclose(self) -> None:
        """Let the connection go, whatever is still to come. Closing twice does nothing."""
        self._close()

    def _close(self) -> None:
        if not self._over:
            self._ready.clear()
            self._settle(None)
            if self._source is not None:
                self._source.close()

    def __del__(self) -> None:
        if not getattr(self, "_over", True):
            self._close()
