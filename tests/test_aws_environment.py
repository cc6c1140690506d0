"""smendpoint._aws.environment: the short way gives what botocore gives, or is not taken."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import botocore
import botocore.exceptions
import pytest
from aws_standins import LOADER, SERVICES, botocore_says, clear_environment, explicit_keys, known_regions
from botocore.endpoint_provider import EndpointProvider
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from smendpoint._aws import Identity, environment, resolve
from smendpoint._aws.environment import endpoint_host, resolve_from_environment
from smendpoint._core.aws.operations import RUNTIME, Service
from smendpoint._core.aws.routing import GATEWAY, ROUTER
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint._core.http.proxy import Proxy
from smendpoint.errors import ConfigurationError, CredentialsError

EXAMPLES = int(os.environ.get("SMENDPOINT_EXAMPLES", "100"))
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear_environment(monkeypatch, tmp_path)


def zero() -> float:
    return 0.0


def set_keys_and_region(monkeypatch: pytest.MonkeyPatch, **more: str) -> None:
    for name, value in {**KEYS, "AWS_DEFAULT_REGION": "eu-west-1", **more}.items():
        monkeypatch.setenv(name, value)


def host_or_nothing(region: str, service: Service) -> str | None:
    """Return our host of a region, once it has been compared with botocore's."""
    host = endpoint_host(region, service)
    if host is not None:
        rules = LOADER.load_service_model(service.name, "endpoint-rule-set-1")
        provider = EndpointProvider(rules, LOADER.load_data("partitions"))
        assert provider.resolve_endpoint(Region=region, UseDualStack=False, UseFIPS=False).url == f"https://{host}"
    return host


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_the_host_of_every_known_region_is_botocores_or_left_to_botocore(service: Service) -> None:
    regions = [*known_regions(), "us-future-1", "cn-future-12", "us-gov-future-3", "ap-southeast-99"]
    assert len([region for region in regions if host_or_nothing(region, service)]) > 30
    others = "us-iso-east-1 us-isob-east-1 eusc-de-east-1 aws-global fips-us-east-1 us-east-1-fips"
    assert not [region for region in others.split() if endpoint_host(region, service)]


@given(
    st.from_regex(r"(us|eu|cn|us-gov|us-iso|eusc-de|xx|aws|fips-us)(-[a-z0-9_]{1,6}){0,3}", fullmatch=True)
    | st.from_regex(r"(us|eu|cn|us-gov)-[a-z0-9]{1,6}-[0-9]", fullmatch=True),
    st.sampled_from(SERVICES),
)
def test_the_host_of_any_region_is_botocores_or_left_to_botocore(region: str, service: Service) -> None:
    host_or_nothing(region, service)


