"""The emulator under mutated HTTP/2 and mutated events: it logs nothing, keeps nothing, and goes on answering."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Iterator

import h2.config
import h2.connection
import pytest
from emulator_client import NOW
from h2_client import H2Client, Keys, part

from smendpoint.emulator import Credentials, Emulator, ModelConversation

ROUNDS = int(os.environ.get("SMENDPOINT_FUZZ", "600"))
"""How many mutated connections, and how many mutated inputs, are sent."""

KEYS = Keys()
PATH = "/endpoints/voice/invocations-bidirectional-stream"
BYTES = b"\x00\x01\x03\x04\x05\x07\x08\x20\x7f\x80\xff"


async def echo(conversation: ModelConversation) -> None:
    async for one in conversation:
        await conversation.send(one.data if one.text is None else one.text, one.partial)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator({"voice": echo}, clock=lambda: NOW, keep_requests=10) as running:
        yield running


def mutated(data: bytes, chance: random.Random, start: int = 0) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        place = chance.randrange(start, len(changed))
        way = chance.randrange(5)
        if way == 0:
            changed[place] = chance.choice(BYTES)
        elif way == 1:
            changed[place] ^= 1 << chance.randrange(8)
        elif way == 2:
            changed.insert(place, chance.choice(BYTES))
        elif way == 3:
            del changed[place : place + chance.randrange(1, 9)]
        else:
            changed[place:place] = changed[place:] * chance.randrange(1, 3)
        if len(changed) <= start:
            break
    return bytes(changed)


def connection() -> bytes:
    """Everything that a client sends for a whole conversation."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    client.initiate_connection()
    client.update_settings({4: 70_000})
    head = [(":method", "POST"), (":scheme", "http"), (":authority", "127.0.0.1"), (":path", PATH), ("x-a", "é")]
    client.send_headers(1, head)
    client.send_data(1, part("hello") + part(b"\0" * 50, partial=True))
    client.ping(b"12345678")
    client.increment_flow_control_window(1000)
    client.increment_flow_control_window(1000, 1)
    client.send_data(1, part("end"), pad_length=10, end_stream=True)
    client.send_headers(3, head, end_stream=True)
    client.reset_stream(3)
    client.prioritize(5, weight=10)
    client.close_connection()
    return bytes(client.data_to_send())


def exchange(emulator: Emulator, data: bytes, chance: random.Random) -> None:
    with contextlib.suppress(OSError), socket.create_connection((emulator.host, emulator.port), timeout=20) as raw:
        cut = chance.randrange(len(data))
        raw.sendall(data[:cut])
        raw.sendall(data[cut:])
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(65_536):
            pass


def still_answers(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    emulator.disconnected()
    assert emulator.active_requests == 0
    with H2Client((emulator.host, emulator.port)) as talk:
        assert talk.open().send("well").next().payload == b"well"
    emulator.disconnected()
    assert not caplog.records


@pytest.mark.parametrize("seed", range(3))
def test_mutated_connections_leave_an_emulator_that_answers(
    emulator: Emulator, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    chance, whole = random.Random(seed), connection()
    for _ in range(ROUNDS // 3):
        exchange(emulator, mutated(whole, chance, chance.choice((0, 24, 24))), chance)
    still_answers(emulator, caplog)


@pytest.mark.parametrize("seed", range(3))
def test_mutated_events_are_answered_or_refused(
    emulator: Emulator, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    chance = random.Random(seed)
    whole = part("hello") + part(b"\0\1") + part("a", CompletionState="PARTIAL")
    for _ in range(ROUNDS // 3):
        with H2Client((emulator.host, emulator.port)) as talk:
            talk.open().write(mutated(whole, chance)).end_input().until_end()
            assert talk.ended == "end"
            assert talk.status in (200, 400)
    still_answers(emulator, caplog)


def test_mutated_signed_events_are_never_accepted(caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(1)
    received: list[bytes] = []

    async def keep(conversation: ModelConversation) -> None:
        async for one in conversation:
            received.append(one.data)

    credentials = Credentials(*KEYS[:3])
    with Emulator({"voice": keep}, clock=lambda: NOW, credentials=credentials) as emulator:
        for _ in range(ROUNDS // 3):
            with H2Client((emulator.host, emulator.port), keys=KEYS, now=NOW) as talk:
                talk.open()
                whole = talk.signed(part("hello"))
                data = mutated(whole, chance)
                talk.write(data).end_input().until_end()
                assert data.startswith(whole) or talk.status in (400, 403)
        emulator.disconnected()
    assert set(received) <= {b"hello"}
    assert not caplog.records
