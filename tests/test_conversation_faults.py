"""Every fault of bidirectional streams, on both twins: it ends as the reference says, at the moment when it comes.

The table in ``docs/reference/faults-and-errors.md`` is the data of these tests.
"""

from __future__ import annotations

import asyncio
import pickle
import re
import socket
import threading
import time
from typing import Any

import pytest
from clocks import FakeClock, run_virtual, virtual_time
from feeding import encode_part
from inside import waits_for_its_socket
from servers import PATIENCE, Peer, Server, deaf_port, fast, server_context
from test_conversation import ENDED, MEGABYTE, Diary, echo, mute, send_on
from test_fault_matrix import PAGE
from twins import NAME, Twin, TwinConversation, direct_twin  # noqa: F401

from smendpoint import AsyncEndpoint, Timeout, errors
from smendpoint._transport.blocking import connection as _connection
from smendpoint.emulator import FAULTS, Emulator, ModelConversation
from smendpoint.emulator.faults import find_fault

pytestmark = pytest.mark.usefixtures("bare_environment")

ROW = re.compile(r"^\| `([a-z0-9_A-Z]+)` \| (?:`([A-Za-z]+)`|answer) \|$", re.MULTILINE)
CASES = dict(ROW.findall(PAGE.read_text(encoding="utf-8")))

WORDS = ("one", "two", "three")
STALLING = {"h2_no_head", "h2_silence", "h2_stall", "h2_window_closed"}
STALL_SECONDS = 1.0  # in some tests, an answer must begin in this time
END_OF_STREAM = b"\0\0\0\0\x01\0\0\0\x01"  # an empty DATA frame with the flag END_STREAM
# These strike before the model has said anything.
BEFORE_ANY_PART = {
    "h2_no_head",
    "h2_silence",
    "h2_garbage",
    "h2_html_200",
    "h2_refused_stream",
    "h2_goaway_first",
    "h2_late_424",
    "h2_late_403",
}


def converse(talk: TwinConversation, size: int = 0) -> list[Any]:
    """Say all words, and hear what comes; give it, or raise the reader's error, which has it."""
    heard: list[Any] = []
    refused: Exception | None = None
    with talk:
        try:
            for word in WORDS:
                talk.send(word)
            talk.send(bytes(size))
            talk.end_input()
        except errors.EndpointError as error:
            refused = error
        try:
            for part in talk:
                heard.append(part)
        except errors.EndpointError as error:
            assert error.received == tuple(heard)
            assert refused is None or type(refused) is type(error) or ENDED in str(refused)
            raise
    return heard


@pytest.mark.parametrize("fault", CASES)
def test_a_fault_ends_a_conversation_as_the_reference_says_and_the_next_one_works(
    direct_twin: Twin,  # noqa: F811
    fault: str,
) -> None:
    hooks = Diary()
    outcome = CASES[fault]
    timeout = Timeout(connect=PATIENCE, read=STALL_SECONDS if fault in STALLING else PATIENCE)
    with Emulator({NAME: echo}, piece_size=None) as emulator:
        endpoint = direct_twin.endpoint(emulator.url, timeout=timeout, hooks=hooks)
        emulator.inject(fault)
        try:
            parts = converse(endpoint.converse(), 100_000 if fault == "h2_window_closed" else 0)
        except errors.SmendpointError as error:
            assert type(error).__name__ == outcome
            assert (error.endpoint_name, error.attempts) == (NAME, 1)
            before_any = fault in BEFORE_ANY_PART or not fault.startswith("h2_")
            assert [part.text for part in error.received][:1] == ([] if before_any else [WORDS[0]])
            copy = pickle.loads(pickle.dumps(error))
            assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
            (told,) = hooks.ends
            assert type(told) is type(error)
        else:
            assert outcome == ""
            assert [part.text for part in parts] == [*WORDS, None]
            assert hooks.ends == [None]
        emulator.clear_faults()
        assert [part.text for part in converse(endpoint.converse())] == [*WORDS, None]
        direct_twin.settle()
        emulator.disconnected()


def test_the_reference_has_each_fault_of_a_conversation() -> None:
    expected = {name for fault in FAULTS.values() if "converse" in fault.operations for name in fault.examples}
    assert set(CASES) == expected
    assert {name for name in CASES.values() if name} <= set(errors.__all__)


def test_exactly_the_harmless_faults_of_conversations_alone_are_answered() -> None:
    for name, outcome in CASES.items():
        if name.startswith("h2_"):
            assert (outcome == "") == find_fault(name).harmless


