"""A Starlette application that streams a model's output as server-sent events.

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

from smendpoint import AsyncEndpoint, AsyncStream, SmendpointError, errors


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, AsyncEndpoint]]:
    """Keep one endpoint for all requests of this process, and close it at the end."""
    async with AsyncEndpoint("my-llm", timeout=30) as endpoint:
        yield {"endpoint": endpoint}


class Generate:
    """An ASGI application that keeps the stream open while it sends the response."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        prompt = (await request.json())["prompt"]
        async with request.state.endpoint.stream(prompt) as chunks:
            response = StreamingResponse(events(chunks), media_type="text/event-stream")
            await response(scope, receive, send)


async def events(chunks: AsyncStream[str]) -> AsyncIterator[str]:
    """Give each chunk as an event; the last event says whether the answer is whole."""
    try:
        async for chunk in chunks:
            yield f"event: message\ndata: {json.dumps(chunk)}\n\n"
    except SmendpointError as error:
        yield f"event: failed\ndata: {json.dumps(type(error).__name__)}\n\n"
    else:
        yield f"event: done\ndata: {json.dumps(chunks.finish_reason)}\n\n"


async def failed(request: Request, error: Exception) -> JSONResponse:
    """Choose the status of a failure before the response has begun."""
    status = 502
    if isinstance(error, (errors.ThrottlingError, errors.ModelNotReadyError)):
        status = 503
    elif isinstance(error, (errors.ReadTimeoutError, errors.DeadlineExceededError)):
        status = 504
    elif isinstance(error, (errors.ConfigurationError, errors.CredentialsError)):
        status = 500
    return JSONResponse({"error": type(error).__name__}, status)


app = Starlette(
    routes=[Route("/stream", Generate(), methods=["POST"])],
    exception_handlers={SmendpointError: failed},
    lifespan=lifespan,
)
