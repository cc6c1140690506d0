"""smendpoint._aws.chain: region, endpoint and settings as botocore's own client has them."""

from __future__ import annotations

import enum
import os
import threading
import urllib.parse
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import botocore.session
import pytest
from aws_standins import botocore_says, clear_environment, explicit_keys, known_regions, write_aws_file
from botocore.config import Config
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from smendpoint._aws import Identity, chain, resolve
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint.errors import ConfigurationError

EXAMPLES = int(os.environ.get("SMENDPOINT_EXAMPLES", "100"))
KEYS = {"aws_access_key_id": "AKIDARG", "aws_secret_access_key": "secret"}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear_environment(monkeypatch, tmp_path)


REGIONS = [*known_regions(), "moon-base-1", "us-east-99", "fips-us-east-1", "us-gov-west-1-fips", "a"]


# One example for each partition, then random ones.
@example("us-east-1", True, True)
@example("us-gov-west-1", True, False)
@example("cn-north-1", False, True)
@example("us-iso-east-1", False, False)
@settings(
    max_examples=EXAMPLES // 4,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.sampled_from(REGIONS), st.sampled_from([None, True, False]), st.sampled_from([None, True, False]))
def test_every_region_with_fips_and_dual_stack_is_where_botocore_says(
    region: str, fips: bool | None, dual: bool | None
) -> None:
    config = Config(use_fips_endpoint=fips, use_dualstack_endpoint=dual)
    identity = Identity(region_name=region, config=config, **KEYS)
    try:
        said = botocore_says(region_name=region, config=config, **KEYS)
    except botocore.exceptions.BotoCoreError:
        with pytest.raises(ConfigurationError, match="botocore refuses"):
            resolve(identity)
        return
    target = resolve(identity)
    assert (str(target.url), target.region) == (said.url, said.region)
    assert target.credentials.current() == Credentials("AKIDARG", "secret")


@settings(
    max_examples=EXAMPLES // 4,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "region_name": st.sampled_from(["eu-west-1", "us-gov-east-1"]),
            "ignore_configured_endpoint_urls": st.booleans(),
            "use_fips_endpoint": st.booleans(),
            "proxies": st.sampled_from([{}, {"https": "http://p.example:1"}, {"http": "http://p.example:1"}]),
            "defaults_mode": st.sampled_from(["legacy", "standard", "in-region"]),
            "connect_timeout": st.sampled_from([7]),
            "retries": st.sampled_from([{"max_attempts": 1}, {"total_max_attempts": 4, "mode": "standard"}]),
            "user_agent_appid": st.sampled_from(["shop"]),
        },
    ),
    st.booleans(),
    st.sampled_from([None, "ap-south-1"]),
    st.sampled_from([None, "https://argument.example"]),
)
def test_every_config_means_what_it_means_to_botocores_client(
    tmp_path: Path, options: dict[str, Any], as_default: bool, region: str | None, url: str | None
) -> None:
    write_aws_file(
        tmp_path, "config", "[default]\nregion = us-west-2\nendpoint_url = https://file.example\nmax_attempts = 9\n"
    )
    config = Config(**options)
    session = botocore.session.Session()
    arguments: dict[str, Any] = {"region_name": region, "endpoint_url": url, **KEYS}
    if as_default:
        session.set_default_client_config(config)
        identity = Identity(session=session, **arguments)
    else:
        identity = Identity(config=config, **arguments)
    said = botocore_says(config=Config(**options), **arguments)
    client = botocore.session.Session().create_client("sagemaker-runtime", config=Config(**options), **arguments)
    target = resolve(identity)
    assert (str(target.url), target.region) == (said.url, said.region)
    assert (None if target.proxy is None else target.proxy.url) == said.proxy
    assert target.limits.max_attempts == client.meta.config.retries["total_max_attempts"]
    if "connect_timeout" in options or (options.get("defaults_mode", "legacy") != "legacy"):
        assert target.limits.connect_timeout == client.meta.config.connect_timeout
    else:
        assert target.limits.connect_timeout is None
    assert target.user_agent.endswith("app/shop") == ("user_agent_appid" in options)


def test_a_defaults_mode_says_how_long_connecting_may_take() -> None:
    config = Config(defaults_mode="standard")
    client = botocore.session.Session().create_client(
        "sagemaker-runtime", config=config, region_name="eu-west-1", **KEYS
    )
    target = resolve(Identity(region_name="eu-west-1", config=config, **KEYS))
    assert target.limits.connect_timeout == client.meta.config.connect_timeout == 3.1


