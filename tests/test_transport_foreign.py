"""`_transport/clients/adapter.py`: which clients are taken, what they are given, and their exceptions in our terms."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Callable
from enum import Enum
from types import FunctionType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import botocore.session
import pytest
import urllib3.exceptions
from botocore import exceptions
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.parsers import ResponseParserError

from smendpoint import Timeout, errors
from smendpoint._core.aws.operations import INVOKE_ENDPOINT, INVOKE_ENDPOINT_ASYNC
from smendpoint._transport.clients.adapter import (
    METHODS,
    answer_head,
    call_arguments,
    check_client,
    check_final,
    library_of,
    longest_call,
    retried,
)
from smendpoint._transport.clients.client import ClientTransport
from smendpoint._transport.clients.failures import failed_by_itself, harmless_cause, translate, unparsed
from smendpoint._transport.deadline import SYSTEM_CLOCK

URL = "https://runtime.example"


def client(service: str = "sagemaker-runtime", **config: Any) -> Any:
    return botocore.session.Session().create_client(
        service,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(**config),
    )


class Aio:
    """As aiobotocore's clients are."""

    invoke_endpoint = staticmethod(print)


Aio.__module__ = "aiobotocore.client"


# which clients


def test_a_client_for_the_runtime_is_taken_and_no_other() -> None:
    made = client()
    check_client(made, asynchronous=False)
    assert library_of(made) == "botocore"
    assert all(callable(getattr(made, method)) for name, method in METHODS.items() if "Endpoint" in name)
    made.close()
    other = client("sts")
    with pytest.raises(errors.ConfigurationError, match="must be a client for 'sagemaker-runtime', not for 'sts'"):
        check_client(other, asynchronous=False)
    other.close()


@pytest.mark.parametrize("value", [object(), "client", 7])
def test_a_value_that_is_not_a_client_is_refused(value: object) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"boto3\.client\('sagemaker-runtime'\)"):
        check_client(value, asynchronous=False)


def test_a_mock_is_taken_by_either_twin() -> None:
    for asynchronous in (False, True):
        check_client(MagicMock(), asynchronous=asynchronous)
        check_client(SimpleNamespace(invoke_endpoint=print), asynchronous=asynchronous)
    assert library_of(MagicMock()) is None


def test_each_twin_wants_its_own_kind() -> None:
    blocking = client()
    with pytest.raises(errors.ConfigurationError, match="would block the event loop"):
        check_client(blocking, asynchronous=True)
    blocking.close()
    check_client(Aio(), asynchronous=True)
    assert library_of(Aio()) == "aiobotocore"
    with pytest.raises(errors.ConfigurationError, match="AsyncEndpoint takes aiobotocore's"):
        check_client(Aio(), asynchronous=False)


def test_a_clients_settings_are_read() -> None:
    made = client(max_pool_connections=7, connect_timeout=3, read_timeout=100, retries={"total_max_attempts": 2})
    assert ClientTransport(made, SYSTEM_CLOCK).max_connections == 7
    assert longest_call(made, Timeout(connect=5.0, read=60.0)) == (5.0 + 100.0) * 2 + 20.0
    made.close()
    assert ClientTransport(MagicMock(), SYSTEM_CLOCK).max_connections is None
    assert longest_call(object(), Timeout(connect=5.0, read=60.0)) == 65.0 * 5 + 80.0


# what goes and what comes


def request(operation: Any, body: bytes) -> Any:
    return SimpleNamespace(operation=operation, endpoint_name="e", members={"Accept": "text/plain"}, body=body)


def test_a_client_gets_the_members_and_the_body() -> None:
    arguments = {"EndpointName": "e", "Accept": "text/plain", "Body": b"x"}
    assert call_arguments(request(INVOKE_ENDPOINT, b"x")) == arguments
    assert call_arguments(request(INVOKE_ENDPOINT_ASYNC, b"x")) == arguments


def test_members_of_enumerations_go_out_as_their_values() -> None:
    class Variant(str, Enum):
        BLUE = "blue"

    class Seconds(int, Enum):
        MINUTE = 60

    asked = request(INVOKE_ENDPOINT, b"x")
    asked.members = {"TargetVariant": Variant.BLUE, "RequestTTLSeconds": Seconds.MINUTE}
    arguments = call_arguments(asked)
    assert [type(arguments[name]) for name in asked.members] == [str, int]
    assert [str(arguments[name]) for name in asked.members] == ["blue", "60"]


