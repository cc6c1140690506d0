"""`open` tells of a refusal before anything is shown; `completion` is what the chunks made."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twins import Twin, direct_twin, twin  # noqa: F401

from smendpoint import AsyncStream, Stream, errors
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


def test_the_completion_of_a_broken_stream_is_what_came(twin: Twin) -> None:  # noqa: F811
    with Emulator(lambda asked: CHAT[:3]) as emulator:
        stream = twin.endpoint(emulator.url, content_handler=ChatHandler()).stream("Hello")
        assert stream.iterator.completion == ChatCompletion("")
        with pytest.raises(errors.StreamTruncatedError):
            list(stream)
        assert stream.iterator.completion.text == "It is late."
        assert stream.iterator.completion.finish_reason is None


class Words:
    """A decoder of somebody else's."""

    def __init__(self) -> None:
        self.complete: Any = None
        del self.complete

    def feed(self, data: bytes) -> list[Any]:
        return [len(data)]

    def finish(self) -> list[Any]:
        return []


def test_a_decoder_that_does_not_say_what_its_chunks_make_has_no_completion() -> None:
    decoder: Any = Words()
    pipeline: Any = _pipeline.Pipeline(decoder, [])
    with pytest.raises(errors.HandlerError, match=r"Words does not say .* complete\(chunks, finish_reason\)"):
        pipeline.completion()
    pipeline.received.append(1)
    with pytest.raises(errors.HandlerError, match="Words does not say"):
        pipeline.completion()
    decoder.complete = lambda chunks, finish_reason: sum(chunks)
    assert pipeline.completion() == 1
    decoder.complete = lambda chunks, finish_reason: 1 / 0
    with pytest.raises(errors.HandlerError, match="ZeroDivisionError") as raised:
        pipeline.completion()
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    decoder.complete = lambda chunks, finish_reason: TextHandler().transform_input(chunks, {})
    with pytest.raises(errors.HandlerError, match="TextHandler sends bytes or str"):
        pipeline.completion()
    pipeline.received.extend(range(_pipeline.MAX_RECEIVED))
    with pytest.raises(errors.StreamError, match="more of them than are kept"):
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


def test_open_tells_of_a_refusal_and_tells_it_again(twin: Twin) -> None:  # noqa: F811
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
