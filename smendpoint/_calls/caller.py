"""`Caller` and `AsyncCaller`: one call, from its start to its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._calls.base import CallerBase
from smendpoint._core.call.flow import call_flow
from smendpoint._core.call.hiding import finish_error
from smendpoint._transport.drivers import drive, drive_async
from smendpoint._typing import Chunk, In, Out

if TYPE_CHECKING:
    from smendpoint._core.aws.renderer import CallRequest
    from smendpoint._core.aws.response import RawResponse
    from smendpoint._core.call.flow import CallDefaults, CallState
    from smendpoint._transport import AsyncTransport, Transport
    from smendpoint._transport.async_s3 import AsyncStorage
    from smendpoint._transport.deadline import Cancellation
    from smendpoint._transport.s3 import BlockingStorage


class Caller(CallerBase[In, Out, Chunk]):
    """Makes the calls of an `Endpoint`."""

    transport: Transport

    def _make_transport(self, max_connections: int | None) -> Transport:
        if self.client is None:
            from smendpoint._transport.blocking.transport import DirectTransport

            return DirectTransport(self.identity, max_connections, self.clock)
        from smendpoint._transport.clients.client import ClientTransport

        return ClientTransport(self.client, self.clock)

    def start(self, request: CallRequest) -> CallState:
        """Begin a call: its time starts here. The first call also looks up where calls go."""
        started = self.clock.monotonic()
        defaults = self._defaults or self._find_defaults()
        if defaults.credentials is not None and defaults.credentials.refresh_due():
            self.transport.refresh_ahead()
        return self.new_call(request, defaults, started)

    def _find_defaults(self) -> CallDefaults:
        try:
            return self._make_defaults(self.transport.resolve())
        except errors.SmendpointError as error:
            finish_error(error, self.name)
            raise

    def run(self, request: CallRequest, call: CallState, cancellation: Cancellation | None = None) -> Any:
        """Drive a call to its answer."""
        try:
            return drive(call_flow(call), self.transport.perform, request, call.timeout, cancellation)
        except BaseException as error:
            call.finish(error)
            raise

    def send(self, request: CallRequest, cancellation: Cancellation | None = None) -> tuple[CallState, RawResponse]:
        """Start and run a call whose answer is whole."""
        call = self.start(request)
        return call, self.run(request, call, cancellation)

    @property
    def storage(self) -> BlockingStorage:
        """Reads and writes objects in Amazon S3, one for all handles."""
        if self._storage is None:
            from smendpoint._transport.s3 import BlockingStorage

            storage = BlockingStorage(self.s3_client, self._make_s3_client, closed=self.closed)
            vars(self).setdefault("_storage", storage)
        found: BlockingStorage = vars(self)["_storage"]
        return found

    def _make_s3_client(self) -> Any:
        target = self.transport.resolve()
        if target is None:
            raise self._no_s3_client()
        from smendpoint._aws.s3 import blocking_s3_client

        return blocking_s3_client(self.identity, target, self.timeout)

    def close(self) -> None:
        """Close connections. A client that was given stays open: its maker closes it."""
        self.closed = True
        if self._storage is not None:
            self._storage.close()
        if self.share is not None:
            self.transport = self.share.leave(self)
        self.transport.close()


class AsyncCaller(CallerBase[In, Out, Chunk]):
    """Makes the calls of an `AsyncEndpoint`."""

    asynchronous = True
    transport: AsyncTransport

    def _make_transport(self, max_connections: int | None) -> AsyncTransport:
        if self.client is None:
            from smendpoint._transport.aio.transport import AsyncDirectTransport

            return AsyncDirectTransport(self.identity, max_connections, self.clock)
        from smendpoint._transport.clients.async_client import AsyncClientTransport

        return AsyncClientTransport(self.client, self.clock)

    async def start(self, request: CallRequest) -> CallState:
        """Begin a call: its time starts here. The first call also looks up where calls go."""
        started = self.clock.monotonic()
        defaults = self._defaults or await self._find_defaults()
        if defaults.credentials is not None and defaults.credentials.refresh_due():
            await self.transport.refresh_ahead()
        return self.new_call(request, defaults, started)

    async def _find_defaults(self) -> CallDefaults:
        try:
            target = await self.transport.resolve()
            return self._defaults or self._make_defaults(target)  # others may have asked meanwhile
        except errors.SmendpointError as error:
            finish_error(error, self.name)
            raise

    async def run(self, request: CallRequest, call: CallState) -> Any:
        """Drive a call to its answer."""
        try:
            return await drive_async(call_flow(call), self.transport.perform, request, call.timeout)
        except BaseException as error:
            call.finish(error)
            raise

    async def send(self, request: CallRequest) -> tuple[CallState, RawResponse]:
        """Start and run a call whose answer is whole."""
        # Both are written out: on this, the shortest path, two more coroutines would cost more than they do.
        transport, started = self.transport, self.clock.monotonic()
        defaults = self._defaults or await self._find_defaults()
        if defaults.credentials is not None and defaults.credentials.refresh_due():
            await transport.refresh_ahead()
        call = self.new_call(request, defaults, started)
        try:
            return call, await drive_async(call_flow(call), transport.perform, request, call.timeout)
        except BaseException as error:
            call.finish(error)
            raise

    @property
    def storage(self) -> AsyncStorage:
        """Reads and writes objects in Amazon S3, one for all handles."""
        if self._storage is None:
            from smendpoint._transport.async_s3 import AsyncStorage

            self._storage = AsyncStorage(self.s3_client, self._make_s3_client, closed=self.closed)
        storage: AsyncStorage = self._storage
        return storage

    async def _make_s3_client(self) -> Any:
        target = await self.transport.resolve()
        if target is None:
            raise self._no_s3_client()
        from smendpoint._aws.s3 import async_s3_client
        from smendpoint._transport.async_s3 import in_thread

        return async_s3_client(self.identity, target, self.timeout, in_thread)

    async def close(self) -> None:
        """Close connections. A client that was given stays open: its maker closes it."""
        self.closed = True
        if self._storage is not None:
            await self._storage.close()
        if self.share is not None:
            self.transport = self.share.leave(self)
        await self.transport.close()
