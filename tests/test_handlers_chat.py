"""Chat: messages in, typed answers out, streamed deltas, tool calls put together."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from feeding import ways
from handler_samples import CHAT_WHOLE, LLAMA_CHAT
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._core.http.body import ResponseBody
from smendpoint.errors import HandlerError
from smendpoint.handlers import (
    AutoHandler,
    ChatChunk,
    ChatCompletion,
    ChatHandler,
    JumpStartChatHandler,
    OutputDetails,
    ToolCall,
    ToolCallDelta,
    Usage,
    image_part,
)

MESSAGES: list[dict[str, Any]] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def event(delta: Any, *, finish_reason: str | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, **fields}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def tool_delta(**call: Any) -> dict[str, Any]:
    return {"tool_calls": [call]}


def call_piece(call_id: Any, name: Any, arguments: Any, index: int | None = None) -> dict[str, Any]:
    """Give a piece of a tool call; `None` is sent as null, an index of `None` is not sent."""
    piece = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return piece if index is None else {"index": index, **piece}


def read(*events: bytes) -> tuple[list[ChatChunk], Any]:
    """Give the chunks of a stream, which gets an end where it is one of events, and its decoder."""
    decoder = ChatHandler().stream_decoder()
    end = [] if b"".join(events).startswith(b"{") else [b"data: [DONE]\n\n"]
    chunks = [chunk for piece in (*events, *end) for chunk in decoder.feed(piece)]
    return chunks + decoder.finish(), decoder


def test_messages_and_every_field_of_the_format_are_sent() -> None:
    fields: dict[str, Any] = {
        "tools": TOOLS,
        "tool_choice": "auto",
        "response_format": {"type": "json_object"},
        "max_tokens": 64,
        "model": "m",
        "anything": 1,
    }
    assert json.loads(ChatHandler().transform_input(MESSAGES, fields)) == {"messages": MESSAGES, **fields}


def test_a_stream_asks_for_its_usage_unless_told_otherwise() -> None:
    body = json.loads(ChatHandler().transform_stream_input(MESSAGES, {"max_tokens": 1}))
    usage = {"include_usage": True}
    assert body == {"messages": MESSAGES, "stream": True, "stream_options": usage, "max_tokens": 1}
    body = json.loads(ChatHandler().transform_stream_input(MESSAGES, {"stream_options": None}))
    assert body["stream_options"] is None


def test_jumpstart_llama_takes_a_batch_of_one_conversation() -> None:
    handler = JumpStartChatHandler()
    request = {"inputs": [MESSAGES], "parameters": {"top_p": 0.9}}
    assert json.loads(handler.transform_input(MESSAGES, {"top_p": 0.9})) == request
    assert json.loads(handler.transform_stream_input(MESSAGES, {"top_p": 0.9})) == {**request, "stream": True}


def test_a_str_is_one_message_of_the_user() -> None:
    assert json.loads(ChatHandler().transform_input("Hi", {})) == {"messages": [{"role": "user", "content": "Hi"}]}


def test_any_mappings_in_any_sequence_are_messages() -> None:
    messages = (MappingProxyType({"role": "user", "content": "Hi"}),)
    assert json.loads(ChatHandler().transform_input(messages, {}))["messages"] == [{"role": "user", "content": "Hi"}]


def test_text_and_image_parts_and_tool_messages_pass() -> None:
    messages: list[Mapping[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image_part("https://example.com/a.png")]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "assistant", "tool_calls": [{"id": "2"}]},
        {"role": "tool", "tool_call_id": "1", "content": "4"},
    ]
    assert json.loads(ChatHandler().transform_input(messages, {}))["messages"] == messages


def test_an_images_bytes_travel_inside_the_message() -> None:
    part = image_part(b"\x89PNG", media_type="image/png", detail="low")
    encoded = base64.b64encode(b"\x89PNG").decode()
    assert part == {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{encoded}", "detail": "low"},
    }


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "at least one message"),
        ({"role": "user", "content": "Hi"}, "a str or a sequence of messages, not dict"),
        (b"Hi", "a str or a sequence of messages, not bytes"),
        (None, "a str or a sequence of messages, not NoneType"),
        (["SECRET"], "Message 0 must be a mapping with role and content, not str"),
        ([*MESSAGES, {"content": "SECRET"}], "Message 2 has no role"),
        ([{"role": "user"}], r"Message 0 \('user'\) has no content"),
        ([{"role": "user", "content": 1}], "content of message 0 must be a str or a list of parts, not int"),
        ([{"role": "user", "content": [{"text": "SECRET"}]}], "Part 0 of message 0 has no type"),
        ([{"role": "user", "content": [{"type": "text"}, "SECRET"]}], "Part 1 of message 0 has no type"),
    ],
)
def test_an_input_that_is_not_a_message_is_an_error_that_says_which(messages: Any, said: str) -> None:
    with pytest.raises(HandlerError, match=said) as raised:
        ChatHandler().transform_input(messages, {})
    assert "SECRET" not in str(raised.value)


def test_a_whole_answer_is_typed() -> None:
    completion = ChatHandler().transform_output(ResponseBody(CHAT_WHOLE))
    assert completion == ChatCompletion("Hello", (), None, "stop", Usage(5, 1, 6), json.loads(CHAT_WHOLE))
    assert str(completion) == "Hello"
    assert completion.replace_text("Hel") == completion._replace(text="Hel")
    assert completion.to_message() == {"role": "assistant", "content": "Hello"}


def test_a_llama_answer_is_the_same_type() -> None:
    for body in (LLAMA_CHAT, b'{"generation":{"role":"assistant","content":"Hello"}}'):
        assert JumpStartChatHandler().transform_output(ResponseBody(body)).text == "Hello"


def completion_of(message: Any) -> ChatCompletion:
    return ChatHandler().transform_output(ResponseBody(json.dumps({"choices": [{"message": message}]}).encode()))


def test_tool_calls_come_with_null_content() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ghent"}'}}]
    completion = completion_of({"role": "assistant", "content": None, "tool_calls": calls})
    assert completion.text == ""
    assert completion.tool_calls == (ToolCall("c1", "weather", '{"city": "Ghent"}'),)
    assert completion.tool_calls[0].parse_arguments() == {"city": "Ghent"}
    assert completion.to_message() == {"role": "assistant", "content": None, "tool_calls": calls}


def test_tool_calls_in_looser_shapes_are_read() -> None:
    calls = [
        {"id": 0, "function": {"name": "a", "arguments": {"x": 1}}},
        {"function": {"name": "b"}},
    ]
    assert completion_of({"tool_calls": calls}).tool_calls == (ToolCall("0", "a", '{"x":1}'), ToolCall("", "b", ""))
    assert completion_of({"tool_calls": calls[1]}).tool_calls == (ToolCall("", "b", ""),)


def test_no_arguments_are_an_empty_object_and_broken_ones_an_error() -> None:
    assert ToolCall("1", "a", " ").parse_arguments() == {}
    with pytest.raises(HandlerError, match="tool 'a' are not JSON") as raised:
        ToolCall("1", "a", '{"x": SECRET').parse_arguments()
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_is_read_under_both_names(name: str) -> None:
    completion = completion_of({"content": "4", name: "2 and 2"})
    assert (completion.text, completion.reasoning) == ("4", "2 and 2")
    chunks, decoder = read(event({name: "2 "}), event({name: "and 2"}), event({"content": "4"}))
    assert chunks == [ChatChunk("", "2 "), ChatChunk("", "and 2"), ChatChunk("4")]
    assert decoder.completion.reasoning == "2 and 2"


def test_content_in_parts_is_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    assert completion_of({"content": parts}).text == "ab"
    assert read(event({"content": parts}))[0] == [ChatChunk("ab")]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"content": 1}, '"content" .* neither text nor a list of parts'),
        ({"content": [{"type": "text"}]}, '"content" .* neither text nor a list of parts'),
        ({"content": [{"text": "a"}]}, '"content" .* neither text nor a list of parts'),
        ({"content": ["a"]}, '"content" .* neither text nor a list of parts'),
        ({"content": "a", "reasoning": {"effort": 1}}, '"reasoning" of the answer is not text'),
        ({"tool_calls": "a"}, '"tool_calls" .* are not a list'),
        ({"tool_calls": [None]}, 'item of the answer\'s "tool_calls" is not an object'),
        ({"tool_calls": [{"id": "1"}]}, '"tool_calls" has no "function" with a "name"'),
        ({"tool_calls": [{"function": "a"}]}, '"function" of a tool call is not an object'),
        ({"tool_calls": [{"function": {"name": 1}}]}, '"name" of a tool call is not text'),
        ({"tool_calls": [{"id": True, "function": {"name": "a"}}]}, '"id" of a tool call is not text'),
        ({"tool_calls": [{"function": {"name": "a", "arguments": [1]}}]}, '"arguments" of a tool call are neither'),
    ],
)
def test_a_message_that_is_not_one_is_an_error_that_names_the_field(message: Any, said: str) -> None:
    with pytest.raises(HandlerError, match=said):
        completion_of(message)


@pytest.mark.parametrize("message", [None, {}, {"role": "assistant"}, [], "text"])
def test_a_choice_without_a_message_is_unknown(message: Any) -> None:
    with pytest.raises(HandlerError, match="ChatHandler expects"):
        completion_of(message)


def test_a_text_answer_is_not_a_chat() -> None:
    with pytest.raises(
        HandlerError, match=r"structure \[{'generated_text': text}\]. TextGenerationHandler reads this."
    ):
        ChatHandler().transform_output(ResponseBody(b'[{"generated_text":"a"}]'))
    with pytest.raises(HandlerError, match="structure number"):
        ChatHandler().transform_output(ResponseBody(b"1"))


def test_a_whole_answers_details_are_read() -> None:
    body = (
        b'{"choices":[{"message":{"content":"a"},"finish_reason":"stop","logprobs":{"content":[]},"stop_reason":null}]}'
    )
    details = ChatHandler().read_details(ResponseBody(body))
    assert details == OutputDetails("stop", None, {"logprobs": {"content": []}})


def test_streamed_tool_calls_are_put_together() -> None:
    events = [
        event({"role": "assistant", "content": None}),
        event(tool_delta(index=0, id="c1", type="function", function={"name": "weather", "arguments": ""})),
        event(tool_delta(index=0, function={"arguments": '{"city": '})),
        event(tool_delta(index=0, function={"arguments": '"Ghent"}'})),
        event(tool_delta(index=1, id="c2", type="function", function={"name": "time", "arguments": None})),
        event({}, finish_reason="tool_calls"),
        b"data: [DONE]\n\n",
    ]
    for pieces in ways(b"".join(events)):
        chunks, decoder = read(*pieces)
        assert [chunk.tool_calls for chunk in chunks] == [
            (ToolCallDelta(0, "c1", "weather", ""),),
            (ToolCallDelta(0, "", "", '{"city": '),),
            (ToolCallDelta(0, "", "", '"Ghent"}'),),
            (ToolCallDelta(1, "c2", "time", ""),),
            (),
        ]
        assert chunks[-1].finish_reason == "tool_calls"
        calls = (ToolCall("c1", "weather", '{"city": "Ghent"}'), ToolCall("c2", "time", ""))
        assert decoder.completion.tool_calls == calls
        assert decoder.completion.finish_reason == "tool_calls"


# The pieces of a stream, each with the id, the name, the arguments and perhaps the index; and the calls that they make.
PIECES: dict[str, tuple[list[tuple[Any, ...]], list[tuple[str, str, str]]]] = {
    "all numbered 0, told apart by id": (
        [("c1", "add", '{"a":1}', 0), ("c2", "mul", '{"b":2}', 0)],
        [("c1", "add", '{"a":1}'), ("c2", "mul", '{"b":2}')],
    ),
    "all numbered 0, in pieces without an id": (
        [("c1", "add", "", 0), (None, None, "{}", 0), ("c2", "mul", None, 0), ("", "", "{", 0), (None, None, "}", 0)],
        [("c1", "add", "{}"), ("c2", "mul", "{}")],
    ),
    "all numbered 0, their pieces in turn": (
        [("c1", "add", "{", 0), ("c2", "add", "[", 0), ("c1", None, "}", 0), ("c2", None, "]", 0)],
        [("c1", "add", "{}"), ("c2", "add", "[]")],
    ),
    "all numbered 0, told apart by name": (
        [(None, "add", "{}", 0), ("", "mul", "[]", 0)],
        [("", "add", "{}"), ("", "mul", "[]")],
    ),
    "an id in one, only a name in the next": (
        [("c1", "add", "{}", 0), (None, "mul", "[]", 0)],
        [("c1", "add", "{}"), ("", "mul", "[]")],
    ),
    "ids that are numbers": (
        [(0, "add", "{}", 0), (1, "add", "[]", 0)],
        [("0", "add", "{}"), ("1", "add", "[]")],
    ),
    "the same id and name in every piece": (
        [("c1", "add", "{", 0), ("c1", "add", "", 0), ("c1", "add", "}", 0)],
        [("c1", "add", "{}")],
    ),
    "an id that comes late": (
        [(None, "add", "{", 0), ("c1", "add", "}", 0), ("c2", "add", "[]", 0)],
        [("c1", "add", "{}"), ("c2", "add", "[]")],
    ),
    "the same id under two numbers": (
        [("c1", "add", "{}", 0), ("c1", "add", "[]", 1)],
        [("c1", "add", "{}"), ("c1", "add", "[]")],
    ),
    "numbers that are right after some that are not": (
        [
            ("c1", "add", "{", 0),
            ("c2", "mul", "[", 0),
            ("c3", "sub", "1", 1),
            (None, None, "]", 0),
            (None, None, "2", 1),
            ("c1", None, "}", 0),
        ],
        [("c1", "add", "{}"), ("c2", "mul", "[]"), ("c3", "sub", "12")],
    ),
    "no numbers, their pieces in turn": (
        [("c1", "add", "{"), ("c2", "mul", "["), ("c1", None, "}")],
        [("c1", "add", "{}"), ("c2", "mul", "[")],
    ),
    "no numbers and no ids, the same function twice": (
        [(None, "add", "{}"), (None, "add", "[]")],
        [("", "add", "{}"), ("", "add", "[]")],
    ),
    "a number in the later pieces alone": (
        [("c1", "add", "{"), (None, None, "}", 0)],
        [("c1", "add", "{}")],
    ),
    "no numbers, begun by an id or a name": (
        [("c1", "a", "{"), (None, None, "}"), ("c1", None, " "), ("c2", "b", None), (None, "c", None)],
        [("c1", "a", "{} "), ("c2", "b", ""), ("", "c", "")],
    ),
    "the second number first": (
        [("c2", "b", "", 1), ("c1", "a", "{}", 0), (None, None, "{}", 1)],
        [("c1", "a", "{}"), ("c2", "b", "{}")],
    ),
    "no number in the later pieces": (
        [("c1", "add", "{", 0), ("c2", "mul", "[", 1), (None, None, "]")],
        [("c1", "add", "{"), ("c2", "mul", "[]")],
    ),
}


def grouped(chunks: list[ChatChunk]) -> list[ToolCall]:
    """Give the calls that a consumer makes of the deltas alone."""
    calls: dict[int, ToolCall] = {}
    for delta in (delta for chunk in chunks for delta in chunk.tool_calls):
        known = calls.get(delta.call_index, ToolCall("", "", ""))
        added = zip(known, delta[1:], strict=True)
        calls[delta.call_index] = ToolCall(*(old + new for old, new in added))
    return [calls[number] for number in sorted(calls)]


@pytest.mark.parametrize("name", PIECES)
@pytest.mark.parametrize("together", [False, True], ids=["one-by-one", "in-one-chunk"])
def test_two_streamed_calls_never_become_one_and_one_never_becomes_two(name: str, together: bool) -> None:
    pieces, calls = [call_piece(*piece) for piece in PIECES[name][0]], PIECES[name][1]
    chunks, decoder = read(*([event({"tool_calls": pieces})] if together else (event(tool_delta(**p)) for p in pieces)))
    assert decoder.completion.tool_calls == tuple(ToolCall(*call) for call in calls)
    assert grouped(chunks) == list(decoder.completion.tool_calls)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, "", "c1", "c2", "c3"]),
            st.sampled_from([None, "add", "mul"]),
            st.sampled_from(["", "{", "}"]),
            st.sampled_from([None, 0, 1, 7]),
        ),
        max_size=8,
    )
)
def test_the_deltas_of_tool_calls_make_the_calls_of_the_completion(pieces: list[Any]) -> None:
    decoder = ChatHandler().stream_decoder()
    chunks = [chunk for piece in pieces for chunk in decoder.feed(event(tool_delta(**call_piece(*piece))))]
    completion = decoder.completion
    assert grouped(chunks) == list(completion.tool_calls)
    assert {call.id for call in completion.tool_calls} - {""} == {piece[0] for piece in pieces if piece[0]}


def test_a_streamed_tool_call_without_its_list_is_read() -> None:
    call = {"index": 0, "id": "", "type": "function", "function": {"name": "a", "arguments": {"x": 1}}}
    _, decoder = read(event({"tool_calls": call}), event({"tool_calls": [{"index": 0, "function": None}]}))
    assert decoder.completion.tool_calls == (ToolCall("", "a", '{"x":1}'),)


@pytest.mark.parametrize("index", [True, "0", 0.0, [0]])
def test_the_index_of_a_streamed_tool_call_is_a_whole_number(index: Any) -> None:
    piece = {"index": index, "id": "c1", "function": {"name": "a", "arguments": "{}"}}
    with pytest.raises(HandlerError, match='The "index" of a tool call is not a whole number'):
        ChatHandler().stream_decoder().feed(event({"tool_calls": [piece]}))


def test_a_streamed_tool_call_without_a_name_is_an_error_at_the_end() -> None:
    for pieces in ([{"index": 0, "id": "c1"}], [{"index": 0, "function": {"arguments": "{}"}}]):
        for end in (b"data: [DONE]\n\n", event({}, finish_reason="tool_calls")):
            decoder = ChatHandler().stream_decoder()
            assert decoder.feed(event({"content": "Hi"}) + event({"tool_calls": pieces}) + end)
            with pytest.raises(HandlerError, match='"tool_calls" has no "function" with a "name"'):
                decoder.finish()


def test_the_completion_grows_with_the_stream() -> None:
    decoder = ChatHandler().stream_decoder()
    assert decoder.completion == ChatCompletion("")
    decoder.feed(event({"content": "Hel"}))
    assert decoder.completion.text == "Hel"
    decoder.feed(event({"content": "lo"}))
    decoder.feed(b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n')
    assert decoder.completion == ChatCompletion(
        "Hello",
        usage=Usage(1, 2, 3),
        raw={"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}},
    )


def test_a_whole_answer_in_a_stream_is_one_chunk() -> None:
    calls = [{"id": "c1", "function": {"name": "a", "arguments": "{}"}}]
    message = {"content": "Hi", "reasoning": "Hm", "tool_calls": calls}
    body = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
    chunks, decoder = read(body)
    assert chunks == [ChatChunk("Hi", "Hm", (ToolCallDelta(0, "c1", "a", "{}"),), "stop")]
    assert decoder.completion == ChatHandler().transform_output(ResponseBody(body))


def test_only_the_first_of_several_streamed_answers_is_given() -> None:
    chunks, _ = read(event({"content": "a"}), event({"content": "B"}, index=1))
    assert chunks == [ChatChunk("a")]


def test_streamed_log_probabilities_are_in_the_details() -> None:
    _, decoder = read(event({"content": "a"}, logprobs={"content": [1]}), event({"content": "b"}))
    assert decoder.details == {"logprobs": [{"content": [1]}]}


def test_a_chunk_is_its_text_and_can_get_another() -> None:
    chunk = ChatChunk("Hello", finish_reason="stop")
    assert str(chunk) == "Hello"
    assert chunk.replace_text("Hel") == ChatChunk("Hel", finish_reason="stop")


def test_a_token_stream_is_not_a_chat() -> None:
    decoder = ChatHandler().stream_decoder()
    with pytest.raises(HandlerError, match="TextGenerationHandler reads this"):
        decoder.feed(b'data:{"token":{"text":"a"}}\n\n')


@given(st.lists(st.text(), max_size=5), st.lists(st.text(max_size=5), max_size=3))
def test_any_text_and_arguments_come_back_unchanged(texts: list[str], arguments: list[str]) -> None:
    events = [event({"content": text}) for text in texts]
    events += [event(tool_delta(index=0, function={"name": "a", "arguments": piece})) for piece in arguments]
    chunks, decoder = read(*events)
    assert [chunk.text for chunk in chunks if chunk.text] == [text for text in texts if text]
    assert decoder.completion.text == "".join(texts)
    assert decoder.completion.tool_calls == ((ToolCall("", "a", "".join(arguments)),) if arguments else ())


# AutoHandler: the text of any model


def test_any_text_model_gets_messages_as_messages() -> None:
    assert json.loads(AutoHandler().transform_input(MESSAGES, {"n": 1})) == {"messages": MESSAGES, "n": 1}


def test_an_answer_of_tool_calls_alone_has_no_text() -> None:
    message = {"content": None, "tool_calls": [{"id": "1", "function": {"name": "a", "arguments": "{}"}}]}
    body = json.dumps({"choices": [{"message": message}]}).encode()
    with pytest.raises(HandlerError, match=r'only tool calls and no "content"\. ChatHandler reads it'):
        AutoHandler().transform_output(ResponseBody(body))
    decoder = AutoHandler().stream_decoder()
    with pytest.raises(HandlerError, match=r"has tool calls\. ChatHandler reads it"):
        decoder.feed(b'data: {"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}\n\n')


@pytest.mark.parametrize("message", [{"content": ""}, {"content": None}, {"content": None, "reasoning": "Hm"}])
def test_an_answer_without_content_gives_an_empty_text(message: Any) -> None:
    body = json.dumps({"choices": [{"message": message}]}).encode()
    assert AutoHandler().transform_output(ResponseBody(body)) == ""


def test_an_empty_text_is_empty() -> None:
    assert AutoHandler().transform_output(ResponseBody(b'[{"generated_text":""}]')) == ""


def test_an_answer_without_text_is_an_error_that_names_the_handler_that_reads_it() -> None:
    with pytest.raises(HandlerError, match=r"EmbeddingsHandler or TabularHandler.response=.json.. reads this"):
        AutoHandler().transform_output(ResponseBody(b"[[0.5]]"))
