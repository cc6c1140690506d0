"""The two endpoints behind a framework's model: made once, of the same options, closed if they are the model's own."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from servers import bare_environment  # noqa: F401

from smendpoint import AsyncEndpoint, ConfigurationError, Endpoint, TextGenerationHandler
from smendpoint.emulator import Emulator
from smendpoint.integrations._twins import Twins

pytestmark = pytest.mark.usefixtures("bare_environment")

HANDLER = TextGenerationHandler()
CLASSES = pytest.mark.parametrize("first", [Endpoint, AsyncEndpoint])


class Client:
    """A client that is never called."""

    def invoke_endpoint(self) -> None:
        raise AssertionError

    invoke_endpoint_with_response_stream = invoke_endpoint


class AwaitedClient:
    async def close(self) -> None:
        raise AssertionError

    async def invoke_endpoint(self) -> None:
        raise AssertionError

    invoke_endpoint_with_response_stream = invoke_endpoint


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    with Emulator({"my-llm": "tgi"}, region="us-west-2") as emulator:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", emulator.url)
        yield emulator


def talk(twins: Twins) -> list[str]:
    """Call the model in both ways, and close all connections."""

    async def awaited() -> str:
        endpoint = twins.awaited()
        assert endpoint is not None
        assert endpoint is twins.awaited()
        try:
            return str(await endpoint.invoke("Hello", max_new_tokens=5))
        finally:
            await twins.aclose()

    assert twins.blocking() is twins.blocking()
    return [twins.blocking().invoke("Hello", max_new_tokens=5), asyncio.run(awaited())]


@CLASSES
def test_both_call_the_same_model_with_the_same_options(first: Any, emulator: Emulator) -> None:
    twins = Twins(first("my-llm", content_handler=HANDLER), ours=True)
    plain, awaited = talk(twins)
    assert plain == awaited
    assert twins.handler is twins.blocking().content_handler is HANDLER
    sent = [request.body for request in emulator.requests]
    assert sent[0] == sent[1]


@CLASSES
def test_only_what_was_made_for_the_model_is_closed(first: Any) -> None:
    given = first("my-llm")
    theirs, own = Twins(given, ours=False), Twins(first("my-llm"), ours=True)
    endpoints = [(twins.blocking(), twins.awaited()) for twins in (theirs, own)]
    assert not any(endpoint._caller.closed for pair in endpoints for endpoint in pair if endpoint is not None)
    theirs.close()
    own.close()
    assert [pair[0]._caller.closed for pair in endpoints] == [first is AsyncEndpoint, True]
    asyncio.run(theirs.aclose())
    asyncio.run(own.aclose())
    closed = {endpoint for pair in endpoints for endpoint in pair if endpoint is not None and endpoint._caller.closed}
    assert closed == {*endpoints[0], *endpoints[1]} - {given}


def test_connections_close_before_the_second_endpoint_is_made() -> None:
    twins = Twins(Endpoint("my-llm"), ours=True)
    asyncio.run(twins.aclose())
    assert twins.blocking()._caller.closed


def test_a_client_that_blocks_makes_every_call() -> None:
    twins = Twins(Endpoint("my-llm", client=Client()), ours=True)
    assert twins.awaited() is None
    assert twins.blocking().endpoint_name == "my-llm"
    twins.close()


def test_a_client_that_must_be_awaited_makes_no_plain_call() -> None:
    twins = Twins(AsyncEndpoint("my-llm", client=AwaitedClient()), ours=True)
    with pytest.raises(ConfigurationError, match="await its asynchronous methods") as caught:
        twins.blocking()
    assert caught.value.endpoint_name == "my-llm"
    assert twins.awaited() is not None


def test_copies_share_the_endpoints_and_a_pickle_has_the_first(emulator: Emulator) -> None:
    twins = Twins(Endpoint("my-llm", content_handler=HANDLER), ours=True, options={"endpoint_name": "my-llm"})
    assert copy.deepcopy(twins) is twins
    read = pickle.loads(pickle.dumps(twins))
    assert read.blocking() is not twins.blocking()
    assert len({*talk(read), *talk(twins)}) == 1


def test_a_model_fits_by_its_options_or_where_these_are_not_known_by_its_name() -> None:
    options = {"endpoint_name": "my-llm", "region_name": "eu-west-1"}
    made, read = Twins(Endpoint("my-llm"), ours=True, options=options), Twins(Endpoint("my-llm"), ours=True)
    assert made.fits({**options})
    assert not made.fits({**options, "region_name": "us-west-2"})
    assert read.fits({**options, "region_name": "us-west-2"})
    assert not read.fits({"endpoint_name": "other"})
