"""Event-stream headers: every type of value, and every way to be refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._core.aws.eventheaders import (
    Byte,
    HeaderValue,
    Long,
    Short,
    Timestamp,
    Uuid,
    decode_headers,
    encode_header,
)
from smendpoint.errors import ConfigurationError, StreamDecodeError

VALUES: list[tuple[HeaderValue, str]] = [
    (True, "00"),
    (False, "01"),
    (Byte(-2), "02fe"),
    (Short(-2), "03fffe"),
    (-2, "04fffffffe"),
    (Long(-2), "05fffffffffffffffe"),
    (b"ab", "0600026162"),
    ("\u00e9", "070002c3a9"),
    (Timestamp(1), "080000000000000001"),
    (Uuid(range(16)), "09000102030405060708090a0b0c0d0e0f"),
]


@pytest.mark.parametrize(("value", "wire"), VALUES)
def test_each_type_of_value_has_the_bytes_that_the_format_says(value: HeaderValue, wire: str) -> None:
    block = encode_header("n", value)
    assert block == b"\x01n" + bytes.fromhex(wire)
    decoded = decode_headers(block)["n"]
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize(
    "value",
    [Byte(128), Short(-32769), 2**31, Long(2**63), Timestamp(-(2**63) - 1), b"x" * 65536, "x" * 65536, Uuid(b"x")],
)
def test_a_value_too_large_for_its_type_is_refused(value: HeaderValue) -> None:
    with pytest.raises(ConfigurationError, match="'n'"):
        encode_header("n", value)


@pytest.mark.parametrize("name", ["", "x" * 256, "\u00e9" * 128])
def test_a_name_of_no_byte_or_over_255_bytes_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="1 to 255"):
        encode_header(name, True)


@pytest.mark.parametrize(("name", "value"), [("\ud800", "x"), ("x", "\ud800")])
def test_text_that_utf8_cannot_hold_is_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match="UTF-8"):
        encode_header(name, value)


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (b"\x05n", "cut off in its name"),
        (b"\x01n", "cut off in its name"),
        (b"\x01n\x02", "cut off in its value"),
        (b"\x01n\x05\0\0\0\0\0\0\0", "cut off in its value"),
        (b"\x01n\x07", "cut off in its value"),
        (b"\x01n\x07\0", "cut off in its value"),
        (b"\x01n\x07\0\x02x", "cut off in its value"),
        (b"\x01n\x09" + bytes(15), "cut off in its value"),
        (b"\x01n\x0a", "unknown type 10"),
        (b"\x01n\xff", "unknown type 255"),
        (b"\x01\xff\x00", "not UTF-8"),
        (b"\x01n\x07\0\x01\xff", "not UTF-8"),
        (b"\x01n\x00\x01n\x00", "same name"),
    ],
)
def test_a_block_that_is_not_headers_is_refused(block: bytes, reason: str) -> None:
    with pytest.raises(StreamDecodeError, match=reason):
        decode_headers(block)


@given(st.binary(max_size=200))
def test_any_block_is_parsed_or_refused_with_our_error(block: bytes) -> None:
    try:
        headers = decode_headers(block)
    except StreamDecodeError:
        return
    if "" not in headers:
        again = b"".join(encode_header(name, value) for name, value in headers.items())
        assert again == block
