"""Bidirectional streams: what is sent against a second implementation of the signatures, and what is received."""

from __future__ import annotations

import asyncio
import codecs
import datetime
import gc
import hashlib
import hmac
import io
import json
import random
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from struct import pack, unpack_from
from types import SimpleNamespace
from typing import Any, NamedTuple
from zlib import crc32

import pytest
from feeding import FUZZ, cut, drive, mutated, repaired, same_in_every_cut
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._core.aws.conversation import ConversationPart, PartDecoder, PartEncoder
from smendpoint._core.aws.eventstream import MAX_PAYLOAD
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint.errors import (
    ConfigurationError,
    InternalStreamFailureError,
    ModelStreamError,
    StreamDecodeError,
    StreamError,
    StreamTruncatedError,
)

KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SEED = hashlib.sha256(b"the request").hexdigest()
WHEN = 1440938160.0  # 2015-08-30T12:36:00Z
MIDNIGHT = 1440979200.0  # 2015-08-31T00:00:00Z


# --- a second implementation, of the framing and the signatures


class Frame(NamedTuple):
    headers: dict[str, Any]
    types: dict[str, int]
    payload: bytes


def frames(data: bytes) -> Iterator[Frame]:
    """Take a stream apart, and assert that each checksum is right."""
    at = 0
    while at < len(data):
        total, size, checksum = unpack_from(">III", data, at)
        assert checksum == crc32(data[at : at + 8])
        assert unpack_from(">I", data, at + total - 4)[0] == crc32(data[at : at + total - 4])
        headers: dict[str, Any] = {}
        types: dict[str, int] = {}
        place, end = at + 12, at + 12 + size
        while place < end:
            after = place + 1 + data[place]
            name, kind = data[place + 1 : after].decode(), data[after]
            length = 8 if kind == 8 else unpack_from(">H", data, after + 1)[0]
            start = after + (1 if kind == 8 else 3)
            value = data[start : start + length]
            place = start + length
            headers[name] = value.decode() if kind == 7 else int.from_bytes(value, "big") if kind == 8 else value
            types[name] = kind
        assert place == end
        yield Frame(headers, types, data[end : at + total - 4])
        at += total


def code(key: bytes, message: str) -> bytes:
    return hmac.new(key, message.encode(), hashlib.sha256).digest()


def expected_signature(prior: str, frame: Frame, secret: str, region: str, service: str) -> bytes:
    milliseconds = frame.headers[":date"]
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(milliseconds // 1000))
    scope = [stamp[:8], region, service, "aws4_request"]
    date = b"\x05:date\x08" + milliseconds.to_bytes(8, "big")
    hashes = [hashlib.sha256(data).hexdigest() for data in (date, frame.payload)]
    key = f"AWS4{secret}".encode()
    for part in scope:
        key = code(key, part)
    return code(key, "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", stamp, "/".join(scope), prior, *hashes]))


class Receiver:
    """The service's side of one conversation: checks the signature of each message and gives the event in it."""

    def __init__(self, seed: str = SEED, region: str = "us-east-1", service: str = "sagemaker") -> None:
        self.prior = seed
        self.region = region
        self.service = service
        self.milliseconds = 0

    def read(self, message: bytes, secret: str = KEYS.secret_key) -> Frame | None:
        """Check one message; ``None`` for the end of the input."""
        (frame,) = frames(message)
        assert frame.types == {":date": 8, ":chunk-signature": 6}
        signature = frame.headers[":chunk-signature"]
        assert signature == expected_signature(self.prior, frame, secret, self.region, self.service)
        self.prior = signature.hex()
        self.milliseconds = frame.headers[":date"]
        if not frame.payload:
            return None
        (event,) = frames(frame.payload)
        return event


def answer(payload: bytes, **headers: str | bytes | bool) -> bytes:
    """Make a ``PayloadPart`` event as the service sends it, with these headers beside the usual ones."""
    return message(
        {":message-type": "event", ":event-type": "PayloadPart", ":content-type": "application/octet-stream"} | headers,
        payload,
    )


