"""A Starlette application that streams a model's output to browsers, as server-sent events.

Run it with ``uvicorn starlette_relay:app``.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from smendpoint import (
    AsyncEndpoint,
    AsyncStream,
    ModelNotReadyError,
    ReadTimeoutError,
    SmendpointError,
    ThrottlingError,
)

endpoint = AsyncEndpoint("my-llm", timeout=30)


class Generate:
    """An ASGI application: the stream is open as long as the response is being sent, and no longer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        prompt = (await Request(scope, receive).json())["prompt"]
        async with endpoint.stream(prompt) as chunks:
            response = StreamingResponse(events(chunks), media_type="text/event-stream")
            await response(scope, receive, send)


async def events(chunks: AsyncStream[str]) -> AsyncIterator[str]:
    """Give each chunk as an event, and say in the last one whether the answer is whole."""
    try:
        async for chunk in chunks:
            yield f"event: message\ndata: {json.dumps(chunk)}\n\n"
    except SmendpointError as error:
        yield f"event: failed\ndata: {json.dumps(type(error).__name__)}\n\n"
    else:
        yield f"event: done\ndata: {json.dumps(chunks.finish_reason)}\n\n"


async def failed(request: Request, error: Exception) -> JSONResponse:
    """Answer with a status of its own where a call fails before the response has begun."""
    status = 502
    if isinstance(error, (ThrottlingError, ModelNotReadyError)):
        status = 503
    elif isinstance(error, ReadTimeoutError):
        status = 504
    return JSONResponse({"error": type(error).__name__}, status)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    yield
    await endpoint.aclose()


app = Starlette(
    routes=[Route("/stream", Generate(), methods=["POST"])],
    exception_handlers={SmendpointError: failed},
    lifespan=lifespan,
)
