"""Hooks are called with each event of a call, and cannot change the call."""

from __future__ import annotations

import logging
from typing import Any
from unittest.mock import MagicMock

import pytest

from smendpoint import errors
from smendpoint._core.call.hooks import CallHooks, CallInfo, Watcher, checked_hooks


def info() -> CallInfo:
    return CallInfo("my-llm", "InvokeEndpoint", "id-1")


def test_the_base_class_listens_to_everything_and_does_nothing() -> None:
    watcher = Watcher(info(), (CallHooks(),), None, lambda: 1.0, 1.0)
    watcher.notify("call_started")
    watcher.notify("attempt_started")
    watcher.notify("attempt_failed", errors.ConnectError("refused"), 0.1)
    watcher.notify("first_byte")
    watcher.finish(None)


def test_a_hook_that_raises_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(CallHooks):
        def call_started(self, call: CallInfo) -> None:
            raise KeyError("canary")

    Watcher(info(), (Broken(),), None, lambda: 1.0, 1.0).notify("call_started")
    assert [record.name for record in caplog.records] == ["smendpoint.hooks"]
    assert "KeyError" in caplog.text
    assert "canary" not in caplog.text


def test_debug_records_name_the_call_and_the_kind_of_its_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "smendpoint.call")
    call = info()
    call.status, call.request_id, call.attempts = 424, "r-1", 2
    Watcher(call, (), logging.getLogger("smendpoint.call"), lambda: 12.5, 10.0).finish(
        errors.ModelError(424, message="canary")
    )
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    for word in ("call finished", "InvokeEndpoint", "my-llm", "id-1", "attempt 2", "424", "r-1", "2.500", "ModelError"):
        assert word in record.getMessage()
    assert "canary" not in caplog.text


def test_elapsed_is_brought_up_to_date_before_each_hook() -> None:
    times = iter([1.5, 4.0])
    watcher = Watcher(info(), (CallHooks(),), None, lambda: next(times), 1.0)
    watcher.notify("call_started")
    assert watcher.info.elapsed == 0.5
    watcher.notify("first_byte")
    assert watcher.info.elapsed == 3.0


def test_the_end_of_a_call_that_two_threads_end_is_reported_once() -> None:
    heard: list[BaseException | None] = []

    class Recorder(CallHooks):
        def call_finished(self, call: CallInfo, error: BaseException | None) -> None:
            heard.append(error)
            watcher.finish(errors.TransportError("the other thread's"))

    watcher = Watcher(info(), (Recorder(),), None, lambda: 1.0, 1.0)
    watcher.finish(None)
    assert heard == [None]


# objects that are taken for hooks


class Metrics(CallHooks):
    """With a method of its own beside its hooks."""

    def call_finished(self, call: CallInfo, error: BaseException | None) -> None:
        pass

    def report(self) -> None:
        pass


class Some:
    """Not a subclass, and without most of the hooks."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def call_started(self, call: CallInfo) -> None:
        self.heard.append(call.endpoint_name)


class Dynamic(CallHooks):
    def __getattribute__(self, name: str) -> Any:
        return lambda *_: None


@pytest.mark.parametrize(
    "hooks", [None, Metrics(), Some(), MagicMock(), Dynamic()], ids=lambda hooks: type(hooks).__name__
)
def test_any_object_with_a_hook_is_taken(hooks: Any) -> None:
    assert checked_hooks(hooks) is hooks


def test_a_hook_set_on_an_instance_counts() -> None:
    hooks: Any = CallHooks()
    hooks.call_started = print
    assert checked_hooks(hooks) is hooks


def test_hooks_that_an_object_does_not_have_are_not_missed(caplog: pytest.LogCaptureFixture) -> None:
    hooks: Any = Some()
    watcher = Watcher(info(), (hooks,), None, lambda: 1.0, 1.0)
    watcher.notify("call_started")
    watcher.finish(None)
    assert hooks.heard == ["my-llm"]
    assert caplog.records == []


def test_a_class_is_refused_as_hooks() -> None:
    with pytest.raises(errors.ConfigurationError, match=r"an instance, not the class Metrics: write Metrics\(\)"):
        checked_hooks(Metrics)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("on_call_start", "call_started"),
        ("call_start", "call_started"),
        ("on_attempt_failed", "attempt_failed"),
        ("first_bytes", "first_byte"),
        ("callFinished", "call_finished"),
        ("on_first_chunk", "first_chunk"),
        ("first_chunks", "first_chunk"),
        ("chunks", "chunk"),
        ("on_chunk", "chunk"),
    ],
)
def test_a_misspelt_hook_is_refused(wrong: str, meant: str) -> None:
    for bases in ((CallHooks,), (Metrics,), (Some,)):
        hooks = type("Mine", bases, {wrong: lambda *_: None})()
        with pytest.raises(errors.ConfigurationError, match=f"Mine.{wrong} is not a hook.* did you mean {meant}"):
            checked_hooks(hooks)
    assert checked_hooks(type("Mine", (Metrics,), {wrong: 7})()) is not None  # no method


@pytest.mark.parametrize("hooks", [object(), print, "call_started", CallHooks(), type("Mine", (CallHooks,), {})()])
def test_an_object_without_a_hook_is_refused(hooks: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="has none of the hooks call_started, "):
        checked_hooks(hooks)
