"""Dialling for asyncio: to the first of a host's addresses that answers, with the address's proxy and TLS."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from smendpoint._core.call.timing import deadline_exceeded
from smendpoint._transport.address import connect_failed, is_literal, stagger, to_try
from smendpoint._transport.aio.channel import Channel
from smendpoint._transport.aio.connection import AsyncConnection
from smendpoint._transport.exchange import RECV_BYTES
from smendpoint._transport.timeouts import TimedOut, drop, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from smendpoint._transport.address import Address
    from smendpoint._transport.deadline import Deadline

Connected = TypeVar("Connected", bound=Channel)


async def dial(
    loop: asyncio.AbstractEventLoop,
    address: Address,
    deadline: Deadline,
    buffer: memoryview | None = None,
    kind: type[Connected] = AsyncConnection,  # type: ignore[assignment]  # the default decides its own type
) -> Connected:
    """Connect, with the address's proxy and TLS.

    Args:
        loop: the running event loop.
        address: the peer.
        deadline: how long it may take.
        buffer: shared by the loop's connections, see `Channel`; without it, the connection has its own.
        kind: the class of the connection.

    Raises:
        ConfigurationError: the connection must not leave this machine, and would.
        ConnectError: there is no connection.
        TLSError: the peer's certificate is wrong, or it does not speak TLS.
        DeadlineExceededError: the call's total passed first.
    """

    def make() -> Connected:
        return kind(loop, memoryview(bytearray(RECV_BYTES)) if buffer is None else buffer)

    seconds = deadline.within(deadline.timeout.connect, request_sent=False)
    try:
        return await wait_for(_dial(loop, address, make, seconds), seconds, _abort)
    except TimedOut:
        if seconds < deadline.timeout.connect:
            raise deadline_exceeded(deadline.timeout, request_sent=False) from None
        raise deadline.no_connection(address) from None
    except UnicodeError as error:  # a host name with a part that is empty, or too long
        raise connect_failed(address, OSError(str(error))) from error
    except OSError as error:
        raise connect_failed(address, error) from error


def _abort(connection: Channel) -> None:
    connection.abort()


async def _dial(
    loop: asyncio.AbstractEventLoop,
    address: Address,
    make: Callable[[], Connected],
    seconds: float,
) -> Connected:
    host, port = address.dialled
    found: Sequence[Any] = [(socket.AF_UNSPEC, 0, 0, "", (host, port))]
    if not is_literal(host):
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except RuntimeError:  # no thread can be started
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = to_try(address, found)
    if len(addresses) == 1:
        connection = await _connect(loop, addresses[0], make)
    else:
        connection, address.last_used = await _race(loop, addresses, make, stagger(seconds, len(addresses)))
    try:
        await connection.make_ready(address)
    except BaseException:
        connection.abort()
        raise
    sock = connection._transport.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):  # the connection has ended already, as its first use will say
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # asyncio itself sets TCP_NODELAY
    return connection


async def _connect(loop: asyncio.AbstractEventLoop, info: Any, make: Callable[[], Connected]) -> Connected:
    """Make the TCP connection to one address from ``getaddrinfo``."""
    family, _, _, _, where = info
    connection = make()
    try:
        await loop.create_connection(lambda: connection, _numeric_host(where), where[1], family=family)
    except BaseException:
        connection.abort()
        raise
    return connection


def _numeric_host(where: Any) -> str:
    """A socket's host as text, with the interface through which a link-local address is reached."""
    host: str = where[0]
    return f"{host}%{where[3]}" if len(where) == 4 and where[3] else host


async def _race(
    loop: asyncio.AbstractEventLoop,
    addresses: list[Any],
    make: Callable[[], Connected],
    pace: float,
) -> tuple[Connected, Any]:
    """Connect to the first of the addresses that answers.

    The next one is tried when those before it have failed, or have had their time; these continue in parallel.
    """
    waiting = list(addresses)
    running: dict[asyncio.Task[Connected], Any] = {}
    failure: BaseException | None = None
    try:
        while True:
            if waiting:
                info = waiting.pop(0)
                running[loop.create_task(_connect(loop, info, make))] = info[4]
            elif not running:
                assert failure is not None
                raise failure
            done, _ = await asyncio.wait(
                running, timeout=pace if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                where = running.pop(task)
                failure = task.exception()
                if failure is None:
                    return task.result(), where
    finally:
        for task in running:
            task.add_done_callback(lambda ended: drop(ended, _abort))
            task.cancel()
        if running:
            await asyncio.wait(running)
