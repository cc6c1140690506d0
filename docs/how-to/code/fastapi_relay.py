"""A FastAPI application that answers whole, as server-sent events, or as plain text.

Run it with ``uvicorn fastapi_relay:app``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

from smendpoint import AsyncEndpoint, AsyncStream, SmendpointError, Timeout, errors


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, AsyncEndpoint]]:
    """Keep one endpoint for all requests of this process, and close it at the end."""
    async with AsyncEndpoint("my-llm", timeout=30) as endpoint:
        yield {"endpoint": endpoint}


app = FastAPI(lifespan=lifespan)


def get_endpoint(request: Request) -> AsyncEndpoint:
    """Give the endpoint of the lifespan."""
    return request.state.endpoint


TheEndpoint = Annotated[AsyncEndpoint, Depends(get_endpoint)]


class Question(BaseModel):
    prompt: str = Field(max_length=20_000)
    seconds: float = Field(60, gt=0, le=300)  # how long the client waits

    @property
    def timeout(self) -> Timeout:
        return Timeout(connect=5, read=30, total=self.seconds)


# -- a whole answer


@app.post("/answer")
async def answer(
    question: Question, endpoint: TheEndpoint, request: Request
) -> dict[str, str]:
    call = endpoint.invoke(question.prompt, timeout=question.timeout)
    return {"answer": await unless_disconnected(request, call)}


async def unless_disconnected(request: Request, call: Coroutine[Any, Any, str]) -> str:
    """Await a call, and cancel it if the client disconnects first."""
    calling = asyncio.ensure_future(call)
    leaving = asyncio.ensure_future(disconnected(request))
    try:
        await asyncio.wait({calling, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not calling.done():
            raise HTTPException(499, "the client has left")  # only a log shows it
        return await calling
    finally:
        calling.cancel()
        leaving.cancel()
        await asyncio.gather(calling, leaving, return_exceptions=True)


async def disconnected(request: Request) -> None:
    """Wait until the client disconnects."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


# -- a streamed answer


async def open_stream(
    question: Question, endpoint: TheEndpoint
) -> AsyncIterator[AsyncStream[str]]:
    """Open a stream before the response begins, and close it when the response ends."""
    async with endpoint.stream(question.prompt, timeout=question.timeout) as chunks:
        yield chunks


Chunks = Annotated[AsyncStream[str], Depends(open_stream)]
NO_BUFFERING = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # for nginx


@app.post("/stream")
async def stream(chunks: Chunks) -> StreamingResponse:
    return StreamingResponse(
        events(chunks), media_type="text/event-stream", headers=NO_BUFFERING
    )


async def events(chunks: AsyncStream[str]) -> AsyncIterator[str]:
    """Give each chunk as an event; the last event says whether the answer is whole."""
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


@app.post("/text")
async def text(chunks: Chunks) -> StreamingResponse:
    return StreamingResponse(chunks, media_type="text/plain", headers=NO_BUFFERING)


# -- a failure before the response has begun

REFUSED = {400, 413, 422}  # the container's statuses for a prompt that it cannot take


@app.exception_handler(SmendpointError)
async def failed(request: Request, error: SmendpointError) -> JSONResponse:
    headers = {}
    if isinstance(error, (errors.ThrottlingError, errors.ModelNotReadyError)):
        status = 503
        headers["Retry-After"] = str(round(error.retry_after or 5))
    elif isinstance(error, (errors.ReadTimeoutError, errors.DeadlineExceededError)):
        status = 504
    elif isinstance(error, (errors.ConfigurationError, errors.CredentialsError)):
        status = 500
    elif isinstance(error, errors.ModelError) and error.original_status_code in REFUSED:
        status = 422
    else:
        status = 502
    return JSONResponse({"error": type(error).__name__}, status, headers)
