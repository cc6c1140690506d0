"""Look-ups and sources of credentials, which take no time limit, are waited for no longer than a call may take."""

from __future__ import annotations

import _thread
import json
import os
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import PATIENCE, fast
from twins import ACCESS_KEY, SECRET_KEY, Twin

from smendpoint import RetryPolicy, errors
from smendpoint._transport import threads
from smendpoint._transport.threads import run_in_helper
from smendpoint.emulator import Emulator

pytestmark = pytest.mark.usefixtures("bare_environment")

ONCE = RetryPolicy(max_attempts=1)


class Slow:
    """Work that takes until it is let go."""

    def __init__(self, result: Any = None) -> None:
        self.go = threading.Event()
        self.result = result
        self.begun = threading.Semaphore(0)
        self.count = 0

    def __call__(self, *_: object, **__: object) -> Any:
        self.count += 1
        self.begun.release()
        assert self.go.wait(PATIENCE)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result

    def __enter__(self) -> Slow:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.go.set()
        finish()


def finish() -> None:
    """Wait for all helpers."""
    for work in list(threads._under_way.values()):
        work.wait(PATIENCE)
    assert not threads._under_way


def for_ever() -> float:
    return PATIENCE


def a_moment() -> float:
    return 0.01


# calls


@pytest.mark.parametrize(
    ("limits", "error"),
    [({"connect": 0.05}, errors.ConnectError), ({"total": 0.05}, errors.DeadlineExceededError)],
    ids=["connect", "total"],
)
def test_a_look_up_that_hangs_ends_with_the_time_of_the_call(
    caller: Twin, monkeypatch: pytest.MonkeyPatch, limits: dict[str, float], error: type[errors.TransportError]
) -> None:
    with Slow([]) as slow, monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", slow)
        if caller.loop is not None:  # that of uvloop looks up in C
            loop = caller.loop
            patch.setattr(loop, "getaddrinfo", lambda *_, **__: loop.run_in_executor(None, slow))
        endpoint = caller.endpoint("http://localhost", timeout=fast(**limits), retry=ONCE)
        for _ in range(3):
            with pytest.raises(error) as caught:
                endpoint.invoke("Hello")
            assert not caught.value.request_sent
        if not caller.asynchronous:
            assert slow.count == 1
            assert list(threads._under_way) == [("localhost", 80)]
        slow.go.set()


