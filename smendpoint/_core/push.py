"""What every push decoder has in common: how it fails.

A decoder takes bytes as they arrive (`feed`) and gives back what they complete. One piece of bytes can hold five good
items and then a bad one. The rule is: **nothing that was decoded is lost.** The five come back from this `feed`, and
the failure is raised by the next `feed` or `finish`; a feed that decoded nothing raises at once. After its failure a
decoder reads nothing more and raises the same failure again each time.

A caller who does not want to wait for more bytes to learn of the failure looks at `error` after it handled the items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ..errors import copy_error

if TYPE_CHECKING:
    from ..errors import StreamError

__all__ = ["PushDecoder"]

Item = TypeVar("Item")


class PushDecoder:
    """The base of the push decoders: keeps a failure until the items before it are delivered."""

    __slots__ = ("_failure",)

    def __init__(self) -> None:
        # This object itself is never raised: a traceback would tie it, the caller's frames and the decoder
        # together in a cycle, and a connection in those frames would wait for the garbage collector.
        self._failure: StreamError | None = None

    @property
    def error(self) -> StreamError | None:
        """The failure that the next `feed` or `finish` raises; ``None`` while all is well."""
        return None if self._failure is None else copy_error(self._failure)

    def _check(self) -> None:
        """Raises the failure, if there is one."""
        if self._failure is not None:
            raise copy_error(self._failure)

    def _deliver(self, items: list[Item]) -> list[Item]:
        """Gives the items, or raises the failure if nothing came before it."""
        if not items:
            self._check()
        return items
