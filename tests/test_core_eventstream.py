"""The event-stream codec: framing, meaning, and the refusal of anything else."""

from __future__ import annotations

import base64
import json
import random
from datetime import datetime
from struct import pack
from typing import Any
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer
from feeding import FUZZ, cut, drive, encode_part, mutated, repaired, same_in_every_cut
from hypothesis import given
from hypothesis import strategies as st
from vectors import require_vectors

from smendpoint._core.aws.eventheaders import Byte, HeaderValue, Long, Short, Timestamp, Uuid
from smendpoint._core.aws.eventstream import MAX_HEADERS, MAX_PAYLOAD, EventStreamDecoder, Message, encode, interpret
from smendpoint.errors import (
    ConfigurationError,
    InternalStreamFailureError,
    ModelStreamError,
    StreamDecodeError,
    StreamError,
    StreamTruncatedError,
)


class PartsDecoder(EventStreamDecoder):
    """The same decoder with `feed_parts` as its `feed`."""

    feed = EventStreamDecoder.feed_parts  # type: ignore[assignment]  # another item type, on purpose


def frame(block: bytes = b"", payload: bytes = b"", *, total: int | None = None, headers: int | None = None) -> bytes:
    """A frame with these bytes as headers, with lengths that may be wrong and checksums that are right."""
    size = 16 + len(block) + len(payload)
    lengths = pack(">II", size if total is None else total, len(block) if headers is None else headers)
    start = lengths + pack(">I", crc32(lengths)) + block + payload
    return start + pack(">I", crc32(start))


def exception(name: str, payload: bytes) -> bytes:
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return encode(headers, payload)


# The example of the AWS documentation's smallest message: no headers, no payload.
EMPTY = bytes.fromhex("00000010 00000000 05c248eb 7d98c8ff")


# --- framing


def test_the_smallest_frame_is_sixteen_bytes() -> None:
    assert encode({}) == EMPTY
    assert EventStreamDecoder().feed(EMPTY) == [Message({}, b"")]


def test_every_cut_of_a_stream_gives_the_same_messages() -> None:
    stream = encode_part(b"one") + EMPTY + encode({"a": True, "b": Uuid(16)}, b"two") + encode_part(b"")
    items, error, _ = same_in_every_cut(EventStreamDecoder, stream)
    assert [message.payload for message in items] == [b"one", b"", b"two", b""]
    assert error is None


def test_every_cut_of_a_stream_gives_the_same_parts() -> None:
    stream = encode_part(b"one") + encode({":message-type": "event", ":event-type": "New"}, b"x") + encode_part(b"two")
    assert same_in_every_cut(PartsDecoder, stream) == ([b"one", b"two"], None, "")


def test_a_stream_that_ends_inside_a_frame_is_truncated_wherever_it_ends() -> None:
    stream = encode_part(b"one") + encode_part(b"two")
    whole = {0: 0, len(stream) // 2: 1, len(stream): 2}
    for end in range(len(stream) + 1):
        items, error = drive(EventStreamDecoder(), [stream[:end]])
        if end in whole:
            assert (len(items), error) == (whole[end], None)
        else:
            assert len(items) == end // (len(stream) // 2)
            assert type(error) is StreamTruncatedError


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (bytes(12), "checksum over its lengths"),
        (EMPTY[:11] + b"\0" + EMPTY[12:], "checksum over its lengths"),
        (EMPTY[:-1] + b"\0", "bad checksum$"),
        (encode_part(b"x")[:-5] + b"y" + encode_part(b"x")[-4:], "bad checksum$"),
        (frame(total=0), "impossible lengths"),
        (frame(total=15), "impossible lengths"),
        (frame(b"12345", headers=6), "impossible lengths"),
        (frame(total=0xFFFFFFFF), "impossible lengths"),
        (frame(total=MAX_PAYLOAD + 17), "impossible lengths"),
        (frame(total=MAX_HEADERS + 17, headers=MAX_HEADERS + 1), "impossible lengths"),
        (frame(b"\x01n\xff"), "unknown type 255"),
        (frame(b"\x01n\x07\0\x01\xff"), "not UTF-8"),
        (frame(b"\x01n\x00\x01n\x00"), "same name"),
        (frame(b"\x01n"), "cut off"),
    ],
)
def test_a_bad_frame_ends_the_stream_in_every_cut_after_the_good_ones(bad: bytes, reason: str) -> None:
    good = encode_part(b"one")
    for make in (EventStreamDecoder, PartsDecoder):
        items, error, text = same_in_every_cut(make, good + bad + good)
        assert len(items) == 1
        assert error is StreamDecodeError
        with pytest.raises(StreamDecodeError, match=reason):
            raise StreamDecodeError(text)


