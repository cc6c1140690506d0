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

    from smendpoint._calls.inference import AsyncInferenceHandle
    from smendpoint._calls.session import AsyncStatefulSession
    from smendpoint._kwargs import AsyncKwargs, InvokeEndpointKwargs
    from smendpoint._options import EndpointOptions
    from smendpoint.handlers.base import ContentHandler, StreamingContentHandler

A = TypeVar("A")
B = TypeVar("B")

__all__ = ["AsyncEndpoint"]


class AsyncEndpoint(AsyncMethods[In, Out, Chunk], EndpointBase[In, Out, Chunk]):
    """A model on a SageMaker endpoint, for asyncio.

    Making one needs no event loop, reads no file and opens no connection; the first call does. It can be shared
    between tasks, used on several event loops one after another, and pickled (as `Endpoint`).
    """

    _caller: AsyncCaller[In, Out, Chunk]
    _caller_class = AsyncCaller

    if TYPE_CHECKING:  # the constructor itself is `EndpointArguments`'

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
        """Have the model work on an input in its own time: SageMaker's asynchronous inference.

        Args:
            input: as for `invoke`; sent along where what the content handler makes of it has at most 128,000 bytes.
            input_location: ``s3://bucket/key`` of an input that lies in Amazon S3 already, instead of `input`.
            upload_to: ``s3://bucket/prefix`` to put `input` under, for inputs of any size.
            inference_id: the caller's id of the request.
            request_ttl_seconds: how long the request may wait for the model, 60 to 21,600 s.
            invocation_timeout_seconds: how long the model may take, 1 to 3,600 s.
            output_path_extension: a folder for the output, below the endpoint's own.
            filename: the output's name, without its ending.
            stop: the output ends before the first of these strings.
            endpoint_kwargs: further request members in the AWS spelling.
            **model_kwargs: parameters for the model; they win over the endpoint's own.
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
        """A stateful session, to be opened by ``async with``: its calls reach one instance, whose model remembers them.

        Args:
            open_with: what tells the model to open it: bytes, or something to send as JSON; by default
                ``{"requestType": "NEW_SESSION"}``.
            close_with: what tells the model to close it; by default ``{"requestType": "CLOSE"}``.
            endpoint_kwargs: request members of all its calls in the AWS spelling.
        """
        from smendpoint._calls.session import AsyncStatefulSession

        endpoint_kwargs = hidden(endpoint_kwargs)
        return AsyncStatefulSession(
            self._caller, open_with=open_with, close_with=close_with, endpoint_kwargs=endpoint_kwargs
        )

    @overload
    def map(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        max_concurrency: int,
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> AsyncIterator[Out]: ...
    @overload
    def map(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        max_concurrency: int,
        ordered: bool = True,
        return_exceptions: bool,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> AsyncIterator[Out | Exception]: ...
    def map(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        max_concurrency: int,
        ordered: bool = True,
        return_exceptions: bool = False,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> AsyncIterator[Out | Exception]:
        """Call the model for each input, several at a time, and give the outputs.

        Inputs are read as places get free: at most `max_concurrency` inputs or outputs are held at any time. Leaving
        the iterator early stops the calls that are under way.

        Args:
            inputs: any iterable, asynchronous and endless ones included.
            max_concurrency: how many calls may be under way at once; no more than there may be connections.
            ordered: whether outputs come in the order of their inputs, or as they are ready.
            return_exceptions: whether a call's error takes the place of its output, or ends the iteration.
            timeout: of each of the calls; as for `invoke`.
            **model_kwargs: parameters for the model; `stop` and `endpoint_kwargs` may be among them, as for `invoke`.

        Raises:
            ConfigurationError: `inputs` is one input, or another argument does not fit. Nothing was sent.
        """
        concurrency, arguments = self._check_map(inputs, max_concurrency, timeout, model_kwargs)
        from smendpoint._calls.async_fanout import fan_out

        async def work(value: In) -> Out:
            request, stop = self._request(INVOKE_ENDPOINT, value, *arguments)
            return self._output(*await self._caller.send(request), stop)

        return fan_out(work, inputs, concurrency, ordered=ordered, return_exceptions=return_exceptions)

    async def aclose(self) -> None:
        """Close the endpoint's connections. A client that was given stays open: it is its maker's to close.

        Calls that are under way in other tasks end at once, with an `EndpointError`. (`Endpoint.close` lets them end by
        themselves.)
        """
        await self._caller.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()