def test_the_config_is_read_with_later_changes_and_left_as_it_was() -> None:
    retries = {"max_attempts": 2}
    config = Config(retries=retries)
    config.read_timeout = 5
    limits = resolve(Identity(region_name="eu-west-1", config=config, **KEYS)).limits
    assert (limits.max_attempts, limits.read_timeout) == (3, 5.0)
    assert config.retries == {"max_attempts": 2}


@pytest.mark.parametrize("way", ["environment", "argument", "config"])
def test_a_region_of_an_enumeration_is_its_value(way: str) -> None:
    class Region(str, enum.Enum):
        WEST = "us-west-2"

    options: dict[str, Any] = {
        "environment": {"region_name": Region.WEST},
        "argument": {"region_name": Region.WEST, "config": Config(connect_timeout=3)},
        "config": {"config": Config(region_name=Region.WEST)},
    }[way]
    target = resolve(Identity(**options, **KEYS))
    assert (f"{target.region}", target.url.host) == ("us-west-2", "runtime.sagemaker.us-west-2.amazonaws.com")


def test_all_that_a_config_says_to_the_transport_arrives() -> None:
    config = Config(
        connect_timeout=3, read_timeout=4, max_pool_connections=5, client_cert=("c", "k"), user_agent="mine"
    )
    target = resolve(Identity(region_name="eu-west-1", config=config, **KEYS))
    assert (target.limits.connect_timeout, target.limits.read_timeout, target.limits.max_pool_connections) == (
        3.0,
        4.0,
        5,
    )
    assert target.client_cert == ("c", "k")
    assert target.user_agent == "mine"


def test_a_config_beside_a_sessions_default_one_is_merged_over_it() -> None:
    session = botocore.session.Session()
    session.set_default_client_config(Config(read_timeout=3, region_name="eu-west-1"))
    target = resolve(Identity(session=session, config=Config(read_timeout=4), **KEYS))
    assert (target.limits.read_timeout, target.region) == (4.0, "eu-west-1")


def test_a_config_that_cannot_be_honoured_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="adaptive"):
        resolve(Identity(region_name="eu-west-1", config=Config(retries={"mode": "adaptive"}), **KEYS))


def test_a_boto3_session_gives_its_region_profile_and_keys(tmp_path: Path) -> None:
    write_aws_file(tmp_path, "config", "[profile p]\nendpoint_url = https://file.example\n")
    session = boto3.Session(profile_name="p", region_name="eu-west-3", **KEYS)
    target = resolve(Identity(session=session))
    assert (str(target.url), target.region) == ("https://file.example", "eu-west-3")
    assert target.credentials.load() == Credentials("AKIDARG", "secret")
    assert "Botocore/" in target.user_agent


def test_explicit_keys_win_over_a_sessions() -> None:
    session = botocore.session.Session()
    session.set_credentials("AKIDSESSION", "secret")
    identity = Identity(session=session, region_name="eu-west-1", **explicit_keys("AKIDARG", "secret", "token"))
    assert resolve(identity).credentials.load() == Credentials("AKIDARG", "secret", "token")


def test_an_aiobotocore_session_is_refused_with_the_way_out() -> None:
    aiobotocore = pytest.importorskip("aiobotocore.session")
    with pytest.raises(ConfigurationError, match="client="):
        resolve(Identity(session=aiobotocore.AioSession(), region_name="eu-west-1"))


def test_no_region_is_an_error_with_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="AWS_DEFAULT_REGION"):
        resolve(Identity(**KEYS))
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    with pytest.raises(ConfigurationError, match="AWS_REGION is set, but botocore does not read it"):
        resolve(Identity(**KEYS))


@pytest.mark.parametrize("region", ["x@evil.example:443/#", "evil.example/", "-", "1234", "eu_west_1", "é"])
def test_a_region_that_is_not_a_host_label_is_refused_from_every_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, region: str
) -> None:
    with pytest.raises(ConfigurationError):
        resolve(Identity(config=Config(region_name=region), **KEYS))
    write_aws_file(tmp_path, "config", f"[default]\nregion = {region}\n")
    with pytest.raises(ConfigurationError):
        resolve(Identity(**KEYS))
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    with pytest.raises(ConfigurationError):
        resolve(Identity(**KEYS))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://h.example", "plain http"),
        ("https://user:hunter2@h.example", "user name"),
        ("https://169.254.169.254", "metadata"),
        ("https://h.example?x=hunter2", "query"),
        ("https://h.example/a/../b", "dot segment"),
        ("https://user:hunter2@h_h.example", "refuses"),
        ("hunter2", "refuses"),
    ],
)
def test_an_unsafe_endpoint_of_the_config_file_is_refused_and_not_repeated(tmp_path: Path, url: str, why: str) -> None:
    write_aws_file(tmp_path, "config", f"[default]\nendpoint_url = {url}\n")
    with pytest.raises(ConfigurationError, match=why) as caught:
        resolve(Identity(region_name="eu-west-1", **KEYS))
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_unsafe_endpoints_may_be_allowed_explicitly(tmp_path: Path) -> None:
    write_aws_file(tmp_path, "config", "[default]\nendpoint_url = http://169.254.7.7:81/base/\n")
    target = resolve(Identity(region_name="eu-west-1", allow_plain_http=True, allow_link_local=True, **KEYS))
    assert str(target.url) == "http://169.254.7.7:81/base"
    assert (target.url.host, target.url.port, target.url.host_header, target.url.base_path) == (
        "169.254.7.7",
        81,
        "169.254.7.7:81",
        "/base",
    )


