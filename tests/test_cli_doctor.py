"""``smendpoint doctor`` on set-ups that work, and on those that are broken in one way each."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
import trustme
from aws_standins import HOUR, serve, sts_answer, write_aws_file
from hypothesis import given, strategies
from servers import bare_environment  # noqa: F401

from smendpoint import errors
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint.cli import _doctor, main
from smendpoint.cli._checks import Finding, account_of, issuer_of
from smendpoint.cli._described import Refusal, check_endpoint
from smendpoint.emulator import Emulator, ModelReply, ModelRequest

pytestmark = pytest.mark.usefixtures("bare_environment")

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def broken(_request: ModelRequest) -> ModelReply:
    return ModelReply(b"CUDA out of memory", status=500)


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Emulator]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    monkeypatch.chdir(tmp_path)
    with Emulator({"my-llm": "tgi", "my-chat": "vllm", "broken": broken}, region="us-west-2") as emulator:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", emulator.url)
        yield emulator


def doctor(*arguments: str, capsys: pytest.CaptureFixture[str], status: int = 1) -> dict[str, Finding]:
    """Give the findings by their checks."""
    assert main(["doctor", *arguments, "--json"]) == status
    written = capsys.readouterr().out
    assert SECRET not in written
    return {found["check"]: Finding(**found) for found in json.loads(written)}


def statuses(found: dict[str, Finding]) -> dict[str, str]:
    return {check: finding.status for check, finding in found.items()}


def test_a_set_up_that_works_is_ok_and_the_handler_is_named(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    found = doctor("my-chat", capsys=capsys, status=0)
    assert {finding.status for finding in found.values()} == {"ok"}
    assert "us-west-2 (from AWS_DEFAULT_REGION)" in found["settings"].text
    assert found["credentials"].text.startswith("long-lived, AKID..., from the environment")
    assert "ChatHandler reads this" in found["call"].text
    assert main(["doctor", "my-chat", "--no-call"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line[:20].split() for line in shown] == [["ok", check] for check in list(found)[:-1]]


def test_an_answer_that_is_not_json_is_named_by_its_type(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator.models["plain"] = lambda _request: ModelReply(b"a,b\n", content_type="text/csv")
    assert "text/csv, which TextHandler or BytesHandler reads" in doctor("plain", capsys=capsys, status=0)["call"].text


# -- ten set-ups that are broken, and more of the kind


def test_no_credentials(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    found = doctor("my-llm", capsys=capsys)
    assert found["credentials"].status == "failed"
    assert "no AWS credentials" in found["credentials"].text
    assert [found[check].status for check in ("clock", "endpoint", "call")] == ["ok", "skipped", "skipped"]
    assert found["call"].text == "depends on a check that failed: credentials"


def test_credentials_that_have_expired(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    given = {
        "Version": 1,
        "AccessKeyId": "ASIAEXAMPLE",
        "SecretAccessKey": SECRET,
        "SessionToken": "t",
        "Expiration": "2020-01-01T00:00:00Z",
    }
    (tmp_path / "give.py").write_text(f"print({json.dumps(given)!r})")
    (tmp_path / "config").write_text(
        f"[profile old]\nregion = us-west-2\ncredential_process = {sys.executable} {tmp_path / 'give.py'}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    found = doctor("my-llm", "--profile", "old", capsys=capsys)
    assert found["credentials"].status == "failed"
    assert "expired" in found["credentials"].text.lower()
    assert found["endpoint"].status == found["call"].status == "skipped"


def test_credentials_that_the_service_does_not_accept(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    with Emulator("tgi", region="us-west-2", credentials=Credentials("AKIDOTHER", "other")) as other:
        found = doctor("my-llm", "--endpoint-url", other.url, capsys=capsys)
    assert found["endpoint"].status == "failed"
    assert "the credentials are not accepted" in found["endpoint"].text
    assert "renew" in found["endpoint"].advice
    assert found["call"].status == "skipped"


def test_a_wrong_region_and_an_endpoint_that_does_not_exist(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    found = doctor("elsewhere", "--region", "eu-central-1", capsys=capsys)
    assert "eu-central-1 (from region_name)" in found["settings"].text
    assert (found["endpoint"].status, found["endpoint"].text) == ("failed", "there is no endpoint elsewhere")
    assert "the region and the account" in found["endpoint"].advice
    assert found["call"].status == "skipped"


def test_no_region(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    found = doctor("my-llm", capsys=capsys)
    assert found["settings"].status == "failed"
    assert found["settings"].text.startswith("no AWS region: pass --region, set AWS_DEFAULT_REGION")
    assert {finding.status for check, finding in found.items() if check != "settings"} == {"skipped"}


def test_a_region_that_is_malformed_is_shown_with_the_setting_that_has_it(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us west")
    assert doctor("my-llm", capsys=capsys)["settings"].text.startswith("the region from AWS_DEFAULT_REGION must be")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    write_aws_file(tmp_path, "config", "[profile a]\nregion = us west\n")
    found = doctor("my-llm", "--profile", "a", capsys=capsys)
    assert found["settings"].text.startswith("the region from the profile a of the AWS config file must be")


def test_a_profile_that_does_not_exist(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    found = doctor("my-llm", "--profile", "nobody", capsys=capsys)
    assert found["settings"].status == "failed"
    assert "(nobody) could not be found: pass another --profile, or set AWS_PROFILE" in found["settings"].text


def test_the_files_of_settings_are_named_with_what_keeps_them_from_being_read(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "missing"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path))
    advice = doctor("my-llm", "--profile", "nobody", capsys=capsys)["settings"].advice
    assert f"{tmp_path / 'missing'} (does not exist) and {tmp_path} (is not a file)" in advice
    locked = tmp_path / "locked"
    locked.write_text("")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(locked))
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, *given, **named: path != str(locked) and may(path, *given, **named))
    advice = doctor("my-llm", "--profile", "nobody", capsys=capsys)["settings"].advice
    assert f"{locked} (may not be read)" in advice


def test_a_file_that_is_malformed_is_named(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_aws_file(tmp_path, "credentials", f"[default]\naws_secret_access_key {SECRET}\n")
    found = doctor("my-llm", capsys=capsys)
    assert f"the AWS file {tmp_path / '.aws' / 'credentials'} is malformed" in found["settings"].text


@pytest.mark.parametrize(
    ("description", "status", "text", "advice"),
    [
        ({"EndpointStatus": "Creating", "ProductionVariants": []}, "failed", "Creating: no variants", "Wait"),
        ({"EndpointStatus": "Updating"}, "warning", "Updating: AllTraffic with 1 instance", "still serves calls"),
        ({"EndpointStatus": "Failed", "FailureReason": "No capacity."}, "failed", "No capacity.", "create it again"),
        ({"EndpointStatus": "OutOfService"}, "failed", "no reason is given", "create it again"),
        ({"EndpointStatus": "UpdateRollbackFailed"}, "warning", "UpdateRollbackFailed", "update it again"),
        (
            {"ProductionVariants": [{"VariantName": "A", "CurrentInstanceCount": 0}]},
            "warning",
            "InService: A with 0 instances",
            "scaled to zero",
        ),
        (
            {"ProductionVariants": [{"VariantName": "A", "CurrentServerlessConfig": {"MaxConcurrency": 1}}]},
            "ok",
            "InService: A, serverless",
            "",
        ),
    ],
)
def test_the_status_of_an_endpoint_and_its_instances(
    description: dict[str, Any],
    status: str,
    text: str,
    advice: str,
    emulator: Emulator,
    capsys: pytest.CaptureFixture[str],
) -> None:
    emulator.descriptions["my-llm"] = description
    found = doctor("my-llm", capsys=capsys, status=int(status == "failed"))
    assert found["endpoint"].status == status
    assert text in found["endpoint"].text
    assert advice in found["endpoint"].advice
    assert found["call"].status == ("skipped" if status == "failed" else "ok")


def test_no_permission(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    emulator.descriptions["my-llm"] = None
    emulator.inject("status_403_AccessDeniedException", times=1)
    found = doctor("my-llm", capsys=capsys)
    assert (found["endpoint"].status, found["call"].status) == ("warning", "failed")
    assert "sagemaker:DescribeEndpoint" in found["endpoint"].advice
    assert "Allow these credentials sagemaker:InvokeEndpoint" in found["call"].advice


def test_a_proxy_that_is_dead(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    found = doctor("my-llm", "--endpoint-url", "https://service.example.com", capsys=capsys)
    assert found["connection"].status == "failed"
    assert "(from HTTPS_PROXY) cannot be reached" in found["connection"].text
    assert "NO_PROXY" in found["connection"].advice
    assert statuses(found)["proxy"] == statuses(found)["TLS"] == statuses(found)["call"] == "skipped"


@pytest.mark.parametrize(
    ("answer", "text", "advice"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "answers 407", "user and password"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "answers 403", "Allow service.example.com:443 in the proxy's rules"),
        (b"", "failed: RemoteDisconnected", "NO_PROXY"),
    ],
)
def test_a_proxy_that_refuses(
    answer: bytes,
    text: str,
    advice: str,
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with server(answer) as (port, heads):
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:hidden@127.0.0.1:{port}")
        found = doctor("my-llm", "--endpoint-url", "https://service.example.com", capsys=capsys)
    assert found["proxy"].status == "failed"
    assert text in found["proxy"].text
    assert advice in found["proxy"].advice
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"user:hidden") in heads[0]
    assert "hidden" not in json.dumps([*found.values()])


def test_a_proxy_that_works(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with secure_server(monkeypatch, tmp_path) as port, tunnel(port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy}")
        found = doctor("my-llm", "--endpoint-url", "https://service.test", "--no-call", capsys=capsys, status=0)
    assert found["proxy"].text == f"http://127.0.0.1:{proxy} (from HTTPS_PROXY) lets service.test:443 through"
    assert found["TLS"].status == found["clock"].status == "ok"


def test_a_proxy_of_plain_requests(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n") as (port, heads):
        monkeypatch.setenv("HTTP_PROXY", f"http://user:hidden@127.0.0.1:{port}")
        arguments = namespace("my-llm", endpoint_url="http://plain.test", no_call=True)
        monkeypatch.setattr(
            _doctor, "control_plane", lambda *_arguments: nullcontext(lambda *_asked: {"InferenceComponents": []})
        )
        monkeypatch.setattr("smendpoint._aws.identity.Identity.allow_plain_http", True, raising=False)
        found = {finding.check: finding for finding in _doctor.examine(arguments, lambda: 1_767_225_600.0)}
    assert found["proxy"].text.startswith("requests go through http://127.0.0.1:")
    assert found["clock"].status == "ok"
    assert heads[0].startswith(b"GET http://plain.test/ping HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic" in heads[0]


def test_something_that_looks_into_tls(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with secure_server(monkeypatch, tmp_path, name="localhost", trusted=False) as port:
        found = doctor("my-llm", "--endpoint-url", f"https://localhost:{port}", capsys=capsys)
    assert found["TLS"].status == "failed"
    assert "the certificate of localhost, from trustme v" in found["TLS"].text
    assert "is not trusted" in found["TLS"].text
    assert "AWS_CA_BUNDLE" in found["TLS"].advice
    assert found["clock"].status == found["call"].status == "skipped"


def test_something_that_looks_into_tls_behind_a_proxy(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with secure_server(monkeypatch, tmp_path, trusted=False) as port, tunnel(port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy}")
        found = doctor("my-llm", "--endpoint-url", "https://service.test", capsys=capsys)
    assert found["TLS"].status == "failed"
    assert "the certificate of service.test, from trustme v" in found["TLS"].text


def test_an_untrusted_certificate_that_is_shown_only_once(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    dial, dialled = socket.create_connection, []

    def once(*arguments: Any, **options: Any) -> socket.socket:
        dialled.append(arguments)
        if len(dialled) > 1:
            raise ConnectionRefusedError
        return dial(*arguments, **options)

    monkeypatch.setattr(socket, "create_connection", once)
    with secure_server(monkeypatch, tmp_path, name="localhost", trusted=False) as port:
        found = doctor("my-llm", "--endpoint-url", f"https://localhost:{port}", capsys=capsys)
    assert "from an unnamed authority, is not trusted" in found["TLS"].text


def test_a_file_of_authorities_that_has_none(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with secure_server(monkeypatch, tmp_path, name="localhost") as port:
        (tmp_path / "authorities.pem").write_text("not a certificate")
        found = doctor("my-llm", "--endpoint-url", f"https://localhost:{port}", capsys=capsys)
    assert found["TLS"].status == "failed"
    assert "AWS_CA_BUNDLE" in found["TLS"].text
    assert found["clock"].status == found["call"].status == "skipped"


def test_a_proxy_that_is_reached_over_tls_is_a_finding(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "https://127.0.0.1:9")
    found = doctor("my-llm", "--endpoint-url", "https://service.test", "--no-call", capsys=capsys)
    assert found["settings"].status == "failed"
    assert "HTTPS_PROXY" in found["settings"].text
    assert list(found) == ["settings", "address", "connection", "clock", "credentials", "endpoint"]


def test_something_that_looks_into_tls_and_is_trusted(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    name = "runtime.sagemaker.us-west-2.amazonaws.com"
    with secure_server(monkeypatch, tmp_path, name=name) as port, tunnel(port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy}")
        found = doctor("my-llm", "--endpoint-url", f"https://{name}", "--no-call", capsys=capsys, status=0)
    assert found["TLS"].status == "warning"
    assert "certificate from trustme" in found["TLS"].text
    assert "not Amazon's" in found["TLS"].advice


def test_a_server_without_tls(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    found = doctor("my-llm", "--endpoint-url", emulator.url.replace("http:", "https:"), capsys=capsys)
    assert found["TLS"].status == "failed"
    assert found["TLS"].text.startswith("no TLS with 127.0.0.1: ")


@pytest.mark.parametrize(("ahead", "side"), [(3600.0, "behind"), (-3600.0, "ahead")])
def test_a_clock_that_is_off_by_an_hour(
    ahead: float, side: str, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    with Emulator("tgi", region="us-west-2", clock=lambda: time.time() + ahead) as other:
        found = doctor("my-llm", "--endpoint-url", other.url, capsys=capsys, status=0)
    assert found["clock"].status == "warning"
    assert re.search(f"clock is 3(599|600|601) s {side}", found["clock"].text)
    assert "NTP" in found["clock"].advice
    assert found["call"].status == "ok"


@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
def test_a_wrong_clock_is_not_taken_for_wrong_credentials(
    ahead: float, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = Credentials("AKIDEXAMPLE", SECRET)
    clock = {"clock": lambda: time.time() + ahead, "credentials": ours}
    with Emulator({"my-llm": "tgi"}, region="us-west-2", **clock) as other:
        found = doctor("my-llm", "--endpoint-url", other.url, capsys=capsys, status=0)
    assert [found[check].status for check in ("clock", "endpoint", "call")] == ["warning", "warning", "ok"]
    assert "while this machine's clock is wrong" in found["endpoint"].text
    assert found["endpoint"].advice == "Set the clock (NTP)."


@pytest.mark.parametrize(("secret", "region"), [(SECRET, "eu-central-1"), ("another", "us-west-2")])
def test_a_signature_for_another_region_or_by_another_secret(
    secret: str, region: str, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    verified = Credentials("AKIDEXAMPLE", secret)
    with Emulator({"my-llm": "tgi"}, region="us-west-2", credentials=verified) as other:
        found = doctor("my-llm", "--endpoint-url", other.url, "--region", region, capsys=capsys)
    assert found["endpoint"].status == "failed"
    assert "the signature is not accepted" in found["endpoint"].text
    assert "the region matches --endpoint-url" in found["endpoint"].advice
    assert found["call"].status == "skipped"


def test_a_container_that_answers_500(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    found = doctor("broken", capsys=capsys)
    assert found["call"].status == "failed"
    assert "answers 500" in found["call"].text
    assert "CUDA out of memory" in found["call"].text
    assert "/aws/sagemaker/Endpoints/broken" in found["call"].advice


def test_a_container_that_takes_another_kind_of_request(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    emulator.models["other"] = lambda _request: ModelReply(b'{"error": {"message": "no"}}', status=422)
    found = doctor("other", capsys=capsys, status=0)
    assert (found["call"].status, "answers 422" in found["call"].text) == ("warning", True)
    assert "another kind of request" in found["call"].advice
    emulator.models["silent"] = lambda _request: ModelReply(b"", status=422)
    assert "the last answer: nothing" in doctor("silent", capsys=capsys, status=0)["call"].text


def test_a_name_that_cannot_be_resolved(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = doctor("my-llm", "--endpoint-url", "https://service.invalid", capsys=capsys)
    assert found["address"].status == "failed"
    assert "service.invalid cannot be resolved" in found["address"].text
    assert "--endpoint-url" in found["address"].advice
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    found = doctor("my-llm", "--endpoint-url", "https://service.invalid", capsys=capsys)
    assert "Check the proxy's name" in found["address"].advice


def test_nothing_that_listens(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    found = doctor("my-llm", "--endpoint-url", f"http://127.0.0.1:{free_port()}", capsys=capsys)
    assert found["connection"].status == "failed"
    assert "cannot be reached: Connection refused" in found["connection"].text
    assert "security groups" in found["connection"].advice


def test_a_server_that_is_silent(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def late(*_arguments: object, **_options: object) -> socket.socket:
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", late)
    found = doctor("my-llm", capsys=capsys)
    assert found["connection"].text.endswith("does not answer")


def test_a_server_that_does_not_speak_http(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    with server(b"SSH-2.0-OpenSSH\r\n") as (port, _):
        found = doctor("my-llm", "--endpoint-url", f"http://127.0.0.1:{port}", capsys=capsys)
    assert found["clock"].status == "failed"
    assert "it may be another server" in found["clock"].advice


@pytest.mark.parametrize(
    ("components", "component", "status", "text", "advice"),
    [
        ([{"InferenceComponentName": "a"}], None, "failed", "it has inference components", "--component"),
        ([{"InferenceComponentName": "a"}], "b", "failed", "there is no inference component b", "It has a."),
        ([], "b", "failed", "there is no inference component b", "leave out --component"),
        ([{"InferenceComponentName": "a"}], "a", "ok", "a is InService: 1 of 1 copy in service", ""),
    ],
)
def test_inference_components(
    components: list[dict[str, str]],
    component: str | None,
    status: str,
    text: str,
    advice: str,
    emulator: Emulator,
    capsys: pytest.CaptureFixture[str],
) -> None:
    emulator.components["my-llm"] = components
    options = () if component is None else ("--component", component)
    found = doctor("my-llm", *options, "--no-call", capsys=capsys, status=int(status == "failed"))
    assert found["endpoint"].status == status
    assert text in found["endpoint"].text
    assert advice in found["endpoint"].advice


@pytest.mark.parametrize(
    ("state", "current", "wanted", "status", "text", "advice"),
    [
        ("InService", 0, 0, "warning", "InService: 0 of 0 copies in service: scaled to zero", "scaling adds"),
        ("InService", 0, 1, "warning", "InService: 0 of 1 copy in service: starting", "Calls wait"),
        ("Updating", 0, 2, "warning", "Updating: 0 of 2 copies in service: starting", "Calls wait"),
        ("Updating", 2, 3, "ok", "Updating: 2 of 3 copies in service", ""),
        ("Creating", 0, 1, "failed", "Creating: 0 of 1 copy in service: starting", "Wait"),
        ("Failed", 0, 1, "failed", "Failed: 0 of 1 copy in service; No such image.", "Fix"),
        ("Failed", 1, 2, "warning", "Failed: 1 of 2 copies in service; No such image.", "Fix"),
        ("Deleting", 1, 0, "failed", "Deleting: 1 of 0 copies in service", "another"),
    ],
)
def test_the_status_of_an_inference_component_and_its_copies(
    state: str,
    current: int,
    wanted: int,
    status: str,
    text: str,
    advice: str,
    emulator: Emulator,
    capsys: pytest.CaptureFixture[str],
) -> None:
    emulator.components["my-llm"] = [
        {"InferenceComponentName": "other"},
        {
            "InferenceComponentName": "a",
            "InferenceComponentStatus": state,
            "RuntimeConfig": {"CurrentCopyCount": current, "DesiredCopyCount": wanted},
            **({"FailureReason": "No such image."} if state == "Failed" else {}),
        },
    ]
    found = doctor("my-llm", "--component", "a", "--no-call", capsys=capsys, status=int(status == "failed"))
    assert found["endpoint"].status == status
    assert found["endpoint"].text.endswith(f"; a is {text}")
    assert advice in found["endpoint"].advice


def test_an_inference_component_that_has_no_number_of_copies_is_in_service(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = {"InferenceComponentName": "a", "RuntimeConfig": {}, "Specification": {"BaseInferenceComponentName": "b"}}
    emulator.components["my-llm"] = [adapter]
    found = doctor("my-llm", "--component", "a", "--no-call", capsys=capsys, status=0)
    assert (found["endpoint"].status, found["endpoint"].text[-16:]) == ("ok", "; a is InService")


def test_an_inference_component_of_another_endpoint(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    emulator.components["my-chat"] = [{"InferenceComponentName": "a"}]
    found = doctor("my-llm", "--component", "a", "--no-call", capsys=capsys)
    assert "a belongs to another endpoint" in found["endpoint"].text
    assert found["endpoint"].advice == "Call my-chat."


def test_components_that_may_not_be_listed_are_passed_over() -> None:
    def ask(operation: str, _arguments: dict[str, Any]) -> dict[str, Any]:
        if operation == "list_inference_components":
            raise Refusal("AccessDeniedException", "no")
        if operation == "describe_inference_component":
            raise Refusal("ValidationException", "Could not find inference component")
        return {"EndpointStatus": "InService"}

    assert check_endpoint("my-llm", None, ask) == Finding("endpoint", "ok", "InService: no variants")
    assert check_endpoint("my-llm", "a", ask).advice == "Check the component's name."


def test_a_component_that_may_not_be_described_is_a_warning() -> None:
    def ask(operation: str, _arguments: dict[str, Any]) -> dict[str, Any]:
        if operation == "describe_inference_component":
            raise Refusal("AccessDeniedException", "no")
        return {"EndpointStatus": "InService"}

    found = check_endpoint("my-llm", "a", ask)
    assert found.status == "warning"
    assert "the inference component a cannot be described" in found.text
    assert "sagemaker:DescribeInferenceComponent" in found.advice


def test_a_malformed_address_of_the_control_plane_is_a_warning(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", "nowhere")
    found = doctor("my-llm", capsys=capsys, status=0)
    assert (found["endpoint"].status, found["call"].status) == ("warning", "ok")
    assert found["endpoint"].text.startswith("it cannot be described: botocore refuses this AWS configuration")


def test_a_control_plane_that_cannot_be_reached_is_a_warning(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", f"http://127.0.0.1:{free_port()}")
    found = doctor("my-llm", "--no-call", capsys=capsys, status=0)
    assert found["endpoint"].status == "warning"
    assert found["endpoint"].text == "it cannot be described: EndpointConnectionError"


@pytest.mark.parametrize(
    ("error", "status", "advice"),
    [
        (errors.ModelNotReadyError(429, "ModelNotReadyException", "loading", None), "warning", "may take minutes"),
        (errors.ThrottlingError(429, "ThrottlingException", "Rate exceeded", None), "warning", "It is busy"),
        (errors.AccessDeniedError(403, "ExpiredTokenException", "too old", None), "failed", "Sign in again"),
        (errors.CredentialsError("gone"), "failed", "Sign in again"),
        (errors.ReadTimeoutError("silence"), "failed", "--timeout"),
        (errors.ProtocolError("garbage"), "failed", "CloudWatch"),
    ],
)
def test_a_call_that_fails_says_what_to_do(error: errors.SmendpointError, status: str, advice: str) -> None:
    found = _doctor._failure(error)
    assert (found.status, advice in found.advice) == (status, True)


# -- single parts


def certificate(**names: str) -> bytes:
    """A certificate in DER form whose issuer has these names."""
    issued = trustme.CA(**names).issue_cert("service.test").cert_chain_pems[0].bytes()
    return ssl.PEM_cert_to_DER_cert(issued.decode())


CERTIFICATE = certificate(organization_name="Corporate\x1b[31m Proxy Ä")


def test_the_issuer_of_a_certificate_is_named_without_what_a_terminal_obeys() -> None:
    assert issuer_of(CERTIFICATE) == "Corporate[31m Proxy Ä"


def element(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return bytes([tag, len(content)]) + content


def test_a_certificate_of_the_first_version_has_an_issuer_by_its_common_name() -> None:
    pair = element(0x30, element(6, b"\x55\x04\x03"), element(12, b"Old"))
    signed = element(0x30, element(2, b"\1"), element(0x30), element(0x30, element(0x31, pair)))
    assert issuer_of(element(0x30, signed)) == "Old"


@given(strategies.integers(0, len(CERTIFICATE) - 1))
def test_a_certificate_that_is_cut_has_no_issuer(size: int) -> None:
    assert issuer_of(CERTIFICATE[:size]) is None


@given(strategies.binary())
def test_bytes_that_are_not_a_certificate_are_not_an_error(data: bytes) -> None:
    assert issuer_of(data) is None


@pytest.mark.parametrize(
    ("access_key", "account"),
    [
        ("ASIAY34FZKBOKMUTVV7A", "609629065308"),  # published as an example with its account
        ("AKIDEXAMPLE", None),
        ("AKIAIOSFODNN7EXAMPLE", None),
        ("AKIA1111111111111111", None),
        ("AKIAZZZZZZZZZZZZZZ1Z", None),
    ],
)
def test_a_new_access_key_id_tells_its_account(access_key: str, account: str | None) -> None:
    assert account_of(access_key) == account


def test_the_account_is_shown(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ASIAY34FZKBOKMUTVV7A")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    found = doctor("my-llm", "--no-call", capsys=capsys, status=0)
    assert found["credentials"].text.startswith(
        "temporary, ASIA... of account 609629065308 (as the access key id says)"
    )


def test_the_account_of_a_role_is_that_of_its_arn(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    profile = "[profile p]\nrole_arn = arn:aws:iam::123456789012:role/r\ncredential_source = Environment\n"
    write_aws_file(tmp_path, "config", profile)
    with serve(lambda _request: sts_answer("AssumeRole", 1, time.time() + HOUR)) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        found = doctor("my-llm", "--profile", "p", "--no-call", capsys=capsys, status=0)
    said = "temporary, ASIA... of account 123456789012 (as their source says), from the profile p (assume-role)"
    assert found["credentials"].text == said


@pytest.mark.parametrize(
    ("endpoint", "options", "status"),
    [("my-llm", (), 0), ("other", (), 0), ("broken", (), 1), ("my-llm", ("--region", "us west"), 2), ("a b", (), 2)],
)
def test_the_exit_status_is_0_for_ok_and_warnings_1_for_failures_2_for_a_wrong_command_line(
    endpoint: str, options: tuple[str, ...], status: int, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator.models["other"] = lambda _request: ModelReply(b"", status=422)  # a warning
    assert main(["doctor", endpoint, *options]) == status
    written = capsys.readouterr()
    assert ("FAILED" in written.out, bool(written.err)) == (status == 1, status == 2)


def test_the_exit_status_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    assert "exit status:\n  0  calls can be made" in capsys.readouterr().out


def test_findings_are_coloured_on_a_terminal(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert main(["doctor", "broken"]) == 1
    written = capsys.readouterr().out
    assert "\x1b[31mFAILED  \x1b[0mcall" in written
    assert "The container fails." in written


def test_calls_of_an_endpoint_that_is_not_in_service_are_refused(emulator: Emulator) -> None:
    emulator.descriptions["my-llm"] = {"EndpointStatus": "Creating"}
    with emulator.endpoint("my-llm") as endpoint, pytest.raises(errors.ValidationError, match="not found"):
        endpoint.invoke("Hello")


def test_boto3_describes_endpoints_of_the_emulator(emulator: Emulator) -> None:
    client = boto3.client("sagemaker", endpoint_url=emulator.url)
    described = client.describe_endpoint(EndpointName="my-llm")
    assert (described["EndpointStatus"], described["EndpointName"]) == ("InService", "my-llm")
    assert described["CreationTime"].year == 1970
    emulator.components["my-llm"] = [{"InferenceComponentName": "a"}]
    listed = client.list_inference_components(EndpointNameEquals="my-llm")["InferenceComponents"]
    assert [one["InferenceComponentStatus"] for one in listed] == ["InService"]
    component = client.describe_inference_component(InferenceComponentName="a")
    assert component["RuntimeConfig"] == {"DesiredCopyCount": 1, "CurrentCopyCount": 1}
    assert (component["EndpointName"], component["CreationTime"].year) == ("my-llm", 1970)
    emulator.components["hidden"] = [{"InferenceComponentName": "b"}]
    for name, code in (("nothing", "ValidationException"), ("hidden", "AccessDeniedException")):
        emulator.descriptions["hidden"] = None
        with pytest.raises(client.exceptions.ClientError) as caught:
            client.describe_endpoint(EndpointName=name)
        assert caught.value.response["Error"]["Code"] == code
    for name, code in (("nothing", "ValidationException"), ("b", "AccessDeniedException")):
        with pytest.raises(client.exceptions.ClientError) as caught:
            client.describe_inference_component(InferenceComponentName=name)
        assert caught.value.response["Error"]["Code"] == code
    with pytest.raises(client.exceptions.ClientError, match="does not have ListModels"):
        client.list_models()
    client.close()
    for body in (b"", b"[]", b'{"EndpointName": 1}'):
        head = {"X-Amz-Target": "SageMaker.DescribeEndpoint"}
        connection = http.client.HTTPConnection("127.0.0.1", int(emulator.url.rpartition(":")[2]), timeout=20)
        connection.request("POST", "/", body, head)
        assert connection.getresponse().status == 400
        connection.close()
    emulator.reset()
    assert not emulator.descriptions
    assert not emulator.components


# -- peers


def namespace(endpoint: str, **options: Any) -> Any:
    import argparse

    given = {
        "component": None,
        "region": None,
        "profile": None,
        "endpoint_url": None,
        "timeout": None,
        "no_call": False,
        "options": {},
    }
    return argparse.Namespace(endpoint=endpoint, **{**given, **options})


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


@contextmanager
def server(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server that reads a head, answers and closes; gives its port and the heads."""
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    heads.append(connection.recv(65_536))
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], heads
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(20)


