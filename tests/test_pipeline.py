"""The pipeline of a stream: frames, decoder and stop sequences in a row; chunks before a failure are given first."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from feeding import encode_part

from smendpoint._calls import pipeline as _pipeline
from smendpoint._calls.pipeline import Pipeline, cut_at_stop
from smendpoint._core.aws.eventstream import encode
from smendpoint.errors import (
    DeadlineExceededError,
    HandlerError,
    ModelStreamError,
    ReadTimeoutError,
    SmendpointError,
    StreamDecodeError,
    StreamTruncatedError,
    TransportError,
)


class Word(NamedTuple):
    """A typed chunk."""

    text: str
    mark: int = 0

    def replace_text(self, text: str) -> Word:
        return self._replace(text=text)


class Words:
    """A decoder that gives a chunk for each word; the text after the last space waits."""

    def __init__(self, make: Any = str, finish: Any = None) -> None:
        self.rest = ""
        self.make = make
        self.last = finish
        self.finish_reason: str | None = None

    def feed(self, data: bytes) -> Any:
        *words, self.rest = (self.rest + data.decode()).split(" ")
        return [self.make(word + " ") for word in words]

    def finish(self) -> Any:
        return ([self.make(self.rest)] if self.rest else []) if self.last is None else self.last


def pipe(decoder: Any = None, *stop: str) -> Pipeline[Any]:
    return Pipeline(decoder or Words(), stop)


def exception(name: str = "ModelStreamError") -> bytes:
    headers = {":message-type": "exception", ":exception-type": name}
    return encode(headers, b'{"Message": "out of memory", "ErrorCode": "StreamBroken"}')


def test_frames_become_chunks() -> None:
    pipeline = pipe()
    assert pipeline.feed(encode_part(b"one tw")) == ["one "]
    assert pipeline.feed(encode_part(b"o thr") + encode_part(b"ee fo")) == ["two ", "three "]
    assert pipeline.feed(b"") == []
    assert not pipeline.done
    assert pipeline.end() == ["fo"]
    assert pipeline.done
    assert pipeline.failure is None
    assert list(pipeline.received) == ["one ", "two ", "three ", "fo"]


def test_a_frame_that_is_not_whole_at_the_end_is_a_cut_stream() -> None:
    pipeline = pipe()
    assert pipeline.feed(encode_part(b"one two") + b"\0\0") == ["one "]
    assert pipeline.end() == []
    assert isinstance(pipeline.failure, StreamTruncatedError)


def test_chunks_before_a_bad_frame_are_given_and_then_the_failure() -> None:
    bad = bytearray(encode_part(b"bad "))
    bad[-1] ^= 1
    pipeline = pipe()
    assert pipeline.feed(encode_part(b"good ") + bytes(bad)) == ["good "]
    assert pipeline.done
    assert isinstance(pipeline.failure, StreamDecodeError)


def test_chunks_before_an_exception_frame_are_given_and_then_the_failure() -> None:
    pipeline = pipe()
    assert pipeline.feed(encode_part(b"good ") + exception()) == ["good "]
    assert isinstance(pipeline.failure, ModelStreamError)
    assert pipeline.failure.error_code == "StreamBroken"


def test_a_bad_frame_that_comes_alone_is_the_failure() -> None:
    pipeline = pipe()
    assert pipeline.feed(exception()) == []
    assert isinstance(pipeline.failure, ModelStreamError)


def test_a_failure_that_the_decoder_keeps_is_known_at_once() -> None:
    decoder: Any = Words()
    decoder.error = StreamDecodeError("line 2 is no JSON")
    pipeline = pipe(decoder)
    assert pipeline.feed(encode_part(b"good ")) == ["good "]
    assert pipeline.failure is decoder.error


class Raising(Words):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.raises = error

    def feed(self, data: bytes) -> Any:
        raise self.raises

    finish = feed  # type: ignore[assignment]  # without its argument


def test_an_exception_of_a_decoder_is_wrapped_and_kept_as_the_cause() -> None:
    cause = ValueError("secret prompt")
    pipeline = pipe(Raising(cause))
    assert pipeline.feed(encode_part(b"x")) == []
    assert isinstance(pipeline.failure, HandlerError)
    assert pipeline.failure.__cause__ is cause
    assert "secret" not in str(pipeline.failure)
    first = pipeline.failure
    pipeline.end()
    assert pipeline.failure is first


def test_our_own_errors_are_not_wrapped() -> None:
    error = HandlerError("what a shape")
    pipeline = pipe(Raising(error))
    pipeline.feed(encode_part(b"x"))
    assert pipeline.failure is error


@pytest.mark.parametrize(
    ("given", "kind"), [("text", "str"), (b"bytes", "bytes"), (None, "TypeError"), (7, "TypeError")]
)
def test_a_decoder_that_does_not_give_a_list_is_an_error(given: Any, kind: str) -> None:
    class Wrong(Words):
        def feed(self, data: bytes) -> Any:
            return given

    pipeline = pipe(Wrong())
    assert pipeline.feed(encode_part(b"x")) == []
    assert isinstance(pipeline.failure, HandlerError)
    assert kind in str(pipeline.failure)


def test_a_decoder_may_give_any_iterable() -> None:
    pipeline = pipe(Words(finish=iter(["a", "b"])))
    assert pipeline.end() == ["a", "b"]
    assert pipeline.failure is None


@pytest.mark.parametrize("error", [ReadTimeoutError("silent"), DeadlineExceededError("late")])
def test_a_timeout_stays_that_error(error: SmendpointError) -> None:
    pipeline = pipe()
    assert pipeline.cut(error) == []
    assert pipeline.failure is error
    assert pipeline.done


def test_a_lost_connection_is_a_cut_stream() -> None:
    pipeline = pipe()
    error = TransportError("the connection was lost")
    pipeline.cut(error)
    assert isinstance(pipeline.failure, StreamTruncatedError)
    assert pipeline.failure.__cause__ is error
    assert "the connection was lost" in str(pipeline.failure)


def test_only_the_latest_chunks_are_kept_for_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pipeline, "MAX_RECEIVED", 2)
    pipeline = pipe()
    pipeline.feed(encode_part(b"a b c d"))
    assert list(pipeline.received) == ["b ", "c "]


# stop sequences


@pytest.mark.parametrize(
    ("stop", "pieces", "fed", "end", "reason"),
    [
        (["END", "tw"], [b"one two three "], [["one "]], None, "stop"),
        (["e t"], [b"one ", b"four "], [["on"], ["e four "]], [], None),
        (["e t"], [b"one "], [["on"]], ["e "], None),
        (["one two"], [b"one "], [[]], ["one "], None),
        (["x"], [b"one "], [["one "]], [], None),
    ],
    ids=["the first of two", "held back in vain", "held back at the end", "all held back", "nothing held"],
)
def test_text_ends_before_a_stop_sequence_and_waits_only_where_one_may_have_begun(
    stop: list[str], pieces: list[bytes], fed: list[Any], end: Any, reason: str | None
) -> None:
    pipeline = pipe(None, *stop)
    assert [pipeline.feed(encode_part(piece)) for piece in pieces] == fed
    assert pipeline.done is (end is None)
    if end is not None:
        assert pipeline.end() == end
    assert (pipeline.finish_reason, pipeline.failure) == (reason, None)


def test_text_that_was_held_back_comes_before_a_cut() -> None:
    pipeline = pipe(None, "e t")
    pipeline.feed(encode_part(b"one "))
    assert pipeline.cut(TransportError("lost")) == ["e "]
    assert list(pipeline.received) == ["on", "e "]


def test_a_failure_after_a_stop_sequence_is_not_part_of_the_answer() -> None:
    pipeline = pipe(None, "tw")
    assert pipeline.feed(encode_part(b"one two ") + exception()) == ["one "]
    assert pipeline.failure is None
    assert pipeline.done


def test_typed_chunks_are_cut_too_and_keep_their_other_fields() -> None:
    pipeline = pipe(Words(lambda text: Word(text, 1)), "e t")
    assert pipeline.feed(encode_part(b"zero one ")) == [Word("zero ", 1), Word("on", 1)]
    assert pipeline.feed(encode_part(b"two ")) == [Word("", 1)]
    assert pipeline.done
    assert pipeline.finish_reason == "stop"


def test_typed_text_that_was_held_back_comes_as_a_chunk_of_its_own() -> None:
    pipeline = pipe(Words(lambda text: Word(text, 1)), "e t")
    pipeline.feed(encode_part(b"one "))
    assert pipeline.end() == [Word("e ")]


@pytest.mark.parametrize("chunk", [7, object(), type("NoReplace", (), {"text": "x"})()])
def test_stop_sequences_need_text(chunk: object) -> None:
    pipeline = pipe(Words(lambda text: chunk), "x")
    assert pipeline.feed(encode_part(b"one ")) == []
    assert isinstance(pipeline.failure, HandlerError)
    assert "stop= needs text" in str(pipeline.failure)


def test_a_chunk_that_cannot_be_cut_is_the_handlers_fault() -> None:
    class Stubborn(Word):
        def replace_text(self, text: str) -> Word:
            raise LookupError

    pipeline = pipe(Words(lambda text: Stubborn(text)), "ne")
    assert pipeline.feed(encode_part(b"one ")) == []
    assert isinstance(pipeline.failure, HandlerError)
    assert isinstance(pipeline.failure.__cause__, LookupError)


def test_the_models_own_reason_counts_where_nothing_was_cut() -> None:
    decoder = Words()
    pipeline = pipe(decoder, "x")
    assert pipeline.decoder is decoder
    assert pipeline.finish_reason is None
    decoder.finish_reason = "length"
    assert pipeline.finish_reason == "length"


@pytest.mark.parametrize(
    ("output", "stop", "cut"),
    [
        ("one two three", ["two", "one t"], ""),
        ("one two three", ["three", "two"], "one "),
        ("one two", ["four"], "one two"),
        (Word("one two", 1), ["two"], Word("one ", 1)),
        (Word("one", 1), ["two"], Word("one", 1)),
    ],
)
def test_a_whole_output_is_cut_at_the_first_stop_sequence(output: Any, stop: list[str], cut: Any) -> None:
    assert cut_at_stop(output, stop) == cut


def test_a_whole_output_without_text_cannot_be_cut() -> None:
    with pytest.raises(HandlerError, match="stop= needs text: this handler returns dict"):
        cut_at_stop({"a": 1}, ["x"])
