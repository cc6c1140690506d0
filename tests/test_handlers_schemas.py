"""The schemas of dataclasses and TypedDicts, and the readers of their instances: `jsonschema` is the judge."""

from __future__ import annotations

import dataclasses
import enum
import json
from typing import Annotated, Any, Literal, NewType, Optional, TypedDict, Union

import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from smendpoint.emulator.personalities._schema import instance
from smendpoint.errors import ConfigurationError
from smendpoint.handlers._schemas import Mismatch, shape_of

City = NewType("City", str)


class Kind(enum.Enum):
    RAIN = "rain"
    SUN = "sun"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Source(TypedDict):
    """Where it was read."""

    name: str
    page: typing_extensions.NotRequired[int]


class Hints(TypedDict, total=False):
    first: typing_extensions.Required[Annotated[str, "The first one"]]
    rest: list[str]


@dataclasses.dataclass
class Day:
    degrees: int
    kind: Kind = Kind.SUN
    next: Day | None = None


@dataclasses.dataclass(frozen=True)
class Report:
    """A report
    of the weather."""

    city: City
    days: list[Day] = dataclasses.field(metadata={"description": "The days, in order"})
    share: float
    level: Level | None
    sources: dict[str, Source]
    word: Literal["yes", 1, True, Kind.SUN, None] = None
    part: Optional[Report] = None  # noqa: UP045  # the older spelling
    hints: Union[Hints, str] = ""  # noqa: UP007  # likewise
    anything: Any = None
    plain: list = dataclasses.field(default_factory=list)  # type: ignore[type-arg]  # as users write it
    table: dict = dataclasses.field(default_factory=dict)  # type: ignore[type-arg]  # likewise
    rank: Annotated[int, ..., "From 1", "and no more"] = 1
    counted: int = dataclasses.field(init=False, default=0)


def small(**more: Any) -> dict[str, Any]:
    return {"city": "Ghent", "days": [], "share": 0.5, "level": 1, "sources": {}, **more}


def read(kind: type, value: Any) -> Any:
    return shape_of(kind).read(value, "")


def test_the_schema_has_the_fields_their_types_and_the_texts_about_them() -> None:
    schema = shape_of(Report).schema
    Draft202012Validator.check_schema(schema)
    assert schema["description"] == "A report\nof the weather."
    assert schema["required"] == ["city", "days", "share", "level", "sources"]
    assert schema["additionalProperties"] is False
    assert schema["properties"] == {
        "city": {"type": "string"},
        "days": {"type": "array", "items": {"$ref": "#/$defs/Day"}, "description": "The days, in order"},
        "share": {"type": "number"},
        "level": {"anyOf": [{"type": "integer", "enum": [1, 2]}, {"type": "null"}]},
        "sources": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Source"}},
        "word": {"enum": ["yes", 1, True, "sun", None]},
        "part": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        "hints": {"anyOf": [{"$ref": "#/$defs/Hints"}, {"type": "string"}]},
        "anything": {},
        "plain": {"type": "array", "items": {}},
        "table": {"type": "object", "additionalProperties": {}},
        "rank": {"type": "integer", "description": "and no more"},
    }
    assert schema["$defs"]["Day"] == {
        "type": "object",
        "properties": {
            "degrees": {"type": "integer"},
            "kind": {"type": "string", "enum": ["rain", "sun"]},
            "next": {"anyOf": [{"$ref": "#/$defs/Day"}, {"type": "null"}]},
        },
        "required": ["degrees"],
        "additionalProperties": False,
    }
    assert schema["$defs"]["Source"]["description"] == "Where it was read."
    assert schema["$defs"]["Source"]["required"] == ["name"]
    assert schema["$defs"]["Hints"]["required"] == ["first"]
    assert schema["$defs"]["Hints"]["properties"]["first"] == {"type": "string", "description": "The first one"}


