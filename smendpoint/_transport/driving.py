"""The two drivers that run a call's flow over a transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from smendpoint.errors import SmendpointError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

T = TypeVar("T")


def drive(flow: Generator[Any, Any, T], perform: Callable[[Any], Any]) -> T:
    """Run `flow` to its end: each step it yields is performed, the outcome or our error goes back into it."""
    try:
        step = next(flow)
        while True:
            try:
                outcome = perform(step)
            except SmendpointError as error:
                step = flow.throw(error)
            else:
                step = flow.send(outcome)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def drive_async(flow: Generator[Any, Any, T], perform: Callable[[Any], Awaitable[Any]]) -> T:
    """`drive` with ``await``."""
    try:
        step = next(flow)
        while True:
            try:
                outcome = await perform(step)
            except SmendpointError as error:
                step = flow.throw(error)
            else:
                step = flow.send(outcome)
    except StopIteration as stop:
        result: T = stop.value
        return result
