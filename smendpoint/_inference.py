"""Asynchronous inference as far as it does not wait: what is submitted, and what is made of the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from smendpoint import errors
from smendpoint._arguments import checked_mapping, stop_sequences
from smendpoint._call import new_invocation_id
from smendpoint._core.aws.operations import INVOKE_ENDPOINT_ASYNC, MAX_ASYNC_BODY
from smendpoint._core.aws.renderer import CallRequest
from smendpoint._core.aws.response import ResponseBody, request_id
from smendpoint._core.call.hiding import forget_locals
from smendpoint._core.call.polling import split_location

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from smendpoint._call import EndpointBase
    from smendpoint._core.aws.response import RawResponse
    from smendpoint._core.call.flow import CallState
    from smendpoint._core.call.polling import Outcome

T = TypeVar("T")
_MISSING: Any = object()
# What Amazon S3 itself writes down for an object that was stored without a content type.
_NO_CONTENT_TYPE = "binary/octet-stream"


class Upload(NamedTuple):
    """What has to lie in Amazon S3 before the request is sent."""

    location: str
    body: bytes
    content_type: str


class Submission(NamedTuple):
    """One asynchronous request."""

    request: CallRequest
    upload: Upload | None
    stop: tuple[str, ...]


def prepare(
    endpoint: EndpointBase[Any, Any, Any],
    value: Any,
    upload_to: str | None,
    stop: str | Iterable[str] | None,
    endpoint_kwargs: Mapping[str, object] | None,
    members: Mapping[str, object],
    model_kwargs: dict[str, Any],
) -> Submission:
    """Make and check what `submit` sends.

    Raises:
        ConfigurationError: an argument does not fit.
        HandlerError: the content handler could not transform the input.
    """
    try:
        return _prepare(endpoint, value, upload_to, stop, endpoint_kwargs, members, model_kwargs)
    except errors.SmendpointError as error:
        forget_locals(error)
        error.endpoint_name = endpoint.endpoint_name
        raise


def _prepare(
    endpoint: EndpointBase[Any, Any, Any],
    value: Any,
    upload_to: str | None,
    stop: str | Iterable[str] | None,
    endpoint_kwargs: Mapping[str, object] | None,
    members: Mapping[str, object],
    model_kwargs: dict[str, Any],
) -> Submission:
    sequences = stop_sequences(stop)
    members = {
        **checked_mapping("endpoint_kwargs", endpoint_kwargs),
        **{name: given for name, given in members.items() if given is not None},
    }
    location = members.get("InputLocation")
    if (value is None) == (location is None):
        raise errors.ConfigurationError("submit() needs either an input or input_location=, one of them")
    endpoint._parameters(model_kwargs)
    if value is None and (model_kwargs or upload_to is not None):
        extra = "upload_to" if upload_to is not None else ", ".join(model_kwargs)
        raise errors.ConfigurationError(
            f"{extra} has no use beside input_location=: what lies there is sent to the model as it is"
        )
    body = b"" if value is None else endpoint._body(value, sequences, model_kwargs)
    key = None
    if upload_to is not None:
        if not isinstance(upload_to, str):
            raise errors.ConfigurationError(f"upload_to must be 's3://bucket/prefix', not {type(upload_to).__name__}")
        members["InputLocation"] = key = f"{upload_to.rstrip('/')}/{new_invocation_id()}"
        split_location(key)
    elif len(body) > MAX_ASYNC_BODY:
        raise errors.ConfigurationError(
            f"the request body has {len(body):,} bytes, and at most {MAX_ASYNC_BODY:,} can be sent along: give "
            "upload_to='s3://bucket/prefix' to have it uploaded there"
        )
    sent, head = endpoint._head(INVOKE_ENDPOINT_ASYNC, members, streaming=False)
    upload = None
    if key is not None:
        upload, body = Upload(key, body, str(sent.get("ContentType", _NO_CONTENT_TYPE))), b""
    request = CallRequest(
        INVOKE_ENDPOINT_ASYNC,
        endpoint.endpoint_name,
        sent,
        head,
        body,
        new_invocation_id(),
        streaming=False,
        max_answer=endpoint._max_response_bytes,
    )
    return Submission(request, upload, sequences)


class Accepted(NamedTuple):
    """What the service says when it has taken a request."""

    output_location: str
    failure_location: str | None
    inference_id: str | None
    request_id: str | None


def accepted(call: CallState[Any], answer: RawResponse) -> Accepted:
    """Read the answer to a request. With it the call is over.

    Raises:
        ProtocolError: it does not say where the output will be.
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
    return Accepted(
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
        endpoint: whose content handler reads the output, and whose credentials reach Amazon S3.
        output_location: ``s3://bucket/key`` where the output will be.
        failure_location: ``s3://bucket/key`` where the failure will be told; without it a failure is never noticed.
        inference_id: the id of the request, for those who look for it.
        request_id: AWS's id of the call that submitted it.
        stop: the output ends before the first of these strings.

    Attributes:
        output_location: where the output will be.
        failure_location: where the failure will be told.
        inference_id: the caller's or the service's id of the request.
        request_id: AWS's id of the call that submitted it, to quote to AWS support.
    """

    __slots__ = (
        "_endpoint",
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
        self._endpoint: Any = endpoint
        self._stop = stop_sequences(stop)
        self._outcome: Outcome | None = None
        self._output: T = _MISSING
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

    def __reduce__(self) -> tuple[Any, ...]:
        place = (self.output_location, self.failure_location, self.inference_id, self.request_id)
        return _rebuild, (type(self), self._endpoint, place, self._stop)

    def _named(self, error: errors.SmendpointError) -> errors.SmendpointError:
        forget_locals(error)
        error.endpoint_name = self._endpoint.endpoint_name
        return error

    def _settled(self, outcome: Outcome) -> T:
        """The output, decoded once.

        Raises:
            ModelError: there is none, because the model failed.
            HandlerError: the content handler could not read it.
        """
        self._outcome = outcome
        if not outcome.ok:
            text = outcome.body.decode("utf-8", "replace")
            raise errors.ModelError(
                424,
                "ModelError",
                "the asynchronous inference failed; what the service tells of it is in original_message, and lies at "
                f"{self.failure_location}",
                self.request_id,
                original_status_code=_status(text),
                original_message=text,
                endpoint_name=self._endpoint.endpoint_name,
            )
        if self._output is _MISSING:
            try:
                self._output = self._endpoint._decode(ResponseBody(outcome.body), self._stop)
            except errors.SmendpointError as error:
                self._named(error)
                raise
        return self._output


def _rebuild(cls: Any, endpoint: Any, place: tuple[Any, ...], stop: tuple[str, ...]) -> Any:
    return cls(endpoint, *place, stop=stop)


def _status(text: str) -> int | None:
    """The container's status in the service's words: ``Received server error (500) from primary ...``."""
    digits = text[:100].partition(" error (")[2].partition(")")[0]
    return int(digits) if len(digits) == 3 and digits.isascii() and digits.isdecimal() else None


def no_s3_client(endpoint: EndpointBase[Any, Any, Any]) -> errors.ConfigurationError:
    """The error for an endpoint with ``client=`` that has to reach Amazon S3."""
    return errors.ConfigurationError(
        "an endpoint made with client= does not know with which credentials to reach Amazon S3: pass s3_client= too",
        endpoint_name=endpoint.endpoint_name,
    )
