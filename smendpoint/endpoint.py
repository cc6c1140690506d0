"""`Endpoint`: call a SageMaker endpoint and wait for the answer. `AsyncEndpoint` is its twin for asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from smendpoint._calls.facade import Facade
from smendpoint._calls.methods import StreamMethods
from smendpoint._core.aws.operations import INVOKE_ENDPOINT_ASYNC
from smendpoint._core.call.hiding import hidden
from smendpoint._options import EndpointArguments
from smendpoint._typing import Chunk, In, Out

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from typing_extensions import Unpack

    from smendpoint._calls.conversation import Conversation
    from smendpoint._calls.inference import InferenceHandle
    from smendpoint._calls.session import StatefulSession
    from smendpoint._core.call.timing import Timeout
    from smendpoint._kwargs import AsyncKwargs, ConverseKwargs, InvokeEndpointKwargs
    from smendpoint._options import EndpointOptions
    from smendpoint.handlers.base import ContentHandler, StreamingContentHandler

A = TypeVar("A")
B = TypeVar("B")

__all__ = ["Endpoint"]


class Endpoint(Facade[In, Out, Chunk], StreamMethods[In, Out, Chunk], EndpointArguments[In, Out, Chunk]):
    """A model on a SageMaker endpoint.

    The constructor reads no file and opens no connection; the first call does. An endpoint can be shared between
    threads, survives a fork, and can be pickled. Connections and secrets are not pickled: an endpoint made with
    explicit keys or a session cannot make calls after it is unpickled.
    """

    if TYPE_CHECKING:  # the constructor itself is in `EndpointArguments`

        @overload
        def __init__(
            self: Endpoint[str, str, str],
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
            self: Endpoint[A, B, B],
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

    def submit(
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
    ) -> InferenceHandle[Out]:
        """Submit an input for asynchronous inference: the model processes it later.

        Args:
            input: as for `invoke`. Without `upload_to`, its body has at most 128,000 bytes.
            input_location: ``s3://bucket/key`` of an input that is already in Amazon S3, instead of `input`.
            upload_to: ``s3://bucket/prefix`` under which to store `input`, for inputs of any size.
            inference_id: the caller's id of the request.
            request_ttl_seconds: how long the request may wait for the model, 60 to 21,600 s.
            invocation_timeout_seconds: how long the model may take, 1 to 3,600 s.
            output_path_extension: a folder for the output, below the endpoint's output folder.
            filename: the output's name, without its extension.
            stop: the output ends before the first of these strings.
            endpoint_kwargs: further request members in the AWS spelling.
            **model_kwargs: parameters for the model; they take precedence over the endpoint's own.
        """
        endpoint_kwargs = hidden(endpoint_kwargs)
        from smendpoint._calls.inference import submit

        members = {
            "InputLocation": input_location,
            "InferenceId": inference_id,
            "RequestTTLSeconds": request_ttl_seconds,
            "InvocationTimeoutSeconds": invocation_timeout_seconds,
            "S3OutputPathExtension": output_path_extension,
            "Filename": filename,
        }
        return submit(
            self, self._caller, INVOKE_ENDPOINT_ASYNC, input, upload_to, stop, endpoint_kwargs, members, model_kwargs
        )

    def session(
        self,
        *,
        open_with: Mapping[str, Any] | bytes | None = None,
        close_with: Mapping[str, Any] | bytes | None = None,
        endpoint_kwargs: InvokeEndpointKwargs | Mapping[str, object] | None = None,
    ) -> StatefulSession[In, Out, Chunk]:
        """Make a stateful session; ``with`` opens it. One instance gets all its calls.

        Args:
            open_with: the body that opens it: bytes, or a mapping to send as JSON; by default
                ``{"requestType": "NEW_SESSION"}``.
            close_with: the body that closes it; by default ``{"requestType": "CLOSE"}``.
            endpoint_kwargs: request members of all its calls in the AWS spelling.
        """
        from smendpoint._calls.session import StatefulSession

        endpoint_kwargs = hidden(endpoint_kwargs)
        return StatefulSession(
            self._caller, open_with=open_with, close_with=close_with, endpoint_kwargs=endpoint_kwargs
        )

    def converse(
        self,
        *,
        path: str | None = None,
        query: Mapping[str, object] | str | None = None,
        timeout: float | Timeout | None = None,
        endpoint_kwargs: ConverseKwargs | Mapping[str, object] | None = None,
    ) -> Conversation:
        """Make a conversation: parts go to the model while others come back, over HTTP/2. Needs the extra ``bidi``.

        ``with`` opens it. The model's container must have a WebSocket server, and the label with which SageMaker turns
        on bidirectional streams.

        Args:
            path: the path in the container, such as ``"v1/listen"``, at most 100 characters.
            query: the query for the container, at most 2,048 characters: a mapping (its values may be ``str``, ``int``,
                ``float``, ``bool``, or several of these), or a query string that is already percent-encoded.
            timeout: as for `invoke`. The limit for silence applies while a part is awaited, and while one is sent.
            endpoint_kwargs: further request members in the AWS spelling.

        Raises:
            ConfigurationError: an argument is not valid, the endpoint has a ``client``, or the extra is missing.
        """
        query, endpoint_kwargs = hidden(query), hidden(endpoint_kwargs)

        from smendpoint._calls.conversation import Conversation
        from smendpoint._calls.conversation_base import conversation_request

        request = conversation_request(self._caller, path, query, timeout, endpoint_kwargs)
        return Conversation(self._caller, request)
