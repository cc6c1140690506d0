"""The direct lane, blocking: our own signing and HTTP over pooled sockets."""

from __future__ import annotations

import os
from _thread import allocate_lock  # for a quick cold start: see `_core`
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._aws import resolve
from smendpoint._core.aws.response import RawResponse
from smendpoint._core.call.flow import NeedCredentials, Send, deadline_exceeded
from smendpoint._core.http.http1 import ResponseReader
from smendpoint._transport.address import Address
from smendpoint._transport.blocking.connection import Place
from smendpoint._transport.blocking.dial import dial
from smendpoint._transport.blocking.pool import Pool
from smendpoint._transport.deadline import Deadline
from smendpoint._transport.exchange import connection_lost, died_unheard, joined, out_of_turn
from smendpoint._transport.readiness import LONGEST_WAIT
from smendpoint._transport.threads import run_in_helper, spawn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint._aws import CredentialProvider, Identity, Target
    from smendpoint._core.aws.renderer import CallRequest
    from smendpoint._core.aws.sigv4 import Credentials
    from smendpoint._core.call.timing import Clock, Timeout
    from smendpoint._transport.blocking.connection import Connection
    from smendpoint._transport.deadline import Cancellation


class DirectTransport:
    """Performs the steps of calls over connections of its own.

    Args:
        identity: the settings that say where calls go and as whom; resolved at the first call.
        max_connections: how many may be open at once; `None` for no limit.
        clock: where time comes from.
    """

    stoppable = True  # a `Cancellation` ends a call that is under way

    def __init__(self, identity: Identity, max_connections: int | None, clock: Clock) -> None:
        self._identity = identity
        self._clock = clock
        self._address: Address | None = None
        self._resolving = allocate_lock()
        self._pool = Pool(max_connections, clock.monotonic)
        self._limit = self.max_connections = max_connections

    def forget(self) -> None:
        """After a fork, in the child: start afresh, without the parent's connections and without its locks."""
        self._address = None
        self._resolving = allocate_lock()
        self._pool.forget()

    @property
    def credentials(self) -> CredentialProvider:
        """Where calls find credentials; `resolve` came first."""
        assert self._address is not None
        return self._address.target.credentials

    def perform(self, step: Any, request: CallRequest, timeout: Timeout, cancellation: Cancellation | None) -> Any:
        """Do what one step of a call's flow asks for."""
        if cancellation is not None:
            cancellation.check()
        if type(step) is Send:
            deadline = Deadline(timeout, step.deadline, self._clock.monotonic, cancellation)
            return (self._open if request.streaming else self._exchange)(step, request, deadline)
        if type(step) is NeedCredentials:
            return self._load(step, Deadline(timeout, step.deadline, self._clock.monotonic))
        if cancellation is None:
            self._clock.sleep(step.seconds)
        else:
            cancellation.sleep(self._clock, step.seconds)
        return None

    def _load(self, step: NeedCredentials, deadline: Deadline) -> Credentials:
        provider, rejected = self.credentials, step.rejected
        if deadline.at is None:
            return provider.load(rejected=rejected)
        try:
            # A process, a service or a file system that credentials come from takes no time limit of ours.
            return run_in_helper(
                (provider, rejected),
                lambda: provider.load(rejected=rejected),
                lambda: deadline.within(LONGEST_WAIT, request_sent=False),
            )
        except TimeoutError:
            raise deadline_exceeded(deadline.timeout, request_sent=False) from None

    def resolve(self) -> Target:
        """Find out where calls go, once. Reads files, and may import botocore.

        Raises:
            ConfigurationError: there is no region, or a setting cannot be honoured.
            CredentialsError: credentials are malformed.
        """
        with self._resolving:
            if self._address is None:
                address = self._address = Address(resolve(self._identity))
                self._pool.limit = self.max_connections = self._limit or address.target.limits.max_pool_connections
            return self._address.target

    def refresh_ahead(self) -> None:
        """Renew credentials that run out soon, in a thread of its own: no call waits for it.

        Where no thread can be started, they are renewed by the call that finds them at their end.
        """

        spawn("smendpoint-credentials", _renew, self.credentials)

    def _exchange(self, step: Send, request: CallRequest, deadline: Deadline) -> RawResponse:
        connection = None
        try:
            connection, reader, chunks = self._begin(step, request, deadline)
            while not reader.complete:
                chunks += joined(connection.receive(deadline, reader))
            deadline.leave()
        except BaseException:
            if connection is not None:
                self._drop(connection, deadline)
            raise
        self._keep(connection, reader)
        return RawResponse(reader.status, reader.headers, chunks[0] if len(chunks) == 1 else b"".join(chunks))

    def _open(self, step: Send, request: CallRequest, deadline: Deadline) -> RawResponse | BlockingSource:
        connection, reader, chunks = self._begin(step, request, deadline)
        deadline.leave()
        source = BlockingSource(self, connection, reader, chunks, deadline)
        if 200 <= reader.status < 300:
            return source
        try:
            return RawResponse(reader.status, reader.headers, b"".join(iter(source.read, b"")))
        finally:
            source.close()

    def _begin(
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
                # Where one idle connection turned out dead, the others may be dead too: make a new one.
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
                    chunks = reader.undelivered  # the source gives them before it raises this again
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
        """Close every idle connection; those in use are closed as their calls end."""
        self._pool.close()


def _renew(provider: CredentialProvider) -> None:
    with suppress(errors.CredentialsError):  # the call that needs them raises it again
        provider.load()


class BlockingSource:
    """The body of a streamed answer, as it arrives. One thread reads; any thread may close."""

    __slots__ = (
        "_chunks",
        "_connection",
        "_deadline",
        "_lock",
        "_pid",
        "_reader",
        "_reading",
        "_transport",
        "headers",
        "status",
    )

    def __init__(
        self,
        transport: DirectTransport,
        connection: Connection,
        reader: ResponseReader,
        chunks: list[bytes],
        deadline: Deadline,
    ) -> None:
        self._transport = transport
        self._connection: Connection | None = connection
        self._reader = reader
        self._chunks = chunks
        self._deadline = deadline
        self._pid = os.getpid()
        self._lock = allocate_lock()
        self._reading = False
        self.status = reader.status
        self.headers: Mapping[str, str] = reader.headers

    def read(self) -> bytes:
        """The next bytes as soon as there are any; empty when the answer has properly ended, or was closed.

        Raises:
            TransportError: it did not end properly, or nothing came in time.
        """
        if self._pid != os.getpid():
            raise errors.TransportError(
                "this stream was opened before a fork and belongs to the parent process", response_started=True
            )
        connection = None
        ended = False
        try:
            with self._lock:
                if self._reading:
                    raise errors.TransportError(
                        "two threads asked this stream for its next bytes at once: only one may read it",
                        response_started=True,
                    )
                connection = self._connection
                if connection is None:
                    return b""
                self._reading = True
            data = self._next(connection)
            ended = not data
            return data
        finally:
            if connection is not None:
                with self._lock:
                    self._reading = False
                    closed = self._connection is None
                    if ended:
                        self._connection = None
                if closed:
                    self._transport._drop(connection)
                elif ended:
                    self._transport._keep(connection, self._reader)

    def _next(self, connection: Connection) -> bytes:
        reader, chunks = self._reader, self._chunks
        while not chunks:
            if reader.complete:
                return b""
            reader.feed(b"")  # raises again what `undelivered` came with
            try:
                chunks = connection.receive(self._deadline, reader)
            except errors.ProtocolError:
                chunks = reader.undelivered
                if not chunks:
                    raise
        self._chunks = []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def close(self) -> None:
        """Let the connection go. Bytes that have not been read are lost."""
        if self._pid != os.getpid():
            # The parent still reads, and one of its threads may have held the lock.
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()
            return
        ours = None
        try:
            with self._lock:
                connection, self._connection = self._connection, None
                if connection is None:
                    return
                if not self._reading:
                    ours = connection
                connection.abort()  # a reading thread wakes up and gives the connection back
        finally:  # after an interrupt too
            if ours is not None:
                self._transport._drop(ours)
