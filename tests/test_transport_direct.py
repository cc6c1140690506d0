"""`blocking/transport.py`: dead connections are replaced once, calls can be stopped, broken streams keep what came."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from clocks import FakeClock
from inside import pool_of, send, transport_of
from servers import (
    PATIENCE,
    Peer,
    Server,
    bare_environment,  # noqa: F401
    closed_port,
    deaf_port,
    fast,
    make_endpoint,
    response,
)

from smendpoint import RetryPolicy, errors
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint._transport import address as addressing
from smendpoint._transport.blocking.transport import DirectTransport
from smendpoint._transport.deadline import Cancellation, Cancelled, Deadline
from smendpoint.emulator import Emulator, ModelRequest
from smendpoint.errors import (
    ConfigurationError,
    CredentialsError,
    TransportError,
    ValidationError,
)
from smendpoint.handlers import BytesHandler

pytestmark = pytest.mark.usefixtures("bare_environment")


def echo(request: ModelRequest) -> bytes:
    return b"answer to " + request.body


# dead connections


@pytest.mark.parametrize("fault", ["idle_death", "idle_reset", "reuse_reset"])
def test_a_connection_that_died_while_idle_is_replaced_without_an_attempt(fault: str) -> None:
    with Emulator(echo) as emulator, make_endpoint(emulator.url, content_handler=BytesHandler()) as endpoint:
        emulator.inject(fault, times=1)
        assert endpoint.invoke(b"1") == b"answer to 1"
        emulator.idle()
        answer = endpoint.send(b"2")
        assert (answer.output, answer.attempts) == (b"answer to 2", 1)
        assert len(emulator.requests) == 2
        assert emulator.total_connections == 2


def test_a_reused_connection_that_dies_unheard_is_replaced_exactly_once() -> None:
    """A request on a new connection that dies is an attempt, and a failed one."""

    def once_then_reset(peer: Peer) -> None:
        peer.request()
        peer.send(response())
        peer.request()
        peer.reset()

    def reset(peer: Peer) -> None:
        peer.request()
        peer.reset()

    retry = RetryPolicy(max_attempts=1)
    with Server(once_then_reset, reset) as server, make_endpoint(server.url, retry=retry) as endpoint:
        endpoint.invoke("Hello")
        with pytest.raises(TransportError, match="before an answer") as caught:
            endpoint.invoke("Hello")
        assert caught.value.attempts == 1
        assert server.connections == 2


def test_a_reused_connection_that_dies_after_a_byte_of_the_answer_is_not_replaced() -> None:
    def cut(peer: Peer) -> None:
        peer.request()
        peer.send(response())
        peer.request()
        peer.send(b"HTTP/1.1 2")

    with Server(cut) as server, make_endpoint(server.url) as endpoint:
        endpoint.invoke("Hello")
        with pytest.raises(errors.ProtocolError):
            endpoint.invoke("Hello")
        assert server.connections == 1


def test_after_one_dead_connection_the_other_idle_ones_are_not_trusted_either() -> None:
    release = threading.Event()

    def once_then_reset(peer: Peer) -> None:
        peer.request()
        arrived.wait(PATIENCE)
        peer.send(response())
        peer.request()
        peer.reset()

    arrived = threading.Barrier(3)
    with Server(once_then_reset, once_then_reset, Peer.serve) as server, make_endpoint(server.url) as endpoint:
        threads = [threading.Thread(target=endpoint.invoke, args=("Hello",)) for _ in range(2)]
        for thread in threads:
            thread.start()
        arrived.wait(PATIENCE)
        for thread in threads:
            thread.join(PATIENCE)
        assert endpoint.send("Hello").attempts == 1
        assert server.connections == 3
    release.set()


def test_a_stream_replaces_a_dead_connection_too() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        emulator.inject("reuse_reset", times=1)
        endpoint.invoke("Hello")
        with endpoint.stream("Hello") as stream:
            assert list(stream)
            assert stream.attempts == 1


# where to, and with what


def test_nothing_is_looked_up_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    resolve = addressing.resolve
    monkeypatch.setattr(addressing, "resolve", lambda identity: asked.append(identity) or resolve(identity))
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        assert asked == []
        endpoint.invoke("Hello")
        endpoint.invoke("Hello")
        transport_of(endpoint).resolve()
    assert len(asked) == 1


def test_the_size_of_the_pool_may_come_from_a_botocore_config() -> None:
    from botocore.config import Config

    config = Config(max_pool_connections=3)
    with Emulator() as emulator, make_endpoint(emulator.url, config=config) as endpoint:
        endpoint.invoke("Hello")
        assert transport_of(endpoint).max_connections == 3
    with Emulator() as emulator, make_endpoint(emulator.url, config=config, max_connections=2) as endpoint:
        endpoint.invoke("Hello")
        assert transport_of(endpoint).max_connections == 2


class Provider:
    """Credentials that are about to run out."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.renewed = threading.Event()
        self.asked: list[bool] = []

    def current(self) -> Credentials | None:
        return Credentials("AKIDEXAMPLE", "secret") if self.asked or not self.fails else None

    def refresh_due(self) -> bool:
        return not self.renewed.is_set()

    def load(self, *, rejected: Credentials | None = None) -> Credentials:
        self.renewed.set()
        if self.fails:
            raise CredentialsError("none to be had")
        return Credentials("AKIDEXAMPLE", "secret")


