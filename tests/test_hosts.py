"""No value of a region, a name, a URL or a header leads to another host, another path or another header.

Nothing here leaves the machine: where a name would be looked up, or a connection made, the test writes down the address
and fails the attempt; and it writes down every head that is rendered for sending.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from aws_standins import clear_environment

from smendpoint import AsyncEndpoint, Endpoint, RetryPolicy, errors
from smendpoint._core.aws.renderer import RequestRenderer
from smendpoint._transport.aio import transport as async_direct
from smendpoint._transport.aio.connection import AsyncConnection

CASES = int(os.environ.get("SMENDPOINT_FUZZ", "2000"))

NASTY = [
    "@evil.example",
    "evil.example",
    ".evil.example",
    "x@evil.example:443/#",
    "//evil.example",
    "\\evil.example",
    "\r\nX-Evil: 1",
    "\nX-Evil: 1",
    "\rX-Evil: 1",
    "\r\n\r\nPOST /evil HTTP/1.1",
    "\0",
    "\t",
    " ",
    " HTTP/1.1",
    "/",
    "/..",
    "../",
    "%2e%2e%2f",
    "%0d%0aX-Evil:1",
    "%",
    "?evil=1",
    "#evil",
    ":443",
    ":0",
    ":99999",
    ":",
    "[::1]",
    "[fe80::1%25eth0]",
    "169.254.169.254",
    "0x7f.1",
    "。evil.example",
    "\u2028",
    "\u0661",
    "\u212a",
    "é",
    "ß",
    "\u200b",
    "\ud800",
    "-",
    "_",
    "a" * 300,
    "",
]
REGIONS = ["us-east-1", "us-west-2", "eu-central-1", "cn-north-1", "us-gov-west-1", "us-iso-east-1", "Mars-1"]
NAMES = ["my-llm", "a", "A1", "a--b", "x" * 63]
URLS = [
    "https://runtime.sagemaker.us-west-2.amazonaws.com",
    "https://vpce-1.runtime.sagemaker.us-west-2.vpce.amazonaws.com:8443",
    "http://127.0.0.1:9000",
    "http://localhost/base",
    "https://gateway.example/some/base/path/",
    "https://[2001:db8::1]:8443/base",
]
TEXTS = ["blue", "c=1;d=2", "model-1.tar.gz", "x"]
MEMBERS = [
    "Accept",
    "ContentType",
    "CustomAttributes",
    "EnableExplanations",
    "InferenceComponentName",
    "InferenceId",
    "PrefixAwareId",
    "SessionId",
    "TargetContainerHostname",
    "TargetModel",
    "TargetVariant",
]
HEADERS = re.compile(
    r"host|content-type|accept|accept-encoding|user-agent|content-length|authorization|x-amz-date|x-amz-security-token|"
    r"amz-sdk-(invocation-id|request)|x-amzn-sagemaker-[a-z-]+"
)
HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|[0-9a-f:.]+")
OPERATIONS = {"invoke": "invocations", "stream": "invocations-response-stream"}


class Case(NamedTuple):
    """The values for one call."""

    name: str
    operation: str
    asynchronous: bool
    options: dict[str, Any]


class Seen:
    """Addresses and heads that left the library."""

    def __init__(self) -> None:
        self.addresses: list[tuple[str, int]] = []
        self.heads: list[bytes] = []

    def clear(self) -> None:
        self.addresses.clear()
        self.heads.clear()


def bend(rng: random.Random, good: list[str]) -> str:
    """One of the good values, most often with something nasty in it, or in place of it."""
    value = rng.choice(good)
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        place = rng.randrange(len(value) + 1)
        value = value[:place] + rng.choice(NASTY) + value[place + rng.randrange(3) :]
    return value


def make_case(rng: random.Random) -> Case:
    options: dict[str, Any] = {"region_name": bend(rng, REGIONS) if rng.random() < 0.7 else "us-east-1"}
    if rng.random() < 0.4:
        options["endpoint_url"] = bend(rng, URLS)
    members = {name: bend(rng, TEXTS) for name in rng.sample(MEMBERS, rng.randrange(3))}
    if members:
        options["endpoint_kwargs"] = members
    options["aws_access_key_id"] = bend(rng, ["AKIDEXAMPLE"]) if rng.random() < 0.1 else "AKIDEXAMPLE"
    options["aws_secret_access_key"] = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    if rng.random() < 0.2:
        options["aws_session_token"] = bend(rng, ["FwoGZXIvYXdzEXAMPLE=="])
    name = bend(rng, NAMES) if rng.random() < 0.5 else "my-llm"
    return Case(name, rng.choice(("invoke", "stream")), rng.random() < 0.5, options)


def domains() -> frozenset[str]:
    """Every domain that botocore's endpoint rules know."""
    from botocore.loaders import Loader

    outputs = [partition["outputs"] for partition in Loader().load_data("partitions")["partitions"]]
    return frozenset(output[kind] for output in outputs for kind in ("dnsSuffix", "dualStackDnsSuffix"))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Seen:
    clear_environment(monkeypatch, tmp_path)
    found = Seen()
    render, context = RequestRenderer.render, ssl.create_default_context()

    def look_up(host: str | bytes, port: int, *_: object, **__: object) -> Any:
        found.addresses.append((host if isinstance(host, str) else host.decode("ascii"), port))
        raise socket.gaierror(socket.EAI_NONAME, "this test looks nothing up")

    def rendered(self: RequestRenderer, *arguments: Any) -> bytes:
        head = render(self, *arguments)
        found.heads.append(head)
        return head

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(RequestRenderer, "render", rendered)
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: context)
    return found


