"""Blocking conversations that several threads use at once, and interrupts at any moment."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from async_loops import make_endpoint as async_endpoint
from servers import InThread, make_endpoint, server_context
from test_interrupts import Interrupter, no_collector  # noqa: F401
from test_transport_forks import in_child, needs_fork

from smendpoint import CallHooks, Conversation, Endpoint, errors
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint.emulator import Emulator
from smendpoint.emulator.models import ModelConversation

pytestmark = pytest.mark.usefixtures("bare_environment")

KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
LARGE = bytes(range(256)) * 4096
STEPS = 1 if int(os.environ.get("SMENDPOINT_INTERRUPTS", "600")) >= 60_000 else 11
"""An interrupt comes at each so many steps: a conversation has hundreds, and each try opens one."""


async def echo(conversation: ModelConversation) -> None:
    """Answer each part with itself; a part "stop" stops reading for good."""
    async for part in conversation:
        if part.data == b"stop":
            await asyncio.get_running_loop().create_future()
        await conversation.send(part.data if part.text is None else part.text)


@pytest.fixture(params=["plain", "tls"])
def emulator(request: pytest.FixtureRequest, trusted: str) -> Iterator[Emulator]:
    """Every part must be signed, after the one before."""
    context = server_context() if request.param == "tls" else None
    if context is not None:
        context.set_alpn_protocols(["h2"])
    with Emulator(echo, credentials=KEYS, ssl_context=context) as running:
        yield running
        running.disconnected()


@pytest.fixture
def endpoint(emulator: Emulator) -> Iterator[Endpoint[Any, Any, Any]]:
    with make_endpoint(emulator.url) as made:
        yield made


def test_one_thread_sends_while_another_iterates(endpoint: Endpoint[Any, Any, Any]) -> None:
    with endpoint.converse() as talk:

        def send() -> None:
            for _ in range(4):
                talk.send(LARGE)
            for number in range(100):
                talk.send(str(number))
            talk.end_input()

        sending = InThread(send)
        parts = list(talk)
        assert sending.outcome() is None
    assert [part.data for part in parts[:4]] == [LARGE] * 4
    assert [part.text for part in parts[4:]] == [str(number) for number in range(100)]


def test_parts_of_several_threads_arrive_whole_and_in_the_order_of_each(endpoint: Endpoint[Any, Any, Any]) -> None:
    with endpoint.converse() as talk:

        def send(thread: int) -> Callable[[], None]:
            def work() -> None:
                for number in range(20):
                    talk.send(bytes([thread, number]) * (1 + number % 3 * 50_000))

            return work

        sending = [InThread(send(thread)) for thread in range(6)]
        parts = [next(talk).data for _ in range(120)]
        assert [each.outcome() for each in sending] == [None] * 6
        talk.end_input()
        assert list(talk) == []
    seen: dict[int, list[int]] = {}
    for part in parts:
        thread, number = part[0], part[1]
        assert part == bytes([thread, number]) * (1 + number % 3 * 50_000)
        seen.setdefault(thread, []).append(number)
    assert seen == {thread: list(range(20)) for thread in range(6)}


def test_closing_from_a_third_thread_ends_every_wait(endpoint: Endpoint[Any, Any, Any], emulator: Emulator) -> None:
    talk = endpoint.converse().open()
    talk.send(b"stop")
    reading = InThread(lambda: next(talk))
    sending = [InThread(lambda: talk.send(LARGE)) for _ in range(3)]
    while talk._line.stream.sent < 65_535:  # type: ignore[union-attr]  # until the window is full
        pass
    talk.close()
    for waiting in (reading, *sending):
        error = waiting.outcome()
        assert isinstance(error, errors.StreamError)
        assert "closed before its end" in str(error)
    emulator.disconnected()
    talk.close()


def test_the_sender_watches_the_socket_when_the_reader_leaves(endpoint: Endpoint[Any, Any, Any]) -> None:
    """Each of the reader's waits ends with a part; the sender goes on by itself, until the peer's window is full."""
    with endpoint.converse() as talk:
        reading = InThread(lambda: next(talk))
        talk.send(b"x")
        sending = InThread(lambda: [talk.send(bytes(30_000)) for _ in range(2)])
        assert reading.outcome().data == b"x"
        assert len(sending.outcome()) == 2
        talk.end_input()
        assert len(list(talk)) == 2


def test_the_reader_watches_the_socket_when_the_sender_leaves(endpoint: Endpoint[Any, Any, Any]) -> None:
    with endpoint.converse() as talk:
        sending = InThread(lambda: talk.send(LARGE))
        reading = InThread(lambda: next(talk))
        assert sending.outcome() is None
        assert reading.outcome().data == LARGE


def test_a_part_that_answers_another_does_not_wait_for_the_next(endpoint: Endpoint[Any, Any, Any]) -> None:
    """While one thread waits for bytes, another that sends must not take them without telling it."""
    with endpoint.converse() as talk:
        for number in range(300):
            waiting = InThread(lambda: next(talk))
            talk.send(b"%d" % number)
            assert waiting.outcome().data == b"%d" % number


def test_two_threads_cannot_read_at_once(endpoint: Endpoint[Any, Any, Any]) -> None:
    with endpoint.converse() as talk:
        reading = InThread(lambda: next(talk))
        while not talk._line._reader:  # type: ignore[union-attr]  # the other thread waits
            pass
        with pytest.raises(errors.ConfigurationError, match="another thread is reading"):
            next(talk)
        talk.send(b"Hello")
        assert reading.outcome().data == b"Hello"


# --- interrupts


def sends(talk: Conversation) -> None:
    talk.send(b"Hello")


def sends_large(talk: Conversation) -> None:
    talk.send(bytes(100_000))


def reads(talk: Conversation) -> None:
    talk.send(b"Hello")
    assert next(talk).data


def sends_and_reads(talk: Conversation) -> None:
    talk.send(bytes(100_000))
    assert next(talk).data


def ends(talk: Conversation) -> None:
    talk.end_input()


def closes(talk: Conversation) -> None:
    talk.close()


def check_after(talk: Conversation) -> bool:
    """Whether a conversation that was interrupted goes on: then nothing is lost or torn. Else it says our error."""
    try:
        talk.send(b"after")
        talk.end_input()
        parts = [part.data for part in talk]
    except errors.SmendpointError as error:
        assert not isinstance(error, (errors.AccessDeniedError, errors.StreamDecodeError)), error
        return False
    assert parts[-1] == b"after"
    assert all(hashlib.sha256(part).digest() in KNOWN for part in parts)
    return True


KNOWN = {hashlib.sha256(data).digest() for data in (b"after", b"Hello", bytes(100_000))}


@pytest.mark.parametrize("operation", [sends, sends_large, reads, ends, closes], ids=lambda it: it.__name__)
def test_an_interrupt_at_any_step_of_a_conversation_leaves_it_whole_or_closed(
    endpoint: Endpoint[Any, Any, Any],
    emulator: Emulator,
    operation: Callable[[Conversation], None],
    no_collector: None,  # noqa: F811
) -> None:
    for number in itertools.count(1, STEPS):
        with endpoint.converse() as talk:
            interrupter = Interrupter(number)
            interrupted = interrupter.during(functools.partial(operation, talk))
            assert interrupted == (interrupter.left <= 0), f"the interrupt at step {number} was lost"
            check_after(talk)
        talk = None  # type: ignore[assignment]  # the collector is off: nothing else may hold its connection
        if not interrupted:
            break
    assert number > 5
    emulator.disconnected()


def test_an_interrupt_at_any_step_of_opening_leaves_nothing(
    endpoint: Endpoint[Any, Any, Any],
    emulator: Emulator,
    no_collector: None,  # noqa: F811
) -> None:
    def operation() -> None:
        with endpoint.converse() as talk:
            talk.send(b"Hello")

    operation()
    for number in itertools.count(1, STEPS):
        interrupter = Interrupter(number)
        interrupted = interrupter.during(operation)
        assert interrupted == (interrupter.left <= 0), f"the interrupt at step {number} was lost"
        emulator.disconnected()
        if not interrupted:
            break
    assert number > 100


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timer")
def test_an_interrupt_of_a_wait_for_room_leaves_the_conversation_intact(
    endpoint: Endpoint[Any, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with endpoint.converse() as talk:
        line: Any = talk._line
        wait, interrupts = type(line)._wait, iter([True])

        def interrupted(self: Any, *args: Any, **options: Any) -> None:
            if next(interrupts, False):
                raise KeyboardInterrupt
            wait(self, *args, **options)

        monkeypatch.setattr(type(line), "_wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            talk.send(LARGE)
        reading = InThread(lambda: [part.data for part in talk])
        talk.send("after")
        talk.end_input()
        assert reading.outcome() == [LARGE, b"after"]


# --- forks


@needs_fork
def test_a_conversation_belongs_to_the_process_that_opened_it(endpoint: Endpoint[Any, Any, Any]) -> None:
    with endpoint.converse() as talk:
        talk.send(b"one")
        assert next(talk).data == b"one"

        def child() -> None:
            for use in (lambda: talk.send(b"child"), talk.end_input, lambda: next(talk), talk.open):
                with pytest.raises(errors.StreamTruncatedError, match="opened before a fork"):
                    use()  # type: ignore[operator]  # each takes nothing
            talk.close()
            with endpoint.converse() as own:
                own.send(b"own")
                assert next(own).data == b"own"

        with talk._sending:  # as while a thread of the parent sends
            assert in_child(child) == 0
        assert in_child(talk.close) == 0
        talk.send(b"two")
        talk.end_input()
        assert [part.data for part in talk] == [b"two"]


@needs_fork
def test_an_asynchronous_conversation_belongs_to_its_event_loop(emulator: Emulator) -> None:
    loop = asyncio.new_event_loop()
    endpoint = async_endpoint(emulator.url)
    talk = loop.run_until_complete(endpoint.converse().open())

    async def elsewhere() -> None:
        for use in (lambda: talk.send(b"other"), talk.end_input, talk.__anext__, talk.open):
            with pytest.raises(errors.EndpointError, match="opened on another event loop"):
                await use()

    async def goes_on() -> None:
        await talk.send(b"Hello")
        await talk.end_input()
        assert [part.data async for part in talk] == [b"Hello"]
        await endpoint.aclose()

    async def closed() -> None:
        await elsewhere()
        await talk.aclose()

    asyncio.run(elsewhere())
    assert in_child(lambda: asyncio.run(closed())) == 0
    loop.run_until_complete(goes_on())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@needs_fork
def test_a_conversation_that_was_made_before_a_fork_can_be_opened_after_it(endpoint: Endpoint[Any, Any, Any]) -> None:
    talk = endpoint.converse()

    def use() -> None:
        with talk:
            talk.send(b"one")
            assert next(talk).data == b"one"

    assert in_child(use) == 0
    use()


# --- forgotten


class Ends(CallHooks):
    """Counts the calls that have begun and ended."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended: list[BaseException | None] = []

    def call_started(self, call: Any) -> None:
        self.begun += 1

    def call_finished(self, call: Any, error: BaseException | None) -> None:
        self.ended.append(error)


def test_a_forgotten_conversation_closes_its_connection_and_tells_the_hooks(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = Ends()
    with make_endpoint(emulator.url, hooks=hooks) as endpoint:
        talk = endpoint.converse().open()
        talk.send(b"Hello")
        assert next(talk).data == b"Hello"
        del talk
        emulator.disconnected()
        assert (hooks.begun, hooks.ended) == (1, [None])
