"""The concurrency limit: each rule and each constant, without a server."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from smendpoint import AdaptiveConcurrency, ConfigurationError
from smendpoint._core.call.limit import Limit


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"initial": 0}, "initial must be a whole number of at least 1, not 0"),
        ({"minimum": True}, "minimum must be a whole number of at least 1, not True"),
        ({"maximum": 8.0}, r"maximum must be a whole number of at least 1, not 8\.0"),
        ({"initial": 300}, "300 is not from 1 to 256"),
        ({"initial": 1, "minimum": 2}, "1 is not from 2 to 256"),
        ({"refused": [""]}, "refused must have texts that are not empty, or statuses 400 to 599: ''"),
        ({"refused": 399}, "statuses 400 to 599: 399"),
        ({"refused": [503, 600]}, "statuses 400 to 599: 600"),
        ({"refused": [True]}, "statuses 400 to 599: True"),
        ({"refused": None}, "statuses 400 to 599: None"),
        ({"refused": [b"full"]}, "statuses 400 to 599: b'full'"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        AdaptiveConcurrency(**arguments)


@pytest.mark.parametrize(
    ("given", "kept"),
    [("queue is full", ("queue is full",)), (503, (503,)), (["full", 503], ("full", 503)), (iter([400]), (400,))],
)
def test_one_marker_or_several_are_kept_as_a_tuple(given: Any, kept: tuple[str | int, ...]) -> None:
    assert AdaptiveConcurrency(refused=given).refused == kept


def test_a_configuration_is_a_value() -> None:
    config = AdaptiveConcurrency(8, 2, 32, refused=["full", 503])
    assert repr(config) == "AdaptiveConcurrency(initial=8, minimum=2, maximum=32, refused=('full', 503))"
    assert config == AdaptiveConcurrency(initial=8, minimum=2, maximum=32, refused=("full", 503))
    assert config != AdaptiveConcurrency(8, 2, 32)
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config
    with pytest.raises(AttributeError, match="AdaptiveConcurrency cannot be changed"):
        config.initial = 1


def test_a_burst_of_refusals_is_one_step_down_to_what_still_runs() -> None:
    limit = Limit(AdaptiveConcurrency(64), lambda: 0.5)
    assert sum(limit.try_start(0.0) for _ in range(65)) == 64
    for _ in range(56):
        limit.finished("refused", 0.0, 0.002)
    assert limit.running == 8
    assert limit.limit == 8.0