def test_an_instance_becomes_objects_of_the_classes_at_every_depth() -> None:
    days = [{"degrees": 3, "kind": "rain", "next": {"degrees": 4.0}}]
    value = small(
        days=days,
        level=2,
        sources={"a": {"name": "n", "page": 1}},
        part=small(share=1),
        hints={"first": "x"},
        anything=[1],
    )
    made = read(Report, value)
    assert made == Report(
        City("Ghent"),
        [Day(3, Kind.RAIN, Day(4))],
        0.5,
        Level.HIGH,
        {"a": {"name": "n", "page": 1}},
        part=Report(City("Ghent"), [], 1.0, Level.LOW, {}),
        hints={"first": "x"},
        anything=[1],
    )
    assert type(made.days[0].next.degrees) is int
    assert type(made.part.share) is float
    assert read(Report, small(word="sun", level=None)).word is Kind.SUN
    assert read(Report, small(word=True)).word is True
    assert read(Hints, {"first": "x", "rest": ["y"]}) == {"first": "x", "rest": ["y"]}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "the answer must be an object (Report), not an array"),
        ({"city": "x"}, "the answer has no 'days'"),
        (small(town=1), "the answer has an unknown key, 'town'"),
        (small(**{"t" * 50: 1}), f"the answer has an unknown key, '{'t' * 40}...'"),
        (small(city=1), "city must be a string, not an integer"),
        (small(days=None), "days must be an array, not null"),
        (small(days=[{"degrees": 1}, {"degrees": True}]), "days[1].degrees must be an integer, not a boolean"),
        (small(days=[{"degrees": 1.5}]), "days[0].degrees must be an integer, not a number"),
        (small(days=[{"degrees": "1"}]), "days[0].degrees must be an integer, not a string"),
        (small(days=[{"degrees": 1, "kind": "snow"}]), "days[0].kind must be one of 'rain', 'sun'"),
        (small(days=[{"degrees": 1, "next": {}}]), "days[0].next has no 'degrees'"),
        (small(share="1"), "share must be a number, not a string"),
        (small(share=False), "share must be a number, not a boolean"),
        (small(share=10**400), "share is beyond the range of a float"),
        (small(level=True), "level must be one of 1, 2 or null, not a boolean"),
        (small(sources={"a b": {"name": 1}}), "sources['a b'].name must be a string, not an integer"),
        (small(sources={"a": {"name": "n", "page": None}}), "sources.a.page must be an integer, not null"),
        (small(sources=[]), "sources must be an object, not an array"),
        (small(word=2), "word must be one of 'yes', 1, True, 'sun', None"),
        (small(word=False), "word must be one of 'yes', 1, True, 'sun', None"),
        (small(hints={}), "hints has no 'first'"),
        (small(hints=1), "hints must be an object (Hints) or a string, not an integer"),
        (small(part=small(part=3)), "part.part must be an object (Report) or null, not an integer"),
    ],
)
def test_a_value_that_is_not_an_instance_is_refused_with_its_place_and_type(value: Any, said: str) -> None:
    with pytest.raises(Mismatch) as raised:
        read(Report, value)
    assert str(raised.value) == said


@dataclasses.dataclass
class Either:
    number: float | int
    record: Day | Source
    deep: list[Day] | list[Source]


def test_a_union_of_both_kinds_of_numbers_keeps_integers() -> None:
    either = {"record": {"name": "n"}, "deep": []}
    assert type(read(Either, {"number": 1, **either}).number) is int
    assert type(read(Either, {"number": 1.5, **either}).number) is float
    assert read(Either, {"number": 2**70, **either}).number == 2**70
    with pytest.raises(Mismatch, match=r"record must be an object \(Day\) or an object \(Source\), not an object"):
        read(Either, {**either, "number": 1, "record": {}})


