"""Many conversations at once, left in every way, and how much memory they hold."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
import servers
from async_loops import KINDS, Run, make_endpoint, settled, turns, until
from garbage import collect
from inside import in_use, socket_of
from servers import PATIENCE, Peer, Server
from test_core_conversation import answer
from twins import Twin

from smendpoint import CallHooks, errors
from smendpoint.emulator import Emulator
from smendpoint.emulator.models import ModelConversation

ROOT = Path(__file__).resolve().parent.parent
STREAMS = int(os.environ.get("SMENDPOINT_STREAMS", "300"))
"""How many conversations are opened and left."""
AT_ONCE = min(1000, STREAMS)
WAYS = ("ended", "closed", "cancelled", "forgotten", "left", "fails", "fails later", "dropped in a thread")


async def echo(conversation: ModelConversation) -> None:
    async for part in conversation:
        if part.data == b"fail":
            raise ValueError("on request")
        await conversation.send(part.data if part.text is None else part.text)


class Ends(CallHooks):
    """Counts the calls that have begun and ended."""

    def __init__(self) -> None:
        self.begun = self.ended = 0

    def call_started(self, call: Any) -> None:
        self.begun += 1

    def call_finished(self, call: Any, error: BaseException | None) -> None:
        self.ended += 1


def nothing_is_left(called: Any) -> None:
    assert in_use(called) == 0
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("smendpoint-")] == [
        "smendpoint-emulator"
    ]


def test_many_conversations_at_once_each_get_their_own_parts(run: Run) -> None:
    async def one(called: Any, number: int) -> None:
        async with called.converse() as talk:
            for part in (b"%d a" % number, b"%d b" % number * 1000, b"%d c" % number):
                await talk.send(part)
            await talk.end_input()
            parts = [part.data async for part in talk]
        assert parts == [b"%d a" % number, b"%d b" % number * 1000, b"%d c" % number]

    async def main(emulator: Emulator) -> None:
        async with make_endpoint(emulator.url, timeout=None) as called:
            await asyncio.gather(*(one(called, number) for number in range(AT_ONCE)))
            await settled()
            nothing_is_left(called)

    with Emulator(echo) as emulator:
        run(main(emulator))
        emulator.disconnected()


async def use(called: Any, way: str, dice: random.Random) -> None:
    """One conversation, left in some way."""
    held = [called.converse()]
    await held[0].open()
    for _ in range(dice.randrange(3)):
        await held[0].send(b"Hello")
    if dice.random() < 0.5 or way == "fails later":
        await held[0].send(b"Hello")
        assert (await held[0].__anext__()).data == b"Hello"
    if way in ("fails", "fails later"):
        await held[0].send(b"fail")
        with pytest.raises(errors.SmendpointError):
            async for _ in held[0]:
                pass
    elif way == "ended":
        await held[0].end_input()
        async for _ in held[0]:
            pass
    elif way == "closed":
        await held[0].aclose()
    elif way == "left":
        with contextlib.suppress(ZeroDivisionError):
            async with held[0]:
                raise ZeroDivisionError
    elif way == "cancelled":
        async with held[0] as talk:
            task = asyncio.ensure_future(talk.send(bytes(dice.choice((10, 1_200_000)))))
            reading = asyncio.ensure_future(talk.__anext__())
            await turns(dice.randrange(20))
            task.cancel()
            reading.cancel()
            await asyncio.wait({task, reading})
            for each in (task, reading):
                assert each.cancelled() or not each.exception()
    elif way == "dropped in a thread":
        await asyncio.get_running_loop().run_in_executor(None, held.clear)


def test_conversations_left_in_every_way_leave_nothing(run: Run) -> None:
    hooks = Ends()

    async def main(emulator: Emulator) -> None:
        dice = random.Random(STREAMS)
        before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
        async with make_endpoint(emulator.url, hooks=hooks) as called:
            for start in range(0, STREAMS, 25):
                ways = [WAYS[(start + index) % len(WAYS)] for index in range(25)]
                await asyncio.gather(*(use(called, way, random.Random(dice.random())) for way in ways))
            collect()
            await settled()
            await until(lambda: emulator.open_connections == 0)
            await turns()
            nothing_is_left(called)
        assert hooks.begun == hooks.ended >= STREAMS
        if before:
            await until(lambda: len(os.listdir("/proc/self/fd")) <= before + 1)  # of the emulator's thread, perhaps one

    with Emulator(echo) as emulator:
        run(main(emulator))
        emulator.disconnected()


def test_blocking_conversations_left_in_every_way_leave_nothing() -> None:
    hooks, dice = Ends(), random.Random(STREAMS)
    with Emulator(echo) as emulator, servers.make_endpoint(emulator.url, hooks=hooks) as endpoint:

        def one(way: str) -> None:
            talk = endpoint.converse().open()
            for _ in range(dice.randrange(3)):
                talk.send(b"Hello")
            if way == "ended":
                talk.end_input()
                list(talk)
            elif way == "closed":
                talk.close()
            elif way == "left":
                with contextlib.suppress(ZeroDivisionError), talk:
                    raise ZeroDivisionError
            elif way == "fails":
                talk.send(b"fail")
                with pytest.raises(errors.SmendpointError):
                    list(talk)

        gc.disable()
        try:
            for number in range(STREAMS):
                one(("ended", "closed", "left", "fails", "forgotten")[number % 5])
            emulator.disconnected()
        finally:
            gc.enable()
        assert hooks.begun == hooks.ended == STREAMS
        nothing_is_left(endpoint)


# --- memory


class H2Peer:
    """A service, at one end of a socket, that reads and sends when it is told to.

    Attributes:
        received: how many bytes of the request's body have come.
    """

    def __init__(self, peer: Peer) -> None:
        self.sock = peer.sock
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.h2.initiate_connection()
        self.received = 0
        self.flush()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def pump(self, most: int = 65_536) -> bool:
        """Read once, and let the client send as many more; whether there was anything."""
        data = self.sock.recv(most)
        for event in self.h2.receive_data(data) if data else ():
            if isinstance(event, h2.events.DataReceived):
                self.received += len(event.data)
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.flush()
        return bool(data)

    def begin(self) -> None:
        """Answer with the head."""
        while 1 not in self.h2.streams:
            self.pump()
        self.h2.send_headers(1, [(":status", "200")])
        self.flush()


def peak_of(work: Callable[[], object]) -> int:
    """How many bytes more than before were held at some moment."""
    collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def test_a_large_part_to_a_slow_reader_is_held_once(direct_twin: Twin) -> None:
    data = bytes(16_000_000)

    def slow(peer: Peer) -> None:
        peer.keep_little_room()
        service = H2Peer(peer)
        service.begin()
        while service.received < len(data) and service.pump(4096 if service.received < 400_000 else 65_536):
            pass
        with contextlib.suppress(h2.exceptions.StreamClosedError):  # the client has closed already
            service.h2.end_stream(1)
        service.flush()
        peer.gone()

    with Server(slow) as server:
        endpoint = direct_twin.endpoint(server.url)
        talk = endpoint.endpoint.converse()
        direct_twin.run(talk.open())
        peak = peak_of(lambda: direct_twin.run(talk.send(data)))
        # The server's own, in this process, are some frames.
        assert peak < 262_144 + 131_072, peak
        direct_twin.run(talk.aclose() if direct_twin.asynchronous else talk.close())


def test_a_reader_that_does_not_read_holds_no_more_than_a_window(direct_twin: Twin) -> None:
    full = threading.Event()
    sent: list[int] = []

    def flood(peer: Peer) -> None:
        service = H2Peer(peer)
        service.begin()
        frames = answer(bytes(1000)) * 100
        for start in range(0, len(frames), 5000):
            piece = frames[start : start + 5000]
            if service.h2.local_flow_control_window(1) < len(piece):
                break
            service.h2.send_data(1, piece)
            service.flush()
            sent.append(len(piece))
        full.set()
        while service.pump():
            pass

    with Server(flood) as server:
        endpoint = direct_twin.endpoint(server.url)
        talk = endpoint.endpoint.converse()

        def work() -> None:
            direct_twin.run(talk.open())
            full.wait(PATIENCE)
            for _ in range(50):  # the client sends: so it also receives
                direct_twin.run(talk.send(b"x"))

        work()
        assert 60_000 < sum(sent) <= 65_535
        assert len(talk._line.stream._arrived) <= 65_535
        assert direct_twin.run(first(talk) if direct_twin.asynchronous else next(talk)).data == bytes(1000)
        direct_twin.run(talk.aclose() if direct_twin.asynchronous else talk.close())


async def first(talk: Any) -> Any:
    return await talk.__anext__()


def test_a_peer_that_floods_and_does_not_read_is_given_up(direct_twin: Twin) -> None:
    go_on = threading.Event()
    ping = (8).to_bytes(3, "big") + b"\6\0\0\0\0\0" + bytes(8)

    def flood(peer: Peer) -> None:
        peer.keep_little_room()
        service = H2Peer(peer)
        service.begin()
        go_on.wait(PATIENCE)
        with contextlib.suppress(OSError):
            while True:
                peer.sock.sendall(ping * 1000)

    with Server(flood) as server:
        endpoint = direct_twin.endpoint(server.url)
        talk = endpoint.endpoint.converse()

        def work() -> None:
            direct_twin.run(talk.open())
            line = talk._line
            sock = socket_of(getattr(line, "_connection", line))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            go_on.set()
            with pytest.raises(errors.StreamTruncatedError, match="does not read them"):
                direct_twin.run(first(talk) if direct_twin.asynchronous else next(talk))

        assert peak_of(work) < 1_000_000


# --- the end of a program

PROGRAM = """
import asyncio, sys
sys.path.insert(0, {root!r})
import smendpoint

