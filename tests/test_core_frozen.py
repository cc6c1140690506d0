"""Values that never change: what all of them have from their base."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from smendpoint._core.aws.sigv4 import Credentials
from smendpoint._core.call.retry import RetryPolicy
from smendpoint._core.call.timing import Timeout
from smendpoint.prompts import ChatPromptTemplate, PromptTemplate

VALUES: list[tuple[Any, Any, Any]] = [  # a value, an equal one, another one
    (Timeout(1, 2, 3), Timeout(1.0, 2.0, 3.0), Timeout(1, 2)),
    (RetryPolicy(max_attempts=5), RetryPolicy(max_attempts=5), RetryPolicy()),
    (Credentials("AKID", "secret", "t"), Credentials("AKID", "secret", "t"), Credentials("AKID", "secret")),
    (PromptTemplate("{a}{b}").partial(a="1"), PromptTemplate("{a}{b}").partial(a=1), PromptTemplate("{a}{b}")),
    (
        ChatPromptTemplate([("system", "{a}"), ("user", "{b}")]),
        ChatPromptTemplate([("system", PromptTemplate("{a}")), ("user", "{b}")]),
        ChatPromptTemplate([("user", "{a}"), ("user", "{b}")]),
    ),
]
NAMES = [type(value).__name__ for value, *_ in VALUES]


@pytest.mark.parametrize(("value", "equal", "other"), VALUES, ids=NAMES)
def test_values_are_equal_and_hashed_by_what_they_hold(value: Any, equal: Any, other: Any) -> None:
    assert value == equal
    assert hash(value) == hash(equal)
    assert value != other
    assert value != value.__getstate__()


@pytest.mark.parametrize("value", [value for value, *_ in VALUES], ids=NAMES)
def test_a_value_survives_pickling_and_copying(value: Any) -> None:
    copies = [pickle.loads(pickle.dumps(value, protocol)) for protocol in range(6)]
    for twin in [*copies, copy.copy(value), copy.deepcopy(value)]:
        assert type(twin) is type(value)
        assert twin == value
        assert hash(twin) == hash(value)
        assert repr(twin) == repr(value)


@pytest.mark.parametrize("value", [value for value, *_ in VALUES], ids=NAMES)
def test_a_value_cannot_be_changed(value: Any) -> None:
    name = type(value).__name__
    with pytest.raises(AttributeError, match=f"a {name} cannot be changed: make a new one with another total"):
        value.total = 5.0
    with pytest.raises(AttributeError, match=f"a {name} cannot be changed"):
        del value.total
    with pytest.raises(AttributeError):
        object.__setattr__(value, "extra", 1)
