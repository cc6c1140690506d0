"""The ledger: the output of a batch, a line for each row, which tells a later run the rows that are done."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import sys
import threading
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from smendpoint.batch._index import Entry, Index
from smendpoint.batch._lines import failure_line, is_torn, read_line, success_line
from smendpoint.batch._lock import lock_file
from smendpoint.errors import ConfigurationError, LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Self

    from smendpoint.batch._rows import Row
    from smendpoint.handlers.base import Usage

SYNC_SECONDS = 10.0
"""Seconds between two `fsync`: a power failure can lose the lines since the last one, and nothing else can."""

# Windows would translate line ends, and has this flag to keep child processes from inheriting the file.
_FLAGS = os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_log = logging.getLogger("smendpoint.batch")


class Ledger:
    """An open ledger. No other process can open it at the same time.

    Opening it takes the lock, cuts off an incomplete line at its end, and reads its lines. Any thread may write. Each
    line is written at once, with one system call if the operating system takes it whole.

    Args:
        path: the file, which is made if it does not exist. A pipe or a terminal, or ``"-"`` for standard output, only
            takes lines, so a later run cannot continue from it.
        retry_failed: whether rows that failed are sent again.
        clock: returns seconds.

    Attributes:
        path: the file.
        is_file: whether it is a file, which keeps its lines.
        skipped: how many rows of this run's input had succeeded before.
        failed_before: how many rows of this run's input had failed before, and are not sent again.

    Raises:
        LedgerError: another process has it, it is not a ledger, or it cannot be opened.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, retry_failed: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        # A link remains when the file that it points to is replaced. A pipe may have no other name than /dev/fd/63.
        special = path == "-" or (os.path.exists(path) and not os.path.isfile(path))
        self.path = os.fspath(path) if special else os.path.realpath(path)
        self.skipped = self.failed_before = 0
        self._retry_failed = retry_failed
        self._clock = clock
        self._lock = threading.Lock()
        self._index = Index()
        self._torn = False
        try:
            self._descriptor, self.is_file = self._open()
            try:
                if self.is_file:
                    self._load()
            except BaseException:
                os.close(self._descriptor)
                raise
        except BaseException as error:
            self._index.close()
            if isinstance(error, OSError):
                raise LedgerError(f"cannot open the ledger {self.path}: {error.strerror}") from error
            raise
        self._synced = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> tuple[int, bool]:
        if self.path == "-":
            return os.dup(1), False
        while True:
            try:
                is_file = stat.S_ISREG(os.stat(self.path).st_mode)
            except FileNotFoundError:
                is_file = True
            # A pipe that was also open for reading would never be closed at its other end.
            descriptor = os.open(self.path, _FLAGS | (os.O_RDWR if is_file else os.O_WRONLY), 0o666)
            if not is_file:
                return descriptor, False
            try:
                locked = lock_file(descriptor)
                if locked and os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                    return descriptor, True
            except FileNotFoundError:
                locked = True
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
            if not locked:
                raise LedgerError(
                    f"another process is writing to the ledger {self.path}: wait for it, or choose another output"
                )
            # The file was replaced between opening and locking it: the lock is on the old file.

    def _load(self) -> None:
        start = 0
        with self._reader() as file:
            file.seek(0)  # on Windows, the lock is set elsewhere
            for number, line in enumerate(file, 1):
                read = read_line(line)
                if read is not None:
                    self._index.put(read.id, Entry(read.digest, read.succeeded, start))
                    if not line.endswith(b"\n"):  # only its end is missing
                        self._write(b"\n", start + len(line))
                elif line.endswith(b"\n") or not is_torn(line):
                    raise LedgerError(
                        f"{self.path}, line {number}: this is not a line of a ledger. Choose another output, or remove "
                        "the line to continue with the others"
                    )
                else:
                    os.ftruncate(self._descriptor, start)
                    _log.warning("%s: cut off an incomplete line, %d bytes", self.path, len(line))
                start += len(line)

    def _reader(self) -> IO[bytes]:
        """Read through the descriptor that has the lock: on Windows, no other one can read the locked byte."""
        return open(self._descriptor, "rb", closefd=False)

    def pending(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows to send, in their order.

        Raises:
            ConfigurationError: an id appears twice, or its input is not the one that the ledger has an answer for.
            LedgerError: the temporary folder has no room for the index.
        """
        for row in rows:
            with self._lock:
                try:
                    wanted = self._wants(row)
                except OSError as error:
                    raise self._failure(error) from error
            if wanted:
                yield row

    def _wants(self, row: Row) -> bool:
        entry = self._index.get(row.id)
        if entry is None:
            self._index.put(row.id, Entry(row.digest, number=row.number))
            return True
        if entry.number is not None:
            raise ConfigurationError(
                f"rows {entry.number} and {row.number} of the input have the same id {row.id!r}: each row needs its own"
            )
        asked_again = entry.succeeded is False and self._retry_failed
        if entry.digest != row.digest and not asked_again:
            advice = "retry failed rows" if entry.succeeded is False else "choose another output, or remove the line"
            raise ConfigurationError(
                f"the input of the id {row.id!r} (row {row.number}) has changed since it was sent: the ledger "
                f"{self.path} has {entry.digest}, and this is {row.digest}. To send the new input, {advice}"
            )
        self._index.put(row.id, entry._replace(number=row.number))
        self.skipped += entry.succeeded is True
        self.failed_before += not (entry.succeeded or asked_again)
        return asked_again

    def succeeded(
        self,
        row: Row,
        output: Any,
        *,
        usage: Usage | None = None,
        elapsed: float | None = None,
        attempts: int = 1,
        request_id: str | None = None,
    ) -> None:
        """Write the line of an answer; the arguments are those of `success_line`.

        Raises:
            HandlerError: JSON cannot express the output; nothing was written.
            LedgerError: the line cannot be written.
        """
        line = success_line(row, output, usage=usage, elapsed=elapsed, attempts=attempts, request_id=request_id)
        self._append(row, line, succeeded=True)

    def failed(self, row: Row, error: BaseException, *, elapsed: float | None = None) -> None:
        """Write the line of a failure; the arguments are those of `failure_line`.

        Raises:
            LedgerError: the line cannot be written.
        """
        self._append(row, failure_line(row, error, elapsed=elapsed), succeeded=False)

    def _append(self, row: Row, line: bytes, *, succeeded: bool) -> None:
        with self._lock:
            try:
                start = os.lseek(self._descriptor, 0, os.SEEK_END) if self.is_file else 0
                self._write(line, start)
                if self.is_file:
                    self._index.put(row.id, Entry(row.digest, succeeded, start, row.number))
                    if self._clock() - self._synced >= SYNC_SECONDS:
                        self._sync()
            except OSError as error:
                raise self._failure(error) from error

    def _failure(self, error: OSError) -> LedgerError:
        if isinstance(error, BrokenPipeError):
            return LedgerError(f"the reader of the output {self.path} has gone: write to a file to be able to continue")
        kept = (
            "its earlier lines are complete: run the same command again to continue"
            if self.is_file
            else "a pipe keeps nothing: write to a file to be able to continue"
        )
        return LedgerError(f"cannot write to the ledger {self.path}: {error.strerror}; {kept}")

    def _write(self, line: bytes, start: int) -> None:
        """Write a whole line or nothing."""
        if self._torn:
            raise OSError(None, "an earlier line could be neither written nor cut off")
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except BaseException:  # a full disk, or Ctrl-C between two parts
            self._torn = True
            if self.is_file:
                if os.fstat(self._descriptor).st_size < start + len(line):
                    os.ftruncate(self._descriptor, start)
                self._torn = False
            raise

    def _sync(self) -> None:
        os.fsync(self._descriptor)
        self._synced = self._clock()

    def sort(self) -> None:
        """Put the lines into the order of this run's input, keep only the last one of each id, and close the ledger.

        It must be a file. Lines of ids that are not in the input follow at the end. The file is replaced as a whole: at
        any moment there is the old one or the new one.

        Raises:
            LedgerError: there is no room for another file; the ledger is unchanged.
        """
        with self._lock:
            copy = f"{self.path}.sorting"
            try:
                self._write_sorted(copy)
                # Windows does not replace an open file. A process that opens it in between makes sorting fail.
                if sys.platform == "win32":
                    self._release()
                os.replace(copy, self.path)
            except BaseException as error:
                with suppress(FileNotFoundError):
                    os.unlink(copy)
                if not isinstance(error, OSError):  # Ctrl-C
                    raise
                raise LedgerError(
                    f"cannot sort the ledger {self.path}: {error.strerror}; it is complete, in the order of the answers"
                ) from error
            self._release()

    def _write_sorted(self, copy: str) -> None:
        with self._reader() as source, open(copy, "wb") as target:
            shutil.copymode(self.path, copy)
            for start in self._index.starts():
                source.seek(start)
                target.write(source.readline())
            target.flush()
            os.fsync(target.fileno())

    def close(self) -> None:
        """Write everything to the disk, and release the lock.

        Raises:
            LedgerError: the disk refused; the lock is released anyway.
        """
        with self._lock:
            try:
                if self.is_file and self._descriptor >= 0:
                    os.fsync(self._descriptor)
            except OSError as error:
                raise self._failure(error) from error
            finally:
                self._release()

    def _release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._index.close()