@pytest.fixture
def loop(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()

    async def create_connection(_: object, host: str, port: int, **options: Any) -> Any:
        seen.addresses.append((host, port))
        assert options.get("server_hostname") in (None, host)
        raise socket.gaierror(socket.EAI_NONAME, "this test looks nothing up")

    monkeypatch.setattr(loop, "create_connection", create_connection)
    monkeypatch.setattr(async_direct, "dial", dial_none)
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


class NoConnection(AsyncConnection):
    """A connection that failed, and raises when it is given a head: the asynchronous twin dials first."""

    refusal: errors.ConnectError

    async def ask(self, head: bytes, *_: object, **__: object) -> Any:
        raise self.refusal


async def dial_none(loop: asyncio.AbstractEventLoop, address: Any, patience: Any, room: memoryview) -> AsyncConnection:
    try:
        return await DIAL(loop, address, patience, room)
    except errors.ConnectError as error:
        connection = NoConnection(loop, room)
        connection.refusal = error
        return connection


DIAL = async_direct.dial


async def call_async(case: Case) -> None:
    async with AsyncEndpoint(case.name, retry=RetryPolicy(max_attempts=1), **case.options) as endpoint:
        if case.operation == "invoke":
            await endpoint.invoke("Hello")
        else:
            async with endpoint.stream("Hello"):
                pass


def call(case: Case, loop: asyncio.AbstractEventLoop) -> errors.SmendpointError:
    """Make the call; give the error that it ends with, as it must."""
    try:
        if case.asynchronous:
            loop.run_until_complete(call_async(case))
        else:
            with Endpoint(case.name, retry=RetryPolicy(max_attempts=1), **case.options) as endpoint:
                if case.operation == "invoke":
                    endpoint.invoke("Hello")
                else:
                    endpoint.stream("Hello").__enter__()
    except errors.SmendpointError as error:
        return error
    raise AssertionError("there was an answer")


def check_address(case: Case, address: tuple[str, int], known: frozenset[str]) -> tuple[str, str]:
    """The address is the one that was meant; gives the Host header and the base path that belong to it."""
    host, port = address
    assert HOST.fullmatch(host)
    url = case.options.get("endpoint_url")
    if url is None:
        start = f"runtime.sagemaker.{case.options['region_name'].lower()}."
        assert host.startswith(start), host
        assert host[len(start) :] in known
        assert port == 443
        return host, ""
    parts = urlsplit(url)
    assert url.isascii()
    assert url.isprintable()
    assert parts.username is None
    assert parts.password is None
    assert not parts.query
    assert not parts.fragment
    assert host == parts.hostname
    default = {"https": 443, "http": 80}[parts.scheme]
    assert port == (parts.port or default)
    assert host not in ("169.254.169.254", "fe80::1")
    if parts.scheme == "http":
        assert host == "localhost" or host.startswith("127.")
    base = parts.path.removesuffix("/")
    assert ".." not in base.lower().replace("%2e", ".").split("/")
    shown = f"[{host}]" if ":" in host else host
    return (shown if port == default else f"{shown}:{port}"), base


def check_head(case: Case, head: bytes, host_header: str, base: str) -> None:
    assert head.endswith(b"\r\n\r\n")
    text = head[:-4].decode("ascii")
    lines = text.split("\r\n")
    assert text.replace("\r\n", "").isprintable()
    assert re.fullmatch("[a-zA-Z0-9](-*[a-zA-Z0-9])*", case.name)
    assert lines[0] == f"POST {base}/endpoints/{case.name}/{OPERATIONS[case.operation]} HTTP/1.1"
    headers = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines[1:])]
    names = [name for name, _ in headers]
    assert len(set(names)) == len(names)
    assert all(HEADERS.fullmatch(name) for name in names), names
    assert dict(headers)["host"] == host_header
    given = {str(value) for value in case.options.get("endpoint_kwargs", {}).values()}
    assert given <= {value for _, value in headers}
    assert dict(headers).get("x-amz-security-token") == case.options.get("aws_session_token")


def test_no_value_leads_to_another_host_path_or_header(seen: Seen, loop: asyncio.AbstractEventLoop) -> None:
    rng = random.Random(2026)
    known = domains()
    reached = refused = 0
    for _ in range(CASES):
        case = make_case(rng)
        seen.clear()
        error = call(case, loop)
        if isinstance(error, errors.ConnectError):
            assert len(seen.addresses) == len(seen.heads) == 1
            check_head(case, seen.heads[0], *check_address(case, seen.addresses[0], known))
            reached += 1
        else:
            assert isinstance(error, (errors.ConfigurationError, errors.CredentialsError)), error
            assert seen.addresses == []
            refused += 1
    assert min(reached, refused) > CASES // 10


@pytest.mark.parametrize(
    "region", ["x@evil.com:443/#", "us-east-1.evil.com", "us-east-1/", "us-east-1\r\n", "", "us\u2010east\u20101", "1"]
)
def test_a_region_that_is_not_a_host_label_is_refused(seen: Seen, loop: asyncio.AbstractEventLoop, region: str) -> None:
    for asynchronous in (False, True):
        error = call(Case("my-llm", "invoke", asynchronous, {"region_name": region}), loop)
        assert isinstance(error, errors.ConfigurationError)
        assert seen.addresses == []


@pytest.mark.parametrize("variable", ["AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"])
@pytest.mark.parametrize(
    "value", ["x@evil.com:443/#", "https://user@evil.com", "http://evil.com", "http://169.254.169.254", "a\r\nb"]
)
def test_settings_of_the_environment_are_checked_as_well(
    seen: Seen, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv(variable, value)
    keys = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret"}
    for asynchronous in (False, True):
        error = call(Case("my-llm", "invoke", asynchronous, keys), loop)
        assert isinstance(error, errors.ConfigurationError)
        assert seen.addresses == []