@contextmanager
def secure_server(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *, name: str = "service.test", trusted: bool = True
) -> Iterator[int]:
    """An emulator over TLS, with a certificate for a name from an authority of its own."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    if trusted:
        authority.cert_pem.write_to_path(str(folder / "authorities.pem"))
        monkeypatch.setenv("AWS_CA_BUNDLE", str(folder / "authorities.pem"))
    with Emulator("tgi", region="us-west-2", ssl_context=context, allowed_hosts=["*"]) as secure:
        yield int(secure.url.rpartition(":")[2])


@contextmanager
def tunnel(port: int) -> Iterator[int]:
    """A proxy that leads every tunnel to one port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads: list[threading.Thread] = []

        def copy(source: socket.socket, target: socket.socket) -> None:
            with suppress(OSError):
                while data := source.recv(65_536):
                    target.sendall(data)
            with suppress(OSError):
                target.shutdown(socket.SHUT_WR)

        def lead(connection: socket.socket) -> None:
            with connection, socket.create_connection(("127.0.0.1", port)) as there:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=copy, args=(there, connection))
                back.start()
                copy(connection, there)
                back.join(20)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=lead, args=(connection,)))
                threads[-1].start()

        accepting = threading.Thread(target=serve)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(20)
            for thread in threads:
                thread.join(20)
