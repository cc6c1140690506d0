"""Bidirectional streams of the emulator: HTTP/2, events, signatures, models, flow control, ends."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import socket
import ssl
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from emulator_client import NOW, RawClient, call, request, status
from h2_client import H2Client, Keys, frame, header, part
from servers import PATIENCE, authority, server_context

from smendpoint.emulator import Credentials, Emulator, ModelConversation, ModelPart, ModelRequest

KEYS = Keys()
TEMPORARY = Keys(token="to/k+en=")
WINDOW = 65_535  # that of HTTP/2 to begin with


async def echo(conversation: ModelConversation) -> None:
    async for one in conversation:
        await conversation.send(one.data if one.text is None else one.text, one.partial)


async def fails_at_once(conversation: ModelConversation) -> None:
    raise ValueError("out of memory")


async def fails_later(conversation: ModelConversation) -> None:
    await conversation.send("hello")
    raise ValueError("out of memory")


class Thing:
    async def __call__(self, conversation: ModelConversation) -> None:
        await conversation.send("thing")


MODELS: dict[str, Any] = {
    "voice": echo,
    "fails": fails_at_once,
    "fails-later": fails_later,
    "plain": lambda asked: b"[]",
    "thing": Thing(),
    "partial": functools.partial(fails_later),
}


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(MODELS, clock=lambda: NOW) as running:
        yield running
        running.disconnected()
        assert (running.active_requests, running.stalled) == (0, 0)


@pytest.fixture
def strict() -> Iterator[Emulator]:
    """An emulator that checks signatures."""
    with Emulator(MODELS, clock=lambda: NOW, credentials=Credentials(*KEYS[:3])) as running:
        yield running
        running.disconnected()


def client(emulator: Emulator, **options: Any) -> H2Client:
    return H2Client((emulator.host, emulator.port), now=NOW, **options)


# -- the connection


def test_a_model_answers_part_by_part_while_the_client_sends(emulator: Emulator) -> None:
    with client(emulator) as talk:
        talk.open()
        for number in range(5):
            assert talk.send(f"part {number}").next().payload == f"part {number}".encode()
        talk.end_input().until_end()
    assert (talk.status, talk.ended, talk.events) == (200, "end", [])


def test_text_bytes_and_partial_parts_stay_what_they_are(emulator: Emulator) -> None:
    with client(emulator) as talk:
        talk.open().send("é").send(b"\xff").send("a", partial=True).send(b"", partial=True).send("").end_input()
        talk.until_end()
    seen = [(one.payload, one.headers["DataType"], one.headers["CompletionState"]) for one in talk.events]
    assert seen == [
        ("é".encode(), "UTF8", "COMPLETE"),
        (b"\xff", "BINARY", "COMPLETE"),
        (b"a", "UTF8", "PARTIAL"),
        (b"", "BINARY", "PARTIAL"),
        (b"", "UTF8", "COMPLETE"),
    ]


def test_a_part_without_headers_of_its_own_is_whole_and_binary(emulator: Emulator) -> None:
    with client(emulator) as talk:
        talk.open().write(frame(header(":message-type", "event") + header(":event-type", "PayloadPart"), b"a"))
        assert talk.next().headers["DataType"] == "BINARY"


def test_the_padding_of_an_event_is_ignored(emulator: Emulator) -> None:
    with client(emulator) as talk:
        assert talk.open().send(b"a", P="xxxxxxxx").next().payload == b"a"


def test_the_head_of_an_answer(emulator: Emulator) -> None:
    with client(emulator) as talk:
        talk.open(headers={"x-amzn-sagemaker-target-variant": "Blue"}).send("a").next()
    assert len(talk.headers.pop("x-amzn-requestid")) == 36
    assert talk.headers == {
        ":status": "200",
        "date": "Tue, 14 Nov 2023 22:13:20 GMT",
        "content-type": "application/vnd.amazon.eventstream",
        "x-amzn-invoked-production-variant": "Blue",
    }


@pytest.mark.parametrize("name", ["voice", "thing"])
def test_an_answer_may_have_no_part_at_all(emulator: Emulator, name: str) -> None:
    with client(emulator) as talk:
        talk.open(name).end_input().until_end()
    assert (talk.status, talk.ended, talk.payloads) == (200, "end", [b"thing"] if name == "thing" else [])


def test_the_connection_and_the_events_may_come_byte_by_byte(emulator: Emulator) -> None:
    with client(emulator) as talk:
        talk.open()
        for byte in part("hello"):
            talk.write(bytes([byte]))
        assert talk.next().payload == b"hello"
    with RawClient(emulator) as raw:
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":
            raw.send(bytes([byte]))
        assert raw.read(9)[3] == 4  # SETTINGS


@pytest.mark.parametrize("size", [1, 3, 20])
def test_a_request_of_http_1_is_recognised_however_it_is_cut(emulator: Emulator, size: int) -> None:
    with RawClient(emulator) as raw:
        whole = request(path="/endpoints/plain/invocations")
        for start in range(0, len(whole) - size, size):
            raw.send(whole[start : start + size])
        assert raw.exchange(whole[start + size :])[1] == b"[]"


def test_a_connection_that_only_begins_like_http_2_is_refused_as_one_of_http_1(emulator: Emulator) -> None:
    assert status(emulator, b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n") == 400


def test_the_beginning_of_a_connection_must_come_in_time() -> None:
    with Emulator(MODELS, request_timeout=0.01) as emulator:
        assert status(emulator, b"PRI * HT") == 408


def test_two_streams_share_a_connection(emulator: Emulator) -> None:
    with client(emulator) as talk:
        first = talk.open().send("a").next()
        silent = talk.stream
        second = talk.open().send("b").next()
        assert (first.payload, second.payload) == (b"a", b"b")
        assert emulator.active_requests == 2
        assert [one.connection for one in emulator.requests] == [1, 1]
        assert talk.stream != silent


def test_the_conversation_is_among_the_requests(emulator: Emulator) -> None:
    with client(emulator) as talk:
        talk.open(headers={"x-amzn-sagemaker-model-invocation-path": "v1/listen", "x-a": "1"}).send("a").next()
        (received,) = emulator.requests
        assert emulator.active_requests == emulator.open_connections == 1
    assert (received.operation, received.endpoint_name) == ("InvokeEndpointWithBidirectionalStream", "voice")
    assert (received.method, received.target) == ("POST", "/endpoints/voice/invocations-bidirectional-stream")
    assert received.headers == dict(received.header_list)
    assert received.headers["host"] == f"127.0.0.1:{emulator.port}"
    assert (received.headers["x-a"], received.body, received.fault) == ("1", b"", None)
    emulator.disconnected()


def test_a_conversation_takes_no_slot(emulator: Emulator) -> None:
    emulator.capacity = 0
    with client(emulator) as talk:
        assert talk.open().send("a").next().payload == b"a"
    assert emulator.load["voice"].running == 0


def tls_emulator(*protocols: str) -> Emulator:
    context = server_context("localhost")
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return Emulator(MODELS, ssl_context=context, clock=lambda: NOW)


def tls_client(*protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@pytest.mark.parametrize("offered", [("h2",), ("http/1.1", "h2"), ()])
def test_over_tls_alpn_or_the_beginning_of_the_connection_says_that_it_is_http_2(offered: tuple[str, ...]) -> None:
    with tls_emulator("h2", "http/1.1") as emulator, client(emulator, tls=tls_client(*offered)) as talk:
        assert talk.open().send("a").next().payload == b"a"
    emulator.stop()


def test_the_certificate_s_owner_decides_whether_a_server_offers_http_2() -> None:
    with tls_emulator() as emulator, client(emulator, tls=tls_client("h2")) as talk:
        assert isinstance(talk.socket, ssl.SSLSocket)
        assert talk.socket.selected_alpn_protocol() is None


def test_http_1_goes_on_over_tls_where_http_2_is_offered_too() -> None:
    with tls_emulator("h2", "http/1.1") as emulator, socket.create_connection((emulator.host, emulator.port)) as raw:
        with tls_client("http/1.1").wrap_socket(raw, server_hostname="localhost") as secure:
            secure.sendall(request(path="/endpoints/plain/invocations", headers=("Connection: close",)))
            assert secure.recv(12) == b"HTTP/1.1 200"


def test_a_bidirectional_stream_needs_http_2(emulator: Emulator) -> None:
    path = "/endpoints/voice/invocations-bidirectional-stream"
    head, body = call(emulator, request(path=path))
    assert head.startswith(b"HTTP/1.1 505")
    assert b"HTTP/2" in body


@pytest.mark.parametrize("path", ["/endpoints/plain/invocations", "/v1/models", "/nothing"])
def test_what_is_not_a_bidirectional_stream_needs_http_1(emulator: Emulator, path: str) -> None:
    with client(emulator) as talk:
        talk.open(path=path).until_end()
    assert talk.error == (505, "", f"POST {path} is served over HTTP/1.1 only")


@pytest.mark.parametrize("version", ["plain", "tls"])
def test_without_the_package_h2_the_connection_is_refused_with_the_way_to_install_it(
    version: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Emulator(MODELS) if version == "plain" else tls_emulator("h2") as emulator:
        monkeypatch.setitem(sys.modules, "smendpoint.emulator._http2", None)
        with socket.create_connection((emulator.host, emulator.port), timeout=PATIENCE) as raw:
            secure = raw if version == "plain" else tls_client("h2").wrap_socket(raw, server_hostname="localhost")
            secure.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            received = b""
            while data := secure.recv(65_536):
                received += data
            secure.close()
        emulator.disconnected()
    assert received[9 + 3] == 7  # GOAWAY after SETTINGS
    assert received[9 + 9 + 7] == 0xD  # HTTP_1_1_REQUIRED
    assert received.endswith(b"pip install 'smendpoint[emulator]'")
    assert "smendpoint[emulator]" in caplog.text


def test_bytes_that_are_not_http_2_end_the_connection_with_goaway(emulator: Emulator) -> None:
    with client(emulator) as talk:
        talk.open().send("a").next()
        talk.socket.sendall(b"\0\0\1\4\0\0\0\0\0?")  # a SETTINGS frame whose length is not a multiple of six
        talk.until_end()
        assert talk.ended.startswith("goaway")


def test_answers_that_a_client_does_not_read_stop_the_emulator_from_reading(emulator: Emulator) -> None:
    pings = b"\0\0\x08\x06\0\0\0\0\0" + b"12345678"
    assert emulator._listener._server is not None
    (listening,) = emulator._listener._server.sockets
    for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # large ones would take long to fill
        listening._sock.setsockopt(socket.SOL_SOCKET, buffer, 4096)
    with client(emulator, receive_buffer=4096) as talk:
        talk.socket.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            for _ in range(1000):
                talk.socket.sendall(pings * 1000)
            pytest.fail("the emulator reads on")
        talk.socket.settimeout(PATIENCE)
        talk.socket.shutdown(socket.SHUT_WR)
        while talk.socket.recv(1_000_000):
            pass


# -- the request


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nobody", (400, "InputValidationError", "Endpoint nobody of account 111122223333 not found.")),
        ("fails", (424, "ModelError", "ValueError: out of memory")),
        ("plain", (424, "ModelError", "The container of this endpoint has no bidirectional streaming")),
    ],
)
def test_an_error_before_the_first_part_has_a_status(
    emulator: Emulator, name: str, expected: tuple[int, str, str]
) -> None:
    with client(emulator) as talk:
        talk.open(name).until_end()
        code, kind, message = talk.error
        assert (code, kind) == expected[:2]
        assert expected[2] in message
        if code == 424:
            detail = json.loads(talk.body)
            assert detail["OriginalStatusCode"] == 500
            assert expected[2] in detail["OriginalMessage"]


def test_an_endpoint_that_is_not_in_service_is_not_found(emulator: Emulator) -> None:
    emulator.descriptions["voice"] = {"EndpointStatus": "Creating"}
    with client(emulator) as talk:
        talk.open().until_end()
    assert talk.error[:2] == (400, "InputValidationError")


def test_an_answer_before_the_end_of_the_input_tells_the_client_to_stop(emulator: Emulator) -> None:
    with client(emulator) as talk:
        talk.open("nobody").until_end()
        while "StreamReset" not in talk.notes:
            talk.pump()
    assert talk.ended == "end"


def test_an_error_after_the_first_part_is_in_the_stream(emulator: Emulator) -> None:
    for name in ("fails-later", "partial"):
        with client(emulator) as talk:
            talk.open(name).until_end()
        assert (talk.status, talk.ended) == (200, "end")
        hello, failure = talk.events
        assert hello.payload == b"hello"
        assert failure.exception == "ModelStreamError"
        assert json.loads(failure.payload) == {"Message": "ValueError: out of memory", "ErrorCode": "StreamBroken"}


def test_the_host_may_be_in_a_header(emulator: Emulator) -> None:
    with client(emulator) as talk:
        talk.open(headers={"x-a": "1"}, host_header=True).send("a").next()
        (received,) = emulator.requests
        assert received.headers["host"] == f"127.0.0.1:{emulator.port}"


def test_a_request_for_another_host_is_refused(emulator: Emulator) -> None:
    with client(emulator, host="example.com") as talk:
        talk.open().until_end()
    assert talk.error[0] == 421
    assert not emulator.requests


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("target-variant", "a" * 64),
        ("target-variant", "a b"),
        ("model-invocation-path", "/v1"),
        ("model-invocation-path", "v1/"),
        ("model-invocation-path", "v1//a"),
        ("model-invocation-path", "a" * 101),
        ("model-query-string", "a=" + "b" * 2047),
        ("model-query-string", "a=%zz"),
        ("model-query-string", "a b"),
    ],
)
def test_members_that_the_service_does_not_take_are_refused(emulator: Emulator, name: str, value: str) -> None:
    with client(emulator) as talk:
        talk.open(headers={f"x-amzn-sagemaker-{name}": value}).until_end()
    assert talk.error[:2] == (400, "InputValidationError")
    assert name in talk.error[2]


def test_the_model_gets_what_the_request_says(emulator: Emulator) -> None:
    seen: list[ModelConversation] = []

    async def model(conversation: ModelConversation) -> None:
        seen.append(conversation)

    emulator.models["voice"] = model
    headers = {"target-variant": "Blue", "model-invocation-path": "v1/listen", "model-query-string": "a=1&b=%20"}
    with client(emulator) as talk:
        talk.open(headers={f"x-amzn-sagemaker-{name}": value for name, value in headers.items()}).until_end()
        talk.open().until_end()
    first, second = seen
    assert (first.endpoint_name, first.path, first.query) == ("voice", "v1/listen", "a=1&b=%20")
    assert (first.target_variant, second.target_variant) == ("Blue", "")
    assert (second.path, second.query) == ("", "")
    assert first.headers["content-type"] == "application/vnd.amazon.eventstream"
    assert first.disconnected.is_set()


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 20,
        part("a")[:-1] + b"\0",
        part(b"\xff", DataType="UTF8"),
        part("a", DataType="JSON"),
        part("a", CompletionState="LATER"),
        part("a", **{":event-type": "Other"}),
        part("a", **{":message-type": "exception"}),
        frame(header(":chunk-signature", b"s"), b"not an event"),
        frame(header(":chunk-signature", b"s"), part("a") + part("b")),
        frame(header(":chunk-signature", b"s"), part("a")[:-1]),
        frame(header(":chunk-signature", b"s"), b"") + part("after the end"),
    ],
)
@pytest.mark.parametrize("before", [0, 1])
def test_events_that_are_wrong_end_the_stream(emulator: Emulator, data: bytes, before: int) -> None:
    with client(emulator) as talk:
        talk.open()
        for _ in range(before):
            talk.send("a").next()
        talk.write(data).until_end()
        if before:
            assert [one.exception for one in talk.events] == ["InputValidationError"]
        else:
            assert talk.error[:2] == (400, "InputValidationError")


def test_input_that_ends_inside_an_event_is_refused(emulator: Emulator) -> None:
    with client(emulator) as talk:
        talk.open().write(part("a")[:-3]).end_input().until_end()
    assert talk.error[:2] == (400, "InputValidationError")


def test_a_model_that_hides_a_wrong_event_does_not_go_on(emulator: Emulator) -> None:
    async def stubborn(conversation: ModelConversation) -> None:
        for _ in range(2):
            with contextlib.suppress(Exception):
                await conversation.receive()
        await conversation.send("well")

    emulator.models["voice"] = stubborn
    with client(emulator) as talk:
        talk.open().write(b"\0" * 20).until_end()
    assert [one.exception for one in talk.events] == ["", "InputValidationError"]


# -- signatures


@pytest.mark.parametrize("keys", [KEYS, TEMPORARY])
def test_a_conversation_with_right_signatures_is_served(keys: Keys) -> None:
    credentials = Credentials(keys.access_key, keys.secret_key, keys.token)
    with Emulator(MODELS, clock=lambda: NOW, credentials=credentials) as emulator, client(emulator, keys=keys) as talk:
        talk.open().send("a").send(b"b" * 200_000).send("c", partial=True).end_input().until_end()
        assert (talk.status, talk.payloads) == (200, [b"a", b"b" * 200_000, b"c"])


def test_signatures_of_events_are_not_checked_without_credentials(emulator: Emulator) -> None:
    with client(emulator, keys=KEYS) as talk:
        talk.open().send("a").end_input().until_end()
    assert talk.payloads == [b"a"]


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        (KEYS._replace(secret_key="wrong"), "InvalidSignatureException"),
        (KEYS._replace(region="eu-west-1"), "InvalidSignatureException"),
        (KEYS._replace(access_key="AKIDOTHER"), "UnrecognizedClientException"),
        (TEMPORARY, "UnrecognizedClientException"),
        (None, "MissingAuthenticationTokenException"),
    ],
)
def test_a_request_with_a_wrong_signature_is_refused(strict: Emulator, keys: Keys | None, code: str) -> None:
    with client(strict, keys=keys) as talk:
        talk.open().until_end()
    assert talk.error[:2] == (403, code)


def test_the_hash_of_the_request_says_that_its_events_are_signed(
    strict: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smendpoint.emulator._auth.STREAMED_EVENTS", "UNSIGNED-PAYLOAD")
    with client(strict, keys=KEYS) as talk:
        talk.open().until_end()
    assert talk.error[:2] == (403, "InvalidSignatureException")


def tampered(talk: H2Client) -> bytes:
    whole = bytearray(talk.signed(part("a")))
    inner = part("b")
    return frame(bytes(whole[12 : -4 - len(inner)]), inner)


def without_date(talk: H2Client) -> bytes:
    return frame(header(":chunk-signature", b"s" * 32), part("a"))


def unsigned(talk: H2Client) -> bytes:
    return part("a")


def dated(seconds: float) -> Callable[[H2Client], bytes]:
    def make(talk: H2Client) -> bytes:
        talk._now = NOW + seconds
        return talk.signed(part("a"))

    return make


def out_of_turn(talk: H2Client) -> bytes:
    talk.signed(part("lost"))
    return talk.signed(part("a"))


def unfinished(talk: H2Client) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (tampered, "InvalidSignatureException"),
        (out_of_turn, "InvalidSignatureException"),
        (dated(301), "InvalidSignatureException"),
        (dated(-301), "InvalidSignatureException"),
        (dated(1e15), "InvalidSignatureException"),
        (without_date, "MissingAuthenticationTokenException"),
        (unsigned, "MissingAuthenticationTokenException"),
        (unfinished, "InvalidSignatureException"),
    ],
)
@pytest.mark.parametrize("before", [0, 1])
def test_an_event_with_a_wrong_signature_ends_the_stream(
    strict: Emulator, make: Callable[[H2Client], bytes], code: str, before: int
) -> None:
    with client(strict, keys=KEYS) as talk:
        talk.open()
        for _ in range(before):
            assert talk.send("a").next().payload == b"a"
        talk.write(make(talk))
        talk.h2.end_stream(talk.stream)
        talk.flush()
        talk.until_end()
        if before:
            assert [one.exception for one in talk.events] == [code]
        else:
            assert talk.error[:2] == (403, code)


def test_an_event_may_be_signed_a_little_early_or_late(strict: Emulator) -> None:
    with client(strict, keys=KEYS) as talk:
        talk.open()
        for seconds in (299, -299):
            talk.write(dated(seconds)(talk))
            assert talk.next().payload == b"a"


# -- flow control


def test_a_model_that_does_not_read_closes_the_client_s_window(emulator: Emulator) -> None:
    gate = threading.Event()

    async def slow(conversation: ModelConversation) -> None:
        await asyncio.to_thread(gate.wait, PATIENCE)
        async for one in conversation:
            await conversation.send(str(len(one.data)))

    emulator.models["voice"] = slow
    data = part(b"x" * 1_000_000)
    with client(emulator) as talk:
        talk.open()
        while talk.window:
            size = min(talk.window, 10_000)
            talk.h2.send_data(talk.stream, data[:size])
            data = data[size:]
            talk.flush()
        voice = talk.stream
        assert talk.open("thing").next().payload == b"thing"  # the other streams of the connection go on
        talk.until_end()
        assert talk.h2.local_flow_control_window(voice) == 0
        talk.stream, talk.ended = voice, ""
        gate.set()
        talk.write(data).end_input()
        assert talk.next().payload == b"1000000"
        talk.until_end()


def test_a_client_that_does_not_read_suspends_the_model(emulator: Emulator) -> None:
    sent: list[int] = []
    size = 10_000

    async def eager(conversation: ModelConversation) -> None:
        for number in range(100):
            await conversation.send(b"x" * size)
            sent.append(number)

    emulator.models["voice"] = eager
    with client(emulator) as talk:
        talk.acknowledges = False
        talk.open().end_input()
        while len(talk.body) < WINDOW:
            talk.pump()
        assert len(sent) <= WINDOW // size + 3
        talk.acknowledges = True
        talk.h2.acknowledge_received_data(WINDOW, talk.stream)
        talk.flush()
        talk.until_end()
    assert len(talk.payloads) == len(sent) == 100


def test_a_window_that_the_client_shrinks_below_zero_is_waited_for(emulator: Emulator) -> None:
    with client(emulator) as talk:
        talk.open().send(b"a").next()
        talk.h2.update_settings({4: 0})
        talk.flush()
        talk.send(b"b" * 10)
        while "SettingsAcknowledged" not in talk.notes[2:]:
            talk.pump()
        assert not talk.events
        talk.h2.update_settings({4: WINDOW})
        talk.flush()
        assert talk.next().payload == b"b" * 10


def test_empty_and_padded_frames_of_data_are_taken(emulator: Emulator) -> None:
    with client(emulator) as talk:
        talk.open()
        talk.h2.send_data(talk.stream, b"")
        talk.h2.send_data(talk.stream, part("a"), pad_length=100)
        talk.flush()
        assert talk.next().payload == b"a"
        talk.end_input().until_end()


def test_trailers_end_the_input(emulator: Emulator) -> None:
    with client(emulator) as talk:
        talk.open().send("a")
        talk.h2.send_headers(talk.stream, [("x-checksum", "1")], end_stream=True)
        talk.flush()
        talk.until_end()
        assert (talk.ended, talk.payloads) == ("end", [b"a"])


# -- ends


class Watched:
    """A model that says how it has ended."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.ended = threading.Event()
        self.conversation: ModelConversation

    async def __call__(self, conversation: ModelConversation) -> None:
        self.conversation = conversation
        self.began.set()
        try:
            await conversation.send("hello")
            async for _ in conversation:
                pass
        except asyncio.CancelledError:
            assert conversation.disconnected.is_set()
            self.ended.set()
            raise


