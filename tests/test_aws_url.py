"""smendpoint._aws.url: where signed requests may go."""

from __future__ import annotations

import ipaddress
import os
import random
import socket
import urllib.parse

import pytest
from botocore.utils import is_valid_uri
from hypothesis import given
from hypothesis import strategies as st

from smendpoint._aws.url import EndpointURL, parse_endpoint_url, parse_proxy
from smendpoint.errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://host.example", ("https", "host.example", 443, "host.example", "")),
        ("HTTPS://Host.EXAMPLE:443/", ("https", "host.example", 443, "host.example", "")),
        ("https://host.example:8443", ("https", "host.example", 8443, "host.example:8443", "")),
        ("https://h/base/path", ("https", "h", 443, "h", "/base/path")),
        ("https://h/base/", ("https", "h", 443, "h", "/base")),
        ("https://h/a%20b", ("https", "h", 443, "h", "/a%20b")),
        ("http://127.0.0.1:8080", ("http", "127.0.0.1", 8080, "127.0.0.1:8080", "")),
        ("http://127.9.9.9", ("http", "127.9.9.9", 80, "127.9.9.9", "")),
        ("http://localhost:80", ("http", "localhost", 80, "localhost", "")),
        ("http://sagemaker.localhost", ("http", "sagemaker.localhost", 80, "sagemaker.localhost", "")),
        ("http://[::1]:9000/x", ("http", "::1", 9000, "[::1]:9000", "/x")),
        ("http://[::FFFF:127.0.0.1]", ("http", "::ffff:127.0.0.1", 80, "[::ffff:127.0.0.1]", "")),
        ("https://[2001:db8::1]", ("https", "2001:db8::1", 443, "[2001:db8::1]", "")),
        ("https://10.0.0.7", ("https", "10.0.0.7", 443, "10.0.0.7", "")),
        ("https://3com.example", ("https", "3com.example", 443, "3com.example", "")),
    ],
)
def test_a_good_url_is_taken_apart(url: str, expected: tuple[object, ...]) -> None:
    assert parse_endpoint_url(url) == EndpointURL(*expected, loopback_only=url.lower().startswith("http:"))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (None, "string"),
        (b"https://h", "string"),
        ("", "empty"),
        ("host.example", "whole URL"),
        ("host.example:443", "whole URL"),
        ("ftp://h", "must start with"),
        ("https://" + "a" * 2048, "longer"),
        ("https://h h", "ASCII"),
        ("https://h\t", "ASCII"),
        ("https://h\r\nX: y", "ASCII"),
        ("https://h\x00", "ASCII"),
        ("https://hö", "ASCII"),
        ("https://h?x=1", "query"),
        ("https://h#f", "fragment"),
        ("https://h\\@evil.example", "backslash"),
        ("https://user:hunter2@h", "user name"),
        ("https://x@evil.example:443/", "user name"),
        ("https://", "host name"),
        ("https:///path", "host name"),
        ("https://.h", "host name"),
        ("https://h.", "host name"),
        ("https://a..b", "host name"),
        ("https://-h", "host name"),
        ("https://h-", "host name"),
        ("https://h_h", "host name"),
        ("https://" + "a" * 64, "host name"),
        ("https://" + ".".join(["a" * 60] * 5), "host name"),
        ("https://h%2eevil", "host name"),
        ("https://h:", "port"),
        ("https://h:0", "port"),
        ("https://h:65536", "port"),
        ("https://h:000080", "port"),
        ("https://h:8a", "port"),
        ("https://h:1:2", "port"),
        ("https://[::1", "IPv6"),
        ("https://[::1]x", "IPv6"),
        ("https://[::1%eth0]", "IPv6"),
        ("https://[nope]", "IPv6"),
        ("https://1.2.3", "IPv4"),
        ("https://1.2.3.4.5", "IPv4"),
        ("https://256.1.1.1", "IPv4"),
        ("https://0251.254.169.254", "IPv4"),
        ("https://2852039166", "IPv4"),
        ("https://0xa9fea9fe", "IPv4"),
        ("https://169.0xfe.169.0xfe", "IPv4"),
        ("https://h/a b", "ASCII"),
        ('https://h/a"b', "percent-encoded"),
        ("https://h/a%2", "percent-encoding"),
        ("https://h/a%zz", "percent-encoding"),
        ("https://h/../x", "dot segment"),
        ("https://h/x/%2E%2e", "dot segment"),
        ("https://h/./x", "dot segment"),
        ("https://h//", "empty"),
        ("https://h/a//b", "empty"),
    ],
)
def test_a_bad_url_is_refused_without_being_repeated(url: object, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as caught:
        parse_endpoint_url(url)
    assert "hunter2" not in str(caught.value)
    assert "endpoint_url" in str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.0.1",
        "[fd00:ec2::254]",
        "[fd00:ec2::23]",
        "[fe80::1]",
        "[febf::1]",
        "[::ffff:169.254.169.254]",
        "[::169.254.169.254]",
        "[64:ff9b::169.254.169.254]",
        "[2002:a9fe:a9fe::1]",
        "instance-data",
        "instance-data.ec2.internal",
        "METADATA.google.internal",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_link_local_and_metadata_addresses_are_refused_unless_allowed(scheme: str, host: str) -> None:
    with pytest.raises(ConfigurationError, match="metadata"):
        parse_endpoint_url(f"{scheme}://{host}", allow_plain_http=True)
    place = parse_endpoint_url(f"{scheme}://{host}", allow_plain_http=True, allow_link_local=True)
    assert place.host_header == host.lower()


@pytest.mark.parametrize("host", ["host.example", "10.0.0.7", "[2001:db8::1]", "localhost.example", "0.0.0.0"])
def test_plain_http_may_leave_this_machine_only_if_allowed(host: str) -> None:
    with pytest.raises(ConfigurationError, match="plain http"):
        parse_endpoint_url(f"http://{host}")
    assert parse_endpoint_url(f"http://{host}", allow_plain_http=True).scheme == "http"


@given(st.text(alphabet=st.sampled_from("ahttps:/.@?#[]%\\-_0127xF \t\n\x00é"), max_size=40) | st.text(max_size=40))
def test_whatever_is_accepted_means_the_same_to_the_standard_library_and_to_botocore(text: str) -> None:
    url = text if "://" in text else "https://" + text
    try:
        place = parse_endpoint_url(url, allow_plain_http=True, allow_link_local=True)
    except ConfigurationError:
        return
    parts = urllib.parse.urlsplit(url)
    assert is_valid_uri(url)
    assert (parts.hostname, parts.scheme) == (place.host, place.scheme)
    assert (parts.port or {"http": 80, "https": 443}[place.scheme]) == place.port
    assert parts.path.removesuffix("/") == place.base_path
    assert parts.username is None
    assert not parts.query
    assert not parts.fragment


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "username", "password"),
    [
        ("http://proxy.example:3128", "http", "proxy.example", 3128, None, None),
        ("http://proxy.example:3128/", "http", "proxy.example", 3128, None, None),
        ("http://proxy.example", "http", "proxy.example", 80, None, None),
        ("https://proxy.example", "https", "proxy.example", 443, None, None),
        ("HTTP://Proxy.EXAMPLE:8080", "http", "proxy.example", 8080, None, None),
        ("HTTP://10.0.0.1:8080", "http", "10.0.0.1", 8080, None, None),
        ("proxy_1:3128", "http", "proxy_1", 3128, None, None),
        ("//proxy.example:3128", "http", "proxy.example", 3128, None, None),
        ("http://[::1]:3128", "http", "::1", 3128, None, None),
        ("http://[fd00::1]", "http", "fd00::1", 80, None, None),
        ("http://user:secret@proxy:1", "http", "proxy", 1, "user", "secret"),
        ("user:secret@proxy:1", "http", "proxy", 1, "user", "secret"),
        ("http://us%40er:p%3Aa%2Fss%25@proxy:1", "http", "proxy", 1, "us@er", "p:a/ss%"),
        ("http://user:p@ss:w@proxy:1", "http", "proxy", 1, "user", "p@ss:w"),
        ("http://us%C3%A9r:p%E2%82%AC@proxy:1", "http", "proxy", 1, "usér", "p€"),
        ("http://user:100%@proxy:1", "http", "proxy", 1, "user", "100%"),
        ("http://token@proxy:1", "http", "proxy", 1, "token", ""),
        ("http://:secret@proxy:1", "http", "proxy", 1, "", "secret"),
        ("http://@proxy:1", "http", "proxy", 1, None, None),
        ("http://:@proxy:1", "http", "proxy", 1, None, None),
    ],
)
def test_a_proxy_url_is_read(
    url: str, scheme: str, host: str, port: int, username: str | None, password: str | None
) -> None:
    proxy = parse_proxy(url, source="HTTPS_PROXY")
    assert (proxy.scheme, proxy.host, proxy.port) == (scheme, host, port)
    assert (proxy.username, proxy.password) == (username, password)
    assert proxy.tls is (scheme == "https")


