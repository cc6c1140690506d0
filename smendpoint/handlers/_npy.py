"""NumPy's ``.npy`` format for lists of numbers, without NumPy.

The format: ``\\x93NUMPY``, two version bytes, the header's length (2 bytes in version 1, 4 in later ones, both
little-endian), a header that is a Python dict as text, and the numbers.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any, TypeAlias

from smendpoint.errors import HandlerError
from smendpoint.handlers._rows import as_list, as_rows, columns_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MAGIC", "array_as_npy", "exact_array", "import_numpy", "read_npy", "write_npy"]

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
