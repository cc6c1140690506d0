"""`ChatHandler(output_type=...)`: the request, the outputs, streams, and answers that do not fit."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, Generic, TypedDict, TypeVar

import pydantic
import pytest
from feeding import ways
from twins import Twin, direct_twin, twin  # noqa: F401

import smendpoint
from smendpoint import ConfigurationError, Endpoint, HandlerError, ModelOutputError, batch
from smendpoint._core.http.body import ResponseBody
from smendpoint.emulator import Emulator, ModelReply
from smendpoint.handlers import ChatChunk, ChatCompletion, ChatHandler
from smendpoint.qa import StuffDocumentsQA

SAID = "The library opens at 9."
MESSAGES = [{"role": "user", "content": f"{SAID} Question: When does the library open?"}]


@dataclasses.dataclass
class Hours:
    """When a place is open."""

    place: str
    opens: int
    notes: list[str] = dataclasses.field(default_factory=list)
    rating: float | None = None


class HoursDict(TypedDict):
    place: str
    opens: int


class HoursModel(pydantic.BaseModel):
    class Day(pydantic.BaseModel):
        name: str

    place: str
    opens: int = pydantic.Field(ge=0)
    days: list[Day] = pydantic.Field(min_length=1)


KINDS: list[tuple[Any, Any]] = [
    (Hours, Hours(SAID, 0)),
    (HoursDict, {"place": SAID, "opens": 0}),
    (HoursModel, HoursModel(place=SAID, opens=0, days=[HoursModel.Day(name=SAID)])),
]


def body(text: str | None, *, reason: str | None = "stop", **message: Any) -> ResponseBody:
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": reason}
    return ResponseBody(json.dumps({"choices": [choice]}).encode())


# -- the request


def test_the_schema_is_sent_as_the_response_format_whole_and_streamed() -> None:
    handler = ChatHandler(output_type=Hours)
    sent = json.loads(handler.transform_input(MESSAGES, {"max_tokens": 9}))
    schema = sent["response_format"]["json_schema"].pop("schema")
    assert sent == {
        "messages": MESSAGES,
        "max_tokens": 9,
        "response_format": {"type": "json_schema", "json_schema": {"name": "Hours", "strict": True}},
    }
    assert schema["required"] == ["place", "opens"]
    streamed = json.loads(handler.transform_stream_input(MESSAGES, {}))
    assert streamed["response_format"]["json_schema"]["schema"] == schema
    assert streamed["stream"] is True


def test_tgi_has_the_schema_in_a_field_of_its_own() -> None:
    handler = ChatHandler(output_type=Hours, schema_field="value")
    asked = json.loads(handler.transform_input(MESSAGES, {}))["response_format"]
    assert asked.keys() == {"type", "value"}
    assert asked["value"]["name"] == "Hours"
    with pytest.raises(ConfigurationError, match="schema_field needs output_type"):
        ChatHandler(schema_field="value")  # type: ignore[call-overload]  # wrong on purpose
    with pytest.raises(ConfigurationError, match="schema_field must be 'json_schema' or 'value', not 'x'"):
        ChatHandler(output_type=Hours, schema_field="x")  # type: ignore[arg-type]  # wrong on purpose


T = TypeVar("T")


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


def test_a_name_has_only_the_characters_that_openai_allows() -> None:
    sent = json.loads(ChatHandler(output_type=Page[int]).transform_input("Hi", {}))
    assert sent["response_format"]["json_schema"]["name"] == "Page_int_"


@pytest.mark.parametrize("name", ["response_format", "stop"])
def test_a_parameter_that_contradicts_the_type_is_refused_before_anything_is_sent(
    twin: Twin,  # noqa: F811
    name: str,
) -> None:
    with (
        Emulator("vllm") as emulator,
        twin.endpoint(emulator.url, content_handler=ChatHandler(output_type=Hours)) as endpoint,
    ):
        for operation in ("invoke", "stream"):
            with pytest.raises(ConfigurationError, match=f"{name} cannot be given with output_type=Hours"):
                endpoint.call(operation, MESSAGES, **{name: "x"})
        assert emulator.requests == []


class Broken(pydantic.BaseModel):
    call: Any = pydantic.Field(json_schema_extra={"examples": [float("nan")]})


class Uncallable(pydantic.BaseModel):
    call: type[int] | None
    code: complex = 1j

    @classmethod
    def model_json_schema(cls, *args: Any, **options: Any) -> dict[str, Any]:
        raise TypeError("there is none")


class HalfModel:
    @classmethod
    def model_json_schema(cls) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (int, "must be a dataclass, a TypedDict, or a class with model_json_schema .* not the class int"),
        (list[Hours], "not an object of type GenericAlias"),
        (Hours("x", 1), "not an object of type Hours"),
        (HoursModel(place="x", opens=1, days=[HoursModel.Day(name="x")]), "not an object of type HoursModel"),
        (HalfModel, "not the class HalfModel"),
        (Broken, "the schema of Broken is not JSON"),
        (Uncallable, "Uncallable gives no JSON schema: there is none"),
        (dataclasses.make_dataclass("Made", [("field", bytes)]), "Made.field: bytes cannot be expressed"),
    ],
)
def test_a_type_without_a_schema_is_refused_where_the_handler_is_made(kind: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        ChatHandler(output_type=kind)


# -- outputs


@pytest.mark.parametrize(("kind", "output"), KINDS, ids=["dataclass", "TypedDict", "pydantic"])
def test_the_output_is_an_object_of_the_type_whole_streamed_and_mapped(
    twin: Twin,  # noqa: F811
    kind: Any,
    output: Any,
) -> None:
    with (
        Emulator("vllm") as emulator,
        twin.endpoint(emulator.url, content_handler=ChatHandler(output_type=kind)) as endpoint,
    ):
        assert endpoint.invoke(MESSAGES) == output
        response = endpoint.send(MESSAGES)
        assert response.output == output
        assert response.usage.completion_tokens > 1
        assert list(endpoint.map([MESSAGES] * 3)) == [output] * 3
        with endpoint.stream(MESSAGES) as chunks:
            pieces = list(chunks)
        stream = chunks.iterator
        assert all(isinstance(piece, ChatChunk) for piece in pieces)
        assert len(pieces) > 2
        assert stream.completion == output
        assert stream.decoder.completion.usage == stream.usage == response.usage
        assert stream.decoder.completion.text == "".join(map(str, pieces))


def test_tgi_answers_with_an_object_too(direct_twin: Twin) -> None:  # noqa: F811
    handler = ChatHandler(output_type=Hours, schema_field="value")
    with Emulator("tgi") as emulator, direct_twin.endpoint(emulator.url, content_handler=handler) as endpoint:
        assert endpoint.invoke(MESSAGES) == Hours(SAID, 0)


def test_a_container_refuses_a_schema_that_is_not_valid(direct_twin: Twin) -> None:  # noqa: F811
    class Odd(HoursModel):
        @classmethod
        def model_json_schema(cls, *args: Any, **options: Any) -> dict[str, Any]:
            return {"type": "thing"}

    with (
        Emulator("vllm") as emulator,
        direct_twin.endpoint(emulator.url, content_handler=ChatHandler(output_type=Odd)) as endpoint,
    ):
        for operation in ("invoke", "stream"):
            with pytest.raises(smendpoint.ModelError) as raised:
                endpoint.call(operation, MESSAGES)
            assert raised.value.original_status_code == 400


def test_questions_about_documents_have_typed_answers() -> None:
    prompt = [("system", "{context}"), ("user", "{question}")]
    with (
        Emulator("vllm") as emulator,
        Endpoint(
            "my-chat",
            region_name="us-west-2",
            endpoint_url=emulator.url,
            aws_access_key_id="a",
            aws_secret_access_key="b",
            content_handler=ChatHandler(output_type=Hours),
        ) as endpoint,
    ):
        qa = StuffDocumentsQA(endpoint, prompt=prompt)
        assert qa.answer("When does the library open?", [SAID]) == Hours(SAID, 0)
        with qa.stream("When does the library open?", [SAID]) as chunks:
            list(chunks)
        assert chunks.completion == Hours(SAID, 0)


def test_a_batch_writes_objects_and_keeps_the_text_of_an_answer_that_does_not_fit(
    direct_twin: Twin,  # noqa: F811
    tmp_path: Path,
) -> None:
    with (
        Emulator("vllm") as emulator,
        direct_twin.endpoint(emulator.url, content_handler=ChatHandler(output_type=Hours)) as endpoint,
    ):
        ask = batch.arun if direct_twin.asynchronous else batch.run
        for number, parameters in enumerate(({}, {"max_tokens": 1})):
            endpoint.twin.run(ask(endpoint.endpoint, [MESSAGES], tmp_path / f"{number}", parameters=parameters))
    fits, not_so = (json.loads((tmp_path / name).read_text()) for name in "01")
    assert fits["output"] == {"place": SAID, "opens": 0, "notes": [], "rating": None}
    assert (not_so["error"]["type"], not_so["error"]["text"]) == ("ModelOutputError", '{"place":"The')


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda handler: pickle.loads(pickle.dumps(handler))])
def test_a_handler_with_a_type_can_be_copied_and_pickled(copied: Any) -> None:
    for kind, output in KINDS:
        handler: Any = copied(ChatHandler(output_type=kind, errors="replace"))
        text = output.model_dump_json() if kind is HoursModel else json.dumps({"place": SAID, "opens": 0})
        assert handler.transform_output(body(text)) == output
        assert handler.transform_input("Hi", {}) == ChatHandler(output_type=kind).transform_input("Hi", {})


def test_without_a_type_nothing_of_this_is_imported() -> None:
    program = (
        "import sys; from smendpoint.handlers import ChatHandler; ChatHandler().stream_decoder()\n"
        "print(sorted(sys.modules.keys() & {'dataclasses', 'inspect', 'enum', 'smendpoint.handlers._typed'}))"
    )
    before = "import sys; print(sorted(sys.modules.keys() & {'dataclasses', 'inspect', 'enum'}))"
    for isolated in (program, before):
        done = subprocess.run([sys.executable, "-c", isolated], capture_output=True, text=True, check=True)
        assert "dataclasses" not in done.stdout
        assert "_typed" not in done.stdout


# -- answers that do not fit


@pytest.mark.parametrize(
    ("answer", "said", "text", "reason"),
    [
        (body("It opens at 9."), "the answer is not JSON: does its container support", "It opens at 9.", "stop"),
        (body(" \n"), "it has no text", "", "stop"),
        (body('{"place": "x", "opens": true}'), "opens must be an integer, not a boolean", "true}", "stop"),
        (body('{"place": "x", "opens": 1, "opens": 2}'), "is not JSON", "", "stop"),
        (body('{"place": "x", "opens": NaN}'), "is not JSON", "", "stop"),
        (body('{"place": "x", "opens": 1e999}'), "is not JSON", "", "stop"),
        (body('{"place": "\\ud83d", "opens": 1}'), "has half of a character", "", "stop"),
        (body("[" * 100_000), "it is nested too deeply", "[", "stop"),
        (body('{"place": "x"', reason="length"), "max_tokens cut it after 13 characters", '{"place"', "length"),
        (body("[" * 100_000, reason="length"), "max_tokens cut it after 100000 characters", "[", "length"),
        (body('{"pl', reason="content_filter"), "a content filter cut it after 4", '{"pl', "content_filter"),
        (body('{"pl', reason=None), "no finish reason", '{"pl', None),
        (body(None, refusal="I cannot say."), "the model refuses", "I cannot say.", "stop"),
        (
            body(None, reason="tool_calls", tool_calls=[{"id": "1", "function": {"name": "search"}}]),
            "it calls search",
            "",
            "tool_calls",
        ),
        (
            body('{"place": "x", "opens": 1}', tool_calls=[{"id": "1", "function": {"name": "search"}}]),
            "it calls search",
            "",
            "stop",
        ),
    ],
)
def test_an_answer_that_does_not_fit_is_an_error_with_its_text_and_finish_reason(
    answer: ResponseBody, said: str, text: str, reason: str | None
) -> None:
    with pytest.raises(ModelOutputError, match="the model's answer does not match output_type=Hours: ") as raised:
        ChatHandler(output_type=Hours).transform_output(answer)
    error = pickle.loads(pickle.dumps(raised.value))
    assert said in str(error)
    assert text in error.text
    assert error.finish_reason == reason
    assert not error.text or error.text not in error.message
    assert ("the error's text has it" in error.message) == bool(error.text)
    assert raised.value.__cause__ is None


def test_numbers_have_the_types_of_their_fields() -> None:
    for rating in (0.5, 1):
        made = ChatHandler(output_type=Hours).transform_output(
            body(f'{{"place": "x", "opens": 1, "rating": {rating}}}')
        )
        assert type(made.rating) is float
        assert made.rating == rating


def test_a_whole_object_that_max_tokens_ended_fits() -> None:
    answer = body('{"place": "x", "opens": 1}   ', reason="length")
    assert ChatHandler(output_type=Hours).transform_output(answer) == Hours("x", 1)


def test_half_a_character_can_be_replaced() -> None:
    answer = body('{"place": "\\ud83d", "opens": 1}')
    assert ChatHandler(output_type=Hours, errors="replace").transform_output(answer) == Hours("\ufffd", 1)
    pair = body('{"place": "\\ud83d\\ude00", "opens": 1}')
    assert ChatHandler(output_type=Hours).transform_output(pair) == Hours("\U0001f600", 1)


def test_pydantic_s_complaints_are_told_by_place_and_type_and_show_no_value() -> None:
    handler = ChatHandler(output_type=HoursModel)
    for text, said in (
        ("SECRET", "(the answer: json_invalid)"),
        ('{"place": 1, "opens": -1, "days": ["SECRET"]}', "opens: greater_than_equal; days.0: model_type)"),
        ('{"opens": "SECRET", "days": [{}, {}]}', "opens: int_parsing; days.0.name: missing and 1 more)"),
    ):
        with pytest.raises(ModelOutputError) as raised:
            handler.transform_output(body(text))
        assert said in str(raised.value)
        assert "SECRET" not in str(raised.value)
        assert raised.value.text == text


class Own:
    """A class with the two methods of pydantic's, and an error of its own."""

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]:
        return {"type": "object"}

    @classmethod
    def model_validate_json(cls, text: str) -> Own:
        raise {"value": ValueError("SECRET"), "other": OSError("SECRET")}[text]


