"""smendpoint._aws.machine: certificates, proxies and the user agent, as botocore has them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import botocore
import pytest
from aws_standins import clear_environment
from botocore.httpsession import get_cert_path

from smendpoint._aws.machine import ca_bundle, proxy_for, user_agent
from smendpoint._aws.url import parse_endpoint_url
from smendpoint._core.http.proxy import Proxy
from smendpoint.errors import ConfigurationError

PLACE = parse_endpoint_url("https://runtime.sagemaker.eu-west-1.amazonaws.com")
BOTOCORES = str(Path(botocore.__file__).parent / "cacert.pem")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear_environment(monkeypatch, tmp_path)


def test_without_a_setting_the_certificates_are_those_that_botocore_trusts() -> None:
    assert ca_bundle(None) == get_cert_path(True)


def test_they_are_the_same_whether_certifi_has_been_imported_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("certifi")
    monkeypatch.delitem(sys.modules, "certifi")
    assert ca_bundle(None) == get_cert_path(True)
    assert "certifi" not in sys.modules


def test_without_certifi_they_are_botocores_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "certifi", raising=False)
    monkeypatch.setattr(sys, "path", [str(Path(botocore.__file__).parents[1])])
    monkeypatch.setattr("os.path.isfile", lambda path: "certifi" not in str(path) and Path(path).is_file())
    assert ca_bundle(None) == BOTOCORES


def test_a_certifi_that_keeps_its_bundle_elsewhere_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "certifi"
    package.mkdir()
    (package / "__init__.py").write_text("def where():\n    return '/etc/elsewhere.pem'\n")
    monkeypatch.delitem(sys.modules, "certifi", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert ca_bundle(None) == "/etc/elsewhere.pem"
    monkeypatch.delitem(sys.modules, "certifi")


def test_an_imported_certifi_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    patched = ModuleType("certifi")
    patched.where = lambda: "/etc/patched.pem"
    monkeypatch.setitem(sys.modules, "certifi", patched)
    assert ca_bundle(None) == "/etc/patched.pem"


def test_where_no_package_has_a_bundle_the_systems_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "certifi", raising=False)
    monkeypatch.setattr(sys, "path", [])
    assert ca_bundle(None) is None


def test_a_configured_bundle_wins_over_the_one_of_requests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.pem", tmp_path / "theirs.pem"
    ours.write_text("")
    theirs.write_text("")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(theirs))
    assert ca_bundle(str(ours)) == str(ours)
    assert ca_bundle(None) == str(theirs)


@pytest.mark.parametrize("configured", ["", " ", "/nowhere/ca.pem", "/", False])
def test_a_bundle_that_is_not_a_file_is_refused_so_that_nothing_switches_verification_off(configured: object) -> None:
    with pytest.raises(ConfigurationError, match="AWS_CA_BUNDLE"):
        ca_bundle(configured)


def test_an_empty_bundle_of_requests_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "")
    with pytest.raises(ConfigurationError, match="REQUESTS_CA_BUNDLE"):
        ca_bundle(None)


def shown(proxy: Proxy | None) -> str | None:
    return None if proxy is None else proxy.url


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"https_proxy": "http://proxy.example:1"}, "http://proxy.example:1"),
        ({"HTTPS_PROXY": "proxy.example:1"}, "http://proxy.example:1"),
        ({"HTTPS_PROXY": "http://squid_proxy:3128"}, "http://squid_proxy:3128"),
        ({"http_proxy": "http://proxy.example:1"}, None),
        ({"all_proxy": "http://proxy.example:1"}, None),
        ({"https_proxy": ""}, None),
        ({"https_proxy": "http://proxy.example:1", "NO_PROXY": ".amazonaws.com"}, None),
        (
            {"https_proxy": "http://proxy.example:1", "no_proxy": "eu-west-1.amazonaws.com:443"},
            "http://proxy.example:1",
        ),
        ({"https_proxy": "http://proxy.example:1", "no_proxy": "*"}, None),
    ],
)
def test_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert shown(proxy_for(PLACE, None)) == expected


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy", "http_proxy", "ALL_PROXY"])
def test_urllib_is_not_loaded_for_variables_that_name_no_proxy_for_the_scheme(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv(name, "http://proxy.example:1")
    monkeypatch.setitem(sys.modules, "urllib.request", None)  # importing it would raise
    assert proxy_for(PLACE, None) is None


def test_the_systems_own_settings_are_asked_for_where_there_are_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://registry.example:1"})
    monkeypatch.setattr("urllib.request.proxy_bypass", lambda host: host != PLACE.host_header)
    assert shown(proxy_for(PLACE, None)) == "http://registry.example:1"


def test_the_proxies_of_a_config_rule_out_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://environment.example:1")
    monkeypatch.setenv("no_proxy", "*")
    assert shown(proxy_for(PLACE, {"https": "config.example:2"})) == "http://config.example:2"
    assert proxy_for(PLACE, {"http": "config.example:2"}) is None
    assert proxy_for(PLACE, {}) is None


def test_a_proxy_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks5h://proxy.example:1")
    with pytest.raises(ConfigurationError, match=r"^https_proxy names a proxy.*socks5h.*pass client="):
        proxy_for(PLACE, None)
    with pytest.raises(ConfigurationError, match="config: proxies"):
        proxy_for(PLACE, {"https": "socks4://proxy.example:1"})


def test_the_user_agent_says_what_is_running() -> None:
    words = user_agent(None).split(" ")
    assert [word.partition("/")[0] for word in words] == ["smendpoint", "python", "os"]


def test_the_user_agent_carries_what_others_add(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EXECUTION_ENV", "AWS_ECS_FARGATE")
    text = user_agent("shop", "Boto3/1.2", extra="last/1")
    assert text.endswith(" exec-env/AWS_ECS_FARGATE app/shop Boto3/1.2 last/1")


def test_a_given_user_agent_replaces_ours_but_not_the_extra() -> None:
    assert user_agent("shop", "Boto3/1.2", whole="mine/1", extra="last/1") == "mine/1 last/1"


@pytest.mark.parametrize("where", ["execution", "app", "session"])
def test_a_word_that_cannot_stand_in_a_header_is_refused(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    bad = "x\r\nX-Injected: y"
    if where == "execution":
        monkeypatch.setenv("AWS_EXECUTION_ENV", "ö")
    with pytest.raises(ConfigurationError, match="User-Agent"):
        user_agent(bad if where == "app" else None, bad if where == "session" else None)
