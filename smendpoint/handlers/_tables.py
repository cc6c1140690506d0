"""Rows of a table as bytes, NumPy's format among them, and the predictions in an answer as lists."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from smendpoint.errors import HandlerError
from smendpoint.handlers._json import decode_json, encode_json, encode_text
from smendpoint.handlers._numbers import read_predictions
from smendpoint.handlers._rows import as_cell, as_list, as_rows, columns_of, frame_as_csv
from smendpoint.handlers._shapes import raise_for_error, unknown_shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from smendpoint._container_errors import JSONValue
    from smendpoint.handlers._rows import Row

__all__ = [
    "MAGIC",
    "READERS",
    "WRITERS",
    "array_as_npy",
    "exact_array",
    "import_numpy",
    "is_bracketed",
    "read_items",
    "read_npy",
    "write_npy",
]

# NumPy's ``.npy`` format, without NumPy: ``\x93NUMPY``, two version bytes, the header's length (2 bytes in version 1, 4
# in later ones, both little-endian), a header that is a Python dict as text, and the numbers.
MAGIC = b"\x93NUMPY"

Scalar: TypeAlias = "float | int | str | bool"

# NumPy's kinds and sizes as `struct` names them.
_CODES = {
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
    "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip
# From here on not every integer is a float of 64 bits.
_EXACT = 2.0**53
_INEXACT = "The input has values of several types, and one that no array of a single type can hold unchanged."

_DESCR = re.compile(r"'descr': *'([<>|])([a-zA-Z])(\d{1,9})'")
_ORDER = re.compile(r"'fortran_order': *(True|False)")
_SHAPE = re.compile(r"'shape': *\(([\d, ]{0,100})\)")


def import_numpy(needed_by: str) -> Any:
    """Give NumPy, for the few that need it.

    Raises:
        HandlerError: it is not installed; the message names the extra.
    """
    try:
        import numpy
    except ImportError as error:
        raise HandlerError(f"{needed_by} needs NumPy: pip install 'smendpoint[numpy]'") from error
    return numpy


def write_npy(rows: Sequence[Sequence[float | int]]) -> bytes:
    """Give rows of equal length as a two-dimensional array, of 64-bit integers where all are, else of 64-bit floats."""
    flat = [cell for row in rows for cell in row]
    whole = all(isinstance(cell, int) for cell in flat)
    code, descr = ("q", "<i8") if whole else ("d", "<f8")
    try:
        data = struct.pack(f"<{len(flat)}{code}", *flat)
        exact = whole or all(float(cell) == cell for cell in flat if isinstance(cell, int))
    except (struct.error, OverflowError):
        raise HandlerError("The input has a number that fits neither 64-bit integers nor 64-bit floats.") from None
    if not exact:
        raise HandlerError(_INEXACT)
    return _npy_file(descr, (len(rows), len(rows[0])), data)


def array_as_npy(array: Any) -> bytes | None:
    """Give a NumPy array of numbers, of one row or of some, with its own type; ``None`` for anything else."""
    if not hasattr(array, "__array_interface__") or hasattr(array, "mask") or array.ndim not in (1, 2):
        return None
    if array.dtype.str[1:] not in _CODES or not array.size:
        return None
    return _npy_file(array.dtype.str, (1, *array.shape)[-2:], array.tobytes())


def _npy_file(descr: str, shape: tuple[int, ...], data: bytes) -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    # The numbers begin at a multiple of 64 bytes.
    padding = -(len(MAGIC) + 4 + len(header) + 1) % 64
    text = f"{header}{' ' * padding}\n".encode()
    return MAGIC + b"\x01\x00" + struct.pack("<H", len(text)) + text + data


def exact_array(np: Any, values: Any) -> Any:
    """Give an array of the values as NumPy makes it, where it changes none of them.

    NumPy has one type for a whole array: beside a float, an integer becomes one, beside a text everything a text.

    Args:
        np: the module.
        values: whatever NumPy takes, or a frame.

    Raises:
        HandlerError: a value would not be the same in the array.
    """
    array = np.asarray(values)
    if isinstance(values, np.ndarray):
        if np.ma.is_masked(values):
            raise HandlerError("The array has masked values, which the format .npy cannot hold.")
        return array
    kind = array.dtype.kind
    if kind in "SU" or (kind in "fc" and array.dtype.itemsize >= 8 and (abs(array) >= _EXACT).any()):
        table = columns_of(values) is not None
        before = as_rows(values, nan_is_missing=False) if table else as_list(values, nan_is_missing=False)
        pairs = zip(np.asarray(before, dtype=object).ravel().tolist(), array.ravel().tolist(), strict=True)
        # As Python's, an integer is compared exactly. A missing number has become NaN.
        if not all((old.tolist() if hasattr(old, "tolist") else old) == new or new != new for old, new in pairs):
            raise HandlerError(_INEXACT)
    return array


def read_npy(data: bytes) -> list[Scalar] | list[list[Scalar]]:
    """Give an array of one dimension as a list, of two as a list of rows; a lone number as a list of one.

    Raises:
        HandlerError: this is not a whole array of numbers or texts with at most two dimensions.
    """
    if not data.startswith(MAGIC):
        raise HandlerError("The answer is not a NumPy array (.npy).")
    try:
        width = "<H" if data[6] == 1 else "<I"
        (length,) = struct.unpack_from(width, data, 8)
    except (IndexError, struct.error):
        raise HandlerError("The NumPy array is cut inside its header.") from None
    start = 8 + struct.calcsize(width)
    header = data[start : start + length].decode("latin-1")
    descr, order, shape_text = _DESCR.search(header), _ORDER.search(header), _SHAPE.search(header)
    if descr is None or order is None or shape_text is None:
        raise HandlerError("The NumPy array's header is not one of plain numbers; NumPyHandler may read it.")
    shape = [int(size) for size in shape_text[1].replace(" ", "").split(",") if size]
    if len(shape) > 2:
        raise HandlerError(
            f"The NumPy array has {len(shape)} dimensions, and at most 2 are wanted; NumPyHandler reads it."
        )
    count = 1
    for size in shape:
        count *= size
    cells = _cells(data[start + length :], count, *descr.groups())
    if len(shape) < 2:
        return cells
    rows, columns = shape
    if order[1] == "True":
        return [cells[row::rows] for row in range(rows)]
    return [cells[row * columns : (row + 1) * columns] for row in range(rows)]


def _cells(data: bytes, count: int, endian: str, kind: str, size_text: str) -> list[Scalar]:
    size = int(size_text) * (4 if kind == "U" else 1)
    if len(data) != count * size:
        raise HandlerError(f"The NumPy array has {len(data)} bytes of data where its header says {count * size}.")
    if kind == "U":
        encoding = "utf-32-be" if endian == ">" else "utf-32-le"
        try:
            return [data[at * size : (at + 1) * size].decode(encoding).rstrip("\0") for at in range(count)]
        except UnicodeDecodeError:
            raise HandlerError("The NumPy array has text that is not Unicode.") from None
    code = _CODES.get(f"{kind}{size_text}")
    if code is None:
        raise HandlerError(f"The NumPy array is of the type {kind}{size_text}; NumPyHandler reads it.")
    return list(struct.unpack(f"{'>' if endian == '>' else '<'}{count}{code}", data))


_BETWEEN_ROWS = re.compile(r"\](?:, ?|\r?\n)\[")


def _even(rows: Sequence[Row], media: str) -> Iterator[tuple[int, Sequence[Any]]]:
    """Give each row, with its number, where rows must be sequences of equal length."""
    for number, row in enumerate(rows):
        if isinstance(row, Mapping):
            raise HandlerError(f"Row {number} is a mapping, and {media} has no column names: give its values in order.")
        if len(row) != len(rows[0]):
            raise HandlerError(f"Row {number} has {len(row)} values, and row 0 has {len(rows[0])}.")
        yield number, row


def _write_csv(table: Any) -> bytes:
    text = frame_as_csv(table)
    if text is None:
        # No line end after the last row: some containers would read it as one more row. An empty line they would skip,
        # and give one prediction less: a row whose only value is missing has quotes instead.
        lines = [
            ",".join([_csv_cell(cell, number) for cell in row]) or '""' for number, row in _even(as_rows(table), "CSV")
        ]
        text = "\n".join(lines)
    return encode_text(text)


def _csv_cell(cell: Any, row: int) -> str:
    if type(cell) is float:
        return repr(cell)
    value = as_cell(cell, row)
    if value is None:
        return ""
    if isinstance(value, (int, float)):
        return _number(value, row)
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text


def _number(value: float | int, row: int) -> str:
    """Write a number as Python does; a truth value is 1 or 0 for these models."""
    try:
        return repr(value if isinstance(value, float) else int(value))
    except ValueError:
        raise HandlerError(f"Row {row} has an integer of more digits than Python writes.") from None


def _write_json(table: Any) -> bytes:
    return encode_json([_json_row(row, number) for number, row in enumerate(as_rows(table))])


def _write_instances(table: Any) -> bytes:
    return b'{"instances":' + _write_json(table) + b"}"


def _write_json_lines(table: Any) -> bytes:
    return b"\n".join(encode_json(_json_row(row, number)) for number, row in enumerate(as_rows(table)))


def _json_row(row: Row, number: int) -> Any:
    if isinstance(row, Mapping):
        return {name: _json_cell(cell, number) for name, cell in row.items()}
    return [_json_cell(cell, number) for cell in row]


def _json_cell(cell: Any, row: int) -> Any:
    if isinstance(cell, (float, int, str, list, tuple, dict)) or getattr(cell, "shape", None):
        return cell
    value: Any = as_cell(cell, row)
    return value.isoformat() if hasattr(value, "isoformat") else value


def _write_libsvm(table: Any) -> bytes:
    """Write ``label index:value ...`` with indices from 0, and 0 for the label that a prediction does not have.

    Newer XGBoost containers skip the label; older ones read the first word of a line as one and would lose a feature.
    """
    lines: list[str] = []
    for number, row in enumerate(as_rows(table)):
        pairs = row.items() if isinstance(row, Mapping) else enumerate(row)
        words = ["0"]
        for name, cell in pairs:
            index, value = as_cell(name, number), as_cell(cell, number)
            if not isinstance(index, int) or not (value is None or isinstance(value, (int, float))):
                raise HandlerError(f"Row {number} must have whole numbers as indices and numbers as values for libsvm.")
            if value is not None:
                words.append(f"{index}:{_number(value, number)}")
        lines.append(" ".join(words))
    return "\n".join(lines).encode()


def _write_npy(table: Any) -> bytes:
    data = array_as_npy(table)
    if data is not None:
        return data
    return write_npy(
        [
            [_npy_cell(cell, number) for cell in row]
            for number, row in _even(as_rows(table, nan_is_missing=False), "NumPy")
        ]
    )


def _npy_cell(cell: Any, row: int) -> float | int:
    value = as_cell(cell, row)
    if not isinstance(value, (int, float)):
        raise HandlerError(f"Row {row} has a value that is not a number.")
    return value


def _read_csv(body: bytes) -> JSONValue:
    import csv
    from io import StringIO

    try:
        text = body.decode()
        rows = _bracketed_rows(text) if is_bracketed(body) else None
        return rows or [[*row] for row in csv.reader(StringIO(text, newline=""), strict=True) if row]
    except UnicodeDecodeError as error:
        raise HandlerError(f"The answer is not CSV in UTF-8: {error.reason} at byte {error.start}.") from None
    except csv.Error:
        raise HandlerError("The answer is not CSV: its quotes do not match, or a field is too long.") from None


def is_bracketed(body: bytes) -> bool:
    """Say whether an answer in CSV may be one of `_bracketed_rows`."""
    return body.lstrip()[:1] == b"["


def _bracketed_rows(text: str) -> JSONValue:
    """Read ``[0.1, 0.9],[0.8, 0.2]``: so XGBoost's container writes several values for each row, in "CSV".

    Its batch mode puts line ends between the rows. Anything else in brackets, such as labels, is taken as it is.
    """
    text = text.strip()
    rows = [row.split(",") for row in _BETWEEN_ROWS.split(text[1:-1])] if text.endswith("]") else []
    try:
        for row in rows:
            for cell in row:
                float(cell)
    except ValueError:
        return None
    return [[*row] for row in rows]


def _read_json(body: bytes) -> JSONValue:
    return decode_json(body, "TabularHandler")


def _read_json_lines(body: bytes) -> JSONValue:
    return [decode_json(line, "TabularHandler") for line in body.split(b"\n") if line.strip()]


def _read_npy(body: bytes) -> JSONValue:
    cells = read_npy(body)
    return [list(cell) if isinstance(cell, list) else cell for cell in cells]


WRITERS = {
    "csv": ("text/csv", _write_csv),
    "json": ("application/json", _write_json),
    "instances": ("application/json", _write_instances),
    "jsonlines": ("application/jsonlines", _write_json_lines),
    "libsvm": ("text/libsvm", _write_libsvm),
    "npy": ("application/x-npy", _write_npy),
}
READERS = {
    "csv": ("text/csv", _read_csv),
    "json": ("application/json", _read_json),
    "jsonlines": ("application/jsonlines", _read_json_lines),
    "npy": ("application/x-npy", _read_npy),
}


def read_items(body: bytes, media: str, key: str | None, handler: str) -> tuple[list[JSONValue], str]:
    """Give an answer's predictions, each a value or a list of values, and where they are, for messages.

    Args:
        body: the answer.
        media: one of `READERS`.
        key: the field of a prediction that is an object (see `read_predictions`).
        handler: the handler's name, for messages.
    """
    value = READERS[media][1](body)
    raise_for_error(value)
    if media == "jsonlines" and isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0] if "predictions" in value[0] else value
    found = read_predictions(value, key, handler)
    if found is None:
        raise unknown_shape(
            value, handler, 'a list, or "predictions", "scores", "projections" or (of TF Serving) "outputs"'
        )
    return found
