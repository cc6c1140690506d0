"""The types of asynchronous inference and of sessions. Checked by the type checkers, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from smendpoint import (
    AsyncEndpoint,
    AsyncInferenceHandle,
    AsyncKwargs,
    AsyncStatefulSession,
    AsyncStream,
    Endpoint,
    InferenceHandle,
    InvokeEndpointKwargs,
    JSONHandler,
    Response,
    StatefulSession,
    Stream,
    StreamKwargs,
    Timeout,
)

if TYPE_CHECKING:
    from typing_extensions import assert_type


def members() -> None:
    endpoint = Endpoint("my-llm", endpoint_kwargs={"TargetVariant": "blue"})
    everywhere: InvokeEndpointKwargs = {"TargetVariant": "blue", "SessionId": "NEW_SESSION"}
    streamed: StreamKwargs = {"PrefixAwareId": "user"}
    queued: AsyncKwargs = {"RequestTTLSeconds": 60}
    endpoint.invoke("x", endpoint_kwargs=everywhere)
    endpoint.invoke("x", endpoint_kwargs={"CustomAttributes": "c"})
    endpoint.stream("x", endpoint_kwargs=streamed)
    endpoint.submit("x", endpoint_kwargs=queued)
    wrong: InvokeEndpointKwargs = {"TargetVarian": "blue"}  # type: ignore[typeddict-unknown-key]  # pyright: ignore  # misspelt on purpose
    endpoint.send("x", endpoint_kwargs=wrong)


def timeouts() -> None:
    endpoint = Endpoint("my-llm", timeout=5)
    assert_type(endpoint.invoke("x", timeout=5, parameters={"timeout": 5}), str)
    assert_type(endpoint("x", timeout=0.5), str)
    assert_type(endpoint.send("x", timeout=Timeout(total=5)), Response[str])
    assert_type(endpoint.stream("x", timeout=None), Stream[str])
    assert_type(endpoint.map(["x"], max_concurrency=1, timeout=5), Iterator[str])
    assert_type(endpoint.map(["x"]), Iterator[str])
    assert_type(endpoint.map(["x"], max_concurrency=None, return_exceptions=True), Iterator[str | Exception])
    assert_type(endpoint.map(["x"], max_concurrency=1, enumerated=True), Iterator[tuple[int, str]])
    both = endpoint.map(["x"], max_concurrency=1, enumerated=True, return_exceptions=True, stop_on_fatal=False)
    assert_type(both, Iterator[tuple[int, str | Exception]])
    endpoint.session().invoke("x", timeout=Timeout(1, 2, 3))
    endpoint.invoke("x", timeout="5")  # type: ignore[arg-type]  # pyright: ignore  # wrong on purpose


def handles() -> None:
    endpoint = Endpoint("my-llm")
    handle = endpoint.submit("x", top_k=3)
    assert_type(handle, InferenceHandle[str])
    assert_type(handle.done(), bool)
    assert_type(handle.result(5), str)
    assert_type(InferenceHandle(endpoint, "s3://b/k").result(), str)
    assert_type(Endpoint("m", content_handler=JSONHandler()).submit({"a": 1}).result(), Any)
    endpoint.submit(5)  # type: ignore[arg-type]  # pyright: ignore  # wrong on purpose


def sessions() -> None:
    endpoint = Endpoint("my-llm")
    with endpoint.session(open_with={"image": "cat"}) as session:
        assert_type(session, StatefulSession[str, str, str])
        assert_type(session.invoke("x"), str)
        assert_type(session("x"), str)
        assert_type(session.send("x"), Response[str])
        assert_type(session.stream("x"), Stream[str])
        assert_type(session.expires, "float | None")


async def twins() -> None:
    endpoint = AsyncEndpoint("my-llm")
    assert_type(await endpoint.invoke("x", timeout=Timeout(read=5)), str)
    assert_type(endpoint.map(["x"], max_concurrency=1, timeout=5), AsyncIterator[str])
    assert_type(endpoint.map(["x"]), AsyncIterator[str])
    assert_type(endpoint.map(["x"], max_concurrency=None, return_exceptions=True), AsyncIterator[str | Exception])
    assert_type(endpoint.map(["x"], max_concurrency=1, enumerated=True), AsyncIterator[tuple[int, str]])
    both = endpoint.map(["x"], max_concurrency=1, enumerated=True, return_exceptions=True, stop_on_fatal=False)
    assert_type(both, AsyncIterator[tuple[int, str | Exception]])
    handle = await endpoint.submit("x")
    assert_type(handle, AsyncInferenceHandle[str])
    assert_type(await handle.result(), str)
    assert_type(await AsyncInferenceHandle(endpoint, "s3://b/k").result(), str)
    async with endpoint.session() as session:
        assert_type(session, AsyncStatefulSession[str, str, str])
        assert_type(await session.invoke("x"), str)
        assert_type(session.stream("x"), AsyncStream[str])
