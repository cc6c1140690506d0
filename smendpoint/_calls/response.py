"""`Response`: the result of `send`, with the output and everything that arrived with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from smendpoint._core.aws.response import request_id, session_id
from smendpoint._core.http.body import ResponseBody
from smendpoint.errors import HandlerError, SmendpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint._core.call.flow import CallState
    from smendpoint.handlers.base import OutputDetails, Usage

T = TypeVar("T")


class Metadata:
    """The facts about an answer that the service sends in its headers."""

    __slots__ = ("headers",)

    headers: Mapping[str, str]

    @property
    def content_type(self) -> str | None:
        """The media type of the model's answer."""
        return self.headers.get("x-amzn-sagemaker-content-type") or self.headers.get("content-type")

    @property
    def request_id(self) -> str | None:
        """AWS's id of the request, to quote to AWS support."""
        return request_id(self.headers)

    @property
    def invoked_production_variant(self) -> str | None:
        """The production variant that answered."""
        return self.headers.get("x-amzn-invoked-production-variant")

    @property
    def custom_attributes(self) -> str | None:
        """The value that the model's container sent in ``X-Amzn-SageMaker-Custom-Attributes``."""
        return self.headers.get("x-amzn-sagemaker-custom-attributes")

    @property
    def new_session_id(self) -> str | None:
        """The id of the session that this call opened."""
        opened = session_id(self.headers)
        return None if opened is None else opened[0]

    @property
    def new_session_expires(self) -> float | None:
        """When the session that this call opened expires, in seconds since the epoch."""
        opened = session_id(self.headers)
        return None if opened is None else opened[1]

    @property
    def closed_session_id(self) -> str | None:
        """The id of the session that this call closed."""
        return self.headers.get("x-amzn-sagemaker-closed-session-id")


class StreamMetadata(Metadata):
    """The facts about an answer that arrives in pieces."""

    __slots__ = ("_call", "_took")

    def __init__(self) -> None:
        self._call: CallState | None = None  # until there is one, nothing has been sent
        self._took: float | None = None
        self.headers = {}

    @property
    def attempts(self) -> int:
        """How many requests have been sent so far."""
        return 0 if self._call is None else self._call.attempts

    @property
    def elapsed(self) -> float:
        """Seconds from the call's start until now, or until its end."""
        if self._took is not None:
            return self._took
        return 0.0 if self._call is None else self._call.elapsed


class Response(Metadata, Generic[T]):
    """A whole answer.

    Attributes:
        output: the output that the content handler made from the body.
        headers: the response's headers, their names in lower case.
        attempts: how many requests were sent.
        elapsed: seconds from the call's start to its end.
    """

    __slots__ = ("_body", "_handler", "attempts", "elapsed", "output")

    def __init__(
        self, *, output: T, body: bytes, headers: Mapping[str, str], attempts: int, elapsed: float, handler: Any = None
    ) -> None:
        self.output = output
        self._body = body
        self.headers = headers
        self.attempts = attempts
        self.elapsed = elapsed
        self._handler = handler

    @property
    def body(self) -> bytes:
        """The body as it arrived."""
        if type(self._body) is not bytes:  # the handler read a `ResponseBody`; it is copied only on request
            self._body = bytes(self._body)
        return self._body

    def __repr__(self) -> str:
        return (
            f"Response({len(self._body)} bytes of {self.content_type}, request_id={self.request_id!r}, "
            f"attempts={self.attempts}, elapsed={self.elapsed:.3f})"
        )

    def _details(self) -> OutputDetails | None:
        read = getattr(self._handler, "read_details", None)
        if read is None:
            return None
        try:
            details: OutputDetails = read(ResponseBody(self._body))
        except SmendpointError:
            raise
        except Exception as error:
            raise HandlerError(
                f"{type(self._handler).__name__} could not read the output's details: {type(error).__name__}; "
                "see the cause"
            ) from error
        return details

    @property
    def routed_resource_arn(self) -> str | None:
        """The endpoint or inference component that answered, if an inference router chose it."""
        return self.headers.get("x-amzn-sagemaker-invoked-routed-resource-arn")

    @property
    def routing_reason(self) -> str | None:
        """Why the inference router chose it, in the router's word, such as ``local-preferred``."""
        return self.headers.get("x-amzn-sagemaker-invoked-routing-reason")

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped, in its container's word; `None` if it did not say."""
        details = self._details()
        return None if details is None else details.finish_reason

    @property
    def usage(self) -> Usage | None:
        """The model's token counts; `None` if it gave none."""
        details = self._details()
        return None if details is None else details.usage

    @property
    def details(self) -> Mapping[str, Any] | None:
        """Further facts from the model about its answer, such as log-probabilities."""
        details = self._details()
        return None if details is None else details.details