def test_an_empty_body_is_left_out_only_where_it_may_be() -> None:
    assert call_arguments(request(INVOKE_ENDPOINT, b""))["Body"] == b""
    assert "Body" not in call_arguments(request(INVOKE_ENDPOINT_ASYNC, b""))


def test_headers_are_those_of_the_answer() -> None:
    response = {
        "ResponseMetadata": {"HTTPHeaders": {"X-Amzn-RequestId": "1", "Content-Type": "a/b"}, "RequestId": "2"},
        "ContentType": "c/d",
        "CustomAttributes": "x=1",
    }
    status, headers = answer_head(INVOKE_ENDPOINT, response)
    assert status == 200
    assert headers["x-amzn-requestid"] == "1"
    assert headers["content-type"] == "a/b"
    assert headers["x-amzn-sagemaker-custom-attributes"] == "x=1"


def test_headers_of_a_mock_are_made_from_its_members() -> None:
    response = {"ContentType": "c/d", "InvokedProductionVariant": "blue", "ResponseMetadata": {"RequestId": "2"}}
    assert answer_head(INVOKE_ENDPOINT, response)[1] == {
        "content-type": "c/d",
        "x-amzn-invoked-production-variant": "blue",
        "x-amzn-requestid": "2",
    }
    head = {"x-amzn-sagemaker-inference-id": "i"}
    assert answer_head(INVOKE_ENDPOINT_ASYNC, {"InferenceId": "i"}) == (200, head)


@pytest.mark.parametrize(
    "response",
    [MagicMock(), None, [], {"ResponseMetadata": MagicMock()}, {"ResponseMetadata": {"HTTPStatusCode": "200"}}],
)
def test_a_value_that_is_not_a_clients_answer_is_refused(response: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="have a mocked client return"):
        answer_head(INVOKE_ENDPOINT, response)


@pytest.mark.parametrize(
    ("response", "count"),
    [
        (None, 0),
        ({}, 0),
        ({"ResponseMetadata": None}, 0),
        ({"ResponseMetadata": {"RetryAttempts": 2}}, 2),
        ({"ResponseMetadata": {"RetryAttempts": "2"}}, 0),
    ],
)
def test_a_clients_own_retries_are_counted(response: Any, count: int) -> None:
    assert retried(response) == count


# exceptions


def client_error() -> exceptions.ClientError:
    response: Any = {
        "Error": {"Code": "ValidationError", "Message": "no"},
        "ResponseMetadata": {"HTTPStatusCode": 400, "RequestId": "1"},
    }
    return exceptions.ClientError(response, "InvokeEndpoint")


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


class Foreign(Exception):
    """Made to look like another library's."""


def foreign(module: str, name: str, bases: tuple[type, ...] = (Exception,), *arguments: object) -> Exception:
    kind = type(name, bases, {"__module__": module})
    error: Exception = kind(*arguments)
    return error