@dataclasses.dataclass
class Limits:
    score: Annotated[float, type("Interval", (), {"ge": 0, "gt": None, "le": 1, "lt": None})()]
    age: Annotated[int, type("Gt", (), {"gt": 0})(), type("Lt", (), {"lt": 150})()]
    name: Annotated[str, type("Doc", (), {"documentation": "The name"})(), type("Len", (), {"min_length": 2})()]
    tags: Annotated[list[str], type("Len", (), {"min_length": 1, "max_length": 2})()]
    table: Annotated[dict[str, int], type("Len", (), {"max_length": 1})()]


def test_the_limits_of_annotations_are_in_the_schema_and_are_held() -> None:
    properties = shape_of(Limits).schema["properties"]
    assert properties["score"] == {"type": "number", "minimum": 0, "maximum": 1}
    assert properties["age"] == {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 150}
    assert properties["name"] == {"type": "string", "description": "The name", "minLength": 2}
    assert properties["tags"] == {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2}
    assert properties["table"]["maxProperties"] == 1
    fits = {"score": 1, "age": 149, "name": "Jo", "tags": ["a"], "table": {}}
    assert read(Limits, fits) == Limits(1.0, 149, "Jo", ["a"], {})
    for name, value, said in (
        ("score", 1.5, "score must be at most 1"),
        ("age", 0, "age must be more than 0"),
        ("name", "J", "name must be of a length of at least 2"),
        ("tags", ["a", "b", "c"], "tags must be of a length of at most 2"),
        ("table", {"a": 1, "b": 2}, "table must be of a length of at most 1"),
    ):
        with pytest.raises(Mismatch, match=said):
            read(Limits, {**fits, name: value})


@dataclasses.dataclass
class Checked:
    least: int
    most: int

    def __post_init__(self) -> None:
        if self.least > self.most:
            raise ValueError("the least is more than the most")


def test_a_value_that_the_class_itself_refuses_is_a_mismatch_with_the_cause() -> None:
    assert read(Checked, {"least": 1, "most": 2}) == Checked(1, 2)
    with pytest.raises(Mismatch, match="the answer is refused by Checked: see the cause") as raised:
        read(Checked, {"least": 2, "most": 1})
    assert isinstance(raised.value.__cause__, ValueError)


class Other:
    @dataclasses.dataclass
    class Day:
        name: str


@dataclasses.dataclass
class TwoDays:
    one: Day
    other: Other.Day


def test_two_classes_of_one_name_have_two_definitions() -> None:
    schema = shape_of(TwoDays).schema
    assert schema["properties"] == {"one": {"$ref": "#/$defs/Day"}, "other": {"$ref": "#/$defs/Day2"}}
    assert read(TwoDays, {"one": {"degrees": 1}, "other": {"name": "n"}}) == TwoDays(Day(1), Other.Day("n"))


def test_a_long_choice_is_told_by_its_first_members() -> None:
    many = enum.Enum("many", {f"m{number}": number for number in range(20)})  # type: ignore[misc]  # made here
    with pytest.raises(Mismatch, match=r"field must be one of 0, 1, 2, 3, 4, 5, 6, 7 and 12 more$"):
        read(made(many), {"field": 20})


class Empty(enum.Enum):
    pass


class Pair(enum.Enum):
    ONE = (1, 2)


