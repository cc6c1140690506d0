"""The types of endpoints that type checkers know can also be written in code that runs."""

from __future__ import annotations

from typing import get_args

import pytest

from smendpoint import AsyncEndpoint, Endpoint


@pytest.mark.parametrize("twin", [Endpoint, AsyncEndpoint], ids=["sync", "async"])
def test_types_that_are_not_given_have_their_defaults(twin: type) -> None:
    assert get_args(twin[bytes]) == (bytes, str, str)  # type: ignore[index]  # the very thing that is tested
    assert get_args(twin[bytes, int]) == (bytes, int, int)  # type: ignore[index]
    assert get_args(twin[bytes, int, float]) == (bytes, int, float)  # type: ignore[index]


@pytest.mark.parametrize("twin", [Endpoint, AsyncEndpoint], ids=["sync", "async"])
def test_there_are_three_types(twin: type) -> None:
    with pytest.raises(TypeError):
        twin[str, str, str, str]  # type: ignore[index]
