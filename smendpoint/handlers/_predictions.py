"""The predictions in the answers of tabular models, as values or lists of values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smendpoint.errors import HandlerError

if TYPE_CHECKING:
    from smendpoint._container_errors import JSONValue

__all__ = ["convert", "read_predictions"]

# Where the predictions stand: XGBoost, linear learner, k-means and most others; Random Cut Forest; PCA; TF Serving.
_LISTS = ("predictions", "scores", "projections", "outputs")

# The field that is meant where a prediction has several and none was chosen, the second is k-means'; and the fields
# that are not meant though they are the only ones.
_FIELDS = ("score", "closest_cluster")
_BESIDE = frozenset({"distance_to_cluster", "index"})


def read_predictions(value: JSONValue, key: str | None, handler: str) -> tuple[list[JSONValue], str] | None:
    """Give an answer's predictions, each a value or a list of values, and where they are, for messages.

    Args:
        value: the parsed answer.
        key: the field of a prediction that is an object; where it is ``None``, its ``score``, its ``closest_cluster``
            or its only one. Where TF Serving answers with several outputs, each a column, the output.
        handler: the handler's name, for messages.

    Returns:
        ``None`` where the answer has another shape.

    Raises:
        HandlerError: a prediction does not have the field, or they are not all of one kind.
    """
    where = ""
    if isinstance(value, dict):
        name = next((name for name in _LISTS if name in value), None)
        value, where = (None, "") if name is None else (value[name], f' in "{name}"')
        if name == "outputs" and isinstance(value, dict):
            if key is not None and key not in value:
                raise HandlerError(f'{handler} finds no {key!r} in "outputs", which has {_listed(value)}.')
            column = key or (next(iter(value)) if len(value) == 1 else "")
            value, where = value.get(column), f"{where}, {column!r}"
    if not isinstance(value, list):
        return None
    kinds = set(map(type, value))
    if dict in kinds and len(kinds) == 1:
        value, where = _take_field(value, key, handler, where)
        kinds = set(map(type, value))
    if len(kinds) > 1 and kinds & {dict, list}:
        raise HandlerError(
            f"{handler} finds predictions of several kinds{where}, such as {' and '.join(sorted(map(_called, kinds)))}."
        )
    return value, where


def _take_field(items: list[Any], key: str | None, handler: str, where: str) -> tuple[list[JSONValue], str]:
    """Give the same field of each prediction."""
    first = items[0]
    name = key or next((name for name in _FIELDS if name in first), None)
    if name is None:
        name = next(iter(first)) if len(first) == 1 and not _BESIDE & first.keys() else _FIELDS[0]
    for item in items:
        if name not in item:
            others = "" if key else f", and no {_FIELDS[1]!r}"
            raise HandlerError(
                f"{handler} finds no {name!r} in a prediction{where} that has {_listed(item)}{others}: choose key=..."
            )
    return [item[name] for item in items], f"{where or ' in'} {name!r}"


def _listed(item: dict[str, JSONValue]) -> str:
    return ", ".join(map(repr, item)) or "no fields"


def _called(kind: type[Any]) -> str:
    return {dict: "objects", list: "lists", str: "texts", type(None): "null", bool: "true or false"}.get(
        kind, "numbers"
    )


def convert(value: JSONValue, dtype: type[Any]) -> Any:
    """Give a value as the type, ``None`` where that would change it: 1.5 is no int, and true is none of the three."""
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        return None
    if dtype is str:
        return str(value)
    if isinstance(value, str) and "_" in value:
        return None  # Python would read 1_0 as 10
    try:
        if dtype is float:
            return float(value)
        if isinstance(value, str):
            value = int(value) if value.strip().lstrip("+-").isdecimal() else float(value)
    except (ValueError, OverflowError):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value
