"""The predictions in the answers of tabular models, as values or lists of values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smendpoint.errors import HandlerError

if TYPE_CHECKING:
    from smendpoint._container_errors import JSONValue

__all__ = ["convert", "find_items", "read_prediction"]

# Where the predictions stand: XGBoost, linear learner, k-means and most others; Random Cut Forest; PCA; TF Serving.
_LISTS = ("predictions", "scores", "projections", "outputs")

# The field that is meant where a prediction has several and none was chosen; the second is k-means'.
_FIELDS = ("score", "closest_cluster")


def find_items(value: JSONValue, key: str | None) -> list[JSONValue] | None:
    """Give an answer's predictions, one for each row, as they are; ``None`` where it has another shape.

    Args:
        value: the parsed answer.
        key: the output to take where TF Serving answers with several, each a column; its only one, where this is
            ``None``.
    """
    if isinstance(value, dict):
        name = next((name for name in _LISTS if name in value), None)
        value = None if name is None else value[name]
        if name == "outputs" and isinstance(value, dict):
            value = value.get(key) if key is not None else next(iter(value.values())) if len(value) == 1 else None
    return value if isinstance(value, list) else None


def read_prediction(item: JSONValue, key: str | None, handler: str) -> JSONValue:
    """Give a prediction: the item itself, or the field that is meant where it is an object.

    Args:
        item: the prediction as it came.
        key: the field; where it is ``None``, its only one, its ``score`` or its ``closest_cluster``.
        handler: the handler's name, for messages.

    Raises:
        HandlerError: the object has no such field.
    """
    if not isinstance(item, dict):
        return item
    name = key or (next(iter(item)) if len(item) == 1 else next((name for name in _FIELDS if name in item), "score"))
    if name not in item:
        fields = ", ".join(map(repr, item))
        raise HandlerError(
            f"{handler} finds no {name!r} in a prediction that has {fields or 'no fields'}: choose key=..."
        )
    return item[name]


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
