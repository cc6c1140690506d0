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
    # Type checkers see the defaults; at run time `Typed` fills them in. Python supports them from 3.13 on, and earlier
    # versions only with a dependency that nothing else here needs.
    from typing import TypeVar

    In = TypeVar("In")
    Out = TypeVar("Out")
    Chunk = TypeVar("Chunk")
    Piece = TypeVar("Piece")
    Made = TypeVar("Made")

    class Erased:
        """`Generic` for private classes: it does nothing at run time, which makes a cold start shorter."""

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
    """Generic in the type of a stream's chunks and that of its whole output, by default the same type."""

    if not TYPE_CHECKING:  # pragma: no branch  # it is never true at run time

        def __class_getitem__(cls, types):
            given = types if isinstance(types, tuple) else (types,)
            return super().__class_getitem__((*given, *given)[:2])
