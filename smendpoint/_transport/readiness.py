"""Whether a socket can be read or written, with a time limit."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

# The system counts the milliseconds of a poll in 31 bits.
LONGEST_WAIT = 2_147_483.0

READABLE = getattr(select, "POLLIN", 1)
WRITABLE = getattr(select, "POLLOUT", 4)


class Descriptor(Protocol):
    """A socket, or an event loop's view of one."""

    def fileno(self) -> int:
        """The system's number for it."""
        ...


class SelectPoll:
    """`select.poll` based on `select.select`, for Windows. Elsewhere, select cannot watch descriptors above 1023."""

    def __init__(self) -> None:
        self._watched: list[tuple[Descriptor, int]] = []

    def register(self, sock: Descriptor, events: int) -> None:
        """Watch a socket for these events, and for its failure."""
        self._watched.append((sock, events))

    def poll(self, milliseconds: float) -> list[tuple[int, int]]:
        """Wait for the first events, and return them by socket number. A failure counts as readable."""
        socks = [sock for sock, _ in self._watched]
        readers = [sock for sock, events in self._watched if events & READABLE]
        writers = [sock for sock, events in self._watched if events & WRITABLE]
        readable, writable, broken = select.select(readers, writers, socks, milliseconds / 1000)
        flags = dict.fromkeys((*readable, *broken), READABLE)
        for sock in writable:
            flags[sock] = flags.get(sock, 0) | WRITABLE
        return [(sock.fileno(), found) for sock, found in flags.items()]


make_poll = getattr(select, "poll", SelectPoll)


def ready(sock: socket.socket, seconds: float) -> tuple[bool, bool]:
    """Wait until a socket can be read or written; return whether it can be read, and whether it can be written."""
    poll = make_poll()
    poll.register(sock, READABLE | WRITABLE)
    events = poll.poll(min(seconds, LONGEST_WAIT) * 1000)
    flags = events[0][1] if events else 0
    return bool(flags & ~WRITABLE), bool(flags & WRITABLE)


def reading_watch(sock: Descriptor) -> Callable[[float], object]:
    """Make a function that waits, for some milliseconds, until a socket can be read, and returns whether it can."""
    poll = make_poll()
    poll.register(sock, READABLE)
    wait: Callable[[float], object] = poll.poll
    return wait


def settled(socks: list[socket.socket], seconds: float) -> list[socket.socket]:
    """Wait until some of the sockets have connected or failed; return these."""
    poll = make_poll()
    for sock in socks:
        poll.register(sock, WRITABLE)
    over = {number for number, _ in poll.poll(min(seconds, LONGEST_WAIT) * 1000)}
    return [sock for sock in socks if sock.fileno() in over]
