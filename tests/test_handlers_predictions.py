"""Where tabular answers hold their predictions: XGBoost's, TF Serving's and those of SageMaker's own algorithms."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smendpoint._core.aws.response import ResponseBody
from smendpoint.errors import HandlerError
from smendpoint.handlers import TabularHandler, TabularRowsHandler


def read(answer: Any, **options: Any) -> list[Any]:
    return TabularHandler("csv", "json", **options).transform_output(ResponseBody(json.dumps(answer).encode()))


@pytest.mark.parametrize(
    ("table", "body"),
    [
        ([[1, 2.5], [3, 4]], {"instances": [[1, 2.5], [3, 4]]}),
        ([{"features": [1, 2.5]}], {"instances": [{"features": [1, 2.5]}]}),
        ([[[1, 2], [3, 4]]], {"instances": [[[1, 2], [3, 4]]]}),
    ],
)
def test_rows_are_sent_as_instances(table: Any, body: Any) -> None:
    for handler in (TabularHandler("instances", "json"), TabularRowsHandler("instances", "json")):
        assert json.loads(handler.transform_input(table, {})) == body
        assert handler.content_type == "application/json"


@pytest.mark.parametrize("name", ["predictions", "scores", "projections", "outputs"])
def test_each_list_of_predictions_is_read(name: str) -> None:
    assert read({name: [1, 2]}) == [1.0, 2.0]
    assert read({"model": "m", name: [{"any": 1}]}) == [1.0]


def test_the_field_that_is_meant_is_the_only_one_or_the_score_or_the_cluster_or_the_chosen() -> None:
    assert read([{"other": 1}]) == [1.0]
    assert read([{"other": 1, "score": 2}]) == [2.0]
    assert read([{"distance_to_cluster": 1, "closest_cluster": 2}]) == [2.0]
    assert read([{"closest_cluster": 1, "score": 2, "other": 3}]) == [2.0]
    assert read([{"closest_cluster": 1, "score": 2, "other": 3}], key="other") == [3.0]


@pytest.mark.parametrize(
    ("answer", "options"),
    [
        ({"outputs": {"a": [1], "b": [2]}}, {}),
        ({"outputs": {}}, {}),
        ({"outputs": {"a": 1}}, {}),
        ({"scores": 1}, {}),
        ({}, {}),
    ],
)
def test_what_holds_no_predictions_is_an_error(answer: Any, options: Any) -> None:
    with pytest.raises(HandlerError, match='expects a list, or "predictions", "scores", "projections"'):
        read(answer, **options)


def test_a_field_or_output_that_is_not_there_is_named() -> None:
    with pytest.raises(HandlerError, match="finds no 'b' in \"outputs\", which has 'a'"):
        read({"outputs": {"a": [1]}}, key="b")
    with pytest.raises(
        HandlerError,
        match="no 'score' in a prediction in \"predictions\" that has 'distance_to_cluster', and no 'closest_",
    ):
        read({"predictions": [{"distance_to_cluster": 1}]})
    with pytest.raises(
        HandlerError, match="no 'score' in a prediction in \"predictions\" that has 'predicted_label', and no 'clos"
    ):
        read({"predictions": [{"score": 1, "predicted_label": 0}, {"predicted_label": 0}]})


@pytest.mark.parametrize(
    ("answer", "kinds"),
    [
        ({"predictions": [{"score": 1}, 2]}, 'in "predictions", such as numbers and objects'),
        ({"predictions": [{"score": 1}, {"score": [2]}]}, "in \"predictions\" 'score', such as lists and numbers"),
        ({"outputs": {"y": [[1], None]}}, "in \"outputs\", 'y', such as lists and null"),
        ([[1], True, "a"], "several kinds, such as lists and texts and true or false"),
    ],
)
def test_predictions_of_several_kinds_are_an_error(answer: Any, kinds: str) -> None:
    with pytest.raises(HandlerError, match=kinds):
        read(answer)


def test_a_wrong_value_is_said_before_a_row_of_several() -> None:
    with pytest.raises(HandlerError, match="the type float, and finds one that is not: text"):
        read([[1, 2], ["a"]])
    with pytest.raises(HandlerError, match="2 for one: TabularRowsHandler reads it"):
        read([[1, 2], [3]])
