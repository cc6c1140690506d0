"""`_core/http/http1.py` against h11, and against bytes that nobody would send on purpose."""

from __future__ import annotations

import os
import random

import h11
from hypothesis import event, given
from hypothesis import strategies as st

from smendpoint._core.http.http1 import ResponseReader
from smendpoint.errors import ProtocolError

FUZZ = int(os.environ.get("SMENDPOINT_FUZZ", "20000"))

Answer = tuple[int, dict[str, str], bytes]


def ours(pieces: list[bytes]) -> tuple[Answer | None, bytes, bool | str]:
    """The answer (None: refused), the body before a refusal, and `reusable` or the reason for the refusal."""
    reader = ResponseReader()
    body = bytearray()
    try:
        for piece in pieces:
            body += b"".join(reader.feed(piece))
        if not reader.complete:
            reader.feed_eof()
    except ProtocolError as error:
        return None, bytes(body) + b"".join(reader.undelivered), str(error)
    return (reader.status, reader.headers, bytes(body)), b"", reader.reusable


def theirs(data: bytes) -> Answer | None:
    """The answer as h11 reads it; None: refused."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method="POST", target="/", headers=[("Host", "h"), ("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    status = 0
    fields: dict[str, list[str]] = {}
    body = bytearray()
    try:
        if data:
            connection.receive_data(data)
        connection.receive_data(b"")
        while True:
            match connection.next_event():
                case h11.Response() as response:
                    status = response.status_code
                    for name, value in response.headers:
                        fields.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
                case h11.Data() as part:
                    body += part.data
                case h11.EndOfMessage():
                    return status, {name: ", ".join(values) for name, values in fields.items()}, bytes(body)
                case h11.InformationalResponse():
                    pass
                case _:
                    return None
    except h11.RemoteProtocolError:
        return None


def check_against_h11(data: bytes) -> str:
    mine, _, _ = ours([data])
    if mine is None:
        return "refused"
    status, headers, body = mine
    if "transfer-encoding" in headers:
        # h11 gives it in lower case.
        headers = {**headers, "transfer-encoding": headers["transfer-encoding"].lower()}
    assert theirs(data) == (status, headers, body)
    return "read"


@st.composite
def mostly(draw: st.DrawFn, usual: st.SearchStrategy[bytes], odd: st.SearchStrategy[bytes]) -> bytes:
    return draw(odd) if draw(st.integers(0, 19)) == 0 else draw(usual)


ODD = st.binary(max_size=6) | st.sampled_from(
    [b"", b" ", b"\t", b"\n", b"\r", b"\r\n", b"\n\n", b"\x00", b",", b":", b";"]
)
LINE_END = mostly(st.just(b"\r\n"), ODD)
VALUE = st.text([*map(chr, range(0x20, 0x7F)), "\t", "\x80", "\xff"], max_size=12).map(
    lambda text: text.encode("latin-1")
)
NAME = st.sampled_from([b"Date", b"X-A", b"x-a", b"Content-Type", b"Connection"])
LENGTHS = st.sampled_from([b"0", b"5", b"6", b"05", b"5, 5", b"5,6", b"+5", b"", b"5 ", b"9" * 18, b"9" * 19])
CODINGS = st.sampled_from(
    [b"chunked", b"Chunked", b"gzip", b"gzip, chunked", b"identity", b"", b"chunked,", b"chunked "]
)


@st.composite
def field_lines(draw: st.DrawFn) -> bytes:
    line = b""
    for _ in range(draw(st.integers(0, 3))):
        line += draw(mostly(NAME, ODD)) + draw(mostly(st.just(b": "), ODD)) + draw(mostly(VALUE, ODD)) + draw(LINE_END)
    return line


@st.composite
def chunked_bodies(draw: st.DrawFn) -> bytes:
    body = b""
    for _ in range(draw(st.integers(0, 3))):
        data = draw(st.binary(min_size=1, max_size=20))
        size = b"%x" % len(data)
        body += draw(mostly(st.just(size) | st.just(size.upper()) | st.just(b"00" + size), ODD))
        body += draw(mostly(st.sampled_from([b"", b"", b";a", b'; a = "b"', b" ; a"]), ODD)) + draw(LINE_END)
        body += data + draw(LINE_END)
    return body + draw(mostly(st.just(b"0\r\n"), ODD)) + draw(field_lines()) + draw(LINE_END)


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    data = b""
    for _ in range(draw(st.integers(0, 1))):
        data += (
            b"HTTP/1.1 " + draw(st.sampled_from([b"100", b"103", b"101"])) + b" x\r\n" + draw(field_lines()) + b"\r\n"
        )
    data += draw(mostly(st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.3"]), ODD))
    data += draw(mostly(st.just(b" "), ODD))
    data += draw(mostly(st.sampled_from([b"200", b"200", b"424", b"503", b"204", b"304", b"600", b"099"]), ODD))
    data += draw(mostly(st.sampled_from([b" OK", b" "]), ODD)) + draw(LINE_END) + draw(field_lines())
    framing = draw(st.sampled_from(["length", "length", "chunked", "chunked", "close", "any"]))
    if framing in ("length", "any"):
        data += b"Content-Length: " + draw(mostly(st.just(b"5"), LENGTHS)) + draw(LINE_END)
    if framing in ("chunked", "any"):
        data += b"Transfer-Encoding: " + draw(mostly(st.just(b"chunked"), CODINGS)) + draw(LINE_END)
    data += draw(field_lines()) + draw(LINE_END)
    if framing == "chunked":
        return data + draw(chunked_bodies()) + draw(mostly(st.just(b""), ODD))
    return data + draw(mostly(st.just(b"hello"), st.binary(max_size=10)))


@given(responses())
def test_every_answer_is_one_for_h11_too_and_reads_the_same(data: bytes) -> None:
    event(check_against_h11(data))


@given(responses(), st.data())
def test_every_split_gives_the_same_result(data: bytes, draws: st.DataObject) -> None:
    cuts = sorted(draws.draw(st.sets(st.integers(0, len(data)), max_size=10)))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    whole = ours([data])
    assert ours(pieces) == whole
    assert ours([data[index : index + 1] for index in range(len(data))]) == whole


@given(st.binary(max_size=200) | st.binary(max_size=200).map(b"HTTP/1.1 200 OK\r\n".__add__))
def test_any_bytes_are_read_as_h11_does_or_refused(data: bytes) -> None:
    check_against_h11(data)


SEEDS = [
    b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n" + b'{"a": "b c"}',
    b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\na;b=c\r\n0123456789\r\n"
    b"0\r\nT: u\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 424 Failed\r\n"
    b"Connection: close\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.0 500 Oops\r\nServer: s\r\n\r\n<html>oops</html>",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
]
TOKENS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"5",
    b"f",
    b"ffffffffffffffffff",
    b"-1",
    b"chunked",
    b"Content-Length: 5\r\n",
    b"Content-Length: 12\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 \r\n\r\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b'="',
    b"\xff",
    b"\x7f",
    b"1" * 30,
]


def mutate(data: bytes, rng: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        start = rng.randrange(len(result) + 1)
        end = min(len(result), start + rng.choice((0, 1, 1, 2, 5, 20)))
        match rng.randrange(5):
            case 0:  # another byte
                result[start : start + 1] = bytes([rng.randrange(256)])
            case 1:  # another bit
                if start < len(result):
                    result[start] ^= 1 << rng.randrange(8)
            case 2:  # a piece is missing
                del result[start:end]
            case 3:  # a piece comes twice
                result[start:start] = result[start:end]
            case _:  # something is inserted, or replaces a piece
                result[start : rng.choice((start, end))] = rng.choice(TOKENS)
    return bytes(result)


def test_mutated_responses_are_read_or_refused_the_same_at_every_split_and_as_h11_reads_them() -> None:
    rng = random.Random(20_240_607)
    accepted = refused = 0
    for number in range(FUZZ):
        data = mutate(SEEDS[number % len(SEEDS)], rng)
        whole = ours([data])  # raises nothing but ProtocolError
        cut = rng.randrange(len(data) + 1)
        assert ours([data[:cut], data[cut:]]) == whole, data
        if number % 64 == 0:
            assert ours([data[index : index + 1] for index in range(len(data))]) == whole, data
        if whole[0] is None:
            refused += 1
        else:
            accepted += 1
            if number % 8 == 0:
                check_against_h11(data)
    # The mutations are neither all harmless nor all fatal.
    assert min(accepted, refused) > FUZZ // 10
