"""`AsyncEndpoint`: call a SageMaker endpoint from asyncio. `Endpoint` is its twin for threads and scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from smendpoint._calls.caller import AsyncCaller
from smendpoint._calls.endpoint import EndpointBase
from smendpoint._calls.methods import AsyncMethods
from smendpoint._core.aws.operations import INVOKE_ENDPOINT
from smendpoint._core.call.hiding import hidden
from smendpoint._core.call.timing import Timeout
from smendpoint._typing import Chunk, In, Out

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
    from typing import Literal

    from typing_extensions import Self, Unpack

    from smendpoint._calls.async_conversation import AsyncConversation
    from smendpoint._calls.inference import AsyncInferenceHandle
    from smendpoint._calls.session import AsyncStatefulSession
    from smendpoint._core.call.slots import Slot
    from smendpoint._kwargs import AsyncKwargs, ConverseKwargs, InvokeEndpointKwargs
    from smendpoint._options import EndpointOptions
    from smendpoint.handlers.base import ContentHandler, StreamingContentHandler

A = TypeVar("A")
B = TypeVar("B")

__all__ = ["AsyncEndpoint"]


class AsyncEndpoint(AsyncMethods[In, Out, Chunk], EndpointBase[In, Out, Chunk]):
    """A model on a SageMaker endpoint, for asyncio.

    The constructor needs no event loop, reads no file and opens no connection; the first call does. An endpoint can be
    shared between tasks, used on several event loops one after another, and pickled (like `Endpoint`).
    """

    _caller: AsyncCaller[In, Out, Chunk]
    _caller_class = AsyncCaller

    if TYPE_CHECKING:  # the constructor itself is in `EndpointArguments`

        @overload
        def __init__(
            self: AsyncEndpoint[str, str, str],
            endpoint_name: str,
            *,
            content_handler: None = None,
            **options: Unpack[EndpointOptions],
        ) -> None: ...
        @overload
        def __init__(
            self,
            endpoint_name: str,
            *,
            content_handler: StreamingContentHandler[In, Out, Chunk],
            **options: Unpack[EndpointOptions],
        ) -> None: ...
        @overload
        def __init__(
            self: AsyncEndpoint[A, B, B],
            endpoint_name: str,
            *,
            content_handler: ContentHandler[A, B],
            **options: Unpack[EndpointOptions],
        ) -> None: ...
        def __init__(self, endpoint_name: str, **options: Any) -> None: ...

    async def submit(
        self,
        input: In | None = None,
        /,
        *,
        input_location: str | None = None,
        upload_to: str | None = None,
        inference_id: str | None = None,
        request_ttl_seconds: int | None = None,
        invocation_timeout_seconds: int | None = None,
        output_path_extension: str | None = None,
        filename: str | None = None,
        stop: str | Iterable[str] | None = None,
        endpoint_kwargs: AsyncKwargs | Mapping[str, object] | None = None,
        **model_kwargs: Any,
    ) -> AsyncInferenceHandle[Out]:
        """Submit an input for asynchronous inference: the model processes it later.

        Arguments as for `Endpoint.submit`.
        """
        endpoint_kwargs = hidden(endpoint_kwargs)
        from smendpoint._calls.inference import submit_async

        members = {
            "InputLocation": input_location,
            "InferenceId": inference_id,
            "RequestTTLSeconds": request_ttl_seconds,
            "InvocationTimeoutSeconds": invocation_timeout_seconds,
            "S3OutputPathExtension": output_path_extension,
            "Filename": filename,
        }
        return await submit_async(self, self._caller, input, upload_to, stop, endpoint_kwargs, members, model_kwargs)

    def session(
        self,
        *,
        open_with: Mapping[str, Any] | bytes | None = None,
        close_with: Mapping[str, Any] | bytes | None = None,
        endpoint_kwargs: InvokeEndpointKwargs | Mapping[str, object] | None = None,
    ) -> AsyncStatefulSession[In, Out, Chunk]:
        """Make a stateful session; ``async with`` opens it. One instance gets all its calls.

        Arguments as for `Endpoint.session`.
        """
        from smendpoint._calls.session import AsyncStatefulSession

        endpoint_kwargs = hidden(endpoint_kwargs)
        return AsyncStatefulSession(
            self._caller, open_with=open_with, close_with=close_with, endpoint_kwargs=endpoint_kwargs
        )

    def converse(
        self,
        *,
        path: str | None = None,
        query: Mapping[str, object] | str | None = None,
        timeout: float | Timeout | None = None,
        endpoint_kwargs: ConverseKwargs | Mapping[str, object] | None = None,
    ) -> AsyncConversation:
        """Make a conversation: parts go to the model while others come back, over HTTP/2. Needs the extra ``bidi``.

        ``async with`` opens it. Arguments and errors as for `Endpoint.converse`.
        """
        query, endpoint_kwargs = hidden(query), hidden(endpoint_kwargs)
        from smendpoint._calls.async_conversation import AsyncConversation
        from smendpoint._calls.conversation_base import conversation_request

        request = conversation_request(self._caller, path, query, timeout, endpoint_kwargs)
        return AsyncConversation(self._caller, request)

    @overload
    def map(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
        enumerated: Literal[False] = False,
        stop_on_fatal: bool = True,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> AsyncIterator[Out]: ...
    @overload
    def map(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: bool,
        enumerated: Literal[False] = False,
        stop_on_fatal: bool = True,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> AsyncIterator[Out | Exception]: ...
    @overload
    def map(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
        enumerated: Literal[True],
        stop_on_fatal: bool = True,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> AsyncIterator[tuple[int, Out]]: ...
    @overload
    def map(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: bool,
        enumerated: Literal[True],
        stop_on_fatal: bool = True,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> AsyncIterator[tuple[int, Out | Exception]]: ...
    def map(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
        enumerated: bool = False,
        stop_on_fatal: bool = True,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Call the model for each input, several at a time, and yield the outputs.

        A call that the endpoint refuses because of load is sent again, which does not count as an attempt of the retry
        policy. An input is read when its call can be sent. A slow answer does not hold up the calls after it: their
        outputs wait, up to 50 for each call that is in flight at once. Leaving the iterator early stops the calls that
        are in flight.

        Arguments and errors as for `Endpoint.map`; `inputs` may also be an asynchronous iterable.
        """
        window, limiter, arguments = self._check_map(
            inputs,
            max_concurrency,
            timeout,
            model_kwargs,
            ordered=ordered,
            return_exceptions=return_exceptions,
            enumerated=enumerated,
            stop_on_fatal=stop_on_fatal,
        )
        from smendpoint._calls.async_fanout import fan_out

        async def work(value: In, slot: Slot) -> Out:
            request, stop = self._request(INVOKE_ENDPOINT, value, *arguments)
            return self._output(*await self._caller.send(request, slot), stop)

        return fan_out(work, inputs, limiter, window)

    async def aclose(self) -> None:
        """Close the endpoint's connections. A client passed as ``client=`` stays open.

        Calls in flight in other tasks end at once, with an `EndpointError`. (`Endpoint.close` lets them run to their
        end.) Unpickled or copied endpoints share connections: these close, and their calls end, with the last of the
        endpoints.
        """
        await self._caller.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()
