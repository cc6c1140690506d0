"""The event-stream decoder alone."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.harness import Context, Row, seconds
from benchmarks.stub import part

PIECE = 512


def frame(context: Context) -> list[Row]:
    """One 16 MiB frame that arrives in pieces of 512 bytes: whether the work grows with the length alone."""
    from botocore.eventstream import EventStreamBuffer

    from smendpoint._core.aws.eventstream import EventStreamDecoder

    def ours(data: bytes) -> float:
        decoder = EventStreamDecoder()
        return fed(decoder.feed, data)

    def peer(data: bytes) -> float:
        buffer = EventStreamBuffer()

        def feed(piece: bytes) -> list[object]:
            buffer.add_data(piece)
            return list(buffer)

        return fed(feed, data)

    rounds = min(context.rounds, 3)
    small, quarter, large = part(bytes(1 << 20)), part(bytes(4 << 20)), part(bytes(16 << 20))
    four = [ours(quarter) for _ in range(rounds)]
    sixteen = [ours(large) for _ in range(rounds)]
    theirs = [peer(small) for _ in range(rounds)]
    note = f"botocore, 1 MiB {seconds(theirs)}"  # its time grows with the square: half a minute for 16 MiB
    return [
        Row("16 MiB frame in 512-byte pieces", seconds(sixteen), note, sixteen, "s", ("<=", 1.0)),
        Row("16 MiB frame over 4 MiB frame", seconds(sixteen), f"4 MiB {seconds(four)}", [min(sixteen) / min(four)]),
    ]


def fed(feed: Callable[[bytes], list[object]], data: bytes) -> float:
    """Feed the data piece by piece; exactly one message must come of it."""
    started = time.process_time()
    messages = sum(len(feed(data[start : start + PIECE])) for start in range(0, len(data), PIECE))
    assert messages == 1
    return time.process_time() - started