def message(headers: dict[str, Any], payload: bytes) -> bytes:
    block = b""
    for name, value in headers.items():
        block += bytes([len(name)]) + name.encode()
        if isinstance(value, bool):
            block += b"\0" if value else b"\1"
        else:
            data = value.encode() if isinstance(value, str) else value
            block += (b"\7" if isinstance(value, str) else b"\6") + pack(">H", len(data)) + data
    lengths = pack(">II", 16 + len(block) + len(payload), len(block))
    start = lengths + pack(">I", crc32(lengths)) + block + payload
    return start + pack(">I", crc32(start))


def exception(name: str, content: dict[str, str]) -> bytes:
    headers = {":message-type": "exception", ":exception-type": name, ":content-type": "application/json"}
    return message(headers, json.dumps(content).encode())


TEXT = {"DataType": "UTF8"}
PARTIAL = {"CompletionState": "PARTIAL"}


# --- what is sent


def encoder(**arguments: Any) -> PartEncoder:
    return PartEncoder(**{"region": "us-east-1", "seed": SEED, **arguments})


def joined(pieces: list[bytes | memoryview]) -> bytes:
    return b"".join(pieces)


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("partial", [False, True])
def test_a_part_is_an_event_with_its_kind_in_a_signed_message(text: bool, partial: bool) -> None:
    pieces = encoder().part(b"content", text=text, partial=partial, credentials=KEYS, timestamp=WHEN)
    event = Receiver().read(joined(pieces))
    assert event == Frame(
        {
            ":message-type": "event",
            ":event-type": "PayloadPart",
            ":content-type": "application/octet-stream",
            "DataType": "UTF8" if text else "BINARY",
            "CompletionState": "PARTIAL" if partial else "COMPLETE",
        },
        dict.fromkeys((":message-type", ":event-type", ":content-type", "DataType", "CompletionState"), 7),
        b"content",
    )


def test_ten_thousand_parts_are_one_chain_over_midnight_and_renewed_credentials() -> None:
    numbers = random.Random(20251001)
    sender, receiver, keys = encoder(), Receiver(), KEYS
    timestamp, days = MIDNIGHT - 100, set()
    for number in range(10_000):
        if number % 700 == 699:
            keys = Credentials(f"ASIA{number}", f"secret{number}", f"token{number}")
        payload = numbers.randbytes(numbers.choice((0, 1, 2, 160, 640, 641, 4096)))
        text, partial = number % 2 == 0, number % 3 == 0
        event = receiver.read(
            joined(sender.part(payload, text=text, partial=partial, credentials=keys, timestamp=timestamp)),
            keys.secret_key,
        )
        assert event is not None
        assert event.payload == payload
        assert event.headers["DataType"] == ("UTF8" if text else "BINARY")
        assert event.headers["CompletionState"] == ("PARTIAL" if partial else "COMPLETE")
        assert receiver.milliseconds == int(timestamp * 1000)
        days.add(receiver.milliseconds // 86_400_000)
        timestamp += 0.02
    assert len(days) == 2
    assert receiver.read(sender.end(credentials=keys, timestamp=timestamp), keys.secret_key) is None


SIZES = [
    size + more for size in (0, 16_384, 32_768, 65_536, 131_072, 524_288) for more in (-1, 0, 1) if size + more >= 0
]


@pytest.mark.parametrize("size", SIZES)
def test_a_part_of_any_size_is_signed_and_the_next_one_after_it(size: int) -> None:
    payload = random.Random(size).randbytes(size)
    sender, receiver = encoder(), Receiver()
    for _ in range(2):
        pieces = sender.part(payload, text=False, partial=False, credentials=KEYS, timestamp=WHEN)
        event = receiver.read(joined(pieces))
        assert event is not None
        assert event.payload == payload
    assert receiver.read(sender.end(credentials=KEYS, timestamp=WHEN)) is None


def test_a_large_payload_is_not_copied() -> None:
    payload = bytes(1024 * 1024)
    pieces = encoder().part(payload, text=False, partial=False, credentials=KEYS, timestamp=WHEN)
    assert [piece.obj for piece in pieces if isinstance(piece, memoryview)] == [payload]
    assert all(piece.obj is payload if isinstance(piece, memoryview) else len(piece) < 1024 for piece in pieces)


def test_a_payload_that_no_frame_can_hold_is_refused_and_the_chain_goes_on() -> None:
    sender, receiver = encoder(), Receiver()
    for size in (MAX_PAYLOAD, MAX_PAYLOAD + 1):  # the first fits into its event, but not the event into its message
        with pytest.raises(ConfigurationError, match="at most"):
            sender.part(bytes(size), text=False, partial=False, credentials=KEYS, timestamp=WHEN)
    event = receiver.read(joined(sender.part(b"x", text=False, partial=False, credentials=KEYS, timestamp=WHEN)))
    assert event is not None


@pytest.mark.parametrize(
    ("timestamp", "milliseconds"),
    [
        (WHEN, 1_440_938_160_000),
        (WHEN + 0.5, 1_440_938_160_500),
        (WHEN + 0.9999, 1_440_938_160_999),
        (1440979199.9999998, 1_440_979_199_999),  # the last moment of the day
        (MIDNIGHT, 1_440_979_200_000),
        (1440938160, 1_440_938_160_000),
    ],
)
def test_the_date_is_in_whole_milliseconds_and_its_second_is_signed(timestamp: float, milliseconds: int) -> None:
    receiver = Receiver()
    assert receiver.read(encoder().end(credentials=KEYS, timestamp=timestamp)) is None
    assert receiver.milliseconds == milliseconds


@pytest.mark.parametrize("seed", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "\u0660" * 64])
def test_a_seed_that_is_not_a_signature_is_refused(seed: str) -> None:
    with pytest.raises(ConfigurationError, match="64 lower-case hexadecimal digits"):
        encoder(seed=seed)


