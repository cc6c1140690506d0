"""`_transport/threads.py`: threads that start, and the work where none can."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from smendpoint._transport import threads
from smendpoint._transport.threads import Spawned, spawn


def no_thread(*_: Any, **__: Any) -> Any:
    raise RuntimeError("can't start new thread")


def test_work_is_done_in_a_thread_with_a_name_that_does_not_keep_the_program() -> None:
    seen: list[Any] = []
    thread = spawn("worker", lambda value: seen.append((value, threading.current_thread())), 5)
    assert thread is not None
    thread.join()
    ((value, where),) = seen
    assert (value, where.name, where.daemon) == (5, "worker", True)


def test_where_no_thread_can_be_started_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "start_new_thread", no_thread)
    assert spawn("worker", pytest.fail, "it ran") is None


def test_where_there_are_no_daemon_threads_a_bare_one_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an isolated subinterpreter."""
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    done = threading.Event()
    thread = spawn("worker", done.set)
    assert thread is not None
    thread.join()
    assert done.is_set()


def test_spawned_work_runs_in_a_thread_or_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    where: list[int] = []
    thread = Spawned()
    thread.run_in_thread("worker", lambda: where.append(threading.get_ident()), ())
    thread.join()
    monkeypatch.setattr(threading, "Thread", no_thread)
    Spawned().run_in_thread("worker", lambda: where.append(threading.get_ident()), ())
    assert (where[0] == threading.get_ident(), where[1] == threading.get_ident()) == (False, True)


def test_work_that_fails_has_ended_too() -> None:
    thread = Spawned()
    with pytest.raises(ZeroDivisionError):
        thread.run(lambda: 1 / 0, ())
    thread.join()
