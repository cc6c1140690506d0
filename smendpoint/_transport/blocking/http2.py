"""One blocking connection with one HTTP/2 stream: a thread sends while another reads."""

from __future__ import annotations

import os
from _thread import allocate_lock, get_ident  # for a quick cold start: see `_core`
from contextlib import suppress
from typing import TYPE_CHECKING

from smendpoint import errors
from smendpoint._core.error_copies import copy_error
from smendpoint._transport.deadline import Wake
from smendpoint._transport.exchange import opened_before_fork
from smendpoint._transport.readiness import LONGEST_WAIT, READABLE, WRITABLE, make_poll

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from smendpoint._core.aws.conversation import PartEncoder
    from smendpoint._transport.blocking.connection import Connection
    from smendpoint._transport.deadline import Deadline
    from smendpoint._transport.http2 import Http2Stream


class BlockingHttp2:
    """A `Line` for threads. It has no thread of its own: of the threads that wait, one watches the socket for all.

    Args:
        connection: a connection that is ready for a request.
        stream: the stream, whose head has not been sent.
        deadline: how long the waits may take.
        monotonic: the clock of the waits.
        encoder: see `Line`.
    """

    __slots__ = (
        "_closed",
        "_connection",
        "_deadline",
        "_lock",
        "_monotonic",
        "_outgoing",
        "_pid",
        "_reader",
        "_users",
        "_waiters",
        "_watched",
        "encoder",
        "stream",
    )

    status = 200  # for the flow of the call: the request has gone out

    def __init__(
        self,
        connection: Connection,
        stream: Http2Stream,
        deadline: Deadline,
        monotonic: Callable[[], float],
        encoder: PartEncoder,
    ) -> None:
        self.stream = stream
        self.encoder = encoder
        self._connection = connection
        self._deadline = deadline
        self._monotonic = monotonic
        self._pid = os.getpid()
        self._lock = allocate_lock()  # guards everything, but is not held during a wait
        self._outgoing = memoryview(b"")  # for the network: the socket did not take it yet
        self._watched = False  # whether a thread watches the socket
        self._waiters: list[Wake] = []  # of the other threads that wait
        self._reader = 0  # the thread that reads
        self._users = 0  # threads in a method that waits
        self._closed = False

    def queue(self, pieces: Iterable[bytes | memoryview], *, end: bool = False) -> None:
        """See `Line.queue`."""
        self.check_owner()
        with self._lock:
            self._check_total()
            self.stream.queue(pieces, end=end)
            self._exchange(reads=not self._watched)

    def drain(self) -> None:
        """See `Line.drain`."""
        stream, sent, expires = self.stream, -1, 0.0
        self._enter()
        try:
            while self._unsent():
                if stream.sent != sent:
                    sent, expires = stream.sent, self._monotonic() + self._deadline.timeout.read
                self._wait(self._unsent, expires, sending=True)
        finally:
            self._leave()
        if stream.failure is not None:
            raise copy_error(stream.failure)

    def _unsent(self) -> bool:
        return (self.stream.pending or bool(self._outgoing)) and not self.stream.over

    def receive(self) -> bytes:
        """See `Line.receive`."""
        stream = self.stream
        self._enter(reading=True)
        try:
            expires = self._monotonic() + self._deadline.timeout.read
            while not stream.readable:
                self._wait(self._idle, expires, sending=False)
            with self._lock:
                data = stream.take()
                if data:
                    self._exchange(reads=not self._watched)
        finally:
            self._leave(reading=True)
        if not data and stream.failure is not None:
            raise copy_error(stream.failure)
        return data

    def _idle(self) -> bool:
        return not self.stream.readable

    def _wait(self, idle: Callable[[], bool], expires: float, *, sending: bool) -> None:
        """Wait for the network, or for the thread that watches it, while `idle`; at the moment `expires`, give up."""
        seconds = min(expires - self._monotonic(), self._deadline.remaining(), LONGEST_WAIT)
        events, watching, wake = 0, False, Wake()
        try:
            with self._lock:
                if not idle():
                    return
                if seconds <= 0.0:
                    self._fail(self._deadline.silence(response_started=self.stream.status > 0, sending=sending))
                    return
                if self._outgoing:
                    events = WRITABLE
                if not self._watched:
                    watching = self._watched = True
                    events |= READABLE
                elif not (sending and events):
                    events = 0
                    self._waiters.append(wake)
            if events:
                poll = make_poll()
                poll.register(self._connection._socket, events)
                poll.poll(seconds * 1000)
                with self._lock:
                    self._exchange(reads=watching)
            else:
                wake.wait(seconds)
        finally:
            with self._lock:
                if watching:
                    self._watched = False
                self._wake()

    def _wake(self) -> None:
        """Have the threads that wait look again. One of them will watch the socket."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.set()

    # The caller of each of these has the lock

    def _exchange(self, *, reads: bool) -> None:
        """Send what may go out, without waiting; before that, read what has arrived.

        Only the thread that watches the socket reads, if there is one: a wait for bytes does not end when another
        thread has taken them.
        """
        stream, tls = self.stream, self._connection._tls
        if self._closed:
            return
        try:
            received = self._connection._receive_now() if reads else None
            if received:
                stream.feed(received)
            if received == b"" or (tls is not None and tls.over):
                stream.lost(None if tls is None else tls.failure)
            self._send()
        except OSError as error:
            self._read_rest()
            stream.lost(error)
        except BaseException:  # an interrupt: bytes may be lost, or be sent twice
            self._fail(errors.TransportError("the conversation was interrupted", response_started=True))
            raise
        if stream.over:
            self._shut()

    def _send(self) -> None:
        tls = self._connection._tls
        while True:
            if not self._outgoing:
                data = self.stream.to_send()
                if tls is not None:
                    data = tls.encrypt(data) if data else tls.to_send()
                if not data:
                    return
                self._outgoing = memoryview(data)
            try:
                self._outgoing = self._outgoing[self._connection._socket.send(self._outgoing) :]
            except BlockingIOError:
                return

    def _read_rest(self) -> None:
        """Read what the peer had sent before the connection broke."""
        with suppress(OSError):
            while received := self._connection._receive_now():
                self.stream.feed(received)

    def _check_total(self) -> None:
        if self._deadline.over:
            self._fail(self._deadline.silence(response_started=self.stream.status > 0))

    def _fail(self, error: errors.TransportError) -> None:
        self.stream.fail(error)
        self._shut()

    def _shut(self) -> None:
        """Close the socket, or have the last thread that uses it do so."""
        self._closed = True
        self._connection.abort()
        if not self._users:
            self._connection.close()

    # The threads that use it

    def check_owner(self) -> None:
        """See `Line.check_owner`."""
        if self._pid != os.getpid():
            raise opened_before_fork("conversation")

    def _enter(self, *, reading: bool = False) -> None:
        self.check_owner()
        with self._lock:
            if reading and self._reader not in (0, get_ident()):
                raise errors.ConfigurationError(
                    "another thread is reading this conversation: only one thread can read it"
                )
            self._check_total()
            self._reader = get_ident() if reading else self._reader
            self._users += 1

    def _leave(self, *, reading: bool = False) -> None:
        with self._lock:
            if reading:
                self._reader = 0
            self._users -= 1
            if self._closed and not self._users:
                self._connection.close()

    def close(self) -> None:
        """See `Line.close`."""
        if self._pid != os.getpid():
            self._connection.close()  # the parent goes on with it, and one of its threads may have held the lock
            return
        with self._lock:
            if self._closed:
                return
            self.stream.reset()
            with suppress(OSError):
                self._send()
            self._fail(errors.TransportError("the conversation was closed", response_started=True))
            self._wake()
