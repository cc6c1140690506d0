"""The typed keyword options are those of the requests."""

from __future__ import annotations

import typing
from typing import Any

import pytest

import smendpoint
from smendpoint import AsyncEndpoint, AsyncKwargs, Endpoint, InvokeEndpointKwargs, StreamKwargs
from smendpoint._core.aws.operations import INVOKE_ENDPOINT, INVOKE_ENDPOINT_ASYNC, INVOKE_ENDPOINT_STREAM, Operation

PAIRS = [
    (InvokeEndpointKwargs, INVOKE_ENDPOINT),
    (StreamKwargs, INVOKE_ENDPOINT_STREAM),
    (AsyncKwargs, INVOKE_ENDPOINT_ASYNC),
]
METHODS = {"invoke": "InvokeEndpoint", "send": "InvokeEndpoint", "stream": "Stream", "submit": "Async"}


@pytest.mark.parametrize(("members", "operation"), PAIRS, ids=[operation.name for _, operation in PAIRS])
def test_the_members_of_each_operation_have_their_names_and_types(members: Any, operation: Operation) -> None:
    expected = {name: int if member.number else str for name, member in operation.members.items()}
    assert typing.get_type_hints(members) == expected
    assert members.__required_keys__ == frozenset()


@pytest.mark.parametrize("twin", [Endpoint, AsyncEndpoint])
@pytest.mark.parametrize("method", METHODS)
def test_each_method_takes_the_members_of_its_operation(twin: Any, method: str) -> None:
    annotation = getattr(twin, method).__annotations__["endpoint_kwargs"]
    assert annotation.startswith(f"{METHODS[method]}Kwargs | Mapping[str, object]")
    assert annotation.split(" ")[0] in smendpoint.__all__
