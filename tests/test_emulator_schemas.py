"""Answers of a shape that a client asks for: `jsonschema` is the judge of every one."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from smendpoint.emulator import Emulator, ModelReply, ModelRequest
from smendpoint.emulator.personalities import tgi, vllm
from smendpoint.emulator.personalities._common import Refused
from smendpoint.emulator.personalities._schema import instance
from smendpoint.handlers import ChatHandler

SAID = "It rains."
PROMPT = "It rains. Question: Does it rain?"
MESSAGES = [{"role": "user", "content": PROMPT}]


def judged(schema: Any) -> Any:
    """An instance, which the judge takes."""
    Draft202012Validator.check_schema(schema)
    made = json.loads(json.dumps(instance(schema, SAID), allow_nan=False))
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(made)
    return made


CASES: list[tuple[Any, Any]] = [
    (True, SAID),
    ({}, SAID),
    ({"type": "string"}, SAID),
    ({"type": "string", "maxLength": 4}, "It r"),
    ({"type": "string", "minLength": 12}, "It rains...."),
    ({"type": "string", "maxLength": 0}, ""),
    ({"type": "string", "format": "date"}, "2024-01-01"),
    ({"type": "string", "format": "of my own"}, SAID),
    ({"enum": ["yes", "no"]}, "yes"),
    ({"const": None}, None),
    ({"const": 1.5}, 1.5),
    ({"type": "integer", "enum": [True, 1]}, 1),
    ({"type": "boolean"}, True),
    ({"type": "null"}, None),
    ({"type": "integer"}, 0),
    ({"type": "integer", "minimum": 3}, 3),
    ({"type": "integer", "exclusiveMinimum": 3}, 4),
    ({"type": "integer", "maximum": -3}, -3),
    ({"type": "integer", "exclusiveMaximum": -3}, -4),
    ({"type": "integer", "minimum": 10, "multipleOf": 7}, 14),
    ({"type": "integer", "minimum": 2, "maximum": 8, "multipleOf": 2.5}, 5),
    ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
    ({"type": "number", "minimum": 0.25, "multipleOf": 0.5}, 1),
    ({"minimum": 3}, 3),
    ({"type": ["null", "string"]}, None),
    ({"type": "array"}, []),
    ({"enum": [[1, 1.0], [1, True]], "uniqueItems": True}, [1, True]),
    ({"items": {"type": "integer"}, "minItems": 2}, [0, 0]),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 3, "uniqueItems": True}, [0, 1, 2]),
    (
        {"type": "array", "items": {"type": "string", "maxLength": 9}, "minItems": 3, "uniqueItems": True},
        [SAID, "It rains0", "It rains1"],
    ),
    ({"prefixItems": [{"type": "integer"}, {"type": "null"}], "minItems": 3, "items": {"const": 5}}, [0, None, 5]),
    ({"prefixItems": [{}], "minItems": 1, "items": False}, [SAID]),
    ({"type": "object"}, {}),
    ({"properties": {"a": {"type": "string"}}}, {}),
    ({"properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]}, {"a": SAID}),
    ({"required": ["a"], "additionalProperties": {"type": "integer"}}, {"a": 0}),
    ({"type": "object", "minProperties": 2, "properties": {"a": {"type": "null"}}}, {"a": None, "member0": SAID}),
    ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
    ({"anyOf": [False, {"type": "boolean"}]}, True),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, 0.5),
    ({"oneOf": [{"type": "integer", "minimum": 0}, {"type": "integer", "minimum": 5}]}, 0),
    ({"not": {"const": SAID}}, SAID + "0"),
    ({"type": "string", "allOf": [{"maxLength": 5}, {"minLength": 5}]}, "It ra"),
    ({"allOf": [{"required": ["a"]}, {"properties": {"a": {"type": "integer"}}}]}, {"a": 0}),
    ({"allOf": [{"type": "number"}, {"type": ["integer", "string"]}]}, 0),
    ({"type": ["null", "integer"], "not": {"anyOf": [{"type": "null"}]}}, 0),
    ({"$defs": {"A": {"type": "null"}}, "$ref": "#/$defs/A"}, None),
    ({"$defs": {"a/b~c d": {"type": "null"}}, "$ref": "#/$defs/a~1b~0c%20d"}, None),
    ({"definitions": {"A": {"type": "integer"}}, "allOf": [{"$ref": "#/definitions/A"}], "minimum": 7}, 7),
    # A tree that must have branches, and may have leaves.
    (
        {
            "$ref": "#/$defs/Tree",
            "$defs": {
                "Tree": {
                    "type": "object",
                    "required": ["left", "right"],
                    "properties": {
                        side: {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "null"}]} for side in ("left", "right")
                    },
                }
            },
        },
        {"left": None, "right": None},
    ),
    ({"type": "object", "properties": {"next": {"$ref": "#"}}}, {}),
]


@pytest.mark.parametrize(("schema", "value"), CASES)
def test_the_answer_is_small_and_fits_the_schema(schema: Any, value: Any) -> None:
    assert judged(schema) == value


NO_ANSWER = "no answer was found"
REFUSED: list[tuple[Any, str]] = [
    (False, NO_ANSWER),
    ({"type": "string", "enum": [1]}, NO_ANSWER),
    ({"allOf": [{"type": "string"}, {"type": "null"}]}, NO_ANSWER),
    ({"type": "integer", "minimum": 2, "maximum": 1}, NO_ANSWER),
    ({"type": "string", "minLength": 3, "maxLength": 2}, NO_ANSWER),
    ({"type": "array", "items": False, "minItems": 1}, NO_ANSWER),
    ({"type": "array", "items": {"type": "boolean"}, "minItems": 3, "uniqueItems": True}, NO_ANSWER),
    ({"type": "array", "minItems": 2, "maxItems": 1}, NO_ANSWER),
    ({"type": "object", "required": ["a"], "additionalProperties": False}, NO_ANSWER),
    ({"type": "object", "required": ["a", "b"], "maxProperties": 1}, NO_ANSWER),
    ({"type": "object", "required": ["next"], "properties": {"next": {"$ref": "#"}}}, NO_ANSWER),
    ({"$ref": "#"}, NO_ANSWER),
    ({"const": float("inf")}, NO_ANSWER),
    ({"const": 10**400, "type": "integer"}, NO_ANSWER),
    ({"oneOf": [True, True]}, NO_ANSWER),
    ({"type": "string", "not": {"$ref": "#"}}, "leads to itself"),
    ({"type": "string", "pattern": "^a+$"}, "does not support `pattern`"),
    ({"if": {}, "then": {}}, "does not support `if`"),
    ({"required": ["a"], "properties": {"a": {"patternProperties": {}}}}, "does not support `patternProperties`"),
    ({"$ref": "https://example.com/schema"}, "does not exist"),
    ({"$ref": "#/$defs/nothing"}, "does not exist"),
    ({"$ref": "#/title/x", "title": "text"}, "does not exist"),
    ({"$ref": "#/title", "title": "text"}, "must be an object, true or false"),
    (5, "must be an object, true or false"),
    (None, "must be an object, true or false"),
    ({"anyOf": [1]}, "must be an object, true or false"),
    ({"type": "thing"}, "is not a JSON type"),
    ({"type": [["string"]]}, "is not a JSON type"),
    ({"type": 5}, "`type` in the schema has the wrong type"),
    ({"properties": []}, "`properties` in the schema has the wrong type"),
    ({"items": [{}]}, "`items` in the schema has the wrong type"),
    ({"required": [1]}, "must be names"),
    ({"required": [[]]}, "must be names"),
    ({"minimum": "1"}, "`minimum` in the schema must be a number"),
    ({"minimum": True}, "`minimum` in the schema must be a number"),
    ({"minimum": float("nan")}, "`minimum` in the schema must be a number"),
    ({"maximum": 10**400}, "`maximum` in the schema must be a number"),
    ({"minLength": 10**9}, "`minLength` in the schema must be a number of at most 1000"),
    ({"minItems": 10**9}, "`minItems` in the schema must be a number of at most 1000"),
    ({"multipleOf": 0}, "must be more than 0"),
    ({"not": {"enum": list(range(200))}, "type": "integer", "minimum": 0}, NO_ANSWER),
]


@pytest.mark.parametrize(("schema", "why"), REFUSED)
def test_a_schema_that_cannot_be_followed_is_refused_with_the_reason(schema: Any, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        instance(schema, SAID)
    assert refused.value.status == 400


def test_a_schema_that_takes_too_much_work_is_refused() -> None:
    items: Any = {"type": "string"}
    for _ in range(5):
        items = {"type": "array", "items": items, "minItems": 30}
    with pytest.raises(Refused, match="too much work"):
        instance(items, SAID)


def test_a_schema_that_is_nested_without_end_is_refused() -> None:
    schema: Any = {"type": "string"}
    for _ in range(5000):
        schema = {"allOf": [schema]}
    with pytest.raises(Refused, match="nested too deeply"):
        instance(schema, SAID)


numbers = st.one_of(st.integers(-20, 20), st.sampled_from([0.5, -0.25, 1.5]))
values = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=3), st.lists(st.integers(0, 3), max_size=2)
)
names = st.sampled_from(["a", "b", "c"])


def keywords(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.one_of(
                st.sampled_from(["object", "array", "string", "integer", "number", "boolean", "null"]),
                st.lists(st.sampled_from(["object", "array", "string", "number"]), min_size=1, max_size=2, unique=True),
            ),
            "enum": st.lists(values, min_size=1, max_size=3),
            "const": values,
            "minimum": numbers,
            "exclusiveMaximum": numbers,
            "multipleOf": st.sampled_from([1, 2, 3, 0.5, 2.5]),
            "minLength": st.integers(0, 12),
            "maxLength": st.integers(0, 12),
            "minItems": st.integers(0, 3),
            "maxItems": st.integers(0, 3),
            "uniqueItems": st.booleans(),
            "items": inner,
            "prefixItems": st.lists(inner, min_size=1, max_size=2),
            "properties": st.dictionaries(names, inner, max_size=3),
            "required": st.lists(names, max_size=2, unique=True),
            "additionalProperties": inner,
            "minProperties": st.integers(0, 2),
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "oneOf": st.lists(inner, min_size=1, max_size=2),
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
            "$ref": st.just("#"),
        },
    )


@given(st.recursive(st.booleans() | keywords(st.booleans()), keywords, max_leaves=6))
def test_an_answer_to_any_schema_fits_it_or_is_refused(schema: Any) -> None:
    try:
        made = instance(schema, SAID)
    except Refused:
        return
    try:
        fits = Draft202012Validator(schema).is_valid(json.loads(json.dumps(made)))
    except RecursionError:  # the schema refers to itself for the same value, which the specification leaves undefined
        return
    assert fits


def plain(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Schemas as programs make them from types: each has an instance."""
    members = st.dictionaries(names, inner, max_size=3)
    return st.one_of(
        members.map(
            lambda found: {"type": "object", "properties": found, "required": [*found], "additionalProperties": False}
        ),
        inner.map(lambda item: {"type": "array", "items": item, "minItems": 2}),
        st.lists(inner, min_size=1, max_size=3).map(lambda found: {"anyOf": found}),
        inner.map(lambda found: {"allOf": [found], "description": "d"}),
    )