def leave(talk: H2Client, emulator: Emulator) -> None:
    talk.socket.close()


def reset_stream(talk: H2Client, emulator: Emulator) -> None:
    talk.reset()


def say_goodbye(talk: H2Client, emulator: Emulator) -> None:
    talk.h2.close_connection()
    talk.flush()
    with contextlib.suppress(ConnectionResetError):
        while talk.socket.recv(65_536):  # frames that were on their way, for which `h2` is closed by now
            pass


def stop(talk: H2Client, emulator: Emulator) -> None:
    emulator.stop()
    assert talk.until_end().ended == "eof"


def start_over(talk: H2Client, emulator: Emulator) -> None:
    emulator.reset()
    assert talk.until_end().ended == "eof"


def refuse(talk: H2Client, emulator: Emulator) -> None:
    emulator.inject("refuse")
    assert talk.until_end().ended == "eof"
    emulator.clear_faults()


@pytest.mark.parametrize("end", [leave, reset_stream, say_goodbye, stop, start_over, refuse])
def test_a_model_is_cancelled_when_the_conversation_is_over(
    end: Callable[[H2Client, Emulator], None], emulator: Emulator
) -> None:
    model = Watched()
    emulator.models["voice"] = model
    with client(emulator) as talk:
        talk.open().send("a")
        assert talk.next().payload == b"hello"
        end(talk, emulator)
        assert model.ended.wait(PATIENCE)
        emulator.idle()