@given(
    st.sampled_from(["us-east-1", "eu-central-1"]),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    st.lists(
        st.tuples(
            st.binary(max_size=300),
            st.booleans(),
            st.booleans(),
            st.text(st.characters(min_codepoint=0x21, max_codepoint=0x2FFF, exclude_categories=["Zs", "Zl", "Zp"])).map(
                lambda text: f"s{''.join(text.split())}"
            ),
            st.floats(0, 4e9),
        ),
        max_size=5,
    ),
)
def test_any_region_seed_secret_and_time_gives_the_chain_of_the_second_implementation(
    region: str, seed: str, parts: list[tuple[bytes, bool, bool, str, float]]
) -> None:
    sender = PartEncoder(region=region, seed=seed, service="other")
    receiver = Receiver(seed, region, "other")
    for payload, text, partial, secret, timestamp in parts:
        keys = Credentials("AKID", secret)
        pieces = sender.part(payload, text=text, partial=partial, credentials=keys, timestamp=timestamp)
        event = receiver.read(joined(pieces), secret)
        assert event is not None
        assert event.payload == payload


def test_the_signers_of_aws_make_the_same_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.version_info < (3, 12):
        pytest.skip("AWS's signer of events needs Python 3.12")
    signers = pytest.importorskip("aws_sdk_signers.signers", reason="needs aws-sdk-signers")
    events = pytest.importorskip("smithy_aws_event_stream.events", reason="needs smithy-aws-event-stream")
    numbers = random.Random(8443)
    now = datetime.datetime.fromtimestamp(MIDNIGHT - 2, datetime.timezone.utc)

    clock = SimpleNamespace(now=lambda zone: now)
    monkeypatch.setattr(signers, "datetime", SimpleNamespace(datetime=clock, UTC=datetime.timezone.utc))
    theirs = signers.AsyncEventSigner(initial_signature=SEED.encode(), event_encoder_cls=events.EventHeaderEncoder)
    properties = {"region": "us-east-1", "service": "sagemaker"}
    identity = Keys(KEYS.access_key, KEYS.secret_key)
    ours = encoder()
    for number in range(200):
        payload = numbers.randbytes(numbers.randrange(2000))
        inner = {
            ":message-type": "event",
            ":event-type": "PayloadPart",
            ":content-type": "application/octet-stream",
            "DataType": "UTF8" if number % 2 else "BINARY",
            "CompletionState": "PARTIAL" if number % 3 else "COMPLETE",
        }
        event = events.EventMessage(headers=inner, payload=payload)
        expected = asyncio.run(theirs.sign(event=event, identity=identity, properties=properties)).encode()
        pieces = ours.part(
            payload, text=number % 2 > 0, partial=number % 3 > 0, credentials=KEYS, timestamp=now.timestamp()
        )
        assert joined(pieces) == expected
        outer = events.Event.decode(io.BytesIO(joined(pieces)))
        assert events.Event.decode(io.BytesIO(outer.message.payload)).message.payload == payload
        now += datetime.timedelta(microseconds=numbers.randrange(40_000))
    end = asyncio.run(theirs.sign_empty(event=events.EventMessage(), identity=identity, properties=properties))
    assert ours.end(credentials=KEYS, timestamp=now.timestamp()) == end.encode()
    assert now.timestamp() > MIDNIGHT


