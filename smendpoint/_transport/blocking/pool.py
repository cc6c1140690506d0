"""The blocking transport's connections: the last used one first, never more than allowed, none shared with a fork."""

from __future__ import annotations

from _thread import RLock, allocate_lock  # for a quick cold start: see `_core`
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import ref

from smendpoint._transport.blocking.connection import Place
from smendpoint._transport.exchange import IDLE_SECONDS
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable

    from smendpoint._transport.blocking.connection import Connection


LOOK_AGAIN_SECONDS = 1.0


class Pool:
    """Idle connections, and the number of all open ones.

    Args:
        limit: how many connections may be open at once; `None` for no limit.
        monotonic: the clock for idle times.
    """

    def __init__(self, limit: int | None, monotonic: Callable[[], float]) -> None:
        self.limit = limit
        self._monotonic = monotonic
        self.closed = False
        self._start_afresh()

    def _start_afresh(self) -> None:
        # Reentrant: the garbage collector may close a stream, which gives back its connection, at any moment.
        self._lock = RLock()
        # Not a `threading.Condition`: an interrupt inside one may leave its lock locked forever.
        self._waiting: deque[LockType] = deque()
        self._idle: list[Connection] = []
        self._places: set[ref[Place]] = set()  # of connections: idle, in use, and being opened

    def forget(self) -> None:
        """After a fork, in the child: connections, and a thread that held the lock, belong to the parent."""
        idle = self._idle
        self._start_afresh()
        for connection in idle:
            connection.close()

    @property
    def busy(self) -> int:
        """How many connections are in use, or being opened."""
        return len(self._places) - len(self._idle)

    def acquire(self, wait: Callable[[], float | None], *, fresh: bool) -> Connection | Place:
        """A live idle connection, or a place for a new one.

        Args:
            wait: returns how many more seconds to wait, `None` for no limit; raises when the time is over.
            fresh: whether it must be a new connection.

        Raises:
            ConfigurationError: the pool is closed.
        """
        while True:
            with self._lock:
                if self.closed:
                    raise ConfigurationError("the endpoint is closed: make a new one")
                held = self._at_hand(fresh=fresh)
                if held is not None:
                    return held
                waiter = allocate_lock()
                waiter.acquire()
                self._waiting.append(waiter)
            try:
                left = wait()
                # A place whose holder was garbage-collected becomes free without a wake-up, so look again.
                waiter.acquire(timeout=LOOK_AGAIN_SECONDS if left is None else min(left, LOOK_AGAIN_SECONDS))
            except BaseException:
                self._wake()  # this waiter may just have been woken: wake the next
                raise
            finally:
                with suppress(ValueError):  # `_wake` has removed it
                    self._waiting.remove(waiter)

    def _at_hand(self, *, fresh: bool) -> Connection | Place | None:
        connection = None if fresh else self._live()
        if connection is not None:
            return connection
        if self.limit is not None and len(self._places) >= self.limit:
            if not self._idle:
                return None
            self.drop(self._idle.pop(0))
        place = Place()
        place.ref = ref(place, self._places.discard)  # not a Python function, which an interrupt could end
        self._places.add(place.ref)
        return place

    def _live(self) -> Connection | None:
        """The most recently used idle connection, unless it has been idle too long or its peer has closed it."""
        oldest = self._monotonic() - IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            try:
                if connection.idle_since > oldest and not connection.is_stale():
                    return connection
            except BaseException:
                self.drop(connection)
                raise
            self.drop(connection)
        return None

    def _wake(self) -> None:
        with suppress(IndexError):  # there is no waiter
            self._waiting.popleft().release()

    def abort(self) -> None:
        """Wake all waiters, so that each calls its `wait` again."""
        for _ in range(len(self._waiting)):
            self._wake()

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next call."""
        expired: list[Connection] = []
        with self._lock:
            # A connection without a place here was opened before a fork.
            if self.closed or connection.place.ref not in self._places:
                expired.append(connection)
            else:
                now = self._monotonic()
                connection.idle_since = now
                self._idle.append(connection)
                while self._idle[0].idle_since < now - IDLE_SECONDS:
                    expired.append(self._idle.pop(0))
        if self._waiting:
            self._wake()
        for old in expired:
            self.drop(old)

    def drop(self, connection: Connection) -> None:
        """Close a connection, and free its place."""
        try:
            connection.close()
        finally:  # after an interrupt too
            self.free(connection.place)

    def free(self, place: Place) -> None:
        """Give back a place. Doing so twice does nothing."""
        self._places.discard(place.ref)
        self._wake()

    def close(self) -> None:
        """Close idle connections, and refuse waiters. Connections in use are closed when they are given back."""
        with self._lock:
            self.closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            self.drop(connection)
        self.abort()
