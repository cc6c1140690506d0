"""Hooks hear what happens, and cannot change it."""

from __future__ import annotations

import logging

import pytest

from smendpoint import errors
from smendpoint._core.hooks import CallHooks, CallInfo, Watcher


def info() -> CallInfo:
    return CallInfo("my-llm", "InvokeEndpoint", "id-1")


def test_the_base_class_listens_to_everything_and_does_nothing() -> None:
    watcher = Watcher(info(), CallHooks(), None, lambda: 1.0)
    watcher.tell("call_started")
    watcher.tell("attempt_started")
    watcher.tell("attempt_failed", errors.ConnectError("refused"), 0.1)
    watcher.tell("first_byte")
    watcher.tell("call_finished", None)


def test_a_hook_that_raises_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(CallHooks):
        def call_started(self, call: CallInfo) -> None:
            raise KeyError("canary")

    Watcher(info(), Broken(), None, lambda: 1.0).tell("call_started")
    assert [record.name for record in caplog.records] == ["smendpoint.hooks"]
    assert "KeyError" in caplog.text
    assert "canary" not in caplog.text


def test_debug_records_name_the_call_and_the_kind_of_its_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "smendpoint.call")
    call = info()
    call.status, call.request_id, call.attempts = 424, "r-1", 2
    times = iter([10.0, 12.5])
    Watcher(call, None, logging.getLogger("smendpoint.call"), lambda: next(times)).tell(
        "call_finished", errors.ModelError(424, message="canary")
    )
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    for word in ("call finished", "InvokeEndpoint", "my-llm", "id-1", "attempt 2", "424", "r-1", "2.500", "ModelError"):
        assert word in record.getMessage()
    assert "canary" not in caplog.text


def test_elapsed_is_brought_up_to_date_before_each_hook() -> None:
    times = iter([1.0, 1.5, 4.0])
    watcher = Watcher(info(), CallHooks(), None, lambda: next(times))
    watcher.tell("call_started")
    assert watcher.info.elapsed == 0.5
    watcher.tell("first_byte")
    assert watcher.info.elapsed == 3.0