def test_a_model_that_waits_for_room_is_cancelled_when_the_client_leaves(emulator: Emulator) -> None:
    ended = threading.Event()

    async def eager(conversation: ModelConversation) -> None:
        try:
            while True:
                await conversation.send(b"x" * 100_000)
        finally:
            ended.set()

    emulator.models["voice"] = eager
    with client(emulator) as talk:
        talk.acknowledges = False
        talk.open()
        while len(talk.body) < WINDOW:
            talk.pump()
    assert ended.wait(PATIENCE)


def test_a_connection_serves_a_stream_after_one_that_was_reset(emulator: Emulator) -> None:
    with client(emulator) as talk:
        talk.open().send("a").next()
        talk.reset()
        assert talk.open().send("b").next().payload == b"b"


def test_a_model_that_returns_early_ends_the_answer(emulator: Emulator) -> None:
    with client(emulator) as talk:
        talk.open("thing").send(b"x" * 1_000_000).until_end()
    assert (talk.ended, talk.payloads) == ("end", [b"thing"])


def test_a_model_cannot_send_after_its_end(emulator: Emulator) -> None:
    model, told = Watched(), threading.Event()

    async def later(conversation: ModelConversation) -> None:
        try:
            await conversation.send("late")
        except ConnectionError:
            told.set()

    with client(emulator) as talk:
        emulator.models["voice"] = model
        talk.open().end_input().until_end()
        assert emulator._thread is not None
        emulator._thread.call(later(model.conversation))
    assert told.is_set()


