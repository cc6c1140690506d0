"""One HTTP/2 stream without I/O, against the server's side of the library `h2` in memory, and against mutated bytes."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import hpack
import pytest
from feeding import FUZZ, cut, mutated, repaired, ways
from hypothesis import given
from hypothesis import strategies as st
from test_core_conversation import TEXT, answer, exception

from smendpoint import errors
from smendpoint._core.aws.conversation import PartDecoder
from smendpoint._transport.http2 import MAX_UNREAD_REPLIES, Http2Stream

REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "localhost"),
    (":path", "/endpoints/voice/invocations-bidirectional-stream"),
    ("content-type", "application/vnd.amazon.eventstream"),
]
HEAD = [(":status", "200"), ("content-type", "application/vnd.amazon.eventstream")]
WINDOW = 65_535
FRAME = 16_384
# Kinds of frames, by the numbers of RFC 9113.
DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 5, 6, 7, 8


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def head(*fields: tuple[str, str], end: bool = False) -> bytes:
    return frame(HEADERS, 5 if end else 4, 1, hpack.Encoder().encode(fields or HEAD))  # type: ignore[arg-type]  # it takes any


def stream(begun: Callable[[int, Mapping[str, str]], object] | None = None, limit: int | None = None) -> Http2Stream:
    return Http2Stream(REQUEST, begun or (lambda status, headers: None), limit)


def begun(limit: int | None = None) -> Http2Stream:
    """A stream whose head has gone out, and which the service's settings have reached."""
    made = stream(limit=limit)
    assert made.to_send().startswith(b"PRI * HTTP/2.0")
    made.feed(frame(SETTINGS, 0, 0))
    return made


class Service:
    """The other side, in memory.

    Attributes:
        reads: whether it lets the client send more when something has come.
        body: what has come of the request's body.
        ended: whether the body has ended.
        reset: the code with which the client gave the stream up.
    """

    def __init__(self, **settings: int) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        codes = {h2.settings.SettingCodes[name]: value for name, value in settings.items()}
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=codes)
        self.h2.initiate_connection()
        self.reads = True
        self.body = b""
        self.ended = False
        self.reset: Any = None
        self.pushes: Any = None

    def feed(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self.body += event.data
                if self.reads and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended = True
            elif isinstance(event, h2.events.StreamReset):
                self.reset = event.error_code
            elif isinstance(event, h2.events.RemoteSettingsChanged):
                changed = event.changed_settings.get(h2.settings.SettingCodes.ENABLE_PUSH)
                self.pushes = changed.new_value if changed else self.pushes


def exchange(client: Http2Stream, service: Service, numbers: random.Random | None = None) -> None:
    """Carry bytes both ways, cut at random, until neither side has any."""
    dice = numbers or random.Random(0)
    moved = True
    while moved:
        moved = False
        for data, feed in ((client.to_send(), service.feed), (service.h2.data_to_send(), client.feed)):
            moved = moved or bool(data)
            for piece in cut(data, iter(lambda: dice.choice((1, 9, 100, 70_000)), 0)):
                feed(piece)


# --- both directions


@given(
    out=st.lists(st.binary(max_size=500).map(lambda data: data * 100), max_size=4),
    back=st.lists(st.binary(max_size=500).map(lambda data: data * 100), max_size=4),
    window=st.sampled_from([0, 1, 7, 16_383, WINDOW, 2**31 - 1]),
    size=st.sampled_from([FRAME, 20_000, 2**24 - 1]),
    padding=st.sampled_from([None, 0, 200]),
    seed=st.integers(0, 2**32),
)
def test_both_bodies_arrive_whole_whatever_the_windows_and_the_pieces(
    out: list[bytes], back: list[bytes], window: int, size: int, padding: int | None, seed: int
) -> None:
    dice = random.Random(seed)
    client, service = stream(), Service(INITIAL_WINDOW_SIZE=window, MAX_FRAME_SIZE=size)
    exchange(client, service, dice)
    service.h2.send_headers(1, HEAD)
    received = b""
    left = b"".join(back)
    for piece in out:
        client.queue([piece, b""])
    client.queue([], end=True)
    while not (service.ended and not left):
        exchange(client, service, dice)
        received += client.take()
        if not service.ended and service.h2.remote_flow_control_window(1) == 0:
            service.h2.increment_flow_control_window(dice.choice((1, 50, 100_000)) if window else 100_000, 1)
        room = min(
            len(left), FRAME - (padding or -1) - 1, service.h2.local_flow_control_window(1) - (padding or -1) - 1
        )
        if left and room > 0:
            service.h2.send_data(1, left[:room], pad_length=padding)
            left = left[room:]
    service.h2.end_stream(1)
    exchange(client, service, dice)
    received += client.take()
    assert (received, service.body) == (b"".join(back), b"".join(out))
    assert client.ended
    assert client.failure is None
    assert not client.cut
    assert client.sent == len(service.body)


@given(
    windows=st.lists(st.sampled_from([0, 1, 100, WINDOW, 100_000]), min_size=1, max_size=6),
    sizes=st.lists(st.sampled_from([FRAME, 16_385, 2**24 - 1]), min_size=1, max_size=6),
    seed=st.integers(0, 2**32),
)
def test_settings_that_change_in_the_middle_hold_from_then_on(windows: list[int], sizes: list[int], seed: int) -> None:
    dice = random.Random(seed)
    client, service = stream(), Service()
    exchange(client, service, dice)
    client.queue([bytes(400_000)], end=True)
    for window, size in zip(windows, sizes, strict=False):
        service.h2.update_settings(
            {
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window,
                h2.settings.SettingCodes.MAX_FRAME_SIZE: size,
                h2.settings.SettingCodes.HEADER_TABLE_SIZE: dice.choice((0, 4096, 65_536)),
            }
        )
        exchange(client, service, dice)
    service.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW})
    exchange(client, service, dice)
    assert client.failure is None
    assert service.body == bytes(400_000)
    assert service.ended