leaves = st.one_of(
    st.sampled_from(["string", "integer", "number", "boolean", "null"]).map(lambda kind: {"type": kind}),
    st.integers(-50, 50).map(lambda least: {"type": "integer", "minimum": least, "maximum": least + 3}),
    st.integers(0, 20).map(lambda size: {"type": "string", "minLength": size, "maxLength": size}),
    st.lists(st.text(max_size=3), min_size=1, max_size=3).map(lambda found: {"type": "string", "enum": found}),
)


@given(st.recursive(leaves, plain, max_leaves=8))
def test_a_schema_as_programs_make_them_has_an_answer(schema: Any) -> None:
    judged(schema)


# -- as clients ask


def ask(model: Any, body: dict[str, Any], path: str = "/invocations") -> tuple[int, Any]:
    reply: ModelReply = model(ModelRequest(json.dumps(body).encode(), path=path))
    whole = reply.body if isinstance(reply.body, str) else "".join(reply.body)  # type: ignore[arg-type]  # text
    return reply.status, json.loads(whole)


@given(st.recursive(leaves, plain, max_leaves=8))
def test_a_chat_has_an_answer_that_fits_whole_and_streamed(schema: Any) -> None:
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = {"messages": MESSAGES, "response_format": asked}
    whole = ask(vllm(), body)[1]["choices"][0]["message"]["content"]
    reply = vllm()(ModelRequest(json.dumps({**body, "stream": True}).encode()))
    decoder = ChatHandler().stream_decoder()
    for piece in reply.body:  # type: ignore[union-attr]  # texts
        decoder.feed(str(piece).encode())
    decoder.finish()
    assert decoder.completion.text == whole
    assert Draft202012Validator(schema).is_valid(json.loads(whole))


