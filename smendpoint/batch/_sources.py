"""The sources of rows: files of several formats, standard input, and iterables. Each is read on request."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import closing, contextmanager
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

from smendpoint._core.json import parse_json
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

SourceFormat: TypeAlias = Literal["jsonl", "csv", "text", "parquet"]
"""The format of a file: JSON Lines, CSV with a header, one input in each line, or Parquet."""
Source: TypeAlias = "str | os.PathLike[str] | Iterable[Any]"
"""A file's name, ``"-"`` for standard input, or any iterable."""

_FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".txt": "text",
    ".parquet": "parquet",
    ".pq": "parquet",
}
# The longest cell: the most that the `csv` module can count on every system. Its own limit is 131,072 characters.
_MAX_CELL = 2**31 - 1
# Parquet: rows that are taken at once, and bytes of a column that are read at once.
_PARQUET_ROWS = 1_024
_PARQUET_BUFFER_BYTES = 1_048_576
_BOM = b"\xef\xbb\xbf"


class Item(NamedTuple):
    """One value of a source, with its place for messages.

    Attributes:
        value: a mapping from fields to values, or the input itself.
        where: the place, such as ``"rows.jsonl, line 3"``.
    """

    value: Any
    where: str


def read_items(source: Source, format: str | None, columns: list[str] | None) -> tuple[Iterator[Item], str | None]:
    """Return the values of a source, one after the other, and its format.

    Args:
        source: the source.
        format: the format of a file; ``None`` decides by its name.
        columns: the fields that are used, so that Parquet reads no others; ``None`` for all.

    Returns:
        The values, and the format; ``None`` for an iterable. Reading them raises `ConfigurationError` if the source
        cannot be opened or read: the message names the file and the line.

    Raises:
        ConfigurationError: the format is not known, or does not suit the source.
    """
    if format is not None and format not in get_args(SourceFormat):
        raise ConfigurationError(f"format must be one of {', '.join(get_args(SourceFormat))}, not {format!r}")
    if not isinstance(source, (str, os.PathLike)):
        if format is not None:
            raise ConfigurationError("format is only for files: leave it out for an iterable")
        if isinstance(source, (bytes, bytearray, memoryview, Mapping)) or not isinstance(source, Iterable):
            raise ConfigurationError(
                f"the source must be the name of a file or an iterable of inputs, not of type {type(source).__name__}"
            )
        return (Item(value, f"row {number}") for number, value in enumerate(source)), None
    path = os.fspath(source)
    suffix = os.path.splitext(path)[1].lower()
    if path == "-":
        format = format or "jsonl"
    elif format is None and suffix not in _FORMATS:
        known = ", ".join(_FORMATS)
        raise ConfigurationError(f"the name of {path!r} does not show its format ({known}): pass format")
    else:
        format = format or _FORMATS[suffix]
    if format != "parquet":
        return _read_lines(path, format), format
    if path == "-":
        raise ConfigurationError("Parquet cannot be read from standard input, because its end must be read first")
    return _read_parquet(path, columns), format


@contextmanager
def _open(path: str) -> Generator[IO[bytes]]:
    if path != "-":
        with open(path, "rb") as file:
            yield file
    elif sys.stdin is None:
        raise ConfigurationError("there is no standard input: pass the name of a file")
    else:
        yield sys.stdin.buffer


def _read_lines(path: str, format: str) -> Iterator[Item]:
    name = "standard input" if path == "-" else path
    try:
        with _open(path) as file:
            yield from _read_csv(file, name) if format == "csv" else _read_plain(file, name, format)
    except OSError as error:
        raise ConfigurationError(f"cannot read {name}: {error.strerror}") from error


def _read_plain(file: IO[bytes], name: str, format: str) -> Iterator[Item]:
    for number, line in enumerate(file, 1):
        where = f"{name}, line {number}"
        if number == 1:
            line = line.removeprefix(_BOM)
        if not line.strip():
            continue
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{where}: byte {error.start + 1} of the line is not UTF-8") from None
        if format == "text":
            yield Item(text.removesuffix("\n").removesuffix("\r"), where)
            continue
        try:
            value = parse_json(text)
        except ValueError:  # its message may quote the row
            raise ConfigurationError(f"{where}: this is not JSON") from None
        yield Item(value, where)


def _decode_lines(file: IO[bytes], name: str) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        try:
            yield (line.removeprefix(_BOM) if number == 1 else line).decode()
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{name}, line {number}: byte {error.start + 1} is not UTF-8") from None


def _next_cells(reader: Iterator[list[str]]) -> list[str] | None:
    """Read a row of any length. The module's limit applies to the whole process, so it is restored afterwards."""
    limit = csv.field_size_limit(_MAX_CELL)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(limit)


def _read_csv(file: IO[bytes], name: str) -> Iterator[Item]:
    reader = csv.reader(_decode_lines(file, name), strict=True)
    header: list[str] | None = None
    while True:
        first = reader.line_num + 1
        where = f"{name}, line {first}"
        try:
            cells = _next_cells(reader)
        except csv.Error as error:
            raise ConfigurationError(f"{where}: this is not CSV: {error}") from None
        if cells is None:
            return
        if not cells:
            continue
        if header is None:
            header = cells
            if len(set(header)) != len(header):
                raise ConfigurationError(f"{where}: the header names a column twice")
        elif len(cells) != len(header):
            raise ConfigurationError(f"{where}: {len(cells)} cells, but the header has {len(header)}")
        else:
            yield Item(dict(zip(header, cells, strict=True)), where)


def _read_parquet(path: str, columns: list[str] | None) -> Iterator[Item]:
    try:
        from pyarrow.lib import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise ConfigurationError("Parquet needs PyArrow: pip install 'smendpoint[arrow]'") from None
    number = 0
    try:
        # Without pre-buffering, and with a buffer of this size, memory does not grow with a row group.
        with closing(ParquetFile(path, pre_buffer=False, buffer_size=_PARQUET_BUFFER_BYTES)) as file:
            missing = sorted(set(columns or ()) - set(file.schema_arrow.names))
            if missing:
                raise ConfigurationError(f"{path} has no column {', '.join(map(repr, missing))}")
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=columns):
                for value in batch.to_pylist():
                    yield Item(value, f"{path}, row {number}")
                    number += 1
    except (OSError, ArrowException, UnicodeDecodeError, OverflowError) as error:  # an error of the file, or of a value
        raise ConfigurationError(f"cannot read {path} as Parquet after row {number}: {error}") from error
