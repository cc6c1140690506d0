"""Dialling for asyncio: connections through the proxy, and with TLS, where the address says so."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from smendpoint._core.flow import deadline_exceeded
from smendpoint._transport.alarm import Late, in_time
from smendpoint._transport.async_connection import AsyncConnection
from smendpoint._transport.common import RECV_BYTES, connect_failed

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from smendpoint._transport.common import Address, Patience


async def dial(
    loop: AbstractEventLoop, address: Address, patience: Patience, room: memoryview | None = None
) -> AsyncConnection:
    """Connect, through the proxy and with TLS where the address says so.

    Args:
        loop: the running event loop.
        address: where to.
        patience: how long it may take.
        room: what the loop's connections share, see `AsyncConnection`; without it, the connection has its own.

    Raises:
        ConnectError: there is no connection.
        TLSError: the peer is not who it should be.
        DeadlineExceededError: the call's time was over first.
    """
    seconds = patience.within(patience.timeout.connect, request_sent=False)
    try:
        return await in_time(_dial(loop, address, room), seconds, AsyncConnection.abort)
    except Late:
        if seconds < patience.timeout.connect:
            raise deadline_exceeded(patience.timeout, request_sent=False) from None
        raise patience.no_connection(address) from None
    except UnicodeError as error:  # a host name with a part that is empty, or too long
        raise connect_failed(address, OSError(str(error))) from error
    except OSError as error:
        raise connect_failed(address, error) from error


async def _dial(loop: AbstractEventLoop, address: Address, room: memoryview | None) -> AsyncConnection:
    host, port = address.dialled
    context = await address.context_off(loop) if address.tls else None
    connection = AsyncConnection(loop, room or memoryview(bytearray(RECV_BYTES)))
    try:
        await loop.create_connection(lambda: connection, host, port)
        await connection.make_ready(address, context)
    except BaseException:
        connection.abort()
        raise
    sock = connection._transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # asyncio itself sets TCP_NODELAY
    return connection
