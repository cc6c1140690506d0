"""Every exception that smendpoint raises, in one tree.

Catch the widest class that you can handle::

    SmendpointError
    |-- ConfigurationError                  an argument, setting or member is not valid
    |-- CredentialsError                    no usable AWS credentials
    |-- HandlerError                        the handler failed, or cannot read the answer
    |-- LedgerError                         a batch's ledger cannot be opened or written
    |-- PromptError                         a template or its prompt is not valid
    |-- TooManyErrorsError                  more rows of a batch failed than allowed
    `-- EndpointError                       the call itself failed
        |-- TransportError                  the connection was lost
        |   |-- ConnectError                no connection: nothing was sent
        |   |-- TLSError                    no trusted connection: nothing was sent
        |   |-- ReadTimeoutError            silence for ``Timeout.read`` seconds
        |   |-- DeadlineExceededError       more than ``Timeout.total`` seconds in all
        |   `-- ProtocolError               not valid HTTP, or not an event stream
        |-- ServiceError                    the service answered with an error status
        |   |-- ValidationError             400: the request is not valid
        |   |-- AccessDeniedError           403: these credentials may not do this
        |   |-- ResourceNotFoundError       404: no such gateway or model
        |   |-- RequestTimeoutError         408: the request did not arrive in time
        |   |-- PayloadTooLargeError        413: the request body is too large
        |   |-- ThrottlingError             429 or 400: slow down
        |   |-- ModelNotReadyError          429: being loaded; 400: scaled to zero
        |   |-- ServiceUnavailableError     503
        |   |-- InternalFailureError        500
        |   |-- BadGatewayError             502: no usable answer from behind a gateway
        |   |-- GatewayTimeoutError         504: no answer in time from behind a gateway
        |   |-- InternalDependencyError     530
        |   `-- ModelError                  424: the container answered with an error
        `-- StreamError                     incomplete; ``received`` has the chunks
            |-- StreamTruncatedError        the stream was cut off
            |-- StreamDecodeError           the stream's bytes cannot be decoded
            |-- ModelStreamError            the model failed while streaming
            |-- InternalStreamFailureError  the service failed while streaming
            `-- ModelOutputError            the answer is an error, or has the wrong type

`ConfigurationError` and `PromptError` are also a ``ValueError``. Every error keeps its ``__cause__`` and can be
pickled. It holds no secret and no prompt, unless a message of the service or of the container quotes one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smendpoint._container_errors import ContainerError

__all__ = [
    "AccessDeniedError",
    "BadGatewayError",
    "ConfigurationError",
    "ConnectError",
    "CredentialsError",
    "DeadlineExceededError",
    "EndpointError",
    "GatewayTimeoutError",
    "HandlerError",
    "InternalDependencyError",
    "InternalFailureError",
    "InternalStreamFailureError",
    "LedgerError",
    "ModelError",
    "ModelNotReadyError",
    "ModelOutputError",
    "ModelStreamError",
    "PayloadTooLargeError",
    "PromptError",
    "ProtocolError",
    "ReadTimeoutError",
    "RequestTimeoutError",
    "ResourceNotFoundError",
    "ServiceError",
    "ServiceUnavailableError",
    "SmendpointError",
    "StreamDecodeError",
    "StreamError",
    "StreamTruncatedError",
    "TLSError",
    "ThrottlingError",
    "TooManyErrorsError",
    "TransportError",
    "ValidationError",
]


def _rebuild(cls: type[SmendpointError], args: tuple[Any, ...], state: dict[str, Any]) -> SmendpointError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


class SmendpointError(Exception):
    """The base of every exception that smendpoint raises.

    Attributes:
        message: what happened and what to do about it.
        endpoint_name: the endpoint that was called; ``None`` if no call was involved.
        attempts: how many requests were sent for the call; 0 if none was.
        received: the chunks that a stream had yielded before it failed, in order; empty if nothing was streamed.
        quota_spent: whether the call was not retried only because the endpoint's retry quota was used up: too many of
            its calls had failed.
    """

    received: tuple[Any, ...] = ()
    quota_spent = False

    def __init__(self, message: str = "", *, endpoint_name: str | None = None, attempts: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.endpoint_name = endpoint_name
        self.attempts = attempts

    def __str__(self) -> str:
        if self.endpoint_name is None:
            return self.message
        plural = "" if self.attempts == 1 else "s"
        tried = f", {self.attempts} attempt{plural}" if self.attempts else ""
        spent = "; not retried: so many of its calls have failed that its retry quota is used up"
        if isinstance(self, (ThrottlingError, ServiceUnavailableError)):
            spent += ". Make fewer calls at once: concurrency=AdaptiveConcurrency() finds out how many it can take"
        return f"{self.message} [endpoint {self.endpoint_name!r}{tried}{spent if self.quota_spent else ''}]"

    def __reduce__(self) -> tuple[Any, ...]:
        # BaseException's own method calls the class with `args`, which fails for keyword-only arguments.
        return _rebuild, (type(self), self.args, self.__dict__.copy())


class ConfigurationError(SmendpointError, ValueError):
    """An argument, a setting or a request member is not valid. Nothing was sent."""


class CredentialsError(SmendpointError):
    """No usable AWS credentials were found, or refreshing them failed. Nothing was sent."""


class HandlerError(SmendpointError):
    """A content handler failed, or does not know the shape of an answer."""


class PromptError(SmendpointError, ValueError):
    """A prompt template, or the prompt made from it, is not valid."""


class LedgerError(SmendpointError):
    """The ledger of a batch cannot be opened or written: another process has it, it is damaged, or the disk is full."""


class TooManyErrorsError(SmendpointError):
    """More rows of a batch failed than ``max_errors`` allows. The ledger has the answers and the errors."""


class EndpointError(SmendpointError):
    """Calling the endpoint failed."""


class TransportError(EndpointError):
    """The connection to the endpoint was lost.

    Attributes:
        request_sent: whether any byte of the request may have reached the service.
        response_started: whether any byte of the response had arrived.
    """

    def __init__(
        self,
        message: str = "",
        *,
        request_sent: bool = True,
        response_started: bool = False,
        endpoint_name: str | None = None,
        attempts: int = 0,
    ) -> None:
        super().__init__(message, endpoint_name=endpoint_name, attempts=attempts)
        self.request_sent = request_sent
        self.response_started = response_started


class ConnectError(TransportError):
    """No connection could be made: nothing was sent."""

    def __init__(self, message: str = "", *, endpoint_name: str | None = None, attempts: int = 0) -> None:
        super().__init__(message, request_sent=False, endpoint_name=endpoint_name, attempts=attempts)


class TLSError(TransportError):
    """No trusted TLS connection could be made: nothing was sent."""

    def __init__(self, message: str = "", *, endpoint_name: str | None = None, attempts: int = 0) -> None:
        super().__init__(message, request_sent=False, endpoint_name=endpoint_name, attempts=attempts)


class ReadTimeoutError(TransportError):
    """Nothing arrived for ``Timeout.read`` seconds. The model may still be running."""


class DeadlineExceededError(TransportError):
    """The call, with its waiting, retries and body, took more than ``Timeout.total`` seconds."""


class ProtocolError(TransportError):
    """The bytes that came back are not a valid or complete HTTP response or event stream."""


class ServiceError(EndpointError):
    """The service answered with an error.

    Attributes:
        status: the HTTP status code.
        code: AWS's name for the error, such as ``"ValidationError"``; empty if none was given.
        message: the service's message, or a sentence of this library if it gave none.
        request_id: AWS's id of the request, to quote to AWS support; ``None`` if none was given.
        retry_after: the requested wait before a retry, in seconds; ``None`` if none was requested. The service requests
            it in a header; a container, in a `ModelError`, by ``retry_after`` in its answer.
    """

    def __init__(
        self,
        status: int,
        code: str = "",
        message: str = "",
        request_id: str | None = None,
        *,
        retry_after: float | None = None,
        endpoint_name: str | None = None,
        attempts: int = 0,
    ) -> None:
        super().__init__(message, endpoint_name=endpoint_name, attempts=attempts)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        label = f"{self.status} {self.code}" if self.code else f"{self.status}"
        trace = f" (request id {self.request_id})" if self.request_id else ""
        return f"{label}: {super().__str__()}{trace}"


class ValidationError(ServiceError):
    """400: the service refused the request because it is not valid."""


class AccessDeniedError(ServiceError):
    """403: the credentials are not accepted, have expired, or do not allow this call."""


class ResourceNotFoundError(ServiceError):
    """404: there is no such gateway, or none of its targets has the model that the request names."""


class RequestTimeoutError(ServiceError):
    """408: the request did not arrive in time, so the model has not run. Retried by default if the service says so."""


class PayloadTooLargeError(ServiceError):
    """413: the request body is larger than the service accepts."""


class ThrottlingError(ServiceError):
    """429 (sometimes 400): too many requests. Retried by default."""


class ModelNotReadyError(ServiceError):
    """The model is still being loaded (429 ``ModelNotReadyException``), or its inference component is scaled to zero.

    For the latter, the service sends a 400 ``ValidationError`` with the words "no capacity to process this request".
    Both are retried within a time budget of their own.
    """


class ServiceUnavailableError(ServiceError):
    """503: the service cannot take the request now. Retried by default."""


class InternalFailureError(ServiceError):
    """500: the service failed. Retried by default."""


class BadGatewayError(ServiceError):
    """502: what is behind a gateway gave no usable answer. If an inference gateway says so, the model may have run."""


class GatewayTimeoutError(ServiceError):
    """504: what is behind a gateway gave no answer in time. The model may still be running."""


class InternalDependencyError(ServiceError):
    """530: a dependency of the service failed."""


class ModelError(ServiceError):
    """424: the model's container answered with an error.

    Attributes:
        original_status_code: the container's HTTP status; ``None`` if the service did not give it.
        original_message: the container's answer as text; ``None`` if the service did not give it.
        log_stream_arn: the CloudWatch log stream of the container.
    """

    def __init__(
        self,
        status: int,
        code: str = "",
        message: str = "",
        request_id: str | None = None,
        *,
        original_status_code: int | None = None,
        original_message: str | None = None,
        log_stream_arn: str | None = None,
        retry_after: float | None = None,
        endpoint_name: str | None = None,
        attempts: int = 0,
    ) -> None:
        super().__init__(
            status, code, message, request_id, retry_after=retry_after, endpoint_name=endpoint_name, attempts=attempts
        )
        self.original_status_code = original_status_code
        self.original_message = original_message
        self.log_stream_arn = log_stream_arn

    @property
    def container_error(self) -> ContainerError | None:
        """The container's own error, parsed: ``code``, ``type`` and ``message``; ``None`` for any other text."""
        from smendpoint._container_errors import parse_container_error

        return parse_container_error(self.original_message or "")


