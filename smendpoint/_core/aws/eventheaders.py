"""The headers of event-stream frames: ten types of values, encoding, decoding.

A header is: name length (u8), name, type (u8, 0 to 9), value. All numbers are big-endian.
"""

from __future__ import annotations

from struct import Struct, pack
from struct import error as struct_error

from smendpoint.errors import ConfigurationError, StreamDecodeError

_U16 = Struct(">H")


class Byte(int):
    """A header value of type 2: a signed number of 8 bits."""

    __slots__ = ()


class Short(int):
    """A header value of type 3: a signed number of 16 bits."""

    __slots__ = ()


class Long(int):
    """A header value of type 5: a signed number of 64 bits."""

    __slots__ = ()


class Timestamp(int):
    """A header value of type 8: milliseconds since 1970-01-01T00:00:00Z."""

    __slots__ = ()


class Uuid(bytes):
    """A header value of type 9: the 16 bytes of a UUID."""

    __slots__ = ()


HeaderValue = bool | int | bytes | str
"""The types of header values. A plain ``int`` has type 4 (signed, 32 bits), ``bytes`` type 6, ``str`` type 7, a
``bool`` type 0 or 1; `Byte`, `Short`, `Long`, `Timestamp` and `Uuid` are for the other types."""

# By type number: the layout of a value of fixed length, and its Python type.
_FIXED: dict[int, tuple[Struct, type[int]]] = {
    2: (Struct(">b"), Byte),
    3: (Struct(">h"), Short),
    4: (Struct(">i"), int),
    5: (Struct(">q"), Long),
    8: (Struct(">q"), Timestamp),
}
_NUMBER_TYPES = {become: (number, layout) for number, (layout, become) in _FIXED.items()}


def encode_header(name: str, value: HeaderValue) -> bytes:
    """Make one header.

    Raises:
        ConfigurationError: the name or the value is not valid in the format.
    """
    try:
        raw_name = name.encode()
        if not 1 <= len(raw_name) <= 255:
            raise ConfigurationError(f"the name of an event-stream header is 1 to 255 bytes long, not {len(raw_name)}")
        start = pack(">B", len(raw_name)) + raw_name
        if isinstance(value, bool):
            return start + (b"\x00" if value else b"\x01")
        if isinstance(value, Uuid):
            if len(value) != 16:
                raise ConfigurationError(f"event-stream header {name!r}: a UUID is 16 bytes long, not {len(value)}")
            return start + b"\x09" + value
        if isinstance(value, bytes):
            return start + b"\x06" + _U16.pack(len(value)) + value
        if isinstance(value, str):
            raw = value.encode()
            return start + b"\x07" + _U16.pack(len(raw)) + raw
        number, layout = _NUMBER_TYPES.get(type(value), _NUMBER_TYPES[int])
        return start + pack(">B", number) + layout.pack(value)
    except struct_error:
        raise ConfigurationError(f"event-stream header {name!r}: the value is too large for its type") from None
    except UnicodeEncodeError:
        raise ConfigurationError(f"event-stream header {name!r}: the text cannot be encoded in UTF-8") from None


def decode_headers(block: bytes) -> dict[str, HeaderValue]:
    """Parse a header block.

    Raises:
        StreamDecodeError: it is cut off, or has a name twice, a type above 9, or text that is not UTF-8.
    """
    headers: dict[str, HeaderValue] = {}
    position, end = 0, len(block)
    while position < end:
        start = position
        position += 1 + block[position]
        if position >= end:
            raise StreamDecodeError("an event-stream frame has a header that is cut off in its name")
        value: HeaderValue
        try:
            name = block[start + 1 : position].decode()
            kind = block[position]
            position += 1
            if kind <= 1:
                value = kind == 0
            elif kind in _FIXED:
                layout, become = _FIXED[kind]
                value = become(layout.unpack_from(block, position)[0])
                position += layout.size
            elif kind <= 9:
                if kind == 9:
                    size = 16
                else:
                    size = _U16.unpack_from(block, position)[0]
                    position += 2
                raw = block[position : position + size]
                if len(raw) != size:
                    raise StreamDecodeError("an event-stream frame has a header that is cut off in its value")
                value = raw.decode() if kind == 7 else raw if kind == 6 else Uuid(raw)
                position += size
            else:
                raise StreamDecodeError(f"an event-stream frame has a header of the unknown type {kind}")
        except UnicodeDecodeError:
            raise StreamDecodeError("an event-stream frame has a header that is not UTF-8") from None
        except struct_error:
            raise StreamDecodeError("an event-stream frame has a header that is cut off in its value") from None
        if name in headers:
            raise StreamDecodeError("an event-stream frame has two headers of the same name")
        headers[name] = value
    return headers
