"""The request of a conversation: its operation, the model's path and query, the seed of its signatures."""

from __future__ import annotations

import enum
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._core.aws.operations import (
    INVOKE_ENDPOINT,
    INVOKE_ENDPOINT_CONVERSATION,
    render_query,
    request_head,
    validate_invocation_path,
)
from smendpoint._core.aws.sigv4 import STREAMING_EVENTS, Credentials, Signer
from smendpoint.errors import ConfigurationError

PATH = "ModelInvocationPath"
QUERY = "ModelQueryString"


def test_the_members_are_headers_of_the_request() -> None:
    members = {"TargetVariant": "blue", PATH: "v1/listen", QUERY: "model=nova-3"}
    assert request_head(INVOKE_ENDPOINT_CONVERSATION, "ep", members) == (
        "/endpoints/ep/invocations-bidirectional-stream",
        (
            ("X-Amzn-SageMaker-Target-Variant", "blue"),
            ("X-Amzn-SageMaker-Model-Invocation-Path", "v1/listen"),
            ("X-Amzn-SageMaker-Model-Query-String", "model=nova-3"),
        ),
    )


@pytest.mark.parametrize(("name", "most"), [("TargetVariant", 63), (PATH, 100), (QUERY, 2048)])
def test_a_member_may_be_as_long_as_its_limit_and_not_longer(name: str, most: int) -> None:
    assert request_head(INVOKE_ENDPOINT_CONVERSATION, "ep", {name: "a" * most}).headers[0][1] == "a" * most
    with pytest.raises(ConfigurationError, match=f"{name} must have 1 to {most} characters, not {most + 1}"):
        request_head(INVOKE_ENDPOINT_CONVERSATION, "ep", {name: "a" * (most + 1)})


def test_an_unknown_member_is_refused_and_the_operation_that_has_it_is_named() -> None:
    with pytest.raises(
        ConfigurationError, match=r"has no member 'SessionId' \(InvokeEndpoint .*; it has TargetVariant"
    ):
        request_head(INVOKE_ENDPOINT_CONVERSATION, "ep", {"SessionId": "x"})
    with pytest.raises(ConfigurationError, match=r"\(InvokeEndpointWithBidirectionalStream has it\)"):
        request_head(INVOKE_ENDPOINT, "ep", {PATH: "x"})


# --- the path


@pytest.mark.parametrize("path", ["invocations", "v1/listen", "a/b/c", "...", "a..b/.c", "a%20b", "~v1/x:y@z"])
def test_a_path_of_segments_is_taken_as_it_is(path: str) -> None:
    assert validate_invocation_path(path) == path


@pytest.mark.parametrize(
    "path", ["", "/", "/v1", "v1/", "v1//listen", ".", "..", "./v1", "v1/.", "../v1", "v1/..", "v1/../x", "a/./b"]
)
def test_a_path_that_could_become_another_one_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"segments with one '/' between two of them"):
        validate_invocation_path(path)


@pytest.mark.parametrize("path", ["v1/h\u00e9", "a b", "a\r\nb", "a\0", "v1?model=x", "v1#x", "\ud800", "v1/\u2028"])
def test_a_path_with_characters_that_it_cannot_hold_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"visible ASCII characters without '\?' and '#'"):
        validate_invocation_path(path)


@pytest.mark.parametrize("path", [None, b"v1", 5])
def test_a_path_of_another_type_is_refused(path: Any) -> None:
    with pytest.raises(ConfigurationError, match="the path must be a str, not "):
        validate_invocation_path(path)


# --- the query


class Color(str, enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({}, ""),
        ({"model": "nova-3", "rate": 16_000, "gain": 0.5}, "model=nova-3&rate=16000&gain=0.5"),
        ({"on": True, "off": False}, "on=true&off=false"),
        ({"word": ["a b", "c&d=e"], "n": (1, True, 1e-07)}, "word=a%20b&word=c%26d%3De&n=1&n=true&n=1e-07"),
        ({"none": [], "empty": ""}, "empty="),
        ({"gr\u00fc\u00df": "\U0001f600"}, "gr%C3%BC%C3%9F=%F0%9F%98%80"),
        ({"enum": Color.RED, "level": Level.HIGH, "most": 2**64 - 1}, "enum=red&level=3&most=18446744073709551615"),
    ],
    ids=str,
)
def test_a_query_is_rendered(query: dict[str, Any], text: str) -> None:
    assert render_query(query) == text


SCALARS = st.one_of(
    st.text(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False, allow_infinity=False), st.booleans()
)


def test_a_number_that_python_does_not_print_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="a finite number of at most 64 bits"):
        render_query({"a": 10**5000})


@given(st.dictionaries(st.text(), st.one_of(SCALARS, st.lists(SCALARS), st.lists(SCALARS).map(tuple))))
def test_any_query_is_the_one_of_the_standard_library_and_reads_the_same(query: dict[str, Any]) -> None:
    pairs = [
        (name, str(value).lower() if isinstance(value, bool) else str(value))
        for name, values in query.items()
        for value in (values if isinstance(values, (list, tuple)) else (values,))
    ]
    text = render_query(query)
    assert text == urlencode(pairs, quote_via=quote, safe="")
    assert parse_qsl(text, keep_blank_values=True) == pairs
    assert text.isascii()
    assert text.isprintable()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"a": None}, "the value of 'a' in the query must be a str, int, float or bool, .* not NoneType"),
        ({"a": b"x"}, "not bytes"),
        ({"a": {"b": 1}}, "not dict"),
        ({"a": [["x"]]}, "not list"),
        ({"a": {1}}, "not set"),
        ({"a": 2**64}, "a finite number of at most 64 bits"),
        ({"a": float("nan")}, "a finite number"),
        ({"a": [1.0, float("-inf")]}, "a finite number"),
        ({"a": "\ud800"}, "the value of 'a' in the query has unpaired surrogates"),
        ({"\udfff": "a"}, "a name in the query has unpaired surrogates"),
        ({5: "a"}, "a name in the query must be a str, not int"),
        ([("a", "b")], "the query must be a mapping, not list"),
        ("a=b", "the query must be a mapping, not str"),
    ],
)
def test_a_query_that_cannot_be_sent_is_refused_without_its_values(query: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        render_query(query)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# --- the seed


def test_the_signature_of_a_request_whose_body_is_events_is_botocores() -> None:
    host, path = "runtime.sagemaker.us-east-1.amazonaws.com:8443", "/endpoints/ep/invocations-bidirectional-stream"
    headers = [
        ("Content-Type", "application/vnd.amazon.eventstream"),
        ("X-Amz-Content-SHA256", STREAMING_EVENTS),
        ("X-Amzn-SageMaker-Model-Invocation-Path", "v1/listen"),
    ]
    keys = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "token")
    signing = Signer(region="us-east-1").signable(method="POST", path=path, headers=[("Host", host), *headers])
    signature = signing.at(keys, 1440938160.0).signature(STREAMING_EVENTS)

    request = AWSRequest("POST", f"https://{host}{path}", headers=dict(headers))
    request.context["timestamp"] = "20150830T123600Z"
    oracle = SigV4Auth(BotocoreCredentials(keys.access_key, keys.secret_key, keys.token), "sagemaker", "us-east-1")
    request.headers["X-Amz-Date"] = request.context["timestamp"]
    request.headers["X-Amz-Security-Token"] = "token"
    assert signature == oracle.signature(oracle.string_to_sign(request, oracle.canonical_request(request)), request)
