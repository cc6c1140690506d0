"""The half that both transports over a given client share: its arguments, answers and exceptions in our terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, cast

from smendpoint import errors
from smendpoint._core.aws.operations import plain
from smendpoint._core.aws.response import RawResponse, error_from_client, service_error
from smendpoint._transport.address import NO_TLS_REASONS, NOT_TLS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType

    from smendpoint._core.aws.operations import Operation
    from smendpoint._core.aws.renderer import CallRequest
    from smendpoint._core.call.timing import Clock, Timeout
    from smendpoint._transport import AsyncSource, Source

# The clients' method for each operation of the service.
METHODS = {
    "InvokeEndpoint": "invoke_endpoint",
    "InvokeEndpointWithResponseStream": "invoke_endpoint_with_response_stream",
    "InvokeEndpointAsync": "invoke_endpoint_async",
}
_LIBRARIES = ("aiobotocore", "aiohttp", "boto3", "botocore", "urllib3")


class ClientLane:
    """The base of both transports over a given client.

    Args:
        client: a client for ``sagemaker-runtime``. It signs, retries and renews its credentials itself.
        clock: gives the time.

    Raises:
        ConfigurationError: it is not such a client.
    """

    asynchronous: bool
    credentials = None

    def __init__(self, client: Any, clock: Clock) -> None:
        check_client(client, asynchronous=self.asynchronous)
        self._client = client
        self._clock = clock
        size = meta(client, "config", "max_pool_connections")
        self.max_connections = size if isinstance(size, int) else None

    def _method(self, request: CallRequest) -> Any:
        return getattr(self._client, METHODS[request.operation.name])

    def origin(self) -> str:
        """Say where the client's calls go and as whom; for the error that there is no such endpoint."""
        region = meta(self._client, "region_name")
        where = f"in {region}, the client's region, and " if isinstance(region, str) else ""
        return f"it was looked for {where}in the account of the client's credentials"

    def forget(self) -> None:
        """A client looks after its own connections."""


def begin(source: Source | AsyncSource, step: Any) -> None:
    """Check and report the head of an answer that the client gave; close it if it cannot be read.

    Raises:
        ProtocolError: it is an interim answer (1xx), has a status that HTTP does not know, or comes in a transfer
            coding or another form that was not asked for.
    """
    try:
        check_final(source.status, source.headers)
        step.begun(source.status, source.headers)
    except BaseException:
        source.close()
        raise


def answer_of_failure(error: Exception, step: Any) -> RawResponse:
    """Give the answer that the client could not parse; raise our error, or the client's own, for any other failure."""
    step.extra = retried(getattr(error, "response", None))
    unread = unparsed(error)
    if unread is not None:
        step.begun(unread.status, unread.headers)
        return unread
    raise_for(error, translate(error) or failed_by_itself(error))


def raise_for(error: Exception, ours: errors.SmendpointError | None) -> NoReturn:
    """Raise our error for a client's, with that as its cause if its text is harmless; without ours, the client's."""
    if ours is None:
        raise error
    raise ours from harmless_cause(error, ours)


def check_client(client: Any, *, asynchronous: bool) -> None:
    """Refuse all but a ``sagemaker-runtime`` client of the right kind.

    Raises:
        ConfigurationError: it is something else.
    """
    service = meta(client, "service_model", "service_name")
    # A mock's is not a string.
    if isinstance(service, str) and service != "sagemaker-runtime":
        raise errors.ConfigurationError(
            f"client= must be a client for 'sagemaker-runtime', not for {service!r}, which cannot call endpoints"
        )
    if not callable(getattr(client, "invoke_endpoint", None)):
        if hasattr(type(client), "__aenter__"):
            raise errors.ConfigurationError(
                f"client= is not open yet ({type(client).__name__}): enter it, and pass what that gives: async with "
                "session.create_client('sagemaker-runtime') as client"
            )
        raise errors.ConfigurationError(
            f"client= must be a sagemaker-runtime client, not {type(client).__name__}: "
            "with boto3, boto3.client('sagemaker-runtime')"
        )
    check_library(client, "client", asynchronous=asynchronous)


