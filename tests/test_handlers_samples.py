"""Every sample answer, whole and cut at every byte, mutated, and in turn with others, in every handler."""

from __future__ import annotations

import contextlib
import json
import pickle
import random
from collections.abc import Callable
from typing import Any

import pytest
from feeding import FUZZ, drive, read, ways
from handler_samples import (
    AUTO_STREAMS,
    AUTO_WHOLE,
    CHAT_STREAMS,
    CHAT_WHOLE,
    ERRORS,
    OTHER_WHOLE,
    READERS,
    TEXT_STREAMS,
    TEXT_WHOLE,
    Failed,
    Streamed,
    Whole,
    mutated,
    parsed,
)

from smendpoint._core.http.body import ResponseBody
from smendpoint.errors import HandlerError, ModelOutputError, SmendpointError
from smendpoint.handlers import (
    AutoHandler,
    BytesHandler,
    ChatHandler,
    EmbeddingsHandler,
    JSONHandler,
    JumpStartChatHandler,
    JumpStartTextHandler,
    NumPyHandler,
    OpenAICompletionsHandler,
    TabularHandler,
    TabularRowsHandler,
    TextGenerationHandler,
    TextHandler,
)
from smendpoint.handlers._answers import TEXT_FORMATS, answer_text

WHOLE = [*TEXT_WHOLE, *AUTO_WHOLE, *OTHER_WHOLE]
STREAMS = [*TEXT_STREAMS, *CHAT_STREAMS, *AUTO_STREAMS]
HANDLERS: list[Any] = [
    *READERS,
    BytesHandler(),
    EmbeddingsHandler("cohere", embedding_type="int8"),
    EmbeddingsHandler("openai"),
    JSONHandler(),
    JumpStartChatHandler(),
    JumpStartTextHandler("llama-2"),
    NumPyHandler(),
    TabularHandler(),
    TabularHandler("npy", "npy"),
    TabularHandler("json", "json", dtype=str),
    TabularRowsHandler("jsonlines", "jsonlines", dtype=int),
    TextGenerationHandler(details=True),
    TextHandler(),
]
STREAMING = [handler for handler in HANDLERS if hasattr(handler, "stream_decoder")]
# Those that read JSON of known shapes.
TYPED = [handler for handler in HANDLERS if "json" in handler.accepts and not isinstance(handler, JSONHandler)]


def name_of(sample: Any) -> str:
    return getattr(sample, "name", None) or type(sample).__name__


def read_stream(handler: Any, pieces: list[bytes]) -> tuple[str, Any]:
    decoder = handler.stream_decoder()
    return "".join(map(str, read(decoder, pieces))), decoder


def stream_outcome(handler: Any, pieces: list[bytes]) -> tuple[str, Any]:
    """Give the text before the failure, and the failure or ``None``."""
    received, error = drive(handler.stream_decoder(), pieces, SmendpointError)
    return "".join(map(str, received)), error


@pytest.mark.parametrize("sample", WHOLE, ids=name_of)
def test_a_whole_answer_gives_its_output(sample: Whole) -> None:
    assert sample.handler.transform_output(ResponseBody(sample.body)) == sample.output


def test_each_format_of_the_table_has_a_sample_of_each_handler_that_reads_it() -> None:
    samples = {((answer_text(json.loads(sample.body)) or "?")[0], type(sample.handler)) for sample in TEXT_WHOLE}
    table = {(kind, reader) for kind, entry in TEXT_FORMATS.items() for reader in entry.readers}
    assert {(kind, handler.__name__) for kind, handler in samples} == table


@pytest.mark.parametrize("sample", TEXT_WHOLE, ids=name_of)
def test_the_details_of_an_answer_do_not_repeat_its_text(sample: Whole) -> None:
    details = sample.handler.read_details(ResponseBody(sample.body)).details
    assert json.dumps(sample.output) not in json.dumps(dict(details or {}))


@pytest.mark.parametrize("sample", STREAMS, ids=name_of)
def test_a_stream_gives_its_text_finish_reason_and_usage_however_it_is_cut(sample: Streamed) -> None:
    for pieces in ways(sample.body):
        text, decoder = read_stream(sample.handler, pieces)
        assert (text, decoder.finish_reason, decoder.usage) == (sample.text, sample.finish_reason, sample.usage)


def test_streams_of_all_handlers_in_turn_share_no_state() -> None:
    decoders = [(sample, sample.handler.stream_decoder()) for sample in STREAMS for _ in range(2)]
    texts = [""] * len(decoders)
    for at in range(0, max(len(sample.body) for sample in STREAMS), 7):
        for number, (sample, decoder) in enumerate(decoders):
            texts[number] += "".join(map(str, decoder.feed(sample.body[at : at + 7])))
    for number, (sample, decoder) in enumerate(decoders):
        assert texts[number] + "".join(map(str, decoder.finish())) == sample.text


@pytest.mark.parametrize("handler", HANDLERS, ids=name_of)
def test_a_handler_pickles(handler: Any) -> None:
    again = pickle.loads(pickle.dumps(handler))
    assert (again.content_type, again.accepts) == (handler.content_type, handler.accepts)


@pytest.mark.parametrize("handler", HANDLERS, ids=name_of)
def test_a_handler_names_the_types_that_it_sends_and_accepts(handler: Any) -> None:
    assert "/" in handler.content_type
    assert "/" in handler.accepts
    assert handler.stop_parameter in {"stop", None}