class Weather(pydantic.BaseModel):
    class Day(pydantic.BaseModel):
        date: str
        kind: Literal["rain", "sun"]
        degrees: int | None

    place: str
    days: list[Day] = pydantic.Field(min_length=2)
    sure: bool = False
    notes: dict[str, float]


def test_the_openai_sdk_parses_the_answer_into_its_own_classes() -> None:
    messages: Any = MESSAGES
    with Emulator({"chat": "vllm"}) as emulator:
        url = f"{emulator.url}/endpoints/chat/openai/v1"
        with openai.OpenAI(base_url=url, api_key="any", max_retries=0) as client:
            done = client.chat.completions.parse(model="", messages=messages, response_format=Weather)
            weather = done.choices[0].message.parsed
            with client.chat.completions.stream(model="", messages=messages, response_format=Weather) as stream:
                streamed = stream.get_final_completion().choices[0].message.parsed
        emulator.disconnected()
    assert weather == streamed
    assert weather is not None
    assert weather.place == SAID
    assert [day.kind for day in weather.days] == ["rain", "rain"]


SCHEMA = {"type": "object", "properties": {"rain": {"type": "boolean"}}, "required": ["rain"]}
ASKED = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}


@pytest.mark.parametrize("model", [tgi(), vllm()])
def test_chats_and_completions_have_the_shape_that_is_asked_for(model: Any) -> None:
    chat = ask(model, {"messages": MESSAGES, "response_format": ASKED})[1]["choices"][0]["message"]["content"]
    text = ask(model, {"prompt": PROMPT, "response_format": ASKED})[1]["choices"][0]["text"]
    assert json.loads(chat) == json.loads(text) == {"rain": True}
    value = ask(model, {"messages": MESSAGES, "response_format": {"type": "json_object", "value": SCHEMA}})[1]
    assert json.loads(value["choices"][0]["message"]["content"]) == {"rain": True}
    free = ask(model, {"messages": MESSAGES, "response_format": {"type": "json_object"}})[1]
    assert json.loads(free["choices"][0]["message"]["content"]) == {"answer": SAID}
    for nothing in (None, {}, {"type": "text"}):
        same = ask(model, {"messages": MESSAGES, "response_format": nothing})[1]
        assert same["choices"][0]["message"]["content"] == SAID