# Differences from a plain environment with credentials and a region. None means that the variable is not set.
OVERRIDES: list[tuple[str, str | None]] = [
    ("AWS_ACCESS_KEY_ID", ""),
    ("AWS_ACCESS_KEY_ID", None),
    ("AWS_SECRET_ACCESS_KEY", ""),
    ("AWS_SECRET_ACCESS_KEY", None),
    ("AWS_SESSION_TOKEN", "token"),
    ("AWS_SESSION_TOKEN", ""),
    ("AWS_SECURITY_TOKEN", "older"),
    ("AWS_SECURITY_TOKEN", ""),
    ("AWS_DEFAULT_REGION", "eu-central-1"),
    ("AWS_DEFAULT_REGION", "cn-north-1"),
    ("AWS_DEFAULT_REGION", "us-gov-west-1"),
    ("AWS_DEFAULT_REGION", "us-iso-east-1"),
    ("AWS_DEFAULT_REGION", "fips-us-east-1"),
    ("AWS_DEFAULT_REGION", ""),
    ("AWS_DEFAULT_REGION", None),
    ("AWS_REGION", "us-west-2"),
    ("AWS_REGION", "eu-west-3"),
    ("AWS_PROFILE", "default"),
    ("AWS_PROFILE", "other"),
    ("AWS_PROFILE", ""),
    ("AWS_DEFAULT_PROFILE", "other"),
    ("AWS_ENDPOINT_URL", "https://global.example"),
    ("AWS_ENDPOINT_URL", "http://127.0.0.1:1/base"),
    ("AWS_ENDPOINT_URL", ""),
    ("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", "https://service.example:8443/"),
    ("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", ""),
    ("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME_HTTP2", "https://http2.example:8443"),
    ("AWS_ENDPOINT_URL_SAGEMAKER_INFERENCE_ROUTER_RUNTIME", "https://router.example"),
    ("AWS_ENDPOINT_URL_SAGEMAKER_GATEWAY_RUNTIME", "https://gateway.example/base/"),
    ("AWS_ENDPOINT_URL_STS", "https://sts.example"),
    ("AWS_ENDPOINT_URL_S3", "https://s3.example"),
    ("AWS_ENDPOINT_URL_SAGEMAKER", "https://control.example"),
    ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"),
    ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "false"),
    ("AWS_USE_FIPS_ENDPOINT", "true"),
    ("AWS_USE_FIPS_ENDPOINT", "false"),
    ("AWS_USE_DUALSTACK_ENDPOINT", "TRUE"),
    ("AWS_USE_DUALSTACK_ENDPOINT", "no"),
    ("AWS_CA_BUNDLE", "BUNDLE"),
    ("REQUESTS_CA_BUNDLE", "OTHER_BUNDLE"),
    ("AWS_DEFAULTS_MODE", "standard"),
    ("AWS_DEFAULTS_MODE", "nonsense"),
    ("AWS_MAX_ATTEMPTS", "4"),
    ("AWS_MAX_ATTEMPTS", "0"),
    ("AWS_MAX_ATTEMPTS", "many"),
    ("AWS_SDK_UA_APP_ID", "app"),
    ("AWS_EXECUTION_ENV", "AWS_Lambda_python3.11"),
    ("AWS_LAMBDA_FUNCTION_NAME", "f"),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://refused.example/"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere"),
    ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/r"),
    ("AWS_STS_REGIONAL_ENDPOINTS", "legacy"),
    ("AWS_CREDENTIAL_EXPIRATION", "2099-01-01T00:00:00Z"),
    ("https_proxy", "http://proxy.example:3128"),
    ("https_proxy", "proxy.example"),
    ("HTTP_PROXY", "http://user:pass@plain.example:3128"),
    ("no_proxy", "127.0.0.1,.amazonaws.com"),
    ("no_proxy", "*"),
]
CONFIG_FILES = [
    *[None] * 7,
    "",
    "[default]\nregion = eu-west-1\n",
    "[default]\nendpoint_url = https://file.example\nuse_fips_endpoint = true\n",
    "[default]\nservices = s\n[services s]\nsagemaker_runtime =\n  endpoint_url = https://section.example\n"
    "[profile other]\nregion = us-gov-west-1\nuse_dualstack_endpoint = true\n",
    "[default]\nca_bundle = {bundle}\nmax_attempts = 7\n[profile other]\nregion = ap-south-1\n",
    "[default]\nservices = missing\n",
    "[default]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = other\n"
    "[profile other]\nregion = ca-west-1\n",
    "not a config file",
]
CREDENTIALS_FILES = [
    *[None] * 5,
    "[default]\naws_access_key_id = AKIDFILE\naws_secret_access_key = secret\n",
    "[other]\naws_access_key_id = AKIDOTHER\naws_secret_access_key = secret\naws_session_token = token\n",
    "[default]\nregion = sa-east-1\n",
]
ARGUMENTS: list[dict[str, Any]] = [
    {},
    {},
    {"region_name": "us-east-2"},
    {"endpoint_url": "http://localhost:8080"},
    {"aws_access_key_id": "AKIDARG", "aws_secret_access_key": "secret", "region_name": "eu-north-1"},
    explicit_keys("AKIDARG", "secret", "token"),
    {"credentials_profile_name": "other"},
]


def proxy_url(proxy: Proxy | None) -> str | None:
    """Write a proxy as a setting does, credentials included."""
    if proxy is None or proxy.username is None:
        return None if proxy is None else proxy.url
    return proxy.url.replace("://", f"://{proxy.username}:{proxy.password}@")


