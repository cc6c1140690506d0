"""Conversations cancelled at every single await, as in `test_cancellation.py`: nothing is left, and no part is torn."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from async_loops import Run, make_endpoint, settled, turns, until
from inside import in_use, transport_of
from test_cancellation import LATE, Canceller

from smendpoint import AsyncConversation, AsyncEndpoint, RetryPolicy, errors
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint.emulator import Emulator
from smendpoint.emulator.models import ModelConversation

KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
OPTIONS: dict[str, Any] = {
    "region_name": "us-east-1",
    "aws_access_key_id": KEYS.access_key,
    "aws_secret_access_key": KEYS.secret_key,
}
LARGE = bytes(range(256)) * 12_288  # 3 MB: hashed in a thread, and far more than the windows


async def digest(conversation: ModelConversation) -> None:
    """Answer each part with its hash."""
    async for part in conversation:
        await conversation.send(digest_of(part.data))


async def count(conversation: ModelConversation) -> None:
    """Send numbers after the client's first part."""
    await conversation.receive()
    for number in range(12):
        await conversation.send(str(number))
    async for _ in conversation:
        pass


def digest_of(data: bytes | str) -> bytes:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).digest()


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """Every request and every part must be signed, each part after the one before."""
    with Emulator({"my-llm": digest, "count": count}, credentials=KEYS) as running:
        yield running


@contextlib.asynccontextmanager
async def made(emulator: Emulator) -> AsyncIterator[Any]:
    called = make_endpoint(emulator.url, retry=RetryPolicy(max_attempts=1))
    await transport_of(called).resolve()
    try:
        yield called
        assert in_use(called) == 0
    finally:
        await called.aclose()


async def cancelled(operation: Awaitable[Any], number: int, *, late: bool) -> Canceller:
    """Run something, and cancel it at that await; it must end as cancelled, or well."""
    loop = asyncio.get_running_loop()
    canceller = Canceller(number, late=late)
    loop.set_task_factory(canceller.factory)  # type: ignore[arg-type]  # it is one
    canceller.task = task = loop.create_task(operation)  # type: ignore[arg-type]  # a coroutine
    try:
        await asyncio.wait({task})
    finally:
        loop.set_task_factory(None)
    if not task.cancelled():
        task.result()
    return canceller


async def collect(talk: AsyncConversation, parts: list[bytes]) -> None:
    async for part in talk:
        parts.append(part.data)


# --- from the beginning


async def opened(talk: AsyncConversation) -> None:
    await talk.open()
    await talk.aclose()


async def entered(talk: AsyncConversation) -> None:
    async with talk:
        await talk.send(b"Hello")
        assert (await talk.__anext__()).data == digest_of(b"Hello")


async def whole(talk: AsyncConversation) -> None:
    await talk.send(b"Hello")
    await talk.end_input()
    parts: list[bytes] = []
    await collect(talk, parts)
    assert parts == [digest_of(b"Hello")]


async def read_first(talk: AsyncConversation) -> None:
    async with talk:
        reading = asyncio.ensure_future(talk.__anext__())
        try:
            await talk.send(LARGE)
            assert (await reading).data == digest_of(LARGE)
        finally:
            reading.cancel()
            await asyncio.wait({reading})


@LATE
@pytest.mark.parametrize("operation", [opened, entered, whole, read_first], ids=lambda it: it.__name__)
def test_cancelled_at_any_await_it_leaves_nothing(
    run: Run, emulator: Emulator, operation: Callable[[AsyncConversation], Awaitable[Any]], late: bool
) -> None:
    async def main() -> None:
        for number in itertools.count(1):
            async with made(emulator) as called:
                talk = called.converse()
                canceller = await cancelled(operation(talk), number, late=late)
                await talk.aclose()  # as `async with` does
                await settled()
                with pytest.raises(errors.SmendpointError):
                    await talk.send(b"more")
            if canceller.done:
                break
        assert number > 2

    run(main())
    emulator.disconnected()


# --- in the middle


def numbers() -> Iterator[int]:
    """Each await of the beginning, and some of the many waits for a window that follow."""
    return itertools.chain(range(1, 16), itertools.count(16, 9))


async def sends_small(talk: AsyncConversation) -> None:
    await talk.send("small")


