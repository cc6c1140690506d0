"""`_transport/deadline.py`: the real clock, and the methods of one for tests.

These tests read the real clock, because their claim is that `SYSTEM_CLOCK` is the system's. No other test does."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
import time

import pytest
from clocks import FakeClock

from smendpoint import Clock
from smendpoint._transport import deadline
from smendpoint._transport.deadline import SYSTEM_CLOCK, Wake


def test_time_and_chance_are_the_operating_systems() -> None:
    before = time.time(), time.monotonic()
    assert before[0] <= SYSTEM_CLOCK.time() <= time.time()
    assert before[1] <= SYSTEM_CLOCK.monotonic() <= time.monotonic()
    assert 0.0 <= SYSTEM_CLOCK.random() < 1.0


def test_sleeping_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(deadline._time, "sleep", slept.append)
    SYSTEM_CLOCK.sleep(1.5)
    assert slept == [1.5]


def test_a_sleeper_can_be_woken() -> None:
    wake = threading.Event()
    wake.set()
    SYSTEM_CLOCK.sleep(3600.0, wake)


def test_a_task_can_sleep() -> None:
    asyncio.run(SYSTEM_CLOCK.sleep_async(0.0))


def test_there_is_one_wherever_it_travels() -> None:
    assert pickle.loads(pickle.dumps(SYSTEM_CLOCK)) is SYSTEM_CLOCK
    assert copy.deepcopy(SYSTEM_CLOCK) is SYSTEM_CLOCK


def test_a_clock_for_tests_is_a_clock() -> None:
    clocks: list[Clock] = [SYSTEM_CLOCK, FakeClock()]
    assert all(callable(each.sleep) for each in clocks)


def test_a_wake_is_an_event_for_one_waiter() -> None:
    wake = Wake()
    assert not wake.is_set()
    assert not wake.wait(0.0)
    wake.set()
    wake.set()
    assert wake.is_set()
    assert wake.wait()
    assert wake.wait(0.0)
    wake.clear()
    wake.clear()
    assert not wake.is_set()
