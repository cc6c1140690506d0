"""The client for Amazon S3 has the endpoint's credentials, region and settings."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from aws_standins import clear_environment, explicit_keys
from botocore.config import Config

from smendpoint import Timeout, errors
from smendpoint._aws import CredentialProvider, Identity, Target, resolve
from smendpoint._aws.s3 import async_s3_client, blocking_s3_client
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint._transport.async_s3 import in_thread

LIMITS = Timeout(connect=3.0, read=7.0)
KEYS = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret"}


class Made:
    """Makes clients of either kind, and closes them."""

    def __init__(self, asynchronous: bool) -> None:
        self.asynchronous = asynchronous
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()

    def client(self, identity: Identity, target: Target | None = None) -> Any:
        target = resolve(identity) if target is None else target
        if not self.asynchronous:
            made = blocking_s3_client(identity, target, LIMITS)
            self.stack.callback(made.close)
            return made

        async def make() -> Any:
            return await self.stack.enter_async_context(async_s3_client(identity, target, LIMITS, in_thread))

        return self.loop.run_until_complete(make())

    def signed_with(self, client: Any) -> tuple[str, str | None]:
        """The access key and token of a presigned URL."""
        url = client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
        if self.asynchronous:
            url = self.loop.run_until_complete(url)
        _, _, query = url.partition("?")
        parameters = dict(pair.split("=", 1) for pair in query.split("&"))
        key = parameters.get("X-Amz-Credential", parameters.get("AWSAccessKeyId", ""))
        token = parameters.get("X-Amz-Security-Token", parameters.get("x-amz-security-token"))
        return key.partition("%2F")[0], token

    def close(self) -> None:
        self.loop.run_until_complete(self.stack.aclose())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


@pytest.fixture(params=["sync", "async"])
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Made]:
    clear_environment(monkeypatch, tmp_path)
    kind = Made(request.param == "async")
    yield kind
    kind.close()


def test_region_and_credentials_are_those_of_the_endpoint(made: Made) -> None:
    client = made.client(Identity(region_name="eu-west-3", **explicit_keys("AKIDEXAMPLE", "secret", "token")))
    assert client.meta.region_name == "eu-west-3"
    assert client.meta.endpoint_url == "https://s3.eu-west-3.amazonaws.com"
    assert made.signed_with(client) == ("AKIDEXAMPLE", "token")


def test_the_url_of_the_endpoint_is_not_that_of_s3(made: Made) -> None:
    client = made.client(Identity(region_name="us-west-2", endpoint_url="http://127.0.0.1:9", **KEYS))
    assert client.meta.endpoint_url == "https://s3.us-west-2.amazonaws.com"


def test_the_environment_may_say_where_s3_is(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    client = made.client(Identity(region_name="us-west-2", **KEYS))
    assert client.meta.endpoint_url == "http://127.0.0.1:9"


def test_credentials_are_asked_for_anew_at_each_request(made: Made) -> None:
    fetched: list[str] = []

    def fetch(anew: bool) -> tuple[Credentials, float]:
        fetched.append(f"KEY{len(fetched)}")
        return Credentials(fetched[-1], "secret"), now + 3600

    now = 1_000_000.0
    identity = Identity(region_name="us-west-2", **KEYS)
    target = resolve(identity)
    target = target._replace(credentials=CredentialProvider(fetch, now=lambda: now))
    client = made.client(identity, target)
    assert fetched == []
    assert [made.signed_with(client)[0] for _ in range(2)] == ["KEY0", "KEY0"]
    now += 7200
    assert made.signed_with(client)[0] == "KEY1"


def test_a_failure_to_load_credentials_is_our_error(made: Made) -> None:
    def fetch(anew: bool) -> tuple[Credentials, float]:
        raise errors.CredentialsError("none today")

    identity = Identity(region_name="us-west-2", **KEYS)
    target = resolve(identity)
    target = target._replace(credentials=CredentialProvider(fetch, now=lambda: 0.0))
    client = made.client(identity, target)
    with pytest.raises(errors.CredentialsError, match="none today"):
        made.signed_with(client)


def test_the_limits_of_the_endpoint_hold_for_s3_unless_its_config_has_others(made: Made) -> None:
    config = made.client(Identity(region_name="us-west-2", **KEYS)).meta.config
    assert (config.connect_timeout, config.read_timeout) == (3.0, 7.0)
    given = Identity(region_name="us-west-2", config=Config(read_timeout=11, s3={"addressing_style": "path"}), **KEYS)
    config = made.client(given).meta.config
    assert (config.connect_timeout, config.read_timeout) == (3.0, 11)
    assert config.s3["addressing_style"] == "path"


def test_retries_of_the_config_hold_for_s3_and_stay_as_they_were(made: Made) -> None:
    config = Config(retries={"total_max_attempts": 2, "mode": "standard"})
    client = made.client(Identity(region_name="us-west-2", config=config, **KEYS))
    assert client.meta.config.retries["total_max_attempts"] == 2
    assert config.retries == {"total_max_attempts": 2, "mode": "standard"}


def test_options_about_the_endpoint_alone_are_left_out(made: Made) -> None:
    config = Config(client_cert="/no/such/file", user_agent="other")
    client = made.client(Identity(region_name="us-west-2", config=config, **KEYS))
    assert client.meta.config.client_cert is None


@pytest.mark.parametrize("kind", ["botocore", "boto3"])
def test_the_profile_and_settings_of_a_given_session_hold_for_s3(
    made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "config").write_text(
        "[profile p]\nregion = eu-west-1\naws_access_key_id = PROFILE\naws_secret_access_key = s\nservices = here\n"
        "[services here]\ns3 =\n  endpoint_url = http://127.0.0.1:8\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    inner = botocore.session.Session(profile="p")
    inner.set_default_client_config(Config(read_timeout=13, connect_timeout=2))
    session = inner if kind == "botocore" else boto3.Session(botocore_session=inner)
    client = made.client(Identity(session=session, config=Config(connect_timeout=1)))
    assert client.meta.region_name == "eu-west-1"
    assert client.meta.endpoint_url == "http://127.0.0.1:8"
    assert (client.meta.config.connect_timeout, client.meta.config.read_timeout) == (1, 13)
    assert made.signed_with(client)[0] == "PROFILE"


@pytest.mark.parametrize(("config", "seconds"), [(Config(read_timeout=13), 13), (None, 7.0)])
def test_the_settings_of_a_given_session_hold_where_there_is_no_config_beside_it(
    made: Made, config: Config | None, seconds: float
) -> None:
    session = botocore.session.Session()
    session.set_default_client_config(config)
    session.set_credentials("SESSION", "s")
    client = made.client(Identity(session=session, region_name="us-west-2"))
    assert client.meta.config.read_timeout == seconds
    assert made.signed_with(client)[0] == "SESSION"


def test_an_address_of_s3_that_is_malformed_is_our_error(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = Identity(region_name="us-west-2", **KEYS)
    target = resolve(identity)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "user:password@nowhere")
    with pytest.raises(errors.ConfigurationError, match="botocore refuses this AWS configuration") as caught:
        made.client(identity, target)
    assert "password" not in f"{caught.value}{caught.value.__cause__}{caught.value.__context__}"


def test_without_aiobotocore_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear_environment(monkeypatch, tmp_path)
    for name in ("aiobotocore", "aiobotocore.config", "aiobotocore.credentials", "aiobotocore.session"):
        monkeypatch.setitem(sys.modules, name, None)
    identity = Identity(region_name="us-west-2", **KEYS)
    with pytest.raises(errors.ConfigurationError, match=r"smendpoint\[aiobotocore\]"):
        asyncio.run(async_s3_client(identity, resolve(identity), LIMITS, in_thread).__aenter__())
