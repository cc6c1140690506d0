"""Objects in Amazon S3, for asyncio: the inputs and answers of asynchronous inference."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from smendpoint import errors
from smendpoint._core.call.polling import split_location
from smendpoint._transport.clients.failures import raise_for, translate
from smendpoint._transport.s3 import raise_unless_absent
from smendpoint._transport.threads import off_loop
from smendpoint._transport.timeouts import mark_retrieved, share

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

T = TypeVar("T")


class _Held:
    """The client of one event loop, held by a suspended asynchronous generator.

    When the loop ends as `asyncio.run` ends it, ``loop.shutdown_asyncgens()`` closes the generator, and so the client.
    """

    __slots__ = ("guard", "opening")

    def __init__(self, guard: AsyncGenerator[Any, None]) -> None:
        self.guard = guard
        self.opening = asyncio.ensure_future(guard.__anext__())
        self.opening.add_done_callback(mark_retrieved)


class AsyncStorage:
    """Gets and puts objects, with one client for each event loop.

    Args:
        given: the user's client, which the user closes.
        make: makes one if none is given, on first use: it returns a context manager for the client.
        closed: whether it is too late to make one.
    """

    def __init__(self, given: Any, make: Callable[[], Awaitable[Any]], *, closed: bool = False) -> None:
        self._given = given
        self._make = make
        self._held: dict[asyncio.AbstractEventLoop, _Held] = {}
        self._closed = closed

    async def _client(self) -> Any:
        if self._given is not None:
            return self._given
        if self._closed:
            raise errors.ConfigurationError("the endpoint is closed: make a new one")
        loop = asyncio.get_running_loop()
        held = self._held.get(loop)
        if held is None:
            for other in [other for other in self._held if other.is_closed()]:
                del self._held[other]
            held = self._held[loop] = _Held(self._hold(loop))
        return await share(held.opening)  # the first caller opens it for all

    async def _hold(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[Any, None]:
        try:
            async with await self._make() as client:
                yield client
        finally:
            self._held.pop(loop, None)  # after a failure too: the next caller tries again

    async def get(self, location: str) -> bytes | None:
        """See `BlockingStorage.get`."""
        bucket, key = split_location(location)
        client = await self._client()
        try:
            answer = await client.get_object(Bucket=bucket, Key=key)
            async with answer["Body"] as source:
                body: bytes = await source.read()
        except Exception as error:
            raise_unless_absent(error)
            return None
        return body

    async def put(self, location: str, body: bytes, content_type: str) -> None:
        """See `BlockingStorage.put`."""
        bucket, key = split_location(location)
        client = await self._client()
        try:
            await client.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type)
        except Exception as error:
            raise_for(error, translate(error))

    async def close(self) -> None:
        """Close the clients that were made here, on all event loops."""
        self._closed = True
        here = asyncio.get_running_loop()
        for loop, held in list(self._held.items()):
            if loop is here:
                await _release(held)
            elif not loop.is_closed():
                asyncio.run_coroutine_threadsafe(_release(held), loop)


def in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Do blocking work in a thread."""
    return off_loop(asyncio.get_running_loop(), work)


async def _release(held: _Held) -> None:
    await asyncio.wait({held.opening})  # opening takes no network
    with suppress(Exception):  # the callers of `_client` got it
        held.opening.result()
    await held.guard.aclose()
