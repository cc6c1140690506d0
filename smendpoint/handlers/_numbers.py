"""Read the numbers in answers: vectors of embeddings, and predictions of tabular models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smendpoint.errors import HandlerError

if TYPE_CHECKING:
    from smendpoint._container_errors import JSONValue

# NumPy's name for each type of a vector's numbers, and the limits of integers. Binary embeddings have eight dimensions
# in each number.
EMBEDDING_TYPES: dict[str, tuple[str, tuple[int, int] | None]] = {
    "float": ("float32", None),
    "int8": ("int8", (-128, 127)),
    "uint8": ("uint8", (0, 255)),
    "binary": ("int8", (-128, 127)),
    "ubinary": ("uint8", (0, 255)),
}


def read_vectors(
    value: JSONValue, *, pooling: str | None = None, embedding_type: str | None = None
) -> list[list[float]] | None:
    """Return one vector for each text of an answer; ``None`` for an answer of another shape.

    Raises:
        HandlerError: the vectors differ in length, hold something other than numbers, are of another type, or need a
            pooling that was not chosen.
    """
    embedding_type = embedding_type or "float"
    found = _find_vectors(value, embedding_type)
    if found is None:
        return None
    vectors, where = found
    depth = _depth(vectors)
    if not vectors:
        return []
    if depth == 1:
        vectors = [vectors]
    elif depth in (3, 4):
        if pooling is None:
            raise HandlerError(
                f"EmbeddingsHandler found a vector for each token{where}, but needs one for each text: choose "
                "pooling='cls' (the first token's) or pooling='mean' (their average), whichever the model was trained "
                "for."
            )
        vectors = [_pool(matrix, pooling, depth, where) for matrix in vectors]
    elif depth > 4:
        return None
    _, limits = EMBEDDING_TYPES[embedding_type]
    read = [_vector(vector, where, limits) for vector in vectors]
    lengths = sorted({len(vector) for vector in read})
    if len(lengths) > 1:
        raise HandlerError(f"The vectors of one answer differ in length: {lengths[0]} to {lengths[-1]} numbers.")
    return read


def _find_vectors(value: JSONValue, embedding_type: str) -> tuple[list[JSONValue], str] | None:
    """Return the list of vectors, or the single vector, of an answer, and its place, for messages."""
    if isinstance(value, list):
        return _from_objects(value, " in") if value and isinstance(value[0], dict) else (value, "")
    if not isinstance(value, dict):
        return None
    data = value.get("data")
    if isinstance(data, list):
        return _from_objects(_in_order(data), ' in "data"')
    for name in ("embedding", "embeddings", "vectors"):
        found, where = value.get(name), f' in "{name}"'
        if isinstance(found, dict):  # Cohere's, by type
            found, where = _of_type(found, embedding_type), f'{where}, "{embedding_type}"'
        if isinstance(found, list):
            return found, where
    return None


def _of_type(embeddings: dict[str, JSONValue], wanted: str) -> JSONValue:
    others = [name for name in EMBEDDING_TYPES if isinstance(embeddings.get(name), list)]
    if others and wanted not in embeddings:
        raise HandlerError(
            f'The answer\'s "embeddings" are of the type {" and ".join(map(repr, others))}, not {wanted!r}: '
            f"choose embedding_type={others[0]!r}."
        )
    return embeddings.get(wanted)


def _in_order(data: list[JSONValue]) -> list[JSONValue]:
    """Sort OpenAI's objects by their index; without any, they are in order."""
    places = {index: item for item in data if isinstance(item, dict) and isinstance(index := item.get("index"), int)}
    if not places:
        return data
    if sorted(places) != list(range(len(data))):
        raise HandlerError(f'The {len(data)} vectors in "data" are not numbered ("index") from 0 to {len(data) - 1}.')
    return [places[index] for index in range(len(data))]


def _from_objects(items: list[JSONValue], where: str) -> tuple[list[JSONValue], str] | None:
    vectors: list[JSONValue] = []
    names: set[str] = set()
    for item in items:
        if not isinstance(item, dict):
            return None
        # vLLM's pooling has "data", and BlazingText has a word's "vector".
        name = next((name for name in ("embedding", "data", "vector") if name in item), "")
        vector = item.get(name)
        if isinstance(vector, str) and name == "embedding":
            vector = _from_base64(vector)
        if not isinstance(vector, list):
            return None
        vectors.append(vector)
        names.add(name)
    return vectors, f"{where} {' and '.join(map(repr, sorted(names)))}"


