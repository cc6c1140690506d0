"""`Endpoint`: call a SageMaker endpoint and wait for the answer. `AsyncEndpoint` is its twin for asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from smendpoint import errors
from smendpoint._arguments import stop_sequences
from smendpoint._call import EndpointBase
from smendpoint._core.aws.operations import INVOKE_ENDPOINT, INVOKE_ENDPOINT_STREAM
from smendpoint._core.call.flow import call_flow
from smendpoint._core.call.hiding import hidden, leaving
from smendpoint._core.call.timing import Timeout
from smendpoint._transport.deadline import Cancellation
from smendpoint._transport.direct import DirectTransport
from smendpoint._transport.driving import drive
from smendpoint._typing import Chunk, In, Out

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Literal

    from typing_extensions import Self, Unpack

    from smendpoint._aws import Identity
    from smendpoint._core.aws.renderer import CallRequest
    from smendpoint._core.aws.response import RawResponse
    from smendpoint._core.call.flow import CallState
    from smendpoint._kwargs import AsyncKwargs, InvokeEndpointKwargs, StreamKwargs
    from smendpoint._options import EndpointOptions
    from smendpoint._response import Response
    from smendpoint._stream import Stream
    from smendpoint.handlers.base import ContentHandler, StreamingContentHandler
    from smendpoint.inference import InferenceHandle
    from smendpoint.session import StatefulSession

A = TypeVar("A")
B = TypeVar("B")

__all__ = ["Endpoint"]


class Endpoint(EndpointBase[In, Out, Chunk]):
    """A model on a SageMaker endpoint.

    Making one reads no file and opens no connection; the first call does. It can be shared between threads, survives
    a fork, and can be pickled (connections and secrets stay behind; made with explicit keys or a session, it cannot
    call where it is unpickled).
    """

    if TYPE_CHECKING:  # the constructor itself is `EndpointArguments`'

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

    def _set_up(self, endpoint_name: str, identity: Identity, settings: dict[str, Any]) -> None:
        super()._set_up(endpoint_name, identity, settings)
        if self._client is None:
            self._transport = DirectTransport(identity, self._max_connections, self._clock)
        else:
            from smendpoint._transport.client import ClientTransport

            self._transport = ClientTransport(self._client, self._clock)

    def _start(self, request: CallRequest) -> CallState[Any]:
        """Begin a call: its time starts here, and where it goes is looked up if no call did before."""
        started = self._clock.monotonic()
        terms = self._terms
        if terms is None:
            try:
                target = self._transport.prepare()
            except errors.SmendpointError as error:
                leaving(error, self._name)
                raise
            terms = self._agree(target, self._transport.credentials)
        if self._transport.refresh_due():
            self._transport.refresh_ahead()
        return self._state(request, terms, started)

    def _run(self, request: CallRequest, call: CallState[Any], scope: Cancellation | None = None) -> Any:
        """Drive a call to its answer."""
        try:
            return drive(call_flow(call), self._transport.perform, request, call.timeout, scope)
        except BaseException as error:
            call.finish(error)
            raise

    def _call(
        self,
        value: In,
        stop: str | Iterable[str] | None,
        timeout: float | Timeout | None,
        endpoint_kwargs: Mapping[str, object] | None,
        model_kwargs: dict[str, Any],
        scope: Cancellation | None = None,
    ) -> tuple[CallState[Any], RawResponse, tuple[str, ...]]:
        sequences = stop_sequences(stop)
        request = self._request(INVOKE_ENDPOINT, value, sequences, endpoint_kwargs, model_kwargs, timeout)
        call = self._start(request)
        return call, self._run(request, call, scope), sequences

    def invoke(
        self,
        input: In,
        /,
        *,
        stop: str | Iterable[str] | None = None,
        timeout: float | Timeout | None = None,
        endpoint_kwargs: InvokeEndpointKwargs | Mapping[str, object] | None = None,
        **model_kwargs: Any,
    ) -> Out:
        """Call the model and give its output.

        Args:
            input: what the content handler takes: a prompt, for the default one.
            stop: the output ends before the first of these strings. The model is told where its format has a place
                for it; the output is cut here in any case.
            timeout: of this call alone: seconds for connecting and for silence, or a `Timeout`, which also replaces the
                endpoint's `total`.
            endpoint_kwargs: request members of this call in the AWS spelling; they win over the endpoint's own.
            **model_kwargs: parameters for the model; they win over the endpoint's own. Those that are called as an
                argument of this method or of the constructor go into ``parameters={...}``.

        Raises:
            ConfigurationError: an argument does not fit. Nothing was sent.
            CredentialsError: there are no usable credentials. Nothing was sent.
            HandlerError: the content handler failed.
            EndpointError: the call failed; its subclasses say how.
        """
        endpoint_kwargs = hidden(endpoint_kwargs)
        return self._output(*self._call(input, stop, timeout, endpoint_kwargs, model_kwargs))

    __call__ = invoke

    def send(
        self,
        input: In,
        /,
        *,
        stop: str | Iterable[str] | None = None,
        timeout: float | Timeout | None = None,
        endpoint_kwargs: InvokeEndpointKwargs | Mapping[str, object] | None = None,
        **model_kwargs: Any,
    ) -> Response[Out]:
        """Call the model and give its output together with everything that came with it. Arguments as `invoke`."""
        endpoint_kwargs = hidden(endpoint_kwargs)
        return self._respond(*self._call(input, stop, timeout, endpoint_kwargs, model_kwargs))

    def stream(
        self,
        input: In,
        /,
        *,
        stop: str | Iterable[str] | None = None,
        timeout: float | Timeout | None = None,
        endpoint_kwargs: StreamKwargs | Mapping[str, object] | None = None,
        **model_kwargs: Any,
    ) -> Stream[Chunk, Out]:
        """Call the model and give its output while it arrives. Arguments as `invoke`.

        The request is sent when the stream is entered or first asked for a chunk.

        Raises:
            ConfigurationError: an argument does not fit. Nothing was sent.
            HandlerError: the content handler could not transform the input. Nothing was sent.
        """
        endpoint_kwargs = hidden(endpoint_kwargs)
        sequences = stop_sequences(stop)
        request = self._request(
            INVOKE_ENDPOINT_STREAM, input, sequences, endpoint_kwargs, model_kwargs, timeout=timeout, streaming=True
        )
        from smendpoint._stream import Stream

        return Stream(self, request, self._pipeline(sequences))

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
        from smendpoint.inference import submit

        members = {
            "InputLocation": input_location,
            "InferenceId": inference_id,
            "RequestTTLSeconds": request_ttl_seconds,
            "InvocationTimeoutSeconds": invocation_timeout_seconds,
            "S3OutputPathExtension": output_path_extension,
            "Filename": filename,
        }
        return submit(self, input, upload_to, stop, endpoint_kwargs, members, model_kwargs)

    def session(
        self,
        *,
        open_with: Mapping[str, Any] | bytes | None = None,
        close_with: Mapping[str, Any] | bytes | None = None,
        endpoint_kwargs: InvokeEndpointKwargs | Mapping[str, object] | None = None,
    ) -> StatefulSession[In, Out, Chunk]:
        """A stateful session, to be opened by ``with``: its calls reach one instance, whose model remembers them.

        Args:
            open_with: what tells the model to open it: bytes, or something to send as JSON; by default
                ``{"requestType": "NEW_SESSION"}``.
            close_with: what tells the model to close it; by default ``{"requestType": "CLOSE"}``.
            endpoint_kwargs: request members of all its calls in the AWS spelling.
        """
        from smendpoint.session import StatefulSession

        endpoint_kwargs = hidden(endpoint_kwargs)
        return StatefulSession(self, open_with=open_with, close_with=close_with, endpoint_kwargs=endpoint_kwargs)

    @overload
    def map(
        self,
        inputs: Iterable[In],
        *,
        max_concurrency: int,
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> Iterator[Out]: ...
    @overload
    def map(
        self,
        inputs: Iterable[In],
        *,
        max_concurrency: int,
        ordered: bool = True,
        return_exceptions: bool,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> Iterator[Out | Exception]: ...
    def map(
        self,
        inputs: Iterable[In],
        *,
        max_concurrency: int,
        ordered: bool = True,
        return_exceptions: bool = False,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> Iterator[Out | Exception]:
        """Call the model for each input, several at a time, and give the outputs.

        Inputs are read as places get free: at most `max_concurrency` inputs or outputs are held at any time. Leaving
        the iterator early stops the calls that are under way.

        Args:
            inputs: any iterable, endless ones included.
            max_concurrency: how many calls may be under way at once; no more than there may be connections.
            ordered: whether outputs come in the order of their inputs, or as they are ready.
            return_exceptions: whether a call's error takes the place of its output, or ends the iteration.
            timeout: of each of the calls; as for `invoke`.
            **model_kwargs: parameters for the model; `stop` and `endpoint_kwargs` may be among them, as for `invoke`.

        Raises:
            ConfigurationError: `inputs` is one input, or another argument does not fit. Nothing was sent.
        """
        stop = stop_sequences(model_kwargs.pop("stop", None))
        endpoint_kwargs = hidden(model_kwargs.pop("endpoint_kwargs", None))
        self._parameters(model_kwargs)
        limits = None if timeout is None else self._limits(timeout)

        from smendpoint._fanout import fan_out

        def work(value: In, scope: Cancellation) -> Out:
            return self._output(*self._call(value, stop, limits, endpoint_kwargs, model_kwargs, scope))

        transport = self._transport
        return fan_out(
            work,
            self._several(inputs),
            self._fitted(max_concurrency, transport.max_connections),
            stoppable=transport.stoppable,
            ordered=ordered,
            return_exceptions=return_exceptions,
        )

    def close(self) -> None:
        """Close the endpoint's connections. A client that was given stays open: it is its maker's to close.

        Calls that are under way in other threads end by themselves, and their connections with them. (In asyncio, where
        they could not go on without their loop, `AsyncEndpoint.aclose` ends them.)
        """
        self._closed = True
        if self._storage is not None:
            self._storage.close()
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
