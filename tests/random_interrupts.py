"""Ctrl-C by a real timer, at moments left to chance. `test_interrupts.py` runs this in a process of its own."""

from __future__ import annotations

import functools
import os
import random
import signal
from collections.abc import Callable
from typing import Any

import pytest
from servers import trusted  # noqa: F401
from test_conversation_threads import check_after, emulator, sends_and_reads  # noqa: F401
from test_conversation_threads import endpoint as voice  # noqa: F401
from test_interrupts import OPERATIONS, endpoint, no_collector, nothing_is_held  # noqa: F401

from smendpoint import Endpoint
from smendpoint.emulator import Emulator

pytestmark = pytest.mark.usefixtures("bare_environment")

TIMES = int(os.environ.get("SMENDPOINT_INTERRUPTS", "600"))
"""How many interrupts come, without TLS and as many with it."""


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def interrupt_often(times: int, operation: Callable[[], object], check: Callable[[], object]) -> None:
    """Have the operation repeated and interrupted, so many times, with a check after each."""
    arrived = 0
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(times):
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 2e-3))
                while True:
                    operation()
            except KeyboardInterrupt:
                arrived += 1
            check()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert arrived == times


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_interrupts_at_random_moments_arrive_and_leave_nothing_behind(
    endpoint: Endpoint[Any, Any, Any],  # noqa: F811
    name: str,
) -> None:
    interrupt_often(TIMES // len(OPERATIONS), lambda: OPERATIONS[name](endpoint), lambda: nothing_is_held(endpoint))


def test_conversations_interrupted_at_random_moments_are_whole_or_closed(
    voice: Endpoint[Any, Any, Any],  # noqa: F811
    emulator: Emulator,  # noqa: F811
    no_collector: None,  # noqa: F811
) -> None:
    for _ in range(TIMES // len(OPERATIONS)):
        talk = voice.converse().open()
        interrupt_often(1, functools.partial(sends_and_reads, talk), functools.partial(check_after, talk))
        talk.close()
    emulator.disconnected()
