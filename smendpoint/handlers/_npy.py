"""NumPy's format ``.npy``: written and read without NumPy, and the arrays of `NumPyHandler`.

A file has ``\\x93NUMPY``, two bytes for the version, the header's length (2 bytes in version 1, 4 in later ones, both
little-endian), a header that is a Python dict as text, and the numbers.
"""

from __future__ import annotations

import re
import struct
from math import prod
from typing import TYPE_CHECKING, Any

from smendpoint.errors import HandlerError
from smendpoint.handlers._tables import as_cell, as_list, as_rows, columns_of, even_rows

if TYPE_CHECKING:
    from smendpoint._container_errors import JSONValue

MAGIC = b"\x93NUMPY"

# NumPy's kinds and sizes as `struct` names them.
_CODES = {
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
    "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip
# From here on not every integer is a float of 64 bits.
_EXACT = 2.0**53
_INEXACT = "The input has values of several types, and an array of a single type would change one of them."

_DESCR = re.compile(r"'descr': *'([<>|])([a-zA-Z])(\d{1,9})'")
_ORDER = re.compile(r"'fortran_order': *(True|False)")
_SHAPE = re.compile(r"'shape': *\(([\d, ]{0,100})\)")


def import_numpy(needed_by: str) -> Any:
    """Import NumPy, for the few features that need it.

    Raises:
        HandlerError: it is not installed; the message names the extra.
    """
    try:
        import numpy
    except ImportError as error:
        raise HandlerError(f"{needed_by} needs NumPy: pip install 'smendpoint[numpy]'") from error
    return numpy


def write_npy(table: Any) -> bytes:
    """Write a table as a two-dimensional array: of 64-bit integers if all cells are integers, else of 64-bit floats.

    A NumPy array of numbers keeps its own type.
    """
    if (
        hasattr(table, "__array_interface__")
        and not hasattr(table, "mask")
        and table.ndim in (1, 2)
        and table.dtype.str[1:] in _CODES
        and table.size
    ):
        return _npy_file(table.dtype.str, (1, *table.shape)[-2:], table.tobytes())
    rows = [
        [_number(cell, number) for cell in row]
        for number, row in even_rows(as_rows(table, nan_is_missing=False), "NumPy")
    ]
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


def _number(cell: Any, row: int) -> float | int:
    value = as_cell(cell, row)
    if not isinstance(value, (int, float)):
        raise HandlerError(f"Row {row} has a value that is not a number.")
    return value


def _npy_file(descr: str, shape: tuple[int, ...], data: bytes) -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    # The numbers begin at a multiple of 64 bytes.
    padding = -(len(MAGIC) + 4 + len(header) + 1) % 64
    text = f"{header}{' ' * padding}\n".encode()
    return MAGIC + b"\x01\x00" + struct.pack("<H", len(text)) + text + data


def exact_array(np: Any, values: Any) -> Any:
    """Make an array of the values as NumPy does, if that changes none of them.

    NumPy has one type for a whole array: next to a float, an integer becomes a float, and next to a text everything
    becomes a text.

    Args:
        np: the module.
        values: anything that NumPy can make an array from, or a frame.

    Raises:
        HandlerError: a value would change in the array.
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
        # Python compares its own integers exactly. A missing number has become NaN.
        if not all((old.tolist() if hasattr(old, "tolist") else old) == new or new != new for old, new in pairs):
            raise HandlerError(_INEXACT)
    return array


def read_npy(data: bytes) -> list[JSONValue]:
    """Read an array of one dimension as a list, of two dimensions as a list of rows, and a single number as a list of
    one.

    Raises:
        HandlerError: this is not a complete array of numbers or texts with at most two dimensions.
    """
    if not data.startswith(MAGIC):
        raise HandlerError("The answer is not a NumPy array (.npy).")
    try:
        width = "<H" if data[6] == 1 else "<I"
        (length,) = struct.unpack_from(width, data, 8)
    except (IndexError, struct.error):
        raise HandlerError("The NumPy array is cut off inside its header.") from None
    start = 8 + struct.calcsize(width)
    header = data[start : start + length].decode("latin-1")
    descr, order, shape_text = _DESCR.search(header), _ORDER.search(header), _SHAPE.search(header)
    if descr is None or order is None or shape_text is None:
        raise HandlerError("The NumPy array's header does not describe plain numbers; NumPyHandler may read it.")
    shape = [int(size) for size in shape_text[1].replace(" ", "").split(",") if size]
    if len(shape) > 2:
        raise HandlerError(
            f"The NumPy array has {len(shape)} dimensions, but at most 2 are allowed; NumPyHandler reads it."
        )
    cells = _cells(data[start + length :], prod(shape), *descr.groups())
    if len(shape) < 2:
        return cells
    rows, columns = shape
    if order[1] == "True":
        return [cells[row::rows] for row in range(rows)]
    return [cells[row * columns : (row + 1) * columns] for row in range(rows)]


def _cells(data: bytes, count: int, endian: str, kind: str, size_text: str) -> list[JSONValue]:
    size = int(size_text) * (4 if kind == "U" else 1)
    if len(data) != count * size:
        raise HandlerError(f"The NumPy array has {len(data)} bytes of data, but its header says {count * size}.")
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