def test_impossible_lengths_are_refused_before_the_frame_has_come() -> None:
    with pytest.raises(StreamDecodeError, match="impossible lengths"):
        EventStreamDecoder().feed(frame(total=MAX_PAYLOAD + 17)[:12])


def test_the_largest_frame_is_read() -> None:
    around = 5  # bytes of a header of type 6 beside its value, with a name of one letter
    headers = {"a": bytes(0xFFFF), "b": bytes(MAX_HEADERS - 0xFFFF - 2 * around)}
    data = encode(headers, bytes(MAX_PAYLOAD))
    assert len(data) == 16 + MAX_HEADERS + MAX_PAYLOAD
    assert len(EventStreamDecoder().feed(data)) == 1


@pytest.mark.parametrize(
    ("headers", "payload"), [({"a": bytes(0xFFFF), "b": bytes(0xFFFF)}, b""), ({}, bytes(MAX_PAYLOAD + 1))]
)
def test_a_frame_over_the_limits_is_not_made(headers: dict[str, HeaderValue], payload: bytes) -> None:
    with pytest.raises(ConfigurationError, match="at most"):
        encode(headers, payload)


def test_a_frame_of_16_mib_in_pieces_of_512_bytes_takes_linear_time() -> None:
    # A decoder that copied the earlier pieces with each piece would move 256 GiB here: the suite would not end.
    data = encode_part(bytes(16 * 1024 * 1024))
    items, error = drive(PartsDecoder(), cut(data, iter(lambda: 512, 0)))
    assert [len(item) for item in items] == [16 * 1024 * 1024]
    assert error is None


def test_headers_of_one_message_are_not_those_of_another() -> None:
    first, second = EventStreamDecoder().feed(encode_part(b"one") * 2)
    first.headers.clear()
    assert second.headers[":event-type"] == "PayloadPart"


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_may_come_as_a_bytearray_or_a_memoryview(kind: Any) -> None:
    assert EventStreamDecoder().feed_parts(kind(encode_part(b"one"))) == [b"one"]


def test_ever_changing_headers_do_not_fill_memory() -> None:
    decoder = EventStreamDecoder()
    for number in range(1000):
        assert decoder.feed(encode({"n": number})) == [Message({"n": number}, b"")]
    assert decoder.feed(encode({"n": "x" * 1000}))[0].headers == {"n": "x" * 1000}
    assert len(decoder._known) <= 32


INTS: list[Any] = [(Byte, 8), (Short, 16), (int, 32), (Long, 64), (Timestamp, 64)]
VALUES: st.SearchStrategy[HeaderValue] = st.one_of(
    st.booleans(),
    *(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).map(kind) for kind, bits in INTS),
    st.binary(max_size=300),
    st.text(max_size=300),
    st.binary(min_size=16, max_size=16).map(Uuid),
)
MESSAGES = st.tuples(st.dictionaries(st.text(min_size=1, max_size=60), VALUES, max_size=6), st.binary(max_size=300))


