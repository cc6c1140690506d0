"""The messages of errors: which part of the way failed, which setting leads there, and only facts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clocks import FakeClock
from servers import PATIENCE, Peer, Server, bare_environment, closed_port, fast, server_context  # noqa: F401
from twins import ACCESS_KEY, SECRET_KEY, Twin, client_twin, direct_twin, twin  # noqa: F401

from smendpoint import (
    AsyncEndpoint,
    ChatHandler,
    Endpoint,
    JSONHandler,
    RetryPolicy,
    TabularHandler,
    TabularRowsHandler,
    TextGenerationHandler,
    Timeout,
    errors,
)
from smendpoint._aws import Identity, resolve
from smendpoint._core.call.timing import deadline_exceeded
from smendpoint._transport.clients.client import ClientTransport
from smendpoint._transport.deadline import SYSTEM_CLOCK
from smendpoint.emulator import Emulator, ModelReply, ModelRequest

pytestmark = pytest.mark.usefixtures("bare_environment")

ONCE = RetryPolicy(max_attempts=1)
OPERATIONS = ("invoke", "stream")


def make(twin: Twin, name: str = "my-llm", **options: Any) -> Any:  # noqa: F811
    """An endpoint that takes missing options from the environment."""
    endpoint: Any = (AsyncEndpoint if twin.asynchronous else Endpoint)(name, retry=ONCE, timeout=PATIENCE, **options)
    return endpoint


@contextlib.contextmanager
def failing(twin: Twin, endpoint: Any, kind: type[Exception] = errors.SmendpointError) -> Iterator[Any]:  # noqa: F811
    with pytest.raises(kind) as caught:
        yield caught
    twin.run(endpoint.aclose() if twin.asynchronous else endpoint.close())


# the proxy


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "Https_Proxy"])
def test_a_dead_proxy_is_called_one_with_the_variable_that_names_it(
    direct_twin: Twin,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    with closed_port() as port:
        monkeypatch.setenv(variable, f"http://user:hunter2@127.0.0.1:{port}")
        endpoint = make(direct_twin, region_name="us-west-2", aws_access_key_id="a", aws_secret_access_key="b")
        with failing(direct_twin, endpoint, errors.ConnectError) as caught:
            direct_twin.run(endpoint.invoke("Hello"))
    said = str(caught.value)
    assert f"no connection to the proxy http://127.0.0.1:{port} (from {variable}): " in said
    assert "exclude the service with NO_PROXY" in said
    assert "hunter2" not in said


def test_a_proxy_that_refuses_the_tunnel_is_named_with_its_variable(
    direct_twin: Twin,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Server(lambda peer: peer.serve(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")) as server:
        monkeypatch.setenv("HTTPS_PROXY", server.url)
        endpoint = make(direct_twin, region_name="us-west-2", aws_access_key_id="a", aws_secret_access_key="b")
        with failing(direct_twin, endpoint, errors.ConnectError) as caught:
            direct_twin.run(endpoint.invoke("Hello"))
    assert f"the proxy {server.url} (from HTTPS_PROXY) did not open a tunnel (status 403)" in str(caught.value)


def test_a_proxy_of_a_config_is_said_to_be_that() -> None:
    from botocore.config import Config

    with closed_port() as port:
        config = Config(proxies={"https": f"http://127.0.0.1:{port}"})
        keys = {"region_name": "us-west-2", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
        with Endpoint("my-llm", config=config, retry=ONCE, **keys) as endpoint:
            with pytest.raises(errors.ConnectError, match=r"the proxy .* \(from config: proxies\)"):
                endpoint.invoke("Hello")


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", None])
def test_a_clients_dead_proxy_is_called_one_too(
    client_twin: Twin,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    variable: str | None,
) -> None:
    with closed_port() as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        endpoint = client_twin.endpoint("https://service.invalid")
        if variable is None:
            monkeypatch.delenv("HTTPS_PROXY")
        with pytest.raises(errors.ConnectError) as caught:
            endpoint.invoke("Hello")
    named = "" if variable is None else f" (from {variable})"
    assert f"no connection to the proxy{named}: " in str(caught.value)


# TLS and no TLS


def test_tls_spoken_to_a_port_without_it_is_named(twin: Twin) -> None:  # noqa: F811
    with Emulator() as emulator, pytest.raises(errors.TLSError, match="must begin with http://"):
        twin.endpoint(emulator.url.replace("http:", "https:"), retry=ONCE).invoke("Hello")


def test_plain_http_spoken_to_a_port_for_tls_is_named(direct_twin: Twin) -> None:  # noqa: F811
    def alert(peer: Peer) -> None:
        peer.request()
        peer.send(b"\x15\x03\x01\x00\x02\x02\x46")

    with Server(alert) as server, pytest.raises(errors.ProtocolError, match="must begin with https://"):
        direct_twin.endpoint(server.url, retry=ONCE).invoke("Hello")


@pytest.mark.parametrize(
    "said",
    [
        "<html>400 The plain HTTP request was sent to HTTPS port</html>",
        "Client sent an HTTP request to an HTTPS server.\n",
        "Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
    ],
)
def test_a_server_that_tells_plain_http_from_tls_is_understood(direct_twin: Twin, said: str) -> None:  # noqa: F811
    reply = f"HTTP/1.1 400 Bad Request\r\nContent-Length: {len(said)}\r\n\r\n{said}".encode()
    with Server(lambda peer: peer.serve(reply)) as server:
        with pytest.raises(errors.ValidationError, match="must begin with https://"):
            direct_twin.endpoint(server.url).invoke("Hello")


# no such endpoint


def test_an_endpoint_that_is_not_there_was_looked_for_somewhere(
    direct_twin: Twin,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Emulator({"other": "tgi"}) as emulator:
        given = {"endpoint_url": emulator.url, "region_name": "us-west-2"}
        keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
        endpoint = make(direct_twin, **given, **keys)
        with failing(direct_twin, endpoint, errors.ValidationError) as caught:
            direct_twin.run(endpoint.invoke("Hello"))
        said = "looked for in us-west-2 (from region_name), in the account of the credentials from aws_access_key_id"
        assert said in str(caught.value)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        endpoint = make(direct_twin, endpoint_url=emulator.url)
        with failing(direct_twin, endpoint, errors.ValidationError) as caught:
            direct_twin.run(endpoint.invoke("Hello"))
        said = "in eu-central-1 (from AWS_DEFAULT_REGION), in the account of the credentials from the environment (AWS_"
        assert said in str(caught.value)
        assert str(caught.value).count("Hint") == 1


def test_a_client_names_its_region(client_twin: Twin) -> None:  # noqa: F811
    with Emulator({"other": "tgi"}) as emulator, pytest.raises(errors.ValidationError) as caught:
        client_twin.endpoint(emulator.url).invoke("Hello")
    assert "in us-west-2, the client's region, and in the account of the client's credentials" in str(caught.value)
    mocked = ClientTransport(SimpleNamespace(invoke_endpoint=print), SYSTEM_CLOCK)
    assert mocked.origin() == "it was looked for in the account of the client's credentials"


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("config", "credentials", "options", "region", "origin"),
    [
        ("[default]\nregion = us-east-2\n", True, {}, "the profile default of", "the profile default (shared-cred"),
        (
            "[profile p]\nregion = us-east-2\n",
            True,
            {"credentials_profile_name": "p"},
            "the profile p of",
            "profile p (",
        ),
    ],
)
def test_files_are_named_by_their_profile(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: str,
    credentials: bool,
    options: dict[str, Any],
    region: str,
    origin: str,
) -> None:
    write(tmp_path, "config", config)
    name = options.get("credentials_profile_name", "default")
    write(
        tmp_path, "credentials", f"[{name}]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    target = resolve(Identity(**options))
    assert target.region == "us-east-2"
    assert region in target.region_source
    assert target.credentials.origin == "botocore's chain"
    target.credentials.load()
    assert origin in target.origin()


def test_sessions_configs_and_roles_are_named() -> None:
    from botocore.config import Config
    from botocore.session import Session

    session = Session()
    session.set_config_variable("region", "us-east-2")
    session.set_credentials(ACCESS_KEY, SECRET_KEY)
    target = resolve(Identity(session=session))
    target.credentials.load()
    assert target.region_source == "the session"
    assert target.credentials.origin.startswith("the session")
    config = resolve(Identity(config=Config(region_name="us-east-2"), role_arn="arn:aws:iam::123456789012:role/r"))
    assert config.region_source == "config: region_name"
    assert config.credentials.origin == "the role arn:aws:iam::123456789012:role/r"


def test_the_variable_of_the_region_is_named_where_botocore_reads_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(tmp_path, "config", "[default]\nretries = 1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    target = resolve(Identity())
    target.credentials.load()
    assert target.region_source == "AWS_DEFAULT_REGION"
    assert target.credentials.origin == "the environment (AWS_ACCESS_KEY_ID)"


# what may still be running


def test_a_model_is_said_to_run_only_where_it_was_asked() -> None:
    timeout = Timeout(total=1.0)
    assert "the model may still be running" in str(deadline_exceeded(timeout))
    assert "nothing was sent" in str(deadline_exceeded(timeout, request_sent=False))
    assert "the service had refused it so far" in str(deadline_exceeded(timeout, answered=True))


@pytest.mark.parametrize(
    ("fault", "said", "sent"),
    [
        ("status_503_ServiceUnavailable", "had refused it so far", True),
        ("refuse", "nothing was sent", False),
        ("reset_before_headers", "the model may still be running", True),
    ],
)
def test_a_total_that_ends_between_attempts_names_the_end_of_the_last(
    direct_twin: Twin,  # noqa: F811
    fault: str,
    said: str,
    sent: bool,
) -> None:
    with Emulator() as emulator:
        emulator.inject(fault)
        timeout = Timeout(connect=PATIENCE, read=PATIENCE, total=PATIENCE)
        endpoint = direct_twin.endpoint(emulator.url, clock=FakeClock(chance=1000.0), timeout=timeout)
        with pytest.raises(errors.DeadlineExceededError, match=said) as caught:
            endpoint.invoke("Hello")
        assert caught.value.request_sent is sent


def test_a_service_that_takes_only_a_part_of_a_request_has_no_model_at_work(direct_twin: Twin) -> None:  # noqa: F811
    def deaf(peer: Peer) -> None:
        peer.head()
        done.wait(PATIENCE)

    import threading

    done = threading.Event()
    with Server(deaf) as server:
        endpoint = direct_twin.endpoint(server.url, timeout=fast(read=0.2))
        with pytest.raises(errors.ReadTimeoutError, match=r"took nothing more of the request for 0\.2 s") as caught:
            endpoint.invoke("x" * 6_000_000)
        done.set()
    assert "running" not in str(caught.value)


# the quota


def test_a_call_that_was_not_retried_because_the_quota_was_spent_says_so(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator() as emulator:
        emulator.inject("status_500_InternalFailure")
        endpoint = direct_twin.endpoint(emulator.url, clock=FakeClock())
        seen: set[bool] = set()
        for _ in range(40):
            with pytest.raises(errors.InternalFailureError) as caught:
                endpoint.invoke("Hello")
            seen.add(caught.value.quota_spent)
            assert ("its retry quota is used up" in str(caught.value)) is caught.value.quota_spent
        assert seen == {True, False}
        assert caught.value.message == "This is a fault."


@pytest.mark.parametrize(
    ("fault", "helps"),
    [
        ("status_429_ThrottlingException", True),
        ("status_503_ServiceUnavailable", True),
        ("status_500_InternalFailure", False),
    ],
)
def test_a_spent_quota_of_calls_that_are_too_many_says_what_helps(
    direct_twin: Twin,  # noqa: F811
    fault: str,
    helps: bool,
) -> None:
    with Emulator() as emulator:
        emulator.inject(fault)
        endpoint = direct_twin.endpoint(emulator.url, clock=FakeClock())
        said: set[tuple[bool, bool]] = set()
        for _ in range(60):
            with pytest.raises(errors.ServiceError) as caught:
                endpoint.invoke("Hello")
            said.add((caught.value.quota_spent, "concurrency=AdaptiveConcurrency()" in str(caught.value)))
        assert said == {(False, False), (True, helps)}


# a container that ignores Accept


CSV = b"0.1,0.9\n"


def answering(body: bytes, content_type: str) -> Any:
    def model(asked: ModelRequest) -> ModelReply:
        return ModelReply([body] if asked.streaming else body, content_type=content_type)

    return Emulator(model, piece_size=None)


@pytest.mark.parametrize(
    ("handler", "body", "content_type", "cure"),
    [
        (TabularHandler("csv", "json"), b"0.1\n0.9\n", "text/csv; charset=utf-8", "response='csv'"),
        (TabularRowsHandler("csv", "json"), b"0.1,x", "text/csv", "TabularRowsHandler reads that with response='csv'"),
        (TabularHandler("csv", "npy"), b"[1]", "application/json", "response='json'"),
        (TabularHandler("csv", "npy"), b"{}\n{}", "application/jsonlines", "response='jsonlines'"),
        (JSONHandler(), b"0.1 0.9", "text/csv", ""),
        (TextGenerationHandler(), b"hello", "text/plain", ""),
    ],
)
def test_an_accept_that_was_ignored_is_named_beside_the_type_that_came(
    twin: Twin,  # noqa: F811
    handler: Any,
    body: bytes,
    content_type: str,
    cure: str,
) -> None:
    value = [[1.0]] if "Tabular" in type(handler).__name__ else "Hello"
    with answering(body, content_type) as emulator, pytest.raises(errors.HandlerError) as caught:
        twin.endpoint(emulator.url, content_handler=handler).invoke(value)
    said = str(caught.value)
    kind = content_type.partition(";")[0]
    assert f"ignored Accept: {handler.accepts} was requested, but the answer's Content-Type is {kind}." in said
    assert cure in said
    assert ("response=" in said) is bool(cure)


@pytest.mark.parametrize("content_type", ["application/json", "application/octet-stream"])
def test_an_answer_of_the_type_that_was_asked_for_is_only_wrong(twin: Twin, content_type: str) -> None:  # noqa: F811
    with answering(b"nonsense", content_type) as emulator, pytest.raises(errors.HandlerError) as caught:
        twin.endpoint(emulator.url, content_handler=JSONHandler()).invoke("Hello")
    assert "Accept" not in str(caught.value)
    with answering(b"nonsense", "text/csv") as emulator:
        for accept in ("*/*", "application/json, text/*", "text/csv;q=0.5"):
            with pytest.raises(errors.HandlerError) as caught:
                twin.endpoint(emulator.url, content_handler=JSONHandler(accepts=accept)).invoke("Hello")
            assert "ignored" not in str(caught.value)


def test_an_error_of_a_stream_names_its_unexpected_type_once(twin: Twin) -> None:  # noqa: F811
    with answering(b"0.1 0.9\n", "text/csv") as emulator:
        stream = twin.endpoint(emulator.url, content_handler=ChatHandler()).stream("Hello")
        for _ in range(2):
            with pytest.raises(errors.SmendpointError) as caught:
                next(stream)
            assert str(caught.value).count("the answer's Content-Type is text/csv") == 1
    with answering(b"nonsense\n", "text/event-stream") as emulator:
        with pytest.raises(errors.SmendpointError) as caught:
            twin.endpoint(emulator.url, content_handler=ChatHandler()).collect("Hello")
        assert "Accept" not in str(caught.value)


# clients that are not open


def test_a_client_that_was_not_entered_is_named() -> None:
    aiobotocore = pytest.importorskip("aiobotocore.session")
    unopened = aiobotocore.AioSession().create_client("sagemaker-runtime", region_name="us-west-2")
    for make_one in (Endpoint, AsyncEndpoint):
        with pytest.raises(errors.ConfigurationError, match=r"is not open yet.*async with session\.create_client"):
            make_one("my-llm", client=unopened)
    unopened._coro.close()


def test_a_client_that_is_closed_is_named() -> None:
    import asyncio

    aiobotocore = pytest.importorskip("aiobotocore.session")

    async def main() -> None:
        with Emulator() as emulator:
            session = aiobotocore.AioSession()
            keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY, "region_name": "us-west-2"}
            async with session.create_client("sagemaker-runtime", endpoint_url=emulator.url, **keys) as client:
                endpoint: Any = AsyncEndpoint("my-llm", client=client)
                await endpoint.invoke("Hello")
            with pytest.raises(errors.ConfigurationError, match="the client is closed"):
                await endpoint.invoke("Hello")

    asyncio.run(main())


# keys

WITH_WHITE_SPACE = ("secret\n", " secret", "sec ret", "secret\t")


@pytest.mark.parametrize(
    ("secret", "hint"),
    [
        *((secret, "white space: was it copied with a line end?") for secret in WITH_WHITE_SPACE),
        ("sec\udcffret", "a byte that is not UTF-8: was it copied completely?"),
    ],
)
def test_a_secret_that_cannot_be_one_gets_a_hint(direct_twin: Twin, secret: str, hint: str) -> None:  # noqa: F811
    endpoint = make(direct_twin, region_name="us-west-2", aws_access_key_id="AKID", aws_secret_access_key=secret)
    with failing(direct_twin, endpoint, errors.CredentialsError) as caught:
        direct_twin.run(endpoint.invoke("Hello"))
    assert f"the secret key contains {hint}" in str(caught.value)
