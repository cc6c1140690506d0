"""The index of a ledger: its entry for each id, in a private temporary database on disk, not in memory."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# Entries that are kept before they are written together, in the order of their ids: writing each one costs more.
_BUFFERED = 4_096
# The cache of the database, in KiB; the rest is in a file that the operating system deletes with the process.
_CACHE_KIB = 2_048
# A bit for each id that was put, by its hash, so that most new ids are known as new without a query: 1 MiB.
_FILTER_BITS = 1 << 23


class Entry(NamedTuple):
    """The facts about an id.

    Attributes:
        digest: the digest of its input.
        succeeded: whether its last line is a success; ``None`` if it has no line.
        start: where its last line begins in the ledger, in bytes; ``None`` if it has no line.
        number: its row in this run's input, from 0; ``None`` if that has not been read yet.
    """

    digest: str
    succeeded: bool | None = None
    start: int | None = None
    number: int | None = None


class Index:
    """Maps ids to entries; its memory does not grow with their number. It is not thread-safe.

    Raises:
        OSError: the temporary folder has no room; each method may raise this.
    """

    def __init__(self) -> None:
        # The empty name makes a temporary database on disk that no other connection sees.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._cursor = self._database.cursor()
        self._execute = self._cursor.execute
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}", "temp_store=FILE"):
            self._execute(f"PRAGMA {pragma}").fetchall()
        self._execute("CREATE TABLE entries (id BLOB PRIMARY KEY, digest, succeeded, start, number) WITHOUT ROWID")
        self._execute("BEGIN")
        self._buffer: dict[bytes, Entry] = {}
        self._filter = bytearray(_FILTER_BITS // 8)

    def get(self, id: str) -> Entry | None:
        """Give the entry of an id."""
        key = id.encode("utf-16", "surrogatepass")  # the same for a character and for its two halves, as in JSON
        found = self._buffer.get(key)
        bit = hash(key) % _FILTER_BITS
        if found is None and self._filter[bit >> 3] & (1 << (bit & 7)):
            row = self._execute("SELECT digest, succeeded, start, number FROM entries WHERE id = ?", (key,)).fetchone()
            found = None if row is None else Entry(row[0], None if row[1] is None else bool(row[1]), row[2], row[3])
        return found

    def put(self, id: str, entry: Entry) -> None:
        """Set the entry of an id."""
        key = id.encode("utf-16", "surrogatepass")
        if key not in self._buffer:
            bit = hash(key) % _FILTER_BITS
            self._filter[bit >> 3] |= 1 << (bit & 7)
            if len(self._buffer) >= _BUFFERED:
                self._flush()
        self._buffer[key] = entry

    def _flush(self) -> None:
        rows = ((key, *entry) for key, entry in sorted(self._buffer.items()))
        try:
            self._cursor.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise OSError(None, f"its index in the temporary folder: {error}") from error
        self._buffer.clear()

    def starts(self) -> Iterator[int]:
        """Yield where each id's last line begins: in the order of the input, then the ids that are not in it."""
        self._flush()
        query = "SELECT start FROM entries WHERE start IS NOT NULL ORDER BY number IS NULL, number, start"
        return (start for (start,) in self._database.execute(query))

    def close(self) -> None:
        """Delete the database."""
        self._database.close()
