"""The rule of all push decoders: deliver first, then fail.

A decoder takes bytes as they arrive, cut anywhere (`feed`), and returns the items that they complete; `finish` takes
the end of the bytes and returns the items that waited for it. One piece of bytes can hold five good items and then a
bad one. **No decoded item is lost**: this `feed` returns the five, and the next `feed` or `finish` raises the failure.
A `feed` without items raises at once. After its failure a decoder reads nothing more, and raises the failure again.

A caller that does not want to wait for more bytes to learn of the failure reads `error` after it has handled the items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import StreamDecodeError
from ..error_copies import copy_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...errors import StreamError

Item = TypeVar("Item")


class PushDecoder:
    """The base class of the push decoders: keeps a failure until the items before it are delivered."""

    __slots__ = ("_failure",)

    def __init__(self) -> None:
        # A `StreamError`, or in a `LayeredDecoder` any exception. This object itself is never raised: a traceback
        # would tie it, the caller's frames and the decoder together in a cycle, and a connection in those frames would
        # stay open until the garbage collector runs.
        self._failure: Any = None

    @property
    def error(self) -> StreamError | None:
        """The failure that the next `feed` or `finish` raises; ``None`` while all is well."""
        return None if self._failure is None else copy_error(self._failure)

    def _check(self) -> None:
        """Raise the failure, if there is one."""
        if self._failure is not None:
            raise copy_error(self._failure)

    def _deliver(self, items: list[Item]) -> list[Item]:
        """Return the items, or raise the failure if there is no item before it."""
        if not items:
            self._check()
        return items


class LayeredDecoder(PushDecoder):
    """The base class of decoders on top of another one, in which a function of the caller may raise any exception.

    Such an exception cannot be copied, so it is raised once; later calls raise a `StreamDecodeError`.
    """

    __slots__ = ("_failed",)

    def __init__(self) -> None:
        super().__init__()
        self._failed = False

    def _check(self) -> None:
        if self._failed:
            failure, self._failure = self._failure, None
            raise failure or StreamDecodeError("the stream failed before: its decoder reads nothing more")

    def _fail(self, error: Exception, ahead: Sequence[Any]) -> None:
        """Keep the failure that is being handled for the next call, or raise it now if no item came before it."""
        self._failed = True
        if not ahead:
            raise error
        # Its traceback refers to the frames that refer to this decoder: a cycle that would keep a connection open.
        self._failure = error.with_traceback(None)