def check_library(client: Any, argument: str, *, asynchronous: bool) -> None:
    """Refuse a client that waits in the other way; `argument` is the constructor's for it."""
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
    arguments: dict[str, Any] = {"EndpointName": request.endpoint_name}
    for name, value in request.members.items():  # checked: texts and whole numbers, but perhaps of an Enum
        arguments[name] = plain(value) if isinstance(value, str) else int.__int__(cast("int", value))
    if request.body or request.operation.name != "InvokeEndpointAsync":
        arguments["Body"] = request.body
    return arguments


def answer_head(operation: Operation, response: Any) -> tuple[int, dict[str, str]]:
    """The status and the headers of a client's answer; a mock's without headers gets them from its members.

    Raises:
        ConfigurationError: a mock gave something that is not made like an answer.
    """
    metadata = (response.get("ResponseMetadata") or {}) if isinstance(response, dict) else None
    status = metadata.get("HTTPStatusCode", 200) if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(status, int):
        raise errors.ConfigurationError(
            f"the client's answer is not a dict as botocore's clients give, but {type(response).__name__}, or its "
            "ResponseMetadata is not: have a mocked client return {'Body': io.BytesIO(b'...')}"
        )
    headers = _lower(metadata.get("HTTPHeaders") or {})
    for member, header in operation.outputs.items():
        if response.get(member) is not None:
            headers.setdefault(header, str(response[member]))
    if response.get("InferenceId") is not None:  # InvokeEndpointAsync has it in its body, which the client has read
        headers.setdefault("x-amzn-sagemaker-inference-id", str(response["InferenceId"]))
    if metadata.get("RequestId"):
        headers.setdefault("x-amzn-requestid", str(metadata["RequestId"]))
    return status, headers


def _lower(headers: Mapping[Any, Any]) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in headers.items()}


def unparsed(error: Exception) -> RawResponse | None:
    """The whole answer that a client could not parse; `None` for any other failure.

    botocore's parser expects an error's body to be an object of a known form. Any other body makes it fail, in as many
    ways as Python has. The answer is still in the frames of that failure.
    """
    from botocore.awsrequest import AWSResponse
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    if isinstance(error, (BotoCoreError, ClientError)) and not isinstance(error, ResponseParserError):
        return None
    found: Any = None
    for module, frame in _frames(error):
        library = module.partition(".")[0]
        if library in ("botocore", "aiobotocore"):
            for value in frame.f_locals.values():
                first = value[0] if type(value) is tuple and value else value  # beside the part that was parsed
                found = first if isinstance(first, AWSResponse) else found
        elif library != "json":
            found = None  # other code, such as a hook: its exceptions are its own
    body = getattr(found, "_content", None)
    if not isinstance(body, bytes):
        return None
    return RawResponse(found.status_code, _lower(found.headers), body)


def retried(response: Any) -> int:
    """How often the client itself sent the request again before this answer."""
    metadata = response.get("ResponseMetadata") if isinstance(response, dict) else None
    count = (metadata or {}).get("RetryAttempts", 0)
    return count if isinstance(count, int) else 0


def longest_call(client: Any, timeout: Timeout) -> float:
    """How many seconds a client's call may take at most, if its own limits hold for each of its attempts."""
    config = meta(client, "config")
    retries = getattr(config, "retries", None) or {}
    attempts = retries.get("total_max_attempts") or 5  # the most that any retry mode makes by itself
    own = [getattr(config, name, None) or 0.0 for name in ("connect_timeout", "read_timeout")]
    ours = (timeout.connect, timeout.read)
    longest_backoff = 20.0
    return float(sum(map(max, own, ours)) * attempts + longest_backoff * (attempts - 1))


