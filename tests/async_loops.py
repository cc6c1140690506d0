"""Coroutines on each kind of event loop, and nothing left behind by them: no task, no complaint, no open transport."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from garbage import collect

from smendpoint import AsyncEndpoint

T = TypeVar("T")

try:
    import uvloop
except ImportError:  # not available for Windows
    KINDS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
else:
    KINDS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class SkippingLoop(asyncio.SelectorEventLoop):
    """asyncio's loop, with a time that a test can move on."""

    skipped = 0.0

    def time(self) -> float:
        return super().time() + self.skipped


def skip(seconds: float) -> None:
    """Move the time of the running `SkippingLoop` on."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SkippingLoop)
    loop.skipped += seconds


# Seconds that are only ever waited for when a test fails.
PATIENCE = 20.0


def make_endpoint(url: str, **options: Any) -> AsyncEndpoint[Any, Any, Any]:
    """An endpoint whose limits only a test that fails reaches."""
    options.setdefault("timeout", PATIENCE)
    if "client" not in options:
        options = {
            "endpoint_url": url,
            "region_name": "us-east-1",
            "aws_access_key_id": "AKIDEXAMPLE",
            "aws_secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            **options,
        }
    return AsyncEndpoint("my-llm", **options)


def others() -> set[asyncio.Task[Any]]:
    """Give the tasks of the running loop, without the current one."""
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]  # there is one


async def settled() -> None:
    """Wait until no other task is left; a task that never ends fails the test."""
    while left := others():
        _, pending = await asyncio.wait(left, timeout=PATIENCE)
        assert not pending


async def turns(number: int = 5) -> None:
    """Let the loop go round."""
    for _ in range(number):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Wait until something holds that a socket or a thread will make so."""

    async def holds() -> None:
        while not condition():
            await turns(1)

    await asyncio.wait_for(holds(), PATIENCE)


class Run:
    """Runs a coroutine as `asyncio.run` does, and then checks that nothing is left.

    Attributes:
        kind: of the event loop.
        complaints: what was reported to the event loop's exception handler.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.complaints: list[dict[str, Any]] = []

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Make a loop that records errors instead of logging them."""
        loop = SkippingLoop() if self.kind == "skipping" else KINDS[self.kind]()
        loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        return loop

    def end(self, loop: asyncio.AbstractEventLoop) -> None:
        """End a loop as `asyncio.run` does."""
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    def __call__(self, main: Coroutine[Any, Any, T]) -> T:
        gc.freeze()  # older objects need not be searched
        loop = self.new_loop()
        try:
            result = loop.run_until_complete(main)
            loop.run_until_complete(settled())
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            self.end(loop)
            collect()  # so that asyncio reports in this test
            gc.unfreeze()
        assert self.complaints == [], self.complaints
        return result


@pytest.fixture(params=sorted(KINDS))
def run(request: pytest.FixtureRequest) -> Run:
    """Runs coroutines, the test once for each kind of event loop."""
    return Run(request.param)


@pytest.fixture
def run_skipping() -> Run:
    """Runs coroutines on a loop with a time that `skip` moves on."""
    return Run("skipping")