@given(st.text(max_size=60))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_region_or_endpoint_leads_to_another_host(text: str) -> None:
    url = f"https://{text}.example"
    for arguments in ({"region_name": text}, {"region_name": "eu-west-1", "endpoint_url": url}):
        try:
            target = resolve(Identity(**arguments, **KEYS))
        except ConfigurationError:
            continue
        if "endpoint_url" in arguments:
            assert target.url.host == urllib.parse.urlsplit(url).hostname
            assert "@" not in url
        else:
            assert target.url.host == f"runtime.sagemaker.{text.lower()}.amazonaws.com"


def test_a_missing_profile_is_named() -> None:
    with pytest.raises(ConfigurationError, match="nobody") as caught:
        resolve(Identity(credentials_profile_name="nobody", region_name="eu-west-1"))
    assert isinstance(caught.value.__cause__, botocore.exceptions.ProfileNotFound)


def test_a_malformed_credentials_file_is_an_error_that_holds_none_of_it(tmp_path: Path) -> None:
    write_aws_file(tmp_path, "credentials", "[default]\naws_secret_access_key hunter2\n")
    with pytest.raises(ConfigurationError, match="is malformed") as caught:
        resolve(Identity(region_name="eu-west-1"))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_any_other_error_of_botocore_becomes_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "false")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr("botocore.session.Session.create_client", fail)
    with pytest.raises(ConfigurationError, match="RuntimeError") as caught:
        resolve(Identity(region_name="eu-west-1"))
    assert "hunter2" not in str(caught.value)


def test_another_signature_in_the_config_file_is_refused(tmp_path: Path) -> None:
    write_aws_file(tmp_path, "config", "[default]\nruntime.sagemaker =\n  signature_version = v2\n")
    with pytest.raises(ConfigurationError, match=r"signature_version|botocore refuses"):
        resolve(Identity(region_name="eu-west-1", **KEYS))


def test_an_unsigned_client_is_refused() -> None:
    session = botocore.session.Session()
    session.register("choose-signer.sagemaker-runtime", lambda **_: botocore.UNSIGNED)
    with pytest.raises(ConfigurationError, match="hooks"):
        resolve(Identity(session=session, region_name="eu-west-1", **KEYS))


def test_resolving_opens_no_connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_aws_file(
        tmp_path, "config", "[default]\nrole_arn = arn:aws:iam::123456789012:role/r\ncredential_source = EcsContainer\n"
    )
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/")
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("connected")

    monkeypatch.setattr("socket.socket.connect", fail)
    monkeypatch.setattr("socket.getaddrinfo", fail)
    assert resolve(Identity(region_name="eu-west-1")).credentials.current() is None


def test_a_session_that_endpoints_share_is_used_by_one_at_a_time() -> None:
    session = botocore.session.Session()
    session.set_credentials("AKIDSESSION", "secret")
    inside: list[int] = []
    most: list[int] = []
    create = session.create_client

    def watched(*arguments: Any, **options: Any) -> Any:
        inside.append(1)
        most.append(len(inside))
        try:
            return create(*arguments, **options)
        finally:
            inside.pop()

    session.create_client = watched
    regions = ["eu-west-1", "us-gov-west-1", "cn-north-1", "us-west-2"]
    found: dict[str, str] = {}

    def run(region: str) -> None:
        found[region] = resolve(Identity(session=session, region_name=region)).region

    threads = [threading.Thread(target=run, args=(region,)) for region in regions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {region: region for region in regions}
    assert max(most) == 1


def test_a_forked_child_has_a_lock_of_its_own() -> None:
    before = chain._lock
    chain._renew_lock()
    assert chain._lock is not before
