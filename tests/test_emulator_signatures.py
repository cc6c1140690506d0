"""Checking signatures: what was signed is accepted, and what was changed on the way is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signing import bearer, presign
from signing import sign as sign_request

from smendpoint._core.aws.sigv4 import Credentials, Signer, payload_hash
from smendpoint.emulator import ReceivedRequest
from smendpoint.emulator._auth import Authorization, check_bearer, check_signature, parse_authorization

Headers = list[tuple[str, str]]

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEYS = Credentials("AKIDEXAMPLE", SECRET)
TEMPORARY = Credentials("AKIDEXAMPLE", SECRET, "to/k+en=")
HOST = ("host", "runtime.sagemaker.us-east-1.amazonaws.com")
WHEN = 1440938160.0  # 2015-08-30T12:36:00Z
PATH = "/endpoints/my-endpoint/invocations"


def sign(keys: Credentials, headers: Headers, *, service: str = "sagemaker", body: bytes = b"") -> Headers:
    return sign_request(
        Signer(region="us-east-1", service=service),
        method="POST",
        path=PATH,
        headers=headers,
        payload_hash=payload_hash(body),
        credentials=keys,
        timestamp=WHEN,
    )


def accepted(
    headers: Headers,
    *,
    method: str = "POST",
    target: str = PATH,
    body: bytes = b"",
    keys: Credentials = KEYS,
    region: str = "us-east-1",
) -> bool:
    folded: dict[str, str] = {}
    lines = [(name.lower(), value.strip()) for name, value in headers]
    for name, value in lines:
        folded[name] = f"{folded[name]}, {value}" if name in folded else value
    request = ReceivedRequest("InvokeEndpoint", "my-endpoint", method, target, folded, body, 1, header_list=lines)
    reply = check_signature(request, keys, region, WHEN)
    assert reply is None or reply.status == 403
    return reply is None


SENT = [HOST, ("content-type", "text/csv"), ("x-amz-meta", "1")]


def signed_request() -> Headers:
    return [*SENT, *sign(KEYS, SENT), ("User-Agent", "added later")]


def test_a_signed_request_is_accepted() -> None:
    assert accepted(signed_request())


def test_a_signed_request_is_accepted_with_a_header_that_comes_twice_and_odd_spacing() -> None:
    headers = [*SENT, ("x-amz-meta", " 2   3 ")]
    assert accepted([*headers, *sign(KEYS, headers)])


def test_a_signed_request_is_accepted_with_temporary_credentials() -> None:
    assert accepted([HOST, *sign(TEMPORARY, [HOST])], keys=TEMPORARY)


@pytest.mark.parametrize(("body", "whole"), [(b"{}", True), (b"{ }", False)])
def test_the_body_counts_and_not_the_hash_that_a_header_says(body: bytes, whole: bool) -> None:
    headers = [HOST, ("x-amz-content-sha256", payload_hash(b"{}"))]
    assert accepted([*headers, *sign(KEYS, headers, body=b"{}")], body=body) is whole


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "PUT"},
        {"target": "/endpoints/other/invocations"},
        {"target": f"{PATH}?a=b"},
        {"body": b"other"},
        {"keys": Credentials("AKIDEXAMPLE", "wrong")},
        {"keys": Credentials("AKIDOTHER", SECRET)},
        {"keys": TEMPORARY},
        {"region": "us-west-2"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_request_that_was_signed_for_something_else_is_refused(changes: dict[str, object]) -> None:
    assert not accepted(signed_request(), **changes)  # type: ignore[arg-type]  # a table of changes has no one type


def test_a_request_that_was_signed_for_another_service_is_refused() -> None:
    assert not accepted([*SENT, *sign(KEYS, SENT, service="s3")])


def without(name: str) -> Headers:
    return [header for header in signed_request() if header[0].lower() != name]


def replaced(name: str, old: str, new: str) -> Headers:
    changed = [(key, value.replace(old, new) if key.lower() == name else value) for key, value in signed_request()]
    assert changed != signed_request()
    return changed


@pytest.mark.parametrize(
    "headers",
    [
        without("authorization"),
        without("x-amz-date"),
        without("content-type"),
        replaced("content-type", "csv", "tsv"),
        replaced("x-amz-date", "20150830", "20150831"),
        replaced("x-amz-date", "123600", "123601"),
        replaced("x-amz-date", "Z", ""),
        replaced("authorization", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512"),
        replaced("authorization", "aws4_request", "aws5_request"),
        replaced("authorization", "host;", ""),
        replaced("authorization", ";x-amz-meta", ""),
        replaced("authorization", "host;", "host;missing;"),
        replaced("authorization", "Signature=", "Signature=é"),
        replaced("authorization", "Signature=", "Signature=0"),
        replaced("authorization", "SignedHeaders=", "Signed="),
        [*signed_request(), ("X-Amz-Later", "unsigned")],
        [*signed_request(), ("X-Amz-Security-Token", "unsigned")],
        [*signed_request(), ("Authorization", "Bearer x")],
    ],
)
def test_a_request_that_was_changed_on_the_way_is_refused(headers: Headers) -> None:
    assert not accepted(headers)


def test_an_authorization_header_is_taken_apart() -> None:
    value = (
        "AWS4-HMAC-SHA256 Credential=a/b/20150830/us-east-1/sagemaker/aws4_request,SignedHeaders=host;x, Signature=f0"
    )
    assert parse_authorization(value) == Authorization("a/b", "20150830", "us-east-1", "sagemaker", ("host", "x"), "f0")


@given(st.text() | st.text().map("AWS4-HMAC-SHA256 Credential=".__add__))
def test_any_authorization_header_is_taken_apart_or_is_none(value: str) -> None:
    parsed = parse_authorization(value)
    assert parsed is None or parsed.signature


def bearer_accepted(query: str, keys: Credentials = KEYS) -> bool:
    headers = {"authorization": f"Bearer {bearer(query)}"}
    request = ReceivedRequest("OpenAI", "my-endpoint", "POST", "/endpoints/my-endpoint/openai/v1", headers, b"", 1)
    reply = check_bearer(request, keys, "us-east-1", WHEN)
    assert reply is None or reply.status == 403
    return reply is None


@given(st.text("X-Amz=&%é\x00SignatureDate2015", max_size=60))
def test_any_query_string_can_be_checked(query: str) -> None:
    assert not bearer_accepted(query)


def test_a_presigned_query_is_accepted_with_temporary_credentials() -> None:
    assert bearer_accepted(presign(TEMPORARY, WHEN), TEMPORARY)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Action=Call", "Action=Other"),
        ("X-Amz-Expires=60", "X-Amz-Expires=600"),
        ("AKIDEXAMPLE", "AKIDOTHER"),
        ("X-Amz-Date=2015", "X-Amz-Date=2016"),
        ("X-Amz-Signature=", "X-Amz-Signature=é"),
        ("X-Amz-Signature=", "X-Amz-Signature=0"),
        ("Action=CallWithBearerToken", "Action=Other&Action=CallWithBearerToken"),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=hosts"),
        ("&X-Amz-Signature=", "&X-Amz-Security-Token=t&X-Amz-Signature="),
        ("&X-Amz-Signature=", "#&X-Amz-Signature="),
    ],
)
def test_a_presigned_query_that_was_changed_is_refused(old: str, new: str) -> None:
    query = presign(KEYS, WHEN, expires=60)
    assert bearer_accepted(query)
    assert old in query
    assert not bearer_accepted(query.replace(old, new))
