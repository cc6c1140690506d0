"""Copies of errors, for those that wait for the same failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint.errors import SmendpointError

if TYPE_CHECKING:
    from typing import TypeVar

    AnyError = TypeVar("AnyError", bound=BaseException)


def copy_error(error: AnyError) -> AnyError:
    """Copy an error for another waiter: with its cause, without its traceback and context.

    Each caller fills in its own details. An object that keeps an error raises copies of it, and keeps a copy: a
    traceback refers to frames, and these refer back to the object, so that only the garbage collector could free them.
    """
    kind = type(error)
    # Our errors have details that `args` does not hold.
    copy = kind.__new__(kind, *error.args) if isinstance(error, SmendpointError) else kind(*error.args)
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error.__cause__
    return copy
