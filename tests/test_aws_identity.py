"""smendpoint._aws.identity: the arguments, checked but not looked up."""

from __future__ import annotations

import copy
import os
import pickle
from typing import Any

import boto3
import botocore.session
import pytest
from aws_standins import explicit_keys
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._aws import Identity
from smendpoint.errors import ConfigurationError

KEYS = explicit_keys("AKIDEXAMPLE", "hunter2", "hunter3")
*_, TOKEN = KEYS


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"region_name": "eu-west-1"},
        {"credentials_profile_name": "work"},
        KEYS,
        {"role_arn": "arn:aws:iam::123456789012:role/r", "role_session_name": "s", "external_id": "e"},
        {"session": botocore.session.Session()},
        {"session": boto3.Session(region_name="eu-west-1")},
        {"endpoint_url": "http://127.0.0.1:8080"},
        {"endpoint_url": "http://host.example", "allow_plain_http": True},
        {"endpoint_url": "https://169.254.1.1", "allow_link_local": True},
        {"config": Config(read_timeout=3)},
    ],
)
def test_good_arguments_are_kept(arguments: dict[str, Any]) -> None:
    identity = Identity(**arguments)
    assert {name: getattr(identity, name) for name in arguments} == arguments


def test_an_argument_that_does_not_exist_is_refused_as_python_does() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'region'"):
        Identity(region="us-east-1")  # type: ignore[call-arg]  # that is the test


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"region_name": ""}, "region_name must be a non-empty string"),
        ({"region_name": 7}, "region_name must be a non-empty string"),
        ({"region_name": "x@evil.example:443/#"}, "region"),
        ({"region_name": "us-east-1\n"}, "region"),
        ({"region_name": "us-east-\u0661"}, "region"),
        ({"credentials_profile_name": ""}, "credentials_profile_name"),
        ({"aws_access_key_id": "a"}, "both or neither"),
        ({"aws_secret_access_key": "hunter2"}, "both or neither"),
        ({TOKEN: "hunter3"}, "needs aws_access_key_id"),
        ({"role_session_name": "s"}, "need role_arn"),
        ({"external_id": "e"}, "need role_arn"),
        ({"role_arn": "admin"}, "ARN"),
        ({"session": object()}, "botocore or boto3 session"),
        ({"session": botocore.session.Session(), "credentials_profile_name": "work"}, "make the session with"),
        ({"config": {"read_timeout": 3}}, "config must be"),
        ({"endpoint_url": "http://host.example"}, "plain http"),
        ({"endpoint_url": "https://169.254.169.254"}, "metadata"),
        ({"endpoint_url": "https://u:hunter2@h"}, "user name"),
    ],
)
def test_bad_arguments_are_refused_at_once_and_secrets_are_not_repeated(arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as caught:
        Identity(**arguments)
    assert "hunter" not in str(caught.value)


@given(st.text(max_size=70))
def test_a_region_is_a_host_label_or_refused(region: str) -> None:
    try:
        identity = Identity(region_name=region)
    except ConfigurationError:
        return
    assert identity.region_name is not None
    assert identity.region_name.isascii()
    assert identity.region_name.replace("-", "").isalnum()


def test_making_one_reads_neither_files_nor_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("read something")

    monkeypatch.setattr("builtins.open", fail)
    monkeypatch.setattr(os, "stat", fail)
    monkeypatch.setattr(os.environ, "get", fail)
    Identity(region_name="eu-west-1", credentials_profile_name="nowhere", endpoint_url="https://h.example", **KEYS)


def test_it_cannot_be_changed() -> None:
    identity = Identity()
    with pytest.raises(AttributeError, match="make a new one"):
        identity.region_name = "eu-west-1"
    with pytest.raises(AttributeError, match="make a new one"):
        del identity.region_name


def test_a_copy_is_the_same_and_keeps_its_keys() -> None:
    identity = Identity(**KEYS)
    assert copy.copy(identity) is identity
    assert copy.deepcopy(identity) is identity


def test_repr_shows_no_secret() -> None:
    identity = Identity(
        region_name="eu-west-1",
        role_arn="arn:aws:iam::123456789012:role/r",
        external_id="hunter4",
        config=Config(proxies={"https": "http://user:hunter5@proxy.example"}),
        endpoint_url="http://host.example",
        allow_plain_http=True,
        **KEYS,
    )
    text = repr(identity)
    assert "hunter" not in text
    for shown in ("eu-west-1", "AKIDEXAMPLE", "role/r", "config=<given>", "allow_plain_http=True", "<hidden>"):
        assert shown in text


def test_repr_shows_what_was_given_and_nothing_else() -> None:
    assert repr(Identity()) == "Identity()"
    assert repr(Identity(region_name="eu-west-1")) == "Identity(region_name='eu-west-1')"


def test_configuration_travels_and_secrets_stay_behind() -> None:
    identity = Identity(
        region_name="eu-west-1",
        role_arn="arn:aws:iam::123456789012:role/r",
        external_id="e",
        config=Config(read_timeout=3),
        session=botocore.session.Session(),
        **KEYS,
    )
    data = pickle.dumps(identity)
    assert b"hunter" not in data
    assert b"AKIDEXAMPLE" not in data
    travelled = pickle.loads(data)
    assert travelled.region_name == "eu-west-1"
    assert travelled.role_arn == identity.role_arn
    assert travelled.external_id == "e"
    assert travelled.config.read_timeout == 3
    assert travelled.session is None
    assert travelled.aws_access_key_id is None
    assert travelled.left_behind == ("session", *KEYS)
    assert pickle.loads(pickle.dumps(travelled)).left_behind == travelled.left_behind


@pytest.mark.parametrize("proxy", ["http://user:hunter2@proxy.example:1", "user:hunter2@proxy.example:1"])
def test_the_password_of_a_proxy_stays_behind(proxy: str) -> None:
    config = Config(proxies={"https": proxy, "http": "other.example"}, read_timeout=3)
    data = pickle.dumps(Identity(config=config))
    assert b"hunter2" not in data
    travelled = pickle.loads(data)
    assert travelled.config.proxies["https"].removeprefix("http://") == "proxy.example:1"
    assert travelled.config.proxies["http"] == "other.example"
    assert travelled.config.read_timeout == 3
    assert config.proxies["https"] == proxy
    assert travelled.left_behind == ("the password in config.proxies",)


def test_nothing_left_behind_is_nothing_said() -> None:
    identity = pickle.loads(pickle.dumps(Identity(config=Config(proxies={"https": "proxy.example"}))))
    assert identity.left_behind == ()
