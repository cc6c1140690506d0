"""The direct lane, blocking: our own signing and HTTP over pooled sockets."""

from __future__ import annotations

import os
from _thread import allocate_lock  # for a quick cold start: see `_core`
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from smendpoint import errors
from smendpoint._aws import resolve
from smendpoint._core.aws.response import RawResponse
from smendpoint._core.call.flow import NeedCredentials, Send, deadline_exceeded
from smendpoint._core.http.http1 import ResponseReader
from smendpoint._transport.aside import within
from smendpoint._transport.common import Address, Patience, connection_lost, died_unheard, joined, out_of_turn
from smendpoint._transport.dialling import dial
from smendpoint._transport.pool import Place, Pool
from smendpoint._transport.readiness import LONGEST_WAIT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint._aws import CredentialProvider, Identity, Target
    from smendpoint._core.aws.renderer import CallRequest
    from smendpoint._core.aws.sigv4 import Credentials
    from smendpoint._core.call.timing import Clock, Timeout
    from smendpoint._transport.blocking import Connection


class Cancelled(BaseException):
    """A blocking call was stopped from another thread. Never seen by users: whoever stopped it does not ask."""


class Abortable(Protocol):
    """Something that a thread waits on."""

    def abort(self) -> None:
        """Wake whoever waits; never blocks."""


class Scope:
    """A way to stop a blocking call from another thread."""

    __slots__ = ("_doing", "_lock", "stopped")

    def __init__(self) -> None:
        from threading import Event

        self.stopped = Event()
        self._lock = allocate_lock()
        self._doing: Abortable | None = None

    def enter(self, doing: Abortable) -> None:
        """From here on the call waits on `doing`; raises `Cancelled` where it was stopped before."""
        with self._lock:
            self.check()
            self._doing = doing

    def leave(self) -> None:
        """What was entered is no longer the call's: from here on it is not touched."""
        with self._lock:
            self._doing = None

    def check(self) -> None:
        """Raise `Cancelled` where the call was stopped."""
        if self.stopped.is_set():
            raise Cancelled

    def stop(self) -> None:
        """Stop the call: whatever it waits for ends now."""
        with self._lock:
            self.stopped.set()
            if self._doing is not None:
                self._doing.abort()


