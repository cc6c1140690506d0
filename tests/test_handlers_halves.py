"""Half characters: two halves become a character, and a half that stays alone never reaches the caller."""

from __future__ import annotations

import json
from typing import Any

import pytest
from feeding import drive, framed, read, ways
from hypothesis import given
from hypothesis import strategies as st
from twins import Twin

from smendpoint import errors
from smendpoint._core.http.body import ResponseBody
from smendpoint.emulator import Emulator
from smendpoint.handlers import (
    AutoHandler,
    ChatHandler,
    EmbeddingsHandler,
    JSONHandler,
    JumpStartChatHandler,
    JumpStartTextHandler,
    OpenAICompletionsHandler,
    TextGenerationHandler,
)

HIGH, LOW, FACE, LOST = "\ud83d", "\ude00", "\U0001f600", "\ufffd"


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def arguments(text: str) -> dict[str, Any]:
    return delta(tool_calls=[{"index": 0, "id": "c1", "function": {"name": "add", "arguments": text}}])


STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
# The handler, the item for a piece of text, the item after the last piece, and the text of a chunk.
PLACES: dict[str, tuple[Any, Any, Any, Any]] = {
    "chat": (ChatHandler, lambda text: delta(content=text), STOP, lambda chunk: chunk.text),
    "chat, in parts": (
        ChatHandler,
        lambda text: delta(content=[{"type": "text", "text": text}]),
        STOP,
        lambda chunk: chunk.text,
    ),
    "chat, one line": (
        ChatHandler,
        lambda text: {"choices": [{"message": {"content": text}}]},
        STOP,
        lambda chunk: chunk.text,
    ),
    "chat, any handler": (AutoHandler, lambda text: delta(content=text), STOP, str),
    "reasoning": (ChatHandler, lambda text: delta(reasoning_content=text), STOP, lambda chunk: chunk.reasoning),
    "arguments": (
        ChatHandler,
        arguments,
        STOP,
        lambda chunk: "".join(call.arguments for call in chunk.tool_calls),
    ),
    "completion": (
        OpenAICompletionsHandler,
        lambda text: {"choices": [{"text": text, "finish_reason": None}]},
        {"choices": [{"text": "", "finish_reason": "stop"}]},
        str,
    ),
    "tokens": (TextGenerationHandler, lambda text: {"token": {"text": text}}, {"token": {}, "details": {}}, str),
    "outputs": (TextGenerationHandler, lambda text: {"outputs": [text]}, {"outputs": [""]}, str),
    "generation": (
        lambda **options: JumpStartTextHandler("llama-2", **options),
        lambda text: {"generation": text, "stop_reason": None},
        {"generation": "", "stop_reason": "stop"},
        str,
    ),
}
# The pieces of a text, the text that they make (`None` for an error), and the text where halves are replaced.
TEXTS: dict[str, tuple[list[str], str | None, str]] = {
    "whole": (["a", FACE, "b"], f"a{FACE}b", f"a{FACE}b"),
    "in two": (["a", HIGH, LOW, "b"], f"a{FACE}b", f"a{FACE}b"),
    "in two, with text around": ([f"a{HIGH}", f"{LOW}b"], f"a{FACE}b", f"a{FACE}b"),
    "in two, nothing between": ([HIGH, "", LOW], FACE, FACE),
    "several": ([HIGH, LOW + HIGH, LOW + FACE + HIGH, LOW], FACE * 4, FACE * 4),
    "first half alone": (["a", HIGH, "b"], None, f"a{LOST}b"),
    "first half at the end": (["a", f"b{HIGH}"], None, f"ab{LOST}"),
    "first half twice": ([HIGH, HIGH, LOW], None, LOST + FACE),
    "second half alone": (["a", f"b{LOW}c"], None, f"ab{LOST}c"),
    "the wrong way round": ([LOW, HIGH], None, LOST + LOST),
    "other letters": (["ä", "中文", "☃"], "ä中文☃", "ä中文☃"),
}