@pytest.mark.parametrize("sample", ERRORS, ids=name_of)
@pytest.mark.parametrize("handler", TYPED, ids=name_of)
def test_an_error_in_a_whole_answer_raises(handler: Any, sample: Failed) -> None:
    with pytest.raises(ModelOutputError) as raised:
        handler.transform_output(ResponseBody(sample.body))
    assert (raised.value.code, raised.value.error_type) == (sample.code, sample.error_type)
    assert raised.value.message == sample.message


CHAT_CHUNK = b'{"choices":[{"index":0,"delta":{"content":"so far"}}]}'
COMPLETION_CHUNK = b'{"choices":[{"index":0,"text":"so far"}]}'
TOKEN = b'{"token":{"id":1,"text":"so far","special":false},"generated_text":null,"details":null}'
GOOD: list[tuple[Any, bytes]] = [
    (TextGenerationHandler(), TOKEN),
    (JumpStartTextHandler("llama-3"), TOKEN),
    (OpenAICompletionsHandler(), COMPLETION_CHUNK),
    (ChatHandler(), CHAT_CHUNK),
    (AutoHandler(), TOKEN),
    (AutoHandler(), CHAT_CHUNK),
]


@pytest.mark.parametrize("sample", ERRORS, ids=name_of)
@pytest.mark.parametrize("framing", ["events", "lines"])
def test_an_error_in_a_stream_raises_after_the_chunks_before_it(sample: Failed, framing: str) -> None:
    start, end = (b"data:", b"\n\n") if framing == "events" else (b"", b"\n")
    for handler, good in GOOD:
        body = start + good + end + start + sample.body + end
        for pieces in ([body], [body[at : at + 1] for at in range(len(body))], [body[:-1]]):
            received, error = stream_outcome(handler, pieces)
            assert received == "so far"
            assert isinstance(error, ModelOutputError)
            assert (error.code, error.error_type) == (sample.code, sample.error_type)
        received, error = stream_outcome(handler, [start + sample.body + end])
        assert (received, type(error)) == ("", ModelOutputError)


@pytest.mark.parametrize("handler", TYPED, ids=name_of)
def test_an_unknown_shape_is_an_error_that_shows_keys_and_no_values(handler: Any) -> None:
    body = b'{"surprise": {"inside": "SECRET"}, "n": 12345}'
    with pytest.raises(HandlerError) as raised:
        handler.transform_output(ResponseBody(body))
    shown = str(raised.value)
    assert type(handler).__name__ in shown
    assert "'surprise'" in shown
    assert "SECRET" not in shown
    assert "12345" not in shown
    assert raised.value.__cause__ is None


def mutations(seeds: list[bytes], count: int) -> list[bytes]:
    numbers = random.Random(7)
    tokens = [
        *(b"null", b"1", b'"x"', b"[]", b"{}", b"true", b"-1e999", b"NaN", b"\xff", b"\n", b"data:", b"[[[[1]]]]"),
        b"1" * 5000,
    ]
    made: list[bytes] = []
    for _ in range(count):
        data = bytearray(numbers.choice(seeds))
        for _ in range(numbers.randrange(1, 4)):
            at = numbers.randrange(len(data) + 1)
            kind = numbers.randrange(4)
            if kind == 0:
                data[at : at + numbers.randrange(1, 12)] = b""
            elif kind == 1:
                data[at:at] = numbers.choice(tokens)
            elif kind == 2 and at < len(data):
                data[at] = numbers.randrange(256)
            else:
                end = data.find(b",", at)
                data[at : end if end >= 0 else at] = numbers.choice(tokens)
        made.append(bytes(data))
    return made


def restructured(bodies: list[bytes], count: int) -> list[bytes]:
    """Give valid JSON with up to three changed fields, which changes of bytes seldom reach."""
    numbers = random.Random(11)
    values = [value for body in bodies for value in parsed(body) if value]
    made: list[bytes] = []
    for _ in range(count):
        value = numbers.choice(values)
        for _ in range(numbers.randrange(1, 4)):
            value = numbers.choice([value, *(changed for _, _, changed in mutated(value))])
        made.append(json.dumps(value).encode())
    return made


BODIES = [*(sample.body for sample in (*WHOLE, *STREAMS, *ERRORS)), CHAT_WHOLE, CHAT_CHUNK, COMPLETION_CHUNK, TOKEN]
FUZZED: dict[str, Callable[[], list[bytes]]] = {
    "mutated": lambda: mutations(BODIES, FUZZ // 20),
    "restructured": lambda: restructured(BODIES, FUZZ // 10),
}


@pytest.mark.parametrize("how", FUZZED)
def test_fuzzed_whole_answers_raise_only_our_errors(how: str) -> None:
    for body in FUZZED[how]():
        for handler in HANDLERS:
            for method in (handler.transform_output, getattr(handler, "read_details", handler.transform_output)):
                with contextlib.suppress(SmendpointError):
                    method(ResponseBody(body))


@pytest.mark.parametrize("how", FUZZED)
def test_fuzzed_streams_raise_only_our_errors_and_do_not_depend_on_the_cut(how: str) -> None:
    numbers = random.Random(13)
    for body in FUZZED[how]():
        for wrapped in (body, b"data:" + body + b"\n\n", b"data:" + TOKEN + b"\n\ndata: " + body + b"\n\n"):
            handler = numbers.choice(STREAMING)
            if isinstance(handler, BytesHandler):
                continue
            size = numbers.randrange(1, 30)
            text, error = stream_outcome(handler, [wrapped])
            cut, cut_error = stream_outcome(handler, [wrapped[at : at + size] for at in range(0, len(wrapped), size)])
            assert (cut, str(cut_error)) == (text, str(error))