@example([], None, None, {}, RUNTIME)
@example([("https_proxy", "http://proxy.example:3128")], None, None, {}, RUNTIME)
@example(
    [("HTTP_PROXY", "http://user:pass@plain.example:3128")],
    None,
    None,
    {"endpoint_url": "http://localhost:8080"},
    RUNTIME,
)
@example([("AWS_ENDPOINT_URL", "http://127.0.0.1:1/base"), ("no_proxy", "*")], None, None, {}, RUNTIME)
@example([("AWS_DEFAULT_REGION", "fips-us-east-1")], None, None, {"endpoint_url": "http://localhost:8080"}, RUNTIME)
@example([("AWS_SECURITY_TOKEN", "older"), ("AWS_SESSION_TOKEN", "token")], None, None, {}, RUNTIME)
@example([], CONFIG_FILES[10], CREDENTIALS_FILES[6], {"credentials_profile_name": "other"}, RUNTIME)
# Each example asks botocore at least twice, so there are fewer of them, and none is shrunk, which would take minutes.
@settings(
    max_examples=EXAMPLES * 2 // 5,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(st.sampled_from(OVERRIDES), max_size=5, unique_by=lambda pair: pair[0]),
    st.sampled_from(CONFIG_FILES),
    st.sampled_from(CREDENTIALS_FILES),
    st.sampled_from(ARGUMENTS),
    st.sampled_from(SERVICES),
)
def test_both_ways_give_what_botocores_own_client_does(
    tmp_path: Path,
    overrides: list[tuple[str, str | None]],
    config_file: str | None,
    credentials_file: str | None,
    arguments: dict[str, Any],
    service: Service,
) -> None:
    bundles = {name: str(tmp_path / name) for name in ("BUNDLE", "OTHER_BUNDLE")}
    for path in bundles.values():
        Path(path).write_text("")
    variables: dict[str, str | None] = {**KEYS, "AWS_DEFAULT_REGION": "us-west-2", **dict(overrides)}
    values = {name: bundles.get(value, value) for name, value in variables.items() if value is not None}
    for name, text in (("config", config_file), ("credentials", credentials_file)):
        path = tmp_path / ".aws" / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text.replace("{bundle}", bundles["BUNDLE"]))
    with mock.patch.dict(os.environ, values):
        identity = Identity(service, **arguments)
        said: Any
        try:
            plain = {name: value for name, value in arguments.items() if name != "credentials_profile_name"}
            said = botocore_says(profile=arguments.get("credentials_profile_name"), service=service, **plain)
        except (botocore.exceptions.BotoCoreError, ValueError) as error:
            said = error
        short = resolve_from_environment(identity, now=zero)
        if isinstance(said, Exception) or not said.region:  # botocore signs for an empty region, which we refuse
            assert short is None
            with pytest.raises((ConfigurationError, CredentialsError)):
                resolve(identity).credentials.load()
            return
        for target in (short, resolve(identity)):
            if target is None:
                continue
            credentials = target.credentials.load()
            assert (str(target.url), target.region) == (said.url.removesuffix("/"), said.region)
            assert (credentials.access_key, credentials.token) == (said.access_key, said.token)
            assert target.ca_bundle == said.ca_bundle
            proxy = said.proxy
            assert proxy_url(target.proxy) == (f"{proxy}:80" if proxy == "http://proxy.example" else proxy)


@pytest.mark.parametrize("service", [RUNTIME, ROUTER, GATEWAY], ids=lambda service: service.name)
def test_each_service_has_a_host_and_a_variable_of_its_own(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys_and_region(monkeypatch, **{other.url_variable: f"https://{other.host}" for other in (ROUTER, GATEWAY)})
    monkeypatch.delenv(service.url_variable, raising=False)
    target = resolve_from_environment(Identity(service), now=zero)
    assert target is not None
    assert str(target.url) == f"https://{service.host}.eu-west-1.amazonaws.com"
    monkeypatch.setenv(service.url_variable, "https://own.example")
    target = resolve_from_environment(Identity(service), now=zero)
    assert target is not None
    assert str(target.url) == "https://own.example"


def test_a_service_that_botocore_does_not_know_is_refused_with_its_name_the_version_and_the_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = RUNTIME._replace(name="sagemaker-next-year-runtime")
    set_keys_and_region(monkeypatch)
    assert resolve(Identity(service)).region == "eu-west-1"  # nobody has to be asked
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    version = re.escape(botocore.__version__)
    said = f"^botocore {version} does not know the service 'sagemaker-next-year-runtime'.*: install"
    with pytest.raises(ConfigurationError, match=said):
        resolve(Identity(service))


def test_the_short_way_is_taken_in_a_lambda_function(monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys_and_region(
        monkeypatch,
        AWS_SESSION_TOKEN="token",
        AWS_REGION="eu-west-1",
        AWS_EXECUTION_ENV="AWS_Lambda_python3.12",
        AWS_LAMBDA_FUNCTION_NAME="f",
        AWS_LAMBDA_RUNTIME_API="127.0.0.1:9001",
        AWS_XRAY_DAEMON_ADDRESS="169.254.79.129:2000",
        AWS_MAX_ATTEMPTS="5",
        AWS_SDK_UA_APP_ID="shop",
    )
    target = resolve_from_environment(Identity(), now=zero)
    assert target is not None
    assert str(target.url) == "https://runtime.sagemaker.eu-west-1.amazonaws.com"
    assert target.credentials.current() == Credentials("AKIDENV", "secret", "token")
    assert target.limits.max_attempts == 5
    assert target.proxy is None
    assert target.user_agent.startswith("smendpoint/")
    assert target.user_agent.endswith(" exec-env/AWS_Lambda_python3.12 app/shop")
    assert repr(target) == "<Target https://runtime.sagemaker.eu-west-1.amazonaws.com in eu-west-1>"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_PROFILE", "default"),
        ("AWS_USE_FIPS_ENDPOINT", "false"),
        ("AWS_DATA_PATH", "/nowhere"),
        ("AWS_INVENTED_NEXT_YEAR", "1"),
        ("BOTOCORE_EXPERIMENTAL__PLUGINS", "a=b"),
        ("AWS_REGION", "eu-west-2"),
        ("AWS_MAX_ATTEMPTS", "0"),
        ("AWS_DEFAULT_REGION", "us-iso-east-1"),
        ("AWS_DEFAULT_REGION", ""),
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
    ],
)
def test_the_short_way_is_not_taken_when_anything_else_may_decide(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    set_keys_and_region(monkeypatch)
    assert resolve_from_environment(Identity(), now=zero) is not None
    monkeypatch.setenv(name, value)
    assert resolve_from_environment(Identity(), now=zero) is None


@pytest.mark.parametrize("name", ["config", "credentials", "models/x"])
def test_a_file_at_home_means_the_long_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    set_keys_and_region(monkeypatch)
    path = tmp_path / ".aws" / name
    path.parent.mkdir(parents=True)
    path.write_text("")
    assert resolve_from_environment(Identity(), now=zero) is None


def test_files_elsewhere_are_found_as_botocore_finds_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_keys_and_region(monkeypatch, PLACE="there", AWS_CONFIG_FILE="~/$PLACE/config")
    assert resolve_from_environment(Identity(), now=zero) is not None
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "config").write_text("[default]\nregion = eu-west-3\n")
    assert resolve_from_environment(Identity(), now=zero) is None


