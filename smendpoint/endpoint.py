"""`Endpoint`: call a SageMaker endpoint and wait for the answer. `AsyncEndpoint` is its twin for asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from smendpoint import errors
from smendpoint._arguments import stop_sequences
from smendpoint._call import EndpointBase
from smendpoint._core.flow import call_flow
from smendpoint._core.hiding import hidden, leaving
from smendpoint._core.request import INVOKE_ENDPOINT, INVOKE_ENDPOINT_STREAM
from smendpoint._core.response import MAX_RESPONSE_BYTES
from smendpoint._core.timing import Timeout
from smendpoint._transport.direct import DirectTransport, Scope
from smendpoint._transport.driving import drive
from smendpoint._typing import Chunk, In, Out

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Literal

    from typing_extensions import Self, Unpack

    from smendpoint._aws import Identity
    from smendpoint._core.flow import CallState
    from smendpoint._core.hooks import CallHooks
    from smendpoint._core.response import RawResponse
    from smendpoint._core.retry import RetryPolicy
    from smendpoint._core.timing import Clock
    from smendpoint._core.wire import CallRequest
    from smendpoint._options import AsyncKwargs, EndpointOptions, InvokeEndpointKwargs, StreamKwargs
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

    Args:
        endpoint_name: the endpoint's name, 1 to 63 letters, digits and hyphens.
        content_handler: makes requests from inputs and outputs from answers; by default `TextGenerationHandler`.
        model_kwargs: parameters for the model, sent with every call; a call's own win.
        endpoint_kwargs: request members for every call in the AWS spelling, such as ``{"TargetVariant": "blue"}``.
        inference_component_name: the inference component to call, where the endpoint has several.
        region_name: the AWS region; by default what botocore finds.
        credentials_profile_name: a profile of the AWS config files.
        aws_access_key_id: explicit credentials, with ``aws_secret_access_key``.
        aws_secret_access_key: explicit credentials, with ``aws_access_key_id``.
        aws_session_token: the token of explicit temporary credentials.
        role_arn: a role to assume, and to keep assuming before it runs out.
        role_session_name: how the role's session is named in logs.
        external_id: what the role's trust policy asks for.
        session: a botocore or boto3 session to take credentials and settings from.
        endpoint_url: the address to call instead of the region's own.
        config: a botocore ``Config``; what it sets is honoured or refused, never ignored.
        allow_plain_http: whether calls may leave this machine unencrypted.
        allow_link_local: whether calls may go to link-local and metadata addresses.
        client: a ready boto3 or botocore ``sagemaker-runtime`` client: every call goes through it, with its own
            retries and timeouts.
        s3_client: a boto3 or botocore ``s3`` client for asynchronous inference; by default one like the endpoint.
        timeout: seconds for connecting and for silence, or a `Timeout`.
        retry: when to try again; see `RetryPolicy`.
        max_connections: how many connections may be open at once; `None` for no limit.
        max_response_bytes: the most bytes that a whole answer may have; `None` for no limit. By default 104,857,600,
            four times what the service hands on. Streams are not limited.
        hooks: hears what happens to each call; see `CallHooks`.
        clock: where time, waiting and chance come from; for tests.

    Raises:
        ConfigurationError: an argument does not fit.
    """

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
    def __init__(
        self,
        endpoint_name: str,
        *,
        content_handler: Any = None,
        model_kwargs: Mapping[str, Any] | None = None,
        endpoint_kwargs: InvokeEndpointKwargs | Mapping[str, object] | None = None,
        inference_component_name: str | None = None,
        region_name: str | None = None,
        credentials_profile_name: str | None = None,
        aws_access_key_id: str | None = None,
        aws_secret_access_key: str | None = None,
        aws_session_token: str | None = None,
        role_arn: str | None = None,
        role_session_name: str | None = None,
        external_id: str | None = None,
        session: Any = None,
        endpoint_url: str | None = None,
        config: Any = None,
        allow_plain_http: bool = False,
        allow_link_local: bool = False,
        client: Any = None,
        s3_client: Any = None,
        timeout: float | Timeout | None = None,
        retry: RetryPolicy | None = None,
        max_connections: int | None = None,
        max_response_bytes: int | None = MAX_RESPONSE_BYTES,
        hooks: CallHooks | None = None,
        clock: Clock | None = None,
    ) -> None:
        try:
            self._construct(locals())
        except BaseException:  # what is secret, or may be, is in no variable that is shown with the traceback
            del aws_secret_access_key, aws_session_token, external_id, endpoint_kwargs, endpoint_url, config
            raise

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

    def _run(self, request: CallRequest, call: CallState[Any], scope: Scope | None = None) -> Any:
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
        scope: Scope | None = None,
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

        def work(value: In, scope: Scope) -> Out:
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
