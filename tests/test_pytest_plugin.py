"""The fixture ``sagemaker_emulator``, as a test suite of its own sees it."""

from __future__ import annotations

import subprocess
import sys

import pytest

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


def test_a_model_of_ones_own_answers(sagemaker_emulator):
    sagemaker_emulator.models["my-llm"] = lambda request: b'"mine"'
    assert call("my-llm") == "mine"


def test_the_environment_is_set_for_every_aws_client(sagemaker_emulator):
    assert os.environ["AWS_ACCESS_KEY_ID"]
    assert os.environ["AWS_SECRET_ACCESS_KEY"]
    assert os.environ["AWS_REGION"] == os.environ["AWS_DEFAULT_REGION"] == "us-east-1"
    assert "AWS_PROFILE" not in os.environ
    assert "AWS_SESSION_TOKEN" not in os.environ


def test_without_the_fixture_nothing_is_set():
    assert "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME" not in os.environ
    assert os.environ["AWS_PROFILE"] == "mine"
"""


def registered(pytestconfig: pytest.Config) -> bool:
    """Whether this run has the plug-in from the installed package; else the tests below name it themselves."""
    return pytestconfig.pluginmanager.has_plugin("smendpoint")


@pytest.mark.filterwarnings("ignore:Module already imported:pytest.PytestAssertRewriteWarning")
def test_the_fixture_gives_a_fresh_emulator_and_sets_the_environment(
    pytester: pytest.Pytester, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", raising=False)
    pytester.makepyfile(USES.format(plugin="" if registered(pytestconfig) else "smendpoint.pytest_plugin"))
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=5)


@pytest.mark.filterwarnings("ignore:Module already imported:pytest.PytestAssertRewriteWarning")
def test_the_fixture_explains_itself(pytester: pytest.Pytester, pytestconfig: pytest.Config) -> None:
    named = [] if registered(pytestconfig) else ["-p", "smendpoint.pytest_plugin"]
    result = pytester.runpytest_inprocess("--fixtures", *named)
    result.stdout.fnmatch_lines(["sagemaker_emulator*", "*A fresh emulator of the SageMaker runtime*"])


def test_loading_the_plug_in_imports_nothing_of_the_package() -> None:
    program = (
        "import sys, pytest, smendpoint.pytest_plugin; "
        "print(*sorted(name for name in sys.modules if name.startswith('smendpoint')))"
    )
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert output.split() == ["smendpoint", "smendpoint._version", "smendpoint.pytest_plugin"]
