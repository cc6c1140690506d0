"""Feeds push decoders the same bytes in many cuts, and gives their items."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterable, Iterator
from struct import pack
from typing import Any, Protocol
from zlib import crc32

from smendpoint.decoders import encode
from smendpoint.errors import SmendpointError, StreamError

FUZZ = int(os.environ.get("SMENDPOINT_FUZZ", "20000"))
"""How many mutated inputs a fuzz test tries."""


class Decoder(Protocol):
    def feed(self, data: bytes) -> list[Any]: ...

    def finish(self) -> list[Any] | None: ...


def encode_part(payload: bytes) -> bytes:
    """Make the frame in which SageMaker sends a piece of a model's output: a ``PayloadPart`` event."""
    headers = {":event-type": "PayloadPart", ":content-type": "application/octet-stream", ":message-type": "event"}
    return encode(headers, payload)


def framed(items: Iterable[Any], framing: str, end: bytes = b"") -> bytes:
    """Give JSON items as server-sent events (``"events"``) or as lines, and the end of the stream."""
    before, after = ("data: ", "\n\n") if framing == "events" else ("", "\n")
    return "".join(f"{before}{json.dumps(item)}{after}" for item in items).encode() + end


def cut(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """Cut off pieces of these sizes; the last piece is the rest."""
    position = 0
    for size in sizes:
        if position >= len(data):
            return
        yield data[position : position + size]
        position += size
    yield data[position:]


def ways(data: bytes, *, seed: int = 0, randomly: int = 5) -> Iterator[list[bytes]]:
    """Give the same bytes whole, byte by byte, with empty pieces between, in two at every place, and cut at random."""
    yield [data]
    yield [data[place : place + 1] for place in range(len(data))]
    yield [piece for place in range(len(data)) for piece in (b"", data[place : place + 1])]
    if len(data) <= 300:
        for place in range(len(data)):
            yield [data[:place], data[place:]]
    numbers = random.Random(seed)
    for _ in range(randomly):
        yield list(cut(data, (numbers.randrange(1, 9) for _ in data)))


def read(decoder: Any, pieces: Iterable[bytes]) -> list[Any]:
    """Feed the pieces and finish; give all items."""
    return [item for piece in pieces for item in decoder.feed(piece)] + (decoder.finish() or [])


def drive(
    decoder: Decoder, pieces: Iterable[bytes], failures: type[SmendpointError] = StreamError
) -> tuple[list[Any], Any]:
    """Feed the pieces and finish; give all items, and the failure that ended them or ``None``."""
    items: list[Any] = []
    try:
        for piece in pieces:
            items += decoder.feed(piece)
        items += decoder.finish() or []
    except failures as error:
        return items, error
    return items, None


def outcome(decoder: Decoder, pieces: Iterable[bytes]) -> tuple[list[Any], type[StreamError] | None, str]:
    """Give the result of `drive` in a form that can be compared; cuts divide texts, so neighbours are joined."""
    items, error = drive(decoder, pieces)
    joined: list[Any] = []
    for item in items:
        if isinstance(item, str) and joined and isinstance(joined[-1], str):
            joined[-1] += item
        else:
            joined.append(item)
    return joined, None if error is None else type(error), "" if error is None else str(error)


def mutated(data: bytes, numbers: random.Random) -> bytes:
    """The same bytes with one to three changes: a byte set, a bit flipped, bytes left out or put in."""
    interesting = (0, 1, 7, 9, 10, 12, 15, 16, 17, 127, 128, 255)
    changed = bytearray(data)
    for _ in range(numbers.randrange(1, 4)):
        place = numbers.randrange(len(changed))
        change = numbers.randrange(4)
        if change == 0:
            changed[place] = numbers.choice(interesting)
        elif change == 1:
            changed[place] ^= 1 << numbers.randrange(8)
        elif change == 2:
            del changed[place : place + numbers.randrange(1, 5)]
            changed = changed or bytearray(1)
        else:
            changed[place:place] = bytes(numbers.choice(interesting) for _ in range(numbers.randrange(1, 5)))
    return bytes(changed)


def repaired(data: bytes) -> bytes:
    """An event stream's bytes with right checksums wherever the lengths allow a frame."""
    fixed = bytearray(data)
    position = 0
    while len(fixed) - position >= 16:
        fixed[position + 8 : position + 12] = pack(">I", crc32(fixed[position : position + 8]))
        end = position + int.from_bytes(fixed[position : position + 4], "big")
        if end < position + 16 or end > len(fixed):
            break
        fixed[end - 4 : end] = pack(">I", crc32(fixed[position : end - 4]))
        position = end
    return bytes(fixed)


def same_in_every_cut(make: Callable[[], Decoder], data: bytes) -> tuple[list[Any], type[StreamError] | None, str]:
    """Assert that the cuts change nothing; give the outcome."""
    expected = outcome(make(), [data])
    for pieces in ways(data):
        assert outcome(make(), pieces) == expected
    return expected
