"""The JSON schema of a dataclass or a TypedDict, and the reader of its instances.

The reader accepts exactly the instances of the schema: no value changes its type, and no member is left out or added.
As in JSON Schema, 1.0 is an integer and 1 a number. An instance of the schema that the class itself refuses (with a
``ValueError`` from ``__post_init__``) is also a mismatch.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import itertools
import operator
import types
import typing
from collections.abc import Callable, Iterable, Sized
from typing import Annotated, Any, Literal, NamedTuple, TypeGuard, cast

from smendpoint.errors import ConfigurationError

Reader = Callable[[Any, str], Any]
"""Takes a parsed value and its place in the answer, and returns the output."""


class Mismatch(Exception):
    """A value is not an instance of the schema.

    Args:
        place: the place of the value in the answer, such as ``days[1].degrees``; empty for the whole answer.
        said: the problem: a predicate that follows the place.
        inside: whether the value itself has the right type, and the problem is inside it.
    """

    def __init__(self, place: str, said: str, *, inside: bool = False) -> None:
        super().__init__(f"{place or 'the answer'} {said}")
        self.place = place
        self.inside = inside


class Shape(NamedTuple):
    """A type.

    Attributes:
        schema: its JSON schema.
        read: the reader of its instances.
        what: the name of the instances, for messages.
    """

    schema: dict[str, Any]
    read: Reader
    what: str


_JSON_TYPES = {
    str: ("string", "a string"),
    int: ("integer", "an integer"),
    float: ("number", "a number"),
    bool: ("boolean", "a boolean"),
    type(None): ("null", "null"),
    list: ("array", "an array"),
    dict: ("object", "an object"),
}
# The limits of an annotation, by their names in annotated-types: the keyword for each type, the test, and its words.
_NUMBERS, _SIZES = ("integer", "number"), ("string", "array", "object")
_LIMITS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[[Any, Any], bool], str]] = {
    "ge": (_NUMBERS, ("minimum",) * 2, operator.ge, "at least"),
    "gt": (_NUMBERS, ("exclusiveMinimum",) * 2, operator.gt, "more than"),
    "le": (_NUMBERS, ("maximum",) * 2, operator.le, "at most"),
    "lt": (_NUMBERS, ("exclusiveMaximum",) * 2, operator.lt, "less than"),
    "min_length": (_SIZES, ("minLength", "minItems", "minProperties"), operator.ge, "of a length of at least"),
    "max_length": (_SIZES, ("maxLength", "maxItems", "maxProperties"), operator.le, "of a length of at most"),
}


def is_typed_dict(kind: object) -> TypeGuard[type]:
    """Return whether this is a class made by ``typing.TypedDict`` or its backport."""
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__total__")


def shape_of(kind: type) -> Shape:
    """Make the shape of a dataclass or a TypedDict.

    Raises:
        ConfigurationError: a field has a type that cannot be expressed; the message names the field.
    """
    found = _Shapes(kind)
    try:
        shape = found.record(kind)
    except RecursionError:
        raise ConfigurationError(f"output_type: the types of {kind.__name__} are nested without end") from None
    definitions = {name: schema for one, (name, schema) in found.records.items() if one is not kind}
    return shape._replace(schema={**shape.schema, **({"$defs": definitions} if definitions else {})})


class _Shapes:
    """The shapes of one output type.

    Attributes:
        records: the dataclasses and TypedDicts, each with its name among the definitions and its schema.
    """

    def __init__(self, root: type) -> None:
        self._root = root
        self._readers: dict[type, Reader] = {}
        self.records: dict[type, tuple[str, dict[str, Any]]] = {}

    def record(self, kind: type) -> Shape:
        """Make the shape of a dataclass or a TypedDict."""
        what = f"an object ({kind.__name__})"
        if kind not in self.records:
            schema: dict[str, Any] = {}
            self.records[kind] = self._free_name(kind.__name__), schema  # before its fields, which may refer to it
            self._readers[kind] = self._describe(kind, schema, what)

        def read(value: Any, place: str) -> Any:
            return self._readers[kind](value, place)  # it is made later if the class refers to itself

        return Shape(self.records[kind][1], read, what)

    def _free_name(self, name: str) -> str:
        taken = [name for name, _ in self.records.values()]
        names = itertools.chain([name], (f"{name}{number}" for number in itertools.count(2)))
        return next(name for name in names if name not in taken)

    def _describe(self, kind: type, schema: dict[str, Any], what: str) -> Reader:
        """Fill in the schema of a class, and return its reader."""
        fields = {
            name: (self._described(self._shape(hint, f"{kind.__name__}.{name}"), text), required)
            for name, hint, required, text in _fields(kind)
        }
        text = vars(kind).get("__doc__") or ""
        if text and not text.startswith(f"{kind.__name__}("):  # a dataclass without its own docstring has its signature
            schema["description"] = inspect.cleandoc(text)
        schema["type"] = "object"
        schema["properties"] = {name: shape.schema for name, (shape, _) in fields.items()}
        schema["required"] = [name for name, (_, required) in fields.items() if required]
        schema["additionalProperties"] = False

        def read(value: Any, place: str) -> Any:
            _expect(value, dict, what, place)
            members: dict[str, Any] = value
            for name in members:
                if name not in fields:
                    raise Mismatch(place, f"has an unknown key, {_shortened(name)!r}", inside=True)
            found: dict[str, Any] = {}
            for name, (shape, required) in fields.items():
                if name in members:
                    found[name] = shape.read(members[name], _below(place, name))
                elif required:
                    raise Mismatch(place, f"has no {name!r}", inside=True)
            if is_typed_dict(kind):
                return found
            try:
                return kind(**found)
            except ValueError as error:
                raise Mismatch(place, f"is refused by {kind.__name__}: see the cause", inside=True) from error

        return read

    def _described(self, shape: Shape, text: str | None) -> Shape:
        return shape if text is None else shape._replace(schema={**shape.schema, "description": text})

    def _shape(self, hint: Any, place: str) -> Shape:
        """Make the shape of any type; ``place`` is the field, for messages."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if hint is Any:
            return Shape({}, _as_it_is, "anything")
        if hint is None or (type(hint) is type and hint in (str, int, float, bool, type(None))):
            return _scalar(hint or type(None))
        if origin is Annotated:
            return self._annotated(hint, place)
        if origin is typing.Union or origin is types.UnionType:
            return self._union(arguments, place)
        if origin is Literal:
            return _choice([(one.value if isinstance(one, enum.Enum) else one, one) for one in arguments], place)
        if list in (origin, hint):
            (item,) = arguments or (Any,)
            return self._list(item, place)
        if dict in (origin, hint):
            key, item = arguments or (str, Any)
            return self._dict(key, item, place)
        if isinstance(hint, type) and origin is None:
            if issubclass(hint, enum.Enum):
                return _choice([(one.value, one) for one in hint], place)
            if dataclasses.is_dataclass(hint) or is_typed_dict(hint):
                shape = self.record(hint)
                path = "#" if hint is self._root else f"#/$defs/{self.records[hint][0]}"
                return shape._replace(schema={"$ref": path})
        meant = getattr(hint, "__supertype__", None) or getattr(hint, "__value__", None)  # NewType, `type X = ...`
        if meant is not None:
            return self._shape(meant, place)
        raise _inexpressible(place, hint)

    def _list(self, item: Any, place: str) -> Shape:
        shape = self._shape(item, place)

        def read(value: Any, place: str) -> Any:
            _expect(value, list, "an array", place)
            return [shape.read(item, f"{place}[{index}]") for index, item in enumerate(value)]

        return Shape({"type": "array", "items": shape.schema}, read, "an array")

    def _dict(self, key: Any, item: Any, place: str) -> Shape:
        if key is not str:
            raise _inexpressible(place, f"a dict with keys of {_name(key)}")
        shape = self._shape(item, place)

        def read(value: Any, place: str) -> Any:
            _expect(value, dict, "an object", place)
            return {name: shape.read(item, _below(place, name)) for name, item in value.items()}

        return Shape({"type": "object", "additionalProperties": shape.schema}, read, "an object")

    def _union(self, members: Iterable[Any], place: str) -> Shape:
        # Every integer is a number, but it stays an integer if the union has both.
        shapes = [self._shape(member, place) for member in sorted(members, key=lambda member: member is float)]
        what = " or ".join([shape.what for shape in shapes])

        def read(value: Any, place: str) -> Any:
            missed: list[Mismatch] = []
            for shape in shapes:
                try:
                    return shape.read(value, place)
                except Mismatch as error:
                    missed.append(error)
            inner = [error for error in missed if error.inside or error.place != place]
            raise inner[0] if len(inner) == 1 else _other(value, what, place)

        return Shape({"anyOf": [shape.schema for shape in shapes]}, read, what)

    def _annotated(self, hint: Any, place: str) -> Shape:
        shape = self._shape(hint.__origin__, place)
        for one in hint.__metadata__:
            text = one if isinstance(one, str) else getattr(one, "documentation", None)
            limits = [name for name in _LIMITS if getattr(one, name, None) is not None]
            if isinstance(text, str):
                shape = self._described(shape, text)
            elif one is not ... and not limits:
                raise _inexpressible(place, f"the annotation {_name(type(one))}")
            for name in limits:
                shape = _limited(shape, name, getattr(one, name), place)
        return shape


