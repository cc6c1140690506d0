"""AWS's own SDK for bidirectional streams against the emulator. It is a package apart, for Python 3.12 and later."""

# The SDK is a package apart: type checkers do not see it.
# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportPossiblyUnboundVariable=false

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trustme

from smendpoint.emulator import Credentials, Emulator, ModelConversation

WHY = "needs aws-sdk-sagemaker-runtime-http2[awscrt], which needs Python 3.12"
sdk = pytest.importorskip("aws_sdk_sagemaker_runtime_http2", reason=WHY)
crt = pytest.importorskip("awscrt.io", reason=WHY)

from aws_sdk_sagemaker_runtime_http2 import client, config, models  # noqa: E402
from smithy_core import exceptions as sdk_errors  # noqa: E402
from smithy_http.aio.crt import AWSCRTHTTPClient  # noqa: E402

KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "to/k+en=")
PATIENCE = 20.0  # seconds; only ever waited for when a test fails


class Transport(AWSCRTHTTPClient):
    """The SDK's own, which trusts the tests' authority: it has no option for that."""

    def __init__(self, authority: bytes, **options: Any) -> None:
        super().__init__(**options)
        trusting = crt.TlsContextOptions()
        trusting.override_default_trust_store(authority)
        self._authority = authority
        self._tls_ctx = crt.ClientTlsContext(trusting)

    def __deepcopy__(self, memo: Any) -> Transport:
        return Transport(self._authority, eventloop=self._eventloop)


async def echo(conversation: ModelConversation) -> None:
    async for part in conversation:
        await conversation.send(part.data if part.text is None else part.text, part.partial)


def converse(
    talk: Callable[[Any], Awaitable[object]],
    model: Callable[[ModelConversation], Awaitable[None]] = echo,
    *,
    credentials: Credentials = KEYS,
    fault: str = "",
    **members: str,
) -> Emulator:
    """Open a bidirectional stream to a model, and let ``talk`` use it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])

    async def run(emulator: Emulator) -> None:
        settings = await config.AsyncSageMakerRuntimeHTTP2Config.resolve(
            region="us-east-1",
            endpoint_uri=f"https://localhost:{emulator.port}",
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=credentials.secret_key,
            aws_session_token=credentials.token,
            transport=Transport(authority.cert_pem.bytes()),
            max_attempts=1,
        )
        async with client.AsyncSageMakerRuntimeHTTP2Client(settings) as caller:
            request = models.InvokeEndpointWithBidirectionalStreamInput(endpoint_name="voice", **members)
            async with await caller.invoke_endpoint_with_bidirectional_stream(request) as stream:
                await talk(stream)

    with Emulator({"voice": model}, host="localhost", ssl_context=context, credentials=KEYS) as emulator:
        if fault:
            emulator.inject(fault)
        asyncio.run(asyncio.wait_for(run(emulator), PATIENCE))
        emulator.idle()
        return emulator


def part(data: bytes, **members: str) -> Any:
    value = models.RequestPayloadPart(bytes_=data, **members)
    return models.RequestStreamEventPayloadPart(value=value)


class Talk:
    """Send some parts, end the input, and keep what comes."""

    def __init__(self, *parts: Any) -> None:
        self._parts = parts
        self.received: list[tuple[bytes, str, str]] = []

    async def __call__(self, stream: Any) -> None:
        for one in self._parts:
            await stream.input_stream.send(one)
        await stream.input_stream.close()
        _, output = await stream.await_output()
        async for event in output:
            value = event.value
            self.received.append((value.bytes_, value.data_type, value.completion_state))


def test_the_emulator_verifies_what_the_sdk_signs_and_gives_the_model_what_it_sent() -> None:
    talk = Talk(part(b"a"), part("é".encode(), data_type="UTF8"), part(b"b", completion_state="PARTIAL"))
    converse(talk)
    assert talk.received == [
        (b"a", "BINARY", "COMPLETE"),
        ("é".encode(), "UTF8", "COMPLETE"),
        (b"b", "BINARY", "PARTIAL"),
    ]


def test_parts_that_are_larger_than_every_window_pass() -> None:
    talk = Talk(*(part(bytes([number]) * 512 * 1024) for number in range(4)))
    converse(talk)
    assert [received[0] for received in talk.received] == [bytes([number]) * 512 * 1024 for number in range(4)]


def test_the_sdk_and_the_model_take_turns() -> None:
    received: list[bytes] = []

    async def talk(stream: Any) -> None:
        for number in range(10):
            await stream.input_stream.send(part(b"%d" % number))
            if not number:
                _, output = await stream.await_output()
            event = await output.receive()
            received.append(event.value.bytes_)
        await stream.input_stream.close()
        assert await output.receive() is None

    converse(talk)
    assert received == [b"%d" % number for number in range(10)]


def test_the_members_of_the_request_arrive() -> None:
    emulator = converse(
        Talk(part(b"a")),
        target_variant="Blue",
        model_invocation_path="v1/listen",
        model_query_string="model=nova-3&language=en",
    )
    (request,) = emulator.requests
    assert request.operation == "InvokeEndpointWithBidirectionalStream"
    assert {name: value for name, value in request.headers.items() if name.startswith("x-amzn-sagemaker-")} == {
        "x-amzn-sagemaker-target-variant": "Blue",
        "x-amzn-sagemaker-model-invocation-path": "v1/listen",
        "x-amzn-sagemaker-model-query-string": "model=nova-3&language=en",
    }


def test_the_sdk_signs_the_host_with_its_port() -> None:
    (request,) = (emulator := converse(Talk(part(b"a")))).requests
    assert request.headers["host"] == f"localhost:{emulator.port}"


async def fails(conversation: ModelConversation) -> None:
    async for _ in conversation:
        raise ValueError("out of memory")


async def fails_later(conversation: ModelConversation) -> None:
    await conversation.send("hello")
    raise ValueError("out of memory")


def test_the_sdk_reads_the_errors_of_the_emulator() -> None:
    with pytest.raises(models.ModelError, match="out of memory"):
        converse(Talk(part(b"a")), fails)
    with pytest.raises(models.ModelStreamError, match="out of memory") as caught:
        converse(Talk(part(b"a")), fails_later)
    assert caught.value.error_code == "StreamBroken"
    with pytest.raises(models.InternalStreamFailure):
        converse(Talk(part(b"a")), fault="h2_internal_failure")
    with pytest.raises(models.ServiceUnavailableError):
        converse(Talk(part(b"a")), fault="status_503_ServiceUnavailableError")


def test_the_sdk_is_refused_with_another_secret() -> None:
    wrong = Credentials(KEYS.access_key, "wrong", KEYS.token)
    with pytest.raises(sdk_errors.CallError, match=r"403.*InvalidSignatureException"):
        converse(Talk(part(b"a")), credentials=wrong)