def _from_base64(text: str) -> list[JSONValue]:
    """Read a vector that was requested with ``encoding_format: "base64"``: float32, little-endian."""
    from base64 import b64decode
    from struct import error, unpack

    try:
        data = b64decode(text, validate=True)
        return list(unpack(f"<{len(data) // 4}f", data))
    except (ValueError, error):
        raise HandlerError(
            'A vector ("embedding") of the answer is text, and not the base64 of 32-bit floats.'
        ) from None


def _depth(value: JSONValue) -> int:
    depth = 0
    while isinstance(value, list):
        depth += 1
        value = value[0] if value else None
    return depth


def _pool(matrix: JSONValue, pooling: str, depth: int, where: str) -> list[JSONValue]:
    """Make one vector from those of a text's tokens; some versions wrap each text's matrix in another list."""
    if depth == 4:
        matrix = matrix[0] if isinstance(matrix, list) and len(matrix) == 1 else None
    if not isinstance(matrix, list) or not matrix:
        raise HandlerError(f"The vectors of a text's tokens{where} are not a list of lists of numbers.")
    if pooling == "cls":
        first = matrix[0]
        return first if isinstance(first, list) else [first]
    rows = [_vector(row, where) for row in matrix]
    if len({len(row) for row in rows}) > 1:
        raise HandlerError("The vectors of one text's tokens differ in length.")
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def _vector(value: JSONValue, where: str, limits: tuple[int, int] | None = None) -> list[float]:
    """Return a vector as floats or, if its type has limits, as unchanged integers."""
    if isinstance(value, list) and value:
        kinds = set(map(type, value))
        numbers: list[Any] = value
        if limits is not None:
            if kinds == {int} and limits[0] <= min(numbers) and max(numbers) <= limits[1]:
                return numbers
        elif kinds == {float}:
            return numbers
        elif kinds <= {int, float}:
            try:
                return [float(number) for number in numbers]
            except OverflowError:
                pass  # an integer beyond the range of floats
    expected = "a number."
    if limits is not None:
        expected = f"an integer from {limits[0]} to {limits[1]}: is embedding_type the model's?"
    raise HandlerError(f"A vector of the answer{where} is empty, or holds something that is not {expected}")


# The fields that hold predictions: of XGBoost, linear learner, k-means and most others; Random Cut Forest; PCA; TF
# Serving.
_LISTS = ("predictions", "scores", "projections", "outputs")

# The field to take from a prediction that has several, if none was chosen (the second one is that of k-means), and the
# fields that are not taken even if a prediction has no other.
_FIELDS = ("score", "closest_cluster")
_BESIDE = frozenset({"distance_to_cluster", "index"})

_KINDS = {
    dict: "objects",
    list: "lists",
    str: "texts",
    type(None): "null",
    bool: "true or false",
    int: "numbers",
    float: "numbers",
}


def read_predictions(value: JSONValue, key: str | None, handler: str) -> tuple[list[JSONValue], str] | None:
    """Return an answer's predictions, each a value or a list of values, and their place, for messages.

    ``None`` for an answer of another shape. The `key` is that of `TabularHandler`, and `handler` is named in messages.

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
        value, where = _field_of_each(value, key, handler, where)
        kinds = set(map(type, value))
    if len(kinds) > 1 and kinds & {dict, list}:
        names = " and ".join(sorted(_KINDS[kind] for kind in kinds))
        raise HandlerError(f"{handler} finds predictions of several kinds{where}, such as {names}.")
    return value, where


def _field_of_each(items: list[Any], key: str | None, handler: str, where: str) -> tuple[list[JSONValue], str]:
    """Return the same field of each prediction, and its place."""
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


def convert(value: JSONValue, dtype: type[Any]) -> Any:
    """Convert a value to the type; ``None`` if that would change it: 1.5 is not an int, and true is not a number."""
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
