"""The type variables of endpoints and streams, with their defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

__all__ = ["Chunk", "Erased", "In", "Made", "Out", "Piece", "Typed", "TypedStream"]

if TYPE_CHECKING:
    from typing import Generic as Erased

    from typing_extensions import TypeVar

    In = TypeVar("In", default=str)
    Out = TypeVar("Out", default=str)
    Chunk = TypeVar("Chunk", default=Out)
    Piece = TypeVar("Piece")
    Made = TypeVar("Made", default=Piece)
else:
    # Type checkers see the defaults; at run time `Typed` fills them in. Python itself knows them from 3.13 on, and
    # before that only with a dependency that nothing else here needs.
    from typing import TypeVar

    In = TypeVar("In")
    Out = TypeVar("Out")
    Chunk = TypeVar("Chunk")
    Piece = TypeVar("Piece")
    Made = TypeVar("Made")

    class Erased:
        """`Generic` for private classes: nothing at run time, so that a cold start is shorter."""

        __slots__ = ()

        def __class_getitem__(cls, types):
            return cls


class Typed(Generic[In, Out, Chunk]):
    """Generic in the types of the input (by default `str`), the output (`str`) and a stream's chunks (the output's)."""

    if not TYPE_CHECKING:  # pragma: no branch  # it is never true at run time

        def __class_getitem__(cls, types):
            given = types if isinstance(types, tuple) else (types,)
            out = given[1] if len(given) > 1 else str
            return super().__class_getitem__((*given, *(str, str, out)[len(given) :]))


class TypedStream(Generic[Piece, Made]):
    """Generic in the types of a stream's chunks and of their whole, which is by default the same."""

    if not TYPE_CHECKING:  # pragma: no branch  # it is never true at run time

        def __class_getitem__(cls, types):
            given = types if isinstance(types, tuple) else (types,)
            return super().__class_getitem__((*given, *given)[:2])
