"""The common part of both transports over a user's client: conversions of its arguments and answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from smendpoint import errors
from smendpoint._core.aws.operations import RUNTIME, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint._core.aws.operations import Operation, Service
    from smendpoint._core.aws.renderer import CallRequest
    from smendpoint._core.call.timing import Clock, Timeout
    from smendpoint._transport import AsyncSource, Source

# The clients' method for each operation.
METHODS = {
    "InvokeEndpoint": "invoke_endpoint",
    "InvokeEndpointWithResponseStream": "invoke_endpoint_with_response_stream",
    "InvokeEndpointAsync": "invoke_endpoint_async",
    "InvokeInferenceRouter": "invoke_inference_router",
    "InvokeInferenceRouterAsync": "invoke_inference_router_async",
    "InvokeGlobalInferenceGateway": "invoke_global_inference_gateway",
    "InvokeGlobalInferenceGatewayWithResponseStream": "invoke_global_inference_gateway_with_response_stream",
}


class ClientLane:
    """The base class of both transports over a user's client.

    Args:
        client: a client for the service. It signs, retries and renews its credentials itself.
        clock: the source of time.
        service: the service that is called.

    Raises:
        ConfigurationError: it is not such a client.
    """

    asynchronous: bool
    credentials = None

    def __init__(self, client: Any, clock: Clock, service: Service = RUNTIME) -> None:
        check_client(client, service, asynchronous=self.asynchronous)
        self._client = client
        self._clock = clock
        size = meta(client, "config", "max_pool_connections")
        self.max_connections = size if isinstance(size, int) else None

    def _method(self, request: CallRequest) -> Any:
        return getattr(self._client, METHODS[request.operation.name])

    def origin(self) -> str:
        """Describe where the client's calls go and as whom; for the error that there is no such endpoint."""
        region = meta(self._client, "region_name")
        where = f"in {region}, the client's region, and " if isinstance(region, str) else ""
        return f"it was looked for {where}in the account of the client's credentials"

    @property
    def server(self) -> tuple[str, int] | None:
        """The host and the port that the client calls; `None` if it does not tell."""
        from urllib.parse import urlsplit  # botocore has imported it

        url = meta(self._client, "endpoint_url")
        parts = urlsplit(url if isinstance(url, str) else "")
        if parts.hostname is None:
            return None
        return parts.hostname, parts.port or (80 if parts.scheme == "http" else 443)

    def forget(self) -> None:
        """Do nothing: a client manages its own connections."""


def begin(source: Source | AsyncSource, step: Any) -> None:
    """Check and report the head of the client's answer; close it if it cannot be read.

    Raises:
        ProtocolError: it is an interim answer (1xx), has a status that HTTP does not define, or has a transfer coding
            or another form that was not requested.
    """
    try:
        check_final(source.status, source.headers)
        step.begun(source.status, source.headers)
    except BaseException:
        source.close()
        raise


def check_client(client: Any, wanted: Service = RUNTIME, *, asynchronous: bool) -> None:
    """Refuse all but a client of the right kind for the `wanted` service.

    Raises:
        ConfigurationError: it is something else.
    """
    service = meta(client, "service_model", "service_name")
    # A mock's is not a string.
    if isinstance(service, str) and service != wanted.name:
        raise errors.ConfigurationError(
            f"client= must be a client for {wanted.name!r}, not for {service!r}, which cannot make these calls"
        )
    if not callable(getattr(client, METHODS[wanted.invoke], None)):
        if hasattr(type(client), "__aenter__"):
            raise errors.ConfigurationError(
                f"client= is not open yet ({type(client).__name__}): pass the opened client, from async with "
                f"session.create_client({wanted.name!r}) as client"
            )
        raise errors.ConfigurationError(
            f"client= must be a {wanted.name} client, not {type(client).__name__}: "
            f"with boto3, boto3.client({wanted.name!r})"
        )
    check_library(client, "client", asynchronous=asynchronous)


