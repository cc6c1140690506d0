"""SageMaker's built-in algorithms, and TF Serving. The prediction for a row of numbers is its sum: easy to check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from smendpoint.emulator.models import ModelRequest
from smendpoint.emulator.personalities._common import Personality, dump, json_body
from smendpoint.emulator.personalities.tabular import read_csv_rows, read_json_rows, table_model
from smendpoint.emulator.personalities.vectors import classify, embed

__all__ = ["Algorithm", "algorithm", "blazingtext", "tf_serving"]

Algorithm = Literal["linear-learner", "k-means", "random-cut-forest", "pca"]

# The member that holds the answers, and the answer for a row's sum.
_ANSWERS: dict[Algorithm, tuple[str, Callable[[float], dict[str, Any]]]] = {
    "linear-learner": ("predictions", lambda total: {"score": total, "predicted_label": int(total > 0)}),
    "k-means": ("predictions", lambda total: {"closest_cluster": total, "distance_to_cluster": abs(total)}),
    "random-cut-forest": ("scores", lambda total: {"score": total}),
    "pca": ("projections", lambda total: {"projection": [total]}),
}


def algorithm(name: Algorithm = "linear-learner") -> Personality:
    """Play one of SageMaker's built-in algorithms: CSV and JSON in, JSON and JSON lines out.

    Args:
        name: the algorithm. Its score, cluster or projection of a row is the row's sum.
    """
    field, item = _ANSWERS[name]
    return table_model(
        name,
        {"text/csv": read_csv_rows, "application/json": read_json_rows},
        {
            "application/json": lambda sums: dump({field: [item(one) for one in sums]}),
            "application/jsonlines": lambda sums: "".join([f"{dump(item(one))}\n" for one in sums]),
        },
        "application/json",
    )


def tf_serving() -> Personality:
    """Play TF Serving: ``{"instances": rows}`` in, ``{"predictions": [...]}`` out."""
    return table_model(
        "tf_serving",
        {"application/json": read_json_rows},
        {"application/json": lambda sums: dump({"predictions": sums})},
        "application/json",
    )


def blazingtext(task: Literal["classify", "words"] = "classify") -> Personality:
    """Play BlazingText: ``{"instances": [...]}`` in, labels with their probabilities or the vectors of words out.

    Args:
        task: what the model was trained for.
    """

    def reply(request: ModelRequest) -> object:
        body = json_body(request)
        texts = body.texts("instances")
        if task == "words":
            return [{"word": word, "vector": embed(word)} for word in texts]
        count = body.member("configuration").get("k", 1)
        return [_labels(text, 2 if count == 2 else 1) for text in texts]

    return Personality(f"blazingtext_{task}", reply)


def _labels(text: str, count: int) -> dict[str, Any]:
    best = classify(text)
    other = "POSITIVE" if best["label"] == "NEGATIVE" else "NEGATIVE"
    labels, probabilities = [best["label"], other], [best["score"], round(1 - best["score"], 4)]
    return {"label": [f"__label__{label}" for label in labels[:count]], "prob": probabilities[:count]}