class DirectTransport:
    """Performs the steps of calls over connections of its own.

    Args:
        identity: who asks, and where; looked up at the first call.
        max_connections: how many may be open at once; `None` for no limit.
        clock: where time comes from.
    """

    stoppable = True  # a `Scope` ends a call that is under way

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
        """Where calls find credentials; `prepare` came first."""
        assert self._address is not None
        return self._address.target.credentials

    def perform(self, step: Any, request: CallRequest, timeout: Timeout, scope: Scope | None) -> Any:
        """Do what one step of a call's flow asks for."""
        if scope is not None:
            scope.check()
        if type(step) is Send:
            if request.streaming:
                return self._open(step, request, Patience(timeout, step.deadline, self._clock.monotonic), scope)
            return self._exchange(step, request, Patience(timeout, step.deadline, self._clock.monotonic), scope)
        if type(step) is NeedCredentials:
            return self._load(step, timeout)
        self._clock.sleep(step.seconds, None if scope is None else scope.stopped)
        return None

    def _load(self, step: NeedCredentials, timeout: Timeout) -> Credentials:
        provider, rejected = self.credentials, step.rejected
        if step.deadline is None:
            return provider.load(rejected=rejected)
        patience = Patience(timeout, step.deadline, self._clock.monotonic)
        try:
            # A process, a service or a file system that credentials come from takes no time limit of ours.
            return within(
                (provider, rejected),
                lambda: provider.load(rejected=rejected),
                lambda: patience.within(LONGEST_WAIT, request_sent=False),
            )
        except TimeoutError:
            raise deadline_exceeded(timeout, request_sent=False) from None

    def prepare(self) -> Target:
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

    def refresh_due(self) -> bool:
        """Whether credentials run out soon, and this caller is to have them renewed."""
        return self.credentials.refresh_due()

    def refresh_ahead(self) -> None:
        """Renew credentials that run out soon, in a thread of its own: no call waits for it.

        Where no thread can be started, they are renewed by the call that finds them at their end.
        """
        from smendpoint._transport.threads import spawn

        spawn("smendpoint-credentials", _renew, self.credentials)

    def _exchange(self, step: Send, request: CallRequest, patience: Patience, scope: Scope | None) -> RawResponse:
        connection = None
        try:
            connection, reader, pieces = self._begin(step, request, patience, scope)
            while not reader.complete:
                pieces += joined(connection.receive(patience, reader))
            if scope is not None:
                scope.leave()
        except BaseException:
            if connection is not None:
                self._drop(connection, scope)
            raise
        self._keep(connection, reader)
        return RawResponse(reader.status, reader.headers, pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _open(
        self, step: Send, request: CallRequest, patience: Patience, scope: Scope | None
    ) -> RawResponse | BlockingSource:
        connection, reader, pieces = self._begin(step, request, patience, scope)
        if scope is not None:
            scope.leave()
        source = BlockingSource(self, connection, reader, pieces, patience)
        if 200 <= reader.status < 300:
            return source
        with source:
            body = b"".join(iter(source.read, b""))
        return RawResponse(reader.status, reader.headers, body)

    def _begin(
        self, step: Send, request: CallRequest, patience: Patience, scope: Scope | None
    ) -> tuple[Connection, ResponseReader, list[bytes]]:
        """Send the request and read until the answer's head is whole."""
        address = self._address
        if address is None:  # a fork in the middle of a call
            self.prepare()
            address = self._address
            assert address is not None
        head = address.renderer.render(request, step)
        stale = False
        while True:
            reader = ResponseReader(max_body=request.max_answer)
            held: Connection | Place | None = None
            reused = False
            try:
                # Where one connection has died under us, the others of its time may have too.
                held = self._take(patience, scope, fresh=stale)
                if isinstance(held, Place):
                    connection = dial(address, patience, scope)
                    connection.place = held
                    held = connection
                else:
                    reused = True
                    connection = held
                    if scope is not None:
                        scope.enter(connection)
                try:
                    pieces = connection.send(head, request.body, patience, reader)
                    while not reader.head_complete:
                        pieces += connection.receive(patience, reader)
                except errors.ProtocolError:
                    if not (request.streaming and reader.head_complete):
                        raise
                    pieces = reader.undelivered  # the source hands them on before it raises this again
                if reused and out_of_turn(reader, cut_short=connection.cut_short):
                    raise connection_lost(None, response_started=False)
                step.begun(reader.status, reader.headers)
            except BaseException as error:
                if held is not None:
                    self._drop(held, scope)
                if reused and died_unheard(error):
                    stale = True
                    continue
                raise
            return connection, reader, pieces

    def _take(self, patience: Patience, scope: Scope | None, *, fresh: bool) -> Connection | Place:
        if scope is None:
            return self._pool.take(patience.queueing, fresh=fresh)

        def wait() -> float | None:
            scope.check()
            return patience.queueing()

        scope.enter(self._pool)
        try:
            return self._pool.take(wait, fresh=fresh)
        finally:
            scope.leave()

    def _keep(self, connection: Connection, reader: ResponseReader) -> None:
        if reader.reusable and not connection.cut_short:
            self._pool.give_back(connection)
        else:
            self._drop(connection)

    def _drop(self, held: Connection | Place, scope: Scope | None = None) -> None:
        try:
            if scope is not None:
                scope.leave()
        finally:  # after an interrupt too
            if isinstance(held, Place):
                self._pool.free(held)
            else:
                self._pool.drop(held)

    def close(self) -> None:
        """Close every idle connection; those in use are closed as their calls end."""
        self._pool.close()


def _renew(provider: CredentialProvider) -> None:
    with suppress(errors.CredentialsError):  # the call that needs them will say so
        provider.load()


class BlockingSource:
    """The body of a streamed answer, as it arrives. One thread reads; any thread may close."""

    __slots__ = (
        "_connection",
        "_lock",
        "_patience",
        "_pid",
        "_pieces",
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
        pieces: list[bytes],
        patience: Patience,
    ) -> None:
        self._transport = transport
        self._connection: Connection | None = connection
        self._reader = reader
        self._pieces = pieces
        self._patience = patience
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
        reader, pieces = self._reader, self._pieces
        while not pieces:
            if reader.complete:
                return b""
            reader.feed(b"")  # raises again what `undelivered` came with
            try:
                pieces = connection.receive(self._patience, reader)
            except errors.ProtocolError:
                pieces = reader.undelivered
                if not pieces:
                    raise
        self._pieces = []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Let the connection go. Bytes that have not been read are lost."""
        if self._pid != os.getpid():
            # The parent goes on reading; and one of its threads may have held the lock.
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
                connection.abort()  # a thread that reads wakes up, and gives the connection back
        finally:  # after an interrupt too
            if ours is not None:
                self._transport._drop(ours)

    def __enter__(self) -> BlockingSource:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
