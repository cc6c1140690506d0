"""The bytes that each fault puts on the wire."""

from __future__ import annotations

import gzip
import json
import re
import struct
import zlib
from collections.abc import Iterator

import pytest
from emulator_client import DATE, ID, NOW, RawClient, chunks, head, plain, request, stream_head
from feeding import encode_part

from smendpoint.emulator import FAULTS, Emulator
from smendpoint.emulator._connection import Connection
from smendpoint.emulator.faults import find_fault
from smendpoint.errors import ConfigurationError

BODY = '{"said":"hé"}'.encode()
PARTS = [b"one", b"two", b"three"]
ONE, TWO, THREE = map(encode_part, PARTS)


def model(asked: object) -> bytes | list[bytes]:
    return PARTS if asked.streaming else BODY  # type: ignore[attr-defined]  # a ModelRequest


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


END = b"0\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
STREAM = stream_head() + CHUNKED + chunk(ONE) + chunk(TWO) + chunk(THREE) + END
HALF = BODY[: len(BODY) // 2]


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(model, piece_size=None, clock=lambda: NOW) as emulator:
        yield emulator


def raw_header(name: bytes, value: bytes, kind: int = 7, length: int | None = None) -> bytes:
    size = len(value) if length is None else length
    return bytes([len(name)]) + name + bytes([kind]) + struct.pack(">H", size) + value


def raw_frame(headers: bytes, payload: bytes = b"...", total: int | None = None) -> bytes:
    lengths = struct.pack(">II", 16 + len(headers) + len(payload) if total is None else total, len(headers))
    frame = lengths + struct.pack(">I", zlib.crc32(lengths)) + headers + payload
    return frame + struct.pack(">I", zlib.crc32(frame))


def flip(data: bytes, index: int) -> bytes:
    changed = bytearray(data)
    changed[index] ^= 1
    return bytes(changed)


def other(status: str, headers: bytes, body: bytes = b"") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\n".encode()
        + b"x-amzn-RequestId: %b\r\nDate: %b\r\n" % (ID, DATE)
        + headers
        + f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


def error(status: str, code: str, message: str, extra: bytes = b"") -> bytes:
    error_type = f"x-amzn-ErrorType: {code}\r\n".encode() if code else b""
    headers = error_type + b"Content-Type: application/json\r\n" + extra
    return other(status, headers, json.dumps({"Message": message}).encode())


MESSAGE, PART = raw_header(b":message-type", b"event"), raw_header(b":event-type", b"PayloadPart")
EXCEPTION = raw_header(b":content-type", b"application/json") + raw_header(b":message-type", b"exception")


def second(frame: bytes, *after: bytes) -> bytes:
    return stream_head() + CHUNKED + b"".join(chunk(data) for data in (ONE, frame, *after)) + END


def exception(name: bytes, payload: bytes) -> bytes:
    return raw_frame(raw_header(b":exception-type", name) + EXCEPTION, payload)


HTML = b"<!DOCTYPE html><html><body>Please log in</body></html>"
TOO_LARGE = other(
    "413 Request Entity Too Large",
    b"Content-Type: text/html\r\nConnection: close\r\n",
    b"<html><head><title>413 Request Entity Too Large</title></head><body></body></html>",
)
GARBAGE = b"SMTP/1.0 welcome\r\nContent-Length: 0\r\n\r\n"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </model>; rel=preload\r\n\r\n"
INFORMATION = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </model>\r\n\r\n"
)
REDIRECT = other("307 Temporary Redirect", b"Location: /endpoints/elsewhere/invocations\r\n")
HUGE = b"X-Huge: " + b"h" * 200_000 + b"\r\n"
ALL_FRAMES = ONE + TWO + THREE


def length(more: int, tail: bytes = b"") -> bytes:
    return b"Content-Length: %d%b\r\n\r\n" % (len(ALL_FRAMES) + more, tail) + ALL_FRAMES


def compressed(body: bytes) -> bytes:
    data = gzip.compress(body, mtime=0)
    return b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(data) + data


