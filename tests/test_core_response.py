"""Responses: each becomes an answer or a ServiceError, the same in both lanes."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import pickle
import random
from typing import Any

import botocore
import botocore.config
import botocore.session
import pytest
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from hypothesis import given
from hypothesis import strategies as st
from vectors import VECTORS, require_vectors

from smendpoint import errors
from smendpoint._core.aws.response import (
    CLOCK_SKEW_CODES,
    ERROR_CLASSES,
    EXPIRED_TOKEN_CODES,
    RawResponse,
    error_code,
    error_from_client,
    request_id,
    retry_after,
    server_date,
    service_error,
    session_id,
)
from smendpoint._core.http.body import ResponseBody

FUZZ = int(os.environ.get("SMENDPOINT_FUZZ", "2000"))
JSON_TYPE = {"content-type": "application/json"}


def answer(status: int, body: bytes | str | object = b"", **headers: str) -> RawResponse:
    """A response; header names with ``_`` for ``-``, a body that is neither text nor bytes as JSON."""
    if isinstance(body, str):
        body = body.encode()
    elif not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return RawResponse(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


# The body -----------------------------------------------------------------------------------------------------------


def test_a_body_is_bytes_and_a_file_at_once() -> None:
    body = ResponseBody(b'{"a": 1}')
    assert json.loads(body) == {"a": 1}
    assert json.load(body) == {"a": 1}
    assert body.decode() == '{"a": 1}'
    assert body == b'{"a": 1}'
    assert len(body) == 8


STEPS = st.one_of(
    st.tuples(st.sampled_from(["read", "readline", "readlines"]), st.none() | st.integers(-2, 12)),
    st.tuples(st.just("seek"), st.integers(0, 12)),
    st.tuples(st.sampled_from(["tell", "read", "readline", "readlines"])),
)


@given(st.text("ab\n\r", max_size=30).map(str.encode), st.lists(STEPS, max_size=8))
def test_every_way_to_read_is_that_of_a_file(data: bytes, steps: list[tuple[Any, ...]]) -> None:
    body, file = ResponseBody(data), io.BytesIO(data)
    for name, *arguments in steps:
        read, expected = getattr(body, name)(*arguments), getattr(file, name)(*arguments)
        assert (type(read), read) == (type(expected), expected)
    for whence in (1, 2, 0):
        assert body.seek(0, whence) == file.seek(0, whence)
    assert body.seek(-50, 1) == 0
    into, into_file = bytearray(5), bytearray(5)
    assert (body.readinto(into), into) == (file.readinto(into_file), into_file)


@given(st.text("ab\n", max_size=30).map(str.encode), st.integers(1, 10), st.booleans())
def test_lines_and_chunks_are_those_of_a_streaming_body(data: bytes, size: int, keepends: bool) -> None:
    def theirs() -> StreamingBody:
        return StreamingBody(io.BytesIO(data), len(data))

    assert list(ResponseBody(data).iter_chunks(size)) == list(theirs().iter_chunks(size))
    assert list(ResponseBody(data).iter_lines(size, keepends)) == list(theirs().iter_lines(size, keepends))
    assert ResponseBody(data).readlines() == theirs().readlines()
    long = data * 200
    assert [*ResponseBody(long)] == [*StreamingBody(io.BytesIO(long), len(long))]
    assert next(ResponseBody(long), b"") == long[:1024]


def test_a_body_has_all_that_a_streaming_body_has() -> None:
    names = {name for name in dir(StreamingBody) if not name.startswith("_")}
    assert names <= set(dir(ResponseBody))
    body = ResponseBody(b"a\nb")
    assert (body.readable(), body.seekable(), body.writable(), body.isatty()) == (True, True, False, False)
    body.set_socket_timeout(5)
    body.flush()
    for name in ("fileno", "truncate", "write", "writelines"):
        with pytest.raises(io.UnsupportedOperation, match="cannot be written to"):
            getattr(body, name)(*([[]] if name.startswith("write") else []))
    with body as file:
        assert not body.closed
        assert file.readline() == b"a\n"
    assert body.closed
    assert body.read() == b""
    assert json.loads(ResponseBody(b"[1]")) == [1]


def test_a_body_can_be_read_as_text_and_by_other_readers() -> None:
    data = "é,1\r\n☃,2\n".encode() * 2000
    assert (
        list(csv.reader(io.TextIOWrapper(ResponseBody(data), "utf-8", newline=""))) == [["é", "1"], ["☃", "2"]] * 2000
    )
    assert "".join(codecs.iterdecode(ResponseBody(data), "utf-8")) == data.decode()
    assert io.BufferedReader(ResponseBody(data)).read() == data  # type: ignore[arg-type]  # it asks for a RawIOBase
    assert b"".join(ResponseBody(data)) == data


def test_reading_leaves_the_bytes_as_they_are() -> None:
    body = ResponseBody(b'{"a": 1}')
    for _ in range(2):
        list(body)
        body.close()
        assert json.loads(body) == {"a": 1}
        assert (bytes(body), body[0], body[1:3], b"a" in body, len(body)) == (b'{"a": 1}', 123, b'"a', True, 8)


def test_a_body_survives_pickling_with_its_position() -> None:
    body = ResponseBody(b"abc")
    body.read(1)
    again = pickle.loads(pickle.dumps(body))
    assert type(again) is ResponseBody
    assert again == body
    assert again.read() == b"bc"


def test_a_body_and_a_response_show_their_size_and_not_their_content() -> None:
    body = ResponseBody(b"hidden")
    assert repr(body) == str(body) == f"{body}" == "<ResponseBody of 6 bytes>"
    assert repr(RawResponse(200, {"x": "hidden"}, body)) == "RawResponse(status=200, body=6 bytes)"


# Codes --------------------------------------------------------------------------------------------------------------


def smithy_cases() -> list[Any]:
    path = VECTORS / "smithy-restjson1" / "errors.json"
    if not path.is_file():
        return []
    return [pytest.param(case, id=case["id"]) for case in json.loads(path.read_text("utf-8"))]


def test_the_published_error_cases_are_there_as_a_whole() -> None:
    require_vectors("smithy-restjson1")
    assert len(smithy_cases()) == 16


@pytest.mark.parametrize("case", smithy_cases())
def test_codes_are_those_of_the_published_cases(case: dict[str, Any]) -> None:
    headers = {name.lower(): value for name, value in case["headers"].items()}
    error = service_error(RawResponse(case["code"], headers, case.get("body", "").encode()))
    # Two of the cases are successes: they carry no error name.
    expected = {"FooError": "FooError", "Complex": "ComplexError", "Invalid": "InvalidGreeting", "Greeting": ""}
    prefixes = {"RestJsonFoo": "FooError", "RestJsonInvalid": "Invalid", "RestJsonGreeting": "Greeting"}
    key = next((value for prefix, value in prefixes.items() if case["id"].startswith(prefix)), "Complex")
    assert error.code == expected[key]
    assert error.status == case["code"]
    message = case.get("params", {}).get("Message")
    assert error.message == message if message else error.message.startswith("The service gave no message")


@pytest.mark.parametrize(
    ("header", "body", "code"),
    [
        ("ModelError", {"__type": "Other"}, "ModelError"),
        ("a#ModelError:http://x", {}, "ModelError"),
        (None, {"code": "A", "__type": "B"}, "A"),
        (None, {"code": 424, "__type": "B"}, "B"),
        (None, {"ErrorCode": "INFERENCE_COMPONENT_NAME_MISSING"}, "INFERENCE_COMPONENT_NAME_MISSING"),
        ("", {"code": None}, ""),
        (":http://x", {}, ""),
        ("two words", {}, ""),
        ("x" * 129, {}, ""),
        ("caf\xe9", {}, ""),
    ],
)
def test_a_code_comes_from_the_header_else_from_the_body(
    header: str | None, body: dict[str, object], code: str
) -> None:
    headers = {} if header is None else {"x-amzn-errortype": header}
    assert error_code(headers, body) == code


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ValidationError", 400, errors.ValidationError),
        ("ModelError", 424, errors.ModelError),
        ("ModelNotReadyException", 429, errors.ModelNotReadyError),
        ("InternalFailure", 500, errors.InternalFailureError),
        ("ServiceUnavailable", 503, errors.ServiceUnavailableError),
        ("InternalDependencyException", 530, errors.InternalDependencyError),
        ("ThrottlingException", 400, errors.ThrottlingError),
        ("ThrottlingException", 429, errors.ThrottlingError),
        ("AccessDeniedException", 403, errors.AccessDeniedError),
        ("AccessDeniedException", 400, errors.AccessDeniedError),
        ("ExpiredTokenException", 403, errors.AccessDeniedError),
        ("NeverHeardOf", 400, errors.ValidationError),
        ("NeverHeardOf", 401, errors.AccessDeniedError),
        ("NeverHeardOf", 403, errors.AccessDeniedError),
        ("NeverHeardOf", 424, errors.ModelError),
        ("", 429, errors.ThrottlingError),
        ("", 500, errors.InternalFailureError),
        ("", 503, errors.ServiceUnavailableError),
        ("", 530, errors.InternalDependencyError),
        ("", 404, errors.ResourceNotFoundError),
        ("", 408, errors.RequestTimeoutError),
        ("", 413, errors.PayloadTooLargeError),
        ("", 502, errors.BadGatewayError),
        ("", 504, errors.GatewayTimeoutError),
        ("ResourceNotFoundException", 404, errors.ResourceNotFoundError),
        ("RequestTimeoutException", 408, errors.RequestTimeoutError),
        ("PayloadTooLargeException", 413, errors.PayloadTooLargeError),
        ("BadGatewayException", 502, errors.BadGatewayError),
        ("GatewayTimeoutException", 504, errors.GatewayTimeoutError),
        ("", 302, errors.ServiceError),
    ],
)
def test_the_class_is_that_of_the_code_else_that_of_the_status(
    code: str, status: int, kind: type[errors.ServiceError]
) -> None:
    error = service_error(answer(status, {"Message": "m"}, x_amzn_errortype=code, x_amzn_requestid="r-1"))
    assert type(error) is kind
    assert (error.status, error.code, error.message, error.request_id) == (
        status,
        code,
        error.message if status == 413 else "m",
        "r-1",
    )


def test_expired_tokens_and_skewed_clocks_are_told_apart() -> None:
    assert not EXPIRED_TOKEN_CODES & CLOCK_SKEW_CODES
    codes = EXPIRED_TOKEN_CODES | CLOCK_SKEW_CODES
    assert {ERROR_CLASSES[code] for code in codes} == {errors.AccessDeniedError}


# Messages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"Message": "A", "message": "b"}', "A"),
        ('{"Message": null, "message": "b"}', "b"),
        ('{"message": null}', "The service gave no message."),
        ('{"message": 5}', "The service gave no message."),
        ('{"Message": "cut', "The service gave no message."),
        ("", "The service gave no message: the body is empty."),
        ("<html><b>502 Bad Gateway</b></html>", "The service gave no message: the body has 35 bytes (text/html)."),
        ('["a", "list"]', "The service gave no message: the body has 13 bytes (text/html)."),
        ("null", "The service gave no message: the body has 4 bytes (text/html)."),
        (b"\xff\xfe\x00", "The service gave no message: the body has 3 bytes (text/html)."),
        (b'{"Message": "\xff"}', "The service gave no message."),
        (b"{" * 100_000, "The service gave no message."),
        (b'{"a":' * 100_000, "The service gave no message."),
        (b'{"a": ' + b"9" * 5000 + b"}", "The service gave no message."),
        (b'{"Message": "lone \\ud800"}', "lone ?"),
    ],
    ids=range(15),
)
def test_the_message_is_the_services_or_says_that_there_was_none(body: bytes | str, message: str) -> None:
    error = service_error(answer(502, body, content_type="text/html; charset=utf-8"))
    assert error.message == message
    assert str(error).startswith("502: ")


def test_a_body_without_a_usable_content_type_says_so() -> None:
    for kind in ("", "a\x00b", "caf\xe9", "x" * 101):
        assert service_error(answer(500, "x", content_type=kind)).message.endswith("1 bytes (no content type).")


def test_a_body_that_is_too_large_is_explained() -> None:
    assert service_error(answer(413, "<html>")).message.startswith(
        "The request body is larger than the service accepts"
    )
    assert service_error(answer(413, {"message": "Too long."})).message.startswith(
        "Too long. The request body is larger"
    )


def test_a_redirect_is_explained() -> None:
    error = service_error(answer(307, "", location="https://elsewhere.example/"))
    assert error.message.startswith("The service answered with a redirect, which is never followed")
    assert "elsewhere" not in str(error)


@pytest.mark.parametrize(
    ("headers", "identity"),
    [
        ({"x-amzn-requestid": "a", "x-amz-request-id": "b"}, "a"),
        ({"x-amz-request-id": "b"}, "b"),
        ({"x-amzn-requestid": ""}, None),
        ({}, None),
    ],
)
def test_the_request_id_is_found(headers: dict[str, str], identity: str | None) -> None:
    assert request_id(headers) == identity


# Model errors -------------------------------------------------------------------------------------------------------

MODEL_ERROR = {
    "ErrorCode": "CLIENT_ERROR_FROM_MODEL",
    "LogStreamArn": "arn:aws:logs:us-east-1:1:log-group:/aws/sagemaker/Endpoints/ep",
    "Message": 'Received client error (422) from primary with message "{}".',
    "OriginalMessage": '{"error":"Input validation error","error_type":"validation"}',
    "OriginalStatusCode": 422,
}


def test_a_model_error_carries_what_the_container_said() -> None:
    error = service_error(answer(424, MODEL_ERROR, x_amzn_errortype="ModelError"))
    assert isinstance(error, errors.ModelError)
    assert error.code == "ModelError"
    assert error.message == MODEL_ERROR["Message"]
    assert error.original_message == MODEL_ERROR["OriginalMessage"]
    assert error.original_status_code == 422
    assert error.log_stream_arn == MODEL_ERROR["LogStreamArn"]
    assert pickle.loads(pickle.dumps(error)).original_message == error.original_message


@pytest.mark.parametrize(
    ("given", "status"),
    [(500, 500), ("500", 500), (0, 0), (None, None), (True, None), (4.5, None), ([], None), ("x", None)],
)
def test_an_original_status_that_is_not_a_number_is_none(given: object, status: int | None) -> None:
    error = service_error(answer(424, {"OriginalStatusCode": given, "OriginalMessage": 5, "LogStreamArn": {}}))
    assert isinstance(error, errors.ModelError)
    assert (error.original_status_code, error.original_message, error.log_stream_arn) == (status, None, None)


TIMED_OUT = "Your invocation timed out while waiting for a response from container primary."


@pytest.mark.parametrize(
    ("members", "hint"),
    [
        ({"Message": TIMED_OUT}, "time limit (60 seconds"),
        ({"Message": "m", "OriginalMessage": TIMED_OUT}, "time limit (60 seconds"),
        ({"Message": "We could not load the entire response body."}, "larger than the service delivers"),
    ],
)
def test_known_model_errors_keep_their_text_and_get_a_hint(members: dict[str, str], hint: str) -> None:
    error = service_error(answer(424, members))
    assert error.message.startswith(f"{members['Message']} | Hint: ")
    assert hint in error.message


def test_other_model_errors_get_no_hint() -> None:
    assert service_error(answer(424, {"Message": "m"})).message == "m"


# Waiting ------------------------------------------------------------------------------------------------------------

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-amz-retry-after": "1500"}, 1.5),
        ({"x-amz-retry-after": "0"}, 0.0),
        ({"x-amz-retry-after": "1500", "retry-after": "9"}, 1.5),
        ({"x-amz-retry-after": "invalid", "retry-after": "9"}, 9.0),
        ({"x-amz-retry-after": "-100"}, None),
        ({"x-amz-retry-after": "\u0661"}, None),
        ({"x-amz-retry-after": "9" * 19}, None),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:37 GMT"}, 60.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_the_wait_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=NOW) == seconds
    assert service_error(RawResponse(503, headers, b""), now=NOW).retry_after == seconds


def test_a_date_to_retry_after_is_measured_on_the_services_clock_whatever_ours_says() -> None:
    headers = {"retry-after": "Sun, 06 Nov 1994 08:50:37 GMT"}
    assert retry_after(headers) is None
    headers["date"] = "Sun, 06 Nov 1994 08:49:37 GMT"
    assert server_date(headers) == NOW
    assert retry_after(headers) == 60.0
    assert retry_after(headers, now=NOW - 3600.0) == 60.0
    assert retry_after(headers, now=NOW + 3600.0) == 60.0


# Sessions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "session"),
    [
        ("abc-1; Expires=1994-11-06T08:49:37Z", ("abc-1", NOW)),
        ("abc-1;expires = 1994-11-06T08:49:37Z", ("abc-1", NOW)),
        ("abc-1", ("abc-1", None)),
        ("abc-1; Expires=soon", ("abc-1", None)),
        ("abc-1; Expires=1994-11-06T08:49:37", ("abc-1", None)),
        ("abc-1; Expires=1994-13-06T08:49:37Z", ("abc-1", None)),
        ("abc-1; Other=1994-11-06T08:49:37Z", ("abc-1", None)),
        ("; Expires=1994-11-06T08:49:37Z", None),
        ("", None),
    ],
)
def test_a_new_session_is_read_with_its_end(value: str, session: tuple[str, float | None] | None) -> None:
    assert session_id({"x-amzn-sagemaker-new-session-id": value}) == session
    assert session_id({}) is None


# Both lanes ---------------------------------------------------------------------------------------------------------


class Answers:
    """A botocore client whose every call gets the response that was set last."""

    def __init__(self) -> None:
        self.client = botocore.session.Session().create_client(
            "sagemaker-runtime",
            "us-east-1",
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="secret",
            config=botocore.config.Config(retries={"total_max_attempts": 1}),
        )
        self.response = answer(200)
        self.client.meta.events.register("before-send", self._send)

    def _send(self, request: AWSRequest, **_keywords: object) -> AWSResponse:
        return AWSResponse(request.url, self.response.status, dict(self.response.headers), self)

    def stream(self, *_args: object, **_keywords: object) -> list[bytes]:
        return [self.response.body]

    def error(self, response: RawResponse) -> errors.ServiceError:
        self.response = response
        with pytest.raises(ClientError) as caught:
            self.client.invoke_endpoint(EndpointName="ep", Body=b"")
        return error_from_client(caught.value.response, now=NOW)


@pytest.fixture(scope="module")
def answers() -> Answers:
    return Answers()


STATUS = {"ValidationError": 400, "ModelError": 424, "InternalFailure": 500, "ServiceUnavailable": 503}
CODES = {**STATUS, "ThrottlingException": 400, "AccessDeniedException": 403, "ExpiredTokenException": 403, "Foo": 418}
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


# None: in the body. An older botocore does not know a namespace in the header.
SPELLINGS = ["{}", "{}:http://internal.amazon.com/", None]
if tuple(map(int, botocore.__version__.split(".")[:2])) >= (1, 43):
    SPELLINGS.append("ns#{}")


def described(error: errors.ServiceError) -> dict[str, object]:
    return {"class": type(error), "args": error.args, **vars(error)}


def test_both_lanes_make_the_same_error_of_a_modelled_answer(answers: Answers) -> None:
    @given(
        code=st.sampled_from([*CODES.items()]),
        spelling=st.sampled_from(SPELLINGS),
        message=st.none() | texts | st.sampled_from([TIMED_OUT, "could not load the entire response body"]),
        message_name=st.sampled_from(["Message", "message"]),
        original=st.fixed_dictionaries(
            {}, optional={"OriginalStatusCode": st.integers(0, 599), "OriginalMessage": texts, "LogStreamArn": texts}
        ),
        headers=st.fixed_dictionaries(
            {},
            optional={
                "x-amzn-requestid": st.uuids().map(str),
                "retry-after": st.sampled_from(["3", "Sun, 06 Nov 1994 08:50:37 GMT", "x"]),
                "x-amz-retry-after": st.sampled_from(["1500", "x"]),
            },
        ),
    )
    def same(
        code: tuple[str, int],
        spelling: str | None,
        message: str | None,
        message_name: str,
        original: dict[str, object],
        headers: dict[str, str],
    ) -> None:
        name, status = code
        body: dict[str, object] = {message_name: message}
        if name == "ModelError":
            body.update(original)
        if spelling is None:
            body["__type"] = name
        else:
            headers = {**headers, "x-amzn-errortype": spelling.format(name)}
        response = RawResponse(status, {**JSON_TYPE, **headers}, json.dumps(body).encode())
        assert described(answers.error(response)) == described(service_error(response, now=NOW))

    same()


# A list, or bytes that are not UTF-8, do not get this far: botocore's parser fails on them.
@pytest.mark.parametrize("status", [400, 413, 424, 429, 500, 502, 503, 530])
@pytest.mark.parametrize("body", ["", "<html>no</html>", '{"cut', '{"message": null}'])
def test_both_lanes_make_the_same_class_of_any_body(answers: Answers, status: int, body: str) -> None:
    response = answer(status, body)
    theirs, ours = answers.error(response), service_error(response)
    assert type(theirs) is type(ours)
    assert (theirs.status, theirs.code) == (ours.status, ours.code)


@pytest.mark.parametrize(
    "response",
    [
        {},
        {"Error": None, "ResponseMetadata": []},
        {
            "Error": {"Code": 5, "Message": 6},
            "ResponseMetadata": {"HTTPStatusCode": "x", "HTTPHeaders": {1: 2, "a": 3}},
        },
    ],
)
def test_a_client_error_that_a_stub_made_up_is_still_a_service_error(response: dict[str, object]) -> None:
    error = error_from_client(response)
    assert type(error) is errors.ServiceError
    assert (error.status, error.code, error.request_id) == (0, "", None)
    assert error.message == "The service gave no message."


# Anything -----------------------------------------------------------------------------------------------------------


def test_any_response_becomes_a_service_error() -> None:
    chooser = random.Random(424)
    seeds = [b'{"__type":"a#B:c","message":null}', b"<html></html>", b"[]", b"\xef\xbb\xbf{}"]
    seeds.append(json.dumps(MODEL_ERROR).encode())
    pieces = [b"{", b"}", b'"', b"\\u", b"\\ud800", b"\x00", b"\xff", b":", b"null", b"1e999", b"NaN", b"["]
    pieces.append(b"\xef\xbb\xbf")
    names = ["x-amzn-errortype", "x-amz-retry-after", "retry-after", "date", "content-type", "x-amzn-requestid"]
    values = ["", "#", ":", "ModelError", "a#b:c", "9" * 30, "-1", "\x00", "\xff", "Sun, 06 Nov 1994 08:49:37 GMT"]
    for _ in range(FUZZ):
        body = bytearray(chooser.choice(seeds))
        for _ in range(chooser.randrange(4)):
            place = chooser.randrange(len(body) + 1)
            body[place : place + chooser.randrange(3)] = chooser.choice(pieces)
        headers = {chooser.choice(names): chooser.choice(values) for _ in range(3)}
        error = service_error(RawResponse(chooser.randrange(100, 600), headers, bytes(body)), now=NOW)
        assert isinstance(error, errors.ServiceError)
        assert error.message
        str(error).encode()  # it can be printed
        pickle.loads(pickle.dumps(error))
