"""`invoke`, `send` and `stream`, as endpoints, routers, gateways and sessions have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smendpoint._calls.arguments import stop_sequences, warn_of_size
from smendpoint._core.aws.operations import INVOKE_ENDPOINT, INVOKE_ENDPOINT_STREAM
from smendpoint._core.call.hiding import forget_locals, hidden
from smendpoint._typing import Chunk, In, Out, Typed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from smendpoint._calls.async_stream import AsyncStream
    from smendpoint._calls.base import CallerBase
    from smendpoint._calls.caller import AsyncCaller, Caller
    from smendpoint._calls.response import Response
    from smendpoint._calls.stream import Stream
    from smendpoint._core.aws.operations import Operation
    from smendpoint._core.aws.renderer import CallRequest
    from smendpoint._core.aws.response import RawResponse
    from smendpoint._core.call.flow import CallState
    from smendpoint._core.call.timing import Timeout
    from smendpoint._kwargs import InvokeEndpointKwargs, StreamKwargs


class MethodsBase(Typed[In, Out, Chunk]):
    """The half of the methods that does not wait."""

    _caller: CallerBase[In, Out, Chunk]
    _invoke: Operation = INVOKE_ENDPOINT
    _stream: Operation = INVOKE_ENDPOINT_STREAM

    def _request(
        self,
        operation: Operation,
        value: In,
        stop: str | Iterable[str] | None,
        timeout: float | Timeout | None,
        endpoint_kwargs: Mapping[str, object] | None,
        model_kwargs: dict[str, Any],
    ) -> tuple[CallRequest, tuple[str, ...]]:
        """Make and check the request of a call, before anything is sent; return it and the stop sequences."""
        caller, stop = self._caller, stop_sequences(stop)
        members = self._members_of(endpoint_kwargs)
        try:
            limits = None if timeout is None else caller.call_timeout(timeout)
            body = caller.body(value, stop, model_kwargs, streaming=operation.streaming)
            if len(body) > operation.service.max_body:
                warn_of_size(len(body), operation.service)
            request = caller.request(operation, body, members, limits)
            if caller.hooks:
                caller.observe(request, value, stop, model_kwargs)
            return request, stop
        except BaseException as error:
            forget_locals(error)
            raise

    def _members_of(self, endpoint_kwargs: Any) -> Any:
        """Return the request members of a call; a session adds its own."""
        return endpoint_kwargs

    def _output(self, call: CallState, answer: RawResponse, stop: tuple[str, ...]) -> Out:
        """Make an output from an answer, which ends the call; a session checks whether it was closed."""
        return self._caller.output(call, answer, stop)

    def _response(self, call: CallState, answer: RawResponse, stop: tuple[str, ...]) -> Response[Out]:
        """Make a `Response` from an answer, which ends the call."""
        from smendpoint._calls.response import Response

        return Response(
            output=self._output(call, answer, stop),
            body=answer.body,
            headers=answer.headers,
            attempts=call.attempts,
            elapsed=call.elapsed,
            handler=self._caller.handler,
        )


class Methods(MethodsBase[In, Out, Chunk]):
    """Calls that wait for a whole answer, with a `Caller`."""

    _caller: Caller[In, Out, Chunk]

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
        """Call the model and return its output.

        Args:
            input: the content handler's input; for the default handler, a prompt.
            stop: the output ends before the first of these strings. They are sent to the model if its format has a
            parameter for them; the output is cut here in any case.
            timeout: for this call only: the limit in seconds for connecting and for silence, or a `Timeout`, which also
            replaces the endpoint's `total`.
            endpoint_kwargs: request members of this call in the AWS spelling; they take precedence over the endpoint's
            own.
            **model_kwargs: parameters for the model; they take precedence over the endpoint's own. Pass a parameter
            that has the name of an argument of this method or of the constructor in ``parameters={...}``.

        Raises:
            ConfigurationError: an argument is not valid, or a session is not open, is closed or has expired. Nothing
                was sent.
            CredentialsError: there are no usable credentials. Nothing was sent.
            HandlerError: the content handler failed.
            EndpointError: the call failed; its subclasses say how.
        """
        endpoint_kwargs = hidden(endpoint_kwargs)
        request, stop = self._request(self._invoke, input, stop, timeout, endpoint_kwargs, model_kwargs)
        return self._output(*self._caller.send(request), stop)

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
        request, stop = self._request(self._invoke, input, stop, timeout, endpoint_kwargs, model_kwargs)
        return self._response(*self._caller.send(request), stop)


class StreamMethods(MethodsBase[In, Out, Chunk]):
    """Calls whose answer is a stream, with a `Caller`."""

    _caller: Caller[In, Out, Chunk]

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
        """Call the model and return its output as a stream. Arguments as for `invoke`.

        The request is sent when the stream is entered, or when its first chunk is read.

        Raises:
            ConfigurationError: as for `invoke`. Nothing was sent.
            HandlerError: the content handler could not transform the input. Nothing was sent.
        """
        endpoint_kwargs = hidden(endpoint_kwargs)
        request, stop = self._request(self._stream, input, stop, timeout, endpoint_kwargs, model_kwargs)
        from smendpoint._calls.stream import Stream

        return Stream(self._caller, request, stop)


class AsyncMethods(MethodsBase[In, Out, Chunk]):
    """Calls that wait for a whole answer, with an `AsyncCaller`."""

    _caller: AsyncCaller[In, Out, Chunk]

    async def invoke(
        self,
        input: In,
        /,
        *,
        stop: str | Iterable[str] | None = None,
        timeout: float | Timeout | None = None,
        endpoint_kwargs: InvokeEndpointKwargs | Mapping[str, object] | None = None,
        **model_kwargs: Any,
    ) -> Out:
        """Call the model and return its output.

        Arguments and errors as for `Endpoint.invoke`.
        """
        endpoint_kwargs = hidden(endpoint_kwargs)
        request, stop = self._request(self._invoke, input, stop, timeout, endpoint_kwargs, model_kwargs)
        return self._output(*await self._caller.send(request), stop)

    __call__ = invoke

    async def send(
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
        request, stop = self._request(self._invoke, input, stop, timeout, endpoint_kwargs, model_kwargs)
        return self._response(*await self._caller.send(request), stop)


class AsyncStreamMethods(MethodsBase[In, Out, Chunk]):
    """Calls whose answer is a stream, with an `AsyncCaller`."""

    _caller: AsyncCaller[In, Out, Chunk]

    def stream(
        self,
        input: In,
        /,
        *,
        stop: str | Iterable[str] | None = None,
        timeout: float | Timeout | None = None,
        endpoint_kwargs: StreamKwargs | Mapping[str, object] | None = None,
        **model_kwargs: Any,
    ) -> AsyncStream[Chunk, Out]:
        """Call the model and return its output as a stream. Arguments as for `invoke`.

        The request is sent when the stream is entered, or when its first chunk is read. Errors as for
        `Endpoint.stream`.
        """
        endpoint_kwargs = hidden(endpoint_kwargs)
        request, stop = self._request(self._stream, input, stop, timeout, endpoint_kwargs, model_kwargs)
        from smendpoint._calls.async_stream import AsyncStream

        return AsyncStream(self._caller, request, stop)