def test_a_name_is_looked_up_and_its_endpoint_called(monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator() as emulator:
        twin = Twin("sync-direct")
        with twin.endpoint(f"http://localhost:{emulator.port}") as endpoint:
            assert endpoint.invoke("Hello") == endpoint.invoke("Hello")
    assert not threads._under_way


def test_an_address_needs_no_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bool:
        raise AssertionError("a thread was started")

    monkeypatch.setattr(threads, "_start", fail)
    with Emulator() as emulator, Twin("sync-direct").endpoint(emulator.url, timeout=fast(total=PATIENCE)) as endpoint:
        endpoint.invoke("Hello")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_a_credential_process_that_hangs_ends_with_the_total_time(
    caller: Twin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    config = tmp_path / "config-with-process"
    config.write_text(f"[profile slow]\nregion = us-west-2\ncredential_process = cat {pipe}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    keys: dict[str, Any] = {"aws_access_key_id": None, "aws_secret_access_key": None}
    with Emulator() as emulator:
        with caller.endpoint(emulator.url, credentials_profile_name="slow", retry=ONCE, **keys) as endpoint:
            for _ in range(2):
                with pytest.raises(errors.DeadlineExceededError) as caught:
                    endpoint.invoke("Hello", timeout=fast(total=0.2))
                assert not caught.value.request_sent
            assert emulator.total_connections == 0
            said = {"Version": 1, "AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY}
            pipe.write_text(json.dumps(said))
            # No other process was started meanwhile: nobody would write for that.
            endpoint.invoke("Hello")
            endpoint.invoke("Hello", timeout=fast(total=PATIENCE))
    finish()


def test_credentials_that_come_in_time_serve_a_call_with_a_total_time(caller: Twin) -> None:
    with Emulator() as emulator, caller.endpoint(emulator.url, renewing=True) as endpoint:
        endpoint.invoke("Hello", timeout=fast(total=PATIENCE))


# one helper


def test_callers_that_ask_for_the_same_share_one_helper_and_its_result() -> None:
    found: list[Any] = []
    with Slow("it") as slow:
        askers = [threading.Thread(target=lambda: found.append(run_in_helper("key", slow, for_ever))) for _ in range(5)]
        for thread in askers:
            thread.start()
        assert slow.begun.acquire(timeout=PATIENCE)
        with pytest.raises(TimeoutError):
            run_in_helper("key", slow, a_moment)
        assert slow.count == 1
        slow.go.set()
        for thread in askers:
            thread.join(PATIENCE)
    assert found == ["it"] * 5


def test_a_result_that_comes_too_late_is_dropped() -> None:
    with Slow("late") as slow, pytest.raises(TimeoutError):
        run_in_helper("key", slow, a_moment)
    assert run_in_helper("key", lambda: "new", for_ever) == "new"


def test_failures_are_shared_too_and_ours_are_for_each_its_own() -> None:
    ours = errors.CredentialsError("none")
    raised: list[BaseException] = []

    def ask(slow: Slow) -> None:
        try:
            run_in_helper("key", slow, for_ever)
        except Exception as error:
            raised.append(error)

    for failure in (ours, socket.gaierror(socket.EAI_NONAME, "no such name")):
        with Slow(failure) as slow:
            askers = [threading.Thread(target=ask, args=(slow,)) for _ in range(2)]
            for thread in askers:
                thread.start()
            assert slow.begun.acquire(timeout=PATIENCE)
            slow.go.set()
            for thread in askers:
                thread.join(PATIENCE)
    assert [str(error) for error in raised[:2]] == ["none", "none"]
    assert len({id(error) for error in [ours, *raised[:2]]}) == 3
    assert all(isinstance(error, socket.gaierror) for error in raised[2:])


def test_there_are_never_more_helpers_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "MOST_HELPERS", 1)
    found: list[str] = []
    with Slow("first") as slow:
        first = threading.Thread(target=lambda: found.append(run_in_helper("first", slow, for_ever)))
        first.start()
        assert slow.begun.acquire(timeout=PATIENCE)
        with pytest.raises(TimeoutError):
            run_in_helper("second", lambda: "second", a_moment)
        asked = threading.Event()

        def left() -> float:
            asked.set()
            return PATIENCE

        second = threading.Thread(target=lambda: found.append(run_in_helper("second", lambda: "second", left)))
        second.start()
        assert asked.wait(PATIENCE)
        assert list(threads._under_way) == ["first"]
        slow.go.set()
        first.join(PATIENCE)
        second.join(PATIENCE)
    assert sorted(found) == ["first", "second"]


# where no thread can be started


def no_more(*_: object, **__: object) -> None:
    raise RuntimeError("can't start new thread")


def limit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_thread, "start_new_thread", no_more)
    patch.setattr(threads, "start_new_thread", no_more)


def isolated(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_thread, "daemon_threads_allowed", lambda: False, raising=False)


def end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sys, "is_finalizing", lambda: True)


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("hindrance", [limit, isolated, end])
def test_where_no_thread_can_be_started_the_work_is_done_in_line(
    monkeypatch: pytest.MonkeyPatch, hindrance: Callable[[pytest.MonkeyPatch], None], bare: bool
) -> None:
    where: list[int] = []
    with monkeypatch.context() as patch:
        hindrance(patch)
        assert run_in_helper("key", lambda: where.append(_thread.get_ident()), for_ever, bare=bare) is None
        with pytest.raises(socket.gaierror):
            run_in_helper("key", failing(), for_ever, bare=bare)
    assert where == [_thread.get_ident()]
    assert not threads._under_way


def failing() -> Slow:
    slow = Slow(socket.gaierror())
    slow.go.set()
    return slow


def test_a_program_without_the_threading_module_need_not_import_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "threading")
        ident = run_in_helper("key", _thread.get_ident, for_ever, bare=True)
        assert "threading" not in sys.modules
    assert ident != _thread.get_ident()


def test_work_in_line_that_is_interrupted_leaves_nothing_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        limit(patch)
        with pytest.raises(KeyboardInterrupt):
            run_in_helper("key", interrupted, for_ever)
    assert run_in_helper("key", lambda: "it", for_ever) == "it"
    assert not threads._under_way


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork")
def test_a_forked_child_does_not_wait_for_the_parents_helpers() -> None:
    with Slow() as slow:
        with pytest.raises(TimeoutError):
            run_in_helper("key", slow, a_moment)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads and a fork are the point here
            child = os.fork()
        if not child:  # pragma: no cover - another process
            os._exit(0 if run_in_helper("key", lambda: "it", for_ever) == "it" else 1)
        assert os.waitpid(child, 0)[1] == 0
