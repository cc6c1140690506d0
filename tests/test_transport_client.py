"""`_transport/clients/client.py`: calls through real boto3 and botocore clients, and through mocks of them."""

from __future__ import annotations

import functools
import io
import os
import threading
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.response import StreamingBody
from botocore.stub import Stubber
from clocks import FakeClock
from feeding import encode_part
from inside import send, source_of, transport_of
from members import require_member
from servers import PATIENCE, InThread, Peer, Server, endless, fast

from smendpoint import Endpoint
from smendpoint._transport.clients import client as module
from smendpoint._transport.clients.client import ClientSource, raw_stream, reader_of, socket_under
from smendpoint._transport.deadline import Cancellation, Cancelled, Deadline
from smendpoint.emulator import Emulator, ModelReply, ModelRequest
from smendpoint.errors import (
    ConfigurationError,
    CredentialsError,
    ProtocolError,
    ReadTimeoutError,
    TransportError,
    ValidationError,
)
from smendpoint.handlers import BytesHandler

pytestmark = pytest.mark.usefixtures("bare_environment")

ANSWER = b'[{"generated_text": "fine"}]'
KEYS = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret", "region_name": "us-east-1"}


@functools.cache
def session() -> Any:
    """One for all clients: it keeps the service's model, which takes long to read."""
    return botocore.session.Session()


def make_client(url: str, *, attempts: int = 1, **config: Any) -> Any:
    settings = {"retries": {"total_max_attempts": attempts, "mode": "standard"}, **config}
    return session().create_client("sagemaker-runtime", endpoint_url=url, config=Config(**settings), **KEYS)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Any]:
    made = make_client(emulator.url)
    yield made
    made.close()


def through(client: Any, **options: Any) -> Any:
    return Endpoint("my-llm", client=client, **options)


def test_a_boto3_client_is_called(emulator: Emulator) -> None:
    client = boto3.client("sagemaker-runtime", endpoint_url=emulator.url, **KEYS)
    with through(client) as endpoint:
        answer = endpoint.send("Hello")
        assert "".join(endpoint.stream("Hello")) == answer.output
    assert all("Boto3" in request.headers["user-agent"] for request in emulator.requests)
    client.close()


def test_a_map_goes_through_the_client_and_no_wider_than_its_pool(emulator: Emulator) -> None:
    client = make_client(emulator.url, max_pool_connections=2)
    endpoint = through(client, content_handler=BytesHandler())
    assert transport_of(endpoint).max_connections == 2
    outputs = list(endpoint.map([b'{"inputs": "Hello"}'] * 6, max_concurrency=5))
    assert len(set(outputs)) == 1
    assert emulator.total_connections <= 2
    client.close()


def test_a_call_that_was_stopped_before_is_not_made(emulator: Emulator, client: Any) -> None:
    scope = Cancellation()
    scope.stop()
    with pytest.raises(Cancelled):
        send(through(client), scope)
    assert emulator.requests == []


# errors


def test_a_client_without_credentials_says_so(emulator: Emulator) -> None:
    client = botocore.session.Session().create_client(
        "sagemaker-runtime", endpoint_url=emulator.url, region_name="us-east-1"
    )
    with pytest.raises(CredentialsError, match="the client found no credentials"):
        through(client).invoke("Hello")
    assert emulator.total_connections == 0
    client.close()


# streams


def test_a_stream_can_be_closed_while_another_thread_reads() -> None:
    with Server(endless) as server:
        client = make_client(server.url)
        stream = through(client, content_handler=BytesHandler(), timeout=fast(read=1e9)).stream(b"Hello")
        assert next(stream) == b"one"
        reading = threading.Event()
        source = source_of(stream)
        read = source._read
        source._read = lambda: (reading.set(), read())[1]
        reader = InThread(lambda: next(stream))
        assert reading.wait(PATIENCE)
        stream.close()
        assert "closed before its end" in str(reader.outcome())
        client.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_that_closes_a_stream_closes_its_own_side_only(client: Any) -> None:
    endpoint = through(client)
    whole = "".join(endpoint.stream("Hello"))
    with endpoint.stream("Hello") as stream:
        first = next(stream)
        pid = os.fork()
        if pid == 0:
            stream.close()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert first + "".join(stream) == whole


