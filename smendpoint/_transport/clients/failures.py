"""The exceptions of a given client in our terms, which both transports over one share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from smendpoint import errors
from smendpoint._core.aws.response import RawResponse, error_from_client, service_error
from smendpoint._transport.address import NO_TLS_REASONS, NOT_TLS
from smendpoint._transport.clients.adapter import lower_names, retried

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_LIBRARIES = ("aiobotocore", "aiohttp", "boto3", "botocore", "urllib3")


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


def harmless_cause(error: Exception, ours: errors.SmendpointError) -> Exception | None:
    """The exception to chain to ours; `None` if its text may hold a part of the request or the answer.

    HTTP libraries show the bytes that they could not read, botocore the values that it refuses.
    """
    hidden = isinstance(ours, (errors.ProtocolError, errors.ConfigurationError))
    # The ValueErrors of JSON and Unicode hold the whole text that could not be read.
    harmless = not isinstance(error, ValueError) and type(error).__name__ != "HTTPClientError"
    return error if harmless and not hidden else None


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
    return RawResponse(found.status_code, lower_names(found.headers), body)


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
            "one, or exclude the service with NO_PROXY"
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


def _frames(error: BaseException) -> Iterator[tuple[str, FrameType]]:
    """Give the frames that an exception went through, outermost first, each with the name of its module."""
    trace = error.__traceback__
    while trace is not None:
        yield str(trace.tb_frame.f_globals.get("__name__")), trace.tb_frame
        trace = trace.tb_next


def _modules(error: BaseException) -> list[str]:
    return [module for module, _ in _frames(error)]
