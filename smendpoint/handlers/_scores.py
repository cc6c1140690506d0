"""What rerankers, classifiers, similarity search and sparse embedding models answer, typed.

Each reader gives ``None`` where an answer has another shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smendpoint._container_errors import JSONValue

__all__ = [
    "Classification",
    "Neighbour",
    "RerankResult",
    "read_classes",
    "read_neighbours",
    "read_ranking",
    "read_sparse",
]


@dataclass(frozen=True, slots=True)
class RerankResult:
    """One text's place.

    Attributes:
        index: which of the given texts it is, from 0.
        score: how well it fits the query; higher is better.
        text: the text, where the model was asked to return it.
    """

    index: int
    score: float
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Classification:
    """One class of a text.

    Attributes:
        label: its name.
        score: the model's confidence, usually from 0 to 1.
    """

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One text that is near to a query.

    Attributes:
        id: the text's place in the corpus, or its id in the training data.
        score: how near it is; higher is nearer.
        text: the text, where the model was asked to return it.
    """

    id: int | str
    score: float
    text: str | None = None


def read_ranking(value: JSONValue) -> list[RerankResult] | None:
    """Read a list of objects with ``index`` and ``score``, bare, as ``results`` or as ``data``; the best first."""
    # "results" of a reranker, "data" of vLLM's scores
    items = value.get("results", value.get("data")) if isinstance(value, dict) else value
    results: list[RerankResult] = []
    for item in items if isinstance(items, list) else [None]:
        index, score = _index(_field(item, "index")), _number(_field(item, "score", "relevance_score"))
        if index is None or score is None:
            return None
        text = _field(item, "text", "document")
        if isinstance(text, dict) and _field(item, "text") is None:
            text = text.get("text")  # Cohere's and vLLM's document
        if text is not None and not isinstance(text, str):
            return None
        results.append(RerankResult(index, score, text))
    return sorted(results, key=lambda result: -result.score)


def read_classes(value: JSONValue) -> list[Classification] | None:
    """Read the classes of one text; the most likely first.

    They are objects with ``label`` and ``score``; or one object with lists of both: zero-shot models', JumpStart's,
    BlazingText's; or vLLM's, which names the likeliest alone beside the probabilities of all.
    """
    items = value.get("data", value) if isinstance(value, dict) else value
    if isinstance(items, list) and len(items) == 1:
        items = items[0]  # all classes of one text, as the Hugging Face toolkit gives them; or the only object
    classes: list[Classification] = []
    for label, score in _columns(items) or [
        (_field(item, "label"), _field(item, "score")) for item in (items if isinstance(items, list) else [items])
    ]:
        number = _number(score)
        if not isinstance(label, str) or number is None:
            return None
        classes.append(Classification(label, number))
    return sorted(classes, key=lambda found: -found.score)


_COLUMNS = (("labels", "scores"), ("labels", "probabilities"), ("label", "prob"))


def _columns(item: JSONValue) -> list[tuple[JSONValue, JSONValue]] | None:
    """Give the pairs of an object that has its labels and its scores in lists of equal length."""
    if isinstance(item, dict):
        for names, numbers in _COLUMNS:
            labels, scores = item.get(names), item.get(numbers)
            if isinstance(labels, list) and isinstance(scores, list) and len(labels) == len(scores):
                return list(zip(labels, scores, strict=True))
        probabilities = item.get("probs")
        if isinstance(probabilities, list) and probabilities:
            known = [number for number in map(_number, probabilities) if number is not None]
            return [(item.get("label"), max(known) if len(known) == len(probabilities) else None)]
    return None


def read_neighbours(value: JSONValue) -> list[list[Neighbour]] | None:
    """Read a list for each query of objects with ``id`` or ``corpus_id``, and ``score``; in the model's order."""
    found: list[list[Neighbour]] = []
    for query in value if isinstance(value, list) else [None]:
        if not isinstance(query, list):
            return None
        neighbours: list[Neighbour] = []
        for item in query:
            identity, score = _field(item, "id", "corpus_id"), _number(_field(item, "score"))
            if not isinstance(identity, str):
                identity = _index(identity)
            text = _field(item, "text")
            if identity is None or score is None or not (text is None or isinstance(text, str)):
                return None
            neighbours.append(Neighbour(identity, score, text))
        found.append(neighbours)
    return found


def read_sparse(value: JSONValue) -> list[dict[int, float]] | None:
    """Read a list for each text of objects with ``index`` and ``value``, as weights by index."""
    found: list[dict[int, float]] = []
    for text in value if isinstance(value, list) else [None]:
        if not isinstance(text, list):
            return None
        weights: dict[int, float] = {}
        for item in text:
            index, weight = _index(_field(item, "index")), _number(_field(item, "value"))
            if index is None or weight is None:
                return None
            weights[index] = weight
        found.append(weights)
    return found


def _field(item: JSONValue, *names: str) -> JSONValue:
    """Give the first of these fields that an object has; ``None`` where it is no object or has none."""
    if isinstance(item, dict):
        for name in names:
            if item.get(name) is not None:
                return item[name]
    return None


def _index(value: JSONValue) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: JSONValue) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:  # an integer beyond the range of floats
            pass
    return None
