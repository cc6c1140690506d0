"""The stub: a server in a process of its own that answers at once, so that what is measured is the client.

The endpoint's name says what it answers with:

* any name, InvokeEndpoint: one short generated text;
* ``tokens-N``, InvokeEndpointWithResponseStream: N tokens, each an event and an HTTP chunk of its own, as fast as the
  client reads them;
* ``paced-N-MS``: N tokens, MS milliseconds apart; the text of each is the monotonic clock when it was written;
* ``chat...``: the same, as a container with OpenAI's chat completions: ``chat`` a whole answer, ``chatpaced-N-MS`` and
  ``chattokens-N`` streams.

Conversations have a server of their own in the same process, the emulator: the model of every endpoint sends each part
back.

It prints a line of JSON with its URLs, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import struct
import sys
import time
import zlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from smendpoint.emulator import ModelConversation

ANSWER = b'[{"generated_text": "He stayed with her for 3 days."}]'
COMMON = (
    b"HTTP/1.1 200 OK\r\n"
    b"x-amzn-RequestId: 5f6b8c0e-4c1f-4d4e-9a57-3f1f0f5d2c11\r\n"
    b"x-Amzn-Invoked-Production-Variant: AllTraffic\r\n"
    b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
    b"Connection: keep-alive\r\n"
)
CHAT_ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"chat","choices":[{"index":0,"message":{"role":'
    b'"assistant","content":"He stayed with her for 3 days."},"logprobs":null,"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}'
)


def whole(answer: bytes) -> bytes:
    """One whole answer with its head."""
    return COMMON + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer


RESPONSE, CHAT_RESPONSE = whole(ANSWER), whole(CHAT_ANSWER)
STREAM_HEAD = (
    COMMON + b"X-Amzn-SageMaker-Content-Type: text/event-stream\r\n"
    b"Content-Type: application/vnd.amazon.eventstream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
STREAM_END = b"0\r\n\r\n"


def header(name: bytes, value: bytes) -> bytes:
    """One string header of an event-stream message."""
    return struct.pack(">B", len(name)) + name + struct.pack(">BH", 7, len(value)) + value


PART_HEADERS = (
    header(b":event-type", b"PayloadPart")
    + header(b":content-type", b"application/octet-stream")
    + header(b":message-type", b"event")
)


def part(payload: bytes) -> bytes:
    """One PayloadPart frame."""
    prelude = struct.pack(">II", 16 + len(PART_HEADERS) + len(payload), len(PART_HEADERS))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + PART_HEADERS + payload
    return body + struct.pack(">I", zlib.crc32(body))


def token(index: int, text: str, *, last: bool = False) -> bytes:
    """One event of a Text Generation Inference stream; the last one says that it is."""
    return (
        b'data:{"index":%d,"token":{"id":%d,"text":%s,"logprob":-0.10015869,"special":false},'
        b'"generated_text":%s,"details":null}\n\n'
        % (index, 600 + index, json.dumps(text).encode(), b'""' if last else b"null")
    )


def chat_token(text: str, *, last: bool = False) -> bytes:
    """One event of OpenAI's chat completions; the last one has the reason, and the end of the stream behind it."""
    return (
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"chat","choices":[{"index":0,'
        b'"delta":{"content":%s},"logprobs":null,"finish_reason":%s}]}\n\n%s'
        % (json.dumps(text).encode(), *((b'"stop"', b"data: [DONE]\n\n") if last else (b"null", b"")))
    )


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked HTTP body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


BLOCK = [chunk(part(token(index, f" t{index % 10}"))) for index in range(1, 101)]
CHAT_BLOCK = [chunk(part(chat_token(f" t{index % 10}"))) for index in range(1, 101)]
WHOLE_BLOCKS = (b"".join(BLOCK), b"".join(CHAT_BLOCK))


class Ticker:
    """Gives tokens to all streams of one pace.

    The streams are spread evenly over the interval, as those of independent callers are, and the streams of one moment
    get the same bytes, so that the server's own cost stays small.
    """

    slots = 50

    def __init__(self, interval: float, event: Callable[..., bytes]) -> None:
        self.interval = interval
        self.event = event
        self.streams: list[dict[Stub, int]] = [{} for _ in range(self.slots)]
        self.added = 0
        self.slot = -1  # none is running

    def add(self, stream: Stub, count: int) -> None:
        self.streams[self.added % self.slots][stream] = count
        self.added += 1
        if self.slot < 0:
            self.slot = 0
            self.next = asyncio.get_running_loop().time()
            self.tick()

    def tick(self) -> None:
        streams = self.streams[self.slot]
        data, last = (chunk(part(self.event(repr(time.monotonic()), last=last))) for last in (False, True))
        for stream, left in list(streams.items()):
            if not stream.transport.is_closing():
                stream.transport.write(data if left > 1 else last + STREAM_END)
            streams[stream] = left - 1
            if left <= 1 or stream.transport.is_closing():
                del streams[stream]
        if any(self.streams):
            self.slot = (self.slot + 1) % self.slots
            self.next += self.interval / self.slots
            asyncio.get_running_loop().call_at(self.next, self.tick)
        else:
            self.slot = -1


class Stub(asyncio.Protocol):
    """One connection."""

    tickers: dict[tuple[float, bool], Ticker] = {}  # noqa: RUF012 - shared by all connections on purpose

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.buffer = b""
        self.left = 0
        self.paused = False
        self.chat = False

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.buffer[:end]
            lower = head.lower()
            start = lower.find(b"\r\ncontent-length:")
            length = int(lower[start + 17 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            target = head.split(b" ", 2)[1]
            if target.endswith(b"/invocations"):
                self.transport.write(CHAT_RESPONSE if b"/chat" in target else RESPONSE)
            else:
                self.stream(target.split(b"/")[2].decode())

    def stream(self, name: str) -> None:
        self.chat = name.startswith("chat")
        kind, *numbers = name.removeprefix("chat").split("-")
        self.transport.write(STREAM_HEAD)
        if kind == "paced":
            pace = int(numbers[1]) / 1000
            ticker = Ticker(pace, chat_token if self.chat else partial(token, 1))
            self.tickers.setdefault((pace, self.chat), ticker).add(self, int(numbers[0]))
        else:
            self.left = int(numbers[0])
            self.pump()

    def pump(self) -> None:
        block = CHAT_BLOCK if self.chat else BLOCK
        while self.left and not self.paused:
            if self.left > len(block):
                self.transport.write(WHOLE_BLOCKS[self.chat])
                self.left -= len(block)
            else:
                text = f" t{self.left % 10}"
                event = chat_token(text, last=True) if self.chat else token(self.left, text, last=True)
                self.transport.write(b"".join(block[: self.left - 1]) + chunk(part(event)) + STREAM_END)
                self.left = 0

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self.left = 0


async def echo(conversation: ModelConversation) -> None:
    """Send each part back."""
    async for part in conversation:
        await conversation.send(part.data)


async def serve(certificate: str) -> None:
    """Serve until standard input ends."""
    from smendpoint.emulator import Emulator

    loop = asyncio.get_running_loop()
    context, with_http2 = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with_http2.load_cert_chain(certificate)
    with_http2.set_alpn_protocols(["h2"])
    plain = await loop.create_server(Stub, "127.0.0.1", 0, backlog=2048)
    tls = await loop.create_server(Stub, "127.0.0.1", 0, ssl=context, backlog=2048)
    with Emulator(echo, ssl_context=with_http2) as emulator:
        urls = {
            "plain": f"http://127.0.0.1:{plain.sockets[0].getsockname()[1]}",
            "tls": f"https://localhost:{tls.sockets[0].getsockname()[1]}",
            "voice": f"https://localhost:{emulator.port}",
        }
        print(json.dumps(urls), flush=True)
        await loop.run_in_executor(None, sys.stdin.buffer.read)


def main() -> None:
    """Run with uvloop where it is installed: the faster the stub, the less of it is in the figures."""
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()
    asyncio.run(serve(sys.argv[1]))


if __name__ == "__main__":
    main()
