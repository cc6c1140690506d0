"""Runs models: in the loop, or in the threads of its default executor; whole, or part by part."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from typing import Any

from smendpoint.emulator._reply import ByteStream, ModelFailed
from smendpoint.emulator._route import ReceivedRequest
from smendpoint.emulator.models import Model, ModelReply, ModelRequest, Parts

PREFIX = "x-amzn-sagemaker-"

_END = object()
# Iterable types that are a whole answer, not parts of one.
_WHOLE = (str, bytes, bytearray, memoryview, Mapping)


def describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def model_request(request: ReceivedRequest, disconnected: threading.Event) -> ModelRequest:
    """Make the request for a model. Some operations have the service's own headers for types."""
    headers, asynchronous = request.headers, request.operation.endswith("Async")
    own_accept = asynchronous or request.operation == "InvokeEndpointWithResponseStream"
    return ModelRequest(
        body=request.body,
        content_type=headers.get(f"{PREFIX}content-type" if asynchronous else "content-type", ""),
        accept=headers.get(f"{PREFIX}accept" if own_accept else "accept", ""),
        endpoint_name=request.endpoint_name,
        custom_attributes=headers.get(f"{PREFIX}custom-attributes", ""),
        headers=headers,
        method=request.method,
        disconnected=disconnected,
    )


async def ask(model: Model, request: ModelRequest) -> ModelReply:
    """Call a model.

    Raises:
        ModelFailed: It raised.
    """
    try:
        if getattr(model, "inline", False) or inspect.iscoroutinefunction(model):
            answer = model(request)
        else:
            answer = await asyncio.to_thread(model, request)
        if inspect.isawaitable(answer):
            answer = await answer
    except Exception as error:
        raise ModelFailed(describe(error)) from error
    return answer if isinstance(answer, ModelReply) else ModelReply(answer)


def as_bytes(part: object) -> bytes:
    if isinstance(part, str):
        return part.encode()
    if isinstance(part, (bytes, bytearray, memoryview)):  # bytes(3) would be three zero bytes
        return bytes(part)
    raise TypeError(f"a model must return bytes or str, or parts of these types, not {type(part).__name__}")


def _close(iterator: Iterator[Any]) -> None:
    close: Callable[[], None] | None = getattr(iterator, "close", None)
    if close is not None:
        # A generator that is running in its thread cannot be closed.
        with contextlib.suppress(Exception):
            close()


async def _from_thread(parts: Iterable[bytes | str]) -> ByteStream:
    iterator = iter(parts)
    try:
        # A future cannot hold StopIteration, so the end is a value.
        while (part := await asyncio.to_thread(next, iterator, _END)) is not _END:
            yield as_bytes(part)
    finally:
        _close(iterator)


async def parts_of(body: Parts) -> ByteStream:
    """Yield a model's answer part by part, each as soon as it is ready.

    Raises:
        ModelFailed: The model raised between two parts, or returned something that is not an answer.
    """
    try:
        if isinstance(body, AsyncIterable):
            async for part in body:
                yield as_bytes(part)
        elif isinstance(body, _WHOLE) or not isinstance(body, Iterable):
            yield as_bytes(body)
        elif isinstance(body, (list, tuple)):  # fast: without a thread
            for part in body:
                yield as_bytes(part)
        else:
            async with contextlib.aclosing(_from_thread(body)) as threaded:
                async for part in threaded:
                    yield part
    except Exception as error:
        raise ModelFailed(describe(error)) from error


async def gather(body: Parts) -> bytes:
    """Return a model's whole answer.

    Raises:
        ModelFailed: The model raised, or returned something that is not an answer.
    """
    return b"".join([part async for part in parts_of(body)])