def made(hint: Any) -> type:
    return dataclasses.make_dataclass("Made", [("field", hint)])


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        (bytes, "bytes"),
        (set[str], "set[str]"),
        (tuple[int, str], "tuple[int, str]"),
        (list[complex], "complex"),
        (dict[int, str], "a dict with keys of int"),
        (dict[str, object], "object"),
        (Empty, "a choice of nothing"),
        (Pair, "a choice of tuple"),
        (Literal[b"x"], "a choice of bytes"),
        (typing_extensions.TypeVar("T"), "~T"),
        (Annotated[int, 5], "the annotation int"),
        (
            Annotated[int, type("Len", (), {"min_length": 2})()],
            "the limit min_length of a type that is not a string or",
        ),
        (Annotated[int | None, type("Ge", (), {"ge": 2})()], "the limit ge of a type that is not a integer or number"),
    ],
)
def test_a_type_that_cannot_be_expressed_is_refused_with_the_name_of_the_field(hint: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        shape_of(made(hint))
    assert f"output_type: Made.field: {said}" in str(raised.value)
    assert "pydantic" in str(raised.value)


@dataclasses.dataclass
class WithInit:
    size: dataclasses.InitVar[int]


@dataclasses.dataclass
class Unresolved:
    day: Nowhere  # type: ignore[name-defined]  # noqa: F821  # wrong on purpose


class Endless:
    """A type alias that means itself, as `type` makes them from Python 3.12 on."""

    __value__: Any


ENDLESS = Endless()
ENDLESS.__value__ = list[ENDLESS]  # type: ignore[valid-type]  # as above


def test_annotations_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="WithInit"):
        shape_of(WithInit)
    with pytest.raises(ConfigurationError, match="annotations of Unresolved cannot be read: name 'Nowhere'"):
        shape_of(Unresolved)
    with pytest.raises(ConfigurationError, match="the types of Made are nested without end"):
        shape_of(made(ENDLESS))


# -- any type, any value

LEAVES: list[Any] = [str, int, float, bool, None, Any, Kind, Level, City, Literal["a", "b"], Literal[1, None]]
names = st.sampled_from(["a", "b", "c"])


def records(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = st.dictionaries(names, st.tuples(inner, st.booleans()), max_size=3)

    def dataclass(found: dict[str, tuple[Any, bool]]) -> Any:
        specs = [
            (name, hint, dataclasses.field(default=None)) if free else (name, hint)
            for name, (hint, free) in found.items()
        ]
        return dataclasses.make_dataclass("Made", specs, kw_only=True)

    def typed_dict(found: dict[str, tuple[Any, bool]]) -> Any:
        keys = {name: typing_extensions.NotRequired[hint] if free else hint for name, (hint, free) in found.items()}
        return typing_extensions.TypedDict("Typed", keys)  # type: ignore[operator]  # it has a form for calls

    return st.one_of(fields.map(dataclass), fields.map(typed_dict))


def wider(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        inner.map(lambda item: list[item]),
        inner.map(lambda item: dict[str, item]),
        st.lists(inner, min_size=1, max_size=3).map(lambda found: Union[tuple(found)]),  # noqa: UP007  # of any number
        inner.map(Optional.__getitem__),
        records(inner),
    )


kinds = records(st.recursive(st.sampled_from(LEAVES), wider, max_leaves=6))
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.sampled_from([0.5, 1.0, -2.0]),
        st.sampled_from(["a", "rain", "", "other"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=8,
)


@given(kinds, st.lists(values, max_size=5))
def test_the_reader_takes_the_instances_of_the_schema_and_nothing_else(kind: Any, tried: list[Any]) -> None:
    shape = shape_of(kind)
    Draft202012Validator.check_schema(shape.schema)
    judge = Draft202012Validator(shape.schema)
    for value in [*tried, json.loads(json.dumps(instance(shape.schema, "It rains.")))]:
        try:
            shape.read(value, "")
            taken = True
        except Mismatch:
            taken = False
        assert taken is judge.is_valid(value)
    assert taken  # the last one, which the emulator made


def as_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        members = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        absent = [field.name for field in dataclasses.fields(value) if field.default is None]
        return {name: as_json(item) for name, item in members.items() if item is not None or name not in absent}
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [as_json(item) for item in value]
    return value.value if isinstance(value, enum.Enum) else value


@given(kinds)
def test_an_object_has_the_values_of_the_instance(kind: Any) -> None:
    shape = shape_of(kind)
    value = instance(shape.schema, "It rains.")
    assert as_json(shape.read(value, "")) == value