def test_a_stream_is_closed_gently_in_another_process(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the child, but in this process."""
    stream = through(client).stream("Hello")
    next(stream)
    ours = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: ours + 1)
    sock = socket_under(source_of(stream)._held)
    closed: list[Any] = []
    monkeypatch.setattr(module.socket.socket, "shutdown", lambda *_: closed.append(sock))
    stream.close()
    assert closed == []


def test_the_socket_under_an_answer_is_found_where_urllib3_keeps_it(client: Any) -> None:
    """Our time limits, and closing from another thread, stand on this: it fails when urllib3 moves it."""
    with through(client).stream("Hello") as stream:
        assert socket_under(source_of(stream)._held).fileno() > 0
        assert callable(getattr(source_of(stream)._held, "read1", None) or source_of(stream)._held.stream)
    body = client.invoke_endpoint(EndpointName="e", Body=b'{"inputs": "x"}')["Body"]
    assert socket_under(raw_stream(body)).fileno() > 0
    body.close()


def source(raw: Any, *, read: float = PATIENCE, headers: Any = None) -> ClientSource:
    return ClientSource(raw, 200, headers or {}, Deadline(fast(read=read), None, FakeClock().monotonic))


def test_an_older_urllib3_without_read1_streams_too(emulator: Emulator, client: Any) -> None:
    class Older:
        """urllib3's response before it had `read1`."""

        def __init__(self, raw: Any) -> None:
            self.raw = raw
            self._fp = raw._fp

        def stream(self, size: int) -> Iterator[bytes]:
            yield from self.raw.stream(size)

        def release_conn(self) -> None:
            self.raw.release_conn()

        def close(self) -> None:
            self.raw.close()

    raw = raw_stream(client.invoke_endpoint(EndpointName="e", Body=b'{"inputs": "x"}')["Body"])
    read = source(Older(raw))
    assert b"The stand-in model read: x" in b"".join(iter(read.read, b""))
    assert read.read() == b""


def test_a_body_that_is_only_readable_is_read() -> None:
    class Readable:
        def __init__(self) -> None:
            self.pieces = [b"one", b"two"]

        def read(self, size: int) -> bytes:
            return self.pieces.pop(0) if self.pieces else b""

    read = source(Readable())
    assert list(iter(read.read, b"")) == [b"one", b"two"]
    read = source(Readable())
    read.close()  # has nothing to close
    read.close()
    assert read.read() == b""


def test_a_body_that_is_shorter_than_announced_is_a_protocol_error() -> None:
    read = source(io.BytesIO(b"four"), headers={"content-length": "5"})
    assert read.read() == b"four"
    with pytest.raises(ProtocolError, match="shorter than announced"):
        read.read()
    chunked = source(io.BytesIO(b"four"), headers={"content-length": "5", "transfer-encoding": "chunked"})
    assert list(iter(chunked.read, b"")) == [b"four"]


def test_an_answer_that_ends_in_its_head_is_a_protocol_error() -> None:
    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n")

    with Server(serve) as server:
        client = make_client(server.url)
        with pytest.raises(ProtocolError, match="ended in its head"):
            through(client).invoke("Hello")
        client.close()


def test_a_body_of_nothing_is_empty() -> None:
    assert raw_stream(None) is None
    read = source(None, headers={"content-length": "5"})
    assert read.read() == b""
    read.close()


def test_a_socket_that_is_closed_already_can_be_closed(client: Any) -> None:
    stream = through(client).stream("Hello")
    next(stream)
    socket_under(source_of(stream)._held).close()
    stream.close()


def test_an_error_of_a_mocked_body_that_is_not_a_clients_is_its_own() -> None:
    class Failing(io.BytesIO):
        def read1(self, size: int | None = -1) -> bytes:
            raise LookupError("mine")

    with pytest.raises(LookupError):
        source(Failing()).read()


def test_a_timeout_while_reading_is_told_with_our_limit() -> None:
    class Slow(io.BytesIO):
        def read1(self, size: int | None = -1) -> bytes:
            raise TimeoutError

    with pytest.raises(ReadTimeoutError, match="nothing arrived for 3 s"):
        source(Slow(), read=3.0).read()


def test_a_connection_that_breaks_while_reading_is_lost() -> None:
    class Broken(io.BytesIO):
        def read1(self, size: int | None = -1) -> bytes:
            raise ConnectionResetError

    with pytest.raises(TransportError) as caught:
        source(Broken()).read()
    assert caught.value.response_started


# mocks


def test_botocores_stubber_works(client: Any) -> None:
    body = StreamingBody(io.BytesIO(ANSWER), len(ANSWER))
    with Stubber(client) as stubber:
        stubber.add_response("invoke_endpoint", {"Body": body, "InvokedProductionVariant": "blue"})
        stubber.add_client_error("invoke_endpoint", "ValidationError", "no such endpoint", 400)
        endpoint = through(client)
        answer = endpoint.send("Hello")
        assert (answer.output, answer.invoked_production_variant) == ("fine", "blue")
        with pytest.raises(ValidationError, match="no such endpoint"):
            endpoint.invoke("Hello")
        stubber.assert_no_pending_responses()


def test_a_mock_of_a_client_works() -> None:
    mock = MagicMock()
    mock.invoke_endpoint.return_value = {"Body": io.BytesIO(ANSWER), "CustomAttributes": "a=1"}
    endpoint = Endpoint("my-llm", client=mock)
    answer = endpoint.send("Hello")
    assert (answer.output, answer.custom_attributes, answer.attempts) == ("fine", "a=1", 1)
    (call,) = mock.invoke_endpoint.call_args_list
    assert call.kwargs["EndpointName"] == "my-llm"
    assert call.kwargs["ContentType"] == "application/json"


def test_a_mocked_stream_works() -> None:
    mock = MagicMock()
    frames = encode_part(b'{"generated_text": "fi"}\n') + encode_part(b'{"generated_text": "ne"}\n')
    mock.invoke_endpoint_with_response_stream.return_value = {"Body": io.BytesIO(frames)}
    assert "".join(Endpoint("my-llm", client=mock).stream("Hello")) == "fine"


def test_a_mock_whose_body_is_a_mock_is_refused_and_not_read_for_ever() -> None:
    mock = MagicMock()
    mock.invoke_endpoint.return_value = {"Body": MagicMock()}
    with pytest.raises(ConfigurationError, match=r"returns MagicMock instead of bytes.*io\.BytesIO"):
        Endpoint("my-llm", client=mock).invoke("Hello")


def test_a_body_without_bytes_is_refused() -> None:
    mock = MagicMock()
    mock.invoke_endpoint_with_response_stream.return_value = {"Body": [{"PayloadPart": {"Bytes": b"x"}}]}
    with pytest.raises(ConfigurationError, match="list, gives no access to its bytes"):
        list(Endpoint("my-llm", client=mock).stream("Hello"))


def test_moto_works(monkeypatch: pytest.MonkeyPatch) -> None:
    import moto

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with moto.mock_aws():
        client = boto3.client("sagemaker-runtime", region_name="us-east-1")
        answer = Endpoint("my-llm", client=client, content_handler=BytesHandler()).send(b"Hello")
        assert answer.output == b"body"  # moto's own
        assert answer.custom_attributes == "custom_attributes"
        client.close()


# what goes and what comes


def test_every_member_reaches_the_service_by_its_own_name(emulator: Emulator, client: Any) -> None:
    require_member("InvokeEndpoint", "InferenceComponentName")
    through(client, inference_component_name="part", endpoint_kwargs={"TargetVariant": "blue"}).invoke("Hello")
    (request,) = emulator.requests
    assert request.headers["x-amzn-sagemaker-target-variant"] == "blue"
    assert request.headers["x-amzn-sagemaker-inference-component"] == "part"


def test_the_headers_of_an_answer_are_its_attributes(client: Any) -> None:
    def model(request: ModelRequest) -> ModelReply:
        return ModelReply(ANSWER, content_type="application/x-special", custom_attributes="trace=1")

    with Emulator(model) as emulator:
        made = make_client(emulator.url)
        answer = through(made).send("Hello")
        assert (answer.content_type, answer.custom_attributes) == ("application/x-special", "trace=1")
        with through(made).stream("Hello") as stream:
            assert (stream.content_type, stream.custom_attributes) == ("application/x-special", "trace=1")
        made.close()


def test_reading_in_pieces_is_asked_for_in_one_place() -> None:
    assert reader_of(io.BytesIO(b"x" * (module.RECV_BYTES + 1)))() == b"x" * module.RECV_BYTES
