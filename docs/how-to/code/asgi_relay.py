"""An ASGI application that relays a model's output to browsers, as server-sent events, while it is generated.

``POST /generate`` with the prompt as its body. Run it with any ASGI server: ``uvicorn asgi_relay:app``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from smendpoint import (
    AsyncEndpoint,
    ConfigurationError,
    ModelNotReadyError,
    ReadTimeoutError,
    SmendpointError,
    ThrottlingError,
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_PROMPT_BYTES = 100_000


class Relay:
    """Relays the streams of one endpoint, which all requests share."""

    def __init__(self, endpoint: AsyncEndpoint) -> None:
        self.endpoint = endpoint

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
        elif scope["type"] != "http" or scope["path"] != "/generate":
            await answer(send, 404, {"error": "there is only /generate"})
        elif scope["method"] != "POST":
            await answer(send, 405, {"error": "send the prompt with POST"})
        else:
            await self.generate(receive, send)

    async def lifespan(self, receive: Receive, send: Send) -> None:
        """Close the endpoint when the server stops. The server has waited for every request by then."""
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await self.endpoint.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def generate(self, receive: Receive, send: Send) -> None:
        """Relay one stream until it ends or the browser disconnects."""
        prompt = await read_prompt(receive)
        if prompt is None:
            await answer(send, 413, {"error": f"a prompt has at most {MAX_PROMPT_BYTES} bytes of UTF-8"})
            return
        relaying = asyncio.ensure_future(self.relay(prompt, send))
        leaving = asyncio.ensure_future(disconnected(receive))
        try:
            await asyncio.wait({relaying, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Cancelling the relay closes its stream, so that the model can stop.
            relaying.cancel()
            leaving.cancel()
            await asyncio.gather(relaying, leaving, return_exceptions=True)

    async def relay(self, prompt: str, send: Send) -> None:
        """Send each chunk as an event when it arrives."""
        began = False
        try:
            async with self.endpoint.stream(prompt) as chunks:
                await send({"type": "http.response.start", "status": 200, "headers": EVENT_STREAM})
                began = True
                async for chunk in chunks:
                    await send(event(chunk))
                await send(event({"finish_reason": chunks.finish_reason}, name="done", last=True))
        except SmendpointError as error:
            if began:
                # The status 200 has been sent, so the last event must say that the answer is not complete.
                await send(event({"error": type(error).__name__}, name="failed", last=True))
            else:
                await answer(send, status_of(error), {"error": type(error).__name__})


EVENT_STREAM = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # tells nginx not to buffer events
]


def event(data: Any, *, name: str = "message", last: bool = False) -> Message:
    """Make a server-sent event. JSON escapes line ends, which would end the event."""
    body = f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
    return {"type": "http.response.body", "body": body, "more_body": not last}


def status_of(error: SmendpointError) -> int:
    """Choose the status for a failure before the first event."""
    if isinstance(error, (ThrottlingError, ModelNotReadyError)):
        return 503
    if isinstance(error, ReadTimeoutError):
        return 504
    return 500 if isinstance(error, ConfigurationError) else 502


async def read_prompt(receive: Receive) -> str | None:
    """Read the request's body as text; return ``None`` if it is too long or is not UTF-8."""
    body = b""
    more = True
    while more and len(body) <= MAX_PROMPT_BYTES:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    try:
        return body.decode() if len(body) <= MAX_PROMPT_BYTES else None
    except UnicodeDecodeError:
        return None


async def disconnected(receive: Receive) -> None:
    """Wait until the browser disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer(send: Send, status: int, body: object) -> None:
    """Send a whole JSON answer."""
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


app = Relay(AsyncEndpoint("my-llm", timeout=30))
