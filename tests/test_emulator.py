"""The emulator: what it answers, what it counts, how it starts and ends."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trustme
from emulator_client import NOW, PATHS, RawClient, call, chunks, container, plain, request, status
from feeding import encode_part
from signing import bearer, presign, sign

from smendpoint._core.aws.eventstream import encode
from smendpoint._core.aws.sigv4 import Credentials, Signer, payload_hash
from smendpoint.emulator import Emulator, ModelReply, ModelRequest, forward
from smendpoint.errors import ConfigurationError

KEYS = Credentials("AKID", "secret", "token")


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator({"my-llm": lambda asked: b"[]"}, clock=lambda: NOW) as emulator:
        yield emulator


def frames(emulator: Emulator, body: bytes = b"{}") -> list[bytes]:
    with RawClient(emulator) as client:
        return chunks(client.send(request("stream", body, headers=("Connection: close",))).read_all())


# -- requests and answers


def test_an_answer_has_exactly_these_headers(emulator: Emulator) -> None:
    with RawClient(emulator) as client:
        assert client.send(request()).read(len(plain(b"[]"))) == plain(b"[]")


def test_a_request_is_kept_as_it_came(emulator: Emulator) -> None:
    with RawClient(emulator) as first, RawClient(emulator) as second_client:
        first.exchange(request(body=b"one", headers=("X-Twice: a", "x-twice: b")))
        second_client.exchange(request(body=b"two"))
    one, two = emulator.requests
    assert (one.operation, one.endpoint_name, one.method, one.target) == (
        "InvokeEndpoint",
        "my-llm",
        "POST",
        PATHS["invoke"],
    )
    assert one.headers["x-twice"] == "a, b"
    assert (one.body, two.body) == (b"one", b"two")
    assert one.connection != two.connection


@pytest.mark.parametrize(
    "data",
    [
        request(path="/endpoints/other/invocations"),
        request("stream", path="/endpoints/other/invocations-response-stream"),
        request("async", path="/endpoints/other/async-invocations"),
    ],
)
def test_an_endpoint_that_does_not_exist_is_a_validation_error(emulator: Emulator, data: bytes) -> None:
    head, body = call(emulator, data)
    assert b" 400 Bad Request\r\n" in head
    assert b"x-amzn-ErrorType: ValidationError\r\n" in head
    assert json.loads(body)["Message"] == "Endpoint other of account 111122223333 not found."


@pytest.mark.parametrize(
    "data",
    [
        request(path="/"),
        request(path="/endpoints/my-llm/nothing"),
        request(path="/endpoints/a/b/invocations"),
        request(method="GET"),
    ],
)
def test_a_path_that_does_not_exist_is_an_unknown_operation(emulator: Emulator, data: bytes) -> None:
    assert status(emulator, data) == 404


def test_bytes_that_are_not_a_request_are_answered_with_400_and_the_end(emulator: Emulator) -> None:
    with RawClient(emulator) as client:
        answer = client.send(b"nonsense\r\n\r\nmore nonsense").read_all()
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    emulator.disconnected()


def test_requests_can_be_sent_ahead_on_one_connection(emulator: Emulator) -> None:
    with RawClient(emulator) as client:
        client.send(request(body=b"1") + request(body=b"2"))
        assert client.read(2 * len(plain(b"[]"))) == plain(b"[]") * 2
    assert [one.body for one in emulator.requests] == [b"1", b"2"]
    assert emulator.total_connections == 1


def test_a_client_that_waits_for_leave_gets_it(emulator: Emulator) -> None:
    with RawClient(emulator) as client:
        head, _, body = request(body=b"late", headers=("Expect: 100-continue",)).partition(b"\r\n\r\n")
        client.send(head + b"\r\n\r\n")
        assert client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.exchange(body)
    assert emulator.requests[0].body == b"late"


def test_a_client_that_closes_is_answered_with_close(emulator: Emulator) -> None:
    with RawClient(emulator) as client:
        assert b"\r\nConnection: close\r\n" in client.send(request(headers=("Connection: close",))).read_all()


def test_a_thousand_streams_are_served_at_once() -> None:
    async def one(emulator: Emulator) -> bool:
        reader, writer = await asyncio.open_connection(emulator.host, emulator.port)
        writer.write(request("stream", b"", headers=("Connection: close",)))
        answer = await reader.read(-1)
        writer.close()
        await writer.wait_closed()
        return b"".join(chunks(answer)) == b"".join(map(encode_part, PARTS)) and answer.endswith(b"0\r\n\r\n")

    PARTS = [b"part %d" % number for number in range(5)]
    arrived = []
    all_there = asyncio.Event()

    async def model(asked: ModelRequest) -> list[bytes]:
        arrived.append(asked)
        if len(arrived) == 1000:
            all_there.set()
        await all_there.wait()
        return PARTS

    async def all_of_them() -> list[bool]:
        return await asyncio.gather(*[one(emulator) for _ in range(1000)])

    with Emulator(model) as emulator:
        assert all(asyncio.run(all_of_them()))
        emulator.disconnected()
        assert emulator.total_connections == 1000


def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For the server and for the client."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


def test_large_answers_and_streams_come_whole_over_tls() -> None:
    server, client = tls_contexts()
    part = b"x" * 2_000_000
    with Emulator(lambda asked: [part, part], ssl_context=server, piece_size=None) as emulator:
        raw = RawClient(emulator)
        raw.socket = client.wrap_socket(raw.socket, server_hostname="127.0.0.1")
        with raw:
            assert raw.exchange(request())[1] == part * 2
            streamed = raw.send(request("stream", headers=("Connection: close",))).read_all()
    assert chunks(streamed) == [encode_part(part)] * 2


def test_it_speaks_https() -> None:
    server, client = tls_contexts()
    with Emulator(lambda asked: b"[]", ssl_context=server, clock=lambda: NOW) as emulator:
        assert emulator.url == f"https://127.0.0.1:{emulator.port}"
        raw = RawClient(emulator)
        raw.socket = client.wrap_socket(raw.socket, server_hostname="127.0.0.1", suppress_ragged_eofs=False)
        with raw:
            assert raw.exchange(request())[1] == b"[]"
            emulator.inject("reset_before_headers")
            with pytest.raises(OSError, match=r"EOF|reset"):
                raw.send(request()).read(1)


# -- models


def test_a_model_gets_what_its_container_would_get() -> None:
    seen: list[ModelRequest] = []

    def model(asked: ModelRequest) -> ModelReply:
        seen.append(asked)
        return ModelReply(
            "é", content_type="text/plain", custom_attributes="c=1", headers={"X-Amzn-SageMaker-Other": "o"}
        )

    with Emulator(model) as emulator:
        headers = ("Accept: text/plain", "X-Amzn-SageMaker-Custom-Attributes: a=1")
        head, body = call(emulator, request(body=b"in", headers=headers))
        with RawClient(emulator) as client:
            client.send(request("stream", headers=("X-Amzn-SageMaker-Accept: a/b", "Connection: close"))).read_all()
    assert body == "é".encode()
    assert b"\r\nContent-Type: text/plain\r\n" in head
    assert b"\r\nX-Amzn-SageMaker-Custom-Attributes: c=1\r\n" in head
    assert b"\r\nX-Amzn-SageMaker-Other: o\r\n" in head
    one, two = seen
    assert (one.body, one.content_type, one.accept, one.custom_attributes) == (
        b"in",
        "application/json",
        "text/plain",
        "a=1",
    )
    assert (one.endpoint_name, one.streaming, one.path) == ("my-llm", False, "/invocations")
    assert (two.streaming, two.accept) == (True, "a/b")
    assert one.disconnected.is_set()


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [("text/csv", b"text/csv"), ("*/*", b"application/json"), ("a/b, c/d", b"application/json")],
)
def test_an_answer_without_a_type_has_the_type_that_is_accepted(
    emulator: Emulator, accept: str, content_type: bytes
) -> None:
    head, _ = call(emulator, request(headers=(f"Accept: {accept}",)))
    assert b"\r\nContent-Type: " + content_type + b"\r\n" in head


async def coroutine(asked: ModelRequest) -> str:
    await asyncio.sleep(0)
    return "[1]"


async def async_parts(asked: ModelRequest) -> AsyncIterator[str]:
    async def parts() -> AsyncIterator[str]:
        yield "["
        yield "1]"

    return parts()


def generator(asked: ModelRequest) -> Iterator[str]:
    yield "["
    yield "1]"


@pytest.mark.parametrize(
    "model",
    [
        coroutine,
        async_parts,
        generator,
        lambda asked: ["[", b"1]"],
        lambda asked: iter(["[", "1]"]),
        lambda asked: "[1]",
        lambda asked: ModelReply(("[", "1]")),
    ],
)
def test_a_model_may_answer_in_many_ways(model: Any) -> None:
    with Emulator(model) as emulator:
        assert call(emulator, request())[1] == b"[1]"
        assert b"".join(frames(emulator)).count(b"1]") == 1


def test_streamed_answers_are_cut_into_small_pieces() -> None:
    with Emulator(lambda asked: ["hé" * 3, "", "ab"], piece_size=4) as emulator:
        assert frames(emulator) == [encode_part(part) for part in (b"h\xc3\xa9h", b"\xc3\xa9h\xc3", b"\xa9", b"ab")]


def failing(asked: ModelRequest) -> Iterator[str]:
    yield "one"
    raise ValueError("broken")


def test_a_model_that_raises_is_a_model_error() -> None:
    def model(asked: ModelRequest) -> bytes:
        raise ValueError("broken")

    with Emulator({"my-llm": model, "parts": failing}, region="eu-west-1") as emulator:
        head, body = call(emulator, request())
        later = status(emulator, request(path="/endpoints/parts/invocations"))
    assert b" 424 Failed Dependency\r\n" in head
    error = json.loads(body)
    assert error["OriginalStatusCode"] == 500
    assert error["OriginalMessage"] == "ValueError: broken"
    assert error["LogStreamArn"] == "arn:aws:logs:eu-west-1:111122223333:log-group:/aws/sagemaker/Endpoints/my-llm"
    assert "ValueError: broken" in error["Message"]
    assert later == 424


def test_a_model_that_raises_in_a_stream_ends_it_with_an_exception() -> None:
    with Emulator(failing) as emulator:
        headers = {
            ":exception-type": "ModelStreamError",
            ":content-type": "application/json",
            ":message-type": "exception",
        }
        payload = b'{"Message": "ValueError: broken", "ErrorCode": "StreamBroken"}'
        assert frames(emulator) == [encode_part(b"one"), encode(headers, payload)]


def test_a_stream_hands_on_each_part_when_the_model_has_it() -> None:
    go_on = threading.Event()

    def model(asked: ModelRequest) -> Iterator[str]:
        yield "first"
        go_on.wait()
        yield "second"

    with Emulator(model) as emulator, RawClient(emulator) as client:
        client.send(request("stream"))
        client.read_until(encode_part(b"first") + b"\r\n")
        go_on.set()
        client.read_until(encode_part(b"second") + b"\r\n0\r\n\r\n")


def test_a_model_can_wait_for_the_client_to_go() -> None:
    waits, ended = threading.Event(), threading.Event()

    def model(asked: ModelRequest) -> Iterator[str]:
        yield "first"
        waits.set()
        asked.disconnected.wait()
        ended.set()
        yield "second"

    with Emulator(model) as emulator:
        with RawClient(emulator) as client:
            client.send(request("stream"))
            waits.wait()
        emulator.disconnected()
        assert ended.wait(10)


def test_a_slow_reader_holds_the_model_back() -> None:
    produced = []

    def model(asked: ModelRequest) -> Iterator[bytes]:
        for number in range(1000):
            produced.append(number)
            yield b"x" * 100_000

    with Emulator(model, piece_size=None) as emulator:
        with RawClient(emulator) as client:
            client.send(request("stream")).read(1_000_000)
        emulator.disconnected()
    assert len(produced) < 1000


def test_models_can_be_changed_while_it_runs(emulator: Emulator) -> None:
    emulator.models["new"] = lambda asked: b"new"
    emulator.models["named"] = "tgi"
    assert call(emulator, request(path="/endpoints/new/invocations"))[1] == b"new"
    assert b"generated_text" in call(emulator, request(body=b'{"inputs":"x"}', path="/endpoints/named/invocations"))[1]


# -- a real container behind it


def test_forward_hands_requests_on_to_a_container() -> None:
    with container() as url, Emulator(forward(url)) as emulator:
        head, body = call(emulator, request(body=b"hi", headers=("X-Amzn-SageMaker-Custom-Attributes: a",)))
        assert json.loads(body) == {"asked": "POST /invocations", "type": "application/json", "body": "hi"}
        assert b"\r\nContent-Type: text/x-echo\r\n" in head
        assert b"\r\nX-Amzn-SageMaker-Custom-Attributes: a\r\n" in head
        assert b'"hi"' in b"".join(frames(emulator, b"hi"))
        assert json.loads(call(emulator, request(body=b"fail"))[1])["OriginalStatusCode"] == 500
        assert json.loads(call(emulator, request("openai"))[1])["asked"] == "POST /v1/chat/completions"


def test_forward_to_nowhere_is_a_model_error() -> None:
    with Emulator(forward("http://127.0.0.1:9")) as emulator:
        assert "ConnectionRefused" in json.loads(call(emulator, request())[1])["OriginalMessage"]


@pytest.mark.parametrize("url", ["https://x", "http://", "http://x/path", "http://x/?q", "x", "http://x:y", "http://["])
def test_forward_takes_the_url_of_a_container_only(url: str) -> None:
    with pytest.raises(ConfigurationError):
        forward(url)


# -- stateful sessions


def test_a_session_opens_is_used_and_closes() -> None:
    seen = []

    def model(asked: ModelRequest) -> bytes:
        seen.append(asked.session_id)
        return b"{}"

    with Emulator(model, clock=lambda: NOW) as emulator, RawClient(emulator) as client:
        head, _ = client.exchange(request(headers=("X-Amzn-SageMaker-Session-Id: NEW_SESSION",)))
        (session,) = emulator.sessions
        assert f"X-Amzn-SageMaker-New-Session-Id: {session}; Expires=2023-11-14T22:33:20Z\r\n".encode() in head
        inside = (f"X-Amzn-SageMaker-Session-Id: {session}",)
        assert b"Session-Id" not in client.exchange(request(headers=inside))[0]
        head, _ = client.exchange(request(body=b'{"requestType": "CLOSE"}', headers=inside))
        assert f"X-Amzn-SageMaker-Closed-Session-Id: {session}\r\n".encode() in head
        assert emulator.sessions == {}
        head, body = client.exchange(request(headers=inside))
        assert head.split()[1] == b"400"
        assert "is not open" in json.loads(body)["Message"]
    assert seen == [session] * 3


def test_a_model_can_close_the_session() -> None:
    with Emulator(lambda asked: ModelReply(b"{}", close_session=True)) as emulator, RawClient(emulator) as client:
        client.exchange(request(headers=("X-Amzn-SageMaker-Session-Id: NEW_SESSION",)))
        (session,) = emulator.sessions
        client.exchange(request(headers=(f"X-Amzn-SageMaker-Session-Id: {session}",)))
        assert emulator.sessions == {}


@pytest.mark.parametrize("body", [b'{"requestType": 1}', b'"requestType"', b'{"requestType"'])
def test_only_a_request_to_close_closes(body: bytes) -> None:
    with Emulator(lambda asked: b"") as emulator, RawClient(emulator) as client:
        client.exchange(request(headers=("X-Amzn-SageMaker-Session-Id: NEW_SESSION",)))
        (session,) = emulator.sessions
        client.exchange(request(body=body, headers=(f"X-Amzn-SageMaker-Session-Id: {session}",)))
        assert list(emulator.sessions) == [session]


# -- asynchronous inference


def test_an_asynchronous_call_is_accepted_and_its_answer_appears_in_the_store() -> None:
    with Emulator(lambda asked: asked.body.upper() + asked.content_type.encode()) as emulator:
        headers = ("X-Amzn-SageMaker-Inference-Id: my-id", "X-Amzn-SageMaker-Content-Type: a/b")
        head, body = call(emulator, request("async", b"in", headers=headers))
        emulator.idle()
        ((location, answer),) = emulator.objects.items()
        assert b" 202 Accepted\r\n" in head
        assert json.loads(body) == {"InferenceId": "my-id"}
        assert answer == b"INa/b"
        assert f"X-Amzn-SageMaker-OutputLocation: {location}\r\n".encode() in head
        failure = location.replace(".out", "-error.out")
        assert f"X-Amzn-SageMaker-FailureLocation: {failure}\r\n".encode() in head
        fetched = call(emulator, request(method="GET", path="/s3/" + location.removeprefix("s3://")))
        assert fetched[1] == b"INa/b"


def test_an_asynchronous_call_reads_its_input_from_the_store_and_names_its_answer() -> None:
    with Emulator(lambda asked: asked.body[::-1], async_output="s3://bucket/out/") as emulator:
        emulator.objects["s3://bucket/in"] = b"abc"
        headers = (
            "X-Amzn-SageMaker-InputLocation: s3://bucket/in",
            "X-Amzn-SageMaker-S3OutputPathExtension: deep/er",
            "X-Amzn-SageMaker-Filename: name.txt",
        )
        assert status(emulator, request("async", b"", headers=headers)) == 202
        emulator.idle()
        assert emulator.objects["s3://bucket/out/deep/er/name.txt.out"] == b"cba"


def broken(asked: ModelRequest) -> bytes:
    raise ValueError("broken")


@pytest.mark.parametrize(
    ("model", "headers", "body", "message"),
    [
        (broken, (), b"in", b"ValueError: broken"),
        (failing, (), b"in", b"ValueError: broken"),
        (lambda asked: ModelReply("no", status=400), (), b"in", b"no"),
        (lambda asked: b"", ("X-Amzn-SageMaker-InputLocation: s3://b/nothing",), b"", b"s3://b/nothing"),
    ],
)
def test_a_failed_asynchronous_call_leaves_its_message_at_the_failure_location(
    model: Any, headers: tuple[str, ...], body: bytes, message: bytes
) -> None:
    with Emulator(model) as emulator:
        call(emulator, request("async", body, headers=headers))
        emulator.idle()
        ((location, stored),) = emulator.objects.items()
    assert location.endswith("-error.out")
    assert message in stored


@pytest.mark.parametrize(
    ("body", "headers"),
    [(b"", ()), (b"in", ("X-Amzn-SageMaker-InputLocation: s3://b/in",)), (b"x" * 128_001, ())],
)
def test_an_asynchronous_call_has_one_input_of_at_most_128000_bytes(
    emulator: Emulator, body: bytes, headers: tuple[str, ...]
) -> None:
    assert status(emulator, request("async", body, headers=headers)) == 400


def test_hooks_take_the_place_of_the_store() -> None:
    stored: list[tuple[str, bytes, bool]] = []
    with Emulator(
        lambda asked: asked.body * 2,
        async_store=lambda location, data, ok: stored.append((location, data, ok)),
        async_load=lambda location: location.encode(),
    ) as emulator:
        call(emulator, request("async", b"", headers=("X-Amzn-SageMaker-InputLocation: s3://b/in",)))
        emulator.idle()
    assert [(data, ok) for _, data, ok in stored] == [(b"s3://b/ins3://b/in", True)]
    assert emulator.objects == {}


def test_a_store_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def store(location: str, data: bytes, ok: bool) -> None:
        raise OSError("disk full")

    with Emulator(lambda asked: b"", async_store=store) as emulator, caplog.at_level(logging.ERROR, "smendpoint"):
        call(emulator, request("async", b"in"))
        emulator.idle()
    assert "could not store" in caplog.text
    assert "disk full" in caplog.text


def test_an_emulator_that_stops_gives_up_asynchronous_calls() -> None:
    begun = threading.Event()

    def model(asked: ModelRequest) -> bytes:
        begun.set()
        asked.disconnected.wait()
        return b""

    with Emulator(model) as emulator:
        call(emulator, request("async", b"in"))
        begun.wait()
    assert emulator.objects == {}


# -- the stand-in for S3


def test_objects_are_put_got_looked_at_and_deleted(emulator: Emulator) -> None:
    path = "/s3/bucket/a%20key"
    with RawClient(emulator) as client:
        assert client.exchange(request(method="PUT", path=path, body=b"data"))[0].split()[1] == b"200"
        assert emulator.objects == {"s3://bucket/a key": b"data"}
        head, body = client.exchange(request(method="GET", path=path, body=b""))
        assert body == b"data"
        assert b'ETag: "8d777f385d3dfec8815d20f7496026dc"\r\n' in head
        client.send(request(method="HEAD", path=path, body=b""))
        assert b"Content-Length: 4\r\n" in client.read_until(b"\r\n\r\n")
        assert client.exchange(request(method="DELETE", path=path, body=b""))[0].split()[1] == b"204"
        head, body = client.exchange(request(method="GET", path=path, body=b""))
        assert head.split()[1] == b"404"
        assert b"<Code>NoSuchKey</Code>" in body
        assert client.exchange(request(method="POST", path=path, body=b""))[0].split()[1] == b"405"


def test_uploads_in_the_sdks_own_chunks_are_put_together(emulator: Emulator) -> None:
    body = b"4;chunk-signature=1\r\nabcd\r\n2\r\nef\r\n0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n"
    put = request(method="PUT", path="/s3/b/k", body=body, headers=("Content-Encoding: aws-chunked",))
    assert status(emulator, put) == 200
    assert emulator.objects == {"s3://b/k": b"abcdef"}
    assert status(emulator, put.replace(b"4;chunk", b"x;chunk")) == 400


# -- the OpenAI path


def openai(body: bytes = b"{}", *headers: str, path: str = PATHS["openai"]) -> bytes:
    return request("openai", body, headers=headers, path=path)


def test_the_openai_path_reaches_the_model_and_streams_without_frames() -> None:
    seen = []

    def model(asked: ModelRequest) -> list[str]:
        seen.append((asked.path, asked.streaming))
        return ["data: 1\n\n", "data: [DONE]\n\n"]

    with Emulator(model, piece_size=None) as emulator:
        assert call(emulator, openai())[1] == b"data: 1\n\ndata: [DONE]\n\n"
        with RawClient(emulator) as client:
            answer = client.send(openai(b'{"stream": true}', "Connection: close")).read_all()
        component = "/endpoints/my-llm/inference-components/part-1/openai/v1/completions"
        call(emulator, openai(path=component))
    assert chunks(answer) == [b"data: 1\n\n", b"data: [DONE]\n\n"]
    assert b"\r\nContent-Type: application/json\r\n" in answer
    assert seen == [("/v1/chat/completions", False), ("/v1/chat/completions", True), ("/v1/completions", False)]
    assert [one.inference_component for one in emulator.requests] == ["", "", "part-1"]
    assert {one.operation for one in emulator.requests} == {"OpenAI"}


@pytest.mark.parametrize("fault", [None, "fin_mid_frame"])
def test_a_bare_stream_that_breaks_stays_without_its_end(fault: str | None) -> None:
    with Emulator(failing) as emulator:
        if fault:
            emulator.inject(fault)
        with RawClient(emulator) as client:
            answer = client.send(openai(b'{"stream": true}')).read_all()
    assert b"\r\none\r\n" in answer
    assert not answer.endswith(b"0\r\n\r\n")


# -- signatures


def signed(now: float, credentials: Credentials = KEYS) -> bytes:
    headers = [("Host", "emulator"), ("Content-Type", "application/json"), ("Content-Length", "2")]
    added = sign(
        Signer(region="us-east-1"),
        method="POST",
        path=PATHS["invoke"],
        headers=headers,
        payload_hash=payload_hash(b"{}"),
        credentials=credentials,
        timestamp=now,
    )
    return request(headers=tuple(f"{name}: {value}" for name, value in added))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (signed(NOW), ""),
        (signed(NOW - 299), ""),
        (request(), "MissingAuthenticationTokenException"),
        (signed(NOW, Credentials("OTHER", "secret", "token")), "UnrecognizedClientException"),
        (signed(NOW, Credentials("AKID", "secret")), "UnrecognizedClientException"),
        (signed(NOW, Credentials("AKID", "wrong", "token")), "InvalidSignatureException"),
        (signed(NOW - 301), "InvalidSignatureException"),
        (signed(NOW + 301), "InvalidSignatureException"),
        (signed(NOW).replace(b"X-Amz-Date: 2", b"X-Amz-Date: x"), "InvalidSignatureException"),
    ],
)
def test_with_credentials_every_request_must_be_signed(data: bytes, code: str) -> None:
    with Emulator(lambda asked: b"[]", credentials=KEYS, clock=lambda: NOW) as emulator:
        head, _ = call(emulator, data)
    assert f"x-amzn-ErrorType: {code}\r\n".encode() in head if code else b" 200 " in head


def presigned(**options: Any) -> str:
    return presign(**{"credentials": KEYS, "timestamp": NOW - 60, **options})


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (f"Bearer {bearer(presigned())}", ""),
        (f"Bearer {bearer(presigned(expires=59))}", "ExpiredTokenException"),
        (f"Bearer {bearer(presigned(expires=43_201))}", "ExpiredTokenException"),
        (f"Bearer {bearer(presigned(action='Other'))}", "AccessDeniedException"),
        (f"Bearer {bearer(presigned(credentials=Credentials('AKID', 'wrong', 'token')))}", "AccessDeniedException"),
        (f"Bearer {bearer(presigned(), end='')}", "AccessDeniedException"),
        (f"Bearer {bearer(presigned(), start='https://sagemaker.amazonaws.com/?')}", "AccessDeniedException"),
        (f"Bearer {bearer(presigned(), prefix='')}", "AccessDeniedException"),
        ("Bearer sagemaker-api-key-!", "AccessDeniedException"),
        ("Bearer sagemaker-api-key-/w==", "AccessDeniedException"),  # the byte FF
        ("", "AccessDeniedException"),
        ("AWS4-HMAC-SHA256 nonsense", "MissingAuthenticationTokenException"),
    ],
)
def test_with_credentials_the_openai_path_wants_a_bearer_token(authorization: str, code: str) -> None:
    with Emulator(lambda asked: b"[]", credentials=KEYS, clock=lambda: NOW) as emulator:
        head, _ = call(emulator, openai(b"{}", f"Authorization: {authorization}"))
    assert f"x-amzn-ErrorType: {code}\r\n".encode() in head if code else b" 200 " in head


# -- life


def test_it_starts_once_at_a_time_and_can_start_again() -> None:
    emulator = Emulator(lambda asked: b"[]")
    for _ in range(2):
        with emulator:
            assert call(emulator, request())[1] == b"[]"
            with pytest.raises(ConfigurationError):
                emulator.start()
        emulator.stop()
    assert emulator.total_connections == 2
    emulator.clear_faults()


@pytest.mark.parametrize("running", [True, False])
def test_after_a_reset_it_is_as_it_was_made_at_the_same_address(running: bool) -> None:
    begun = threading.Event()

    def waits(asked: ModelRequest) -> bytes:
        begun.set()
        asked.disconnected.wait()
        return b""

    with Emulator({"my-llm": lambda asked: b"[]", "gone": "tgi"}, clock=lambda: NOW) as emulator:
        url = emulator.url
        with RawClient(emulator) as client, RawClient(emulator) as busy:
            client.exchange(request(headers=("X-Amzn-SageMaker-Session-Id: NEW_SESSION",)))
            emulator.models["my-llm"] = emulator.models["new"] = waits
            del emulator.models["gone"]
            client.exchange(request("async"))
            busy.send(request())
            begun.wait()
            emulator.objects["s3://b/k"] = b"x"
            emulator.inject("status_503")
            if running:
                emulator.inject("refuse")
            else:
                emulator.stop()
            emulator.reset()
            if running:
                assert client.ends("reset")
            else:
                emulator.start()
        assert (emulator.requests, emulator.sessions, emulator.objects) == ([], {}, {})
        assert set(emulator.models) == {"my-llm", "gone"}
        assert (emulator.total_requests, emulator.total_connections, emulator.active_requests) == (0, 0, 0)
        assert call(emulator, request())[1] == b"[]"
        assert [one.connection for one in emulator.requests] == [1]
        assert emulator.url == url


def test_started_again_it_has_the_address_that_it_had_unless_somebody_else_has_it() -> None:
    emulator = Emulator(lambda asked: b"[]")
    assert not emulator.running
    with emulator:
        assert emulator.running
        url = emulator.url
    with emulator:
        assert emulator.url == url
    with Emulator(port=emulator.port) as other:
        with emulator:
            assert emulator.url != url == other.url
            assert call(emulator, request())[1] == b"[]"
        taken = Emulator(port=other.port)
        for _ in range(2):
            with pytest.raises(OSError, match="in use"):
                taken.start()


def test_a_port_that_is_taken_is_an_os_error_and_leaves_nothing_behind(emulator: Emulator) -> None:
    before = threading.active_count()
    with pytest.raises(OSError, match="in use"):
        Emulator(port=emulator.port).start()
    assert threading.active_count() == before


def test_stopping_ends_connections_and_threads() -> None:
    before = threading.active_count()
    emulator = Emulator(lambda asked: b"[]").start()
    with RawClient(emulator) as client:
        client.exchange(request())
        assert threading.active_count() > before
        emulator.stop()
        assert client.ends("reset")
    assert threading.active_count() == before
    assert emulator.open_connections == 0


def test_counters_follow_connections_and_requests(emulator: Emulator) -> None:
    assert (emulator.open_connections, emulator.total_connections, emulator.requests) == (0, 0, [])
    with RawClient(emulator) as client:
        client.exchange(request())
        emulator.idle()
        assert (emulator.open_connections, emulator.total_connections, len(emulator.requests)) == (1, 1, 1)
        assert emulator.active_requests == 0
    emulator.disconnected()
    assert (emulator.open_connections, emulator.total_connections) == (0, 1)


def test_waiting_for_what_does_not_come_says_what_there_is(emulator: Emulator) -> None:
    with RawClient(emulator) as client:
        client.exchange(request())
        with pytest.raises(TimeoutError, match="1 open connections of 1, 1 requests"):
            emulator.disconnected(timeout=0.01)


def test_a_mistake_of_the_emulators_own_is_logged_and_resets_the_connection(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    def strange(asked: ModelRequest) -> ModelReply:
        return ModelReply(b"", headers={"X": "☃"})  # not a character that a header can have

    emulator.models["my-llm"] = strange
    with RawClient(emulator) as client, caplog.at_level(logging.ERROR, "smendpoint"):
        client.send(request())
        assert client.ends("reset")
        emulator.disconnected()
    assert "the emulator failed" in caplog.text


def test_the_clock_is_the_systems_unless_another_is_given() -> None:
    with Emulator(lambda asked: b"[]") as emulator:
        head, _ = call(emulator, request())
    assert str(time.gmtime().tm_year).encode() in head
