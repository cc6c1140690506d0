"""smendpoint._aws.chain, credentials: every place that botocore's chain knows, and roles that renew themselves."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from aws_standins import (
    HOUR,
    Answer,
    Request,
    clear_environment,
    container_answer,
    explicit_keys,
    serve,
    stamp,
    sts_answer,
    sts_error,
    write_aws_file,
)
from botocore.config import Config
from botocore.credentials import Credentials as BotocoreCredentials
from botocore.credentials import DeferredRefreshableCredentials, RefreshableCredentials

from smendpoint._aws import Identity, resolve
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint.errors import CredentialsError

ROLE = "arn:aws:iam::123456789012:role/r"
KEYS = {"aws_access_key_id": "AKIDBASE", "aws_secret_access_key": "base"}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear_environment(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")


def write_process(home: Path, program: str) -> None:
    """Write a config file whose credentials come from a process that runs the program."""
    (home / "give.py").write_text(program)
    write_aws_file(home, "config", f"[default]\ncredential_process = {sys.executable} -S {home / 'give.py'}\n")


class Clock:
    """The system's time, set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class STS:
    """Answers with numbered keys that live for an hour, or with a given answer."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.answer: Answer | None = None
        self.received: list[Request] = []

    def __call__(self, request: Request) -> Answer:
        if self.answer is not None:
            return self.answer
        return sts_answer(request.form["Action"], len(self.received), self.clock() + HOUR)


@pytest.fixture
def sts(monkeypatch: pytest.MonkeyPatch) -> Iterator[STS]:
    service = STS()
    with serve(service) as (url, service.received):
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        yield service


def role_key(number: int) -> Credentials:
    return Credentials(f"ASIAROLE{number}", f"secret{number}", f"token{number}")


# ---- the chain


def test_keys_of_the_credentials_file_never_expire_and_are_read_again_when_rejected(tmp_path: Path) -> None:
    write_aws_file(tmp_path, "credentials", "[default]\naws_access_key_id = AKIDOLD\naws_secret_access_key = s\n")
    clock = Clock()
    provider = resolve(Identity(), now=clock).credentials
    assert provider.current() is None
    first = provider.load()
    assert first == Credentials("AKIDOLD", "s")
    assert provider.load(rejected=first) == first
    write_aws_file(tmp_path, "credentials", "[default]\naws_access_key_id = AKIDNEW\naws_secret_access_key = s\n")
    assert provider.current() == first
    clock.ahead = 1.0
    assert provider.load(rejected=first) == Credentials("AKIDNEW", "s")


def test_a_profile_is_asked_even_with_keys_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "env")
    write_aws_file(tmp_path, "credentials", "[work]\naws_access_key_id = AKIDWORK\naws_secret_access_key = s\n")
    assert resolve(Identity(credentials_profile_name="work")).credentials.load().access_key == "AKIDWORK"


def test_a_process_gives_credentials_and_is_run_again_near_their_end(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    counter.write_text("0")
    write_process(
        tmp_path,
        "import json, pathlib\n"
        f"counter = pathlib.Path({str(counter)!r})\n"
        "number = int(counter.read_text()) + 1\n"
        "counter.write_text(str(number))\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': f'ASIAPROCESS{number}', 'SecretAccessKey': 's',\n"
        f"    'SessionToken': 't', 'Expiration': {stamp(time.time() + 2 * HOUR)!r}}}))\n",
    )
    clock = Clock()
    provider = resolve(Identity(), now=clock).credentials
    assert provider.load().access_key == "ASIAPROCESS1"
    assert provider.load().access_key == "ASIAPROCESS1"
    clock.ahead = 2 * HOUR - 30
    assert provider.current() is None
    # Only our clock has moved on: botocore's credentials are not near their end, so they stay, and count as expiring.
    assert provider.load().access_key == "ASIAPROCESS1"
    assert provider.load(rejected=provider.current()).access_key == "ASIAPROCESS2"


def test_a_failing_process_is_an_error_that_says_so(tmp_path: Path) -> None:
    write_process(tmp_path, "import sys\nsys.exit('go and log in')\n")
    with pytest.raises(CredentialsError, match="go and log in"):
        resolve(Identity()).credentials.load()


def test_a_malformed_output_of_a_process_is_not_repeated(tmp_path: Path) -> None:
    write_process(tmp_path, 'print(\'{"SecretAccessKey": "hunter2",\')\n')
    with pytest.raises(CredentialsError, match="JSONDecodeError") as caught:
        resolve(Identity()).credentials.load()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert "hunter2" not in str(caught.value)


def test_sso_gives_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def answer(request: Request) -> Answer:
        assert request.path == "/federation/credentials?role_name=r&account_id=123456789012"
        assert request.headers["x-amz-sso_bearer_token"] == "bearer"
        keys = {"accessKeyId": "ASIASSO", "secretAccessKey": "s", "sessionToken": "t"}
        expiration = int((time.time() + HOUR) * 1000)
        return 200, "application/json", json.dumps({"roleCredentials": {**keys, "expiration": expiration}})

    start = "https://start.example"
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr("botocore.credentials.SSOProvider._SSO_TOKEN_CACHE_DIR", str(cache))
    token = {"accessToken": "bearer", "expiresAt": stamp(time.time() + HOUR), "startUrl": start, "region": "eu-west-1"}
    (cache / f"{hashlib.sha1(start.encode()).hexdigest()}.json").write_text(json.dumps(token))
    write_aws_file(
        tmp_path,
        "config",
        f"[default]\nsso_start_url = {start}\nsso_region = eu-west-1\nsso_account_id = 123456789012\n"
        "sso_role_name = r\n",
    )
    with serve(answer) as (url, received):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", url)
        provider = resolve(Identity()).credentials
        assert provider.load() == Credentials("ASIASSO", "s", "t")
        assert provider.load() == Credentials("ASIASSO", "s", "t")
        assert provider.account == "123456789012"
    assert len(received) == 1


def test_a_missing_sso_login_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("botocore.credentials.SSOProvider._SSO_TOKEN_CACHE_DIR", str(tmp_path))
    write_aws_file(
        tmp_path,
        "config",
        "[default]\nsso_start_url = https://s.example\nsso_region = eu-west-1\nsso_account_id = 1\nsso_role_name = r\n",
    )
    with pytest.raises(CredentialsError, match="SSO"):
        resolve(Identity()).credentials.load()


def test_web_identity_gives_credentials_and_renews_them(
    sts: STS, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("jwt-token")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    provider = resolve(Identity(), now=sts.clock).credentials
    first = provider.load()
    assert first == role_key(1)
    assert sts.received[0].form["Action"] == "AssumeRoleWithWebIdentity"
    assert sts.received[0].form["WebIdentityToken"] == "jwt-token"
    assert provider.load(rejected=first) == role_key(2)
    assert provider.account == "123456789012"


def test_a_container_gives_credentials_and_renews_them(monkeypatch: pytest.MonkeyPatch) -> None:
    life = 10 * 60.0  # within botocore's own window, so that it asks again whenever it is asked

    def answer(request: Request) -> Answer:
        assert request.headers["authorization"] == "sesame"
        return container_answer(len(received), time.time() + life)

    clock = Clock()
    with serve(answer) as (url, received):
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/credentials")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "sesame")
        provider = resolve(Identity(), now=clock).credentials
        first = provider.load()
        calls = len(received)
        clock.ahead = life / 2
        assert provider.current() == first
        assert not provider.refresh_due()
        assert len(received) == calls
        clock.ahead = life * 0.8
        assert provider.refresh_due()
        assert provider.current() == first
        second = provider.load()
        assert second != first
        clock.ahead = life * 2
        with pytest.raises(CredentialsError, match="already expired"):
            provider.load()


def test_a_container_that_fails_is_asked_anew_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Answer] = [(500, "text/plain", "hunter2")]
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)

    def answer(request: Request) -> Answer:
        return answers[0]

    clock = Clock()
    with serve(answer) as (url, _):
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        provider = resolve(Identity(), now=clock).credentials
        with pytest.raises(CredentialsError, match="could not be loaded"):
            provider.load()
        answers[0] = container_answer(1, time.time() + HOUR)
        clock.ahead = 1.0
        assert provider.load().access_key == "ASIACONTAINER1"


def test_credentials_past_their_end_are_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("ACCESS_KEY_ID", "AKID"),
        ("SECRET_ACCESS_KEY", "s"),
        ("CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00Z"),
    ):
        monkeypatch.setenv(f"AWS_{name}", value)
    with pytest.raises(CredentialsError, match="the credentials that were found have already expired"):
        resolve(Identity()).credentials.load()


def test_a_setting_on_the_way_to_credentials_that_is_malformed_is_called_so_and_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "hunter2\n")
    with pytest.raises(CredentialsError, match=r"authorization token contains a line end.*TION_TOKEN") as caught:
        resolve(Identity()).credentials.load()
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "fine")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://[::1/")
    with pytest.raises(CredentialsError, match=r"could not be loaded: the answer .* is malformed \(ValueError\)"):
        resolve(Identity()).credentials.load()


def test_the_reason_why_a_containers_credential_address_is_refused_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://10.1.2.3/secret-path")
    with pytest.raises(CredentialsError, match="refuses AWS_CONTAINER_CREDENTIALS_FULL_URI") as caught:
        resolve(Identity()).credentials.load()
    assert "Unsupported host '10.1.2.3'" in str(caught.value)
    assert "secret-path" not in str(caught.value)


def test_a_login_that_was_never_made_is_asked_for(tmp_path: Path) -> None:
    write_aws_file(
        tmp_path,
        "config",
        "[default]\nsso_session = s\nsso_account_id = 123456789012\nsso_role_name = r\n"
        "[sso-session s]\nsso_region = us-east-1\nsso_start_url = https://x.awsapps.com/start\n",
    )
    with pytest.raises(CredentialsError, match=r"Token for s does not exist; run `aws sso login`"):
        resolve(Identity()).credentials.load()


def test_an_instance_gives_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: Request) -> Answer:
        if request.method == "PUT":
            return 200, "text/plain", "imds-token"
        assert request.headers["x-aws-ec2-metadata-token"] == "imds-token"
        if request.path.endswith("/security-credentials/"):
            return 200, "text/plain", "the-role"
        keys = {"AccessKeyId": "ASIAINSTANCE", "SecretAccessKey": "s", "Token": "t", "Code": "Success"}
        return 200, "application/json", json.dumps({**keys, "Expiration": stamp(time.time() + 6 * HOUR)})

    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    with serve(answer) as (url, _):
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"{url}/")
        assert resolve(Identity()).credentials.load() == Credentials("ASIAINSTANCE", "s", "t")


def test_a_role_of_the_config_file_is_assumed(sts: STS, tmp_path: Path) -> None:
    write_aws_file(
        tmp_path,
        "config",
        f"[default]\nrole_arn = {ROLE}\nsource_profile = base\n"
        "[profile base]\naws_access_key_id = AKIDFILE\naws_secret_access_key = s\n",
    )
    provider = resolve(Identity()).credentials
    assert provider.load() == role_key(1)
    assert sts.received[0].access_key == "AKIDFILE"
    assert provider.account == "123456789012"


def test_keys_of_a_file_name_no_account_of_their_own(tmp_path: Path) -> None:
    keys = "aws_access_key_id = AKIDFILE\naws_secret_access_key = s\naws_account_id = 123456789012\n"
    write_aws_file(tmp_path, "credentials", f"[default]\n{keys}")
    provider = resolve(Identity()).credentials
    assert provider.load().access_key == "AKIDFILE"
    assert provider.account is None


def test_credentials_that_expire_in_the_environment_are_read_again_from_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ASIAONE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", stamp(time.time() + HOUR))
    clock = Clock()
    provider = resolve(Identity(), now=clock).credentials
    first = provider.load()
    assert first.access_key == "ASIAONE"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ASIATWO")
    assert provider.load(rejected=first).access_key == "ASIATWO"


def test_no_credentials_at_all_is_an_error_with_a_cure() -> None:
    with pytest.raises(CredentialsError, match="aws configure"):
        resolve(Identity()).credentials.load()


# ---- a given session


def refreshable(calls: list[int], life: float = 2 * HOUR) -> RefreshableCredentials:
    def refresh() -> dict[str, Any]:
        calls.append(1)
        keys = {"access_key": f"ASIAUSER{len(calls)}", "secret_key": "s", "token": "t"}
        return {**keys, "expiry_time": stamp(time.time() + life)}

    made: RefreshableCredentials = RefreshableCredentials.create_from_metadata(refresh(), refresh, "custom")
    return made


def test_a_given_sessions_renewing_credentials_are_renewed_by_their_own_means() -> None:
    session = botocore.session.Session()
    calls: list[int] = []
    session._credentials = refreshable(calls)
    provider = resolve(Identity(session=session)).credentials
    first = provider.load()
    assert first.access_key == "ASIAUSER1"
    assert provider.load(rejected=first).access_key == "ASIAUSER2"
    assert len(calls) == 2


def test_a_given_sessions_deferred_credentials_are_fetched_once() -> None:
    session = botocore.session.Session()
    calls: list[int] = []

    def refresh() -> dict[str, Any]:
        calls.append(1)
        return {"access_key": "ASIALATER", "secret_key": "s", "token": "t", "expiry_time": stamp(time.time() + HOUR)}

    session._credentials = DeferredRefreshableCredentials(refresh, "custom")
    provider = resolve(Identity(session=session)).credentials
    assert calls == []
    assert provider.load().access_key == "ASIALATER"
    assert provider.load().access_key == "ASIALATER"
    assert calls == [1]


def test_credentials_of_a_kind_that_is_not_known_are_asked_for_every_minute() -> None:
    class Rotating(BotocoreCredentials):
        count = 0

        def get_frozen_credentials(self) -> Any:
            self.count += 1
            return BotocoreCredentials(f"AKID{self.count}", "s").get_frozen_credentials()

    session = botocore.session.Session()
    session._credentials = Rotating("x", "y")
    clock = Clock()
    provider = resolve(Identity(session=session), now=clock).credentials
    assert provider.load().access_key == "AKID1"
    clock.ahead = 30.0
    assert provider.load().access_key == "AKID1"
    clock.ahead = 60.0
    assert provider.current() is None
    assert provider.load().access_key == "AKID2"


def test_credentials_that_renew_in_a_way_of_their_own_are_taken_as_they_are() -> None:
    class Odd(RefreshableCredentials):
        _protected_refresh = None

        def __init__(self) -> None:
            self._expiry_time = None

        def get_frozen_credentials(self) -> Any:
            return BotocoreCredentials("AKIDODD", "s").get_frozen_credentials()

    session = botocore.session.Session()
    session._credentials = Odd()
    provider = resolve(Identity(session=session)).credentials
    first = provider.load()
    assert provider.load(rejected=first) == first


def test_a_given_session_without_credentials_is_an_error_until_it_has_some() -> None:
    session = botocore.session.Session()
    clock = Clock()
    provider = resolve(Identity(session=session), now=clock).credentials
    with pytest.raises(CredentialsError, match="no AWS credentials"):
        provider.load()
    session.set_credentials("AKIDLATER", "s")
    clock.ahead = 1.0
    assert provider.load() == Credentials("AKIDLATER", "s")


# ---- role_arn


def test_a_role_is_assumed_with_every_argument(sts: STS) -> None:
    identity = Identity(
        role_arn=ROLE, role_session_name="me", external_id="e-1", **explicit_keys("AKIDBASE", "base", "t")
    )
    provider = resolve(identity).credentials
    assert provider.current() is None
    assert sts.received == []
    assert provider.load() == role_key(1)
    (request,) = sts.received
    assert request.access_key == "AKIDBASE"
    assert request.headers["x-amz-security-token"] == "t"
    assert request.form["Action"] == "AssumeRole"
    assert request.form["RoleArn"] == ROLE
    assert request.form["RoleSessionName"] == "me"
    assert request.form["ExternalId"] == "e-1"
    assert "/eu-west-1/sts/" in request.headers["authorization"]


def test_a_role_session_has_a_name_of_ours_where_none_is_given(sts: STS) -> None:
    resolve(Identity(role_arn=ROLE, **KEYS)).credentials.load()
    assert sts.received[0].form["RoleSessionName"].startswith("smendpoint-")
    assert "ExternalId" not in sts.received[0].form


def test_a_role_renews_itself_for_ever(sts: STS) -> None:
    provider = resolve(Identity(role_arn=ROLE, **KEYS), now=sts.clock).credentials
    provider.load()
    for number in range(2, 6):
        sts.clock.ahead += HOUR - 800
        assert provider.current() is not None
        assert provider.refresh_due()
        assert provider.load() == role_key(number)
    sts.clock.ahead += 10 * HOUR
    assert provider.current() is None
    assert provider.load() == role_key(6)
    assert len(sts.received) == 6


def test_a_role_is_assumed_with_the_credentials_of_the_profile(sts: STS, tmp_path: Path) -> None:
    write_aws_file(tmp_path, "credentials", "[base]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = s\n")
    identity = Identity(role_arn=ROLE, credentials_profile_name="base")
    assert resolve(identity).credentials.load() == role_key(1)
    assert sts.received[0].access_key == "AKIDPROFILE"


def test_a_role_is_assumed_with_the_credentials_of_the_session(sts: STS) -> None:
    session = botocore.session.Session()
    session.set_credentials("AKIDSESSION", "s")
    resolve(Identity(role_arn=ROLE, session=session)).credentials.load()
    assert sts.received[0].access_key == "AKIDSESSION"


def test_nothing_is_shared_between_differing_roles(sts: STS) -> None:
    for external_id in ("one", "two", "one"):
        resolve(Identity(role_arn=ROLE, external_id=external_id, **KEYS)).credentials.load()
    assert [request.form["ExternalId"] for request in sts.received] == ["one", "two", "one"]


def test_a_refused_role_is_an_error_that_names_it_and_the_reason(sts: STS) -> None:
    sts.answer = sts_error("AccessDenied", "not authorized to perform: sts:AssumeRole")
    provider = resolve(Identity(role_arn=ROLE, **KEYS), now=sts.clock).credentials
    with pytest.raises(CredentialsError, match=r"role/r could not be assumed.*AccessDenied.*not authorized") as caught:
        provider.load()
    assert type(caught.value.__cause__).__name__ == "ClientError"
    sts.answer = None
    sts.clock.ahead = 1.0
    assert provider.load() == role_key(2)


def test_a_role_without_credentials_to_assume_it_is_an_error() -> None:
    with pytest.raises(CredentialsError, match=r"role/r could not be assumed: no AWS credentials were found: set AWS_"):
        resolve(Identity(role_arn=ROLE)).credentials.load()


def test_a_role_whose_keys_do_not_fit_is_an_error(sts: STS) -> None:
    status, kind, text = sts_answer("AssumeRole", 1, time.time() + HOUR)
    sts.answer = status, kind, text.replace("token1", "tök")
    with pytest.raises(CredentialsError) as caught:
        resolve(Identity(role_arn=ROLE, **KEYS)).credentials.load()
    assert "tök" not in str(caught.value)


def test_a_malformed_answer_of_sts_is_an_error(sts: STS) -> None:
    sts.answer = 200, "text/xml", "<AssumeRoleResponse/>"
    with pytest.raises(CredentialsError, match=r"could not be assumed"):
        resolve(Identity(role_arn=ROLE, **KEYS)).credentials.load()


def test_sts_is_called_by_the_rules_of_the_config(sts: STS) -> None:
    config = Config(user_agent_extra="mine/7", read_timeout=5, retries={"max_attempts": 0})
    resolve(Identity(role_arn=ROLE, config=config, **KEYS)).credentials.load()
    assert "mine/7" in sts.received[0].headers["user-agent"]


def test_the_secrets_of_every_source_stay_out_of_reprs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_aws_file(tmp_path, "credentials", "[default]\naws_access_key_id = AKIDOLD\naws_secret_access_key = hunter2\n")
    monkeypatch.setenv("https_proxy", "http://user:hunter2@proxy.example:1")
    target = resolve(Identity())
    credentials = target.credentials.load()
    assert credentials.secret_key == "hunter2"
    assert target.proxy is not None
    for thing in (target, target.credentials, credentials, target.proxy):
        assert "hunter2" not in repr(thing)
    assert (target.proxy.url, target.proxy.password) == ("http://proxy.example:1", "hunter2")