def test_tgi_follows_its_grammar() -> None:
    body = {"inputs": PROMPT, "parameters": {"grammar": {"type": "json", "value": SCHEMA}}}
    assert json.loads(ask(tgi(), body)[1][0]["generated_text"]) == {"rain": True}


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (
            {"response_format": {"type": "regex", "value": "a+"}},
            "does not support a response_format of the type 'regex'",
        ),
        ({"response_format": {"type": 5}}, "of the type 5"),
        ({"response_format": "json"}, "must be an object"),
        ({"response_format": {"type": "json_schema"}}, "no json_schema with a schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "no json_schema with a schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "string", "pattern": "a"}}}},
            "does not support `pattern`",
        ),
        ({"guided_json": SCHEMA}, "does not support guided_json: use response_format"),
        ({"structured_outputs": {"regex": "a"}}, "does not support structured_outputs"),
    ],
)
def test_a_shape_that_is_not_known_is_refused(more: dict[str, Any], why: str) -> None:
    for body in ({"messages": MESSAGES}, {"prompt": PROMPT}, {"prompt": PROMPT, "stream": True}):
        status, answer = ask(vllm(), {**body, **more})
        assert status == 400
        assert why in answer["error"]["message"]


def test_a_tool_gets_arguments_that_fit_its_parameters() -> None:
    parameters = {
        "type": "object",
        "properties": {
            "days": {"type": "integer", "minimum": 1},
            "unit": {"type": "string", "enum": ["C", "F"]},
            "place": {"type": "string"},
            "code": {"type": "string", "pattern": "x"},
        },
        "required": ["days"],
    }
    tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]
    call = ask(vllm(), {"messages": MESSAGES, "tools": tools})[1]["choices"][0]["message"]["tool_calls"][0]
    assert json.loads(call["function"]["arguments"]) == {"days": 1, "unit": "C", "place": PROMPT}
    for wrong in ({"required": 5}, {"required": ["code"]}):
        tools[0]["function"] = {"name": "weather", "parameters": {**parameters, **wrong}}
        assert ask(vllm(), {"messages": MESSAGES, "tools": tools})[0] == 400
