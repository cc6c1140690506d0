"""`Endpoint`: call a SageMaker endpoint and wait for the answer. `AsyncEndpoint` is its twin for asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from smendpoint._calls.caller import Caller
from smendpoint._calls.endpoint import EndpointBase
from smendpoint._calls.methods import Methods
from smendpoint._core.aws.operations import INVOKE_ENDPOINT
from smendpoint._core.call.hiding import hidden
from smendpoint._core.call.timing import Timeout
from smendpoint._transport.deadline import Cancellation
from smendpoint._typing import Chunk, In, Out

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Literal

    from typing_extensions import Self, Unpack

    from smendpoint._calls.conversation import Conversation
    from smendpoint._calls.inference import InferenceHandle
    from smendpoint._calls.session import StatefulSession
    from smendpoint._core.call.slots import Slot
    from smendpoint._kwargs import AsyncKwargs, ConverseKwargs, InvokeEndpointKwargs
    from smendpoint._options import EndpointOptions
    from smendpoint.handlers.base import ContentHandler, StreamingContentHandler

A = TypeVar("A")
B = TypeVar("B")

__all__ = ["Endpoint"]


class Endpoint(Methods[In, Out, Chunk], EndpointBase[In, Out, Chunk]):
    """A model on a SageMaker endpoint.

    The constructor reads no file and opens no connection; the first call does. An endpoint can be shared between
    threads, survives a fork, and can be pickled. Connections and secrets are not pickled: an endpoint made with
    explicit keys or a session cannot make calls after it is unpickled.
    """

    _caller: Caller[In, Out, Chunk]
    _caller_class = Caller

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
        return submit(self, self._caller, input, upload_to, stop, endpoint_kwargs, members, model_kwargs)

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

    @overload
    def map(
        self,
        inputs: Iterable[In],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
        enumerated: Literal[False] = False,
        stop_on_fatal: bool = True,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> Iterator[Out]: ...
    @overload
    def map(
        self,
        inputs: Iterable[In],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: bool,
        enumerated: Literal[False] = False,
        stop_on_fatal: bool = True,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> Iterator[Out | Exception]: ...
    @overload
    def map(
        self,
        inputs: Iterable[In],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
        enumerated: Literal[True],
        stop_on_fatal: bool = True,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> Iterator[tuple[int, Out]]: ...
    @overload
    def map(
        self,
        inputs: Iterable[In],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: bool,
        enumerated: Literal[True],
        stop_on_fatal: bool = True,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> Iterator[tuple[int, Out | Exception]]: ...
    def map(
        self,
        inputs: Iterable[In],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
        enumerated: bool = False,
        stop_on_fatal: bool = True,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> Iterator[Any]:
        """Call the model for each input, several at a time, and yield the outputs.

        A call that the endpoint refuses because of load is sent again, which does not count as an attempt of the retry
        policy. An input is read when its call can be sent. A slow answer does not hold up the calls after it: their
        outputs wait, up to 50 for each call that is in flight at once. Leaving the iterator early stops the calls that
        are in flight.

        Args:
            inputs: any iterable; it may be endless.
            max_concurrency: how many calls of this map may be in flight at once, and at most `max_connections`. With
                `None`, the endpoint's ``concurrency`` decides; if that is not set either, an `AdaptiveConcurrency` of
                this map finds out how many calls the endpoint can take. A number is never exceeded, but it is lowered
                while the endpoint refuses calls because of load.
            ordered: whether outputs come in the order of their inputs, or as soon as they are ready.
            return_exceptions: whether a call's error takes the place of its output, or ends the iteration.
            enumerated: whether each output (or the error in its place) comes in a pair with the index of its input,
                from 0.
            stop_on_fatal: whether an error that every later call would raise as well ends the iteration, even with
                `return_exceptions`: the service does not know the endpoint or denies access, there are no usable
                credentials, TLS is refused, or the endpoint is closed.
            timeout: the timeout of each call; as for `invoke`.
            **model_kwargs: parameters for the model, and `stop` and `endpoint_kwargs`, as for `invoke`.

        Raises:
            ConfigurationError: `inputs` is a single input, or another argument is not valid. Nothing was sent.
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
        from smendpoint._calls.fanout import fan_out

        def work(value: In, cancellation: Cancellation, slot: Slot) -> Out:
            request, stop = self._request(INVOKE_ENDPOINT, value, *arguments)
            return self._output(*self._caller.send(request, cancellation, slot), stop)

        return fan_out(work, inputs, limiter, window, stoppable=self._caller.transport.stoppable)

    def close(self) -> None:
        """Close the endpoint's connections. A client passed as ``client=`` stays open.

        Calls in flight in other threads run to their end, and then close their connections. (In asyncio, where calls
        cannot continue without their loop, `AsyncEndpoint.aclose` ends them.) Unpickled or copied endpoints share
        connections: these close with the last of the endpoints.
        """
        self._caller.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
