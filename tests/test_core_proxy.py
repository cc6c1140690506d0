"""`_core/http/proxy.py`: a proxy gets the headers that botocore sends it, and passwords are never shown."""

from __future__ import annotations

import base64

from botocore.httpsession import ProxyConfiguration
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._aws.url import parse_proxy


def test_a_repr_and_a_shown_url_hide_the_credentials() -> None:
    proxy = parse_proxy("http://hunter1:hunter2@[::1]:3128", source="HTTPS_PROXY")
    assert repr(proxy) == "Proxy(http://***@[::1]:3128)"
    assert proxy.url == "http://[::1]:3128"
    assert repr(parse_proxy("proxy", source="HTTPS_PROXY")) == "Proxy(http://proxy:80)"


def test_credentials_are_sent_as_utf_8() -> None:
    [(name, value)] = parse_proxy("http://us%C3%A9r:p%E2%82%AC@proxy", source="HTTPS_PROXY").headers()
    assert name == "Proxy-Authorization"
    assert base64.b64decode(value.removeprefix("Basic ")).decode("utf-8") == "usér:p€"


PRINTABLE = st.text([chr(code) for code in range(0x21, 0x7F)], min_size=1)


@given(PRINTABLE.filter(lambda text: ":" not in text), PRINTABLE)
def test_credentials_are_those_that_botocore_sends(username: str, password: str) -> None:
    def encoded(text: str) -> str:
        return "".join(f"%{ord(character):02x}" for character in text)

    url = f"http://{encoded(username)}:{encoded(password)}@proxy:3128"
    assert dict(parse_proxy(url, source="HTTPS_PROXY").headers()) == ProxyConfiguration().proxy_headers_for(url)
