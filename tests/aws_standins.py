"""Stand-ins for the places that AWS credentials come from, on loopback, and botocore's own answers to compare with."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.httpsession import get_cert_path
from botocore.loaders import create_loader

from smendpoint._core.aws.operations import RUNTIME, Service
from smendpoint._core.aws.routing import GATEWAY, ROUTER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HOUR = 3600.0
# Reading botocore's endpoint data takes longer than everything else that these tests do: it is read once.
LOADER = create_loader()
# The services that the installed botocore knows.
SERVICES = [each for each in (RUNTIME, ROUTER, GATEWAY) if each.name in LOADER.list_available_services("service-2")]


def explicit_keys(access_key: str, secret_key: str, token: str | None = None) -> dict[str, Any]:
    """Explicit credentials as botocore and `Identity` name them."""
    keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key}
    return keys if token is None else {**keys, "aws_session_token": token}


def clear_environment(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Leave nothing in the environment, nor at home, that settles identity or region."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "BOTO")) or name.lower().endswith("_proxy") or name == "REQUESTS_CA_BUNDLE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("botocore.session.create_loader", lambda path=None: create_loader(path) if path else LOADER)


def write_aws_file(home: Path, name: str, text: str) -> None:
    """Write a file of the AWS tools, such as ``config``, into the home folder."""
    (home / ".aws").mkdir(exist_ok=True)
    (home / ".aws" / name).write_text(text)


def known_regions() -> list[str]:
    """Return every region that botocore knows."""
    partitions = LOADER.load_data("partitions")["partitions"]
    return sorted({region for partition in partitions for region in partition["regions"]})


class Request(NamedTuple):
    """A request that a stand-in received."""

    method: str
    path: str
    headers: dict[str, str]
    form: dict[str, str]

    @property
    def access_key(self) -> str:
        """The access key that signed it; empty where nothing did."""
        _, found, rest = self.headers.get("authorization", "").partition("Credential=")
        return rest.partition("/")[0] if found else ""


Answer = tuple[int, str, str]


@contextlib.contextmanager
def serve(answer: Callable[[Request], Answer]) -> Iterator[tuple[str, list[Request]]]:
    """Serve on loopback; gives the URL and the requests, as they come in."""
    received: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            form = dict(urllib.parse.parse_qsl(body))
            request = Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, form)
            received.append(request)
            status, content_type, text = answer(request)
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_PUT = do_GET

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def stamp(epoch: float) -> str:
    """The time as AWS writes it."""
    return datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def sts_answer(action: str, number: int, expires: float) -> Answer:
    """An answer of STS; the keys are numbered."""
    body = (
        f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result><Credentials>'
        f"<AccessKeyId>ASIAROLE{number}</AccessKeyId><SecretAccessKey>secret{number}</SecretAccessKey>"
        f"<SessionToken>token{number}</SessionToken><Expiration>{stamp(expires)}</Expiration></Credentials>"
        f"<AssumedRoleUser><AssumedRoleId>id</AssumedRoleId><Arn>arn:aws:sts::123456789012:assumed-role/r/s</Arn>"
        f"</AssumedRoleUser></{action}Result></{action}Response>"
    )
    return 200, "text/xml", body


def sts_error(code: str, message: str) -> Answer:
    """A refusal of STS."""
    body = (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    )
    return 403, "text/xml", body


def container_answer(number: int, expires: float) -> Answer:
    """An answer of a container's credential service."""
    fields = {"AccessKeyId": f"ASIACONTAINER{number}", "SecretAccessKey": f"secret{number}", "Token": f"token{number}"}
    return 200, "application/json", json.dumps({**fields, "Expiration": stamp(expires)})


class Where(NamedTuple):
    """The effect of one identity on botocore's own client."""

    url: str
    region: str
    access_key: str
    token: str | None
    ca_bundle: str
    proxy: str | None


def botocore_says(
    *, profile: str | None = None, credentials: bool = True, service: Service = RUNTIME, **arguments: Any
) -> Where:
    """Have botocore's client make a request, caught before it is sent, and read identity and place from it."""
    session = botocore.session.Session(profile=profile)
    if not credentials:
        arguments.update(aws_access_key_id="unused", aws_secret_access_key="unused")
    client = session.create_client(service.name, **arguments)
    caught: list[Any] = []

    def catch(request: Any, **_: Any) -> AWSResponse:
        caught.append(request)

        class Raw:
            def stream(self, **_: Any) -> Iterator[bytes]:
                yield b""

        return AWSResponse(request.url, 200, {}, Raw())

    client.meta.events.register(f"before-send.{service.name}", catch)
    needed = client.meta.service_model.operation_model(service.invoke).input_shape.required_members
    client._make_api_call(service.invoke, {**dict.fromkeys(needed, "x"), "Body": b""})
    (request,) = caught
    _, _, scope = request.headers["Authorization"].decode().partition("Credential=")
    access_key, _, region = scope.split("/")[:3]
    token = request.headers.get("X-Amz-Security-Token")
    http = client._endpoint.http_session
    return Where(
        url=request.url.removesuffix(f"/{service.path}/x/invocations"),
        region=region,
        access_key=access_key,
        token=token.decode() if isinstance(token, bytes) else token,
        ca_bundle=get_cert_path(http._verify),
        proxy=http._proxy_config.proxy_url_for(request.url),
    )
