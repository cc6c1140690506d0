"""Garbage collection that has happened when the call returns."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from threading import get_ident
from typing import Any

# Seconds that are only ever waited for when a test fails.
PATIENCE = 20.0


def collect() -> None:
    """Collect all garbage that there is now.

    `gc.collect` returns at once, with nothing done, while another thread collects: an emulator's, for example. That
    thread may have begun before the garbage became garbage. So this tries until this thread has collected everything.
    """
    here = get_ident()
    done: list[bool] = []

    def note(phase: str, about: dict[str, Any]) -> None:
        if phase == "stop" and about["generation"] == 2 and get_ident() == here:
            done.append(True)

    gc.callbacks.append(note)
    try:
        while not done:
            gc.collect()
    finally:
        gc.callbacks.remove(note)


def collect_until(condition: Callable[[], object]) -> None:
    """Collect garbage until something holds: a thread that is about to end may hold an object a little longer."""
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends, "garbage collection does not bring this about"
        collect()
