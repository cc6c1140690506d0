"""A pytest plug-in: the fixture ``sagemaker_emulator``, for tests of code that calls SageMaker endpoints.

The fixture is available as soon as smendpoint is installed::

    def test_my_summary(sagemaker_emulator):
        assert "3 days" in my_summary("How long ...?")   # boto3, smendpoint, anything: the emulator answers

A test run that does not use it imports nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smendpoint.emulator import Emulator

__all__ = ["sagemaker_emulator"]


@pytest.fixture(scope="session")
def _sagemaker_emulator() -> Iterator[Emulator]:
    """Start one emulator for the whole session, because endpoints that are made at import time keep its address."""
    from smendpoint.emulator import Emulator

    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def sagemaker_emulator(_sagemaker_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Give one test a fresh emulator of the SageMaker runtime in place of AWS.

    The fixture sets ``AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME`` (and the variables of inference routers and gateways),
    credentials and region in the environment, so the code under test needs no change. A stand-in model answers for
    every endpoint name; ``sagemaker_emulator.models["my-llm"] = model`` replaces it.

    The emulator has the same address in all tests of a session (with pytest-xdist, of a worker), so an endpoint that is
    made when a module is imported works in every test. Everything else is new in each test: models, load, faults,
    requests, objects, sessions, connections.

    Amazon S3 is not redirected, since other tools may mock it. If the code waits for results of asynchronous inference,
    set ``AWS_ENDPOINT_URL_S3`` to ``sagemaker_emulator.url + "/s3"``, the emulator's stand-in for S3.
    """
    from smendpoint.emulator._variables import CLIENT_VARIABLES, IN_THE_WAY, URL_VARIABLES, overrides

    emulator = _sagemaker_emulator
    if not emulator.running:  # the previous test stopped it
        emulator.start()
    for name in (*IN_THE_WAY, "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**CLIENT_VARIABLES, **overrides(), **dict.fromkeys(URL_VARIABLES, emulator.url)}.items():
        monkeypatch.setenv(name, value)
    yield emulator
    emulator.reset()