def test_credentials_of_the_environment_are_read_again_when_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys_and_region(monkeypatch)
    provider = resolve(Identity()).credentials
    first = provider.current()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNEWER")
    assert provider.current() == first
    assert provider.load(rejected=first).access_key == "AKIDNEWER"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(CredentialsError, match="no longer in the environment"):
        provider.load(rejected=provider.current())


def test_explicit_keys_stay_as_they_are_when_rejected() -> None:
    identity = Identity(aws_access_key_id="AKIDARG", aws_secret_access_key="s", region_name="eu-west-1")
    provider = resolve_from_environment(identity, now=zero)
    assert provider is not None
    first = provider.credentials.load()
    assert provider.credentials.load(rejected=first) == first


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"])
def test_an_unsafe_endpoint_of_the_environment_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    set_keys_and_region(monkeypatch, **{name: "http://u:hunter2@h.example"})
    with pytest.raises(ConfigurationError, match=f"^{name} ") as caught:
        resolve(Identity())
    assert "hunter2" not in str(caught.value)


def test_a_malformed_key_is_refused_without_being_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys_and_region(monkeypatch, AWS_SESSION_TOKEN="hunter2\n")
    with pytest.raises(CredentialsError) as caught:
        resolve(Identity())
    assert "hunter2" not in str(caught.value)


def test_botocore_is_not_imported_on_the_short_way(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from smendpoint._aws import Identity, resolve\n"
        "resolve(Identity()).credentials.load()\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & "
        "{'botocore', 'urllib', 'urllib3', 'ssl', 'socket', 'certifi', 'asyncio', 'dataclasses', 'json'}))\n"
    )
    values = {**KEYS, "AWS_DEFAULT_REGION": "eu-west-1", "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], env={**kept, **values}, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_the_list_of_variables_is_one_that_botocore_still_reads_as_assumed() -> None:
    from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES as variables

    assert variables["region"][1] == "AWS_DEFAULT_REGION"
    read = {
        name for _, names, *_ in variables.values() for name in ([names] if isinstance(names, str) else names or [])
    }
    harmless = {
        "AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_DEFAULT_REGION", "AWS_MAX_ATTEMPTS", "AWS_SDK_UA_APP_ID",
        "AWS_SHARED_CREDENTIALS_FILE",
    }  # fmt: skip
    assert {name for name in read if environment._is_known(name)} - {"BOTOCORE_TCP_KEEPALIVE"} == harmless


def test_the_data_of_botocore_that_the_short_way_relies_on_is_where_it_is_looked_for() -> None:
    data = Path(botocore.__file__).parent / "data"
    packed = data / "partitions.json.gz"
    text = gzip.decompress(packed.read_bytes()) if packed.exists() else (data / "partitions.json").read_bytes()
    suffixes = {p["id"]: p["outputs"]["dnsSuffix"] for p in json.loads(text)["partitions"]}
    assert (suffixes["aws"], suffixes["aws-us-gov"], suffixes["aws-cn"]) == (
        "amazonaws.com",
        "amazonaws.com",
        "amazonaws.com.cn",
    )