url, kind, how = sys.argv[1:]
keys = dict(
    endpoint_url=url, region_name="us-east-1", aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret"
)
kept = []

def blocking():
    endpoint = smendpoint.Endpoint("my-llm", **keys)
    talk = endpoint.converse().open()
    talk.send("Hello")
    assert next(talk).text == "Hello"
    if how == "kept":
        kept.append(talk)
    elif how == "cycle":
        kept.append([talk])
        kept[0].append(kept)

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60.0  # other programs may slow this one down
    endpoint = smendpoint.AsyncEndpoint("my-llm", **keys)
    talk = await endpoint.converse().open()
    await talk.send("Hello")
    assert (await talk.__anext__()).text == "Hello"
    if how == "kept":
        kept.append((talk, endpoint))
    elif how == "cycle":
        kept.append([talk])
        kept[0].append(kept)
    elif how == "task":
        kept.append(asyncio.ensure_future(talk.__anext__()))
        await asyncio.sleep(0)

if kind == "blocking":
    blocking()
elif kind == "asyncio":
    asyncio.run(main())
else:
    import uvloop
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
"""


@pytest.mark.parametrize("how", ["forgotten", "kept", "cycle", "task"])
@pytest.mark.parametrize("kind", ["blocking", *sorted(KINDS)])
def test_nothing_is_printed_when_a_program_ends_in_a_conversation(kind: str, how: str) -> None:
    if (kind, how) == ("blocking", "task") or (kind == "uvloop" and sys.version_info < (3, 11)):
        pytest.skip("there is no such thing")
    with Emulator(echo) as emulator:
        ended = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM.format(root=str(ROOT)), emulator.url, kind, how],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        emulator.disconnected()
