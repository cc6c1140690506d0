"""Documented answers with each field absent, null or of another type: an answer, or an error that names the field."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from feeding import drive
from handler_samples import (
    ABSENT,
    CHAT_STREAMS,
    CHAT_WHOLE,
    LLAMA_CHAT,
    OTHER_WHOLE,
    PIPELINE_CHAT,
    READERS,
    TEXT_STREAMS,
    TEXT_WHOLE,
    Streamed,
    Whole,
    kind_of,
    mutated,
)

from smendpoint._core.http.body import ResponseBody
from smendpoint.errors import HandlerError, ModelOutputError, SmendpointError, StreamTruncatedError
from smendpoint.handlers import (
    AutoHandler,
    ChatCompletion,
    ChatHandler,
    JSONHandler,
    JumpStartChatHandler,
)
from smendpoint.handlers._answers import ENDS

CHAT_FULL = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": [{"type": "text", "text": "Hello"}],
                    "reasoning_content": "Hm",
                    "tool_calls": [
                        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}},
                        {"id": "c2", "type": "function", "function": {"name": "mul", "arguments": '{"b":2}'}},
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
    }
).encode()
TGI_TOOL = (
    b'{"choices":[{"message":{"role":"assistant","content":null,"tool_calls":'
    b'{"id":"0","function":{"name":"add","arguments":{"a":1}}}},"finish_reason":"stop"}]}'
)

# The details beside an answer. Where one is of another type, the answer is given without it.
BESIDE = {
    "finish_reason",
    "usage",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
}
# The fields that an answer may lack: then they are empty.
OPTIONAL = {"arguments", "content", "document", "id", "reasoning_content", "text", "tool_calls"}

# The name is the model's own, so no error can know it.
UNNAMED = {("outputs", "y")}
# The answer of SageMaker's k-nearest neighbours, which is linear learner's without its scores.
ALSO_DOCUMENTED = [{"predictions": [{"predicted_label": 1}]}, {"predictions": [{"predicted_label": 0}]}]

WHOLE = [
    *TEXT_WHOLE,
    *(sample for sample in OTHER_WHOLE if sample.handler.accepts == "application/json"),
    Whole("chat", ChatHandler(), CHAT_WHOLE, None),
    Whole("chat, all of it", ChatHandler(), CHAT_FULL, None),
    Whole("chat, tool of tgi", ChatHandler(), TGI_TOOL, None),
    Whole("llama chat", JumpStartChatHandler(), LLAMA_CHAT, None),
    Whole("hf chat", ChatHandler(), PIPELINE_CHAT, None),
]
SAMPLES = {
    sample.name: (sample.handler, json.loads(sample.body))
    for sample in WHOLE
    if not isinstance(sample.handler, JSONHandler)  # which gives any JSON
}


def read(handler: Any, value: Any) -> Any:
    """Give the handler's output for an answer; a chat's without the answer itself."""
    output = handler.transform_output(ResponseBody(json.dumps(value).encode()))
    return output._replace(raw=None) if isinstance(output, ChatCompletion) else output


def leaves(output: Any) -> list[Any]:
    """Give everything in an output, at any depth, its containers included."""
    inner: list[Any] = []
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        inner = [getattr(output, field.name) for field in dataclasses.fields(output)]
    elif isinstance(output, dict):
        inner = [*output, *output.values()]
    elif isinstance(output, (list, tuple)):
        inner = list(output)
    return [output, *(leaf for item in inner for leaf in leaves(item))]


def same(one: Any, other: Any) -> bool:
    """Say whether two leaves are the same value, and of the same type in JSON."""
    return kind_of(one) is kind_of(other) and one == other


def core(output: Any) -> Any:
    """Give an output without the details beside it."""
    return output._replace(finish_reason=None, usage=None) if isinstance(output, ChatCompletion) else output


def complaint(handler: Any, own: bool, original: Any, place: tuple[Any, ...], other: Any, changed: Any) -> str | None:
    """Say why the handler's output for a changed answer is wrong; ``None`` where it is right.

    ``original`` is its output for the answer before, ``None`` where it did not read that; ``own`` says whether the
    handler is made for this answer.
    """
    fields = [name for name in place if isinstance(name, str)]
    try:
        output = read(handler, changed)
    except HandlerError as error:
        named = not own or not fields or fields[-1] in str(error) or place in UNNAMED
        return None if named else f"the error does not name the field: {error}"
    except ModelOutputError as error:
        return f"it became an error of the model: {error}"
    if original is None or same(output, original) or not fields:
        return None  # an item of a list has no name
    if fields[-1] in BESIDE and core(output) == core(original):
        return None
    if fields[-1] in OPTIONAL and (other is ABSENT or other is None or other == []):
        return None
    if any(same(leaf, new) for leaf in leaves(output) for new in leaves(other)):
        return None  # the changed answer says so
    if fields[-1] == "id" and any(leaf == str(other) for leaf in leaves(output)):
        return None  # some containers number their tool calls
    if "arguments" in fields and (fields[-1] != "arguments" or isinstance(other, dict)):
        return None  # TGI's are an object, which is given as text
    if other is ABSENT and changed in ALSO_DOCUMENTED:
        return None
    return f"{original!r} became {output!r}"


@pytest.mark.parametrize("name", SAMPLES)
def test_a_changed_answer_is_an_answer_or_an_error_that_names_the_field(name: str) -> None:
    own, answer = SAMPLES[name]
    for handler in (own, *READERS):
        is_own = type(handler) in (type(own), AutoHandler)
        try:
            original = read(handler, answer)
        except HandlerError:
            original = None
        for place, other, changed in mutated(answer):
            found = complaint(handler, is_own and original is not None, original, place, other, changed)
            assert found is None, f"{type(handler).__name__}, {place} = {other!r}: {found}"


# -- streams


TOOL_CHUNKS = [
    '{"choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":"Hm"}}]}',
    '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function",'
    '"function":{"name":"add","arguments":""}}]},"finish_reason":null}]}',
    '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]},"finish_reason":null}]}',
    '{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":1}}',
]
STREAMS = [
    *TEXT_STREAMS,
    *CHAT_STREAMS,
    Streamed("tools", ChatHandler(), "".join(f"data: {chunk}\n\n" for chunk in TOOL_CHUNKS).encode(), ""),
]
STREAMED = {sample.name: sample for sample in STREAMS}

# A stream whose end is not marked was cut: its error names the missing mark.
MARKS = {"choices", "finish_reason", "stop_reason", "body", "index", "delta", "token"}
MARKS |= {word for end in ENDS.values() for word in re.findall(r"\w+", end.mark)}


# Where these are missing, an item brings no news; and of a text that repeats its pieces, the pieces are given.
NO_NEWS = {"choices", "delta", "function", "message", "special", "token"}


def changed_streams(body: bytes) -> Iterator[tuple[tuple[Any, ...], Any, bytes]]:
    """Give a stream with each field of each item absent, null or of another type."""
    lines = body.split(b"\n")
    for number, line in enumerate(lines):
        start = b"data: " if line.startswith(b"data: ") else b"data:" if line.startswith(b"data:") else b""
        if line[len(start) :][:1] in (b"{", b"[") and not line.endswith(b"[DONE]"):
            for place, other, changed in mutated(json.loads(line[len(start) :])):
                item = start + json.dumps(changed).encode()
                if changed != {}:  # which brings no news in any format
                    yield place, other, b"\n".join([*lines[:number], item, *lines[number + 1 :]])


def outcome(handler: Any, body: bytes, size: int) -> tuple[str, Any, SmendpointError | None]:
    """Give the text, the completion of a chat, and the failure of a stream that comes in pieces of this size."""
    decoder = handler.stream_decoder()
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    chunks, failure = drive(decoder, pieces, SmendpointError)
    made = getattr(decoder, "completion", None)
    return "".join(map(str, chunks)), made and made._replace(raw=None), failure


def stream_complaint(own: bool, before: Any, place: tuple[Any, ...], other: Any, after: Any) -> str | None:
    """Say why a handler's outcome of a changed stream is wrong; ``None`` where it is right."""
    fields = [name for name in place if isinstance(name, str)]
    text, made, failure = after
    if fields[-1:] == ["index"] and other == 10**400:
        return None  # a whole number: the index of another answer or another call
    missing = fields and fields[-1] in OPTIONAL | BESIDE | NO_NEWS and other in (ABSENT, None, [], {})
    if isinstance(failure, HandlerError):
        return (
            None
            if missing or not own or not fields or fields[-1] in str(failure)
            else f"the field is not named: {failure}"
        )
    if failure is not None:
        return (
            None if isinstance(failure, StreamTruncatedError) and {*fields} & MARKS else f"another error: {failure!r}"
        )
    if before[2] is not None or not fields or (text, core(made)) == (before[0], core(before[1])):
        return None
    if missing:
        return None
    said = [leaf for leaf in leaves(other) if not (isinstance(leaf, str) and not leaf)]
    if any(same(leaf, new) or (isinstance(new, str) and new in text) for leaf in leaves(made) for new in said):
        return None  # the changed stream says so
    if fields[-1] == "id" and any(leaf == str(other) for leaf in leaves(made)):
        return None  # some containers number their tool calls
    return f"{before[:2]} became {after[:2]}"


@pytest.mark.parametrize("name", STREAMED)
def test_a_changed_stream_is_an_answer_or_an_error_that_names_the_field_however_it_is_cut(name: str) -> None:
    sample = STREAMED[name]
    for handler in (sample.handler, *(handler for handler in READERS if hasattr(handler, "stream_decoder"))):
        is_own = type(handler) is type(sample.handler)
        before = outcome(handler, sample.body, len(sample.body))
        for place, other, body in changed_streams(sample.body):
            after = outcome(handler, body, len(body))
            found = stream_complaint(is_own, before, place, other, after)
            assert found is None, f"{type(handler).__name__}, {place} = {other!r}: {found}"
            if is_own:
                cut = outcome(handler, body, 7)
                assert (after[:2], str(after[2])) == (cut[:2], str(cut[2])), (place, other)