def translate(error: Exception, *, response_started: bool = False) -> errors.SmendpointError | None:
    """Our error for a client's; `None` for an exception that is not a client's.

    Args:
        error: what the client raised.
        response_started: whether the answer's head had arrived.
    """
    from botocore import exceptions as known

    if isinstance(error, known.ClientError):
        return error_from_client(error.response)
    credentials = (known.NoCredentialsError, known.PartialCredentialsError, known.CredentialRetrievalError)
    if isinstance(error, (*credentials, known.TokenRetrievalError, known.SSOError)):
        return errors.CredentialsError(f"the client found no credentials: {error}")
    settings = (known.ParamValidationError, known.NoRegionError, known.ProfileNotFound, known.EndpointProviderError)
    if isinstance(error, settings):
        # The message may hold a parameter's value, so ours names only the kind of error.
        return errors.ConfigurationError(f"the client refused the call: {type(error).__name__}")
    if isinstance(error, known.SSLError):
        plain = f". {NOT_TLS}" if any(reason in str(error) for reason in NO_TLS_REASONS) else ""
        return errors.TLSError(f"no TLS connection: {error}{plain}")
    if isinstance(error, known.ProxyConnectionError):
        return errors.ConnectError(
            f"no connection to the proxy{_proxy_variable(str(error))}: {error}. Check that it runs and is the right "
            "one, or except the service with NO_PROXY"
        )
    if _is_closed(error):
        return errors.ConfigurationError(
            "the client is closed: its `async with` block has ended, or it was closed before its last call"
        )
    broken = _broken(error)
    if broken is not None:
        return broken
    if isinstance(error, known.ConnectionError) and not _was_connected(error):
        return errors.ConnectError(f"{error}. Check the region, endpoint_url and the network's way to it")
    library = type(error).__module__.partition(".")[0]
    # By name: aiohttp's are asyncio's, which are Python's only from 3.11 on.
    timed_out = library in ("urllib3", "aiohttp") and "Timeout" in type(error).__name__
    if timed_out or isinstance(error, (known.ReadTimeoutError, TimeoutError)):
        return errors.ReadTimeoutError(
            "nothing arrived within the client's read timeout; the model may still be running. "
            "Raise read_timeout in the client's Config",
            response_started=response_started,
        )
    if isinstance(error, known.IncompleteReadError):
        return errors.ProtocolError("the answer is shorter than it said", response_started=True)
    if isinstance(error, known.BotoCoreError):
        # HTTPClientError stands for any failure in the library under the client.
        return connection_broke(list(_chain(error))[-1], response_started=response_started)
    if isinstance(error, OSError) or library in ("urllib3", "http", "aiohttp", "ssl"):
        return connection_broke(error, response_started=response_started)
    return None


def connection_broke(error: BaseException, *, response_started: bool = True) -> errors.TransportError:
    """Our error for a failure of the HTTP library under a client."""
    return errors.TransportError(f"the connection was lost: {type(error).__name__}", response_started=response_started)


def _proxy_variable(said: str) -> str:
    """Name the variable that gave the proxy in a client's error; empty if none did."""
    import os

    for name, value in os.environ.items():
        place = value.rpartition("@")[2].rpartition("//")[2].rstrip("/")
        if name.lower() in ("http_proxy", "https_proxy") and place and place in said:
            return f" (from {name})"
    return ""


def _is_closed(error: Exception) -> bool:
    """Whether a client failed because it has no HTTP session, as aiobotocore's have none once they are closed."""
    last = list(_chain(error))[-1]
    closed = isinstance(last, AttributeError) and _modules(last)[-1:] == ["aiobotocore.httpsession"]
    return closed or (isinstance(last, RuntimeError) and str(last) == "Session is closed")


