"""The fixture ``sagemaker_emulator``, as a test suite of its own sees it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import smendpoint

pytest_plugins = ["pytester"]

USES = """
import json
import os
import urllib.request

pytest_plugins = [{plugin!r}] if {plugin!r} else []


def call(name):
    url = os.environ["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"] + f"/endpoints/{{name}}/invocations"
    request = urllib.request.Request(url, b'{{"inputs": "Hi"}}', {{"Content-Type": "application/json"}})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def test_a_stand_in_answers(sagemaker_emulator):
    assert "generated_text" in call("any-name")[0]
    assert sagemaker_emulator.requests[0].endpoint_name == "any-name"


def test_the_emulator_is_a_fresh_one(sagemaker_emulator):
    assert sagemaker_emulator.requests == []


def test_a_test_may_stop_it(sagemaker_emulator):
    sagemaker_emulator.stop()


def test_a_model_of_ones_own_answers(sagemaker_emulator):
    sagemaker_emulator.models["my-llm"] = lambda request: b'"mine"'
    assert call("my-llm") == "mine"


def test_the_environment_is_set_for_every_aws_client(sagemaker_emulator):
    assert os.environ["AWS_ACCESS_KEY_ID"]
    assert os.environ["AWS_SECRET_ACCESS_KEY"]
    assert os.environ["AWS_REGION"] == os.environ["AWS_DEFAULT_REGION"] == "us-east-1"
    assert "AWS_PROFILE" not in os.environ
    assert "AWS_SESSION_TOKEN" not in os.environ
    assert "AWS_CREDENTIAL_EXPIRATION" not in os.environ
    configured = os.path.exists(os.environ["AWS_CONFIG_FILE"])
    assert os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") == ("false" if configured else None)


def test_without_the_fixture_nothing_is_set():
    assert "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME" not in os.environ
    assert os.environ["AWS_PROFILE"] == "mine"
"""

CALLS = """
import smendpoint


def test_no_setting_of_the_developers_leads_elsewhere(sagemaker_emulator):
    assert smendpoint.Endpoint("any-name").invoke("Hi")
    assert len(sagemaker_emulator.requests) == 1


