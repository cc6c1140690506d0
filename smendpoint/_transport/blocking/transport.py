"""The direct lane, blocking: our own signing and HTTP over pooled sockets."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._core.aws.response import RawResponse
from smendpoint._core.call.flow import NeedCredentials, Send
from smendpoint._core.call.timing import deadline_exceeded
from smendpoint._core.http.http1 import ResponseReader
from smendpoint._transport.address import DirectLane
from smendpoint._transport.blocking.connection import Connection, Place
from smendpoint._transport.blocking.dial import dial
from smendpoint._transport.blocking.pool import Pool
from smendpoint._transport.deadline import Deadline
from smendpoint._transport.exchange import (
    SharedSource,
    connection_lost,
    died_unheard,
    joined,
    out_of_turn,
    read_body,
)
from smendpoint._transport.readiness import LONGEST_WAIT
from smendpoint._transport.threads import run_in_helper, spawn

if TYPE_CHECKING:
    from smendpoint._aws import CredentialProvider, Identity, Target
    from smendpoint._core.aws.renderer import CallRequest
    from smendpoint._core.aws.sigv4 import Credentials
    from smendpoint._core.call.timing import Clock, Timeout
    from smendpoint._transport.blocking.http2 import BlockingHttp2
    from smendpoint._transport.deadline import Cancellation


class DirectTransport(DirectLane):
    """A `Transport` with its own connections."""

    stoppable = True

    def __init__(self, identity: Identity, max_connections: int | None, clock: Clock) -> None:
        super().__init__(identity, max_connections, clock)
        self._pool = Pool(max_connections, clock.monotonic)

    def forget(self) -> None:
        super().forget()
        self._pool.forget()

    def perform(self, step: Any, request: CallRequest, timeout: Timeout, cancellation: Cancellation | None) -> Any:
        if cancellation is not None:
            cancellation.check()
        if type(step) is Send:
            deadline = Deadline(timeout, step.deadline, self._clock.monotonic, cancellation)
            return (self._stream if request.streaming else self._exchange)(step, request, deadline)
        if type(step) is NeedCredentials:
            return self._load(step, Deadline(timeout, step.deadline, self._clock.monotonic))
        if cancellation is None:
            self._clock.sleep(step.seconds)
        else:
            cancellation.sleep(self._clock, step.seconds)
        return None

    def converse(self, step: Send, request: CallRequest, timeout: Timeout, cancellation: Cancellation) -> BlockingHttp2:
        from smendpoint._transport.blocking.http2 import BlockingHttp2
        from smendpoint._transport.http2 import Http2Stream

        if self._pool.closed:
            raise errors.ConfigurationError("the endpoint is closed: make a new one")
        cancellation.check()
        address, deadline = self.http2_address(), Deadline(timeout, step.deadline, self._clock.monotonic, cancellation)
        connection = dial(address, deadline)
        try:
            deadline.leave()
            fields, encoder = address.renderer.render_http2(request, step, address.target.url.scheme)
            stream = Http2Stream(fields, step.begun, request.max_answer)
            line = BlockingHttp2(connection, stream, deadline, self._clock.monotonic, encoder)
            line.queue(())
        except BaseException:
            connection.close()
            raise
        return line

    def _load(self, step: NeedCredentials, deadline: Deadline) -> Credentials:
        provider, rejected = self.credentials, step.rejected
        if deadline.at is None:
            return provider.load(rejected=rejected)
        try:
            # Our time limits do not apply to a process, a service or a file system that supplies credentials.
            return run_in_helper(
                (provider, rejected),
                lambda: provider.load(rejected=rejected),
                lambda: deadline.within(LONGEST_WAIT, request_sent=False),
            )
        except TimeoutError:
            raise deadline_exceeded(deadline.timeout, request_sent=False) from None

    def resolve(self) -> Target:
        with self._resolving:
            if self._address is None:
                self._address = self._find_address()
                self._pool.limit = self.max_connections
            return self._address.target

    def refresh_ahead(self) -> None:
        spawn("smendpoint-credentials", _renew, self.credentials)

    def _exchange(self, step: Send, request: CallRequest, deadline: Deadline) -> RawResponse:
        connection = None
        try:
            connection, reader, chunks = self._send(step, request, deadline)
            while not reader.complete:
                chunks += joined(connection.receive(deadline, reader))
            deadline.leave()
        except BaseException:
            if connection is not None:
                self._drop(connection, deadline)
            raise
        self._keep(connection, reader)
        return RawResponse(reader.status, reader.headers, chunks[0] if len(chunks) == 1 else b"".join(chunks))

    def _stream(self, step: Send, request: CallRequest, deadline: Deadline) -> RawResponse | BlockingSource:
        connection, reader, chunks = self._send(step, request, deadline)
        deadline.leave()
        source = BlockingSource(self, connection, reader, chunks, deadline)
        return source if 200 <= reader.status < 300 else read_body(source)

    def _send(
        self, step: Send, request: CallRequest, deadline: Deadline
    ) -> tuple[Connection, ResponseReader, list[bytes]]:
        """Send the request and read until the answer's head is whole."""
        address = self._address
        if address is None:  # a fork in the middle of a call
            self.resolve()
            address = self._address
            assert address is not None
        head = address.renderer.render(request, step)
        stale = False
        while True:
            reader = ResponseReader(max_body=request.max_answer)
            held: Connection | Place | None = None
            reused = False
            try:
                # If one idle connection turned out dead, the others may be dead too: open a new one.
                held = self._acquire(deadline, fresh=stale)
                if isinstance(held, Place):
                    connection = dial(address, deadline)
                    connection.place = held
                    held = connection
                else:
                    reused = True
                    connection = held
                    deadline.enter(connection.abort)
                try:
                    chunks = connection.send(head, request.body, deadline, reader)
                    while not reader.head_complete:
                        chunks += connection.receive(deadline, reader)
                except errors.ProtocolError:
                    if not (request.streaming and reader.head_complete):
                        raise
                    chunks = reader.undelivered  # the source returns them before it raises this again
                if reused and out_of_turn(reader, cut_short=connection.cut_short):
                    raise connection_lost(None, response_started=False)
                step.begun(reader.status, reader.headers)
            except BaseException as error:
                if held is not None:
                    self._drop(held, deadline)
                if reused and died_unheard(error):
                    stale = True
                    continue
                raise
            return connection, reader, chunks

    def _acquire(self, deadline: Deadline, *, fresh: bool) -> Connection | Place:
        if deadline.cancellation is None:
            return self._pool.acquire(deadline.queueing, fresh=fresh)
        deadline.enter(self._pool.abort)
        try:
            return self._pool.acquire(deadline.queueing, fresh=fresh)
        finally:
            deadline.leave()

    def _keep(self, connection: Connection, reader: ResponseReader) -> None:
        if reader.reusable and not connection.cut_short:
            self._pool.give_back(connection)
        else:
            self._drop(connection)

    def _drop(self, held: Connection | Place, deadline: Deadline | None = None) -> None:
        try:
            if deadline is not None:
                deadline.leave()
        finally:  # after an interrupt too
            if isinstance(held, Place):
                self._pool.free(held)
            else:
                self._pool.drop(held)

    def close(self) -> None:
        self._pool.close()


def _renew(provider: CredentialProvider) -> None:
    with suppress(errors.CredentialsError):  # the call that needs them raises it again
        provider.load()


class BlockingSource(SharedSource):
    """The body of a streamed answer over a connection of the pool."""

    __slots__ = ("_chunks", "_deadline", "_reader", "_transport")

    def __init__(
        self,
        transport: DirectTransport,
        connection: Connection,
        reader: ResponseReader,
        chunks: list[bytes],
        deadline: Deadline,
    ) -> None:
        super().__init__(connection, reader.status, reader.headers)
        self._transport = transport
        self._reader = reader
        self._chunks = chunks
        self._deadline = deadline

    def _next(self, held: Connection) -> bytes:
        reader, chunks = self._reader, self._chunks
        while not chunks:
            if reader.complete:
                return b""
            reader.feed(b"")  # raises again the error that `undelivered` came with
            try:
                chunks = held.receive(self._deadline, reader)
            except errors.ProtocolError:
                chunks = reader.undelivered
                if not chunks:
                    raise
        self._chunks = []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _abort(self, held: Connection) -> None:
        held.abort()

    def _release(self, held: Connection, *, whole: bool) -> None:
        if whole:
            self._transport._keep(held, self._reader)
        else:
            self._transport._drop(held)
