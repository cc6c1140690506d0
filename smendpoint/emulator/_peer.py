"""The connection of one client, whatever protocol it speaks."""

from __future__ import annotations

import array
import asyncio
import contextlib
import socket
import struct
from typing import Any

from smendpoint.emulator._reply import Action
from smendpoint.emulator._service import Service
from smendpoint.emulator._state import State

# How often to look whether the peer's kernel has acknowledged everything.
_LOOK_AGAIN_SECONDS = 0.005


class Peer(asyncio.Protocol):
    """Serves one connection in a separate task.

    Attributes:
        number: the connection's number, counted from 1.
        task: the task that serves it.
    """

    def __init__(self, service: Service, connections: set[Peer]) -> None:
        self._service = service
        self._state: State = service.state
        self._limits = service.limits
        self._connections = connections
        self._writable = asyncio.Event()
        self._writable.set()
        # Set by `begin`.
        self._transport: Any
        self.number = 0
        self.task: asyncio.Task[None]

    def begin(self, transport: asyncio.BaseTransport, number: int) -> None:
        """Begin to serve the connection."""
        self._transport = transport
        self.number = number
        self._connections.add(self)
        self.task = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        raise AssertionError  # pragma: no cover  # every protocol has its own

    # -- callbacks of asyncio

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        # This has no effect; without it Python 3.10's TLS transport warns that it was not closed. That of 3.11.2 has
        # nothing left to abort.
        with contextlib.suppress(AttributeError):
            self._transport.abort()
        self._connections.discard(self)
        # A connection counts as closed once its task has ended.
        self.task.add_done_callback(lambda _task: self._state.count(connections=-1))
        self.task.cancel()

    # -- its ends

    def reset(self) -> None:
        """Close the connection so that the peer gets a TCP reset."""
        # Under TLS there is no socket if the connection was just lost and asyncio has not called `connection_lost` yet.
        with contextlib.suppress(OSError, AttributeError):
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(AttributeError):  # as in `connection_lost`
            self._transport.abort()

    async def stall(self) -> None:
        """Wait, counted as stalled, until the task is cancelled: the client has gone or the emulator stops."""
        self._state.count(stalled=+1)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._state.count(stalled=-1)

    async def act(self, action: Action) -> bool:
        """End the connection; return ``False``: it cannot be used again."""
        if action is Action.RESET:
            while self._undelivered():  # noqa: ASYNC110  # the kernel does not call back
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            self.reset()
        else:
            self._transport.close()
        return False

    def _undelivered(self) -> bool:
        # A reset discards what the peer's kernel has not acknowledged; what was played must arrive first.
        waiting = array.array("i", [0])
        with contextlib.suppress(ImportError, OSError):  # not every system can tell
            import fcntl
            import termios

            fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, waiting)
        return waiting[0] > 0
