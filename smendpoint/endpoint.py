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
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Literal

    from typing_extensions import Self, Unpack

    from smendpoint._calls.inference import InferenceHandle
    from smendpoint._calls.session import StatefulSession
    from smendpoint._kwargs import AsyncKwargs, InvokeEndpointKwargs
    from smendpoint._options import EndpointOptions
    from smendpoint.handlers.base import ContentHandler, StreamingContentHandler

A = TypeVar("A")
B = TypeVar("B")

__all__ = ["Endpoint"]


class Endpoint(Methods[In, Out, Chunk], EndpointBase[In, Out, Chunk]):
    """A model on a SageMaker endpoint.

    The constructor reads no file and opens no connection; the first call does. An endpoint can be shared between
    threads, survives a fork, and can be pickled (connections and secrets stay behind; made with explicit keys or a
    session, it cannot call where it is unpickled).
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
        """Submit an input to SageMaker's asynchronous inference: the model works on it later.

        Args:
            input: as for `invoke`. Without `upload_to`, its body has at most 128,000 bytes.
            input_location: ``s3://bucket/key`` of an input that is in Amazon S3 already, instead of `input`.
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
        """Make a stateful session, to be opened by ``with``: one instance gets all its calls.

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
        """Call the model for each input, several at a time, and give the outputs.

        A call that the endpoint refuses for load is sent again, and costs no attempt of the retry policy. An input is
        read when its call can be sent. A slow answer does not hold back the calls after it: their outputs
        wait for it, up to 50 for each call that was under way at once. Leaving the iterator early stops the calls that
        are under way.

        Args:
            inputs: any iterable, endless ones included.
            max_concurrency: the most calls of this map that are under way at once; no more than there may be
                connections. With `None`, the endpoint's ``concurrency`` decides; without one, an `AdaptiveConcurrency`
                of this map finds out how many calls the endpoint bears. A number is not exceeded, but lowered while
                the endpoint refuses calls for load.
            ordered: whether outputs come in the order of their inputs, or as they are ready.
            return_exceptions: whether a call's error takes the place of its output, or ends the iteration.
            enumerated: whether each output, or error in its place, comes as a pair with the index of its input, from 0.
            stop_on_fatal: whether an error that every further call will meet too ends the iteration, even with
                `return_exceptions`: the service does not know the endpoint or denies access, there are no usable
                credentials, TLS is refused, or the endpoint is closed.
            timeout: of each of the calls; as for `invoke`.
            **model_kwargs: parameters for the model; `stop` and `endpoint_kwargs` may be among them, as for `invoke`.

        Raises:
            ConfigurationError: `inputs` is one input, or another argument does not fit. Nothing was sent.
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

        def work(value: In, cancellation: Cancellation, started: Callable[[], None]) -> Out:
            request, stop = self._request(INVOKE_ENDPOINT, value, *arguments)
            return self._output(*self._caller.send(request, cancellation, limiter.slot(started)), stop)

        return fan_out(work, inputs, window, stoppable=self._caller.transport.stoppable)

    def close(self) -> None:
        """Close the endpoint's connections. A client that was given stays open: its maker closes it.

        Calls that are under way in other threads end by themselves, and their connections with them. (In asyncio, where
        they could not go on without their loop, `AsyncEndpoint.aclose` ends them.) Connections that unpickled or copied
        endpoints share close with the last of these.
        """
        self._caller.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
