"""The head of an attempt: addressed, signed, rendered."""

from __future__ import annotations

import pytest
from signing import sign

from smendpoint._core.aws import renderer
from smendpoint._core.aws.operations import INVOKE_ENDPOINT, request_head
from smendpoint._core.aws.renderer import CallRequest, RequestRenderer
from smendpoint._core.aws.sigv4 import Credentials, Signer, payload_hash
from smendpoint._core.call.flow import Send

WHO = Credentials("AKIDEXAMPLE", "secret", "token")


def make_renderer(base_path: str = "", prefix: str = "") -> RequestRenderer:
    return RequestRenderer(
        region="us-west-2",
        host_header="runtime.sagemaker.us-west-2.amazonaws.com",
        base_path=base_path,
        target_prefix=prefix,
        extra_headers=(("User-Agent", "smendpoint/1"),),
    )


def make_request(body: bytes = b"{}", **members: object) -> CallRequest:
    head = request_head(INVOKE_ENDPOINT, "my-llm", members)
    return CallRequest(INVOKE_ENDPOINT, "my-llm", members, head, body, "an-id")


def send(attempt: int = 1, credentials: Credentials | None = WHO) -> Send:
    return Send(attempt, 3, credentials, 1_440_938_160.0, None, None)


def headers_of(head: bytes) -> dict[str, str]:
    lines = head.decode("ascii").removesuffix("\r\n\r\n").split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in lines)


def test_a_head_is_signed_as_the_signer_would_sign_it() -> None:
    request = make_request(b"hello", ContentType="text/plain", TargetVariant="blue")
    headers = headers_of(make_renderer().render(request, send()))
    expected = sign(
        Signer(region="us-west-2"),
        method="POST",
        path="/endpoints/my-llm/invocations",
        headers=[("Host", "runtime.sagemaker.us-west-2.amazonaws.com"), *request.head.headers],
        payload_hash=payload_hash(b"hello"),
        credentials=WHO,
        timestamp=1_440_938_160.0,
    )
    assert {name: headers[name] for name, _ in expected} == dict(expected)
    assert headers["Content-Length"] == "5"
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"] == "smendpoint/1"


def test_attempts_share_an_id_and_count_up() -> None:
    request = make_request()
    ours = make_renderer()
    rendered = [headers_of(ours.render(request, send(attempt))) for attempt in (1, 2, 5)]
    assert [headers["amz-sdk-request"] for headers in rendered] == [
        "attempt=1; max=3",
        "attempt=2; max=3",
        "attempt=5; max=5",
    ]
    assert {headers["amz-sdk-invocation-id"] for headers in rendered} == {"an-id"}


def test_permanent_credentials_send_no_token() -> None:
    assert "X-Amz-Security-Token" not in headers_of(
        make_renderer().render(make_request(), send(1, Credentials("A", "s")))
    )


def test_without_credentials_nothing_is_signed() -> None:
    headers = headers_of(make_renderer().render(make_request(), send(1, None)))
    assert "Authorization" not in headers
    assert "X-Amz-Date" not in headers


@pytest.mark.parametrize(
    ("base_path", "prefix", "target"),
    [
        ("", "", b"/endpoints/my-llm/invocations"),
        ("/base", "", b"/base/endpoints/my-llm/invocations"),
        ("", "http://127.0.0.1:1", b"http://127.0.0.1:1/endpoints/my-llm/invocations"),
    ],
)
def test_the_target_has_what_the_address_puts_before_it(base_path: str, prefix: str, target: bytes) -> None:
    assert (
        make_renderer(base_path, prefix).render(make_request(), send()).startswith(b"POST " + target + b" HTTP/1.1\r\n")
    )


def test_the_body_is_hashed_once_for_all_attempts() -> None:
    request = make_request()
    first = request.hash_body()
    assert request.hash_body() is first


def test_calls_with_members_of_their_own_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderer, "MAX_KNOWN", 2)
    ours = make_renderer()
    for number in range(5):
        ours.render(make_request(InferenceId=f"call-{number}"), send())
    assert len(ours._known) <= 2


def test_each_second_and_each_credentials_are_signed_for_themselves() -> None:
    """The kept part of one signing never ends up in another."""
    request, ours = make_request(), make_renderer()
    attempts = [
        Send(1, 3, who, moment, None, None)
        for who in (WHO, Credentials("AKIDOTHER", "other", "a-token"), Credentials("AKIDOTHER", "other", "b-token"))
        for moment in (1_440_938_160.0, 1_440_938_160.9, 1_440_938_161.0, 1_450_000_000.0)
    ]
    for attempt in (*attempts, *reversed(attempts)):
        assert ours.render(request, attempt) == make_renderer().render(request, attempt)
    assert len({ours.render(request, attempt) for attempt in attempts}) == 9