def test_the_answers_of_asynchronous_inference_are_in_the_stand_in_for_s3(sagemaker_emulator, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", sagemaker_emulator.url + "/s3")
    assert smendpoint.Endpoint("any-name").submit("Hi").result(timeout=60)
"""


APPLICATION = """
from smendpoint import AsyncEndpoint, Endpoint, RetryPolicy

endpoint = Endpoint("my-llm")  # as in AWS Lambda
once = Endpoint("my-llm", retry=RetryPolicy(max_attempts=1))
relayed = AsyncEndpoint("my-llm")  # as in an ASGI application


def handler(event, context):
    return endpoint.invoke(event["prompt"])


async def relay(prompt):
    async with relayed.stream(prompt) as chunks:
        return "".join([chunk async for chunk in chunks])
"""

USES_APPLICATION = """
import asyncio
import os

import application
import pytest
from smendpoint import ServiceUnavailableError

seen = []


def same_state(emulator):
    seen.append(emulator.url)
    with open(os.environ["SEEN"], "a") as file:
        print(os.environ.get("PYTEST_XDIST_WORKER"), emulator.url, file=file)
    assert len(set(seen)) == 1
    assert (emulator.requests, emulator.objects, emulator.sessions, dict(emulator.models)) == ([], {}, {}, {})
    assert (emulator.open_connections, emulator.total_connections, emulator.total_requests) == (0, 0, 0)


@pytest.mark.parametrize("number", range(3))
def test_the_handler_answers(sagemaker_emulator, number):
    same_state(sagemaker_emulator)
    assert application.handler({"prompt": "It rains. Question: Does it rain?"}, None) == "It rains."
    (request,) = sagemaker_emulator.requests
    assert request.connection == 1
    sagemaker_emulator.inject("status_503", times=1)
    sagemaker_emulator.idle()
    assert (sagemaker_emulator.capacity, sagemaker_emulator.load["my-llm"].served) == (None, 1)
    sagemaker_emulator.capacity = 1
    sagemaker_emulator.objects["s3://b/k"] = b""
    sagemaker_emulator.models["my-llm"] = lambda request: b'[{"generated_text": "mine"}]'
    assert application.handler({"prompt": "Hi"}, None) == "mine"


@pytest.mark.parametrize("number", range(3))
def test_the_relay_answers_in_a_loop_of_each_test(sagemaker_emulator, number):
    same_state(sagemaker_emulator)
    assert asyncio.run(application.relay("It rains. Question: Does it rain?")) == "It rains."
    assert len(sagemaker_emulator.requests) == 1
    sagemaker_emulator.inject("status_403_AccessDeniedException")


@pytest.mark.parametrize("number", range(2))
def test_a_test_may_leave_it_refusing(sagemaker_emulator, number):
    same_state(sagemaker_emulator)
    assert application.handler({"prompt": "Hi"}, None)
    sagemaker_emulator.inject("refuse")


@pytest.mark.parametrize("number", range(2))
def test_a_test_may_leave_it_stopped(sagemaker_emulator, number):
    same_state(sagemaker_emulator)
    assert application.handler({"prompt": "Hi"}, None)
    sagemaker_emulator.stop()


def test_a_test_may_leave_a_call_under_way(sagemaker_emulator):
    import threading

    same_state(sagemaker_emulator)
    begun = threading.Event()

    def model(request):
        begun.set()
        request.disconnected.wait()
        return b""

    def call():
        with pytest.raises(Exception):
            application.once.invoke("Hi")  # another attempt could meet the next test's emulator

    sagemaker_emulator.models["my-llm"] = model
    threading.Thread(target=call).start()
    begun.wait()


def test_nothing_is_left_of_it(sagemaker_emulator):
    same_state(sagemaker_emulator)
"""
TESTS_OF_APPLICATION = 12


def registered(pytestconfig: pytest.Config) -> bool:
    """Whether this run has the plug-in from the installed package; else the tests below name it themselves."""
    return pytestconfig.pluginmanager.has_plugin("smendpoint")


def settings_in_the_way(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, configured: bool) -> None:
    config = pytester.path / "aws-config"
    if configured:
        config.write_text("[default]\nignore_configured_endpoint_urls = true\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00Z")


@pytest.mark.filterwarnings("ignore:Module already imported:pytest.PytestAssertRewriteWarning")
@pytest.mark.parametrize("configured", [True, False])
def test_the_fixture_gives_a_fresh_emulator_and_sets_the_environment(
    pytester: pytest.Pytester, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, configured: bool
) -> None:
    settings_in_the_way(pytester, monkeypatch, configured)
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", raising=False)
    pytester.makepyfile(USES.format(plugin="" if registered(pytestconfig) else "smendpoint.pytest_plugin"))
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=6)


def test_calls_land_in_the_emulator_whatever_the_developer_has_configured(
    pytester: pytest.Pytester, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_in_the_way(pytester, monkeypatch, configured=True)
    pytester.makepyfile(CALLS)
    run_apart(pytester, pytestconfig, monkeypatch).assert_outcomes(passed=2)


def run_apart(
    pytester: pytest.Pytester, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> pytest.RunResult:
    """In a process of its own: in this one, the modules that it imports would be imported a second time."""
    named = [] if registered(pytestconfig) else ["-p", "smendpoint.pytest_plugin"]
    monkeypatch.setenv("PYTHONPATH", str(Path(smendpoint.__file__).parents[1]))  # this one, installed or not
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *named, *arguments)


@pytest.mark.parametrize("workers", [0, 2])
def test_endpoints_made_at_import_lead_to_one_address_that_is_fresh_for_each_test(
    pytester: pytest.Pytester, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    if workers:
        pytest.importorskip("xdist", reason="needs pytest-xdist")
    settings_in_the_way(pytester, monkeypatch, configured=True)
    seen = pytester.path / "seen"
    monkeypatch.setenv("SEEN", str(seen))
    pytester.makepyfile(application=APPLICATION, test_application=USES_APPLICATION)
    # With `--dist each`, every worker runs every test.
    spread = ["-n", str(workers), "--dist", "each"] if workers else []
    result = run_apart(pytester, pytestconfig, monkeypatch, "-W", "error", *spread)
    result.assert_outcomes(passed=TESTS_OF_APPLICATION * max(1, workers))
    homes = dict(line.split() for line in seen.read_text().splitlines())
    assert len(homes) == len(set(homes.values())) == max(1, workers)
    assert len(seen.read_text().splitlines()) == TESTS_OF_APPLICATION * max(1, workers)


@pytest.mark.filterwarnings("ignore:Module already imported:pytest.PytestAssertRewriteWarning")
def test_the_fixture_explains_itself(pytester: pytest.Pytester, pytestconfig: pytest.Config) -> None:
    named = [] if registered(pytestconfig) else ["-p", "smendpoint.pytest_plugin"]
    result = pytester.runpytest_inprocess("--fixtures", *named)
    result.stdout.fnmatch_lines(["sagemaker_emulator*", "*fresh emulator of the SageMaker runtime*"])


def test_loading_the_plug_in_imports_nothing_of_the_package() -> None:
    program = (
        "import sys, pytest, smendpoint.pytest_plugin; "
        "print(*sorted(name for name in sys.modules if name.startswith('smendpoint')))"
    )
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert output.split() == ["smendpoint", "smendpoint._version", "smendpoint.pytest_plugin"]