def failed_by_itself(error: Exception, *, response_started: bool = False) -> errors.SmendpointError | None:
    """Our error for an exception that a client's libraries raised; `None` if other code took part.

    An exception of a hook, a mock or a wrapper of the caller's goes on as it is.
    """
    import sys

    names = _modules(error)
    while names and names[0].partition(".")[0] == "smendpoint":
        del names[0]
    known = {*_LIBRARIES, *sys.stdlib_module_names} - {"unittest"}
    if not names or any(name.partition(".")[0] not in known for name in names):
        return None
    if any(name.partition(".")[2] in ("credentials", "tokens") for name in names):
        # Without its text, which may hold the output of a credential process.
        return errors.CredentialsError(f"the client's credentials could not be read: {type(error).__name__}")
    return errors.TransportError(
        f"the client failed by itself: {type(error).__name__}", response_started=response_started
    )


def _frames(error: BaseException) -> Iterator[tuple[str, FrameType]]:
    """Give the frames that an exception went through, outermost first, each with the name of its module."""
    trace = error.__traceback__
    while trace is not None:
        yield str(trace.tb_frame.f_globals.get("__name__")), trace.tb_frame
        trace = trace.tb_next


def _modules(error: BaseException) -> list[str]:
    return [module for module, _ in _frames(error)]


def _broken(error: Exception) -> errors.EndpointError | None:
    """Our error for an answer that was not valid HTTP, which only the exceptions under the client's own tell."""
    for link in _chain(error):
        library = type(link).__module__.partition(".")[0]
        if library == "aiohttp" and type(link).__name__ == "TooManyRedirects":  # one is too many
            answers = getattr(link, "history", ())
            return service_error(RawResponse(answers[-1].status if answers else 0, {}, b"{}"))
        if isinstance(link, (OSError, TimeoutError)):
            return None
        # urllib3 subclasses the exceptions of http.client.
        of_http_client = any(base.__module__ == "http.client" for base in type(link).__mro__)
        # Older aiohttp has nothing under its ClientPayloadError.
        of_aiohttp = library == "aiohttp" and (
            ".http_exceptions" in type(link).__module__
            or (type(link).__name__ == "ClientPayloadError" and link.__cause__ is None)
        )
        if of_http_client or of_aiohttp:
            return errors.ProtocolError(
                f"the answer is not valid or not complete HTTP: {type(link).__name__}", response_started=True
            )
    return None


def _was_connected(error: Exception) -> bool:
    """Whether there was a connection: aiobotocore says that it could not connect, even if one was reset later."""
    return any(
        type(link).__module__.partition(".")[0] == "aiohttp"
        and "Connector" not in "".join(base.__name__ for base in type(link).__mro__)
        for link in _chain(error)
    )


def _chain(error: Exception) -> Iterator[BaseException]:
    """Give an exception and those under it."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        inner = getattr(link, "kwargs", None)
        under = inner.get("error") if isinstance(inner, dict) else None
        link = under if isinstance(under, BaseException) else link.__cause__ or link.__context__


def harmless_cause(error: Exception, ours: errors.SmendpointError) -> Exception | None:
    """The exception to chain to ours; `None` if its text may hold a part of the request or the answer.

    HTTP libraries show the bytes that they could not read, botocore the values that it refuses.
    """
    hidden = isinstance(ours, (errors.ProtocolError, errors.ConfigurationError))
    # The ValueErrors of JSON and Unicode hold the whole text that could not be read.
    told = not isinstance(error, ValueError) and type(error).__name__ != "HTTPClientError"
    return error if told and not hidden else None


def check_final(status: int, headers: Mapping[str, str]) -> None:
    """Refuse an answer that the client's HTTP library cannot read; see `begin`."""
    if headers.get("transfer-encoding", "chunked").lower() != "chunked":
        raise errors.ProtocolError(
            "the answer has a Transfer-Encoding other than chunked, which was not asked for", response_started=True
        )
    if status < 200:
        what = "an interim response" if status >= 100 else "a response without a valid status"
        raise errors.ProtocolError(
            f"the client took {what} ({status:03}) for the answer, which it is not: leave client= out, or find out "
            "what sends it",
            response_started=True,
        )