def test_another_class_with_the_two_methods_may_raise_any_error(direct_twin: Twin) -> None:  # noqa: F811
    handler = ChatHandler(output_type=Own)
    with pytest.raises(ModelOutputError, match=r"is not valid \(ValueError\)"):
        handler.transform_output(body("value"))
    answer = bytes(body("other"))
    with (
        Emulator(lambda request: answer) as emulator,
        direct_twin.endpoint(emulator.url, content_handler=handler) as endpoint,
        pytest.raises(HandlerError, match="ChatHandler could not transform the output: OSError; see the cause"),
    ):
        endpoint.invoke("Hi")


@dataclasses.dataclass
class Positive:
    number: int

    def __post_init__(self) -> None:
        if self.number < 1:
            raise ValueError("not positive")


def test_what_a_class_says_itself_is_the_cause() -> None:
    with pytest.raises(ModelOutputError, match="is refused by Positive: see the cause") as raised:
        ChatHandler(output_type=Positive).transform_output(body('{"number": 0}'))
    assert str(raised.value.__cause__) == "not positive"


# -- streams


def events(*deltas: dict[str, Any], reason: str = "stop") -> bytes:
    lines = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    lines.append({"index": 0, "delta": {}, "finish_reason": reason})
    return b"".join(b"data: " + json.dumps({"choices": [line]}).encode() + b"\n\n" for line in lines)


