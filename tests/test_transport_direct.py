"""The direct lane, in both twins: dead connections are replaced once, credentials are renewed beside the calls.

And what only the blocking twin has: its calls can be stopped from another thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from botocore.config import Config
from clocks import FakeClock
from feeding import encode_part
from inside import pool_of, send, transport_of
from servers import PATIENCE, InThread, Peer, Server, closed_port, deaf_port, make_endpoint, response
from targets import HeldCredentials, make_target
from twins import Twin, bytes_endpoint

from smendpoint import RetryPolicy, errors
from smendpoint._transport import address as addressing
from smendpoint._transport.deadline import Cancellation, Cancelled, Deadline
from smendpoint.emulator import Emulator

pytestmark = pytest.mark.usefixtures("bare_environment")

OPERATIONS = ("invoke", "stream")


# dead connections


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", ["idle_death", "idle_reset", "reuse_reset"])
def test_a_connection_that_died_while_idle_is_replaced_without_an_attempt(
    caller: Twin, fault: str, operation: str
) -> None:
    with Emulator() as emulator, bytes_endpoint(caller, emulator.url) as endpoint:
        emulator.inject(fault, times=2)
        for _ in range(4):
            assert endpoint.call(operation, b"Hello")
            emulator.idle()
        assert len(emulator.requests) == 4
        assert emulator.total_connections == 3


def answers_once(peer: Peer) -> None:
    """Answer one request, and reset the connection at the next."""
    peer.request()
    peer.send(response())
    peer.request()
    peer.reset()


def test_a_reused_connection_that_dies_unheard_is_replaced_exactly_once(caller: Twin) -> None:
    """A request on a new connection that dies is an attempt, and a failed one."""

    def reset(peer: Peer) -> None:
        peer.request()
        peer.reset()

    with Server(answers_once, reset) as server, bytes_endpoint(caller, server.url) as endpoint:
        endpoint.invoke(b"Hello")
        with pytest.raises(errors.TransportError, match="before an answer") as caught:
            endpoint.invoke(b"Hello")
        assert caught.value.attempts == 1
        assert server.connections == 2


def test_after_one_dead_connection_the_other_idle_ones_are_not_trusted_either(caller: Twin) -> None:
    frame = encode_part(b"fine")
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\nContent-Length: %d\r\n\r\n"

    def streams_once(peer: Peer) -> None:
        peer.request()
        peer.send((head % (2 * len(frame))).encode() + frame)
        assert both.wait(PATIENCE)
        peer.send(frame)
        if peer.request()[0]:
            trusted.append(peer.number)  # and no answer

    both = threading.Event()
    trusted: list[int] = []
    with Server(streams_once, streams_once, Peer.echo) as server, bytes_endpoint(caller, server.url) as endpoint:
        streams = [endpoint.stream(b"") for _ in range(2)]
        assert [next(stream) for stream in streams] == [b"fine"] * 2
        both.set()
        assert [list(stream) for stream in streams] == [[b"fine"]] * 2
        assert endpoint.invoke(b"Hello") == b"Hello"
        assert (server.connections, len(trusted)) == (3, 1)


# where to, and with what


def test_the_environment_is_looked_up_once(caller: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    resolve = addressing.resolve
    monkeypatch.setattr(addressing, "resolve", lambda identity: asked.append(identity) or resolve(identity))
    with Emulator() as emulator, caller.endpoint(emulator.url) as endpoint:
        assert asked == []
        endpoint.invoke("Hello")
        endpoint.invoke("Hello")
        caller.run(transport_of(endpoint.endpoint).resolve())
    assert len(asked) == 1


@pytest.mark.parametrize(("options", "limit"), [({}, 3), ({"max_connections": 2}, 2)])
def test_the_size_of_the_pool_may_come_from_a_botocore_config(
    caller: Twin, options: dict[str, Any], limit: int
) -> None:
    config = Config(max_pool_connections=3)
    with Emulator() as emulator, caller.endpoint(emulator.url, config=config, **options) as endpoint:
        endpoint.invoke("Hello")
        assert transport_of(endpoint.endpoint).max_connections == limit


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> HeldCredentials:
    """Credentials of all endpoints, whose calls go to the emulator."""
    made = HeldCredentials(lifetime=100.0)
    target = make_target("127.0.0.1", emulator.port, tls=False, credentials=made.provider)
    monkeypatch.setattr(addressing, "resolve", lambda _: target)
    return made


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_credentials_near_their_end_are_renewed_while_calls_go_on(
    caller: Twin, emulator: Emulator, source: HeldCredentials, operation: str, fails: bool
) -> None:
    source.proceed.set()
    with caller.endpoint(emulator.url) as endpoint:
        endpoint.call(operation, "Hello")
        source.entered.clear()
        source.proceed.clear()
        source.fails = fails
        source.clock.now += 76.0
        for _ in range(5):
            assert endpoint.call(operation, "Hello")
        assert source.entered.wait(PATIENCE)
        source.clock.now += 11.0  # another one may be told now, but one is under way
        assert endpoint.call(operation, "Hello")
        assert len(source.threads) == 2
        assert threading.get_ident() not in source.threads[1:]
        source.proceed.set()
        for thread in threading.enumerate():
            if thread.name == "smendpoint-credentials":
                thread.join(PATIENCE)
        source.fails = False
        assert endpoint.call(operation, "Hello")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_call_without_credentials_fails_before_anything_is_sent(
    caller: Twin, emulator: Emulator, source: HeldCredentials, operation: str
) -> None:
    source.fails = True
    source.proceed.set()
    with caller.endpoint(emulator.url) as endpoint:
        with pytest.raises(errors.CredentialsError, match="there are none") as caught:
            endpoint.call(operation, "Hello")
        assert caught.value.endpoint_name == "my-llm"
    assert emulator.total_connections == 0


def test_a_transport_waits_by_the_clock_it_was_given(caller: Twin, emulator: Emulator) -> None:
    clock = FakeClock()
    with caller.endpoint(emulator.url, clock=clock) as endpoint:
        emulator.inject("throttle_then_ok_1")
        endpoint.invoke("Hello")
    assert clock.slept == [1.0]


def test_a_stream_that_is_refused_gives_its_connection_back(caller: Twin, emulator: Emulator) -> None:
    with caller.endpoint(emulator.url, max_connections=1) as endpoint:
        emulator.inject("status_400_ValidationError", times=1)
        with pytest.raises(errors.ValidationError):
            endpoint.collect("Hello")
        assert endpoint.invoke("Hello")
    assert emulator.total_connections == 1


def test_a_closed_endpoint_says_so(caller: Twin, emulator: Emulator) -> None:
    endpoint = caller.endpoint(emulator.url)
    endpoint.invoke("Hello")
    for _ in range(2):
        caller.run(endpoint.endpoint.aclose() if caller.asynchronous else endpoint.endpoint.close())
        for operation in OPERATIONS:
            with pytest.raises(errors.ConfigurationError, match="the endpoint is closed"):
                endpoint.call(operation, "Hello")
    assert len(emulator.requests) == 1


def test_closing_an_endpoint_leaves_blocking_calls_that_are_under_way_alone(emulator: Emulator) -> None:
    endpoint = make_endpoint(emulator.url)
    with endpoint.stream("Hello") as stream:
        first = next(stream)
        endpoint.close()
        assert emulator.open_connections == 1
        assert first + "".join(stream) == "The stand-in model read: Hello"


# stopping


class Call(InThread):
    """A blocking call in a thread of its own.

    Args:
        endpoint: which is called.
        cancellation: what can stop it.
    """

    def __init__(self, endpoint: Any, cancellation: Cancellation | None = None) -> None:
        self._cancellation = cancellation or Cancellation()
        super().__init__(lambda: send(endpoint, self._cancellation))

    def stop(self) -> Any:
        """Stop it; give what it raised."""
        self._cancellation.stop()
        return self.outcome()


def test_a_call_that_waits_for_its_answer_can_be_stopped() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        emulator.inject("stall_before_headers")
        call = Call(endpoint)
        emulator.wait_for(lambda it: len(it.requests) == 1)
        assert isinstance(call.stop(), (Cancelled, errors.TransportError))
        emulator.disconnected()
        assert len(emulator.requests) == 1  # the retry that it would have been worth was not made


def test_a_call_on_a_connection_that_was_used_before_can_be_stopped() -> None:
    with Emulator() as emulator, make_endpoint(emulator.url) as endpoint:
        endpoint.invoke("Hello")
        emulator.inject("stall_mid_stream")
        call = Call(endpoint)
        emulator.wait_for(lambda it: len(it.requests) == 2)
        assert isinstance(call.stop(), (Cancelled, errors.TransportError))
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
        call = Call(endpoint)
        assert asleep.wait(PATIENCE)
        assert isinstance(call.stop(), Cancelled)
        assert len(emulator.requests) == 1


def test_a_call_that_waits_for_a_place_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    queueing, queues = Deadline.queueing, threading.Event()
    monkeypatch.setattr(Deadline, "queueing", lambda deadline: (queueing(deadline), queues.set())[0])
    with Emulator() as emulator, make_endpoint(emulator.url, max_connections=1) as endpoint:
        with endpoint.stream("Hello"):
            call = Call(endpoint)
            assert queues.wait(PATIENCE)
            assert isinstance(call.stop(), Cancelled)
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
        connecting = Connecting()
        call = Call(endpoint, connecting)
        assert connecting.connects.wait(PATIENCE)
        assert isinstance(call.stop(), (Cancelled, errors.TransportError))


def test_a_call_in_a_tls_handshake_can_be_stopped() -> None:
    shaking = threading.Event()

    def deaf(peer: Peer) -> None:
        peer.sock.recv(1)
        shaking.set()
        peer.gone()

    with Server(deaf) as server, make_endpoint(server.url.replace("http:", "https:")) as endpoint:
        call = Call(endpoint)
        assert shaking.wait(PATIENCE)
        assert isinstance(call.stop(), (Cancelled, errors.TransportError))


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
