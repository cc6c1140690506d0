"""The type variables of endpoints, and what is made of those that are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

if TYPE_CHECKING:
    from typing_extensions import TypeVar

__all__ = ["Chunk", "In", "Out", "Typed"]

if TYPE_CHECKING:
    In = TypeVar("In", default=str)
    Out = TypeVar("Out", default=str)
    Chunk = TypeVar("Chunk", default=Out)
else:
    # Type checkers see the defaults; at run time `Typed` fills them in. Python itself knows them from 3.13 on, and
    # before that only with a dependency that nothing else here needs.
    from typing import TypeVar

    In = TypeVar("In")
    Out = TypeVar("Out")
    Chunk = TypeVar("Chunk")


class Typed(Generic[In, Out, Chunk]):
    """Has types for what goes in (`str` where nothing else is said), what comes out (`str`), and a stream's chunks.

    Chunks are of the type that comes out, where nothing else is said.
    """

    if not TYPE_CHECKING:  # pragma: no branch  # it is never true at run time

        def __class_getitem__(cls, types):
            given = types if isinstance(types, tuple) else (types,)
            out = given[1] if len(given) > 1 else str
            return super().__class_getitem__((*given, *(str, str, out)[len(given) :]))