def _as_it_is(value: Any, _place: str) -> Any:
    return value


def _scalar(kind: type) -> Shape:
    name, what = _JSON_TYPES[kind]

    def read(value: Any, place: str) -> Any:
        if type(value) is kind:
            return value
        if kind is int and type(value) is float and value.is_integer():
            return int(value)
        if kind is float and type(value) is int:
            try:
                return float(value)
            except OverflowError:
                raise Mismatch(place, "is beyond the range of a float") from None
        raise _other(value, what, place)

    return Shape({"type": name}, read, what)


def _choice(choices: list[tuple[Any, Any]], place: str) -> Shape:
    """Make the shape of a choice among values; each comes with its output."""
    kinds = {type(value) for value, _ in choices}
    if not choices or not kinds <= {str, int, float, bool, type(None)}:
        raise _inexpressible(place, f"a choice of {', '.join(sorted(map(_name, kinds))) or 'nothing'}")
    what = "one of " + ", ".join([repr(value) for value, _ in choices[:8]])
    if len(choices) > 8:
        what += f" and {len(choices) - 8} more"

    def read(value: Any, place: str) -> Any:
        for choice, output in choices:
            # For Python, true is 1.
            if value == choice and (type(value) is bool) is (type(choice) is bool):
                return output
        raise Mismatch(place, f"must be {what}")

    schema: dict[str, Any] = {"enum": [value for value, _ in choices]}
    return Shape({"type": _JSON_TYPES[kinds.pop()][0], **schema} if len(kinds) == 1 else schema, read, what)


