"""`Caller` and `AsyncCaller`: one call, from its start to its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._calls.base import CallerBase
from smendpoint._core.call.flow import NeedSlot, Send, call_flow
from smendpoint._core.call.hiding import finish_error
from smendpoint._transport.drivers import drive, drive_async
from smendpoint._typing import Chunk, In, Out

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from smendpoint._calls.async_limiter import AsyncLimiter
    from smendpoint._calls.limiter import Limiter
    from smendpoint._core.aws.renderer import CallRequest
    from smendpoint._core.aws.response import RawResponse
    from smendpoint._core.call.flow import CallDefaults, CallState
    from smendpoint._core.call.limit import AdaptiveConcurrency
    from smendpoint._core.call.slots import Slot
    from smendpoint._core.call.timing import Timeout
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

        return ClientTransport(self.client, self.clock, self.identity.service)

    def _new_limiter(self, concurrency: AdaptiveConcurrency | int) -> Limiter:
        from smendpoint._calls.limiter import Limiter

        return Limiter(concurrency, self.clock)

    def start(self, request: CallRequest, slot: Slot | None = None) -> CallState:
        """Begin a call: its time starts here. The first call also looks up where calls go."""
        started = self.clock.monotonic()
        defaults = self._defaults or self._find_defaults(slot)
        if defaults.credentials is not None and defaults.credentials.refresh_due():
            self.transport.refresh_ahead()
        return self.new_call(request, defaults, started, slot)

    def _find_defaults(self, slot: Slot | None) -> CallDefaults:
        try:
            return self._make_defaults(self.transport.resolve(), slot)
        except errors.SmendpointError as error:
            finish_error(error, self.name)
            raise

    def run(self, request: CallRequest, call: CallState, cancellation: Cancellation | None = None) -> Any:
        """Drive a call to its answer."""
        perform = self.transport.perform if call.slot is None else self._perform
        if request.operation.conversing:
            perform = self._converse
        try:
            try:
                return drive(call_flow(call), perform, request, call.timeout, cancellation)
            except errors.TransportError:
                if cancellation is not None:
                    cancellation.check()  # to stop a call breaks its connection
                raise
        except BaseException as error:
            call.finish(error)
            raise

    def _perform(self, step: Any, request: CallRequest, timeout: Timeout, cancellation: Cancellation | None) -> Any:
        """Perform a step of a call that needs a slot."""
        if type(step) is NeedSlot:
            return step.slot.limiter.wait(step.slot, step.deadline, cancellation)
        return self.transport.perform(step, request, timeout, cancellation)

    def _converse(self, step: Any, request: CallRequest, timeout: Timeout, cancellation: Cancellation | None) -> Any:
        """Perform a step of a call that begins a conversation."""
        if type(step) is not Send:
            return self.transport.perform(step, request, timeout, cancellation)
        transport: Any = self.transport
        return transport.converse(step, request, timeout, cancellation)

    def send(
        self, request: CallRequest, cancellation: Cancellation | None = None, slot: Slot | None = None
    ) -> tuple[CallState, RawResponse]:
        """Start and run a call whose answer is whole."""
        call = self.start(request, slot)
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

        return AsyncClientTransport(self.client, self.clock, self.identity.service)

    def _new_limiter(self, concurrency: AdaptiveConcurrency | int) -> AsyncLimiter:
        from smendpoint._calls.async_limiter import AsyncLimiter

        return AsyncLimiter(concurrency, self.clock)

    async def start(self, request: CallRequest) -> CallState:
        """Begin a call: its time starts here. The first call also looks up where calls go."""
        started = self.clock.monotonic()
        defaults = self._defaults or await self._find_defaults()
        if defaults.credentials is not None and defaults.credentials.refresh_due():
            await self.transport.refresh_ahead()
        return self.new_call(request, defaults, started)

    async def _find_defaults(self, slot: Slot | None = None) -> CallDefaults:
        try:
            target = await self.transport.resolve()
            # another task may have made them in the meantime
            return self._defaults or self._make_defaults(target, slot)
        except errors.SmendpointError as error:
            finish_error(error, self.name)
            raise

    async def run(self, request: CallRequest, call: CallState) -> Any:
        """Drive a call to its answer."""
        perform = self.transport.perform if call.slot is None else self._perform
        if request.operation.conversing:
            perform = self._converse
        try:
            return await drive_async(call_flow(call), perform, request, call.timeout)
        except BaseException as error:
            call.finish(error)
            raise

    def _perform(self, step: Any, request: CallRequest, timeout: Timeout) -> Awaitable[Any]:
        """Perform a step of a call that needs a slot."""
        if type(step) is NeedSlot:
            wait: Awaitable[bool] = step.slot.limiter.wait(step.slot, step.deadline)
            return wait
        return self.transport.perform(step, request, timeout)

    def _converse(self, step: Any, request: CallRequest, timeout: Timeout) -> Awaitable[Any]:
        """Perform a step of a call that begins a conversation."""
        if type(step) is not Send:
            return self.transport.perform(step, request, timeout)
        transport: Any = self.transport
        begun: Awaitable[Any] = transport.converse(step, request, timeout)
        return begun

    async def send(self, request: CallRequest, slot: Slot | None = None) -> tuple[CallState, RawResponse]:
        """Start and run a call whose answer is whole."""
        # Both are written out: on this path, the shortest one, two more coroutines would cost more than their work.
        transport, started = self.transport, self.clock.monotonic()
        defaults = self._defaults or await self._find_defaults(slot)
        if defaults.credentials is not None and defaults.credentials.refresh_due():
            await transport.refresh_ahead()
        call = self.new_call(request, defaults, started, slot)
        perform = transport.perform if call.slot is None else self._perform
        try:
            return call, await drive_async(call_flow(call), perform, request, call.timeout)
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
