"""`AsyncEndpoint`: call a SageMaker endpoint from asyncio. `Endpoint` is its twin for threads and scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from smendpoint._calls.async_facade import AsyncFacade
from smendpoint._calls.methods import AsyncStreamMethods
from smendpoint._core.aws.operations import INVOKE_ENDPOINT_ASYNC
from smendpoint._core.call.hiding import hidden
from smendpoint._options import EndpointArguments
from smendpoint._typing import Chunk, In, Out

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from typing_extensions import Unpack

    from smendpoint._calls.async_conversation import AsyncConversation
    from smendpoint._calls.inference import AsyncInferenceHandle
    from smendpoint._calls.session import AsyncStatefulSession
    from smendpoint._core.call.timing import Timeout
    from smendpoint._kwargs import AsyncKwargs, ConverseKwargs, InvokeEndpointKwargs
    from smendpoint._options import EndpointOptions
    from smendpoint.handlers.base import ContentHandler, StreamingContentHandler

A = TypeVar("A")
B = TypeVar("B")

__all__ = ["AsyncEndpoint"]


class AsyncEndpoint(AsyncFacade[In, Out, Chunk], AsyncStreamMethods[In, Out, Chunk], EndpointArguments[In, Out, Chunk]):
    """A model on a SageMaker endpoint, for asyncio.

    The constructor needs no event loop, reads no file and opens no connection; the first call does. An endpoint can be
    shared between tasks, used on several event loops one after another, and pickled (like `Endpoint`).
    """

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

    @property
    def endpoint_name(self) -> str:
        """The name of the SageMaker endpoint."""
        return self._caller.name

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
        return await submit_async(
            self, self._caller, INVOKE_ENDPOINT_ASYNC, input, upload_to, stop, endpoint_kwargs, members, model_kwargs
        )

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
