"""Where conversations go: the port of the service's own URL, the variable of their own, and what goes before it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from botocore.config import Config
from inside import transport_of
from twins import ACCESS_KEY, NAME, SECRET_KEY, Twin, direct_twin  # noqa: F401

from smendpoint import AsyncEndpoint, Endpoint, errors
from smendpoint.emulator import Emulator, ModelConversation

pytestmark = pytest.mark.usefixtures("bare_environment")

VARIABLE = "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME_HTTP2"
OF_THE_RUNTIME = "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"
IGNORE = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"
DEAD = "http://127.0.0.1:9"


async def echo(talk: ModelConversation) -> None:
    async for part in talk:
        await talk.send(part.text or part.data)


def converses(endpoint: Any) -> bool:
    with endpoint.converse() as talk:
        talk.send("a")
        return bool(next(talk).text == "a")


def urls(twin: Twin, **options: Any) -> tuple[str, str, str]:
    """The URL of calls, the one of conversations, and the host header of these."""
    make: Any = AsyncEndpoint if twin.asynchronous else Endpoint
    keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY, "region_name": "us-west-2"}
    endpoint = make(NAME, **{**keys, **options})
    transport = transport_of(endpoint)
    if twin.asynchronous:
        twin.run(_resolve(transport))
    else:
        transport.resolve()
    calls, talks = transport._address.target.url, transport.http2_address().target.url
    return (*(f"{url.scheme}://{url.host}:{url.port}{url.base_path}" for url in (calls, talks)), talks.host_header)


async def _resolve(transport: Any) -> None:
    await transport.resolve()
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("options", "host"),
    [
        ({}, "runtime.sagemaker.us-west-2.amazonaws.com"),
        ({"region_name": "cn-north-1"}, "runtime.sagemaker.cn-north-1.amazonaws.com.cn"),
        ({"config": Config(use_fips_endpoint=True)}, "runtime-fips.sagemaker.us-west-2.amazonaws.com"),
    ],
    ids=["region", "other partition", "fips"],
)
def test_the_services_own_url_has_another_port_for_conversations(
    direct_twin: Twin,  # noqa: F811
    options: dict[str, Any],
    host: str,
) -> None:
    calls, talks, header = urls(direct_twin, **options)
    assert (calls, talks, header) == (f"https://{host}:443", f"https://{host}:8443", f"{host}:8443")


@pytest.mark.parametrize(
    ("url", "conversations", "header"),
    [
        ("https://10.0.0.7", "https://10.0.0.7:8443", "10.0.0.7:8443"),
        ("https://10.0.0.7/base", "https://10.0.0.7:8443/base", "10.0.0.7:8443"),
        ("https://[2001:db8::1]", "https://2001:db8::1:8443", "[2001:db8::1]:8443"),
        ("https://10.0.0.7:9443", "https://10.0.0.7:9443", "10.0.0.7:9443"),
        ("http://127.0.0.1", "http://127.0.0.1:80", "127.0.0.1"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1:8080"),
    ],
)
def test_only_the_usual_port_of_https_becomes_another_one(
    direct_twin: Twin,  # noqa: F811
    url: str,
    conversations: str,
    header: str,
) -> None:
    assert urls(direct_twin, endpoint_url=url)[1:] == (conversations, header)


def test_the_variable_is_for_conversations_alone_and_goes_before_the_runtimes(
    direct_twin: Twin,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(OF_THE_RUNTIME, "https://calls.example")
    assert urls(direct_twin)[1] == "https://calls.example:8443"
    monkeypatch.setenv(VARIABLE, "https://talks.example")
    assert urls(direct_twin) == ("https://calls.example:443", "https://talks.example:443", "talks.example")
    monkeypatch.delenv(OF_THE_RUNTIME)
    assert urls(direct_twin)[:2] == (
        "https://runtime.sagemaker.us-west-2.amazonaws.com:443",
        "https://talks.example:443",
    )


def test_an_argument_goes_before_the_variable(direct_twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv(VARIABLE, DEAD)
    with Emulator({NAME: echo}) as emulator:
        assert converses(direct_twin.endpoint(emulator.url))


def test_a_conversation_goes_where_the_variable_says(direct_twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv(OF_THE_RUNTIME, DEAD)
    with Emulator({NAME: echo}) as emulator:
        monkeypatch.setenv(VARIABLE, emulator.url)
        assert converses(direct_twin.endpoint(None))  # type: ignore[arg-type]  # no URL


@pytest.mark.parametrize(
    ("environment", "config", "heard"),
    [
        ("true", None, False),
        ("TRUE", None, False),
        ("false", None, True),
        ("", None, True),
        ("true", Config(ignore_configured_endpoint_urls=False), True),
        ("false", Config(ignore_configured_endpoint_urls=True), False),
        ("true", Config(), False),
    ],
    ids=str.split("true TRUE false empty config-hears config-ignores config-silent"),
)
def test_configured_urls_can_be_ignored(
    direct_twin: Twin,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    environment: str,
    config: Any,
    heard: bool,
) -> None:
    monkeypatch.setenv(VARIABLE, "https://talks.example")
    monkeypatch.setenv(IGNORE, environment)
    expected = "https://talks.example:443" if heard else "https://runtime.sagemaker.us-west-2.amazonaws.com:8443"
    assert urls(direct_twin, config=config)[1] == expected


@pytest.mark.parametrize("url", ["ftp://x", "https://", "http://talks.example", "https://user:hunter2@host"])
def test_a_url_in_the_variable_that_cannot_be_used_is_named_and_calls_go_on(
    direct_twin: Twin,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    url: str,
) -> None:
    monkeypatch.setenv(VARIABLE, url)
    monkeypatch.setenv(OF_THE_RUNTIME, "https://127.0.0.1:9")
    endpoint = direct_twin.endpoint(None)  # type: ignore[arg-type]  # no URL
    with pytest.raises(errors.ConfigurationError, match=VARIABLE) as caught:
        endpoint.converse().open()
    assert caught.value.endpoint_name == NAME
    assert "hunter2" not in str(caught.value)
    with pytest.raises(errors.ConnectError):
        endpoint.invoke("Hello", timeout=1.0)
