"""The base of values: objects that never change after they were made."""

from __future__ import annotations

__all__ = ["Frozen"]


class Frozen:
    """Immutable attributes, which are those in the class's ``__slots__``. Equal attributes make equal objects."""

    __slots__: tuple[str, ...] = ()

    def _set(self, *values: object) -> None:
        """Set the attributes, in the order of the slots."""
        for name, value in zip(self.__slots__, values, strict=True):
            object.__setattr__(self, name, value)

    def _values(self) -> tuple[object, ...]:
        return tuple([getattr(self, name) for name in self.__slots__])

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a {type(self).__name__} cannot be changed: make a new one with another {name}")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __reduce__(self) -> tuple[object, ...]:
        # The default way sets the slots one by one.
        return _restore, (type(self), *self._values())


def _restore(kind: type[Frozen], *values: object) -> Frozen:
    made = kind.__new__(kind)
    made._set(*values)
    return made
