"""Typed answers of rerankers, classifiers, similarity search and sparse embedding models.

Each reader returns ``None`` for an answer of another shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from smendpoint._container_errors import JSONValue

Output = TypeVar("Output")


@dataclass(frozen=True, slots=True)
class RerankResult:
    """One text and its score.

    Attributes:
        index: the index of the text in the input, from 0.
        score: how relevant it is to the query; higher is better.
        text: the text, if the model was asked to return it.
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
    """One text that is near a query.

    Attributes:
        id: the text's place in the corpus, or its id in the training data.
        score: how near it is; higher is nearer.
        text: the text, if the model was asked to return it.
    """

    id: int | str
    score: float
    text: str | None = None


_NUMBER = (int, float)
_OPTIONAL_TEXT = (str, type(None))
# The fields of an object with labels and their scores in two lists of equal length.
_COLUMNS = (("labels", "scores"), ("labels", "probabilities"), ("label", "prob"))


class _OtherShape(Exception):
    """The answer has a shape that the reader does not expect."""


def _reader(read: Callable[[JSONValue], Output]) -> Callable[[JSONValue], Output | None]:
    def reader(value: JSONValue) -> Output | None:
        try:
            return read(value)
        except (_OtherShape, OverflowError):  # an integer may be beyond the range of floats
            return None

    return reader


@_reader
def read_ranking(value: JSONValue) -> list[RerankResult]:
    """Read a list of objects with ``index`` and ``score``, bare or in ``results`` or ``data``; the best first."""
    # Rerankers have "results", and vLLM's scores "data".
    items = value.get("results", value.get("data")) if isinstance(value, dict) else value
    results = [
        RerankResult(_field(item, int, "index"), _number(item, "score", "relevance_score"), _document(item))
        for item in _checked(items, list)
    ]
    return sorted(results, key=lambda result: -result.score)


def _document(item: dict[str, JSONValue]) -> Any:
    text = item.get("text")
    if text is None:
        document = item.get("document")
        text = document.get("text") if isinstance(document, dict) else document  # Cohere and vLLM send an object
    return _checked(text, _OPTIONAL_TEXT)


@_reader
def read_classes(value: JSONValue) -> list[Classification]:
    """Read the classes of one text; the most likely first.

    They are objects with ``label`` and ``score``; or one object with lists of both (zero-shot models, JumpStart,
    BlazingText); or vLLM's object, which names only the most likely class and has the probabilities of all.
    """
    items = value.get("data", value) if isinstance(value, dict) else value
    if isinstance(items, list) and len(items) == 1:
        items = items[0]  # all classes of one text, from the Hugging Face toolkit; or the only object
    classes = [
        Classification(_field(item, str, "label"), _number(item, "score"))
        for item in (items if isinstance(items, list) else _columns(items) or [items])
    ]
    return sorted(classes, key=lambda found: -found.score)


def _columns(item: JSONValue) -> list[JSONValue]:
    """Return an object for each class of one object that has several."""
    if isinstance(item, dict):
        for names, numbers in _COLUMNS:
            labels, scores = item.get(names), item.get(numbers)
            if isinstance(labels, list) and isinstance(scores, list) and len(labels) == len(scores):
                return [{"label": label, "score": score} for label, score in zip(labels, scores, strict=True)]
        probabilities = item.get("probs")
        if isinstance(probabilities, list) and probabilities:
            score = max(float(_checked(number, _NUMBER)) for number in probabilities)
            return [{"label": item.get("label"), "score": score}]
    return []


@_reader
def read_neighbours(value: JSONValue) -> list[list[Neighbour]]:
    """Read a list for each query of objects with ``id`` or ``corpus_id``, and ``score``; in the model's order."""
    return [
        [
            Neighbour(
                _field(item, (int, str), "id", "corpus_id"),
                _number(item, "score"),
                _field(item, _OPTIONAL_TEXT, "text"),
            )
            for item in _checked(query, list)
        ]
        for query in _checked(value, list)
    ]


@_reader
def read_sparse(value: JSONValue) -> list[dict[int, float]]:
    """Read a list for each text of objects with ``index`` and ``value``, as weights by index."""
    return [
        {_field(item, int, "index"): _number(item, "value") for item in _checked(text, list)}
        for text in _checked(value, list)
    ]


def _field(item: JSONValue, kind: type | tuple[type, ...], *names: str) -> Any:
    """Return the first of these fields that an object has and that is not null."""
    fields = _checked(item, dict)
    return _checked(next((fields[name] for name in names if fields.get(name) is not None), None), kind)


def _number(item: JSONValue, *names: str) -> float:
    return float(_field(item, _NUMBER, *names))


def _checked(value: JSONValue, kind: type | tuple[type, ...]) -> Any:
    """Return a value of this kind. True and false are not numbers here, although they are integers in Python."""
    if isinstance(value, bool) or not isinstance(value, kind):
        raise _OtherShape
    return value
