"""Settings and fixtures that tests share: those that are imported here are explained where they are."""

from __future__ import annotations

import asyncio
import builtins
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from async_loops import KINDS, run, run_skipping  # noqa: F401
from hypothesis import HealthCheck, settings
from servers import bare_environment, tls, trusted  # noqa: F401
from twins import Twin, client_twin, direct_twin, twin  # noqa: F401

from smendpoint.emulator import Emulator

# One fast profile for every machine; `SMENDPOINT_EXAMPLES` buys more.
settings.register_profile(
    "smendpoint",
    max_examples=int(os.environ.get("SMENDPOINT_EXAMPLES", "100")),
    deadline=None,  # timing says nothing on a shared machine
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("smendpoint")


def pytest_configure(config: pytest.Config) -> None:
    # Coverage is of this process, and of the workers of pytest-xdist; programs that tests start are not measured: some
    # are interrupted at any moment, some count what is imported.
    if getattr(config.option, "numprocesses", None) is None:
        os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_xdist_auto_num_workers() -> int:
    # More than there are processors: a worker often waits for a socket or for a program that it started.
    return (os.cpu_count() or 1) * 3 // 2


@pytest.fixture(scope="session", autouse=True)
def _no_choice_of_colours() -> Iterator[None]:
    """Test what programs write where nobody has chosen colours, also if whoever runs the tests has."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("NO_COLOR", "FORCE_COLOR"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard() -> Iterator[None]:
    """Interrupt as in the foreground: a shell script starts `pytest &` with SIGINT ignored, which children inherit."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """An emulator, which no connection is open to at the end."""
    with Emulator() as running:
        yield running
        running.disconnected()


@pytest.fixture(params=["blocking", *sorted(KINDS)])
def caller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Twin]:
    """The blocking twin, and the other one on each kind of event loop."""
    if request.param != "blocking":
        monkeypatch.setattr(asyncio, "new_event_loop", KINDS[request.param])
    made = Twin("sync-direct" if request.param == "blocking" else "async-direct")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def without_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the import of NumPy fail, as if it was not installed."""
    real = builtins.__import__

    def fail(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "numpy":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "numpy")
    monkeypatch.setattr(builtins, "__import__", fail)
