"""Signatures: equal to botocore's, and equal to the published vectors."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import threading
from pathlib import Path
from urllib.parse import unquote

import pytest
from botocore.auth import SIGNED_HEADERS_BLACKLIST, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import example, given
from hypothesis import strategies as st
from signing import sign as sign_request
from vectors import VECTORS, require_vectors

from smendpoint._core.aws.sigv4 import (
    EMPTY_PAYLOAD_HASH,
    UNSIGNED_HEADERS,
    Credentials,
    Hmac,
    Signer,
    canonical_headers,
    canonical_path,
    canonical_query,
    payload_hash,
    signed_headers,
)
from smendpoint.errors import ConfigurationError, CredentialsError

Headers = list[tuple[str, str]]

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEYS = Credentials("AKIDEXAMPLE", SECRET)
HOST = ("Host", "runtime.sagemaker.us-east-1.amazonaws.com")
WHEN = 1440938160.0  # 2015-08-30T12:36:00Z
STAMP = "20150830T123600Z"
PATH = "/endpoints/my-endpoint/invocations"

TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Headers that both signers treat apart, that botocore acts on, or that an older botocore still signs.
RESERVED = {
    *UNSIGNED_HEADERS.difference(SIGNED_HEADERS_BLACKLIST),
    "host",
    "date",
    "authorization",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
}


@st.composite
def any_case(draw: st.DrawFn, names: st.SearchStrategy[str]) -> str:
    name = draw(names)
    return draw(st.sampled_from([name, name.upper(), name.title()]))


header_names = any_case(
    st.one_of(
        st.sampled_from(sorted(UNSIGNED_HEADERS)),
        st.sampled_from(["Content-Type", "Accept", "X-Amzn-SageMaker-Target-Variant", "x-amz-meta", "a", "A", "Z"]),
        st.text(TOKEN_CHARACTERS, min_size=1, max_size=20),
    )
).filter(lambda name: name.lower() not in RESERVED)
header_values = st.text(
    st.one_of(
        st.sampled_from(" \t\v\f\x1c\x1f\x85\xa0\u2003\u3000,;:\"'"),
        st.characters(max_codepoint=0x2FFF, exclude_categories=["Cs"]),
    ),
    max_size=30,
)
visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
credentials = st.builds(
    Credentials,
    visible,
    st.text(st.characters(exclude_categories=["Cs"]).filter(lambda letter: not letter.isspace()), min_size=1),
    st.none() | visible,
)
regions = st.from_regex(r"[a-z]{2}(-[a-z]{2,4}){1,2}-[0-9]", fullmatch=True)
clocks = st.floats(0, 253_402_300_799, allow_nan=False) | st.floats(1.4e9, 2e9)
paths = st.lists(
    st.sampled_from([".", "..", "", "endpoints", "a%20b", "a b", "~x", "café", "%2F", "a:b@c+d;e=f,g", "-._"])
    | st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="?#"), max_size=8),
    max_size=5,
).map(lambda segments: "/" + "/".join(segments))
queries = st.lists(
    st.tuples(*[st.text("abAB019-._~%+/:@!$'()*,;", max_size=6)] * 2).map("=".join) | st.sampled_from(["a", "a=", ""]),
    max_size=4,
).map("&".join)


def botocore_credentials(keys: Credentials) -> BotocoreCredentials:
    return BotocoreCredentials(keys.access_key, keys.secret_key, keys.token)


def stamp_of(clock: float) -> str:
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=int(clock))
    return f"{moment:%Y%m%dT%H%M%SZ}"


def signed_by_botocore(auth: SigV4Auth, request: AWSRequest, stamp: str) -> AWSRequest:
    # These are the steps of add_auth, with our clock instead of the machine's.
    request.context["timestamp"] = stamp
    auth._modify_request_before_signing(request)
    text = auth.string_to_sign(request, auth.canonical_request(request))
    auth._inject_signature_to_request(request, auth.signature(text, request))
    return request


def test_every_header_that_botocore_leaves_unsigned_stays_unsigned() -> None:
    assert set(SIGNED_HEADERS_BLACKLIST) <= UNSIGNED_HEADERS


@given(
    headers=st.lists(st.tuples(header_names, header_values), max_size=8),
    body=st.binary(max_size=64),
    keys=credentials,
    region=regions,
    service=st.sampled_from(["sagemaker", "s3x", "execute-api"]),
    clock=clocks,
    path=paths,
    query=queries,
    method=st.sampled_from(["POST", "GET", "PUT"]),
)
@example(
    [("X-A", "  a \t b  "), ("x-a", "c"), ("User-Agent", "x")], b"{}", KEYS, "us-east-1", "s", WHEN, "/", "", "GET"
)
def test_every_signature_equals_botocores(
    headers: Headers,
    body: bytes,
    keys: Credentials,
    region: str,
    service: str,
    clock: float,
    path: str,
    query: str,
    method: str,
) -> None:
    ours = sign_request(
        Signer(region=region, service=service),
        method=method,
        path=path,
        query=query,
        headers=[HOST, *headers],
        payload_hash=payload_hash(body),
        credentials=keys,
        timestamp=clock,
    )
    request = AWSRequest(method, f"https://{HOST[1]}{path}" + (f"?{query}" if query else ""), data=body)
    for name, value in [HOST, *headers]:
        request.headers[name] = value
    auth = SigV4Auth(botocore_credentials(keys), service, region)
    theirs = signed_by_botocore(auth, request, stamp_of(clock))

    expected = [("X-Amz-Date", theirs.headers["X-Amz-Date"])]
    if keys.token is not None:
        expected.append(("X-Amz-Security-Token", theirs.headers["X-Amz-Security-Token"]))
    assert ours == [*expected, ("Authorization", theirs.headers["Authorization"])]


@given(
    query=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
            lambda name: not name.startswith("X-Amz")
        ),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        max_size=4,
    ),
    keys=credentials,
    region=regions,
    clock=clocks,
    path=paths,
    expires=st.integers(1, 604_800),
)
def test_every_presigned_query_equals_botocores(
    query: dict[str, str], keys: Credentials, region: str, clock: float, path: str, expires: int
) -> None:
    ours = Signer(region=region).presign(
        method="POST",
        url_host="sagemaker.amazonaws.com",
        path=path,
        query=list(query.items()),
        credentials=keys,
        timestamp=clock,
        expires=expires,
    )
    request = AWSRequest("POST", f"https://sagemaker.amazonaws.com{path}", params=query)
    request.headers["host"] = "sagemaker.amazonaws.com"
    auth = SigV4QueryAuth(botocore_credentials(keys), "sagemaker", region, expires=expires)
    theirs = signed_by_botocore(auth, request, stamp_of(clock))

    assert ours == theirs.url.partition("?")[2]


@pytest.mark.parametrize("folder", ["", "base"])
def test_signing_sorts_its_headers_whatever_their_order_and_case(folder: str) -> None:
    first = sign(headers=[HOST, ("B", "1"), ("a", "2")], path=f"/{folder}")
    assert first == sign(headers=[("A", "2"), HOST, ("b", "1")], path=f"/{folder}")


# The published suite ------------------------------------------------------------------------------------------------


class Vector:
    """One folder of the suite."""

    def __init__(self, folder: Path) -> None:
        context = json.loads((folder / "context.json").read_text("utf-8"))
        raw = (folder / "request.txt").read_text("utf-8")
        head, _, body = raw.partition("\n\n")
        first, *lines = head.split("\n")
        self.folder = folder
        self.method, _, rest = first.partition(" ")
        target = rest.rpartition(" ")[0]
        self.path, _, self.query = target.partition("?")
        self.headers: Headers = []
        for line in lines:
            if line[:1] == " ":  # a folded line belongs to the header above
                name, value = self.headers[-1]
                self.headers[-1] = (name, f"{value}\n{line}")
            elif line:
                name, _, value = line.partition(":")
                self.headers.append((name, value))
        self.body_hash = payload_hash(body.encode())
        self.sign_body: bool = context["sign_body"]
        self.region: str = context["region"]
        self.service: str = context["service"]
        self.expires: int = context["expiration_in_seconds"]
        moment = datetime.datetime.strptime(context["timestamp"], "%Y-%m-%dT%H:%M:%S%z")
        self.timestamp = moment.timestamp()
        given_keys = context["credentials"]
        self.token: str | None = given_keys.get("token")
        # "omit": the token is added to the request after signing, so nothing of it is signed.
        self.token_unsigned: bool = context.get("omit_session_token", False)
        signed_token = None if self.token_unsigned else self.token
        self.keys = Credentials(given_keys["access_key_id"], given_keys["secret_access_key"], signed_token)
        self.signer = Signer(region=self.region, service=self.service)

    def text(self, name: str) -> str:
        return (self.folder / name).read_text("utf-8").strip()


FOLDERS = sorted(path.name for path in (VECTORS / "sigv4-aws-c-auth").glob("*") if path.is_dir())
# Only Amazon S3 has paths signed as they stand.
NORMALIZED = [name for name in FOLDERS if not name.endswith("-unnormalized")]


def vector(name: str) -> Vector:
    return Vector(require_vectors("sigv4-aws-c-auth") / name)


def test_the_published_suite_is_there_as_a_whole() -> None:
    require_vectors("sigv4-aws-c-auth")
    assert len(FOLDERS) == 38


@pytest.mark.parametrize("name", NORMALIZED)
def test_header_signatures_are_those_of_the_published_suite(name: str) -> None:
    case = vector(name)
    headers = [*case.headers, ("x-amz-content-sha256", case.body_hash)] if case.sign_body else case.headers
    added = sign_request(
        case.signer,
        method=case.method,
        path=case.path,
        query=case.query,
        headers=headers,
        payload_hash=case.body_hash,
        credentials=case.keys,
        timestamp=case.timestamp,
    )
    # The last line but one of the canonical request lists the signed headers.
    signed = case.text("header-canonical-request.txt").split("\n")[-2]
    stamp = dict(added)["X-Amz-Date"]
    assert dict(added)["Authorization"] == (
        f"AWS4-HMAC-SHA256 Credential={case.keys.access_key}/{stamp[:8]}/{case.region}/{case.service}/aws4_request, "
        f"SignedHeaders={signed}, Signature={case.text('header-signature.txt')}"
    )


@pytest.mark.parametrize("name", NORMALIZED)
def test_query_signatures_are_those_of_the_published_suite(name: str) -> None:
    case = vector(name)
    pairs = [pair.partition("=")[::2] for pair in case.query.split("&")] if case.query else []
    query = case.signer.presign(
        method=case.method,
        url_host="example.amazonaws.com",
        path=case.path,
        query=[(unquote(key), unquote(value)) for key, value in pairs],
        headers=[header for header in case.headers if header[0] != "Host"],
        payload_hash=case.body_hash,
        credentials=case.keys,
        timestamp=case.timestamp,
        expires=case.expires,
    )
    assert query.endswith(f"X-Amz-Signature={case.text('query-signature.txt')}")
    target = case.text("query-signed-request.txt").split("\n")[0].rpartition(" ")[0].partition("?")[2]
    theirs = sorted(unquote(pair) for pair in target.split("&") if not (case.token_unsigned and "Security" in pair))
    assert sorted(unquote(pair) for pair in query.split("&")) == theirs


# The signer's caches ------------------------------------------------------------------------------------------------


def sign(
    *,
    signer: Signer | None = None,
    keys: Credentials = KEYS,
    when: float = WHEN,
    path: str = PATH,
    query: str = "",
    headers: Headers | None = None,
) -> Headers:
    return sign_request(
        signer or Signer(region="us-east-1"),
        method="POST",
        path=path,
        query=query,
        headers=[HOST] if headers is None else headers,
        payload_hash=EMPTY_PAYLOAD_HASH,
        credentials=keys,
        timestamp=when,
    )


@given(
    calls=st.lists(
        st.tuples(
            st.sampled_from(
                [KEYS, Credentials("AKIDEXAMPLE", "other"), Credentials("AKID2", SECRET), Credentials("A", SECRET, "t")]
            ),
            st.sampled_from([WHEN, WHEN + 0.9, WHEN + 1, WHEN + 86_400]),
            st.sampled_from(["/a", "/b", "/a/../b"]),
        ),
        max_size=12,
    )
)
def test_a_signer_that_has_signed_before_signs_like_a_new_one(calls: list[tuple[Credentials, float, str]]) -> None:
    signer = Signer(region="us-east-1")
    for keys, when, path in calls:
        assert sign(signer=signer, keys=keys, when=when, path=path) == sign(keys=keys, when=when, path=path)


def test_threads_that_share_a_signer_get_their_own_signatures() -> None:
    signer = Signer(region="us-east-1")
    wrong: list[int] = []

    def work(number: int) -> None:
        keys = Credentials(f"AKID{number}", f"secret{number}")
        wanted = [sign(keys=keys, when=WHEN + 86_400 * day) for day in range(4)]
        for turn in range(200):
            if sign(signer=signer, keys=keys, when=WHEN + 86_400 * (turn % 4)) != wanted[turn % 4]:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_headers_to_add_come_in_their_usual_order() -> None:
    added = sign(keys=Credentials("AKIDEXAMPLE", SECRET, "token"))
    assert [name for name, _ in added] == ["X-Amz-Date", "X-Amz-Security-Token", "Authorization"]
    assert added[0][1] == STAMP


def test_a_request_without_host_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Host"):
        sign(headers=[("Content-Type", "text/plain")])


@pytest.mark.parametrize("name", ["Authorization", "X-Amz-Date", "x-amz-security-token"])
def test_a_header_that_signing_adds_must_not_be_there_before(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name.lower()} is added by signing"):
        sign(headers=[HOST, (name, "old")])


def test_text_that_is_not_unicode_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigurationError, match="surrogates") as caught:
        sign(headers=[HOST, ("X-Amzn-SageMaker-Custom-Attributes", "hidden\ud800")])
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    with pytest.raises(ConfigurationError, match="surrogates"):
        Signer(region="us-east-1").presign(
            method="GET", url_host="h", path="/\ud800", credentials=KEYS, timestamp=WHEN, expires=1
        )


# Canonical forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("", "/"),
        ("/", "/"),
        ("//a/./b/../c//", "/a/c/"),
        ("/../..", "/"),
        ("/a%20b", "/a%2520b"),
        ("/é", "/%C3%A9"),
    ],
)
def test_a_path_is_resolved_and_encoded_once_more(path: str, canonical: str) -> None:
    assert canonical_path(path) == canonical


def test_a_query_is_sorted_and_every_name_gets_its_equals_sign() -> None:
    assert canonical_query("b=2&a&b=1&c=%20") == "a=&b=1&b=2&c=%20"


@pytest.mark.parametrize("body", [b"", b"{}", bytes(100_000)])
def test_a_payload_hash_is_sha256_in_hexadecimal(body: bytes) -> None:
    assert payload_hash(body) == hashlib.sha256(body).hexdigest()
    assert payload_hash(b"") == EMPTY_PAYLOAD_HASH


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 200])
def test_an_hmac_is_the_standard_librarys_whatever_the_keys_length(length: int) -> None:
    key = bytes(range(length))
    assert Hmac(key).hexdigest(b"message") == hmac.new(key, b"message", "sha256").hexdigest()


def test_headers_are_folded_by_name_and_what_changes_on_the_way_is_left_out() -> None:
    headers = [("B", " 1\t 2 "), ("User-Agent", "x"), ("b", "3"), ("A", ""), ("Connection", "close")]
    signed = signed_headers(headers)
    assert signed == {"b": "1 2,3", "a": ""}
    assert canonical_headers(signed) == ("a:\nb:1 2,3\n\na;b\n", "a;b")


# Credentials --------------------------------------------------------------------------------------------------------


def test_credentials_never_show_their_secret_or_token() -> None:
    shown = repr(Credentials("AKIDEXAMPLE", SECRET, "session-token"))
    assert SECRET not in shown
    assert "session-token" not in shown
    assert shown == "Credentials(access_key='AKIDEXAMPLE', temporary=True)"


def test_an_empty_token_is_the_same_as_none() -> None:
    assert Credentials("a", "b", "").token is None


@pytest.mark.parametrize(
    ("access_key", "secret_key", "token"),
    [
        ("", SECRET, None),
        ("AKID", "", None),
        ("AKID\r\nX: y", SECRET, None),
        ("AKID EXAMPLE", SECRET, None),
        ("AKIDé", SECRET, None),
        ("AKID", SECRET, "token\n"),
        (None, SECRET, None),
        ("AKID", b"secret", None),
        ("AKID", SECRET, 5),
    ],
)
def test_credentials_that_no_header_can_carry_are_refused(access_key: str, secret_key: str, token: str | None) -> None:
    with pytest.raises(CredentialsError) as caught:
        Credentials(access_key, secret_key, token)
    assert SECRET not in str(caught.value)