@pytest.mark.parametrize(
    "url",
    [
        3128,
        None,
        "",
        "http://proxy.example:",
        "http://pro_xy:1?x",
        "http://",
        "http://:3128",
        "http://user:hunter2@",
        "http://user:hunter2@:1",
        "http://user:hunter2@pro xy:1",
        "http://user:hunter2@proxy:0",
        "http://user:hunter2@proxy:65536",
        "http://user:hunter2@proxy:000080",
        "http://user:hunter2@proxy:8o",
        "http://user:hunter2@proxy:²",
        "http://user:hunter2@proxy:1/path",
        "http://user:hunter2@proxy:1?query",
        "http://user:hunter2@pröxy:1",
        "http://user:hunter2@[::1:1",
        "http://user:hunter2@[::1]1",
        "http://user:hunter2@[]:1",
        "http://user:hunter2@[proxy]:1",
        "http://user:hunter2@proxy\r\nX: y",
        "http://us%3Aer:hunter2@proxy:1",
        "http://user:hunter2%0d%0a@proxy:1",
        "http://user:hunter2%00@proxy:1",
        "http://user:hunter2%7f@proxy:1",
        "http://user:hunter2%ff@proxy:1",
    ],
)
def test_a_malformed_proxy_url_is_refused_and_never_shown(url: object) -> None:
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY") as caught:
        parse_proxy(url, source="HTTPS_PROXY")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4", "SOCKS", "ftp", "", "hunter2:"])
