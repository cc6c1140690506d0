"""A FastAPI application that answers questions whole, and streams them as server-sent events.

Run it with ``uvicorn fastapi_relay:app``.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from smendpoint import (
    AsyncEndpoint,
    AsyncStream,
    ConfigurationError,
    ModelNotReadyError,
    ReadTimeoutError,
    SmendpointError,
    ThrottlingError,
)

# Made at import, connected on demand: all requests share it.
endpoint = AsyncEndpoint("my-llm", timeout=30)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Close the endpoint when the server stops. The server has waited for all requests by then."""
    yield
    await endpoint.aclose()


app = FastAPI(lifespan=lifespan)


class Question(BaseModel):
    prompt: str


@app.post("/answer")
async def answer(question: Question) -> dict[str, str]:
    return {"answer": await endpoint.invoke(question.prompt)}


async def open_stream(question: Question) -> AsyncIterator[AsyncStream[str]]:
    """Open a stream before the response begins, and close it after the response, however that ends."""
    async with endpoint.stream(question.prompt) as chunks:
        yield chunks


@app.post("/stream")
async def stream(
    chunks: Annotated[AsyncStream[str], Depends(open_stream)],
) -> StreamingResponse:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx must not buffer events
    return StreamingResponse(events(chunks), media_type="text/event-stream", headers=headers)


async def events(chunks: AsyncStream[str]) -> AsyncIterator[str]:
    """Give each chunk as an event, and say in the last one whether the answer is whole."""
    try:
        async for chunk in chunks:
            yield event("message", chunk)
    except SmendpointError as error:
        yield event("failed", type(error).__name__)
    else:
        yield event("done", chunks.finish_reason)


def event(name: str, data: object) -> str:
    """Make a server-sent event. JSON escapes line ends, which would end the event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


@app.exception_handler(SmendpointError)
async def failed(request: Request, error: SmendpointError) -> JSONResponse:
    """Answer with a status of its own where a call fails before the response has begun."""
    if isinstance(error, (ThrottlingError, ModelNotReadyError)):
        status = 503
    elif isinstance(error, ReadTimeoutError):
        status = 504
    else:
        status = 500 if isinstance(error, ConfigurationError) else 502
    return JSONResponse({"error": type(error).__name__}, status)
