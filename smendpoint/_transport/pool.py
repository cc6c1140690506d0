"""The blocking transport's connections: the last one used first, never more than allowed, none shared with a fork."""

from __future__ import annotations

from _thread import RLock  # see `_aws/credentials.py`
from typing import TYPE_CHECKING

from smendpoint._transport.common import IDLE_SECONDS
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Condition

    from smendpoint._transport.blocking import Connection


LOOK_AGAIN_SECONDS = 1.0


class Pool:
    """Idle connections, and how many are open in all.

    Args:
        limit: how many connections may be open at once; `None` for no limit.
        monotonic: the clock that idle time is measured with.
    """

    def __init__(self, limit: int | None, monotonic: Callable[[], float]) -> None:
        self.limit = limit
        self._monotonic = monotonic
        self.closed = False
        self._start_afresh()

    def _start_afresh(self) -> None:
        # Reentrant: the garbage collector may close a stream at any moment, and so give back its place.
        self._lock = RLock()
        self._returned: Condition | None = None  # where there is a limit: without one, nobody waits
        self._idle: list[Connection] = []
        self._busy = 0

    def forget(self) -> None:
        """After a fork, in the child: the connections are the parent's, and whoever held the lock is not here."""
        idle = self._idle
        self._start_afresh()
        for connection in idle:
            connection.close()

    def take(self, wait: Callable[[], float | None], *, fresh: bool) -> Connection | None:
        """A live idle connection, or `None` with leave to open one; either way a place is taken until `give_back`.

        Args:
            wait: says how many seconds more to wait for a place, `None` for as long as it takes; raises when over.
            fresh: whether only a new connection will do.

        Raises:
            ConfigurationError: the pool is closed.
        """
        with self._lock:
            if self.limit is not None and self._returned is None:
                # Before anything is asked: to import is long enough for the garbage collector to give back a place.
                from threading import Condition

                self._returned = Condition(self._lock)
            while True:
                if self.closed:
                    raise ConfigurationError("the endpoint is closed: make a new one")
                if self.limit is None or self._returned is None or self._busy < self.limit:
                    break
                left = wait()
                # A stream that the garbage collector closes in this very thread, just before it waits, wakes nobody.
                self._returned.wait(LOOK_AGAIN_SECONDS if left is None else min(left, LOOK_AGAIN_SECONDS))
            connection = self._live() if self._idle and not fresh else None
            if fresh and self.limit is not None and self._idle and self._busy + len(self._idle) >= self.limit:
                self._idle.pop(0).close()
            self._busy += 1  # last: an interrupt before this leaves no place taken by nobody
            return connection

    def _live(self) -> Connection | None:
        """The idle connection that was used last, unless that is too long ago, or its peer has closed it."""
        oldest = self._monotonic() - IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since > oldest and not connection.is_stale():
                return connection
            connection.close()
        return None

    def abort(self) -> None:
        """Have everyone who waits for a place ask their `wait` again."""
        with self._lock:
            if self._returned is not None:
                self._returned.notify_all()

    def give_back(self, connection: Connection | None) -> None:
        """Give back a place; with a `connection` that can be used again, keep that for the next call."""
        expired: list[Connection] = []
        with self._lock:
            self._busy = max(self._busy - 1, 0)  # a call that was under way at a fork is not in the child's count
            if connection is not None:
                if self.closed:
                    expired.append(connection)
                else:
                    now = self._monotonic()
                    connection.idle_since = now
                    self._idle.append(connection)
                    while self._idle[0].idle_since < now - IDLE_SECONDS:
                        expired.append(self._idle.pop(0))
            if self._returned is not None:
                self._returned.notify()
        for old in expired:
            old.close()

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it is given back, and who waits for a place gets none."""
        with self._lock:
            self.closed = True
            idle, self._idle = self._idle, []
            if self._returned is not None:
                self._returned.notify_all()
        for connection in idle:
            connection.close()