def test_another_kind_of_proxy_is_refused_with_the_cure(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match="pass client=") as caught:
        parse_proxy(f"{scheme}://user:hunter2@proxy:1080", source="HTTPS_PROXY")
    assert "hunter2" not in str(caught.value)


@given(st.text())
def test_any_text_is_a_proxy_or_a_configuration_error(text: str) -> None:
    for url in (text, f"http://{text}", f"http://{text}@proxy"):
        try:
            proxy = parse_proxy(url, source="HTTPS_PROXY")
        except ConfigurationError:
            continue
        assert parse_proxy(proxy.url, source="HTTPS_PROXY").url == proxy.url
        assert all(value.isascii() and value.isprintable() for _, value in proxy.headers())


SEEDS = [
    "https://runtime.sagemaker.us-east-1.amazonaws.com",
    "https://runtime.sagemaker.us-east-1.amazonaws.com:443/base",
    "http://127.0.0.1:8080/",
    "http://localhost:8080",
    "http://[::1]:8080",
    "https://[fd00:ec2::254]",
    "https://169.254.169.254",
    "https://2852039166",
    "https://u:p@evil.example",
    "https://[::ffff:a9fe:a9fe]/x",
]
PIECES = [*".:/@?#[]%\\-_ \t\r\n\x000123456789abcdefxXhttps", "://", "169.254.", "127.", "0x", "é", "٣", "evil.example"]


def address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a resolver reads from the host without a query."""
    try:
        return ipaddress.ip_address(socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)[0][4][0])
    except (OSError, ValueError):
        return None


def test_mutated_urls_lead_to_no_forbidden_place() -> None:
    generator = random.Random(20)
    accepted = 0
    for _ in range(int(os.environ.get("SMENDPOINT_FUZZ", "3000"))):
        text = generator.choice(SEEDS)
        for _ in range(generator.randrange(4)):
            start = generator.randrange(len(text) + 1)
            text = text[:start] + generator.choice(PIECES) + text[start + generator.randrange(3) :]
        try:
            place = parse_endpoint_url(text)
        except ConfigurationError:
            continue
        accepted += 1
        assert urllib.parse.urlsplit(text).hostname == place.host
        assert urllib.parse.urlsplit(f"{place.scheme}://{place.host_header}{place.base_path}/x").hostname == place.host
        numeric = address(place.host)
        if numeric is not None:
            assert not numeric.is_link_local
            assert numeric != ipaddress.ip_address("fd00:ec2::254")
            mapped = getattr(numeric, "ipv4_mapped", None)
            assert mapped is None or not mapped.is_link_local
        if place.scheme == "http":
            mapped = getattr(numeric, "ipv4_mapped", None) or numeric
            assert "localhost" in place.host or (mapped is not None and mapped.is_loopback)
    assert accepted > 100
