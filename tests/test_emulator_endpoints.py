"""Endpoints that an emulator makes: they lead to it, and options that are given to them win."""

from __future__ import annotations

import asyncio
from typing import Any

import botocore.session
import pytest
from aiobotocore.session import get_session

from smendpoint import AccessDeniedError, AsyncEndpoint, ConfigurationError, Endpoint
from smendpoint.emulator import Credentials, Emulator
from smendpoint.handlers import ChatHandler

PROMPT = "It rains. Question: Does it rain?"
KEYS = Credentials("AKID", "secret", "token")
TWINS = ("endpoint", "async_endpoint")


def use(emulator: Emulator, twin: str, prompt: Any = PROMPT, **options: Any) -> Any:
    """Call an endpoint that the emulator makes."""

    async def asynchronously() -> Any:
        async with emulator.async_endpoint("my-llm", **options) as endpoint:
            assert isinstance(endpoint, AsyncEndpoint)
            return await endpoint.invoke(prompt)

    if twin == "async_endpoint":
        return asyncio.run(asynchronously())
    with emulator.endpoint("my-llm", **options) as endpoint:
        assert isinstance(endpoint, Endpoint)
        return endpoint.invoke(prompt)


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")


@pytest.mark.parametrize("credentials", [None, KEYS, Credentials("AKID", "secret")])
@pytest.mark.parametrize("twin", TWINS)
def test_an_endpoint_leads_there_with_the_credentials_that_the_emulator_asks_for(
    twin: str, credentials: Credentials | None
) -> None:
    with Emulator(region="eu-west-1", credentials=credentials) as emulator:
        assert emulator.region == "eu-west-1"
        assert use(emulator, twin, region_name=None, session=None) == "It rains."
        (request,) = emulator.requests
        assert request.endpoint_name == "my-llm"
        assert "/eu-west-1/sagemaker/" in request.headers["authorization"]


@pytest.mark.parametrize("twin", TWINS)
def test_an_option_that_is_given_to_an_endpoint_wins(twin: str) -> None:
    with Emulator(credentials=KEYS) as emulator, Emulator() as other:
        with pytest.raises(AccessDeniedError):
            use(emulator, twin, aws_access_key_id="AKID", aws_secret_access_key="other")
        with pytest.raises(AccessDeniedError):
            use(emulator, twin, region_name="eu-west-1")
        session = botocore.session.get_session()
        session.set_credentials("AKID", "secret", "token")
        assert use(emulator, twin, session=session) == "It rains."
        messages = [{"role": "user", "content": PROMPT}]
        assert use(emulator, twin, messages, content_handler=ChatHandler()).text == "It rains."
        before = len(emulator.requests)
        assert use(emulator, twin, endpoint_url=other.url) == "It rains."
        with pytest.raises(ConfigurationError, match="plain http"):
            use(emulator, twin, endpoint_url="http://192.0.2.1")
        assert (len(emulator.requests), len(other.requests)) == (before, 1)


def test_a_given_client_gets_no_settings() -> None:
    settings: dict[str, Any] = {
        "region_name": "us-west-2",
        "aws_access_key_id": "a",
        "aws_secret_access_key": "b",
    }

    async def asynchronously(emulator: Emulator) -> Any:
        async with get_session().create_client("sagemaker-runtime", endpoint_url=emulator.url, **settings) as client:
            return await emulator.async_endpoint("my-llm", client=client).invoke(PROMPT)

    with Emulator() as emulator:
        client = botocore.session.get_session().create_client(
            "sagemaker-runtime", endpoint_url=emulator.url, **settings
        )
        assert use(emulator, "endpoint", client=client) == "It rains."
        client.close()
        assert asyncio.run(asynchronously(emulator)) == "It rains."


@pytest.mark.parametrize("twin", TWINS)
def test_an_emulator_that_was_never_started_says_so(twin: str) -> None:
    with pytest.raises(ConfigurationError, match="start the emulator first"):
        use(Emulator(), twin)


def test_an_emulator_that_others_can_reach_is_reached() -> None:
    with Emulator(host="0.0.0.0") as emulator:
        assert use(emulator, "endpoint") == "It rains."
