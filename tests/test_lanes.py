"""Both lanes treat an answer alike: one that was not asked for is an error, and no client's own failure gets out."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from feeding import encode_part
from servers import Peer, Server
from twins import Twin

from smendpoint import (
    BytesHandler,
    ChatHandler,
    ClassificationHandler,
    EmbeddingsHandler,
    JSONHandler,
    NumPyHandler,
    RerankHandler,
    RetryPolicy,
    TabularHandler,
    TextGenerationHandler,
    TextHandler,
    errors,
)
from smendpoint._core.aws.response import RawResponse, service_error
from smendpoint._core.http.unexpected import media_type, not_asked_for

WHOLE = b'[{"generated_text": "fine"}]'
FRAMES = encode_part(b'data:{"token":{"text":"fine"},"generated_text":"fine"}\n\n')
OPERATIONS = ("invoke", "stream")
# Each with an input that it takes.
HANDLERS: dict[str, tuple[Any, Any]] = {
    "bytes": (BytesHandler(), b"Hello"),
    "text": (TextHandler(), "Hello"),
    "json": (JSONHandler(), {"inputs": "Hello"}),
    "generation": (TextGenerationHandler(), "Hello"),
    "chat": (ChatHandler(), "Hello"),
    "embeddings": (EmbeddingsHandler(), ["Hello"]),
    "rerank": (RerankHandler(), ("Hello", ["a", "b"])),
    "classification": (ClassificationHandler(), "Hello"),
    "tabular": (TabularHandler(), [[1.0, 2.0]]),
    "numpy": (NumPyHandler(), [1.0, 2.0]),
}


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


@contextlib.contextmanager
def saying(reply: bytes) -> Iterator[str]:
    """A server that gives every request the same answer; gives its URL."""
    with Server(lambda peer: peer.serve(reply)) as server:
        yield server.url


def body_of(operation: str) -> bytes:
    return WHOLE if operation == "invoke" else FRAMES


def calls(twin: Twin, url: str, handler: Any = None) -> Any:
    return twin.endpoint(url, content_handler=handler, retry=RetryPolicy(max_attempts=1, cold_start_timeout=0.0))


# answers that were not asked for


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", HANDLERS)
@pytest.mark.parametrize("unasked", ["206", "226", "gzip", "page"])
def test_a_success_that_was_not_asked_for_is_an_error_of_every_handler(
    twin: Twin, operation: str, name: str, unasked: str
) -> None:
    handler, value = HANDLERS[name]
    body = body_of(operation)
    replies = {
        "206": answer(body, "Content-Range: bytes 0-3/9", status="206 Partial Content"),
        "226": answer(body, status="226 IM Used"),
        "gzip": answer(gzip.compress(body), "Content-Encoding: gzip"),
        "page": answer(b"\xef\xbb\xbf\n <!DOCTYPE html><p>log in", "Content-Type: Text/HTML; charset=utf-8"),
    }
    said = {
        "206": "status 206.* only a part of the answer, which was not requested",
        "226": "status 226.* difference to another answer",
        "gzip": r"encoded \(Content-Encoding: gzip\), which was not requested",
        "page": r"page of HTML \(Content-Type: text/html\)",
    }
    kind: type[Exception] = errors.ProtocolError
    if unasked == "page":
        kind = errors.HandlerError if operation == "invoke" else errors.StreamDecodeError
    with saying(replies[unasked]) as url:
        endpoint = calls(twin, url, handler)
        with pytest.raises(kind, match=said[unasked]) as caught:
            endpoint.call(operation, value)
        assert caught.value.attempts == 1
        endpoint.close()


@pytest.mark.parametrize("coding", ["identity, gzip", "br", "GZIP", "identity\r\nContent-Encoding: deflate"])
def test_each_content_coding_but_identity_is_refused(twin: Twin, coding: str) -> None:
    with saying(answer(WHOLE, f"Content-Encoding: {coding}")) as url:
        with pytest.raises(errors.ProtocolError, match="is coded"):
            calls(twin, url, BytesHandler()).invoke(b"Hello")


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("coding", ["identity", "Identity", "", "identity, identity"])
def test_the_identity_coding_is_fine(twin: Twin, coding: str, operation: str) -> None:
    with saying(answer(body_of(operation), f"Content-Encoding: {coding}")) as url:
        assert "".join(calls(twin, url).call(operation, "Hello")) == "fine"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_transfer_coding_that_was_not_asked_for_is_refused(twin: Twin, operation: str) -> None:
    reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
    with saying(reply) as url, pytest.raises(errors.ProtocolError, match="Transfer-Encoding other than chunked"):
        calls(twin, url, BytesHandler()).call(operation, b"Hello")


def test_json_that_its_container_calls_html_is_an_answer(twin: Twin) -> None:
    with saying(answer(WHOLE, "Content-Type: text/html; charset=utf-8")) as url:
        assert calls(twin, url).invoke("Hello") == "fine"


def test_a_page_that_a_model_wrote_is_an_answer(twin: Twin) -> None:
    page = b"<!DOCTYPE html><html></html>"
    with saying(answer(page, "Content-Type: text/plain")) as url:
        assert calls(twin, url, TextHandler()).invoke("Hello") == page.decode()
    with saying(answer(page, "Content-Type: text/html")) as url:
        endpoint = calls(twin, url, TextHandler(accepts="text/html, text/plain"))
        assert endpoint.invoke("Hello") == page.decode()
        with pytest.raises(errors.HandlerError, match="name text/html in the handler's accepts"):
            endpoint.invoke("Hello", endpoint_kwargs={"Accept": "text/plain"})


def test_a_stream_whose_model_is_said_to_send_html_is_a_stream(twin: Twin) -> None:
    headers = ("Content-Type: application/vnd.amazon.eventstream", "X-Amzn-SageMaker-Content-Type: text/html")
    with saying(answer(FRAMES, *headers)) as url:
        assert calls(twin, url).collect("Hello") == ["fine"]


def test_a_stream_that_is_a_page_says_so_each_time_and_is_not_asked_for_again(twin: Twin) -> None:
    asked: list[int] = []

    def serve(peer: Peer) -> None:
        while peer.request()[0]:
            asked.append(1)
            peer.send(answer(b"<html>", "Content-Type: text/html"))

    with Server(serve) as server:
        stream = calls(twin, server.url).stream("Hello")
        for _ in range(2):
            with pytest.raises(errors.StreamDecodeError, match="and not an event stream"):
                next(stream)
        assert asked == [1]


def test_a_stream_of_a_type_with_html_in_its_name_is_read(twin: Twin) -> None:
    with saying(answer(FRAMES, "Content-Type: application/x-nohtml")) as url:
        assert calls(twin, url).collect("Hello") == ["fine"]


def test_an_error_in_a_coding_or_as_a_page_is_still_that_error(twin: Twin) -> None:
    reply = answer(gzip.compress(b"no"), "Content-Encoding: gzip", "Content-Type: text/html", status="503 Busy")
    with saying(reply) as url, pytest.raises(errors.ServiceUnavailableError):
        calls(twin, url).invoke("Hello")


def test_an_answer_that_is_not_a_success_is_not_checked() -> None:
    assert not_asked_for(404, {"content-encoding": "gzip"}) is None
    assert not_asked_for(207, {}) is None


def test_a_media_type_that_cannot_be_shown_is_left_out() -> None:
    assert media_type("Text/CSV; header=absent") == "text/csv"
    assert media_type("a\x00b") == media_type("x" * 101) == media_type("t\xe9xt/csv") == ""


# errors that a client's parser does not survive

BODIES = {
    "list": b"[]",
    "list of one": b'[{"Message": "no"}]',
    "null": b"null",
    "number": b"7",
    "NaN": b"NaN",
    "string": b'"x"',
    "empty": b"",
    "utf-16": '{"Message": "x"}'.encode("utf-16"),
    "not utf-8": b"\xff\xfe{",
    "deep": b"[" * 200_000,
    "deep object": b'{"a":' * 200_000,
    "page": b"<html>no</html>",
    "cut": b'{"Message": "x',
    "code is a list": b'{"__type": ["a"], "Message": "m"}',
    "code is a number": b'{"__type": 5, "Message": "m"}',
    "code is an object": b'{"__type": {"a": 1}, "message": "m"}',
    "message is an object": b'{"__type": "ModelError", "Message": {"a": 1}}',
    "message is null": b'{"__type": "ModelError", "Message": null}',
    "message is NaN": b'{"__type": "ModelError", "Message": NaN, "OriginalStatusCode": NaN}',
    "status is a list": b'{"__type": "ModelError", "Message": "m", "OriginalStatusCode": [1], "OriginalMessage": 5}',
    "status is a text": b'{"__type": "ModelError", "Message": "m", "OriginalStatusCode": "x", "OriginalMessage": [1]}',
    "status is huge": b'{"__type": "ModelError", "OriginalStatusCode": ' + b"9" * 5000 + b"}",
    "two messages": b'{"Message": "a", "message": "b", "code": "ValidationError"}',
    "a code with a namespace": b'{"__type": "a#ThrottlingException:http://x", "Message": "m"}',
}


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("body", BODIES)
def test_an_error_is_the_same_in_each_lane_whatever_its_body(twin: Twin, body: str, typed: bool) -> None:
    headers = {"content-type": "application/json", "x-amzn-requestid": "r-1"}
    if typed:
        headers["x-amzn-errortype"] = "ModelError"
    replies: list[bytes] = []

    def serve(peer: Peer) -> None:
        while peer.request()[0]:
            peer.send(replies[-1])

    with Server(serve) as server:
        endpoint = calls(twin, server.url)
        for status in (400, 424, 500, 530, 599):
            lines = [f"{name}: {value}" for name, value in headers.items()]
            replies.append(answer(BODIES[body], *lines, status=f"{status} Something"))
            expected = service_error(RawResponse(status, headers, BODIES[body]))
            for operation in OPERATIONS:
                with pytest.raises(errors.ServiceError) as caught:
                    endpoint.call(operation, "Hello")
                error = caught.value
                assert (type(error), error.status, error.code, error.request_id) == (
                    type(expected),
                    status,
                    expected.code,
                    "r-1",
                )
                assert error.attempts == 1
        endpoint.close()


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("status", ["101 Switching Protocols", "000 OK", "099 Low"])
def test_a_status_that_ends_no_exchange_is_a_protocol_error(twin: Twin, status: str, operation: str) -> None:
    with saying(answer(body_of(operation), status=status)) as url, pytest.raises(errors.ProtocolError):
        calls(twin, url).call(operation, "Hello")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_status_300_is_an_error_in_each_lane(twin: Twin, operation: str) -> None:
    with saying(answer(body_of(operation), status="300 Choices")) as url, pytest.raises(errors.ServiceError) as caught:
        calls(twin, url).call(operation, "Hello")
    assert caught.value.status == 300


def test_a_header_that_is_not_utf_8_escapes_from_no_client(client_twin: Twin) -> None:
    with saying(answer(WHOLE, "X-Amzn-RequestId: \xff\xe9")) as url:
        try:
            assert calls(client_twin, url).send("Hello").request_id == "\xff\xe9"
        except errors.TransportError as error:  # aiobotocore reads every header as UTF-8
            assert client_twin.asynchronous
            assert "UnicodeDecodeError" in str(error)


# a body whose end is the end of the connection


def head_then(body: bytes, end: Callable[[Peer], object]) -> Callable[[Peer], object]:
    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + body)
        end(peer)

    return serve


def test_a_stream_that_was_reset_is_cut_though_nothing_says_how_long_it_is(twin: Twin) -> None:
    read = threading.Event()

    def reset(peer: Peer) -> None:
        assert read.wait(20.0)
        peer.reset()

    with Server(head_then(FRAMES, reset)) as server:
        with calls(twin, server.url).stream("Hello") as stream:
            assert next(stream) == "fine"
            read.set()
            with pytest.raises(errors.StreamTruncatedError) as caught:
                next(stream)
        assert caught.value.received == ("fine",)


def test_an_answer_without_a_length_that_was_reset_is_an_error(twin: Twin) -> None:
    with Server(head_then(WHOLE, Peer.reset)) as server, pytest.raises(errors.TransportError):
        calls(twin, server.url).invoke("Hello")


def test_an_answer_that_ends_with_its_connection_is_whole(twin: Twin) -> None:
    with Server(head_then(WHOLE, lambda peer: peer.sock.close())) as server:
        assert calls(twin, server.url).invoke("Hello") == "fine"
    with Server(head_then(FRAMES, lambda peer: peer.sock.close())) as server:
        assert calls(twin, server.url).collect("Hello") == ["fine"]