# at the moment when it comes


@pytest.mark.parametrize("fault", ["h2_late_424", "h2_late_403"])
@pytest.mark.parametrize(("method", "arguments"), [("next", ()), ("send", (MEGABYTE * 3,))])
def test_a_refusal_ends_a_wait_while_the_input_is_open(
    direct_twin: Twin,  # noqa: F811
    fault: str,
    method: str,
    arguments: Any,
) -> None:
    with Emulator({NAME: echo}) as emulator:
        emulator.inject(fault)
        with direct_twin.endpoint(emulator.url).converse() as talk:
            talk.send("the first part")
            error = talk.beside(method, *arguments).outcome()
            assert type(error).__name__ == CASES[fault]
            assert (error.endpoint_name, error.attempts, error.received) == (NAME, 1, ())
            assert error.request_id
            for use in (lambda: next(talk), lambda: talk.send("b"), talk.end_input):
                with pytest.raises(type(error), match=re.escape(str(error))):
                    use()
            assert talk.iterator.request_id == error.request_id
        emulator.disconnected()


def test_a_refusal_is_raised_by_a_reader_and_a_sender_at_a_time(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator({NAME: echo}) as emulator:
        emulator.inject("h2_late_424")
        with direct_twin.endpoint(emulator.url).converse() as talk:
            talk.send("the first part")  # nobody reads yet, so that the refusal is for those who follow
            reading = talk.beside("list")
            sending = talk.beside("send", MEGABYTE * 3)
            for each in (reading, sending):
                assert isinstance(each.outcome(), errors.ModelError)
            assert reading.outcome() is not sending.outcome()


def test_a_signature_that_is_wrong_is_a_refusal_while_the_input_is_open(direct_twin: Twin) -> None:  # noqa: F811
    from smendpoint.emulator import Credentials

    with Emulator({NAME: echo}, credentials=Credentials("AKIDEXAMPLE", "AnotherSecret")) as emulator:
        with direct_twin.endpoint(emulator.url).converse() as talk:
            with pytest.raises(errors.AccessDeniedError) as caught:
                next(talk)
            assert caught.value.status == 403


def test_a_model_that_fails_is_a_refusal_before_its_first_part_and_ends_the_stream_after_it(
    direct_twin: Twin,  # noqa: F811
) -> None:
    async def model(talk: ModelConversation) -> None:
        async for part in talk:
            if part.text == "fail":
                raise ValueError("as asked")
            await talk.send("fine")

    with Emulator({NAME: model}) as emulator, direct_twin.endpoint(emulator.url) as endpoint:
        with endpoint.converse() as talk:
            talk.send("fail")
            with pytest.raises(errors.ModelError):
                next(talk)
        with endpoint.converse() as talk:
            talk.send("go")
            talk.send("fail")
            assert next(talk).text == "fine"
            with pytest.raises(errors.ModelStreamError, match="as asked") as caught:
                next(talk)
            assert caught.value.error_code == "StreamBroken"
            assert [part.text for part in caught.value.received] == ["fine"]


@pytest.mark.parametrize(
    "fault", ["h2_rst_stream", "h2_goaway", "h2_fin", "h2_reset", "h2_crc", "h2_model_stream_error"]
)
def test_parts_that_had_arrived_are_delivered_before_an_error_that_a_sender_found(
    direct_twin: Twin,  # noqa: F811
    fault: str,
) -> None:
    with Emulator({NAME: echo}) as emulator:
        emulator.inject(fault)
        with direct_twin.endpoint(emulator.url).converse() as talk:
            with pytest.raises(errors.StreamError):
                send_on(talk, "one", bytes(100_000))
            assert next(talk).text == "one"
            with pytest.raises(errors.StreamError) as caught:
                next(talk)
            assert [part.text for part in caught.value.received] == ["one"]
        emulator.disconnected()


def test_a_cut_says_how_the_connection_ended(direct_twin: Twin) -> None:  # noqa: F811
    says = {
        "h2_rst_stream": r"reset the stream \(INTERNAL_ERROR\)",
        "h2_goaway": r"ended the connection \(INTERNAL_ERROR\)",
        "h2_reset": "reset",
    }
    with Emulator({NAME: echo}) as emulator, direct_twin.endpoint(emulator.url) as endpoint:
        for fault, words in says.items():
            emulator.inject(fault, times=1)
            with pytest.raises(errors.StreamTruncatedError, match=words) as caught:
                converse(endpoint.converse())
            assert isinstance(caught.value.__cause__, errors.TransportError)


def test_an_end_of_file_is_a_cut_that_says_so(direct_twin: Twin) -> None:  # noqa: F811
    def serve(peer: Peer) -> None:
        peer.sock.recv(65_536)
        peer.send(SETTINGS + head_frame([(":status", "200")]))
        peer.sock.shutdown(socket.SHUT_WR)
        peer.gone()  # whatever the client still sends is read: otherwise its system might tell of a reset

    with Server(serve) as server, direct_twin.endpoint(server.url) as endpoint:
        with pytest.raises(errors.StreamTruncatedError, match="closed by the peer") as caught:
            converse(endpoint.converse())
        assert isinstance(caught.value.__cause__, errors.TransportError)


# time


def test_a_connection_that_does_not_come_counts_against_the_connect_time(direct_twin: Twin) -> None:  # noqa: F811
    with deaf_port() as port:
        talk = direct_twin.endpoint(f"http://127.0.0.1:{port}").converse(timeout=fast(connect=0.2))
        with pytest.raises(errors.ConnectError, match=r"within 0\.2 s") as caught:
            talk.open()
        assert not caught.value.request_sent


def test_a_total_that_passes_while_it_connects(direct_twin: Twin) -> None:  # noqa: F811
    with deaf_port() as port:
        talk = direct_twin.endpoint(f"http://127.0.0.1:{port}").converse(timeout=fast(total=0.2))
        with pytest.raises(errors.DeadlineExceededError) as caught:
            talk.open()
        assert not caught.value.request_sent


@pytest.mark.parametrize("timeout", [fast(read=STALL_SECONDS), fast(total=STALL_SECONDS)], ids=["read", "total"])
@pytest.mark.parametrize(("method", "arguments"), [("next", ()), ("send", (MEGABYTE,))])
def test_a_wait_in_vain_ends_with_the_limit_that_passed(
    direct_twin: Twin,  # noqa: F811
    timeout: Timeout,
    method: str,
    arguments: Any,
) -> None:
    with Emulator({NAME: mute}) as emulator:
        emulator.inject("h2_window_closed")
        with direct_twin.endpoint(emulator.url).converse(timeout=timeout) as talk:
            assert next(talk).text == "ready"
            error = talk.beside(method, *arguments).outcome()
            kind = errors.ReadTimeoutError if timeout.total is None else errors.DeadlineExceededError
            assert type(error) is kind
            assert [part.text for part in error.received] == ["ready"]
            if timeout.total is None:
                assert ("read nothing more of the request" in str(error)) == (method == "send")
            with pytest.raises(kind):
                talk.send("b")
            with pytest.raises(kind):
                next(talk)
        emulator.disconnected()


def test_a_total_that_passes_while_nobody_waits_is_raised_by_the_next_use(direct_twin: Twin) -> None:  # noqa: F811
    for use in (lambda talk: talk.send("b"), next, lambda talk: talk.end_input()):
        with Emulator({NAME: mute}) as emulator:
            with direct_twin.endpoint(emulator.url).converse(timeout=fast(total=STALL_SECONDS)) as talk:
                assert next(talk).text == "ready"
                over = time.monotonic() + STALL_SECONDS
                while time.monotonic() < over:
                    direct_twin.settle()
                with pytest.raises(errors.DeadlineExceededError) as caught:
                    use(talk)
                assert [part.text for part in caught.value.received] == ["ready"]
            emulator.disconnected()


def test_each_part_that_comes_gives_the_next_one_the_whole_read_time() -> None:
    async def slow(talk: ModelConversation) -> None:
        for word in WORDS:
            await asyncio.sleep(50)
            await talk.send(word)
        await asyncio.sleep(70)

    async def main(emulator: Emulator) -> None:
        endpoint = AsyncEndpoint(
            NAME,
            endpoint_url=emulator.url,
            region_name="us-east-1",
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="secret",
            timeout=Timeout(read=60),
        )
        async with endpoint, endpoint.converse() as talk:
            heard = [(await anext(talk)).text for _ in WORDS]
            assert heard == list(WORDS)
            with pytest.raises(errors.ReadTimeoutError):
                await anext(talk)

    with virtual_time() as time, Emulator({NAME: slow}) as emulator:
        run_virtual(main(emulator), time)


# bytes that no honest service sends


def answering(frames: bytes) -> Any:
    def serve(peer: Peer) -> None:
        peer.sock.recv(65_536)
        peer.send(frames)
        peer.gone()

    return serve


SETTINGS = b"\0\0\0\x04\0\0\0\0\0"


def head_frame(fields: list[tuple[str, str]], *, end: bool = False) -> bytes:
    import hpack

    block = hpack.Encoder().encode(fields)
    return len(block).to_bytes(3, "big") + b"\x01" + (b"\x05" if end else b"\x04") + b"\0\0\0\x01" + block


@pytest.mark.parametrize(
    ("frames", "kind", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", errors.ProtocolError, "not valid HTTP/2"),
        (SETTINGS + head_frame([(":status", "abc")]), errors.ProtocolError, "no valid status|not valid HTTP/2"),
        (SETTINGS + head_frame([("x", "y")]), errors.ProtocolError, "no valid status|not valid HTTP/2"),
        (SETTINGS + head_frame([(":status", "206")]), errors.ProtocolError, "206"),
        (
            SETTINGS + head_frame([(":status", "200"), ("content-encoding", "gzip")]),
            errors.ProtocolError,
            "gzip|compress|ncod",
        ),
        (SETTINGS + head_frame([(":status", "302"), ("location", "/x")], end=True), errors.ServiceError, "302"),
        (SETTINGS + b"\0\0\x08\x07\0\0\0\0\0" + bytes(8), errors.TransportError, "NO_ERROR"),
        (SETTINGS + b"\0\0\x08\x07\0\0\0\0\0" + bytes(7) + b"\x63", errors.TransportError, r"\(99\)"),
    ],
    ids=["http/1.1", "status", "no status", "206", "gzip", "302", "goaway", "unknown code"],
)
def test_an_answer_that_is_not_one_is_an_error(
    direct_twin: Twin,  # noqa: F811
    frames: bytes,
    kind: type[errors.EndpointError],
    says: str,
) -> None:
    with Server(answering(frames)) as server, direct_twin.endpoint(server.url).converse() as talk:
        with pytest.raises(kind, match=says) as caught:
            next(talk)
        assert caught.value.received == ()


def test_an_error_page_without_an_end_is_read_up_to_the_limit(direct_twin: Twin) -> None:  # noqa: F811
    data = b"\0\x20\0\0\0\0\0\0\x01" + bytes(8192)
    frames = SETTINGS + head_frame([(":status", "500")]) + data * 4
    with Server(answering(frames)) as server:
        endpoint = direct_twin.endpoint(server.url, max_response_bytes=10_000)
        with endpoint.converse() as talk, pytest.raises(errors.ServiceError) as caught:
            next(talk)
        assert caught.value.status == 500


def test_a_refusal_that_is_cut_is_still_the_refusal(direct_twin: Twin) -> None:  # noqa: F811
    def serve(peer: Peer) -> None:
        peer.sock.recv(65_536)
        peer.send(SETTINGS + head_frame([(":status", "503")]) + b"\0\0\x02\0\0\0\0\0\x01{}")
        peer.delivered()

    with Server(serve) as server, direct_twin.endpoint(server.url).converse() as talk:
        with pytest.raises(errors.ServiceError) as caught:
            next(talk)
        assert caught.value.status == 503


def test_repeated_headers_of_an_answer_are_joined(direct_twin: Twin) -> None:  # noqa: F811
    head = head_frame([(":status", "200"), ("x-a", "1"), ("x-a", "2")], end=True)
    with Server(answering(SETTINGS + head)) as server, direct_twin.endpoint(server.url).converse() as talk:
        assert list(talk) == []
        assert talk.iterator.headers == {"x-a": "1, 2"}


def test_an_answer_may_come_byte_by_byte(direct_twin: Twin) -> None:  # noqa: F811
    def serve(peer: Peer) -> None:
        peer.sock.recv(65_536)
        for byte in SETTINGS + head_frame([(":status", "200")], end=True):
            peer.send(bytes([byte]))
            peer.delivered()
        peer.gone()

    with Server(serve) as server, direct_twin.endpoint(server.url).converse() as talk:
        assert list(talk) == []


# sockets that are full, or broken


def frame(kind: int, payload: bytes, stream: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + stream.to_bytes(4, "big") + payload


# Windows of a gigabyte for each stream and for the connection.
WIDE = frame(4, b"\0\4\x40\0\0\0") + frame(8, b"\x40\0\0\0")
ENDED_HEAD = head_frame([(":status", "200")], end=True)


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("reads", [False, True], ids=["alone", "beside a reader"])
@pytest.mark.usefixtures("trusted")
def test_a_sender_waits_for_a_full_socket(direct_twin: Twin, secured: bool, reads: bool) -> None:  # noqa: F811
    full = threading.Event()

    def serve(peer: Peer) -> None:
        peer.keep_little_room()
        peer.sock.recv(10)
        peer.send(WIDE + head_frame([(":status", "200")]) + frame(0, encode_part(b"ready"), 1))
        full.wait(PATIENCE)
        latest = b""
        while not latest.endswith(END_OF_STREAM):  # an earlier end of the answer would cut what is still to be sent
            latest = latest[-len(END_OF_STREAM) :] + peer.sock.recv(1 << 20)
        peer.send(END_OF_STREAM)
        peer.gone()

    made = None
    if secured:
        made = server_context()
        made.set_alpn_protocols(["h2"])
    with Server(serve, tls=made) as server, direct_twin.endpoint(server.url).converse() as talk:
        assert next(talk).data == b"ready"
        reading = talk.beside("list") if reads else None
        sending = talk.beside("send", MEGABYTE * 8)
        over = time.monotonic() + PATIENCE
        while not waits_for_its_socket(talk.iterator):
            direct_twin.settle()
            assert time.monotonic() < over
        full.set()
        assert sending.outcome() is None
        talk.end_input()
        assert (list(talk) if reading is None else reading.outcome()) == []


def test_a_socket_that_stays_full_counts_against_the_read_time(direct_twin: Twin) -> None:  # noqa: F811
    def serve(peer: Peer) -> None:
        peer.keep_little_room()
        peer.sock.recv(10)
        peer.send(WIDE)
        over.wait(PATIENCE)

    over = threading.Event()
    with Server(serve) as server:
        talk = direct_twin.endpoint(server.url).converse(timeout=fast(read=STALL_SECONDS))
        with talk, pytest.raises(errors.ReadTimeoutError, match="read nothing more of the request"):
            talk.send(MEGABYTE * 8)
        over.set()


def test_what_had_arrived_before_a_reset_is_delivered(
    direct_twin: Twin,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_connection, "RECV_BYTES", 1000)  # so that one read does not bring all
    gone = threading.Event()

    def serve(peer: Peer) -> None:
        peer.sock.recv(65_536)
        unknown = frame(0x42, bytes(5000))
        part = encode_part(b"one")
        peer.send(SETTINGS + head_frame([(":status", "200")]) + unknown + frame(0, part, 1))
        peer.reset()
        gone.set()

    with Server(serve) as server, direct_twin.endpoint(server.url).converse() as talk:
        assert gone.wait(PATIENCE)  # the event loop does not run meanwhile
        assert next(talk).data == b"one"
        with pytest.raises(errors.StreamTruncatedError):
            next(talk)


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """For a service that sets it: asyncio's connections wait until then, and the event loop reads meanwhile."""
    connect, event = asyncio.BaseEventLoop.create_connection, threading.Event()

    async def connect_and_hear(*arguments: Any, **options: Any) -> Any:
        made = await connect(*arguments, **options)
        assert await asyncio.to_thread(event.wait, PATIENCE)
        return made

    monkeypatch.setattr(asyncio.BaseEventLoop, "create_connection", connect_and_hear)
    return event


def test_a_connection_that_has_ended_before_it_is_used_is_lost(
    direct_twin: Twin,  # noqa: F811
    spoken: threading.Event,
) -> None:
    def serve(peer: Peer) -> None:
        peer.sock.close()
        spoken.set()

    with Server(serve) as server, direct_twin.endpoint(server.url).converse() as talk:
        with pytest.raises(errors.TransportError, match="the connection was lost before an answer"):
            next(talk)


def test_a_service_may_speak_first(direct_twin: Twin, spoken: threading.Event) -> None:  # noqa: F811
    def serve(peer: Peer) -> None:
        peer.send(SETTINGS)
        peer.delivered()
        spoken.set()
        peer.sock.recv(65_536)
        peer.send(ENDED_HEAD)
        peer.gone()

    with Server(serve) as server, direct_twin.endpoint(server.url).converse() as talk:
        assert list(talk) == []


def test_an_event_loops_timer_that_is_early_is_still_the_total(direct_twin: Twin) -> None:  # noqa: F811
    if not direct_twin.asynchronous:
        return  # it has no timer
    with Emulator({NAME: mute}) as emulator:
        endpoint = direct_twin.endpoint(emulator.url, clock=FakeClock())  # on which nothing has passed
        with endpoint.converse(timeout=fast(total=STALL_SECONDS)) as talk:
            assert next(talk).text == "ready"
            with pytest.raises(errors.DeadlineExceededError):
                next(talk)
