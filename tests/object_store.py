"""Amazon S3 for tests: moto's server, in a process of its own on loopback.

A test imports the fixture, and asks for it::

    from object_store import ObjectStore, store  # noqa: F401
"""

from __future__ import annotations

import functools
import selectors
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

BUCKET = "inference"
PATIENCE = 60.0
# It ends when its standard input does, so also when the tests are killed.
PROGRAM = """
import sys, warnings
warnings.simplefilter("ignore")
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""
KEYS = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}


class ObjectStore:
    """A running server with one empty bucket.

    Attributes:
        url: where it listens.
        client: a botocore client for it.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = self.new_client()
        self.client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})

    def new_client(self) -> Any:
        """One more botocore client."""
        return _session().create_client("s3", region_name="us-west-2", endpoint_url=self.url, **KEYS)

    def put(self, location: str, data: bytes, ok: bool = True) -> None:
        """Store an object, as the emulator's ``async_store``."""
        bucket, _, key = location.removeprefix("s3://").partition("/")
        self.client.put_object(Bucket=bucket, Key=key, Body=data)

    def get(self, location: str) -> bytes:
        """Get an object, as the emulator's ``async_load``."""
        bucket, _, key = location.removeprefix("s3://").partition("/")
        data: bytes = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return data

    def keys(self, prefix: str = "") -> list[str]:
        """The keys in the bucket."""
        return [found["Key"] for found in self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]


@functools.cache
def _session() -> Any:
    """One for all clients: it keeps the service's model, which takes long to read."""
    import botocore.session

    return botocore.session.Session()


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    """A server of its own for each test module."""
    pytest.importorskip("moto")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            assert selector.select(PATIENCE), "moto's server did not start"
        made = ObjectStore(f"http://127.0.0.1:{int(process.stdout.readline())}")
        yield made
        made.client.close()
    finally:
        process.stdin.close()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
