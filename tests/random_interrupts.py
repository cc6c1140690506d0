"""Ctrl-C by a real timer, at moments left to chance. `test_interrupts.py` runs this in a process of its own."""

from __future__ import annotations

import os
import random
import signal
from typing import Any

import pytest
from test_interrupts import OPERATIONS, endpoint, no_collector, nothing_is_held  # noqa: F401

from smendpoint import Endpoint

pytestmark = pytest.mark.usefixtures("bare_environment")

TIMES = int(os.environ.get("SMENDPOINT_INTERRUPTS", "600"))
"""How many interrupts come, without TLS and as many with it."""


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_interrupts_at_random_moments_arrive_and_leave_nothing_behind(
    endpoint: Endpoint[Any, Any, Any],  # noqa: F811
    name: str,
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    operation, arrived = OPERATIONS[name], 0
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(TIMES // len(OPERATIONS)):
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 2e-3))
                while True:
                    operation(endpoint)
            except KeyboardInterrupt:
                arrived += 1
            nothing_is_held(endpoint)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert arrived == TIMES // len(OPERATIONS)