@given(st.lists(MESSAGES, max_size=4), st.randoms(use_true_random=False))
def test_encoded_messages_read_the_same_here_and_in_botocore(
    messages: list[tuple[dict[str, HeaderValue], bytes]], numbers: random.Random
) -> None:
    stream = b"".join(encode(headers, payload) for headers, payload in messages)
    oracle = EventStreamBuffer()
    oracle.add_data(stream)
    expected = [Message(event.headers, event.payload) for event in oracle]
    items, error = drive(EventStreamDecoder(), cut(stream, (numbers.randrange(1, 99) for _ in stream)))
    assert error is None
    assert items == expected == messages
    for item, (headers, _) in zip(items, messages, strict=True):
        assert [type(value) for value in item.headers.values()] == [type(value) for value in headers.values()]


# --- smithy's vectors

READ: dict[str, Any] = {
    "blob": base64.b64decode,
    "boolean": bool,
    "byte": Byte,
    "integer": int,
    "long": Long,
    "short": Short,
    "string": str,
    "timestamp": lambda text: Timestamp(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000),
    "uuid": lambda text: Uuid.fromhex(text.replace("-", "")),
}


def smithy_events() -> list[tuple[str, dict[str, Any]]]:
    path = require_vectors("smithy-restjson1") / "event-stream.json"
    cases = json.loads(path.read_text(encoding="utf-8"))
    return [(case["id"], event) for case in cases for event in case.get("events", [])]


def smithy_message(event: dict[str, Any]) -> Message:
    headers = {name: READ[kind](value) for name, typed in event["headers"].items() for kind, value in typed.items()}
    return Message(headers, event.get("body", "").encode())


def test_all_events_of_the_smithy_vectors_are_read() -> None:
    events = smithy_events()
    assert len(events) == 92
    for _, event in events:
        assert EventStreamDecoder().feed(base64.b64decode(event["bytes"])) == [smithy_message(event)]


def test_all_events_of_the_smithy_vectors_are_written_byte_by_byte() -> None:
    for _, event in smithy_events():
        assert encode(*smithy_message(event)) == base64.b64decode(event["bytes"])


def test_the_events_that_smithy_rejects_are_rejected() -> None:
    wrong = {f"{fault}{kind}Type" for fault in ("Missing", "Malformed") for kind in ("Message", "Event")}
    rejected = 0
    for name, event in smithy_events():
        data = base64.b64decode(event["bytes"])
        error = drive(PartsDecoder(), [data])[1]
        if any(part in name for part in wrong):
            assert type(error) is StreamDecodeError
            rejected += 1
        elif event["headers"][":message-type"] == {"string": "event"}:
            assert error is None
        else:
            assert type(error) is StreamError
    assert rejected == 16


# --- meaning


def test_an_event_of_an_unknown_type_is_skipped() -> None:
    message = Message({":message-type": "event", ":event-type": "Heartbeat"}, b"x")
    assert interpret(message) == b""
    assert EventStreamDecoder().feed_parts(encode(*message) + encode_part(b"y")) == [b"y"]


def test_the_payload_of_a_part_is_given_as_it_came() -> None:
    assert interpret(EventStreamDecoder().feed(encode_part(b"\xff\0"))[0]) == b"\xff\0"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {":event-type": "PayloadPart"},
        {":message-type": b"event", ":event-type": "PayloadPart"},
        {":message-type": "event"},
        {":message-type": "event", ":event-type": b"PayloadPart"},
        {":message-type": "event", ":event-type": 1},
        {":message-type": "initial", ":event-type": "PayloadPart"},
    ],
)
def test_a_message_of_no_known_kind_is_refused(headers: dict[str, HeaderValue]) -> None:
    with pytest.raises(StreamDecodeError):
        interpret(Message(headers, b"x"))
    with pytest.raises(StreamDecodeError):
        EventStreamDecoder().feed_parts(encode(headers, b"x"))


@pytest.mark.parametrize("code", ["ModelInvocationTimeExceeded", "StreamBroken"])
def test_a_model_stream_error_has_its_code_and_message(code: str) -> None:
    payload = json.dumps({"Message": "it took too long", "ErrorCode": code}).encode()
    with pytest.raises(ModelStreamError, match=f"{code}.*it took too long") as caught:
        EventStreamDecoder().feed_parts(exception("ModelStreamError", payload))
    assert caught.value.error_code == code