STREAM = events({"reasoning_content": "Well."}, {"content": '{"place": "x", '}, {"content": '"opens": 1}'})


def test_a_stream_makes_the_object_however_its_bytes_come() -> None:
    for pieces in ways(STREAM):
        decoder: Any = ChatHandler(output_type=Hours).stream_decoder()
        chunks = [chunk for piece in pieces for chunk in decoder.feed(piece)] + decoder.finish()
        assert decoder.complete(chunks, decoder.finish_reason) == Hours("x", 1)
        assert decoder.completion == ChatCompletion(
            '{"place": "x", "opens": 1}', (), "Well.", "stop", None, decoder.completion.raw
        )


@pytest.mark.parametrize(
    ("stream", "said", "text"),
    [
        (events({"content": '{"place":'}, reason="length"), "max_tokens cut it after 9 characters", '{"place":'),
        (events({"refusal": "I can"}, {"refusal": "not."}), "the model refuses", "I cannot."),
        (events({"content": "no"}), "the answer is not JSON", "no"),
    ],
)
def test_a_stream_that_makes_no_object_gives_its_chunks_and_the_error_with_the_object(
    twin: Twin,  # noqa: F811
    stream: bytes,
    said: str,
    text: str,
) -> None:
    reply = ModelReply(stream, content_type="text/event-stream")
    with (
        Emulator(lambda request: reply) as emulator,
        twin.endpoint(emulator.url, content_handler=ChatHandler(output_type=Hours)) as endpoint,
        endpoint.stream("Hi") as chunks,
    ):
        pieces = list(chunks)
        with pytest.raises(ModelOutputError, match=said) as raised:
            _ = chunks.iterator.completion
        assert raised.value.text == text
        assert raised.value.finish_reason == chunks.iterator.finish_reason
        assert raised.value.received == tuple(pieces)
        assert raised.value.endpoint_name == "my-llm"


def test_before_its_end_a_stream_has_no_object_yet() -> None:
    decoder: Any = ChatHandler(output_type=Hours).stream_decoder()
    chunks = decoder.feed(STREAM[: STREAM.index(b'"opens')])
    with pytest.raises(ModelOutputError, match="no finish reason"):
        decoder.complete(chunks)
