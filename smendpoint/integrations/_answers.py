"""The answers that the processes of a job got: a ledger for each process, in one folder that all of them read."""

from __future__ import annotations

import os
import platform
import secrets
import threading
from typing import Any

from smendpoint.batch._index import Entry, Index
from smendpoint.batch._ledger import Ledger
from smendpoint.batch._lines import parse_line, read_line
from smendpoint.batch._rows import Row


class Answers:
    """The answers in a folder, by the digests of their rows. Threads may share it.

    Args:
        folder: the folder, which is made when the first answer is added.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._index = Index()
        self._ledgers: list[str] = []
        self._read: dict[str, int] = {}  # by ledger: how many of its bytes are in the index
        self._own: Ledger | None = None

    def refresh(self) -> None:
        """Read the new lines of all processes, including this one; forget all if a ledger was deleted."""
        with self._lock:
            sizes = self._sizes()
            if not self._read.keys() <= sizes.keys() or (self._own is not None and not os.path.exists(self._own.path)):
                self._forget()
            for path, size in sizes.items():
                if size > self._read.get(path, 0):
                    self._read_on(path)

    def _sizes(self) -> dict[str, int]:
        if not os.path.isdir(self._folder):
            return {}
        return {entry.path: entry.stat().st_size for entry in os.scandir(self._folder) if entry.name.endswith(".jsonl")}

    def _forget(self) -> None:
        self._index.close()
        if self._own is not None:
            self._own.close()
        self._index, self._own = Index(), None
        self._ledgers.clear()
        self._read.clear()

    def _read_on(self, path: str) -> None:
        if path not in self._read:
            self._ledgers.append(path)
            self._read[path] = 0
        number, start = self._ledgers.index(path), self._read[path]
        with open(path, "rb") as file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # it is being written, or its process was killed
                read = read_line(line)
                if read is not None and read.succeeded:
                    self._index.put(read.digest, Entry("", True, start, number))
                start += len(line)
        self._read[path] = start

    def find(self, digest: str) -> dict[str, Any] | None:
        """Return the line of an answer that `refresh` has found."""
        with self._lock:
            entry = self._index.get(digest)
            if entry is None or entry.number is None or entry.start is None:
                return None
            with open(self._ledgers[entry.number], "rb") as file:
                file.seek(entry.start)
                return parse_line(file.readline())

    def add(self, digest: str, output: Any) -> None:
        """Write an answer to the ledger of this process.

        Raises:
            HandlerError: JSON cannot express the output.
            LedgerError: the answer cannot be written.
        """
        with self._lock:
            if self._own is None:
                os.makedirs(self._folder, exist_ok=True)
                name = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
                self._own = Ledger(os.path.join(self._folder, name))
            self._own.succeeded(Row(digest, None, digest, {}, 0), output)


# Also by process: the child of a fork writes to its own ledger.
_opened: dict[tuple[int, str], Answers] = {}


def answers_in(folder: str) -> Answers:
    """Return the answers in a folder, which this process reads once for all its tasks."""
    key = os.getpid(), folder
    return _opened.get(key) or _opened.setdefault(key, Answers(folder))
