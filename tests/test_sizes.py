"""How large an answer may be, and what a large one costs, in both twins and both lanes."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import servers
from garbage import collect
from servers import Peer, Server, server_context
from twins import Twin

from smendpoint import errors
from smendpoint._core.http.http1 import MAX_ERROR_BODY, ResponseReader
from smendpoint.handlers import BytesHandler, TextHandler

pytestmark = pytest.mark.usefixtures("bare_environment")

LARGE = int(os.environ.get("SMENDPOINT_LARGE_MIB", "8")) * 1024 * 1024
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
BLOCK = b"x" * 65_536


def lengthy(size: int, head: bytes = OK) -> Iterator[bytes]:
    """An answer with a length."""
    yield head + b"Content-Length: %d\r\n\r\n" % size
    for _ in range(size // len(BLOCK)):
        yield BLOCK
    yield BLOCK[: size % len(BLOCK)]


def chunked(size: int, head: bytes = OK, each: int = 1000) -> Iterator[bytes]:
    """An answer in chunks, smaller than what is read at once."""
    yield head + b"Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%b\r\n" % (each, b"x" * each)
    for _ in range(size // each // 64):
        yield chunk * 64
    rest = size - size // each // 64 * 64 * each
    yield (b"%x\r\n%b\r\n" % (rest, b"x" * rest) if rest else b"") + b"0\r\n\r\n"


def until_close(size: int, head: bytes = OK) -> Iterator[bytes]:
    """An answer that ends with its connection."""
    yield head + b"Connection: close\r\n\r\n" + b"x" * size


FRAMINGS = {"length": lengthy, "chunked": chunked, "close": until_close}


def answering(parts: Callable[[], Iterator[bytes]]) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        while peer.request()[0]:
            for part in parts():
                try:
                    peer.send(part)
                except OSError:  # the client has had enough
                    return
            if parts.__name__ == "close":
                peer.sock.close()
                return

    return script


def serving(framing: str, size: int, head: bytes = OK) -> Callable[[Peer], None]:
    def parts() -> Iterator[bytes]:
        return FRAMINGS[framing](size, head)

    parts.__name__ = framing
    return answering(parts)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("how", ["send", "text"])
def test_a_large_answer_costs_little_more_than_twice_its_size(
    direct_twin: Twin,
    how: str,
    framing: str,
    tls: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    servers.trust(monkeypatch, tmp_path)
    with Server(serving(framing, LARGE), tls=server_context() if tls else None) as server:
        handler: Any = TextHandler() if how == "text" else BytesHandler()
        endpoint = direct_twin.endpoint(server.url, content_handler=handler)
        collect()
        tracemalloc.start()
        try:
            answer = endpoint.send(b"Hello").output if how == "send" else endpoint.invoke(b"Hello")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        endpoint.close()
    assert len(answer) == LARGE
    assert peak < 2.2 * LARGE


@pytest.mark.parametrize("framing", list(FRAMINGS))
def test_an_answer_of_just_the_size_that_is_allowed_is_an_answer(twin: Twin, framing: str) -> None:
    with Server(serving(framing, 100_000)) as server:
        endpoint = twin.endpoint(server.url, content_handler=BytesHandler(), max_response_bytes=100_000)
        assert len(endpoint.invoke(b"Hello")) == 100_000
        endpoint.close()


@pytest.mark.parametrize("framing", list(FRAMINGS))
def test_an_answer_of_one_byte_more_is_an_error_that_names_the_option(twin: Twin, framing: str) -> None:
    with Server(serving(framing, 100_001)) as server:
        endpoint = twin.endpoint(server.url, content_handler=BytesHandler(), max_response_bytes=100_000)
        with pytest.raises(errors.ProtocolError, match="more than 100,000 bytes: raise max_response_bytes") as caught:
            endpoint.invoke(b"Hello")
        assert caught.value.attempts == 1
        endpoint.close()


def test_an_answer_without_an_end_is_not_read_for_ever(twin: Twin) -> None:
    def endless() -> Iterator[bytes]:
        yield OK + b"Transfer-Encoding: chunked\r\n\r\n"
        while True:
            yield b"10000\r\n%b\r\n" % BLOCK

    with Server(answering(endless)) as server:
        endpoint = twin.endpoint(server.url, content_handler=BytesHandler())
        with pytest.raises(errors.ProtocolError, match="more than 104,857,600 bytes"):
            endpoint.invoke(b"Hello")
        endpoint.close()


def test_without_a_limit_there_is_none(direct_twin: Twin) -> None:
    with Server(serving("chunked", 200_000)) as server:
        endpoint = direct_twin.endpoint(server.url, content_handler=BytesHandler(), max_response_bytes=None)
        assert len(endpoint.invoke(b"Hello")) == 200_000
        endpoint.close()


def test_a_stream_may_have_any_size(direct_twin: Twin) -> None:
    from feeding import encode_part

    event = encode_part(BLOCK)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\nTransfer-Encoding: chunked\r\n\r\n"

    def parts() -> Iterator[bytes]:
        yield head
        for _ in range(4):
            yield b"%x\r\n%b\r\n" % (len(event), event)
        yield b"0\r\n\r\n"

    with Server(answering(parts)) as server:
        endpoint = direct_twin.endpoint(server.url, content_handler=BytesHandler(), max_response_bytes=1000)
        assert sum(map(len, endpoint.collect(b"Hello"))) == 4 * len(BLOCK)
        endpoint.close()


@pytest.mark.parametrize("operation", ["invoke", "stream"])
@pytest.mark.parametrize("framing", list(FRAMINGS))
def test_of_an_endless_error_the_beginning_is_read(direct_twin: Twin, framing: str, operation: str) -> None:
    head = b"HTTP/1.1 400 Bad Request\r\nX-Amzn-ErrorType: ValidationError\r\nContent-Type: text/plain\r\n"
    with Server(serving(framing, 3 * MAX_ERROR_BODY, head)) as server:
        endpoint = direct_twin.endpoint(server.url, content_handler=BytesHandler())
        with pytest.raises(errors.ValidationError, match=rf"the body has {MAX_ERROR_BODY} bytes \(text/plain\)"):
            endpoint.call(operation, b"Hello")
        endpoint.close()


@pytest.mark.parametrize("each", [1, 7, 100_000])
@pytest.mark.parametrize("framing", list(FRAMINGS))
def test_what_is_read_does_not_depend_on_how_it_is_cut(framing: str, each: int) -> None:
    size = MAX_ERROR_BODY + 10
    head = b"HTTP/1.1 500 Oops\r\n"
    data = b"".join(FRAMINGS[framing](size, head))
    start = len(data) - len(data) % each if each < 100 else 0
    cut = max(start - 2_000 * each, 1_000)  # byte by byte only near the limit
    reader = ResponseReader()
    pieces = reader.feed(data[:cut])
    for place in range(cut, len(data), each):
        pieces += reader.feed(data[place : place + each])
    assert len(b"".join(pieces)) == MAX_ERROR_BODY
    assert reader.complete
    assert not reader.reusable
    reader.feed_eof()