def check_library(client: Any, argument: str, *, asynchronous: bool) -> None:
    """Refuse a client that waits in the other way; `argument` is its name in the constructor."""
    library = library_of(client)
    if asynchronous and library == "botocore":
        raise errors.ConfigurationError(
            f"AsyncEndpoint needs an aiobotocore {argument} (pip install 'smendpoint[aiobotocore]'): a boto3 client "
            f"would block the event loop. Use Endpoint with it, or leave {argument}= out"
        )
    if not asynchronous and library == "aiobotocore":
        raise errors.ConfigurationError(
            f"Endpoint needs a boto3 or botocore {argument}; AsyncEndpoint takes aiobotocore's"
        )


def library_of(client: Any) -> str | None:
    """``"aiobotocore"`` or ``"botocore"``, whichever made the client; `None` if neither did."""
    modules = [base.__module__ for base in type(client).__mro__]
    if any(module.partition(".")[0] == "aiobotocore" for module in modules):
        return "aiobotocore"
    return "botocore" if "botocore.client" in modules else None


def meta(client: Any, *names: str) -> Any:
    """Read a value under ``client.meta``; `None` if there is none, as in a mock."""
    value = getattr(client, "meta", None)
    for name in names:
        value = getattr(value, name, None)
    return value


def call_arguments(request: CallRequest) -> dict[str, Any]:
    """The keyword arguments of a client's method."""
    arguments: dict[str, Any] = {request.operation.service.name_member: request.endpoint_name}
    for name, value in request.members.items():  # checked: texts and whole numbers, but perhaps of an Enum
        arguments[name] = plain(value) if isinstance(value, str) else int.__int__(cast("int", value))
    if request.body or not request.operation.queued:
        arguments["Body"] = request.body
    return arguments


def answer_head(operation: Operation, response: Any) -> tuple[int, dict[str, str]]:
    """The status and the headers of a client's answer; a mock's answer without headers gets them from its members.

    Raises:
        ConfigurationError: a mock returned something that is not like an answer.
    """
    metadata = (response.get("ResponseMetadata") or {}) if isinstance(response, dict) else None
    status = metadata.get("HTTPStatusCode", 200) if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(status, int):
        raise errors.ConfigurationError(
            f"the client's answer, or its ResponseMetadata, is not a dict, but {type(response).__name__}: "
            "have a mocked client return {'Body': io.BytesIO(b'...')}"
        )
    headers = lower_names(metadata.get("HTTPHeaders") or {})
    for member, header in operation.outputs.items():
        if response.get(member) is not None:
            headers.setdefault(header, str(response[member]))
    if response.get("InferenceId") is not None:  # InvokeEndpointAsync has it in its body, which the client has read
        headers.setdefault("x-amzn-sagemaker-inference-id", str(response["InferenceId"]))
    if metadata.get("RequestId"):
        headers.setdefault("x-amzn-requestid", str(metadata["RequestId"]))
    return status, headers


def lower_names(headers: Mapping[Any, Any]) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in headers.items()}


def retried(response: Any) -> int:
    """How often the client itself sent the request again before this answer."""
    metadata = response.get("ResponseMetadata") if isinstance(response, dict) else None
    count = (metadata or {}).get("RetryAttempts", 0)
    return count if isinstance(count, int) else 0


def longest_call(client: Any, timeout: Timeout) -> float:
    """The most seconds that a client's call may take, if its own limits apply to each of its attempts."""
    config = meta(client, "config")
    retries = getattr(config, "retries", None) or {}
    attempts = retries.get("total_max_attempts") or 5  # the most that any retry mode makes by default
    own = [getattr(config, name, None) or 0.0 for name in ("connect_timeout", "read_timeout")]
    ours = (timeout.connect, timeout.read)
    longest_backoff = 20.0
    return float(sum(map(max, own, ours)) * attempts + longest_backoff * (attempts - 1))


def check_final(status: int, headers: Mapping[str, str]) -> None:
    """Refuse an answer that the client's HTTP library cannot read; see `begin`."""
    if headers.get("transfer-encoding", "chunked").lower() != "chunked":
        raise errors.ProtocolError(
            "the answer has a Transfer-Encoding other than chunked, which was not requested", response_started=True
        )
    if status < 200:
        what = "an interim response" if status >= 100 else "a response without a valid status"
        raise errors.ProtocolError(
            f"the client treated {what} ({status:03}) as the answer: leave client= out, or find out what sends it",
            response_started=True,
        )
