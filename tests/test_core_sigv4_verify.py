"""Checking signatures: what was signed is accepted, and what was changed on the way is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signing import sign as sign_request

from smendpoint._core.sigv4 import Credentials, Signer
from smendpoint._core.sigv4_canonical import EMPTY_PAYLOAD_HASH, payload_hash
from smendpoint._core.sigv4_verify import Authorization, parse_authorization, verify, verify_presigned

Headers = list[tuple[str, str]]

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEYS = Credentials("AKIDEXAMPLE", SECRET)
HOST = ("Host", "runtime.sagemaker.us-east-1.amazonaws.com")
WHEN = 1440938160.0  # 2015-08-30T12:36:00Z
PATH = "/endpoints/my-endpoint/invocations"


def sign(*, keys: Credentials = KEYS, headers: Headers) -> Headers:
    return sign_request(
        Signer(region="us-east-1"),
        method="POST",
        path=PATH,
        headers=headers,
        payload_hash=EMPTY_PAYLOAD_HASH,
        credentials=keys,
        timestamp=WHEN,
    )


def check(headers: Headers, **changes: object) -> bool:
    arguments: dict[str, object] = {
        "method": "POST",
        "path": PATH,
        "query": "",
        "headers": headers,
        "payload_hash": EMPTY_PAYLOAD_HASH,
        "credentials": KEYS,
        "region": "us-east-1",
    }
    return verify(**{**arguments, **changes})  # type: ignore[arg-type]  # a table of changes has no single type


SENT = [HOST, ("Content-Type", "text/csv"), ("X-Amz-Meta", "1")]


def signed_request() -> Headers:
    return [*SENT, *sign(headers=SENT), ("User-Agent", "added later")]


def test_a_signed_request_is_accepted() -> None:
    assert check(signed_request())


def test_a_signed_request_is_accepted_with_temporary_credentials_and_odd_spacing() -> None:
    keys = Credentials("AKIDEXAMPLE", SECRET, "token")
    added = [(name, f"  {value} ") for name, value in sign(keys=keys, headers=[HOST])]
    assert check([HOST, *added], credentials=keys)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "PUT"},
        {"path": "/endpoints/other/invocations"},
        {"query": "a=b"},
        {"payload_hash": payload_hash(b"other")},
        {"credentials": Credentials("AKIDEXAMPLE", "wrong")},
        {"credentials": Credentials("AKIDOTHER", SECRET)},
        {"credentials": Credentials("AKIDEXAMPLE", SECRET, "token")},
        {"region": "us-west-2"},
        {"service": "s3"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_request_that_was_signed_for_something_else_is_refused(changes: dict[str, object]) -> None:
    assert not check(signed_request(), **changes)


def without(name: str) -> Headers:
    return [header for header in signed_request() if header[0] != name]


def replaced(name: str, old: str, new: str) -> Headers:
    return [(key, value.replace(old, new) if key == name else value) for key, value in signed_request()]


@pytest.mark.parametrize(
    "headers",
    [
        without("Authorization"),
        without("X-Amz-Date"),
        without("Content-Type"),
        replaced("Content-Type", "csv", "tsv"),
        replaced("X-Amz-Date", "20150830", "20150831"),
        replaced("X-Amz-Date", "123600", "123601"),
        replaced("X-Amz-Date", "Z", ""),
        replaced("Authorization", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512"),
        replaced("Authorization", "aws4_request", "aws5_request"),
        replaced("Authorization", "host;", ""),
        replaced("Authorization", ";x-amz-meta", ""),
        replaced("Authorization", "Signature=", "Signature=é"),
        replaced("Authorization", "Signature=", "Signature=0"),
        replaced("Authorization", "SignedHeaders=", "Signed="),
        [*signed_request(), ("X-Amz-Later", "unsigned")],
        [*signed_request(), ("X-Amz-Security-Token", "unsigned")],
        [*signed_request(), ("Authorization", "Bearer x")],
    ],
)
def test_a_request_that_was_changed_on_the_way_is_refused(headers: Headers) -> None:
    assert not check(headers)


def test_an_authorization_header_is_taken_apart() -> None:
    value = (
        "AWS4-HMAC-SHA256 Credential=a/b/20150830/us-east-1/sagemaker/aws4_request,SignedHeaders=host;x, Signature=f0"
    )
    assert parse_authorization(value) == Authorization("a/b", "20150830", "us-east-1", "sagemaker", ("host", "x"), "f0")


@given(st.text() | st.text().map("AWS4-HMAC-SHA256 Credential=".__add__))
def test_any_authorization_header_is_taken_apart_or_is_none(value: str) -> None:
    parsed = parse_authorization(value)
    assert parsed is None or parsed.signature


@given(st.text("X-Amz=&%é\x00SignatureDate2015", max_size=60))
def test_any_query_string_can_be_checked(query: str) -> None:
    assert not verify_presigned(method="GET", url_host="h", path="/", query=query, credentials=KEYS, region="us-east-1")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Action=Call", "Action=Other"),
        ("X-Amz-Expires=60", "X-Amz-Expires=600000"),
        ("AKIDEXAMPLE", "AKIDOTHER"),
        ("X-Amz-Date=2015", "X-Amz-Date=2016"),
        ("X-Amz-Signature=", "X-Amz-Signature=é"),
        ("Action=Call", "Action=Call&Action=Call"),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=hosts"),
        ("&X-Amz-Signature=", "&X-Amz-Security-Token=t&X-Amz-Signature="),
    ],
)
def test_a_presigned_query_that_was_changed_is_refused(old: str, new: str) -> None:
    query = Signer(region="us-east-1").presign(
        method="POST",
        url_host="sagemaker.amazonaws.com",
        path="/",
        query=[("Action", "Call")],
        credentials=KEYS,
        timestamp=WHEN,
        expires=60,
    )

    def accepted(text: str) -> bool:
        return verify_presigned(
            method="POST",
            url_host="sagemaker.amazonaws.com",
            path="/",
            query=text,
            credentials=KEYS,
            region="us-east-1",
        )

    assert accepted(query)
    assert old in query
    assert not accepted(query.replace(old, new))