def _limited(shape: Shape, name: str, limit: Any, place: str) -> Shape:
    """Return a shape with one more limit."""
    kinds, keywords, holds, words = _LIMITS[name]
    if shape.schema.get("type") not in kinds:
        raise _inexpressible(place, f"the limit {name} of a type that is not a {' or '.join(kinds)}")
    keyword = keywords[kinds.index(shape.schema["type"])]

    def read(value: Any, place: str) -> Any:
        output = shape.read(value, place)
        if not holds(output if kinds is _NUMBERS else len(cast("Sized", value)), limit):
            raise Mismatch(place, f"must be {words} {limit}", inside=True)
        return output

    return Shape({**shape.schema, keyword: limit}, read, shape.what)


def _fields(kind: type) -> Iterable[tuple[str, Any, bool, str | None]]:
    """Return the fields of a dataclass or a TypedDict: names, types, whether they are required, descriptions."""
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except Exception as error:
        raise ConfigurationError(
            f"output_type: the annotations of {kind.__name__} cannot be read: {error}. The types that they name must "
            "be defined in a module, not in a function"
        ) from error
    if is_typed_dict(kind):
        required_keys = vars(kind)["__required_keys__"]
        for name, hint in hints.items():
            yield name, *_required(hint, name in required_keys), None
        return
    for name, hint in hints.items():
        if isinstance(hint, dataclasses.InitVar):
            raise _inexpressible(f"{kind.__name__}.{name}", "an InitVar")
    for field in dataclasses.fields(cast("Any", kind)):
        if field.init:
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            yield field.name, hints[field.name], required, field.metadata.get("description")


def _required(hint: Any, required: bool) -> tuple[Any, bool]:
    """Return the type in ``Required``, ``NotRequired`` and ``ReadOnly``, and whether the key is required.

    Before Python 3.11 these come from the backport, and the class does not know about those in text annotations.
    """
    name = getattr(typing.get_origin(hint), "_name", None)
    if name not in ("Required", "NotRequired", "ReadOnly"):
        return hint, required
    return _required(typing.get_args(hint)[0], required if name == "ReadOnly" else name == "Required")


def _expect(value: Any, kind: type, what: str, place: str) -> None:
    if type(value) is not kind:
        raise _other(value, what, place)


def _other(value: Any, what: str, place: str) -> Mismatch:
    return Mismatch(place, f"must be {what}, not {_JSON_TYPES[type(value)][1]}")


def _below(place: str, name: str) -> str:
    if name.isidentifier():
        return f"{place}.{_shortened(name)}" if place else _shortened(name)
    return f"{place}[{_shortened(name)!r}]"


def _shortened(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:40]}..."


def _name(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))


def _inexpressible(place: str, hint: Any) -> ConfigurationError:
    said = hint if isinstance(hint, str) else _name(hint) if type(hint) is type else str(hint)
    return ConfigurationError(
        f"output_type: {place}: {said} cannot be expressed. A field is a str, int, float, bool or None, a list, a dict "
        "with str keys, a union, a Literal, an Enum, a dataclass or a TypedDict; pydantic's models have more"
    )
