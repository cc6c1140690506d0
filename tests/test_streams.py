"""Streams of both twins: they end well only if they came whole; `open`; `completion`."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from clocks import FakeClock
from servers import PATIENCE, STREAM_HEAD, Peer, Server, fast, stream_chunk
from twins import Twin, TwinEndpoint, direct_twin, twin  # noqa: F401

from smendpoint import AsyncStream, CallHooks, RetryPolicy, Stream, Timeout, errors
from smendpoint._calls import pipeline as _pipeline
from smendpoint.emulator import Emulator, ModelReply, ModelRequest
from smendpoint.handlers import (
    BytesHandler,
    ChatCompletion,
    ChatHandler,
    JSONHandler,
    TextGenerationHandler,
    TextHandler,
    ToolCall,
    Usage,
)


def chat(reason: str | None = None, **delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "id": call_id, "function": {"name": name, "arguments": arguments}}]}


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}\n\n'
CHAT = [
    chat(reasoning_content="Hm"),
    chat(content="It is "),
    chat(content="late."),
    chat(**call("c1", "add", '{"a"')),
    chat(**call("c1", "add", ":1}")),
    chat(**call("c2", "mul", "{}")),
    chat("tool_calls"),
    USAGE,
]


def lines(*texts: str) -> list[str]:
    return [f'{{"generated_text": "{text}"}}\n' for text in texts]


class Diary(CallHooks):
    def __init__(self) -> None:
        self.entries: list[Any] = []

    def first_byte(self, call: Any) -> None:
        self.entries.append("first_byte")

    def call_finished(self, call: Any, error: BaseException | None) -> None:
        self.entries.append(error)


@contextlib.contextmanager
def stalled(twin: Twin, **options: Any) -> Iterator[TwinEndpoint]:  # noqa: F811
    """An endpoint whose streams give two chunks, and then nothing; at the end the stream has closed its connection."""
    gone = threading.Event()

    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(STREAM_HEAD + b"".join(stream_chunk(line.encode()) for line in lines("one", "two")))
        peer.gone()
        gone.set()

    with Server(serve) as server, twin.endpoint(server.url, **options) as endpoint:
        yield endpoint
        twin.settle()
        assert gone.wait(PATIENCE)


def test_a_whole_stream_gives_its_chunks_and_its_connection_back(direct_twin: Twin) -> None:  # noqa: F811
    hooks = Diary()
    with Emulator(lambda _: lines("a", "b", "c")) as emulator:
        endpoint = direct_twin.endpoint(emulator.url, hooks=hooks)
        with endpoint.stream("Hello") as stream:
            assert list(stream) == ["a", "b", "c"]
            assert list(stream) == []  # the end stays the end
        assert list(endpoint.stream("Hello")) == ["a", "b", "c"]  # without `with`
        assert emulator.total_connections == 1
    assert hooks.entries == ["first_byte", None] * 2


def test_a_stream_knows_what_came_with_its_chunks(direct_twin: Twin) -> None:  # noqa: F811
    clock = FakeClock()

    def model(_: object) -> ModelReply:
        return ModelReply(lines("a", "b"), content_type="application/jsonlines", custom_attributes="trace=1")

    with Emulator(model) as emulator:
        asked = direct_twin.endpoint(emulator.url, clock=clock).stream("Hello")
        stream = asked.iterator
        kind = type(stream).__name__
        assert repr(stream) == f"{kind}(new, request_id=None, attempts=0)"
        assert (stream.attempts, stream.elapsed, stream.time_to_first_chunk) == (0, 0.0, None)
        with asked:
            assert repr(stream).startswith(f"{kind}(open, request_id='")
            assert (stream.content_type, stream.custom_attributes) == ("application/jsonlines", "trace=1")
            assert stream.request_id is not None
            clock.passed += 1.0
            next(asked)
            clock.passed += 1.0
            assert (stream.elapsed, stream.time_to_first_chunk, stream.attempts) == (2.0, 1.0, 1)
            list(asked)
        clock.passed += 1.0
        assert stream.elapsed == 2.0
        assert (stream.finish_reason, stream.usage, stream.details) == (None, None, None)
        assert stream.decoder is stream._pipeline.decoder
        assert repr(stream).startswith(f"{kind}(closed, ")


def test_a_request_is_sent_when_the_stream_is_first_needed(direct_twin: Twin) -> None:  # noqa: F811
    hooks = Diary()
    with Emulator() as emulator:
        endpoint = direct_twin.endpoint(emulator.url, hooks=hooks)
        never, closed, read = (endpoint.stream("Hello") for _ in range(3))
        closed.close()
        for _ in range(2):
            with pytest.raises(errors.StreamError, match="closed before its end"):
                next(closed)
        closed.__enter__()
        assert (emulator.total_connections, hooks.entries) == (0, [])
        next(read)
        assert len(emulator.requests) == 1
        read.close()
        del never


def test_a_stream_that_was_closed_before_its_end_says_so_at_each_read(direct_twin: Twin) -> None:  # noqa: F811
    hooks = Diary()
    with stalled(direct_twin, hooks=hooks) as endpoint:
        stream = endpoint.stream("Hello")
        assert next(stream) == "one"
        stream.close()
        stream.close()
        for _ in range(2):
            with pytest.raises(errors.StreamError, match="before its end: make a new one") as caught:
                next(stream)
        assert caught.value.received == ("one", "two")
        assert (caught.value.endpoint_name, caught.value.attempts) == ("my-llm", 1)
    assert hooks.entries == ["first_byte", None]


@pytest.mark.parametrize("fault", ["fin_mid_frame", "reset_mid_stream", "no_terminator", "frame_cut_clean_end"])
def test_a_stream_that_was_cut_is_neither_whole_nor_sent_again(direct_twin: Twin, fault: str) -> None:  # noqa: F811
    hooks = Diary()
    with Emulator(lambda _: lines("a", "b", "c"), piece_size=None) as emulator:
        endpoint = direct_twin.endpoint(emulator.url, hooks=hooks, retry=RetryPolicy(max_attempts=5))
        emulator.inject(fault)
        stream = endpoint.stream("Hello")
        got: list[str] = []
        with pytest.raises(errors.StreamTruncatedError) as caught:
            got.extend(iter(lambda: next(stream), None))
        assert caught.value.received == tuple(got) or fault == "no_terminator"
        assert (caught.value.endpoint_name, caught.value.attempts) == ("my-llm", 1)
        with pytest.raises(errors.StreamTruncatedError) as again:
            next(stream)
        assert again.value is caught.value
        direct_twin.settle()
        if fault != "frame_cut_clean_end":  # to HTTP, that one is whole
            emulator.disconnected()
        assert len(emulator.requests) == 1
    assert hooks.entries == ["first_byte", caught.value]


@pytest.mark.parametrize(
    ("timeout", "kind"), [(fast(read=0.3), errors.ReadTimeoutError), (fast(total=0.5), errors.DeadlineExceededError)]
)
def test_a_stream_that_takes_too_long_keeps_its_chunks(direct_twin: Twin, timeout: Timeout, kind: Any) -> None:  # noqa: F811
    with stalled(direct_twin, timeout=timeout) as endpoint:
        with pytest.raises(kind) as caught:
            endpoint.collect("Hello")
        assert caught.value.received == ("one", "two")


def test_a_stop_sequence_ends_a_stream_without_a_further_read(direct_twin: Twin) -> None:  # noqa: F811
    with stalled(direct_twin) as endpoint, endpoint.stream("Hello", stop=["wo"]) as stream:
        assert "".join(stream) == "onet"
        assert stream.iterator.finish_reason == "stop"


def test_an_error_after_a_stop_sequence_is_not_part_of_the_answer(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator(lambda _: lines("a", "STOP", "c"), piece_size=None) as emulator:
        endpoint = direct_twin.endpoint(emulator.url)
        for fault in ("exception_known", "fin_mid_frame"):
            emulator.inject(fault, times=1)
            assert "".join(endpoint.collect("Hello", stop="a")) == ""
        direct_twin.settle()
        emulator.disconnected()


def test_chunks_before_broken_http_are_delivered(direct_twin: Twin) -> None:  # noqa: F811
    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(STREAM_HEAD + stream_chunk(b"one") + b"xyz\r\n")
        peer.gone()

    with Server(serve) as server, direct_twin.endpoint(server.url, content_handler=BytesHandler()) as endpoint:
        stream = endpoint.stream(b"")
        assert next(stream) == b"one"
        with pytest.raises(errors.StreamTruncatedError) as caught:
            next(stream)
        assert caught.value.received == (b"one",)
        assert isinstance(caught.value.__cause__, errors.ProtocolError)


def test_a_decoder_that_fails_ends_the_stream_and_frees_its_connection(direct_twin: Twin) -> None:  # noqa: F811
    class Failing(BytesHandler):
        def stream_decoder(self) -> Any:
            return self

        def feed(self, data: bytes) -> list[bytes]:
            if data != b"one":
                raise ValueError("not mine")
            return [data]

    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(STREAM_HEAD + stream_chunk(b"one"))
        assert first.wait(PATIENCE)
        peer.send(stream_chunk(b"two"))
        peer.gone()

    first = threading.Event()
    options: dict[str, Any] = {"content_handler": Failing(), "max_connections": 1}
    with Server(serve) as server, direct_twin.endpoint(server.url, **options) as endpoint:
        for _ in range(2):
            stream = endpoint.stream(b"")
            assert next(stream) == b"one"
            first.set()
            with pytest.raises(errors.HandlerError, match="stream decoder raised ValueError: see the cause") as caught:
                next(stream)
            assert caught.value.received == (b"one",)
            assert isinstance(caught.value.__cause__, ValueError)
            first.clear()


# completions and opening


@pytest.mark.parametrize("piece_size", [None, 7])
def test_the_completion_of_a_chat_is_the_answer_whole(twin: Twin, piece_size: int | None) -> None:  # noqa: F811
    with Emulator(lambda asked: CHAT, piece_size=piece_size) as emulator:
        endpoint = twin.endpoint(emulator.url, content_handler=ChatHandler())
        with endpoint.stream("Hello") as stream:
            chunks = list(stream)
        completion = stream.iterator.completion
        assert completion == stream.iterator.decoder.completion
        assert completion == ChatCompletion(
            "It is late.",
            (ToolCall("c1", "add", '{"a":1}'), ToolCall("c2", "mul", "{}")),
            "Hm",
            "tool_calls",
            Usage(1, 2, 3),
            completion.raw,
        )
        assert "".join(map(str, chunks)) == completion.text


@pytest.mark.parametrize("piece_size", [None, 7])
def test_a_completion_ends_where_a_stop_sequence_ended_the_stream(
    twin: Twin,  # noqa: F811
    piece_size: int | None,
) -> None:
    with Emulator(lambda asked: [b"".join(CHAT)], piece_size=piece_size) as emulator:
        endpoint = twin.endpoint(emulator.url, content_handler=ChatHandler())
        with endpoint.stream("Hello", stop=["la"]) as stream:
            chunks = list(stream)
        completion = stream.iterator.completion
        assert "".join(map(str, chunks)) == completion.text == "It is "
        assert (completion.tool_calls, completion.reasoning) == ((), "Hm")
        assert completion.finish_reason == stream.iterator.finish_reason == "stop"


def test_a_completion_is_of_the_type_of_the_output(twin: Twin) -> None:  # noqa: F811
    token = b'data: {"token": {"text": "a b"}, "details": {}}\n\n'
    cases: list[tuple[Any, bytes, Any]] = [
        (TextGenerationHandler(), token, "a b"),
        (TextHandler(), b"a b", "a b"),
        (BytesHandler(), b"a b", b"a b"),
        (JSONHandler(), b'{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
    ]
    for handler, body, made in cases:
        with Emulator(lambda asked, body=body: body) as emulator:
            endpoint = twin.endpoint(emulator.url, content_handler=handler)
            with endpoint.stream(b"Hello" if isinstance(handler, BytesHandler) else "Hello") as stream:
                list(stream)
            assert stream.iterator.completion == made


def test_the_completion_of_a_broken_stream_has_the_chunks_so_far(twin: Twin) -> None:  # noqa: F811
    with Emulator(lambda asked: CHAT[:3]) as emulator:
        stream = twin.endpoint(emulator.url, content_handler=ChatHandler()).stream("Hello")
        assert stream.iterator.completion == ChatCompletion("")
        with pytest.raises(errors.StreamTruncatedError):
            list(stream)
        assert stream.iterator.completion.text == "It is late."
        assert stream.iterator.completion.finish_reason is None


class Words:
    """A decoder of another package."""

    def __init__(self) -> None:
        self.complete: Any = None
        del self.complete

    def feed(self, data: bytes) -> list[Any]:
        return [len(data)]

    def finish(self) -> list[Any]:
        return []


def test_a_decoder_without_complete_has_no_completion() -> None:
    decoder: Any = Words()
    pipeline: Any = _pipeline.Pipeline(decoder, [])
    with pytest.raises(
        errors.HandlerError, match=r"Words cannot join its chunks: .* complete\(chunks, finish_reason\)"
    ):
        pipeline.completion()
    pipeline.received.append(1)
    with pytest.raises(errors.HandlerError, match="Words cannot join its chunks"):
        pipeline.completion()
    decoder.complete = lambda chunks, finish_reason: sum(chunks)
    assert pipeline.completion() == 1
    decoder.complete = lambda chunks, finish_reason: 1 / 0
    with pytest.raises(errors.HandlerError, match="ZeroDivisionError") as raised:
        pipeline.completion()
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    decoder.complete = lambda chunks, finish_reason: TextHandler().transform_input(chunks, {})
    with pytest.raises(errors.HandlerError, match="TextHandler sends bytes or a str"):
        pipeline.completion()
    pipeline.received.extend(range(_pipeline.MAX_RECEIVED))
    with pytest.raises(errors.StreamError, match="more chunks than are kept"):
        pipeline.completion()


def test_a_completion_that_cannot_be_given_names_the_endpoint(twin: Twin) -> None:  # noqa: F811
    class Handler(TextHandler):
        def stream_decoder(self) -> Any:
            return Words()

    with Emulator(lambda asked: b"Hello") as emulator:
        with twin.endpoint(emulator.url, content_handler=Handler()).stream("Hello") as stream:
            list(stream)
        with pytest.raises(errors.HandlerError) as raised:
            _ = stream.iterator.completion
        assert raised.value.endpoint_name == "my-llm"


def test_open_sends_the_request_once_and_gives_the_stream(twin: Twin) -> None:  # noqa: F811
    with Emulator(lambda asked: CHAT) as emulator:
        stream = twin.endpoint(emulator.url, content_handler=ChatHandler()).stream("Hello")
        assert len(emulator.requests) == 0
        for _ in range(2):
            assert twin.run(stream.iterator.open()) is stream.iterator
            assert len(emulator.requests) == 1
            assert stream.iterator.request_id
        with stream:
            assert "".join(map(str, stream)) == "It is late."
        assert twin.run(stream.iterator.open()) is stream.iterator  # it has ended well
        assert len(emulator.requests) == 1


def test_open_raises_a_refusal_and_later_reads_raise_it_again(twin: Twin) -> None:  # noqa: F811
    def refuse(asked: ModelRequest) -> ModelReply:
        return ModelReply(b'{"error": "no"}', status=400)

    with Emulator(refuse) as emulator:
        stream = twin.endpoint(emulator.url, content_handler=ChatHandler()).stream("Hello")
        for _ in range(2):
            with pytest.raises(errors.ModelError):
                twin.run(stream.iterator.open())
        with pytest.raises(errors.ModelError):
            next(stream)
        assert len(emulator.requests) == 1


def test_a_closed_stream_cannot_be_opened(twin: Twin) -> None:  # noqa: F811
    with Emulator(lambda asked: CHAT) as emulator:
        endpoint = twin.endpoint(emulator.url, content_handler=ChatHandler())
        for opened in (False, True):
            stream = endpoint.stream("Hello")
            if opened:
                twin.run(stream.iterator.open())
            stream.close()
            with pytest.raises(errors.StreamError, match="closed before its end"):
                twin.run(stream.iterator.open())


def test_one_task_alone_can_open_a_stream(direct_twin: Twin) -> None:  # noqa: F811
    import asyncio

    if not direct_twin.asynchronous:
        return
    with Emulator(lambda asked: CHAT) as emulator:
        stream = direct_twin.endpoint(emulator.url, content_handler=ChatHandler()).stream("Hello").iterator

        async def twice() -> list[Any]:
            return await asyncio.gather(stream.open(), stream.open(), return_exceptions=True)

        first, second = direct_twin.run(twice())
        assert first is stream
        assert isinstance(second, errors.ConfigurationError)
        assert len(emulator.requests) == 1
        direct_twin.run(stream.aclose())


def test_streams_take_one_type_or_two_at_run_time() -> None:
    for kind in (Stream, AsyncStream):
        assert str(kind[str]).endswith("[str, str]")
        assert kind[str, int] != kind[str]