class Keys(NamedTuple):
    access_key_id: str
    secret_access_key: str
    session_token: str | None = None
    expiration: None = None


# --- what is received


def part(data: bytes, text: str | None = None, *, partial: bool = False) -> ConversationPart:
    return ConversationPart(data, text, partial)


MIXED = (
    answer(b"\xff\0", DataType="BINARY", CompletionState="COMPLETE")
    + answer("gr\u00fc".encode(), DataType="UTF8", CompletionState="COMPLETE", P="padding")
    + answer(b"a\xf0\x9f", **TEXT, **PARTIAL)
    + message({":message-type": "event", ":event-type": "Heartbeat"}, b"x")
    + answer(b"\x98\x80b", **TEXT)
    + answer(b"")
)
MIXED_PARTS = [
    part(b"\xff\0"),
    part("gr\u00fc".encode(), "gr\u00fc"),
    part(b"a\xf0\x9f", "a", partial=True),
    part(b"\x98\x80b", "\U0001f600b"),
    part(b""),
]


def test_every_cut_of_an_answer_gives_the_same_parts() -> None:
    assert same_in_every_cut(PartDecoder, MIXED) == (MIXED_PARTS, None, "")


def test_a_part_says_its_sizes_and_does_not_show_its_content() -> None:
    assert repr(part(b"secret")) == "<ConversationPart of 6 bytes (binary)>"
    assert repr(part("gr\u00fc".encode(), "gr\u00fc", partial=True)) == (
        "<ConversationPart of 4 bytes (3 characters), partial>"
    )


def test_a_part_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="cannot be changed"):
        part(b"x").data = b"y"


@pytest.mark.parametrize(
    ("headers", "text", "partial"),
    [
        ({}, None, False),
        ({"DataType": "UTF8"}, "x", False),
        ({"CompletionState": "PARTIAL"}, None, True),
        ({"DataType": "UTF16", "CompletionState": "ABANDONED"}, None, False),
        ({"DataType": "utf8", "CompletionState": "partial"}, None, False),
        ({"DataType": b"UTF8", "CompletionState": b"PARTIAL"}, None, False),
        ({"DataType": True, "CompletionState": False}, None, False),
        ({"DataType": "", "CompletionState": ""}, None, False),
    ],
    ids=str,
)
def test_a_part_of_an_unknown_kind_is_delivered_as_binary_and_complete(
    headers: dict[str, Any], text: str | None, partial: bool
) -> None:
    assert PartDecoder().feed(answer(b"x", **headers)) == [part(b"x", text, partial=partial)]


