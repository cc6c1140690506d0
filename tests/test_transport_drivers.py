"""`_transport/drivers.py`: a flow gets the outcome of each step, or our error, in both twins alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import pytest

from smendpoint._transport.drivers import drive, drive_async
from smendpoint.errors import ConnectError, TransportError


def flow() -> Generator[Any, Any, list[Any]]:
    """Does three steps, of which the second may fail."""
    outcomes: list[Any] = [(yield "first")]
    try:
        outcomes.append((yield "second"))
    except TransportError as error:
        outcomes.append(error)
    outcomes.append((yield "third"))
    return outcomes


def sync(perform: Callable[[Any], Any]) -> list[Any]:
    return drive(flow(), perform)


def asynchronous(perform: Callable[[Any], Any]) -> list[Any]:
    async def awaited(step: Any) -> Any:
        return perform(step)

    return asyncio.run(drive_async(flow(), awaited))


@pytest.mark.parametrize("run", [sync, asynchronous])
def test_each_step_is_performed_and_its_outcome_goes_back(run: Any) -> None:
    assert run(str.upper) == ["FIRST", "SECOND", "THIRD"]


@pytest.mark.parametrize("run", [sync, asynchronous])
def test_our_errors_go_back_into_the_flow(run: Any) -> None:
    error = ConnectError("refused")

    def perform(step: str) -> str:
        if step == "second":
            raise error
        return step

    assert run(perform) == ["first", error, "third"]


@pytest.mark.parametrize("run", [sync, asynchronous])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("foreign")])
def test_anything_else_ends_the_drive(run: Any, error: BaseException) -> None:
    def perform(step: str) -> str:
        raise error

    with pytest.raises(type(error)):
        run(perform)


@pytest.mark.parametrize("run", [sync, asynchronous])
def test_an_error_that_the_flow_does_not_handle_is_raised(run: Any) -> None:
    def perform(step: str) -> str:
        raise ConnectError("refused")

    with pytest.raises(ConnectError, match="refused"):
        run(perform)
