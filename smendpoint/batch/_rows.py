"""Rows: the inputs of a batch, each with its id and its own parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from smendpoint._core.json import parse_json
from smendpoint.batch._openai import is_request, read_request
from smendpoint.batch._sources import read_items
from smendpoint.batch._values import digest_of
from smendpoint.errors import ConfigurationError, HandlerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from smendpoint.batch._sources import Item, Source

    Names = str | Sequence[str] | None


class Row(NamedTuple):
    """One row of a batch.

    Attributes:
        id: its name in the ledger.
        input: the input for the endpoint's handler.
        digest: the digest of the input and the parameters: see `digest_of`.
        parameters: the row's own model parameters; empty if it has none.
        number: its place in the source, from 0.
        openai: whether it is in OpenAI's batch format, so that its line must be in it too.
    """

    id: str
    input: Any
    digest: str
    parameters: dict[str, Any]
    number: int
    openai: bool = False


class _Fields(NamedTuple):
    """The fields that form a row."""

    input: str | list[str] | None
    id: str | None
    parameters: list[str]

    def columns(self) -> list[str] | None:
        """Give the fields that are read; ``None`` for all."""
        if self.input is None:
            return None
        inputs = [self.input] if isinstance(self.input, str) else self.input
        return list(dict.fromkeys([*inputs, *([] if self.id is None else [self.id]), *self.parameters]))


_NO_FIELDS = _Fields(None, None, [])


def read_rows(
    source: Source,
    *,
    format: str | None = None,
    input_field: Names = None,
    id_field: str | None = None,
    param_field: Names = None,
) -> Iterator[Row]:
    """Read the rows of a source, one by one, on request.

    If no field is named and the first row is a request in OpenAI's batch format, all rows must be; the input is the
    request's body, for `JSONHandler`.

    Args:
        source: the name of a file, ``"-"`` for standard input, or any iterable of inputs or of mappings.
        format: the format of the file: ``"jsonl"``, ``"csv"`` (with a header), ``"text"`` (one input in each line) or
            ``"parquet"``; ``None`` decides by the file's name, and reads JSON Lines from standard input.
        input_field: the field that is the input. Several names make a list of their values, in this order; in CSV,
            numbers become numbers. ``None`` takes the whole value, without the fields of the id and of the parameters;
            from CSV and Parquet the value itself, if only one column remains.
        id_field: the field with the row's id, a text or an integer; ``None`` for the row's number, from 0.
        param_field: the field, or the fields, with model parameters: the members of a mapping, or else a parameter with
            the field's name. A parameter that is null, or empty in CSV, is left out. In CSV a value is read as JSON, or
            as text if it is not JSON.

    Raises:
        ConfigurationError: an argument is not valid (raised at once), or a row cannot be read (raised at its turn): the
            message names the file and the line.
    """
    named = [param_field] if isinstance(param_field, str) else list(param_field or ())
    inputs = input_field if input_field is None or isinstance(input_field, str) else list(input_field)
    fields = _Fields(inputs, id_field, named)
    items, kind = read_items(source, format, fields.columns())
    if kind == "text" and fields != _NO_FIELDS:
        raise ConfigurationError("plain lines have no fields: leave out input_field, id_field and param_field")
    return _rows(items, kind, fields)


def _rows(items: Iterator[Item], kind: str | None, fields: _Fields) -> Iterator[Row]:
    openai: bool | None = None if fields == _NO_FIELDS else False
    for number, item in enumerate(items):
        if openai is None:  # the first row decides for all
            openai = is_request(item.value)
        try:
            if openai:
                id, value = read_request(item.value)
                parameters: dict[str, Any] = {}
            else:
                found, value, parameters = _pick(item.value, kind, fields)
                id = str(number) if found is None else found
            digest = digest_of(value, parameters)
        except HandlerError as error:
            raise ConfigurationError(f"{item.where}: {error}") from None
        yield Row(id, value, digest, parameters, number, openai)


def _pick(value: Any, kind: str | None, fields: _Fields) -> tuple[str | None, Any, dict[str, Any]]:
    """Give the id, the input and the parameters of one value.

    Raises:
        HandlerError: one of them is missing or has the wrong type.
    """
    table, texts = kind in ("csv", "parquet"), kind == "csv"
    if not table and fields == _NO_FIELDS:
        return None, value, {}
    if not isinstance(value, Mapping):
        raise HandlerError(f"fields were named, but this is of type {type(value).__name__}, not an object")
    id = None if fields.id is None else _id(_member(value, fields.id), fields.id)
    parameters: dict[str, Any] = {}
    for name in fields.parameters:
        found = _member(value, name) if table else value.get(name)  # a table has all columns in each row
        if texts:
            found = _parsed(found) if found else None
        if isinstance(found, Mapping):
            parameters.update((member, own) for member, own in found.items() if own is not None)
        elif found is not None:
            parameters[name] = found
    if isinstance(fields.input, str):
        return id, _member(value, fields.input), parameters
    if fields.input is not None:
        members = [_member(value, name) for name in fields.input]
        return id, [_number(member) for member in members] if texts else members, parameters
    rest = {name: member for name, member in value.items() if name != fields.id and name not in fields.parameters}
    return id, next(iter(rest.values())) if table and len(rest) == 1 else rest, parameters


def _member(value: Mapping[str, Any], name: str) -> Any:
    try:
        return value[name]
    except KeyError:
        raise HandlerError(f"there is no field {name!r}") from None


def _id(value: Any, name: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise HandlerError(f"the id in the field {name!r} must be a text or an integer")
    return str(value)


def _parsed(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return text


def _number(text: str) -> Any:
    """Return a cell as a number, or unchanged if it is not one."""
    found = _parsed(text)
    return found if isinstance(found, (int, float)) and not isinstance(found, bool) else text
