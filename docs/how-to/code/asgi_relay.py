"""An ASGI application that streams a model's output as server-sent events.

``POST /generate`` takes the prompt as its body. Any ASGI server runs it:
``uvicorn asgi_relay:app``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from smendpoint import AsyncEndpoint, SmendpointError, errors

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
        """Close the endpoint when the server stops, after the last request."""
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await self.endpoint.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def generate(self, receive: Receive, send: Send) -> None:
        """Relay one stream until it ends or the browser disconnects."""
        prompt = await read_prompt(receive)
        if prompt is None:
            limit = f"a prompt has at most {MAX_PROMPT_BYTES} bytes of UTF-8"
            await answer(send, 413, {"error": limit})
            return
        relaying = asyncio.ensure_future(self.relay(prompt, send))
        leaving = asyncio.ensure_future(disconnected(receive))
        try:
            await asyncio.wait({relaying, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if relaying.done():
                relaying.result()  # raises what `relay` did not expect
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
                await send(EVENT_STREAM)
                began = True
                async for chunk in chunks:
                    await send(event(chunk))
                done = {"finish_reason": chunks.finish_reason}
                await send(event(done, name="done", last=True))
        except SmendpointError as error:
            failure = {"error": type(error).__name__}
            if began:  # the status 200 has been sent: the last event reports it
                await send(event(failure, name="failed", last=True))
            else:
                await answer(send, status_of(error), failure)


EVENT_STREAM: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),  # tells nginx not to buffer events
    ],
}


def event(data: Any, *, name: str = "message", last: bool = False) -> Message:
    """Make a server-sent event. JSON escapes line ends, which would end the event."""
    body = f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
    return {"type": "http.response.body", "body": body, "more_body": not last}


def status_of(error: SmendpointError) -> int:
    """Choose the status for a failure before the first event."""
    if isinstance(error, (errors.ThrottlingError, errors.ModelNotReadyError)):
        return 503
    if isinstance(error, (errors.ReadTimeoutError, errors.DeadlineExceededError)):
        return 504
    if isinstance(error, (errors.ConfigurationError, errors.CredentialsError)):
        return 500
    return 502


async def read_prompt(receive: Receive) -> str | None:
    """Read the body as text; return ``None`` if it is too long or is not UTF-8."""
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
