"""Canonical forms: encoded, resolved and sorted."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from smendpoint._core.aws.sigv4 import (
    EMPTY_PAYLOAD_HASH,
    Hmac,
    canonical_headers,
    canonical_path,
    canonical_query,
    payload_hash,
    signed_headers,
)


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("", "/"),
        ("/", "/"),
        ("//a/./b/../c//", "/a/c/"),
        ("/../..", "/"),
        ("/a%20b", "/a%2520b"),
        ("/é", "/%C3%A9"),
    ],
)
def test_a_path_is_resolved_and_encoded_once_more(path: str, canonical: str) -> None:
    assert canonical_path(path) == canonical


def test_a_query_is_sorted_and_every_name_gets_its_equals_sign() -> None:
    assert canonical_query("b=2&a&b=1&c=%20") == "a=&b=1&b=2&c=%20"


@pytest.mark.parametrize("body", [b"", b"{}", bytes(100_000)])
def test_a_payload_hash_is_sha256_in_hexadecimal(body: bytes) -> None:
    assert payload_hash(body) == hashlib.sha256(body).hexdigest()
    assert payload_hash(b"") == EMPTY_PAYLOAD_HASH


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 200])
def test_an_hmac_is_the_standard_librarys_whatever_the_keys_length(length: int) -> None:
    key = bytes(range(length))
    assert Hmac(key).hexdigest(b"message") == hmac.new(key, b"message", "sha256").hexdigest()


def test_headers_are_folded_by_name_and_what_changes_on_the_way_is_left_out() -> None:
    headers = [("B", " 1\t 2 "), ("User-Agent", "x"), ("b", "3"), ("A", ""), ("Connection", "close")]
    signed = signed_headers(headers)
    assert signed == {"b": "1 2,3", "a": ""}
    assert canonical_headers(signed) == ("a:\nb:1 2,3\n\na;b\n", "a;b")
