"""`_transport/tls.py`: TLS without I/O, against the other side of OpenSSL, cut in every way."""

from __future__ import annotations

import contextlib
import functools
import random
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from feeding import FUZZ
from servers import authority, server_context
from targets import make_address

from smendpoint._transport.tls import TLSChannel


@functools.cache
def trusting() -> ssl.SSLContext:
    """The settings that the package gives its connections, and trust in the servers of these tests."""
    context = make_address("127.0.0.1", 443, tls=True).context()
    authority().configure_trust(context)
    return context


class Server:
    """The server's side of a connection whose handshake is done, with nothing waiting in either direction."""

    def __init__(
        self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, *, tickets: bool = True, hasty: bytes = b""
    ) -> None:
        self.version = version
        context = server_context()
        context.maximum_version = version
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.client = TLSChannel(trusting(), "127.0.0.1")
        done = False
        while not done:
            done = self.client.handshake()
            self.incoming.write(self.client.to_send())
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
                if hasty:
                    self.tls.write(hasty)
            if not done:
                self.client.arrived(self.outgoing.read())
        self.tickets = self.outgoing.read()
        if self.tickets and tickets:
            assert self.client.decrypt(self.tickets) is None
        assert self.client.to_send() == b""

    def says(self, *texts: bytes) -> bytes:
        """Each text as a record of its own, as it goes over the network."""
        for text in texts:
            assert self.tls.write(text) == len(text)
        return self.outgoing.read()

    def goodbye(self) -> bytes:
        """How TLS says that no more will come."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.outgoing.read()

    def hears(self, data: bytes) -> bytes:
        """Read the bytes that the client sent."""
        self.incoming.write(data)
        heard = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            while True:
                heard += self.tls.read(100_000)
        return heard


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def server(request: pytest.FixtureRequest) -> Server:
    return Server(request.param)


def read_all(client: TLSChannel, pieces: list[bytes]) -> bytes:
    """Decrypt the pieces, until they are all read or the other side has ended."""
    said = b""
    for piece in pieces:
        said += client.decrypt(piece) or b""
        if client.over:
            break
    return said


def test_many_records_in_one_piece_are_read_at_once(server: Server) -> None:
    texts = [bytes([65 + number]) * (number * 100 + 1) for number in range(26)]
    assert server.client.decrypt(server.says(*texts)) == b"".join(texts)


def test_a_record_of_the_greatest_size_is_read_at_once(server: Server) -> None:
    assert server.client.decrypt(server.says(b"x" * 16_384)) == b"x" * 16_384


@pytest.mark.parametrize("size", [1, 2, 5, 28, 29, 30, 1000])
def test_how_the_bytes_are_cut_makes_no_difference(server: Server, size: int) -> None:
    data = server.says(b"one", b"two", b"x" * 3000, b"four")
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert read_all(server.client, pieces) == b"onetwo" + b"x" * 3000 + b"four"
    assert not server.client.over


def test_bytes_that_are_sent_arrive_unchanged(server: Server) -> None:
    body = bytes(range(256)) * 400
    assert server.hears(server.client.encrypt(b"head") + server.client.encrypt(memoryview(body))) == b"head" + body


@pytest.mark.parametrize("together", [True, False], ids=["with the last bytes", "after them"])
def test_a_goodbye_is_the_end(server: Server, together: bool) -> None:
    last, goodbye = server.says(b"last"), server.goodbye()
    pieces = [last + goodbye] if together else [last, goodbye]
    assert read_all(server.client, pieces) == b"last"
    assert server.client.over
    assert server.client.end() == b""
    assert server.client.end() == b""


@contextlib.contextmanager
def is_cut() -> Iterator[None]:
    """Expect the error of a connection that was cut, for which older versions of Python have no class of its own."""
    with pytest.raises(ssl.SSLError) as caught:
        yield
    assert isinstance(caught.value, ssl.SSLEOFError) or caught.value.reason == "UNEXPECTED_EOF_WHILE_READING"


def test_a_cut_is_not_an_end(server: Server) -> None:
    with is_cut():
        server.client.decrypt(b"")
    assert server.client.over
    with is_cut():
        server.client.end()


def test_a_cut_in_a_record_is_not_an_end(server: Server) -> None:
    data = server.says(b"one", b"two")
    assert server.client.decrypt(data[:-1]) == b"one"
    with is_cut():
        server.client.decrypt(b"")


def test_bytes_before_a_spoilt_record_are_given_before_the_error(server: Server) -> None:
    good, spoilt = server.says(b"good"), bytearray(server.says(b"spoilt"))
    spoilt[-1] ^= 1
    assert server.client.decrypt(good + spoilt) == b"good"
    assert server.client.over
    for _ in range(2):
        with pytest.raises(ssl.SSLError, match=r"(?i)mac"):
            server.client.end()


def test_only_whole_records_leave_a_connection_at_rest(server: Server) -> None:
    records = [server.says(b"one"), server.says(b"x" * 300), server.says(b"three")]
    data = b"".join(records)
    ends = {len(b"".join(records[:count])) for count in range(4)}
    at_once = Server(server.version)
    at_once.client.decrypt(at_once.says(b"one", b"two") + at_once.says(b"three")[:3])
    assert not at_once.client.at_rest
    for position in range(len(data)):
        assert server.client.at_rest is (position in ends)
        server.client.decrypt(data[position : position + 1])
    assert server.client.at_rest
    server.client.decrypt(server.goodbye())
    assert not server.client.at_rest


def test_session_tickets_leave_a_connection_at_rest_when_they_are_whole() -> None:
    server = Server(tickets=False)
    tickets = server.tickets
    assert len(tickets) > 100
    for position in range(len(tickets)):
        assert server.client.decrypt(tickets[position : position + 1]) is None
    assert server.client.at_rest
    assert server.client.decrypt(server.says(b"one")) == b"one"


def test_tickets_after_an_answer_leave_a_connection_at_rest() -> None:
    server = Server(tickets=False)
    assert server.client.decrypt(server.tickets + server.says(b"one")) == b"one"
    assert server.client.at_rest


def test_an_answer_that_comes_with_the_handshake_is_refused() -> None:
    """In TLS 1.2 the server has the last word, and may go on at once."""
    with pytest.raises(ConnectionError, match="before any request"):
        Server(ssl.TLSVersion.TLSv1_2, hasty=b"HTTP/1.1 200 OK\r\n\r\n")


def test_the_peer_is_told_that_its_certificate_is_not_trusted() -> None:
    context = server_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)
    client = TLSChannel(ssl.create_default_context(), "127.0.0.1")
    assert not client.handshake()
    incoming.write(client.to_send())
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    client.arrived(outgoing.read())
    with pytest.raises(ssl.SSLCertVerificationError):
        client.handshake()
    incoming.write(client.to_send())
    with pytest.raises(ssl.SSLError, match=r"(?i)unknown ca"):
        tls.do_handshake()


def test_whatever_arrives_is_read_or_refused_with_an_error_of_ssl() -> None:
    chance = random.Random(8446)

    def flip(data: bytearray) -> None:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)

    def cut(data: bytearray) -> None:
        del data[chance.randrange(len(data)) :]

    def insert(data: bytearray) -> None:
        data.insert(chance.randrange(len(data)), chance.randrange(256))

    changes: list[Callable[[bytearray], Any]] = [flip, cut, insert]
    for _ in range(FUZZ // 200):
        server = Server()
        data = bytearray(server.says(b"one", b"two", b"three"))
        chance.choice(changes)(data)
        said = b""
        with contextlib.suppress(ssl.SSLError):
            said = server.client.decrypt(bytes(data)) or b""
            said += (server.client.end() if server.client.over else server.client.decrypt(b"")) or b""
        assert b"onetwothree".startswith(said)
