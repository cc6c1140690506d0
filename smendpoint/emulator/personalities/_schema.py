"""Small instances of JSON schemas: the stand-in's answers to clients that request a certain shape.

Instances are guessed, and checked before they are returned, so each one is valid. A keyword that cannot be checked,
such as a pattern, is refused and not ignored.
"""

from __future__ import annotations

import json
import math
import operator
import urllib.parse
from collections.abc import Callable, Iterator, Sized
from itertools import chain
from typing import Any, cast

from smendpoint.emulator.personalities._common import Refused

# The most subschemas that one request checks: more than any real one needs, and a fraction of a second.
BUDGET = 10_000
# The greatest depth of an answer, including references.
MAX_DEPTH = 32
# The most values of one type that are tried.
TRIES = 100
# The most items, members and characters that a schema may demand of one value.
MAX_SIZE = 1_000
# Numbers beyond it are not exact everywhere.
MAX_NUMBER = 2**53

_NOT_SUPPORTED = (
    "$dynamicRef",
    "$recursiveRef",
    "additionalItems",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "if",
    "pattern",
    "patternProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
# The type that a schema without one describes, by its keywords, in order of preference.
_ABOUT = {
    "object": ("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_JSON_TYPES: dict[type, str] = {str: "string", dict: "object", list: "array"}
_FORMATS = {
    "date-time": "2024-01-01T00:00:00Z",
    "date": "2024-01-01",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def instance(schema: object, text: str) -> Any:
    """Make a small instance of a schema, with ``text`` as its texts if possible.

    Raises:
        Refused: The schema is not valid, has something that is not supported, or no instance of it was found.
    """
    search = _Search(schema, text)
    try:
        for depth in range(MAX_DEPTH):  # the shallowest first: recursive schemas come to an end
            search.too_shallow = False
            for value in search.candidates(schema, depth):
                if search.fits(value, schema):
                    return value
            if not search.too_shallow:
                break
    except RecursionError:
        raise Refused("the schema is nested too deeply", 400) from None
    raise Refused("no answer was found that matches the schema", 400)


class _Search:
    def __init__(self, root: object, text: str) -> None:
        self._root = root
        self._text = text
        self._left = BUDGET
        self.too_shallow = False
        # The schemas that have been checked, by id; they are held, so that no other schema gets the same id.
        self._checked: dict[int, dict[str, Any]] = {}
        self._enumerated: dict[int, frozenset[str]] = {}

    def _look(self, schema: object) -> dict[str, Any]:
        """Return a schema that is neither true nor false, checked."""
        self._left -= 1
        if self._left < 0:
            raise Refused("the schema takes too much work for the stand-in", 400)
        if id(schema) not in self._checked:
            self._checked[id(schema)] = self._check(schema)
        return self._checked[id(schema)]

    def _check(self, schema: object) -> dict[str, Any]:
        if not isinstance(schema, dict):
            raise Refused("a schema must be an object, true or false", 400)
        schema = cast("dict[str, Any]", schema)
        for name in _NOT_SUPPORTED:
            if name in schema:
                raise Refused(f"the stand-in does not support `{name}` in the schema", 400)
        for name, kind in _KINDS.items():
            if name in schema and not isinstance(schema[name], kind):
                raise Refused(f"`{name}` in the schema has the wrong type", 400)
        for name, (most, _, _) in _LIMITS.items():
            value = schema.get(name, 0)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= most:
                raise Refused(f"`{name}` in the schema must be a number of at most {most}", 400)
        if not schema.get("multipleOf", 1) > 0:
            raise Refused("`multipleOf` in the schema must be more than 0", 400)
        if not all(isinstance(name, str) for name in schema.get("required", ())):
            raise Refused("`required` in the schema must be names", 400)
        if any(kind not in _TYPES for kind in _types(schema)):
            raise Refused("`type` in the schema is not a JSON type", 400)
        if "enum" in schema:
            self._enumerated[id(schema)] = frozenset(map(_key, schema["enum"]))
        return schema

    def _refer(self, reference: str) -> object:
        found: Any = self._root
        start, *steps = urllib.parse.unquote(reference).split("/")
        try:
            for step in steps:
                found = found[step.replace("~1", "/").replace("~0", "~")]
        except (KeyError, TypeError):
            start = ""
        if start != "#":
            raise Refused("a `$ref` in the schema does not exist within it", 400)
        return found

    # -- whether a value is valid

    def fits(self, value: Any, schema: object, depth: int = 0) -> bool:
        if isinstance(schema, bool):
            return schema
        rules = self._look(schema)
        if depth > 2 * MAX_DEPTH:
            raise Refused("a `$ref` in the schema leads to itself", 400)
        below = depth + 1
        return (
            self._combination_fits(value, rules, below)
            and self._itself_fits(value, rules)
            and self._parts_fit(value, rules, below)
        )

    def _combination_fits(self, value: Any, rules: dict[str, Any], depth: int) -> bool:
        every: list[object] = [self._refer(rules["$ref"])] if "$ref" in rules else []
        return (
            all(self.fits(value, other, depth) for other in [*every, *rules.get("allOf", ())])
            and any(self.fits(value, other, depth) for other in rules.get("anyOf", (True,)))
            and sum(self.fits(value, other, depth) for other in rules.get("oneOf", (True,))) == 1
            and not self.fits(value, rules.get("not", False), depth)
        )

    def _itself_fits(self, value: Any, rules: dict[str, Any]) -> bool:
        if "const" in rules and _key(value) != _key(rules["const"]):
            return False
        if "enum" in rules and _key(value) not in self._enumerated[id(rules)]:
            return False
        if "type" in rules and not any(_is(value, kind) for kind in _types(rules)):
            return False
        if _is(value, "number") and not abs(value) <= MAX_NUMBER:
            return False
        limits = [(rules[name], limit) for name, limit in _LIMITS.items() if name in rules]
        return all(holds(value, argument) for argument, (_, kind, holds) in limits if _is(value, kind))

    def _parts_fit(self, value: Any, rules: dict[str, Any], depth: int) -> bool:
        if isinstance(value, dict):
            items: dict[str, Any] = value
            return all(name in items for name in rules.get("required", ())) and all(
                self.fits(item, _member_schema(rules, name), depth) for name, item in items.items()
            )
        if isinstance(value, list):
            if rules.get("uniqueItems") and len(set(map(_key, value))) < len(value):
                return False
            return all(self.fits(item, _item_schema(rules, index), depth) for index, item in enumerate(value))
        return True

    # -- values that may be valid

    def candidates(self, schema: object, depth: int) -> Iterator[Any]:
        """Yield values that may be valid, the most likely first; none deeper than ``depth``."""
        for rules in self._alternatives([schema], depth):
            chosen = next((one for one in rules if "const" in one or "enum" in one), None)
            if chosen is not None:
                yield from [chosen["const"]] if "const" in chosen else chosen["enum"]
                continue
            for kind in _kinds(rules):
                yield from self._of_kind(kind, rules, depth)

    def _alternatives(self, schemas: list[object], depth: int) -> Iterator[list[dict[str, Any]]]:
        """Yield the ways to choose among alternatives, each as the schemas that then apply together."""
        self.too_shallow |= depth < 0
        if depth < 0 or any(schema is False for schema in schemas):
            return
        schemas = [schema for schema in schemas if schema is not True]
        if not schemas:
            yield []
            return
        rules, rest = self._look(schemas[0]), schemas[1:]
        more: list[object] = [*rules.get("allOf", ())]
        if "$ref" in rules:
            more.append(self._refer(rules["$ref"]))
            depth -= 1
        for one in rules.get("anyOf", (True,)):
            for other in rules.get("oneOf", (True,)):
                for found in self._alternatives([*more, one, other, *rest], depth):
                    yield [rules, *found]

    def _of_kind(self, kind: str, rules: list[dict[str, Any]], depth: int) -> Iterator[Any]:
        if kind == "object":
            yield from self._objects(rules, depth)
        elif kind == "array":
            yield from self._arrays(rules, depth)
        elif kind == "string":
            yield from self._strings(rules)
        else:
            yield from {"boolean": (True, False), "null": (None,)}.get(kind) or _numbers(rules)

    def _strings(self, rules: list[dict[str, Any]]) -> Iterator[str]:
        yield from (_FORMATS[one["format"]] for one in rules if one.get("format") in _FORMATS)
        least = int(max([one.get("minLength", 0) for one in rules], default=0))
        most = int(min([one.get("maxLength", MAX_SIZE) for one in rules], default=MAX_NUMBER))
        yield self._text[:most].ljust(least, ".")
        for number in range(TRIES):  # different texts, for lists of unique items
            yield (self._text[: max(0, most - len(str(number)))] + str(number)).ljust(least, ".")

    def _first(self, schemas: list[object], depth: int, but: list[str]) -> Iterator[Any]:
        """Return one value that is valid for all of the schemas, and not among ``but``; nothing if none is found."""
        together: object = {"allOf": schemas}
        for value in self.candidates(together, depth - 1):
            if _key(value) not in but and self.fits(value, together):
                yield value
                return

    def _objects(self, rules: list[dict[str, Any]], depth: int) -> Iterator[dict[str, Any]]:
        names = dict.fromkeys(chain.from_iterable(one.get("required", ()) for one in rules))
        least = max(one.get("minProperties", 0) for one in rules)
        known = chain.from_iterable(one.get("properties", ()) for one in rules)
        optional = chain(known, (f"member{number}" for number in range(TRIES)))
        made: dict[str, Any] = {}
        for name in chain(names, optional):
            if name not in names and len(made) >= least:
                break
            if name in made:
                continue
            found = list(self._first([_member_schema(one, name) for one in rules], depth, []))
            if found:
                made[name] = found[0]
            elif name in names:
                return
        yield made

    def _arrays(self, rules: list[dict[str, Any]], depth: int) -> Iterator[list[Any]]:
        made: list[Any] = []
        for index in range(math.ceil(max(one.get("minItems", 0) for one in rules))):
            before = [_key(item) for item in made] if any(one.get("uniqueItems") for one in rules) else []
            found = list(self._first([_item_schema(one, index) for one in rules], depth, before))
            if not found:
                return
            made += found
        yield made


_KINDS: dict[str, type | tuple[type, ...]] = {
    "$ref": str,
    "additionalProperties": (dict, bool),
    "allOf": list,
    "anyOf": list,
    "enum": list,
    "format": str,
    "items": (dict, bool),
    "oneOf": list,
    "prefixItems": list,
    "properties": dict,
    "required": list,
    "type": (str, list),
    "uniqueItems": bool,
}


def _at_least(value: Sized, least: float) -> bool:
    return len(value) >= least


def _at_most(value: Sized, most: float) -> bool:
    return len(value) <= most


# The keywords with a number: the greatest accepted number, the type of the values that they limit, and the test.
_LIMITS: dict[str, tuple[int, str, Callable[[Any, Any], bool]]] = {
    "minItems": (MAX_SIZE, "array", _at_least),
    "minLength": (MAX_SIZE, "string", _at_least),
    "minProperties": (MAX_SIZE, "object", _at_least),
    "maxItems": (MAX_NUMBER, "array", _at_most),
    "maxLength": (MAX_NUMBER, "string", _at_most),
    "maxProperties": (MAX_NUMBER, "object", _at_most),
    "minimum": (MAX_NUMBER, "number", operator.ge),
    "maximum": (MAX_NUMBER, "number", operator.le),
    "exclusiveMinimum": (MAX_NUMBER, "number", operator.gt),
    "exclusiveMaximum": (MAX_NUMBER, "number", operator.lt),
    "multipleOf": (MAX_NUMBER, "number", lambda value, step: float(value / step).is_integer()),
}


def _types(rules: dict[str, Any]) -> list[Any]:
    kinds = rules.get("type", [])
    return [kinds] if isinstance(kinds, str) else kinds


def _kinds(rules: list[dict[str, Any]]) -> list[str]:
    """Return the types that all these schemas allow; if they name none, the one that their keywords describe."""
    declared = [_types(one) for one in rules if "type" in one]
    if not declared:
        about = (kind for kind, words in _ABOUT.items() if any(word in one for one in rules for word in words))
        return [next(about, "string")]
    wider = [[*kinds, "integer"] if "number" in kinds else kinds for kinds in declared]
    return [kind for kind in dict.fromkeys(chain.from_iterable(wider)) if all(kind in kinds for kinds in wider)]


def _member_schema(rules: dict[str, Any], name: str) -> object:
    return rules.get("properties", {}).get(name, rules.get("additionalProperties", True))


def _item_schema(rules: dict[str, Any], index: int) -> object:
    before = rules.get("prefixItems", ())
    return before[index] if index < len(before) else rules.get("items", True)


def _key(value: object) -> str:
    """Return a key that is the same for values that are equal in JSON Schema: 1 and 1.0 are, 1 and true are not."""
    return json.dumps(json.loads(json.dumps(value), parse_float=_plain), sort_keys=True)


def _plain(digits: str) -> float | int:
    number = float(digits)
    return int(number) if number.is_integer() else number


def _is(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, (int, float)):
        return kind == "number" or (kind == "integer" and (isinstance(value, int) or value.is_integer()))
    return kind == _JSON_TYPES.get(type(value), "null")


def _numbers(rules: list[dict[str, Any]]) -> Iterator[float | int]:
    step = max([one["multipleOf"] for one in rules if "multipleOf" in one], default=1)
    lows = [one[name] for one in rules for name in ("minimum", "exclusiveMinimum") if name in one]
    highs = [one[name] for one in rules for name in ("maximum", "exclusiveMaximum") if name in one]
    yield from (0, 1, 0.5)
    first = max(lows) if lows else min(highs, default=0)
    down = bool(highs and not lows)
    start = math.floor(first / step) if down else math.ceil(first / step)
    for number in range(TRIES):
        value = (start - number if down else start + number) * step
        yield int(value) if float(value).is_integer() else value
    if lows and highs:
        yield (max(lows) + min(highs)) / 2
