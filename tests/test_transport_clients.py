"""Calls through a botocore client and an aiobotocore client: the behaviour of both twins."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError
from clocks import FakeClock
from inside import forget, transport_of
from servers import PATIENCE, Peer, Server, endless, fast, server_context
from twins import Twin

from smendpoint import BytesHandler, CallHooks, Timeout, errors
from smendpoint.emulator import Emulator

pytestmark = pytest.mark.usefixtures("bare_environment")

OPERATIONS = ("invoke", "stream")
WHOLE = "The stand-in model read: Hello"


class Heard(CallHooks):
    """Records the calls of its hooks."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def first_byte(self, call: Any) -> None:
        self.heard.append(call.operation)

    def call_finished(self, call: Any, error: BaseException | None) -> None:
        self.heard.append((call.status, call.request_id))


def test_calls_streams_and_maps_go_through_the_client_which_the_endpoint_leaves_open(client_twin: Twin) -> None:
    with Emulator() as emulator, client_twin.endpoint(emulator.url) as endpoint:
        answer = endpoint.send("Hello", endpoint_kwargs={"CustomAttributes": "a=1"})
        assert (answer.output, answer.attempts) == (WHOLE, 1)
        assert answer.request_id
        assert answer.invoked_production_variant == "AllTraffic"
        with endpoint.stream("Hello") as stream:
            assert "".join(stream) == WHOLE
            assert stream.iterator.request_id
        client_twin.run(endpoint.endpoint.aclose() if client_twin.asynchronous else endpoint.endpoint.close())
        assert endpoint.invoke("Hello") == WHOLE
        assert emulator.total_connections == 1
        assert list(endpoint.map(["Hello"] * 5, max_concurrency=2)) == [WHOLE] * 5
        called, *_ = emulator.requests
        assert "botocore" in called.headers["user-agent"].lower()  # an older aiobotocore names itself so
        assert called.headers["x-amzn-sagemaker-custom-attributes"] == "a=1"


def test_our_hooks_hear_what_the_client_was_answered(client_twin: Twin) -> None:
    hooks = Heard()
    with Emulator() as emulator, client_twin.endpoint(emulator.url, hooks=hooks) as endpoint:
        answer = endpoint.send("Hello")
        emulator.inject("status_424_ModelError", times=1)
        with pytest.raises(errors.ModelError) as caught:
            endpoint.invoke("Hello")
    assert isinstance(caught.value.__cause__, ClientError)
    assert hooks.heard == ["InvokeEndpoint", (200, answer.request_id), (424, caught.value.request_id)]
    assert answer.request_id


def test_the_clients_own_hooks_see_the_call_and_raise_their_own_errors(client_twin: Twin) -> None:
    seen: list[str] = []

    def see(request: Any, **_: Any) -> None:
        if seen:
            raise LookupError("mine")
        seen.append(request.method)

    with Emulator() as emulator, client_twin.endpoint(emulator.url) as endpoint:
        endpoint.client.meta.events.register("before-send.sagemaker-runtime", see)
        endpoint.invoke("Hello")
        with pytest.raises(LookupError, match="mine"):
            endpoint.invoke("Hello")
    assert seen == ["POST"]


def test_a_certificate_that_is_not_trusted_is_a_tls_error(client_twin: Twin) -> None:
    with Server(Peer.gone, tls=server_context()) as server, client_twin.endpoint(server.url) as endpoint:
        with pytest.raises(errors.TLSError, match="no TLS connection"):
            endpoint.invoke("Hello")


def test_a_client_needs_no_look_up_and_no_credentials_and_stays_after_a_fork(client_twin: Twin) -> None:
    with Emulator() as emulator, client_twin.endpoint(emulator.url) as endpoint:
        transport = transport_of(endpoint.endpoint)
        assert client_twin.run(transport.resolve()) is None
        client_twin.run(transport.refresh_ahead())
        assert transport.credentials is None
        assert transport.max_connections == 10  # of the client
        forget(endpoint.endpoint)
        assert endpoint.invoke("Hello") == WHOLE


# time


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_clients_own_read_timeout_is_ours(client_twin: Twin, operation: str) -> None:
    with Emulator() as emulator, client_twin.endpoint(emulator.url, timeout=fast(read=0.05)) as endpoint:
        emulator.inject("stall_before_headers")
        with pytest.raises(errors.ReadTimeoutError, match="within the client's read timeout"):
            endpoint.call(operation, "Hello")


@pytest.mark.parametrize("fault", ["chunk_size_bad", "stall_mid_stream"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_our_read_timeout_holds_for_a_body_beside_the_clients(client_twin: Twin, operation: str, fault: str) -> None:
    with Emulator() as emulator, client_twin.endpoint(emulator.url) as endpoint:
        emulator.inject(fault)
        with pytest.raises((errors.TransportError, errors.StreamTruncatedError)) as caught:
            endpoint.call(operation, "Hello", timeout=fast(read=0.05))
        assert fault != "stall_mid_stream" or "nothing arrived for 0.05 s" in str(caught.value)


def test_our_total_time_holds_for_a_reader_that_takes_its_time(client_twin: Twin) -> None:
    clock = FakeClock()
    with (
        Server(endless) as server,
        client_twin.endpoint(
            server.url, content_handler=BytesHandler(), timeout=Timeout(PATIENCE, PATIENCE, PATIENCE), clock=clock
        ) as endpoint,
    ):
        stream = endpoint.stream(b"Hello")
        assert next(stream) == b"one"
        clock.passed += PATIENCE
        with pytest.raises(errors.DeadlineExceededError, match="total of 20 s") as caught:
            next(stream)
        assert caught.value.received == (b"one",)


def test_our_total_time_holds_for_a_body(client_twin: Twin) -> None:
    with Server(endless) as server, client_twin.endpoint(server.url, content_handler=BytesHandler()) as endpoint:
        with pytest.raises(errors.DeadlineExceededError, match=r"total of 0\.05 s"):
            endpoint.collect(b"Hello", timeout=fast(total=0.05))


def test_chunks_are_handed_on_as_they_arrive_and_closing_lets_the_connection_go(client_twin: Twin) -> None:
    gone = threading.Event()
    with (
        Server(lambda peer: (endless(peer), gone.set())) as server,
        client_twin.endpoint(server.url, content_handler=BytesHandler()) as endpoint,
    ):
        with endpoint.stream(b"Hello") as stream:
            assert next(stream) == b"one"
        client_twin.settle()
        assert gone.wait(PATIENCE)
