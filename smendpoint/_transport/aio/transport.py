"""The direct lane for asyncio: our own signing and HTTP over pooled connections."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._core.aws.response import RawResponse
from smendpoint._core.call.flow import NeedCredentials, Send
from smendpoint._core.call.timing import deadline_exceeded
from smendpoint._transport.address import DirectLane
from smendpoint._transport.aio.dial import dial
from smendpoint._transport.aio.pool import LoopPool
from smendpoint._transport.deadline import Deadline
from smendpoint._transport.exchange import (
    HASH_OFF_LOOP_BYTES,
    connection_lost,
    died_unheard,
    out_of_turn,
    read_body_async,
)
from smendpoint._transport.threads import off_loop
from smendpoint._transport.timeouts import TimedOut, mark_retrieved, share

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from smendpoint._aws import Identity, Target
    from smendpoint._core.aws.renderer import CallRequest
    from smendpoint._core.aws.sigv4 import Credentials
    from smendpoint._core.call.timing import Clock, Timeout
    from smendpoint._core.http.http1 import ResponseReader
    from smendpoint._transport.aio.connection import AsyncConnection
    from smendpoint._transport.aio.http2 import AsyncHttp2


class AsyncDirectTransport(DirectLane):
    """An `AsyncTransport` with its own connections."""

    def __init__(self, identity: Identity, max_connections: int | None, clock: Clock) -> None:
        super().__init__(identity, max_connections, clock)
        self._looking_up: asyncio.Future[None] | None = None
        self._pools: dict[asyncio.AbstractEventLoop, LoopPool] = {}
        self._closed = False

    def forget(self) -> None:
        super().forget()
        self._looking_up = None
        self._pools = {}

    async def resolve(self) -> Target:
        address = self._address
        if address is None:
            loop = asyncio.get_running_loop()
            looking_up = self._looking_up
            if looking_up is None or looking_up.get_loop() is not loop:
                looking_up = self._looking_up = off_loop(loop, self._look_up)
                looking_up.add_done_callback(self._looked_up)
            await share(looking_up)
            address = self._address
            assert address is not None
        return address.target

    def _look_up(self) -> None:
        with self._resolving:
            if self._address is None:
                address = self._find_address()
                if address.target.url.tls:
                    address.context()  # reads certificates: better in this thread than in the loop
                self._address = address

    def _looked_up(self, done: asyncio.Future[None]) -> None:
        if self._looking_up is done:
            self._looking_up = None
        mark_retrieved(done)

    async def _pool(self) -> LoopPool:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            if self._closed:
                raise errors.ConfigurationError("the endpoint is closed: make a new one")
            for other in list(self._pools):  # other threads have their own loops
                if other.is_closed():
                    self._pools.pop(other, None)
            pool = self._pools[loop] = LoopPool(loop, self.max_connections, self._clock.monotonic, self._forget_pool)
            await pool.guard()
        return pool

    def _forget_pool(self, pool: LoopPool) -> None:
        if self._pools.get(pool.loop) is pool:  # else a fork has put another one there
            del self._pools[pool.loop]

    def perform(self, step: Any, request: CallRequest, timeout: Timeout) -> Awaitable[Any]:
        if type(step) is Send:
            return self._send(step, request, Deadline(timeout, step.deadline, self._clock.monotonic))
        if type(step) is NeedCredentials:
            return self._load(step, Deadline(timeout, step.deadline, self._clock.monotonic))
        return self._clock.sleep_async(step.seconds)

    async def converse(self, step: Send, request: CallRequest, timeout: Timeout) -> AsyncHttp2:
        from smendpoint._transport.aio.http2 import AsyncHttp2
        from smendpoint._transport.http2 import Http2Stream

        pool = await self._pool()
        deadline = Deadline(timeout, step.deadline, self._clock.monotonic)
        address = self.http2_address()
        if address.target.url.tls and not address.has_context:
            await off_loop(pool.loop, address.context)  # reads certificates
        connection = await dial(pool.loop, address, deadline, pool.buffer, AsyncHttp2)
        try:
            pool.adopt(connection)
            fields, encoder = address.renderer.render_http2(request, step, address.target.url.scheme)
            connection.begin(Http2Stream(fields, step.begun, request.max_answer), deadline, pool, encoder)
        except BaseException:
            connection.abort()
            pool.release(connection)
            raise
        return connection

    async def _load(self, step: NeedCredentials, deadline: Deadline) -> Credentials:
        """Load credentials in a thread, once for all waiters."""
        pool = await self._pool()
        rejected = step.rejected
        while True:
            loading = pool.loading or self._start_loading(pool, rejected)
            instead_of = pool.loading_instead_of
            try:
                credentials = await share(loading, deadline.queueing())
            except TimedOut:
                raise deadline_exceeded(deadline.timeout, request_sent=False) from None
            # A load that was already running may have begun before the service rejected the credentials.
            if rejected is None or credentials != rejected or instead_of == rejected:
                return credentials

    def _start_loading(
        self, pool: LoopPool, rejected: Credentials | None, *, ahead: bool = False
    ) -> asyncio.Future[Credentials]:
        provider = self.credentials

        def load() -> Credentials:
            return provider.load(rejected=rejected)

        def loaded(done: asyncio.Future[Credentials]) -> None:
            pool.loading = None
            mark_retrieved(done)

        loading = pool.loop.run_in_executor(None, load) if ahead else off_loop(pool.loop, load)
        pool.loading = loading
        pool.loading_instead_of = rejected
        loading.add_done_callback(loaded)
        return loading

    async def refresh_ahead(self) -> None:
        pool = await self._pool()
        if pool.loading is None:
            with suppress(RuntimeError):  # no thread can be started
                self._start_loading(pool, None, ahead=True)

    async def _send(self, step: Send, request: CallRequest, deadline: Deadline) -> RawResponse | AsyncSource:
        address = self._address
        assert address is not None  # `resolve` came first
        pool = self._pools.get(asyncio.get_running_loop()) or await self._pool()
        if len(request.body) > HASH_OFF_LOOP_BYTES and request.body_hash is None:
            await off_loop(pool.loop, request.hash_body)
        whole = not request.streaming and step.started is None
        stale = False
        while True:
            # If one idle connection turned out dead, the others may be dead too: open a new one.
            connection = None if stale else pool.acquire_nowait()
            if connection is None:
                connection = await pool.acquire(deadline, fresh=stale)
            reused = connection is not None
            try:
                if connection is None:
                    connection = await dial(pool.loop, address, deadline, pool.buffer)
                    pool.adopt(connection)
                # No variable of this function has the head, which is signed: see `_core/call/hiding.py`.
                reader = await connection.ask(
                    address.renderer.render(request, step),
                    request.body,
                    deadline,
                    whole=whole,
                    max_body=request.max_answer,
                )
                if reused and out_of_turn(reader, cut_short=connection.cut_short):
                    raise connection_lost(None, response_started=False)
                step.begun(reader.status, reader.headers)
            except BaseException as error:
                pool.give_back(connection, reusable=False)
                if reused and died_unheard(error):
                    stale = True
                    continue
                raise
            break
        if whole:
            body = connection.received()
            pool.give_back(connection, reusable=reader.reusable)
            return RawResponse(reader.status, reader.headers, body)
        source = AsyncSource(pool, connection, reader)
        if request.streaming and 200 <= reader.status < 300:
            return source
        return await read_body_async(source)

    async def close(self) -> None:
        self._closed = True
        loop = asyncio.get_running_loop()
        for other, pool in list(self._pools.items()):
            if other is loop:
                await pool.close()
            else:
                with suppress(RuntimeError):  # the loop has ended, and its connections are already closed
                    other.call_soon_threadsafe(pool.shut)


class AsyncSource:
    """The body of a streamed answer over a connection of the pool."""

    __slots__ = ("_connection", "_pool", "_reader", "headers", "status")

    def __init__(self, pool: LoopPool, connection: AsyncConnection, reader: ResponseReader) -> None:
        self._pool = pool
        self._connection: AsyncConnection | None = connection
        self._reader = reader
        self.status = reader.status
        self.headers: Mapping[str, str] = reader.headers

    async def read(self) -> bytes:
        connection = self._connection
        if connection is None:
            return b""
        data = await connection.more()
        if not data and self._connection is not None:
            self._connection = None
            self._pool.give_back(connection, reusable=self._reader.reusable)
        return data

    def close(self) -> None:
        try:
            here = asyncio.get_running_loop() is self._pool.loop
        except RuntimeError:
            here = False
        if not here:
            self.abandon()
        elif self._connection is not None:
            connection, self._connection = self._connection, None
            self._pool.give_back(connection, reusable=False)

    def abandon(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(RuntimeError):  # the loop has ended, and so has the connection
                self._pool.loop.call_soon_threadsafe(lambda: self._pool.give_back(connection, reusable=False))