TABLE: list[tuple[Exception, type[errors.SmendpointError]]] = [
    (client_error(), errors.ValidationError),
    (exceptions.NoCredentialsError(), errors.CredentialsError),
    (exceptions.PartialCredentialsError(provider="env", cred_var="x"), errors.CredentialsError),
    (exceptions.CredentialRetrievalError(provider="p", error_msg="m"), errors.CredentialsError),
    (exceptions.TokenRetrievalError(provider="p", error_msg="m"), errors.CredentialsError),
    (exceptions.UnauthorizedSSOTokenError(), errors.CredentialsError),
    (exceptions.ParamValidationError(report="secret"), errors.ConfigurationError),
    (exceptions.NoRegionError(), errors.ConfigurationError),
    (exceptions.ProfileNotFound(profile="p"), errors.ConfigurationError),
    (exceptions.EndpointProviderError(msg="m"), errors.ConfigurationError),
    (exceptions.SSLError(endpoint_url=URL, error="bad"), errors.TLSError),
    (exceptions.EndpointConnectionError(endpoint_url=URL), errors.ConnectError),
    (exceptions.ConnectTimeoutError(endpoint_url=URL), errors.ConnectError),
    (exceptions.ProxyConnectionError(proxy_url="http://p"), errors.ConnectError),
    (exceptions.ReadTimeoutError(endpoint_url=URL), errors.ReadTimeoutError),
    (exceptions.ConnectionClosedError(endpoint_url=URL), errors.TransportError),
    (exceptions.HTTPClientError(error="x"), errors.TransportError),
    (exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2), errors.ProtocolError),
    (exceptions.BotoCoreError(), errors.TransportError),
    (exceptions.HTTPClientError(error=http.client.BadStatusLine("x")), errors.ProtocolError),
    (caused(exceptions.HTTPClientError(error="x"), http.client.IncompleteRead(b"x")), errors.ProtocolError),
    (caused(exceptions.HTTPClientError(error="x"), ConnectionResetError()), errors.TransportError),
    (urllib3.exceptions.ReadTimeoutError(None, "/", "slow"), errors.ReadTimeoutError),  # type: ignore[arg-type]  # a pool
    (urllib3.exceptions.ProtocolError("broken"), errors.TransportError),
    (urllib3.exceptions.SSLError("bad record"), errors.TransportError),
    (urllib3.exceptions.IncompleteRead(1, 2), errors.ProtocolError),
    (caused(urllib3.exceptions.ProtocolError("x"), urllib3.exceptions.IncompleteRead(1, 2)), errors.ProtocolError),
    (http.client.IncompleteRead(b""), errors.ProtocolError),
    (TimeoutError(), errors.ReadTimeoutError),
    (socket.gaierror(), errors.TransportError),
    (ssl.SSLEOFError(), errors.TransportError),
    (foreign("aiohttp.http_exceptions", "BadHttpMessage"), errors.ProtocolError),
    (foreign("aiohttp.client_exceptions", "ServerDisconnectedError"), errors.TransportError),
]


@pytest.mark.parametrize(("error", "kind"), TABLE, ids=lambda value: getattr(type(value), "__name__", ""))
def test_a_clients_exception_becomes_ours(error: Exception, kind: type[errors.SmendpointError]) -> None:
    ours = translate(error)
    assert type(ours) is kind
    assert "secret" not in str(ours)


@pytest.mark.parametrize("error", [ValueError("mine"), LookupError(), Foreign()])
def test_an_exception_that_is_not_a_clients_is_not_translated(error: Exception) -> None:
    assert translate(error) is None


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ReadTimeoutError(endpoint_url=URL),
        exceptions.ConnectionClosedError(endpoint_url=URL),
        TimeoutError(),
        ConnectionResetError(),
    ],
)
@pytest.mark.parametrize("started", [True, False])
def test_ours_knows_whether_an_answer_had_begun(error: Exception, started: bool) -> None:
    ours = translate(error, response_started=started)
    assert isinstance(ours, errors.TransportError)
    assert ours.response_started is started


def test_a_connection_that_was_lost_after_it_stood_is_not_a_connect_error() -> None:
    lost = foreign("aiohttp.client_exceptions", "ClientOSError", (OSError,))
    refused = foreign("aiohttp.client_exceptions", "ClientConnectorError", (OSError,))
    error = exceptions.EndpointConnectionError(endpoint_url=URL, error=lost)
    assert type(translate(error)) is errors.TransportError
    assert type(translate(exceptions.EndpointConnectionError(endpoint_url=URL, error=refused))) is errors.ConnectError


@pytest.mark.parametrize(("history", "status"), [([SimpleNamespace(status=307)], 307), ([], 0)])
def test_a_redirect_that_a_client_would_follow_is_an_answer(history: list[Any], status: int) -> None:
    error: Any = foreign("aiohttp.client_exceptions", "TooManyRedirects")
    error.history = history
    ours = translate(exceptions.HTTPClientError(error=error))
    assert isinstance(ours, errors.ServiceError)
    assert ours.status == status


def test_exceptions_in_a_circle_are_gone_through_once() -> None:
    one, two = exceptions.HTTPClientError(error="x"), ValueError()
    one.__cause__, two.__context__ = two, one
    assert type(translate(one)) is errors.TransportError


