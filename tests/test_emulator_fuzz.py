"""The emulator under requests that are nearly right: it goes on answering, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from emulator_client import NOW, PATHS, RawClient, plain, request
from garbage import collect

from smendpoint.emulator import Emulator

REQUESTS = int(os.environ.get("SMENDPOINT_FUZZ", "2000"))
"""How many mutated requests are sent; `feeding.FUZZ` is for parsers without sockets."""

CLIENTS = 50  # at once
KEEP = 20
CHUNKED = (
    b"POST /endpoints/my-llm/invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'7;x=1\r\n{"a":1}\r\n3\r\n   \r\n0\r\nTrailer: 1\r\n\r\n'
)
CHAT = b'{"messages":[{"role":"user","content":"Hi?"}],"stream":true,"max_tokens":5}'
UPLOAD = b"4;chunk-signature=1\r\nabcd\r\n2\r\nef\r\n0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n"
S3 = ("Content-Encoding: aws-chunked", "X-Amz-Decoded-Content-Length: 6")
SEEDS = [
    request(),
    request("stream", b'{"inputs":"Hi","stream":true,"parameters":{"details":true}}'),
    request("async", b'{"inputs":"Hi"}', headers=("X-Amzn-SageMaker-Inference-Id: a",)),
    request("openai", CHAT, path=PATHS["openai"].replace("my-llm", "chat")),
    request("openai", b'{"prompt":"Hi"}', path="/endpoints/chat/openai/v1/completions"),
    request(method="GET", path="/endpoints/chat/openai/v1/models", body=b""),
    request(method="PUT", path="/s3/b/k", body=UPLOAD, headers=S3),
    request(method="GET", path="/s3/b/k", body=b""),
    request(method="HEAD", path="http://localhost:80/s3/b/k?a", body=b""),
    request(headers=("X-Amzn-SageMaker-Session-Id: NEW_SESSION", "Accept: text/csv")),
    request(headers=("Expect: 100-continue", "Connection: close", "X-Amz-Date: 20231114T221320Z")),
    request(path="/endpoints/table/invocations", body=b"1,2\n3,4\n", headers=("Content-Type: text/csv",)),
    CHUNKED,
]
BYTES = b'\r\n: \t,;/0a9-+_{}[]"%?#\x00\xff'


def mutated(chance: random.Random) -> bytes:
    data = bytearray(chance.choice(SEEDS))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 8))):
        place = chance.randrange(len(data))
        way = chance.randrange(5)
        if way == 0:
            data[place] = chance.choice(BYTES)
        elif way == 1:
            data.insert(place, chance.choice(BYTES))
        elif way == 2:
            del data[place : place + chance.randrange(1, 9)]
        elif way == 3:
            other = chance.choice(SEEDS)
            data[place:place] = other[chance.randrange(len(other)) :][: chance.randrange(40)]
        else:
            data[place:place] = data[place:] * chance.randrange(1, 3)
        if not data:
            return b"\r\n"
    return bytes(data)


async def one_client(emulator: Emulator, chance: random.Random, left: Iterator[int]) -> None:
    """Sends requests over connections, a few over each, in one piece or two, and leaves in some way."""
    for _ in left:
        reader, writer = await asyncio.open_connection(emulator.host, emulator.port)
        with contextlib.suppress(OSError):
            for data in [mutated(chance), *(mutated(chance) for _ in range(chance.randrange(3)) if next(left, None))]:
                cut = chance.randrange(len(data))
                writer.write(data[:cut])
                await writer.drain()
                writer.write(data[cut:])
            way = chance.randrange(4)
            if way == 0:
                writer.write_eof()
            if way:
                await reader.read(1 if way == 1 else 65_536)
        if chance.randrange(2):
            writer.transport.abort()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def all_clients(emulator: Emulator, seed: int, requests: int) -> None:
    left = iter(range(requests))
    await asyncio.gather(*[one_client(emulator, random.Random(seed + number), left) for number in range(CLIENTS)])


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if os.path.isdir("/proc/self/fd") else 0


def test_a_million_mutated_requests_leave_an_emulator_that_answers(caplog: pytest.LogCaptureFixture) -> None:
    collect()  # what earlier tests left to it would be closed in the middle of this one
    threads, before = threading.active_count(), descriptors()
    models = {"my-llm": "stand_in", "chat": "vllm", "table": "xgboost", "plain": lambda asked: b"[]"}
    options = {"keep_requests": KEEP, "keep_bytes": 100_000, "request_timeout": 0.05, "max_workers": 4}
    with Emulator(models, clock=lambda: NOW, max_body=10_000, **options) as emulator:  # type: ignore[arg-type]
        tasks: list[int] = []
        blocks: list[int] = []
        for part in range(3):
            asyncio.run(all_clients(emulator, part * CLIENTS, REQUESTS // 3))
            emulator.disconnected()
            emulator.idle()
            with RawClient(emulator) as client:
                answer = client.exchange(request(path="/endpoints/plain/invocations"))
                assert b"".join(answer) == plain(b"[]")
            emulator.disconnected()
            assert emulator._thread is not None
            tasks.append(len(asyncio.all_tasks(emulator._thread.loop)))
            collect()
            blocks.append(sys.getallocatedblocks())
        assert tasks == [0, 0, 0]
        assert emulator.total_requests > REQUESTS // 4  # so many were understood
        assert len(emulator.requests) <= KEEP
        assert sum(map(len, emulator.objects.values())) <= 110_000
        assert len(emulator.sessions) <= 10_000
    assert blocks[2] - blocks[1] < 100_000
    assert threading.active_count() == threads
    assert descriptors() == before
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_flood_of_connections_that_say_little_goes_by() -> None:
    async def flood(emulator: Emulator) -> None:
        writers = []
        for number in range(1000):
            _, writer = await asyncio.open_connection(emulator.host, emulator.port)
            writer.write(request()[: number % 3])
            writers.append(writer)
        assert await asyncio.to_thread(answers, emulator)
        for writer in writers:
            writer.transport.abort()

    def answers(emulator: Emulator) -> bool:
        with RawClient(emulator) as client:
            return b" 200 " in client.exchange(request())[0]

    with Emulator(lambda asked: b"[]") as emulator:
        asyncio.run(flood(emulator))
        emulator.disconnected()
        assert answers(emulator)