async def sends_large(talk: AsyncConversation) -> None:
    await talk.send(LARGE)


async def sends_several(talk: AsyncConversation) -> None:
    await asyncio.gather(talk.send(LARGE), talk.send("small"), talk.send(b"last"))


async def ends(talk: AsyncConversation) -> None:
    await talk.end_input()


SENT: dict[Callable[[AsyncConversation], Awaitable[Any]], list[bytes | str]] = {
    sends_small: ["small"],
    sends_large: [LARGE],
    sends_several: [LARGE, "small", b"last"],
    ends: [],
}


@LATE
@pytest.mark.parametrize("operation", SENT, ids=lambda it: it.__name__)
def test_a_part_whose_sending_is_cancelled_arrives_whole_or_not_at_all_and_others_go_on(
    run: Run, emulator: Emulator, operation: Callable[[AsyncConversation], Awaitable[Any]], late: bool
) -> None:
    expected = [digest_of(data) for data in SENT[operation]]

    async def main() -> None:
        whole = 0
        for number in numbers():
            async with made(emulator) as called, called.converse() as talk:
                parts: list[bytes] = []
                reading = asyncio.ensure_future(collect(talk, parts))
                await turns(1)
                canceller = await cancelled(operation(talk), number, late=late)
                with contextlib.suppress(errors.ConfigurationError):  # the input has ended
                    await talk.send(b"after")
                    expected_now = [*expected, digest_of(b"after")]
                await talk.end_input()
                await reading
                if operation is ends:
                    assert parts in ([], [digest_of(b"after")])
                else:
                    assert parts[-1] == digest_of(b"after")
                    rest = iter(expected_now)
                    assert all(part in rest for part in parts), "parts came in another order"
                whole += len(parts)
            await settled()
            if canceller.done:
                break
        if operation is not ends:
            assert whole > 1

    run(main())
    emulator.disconnected()


@LATE
def test_a_cancelled_read_loses_no_part(run: Run, emulator: Emulator, late: bool) -> None:
    async def main() -> None:
        for number in itertools.count(1):
            async with made(emulator) as called, called.converse() as talk:
                called_parts: list[bytes] = []
                await talk.send(b"one")
                await talk.send(b"two")
                await talk.end_input()
                canceller = await cancelled(collect(talk, called_parts), number, late=late)
                await collect(talk, called_parts)
                assert called_parts == [digest_of(b"one"), digest_of(b"two")]
            if canceller.done:
                break

    run(main())
    emulator.disconnected()


def test_a_limit_of_time_around_a_read_loses_no_part(run: Run, emulator: Emulator) -> None:
    async def main() -> None:
        dice = random.Random(0)
        called = AsyncEndpoint("count", endpoint_url=emulator.url, **OPTIONS)
        async with called, called.converse() as talk:
            texts: list[str | None] = []
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(talk.__anext__(), 1e-4)
            await talk.send("begin")
            while len(texts) < 12:
                if dice.random() < 0.5:
                    with contextlib.suppress(asyncio.TimeoutError):
                        texts.append((await asyncio.wait_for(talk.__anext__(), dice.choice((1e-6, 1e-5, 1e-4)))).text)
                    continue
                reading = asyncio.ensure_future(talk.__anext__())
                await turns(dice.randrange(4))
                reading.cancel()
                await asyncio.wait({reading})
                if not reading.cancelled():
                    texts.append(reading.result().text)
            await talk.end_input()
            assert [part async for part in talk] == []
        assert texts == [str(number) for number in range(12)]

    run(main())
    emulator.disconnected()


def test_closing_from_another_task_ends_every_wait(run: Run, emulator: Emulator) -> None:
    async def main() -> None:
        async with made(emulator) as called:
            for opens in (False, True):
                talk = called.converse()
                if opens:
                    await talk.open()
                reading = asyncio.ensure_future(talk.__anext__())
                sending = [asyncio.ensure_future(talk.send(LARGE)) for _ in range(3)]
                await turns(2)
                await talk.aclose()
                for task in (reading, *sending):
                    with pytest.raises(errors.StreamError, match="closed before its end"):
                        await task
                await settled()
                await talk.aclose()
            await until(lambda: emulator.open_connections == 0)

    run(main())