@pytest.mark.parametrize("name", [":message-type", ":event-type", ":exception-type", "DataType", "CompletionState"])
def test_a_header_of_the_wrong_type_is_no_foreign_error_where_python_forbids_to_compare_it(name: str) -> None:
    headers: dict[str, Any] = {":message-type": "exception" if "exception" in name else "event"}
    data = message({**headers, ":event-type": "PayloadPart", name: b"x"}, b"{}")
    script = (
        "from smendpoint._core.aws.conversation import PartDecoder\nfrom smendpoint.errors import StreamError\n"
        f"try: PartDecoder().feed({data!r})\nexcept StreamError: pass"
    )
    ran = subprocess.run([sys.executable, "-bb", "-c", script], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


STORY = "a\u00e9\u20ac\U0001f600z\u0301\ufeff"


def test_a_text_cut_anywhere_into_partial_parts_has_each_character_once() -> None:
    data = STORY.encode()
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            pieces = [data[:first], data[first:second], data[second:]]
            states: list[dict[str, Any]] = [PARTIAL, PARTIAL, {}]
            stream = b"".join(answer(piece, **TEXT, **state) for piece, state in zip(pieces, states, strict=True))
            parts, error = drive(PartDecoder(), [stream])
            assert error is None
            assert [item.data for item in parts] == pieces
            whole = [data[:end].decode(errors="ignore") for end in (first, second, len(data))]
            assert ["".join(item.text for item in parts[: count + 1]) for count in range(3)] == whole


@pytest.mark.parametrize("state", [{}, PARTIAL], ids=["complete", "partial"])
@pytest.mark.parametrize("bad", [b"\xff", b"ok\xc3(", b"\xed\xa0\x80", b"\xc0\x80"])
def test_a_text_that_is_not_utf8_fails_after_the_parts_before_it(bad: bytes, state: dict[str, str]) -> None:
    stream = answer(b"one", **TEXT) + answer(bad, **TEXT, **state) + answer(b"three", **TEXT)
    items, error, text = same_in_every_cut(PartDecoder, stream)
    assert items == [part(b"one", "one")]
    assert error is StreamDecodeError
    assert "not UTF-8" in text


def test_a_complete_text_that_ends_inside_a_character_is_refused() -> None:
    stream = answer(b"a\xe2\x82", **TEXT, **PARTIAL) + answer(b"", **TEXT)
    items, error, text = same_in_every_cut(PartDecoder, stream)
    assert items == [part(b"a\xe2\x82", "a", partial=True)]
    assert error is StreamDecodeError
    assert "unexpected end" in text


def test_a_binary_part_inside_a_character_does_not_disturb_the_text() -> None:
    stream = answer(b"\xe2", **TEXT, **PARTIAL) + answer(b"\xff") + answer(b"\x82\xac", **TEXT)
    assert PartDecoder().feed(stream) == [
        part(b"\xe2", "", partial=True),
        part(b"\xff"),
        part(b"\x82\xac", "\u20ac"),
    ]


def test_an_answer_that_ends_inside_a_frame_or_a_character_is_truncated() -> None:
    stream = answer(b"one", **TEXT) + answer(b"\xe2\x82", **TEXT, **PARTIAL)
    for end in range(1, len(stream) + 1):
        error = drive(PartDecoder(), [stream[:end]])[1]
        assert type(error) is (StreamTruncatedError if end != len(answer(b"one", **TEXT)) else type(None))


def test_an_answer_that_ends_after_a_partial_part_is_whole() -> None:
    assert drive(PartDecoder(), [answer(b"one", **TEXT, **PARTIAL)]) == ([part(b"one", "one", partial=True)], None)


@pytest.mark.parametrize(
    ("bad", "kind", "reason"),
    [
        (
            exception("ModelStreamError", {"Message": "m", "ErrorCode": "StreamBroken"}),
            ModelStreamError,
            "StreamBroken",
        ),
        (exception("InternalStreamFailure", {"Message": "try again"}), InternalStreamFailureError, "try again"),
        (exception("SomethingNew", {"Message": "oh"}), StreamError, "SomethingNew: oh"),
        (message({":message-type": "error", ":error-code": "E", ":error-message": "m"}, b""), StreamError, "E: m"),
        (message({":message-type": "other"}, b""), StreamDecodeError, "neither"),
        (message({}, b""), StreamDecodeError, "message-type"),
        (bytes(12), StreamDecodeError, "checksum"),
    ],
    ids=["model", "service", "new", "error", "other", "none", "broken"],
)
def test_a_failure_is_raised_after_the_parts_before_it_and_again_at_each_call(
    bad: bytes, kind: type[StreamError], reason: str
) -> None:
    items, error, text = same_in_every_cut(PartDecoder, MIXED + bad + MIXED)
    assert items == MIXED_PARTS
    assert error is kind
    assert reason in text
    decoder = PartDecoder()
    assert decoder.feed(MIXED + bad) == MIXED_PARTS
    assert type(decoder.error) is kind
    for _ in range(2):
        with pytest.raises(kind, match=reason):
            decoder.feed(MIXED)
        with pytest.raises(kind, match=reason):
            decoder.finish()


def test_a_failure_without_parts_before_it_is_raised_at_once() -> None:
    with pytest.raises(ModelStreamError) as caught:
        PartDecoder().feed(exception("ModelStreamError", {"Message": "m", "ErrorCode": "StreamBroken"}))
    assert caught.value.error_code == "StreamBroken"


@pytest.mark.parametrize(
    "bad",
    [answer(b"\xff", **TEXT), exception("ModelStreamError", {"Message": "m"}), message({"": "x"}, b""), bytes(12)],
    ids=["not UTF-8", "exception", "header", "checksum"],
)
def test_a_kept_failure_does_not_hold_the_decoder_in_a_cycle(bad: bytes) -> None:
    class Watched(PartDecoder):
        pass

    gc.disable()
    try:
        decoder = Watched()
        assert decoder.feed(answer(b"x") + bad) == [part(b"x")]
        assert decoder.error is not None
        watch = weakref.ref(decoder)
        del decoder
        assert watch() is None
    finally:
        gc.enable()


KINDS = st.tuples(st.sampled_from(["UTF8", "BINARY", None]), st.sampled_from(["PARTIAL", "COMPLETE", None]))


@given(st.lists(st.tuples(KINDS, st.text(max_size=20), st.binary(max_size=20))), st.randoms(use_true_random=False))
def test_any_answer_is_read_as_it_was_written(
    events: list[tuple[tuple[str | None, str | None], str, bytes]], numbers: random.Random
) -> None:
    stream, expected = b"", []
    for (kind, state), text, data in events:
        headers: dict[str, Any] = {} if kind is None else {"DataType": kind}
        if state is not None:
            headers["CompletionState"] = state
        if numbers.random() < 0.2:
            headers["P"] = "p" * numbers.randrange(9)
        payload = text.encode() if kind == "UTF8" else data
        stream += answer(payload, **headers)
        expected.append(part(payload, text if kind == "UTF8" else None, partial=state == "PARTIAL"))
    pieces = cut(stream, (numbers.randrange(1, 99) for _ in stream))
    assert drive(PartDecoder(), pieces) == (expected, None)


def test_what_is_sent_can_be_read_as_an_answer() -> None:
    sender, receiver = encoder(), Receiver()
    stream = b""
    for item in MIXED_PARTS:
        pieces = sender.part(
            item.data, text=item.text is not None, partial=item.partial, credentials=KEYS, timestamp=WHEN
        )
        receiver.read(joined(pieces))
        (outer,) = frames(joined(pieces))
        stream += outer.payload
    assert PartDecoder().feed(stream) == MIXED_PARTS


# --- anything


def test_every_flipped_bit_is_refused_after_the_parts_before_it() -> None:
    for place in range(len(MIXED)):
        for bit in range(8):
            data = bytearray(MIXED)
            data[place] ^= 1 << bit
            items, error = drive(PartDecoder(), [bytes(data)])
            assert isinstance(error, (StreamDecodeError, StreamTruncatedError))
            assert items == MIXED_PARTS[: len(items)]
            assert len(items) < len(MIXED_PARTS)


def test_mutated_events_are_read_or_refused_with_our_error_and_nothing_is_invented() -> None:
    numbers = random.Random(20251001)
    seeds = [
        MIXED,
        answer(STORY.encode(), **TEXT, **PARTIAL) + answer(STORY.encode(), **TEXT),
        answer(b"x") + exception("ModelStreamError", {"Message": "m", "ErrorCode": "c"}),
    ]
    accepted = 0
    for number in range(FUZZ):
        data = mutated(numbers.choice(seeds), numbers)
        stream = repaired(data) if number % 4 else data
        half = numbers.randrange(len(stream) + 1)
        parts, error = drive(PartDecoder(), [stream[:half], stream[half:]])
        accepted += error is None
        assert sum(16 + len(item.data) for item in parts) <= len(stream)
        characters = codecs.getincrementaldecoder("utf-8")()
        for item in parts:
            if item.text is not None:
                assert item.text == characters.decode(item.data, not item.partial)
    assert FUZZ // 50 < accepted < FUZZ // 2