def container(body: bytes) -> bytes:
    return other("424 Failed Dependency", b"Content-Type: application/json\r\n", body)


TGI_FULL = '{"error":"Model is overloaded","error_type":"overloaded"}'
TRITON_FULL = '{"error":"[request id: <id_unknown>] Exceeds maximum queue size"}'
TENSORFLOW_FULL = '{"error":"The batch scheduling queue to which this task was submitted is full"}'


def refusal(side: str, status: int, said: str) -> bytes:
    """A container's refusal, as the service hands it on."""
    message = f'Received {side} error ({status}) from primary with message "{said}". See the logs.'
    body = json.dumps({"Message": message, "OriginalStatusCode": status, "OriginalMessage": said})
    return other(
        "424 Failed Dependency",
        b"x-amzn-ErrorType: ModelError\r\nContent-Type: application/json\r\n",
        body.encode(),
    )


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: upgrade\r\n\r\n"
UNTIL_CLOSE = b"Connection: close\r\n\r\n"


# The name, the kinds of requests, the bytes of the answer, the end of the connection.
WIRE: list[tuple[str, str, bytes, str]] = [
    ("reset_before_headers", "invoke stream", b"", "reset"),
    ("fin_before_headers", "invoke stream", b"", "fin"),
    ("stall_before_headers", "invoke stream", b"", "stall"),
    ("garbage_status_line", "invoke stream", GARBAGE, "fin"),
    ("status_103_first", "invoke", EARLY_HINTS + plain(BODY), "open"),
    ("status_103_first", "stream", EARLY_HINTS + STREAM, "open"),
    ("status_1xx_first", "invoke", INFORMATION + plain(BODY), "open"),
    ("status_1xx_first", "stream", INFORMATION + STREAM, "open"),
    ("redirect", "invoke stream", REDIRECT, "open"),
    ("header_huge", "invoke", head() + HUGE + b"Content-Length: 14\r\n\r\n" + BODY, "open"),
    ("header_huge", "stream", stream_head() + HUGE + STREAM.removeprefix(stream_head()), "open"),
    ("content_length_long", "invoke", plain(BODY, length="24"), "fin"),
    ("content_length_long", "stream", stream_head() + length(10), "fin"),
    ("content_length_short", "invoke", plain(BODY, length="11"), "open"),
    ("content_length_short", "stream", stream_head() + length(-3), "open"),
    ("content_length_bad", "invoke", plain(BODY, length="14abc"), "open"),
    ("content_length_bad", "stream", stream_head() + length(0, b"abc"), "open"),
    (
        "chunk_size_bad",
        "invoke",
        head() + CHUNKED + chunk(HALF) + b"xyz\r\n" + BODY.removeprefix(HALF) + b"\r\n",
        "stall",
    ),
    ("chunk_size_bad", "stream", stream_head() + CHUNKED + chunk(ONE) + b"xyz\r\n" + TWO + b"\r\n", "stall"),
    ("no_terminator", "invoke", head() + CHUNKED + chunk(HALF) + chunk(BODY.removeprefix(HALF)), "fin"),
    ("no_terminator", "stream", STREAM.removesuffix(END), "fin"),
    ("reset_mid_stream", "invoke", plain(BODY)[:-7], "reset"),
    ("reset_mid_stream", "stream", stream_head() + CHUNKED + chunk(ONE), "reset"),
    ("stall_mid_stream", "invoke", plain(BODY)[:-7], "stall"),
    ("stall_mid_stream", "stream", stream_head() + CHUNKED + chunk(ONE), "stall"),
    ("fin_mid_frame", "invoke", plain(BODY)[:-4], "fin"),
    ("fin_mid_frame", "stream", stream_head() + CHUNKED + chunk(ONE) + chunk(TWO[: len(TWO) // 2]), "fin"),
    ("html_200", "invoke stream", other("200 OK", b"Content-Type: text/html\r\n", HTML), "open"),
    ("partial_206", "invoke", plain(BODY).replace(b"200 OK", b"206 Partial Content", 1), "open"),
    ("partial_206", "stream", STREAM.replace(b"200 OK", b"206 Partial Content", 1), "open"),
    ("gzip_200", "invoke", head() + compressed(BODY), "open"),
    ("gzip_200", "stream", stream_head() + compressed(ALL_FRAMES), "open"),
    ("switch_101", "invoke stream", SWITCH, "fin"),
    ("status_line_000", "invoke", b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n", "fin"),
    ("until_close_reset", "invoke", head() + UNTIL_CLOSE + BODY, "reset"),
    ("until_close_reset", "stream", stream_head() + UNTIL_CLOSE + ALL_FRAMES, "reset"),
    ("error_list", "invoke", container(b'[{"Message": "This is a fault."}]'), "open"),
    ("error_nan", "stream", container(b"NaN"), "open"),
    ("error_utf8", "invoke", container(b'{"Message": "\xff"}'), "open"),
    ("error_deep", "stream", container(b"[" * 200_000), "open"),
    (
        "expired_then_ok",
        "invoke",
        error(
            "403 Forbidden",
            "ExpiredTokenException",
            "The security token included in the request is expired",
        ),
        "open",
    ),
    ("early_413", "invoke stream", TOO_LARGE, "fin"),
    ("early_413_reset", "invoke", TOO_LARGE, "reset"),
    ("idle_death", "invoke", plain(BODY), "fin"),
    ("idle_death", "stream", STREAM, "fin"),
    ("idle_reset", "invoke", plain(BODY), "reset"),
    ("idle_reset", "stream", STREAM, "reset"),
    ("drip", "invoke", plain(BODY), "open"),
    ("drip_0", "stream", STREAM, "open"),
    ("slice_7", "invoke", plain(BODY), "open"),
    ("slice_7", "stream", STREAM, "open"),
    ("status_502", "invoke", error("502 Bad Gateway", "", "This is a fault."), "open"),
    ("status_400_ValidationError", "stream", error("400 Bad Request", "ValidationError", "This is a fault."), "open"),
    ("status_530", "invoke", error("530 Unknown", "", "This is a fault."), "open"),
    (
        "throttle_then_ok_1",
        "invoke",
        error("429 Too Many Requests", "ThrottlingException", "Rate exceeded"),
        "open",
    ),
    (
        "throttle_400_then_ok_1",
        "invoke",
        other(
            "400 Bad Request",
            b"x-amzn-ErrorType: ThrottlingException\r\nContent-Type: application/json\r\n",
            b'{"message":null}',
        ),
        "open",
    ),
    (
        "not_ready_then_ok_1",
        "invoke",
        error("429 Too Many Requests", "ModelNotReadyException", "The model is still being loaded."),
        "open",
    ),
    (
        "no_capacity_then_ok_1",
        "invoke",
        error(
            "400 Bad Request",
            "ValidationError",
            "Inference Component has no capacity to process this request. ApplicationAutoScaling may be in-progress "
            "(if configured) or try to increase the capacity by invoking UpdateInferenceComponentRuntimeConfig API.",
        ),
        "open",
    ),
    (
        "retry_after_2",
        "invoke",
        error("503 Service Unavailable", "ServiceUnavailable", "Come back later.", b"Retry-After: 2\r\n"),
        "open",
    ),
    (
        "amz_retry_after_1500",
        "invoke",
        error("503 Service Unavailable", "ServiceUnavailable", "Come back later.", b"x-amz-retry-after: 1500\r\n"),
        "open",
    ),
    ("frame_cut_clean_end", "stream", second(TWO[: len(TWO) // 2]), "open"),
    ("crc_prelude", "stream", second(flip(TWO, 11), THREE), "open"),
    ("crc_message", "stream", second(flip(TWO, -1), THREE), "open"),
    ("frame_zero", "stream", second(raw_frame(b"", b"", 0) + TWO, THREE), "open"),
    ("frame_tiny", "stream", second(raw_frame(b"", b"", 15) + TWO, THREE), "open"),
    ("frame_huge", "stream", second(raw_frame(MESSAGE + PART, b"", 0x7FFFFFFF) + TWO, THREE), "open"),
    ("header_utf8", "stream", second(raw_frame(MESSAGE + raw_header(b":event-type", b"Payload\xff")), THREE), "open"),
    ("header_type", "stream", second(raw_frame(MESSAGE + PART + raw_header(b"new", b"thing", 10)), THREE), "open"),
    (
        "header_cut",
        "stream",
        second(raw_frame(MESSAGE + raw_header(b":event-type", b"PayloadPart", length=500)), THREE),
        "open",
    ),
    ("header_dup", "stream", second(raw_frame(MESSAGE + PART + PART), THREE), "open"),
    ("no_message_type", "stream", second(raw_frame(PART), THREE), "open"),
    ("no_event_type", "stream", second(raw_frame(MESSAGE), THREE), "open"),
    (
        "message_type_number",
        "stream",
        second(raw_frame(bytes([13]) + b":message-type" + bytes([4, 0, 0, 0, 7]) + PART), THREE),
        "open",
    ),
    (
        "unknown_event",
        "stream",
        second(raw_frame(MESSAGE + raw_header(b":event-type", b"Heartbeat"), b'{"alive":true}') + TWO, THREE),
        "open",
    ),
    (
        "exception_known",
        "stream",
        second(
            exception(
                b"ModelStreamError",
                b'{"Message": "The model took too long.", "ErrorCode": "ModelInvocationTimeExceeded"}',
            )
        ),
        "open",
    ),
    ("exception_internal", "stream", second(exception(b"InternalStreamFailure", b'{"Message": "Our fault."}')), "open"),
    ("exception_unknown", "stream", second(exception(b"NeverHeardOfIt", b'{"Message": "Something new."}')), "open"),
    ("exception_badjson", "stream", second(exception(b"ModelStreamError", b"{'not': json")), "open"),
    ("exception_empty", "stream", second(exception(b"ModelStreamError", b"")), "open"),
    (
        "error_frame",
        "stream",
        second(
            raw_frame(
                raw_header(b":message-type", b"error")
                + raw_header(b":error-code", b"InternalError")
                + raw_header(b":error-message", b"An internal error."),
                b"",
            )
        ),
        "open",
    ),
    ("overload_tgi", "invoke", refusal("client", 429, TGI_FULL), "open"),
    ("overload_tei", "invoke stream", refusal("client", 429, TGI_FULL), "open"),
    ("overload_triton", "invoke", refusal("client", 400, TRITON_FULL), "open"),
    ("overload_tensorflow", "invoke", plain(TENSORFLOW_FULL.encode()), "open"),
    ("utf8_invalid", "invoke", plain(BODY[:7] + b"\xff\xfe" + BODY[7:]), "open"),
]


@pytest.mark.parametrize(
    ("name", "kinds", "expected", "ending"), WIRE, ids=[f"{name}-{kinds}" for name, kinds, *_ in WIRE]
)
def test_a_fault_puts_exactly_this_on_the_wire(
    emulator: Emulator, name: str, kinds: str, expected: bytes, ending: str
) -> None:
    for kind in kinds.split():
        emulator.inject(name)
        with RawClient(emulator) as client:
            assert client.send(request(kind)).read(len(expected)) == expected
            assert client.ends(ending)
        emulator.disconnected()
        emulator.clear_faults()


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if "<" not in name])
def test_every_fault_has_a_description_and_operations(name: str) -> None:
    fault = FAULTS[name]
    assert fault.name == name
    assert fault.description
    assert fault.operations <= {"invoke", "stream", "async", "openai", "converse"}
    assert fault.examples == (name,)


def test_every_example_of_a_fault_is_a_fault_of_the_same_kind() -> None:
    for template in FAULTS.values():
        for name in template.examples:
            fault = find_fault(name)
            assert (fault.description, fault.operations, fault.harmless) == (
                template.description,
                template.operations,
                template.harmless,
            )


@pytest.mark.parametrize(
    "name",
    ["", "nonsense", "status_<n>[_<code>]", "status_20", "slice_0", "slice_", "throttle_then_ok_0", "status_200"],
)
def test_a_fault_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        find_fault(name)


def test_refuse_takes_no_connection_until_faults_are_cleared_and_keeps_the_port(emulator: Emulator) -> None:
    port = emulator.port
    with RawClient(emulator) as client:
        client.exchange(request())
        emulator.inject("refuse")
        emulator.inject("refuse")
        assert client.ends("reset")
    with pytest.raises(ConnectionRefusedError):
        RawClient(emulator)
    emulator.clear_faults()
    with RawClient(emulator) as client:
        assert client.exchange(request())[1] == BODY
    assert emulator.port == port


def test_an_emulator_that_is_stopped_while_it_refuses_lets_go_of_the_port() -> None:
    emulator = Emulator(model).start()
    emulator.inject("refuse")
    emulator.stop()
    with Emulator(model, port=emulator.port) as other_emulator, RawClient(other_emulator) as client:
        assert client.exchange(request())[1] == BODY


def test_refuse_before_the_start_holds_after_it() -> None:
    emulator = Emulator(model)
    emulator.inject("refuse")
    with emulator:
        with pytest.raises(ConnectionRefusedError):
            RawClient(emulator)
        emulator.clear_faults()
        with RawClient(emulator) as client:
            assert client.exchange(request())[1] == BODY


@pytest.mark.parametrize("arguments", [{"times": 1}, {"endpoint_name": "my-llm"}])
def test_refuse_cannot_be_limited(emulator: Emulator, arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        emulator.inject("refuse", **arguments)  # type: ignore[arg-type]  # two arguments of different types


@pytest.mark.parametrize(
    ("faults", "statuses"),
    [
        ([("throttle_then_ok_2", None)], ["429", "429", "200", "200"]),
        ([("status_500", 1)], ["500", "200"]),
        ([("status_500", 1), ("status_503", 1)], ["500", "503", "200"]),
    ],
    ids=["counts itself", "limited", "in order"],
)
def test_faults_are_played_in_order_each_as_often_as_it_says(
    emulator: Emulator, faults: list[tuple[str, int | None]], statuses: list[str]
) -> None:
    for name, times in faults:
        emulator.inject(name, times=times)
    with RawClient(emulator) as client:
        assert [client.exchange(request())[0].decode().split()[1] for _ in statuses] == statuses
    played = [received.fault for received in emulator.requests if received.fault]
    assert set(played) == {name for name, _ in faults}
    assert len(played) == len([status for status in statuses if status != "200"])


@pytest.mark.parametrize(("name", "times"), [("status_500", 0), ("throttle_then_ok_2", 2)])
def test_times_that_make_no_sense_are_refused(emulator: Emulator, name: str, times: int) -> None:
    with pytest.raises(ConfigurationError):
        emulator.inject(name, times=times)


def test_a_fault_for_one_endpoint_leaves_the_others_alone(emulator: Emulator) -> None:
    emulator.inject("status_500", endpoint_name="other")
    with RawClient(emulator) as client:
        assert client.exchange(request())[0].split()[1] == b"200"
        assert client.exchange(request(path="/endpoints/other/invocations"))[0].split()[1] == b"500"


def test_a_fault_leaves_operations_alone_that_it_is_not_for(emulator: Emulator) -> None:
    emulator.inject("crc_message")
    with RawClient(emulator) as client:
        assert client.exchange(request())[1] == BODY


def test_reuse_reset_waits_for_the_next_request(emulator: Emulator) -> None:
    emulator.inject("reuse_reset", times=1)
    with RawClient(emulator) as client:
        assert client.exchange(request())[1] == BODY
        client.send(request()[:5])
        assert client.ends("reset")
    assert len(emulator.requests) == 1


def test_skewed_date_refuses_other_clocks_until_the_client_takes_the_servers(emulator: Emulator) -> None:
    emulator.inject("skewed_date")
    with RawClient(emulator) as client:
        refused, body = client.exchange(request(headers=("X-Amz-Date: 20231114T221320Z",)))
        assert re.search(rb"Date: ([^\r]+)", refused)[1] == b"Tue, 14 Nov 2023 23:13:20 GMT"  # type: ignore[index]
        assert refused.split()[1] == b"403"
        assert json.loads(body)["Message"] == "Signature expired: 20231114T221320Z is now earlier than 20231114T230820Z"
        accepted, _ = client.exchange(request(headers=("X-Amz-Date: 20231114T231319Z",)))
        assert accepted.split()[1] == b"200"
        ahead, body = client.exchange(request(headers=("X-Amz-Date: 20231115T221320Z",)))
        assert ahead.split()[1] == b"403"
        assert "not yet current" in json.loads(body)["Message"]


def test_an_empty_body_without_its_end_has_no_chunk(emulator: Emulator) -> None:
    emulator.models["my-llm"] = lambda asked: b""
    emulator.inject("no_terminator")
    with RawClient(emulator) as client:
        assert client.send(request()).read_all() == head() + CHUNKED


def test_a_reset_waits_until_everything_that_was_sent_has_arrived(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_the_way = iter([True, True, False])
    monkeypatch.setattr(Connection, "_undelivered", lambda connection: next(on_the_way))
    emulator.inject("reset_mid_stream")
    with RawClient(emulator) as client:
        client.send(request()).read(len(plain(BODY)) - 7)
        assert client.ends("reset")
    assert list(on_the_way) == []


def test_clearing_faults_without_any_changes_nothing(emulator: Emulator) -> None:
    with RawClient(emulator) as client:
        emulator.clear_faults()
        assert client.exchange(request())[1] == BODY
    assert emulator.total_connections == 1


def test_early_413_comes_while_the_body_is_still_being_sent(emulator: Emulator) -> None:
    emulator.inject("early_413")
    announced = request(headers=("Content-Length: 50000000",)).replace(b"Content-Length: 2\r\n", b"")
    with RawClient(emulator) as client:
        assert client.send(announced + b"x" * 1000).read(len(TOO_LARGE)) == TOO_LARGE
        assert emulator.requests == []
    emulator.disconnected()


def test_a_client_that_sends_everything_first_still_gets_the_early_413(emulator: Emulator) -> None:
    emulator.inject("early_413")
    with RawClient(emulator) as client:
        assert client.send(request(body=b"x" * 10_000_000, headers=("Connection: close",))).read_all() == TOO_LARGE


def test_a_client_that_asks_before_sending_a_large_body_gets_the_413_instead_of_leave(emulator: Emulator) -> None:
    emulator.inject("early_413")
    with RawClient(emulator) as client:
        asking = request(headers=("Expect: 100-continue",)).removesuffix(b"{}")
        assert client.send(asking).read_all() == TOO_LARGE


def test_a_stall_ends_when_the_client_goes(emulator: Emulator) -> None:
    emulator.inject("stall_mid_stream")
    with RawClient(emulator) as client:
        client.send(request("stream"))
        emulator.wait_for(lambda emulator: emulator.stalled == 1)
    emulator.disconnected()
    assert emulator.stalled == 0


def test_a_stall_ends_when_the_emulator_stops(emulator: Emulator) -> None:
    emulator.inject("stall_before_headers")
    with RawClient(emulator) as client:
        client.send(request())
        emulator.wait_for(lambda emulator: emulator.stalled == 1)
        emulator.stop()
        assert client.ends("reset")


def payload(response: bytes) -> list[bytes]:
    """The payloads of the parts in a chunked event stream."""
    return [frame[12 + struct.unpack(">I", frame[4:8])[0] : -4] for frame in chunks(response)]


def streamed(emulator: Emulator, body: bytes = b"{}") -> list[bytes]:
    with RawClient(emulator) as client:
        return payload(client.send(request("stream", body, headers=("Connection: close",))).read_all())


SSE = ["data: é\n\n", "data: two\r\n\r\n"]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("utf8_split", [bytes([byte]) for byte in "".join(SSE).encode()]),
        ("utf8_invalid", ["data: é\n\n".encode()[:5] + b"\xff\xfe" + "data: é\n\n".encode()[5:], SSE[1].encode()]),
        ("sse_many_per_part", ["".join(SSE).encode()]),
        ("sse_no_final_blank", ["data: é".encode(), b"\n\ndata: two", b"\n"]),
        ("json_no_final_newline", ["data: é".encode(), b"\n\ndata: two"]),
    ],
)
def test_a_fault_changes_the_output_of_the_model(emulator: Emulator, name: str, parts: list[bytes]) -> None:
    emulator.models["my-llm"] = lambda asked: SSE
    emulator.inject(name)
    assert streamed(emulator) == parts


@pytest.mark.parametrize("name", ["sse_no_final_blank", "json_no_final_newline"])
def test_an_answer_without_a_line_end_stays_without_one(emulator: Emulator, name: str) -> None:
    emulator.models["my-llm"] = lambda asked: ["\n", "data: one"]
    emulator.inject(name)
    assert b"".join(streamed(emulator)) == b"\ndata: one"


@pytest.mark.parametrize(("said", "start"), [("data: x\n\n", b"data:x"), ('{"a": 1}\n', b'{"outputs":["x')])
def test_line_oversized_is_one_line_of_17_mib(emulator: Emulator, said: str, start: bytes) -> None:
    emulator.models["my-llm"] = lambda asked: [said, "never comes"]
    emulator.inject("line_oversized")
    line = b"".join(streamed(emulator))
    assert line.startswith(start)
    assert len(line) >= 17 * 1024 * 1024
    assert b"\n" not in line


@pytest.mark.parametrize(
    "name", ["sse_many_per_part", "utf8_invalid", "line_oversized", "crc_message", "fin_mid_frame"]
)
def test_a_stream_without_parts_can_be_spoilt_too(emulator: Emulator, name: str) -> None:
    emulator.models["my-llm"] = lambda asked: []
    emulator.inject(name)
    with RawClient(emulator) as client:
        assert client.send(request("stream", headers=("Connection: close",))).read_all()


INBAND = {
    "inband_error_tgi": b'data:{"error":"Request failed during generation","error_type":"generation"}\n\n',
    "inband_error_lmi": b'"details":{"finish_reason":"error","generated_tokens":null,"inputs":null}}\n',
    "inband_error_openai": b"data: [DONE]\n\n",
}


@pytest.mark.parametrize("name", INBAND)
def test_an_inband_error_ends_a_stream_whose_protocol_is_right(emulator: Emulator, name: str) -> None:
    emulator.inject(name)
    said = b"".join(streamed(emulator))
    assert b"Once" in said
    assert said.endswith(INBAND[name])


@pytest.mark.parametrize("name", INBAND)
def test_an_inband_error_comes_with_status_200(emulator: Emulator, name: str) -> None:
    emulator.inject(name)
    with RawClient(emulator) as client:
        answer, body = client.exchange(request())
    assert answer.split()[1] == b"200"
    assert json.loads(body)["error"]


@pytest.mark.parametrize(
    ("asked", "content_type"), [(b'{"stream": true}', b"text/event-stream"), (b"{}", b"application/json")]
)
def test_an_inband_error_on_the_openai_path_follows_the_request(
    emulator: Emulator, asked: bytes, content_type: bytes
) -> None:
    emulator.inject("inband_error_openai")
    with RawClient(emulator) as client:
        answer = client.send(request("openai", asked, headers=("Connection: close",))).read_all()
    assert b"Content-Type: " + content_type in answer
    assert b"Request failed" in (b"".join(chunks(answer)) if b"chunked" in answer else answer)
