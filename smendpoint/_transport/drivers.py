"""The two drivers that run a call's flow over a transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from smendpoint.errors import SmendpointError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from typing_extensions import TypeVarTuple, Unpack

    Arguments = TypeVarTuple("Arguments")

T = TypeVar("T")


def drive(
    flow: Generator[Any, Any, T], perform: Callable[[Any, Unpack[Arguments]], Any], *arguments: Unpack[Arguments]
) -> T:
    """Run `flow` to its end: perform each step that it yields, and send the outcome or our error back into it.

    Args:
        flow: the flow of a call.
        perform: performs a step, and returns its outcome or raises.
        *arguments: further arguments for `perform`, after the step.
    """
    try:
        step = next(flow)
        while True:
            try:
                outcome = perform(step, *arguments)
            except SmendpointError as error:
                step = flow.throw(error)
            else:
                step = flow.send(outcome)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def drive_async(
    flow: Generator[Any, Any, T],
    perform: Callable[[Any, Unpack[Arguments]], Awaitable[Any]],
    *arguments: Unpack[Arguments],
) -> T:
    """`drive` with ``await``."""
    try:
        step = next(flow)
        while True:
            try:
                outcome = await perform(step, *arguments)
            except SmendpointError as error:
                step = flow.throw(error)
            else:
                step = flow.send(outcome)
    except StopIteration as stop:
        result: T = stop.value
        return result
