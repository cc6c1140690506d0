"""The types of routers and gateways. Checked by the type checkers, never run."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

if sys.version_info >= (3, 11):
    from typing import assert_type
else:
    from typing_extensions import assert_type

from smendpoint import (
    AsyncInferenceGateway,
    AsyncInferenceHandle,
    AsyncInferenceRouter,
    EmbeddingsHandler,
    InferenceGateway,
    InferenceHandle,
    InferenceRouter,
    JSONHandler,
    OpenAICompletionsHandler,
    Response,
)
from smendpoint.emulator import Emulator
from smendpoint.handlers import ChatChunk, ChatCompletion

Messages = str | Sequence[Mapping[str, Any]]


def routers() -> None:
    router = InferenceRouter("my-router", target="chat", timeout=5)
    assert_type(router, InferenceRouter[str, str, str])
    assert_type(router.invoke("x"), str)
    assert_type(router.send("x"), Response[str])
    assert_type(router.send("x").routing_reason, str | None)
    assert_type(router.map(["x"]), Iterator[str])
    assert_type(router.submit(input_location="s3://b/k"), InferenceHandle[str])
    vectors = InferenceRouter("r", target="t", content_handler=EmbeddingsHandler())
    assert_type(vectors.invoke(["a"]), list[list[float]])
    router.stream("x")  # type: ignore[attr-defined]  # pyright: ignore
    router.session()  # type: ignore[attr-defined]  # pyright: ignore
    InferenceRouter("my-router")  # type: ignore[call-overload]  # pyright: ignore
    InferenceRouter("r", target="t", inference_component_name="x")  # type: ignore[call-overload]  # pyright: ignore


def gateways() -> None:
    gateway = InferenceGateway("g1", customer_identity_token="jwt", model_kwargs={"model": "m"})
    assert_type(gateway, InferenceGateway[Messages, ChatCompletion, ChatChunk])
    assert_type(gateway.invoke("x"), ChatCompletion)
    assert_type(next(gateway.stream([{"role": "user", "content": "x"}])), ChatChunk)
    assert_type(InferenceGateway("g1", content_handler=OpenAICompletionsHandler()).invoke("x"), str)
    assert_type(InferenceGateway("g1", content_handler=JSONHandler()).invoke({}), Any)
    gateway.submit("x")  # type: ignore[attr-defined]  # pyright: ignore
    InferenceGateway("g1", s3_client=None)  # type: ignore[call-overload]  # pyright: ignore


async def asynchronous() -> None:
    router = AsyncInferenceRouter("my-router", target="chat")
    assert_type(await router.invoke("x"), str)
    assert_type(router.map(["x"]), AsyncIterator[str])
    assert_type(await router.submit(input_location="s3://b/k"), AsyncInferenceHandle[str])
    async with AsyncInferenceGateway("g1") as gateway:
        assert_type(gateway, AsyncInferenceGateway[Messages, ChatCompletion, ChatChunk])
        async for chunk in gateway.stream("x"):
            assert_type(chunk, ChatChunk)


def emulated(emulator: Emulator) -> None:
    assert_type(emulator.router("r", target="t"), InferenceRouter[str, str, str])
    assert_type(emulator.async_router("r", target="t"), AsyncInferenceRouter[str, str, str])
    assert_type(emulator.gateway("g"), InferenceGateway[Messages, ChatCompletion, ChatChunk])
    assert_type(emulator.async_gateway("g"), AsyncInferenceGateway[Messages, ChatCompletion, ChatChunk])
