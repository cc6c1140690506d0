"""A base class for immutable values. `dataclasses` would do the same, but a cold start must not import it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["Frozen"]


class Frozen:
    """An immutable value: compared, hashed, copied and pickled by its fields.

    A subclass names its slots in ``_fields``, and its constructor ends with `_assign`.
    """

    __slots__ = ()

    _fields: ClassVar[tuple[str, ...]] = ()

    def _assign(self, *values: object) -> None:
        for name, value in zip(self._fields, values, strict=True):
            object.__setattr__(self, name, value)

    def __getstate__(self) -> tuple[object, ...]:
        return tuple([getattr(self, name) for name in self._fields])

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self._assign(*state)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} cannot be changed: make a new one with another {name}")

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return self.__getstate__() == other.__getstate__()

    def __hash__(self) -> int:
        return hash(self.__getstate__())
