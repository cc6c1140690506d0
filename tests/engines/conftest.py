"""Shared by the tests of engines: a service with eight slots, an environment without telemetry, rows."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from smendpoint import Endpoint, JSONHandler
from smendpoint.emulator import Emulator
from smendpoint.emulator.models import ModelRequest

# Before an engine is imported, and for the processes that it starts.
os.environ |= {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "AWS_DEFAULT_REGION": "us-west-2",
    "AWS_EC2_METADATA_DISABLED": "true",
    "DAFT_ANALYTICS_ENABLED": "0",
    "DAFT_PROGRESS_BAR": "0",
    # Dask's own 30 seconds, in which its processes must find each other, can pass on a busy machine.
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "300s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "300s",
    "DO_NOT_TRACK": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_OFFLINE": "1",
    "PYSPARK_PYTHON": sys.executable,
    "PYTHONPATH": str(Path(__file__).parents[2]),
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "SPARK_LOCAL_IP": "127.0.0.1",
}

NO_JAVA = shutil.which("java") is None and "JAVA_HOME" not in os.environ
# Two limits cannot be set: Ray gives a node 30 seconds to start, and Dask gives a worker 9 to end.
RAY_WAS_SLOW = "timed out during startup"
ENGINE_WAS_SLOW = re.compile(rf"{RAY_WAS_SLOW}|^(asyncio\.exceptions\.)?TimeoutError\b", re.MULTILINE)
CAPACITY = 8
ROWS = 400


def model(request: ModelRequest) -> str:
    """Give the input in upper case."""
    return json.dumps(json.loads(request.body).upper())


model.inline = True  # type: ignore[attr-defined]  # it is quick: see `Model`


@pytest.fixture
def service() -> Iterator[Emulator]:
    """A service that refuses what is over its capacity."""
    with Emulator(model, region="us-west-2", capacity=CAPACITY, latency=0.01, keep_requests=None) as emulator:
        yield emulator


def endpoint(service: Emulator, **options: object) -> Endpoint[object, object, object]:
    """Make an endpoint whose workers find their own credentials, in the environment."""
    return Endpoint("my-llm", endpoint_url=service.url, content_handler=JSONHandler(), **options)  # type: ignore[arg-type]


def texts(count: int = ROWS) -> list[str]:
    return [f"row {number}" for number in range(count)]


def answers(count: int = ROWS) -> list[str]:
    return [text.upper() for text in texts(count)]