class StreamError(EndpointError):
    """A stream is not complete.

    Attributes:
        received: the chunks that the stream had yielded before the failure, in order.
    """

    def __init__(
        self, message: str = "", *, received: Sequence[Any] = (), endpoint_name: str | None = None, attempts: int = 0
    ) -> None:
        super().__init__(message, endpoint_name=endpoint_name, attempts=attempts)
        self.received: tuple[Any, ...] = tuple(received)


class StreamTruncatedError(StreamError):
    """The stream was cut off: its last frame, its HTTP response, or the model's answer in it is not complete."""


class StreamDecodeError(StreamError):
    """The stream's bytes cannot be decoded: a bad checksum, frame, line or character."""


class ModelStreamError(StreamError):
    """The service reported that the model failed while it was streaming.

    Attributes:
        error_code: such as ``"ModelInvocationTimeExceeded"`` or ``"StreamBroken"``; empty if none was given.
    """

    def __init__(
        self,
        message: str = "",
        *,
        error_code: str = "",
        received: Sequence[Any] = (),
        endpoint_name: str | None = None,
        attempts: int = 0,
    ) -> None:
        super().__init__(message, received=received, endpoint_name=endpoint_name, attempts=attempts)
        self.error_code = error_code


class InternalStreamFailureError(StreamError):
    """The service itself failed while the model was streaming."""


