"""Ctrl-C at any moment of a blocking call: it arrives, and no place, connection or thread stays behind.

Once at each place in turn where Python looks for signals, which is as a function begins and as one of C's has returned;
a profiler can raise just there. And by a real timer, at moments left to chance (`random_interrupts.py`). The garbage
collector is off meanwhile: nothing may depend on it.
"""

from __future__ import annotations

import gc
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import servers
from garbage import collect
from inside import idle_connections, in_use, pool_of, transport_of
from servers import PATIENCE, fast, make_endpoint, server_context

from smendpoint import Endpoint
from smendpoint._aws.credentials import CredentialProvider
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint.emulator import Emulator
from smendpoint.handlers import BytesHandler

pytestmark = pytest.mark.usefixtures("bare_environment")

LIMIT = 5
TESTS = Path(__file__).resolve().parent


def call(endpoint: Endpoint[Any, Any, Any]) -> None:
    assert endpoint.invoke(b"Hello")


def cold(endpoint: Endpoint[Any, Any, Any]) -> None:
    transport_of(endpoint)._address.last_used = None  # so that the address that refuses is tried first
    for connection in idle_connections(endpoint):
        connection.abort()  # as if the service had closed it
    assert endpoint.invoke(b"Hello")


def stream(endpoint: Endpoint[Any, Any, Any]) -> None:
    with endpoint.stream(b"Hello") as chunks:
        assert b"".join(chunks)


def left(endpoint: Endpoint[Any, Any, Any]) -> None:
    with endpoint.stream(b"Hello") as chunks:
        assert next(chunks)


def several(endpoint: Endpoint[Any, Any, Any]) -> None:
    assert len(list(endpoint.map([b"Hello"] * 3, max_concurrency=2))) == 3


OPERATIONS = {"call": call, "cold": cold, "stream": stream, "left": left, "map": several}


# Python swallows exceptions in a finalizer. Where a generator is dropped, it looks for no signals, although
# the profiler is told of a call.
SWALLOWED = ("__del__", "<genexpr>")


class Interrupter:
    """Raises `KeyboardInterrupt` at the n-th place where this thread would look for signals."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        if event in ("call", "c_return") and frame.f_code.co_name not in SWALLOWED:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    def during(self, operation: Callable[[], object]) -> bool:
        """Whether the operation was interrupted."""
        try:
            sys.setprofile(self)
            operation()
        except KeyboardInterrupt:
            return True
        finally:
            sys.setprofile(None)
        return False


@pytest.fixture
def no_collector() -> Iterator[None]:
    collect()
    gc.disable()
    yield
    gc.enable()


def refuse_at_first(monkeypatch: pytest.MonkeyPatch, refuses: int) -> None:
    """Each host has two addresses, and nobody listens at the first, which has the port `refuses`."""
    find = socket.getaddrinfo

    def two(host: Any, port: int, **rest: Any) -> Any:
        return find(host, refuses, **rest) + find(host, port, **rest)

    monkeypatch.setattr("socket.getaddrinfo", two)


@pytest.fixture(params=["plain", "tls"])
def endpoint(
    request: pytest.FixtureRequest, no_collector: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Endpoint[Any, Any, Any]]:
    servers.trust(monkeypatch, tmp_path)
    context = server_context() if request.param == "tls" else None
    with (
        servers.closed_port() as refuses,
        Emulator(lambda request: [request.body, b" ", request.body], ssl_context=context) as emulator,
    ):
        refuse_at_first(monkeypatch, refuses)
        made = make_endpoint(
            emulator.url,
            content_handler=BytesHandler(),
            max_connections=LIMIT,
            timeout=fast(read=PATIENCE, total=PATIENCE),
        )
        with made:
            for operation in OPERATIONS.values():
                operation(made)
            yield made
            nothing_is_held(made)
            outputs = made.map([b"Hello"] * 20, max_concurrency=LIMIT)
            assert list(outputs) == [b"Hello Hello"] * 20
            emulator.wait_for(lambda it: it.open_connections == len(idle_connections(made)))
        emulator.disconnected()


def nothing_is_held(endpoint: Endpoint[Any, Any, Any]) -> None:
    # The threads of a map end by themselves.
    while threads := [thread for thread in threading.enumerate() if thread.name == "smendpoint-map"]:
        for thread in threads:
            with suppress(RuntimeError):  # it is about to start
                thread.join(PATIENCE)
                assert not thread.is_alive()
    while pool_of(endpoint).busy:  # by a thread that has no name yet
        pass
    assert in_use(endpoint) == 0


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_an_interrupt_at_any_step_arrives_and_leaves_nothing_behind(
    endpoint: Endpoint[Any, Any, Any], name: str
) -> None:
    def operation() -> None:
        OPERATIONS[name](endpoint)

    for number in itertools.count(1):
        call(endpoint)  # there is a connection that waits to be used again, whatever the last interrupt broke off
        interrupter = Interrupter(number)
        interrupted = interrupter.during(operation)
        assert interrupted == (interrupter.left <= 0), f"the interrupt at step {number} was lost"
        nothing_is_held(endpoint)
        if not interrupted:
            break
    assert number > 100


def test_an_interrupt_at_any_step_of_loading_credentials_leaves_no_waiter() -> None:
    key = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    for number in itertools.count(1):
        provider = CredentialProvider(lambda anew: (key, None), now=lambda: 0.0)
        interrupted = Interrupter(number).during(provider.load)
        assert not provider._lock.locked()
        assert provider.load() == key
        if not interrupted:
            break
    assert number > 5


def passed(*tests: str, start: Sequence[str] = ()) -> int:
    """Give how many tests passed in a pytest of their own; none may fail. `start` is a command that starts another."""
    options = ["-q", "-p", "no:cacheprovider", "-c", str(TESTS.parent / "setup.cfg"), "--rootdir", str(TESTS.parent)]
    done = subprocess.run(
        [*start, sys.executable, "-m", "pytest", *options, *tests],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout
    found = re.search(r"^(\d+) passed", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout
    return int(found[1])


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timer")
def test_interrupts_at_random_moments_arrive_and_leave_nothing_behind() -> None:
    """In a process of its own: coverage has locks too, and an interrupt may leave them taken for ever."""
    assert passed("random_interrupts.py") == 2 * (len(OPERATIONS) + 1)  # without TLS and with it; conversations too


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_tests_of_signals_pass_where_a_shell_ignores_them() -> None:
    """A script ignores SIGINT in what it starts with `&`, and `nohup` ignores SIGHUP."""
    tests = [
        "test_cli_batch.py::test_nothing_is_promised_of_an_output_that_is_not_a_file",
        "test_cli_chat.py::test_the_program_in_a_terminal_renders_and_outlives_ctrl_c",
        "test_cli_child.py::test_a_signal_to_end_is_passed_on_and_the_command_ends_as_it_likes[False-SIGHUP]",
    ]
    assert passed(*tests, start=["sh", "-c", 'trap "" INT QUIT HUP; exec "$@"', "sh"]) == 3
