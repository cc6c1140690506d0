"""Keep secrets away from tools that record the local variables of a traceback."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smendpoint.errors import SmendpointError

# The packages whose frames are emptied: ours, and those of a user's client, which hold its credentials.
_OWNERS = frozenset({"aiobotocore", "boto3", "botocore", "smendpoint"})
# The frame of a generator or coroutine may continue after the exception, and emptying it would end it: our functions of
# these kinds keep nothing secret in their variables.
_CAN_WAIT = 0x20 | 0x80 | 0x200  # inspect.CO_GENERATOR, CO_COROUTINE and CO_ASYNC_GENERATOR


class Hidden:
    """Holds a value that passes through our functions; its ``repr`` does not show it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "<hidden>"


def hidden(value: Any) -> Any:
    """Wrap `value` in a `Hidden`, unless it already is one or is `None`."""
    return value if value is None or type(value) is Hidden else Hidden(value)


def forget_locals(error: BaseException) -> None:
    """Empty our finished frames in the tracebacks of `error`, its causes and its contexts.

    Tracebacks keep their lines. Call this where an exception leaves the last function that held a secret.
    """
    seen: set[int] = set()
    links: list[BaseException | None] = [error]
    while links:
        link = links.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        links += (link.__cause__, link.__context__)
        trace = link.__traceback__
        while trace is not None:
            frame = trace.tb_frame
            owner = str(frame.f_globals.get("__name__")).partition(".")[0]
            if owner in _OWNERS and not frame.f_code.co_flags & _CAN_WAIT:
                with suppress(RuntimeError):  # it is still running
                    frame.clear()
            trace = trace.tb_next


def finish_error(error: SmendpointError, endpoint_name: str) -> None:
    """Add the endpoint's name to `error`, and empty the frames in its traceback, before it reaches the user."""
    forget_locals(error)
    error.endpoint_name = endpoint_name
