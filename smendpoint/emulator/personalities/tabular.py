"""Containers that predict from rows of numbers. The prediction for a row is its sum: easy to check."""

from __future__ import annotations

import ast
import csv
import json
import math
import struct
from collections.abc import Callable, Iterable
from typing import Any, cast

from smendpoint.emulator.models import ModelReply, ModelRequest
from smendpoint.emulator.personalities._common import Personality, Refused, read_json

__all__ = ["read_csv_rows", "read_json_rows", "sklearn", "table_model", "xgboost"]

Rows = list[list[float]]

_NPY_MAGIC = b"\x93NUMPY"
_NPY_FORMATS = {"<f8": "d", "<f4": "f", "<i8": "q", "<i4": "i"}


def _numbers(row: object) -> list[float]:
    if not isinstance(row, list):
        raise Refused("every row must be a list of numbers", 400)
    items: list[Any] = row
    try:
        return [float(item) for item in items]
    except (TypeError, ValueError):
        raise Refused("every row must be a list of numbers", 400) from None


def read_csv_rows(body: bytes) -> Rows:
    """Read rows of numbers, a line each."""
    return [_numbers(row) for row in csv.reader(body.decode("utf-8", "replace").splitlines()) if row]


def _rows(value: object) -> Rows:
    if isinstance(value, dict):
        record = cast("dict[str, object]", value)
        value = next((record[name] for name in ("instances", "inputs", "data", "features") if name in record), None)
    if not isinstance(value, list):
        raise Refused("the body has no rows", 400)
    rows = cast("list[object]", value)
    if rows and not isinstance(rows[0], (list, dict)):
        return [_numbers(rows)]
    read: Rows = []
    for row in rows:
        read += _rows(cast("object", row)) if isinstance(row, dict) else [_numbers(row)]
    return read


def read_json_rows(body: bytes) -> Rows:
    """Read rows of numbers, bare or as ``instances``, ``inputs``, ``data`` or ``features``."""
    return _rows(read_json(body))


def _read_libsvm(body: bytes) -> Rows:
    rows: Rows = []
    for line in body.decode("utf-8", "replace").splitlines():
        # The first item may be a label, which has no index.
        pairs = [item.partition(":") for item in line.split()]
        if pairs:
            rows.append(_numbers([value for _, colon, value in pairs if colon]))
    return rows


def _read_npy(body: bytes) -> Rows:
    try:
        if body[:6] != _NPY_MAGIC:
            raise ValueError
        size = int.from_bytes(body[8:10], "little")
        header: Any = ast.literal_eval(body[10 : 10 + size].decode("latin-1"))
        (kind, shape) = _NPY_FORMATS[header["descr"]], tuple(header["shape"])
        values = list(struct.unpack(f"<{math.prod(shape)}{kind}", body[10 + size :]))
    except (ValueError, KeyError, TypeError, SyntaxError, struct.error):
        raise Refused("the body is not an .npy array of numbers", 400) from None
    if len(shape) != 2:
        raise Refused("the array must be two-dimensional", 400)
    rows, width = shape
    if header["fortran_order"]:  # column after column, as the arrays of pandas often are
        return [[float(value) for value in values[row::rows]] for row in range(rows)]
    return [[float(value) for value in values[start : start + width]] for start in range(0, len(values), width)]


def _write_npy(predictions: list[float]) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({len(predictions)},), }}"
    # The numbers begin at a multiple of 64 bytes.
    header += " " * (63 - (10 + len(header)) % 64) + "\n"
    start = _NPY_MAGIC + b"\x01\x00" + len(header).to_bytes(2, "little") + header.encode("latin-1")
    return start + struct.pack(f"<{len(predictions)}d", *predictions)


def _lines(values: Iterable[object]) -> str:
    return "".join([f"{value}\n" for value in values])


def table_model(
    name: str,
    readers: dict[str, Callable[[bytes], Rows]],
    writers: dict[str, Callable[[list[float]], bytes | str]],
    default: str,
) -> Personality:
    """Make a container that sums rows.

    Args:
        name: for ``repr``.
        readers: the reader of rows for each media type.
        writers: the writer of sums for each media type that may be requested.
        default: the media type for a client that accepts any.
    """

    def reply(request: ModelRequest) -> ModelReply:
        sent = request.content_type.partition(";")[0].strip() or "text/csv"
        if sent not in readers:
            raise Refused(f"Content type {sent} is not supported by this container", 415)
        wanted = [item.partition(";")[0].strip() for item in request.accept.split(",") if item.strip()] or ["*/*"]
        accepted = next((default if item == "*/*" else item for item in wanted if item in (*writers, "*/*")), None)
        if accepted is None:
            raise Refused(f"Accept type {request.accept} is not supported by this container", 406)
        predictions = [sum(row) for row in readers[sent](request.body)]
        written = writers[accepted](predictions)
        return ModelReply(written.encode() if isinstance(written, str) else written, content_type=accepted)

    return Personality(name, reply)


def sklearn() -> Personality:
    """Play the scikit-learn container: CSV, JSON and ``.npy`` in and out; by default JSON comes out."""
    return table_model(
        "sklearn",
        {"text/csv": read_csv_rows, "application/json": read_json_rows, "application/x-npy": _read_npy},
        {"text/csv": _lines, "application/json": json.dumps, "application/x-npy": _write_npy},
        "application/json",
    )


def xgboost() -> Personality:
    """Play the XGBoost container: CSV and libsvm, but not JSON, in; CSV (one line), JSON and JSON lines out."""
    return table_model(
        "xgboost",
        {"text/csv": read_csv_rows, "text/libsvm": _read_libsvm, "text/x-libsvm": _read_libsvm},
        {
            "text/csv": lambda sums: ",".join(map(str, sums)),
            "application/json": lambda sums: json.dumps({"predictions": [{"score": one} for one in sums]}),
            "application/jsonlines": lambda sums: _lines([json.dumps({"score": one}) for one in sums]),
        },
        "text/csv",
    )