def text_of(handler: Any, pieces: list[bytes], read: Any) -> str:
    """The text of all chunks, none of which has half a character; with ``!`` where it ended in an error."""
    decoder = handler.stream_decoder()
    chunks: list[Any] = []
    said = ""
    try:
        for piece in pieces:
            chunks += decoder.feed(piece)
        decoder.finish_into(chunks)
    except errors.StreamDecodeError as error:
        assert "half of a character" in error.message
        said = "!"
    text = "".join(map(read, chunks))
    for chunk in chunks:
        str(chunk).encode()
        read(chunk).encode()
    completion = getattr(decoder, "completion", None)
    if completion is not None:
        assert text == completion.text + (completion.reasoning or "") + "".join(
            call.arguments for call in completion.tool_calls
        )
    return text + said


@pytest.mark.parametrize("framing", ["events", "lines"])
@pytest.mark.parametrize("what", TEXTS)
@pytest.mark.parametrize("place", PLACES)
def test_two_halves_become_a_character_and_none_stays_alone(place: str, what: str, framing: str) -> None:
    make, send, end, read = PLACES[place]
    pieces, expected, replaced = TEXTS[what]
    items = [*(send(piece) for piece in pieces), end]
    for end_mark in (b"", b"data: [DONE]\n\n") if framing == "events" else (b"",):
        body = framed(items, framing, end_mark)
        for cut in ([body], [body[place : place + 1] for place in range(len(body))]):
            assert text_of(make(errors="replace"), cut, read) == replaced
            text = text_of(make(), cut, read)
            if expected is None:
                assert text.endswith("!")
                before = text[:-1]
                assert replaced.partition(LOST)[0].startswith(before)
                if place != "arguments" and place != "reasoning":
                    assert before == replaced.partition(LOST)[0]
            else:
                assert text == expected


def test_the_end_of_a_text_is_the_finish_reason_or_the_end_of_the_stream() -> None:
    finished = {"choices": [{"index": 0, "delta": {"content": f"a{HIGH}"}, "finish_reason": "stop"}]}
    decoder = ChatHandler(errors="replace").stream_decoder()
    (chunk,) = decoder.feed(framed([finished], "events"))
    assert (chunk.text, chunk.finish_reason) == (f"a{LOST}", "stop")
    decoder = ChatHandler().stream_decoder()
    assert [chunk.text for chunk in decoder.feed(framed([finished], "events"))] == ["a"]
    assert isinstance(decoder.error, errors.StreamDecodeError)
    for items in ([delta(content=HIGH)], [delta(reasoning=HIGH)], [arguments(HIGH)]):
        decoder = ChatHandler(require_end=False).stream_decoder()
        decoder.feed(framed(items, "events"))
        with pytest.raises(errors.StreamDecodeError, match="half of a character"):
            decoder.finish()
        decoder = ChatHandler(require_end=False, errors="replace").stream_decoder()
        assert len(decoder.feed(framed(items, "events")) + decoder.finish()) == (2 if items == [arguments(HIGH)] else 1)
        decoder = ChatHandler().stream_decoder()  # the stream was cut, so the other half may have been on its way
        decoder.feed(framed(items, "events"))
        with pytest.raises(errors.StreamTruncatedError):
            decoder.finish()


WHOLE: dict[str, tuple[Any, Any, Any]] = {
    "chat": (ChatHandler, {"choices": [{"message": {"content": "?"}}]}, lambda output: output.text),
    "reasoning": (ChatHandler, {"choices": [{"message": {"reasoning": "?"}}]}, lambda output: output.reasoning),
    "arguments": (
        ChatHandler,
        {"choices": [{"message": {"tool_calls": [{"function": {"name": "a", "arguments": "?"}}]}}]},
        lambda output: output.tool_calls[0].arguments,
    ),
    "Llama chat": (JumpStartChatHandler, [{"generation": {"content": "?"}}], lambda output: output.text),
    "TGI": (TextGenerationHandler, [{"generated_text": "?"}], str),
    "any": (AutoHandler, {"generated_text": "?"}, str),
    "completion": (OpenAICompletionsHandler, {"choices": [{"text": "?"}]}, str),
    "JSON": (JSONHandler, {"a": [{"b": "?"}]}, lambda output: output["a"][0]["b"]),
    "a name in JSON": (JSONHandler, {"a": [{"?": 1}]}, lambda output: next(iter(output["a"][0]))),
    "JSON text": (JSONHandler, "?", str),
}


