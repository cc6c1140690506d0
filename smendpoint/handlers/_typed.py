"""The outputs of a chat handler as objects of a type: the schema for the request, and the reader of the answers."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

from smendpoint.errors import ConfigurationError, HandlerError, ModelOutputError
from smendpoint.handlers._halves import mend_json
from smendpoint.handlers._json import encode_json
from smendpoint.handlers._schemas import Mismatch, is_typed_dict, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from smendpoint.handlers._chat_answers import ChatCompletion

SchemaField: TypeAlias = Literal["json_schema", "value"]

# The parameters that conflict with an output type, and why.
_REFUSED = {
    "response_format": "it requests another shape than output_type",
    "stop": "a stop sequence would cut the JSON of output_type",
}


class OutputType:
    """A type of outputs.

    Args:
        kind: a class with ``model_json_schema`` and ``model_validate_json``, a dataclass, or a TypedDict.
        schema_field: the field of ``response_format`` that holds the schema.
        replace: whether U+FFFD takes the place of half a character; otherwise it is an error.

    Attributes:
        response_format: the parameter that requests an instance from the container.

    Raises:
        ConfigurationError: the type is of another kind, or has no schema.
    """

    __slots__ = ("_given", "_name", "_read", "response_format")

    def __init__(self, kind: Any, schema_field: SchemaField, replace: bool) -> None:
        if schema_field not in get_args(SchemaField):
            raise ConfigurationError(f"schema_field must be 'json_schema' or 'value', not {schema_field!r}")
        self._given = kind, schema_field, replace
        self._name = str(getattr(kind, "__name__", kind))
        schema, self._read = _schema_and_reader(kind, self._name, replace)
        # OpenAI's rule for names; the name of a generic model has brackets.
        name = re.sub("[^a-zA-Z0-9_-]", "_", self._name)[:64]
        asked = {"name": name, "schema": schema, "strict": True}
        self.response_format = {"type": "json_schema", schema_field: asked}
        try:
            encode_json(self.response_format)
        except HandlerError as error:
            raise ConfigurationError(f"output_type: the schema of {self._name} is not JSON: {error.message}") from None

    def __reduce__(self) -> tuple[Any, ...]:
        return OutputType, self._given  # the reader cannot be pickled

    def check(self, model_kwargs: Mapping[str, Any]) -> None:
        """Raise `ConfigurationError` if a model parameter conflicts with the output type."""
        for name in _REFUSED.keys() & model_kwargs.keys():
            raise ConfigurationError(f"{name} cannot be given with output_type={self._name}: {_REFUSED[name]}")

    def read(self, completion: ChatCompletion, refusal: str, received: Sequence[Any] = ()) -> Any:
        """Return the output of an answer.

        Args:
            completion: the answer.
            refusal: the model's text if it refuses to answer; empty otherwise.
            received: the chunks of a stream.

        Raises:
            ModelOutputError: the answer is not an instance of the type; the error has the text and the finish reason.
        """
        cause: BaseException | None = None
        why = _without_output(completion, refusal)
        if not completion.tool_calls and not refusal:
            try:
                return self._read(completion.text)
            except RecursionError:
                why = why or "it is nested too deeply"
            except Mismatch as error:
                why, cause = why or str(error), error.__cause__
        reason = "no finish reason" if completion.finish_reason is None else f"finish reason {completion.finish_reason}"
        text = completion.text or refusal
        where = "; the error's text has it" if text else ""
        raise ModelOutputError(
            f"the model's answer does not match output_type={self._name}: {why} ({reason}){where}",
            text=text,
            finish_reason=completion.finish_reason,
            received=received,
        ) from cause


def _without_output(completion: ChatCompletion, refusal: str) -> str | None:
    """Return why an answer has no output, regardless of its text; ``None`` if the cause is its text."""
    if completion.tool_calls:
        return "it calls " + ", ".join([call.name for call in completion.tool_calls])
    if refusal:
        return "the model refuses"
    if completion.finish_reason == "length":
        return f"max_tokens cut it after {len(completion.text)} characters"
    if completion.finish_reason == "content_filter":
        return f"a content filter cut it after {len(completion.text)} characters"
    return None if completion.text.strip() else "it has no text"


def _schema_and_reader(kind: Any, name: str, replace: bool) -> tuple[Any, Callable[[str], Any]]:
    is_class = isinstance(kind, type) and not isinstance(kind, GenericAlias)  # list[int] is a class to Python 3.10
    if is_class:
        if hasattr(kind, "model_json_schema") and hasattr(kind, "model_validate_json"):
            return _schema_of_model(kind, name), lambda text: _read_model(kind, text)
        if dataclasses.is_dataclass(kind) or is_typed_dict(kind):
            shape = shape_of(cast("type", kind))
            return shape.schema, lambda text: shape.read(_parse(text, replace), "")
    said = f"the class {name}" if is_class else f"an object of type {type(kind).__name__}"
    raise ConfigurationError(
        "output_type must be a dataclass, a TypedDict, or a class with model_json_schema and model_validate_json, like "
        f"pydantic's models, not {said}"
    )


def _schema_of_model(kind: Any, name: str) -> Any:
    try:
        return kind.model_json_schema()
    except Exception as error:
        raise ConfigurationError(f"output_type: {name} gives no JSON schema: {error}") from error


def _read_model(kind: Any, text: str) -> Any:
    """Have a pydantic model read its JSON. Pydantic's own message quotes the values, so it is not shown."""
    try:
        return kind.model_validate_json(text)
    except ValueError as error:
        found: Any = getattr(error, "errors", list)()
        places = [(".".join(map(str, one["loc"])) or "the answer", one["type"]) for one in found]
        said = "; ".join([f"{place}: {what}" for place, what in places[:3]])
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        raise Mismatch("", f"is not valid ({said or type(error).__name__}{more})") from None


def _parse(text: str, replace: bool) -> Any:
    try:
        value = _decode(text)
        return mend_json(value, replace=replace) if "\\ud" in text or "\\uD" in text else value
    except ValueError:
        raise Mismatch("", "is not JSON: does its container support response_format?") from None
    except HandlerError:
        raise Mismatch("", "has half of a character") from None


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError
    return number


def _refuse(constant: str) -> Any:
    raise ValueError(f"JSON has no {constant}")


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        raise ValueError("a key appears twice")
    return found


_decode = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite).decode