def give_credentials(endpoint: Any, provider: Provider) -> None:
    target = transport_of(endpoint).resolve()
    transport_of(endpoint)._address.target = target._replace(credentials=provider)


@pytest.mark.parametrize("fails", [False, True])
def test_credentials_that_run_out_soon_are_renewed_beside_the_call(fails: bool) -> None:
    provider = Provider(fails=fails)
    provider.asked.append(True)
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        give_credentials(endpoint, provider)
        endpoint.invoke("Hello")
        assert provider.renewed.wait(PATIENCE)
        for thread in threading.enumerate():
            if thread.name == "smendpoint-credentials":
                thread.join(PATIENCE)


def test_a_call_without_credentials_fails_before_anything_is_sent() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        give_credentials(endpoint, Provider(fails=True))
        with pytest.raises(CredentialsError, match="none to be had") as caught:
            endpoint.invoke("Hello")
        assert caught.value.endpoint_name == "my-llm"
        assert emulator.total_connections == 0


# stopping


def start(work: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, raised


def call(endpoint: Any, scope: Cancellation) -> Callable[[], object]:
    return lambda: send(endpoint, scope)


def stopped(thread: threading.Thread, raised: list[BaseException], scope: Cancellation) -> None:
    scope.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert len(raised) == 1


def test_a_call_that_waits_for_its_answer_can_be_stopped() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        emulator.inject("stall_before_headers")
        scope = Cancellation()
        thread, raised = start(call(endpoint, scope))
        emulator.wait_for(lambda it: len(it.requests) == 1)
        stopped(thread, raised, scope)
        emulator.disconnected()
        assert len(emulator.requests) == 1  # the retry that it would have been worth was not made


def test_a_call_on_a_connection_that_was_used_before_can_be_stopped() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        endpoint.invoke("Hello")
        emulator.inject("stall_mid_stream")
        scope = Cancellation()
        thread, raised = start(call(endpoint, scope))
        emulator.wait_for(lambda it: len(it.requests) == 2)
        stopped(thread, raised, scope)
        emulator.disconnected()


def test_a_call_that_waits_between_attempts_can_be_stopped() -> None:
    retry = RetryPolicy(max_attempts=2)

    class Slow(FakeClock):
        def sleep(self, seconds: float, wake: threading.Event | None = None) -> None:
            assert wake is not None
            asleep.set()
            assert wake.wait(PATIENCE)

    asleep = threading.Event()
    with Emulator() as emulator, make_endpoint(emulator.url, retry=retry, clock=Slow()) as endpoint:
        emulator.inject("status_503")
        scope = Cancellation()
        thread, raised = start(call(endpoint, scope))
        assert asleep.wait(PATIENCE)
        stopped(thread, raised, scope)
        assert isinstance(raised[0], Cancelled)
        assert len(emulator.requests) == 1


def test_a_call_that_waits_for_a_place_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    queueing, queues = Deadline.queueing, threading.Event()
    monkeypatch.setattr(Deadline, "queueing", lambda deadline: (queueing(deadline), queues.set())[0])
    with Emulator() as emulator, make_endpoint(emulator.url, max_connections=1) as endpoint:
        with endpoint.stream("Hello"):
            scope = Cancellation()
            thread, raised = start(call(endpoint, scope))
            assert queues.wait(PATIENCE)
            stopped(thread, raised, scope)
            assert isinstance(raised[0], Cancelled)
        assert endpoint.invoke("Hello")


class Connecting(Cancellation):
    """Says when the call has begun to connect, which is the second wait that can be stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = threading.Semaphore(1)
        self.connects = threading.Event()

    def enter(self, abort: Callable[[], object]) -> None:
        super().enter(abort)
        if not self.waits.acquire(blocking=False):
            self.connects.set()


def test_a_call_that_is_connecting_can_be_stopped() -> None:
    with deaf_port() as port, make_endpoint(f"http://127.0.0.1:{port}") as endpoint:
        scope = Connecting()
        thread, raised = start(call(endpoint, scope))
        assert scope.connects.wait(PATIENCE)
        stopped(thread, raised, scope)


def test_a_call_in_a_tls_handshake_can_be_stopped() -> None:
    shaking = threading.Event()

    def deaf(peer: Peer) -> None:
        peer.sock.recv(1)
        shaking.set()
        peer.gone()

    with Server(deaf) as server, make_endpoint(server.url.replace("http:", "https:")) as endpoint:
        scope = Cancellation()
        thread, raised = start(call(endpoint, scope))
        assert shaking.wait(PATIENCE)
        stopped(thread, raised, scope)


@pytest.mark.parametrize("when", ["before", "while connecting in vain"])
def test_a_call_that_was_stopped_before_sends_nothing(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scope = Cancellation()
    if when == "before":
        scope.stop()
    with closed_port() as port, make_endpoint(f"http://127.0.0.1:{port}") as endpoint:
        if when != "before":
            enter = Cancellation.enter

            def late(self: Cancellation, abort: Any) -> None:
                if abort != pool_of(endpoint).abort:
                    self.stopped = True
                enter(self, abort)

            monkeypatch.setattr(Cancellation, "enter", late)
        with pytest.raises(Cancelled):
            send(endpoint, scope)


def test_stopping_a_call_that_is_over_does_not_touch_its_connection() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        scope = Cancellation()
        send(endpoint, scope)
        scope.stop()
        endpoint.invoke("Hello")
        assert emulator.total_connections == 1


# streams


def test_what_came_before_broken_bytes_is_handed_on_even_if_it_came_with_them() -> None:
    """All in one segment: head, a good chunk, and one whose size is no number."""
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\nxyz\r\n"

    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(data)
        peer.gone()

    with Server(serve) as server, make_endpoint(server.url) as endpoint:
        call, _ = endpoint._request(direct_operation(), "Hello", (), None, None, {})
        source = endpoint._caller.run(call, endpoint._caller.start(call))
        assert source.read() == b"good"
        for _ in range(2):
            with pytest.raises(errors.ProtocolError):
                source.read()
        source.close()


def direct_operation() -> Any:
    from smendpoint._core.aws.operations import INVOKE_ENDPOINT_STREAM

    return INVOKE_ENDPOINT_STREAM


def test_what_came_before_broken_bytes_of_a_later_read_is_handed_on() -> None:
    went = threading.Event()

    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        went.wait(PATIENCE)
        peer.send(b"4\r\ngood\r\nxyz\r\n")
        peer.gone()

    with Server(serve) as server, make_endpoint(server.url) as endpoint:
        request, _ = endpoint._request(direct_operation(), "Hello", (), None, None, {})
        source = endpoint._caller.run(request, endpoint._caller.start(request))
        went.set()
        assert source.read() == b"good"
        with pytest.raises(errors.ProtocolError):
            source.read()
        source.close()
        source.close()
        assert source.read() == b""


def test_a_stream_that_is_refused_gives_its_connection_back() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url, max_connections=1) as endpoint:
        emulator.inject("status_400_ValidationError", times=1)
        with pytest.raises(ValidationError):
            list(endpoint.stream("Hello"))
        assert endpoint.invoke("Hello")
        assert emulator.total_connections == 1


# closing


def test_a_closed_endpoint_says_so() -> None:
    with Emulator() as emulator:
        endpoint = make_endpoint(emulator.url)
        endpoint.invoke("Hello")
        with endpoint:
            pass
        emulator.disconnected()
        endpoint.close()
        for use in (endpoint.invoke, lambda text: list(endpoint.stream(text))):
            with pytest.raises(ConfigurationError, match="the endpoint is closed"):
                use("Hello")
        assert len(emulator.requests) == 1


def test_closing_an_endpoint_leaves_calls_that_are_under_way_alone() -> None:
    with Emulator() as emulator:
        endpoint = make_endpoint(emulator.url)
        with endpoint.stream("Hello") as stream:
            first = next(stream)
            endpoint.close()
            assert emulator.open_connections == 1
            assert first + "".join(stream) == "The stand-in model read: Hello"
        emulator.disconnected()


def test_a_transport_waits_by_the_clock_it_was_given() -> None:
    clock = FakeClock()
    with Emulator() as emulator, make_endpoint(emulator.url, clock=clock, timeout=fast()) as endpoint:
        assert isinstance(transport_of(endpoint), DirectTransport)
        emulator.inject("throttle_then_ok_1")
        endpoint.invoke("Hello")
        assert clock.slept == [1.0]
