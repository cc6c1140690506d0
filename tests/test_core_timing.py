"""Time limits: the values that they accept, and a number in their place."""

from __future__ import annotations

from typing import Any

import pytest

from smendpoint._core.call.timing import Timeout
from smendpoint.errors import ConfigurationError


def test_the_default_lets_the_services_own_limit_of_60_seconds_speak_first() -> None:
    assert Timeout().read > 60
    assert Timeout().total is None


def test_a_number_is_for_connecting_and_for_silence() -> None:
    assert Timeout.of(3) == Timeout(connect=3, read=3)
    timeout = Timeout(total=5)
    assert Timeout.of(timeout) is timeout


@pytest.mark.parametrize("field", ["connect", "read", "total"])
@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), "1", True])
def test_a_limit_that_is_not_a_duration_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"timeout.{field}"):
        Timeout(**{field: value})


def test_a_timeout_shows_its_values() -> None:
    assert repr(Timeout(1, 2, 3)) == "Timeout(connect=1, read=2, total=3.0)"
