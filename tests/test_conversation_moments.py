"""Conversations at moments that a network seldom gives: two openers, a closed endpoint, another process, no loop."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from async_loops import make_endpoint as async_endpoint
from servers import InThread, make_endpoint

from smendpoint import CallHooks, CallInfo, errors
from smendpoint._transport.aio import transport as async_transport
from smendpoint.emulator import Emulator, ModelConversation

pytestmark = pytest.mark.usefixtures("bare_environment")


async def echo(conversation: ModelConversation) -> None:
    async for part in conversation:
        await conversation.send(part.data)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(echo) as running:
        yield running
        running.disconnected()


def is_opening(thread: int | None) -> bool:
    """Whether a thread waits until another one has opened its conversation."""
    frame = sys._current_frames().get(thread or 0)
    return frame is not None and frame.f_code.co_name == "_ensure_open"


def test_two_threads_that_open_a_conversation_share_its_connection(emulator: Emulator) -> None:
    second: list[InThread] = []

    class Wait(CallHooks):
        def call_started(self, info: CallInfo) -> None:
            started = threading.Event()
            idents: list[int] = []

            def work() -> None:
                idents.append(threading.get_ident())
                started.set()
                talk.send(b"two")

            second.append(InThread(work))
            started.wait()
            while not is_opening(idents[0]):
                pass

    with make_endpoint(emulator.url, hooks=Wait()) as endpoint:
        talk = endpoint.converse()
        with talk:
            assert next(talk).data == b"two"
            assert second[0].outcome() is None
    assert emulator.total_connections == 1


def test_an_endpoint_that_is_closed_while_a_conversation_connects_closes_its_connection(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    dial = async_transport.dial

    async def main() -> None:
        endpoint = async_endpoint(emulator.url)

        async def dial_slowly(*arguments: Any) -> Any:
            connection = await dial(*arguments)
            await endpoint.aclose()
            return connection

        monkeypatch.setattr(async_transport, "dial", dial_slowly)
        with pytest.raises(errors.EndpointError, match="closed"):
            await endpoint.converse().open()

    asyncio.run(main())


def test_a_connection_that_is_lost_before_the_request_goes_out_is_our_error(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    dial = async_transport.dial

    async def main() -> None:
        async def lose(*arguments: Any) -> Any:
            connection = await dial(*arguments)
            connection.abort()
            return connection

        monkeypatch.setattr(async_transport, "dial", lose)
        async with async_endpoint(emulator.url) as endpoint:
            talk = await endpoint.converse().open()
            with pytest.raises(errors.TransportError, match="lost before an answer"):
                await talk.send(b"one")

    asyncio.run(main())


def test_a_conversation_closes_where_no_loop_runs(emulator: Emulator) -> None:
    loop = asyncio.new_event_loop()
    try:
        endpoint = async_endpoint(emulator.url)
        talk = loop.run_until_complete(endpoint.converse().open())
        with pytest.raises(StopIteration):
            talk.aclose().send(None)
        loop.run_until_complete(endpoint.aclose())
    finally:
        loop.close()


def test_a_conversation_of_another_process_is_refused_and_closes_quietly(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_endpoint(emulator.url) as endpoint:
        talk = endpoint.converse().open()
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            for use in (lambda: talk.send(b"one"), lambda: next(talk)):
                with pytest.raises(errors.EndpointError, match="before a fork"):
                    use()
            talk.close()
