"""Whether a socket can be read or written: asked of the system, for at most so long."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

# What poll can be asked to wait is counted in milliseconds, in 31 bits.
LONGEST_WAIT = 2_147_483.0


class Descriptor(Protocol):
    """A socket, or what an event loop shows of one."""

    def fileno(self) -> int:
        """The number that the system knows it by."""
        ...


def _poll(sock: socket.socket, seconds: float) -> tuple[bool, bool]:
    poll = select.poll()
    poll.register(sock, select.POLLIN | select.POLLOUT)
    events = poll.poll(min(seconds, LONGEST_WAIT) * 1000)
    flags = events[0][1] if events else 0
    return bool(flags & ~select.POLLOUT), bool(flags & select.POLLOUT)


def _select(sock: socket.socket, seconds: float) -> tuple[bool, bool]:
    readable, writable, broken = select.select([sock], [sock], [sock], min(seconds, LONGEST_WAIT))
    return bool(readable or broken), bool(writable)


def _poll_settled(socks: list[socket.socket], seconds: float) -> list[socket.socket]:
    poll = select.poll()
    for sock in socks:
        poll.register(sock, select.POLLOUT)
    over = {number for number, _ in poll.poll(min(seconds, LONGEST_WAIT) * 1000)}
    return [sock for sock in socks if sock.fileno() in over]


def _select_settled(socks: list[socket.socket], seconds: float) -> list[socket.socket]:
    _, writable, broken = select.select([], socks, socks, min(seconds, LONGEST_WAIT))
    return [sock for sock in socks if sock in writable or sock in broken]


def _poll_reading(sock: Descriptor) -> Callable[[float], object]:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return poll.poll


def _select_reading(sock: Descriptor) -> Callable[[float], object]:
    def arrives(milliseconds: float) -> bool:
        readable, _, broken = select.select([sock], [], [sock], milliseconds / 1000)
        return bool(readable or broken)

    return arrives


# Windows has no poll; elsewhere select cannot watch descriptors above 1023.
_HAS_POLL = hasattr(select, "poll")
# Waits until a socket can be read or written; gives which of the two.
ready: Callable[[socket.socket, float], tuple[bool, bool]] = _poll if _HAS_POLL else _select
# Makes what waits, for so many milliseconds, until a socket can be read.
reading_watch: Callable[[Descriptor], Callable[[float], object]] = _poll_reading if _HAS_POLL else _select_reading
# Waits until connecting has come to an end for some sockets, well or not; gives those.
settled: Callable[[list[socket.socket], float], list[socket.socket]] = _poll_settled if _HAS_POLL else _select_settled
