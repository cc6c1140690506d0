"""The limits of clients of the emulator: sizes, times, names of hosts, and how much is kept."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trustme
from emulator_client import NOW, PATIENCE, RawClient, call, plain, request, status

from smendpoint._core.aws.operations import SERVICE_MAX_BODY
from smendpoint.emulator import Emulator, ModelRequest
from smendpoint.emulator._hosts import Hosts
from smendpoint.emulator._http import MAX_HEAD, MAX_HEADERS, BadRequest, RequestReader
from smendpoint.emulator._service import MAX_SESSIONS, Sessions
from smendpoint.emulator.server import MAX_BODY
from smendpoint.errors import ConfigurationError

SOON = 0.05  # seconds: a time limit that tests wait for


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(lambda asked: b"[]", clock=lambda: NOW, max_body=100_000) as emulator:
        yield emulator


@pytest.fixture
def hasty() -> Iterator[Emulator]:
    with Emulator(lambda asked: b"[]", request_timeout=SOON, max_body=100_000) as emulator:
        yield emulator


def test_it_takes_bodies_as_large_as_clients_are_told_that_the_service_does() -> None:
    assert MAX_BODY == SERVICE_MAX_BODY


def ended(client: RawClient) -> bool:
    """Whether nothing more comes, and the connection ends, in an orderly way or not."""
    try:
        return client.socket.recv(1) == b""
    except ConnectionResetError:
        return True


def put(body: bytes, *headers: str, coding: str = "aws-chunked") -> bytes:
    return request(method="PUT", path="/s3/b/k", body=body, headers=(f"Content-Encoding: {coding}", *headers))


def chunked(*pieces: bytes, headers: tuple[str, ...] = ()) -> bytes:
    """A request whose body comes in these pieces, as they are."""
    head = request(headers=("Transfer-Encoding: chunked", *headers)).partition(b"\r\n\r\n")[0]
    return head.replace(b"Content-Length: 2\r\n", b"") + b"\r\n\r\n" + b"".join(pieces)


# -- uploads in the SDKs' own chunks


@pytest.mark.parametrize(
    "body",
    [
        b"-2\r\n",
        b"-1\r\n",
        b"+4\r\nabcd\r\n0\r\n\r\n",
        b"0x4\r\nabcd\r\n0\r\n\r\n",
        b" 4\r\nabcd\r\n0\r\n\r\n",
        b"1_0\r\nabcdabcdabcdabcd\r\n0\r\n\r\n",
        b"\r\n",
        b"4\r\nabcd",
        b"4\r\nabcd\r\n",
        b"4\r\nabcdef\r\n0\r\n\r\n",
        b"5\r\nabcd\r\n0\r\n\r\n",
        b"ffffffff\r\nabcd\r\n0\r\n\r\n",
        b"",
    ],
)
def test_an_upload_whose_chunks_are_wrong_is_refused_and_the_emulator_goes_on(emulator: Emulator, body: bytes) -> None:
    assert status(emulator, put(body)) == 400
    assert emulator.objects == {}
    assert status(emulator, request()) == 200


@pytest.mark.parametrize(("announced", "answer"), [(4, 200), (5, 400)])
def test_an_upload_is_as_long_as_it_says(emulator: Emulator, announced: int, answer: int) -> None:
    header = f"X-Amz-Decoded-Content-Length: {announced}"
    assert status(emulator, put(b"4\r\nabcd\r\n0\r\n\r\n", header)) == answer


# -- how large


@pytest.mark.parametrize(
    "pieces",
    [
        (b"186a1\r\n", b"x" * 100_001, b"\r\n0\r\n\r\n"),
        (b"c350\r\n" + b"x" * 50_000 + b"\r\n",) * 3 + (b"0\r\n\r\n",),
        (b"1\r\nx\r\n",) * 100_001 + (b"0\r\n\r\n",),
        (b"fffffffffffffff\r\n",),
    ],
    ids=["in one chunk", "in three", "in bytes", "announced"],
)
def test_a_chunked_body_over_the_limit_is_answered_with_413(emulator: Emulator, pieces: tuple[bytes, ...]) -> None:
    assert status(emulator, chunked(*pieces)) == 413
    assert emulator.requests == []


def test_a_chunked_body_at_the_limit_is_taken(emulator: Emulator) -> None:
    assert status(
        emulator, chunked(b"c350\r\n" + b"x" * 50_000 + b"\r\n", b"c350\r\n", b"x" * 50_000, b"\r\n0\r\n\r\n")
    )
    assert len(emulator.requests[0].body) == 100_000


def test_a_chunked_body_over_the_limit_is_refused_after_leave_was_given_too(emulator: Emulator) -> None:
    with RawClient(emulator) as client:
        client.send(chunked(headers=("Expect: 100-continue",))).read_until(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert b" 413 " in client.exchange(b"186a1\r\n" + b"x" * 100_001 + b"\r\n0\r\n\r\n")[0]


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 300000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n493e0\r\n"],
    ids=["sized", "chunked"],
)
def test_nothing_is_kept_of_a_body_over_the_limit(head: bytes) -> None:
    reader = RequestReader(10)
    reader.feed(b"POST / HTTP/1.1\r\n" + head)
    for _ in range(30):
        reader.feed(b"x" * 10_000)
    assert (reader.too_large, reader.received, len(reader.body), reader.waiting) == (True, 300_000, 0, 0)


@pytest.mark.parametrize("fault", ["early_413", "early_413_reset"])
def test_an_early_answer_does_not_wait_for_a_body_that_is_too_large_or_none(emulator: Emulator, fault: str) -> None:
    for body in (b"", b"x" * 100_001):
        emulator.inject(fault, times=1)
        with RawClient(emulator) as client:
            assert b" 413 " in client.exchange(request(body=body))[0]


def test_as_many_headers_are_taken_as_other_servers_take(emulator: Emulator) -> None:
    assert status(emulator, request(headers=("X: 1",) * (MAX_HEADERS - 3))) == 200
    assert status(emulator, request(headers=("X: 1",) * (MAX_HEADERS - 2))) == 431


@pytest.mark.parametrize(
    ("start", "piece"),
    [(b"", b"1;" + b"x" * 1000 + b"\r\na\r\n"), (b"0\r\n", b"X: " + b"x" * 1000 + b"\r\n")],
    ids=["extensions", "trailers"],
)
def test_extensions_and_trailers_beside_the_data_of_a_body_have_a_limit(start: bytes, piece: bytes) -> None:
    reader = RequestReader()
    reader.feed(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + start)
    reader.feed(piece * (MAX_HEAD // len(piece)))
    with pytest.raises(BadRequest) as refusal:
        reader.feed(piece * 2)
    assert refusal.value.status == 431


def test_requests_far_ahead_of_their_turn_wait_in_the_client() -> None:
    go_on = threading.Event()

    def model(asked: ModelRequest) -> bytes:
        go_on.wait()
        return b"[]"

    many, one = 3000, request(body=b"x" * 4000)
    all_of_them = one * many
    waiting: list[int] = []
    with Emulator(model, clock=lambda: NOW) as emulator, RawClient(emulator) as client:
        client.socket.setblocking(False)
        sent = 0
        for _ in range(100):
            with contextlib.suppress(BlockingIOError):
                sent += client.socket.send(all_of_them[sent : sent + 1_000_000])
            emulator.wait_for(lambda it: it.active_requests == 1)
            (connection,) = emulator._listener._connections
            waiting.append(connection._reader.waiting)
        assert max(waiting) < 1_000_000
        assert sent < len(all_of_them)
        go_on.set()
        client.socket.settimeout(PATIENCE)
        rest = threading.Thread(target=client.send, args=(all_of_them[sent:],))
        rest.start()
        assert client.read(many * len(plain(b"[]"))) == plain(b"[]") * many
        rest.join()
        assert emulator.total_requests == many


# -- how long


@pytest.mark.parametrize(
    "half",
    [
        b"P",
        b"POST /endpoints/my-llm/invocations HTTP/1.1\r\nHost: x\r\n",
        request()[:-1],
        chunked(b"5\r\nab"),
        chunked(b"2\r\nab\r\n0\r\n"),
    ],
)
def test_a_request_that_does_not_come_whole_in_time_is_answered_with_408(hasty: Emulator, half: bytes) -> None:
    with RawClient(hasty) as client:
        assert b" 408 Request Timeout\r\n" in client.send(half).read_all()
    hasty.disconnected()
    assert hasty.active_requests == 0


def test_a_request_that_drips_gets_no_more_time(hasty: Emulator) -> None:
    with RawClient(hasty) as client:
        client.send(b"POST / HTTP/1.1\r\nX: ").socket.settimeout(SOON / 5)
        answer = b""
        while not answer:
            try:
                answer = client.socket.recv(12)
            except TimeoutError:
                client.send(b"x")
        assert answer == b"HTTP/1.1 408"


def test_a_body_that_is_refused_is_not_waited_for_longer(hasty: Emulator) -> None:
    with RawClient(hasty) as client:
        assert b" 413 " in client.send(request(body=b"x" * 100_001)[:-1]).read_all()
    hasty.disconnected()


def test_a_connection_between_two_requests_has_all_the_time(hasty: Emulator) -> None:
    with RawClient(hasty) as client, RawClient(hasty) as other:
        client.exchange(request())
        assert b" 408 " in other.send(b"P").read_all()  # so much time has passed
        assert b" 200 " in client.exchange(request())[0]


def test_without_a_time_limit_a_request_is_waited_for() -> None:
    with Emulator(lambda asked: b"[]", request_timeout=None) as emulator, RawClient(emulator) as client:
        client.send(request()[:-1])
        emulator.wait_for(lambda it: it.active_requests == 1)
        assert b" 200 " in client.exchange(request()[-1:])[0]


def test_connections_that_have_just_been_made_are_closed_when_it_stops() -> None:
    for _ in range(20):
        with Emulator() as emulator:
            clients = [RawClient(emulator) for _ in range(5)]
        for client in clients:
            with client:
                assert ended(client)
        assert emulator.open_connections == 0


def test_a_handshake_that_is_not_finished_ends_in_time() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with Emulator(ssl_context=context, request_timeout=SOON) as emulator, RawClient(emulator) as client:
        assert ended(client)
        with Emulator(ssl_context=context) as other, RawClient(other) as client:
            other.stop()
            assert ended(client)


@pytest.mark.parametrize(
    "options", [{"request_timeout": 0}, {"keep_requests": -1}, {"keep_bytes": -1}, {"piece_size": 0}]
)
def test_a_limit_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="must be"):
        Emulator(**options)


# -- names of hosts


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "LOCALHOST:8080",
        "localhost.:8080",
        "127.0.0.1:1",
        "192.168.1.20",
        "[::1]",
        "[::1]:8080",
        "[fe80::1%25eth0]:80",
        "my-bucket.localhost:8080",
        "host.docker.internal:8080",
        "sagemaker",
        "sage_maker:8080",
        "own.example:80",
        "Machine.example",
    ],
)
def test_a_host_of_its_own_may_be_named(host: str) -> None:
    assert Hosts((), "own.example", "machine.example").allow(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example.",
        "evillocalhost.example",
        "127.0.0.1, evil.example",
        "localhost:8080:9",
        "localhost:x",
        "user@localhost",
        "[::1].evil.example",
        "[evil.example]",
        ".example",
        "127.1",
    ],
)
def test_a_host_that_is_not_its_own_is_refused(emulator: Emulator, host: str) -> None:
    assert not Hosts(()).allow(host)
    with RawClient(emulator) as client:
        head, body = client.exchange(request().replace(b"emulator", host.encode()))
        assert b" 421 Misdirected Request\r\n" in head
        assert repr(host) in json.loads(body)["Message"]
        assert "allowed_hosts" in json.loads(body)["Message"]
        assert client.ends("fin")
    assert emulator.requests == []


def test_a_refused_request_takes_no_fault(emulator: Emulator) -> None:
    emulator.inject("throttle_then_ok_1")
    assert status(emulator, request().replace(b"emulator", b"evil.example")) == 421
    assert status(emulator, request()) == 429


@pytest.mark.parametrize(
    ("allowed", "host", "taken"),
    [
        (["models.example"], "Models.Example:80", True),
        (["models.example"], "other.models.example", False),
        ([".example"], "models.example", True),
        ([".example"], "example.evil.test", False),
        (["*"], "evil.example", True),
        (["*"], "no host at all", True),
    ],
)
def test_further_names_can_be_allowed(allowed: list[str], host: str, taken: bool) -> None:
    with Emulator(lambda asked: b"[]", allowed_hosts=allowed) as emulator:
        assert (status(emulator, request().replace(b"emulator", host.encode())) == 200) is taken


@pytest.mark.parametrize("allowed", ["models.example", [""], [b"x"]])
def test_allowed_names_are_a_list_of_names(allowed: Any) -> None:
    with pytest.raises(ConfigurationError, match="allowed_hosts"):
        Emulator(allowed_hosts=allowed)


@pytest.mark.parametrize(
    ("target", "host", "answer"),
    [
        ("http://emulator:80/endpoints/my-llm/invocations", "emulator", 200),
        ("HTTP://[::1]/endpoints/my-llm/invocations?x=/", "evil.example", 200),
        ("http://evil.example/endpoints/my-llm/invocations", "emulator", 421),
        ("http://emulator", "emulator", 404),
        ("http://emulator?/endpoints/my-llm/invocations", "emulator", 404),
        ("http://user@emulator/endpoints/my-llm/invocations", "emulator", 404),
        ("ftp://emulator/endpoints/my-llm/invocations", "emulator", 404),
        ("emulator:80", "emulator", 404),
        ("*", "emulator", 404),
    ],
)
def test_a_client_that_believes_it_talks_to_a_proxy_names_the_host_in_the_target(
    emulator: Emulator, target: str, host: str, answer: int
) -> None:
    assert status(emulator, request(path=target).replace(b"Host: emulator", f"Host: {host}".encode())) == answer
    if answer == 200:
        assert emulator.requests[0].target.partition("?")[0] == "/endpoints/my-llm/invocations"


@pytest.mark.parametrize(("host", "url"), [("0.0.0.0", "http://127.0.0.1:"), ("::", "http://[::1]:")])
def test_an_emulator_that_listens_everywhere_gives_an_address_that_can_be_called(host: str, url: str) -> None:
    with Emulator(lambda asked: b"[]", host=host) as emulator:
        assert emulator.url.startswith(url)
        with socket.create_connection((emulator.url[7:].rpartition(":")[0].strip("[]"), emulator.port)):
            pass


# -- how much is kept


def test_the_latest_requests_are_kept_and_all_are_counted() -> None:
    with Emulator(lambda asked: b"[]", keep_requests=3) as emulator, RawClient(emulator) as client:
        for number in range(5):
            client.exchange(request(body=b"%d" % number))
        assert [one.body for one in emulator.requests] == [b"2", b"3", b"4"]
        assert emulator.total_requests == 5


@pytest.mark.parametrize("sizes", [(400, 500, 400), (400, 5000)])
def test_requests_are_kept_as_long_as_they_have_room_and_the_latest_always(sizes: tuple[int, ...]) -> None:
    with Emulator(lambda asked: b"[]", keep_bytes=1100) as emulator, RawClient(emulator) as client:
        for size in sizes:
            client.exchange(request(body=b"x" * size))
        assert [len(one.body) for one in emulator.requests] == [sizes[-1]] if sizes[-1] == 5000 else [500, 400]


def test_no_request_is_kept_where_none_is_wanted_and_every_one_where_all_are() -> None:
    for keep, kept in ((0, 0), (None, 1200)):
        with (
            Emulator(lambda asked: b"[]", keep_requests=keep, keep_bytes=None) as emulator,
            RawClient(emulator) as client,
        ):
            for _ in range(1200):
                client.exchange(request())
            assert (len(emulator.requests), emulator.total_requests) == (kept, 1200)


def test_the_store_takes_objects_as_long_as_there_is_room(emulator: Emulator) -> None:
    with Emulator(lambda asked: b"[]", keep_bytes=1000) as emulator:
        assert status(emulator, put(b"x" * 900, coding="identity")) == 200
        assert status(emulator, put(b"y" * 950, coding="identity")) == 200  # takes the place of the first one
        head, body = call(emulator, put(b"z" * 1000, coding="identity"))
        assert b" 507 " in head
        assert b"<Code>InsufficientStorage</Code>" in body
        assert emulator.objects == {"s3://b/k": b"y" * 950}
        emulator.objects["s3://b/other"] = b"x" * 100
        head, body = call(emulator, request("async"))
        assert b" 400 " in head
        assert "keep_bytes" in json.loads(body)["Message"]
        emulator.objects.clear()
        assert status(emulator, request("async")) == 202


def test_a_fault_that_is_used_up_is_forgotten(emulator: Emulator) -> None:
    for _ in range(3):
        emulator.inject("status_503", times=1)
        assert status(emulator, request()) == 503
    assert emulator._state._injections == []


def test_a_session_ends_by_itself_and_the_oldest_makes_way() -> None:
    now = [NOW]
    sessions = Sessions(lambda: now[0])
    for number in range(MAX_SESSIONS + 1):
        sessions.begin(str(number), "my-llm")
    assert len(sessions.open()) == MAX_SESSIONS
    assert not sessions.belongs("0", "my-llm")
    assert sessions.belongs("1", "my-llm")
    now[0] += 1200
    assert sessions.open() == {}
    assert not sessions.belongs("1", "my-llm")


def test_two_requests_that_close_one_session_are_both_answered() -> None:
    both = threading.Barrier(2)

    def model(asked: ModelRequest) -> bytes:
        if b"CLOSE" in asked.body:
            both.wait()
        return b"{}"

    with Emulator(model) as emulator, RawClient(emulator) as one, RawClient(emulator) as other:
        one.exchange(request(headers=("X-Amzn-SageMaker-Session-Id: NEW_SESSION",)))
        (session,) = emulator.sessions
        closing = request(body=b'{"requestType": "CLOSE"}', headers=(f"X-Amzn-SageMaker-Session-Id: {session}",))
        one.send(closing)
        assert b" 200 " in other.exchange(closing)[0]
        assert b" 200 " in one.exchange(b"")[0]


def test_the_answer_to_head_has_no_body(emulator: Emulator) -> None:
    with RawClient(emulator) as client:
        client.send(request(method="HEAD", path="/nowhere", body=b""))
        assert b" 404 " in client.read_until(b"\r\n\r\n")
        assert client.exchange(request())[1] == b"[]"