def test_nothing_is_sent_before_the_peer_makes_room() -> None:
    client, service = stream(), Service(INITIAL_WINDOW_SIZE=0)
    service.reads = False
    exchange(client, service)
    client.queue([b"Hello"], end=True)
    exchange(client, service)
    assert (service.body, service.ended, client.pending) == (b"", False, True)
    service.h2.increment_flow_control_window(3, 1)
    exchange(client, service)
    assert (service.body, service.ended, client.pending) == (b"Hel", False, True)
    service.h2.increment_flow_control_window(2, 1)
    exchange(client, service)
    assert (service.body, service.ended, client.pending) == (b"Hello", True, False)


def test_the_peer_gets_no_more_room_than_the_reader_makes() -> None:
    client, service = stream(), Service()
    exchange(client, service)
    service.h2.send_headers(1, HEAD)
    while (room := min(service.h2.local_flow_control_window(1), FRAME)) > 0:
        service.h2.send_data(1, bytes(room))
        exchange(client, service)
    assert len(client.take()) == WINDOW
    exchange(client, service)
    assert service.h2.local_flow_control_window(1) == WINDOW


@pytest.mark.parametrize("status", ["200", "500"])
def test_padding_without_data_does_not_use_the_windows_up(status: str) -> None:
    client, service = begun(), head((":status", status))
    client.feed(service)
    for _ in range(2 * WINDOW // 256):
        client.feed(frame(DATA, 8, 1, b"\xff" + bytes(255)))
        client.to_send()
    assert client.failure is None
    assert not client.readable
    client.feed(frame(DATA, 9, 1, b"\xff" + b"x" + bytes(255)))
    assert client.take() == (b"x" if status == "200" else b"")


def test_what_waits_for_the_reader_takes_its_own_size_in_however_small_frames_it_came() -> None:
    client = begun()
    client.feed(head())
    some = frame(DATA, 0, 1, b"xy")
    tracemalloc.start()
    try:
        for _ in range(8000):
            client.feed(some)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(client.take()) == 16_000
    assert held < 65_536


# --- the answer


def test_the_head_is_passed_on_with_repeated_fields_joined() -> None:
    heads = []
    client = stream(lambda status, headers: heads.append((status, headers)))
    client.feed(frame(SETTINGS, 0, 0) + head((":status", "201"), ("a", "1"), ("b", "2"), ("a", "3")))
    assert heads == [(201, {"a": "1, 3", "b": "2"})]
    assert (client.status, client.headers) == heads[0]


def test_informational_answers_and_trailers_are_read_over() -> None:
    client, service = stream(), Service()
    exchange(client, service)
    service.h2.send_headers(1, [(":status", "103"), ("link", "x")])
    exchange(client, service)
    assert client.status == 0
    service.h2.send_headers(1, HEAD)
    service.h2.send_data(1, b"Hello")
    service.h2.send_headers(1, [("checksum", "1")], end_stream=True)
    exchange(client, service)
    assert client.ended
    assert client.headers == {"content-type": "application/vnd.amazon.eventstream"}
    assert client.take() == b"Hello"


def test_the_answer_s_end_is_the_end_although_the_stream_is_then_reset() -> None:
    client = begun()
    client.feed(head() + frame(DATA, 1, 1, b"Hello") + frame(RST_STREAM, 0, 1, bytes(4)))
    assert (client.ended, client.failure, client.take()) == (True, None, b"Hello")


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (frame(RST_STREAM, 0, 1, b"\0\0\0\x08"), r"reset the stream \(CANCEL\)"),
        (frame(RST_STREAM, 0, 1, b"\0\0\xff\xff"), r"reset the stream \(65535\)"),
        (frame(GOAWAY, 0, 0, b"\0\0\0\x01\0\0\0\x0b"), r"ended the connection \(ENHANCE_YOUR_CALM\)"),
        (frame(DATA, 0, 1, bytes(FRAME + 1)), "a frame of 16385 bytes"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "a frame of 4740180 bytes"),
        (frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2\x82"), "not valid HTTP/2"),
        (2 * frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"), r"reset the stream \(FLOW_CONTROL_ERROR\)"),
        (2 * frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), "not valid HTTP/2"),
        (frame(SETTINGS, 0, 0, b"\0\4\x80\0\0\0"), "not valid HTTP/2"),
        (
            frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff") + frame(SETTINGS, 0, 0, b"\0\4\x7f\xff\xff\xff"),
            "valid HTTP/2",
        ),
        (b"".join(frame(DATA, 0, 1, bytes(FRAME)) for _ in range(5)), "not valid HTTP/2"),
        (frame(HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff"), "not valid HTTP/2"),
    ],
)
def test_what_came_before_a_failure_is_still_read(end: bytes, message: str) -> None:
    whole = head() + frame(DATA, 0, 1, b"Hello") + end
    for pieces in ways(whole) if len(whole) < 1000 else [[whole], list(cut(whole, iter(lambda: 999, 0)))]:
        client = begun()
        client.queue([bytes(100_000)])
        client.to_send()
        for piece in pieces:
            client.feed(piece)
        assert client.take().startswith(b"Hello")
        assert client.failure is not None
        assert client.failure.response_started  # type: ignore[attr-defined]  # all of these are of the connection
        assert client.cut
        assert client.over
        client.reset()
        client.queue([b"more"])
        assert not client.pending
        client.to_send()
        with pytest.raises(errors.TransportError, match=message):
            raise client.failure


def test_a_reset_tells_the_peer_and_drops_the_body() -> None:
    client, service = stream(), Service()
    exchange(client, service)
    client.queue([bytes(1_000_000)])
    client.reset()
    exchange(client, service)
    assert service.reset == h2.errors.ErrorCodes.CANCEL
    assert service.body == b""
    assert client.cut


def test_the_service_is_told_not_to_push() -> None:
    client, service = stream(), Service()
    exchange(client, service)
    assert service.pushes == 0


@pytest.mark.parametrize("asks", [frame(PING, 0, 0, bytes(8)), frame(SETTINGS, 0, 0)], ids=["PING", "SETTINGS"])
def test_a_peer_that_asks_for_replies_and_does_not_read_them_is_given_up(asks: bytes) -> None:
    client = begun()
    times = MAX_UNREAD_REPLIES // len(frame(PING, 0, 0, bytes(8))) - 3
    for _ in range(3):
        client.feed(asks * times)
        assert client.failure is None
        client.to_send()
    client.feed(asks * (MAX_UNREAD_REPLIES // 9 + 1))
    assert isinstance(client.failure, errors.ProtocolError)
    assert "does not read them" in str(client.failure)
    assert len(client.to_send()) < MAX_UNREAD_REPLIES + 1000


# --- refusals

REFUSAL = b'{"Message": "no such model"}'
REFUSED = [(":status", "400"), ("x-amzn-errortype", "ValidationException")]


@pytest.mark.parametrize(
    "end",
    [
        frame(DATA, 1, 1),
        frame(RST_STREAM, 0, 1, bytes(4)),
        frame(GOAWAY, 0, 0, bytes(8)),
        frame(SETTINGS, 0, 0, b"\0\4\x80\0\0\0"),
        None,
    ],
    ids=["END_STREAM", "RST_STREAM", "GOAWAY", "nonsense", "lost"],
)
def test_a_refusal_is_the_error_however_its_answer_ends(end: bytes | None) -> None:
    for pieces in ways(head(*REFUSED) + frame(DATA, 0, 1, REFUSAL) + (end or b"")):
        client = begun()
        for piece in pieces:
            client.feed(piece)
        if end is None:
            assert not client.over
            client.lost(ConnectionResetError())
        assert isinstance(client.failure, errors.ValidationError)
        assert "no such model" in str(client.failure)
        assert client.take() == b""
        assert not client.ended


def test_a_long_refusal_is_cut_at_its_limit_and_may_be_longer_than_a_window() -> None:
    client, service = stream(limit=200_000), Service()
    exchange(client, service)
    service.h2.send_headers(1, [(":status", "400")])
    for _ in range(12):
        service.h2.send_data(1, b"x" * FRAME)
        exchange(client, service)
    assert not client.over
    service.h2.send_data(1, b"x" * FRAME)
    exchange(client, service)
    assert isinstance(client.failure, errors.EndpointError)


def test_a_head_that_is_refused_ends_the_stream() -> None:
    def refuse(status: int, headers: Mapping[str, str]) -> None:
        raise errors.ProtocolError("not this")

    client = stream(refuse)
    client.feed(frame(SETTINGS, 0, 0) + head() + frame(DATA, 0, 1, b"Hello"))
    assert str(client.failure) == "not this"
    assert client.take() == b""
    client = begun()
    client.feed(head((":status", "2xx")))
    assert isinstance(client.failure, errors.ProtocolError)
    assert "no valid status" in str(client.failure)


# --- mutated bytes


def recorded() -> list[list[bytes]]:
    """Answers, each a list of frames, as a service sends them."""
    small = [answer(b"Hello", **TEXT), answer(bytes(300)), answer("héllo".encode(), **TEXT, CompletionState="PARTIAL")]
    large = answer(bytes(range(256)) * 80)
    failed = exception("ModelStreamError", {"Message": "broken", "ErrorCode": "ModelInvocationTimeExceeded"})
    opening = [frame(SETTINGS, 0, 0, b"\0\3\0\0\0\x80\0\4\0\1\0\0"), frame(SETTINGS, 1, 0)]
    room = [frame(WINDOW_UPDATE, 0, 0, b"\0\0\x40\0"), frame(PING, 0, 0, b"01234567")]
    pieces = [large[start : start + FRAME] for start in range(0, len(large), FRAME)]
    return [
        [*opening, head(), *(frame(DATA, 0, 1, part) for part in small), *room, frame(DATA, 1, 1)],
        [*opening, head(), *room, *(frame(DATA, 0, 1, part) for part in pieces), frame(DATA, 1, 1, small[0])],
        [*opening, head((":status", "103")), head(), frame(DATA, 8, 1, b"\2" + small[0] + b"\0\0")],
        [*opening, head(), frame(DATA, 0, 1, small[0]), frame(RST_STREAM, 0, 1, b"\0\0\0\2")],
        [*opening, head(), frame(DATA, 0, 1, small[0] + failed), frame(DATA, 1, 1)],
        [*opening, head(*REFUSED), frame(DATA, 1, 1, REFUSAL)],
        [*opening, head(), frame(GOAWAY, 0, 0, bytes(8))],
    ]


def restructured(frames: list[bytes], dice: random.Random) -> list[bytes]:
    """The same frames with one left out, doubled, moved, cut short, or with other bytes in its head or its payload."""
    changed = list(frames)
    for _ in range(dice.randrange(1, 4)):
        place = dice.randrange(len(changed))
        change = dice.randrange(7)
        if change == 0:
            del changed[place]
            changed = changed or [b""]
        elif change == 1:
            changed.insert(dice.randrange(len(changed) + 1), changed[place])
        elif change == 2:
            changed.insert(dice.randrange(len(changed)), changed.pop(place))
        elif change == 3:
            changed[place] = changed[place][: dice.randrange(len(changed[place]) + 1)]
        elif change == 4 and changed[place]:
            changed[place] = mutated(changed[place][:9], dice) + changed[place][9:]
        elif change == 5 and len(changed[place]) > 9:
            # A whole frame around other bytes, which may be an event with right checksums.
            payload = mutated(changed[place][9:], dice)
            payload = repaired(payload) if dice.random() < 0.5 else payload
            changed[place] = len(payload[:FRAME]).to_bytes(3, "big") + changed[place][3:9] + payload[:FRAME]
        elif change == 6:
            changed[place] = frame(dice.randrange(11), dice.randrange(256), dice.randrange(4), dice.randbytes(8))
    return changed


def fuzzed(dice: random.Random, answers: list[list[bytes]]) -> bytes:
    frames = dice.choice(answers)
    data = b"".join(restructured(frames, dice))
    return mutated(data, dice) if data and dice.random() < 0.3 else data


def pieces_of(data: bytes, dice: random.Random) -> Iterator[bytes]:
    way = dice.randrange(4)
    if way == 0:
        return iter([data])
    if way == 1 and len(data) < 600:
        return (data[place : place + 1] for place in range(len(data)))
    return cut(data, iter(lambda: dice.randrange(1, 200 if way == 2 else 20_000), 0))


def outcome(client: Http2Stream, pieces: Iterator[bytes], dice: random.Random) -> tuple[Any, ...]:
    """Read an answer as a conversation does: the parts, and the error that ended them.

    `random` moments of the reader, the sender and the end must not matter, but for what the peer is told.
    """
    decoder, parts, failure = PartDecoder(), [], None
    client.queue([bytes(3), memoryview(bytes(20_000))])
    for piece in pieces:
        client.feed(piece)
        if dice.random() < 0.3:
            client.to_send()
    client.to_send()
    client.lost(None)
    try:
        if data := client.take():
            parts = decoder.feed(data)
        if client.ended:
            decoder.finish()
        failure = client.failure
    except errors.StreamError as error:
        failure = error
    client.queue([b"late"], end=True)
    client.reset()
    client.to_send()
    assert client.over
    assert client.take() == b""
    return parts, type(failure), str(failure), client.status, client.headers


def test_mutated_answers_give_parts_or_our_errors_in_whatever_pieces_they_come() -> None:
    dice, answers, ended, count = random.Random(FUZZ), recorded(), {}, max(FUZZ // 20, 500)
    for _ in range(count):
        data = fuzzed(dice, answers)
        expected = outcome(stream(), iter([data]), dice)
        assert outcome(stream(), pieces_of(data, dice), dice) == expected
        ended[expected[1]] = ended.get(expected[1], 0) + 1
    for kind in (type(None), errors.ProtocolError, errors.TransportError, errors.ValidationError):
        assert ended[kind] > count // 1000, ended
    assert all(kind is type(None) or issubclass(kind, errors.EndpointError) for kind in ended)
