"""The server side of HTTP/1.1: requests whole, byte by byte, with a tail, and broken."""

from __future__ import annotations

import contextlib
import random

import pytest
from feeding import FUZZ

from smendpoint.emulator._http import MAX_HEAD, BadRequest, RequestReader, chunk, render_head

SIZED = b"POST /a HTTP/1.1\r\nHost: x\r\nX-Two: 1\r\nx-two: 2\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    b"2\r\nhe\r\n3;x=1\r\nllo\r\n0\r\nTrailer: 1\r\n\r\n"
)
EMPTY = b"\r\n\r\nGET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"


def parse(*pieces: bytes) -> RequestReader:
    reader = RequestReader()
    for piece in pieces:
        reader.feed(piece)
    return reader


@pytest.mark.parametrize("tail", [b"", b"POST /next"])
@pytest.mark.parametrize("request_bytes", [SIZED, CHUNKED, EMPTY])
def test_a_request_reads_the_same_in_every_cut(request_bytes: bytes, tail: bytes) -> None:
    data = request_bytes + tail
    ways = [[data], [data[place : place + 1] for place in range(len(data))]]
    ways += [[data[:place], data[place:]] for place in range(len(data))]
    for pieces in ways:
        reader = parse(*pieces)
        assert reader.complete
        assert reader.body == (b"" if request_bytes is EMPTY else b"hello")
        assert reader.rest() == tail


def test_names_are_lower_case_and_repeated_headers_are_joined() -> None:
    reader = parse(SIZED)
    assert (reader.method, reader.target) == ("POST", "/a")
    assert reader.headers == {"host": "x", "x-two": "1, 2", "content-length": "5"}
    assert reader.header_list == [("host", "x"), ("x-two", "1"), ("x-two", "2"), ("content-length", "5")]


def test_the_length_is_known_with_the_head_unless_the_body_is_chunked() -> None:
    assert parse(SIZED[:-5]).content_length == 5
    assert parse(CHUNKED).content_length is None


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: keep-alive\r\n", True),
    ],
)
def test_the_client_says_whether_the_connection_is_kept(version: bytes, connection: bytes, kept: bool) -> None:
    assert parse(b"GET / HTTP/" + version + b"\r\n" + connection + b"\r\n").keep_alive is kept


def test_a_client_may_wait_for_leave_to_send_the_body() -> None:
    assert parse(b"PUT / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n").expects_continue
    assert not parse(SIZED).expects_continue


def test_a_reader_knows_whether_anything_has_come() -> None:
    assert not parse().started
    assert parse(b"P").started
    assert parse(SIZED).started


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",  # the beginning of a TLS handshake
        b"GET /\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: five\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * (MAX_HEAD + 1),
    ],
)
def test_bytes_that_are_not_a_request_are_refused(data: bytes) -> None:
    with pytest.raises(BadRequest) as refusal:
        parse(data)
    assert refusal.value.status == 400


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
def test_a_head_that_is_too_large_is_refused(end: bytes) -> None:
    with pytest.raises(BadRequest) as refusal:
        parse(b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD + end)
    assert refusal.value.status == 431


def test_mutated_requests_are_read_or_refused_and_nothing_else() -> None:
    chance = random.Random(1)
    for _ in range(FUZZ // 20):
        data = bytearray(chance.choice([SIZED, CHUNKED]))
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.choice(b"\r\n: 0a9\xff\x00")
        cut = chance.randrange(len(data))
        with contextlib.suppress(BadRequest):
            parse(bytes(data[:cut]), bytes(data[cut:]))


def test_a_head_names_its_reason() -> None:
    assert render_head(404, [("A", "b")]) == b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\n"
    assert render_head(599, []) == b"HTTP/1.1 599 Unknown\r\n\r\n"


def test_a_chunk_says_its_size_in_hexadecimal() -> None:
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert chunk(b"") == b"0\r\n\r\n"