@pytest.mark.parametrize("case", ["upper", "lower"])
@pytest.mark.parametrize(("make", "value", "read"), WHOLE.values(), ids=list(WHOLE))
def test_a_whole_answer_has_no_half_characters(make: Any, value: Any, read: Any, case: str) -> None:
    for text, replaced in ((f"a{FACE}ü", None), (f"a{HIGH}b", f"a{LOST}b"), (LOW, LOST), ("\\ud83d", None)):
        body = json.dumps(value).replace('"?"', json.dumps(text)).encode()
        if case == "upper":
            body = body.replace(b"\\ud", b"\\uD").replace(b"\\\\uD", b"\\\\ud")
        assert read(make(errors="replace").transform_output(ResponseBody(body))) == (replaced or text)
        if replaced is None:
            assert read(make().transform_output(ResponseBody(body))) == text
        else:
            with pytest.raises(errors.HandlerError, match=r'half of a character.*errors="replace"'):
                make().transform_output(ResponseBody(body))


def test_other_whole_answers_are_refused_too() -> None:
    with pytest.raises(errors.HandlerError, match="half of a character"):
        EmbeddingsHandler().transform_output(ResponseBody(b'{"embedding": [0.5], "model": "\\ud83d"}'))


@pytest.mark.parametrize("framing", ["events", "lines"])
def test_streamed_json_has_no_half_characters(framing: str) -> None:
    for value, replaced in (
        (f"a{FACE}", None),
        ({"a": [HIGH]}, {"a": [LOST]}),
        ([LOW, {"ü": 1, HIGH: 1}], [LOST, {"ü": 1, LOST: 1}]),
    ):
        body = framed([{"n": 1}, {"v": value}], framing)
        for pieces in ways(body, randomly=1):
            mended = read(JSONHandler(errors="replace").stream_decoder(), pieces)
            assert mended == [{"n": 1}, {"v": replaced or value}]
            values, error = drive(JSONHandler().stream_decoder(), pieces)
            assert (values, error) == (mended, None) if replaced is None else values == [{"n": 1}]
            assert replaced is None or type(error) is errors.StreamDecodeError


@given(st.text(st.characters(codec=None, categories=["L", "So", "Cs"]), max_size=12), st.data())
def test_any_text_in_any_pieces_comes_as_one_piece_would(text: str, data: st.DataObject) -> None:
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    replaced = "".join(LOST if "\ud800" <= character <= "\udfff" else character for character in whole)
    code = text.encode("utf-16-le", "surrogatepass")
    units = [code[place : place + 2] for place in range(0, len(code), 2)]
    pieces: list[bytes] = [b""]
    for unit in units:
        if data.draw(st.booleans()):
            pieces.append(b"")
        pieces[-1] += unit
    items = [delta(content=piece.decode("utf-16-le", "surrogatepass")) for piece in pieces]
    decoder = ChatHandler(errors="replace").stream_decoder()
    chunks = decoder.feed(framed([*items, STOP], "events"))
    assert "".join(chunk.text for chunk in chunks) == replaced


def test_both_twins_in_both_lanes_give_whole_characters(twin: Twin) -> None:
    bodies = {
        "whole": framed([delta(content=HIGH), delta(content=LOW), STOP], "events"),
        "half": framed([delta(content="a"), delta(content=HIGH), delta(content="b"), STOP], "events"),
    }
    with Emulator(lambda asked: bodies[asked.endpoint_name], piece_size=30) as emulator:
        whole = twin.endpoint(emulator.url, "whole", content_handler=ChatHandler())
        assert "".join(map(str, whole.collect("Hello"))) == FACE
        half = twin.endpoint(emulator.url, "half", content_handler=ChatHandler(errors="replace"))
        assert "".join(map(str, half.collect("Hello"))) == f"a{LOST}b"
        half = twin.endpoint(emulator.url, "half", content_handler=ChatHandler())
        with pytest.raises(errors.StreamDecodeError) as raised:
            half.collect("Hello")
        assert "".join(map(str, raised.value.received)) == "a"
