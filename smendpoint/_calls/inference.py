"""Asynchronous inference: `submit`, and the handles of outputs that will be available later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from smendpoint import errors
from smendpoint._calls.arguments import checked_mapping, model_parameters, stop_sequences
from smendpoint._calls.base import new_invocation_id
from smendpoint._core.aws.operations import MAX_ASYNC_BODY
from smendpoint._core.aws.response import request_id
from smendpoint._core.call.hiding import finish_error
from smendpoint._core.call.polling import Get, look, split_location, wait
from smendpoint._core.http.body import ResponseBody
from smendpoint._transport.drivers import drive, drive_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator, Iterable, Mapping

    from smendpoint._calls.base import CallerBase
    from smendpoint._calls.caller import AsyncCaller, Caller
    from smendpoint._calls.endpoint import EndpointBase
    from smendpoint._core.aws.operations import Operation
    from smendpoint._core.aws.renderer import CallRequest
    from smendpoint._core.aws.response import RawResponse
    from smendpoint._core.call.flow import CallState
    from smendpoint._core.call.polling import Outcome

T = TypeVar("T")
# The content type that Amazon S3 sets for an object that was stored without one.
_NO_CONTENT_TYPE = "binary/octet-stream"


class Upload(NamedTuple):
    """The object that must be in Amazon S3 before the request is sent."""

    location: str
    body: bytes
    content_type: str


def make_submission(
    caller: CallerBase[Any, Any, Any],
    operation: Operation,
    value: Any,
    upload_to: str | None,
    stop: str | Iterable[str] | None,
    endpoint_kwargs: Mapping[str, object] | None,
    members: Mapping[str, object],
    model_kwargs: dict[str, Any],
) -> tuple[CallRequest, Upload | None, tuple[str, ...]]:
    """Make and check the request of `submit`, and the upload before it; return these and the stop sequences.

    Raises:
        ConfigurationError: an argument is not valid.
        HandlerError: the content handler could not transform the input.
    """
    stop = stop_sequences(stop)
    members = {
        **checked_mapping("endpoint_kwargs", endpoint_kwargs),
        **{name: given for name, given in members.items() if given is not None},
    }
    if (value is None) == (members.get("InputLocation") is None):
        raise errors.ConfigurationError("submit() needs either an input or input_location=, and not both")
    model_parameters(model_kwargs, caller.name)
    if value is None and (model_kwargs or upload_to is not None):
        extra = "upload_to" if upload_to is not None else ", ".join(model_kwargs)
        raise errors.ConfigurationError(
            f"{extra} cannot be used with input_location=: the object there is sent to the model unchanged"
        )
    body = b"" if value is None else caller.body(value, stop, model_kwargs)
    if upload_to is None:
        if len(body) > MAX_ASYNC_BODY:
            raise errors.ConfigurationError(
                f"the request body has {len(body):,} bytes, and at most {MAX_ASYNC_BODY:,} can be sent directly: "
                "pass upload_to='s3://bucket/prefix' to upload it to Amazon S3"
            )
        request = caller.request(operation, body, members)
        caller.observe(request, value, stop, model_kwargs)
        return request, None, stop
    if not isinstance(upload_to, str):
        raise errors.ConfigurationError(f"upload_to must be 's3://bucket/prefix', not {type(upload_to).__name__}")
    members["InputLocation"] = location = f"{upload_to.rstrip('/')}/{new_invocation_id()}"
    split_location(location)
    request = caller.request(operation, b"", members)
    caller.observe(request, value, stop, model_kwargs)
    return request, Upload(location, body, str(request.members.get("ContentType", _NO_CONTENT_TYPE))), stop


def read_accepted(call: CallState, answer: RawResponse) -> tuple[str, str | None, str | None, str | None]:
    """Read the answer to a request, which ends the call; return the handle's attributes.

    Raises:
        ProtocolError: the answer does not say where the output will be.
    """
    headers = answer.headers
    location = headers.get("x-amzn-sagemaker-outputlocation")
    if not location:
        error = errors.ProtocolError(
            "the request was accepted without saying where its output will be", response_started=True
        )
        call.finish(call.add_context(error))
        raise error
    call.finish(None)
    return (
        location,
        headers.get("x-amzn-sagemaker-failurelocation") or None,
        headers.get("x-amzn-sagemaker-inference-id") or _inference_id(answer.body),
        request_id(headers),
    )


def _inference_id(body: bytes) -> str | None:
    import json

    try:
        found: Any = json.loads(body)["InferenceId"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return found if isinstance(found, str) else None


class HandleBase(Generic[T]):
    """The half of `InferenceHandle` and `AsyncInferenceHandle` that does not wait.

    Args:
        endpoint: its content handler reads the output, and its credentials are used for Amazon S3.
        output_location: ``s3://bucket/key`` where the output will be.
        failure_location: ``s3://bucket/key`` where a failure will be reported; without it, failures go unnoticed.
        inference_id: the caller's or the service's id of the request.
        request_id: AWS's id of the call that submitted it.
        stop: the output ends before the first of these strings.

    Attributes:
        output_location: where the output will be.
        failure_location: where a failure will be reported.
        inference_id: the caller's or the service's id of the request.
        request_id: AWS's id of the call that submitted it, to quote to AWS support.
    """

    __slots__ = (
        "_caller",
        "_outcome",
        "_output",
        "_stop",
        "failure_location",
        "inference_id",
        "output_location",
        "request_id",
    )

    def __init__(
        self,
        endpoint: EndpointBase[Any, T, Any],
        output_location: str,
        failure_location: str | None = None,
        inference_id: str | None = None,
        request_id: str | None = None,
        *,
        stop: str | Iterable[str] | None = None,
    ) -> None:
        self._caller = endpoint._caller
        self._stop = stop_sequences(stop)
        self._outcome: Outcome | None = None
        self._output: tuple[T, ...] = ()  # the output, once it is decoded
        self.output_location = output_location
        self.failure_location = failure_location
        self.inference_id = inference_id
        self.request_id = request_id

    def __repr__(self) -> str:
        state = "not done" if self._outcome is None else "done" if self._outcome.ok else "failed"
        return (
            f"{type(self).__name__}({state}, output_location={self.output_location!r}, "
            f"inference_id={self.inference_id!r}, request_id={self.request_id!r})"
        )

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        # The outcome is not pickled: the copy looks for it again.
        state = {name: getattr(self, name) for name in HandleBase.__slots__}
        return None, {**state, "_outcome": None, "_output": ()}

    def _read(self, outcome: Outcome) -> T:
        """Decode the output, once.

        Raises:
            ModelError: there is no output, because the model failed.
            HandlerError: the content handler could not read it.
        """
        self._outcome = outcome
        if not outcome.ok:
            text = outcome.body.decode("utf-8", "replace")
            raise errors.ModelError(
                424,
                "ModelError",
                "the asynchronous inference failed; the service's report is in original_message, and in "
                f"{self.failure_location}",
                self.request_id,
                original_status_code=_status(text),
                original_message=text,
                endpoint_name=self._caller.name,
            )
        if not self._output:
            try:
                self._output = (self._caller.decode(ResponseBody(outcome.body), self._stop),)
            except errors.SmendpointError as error:
                finish_error(error, self._caller.name)
                raise
        return self._output[0]


def _status(text: str) -> int | None:
    """Read the container's status from the service's text: ``Received server error (500) from primary ...``."""
    digits = text[:100].partition(" error (")[2].partition(")")[0]
    return int(digits) if len(digits) == 3 and digits.isascii() and digits.isdecimal() else None


class InferenceHandle(HandleBase[T]):
    """An output of asynchronous inference that will be available later.

    `Endpoint.submit` returns one. It can be pickled, or made again from an endpoint and the locations, in any process.
    The output is read from Amazon S3, which needs the permissions ``s3:GetObject`` and ``s3:ListBucket``.
    """

    __slots__ = ()
    _caller: Caller[Any, T, Any]

    def done(self) -> bool:
        """Check once whether there is an output, or a failure.

        Raises:
            SmendpointError: Amazon S3 or the way to it failed.
        """
        if self._outcome is None:
            self._outcome = self._drive(look(self.output_location, self.failure_location))
        return self._outcome is not None

    def result(self, timeout: float | None = None) -> T:
        """Wait for the output. It is kept, so later calls return it at once.

        Args:
            timeout: how long to wait in seconds; 0 checks once. A request to Amazon S3 that hangs may take longer: the
                timeouts of the S3 client apply to it.

        Raises:
            ModelError: the model failed; ``original_message`` has the service's report.
            DeadlineExceededError: there was no output in time; `result` may be called again.
            HandlerError: the content handler could not read the output.
            SmendpointError: Amazon S3 or the connection to it failed; `result` may be called again.
        """
        outcome = self._outcome
        if outcome is None:
            outcome = self._drive(wait(self.output_location, self.failure_location, timeout, self._caller.clock))
        return self._read(outcome)

    def _drive(self, flow: Generator[Any, Any, Any]) -> Any:
        storage, clock = self._caller.storage, self._caller.clock
        try:
            return drive(
                flow, lambda step: storage.get(step.location) if type(step) is Get else clock.sleep(step.seconds)
            )
        except errors.SmendpointError as error:
            finish_error(error, self._caller.name)
            raise


def submit(endpoint: EndpointBase[Any, T, Any], caller: Caller[Any, T, Any], *arguments: Any) -> InferenceHandle[T]:
    """Submit a request of `endpoint`; further arguments as `make_submission`."""
    try:
        request, upload, stop = make_submission(caller, *arguments)
        if upload is not None:
            caller.storage.put(*upload)
    except errors.SmendpointError as error:
        finish_error(error, caller.name)
        raise
    return InferenceHandle(endpoint, *read_accepted(*caller.send(request)), stop=stop)


class AsyncInferenceHandle(HandleBase[T]):
    """An output of asynchronous inference that will be available later.

    `AsyncEndpoint.submit` returns one. It can be pickled, or made again from an endpoint and the locations, in any
    process. The output is read from Amazon S3, which needs the permissions ``s3:GetObject`` and ``s3:ListBucket``.
    """

    __slots__ = ()
    _caller: AsyncCaller[Any, T, Any]

    async def done(self) -> bool:
        """Check once whether there is an output, or a failure.

        Raises:
            SmendpointError: Amazon S3 or the way to it failed.
        """
        if self._outcome is None:
            self._outcome = await self._drive(look(self.output_location, self.failure_location))
        return self._outcome is not None

    async def result(self, timeout: float | None = None) -> T:
        """Wait for the output. It is kept, so later calls return it at once.

        Arguments and errors as for `InferenceHandle.result`.
        """
        outcome = self._outcome
        if outcome is None:
            outcome = await self._drive(wait(self.output_location, self.failure_location, timeout, self._caller.clock))
        return self._read(outcome)

    async def _drive(self, flow: Generator[Any, Any, Any]) -> Any:
        storage, clock = self._caller.storage, self._caller.clock

        def perform(step: Any) -> Awaitable[Any]:
            return storage.get(step.location) if type(step) is Get else clock.sleep_async(step.seconds)

        try:
            return await drive_async(flow, perform)
        except errors.SmendpointError as error:
            finish_error(error, self._caller.name)
            raise


async def submit_async(
    endpoint: EndpointBase[Any, T, Any], caller: AsyncCaller[Any, T, Any], *arguments: Any
) -> AsyncInferenceHandle[T]:
    """Submit a request of `endpoint`; further arguments as `make_submission`."""
    try:
        request, upload, stop = make_submission(caller, *arguments)
        if upload is not None:
            await caller.storage.put(*upload)
    except errors.SmendpointError as error:
        finish_error(error, caller.name)
        raise
    return AsyncInferenceHandle(endpoint, *read_accepted(*await caller.send(request)), stop=stop)