class ModelOutputError(StreamError):
    """The model's container reported an error inside a successful answer or stream, or the answer does not match the
    ``output_type`` of the handler.

    Attributes:
        code: the container's status or error code, unchanged; ``None`` if it gave none.
        error_type: the container's name for the error, such as ``"validation"``; ``None`` if it gave none.
        original_message: the container's own message, without what ``message`` adds; empty if it gave none.
        text: the part of the model's text that arrived, if it does not match the ``output_type``; otherwise empty.
        finish_reason: why that text ended, in the container's word, such as ``"length"``; otherwise ``None``.
    """

    def __init__(
        self,
        message: str = "",
        *,
        code: int | str | None = None,
        error_type: str | None = None,
        original_message: str = "",
        text: str = "",
        finish_reason: str | None = None,
        received: Sequence[Any] = (),
        endpoint_name: str | None = None,
        attempts: int = 0,
    ) -> None:
        super().__init__(message, received=received, endpoint_name=endpoint_name, attempts=attempts)
        self.code = code
        self.error_type = error_type
        self.original_message = original_message
        self.text = text
        self.finish_reason = finish_reason

    @property
    def container_error(self) -> ContainerError:
        """The container's own error: ``code``, ``type`` and ``message``."""
        from smendpoint._container_errors import ContainerError

        return ContainerError(self.code, self.error_type, self.original_message)
