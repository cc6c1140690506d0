"""The body of an answer for handlers: bytes that are also a file."""

from __future__ import annotations

from io import SEEK_CUR, SEEK_END, SEEK_SET, UnsupportedOperation
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer, Self

_CHUNK = 1024
"""The default size of a chunk in bytes, as in botocore's ``StreamingBody``."""


class ResponseBody(bytes):
    """The body of an answer: ``bytes`` that can also be read like a file, or like botocore's ``StreamingBody``.

    Handlers may use ``json.loads(output)``, ``output.decode()`` or ``output.read().decode()``. Reading and iterating
    move a position and change nothing else; ``len``, slices and comparisons see the whole body. Iterating yields chunks
    of at most 1,024 bytes, not integers. ``repr`` shows only the length, so that an answer does not appear in a log by
    accident.
    """

    # Kept on the class until something is read: most bodies are never read like a file.
    _position = 0
    closed = False

    def read(self, amt: int | None = -1) -> bytes:
        """Read from where the last ``read`` ended.

        Args:
            amt: the most bytes to read; negative or ``None`` for all that is left.

        Returns:
            The bytes; ``b""`` at the end.
        """
        start = self._position
        end = len(self) if amt is None or amt < 0 else min(start + amt, len(self))
        self._position = max(start, end)
        return bytes(self[start:end])

    def readinto(self, b: Buffer, /) -> int:
        """Read into a writable buffer, and return the number of bytes."""
        target = memoryview(b).cast("B")
        data = self.read(len(target))
        target[: len(data)] = data
        return len(data)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read up to and including a line feed, or to the end; at most ``size`` bytes if that is not negative."""
        length = self.find(b"\n", self._position) + 1 - self._position
        if length <= 0:
            return self.read(size)
        return self.read(length if size is None or size < 0 else min(length, size))

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """Read the remaining lines; stop after ``hint`` bytes if that is above 0."""
        lines: list[bytes] = []
        stop = len(self) if hint is None or hint <= 0 else self._position + hint
        while self._position < stop and (line := self.readline()):
            lines.append(line)
        return lines

    def iter_lines(self, chunk_size: int = _CHUNK, keepends: bool = False) -> Iterator[bytes]:
        """Yield the remaining lines, which end with a line feed, a carriage return or both.

        Args:
            chunk_size: has no effect, because the whole body has arrived.
            keepends: whether the lines keep their ends.
        """
        yield from self.read().splitlines(keepends)

    def iter_chunks(self, chunk_size: int = _CHUNK) -> Iterator[bytes]:
        """Yield the remaining bytes in chunks of at most ``chunk_size`` bytes."""
        while chunk := self.read(chunk_size):
            yield chunk

    def __iter__(self) -> Iterator[bytes]:  # type: ignore[override]  # chunks, as StreamingBody has
        return self.iter_chunks()

    def __next__(self) -> bytes:
        chunk = self.read(_CHUNK)
        if not chunk:
            raise StopIteration
        return chunk

    next = __next__

    def tell(self) -> int:
        """Return the position: the number of bytes before it."""
        return self._position

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        """Move the position, and return it.

        Args:
            offset: how many bytes.
            whence: from the start (0), from the position (1) or from the end (2).
        """
        start = {SEEK_SET: 0, SEEK_CUR: self._position, SEEK_END: len(self)}[whence]
        self._position = max(start + offset, 0)
        return self._position

    def close(self) -> None:
        """Move to the end: nothing more is read. The bytes stay."""
        self._position = len(self)
        self.closed = True

    def readable(self) -> bool:
        """Return that this can be read."""
        return True

    seekable = readable

    def writable(self) -> bool:
        """Return that this cannot be written to."""
        return False

    isatty = writable

    def flush(self) -> None:
        """Do nothing: nothing can be written."""

    def set_socket_timeout(self, timeout: float | None) -> None:
        """Do nothing: the whole body has arrived."""

    def _refuse(self, *_: object) -> NoReturn:
        raise UnsupportedOperation("the body of an answer cannot be written to, and has no descriptor")

    fileno = truncate = write = writelines = _refuse

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ResponseBody of {len(self)} bytes>"

    __str__ = __repr__


class ObservedBody(ResponseBody):
    """The body of an answer for a call with hooks: its JSON is parsed once, for the output and for the details."""

    parsed: Any = None
