"""`_core/http/syntax.py`: a request's head is sent as it was meant, or not at all."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._core.http.syntax import render_head
from smendpoint.errors import ConfigurationError

TOKEN = "!#$%&'*+-.^_`|~0123456789ABCXYZabcxyz"


def test_a_head_is_rendered_in_the_given_order_and_spelling() -> None:
    head = render_head(
        "POST", "/endpoints/x/invocations?a=b", [("Host", "h"), ("X-a", "1"), ("x-A", ""), ("T", "a\tb")]
    )
    assert head == b"POST /endpoints/x/invocations?a=b HTTP/1.1\r\nHost: h\r\nX-a: 1\r\nx-A: \r\nT: a\tb\r\n\r\n"


def test_a_head_without_fields_is_rendered() -> None:
    assert render_head("CONNECT", "host:443", ()) == b"CONNECT host:443 HTTP/1.1\r\n\r\n"


def test_headers_may_be_any_iterable() -> None:
    assert render_head("GET", "/", iter([("Host", "h")])) == b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize("method", ["", "PO ST", "GET\r\n", "G\x00T", "GÉT", "GET:"])
def test_a_bad_method_is_refused(method: str) -> None:
    with pytest.raises(ConfigurationError, match="not a valid request method"):
        render_head(method, "/", [])


@pytest.mark.parametrize("target", ["", "/a b", "/a\r\nX: y", "/\x00", "/é", "/\t", "/\x7f", "/ HTTP/1.1"])
def test_a_bad_target_is_refused(target: str) -> None:
    with pytest.raises(ConfigurationError, match="not a valid request target"):
        render_head("GET", target, [])


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "é", "a\x00", "a\n", "(a)"])
def test_a_bad_header_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="not a valid header name"):
        render_head("GET", "/", [("A", "b"), (name, "x")])


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\rb", "a\nb", "\x00", "\x1f", "\x7f", "é", "日本", "\ud800", "\r\n"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_header_value_is_refused_by_name_and_never_shown(value: str, place: int) -> None:
    headers = [("First", "1"), ("Second", "2"), ("Third", "3")]
    headers[place] = (headers[place][0], "hunter2" + value)
    with pytest.raises(ConfigurationError, match=repr(headers[place][0])) as caught:
        render_head("GET", "/", headers)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None


@given(
    st.text(TOKEN, min_size=1),
    st.text([chr(code) for code in range(0x21, 0x7F)], min_size=1),
    st.lists(st.tuples(st.text(TOKEN, min_size=1), st.text([*map(chr, range(0x20, 0x7F)), "\t"]))),
)
def test_h11_reads_what_was_meant(method: str, target: str, headers: list[tuple[str, str]]) -> None:
    headers = [(f"x{name}", value) for name, value in headers]  # none that would frame a body
    server = h11.Connection(h11.SERVER)
    server.receive_data(render_head(method, target, [("Host", "h"), *headers]))
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method.decode(), request.target.decode()) == (method, target)
    assert [(name.decode(), value.decode()) for name, value in request.headers.raw_items()] == [
        ("Host", "h"),
        *((name, value.strip(" \t")) for name, value in headers),
    ]


@given(
    st.text() | st.sampled_from(["GET", "POST"]),
    st.text() | st.just("/"),
    st.lists(st.tuples(st.text() | st.just("A"), st.text() | st.sampled_from(["x", "a\r\nb: c"]))),
)
def test_any_text_is_rendered_as_one_head_or_refused(method: str, target: str, headers: list[tuple[str, str]]) -> None:
    try:
        head = render_head(method, target, headers)
    except ConfigurationError:
        return
    lines = head.decode("ascii").split("\r\n")
    assert lines == [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    assert head.count(b"\n") == head.count(b"\r") == len(headers) + 2
