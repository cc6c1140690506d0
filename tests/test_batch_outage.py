"""A batch whose endpoint cannot be reached: it waits for one that was there before, and no row has a line of that."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from clocks import FakeClock
from servers import bare_environment  # noqa: F401
from twins import Twin, TwinEndpoint

from smendpoint import BytesHandler, ConnectError, RetryPolicy, Timeout, batch
from smendpoint.batch import Summary
from smendpoint.emulator import Emulator, ModelRequest

pytestmark = pytest.mark.usefixtures("bare_environment")


def echo(request: ModelRequest) -> bytes:
    return b"1"


class Place:
    """The port of an emulator that goes and comes back."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._running = ExitStack()
        self.port = 0
        self.come()

    def come(self) -> None:
        self._emulator = self._running.enter_context(Emulator(echo, port=self.port))
        self._stack.push(self._running)
        self.port, self.url = self._emulator.port, self._emulator.url

    def go(self) -> None:
        self._emulator.idle()  # the answers of earlier calls are on their way
        self._running.close()


class Clock(FakeClock):
    """A clock on which something happens once a number of seconds has passed."""

    at = float("inf")
    event: Callable[[], None]

    def sleep(self, seconds: float, wake: Any = None) -> None:
        super().sleep(seconds)
        if self.passed >= self.at:
            self.at = float("inf")
            self.event()


@pytest.fixture
def place() -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(stack)


def rows(place: Place, at: int = 5, of: int = 10) -> Iterator[str]:
    """Give inputs; before the one at this index the endpoint goes."""
    for number in range(of):
        if number == at:
            place.go()
        yield str(number)


def run(endpoint: TwinEndpoint, source: Any, output: Any, most: int = 1) -> Summary:
    ask = batch.arun if endpoint.twin.asynchronous else batch.run
    summary: Summary = endpoint.twin.run(ask(endpoint.endpoint, source, output, max_concurrency=most))
    return summary


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("timeout", [Timeout(), Timeout(total=3.0)], ids=["no total", "total"])
def test_a_run_waits_for_an_endpoint_that_it_has_reached(
    twin: Twin, place: Place, tmp_path: Path, timeout: Timeout, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    endpoint = twin.endpoint(place.url, content_handler=BytesHandler(), clock=clock, timeout=timeout)
    clock.at, clock.event = 100.0, place.come
    with caplog.at_level(logging.WARNING, "smendpoint.batch"):
        summary = run(endpoint, rows(place), tmp_path / "ledger")
    assert (summary.done, summary.failed) == (10, 0)
    assert len({line["id"] for line in lines(tmp_path / "ledger")}) == len(lines(tmp_path / "ledger")) == 10
    assert 100 <= clock.passed < 120
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "the run is waiting because the endpoint cannot be reached"
    ]


def test_many_calls_wait_together(twin: Twin, place: Place, tmp_path: Path) -> None:
    clock = Clock()
    endpoint = twin.endpoint(place.url, content_handler=BytesHandler(), clock=clock)
    clock.at, clock.event = 50.0, place.come
    run(endpoint, rows(place, at=40, of=80), tmp_path / "ledger", most=8)
    found = lines(tmp_path / "ledger")
    assert len({line["id"] for line in found}) == len(found) == 80
    # The model may have run for those that were on their way.
    assert all(line["error"]["message"].startswith("the connection was lost") for line in found if "error" in line)
    assert sum("output" in line for line in found) > 64
    assert clock.passed >= 50


def test_a_run_ends_when_the_endpoint_was_not_reached_for_too_long(
    direct_twin: Twin, place: Place, tmp_path: Path
) -> None:
    clock = Clock()
    retry = RetryPolicy(throttle_timeout=200.0)
    endpoint = direct_twin.endpoint(place.url, content_handler=BytesHandler(), clock=clock, retry=retry)
    with pytest.raises(
        ConnectError, match=r"5 rows were answered and 0 failed.* run it again to continue with the rest"
    ):
        run(endpoint, rows(place), tmp_path / "ledger")
    assert len(lines(tmp_path / "ledger")) == 5
    assert 200 <= clock.passed < 220


def test_a_run_ends_at_once_when_the_endpoint_was_never_reached(
    direct_twin: Twin, place: Place, tmp_path: Path
) -> None:
    clock = Clock()
    endpoint = direct_twin.endpoint(place.url, content_handler=BytesHandler(), clock=clock)
    with pytest.raises(ConnectError, match="0 rows were answered"):
        run(endpoint, rows(place, at=0), tmp_path / "ledger")
    assert lines(tmp_path / "ledger") == []
    assert clock.passed < 20
