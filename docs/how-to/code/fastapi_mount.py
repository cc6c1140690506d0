"""An OpenAI API over SageMaker endpoints, mounted into a FastAPI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from smendpoint.asgi import OpenAIApp

llm = OpenAIApp({"my-model": "my-llm"}, region_name="us-west-2")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await llm.aclose()  # a mounted application is not told when the server stops


app = FastAPI(lifespan=lifespan)
app.mount("/llm", llm)
