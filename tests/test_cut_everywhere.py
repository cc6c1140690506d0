"""A stream of three events, cut at every byte: only the whole one, properly ended, is a success.

The proper end of an answer depends on how HTTP frames it, and there is one case for each way. SageMaker sends
chunks; a cut that leaves whole frames and a proper end cannot be told from a shorter answer, for the protocol has no
event for the end. The model's own format has one, and the handler's decoder asks for it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from feeding import encode_part
from garbage import collect
from servers import Peer, Server
from twins import Twin, TwinEndpoint

from smendpoint import RetryPolicy, errors
from smendpoint.handlers import TextGenerationHandler

TEXTS = ["Once", " upon", " a tîme"]
TOKENS = [
    *({"token": {"text": text}, "generated_text": None} for text in TEXTS[:2]),
    {"token": {"text": TEXTS[2]}, "generated_text": "".join(TEXTS)},
]
EVENTS = [b"data:" + json.dumps(token, ensure_ascii=False).encode() + b"\n\n" for token in TOKENS]
FRAMES = [encode_part(event) for event in EVENTS]
STREAM = b"".join(FRAMES)
# Where the first 0, 1, 2 and 3 frames end.
BOUNDARIES = [len(b"".join(FRAMES[:count])) for count in range(4)]
# It closes after each answer, and says so: a client without retries may not learn it in time otherwise.
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\nConnection: close\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def chunked(data: bytes) -> bytes:
    """A proper end, whatever the data."""
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(data) + LAST_CHUNK


def with_length(data: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(data) + data


def until_close(data: bytes) -> bytes:
    return HEAD + b"\r\n" + data


WHOLE = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(map(chunk, FRAMES)) + LAST_CHUNK


class Outcome(NamedTuple):
    """How a stream ended.

    Attributes:
        chunks: what it gave.
        error: the name of what it raised; empty where it ended well.
    """

    chunks: list[str]
    error: str


class Cutter:
    """A server that gives the same bytes to every request, and then closes."""

    def __init__(self) -> None:
        self.answer = b""

    def __call__(self, peer: Peer) -> None:
        if peer.request()[0]:
            peer.send(self.answer)


@pytest.fixture
def cutter() -> Cutter:
    return Cutter()


@pytest.fixture
def server(cutter: Cutter) -> Iterator[Server]:
    with Server(cutter) as server:
        yield server


def outcome_of(endpoint: TwinEndpoint) -> Outcome:
    chunks: list[str] = []
    try:
        with endpoint.stream("Hello") as stream:
            for piece in stream:
                chunks.append(piece)
    except errors.SmendpointError as error:
        assert list(error.received) == chunks
        return Outcome(chunks, type(error).__name__)
    return Outcome(chunks, "")


def outcomes(
    twin: Twin,
    server: Server,
    cutter: Cutter,
    answers: Callable[[int], bytes],
    cuts: range | list[int],
    *,
    require_end: bool = True,
) -> dict[int, Outcome]:
    handler = TextGenerationHandler(require_end=require_end)
    endpoint = twin.endpoint(server.url, retry=RetryPolicy(max_attempts=1), content_handler=handler)
    found = {}
    for cut in cuts:
        cutter.answer = answers(cut)
        found[cut] = outcome_of(endpoint)
        if cut % 100 == 0 and twin.id == "sync-client":
            collect()  # botocore's streams are collected only by this
    with contextlib.closing(endpoint):
        return found


def check(found: dict[int, Outcome], successes: dict[int, int]) -> None:
    """These cuts, and no others, are successes with so many chunks; the chunks are always the beginning."""
    assert {cut: len(outcome.chunks) for cut, outcome in found.items() if not outcome.error} == successes
    for outcome in found.values():
        assert outcome.chunks == TEXTS[: len(outcome.chunks)]
    assert {outcome.error for outcome in found.values()} - {""} <= {
        "StreamTruncatedError",
        "ProtocolError",
        "TransportError",
    }


def test_chunked_without_the_last_chunk_one_cut_of_all_is_a_success(
    direct_twin: Twin, server: Server, cutter: Cutter
) -> None:
    found = outcomes(direct_twin, server, cutter, lambda cut: WHOLE[:cut], range(len(WHOLE) + 1))
    check(found, {len(WHOLE): 3})
    inside = [found[cut] for cut in found if len(WHOLE) - len(STREAM) < cut < len(WHOLE)]
    assert {outcome.error for outcome in inside} == {"StreamTruncatedError"}


def test_chunked_with_a_proper_end_one_cut_of_all_is_a_success(
    direct_twin: Twin, server: Server, cutter: Cutter
) -> None:
    found = outcomes(direct_twin, server, cutter, lambda cut: chunked(STREAM[:cut]), range(len(STREAM) + 1))
    check(found, {len(STREAM): 3})
    assert {outcome.error for outcome in found.values()} == {"StreamTruncatedError", ""}


def test_a_handler_that_asks_for_no_end_takes_whole_frames_for_an_answer_and_never_a_cut_one(
    twin: Twin, server: Server, cutter: Cutter
) -> None:
    cuts = sorted({*range(0, len(STREAM), 11), *BOUNDARIES})
    found = outcomes(twin, server, cutter, lambda cut: chunked(STREAM[:cut]), cuts, require_end=False)
    check(found, {end: count for count, end in enumerate(BOUNDARIES)})


@pytest.mark.parametrize("answer", [with_length(STREAM), until_close(STREAM)], ids=["with-length", "until-close"])
def test_without_chunks_one_cut_of_all_is_a_success(
    direct_twin: Twin, server: Server, cutter: Cutter, answer: bytes
) -> None:
    """Without a length, the end of the connection is the proper end of any answer."""
    found = outcomes(direct_twin, server, cutter, lambda cut: answer[:cut], range(len(answer) + 1))
    check(found, {len(answer): 3})


def test_a_document_over_three_events_is_a_success_only_whole_whatever_http_says(
    direct_twin: Twin, server: Server, cutter: Cutter
) -> None:
    """Its decoder knows the end: an event that lacks its blank line is given, half a JSON document is not."""
    third = len(EVENTS[2]) // 3
    parts = [EVENTS[2][:third], EVENTS[2][third : 2 * third], EVENTS[2][2 * third :]]
    stream = b"".join(map(encode_part, parts))
    found = outcomes(direct_twin, server, cutter, lambda cut: chunked(stream[:cut]), range(1, len(stream) + 1))
    assert [cut for cut, outcome in found.items() if not outcome.error] == [len(stream)]
    assert found[len(stream)].chunks == TEXTS[2:]


@pytest.mark.parametrize("answers", [WHOLE, with_length(STREAM)], ids=["chunked", "with-length"])
def test_through_a_client_no_cut_is_a_success_but_in_the_end_itself(
    client_twin: Twin, server: Server, cutter: Cutter, answers: bytes
) -> None:
    cuts = sorted({*range(0, len(answers), 13), *range(len(answers) - 12, len(answers) + 1)})
    found = outcomes(client_twin, server, cutter, lambda cut: answers[:cut], cuts)
    # urllib3 takes the 0 of the last chunk for the end, whatever follows; everything has arrived by then.
    lenient = client_twin.id == "sync-client" and answers is WHOLE
    first = len(answers) - (len(LAST_CHUNK) - 1 if lenient else 0)
    check(found, dict.fromkeys(range(first, len(answers) + 1), 3))


def test_through_a_client_a_cut_frame_is_never_a_success_though_http_ends_properly(
    client_twin: Twin, server: Server, cutter: Cutter
) -> None:
    cuts = sorted({*range(0, len(STREAM), 11), *BOUNDARIES})
    found = outcomes(client_twin, server, cutter, lambda cut: chunked(STREAM[:cut]), cuts)
    check(found, {len(STREAM): 3})
