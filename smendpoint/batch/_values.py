"""Values as JSON: outputs for the ledger, and inputs for their digests.

The JSON follows RFC 8259, so that every reader accepts it. A value that JSON cannot express is written so that nothing
is lost: NaN and the infinities as the texts ``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` (as in Protocol Buffers'
JSON), bytes as ``{"base64": "..."}``, dates and times in ISO 8601, ``Decimal`` and ``UUID`` as text, NumPy's arrays and
numbers as lists and numbers, a dataclass as an object of its fields, a member of an enumeration as its value, a
`ChatCompletion` as an object without ``usage``, which the line has, and without ``raw``. A tuple becomes an array.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import hashlib
import json
import math
import uuid
from typing import TYPE_CHECKING, Any

from smendpoint.errors import HandlerError
from smendpoint.handlers import ChatCompletion
from smendpoint.handlers._json import is_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def _plain(value: Any) -> Any:
    """Convert a value that `json` does not know to values that it knows.

    Raises:
        TypeError: the value is of no known type.
    """
    if is_missing(value):
        return None
    if isinstance(value, (bytes, bytearray, memoryview)):
        import base64

        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    kind: Any = type(value)
    if dataclasses.is_dataclass(kind):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
    dtype: Any = getattr(value, "dtype", None)
    # Truth values, integers, floats, texts and objects. A long double would not change.
    if getattr(dtype, "kind", None) in (*"biufUO",) and getattr(dtype, "char", "") != "g" and hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "model_dump"):  # a pydantic model
        return value.model_dump(mode="json")
    raise TypeError(f"JSON has no form for a value of type {type(value).__name__}")


def _without_nan(value: Any) -> Any:
    """Copy a value, with a text for each number that JSON cannot express."""
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {name: _without_nan(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return value if isinstance(value, (str, int, type(None))) else _without_nan(_plain(value))


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode
_encode_sorted = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True, default=_plain
).encode


def _text(value: Any, encode: Callable[[Any], str]) -> str:
    try:
        try:
            return encode(value)
        except ValueError:  # NaN, or a value that holds itself
            return encode(_without_nan(value))
    except (TypeError, ValueError) as error:
        raise HandlerError(f"{error}") from None
    except RecursionError:
        raise HandlerError("the value is nested too deeply for JSON, or holds itself") from None


def encode_output(output: Any) -> str:
    """Return an output as JSON text, in one line.

    Raises:
        HandlerError: JSON has no form for it; the message names the type.
    """
    if isinstance(output, ChatCompletion):
        output = {
            "text": output.text,
            "tool_calls": [call._asdict() for call in output.tool_calls],
            "reasoning": output.reasoning,
            "finish_reason": output.finish_reason,
        }
    return _text(output, _encode)


def digest_of(value: Any, parameters: Mapping[str, Any] | None = None) -> str:
    """Return the digest of a row: ``sha256:`` and 64 hexadecimal digits.

    The hashed bytes are the JSON object ``{"input": value}``, or with parameters
    ``{"input": value, "parameters": {...}}``, as ``json.dumps`` writes it with sorted keys, without white space and
    with ``ensure_ascii=False``, in UTF-8.

    Raises:
        HandlerError: JSON has no form for the input or a parameter; the message names the type.
    """
    # Member by member: encoding a single text is many times faster than encoding an object.
    row = f'{{"input":{_text(value, _encode_sorted)}'
    if parameters:
        row += f',"parameters":{_text(parameters, _encode_sorted)}'
    digest = hashlib.sha256(f"{row}}}".encode("utf-8", "surrogatepass"))
    return f"sha256:{digest.hexdigest()}"
