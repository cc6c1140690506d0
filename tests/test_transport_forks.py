"""Blocking calls from forked processes and from many threads: everyone gets the answers to the own questions."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from inside import forget, idle_connections, socket_of, source_of
from servers import make_endpoint, server_context, trust

from smendpoint import AsyncEndpoint, CallHooks, Endpoint
from smendpoint._calls import base as _call
from smendpoint.emulator import Emulator, ModelRequest
from smendpoint.errors import ConfigurationError, StreamTruncatedError, TransportError
from smendpoint.handlers import BytesHandler

pytestmark = pytest.mark.usefixtures("bare_environment")

FORK_CALLS = int(os.environ.get("SMENDPOINT_FORK_CALLS", "200"))
"""How many calls are made around a fork."""
THREAD_CALLS = int(os.environ.get("SMENDPOINT_THREAD_CALLS", "20"))
"""How many calls each of 32 threads makes."""
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def echo(request: ModelRequest) -> bytes:
    return b"answer to " + request.body


def in_child(work: Callable[[], object]) -> int:
    """Fork, run `work` in the child, and give the child's exit status: 0 if `work` returned."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@needs_fork
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_warm_endpoint_answers_rightly_on_both_sides_of_a_fork(
    secure: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    trust(monkeypatch, tmp_path)

    def calls(name: bytes, count: int) -> None:
        for number in range(count):
            question = b"%s %d" % (name, number)
            assert endpoint.invoke(question) == b"answer to " + question

    with (
        Emulator(echo, ssl_context=server_context() if secure else None) as emulator,
        make_endpoint(emulator.url, content_handler=BytesHandler()) as endpoint,
    ):
        endpoint.invoke(b"warm up")
        children = []
        for child in range(2):
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    calls(b"child %d" % child, FORK_CALLS // 4)
                    status = 0
                finally:
                    os._exit(status)
            children.append(pid)
        calls(b"parent", FORK_CALLS // 2)
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0]
        connections = {request.body.rpartition(b" ")[0]: request.connection for request in emulator.requests[1:]}
        assert len(set(connections.values())) == 3  # nobody used another process's connection


@needs_fork
@pytest.mark.parametrize("make", [Endpoint, AsyncEndpoint])
def test_endpoints_that_could_not_be_made_leave_no_connection_to_a_child(make: Any) -> None:
    failures = []
    for _ in range(20):  # which endpoint's turn it is first after a fork is up to chance
        with pytest.raises(ConfigurationError) as caught:
            make("my-llm", client=object())
        failures.append(caught)  # as a notebook keeps the last error, and the endpoint in its traceback
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        endpoint.invoke("Hello")

        def child() -> None:
            assert idle_connections(endpoint) == []

        assert in_child(child) == 0
        assert len(idle_connections(endpoint)) == 1


def test_an_endpoint_that_cannot_start_afresh_does_not_keep_the_others_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ValueError("broken")

    started: list[int] = []
    with make_endpoint("http://127.0.0.1:1") as bad, contextlib.ExitStack() as stack:
        monkeypatch.setattr(bad._caller, "forget", broken)
        for number in range(20):
            endpoint = stack.enter_context(make_endpoint("http://127.0.0.1:1"))
            monkeypatch.setattr(endpoint._caller, "forget", functools.partial(started.append, number))
        with pytest.raises(ValueError, match="broken"):
            _call._after_fork_in_child()
    assert sorted(started) == list(range(20))


@needs_fork
def test_a_stream_belongs_to_the_process_that_opened_it() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        whole = "".join(endpoint.stream("Hello"))
        with endpoint.stream("Hello") as stream:
            first = next(stream)

            def child() -> None:
                stream._ready.clear()
                with pytest.raises(StreamTruncatedError, match="opened before a fork"):
                    list(stream)
                stream.close()
                again = endpoint.stream("Hello")
                assert "".join(again) == whole

            assert in_child(child) == 0
            assert in_child(stream.close) == 0
            assert first + "".join(stream) == whole  # the child closed its own side only


@needs_fork
def test_a_stream_that_was_made_before_a_fork_can_be_opened_after_it() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        whole = endpoint.invoke("Hello")
        stream = endpoint.stream("Hello")

        def child() -> None:
            assert "".join(stream) == whole

        assert in_child(child) == 0
        assert "".join(stream) == whole


@needs_fork
def test_a_fork_in_the_middle_of_a_call_is_survived() -> None:
    class Forking(CallHooks):
        pid = -1

        def attempt_started(self, call: Any) -> None:
            if self.pid < 0:
                self.pid = os.fork()

    hooks = Forking()
    with Emulator() as emulator, make_endpoint(emulator.url, hooks=hooks, max_connections=1) as endpoint:
        whole = "The stand-in model read: Hello"
        try:
            answers = endpoint.invoke("Hello"), endpoint.invoke("Hello")
        except BaseException:
            if hooks.pid == 0:
                os._exit(1)
            raise
        if hooks.pid == 0:
            os._exit(0 if answers == (whole, whole) else 2)
        assert answers == (whole, whole)
        assert os.waitstatus_to_exitcode(os.waitpid(hooks.pid, 0)[1]) == 0


def test_after_a_fork_a_call_that_was_under_way_looks_everything_up_anew() -> None:
    """As in the child, but in this process."""

    class Forking(CallHooks):
        def attempt_started(self, call: Any) -> None:
            forget(endpoint)

    with Emulator() as emulator, make_endpoint(emulator.url, hooks=Forking()) as endpoint:
        assert endpoint.invoke("Hello") == endpoint.invoke("Hello")
        assert emulator.total_connections == 2


def test_in_another_process_a_stream_is_not_read_and_closing_it_closes_this_side_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        emulator.inject("stall_mid_stream")
        stream = endpoint.stream("Hello")
        source = source_of(stream.__enter__())
        connection = source._held
        ours = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: ours + 1)
        monkeypatch.setattr("smendpoint._transport.blocking.connection.getpid", os.getpid)
        with pytest.raises(TransportError, match="belongs to the parent process"):
            source.read()
        connection.abort()  # is the parent's to do
        assert emulator.open_connections == 1
        source.close()
        source.close()
        assert socket_of(connection).fileno() == -1


def test_many_threads_get_their_own_answers() -> None:
    wrong: list[object] = []

    def work(thread: int) -> None:
        for number in range(THREAD_CALLS):
            question = b"%d %d" % (thread, number)
            answer = endpoint.invoke(question) if number % 3 else b"".join(endpoint.stream(question))
            if answer != b"answer to " + question:
                wrong.append(answer)

    with (
        Emulator(echo) as emulator,
        make_endpoint(emulator.url, content_handler=BytesHandler(), max_connections=8) as endpoint,
    ):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert len(emulator.requests) == 32 * THREAD_CALLS
        assert emulator.total_connections <= 8
