"""smendpoint._aws.options: no option of a botocore Config is ignored in silence."""

from __future__ import annotations

from typing import Any, ClassVar

import botocore.session
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from smendpoint._aws.options import OPTIONS, Settings, read_config
from smendpoint._aws.target import Limits
from smendpoint.errors import ConfigurationError


def test_every_option_that_botocore_has_is_in_the_table() -> None:
    assert set(Config.OPTION_DEFAULTS) - set(OPTIONS) == set()


def test_the_options_without_effect_are_about_traits_that_this_service_does_not_have() -> None:
    model = botocore.session.Session().get_service_model("sagemaker-runtime")
    assert model.endpoint_discovery_operation is None
    assert model.client_context_parameters == []
    assert model.signature_version == "v4"
    for name in model.operation_names:
        operation = model.operation_model(name)
        assert not operation.http_checksum
        assert operation.endpoint is None  # no host prefix
        assert not getattr(operation, "request_compression", None)


def test_no_config_says_nothing() -> None:
    assert read_config(None) == Settings()
    assert read_config(Config()) == Settings()
    assert read_config(Config(defaults_mode="standard")) == Settings()


def test_options_of_the_constructor_are_read() -> None:
    config = Config(
        connect_timeout=3,
        read_timeout=60,  # botocore's own default, but set
        max_pool_connections=7,
        client_cert=("cert.pem", "key.pem"),
        proxies={"https": "proxy.example"},
        user_agent="mine/1",
        user_agent_extra="more",
    )
    assert read_config(config) == Settings(
        Limits(3.0, 60.0, 7), ("cert.pem", "key.pem"), {"https": "proxy.example"}, "mine/1", "more"
    )
    assert read_config(Config(client_cert="both.pem")).client_cert == "both.pem"


def test_an_option_that_is_set_later_by_attribute_is_read() -> None:
    config = Config()
    config.read_timeout = 5
    assert read_config(config).limits.read_timeout == 5.0


@pytest.mark.parametrize(
    "options",
    [
        {"account_id_endpoint_mode": "preferred"},
        {"auth_scheme_preference": "sigv4"},
        {"disable_request_compression": True},
        {"endpoint_discovery_enabled": True},
        {"inject_host_prefix": False},
        {"request_checksum_calculation": "when_required"},
        {"s3": {"addressing_style": "path"}},
        {"signature_version": "v4"},
        {"parameter_validation": True},
        {"proxies_config": {}},
        {"tcp_keepalive": True},
        {"retries": {"max_attempts": 3}},
        {"retries": {"total_max_attempts": 3, "mode": "standard"}},
        {"retries": {"mode": "legacy"}},
        {"region_name": "eu-west-1", "use_fips_endpoint": True, "use_dualstack_endpoint": True},
        {"user_agent": None},
    ],
)
def test_an_option_of_botocores_or_without_effect_is_accepted(options: dict[str, Any]) -> None:
    if not set(Config.OPTION_DEFAULTS).issuperset(options):
        pytest.skip("this botocore does not have the option yet")
    assert read_config(Config(**options)) == Settings()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"signature_version": UNSIGNED}, "signature_version.*pass client="),
        ({"signature_version": "v4a"}, "signature_version"),
        ({"parameter_validation": False}, "parameter_validation"),
        ({"proxies_config": {"proxy_client_cert": "x.pem"}}, "proxies_config.*pass client="),
        ({"tcp_keepalive": False}, "tcp_keepalive"),
        ({"retries": {"mode": "adaptive"}}, "'adaptive'.*RetryPolicy.*client="),
        ({"connect_timeout": None}, "connect_timeout"),
        ({"read_timeout": None}, "read_timeout"),
        ({"read_timeout": 0}, "read_timeout"),
        ({"read_timeout": float("inf")}, "read_timeout"),
        ({"read_timeout": True}, "read_timeout"),
        ({"connect_timeout": "5"}, "connect_timeout"),
        ({"max_pool_connections": 0}, "max_pool_connections"),
        ({"max_pool_connections": 2.5}, "max_pool_connections"),
        ({"max_pool_connections": True}, "max_pool_connections"),
        ({"client_cert": ["a", "b"]}, "client_cert"),
        ({"client_cert": ("a", "")}, "client_cert"),
        ({"client_cert": ""}, "client_cert"),
        ({"proxies": {"https://host.example": "p"}}, "'http' and 'https'"),
        ({"user_agent": "a\r\nX: y"}, "user_agent"),
        ({"user_agent_extra": "ö"}, "user_agent_extra"),
        ({"user_agent_extra": 7}, "user_agent_extra"),
    ],
)
def test_an_option_that_cannot_be_honoured_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        read_config(Config(**options))


def test_an_option_of_a_later_botocore_is_refused_if_it_is_set_and_no_matter_if_not() -> None:
    class Later(Config):
        OPTION_DEFAULTS: ClassVar[dict[str, Any]] = {**Config.OPTION_DEFAULTS, "teleport": None}

    assert read_config(Later()) == Settings()
    with pytest.raises(ConfigurationError, match="teleport is not known here; pass client="):
        read_config(Later(teleport=True))


def test_a_config_that_does_not_record_what_was_set_is_compared_with_the_defaults() -> None:
    class Plain:
        OPTION_DEFAULTS: ClassVar[dict[str, Any]] = {"read_timeout": 60, "connect_timeout": 60}
        read_timeout = 5
        connect_timeout = None

    assert read_config(Plain()) == Settings(Limits(read_timeout=5.0))


def test_a_config_that_botocore_has_made_a_client_of_still_fits() -> None:
    config = Config(retries={"max_attempts": 2})
    session = botocore.session.Session()
    session.create_client("sts", "eu-west-1", aws_access_key_id="a", aws_secret_access_key="b", config=config)
    assert read_config(config) == Settings()
