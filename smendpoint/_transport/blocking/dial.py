"""Dialling, blocking: to the first of a host's addresses that answers, with the address's proxy and TLS."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from smendpoint._core.error_copies import copy_error
from smendpoint._transport.address import connect_failed, is_literal, stagger, to_try
from smendpoint._transport.blocking.connection import Connection, Socket
from smendpoint._transport.readiness import settled
from smendpoint._transport.threads import run_in_helper

if TYPE_CHECKING:
    from collections.abc import Callable

    from smendpoint._transport.address import Address
    from smendpoint._transport.deadline import Deadline


def dial(address: Address, deadline: Deadline) -> Connection:
    """Connect, with the address's proxy and TLS. For the errors see `aio.dial`."""
    if address.target.url.tls:
        address.context()  # report certificates that cannot be read before connecting
    give_up_at = deadline.connect_by()
    try:
        connection = _connect(address, deadline, give_up_at)
        try:
            connection.make_ready(address, deadline, give_up_at)
        except BaseException:
            deadline.leave()
            connection.close()
            raise
    except TimeoutError:
        raise deadline.no_connection(address) from None
    except OSError as error:
        raise connect_failed(address, error) from error
    return connection


def _look_up(host: str, port: int, left: Callable[[], float]) -> Any:
    """Ask the system for the addresses of a host; raise `OSError` if that fails."""

    def look_up() -> Any:
        # An ASCII name goes as bytes: for text, Python loads the tables of international names.
        name = host.encode("ascii") if host.isascii() else host
        return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)

    # The system does not take a time limit.
    return look_up() if is_literal(host) else run_in_helper((host, port), look_up, left, bare=True)


def _connect(address: Address, deadline: Deadline, give_up_at: float) -> Connection:
    """Connect to the first of the host's addresses that answers, all of them within one deadline.

    The next one is tried when those before it have failed, or have had their time; these continue in parallel.
    """
    host, port = address.dialled
    waiting = to_try(address, _look_up(host, port, lambda: deadline.left(give_up_at)))
    pace = stagger(deadline.left(give_up_at), len(waiting))
    race = _Race()
    failure: OSError | None = None
    won: Connection | None = None
    try:
        while won is None:
            if waiting:
                try:
                    race.start(waiting.pop(0))
                except OSError as error:  # this machine may lack that family of addresses, or a route
                    failure = copy_error(error)
                    continue
                deadline.enter(race.abort)
            elif not race.running:
                assert failure is not None
                raise copy_error(failure)
            left = deadline.left(give_up_at)
            seconds = min(left, pace) if waiting else left
            over = settled(list(race.running), seconds)
            if not over and seconds == left:
                raise TimeoutError
            for sock in over:
                connection, where = race.running[sock]
                try:
                    connection.check_connected()
                except OSError as error:
                    failure = copy_error(error)
                    race.lost.append(race.running.pop(sock)[0])
                else:
                    won, address.last_used = connection, where
        deadline.enter(won.abort)
    except BaseException:
        deadline.leave()
        race.close(None)
        raise
    race.close(won)
    return won


class _Race:
    """Connections to several addresses that are being made at the same time."""

    __slots__ = ("lost", "running")

    def __init__(self) -> None:
        self.running: dict[socket.socket, tuple[Connection, Any]] = {}
        self.lost: list[Connection] = []

    def start(self, info: Any) -> None:
        """Begin to connect to an address from ``getaddrinfo``; raise `OSError` if that fails."""
        family, kind, protocol, _, where = info
        connection = Connection(Socket(family, kind, protocol))
        try:
            self.running[connection.begin(where)] = connection, where
        except BaseException:
            connection.close()
            raise

    def abort(self) -> None:
        """Wake the thread that waits for the connections."""
        for connection, _ in list(self.running.values()):
            connection.abort()

    def close(self, won: Connection | None) -> None:
        """Close all but this one."""
        for connection in [*self.lost, *(connection for connection, _ in self.running.values())]:
            if connection is not won:
                connection.close()