def test_a_model_that_cancels_itself_has_failed(emulator: Emulator) -> None:
    async def cancelled(conversation: ModelConversation) -> None:
        raise asyncio.CancelledError

    emulator.models["voice"] = cancelled
    with client(emulator) as talk:
        talk.open().until_end()
    assert talk.error[:2] == (424, "ModelError")


@pytest.mark.parametrize("sent", [7, None, b"x" * (24 * 1024 * 1024 + 1)])
def test_a_model_that_sends_what_is_not_a_part_has_failed(emulator: Emulator, sent: Any) -> None:
    async def wrong(conversation: ModelConversation) -> None:
        await conversation.send(sent)

    emulator.models["voice"] = wrong
    with client(emulator) as talk:
        talk.open().until_end()
    assert talk.error[:2] == (424, "ModelError")


def test_an_ordinary_request_to_a_model_of_conversations_is_a_model_error(emulator: Emulator) -> None:
    assert status(emulator, request(path="/endpoints/voice/invocations")) == 424


def test_a_conversation_can_be_made_for_the_test_of_a_model() -> None:
    parts: list[ModelPart | None] = [ModelPart(b"a", "a"), ModelPart(b"b", partial=True), None]
    sent: list[tuple[bytes | str, bool]] = []

    async def receive() -> ModelPart | None:
        return parts.pop(0)

    async def reply(data: bytes | str, partial: bool) -> None:
        sent.append((data, partial))

    asyncio.run(echo(ModelConversation(receive, reply)))
    assert sent == [("a", False), (b"b", True)]


def test_an_error_of_the_emulator_itself_resets_the_connection(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: object) -> Awaitable[object]:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(emulator._service, "converser", broken)
    with client(emulator) as talk:
        talk.open().until_end()
    assert talk.ended == "eof"
    assert "a mistake" in caplog.text


def asks(request: ModelRequest) -> bytes:
    return request.body


def test_both_kinds_of_models_can_stand_beside_each_other() -> None:
    with Emulator({"voice": echo, "llm": asks}) as emulator, client(emulator) as talk:
        assert talk.open().send("a").next().payload == b"a"
        assert call(emulator, request(path="/endpoints/llm/invocations"))[1] == b"{}"