def test_an_internal_stream_failure_has_its_message() -> None:
    with pytest.raises(InternalStreamFailureError, match="try again"):
        EventStreamDecoder().feed_parts(exception("InternalStreamFailure", b'{"message": "try again"}'))


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"\xff", b"[]", b"null", b'{"Message": null, "ErrorCode": 5}', b"[" * 100_000, b"9" * 5000],
    ids=["empty", "cut", "not UTF-8", "list", "null", "other types", "deep", "long number"],
)
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ModelStreamError", ModelStreamError),
        ("InternalStreamFailure", InternalStreamFailureError),
        ("SomethingNew", StreamError),
    ],
)
def test_an_exception_whose_payload_cannot_be_read_has_its_class_still(
    name: str, kind: type[StreamError], payload: bytes
) -> None:
    with pytest.raises(StreamError) as caught:
        EventStreamDecoder().feed_parts(exception(name, payload))
    assert type(caught.value) is kind
    assert getattr(caught.value, "error_code", "") == ""


def test_an_exception_that_is_not_modelled_is_a_stream_error_with_its_name() -> None:
    with pytest.raises(StreamError, match=r"SomethingNew: oh") as caught:
        EventStreamDecoder().feed_parts(exception("SomethingNew", b'{"Message": "oh"}'))
    assert type(caught.value) is StreamError


def test_an_exception_without_a_name_is_a_stream_error() -> None:
    with pytest.raises(StreamError, match="an exception: oh"):
        interpret(Message({":message-type": "exception"}, b'{"Message": "oh"}'))


def test_an_error_message_is_a_stream_error_with_code_and_text() -> None:
    headers = {":message-type": "error", ":error-code": "InternalError", ":error-message": "broken"}
    with pytest.raises(StreamError, match="InternalError: broken") as caught:
        interpret(EventStreamDecoder().feed(encode(headers))[0])
    assert type(caught.value) is StreamError


def test_an_error_message_without_code_is_a_stream_error() -> None:
    with pytest.raises(StreamError, match="an error"):
        interpret(Message({":message-type": "error"}, b""))


def test_parts_before_an_exception_come_first_in_every_cut() -> None:
    stream = encode_part(b"one") + encode_part(b"two") + exception("InternalStreamFailure", b"{}") + encode_part(b"no")
    items, error, _ = same_in_every_cut(PartsDecoder, stream)
    assert items == [b"one", b"two"]
    assert error is InternalStreamFailureError


# --- anything


def test_mutated_streams_are_read_or_refused_with_our_error_and_no_frame_is_under_16_bytes() -> None:
    numbers = random.Random(20240229)
    all_types: dict[str, HeaderValue] = {
        "bool": True,
        "byte": Byte(1),
        "short": Short(1),
        "int": 1,
        "long": Long(1),
        "bytes": b"b",
        "str": "s",
        "time": Timestamp(1),
        "uuid": Uuid(16),
    }
    seeds = [
        EMPTY * 3,
        encode_part(b"one") + encode_part(b"two"),
        encode(all_types, b"payload"),
        encode_part(b"x") + exception("ModelStreamError", b'{"Message": "m", "ErrorCode": "c"}'),
        encode({":message-type": "error", ":error-code": "c", ":error-message": "m"}),
    ]
    accepted = 0
    for round_number in range(FUZZ):
        data = mutated(numbers.choice(seeds), numbers)
        stream = repaired(data) if round_number % 2 else data
        decoder = EventStreamDecoder()
        try:
            half = numbers.randrange(len(stream) + 1)
            messages = decoder.feed(stream[:half])
            messages += decoder.feed(stream[half:])
            assert 16 * len(messages) + sum(len(message.payload) for message in messages) <= len(stream)
            accepted += len(messages)
            for message in messages:
                interpret(message)
            decoder.finish()
        except StreamError:
            pass
    assert accepted > FUZZ // 10
