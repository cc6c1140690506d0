"""The socket that the emulator listens on, and its connections. Everything runs in its loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

from smendpoint.emulator._connection import Connection
from smendpoint.emulator._peer import Peer
from smendpoint.emulator._service import Service

if TYPE_CHECKING:
    import ssl

_BACKLOG = 4096


async def _turns() -> None:
    """Wait until asyncio has handed over every connection that it has accepted."""
    for _ in range(3):
        await asyncio.sleep(0)


class Listener:
    """Listens, or keeps its port and refuses.

    Args:
        host: the address to listen on.
        port: the port; 0 lets the system choose.

    Attributes:
        port: its current or last port.
    """

    def __init__(self, service: Service, *, host: str, port: int, ssl_context: ssl.SSLContext | None) -> None:
        self._service = service
        self._host = host
        self._wanted_port = port
        self._ssl_context = ssl_context
        self.port = 0
        self._server: asyncio.base_events.Server | None = None
        self._placeholder: socket.socket | None = None
        self._connections: set[Peer] = set()

    async def open(self) -> None:
        """Begin to listen, if possible on the previous port.

        Raises:
            OSError: The port cannot be opened.
        """
        try:
            await self._listen(self._wanted_port or self.port)
        except OSError:
            if self._wanted_port or not self.port:
                raise
            await self._listen(0)  # the port is now taken: use any

    async def _listen(self, port: int) -> None:
        self._drop_placeholder()
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self._service, self._connections),
            self._host,
            port,
            ssl=self._ssl_context,
            ssl_handshake_timeout=None if self._ssl_context is None else self._service.limits.request_timeout,
            backlog=_BACKLOG,
            reuse_address=True,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Stop listening but keep the port: a socket that is bound and does not listen refuses every connection."""
        if self._server is None:
            return
        family, address = self._server.sockets[0].family, self._server.sockets[0].getsockname()
        await self._stop_listening()
        self._placeholder = socket.socket(family, socket.SOCK_STREAM)
        self._placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._placeholder.bind(address)
        await self.drop_connections()

    async def accept(self) -> None:
        """Listen again after refusing."""
        if self._server is None:
            await self._listen(self.port)

    async def drop_connections(self) -> None:
        """Reset every connection, and wait until their tasks have ended."""
        await _turns()
        connections = list(self._connections)
        for connection in connections:
            connection.reset()
        await asyncio.gather(*[connection.task for connection in connections], return_exceptions=True)

    async def close(self) -> None:
        """Give up the port and every connection."""
        await self._stop_listening()
        self._drop_placeholder()
        await self.drop_connections()

    async def _stop_listening(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        # When the server closes, asyncio loses a connection that it has accepted but not handed over.
        for listening in server.sockets:
            with contextlib.suppress(NotImplementedError):  # Windows has another kind of loop
                asyncio.get_running_loop().remove_reader(listening.fileno())
        await _turns()
        server.close()

    def _drop_placeholder(self) -> None:
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None