def test_a_cause_that_may_show_what_was_sent_or_what_came_is_not_chained() -> None:
    error = exceptions.ParamValidationError(report="secret")
    ours = translate(error)
    assert ours is not None
    assert harmless_cause(error, ours) is None
    assert harmless_cause(error, errors.ProtocolError("x")) is None
    assert harmless_cause(exceptions.HTTPClientError(error="x"), errors.TransportError("x")) is None
    refused = exceptions.EndpointConnectionError(endpoint_url=URL)
    assert harmless_cause(refused, errors.ConnectError("x")) is refused


def test_an_answer_without_a_final_status_is_named() -> None:
    for status, said in ((103, "an interim response (103)"), (0, "without a valid status (000)")):
        with pytest.raises(errors.ProtocolError) as caught:
            check_final(status, {})
        assert said in str(caught.value)
        assert caught.value.response_started
    check_final(200, {"transfer-encoding": "Chunked"})


# what a client raises over an answer


def answered(status: int = 500, content: Any = b"[]") -> AWSResponse:
    response = AWSResponse("http://x", status, {"X-Id": "1"}, None)
    response._content = content
    return response


def parse() -> None:
    json.loads("[")


def within(module: str, work: Callable[[], None], http_response: Any = None) -> Callable[[], None]:
    """A function of that module, with a local variable of that name, that does some work."""

    def run() -> None:
        answer = http_response
        work()
        del answer

    return FunctionType(run.__code__, {"__name__": module}, closure=run.__closure__)


def raised(work: Callable[[], None]) -> Exception:
    """Give the exception that work raises, with a traceback that begins there."""
    try:
        work()
    except Exception as error:
        assert error.__traceback__ is not None
        return error.with_traceback(error.__traceback__.tb_next)
    raise AssertionError


PARSER = FunctionType(parse.__code__, {"__name__": "botocore.parsers", "json": json})


@pytest.mark.parametrize("module", ["botocore.endpoint", "aiobotocore.endpoint"])
@pytest.mark.parametrize("held", [answered(), (answered(), {})])
def test_the_answer_that_a_client_could_not_read_is_found(module: str, held: Any) -> None:
    answer = unparsed(raised(within(module, PARSER, held)))
    assert answer is not None
    assert (answer.status, answer.headers, answer.body) == (500, {"x-id": "1"}, b"[]")


def test_a_parser_that_says_so_itself_has_an_answer_too() -> None:
    def refuse() -> None:
        raise ResponseParserError

    assert unparsed(raised(within("botocore.endpoint", within("botocore.parsers", refuse), answered()))) is None
    refuser = FunctionType(
        refuse.__code__, {"__name__": "botocore.parsers", "ResponseParserError": ResponseParserError}
    )
    assert unparsed(raised(within("botocore.endpoint", refuser, answered()))) is not None


@pytest.mark.parametrize(
    "error",
    [
        raised(within("botocore.endpoint", parse, answered())),  # a hook's
        raised(within("botocore.endpoint", PARSER, ())),
        raised(within("botocore.endpoint", PARSER, answered(content=None))),  # it has not been read
        client_error(),
    ],
)
def test_where_a_hook_failed_or_nothing_was_read_there_is_no_such_answer(error: Exception) -> None:
    assert unparsed(error) is None


def test_a_failure_inside_a_client_is_our_error_and_one_of_its_hooks_is_not() -> None:
    for frames in (within("botocore.client", PARSER), within("smendpoint.x", within("botocore.client", PARSER))):
        own = failed_by_itself(raised(frames), response_started=True)
        assert isinstance(own, errors.TransportError)
        assert own.response_started
        assert "the client itself failed: JSONDecodeError" in str(own)
    unread = failed_by_itself(raised(within("botocore.credentials", PARSER)))
    assert type(unread) is errors.CredentialsError
    assert failed_by_itself(raised(within("botocore.client", parse))) is None
    assert failed_by_itself(raised(within("botocore.client", within("unittest.mock", PARSER)))) is None
    assert failed_by_itself(ValueError()) is None


def test_a_cause_that_holds_what_could_not_be_read_is_not_chained() -> None:
    lost = errors.TransportError("x")
    assert harmless_cause(raised(parse), lost) is None
    reset = ConnectionResetError()
    assert harmless_cause(reset, lost) is reset
