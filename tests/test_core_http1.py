"""`_core/http/http1.py`: a response that RFC 9112 allows is read at every cut; everything else is a ProtocolError."""

from __future__ import annotations

import pytest

from smendpoint._core.http.http1 import MAX_HEAD, ResponseReader
from smendpoint._core.http.syntax import render_head
from smendpoint.errors import ProtocolError

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
FIXED = OK + b"Content-Length: 5\r\n\r\nhello"
LENGTH_5 = {"content-length": "5"}
TE = {"transfer-encoding": "chunked"}

Answer = tuple[bool, int, dict[str, str], bytes, bool]
"""Whether the response is valid, its status, headers and body, and whether its connection is reusable."""


def accepted(
    data: bytes,
    *,
    status: int = 200,
    headers: dict[str, str] = LENGTH_5,
    body: bytes = b"hello",
    reusable: bool = True,
) -> tuple[bytes, Answer]:
    return data, (True, status, headers, body, reusable)


# By what is allowed, with the section of RFC 9112, or of the RFC named.
ACCEPTED: dict[str, tuple[bytes, Answer]] = {
    "4-reason-phrase-empty": accepted(b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello"),
    "4-reason-phrase-any-text": accepted(b"HTTP/1.1 200 \tNa \xefve\r\nContent-Length: 5\r\n\r\nhello"),
    "2.3-newer-minor-version-is-1.1": accepted(b"HTTP/1.7 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    "9.3-http-1.0-is-not-reused": accepted(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", reusable=False),
    "9.3-http-1.0-keep-alive-is-not-reused": accepted(
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
        headers={"connection": "keep-alive", "content-length": "0"},
        body=b"",
        reusable=False,
    ),
    "9.6-connection-close": accepted(
        OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello",
        headers={"connection": "close", **LENGTH_5},
        reusable=False,
    ),
    "9.6-connection-close-in-a-list": accepted(
        OK + b"Connection: x ,\tClose\r\nContent-Length: 5\r\n\r\nhello",
        headers={"connection": "x ,\tClose", **LENGTH_5},
        reusable=False,
    ),
    "9.6-connection-without-close": accepted(
        OK + b"Connection: closed, keep-alive\r\nContent-Length: 5\r\n\r\nhello",
        headers={"connection": "closed, keep-alive", **LENGTH_5},
    ),
    "4-no-space-after-the-code": accepted(b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello"),
    "5-name-in-any-case-value-trimmed": accepted(
        OK + b"X-aMz:\t  a b\t \r\nContent-Length:5\r\n\r\nhello", headers={"x-amz": "a b", **LENGTH_5}
    ),
    "5-value-empty": accepted(
        OK + b"X:\r\nY: \r\nContent-Length: 0\r\n\r\n", headers={"x": "", "y": "", "content-length": "0"}, body=b""
    ),
    "5-value-with-colon-tab-and-obs-text": accepted(
        OK + b"X: a:b\tc\xe9\x80\r\nContent-Length: 0\r\n\r\n",
        headers={"x": "a:b\tc\xe9\x80", "content-length": "0"},
        body=b"",
    ),
    "5-every-token-character-in-a-name": accepted(
        OK + b"!#$%&'*+-.^_`|~09azAZ: v\r\nContent-Length: 0\r\n\r\n",
        headers={"!#$%&'*+-.^_`|~09azaz": "v", "content-length": "0"},
        body=b"",
    ),
    "rfc9110-5.3-repeated-field-is-joined": accepted(
        OK + b"A: 1\r\nB: x\r\na: 2\r\nA:\r\nContent-Length: 0\r\n\r\n",
        headers={"a": "1, 2, ", "b": "x", "content-length": "0"},
        body=b"",
    ),
    "6.3-rule-5-same-length-twice": accepted(OK + b"Content-Length: 5\r\nContent-length: 5\r\n\r\nhello"),
    "6.3-rule-5-same-length-in-a-list": accepted(OK + b"Content-Length: 5 ,5\r\n\r\nhello"),
    "6.3-rule-6-length-zero": accepted(OK + b"Content-Length: 0\r\n\r\n", headers={"content-length": "0"}, body=b""),
    "6.3-rule-6-length-with-zeros-before": accepted(
        OK + b"Content-Length: 005\r\n\r\nhello", headers={"content-length": "005"}
    ),
    "6.3-rule-1-204-has-no-body": accepted(b"HTTP/1.1 204 No Content\r\n\r\n", status=204, headers={}, body=b""),
    "6.3-rule-1-204-length-zero": accepted(
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", status=204, headers={"content-length": "0"}, body=b""
    ),
    "6.3-rule-1-204-that-promises-a-body-is-not-reused": accepted(
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", status=204, body=b"", reusable=False
    ),
    "6.3-rule-1-204-that-promises-chunks-is-not-reused": accepted(
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        status=204,
        headers=TE,
        body=b"",
        reusable=False,
    ),
    "6.3-rule-1-304-has-no-body": accepted(
        b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n",
        status=304,
        headers={"connection": "close"},
        body=b"",
        reusable=False,
    ),
    "6.3-rule-1-a-1xx-length-does-not-count": accepted(
        b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        status=204,
        headers={},
        body=b"",
    ),
    "rfc9110-15-unknown-status": accepted(b"HTTP/1.1 999 Odd\r\nContent-Length: 5\r\n\r\nhello", status=999),
    "rfc9110-15.2-1xx-are-skipped": accepted(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + FIXED
    ),
    "rfc9110-15.2-sixteen-1xx-are-skipped": accepted(b"HTTP/1.1 102 P\r\n\r\n" * 16 + FIXED),
    "7.1-chunks": accepted(CHUNKED + b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", headers=TE, body=b"hello!"),
    "7.1-coding-name-in-any-case": accepted(
        OK + b"Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", headers={"transfer-encoding": "Chunked"}
    ),
    "7.1-no-chunk-but-the-last": accepted(CHUNKED + b"0\r\n\r\n", headers=TE, body=b""),
    "7.1-last-chunk-of-many-zeros": accepted(CHUNKED + b"0000\r\n\r\n", headers=TE, body=b""),
    "7.1-hexadecimal-in-any-case": accepted(
        CHUNKED + b"0a\r\n0123456789\r\n0B\r\nabcdefghijk\r\n0\r\n\r\n", headers=TE, body=b"0123456789abcdefghijk"
    ),
    "7.1-sixteen-digits": accepted(CHUNKED + b"0000000000000005\r\nhello\r\n0\r\n\r\n", headers=TE),
    "7.1-data-that-looks-like-framing": accepted(
        CHUNKED + b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", headers=TE, body=b"\r\n0\r\n\r\n"
    ),
    "7.1.1-chunk-extensions-are-ignored": accepted(
        CHUNKED + b'5;a\r\nhello\r\n1; b=c\t;d = "x;\\"\\\\ y\xe9"\r\n!\r\n0;z\r\n\r\n', headers=TE, body=b"hello!"
    ),
    "7.1.2-trailers-are-dropped": accepted(
        CHUNKED + b"5\r\nhello\r\n0\r\nX-Checksum: abc\r\nX-Checksum: d\r\nY:\r\n\r\n", headers=TE
    ),
    "6.3-rule-1-204-with-connection-close": accepted(
        b"HTTP/1.1 204 No\r\nConnection: close\r\n\r\n",
        status=204,
        headers={"connection": "close"},
        body=b"",
        reusable=False,
    ),
}

# Bodies that the end of the connection ends (6.3 rule 8): bytes, status, headers, body
UNTIL_CLOSE: dict[str, tuple[bytes, int, dict[str, str], bytes]] = {
    "6.3-rule-8-no-length": (OK + b"\r\nhello", 200, {}, b"hello"),
    "6.3-rule-8-empty": (OK + b"\r\n", 200, {}, b""),
    "6.3-rule-8-http-1.0": (b"HTTP/1.0 500 Oops\r\nA: b\r\n\r\n0\r\n\r\n", 500, {"a": "b"}, b"0\r\n\r\n"),
}

REFUSED: dict[str, bytes] = {
    "2.2-empty-line-before-the-status-line": b"\r\n" + FIXED,
    "2.2-bare-lf-everywhere": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    "2.2-bare-lf-after-the-status-line": b"HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\nhello",
    "2.2-bare-lf-after-a-field": OK + b"A: b\nContent-Length: 5\r\n\r\nhello",
    "2.2-bare-lf-ends-the-head": OK + b"Content-Length: 5\r\n\nhello",
    "2.2-bare-lf-while-the-server-waits": OK + b"Content-Length: 0\n",
    "2.2-bare-cr-in-a-value": OK + b"A: b\rc\r\nContent-Length: 5\r\n\r\nhello",
    "2.2-bare-cr-before-crlf": OK + b"A: b\r\r\nContent-Length: 5\r\n\r\nhello",
    "2.2-bare-cr-in-the-status-line": b"HTTP/1.1 200 O\rK\r\nContent-Length: 5\r\n\r\nhello",
    "2.2-space-before-the-first-field": OK + b" Content-Length: 5\r\n\r\nhello",
    "2.3-http-2": b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "2.3-http-0.9": b"<html>hello</html>",
    "2.3-version-in-lower-case": b"http/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "2.3-version-without-minor": b"HTTP/1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "2.3-version-with-two-digit-minor": b"HTTP/1.10 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "2.3-version-with-latin-1-digit": b"HTTP/1.\xb9 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "4-another-protocol": b"SSH-2.0-OpenSSH_9.9\r\n",
    "4-tls-alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "4-status-line-missing": b"Content-Length: 5\r\n\r\nhello",
    "4-status-line-only-version": b"HTTP/1.1\r\n\r\n",
    "4-two-digits-and-no-more": b"HTTP/1.1 20\r\nContent-Length: 5\r\n\r\nhello",
    "4-one-digit-and-no-more": b"HTTP/1.1 2\r\nContent-Length: 5\r\n\r\nhello",
    "4-a-tab-after-the-code": b"HTTP/1.1 200\tOK\r\nContent-Length: 5\r\n\r\nhello",
    "4-not-http-and-a-bare-lf": b"hello\nX: y\r\n\r\n",
    "4-a-wrong-code-and-a-bare-lf": b"HTTP/1.1 abc\nX: y\r\n\r\n",
    "5-a-control-character-and-a-bare-lf": OK + b"X: \x00\nY: y\r\n\r\n",
    "7.1-an-empty-size": CHUNKED + b"\r\nhello\r\n0\r\n\r\n",
    "7.1-no-size-and-a-bare-lf": CHUNKED + b"xyz\nhello\r\n0\r\n\r\n",
    "4-two-spaces-before-the-code": b"HTTP/1.1  200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "4-tab-instead-of-space": b"HTTP/1.1\t200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "4-code-of-two-digits": b"HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello",
    "4-code-of-four-digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello",
    "4-code-not-a-number": b"HTTP/1.1 2x0 OK\r\nContent-Length: 5\r\n\r\nhello",
    "4-code-in-latin-1-digits": b"HTTP/1.1 2\xb2\xb3 OK\r\nContent-Length: 5\r\n\r\nhello",
    "4-code-signed": b"HTTP/1.1 +20 OK\r\nContent-Length: 5\r\n\r\nhello",
    "rfc9110-15-code-under-100": b"HTTP/1.1 099 OK\r\nContent-Length: 5\r\n\r\nhello",
    "4-control-character-in-the-reason-phrase": b"HTTP/1.1 200 O\x01K\r\nContent-Length: 5\r\n\r\nhello",
    "5-line-without-colon": OK + b"Content-Length: 5\r\nConnection\r\n\r\nhello",
    "5-empty-name": OK + b": x\r\nContent-Length: 5\r\n\r\nhello",
    "5-name-with-obs-text": OK + b"\xe9: x\r\nContent-Length: 5\r\n\r\nhello",
    "5-name-with-a-delimiter": OK + b"a(b): x\r\nContent-Length: 5\r\n\r\nhello",
    "5.1-space-before-the-colon": OK + b"Content-Length : 5\r\n\r\nhello",
    "5.1-tab-before-the-colon": OK + b"Content-Length\t: 5\r\n\r\nhello",
    "5.2-folded-field": OK + b"A: b\r\n c\r\nContent-Length: 5\r\n\r\nhello",
    "5.2-folded-with-tab": OK + b"A: b\r\n\tc: d\r\nContent-Length: 5\r\n\r\nhello",
    "rfc9110-5.5-nul-in-a-value": OK + b"A: b\x00c\r\nContent-Length: 5\r\n\r\nhello",
    "rfc9110-5.5-control-character-in-a-value": OK + b"A: b\x0bc\r\nContent-Length: 5\r\n\r\nhello",
    "rfc9110-5.5-delete-in-a-value": OK + b"A: b\x7f\r\nContent-Length: 5\r\n\r\nhello",
    "6.1-unsupported-coding": OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
    "6.1-unsupported-coding-before-chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "6.1-identity": OK + b"Transfer-Encoding: identity\r\n\r\nhello",
    "6.1-empty-coding": OK + b"Transfer-Encoding:\r\n\r\nhello",
    "6.1-chunked-with-parameter": OK + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "6.1-chunked-twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "6.1-chunked-not-last": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "6.1-http-1.0-with-transfer-encoding": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "6.3-rule-3-both-framings": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "6.3-rule-3-both-framings-the-other-order": OK
    + b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
    "6.3-rule-5-conflicting-lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "6.3-rule-5-conflicting-lengths-in-a-list": OK + b"Content-Length: 5, 6\r\n\r\nhello",
    "6.3-rule-5-same-number-spelled-differently": OK + b"Content-Length: 5, 05\r\n\r\nhello",
    "6.3-rule-5-list-with-an-empty-element": OK + b"Content-Length: 5,\r\n\r\nhello",
    "6.3-rule-5-same-bad-length-twice": OK + b"Content-Length: x, x\r\n\r\nhello",
    "6.3-rule-5-empty-length": OK + b"Content-Length:\r\n\r\nhello",
    "6.3-rule-5-negative-length": OK + b"Content-Length: -5\r\n\r\nhello",
    "6.3-rule-5-signed-length": OK + b"Content-Length: +5\r\n\r\nhello",
    "6.3-rule-5-length-with-underscore": OK + b"Content-Length: 0_5\r\n\r\nhello",
    "6.3-rule-5-hexadecimal-length": OK + b"Content-Length: 0x5\r\n\r\nhello",
    "6.3-rule-5-fractional-length": OK + b"Content-Length: 5.0\r\n\r\nhello",
    "6.3-rule-5-length-in-latin-1-digits": OK + b"Content-Length: \xb2\r\n\r\nhe",
    "6.3-rule-5-length-with-a-space": OK + b"Content-Length: 5 5\r\n\r\nhello",
    "6.3-rule-5-length-of-19-digits": OK + b"Content-Length: 0000000000000000005\r\n\r\nhello",
    "6.3-rule-5-length-of-5000-digits": OK + b"Content-Length: " + b"1" * 5000 + b"\r\n\r\nhello",
    "6.3-rule-5-bad-length-of-a-204": b"HTTP/1.1 204 No Content\r\nContent-Length: x\r\n\r\n",
    "6.3-rule-5-bad-length-of-a-1xx": b"HTTP/1.1 103 H\r\nContent-Length: x\r\n\r\n" + FIXED,
    "rfc9110-15.2.2-101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n" + FIXED,
    "rfc9110-15.2-seventeen-1xx": b"HTTP/1.1 102 P\r\n\r\n" * 17 + FIXED,
    "rfc9110-15.2-a-1xx-with-a-body": b"HTTP/1.1 100 C\r\nContent-Length: 5\r\n\r\nhello" + FIXED,
    "7.1-empty-chunk-size": CHUNKED + b"\r\nhello\r\n0\r\n\r\n",
    "7.1-chunk-size-not-hexadecimal": CHUNKED + b"g\r\nhello\r\n0\r\n\r\n",
    "7.1-chunk-size-not-hexadecimal-while-the-server-waits": CHUNKED + b"zz",
    "7.1-chunk-size-with-prefix": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "7.1-chunk-size-signed": CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n",
    "7.1-chunk-size-negative": CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
    "7.1-chunk-size-with-underscore": CHUNKED + b"0_5\r\nhello\r\n0\r\n\r\n",
    "7.1-chunk-size-of-17-digits": CHUNKED + b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    "7.1-chunk-size-after-a-space": CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n",
    "7.1-chunk-size-before-a-space": CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n",
    "7.1-chunk-size-line-ends-in-lf": CHUNKED + b"5\nhello\r\n0\r\n\r\n",
    "7.1-chunk-size-line-with-bare-cr": CHUNKED + b"5\r;a\r\nhello\r\n0\r\n\r\n",
    "7.1-chunk-data-longer-than-its-size": CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n",
    "7.1-chunk-data-ends-in-lf": CHUNKED + b"5\r\nhello\n0\r\n\r\n",
    "7.1-chunk-data-ends-in-cr": CHUNKED + b"5\r\nhello\r0\r\n\r\n",
    "7.1-chunk-data-is-followed-by-the-next-chunk": CHUNKED + b"5\r\nhello0\r\n\r\n",
    "7.1.1-space-between-size-and-extension": CHUNKED + b"5 ;a\r\nhello\r\n0\r\n\r\n",
    "7.1.1-extension-without-name": CHUNKED + b"5;\r\nhello\r\n0\r\n\r\n",
    "7.1.1-extension-without-value": CHUNKED + b"5;a=\r\nhello\r\n0\r\n\r\n",
    "7.1.1-extension-with-open-quote": CHUNKED + b'5;a="b\r\nhello\r\n0\r\n\r\n',
    "7.1.1-extension-without-semicolon": CHUNKED + b"5 a\r\nhello\r\n0\r\n\r\n",
    "7.1.1-extension-with-a-control-character": CHUNKED + b'5;a="\x00"\r\nhello\r\n0\r\n\r\n',
    "7.1.1-extensions-that-are-too-long": CHUNKED + b"5;" + b"a" * 4096 + b"\r\nhello\r\n0\r\n\r\n",
    "7.1.1-extensions-that-never-end": CHUNKED + b"5;" + b"a" * 4094,
    "7.1.2-trailer-without-colon": CHUNKED + b"0\r\nx\r\n\r\n",
    "7.1.2-trailer-with-a-space-before-the-colon": CHUNKED + b"0\r\nx : y\r\n\r\n",
    "7.1.2-trailer-folded": CHUNKED + b"0\r\nx: y\r\n z\r\n\r\n",
    "7.1.2-trailer-ends-in-lf": CHUNKED + b"0\r\nx: y\n\r\n",
    "7.1.2-trailer-with-nul": CHUNKED + b"0\r\nx: \x00\r\n\r\n",
    "7.1.2-trailer-with-bare-cr": CHUNKED + b"0\r\nx: a\rb\r\n\r\n",
    "7.1.2-trailers-end-in-lf": CHUNKED + b"0\r\n\n",
    "rfc9110-6.5.1-content-length-as-a-trailer": CHUNKED + b"0\r\nContent-Length: 0\r\n\r\n",
    "rfc9110-6.5.1-transfer-encoding-as-a-trailer": CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "8-nothing-at-all": b"",
    "8-cut-in-the-version": b"HTT",
    "8-cut-in-the-head": FIXED[:30],
    "8-cut-after-a-1xx": b"HTTP/1.1 100 Continue\r\n\r\n",
    "8-cut-before-the-body": FIXED[:-5],
    "8-cut-in-the-body": FIXED[:-1],
    "8-cut-in-a-chunk-size": CHUNKED + b"5",
    "8-cut-in-a-chunk": CHUNKED + b"5\r\nhell",
    "8-cut-after-a-chunk": CHUNKED + b"5\r\nhello",
    "8-cut-in-the-line-end-of-a-chunk": CHUNKED + b"5\r\nhello\r",
    "8-cut-before-the-last-chunk": CHUNKED + b"5\r\nhello\r\n",
    "8-cut-after-the-last-chunk": CHUNKED + b"5\r\nhello\r\n0\r\n",
    "8-cut-in-the-trailers": CHUNKED + b"5\r\nhello\r\n0\r\nx: y\r\n",
}


def read(pieces: list[bytes], *, eof: bool = False, connect: bool = False) -> Answer:
    reader = ResponseReader(connect=connect)
    body = bytearray()
    try:
        for piece in pieces:
            for part in reader.feed(piece):
                assert isinstance(part, bytes)
                body += part
        if eof or not reader.complete:
            reader.feed_eof()
    except ProtocolError:
        body += b"".join(reader.undelivered)
        assert not reader.complete
        with pytest.raises(ProtocolError):
            reader.feed(b"x")
        with pytest.raises(ProtocolError):
            reader.feed_eof()
        return False, reader.status, reader.headers, bytes(body), reader.reusable
    assert reader.complete
    return True, reader.status, reader.headers, bytes(body), reader.reusable


def read_all(pieces: list[bytes]) -> None:
    reader = ResponseReader()
    for piece in pieces:
        reader.feed(piece)


def refusal(pieces: list[bytes]) -> str | None:
    """The words in which these bytes are refused; `None` where they are not, as far as they go."""
    try:
        read_all(pieces)
    except ProtocolError as error:
        return str(error)
    return None


def bytewise(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


def cuts(data: bytes) -> list[list[bytes]]:
    """The data as a whole, byte by byte, and in two at each place."""
    return [[data], bytewise(data), *([data[:cut], data[cut:]] for cut in range(1, min(len(data), 200)))]


@pytest.mark.parametrize(("data", "answer"), ACCEPTED.values(), ids=ACCEPTED)
class TestAccepted:
    def test_is_read_at_every_cut(self, data: bytes, answer: Answer) -> None:
        for pieces in cuts(data):
            assert read(pieces) == answer

    def test_is_complete_at_its_last_byte_and_not_before(self, data: bytes, answer: Answer) -> None:
        reader = ResponseReader()
        reader.feed(data[:-1])
        assert not reader.complete
        reader.feed(data[-1:])
        assert reader.complete

    def test_with_a_tail_is_the_same_but_not_reusable(self, data: bytes, answer: Answer) -> None:
        assert read([data + b"H"]) == (*answer[:4], False)
        assert read([data, b"HTTP/1.1"]) == (*answer[:4], False)

    def test_with_the_connection_closed_is_the_same_but_not_reusable(self, data: bytes, answer: Answer) -> None:
        assert read([data], eof=True) == (*answer[:4], False)


@pytest.mark.parametrize(("data", "status", "headers", "body"), UNTIL_CLOSE.values(), ids=UNTIL_CLOSE)
class TestUntilClose:
    def test_ends_with_the_connection(self, data: bytes, status: int, headers: dict[str, str], body: bytes) -> None:
        for pieces in ([data], bytewise(data), [data[:-1], data[-1:]]):
            assert read(pieces) == (True, status, headers, body, False)

    def test_is_not_complete_before(self, data: bytes, status: int, headers: dict[str, str], body: bytes) -> None:
        reader = ResponseReader()
        assert b"".join(reader.feed(data)) == body
        assert reader.head_complete
        assert not reader.complete


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
class TestRefused:
    def test_is_refused_with_the_same_result_and_words_at_every_cut(self, data: bytes) -> None:
        whole = read([data]), refusal([data])
        assert not whole[0][0]
        for pieces in cuts(data):
            assert (read(pieces), refusal(pieces)) == whole


@pytest.mark.parametrize(
    "data",
    [
        REFUSED[name]
        for name in (
            "2.2-bare-lf-everywhere",
            "2.2-bare-lf-while-the-server-waits",
            "4-another-protocol",
            "4-tls-alert",
            "7.1-chunk-size-not-hexadecimal-while-the-server-waits",
            "7.1.1-extensions-that-never-end",
        )
    ],
)
def test_bytes_that_can_never_become_a_response_are_refused_before_the_connection_closes(data: bytes) -> None:
    for pieces in ([data], bytewise(data)):
        with pytest.raises(ProtocolError):
            read_all(pieces)


def test_a_tls_answer_says_how_to_cure_it() -> None:
    with pytest.raises(ProtocolError, match="https://"):
        ResponseReader().feed(REFUSED["4-tls-alert"])


def test_errors_never_show_what_was_received() -> None:
    secret = b"hunter2"
    for data in (
        secret,
        b"HTTP/1.1 " + secret + b"\r\n\r\n",
        OK + secret + b"\r\n\r\n",
        OK + b"A(: " + secret + b"\r\n\r\n",
        OK + b"Content-Length: " + secret + b"\r\n\r\n",
        OK + b"Transfer-Encoding: " + secret + b"\r\n\r\n",
        OK + b"A: \x00" + secret + b"\r\n\r\n",
        CHUNKED + secret + b"\r\n",
        CHUNKED + b"1\r\n" + secret,
        CHUNKED + b"0\r\n" + secret + b"\r\n\r\n",
    ):
        with pytest.raises(ProtocolError) as caught:
            ResponseReader().feed(data)
        assert "hunter2" not in repr(caught.value) + str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


def test_an_error_before_the_first_byte_says_that_no_response_started() -> None:
    reader = ResponseReader()
    assert reader.feed(b"") == []
    assert not reader.started
    with pytest.raises(ProtocolError) as caught:
        reader.feed_eof()
    assert not caught.value.response_started


def test_an_error_after_the_first_byte_says_that_a_response_started() -> None:
    reader = ResponseReader()
    reader.feed(b"H")
    assert reader.started
    with pytest.raises(ProtocolError) as caught:
        reader.feed_eof()
    assert caught.value.response_started


def test_a_cut_body_says_how_many_bytes_are_missing() -> None:
    reader = ResponseReader()
    reader.feed(FIXED[:-2])
    with pytest.raises(ProtocolError, match="2 bytes before the end"):
        reader.feed_eof()


def test_a_later_error_is_the_first_one() -> None:
    reader = ResponseReader()
    with pytest.raises(ProtocolError) as first:
        reader.feed(b"SSH-2.0")
    with pytest.raises(ProtocolError) as second:
        reader.feed(FIXED)
    assert first.value.message == second.value.message
    assert first.value is not second.value


def test_body_bytes_before_an_error_are_kept() -> None:
    reader = ResponseReader()
    with pytest.raises(ProtocolError):
        reader.feed(CHUNKED + b"5\r\nhello\r\n1\r\n!oops")
    assert reader.undelivered == [b"hello", b"!"]


def test_body_bytes_are_handed_on_at_once() -> None:
    reader = ResponseReader()
    assert reader.feed(CHUNKED) == []
    assert reader.feed(b"10\r\nab") == [b"ab"]
    assert reader.feed(b"c") == [b"c"]
    assert not reader.complete


def test_a_large_body_is_handed_on_without_copying() -> None:
    piece = b"x" * 1000
    fixed, chunked, until_close = ResponseReader(), ResponseReader(), ResponseReader()
    fixed.feed(OK + b"Content-Length: 3000\r\n\r\n")
    chunked.feed(CHUNKED + b"bb8\r\n")
    until_close.feed(OK + b"\r\n")
    for reader in (fixed, chunked, until_close):
        for _ in range(3):
            [part] = reader.feed(piece)
            assert part is piece


@pytest.mark.parametrize("length", [2_000_000, 10**17])
def test_a_length_is_not_believed_before_its_bytes_come(length: int) -> None:
    reader = ResponseReader()
    assert reader.feed(OK + b"Content-Length: %d\r\n\r\n" % length) == []
    with pytest.raises(ProtocolError):
        reader.feed_eof()


class TestLimits:
    def test_a_head_of_exactly_the_limit_is_read(self) -> None:
        start = OK + b"Content-Length: 0\r\nA: "
        data = start + b"a" * (MAX_HEAD - len(start) - 4) + b"\r\n\r\n"
        assert len(data) == MAX_HEAD
        assert read([data])[0]
        assert read([data[:-1], data[-1:]])[0]

    def test_a_head_of_one_byte_more_is_refused(self) -> None:
        start = OK + b"Content-Length: 0\r\nA: "
        data = start + b"a" * (MAX_HEAD - len(start) - 3) + b"\r\n\r\n"
        for pieces in ([data], [data[:-1], data[-1:]], [data[:50], data[50:]]):
            with pytest.raises(ProtocolError, match=f"longer than {MAX_HEAD} bytes"):
                read_all(pieces)

    def test_a_head_that_never_ends_is_refused_at_the_limit(self) -> None:
        reader = ResponseReader()
        with pytest.raises(ProtocolError):  # noqa: PT012  (how much it takes is the claim)
            for count in range(100):
                reader.feed(OK + b"a: b\r\n" * 170 if not count else b"a: b\r\n" * 170)
        assert count == 64

    def test_each_1xx_head_has_the_limit_of_its_own(self) -> None:
        assert read([(b"HTTP/1.1 103 H\r\nA: " + b"a" * 40_000 + b"\r\n\r\n") * 3 + FIXED])[0]

    def test_trailers_have_the_limit_of_a_head(self) -> None:
        trailer = b"a: " + b"b" * (MAX_HEAD - 7)
        assert len(trailer + b"\r\n\r\n") == MAX_HEAD
        assert read([CHUNKED + b"0\r\n" + trailer + b"\r\n\r\n"])[0]
        longer = CHUNKED + b"0\r\n" + trailer + b"b\r\n\r\n"
        assert not read([longer])[0]
        assert read(bytewise(longer)) == read([longer])

    def test_a_chunk_size_line_of_exactly_the_limit_is_read(self) -> None:
        line = b"5;" + b"a" * (4_096 - 4) + b"\r\n"
        for pieces in ([CHUNKED + line + b"hello\r\n0\r\n\r\n"], bytewise(CHUNKED + line + b"hello\r\n0\r\n\r\n")):
            assert read(pieces) == (True, 200, TE, b"hello", True)

    def test_remembered_status_lines_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        known: dict[str, tuple[int, bool]] = {}
        monkeypatch.setattr("smendpoint._core.http.syntax.status_lines", known)
        for reason in ["OK", "o" * 65_000, *map(str, range(100))]:
            for _ in range(2):
                reader = ResponseReader()
                reader.feed(f"HTTP/1.1 201 {reason}\r\nContent-Length: 0\r\n\r\n".encode())
                assert (reader.status, reader.reusable) == (201, True)
        assert len(known) == 64
        assert max(map(len, known)) <= 64

    def test_remembered_names_are_bounded(self) -> None:
        from smendpoint._core.http import syntax as http1_syntax

        for index in range(2_000):
            name = f"x-{index}"
            data = OK + f"{name}: 1\r\nContent-Length: 0\r\n\r\n".encode()
            assert read([data])[2][name] == "1"
            assert name.encode() in render_head("GET", "/", [(name, "1")])
        assert len(http1_syntax._lower_tokens) <= 512


class TestConnect:
    @pytest.mark.parametrize(
        "data",
        [
            b"HTTP/1.1 200 Connection established\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n",
            b"HTTP/1.1 299 OK\r\nContent-Length: 5\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        ],
    )
    def test_a_2xx_answer_has_no_body_and_the_tunnel_stands(self, data: bytes) -> None:
        for pieces in ([data], bytewise(data)):
            ok, _, _, body, reusable = read(pieces, connect=True)
            assert (ok, body, reusable) == (True, b"", True)

    def test_bytes_before_we_spoke_make_the_tunnel_unusable(self) -> None:
        assert read([b"HTTP/1.1 200 OK\r\n\r\nhello"], connect=True) == (True, 200, {}, b"", False)

    def test_any_other_answer_is_read_as_usual(self) -> None:
        data = b"HTTP/1.1 407 No\r\nContent-Length: 5\r\n\r\nhello"
        assert read([data], connect=True) == (True, 407, LENGTH_5, b"hello", True)


class CountingBytes(bytes):
    """Counts how many bytes are looked at or copied."""

    touched = 0

    def find(self, sub: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]  # narrower
        stop = len(self) if end is None else min(end, len(self))
        found = super().find(sub, start, stop)
        CountingBytes.touched += (found if found >= 0 else stop) - start
        return found

    def __getitem__(self, key: slice | int) -> bytes | int:  # type: ignore[override]  # as bytes does it
        part = super().__getitem__(key)
        CountingBytes.touched += len(part) if isinstance(part, bytes) else 1
        return part


class CountingBuffer(bytearray):
    """Counts how many bytes are looked at."""

    touched = 0

    def find(self, sub: bytes, start: int = 0) -> int:  # type: ignore[override]  # narrower
        CountingBuffer.touched += len(self) - start
        return super().find(sub, start)

    def count(self, sub: bytes, start: int = 0) -> int:  # type: ignore[override]  # narrower
        CountingBuffer.touched += len(self) - start
        return super().count(sub, start)


def touched(pieces: list[bytes]) -> int:
    CountingBytes.touched = CountingBuffer.touched = 0
    reader = ResponseReader()
    reader._buffer = CountingBuffer()
    for piece in pieces:
        reader.feed(CountingBytes(piece))
    return CountingBytes.touched + CountingBuffer.touched


class TestLinear:
    """The bytes that are looked at or copied, counted: a fixed number for each byte that came, however it came."""

    @pytest.mark.parametrize("step", [1, 7, 1_000, 1_000_000])
    @pytest.mark.parametrize(
        "data",
        [
            OK + b"a: b\r\n" * 10_000 + b"Content-Length: 5\r\n\r\nhello",
            OK + b"a: " + b"b" * 60_000 + b"\r\nContent-Length: 5\r\n\r\nhello",
            (b"HTTP/1.1 103 H\r\na: " + b"b" * 4_000 + b"\r\n\r\n") * 16 + FIXED,
            OK + b"Content-Length: 60000\r\n\r\n" + b"x" * 60_000,
            OK + b"\r\n" + b"x" * 60_000,
            CHUNKED + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n",
            CHUNKED + b"ea60\r\n" + b"x" * 60_000 + b"\r\n0\r\n\r\n",
            CHUNKED + (b"1;" + b"a" * 4_000 + b"\r\nx\r\n") * 15 + b"0\r\n\r\n",
            CHUNKED + b"0\r\n" + b"a: b\r\n" * 10_000 + b"\r\n",
            CHUNKED + b"0\r\n" + b"a: " + b"b" * 60_000 + b"\r\n\r\n",
        ],
        ids=["fields", "value", "1xx", "length", "close", "chunks", "chunk", "extensions", "trailers", "trailer"],
    )
    def test_work_grows_with_the_bytes_only(self, data: bytes, step: int) -> None:
        pieces = [data[index : index + step] for index in range(0, len(data), step)]
        # At one byte per feed a search looks back over three bytes, and every byte is looked at for its own sake too.
        assert touched(pieces) <= 10 * len(data)

    def test_repeated_fields_are_joined_once(self) -> None:
        count = 10_000
        data = OK + b"a:b\r\n" * count + b"Content-Length: 0\r\n\r\n"
        assert read([data])[2]["a"] == ", ".join(["b"] * count)


def test_chunks_of_a_known_size_are_read_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"5\r\nhello\r\n" * 3 + b"6\r\n world\r\n" + b"0\r\n\r\n"
    for most in (4096, 0):
        monkeypatch.setattr("smendpoint._core.http.http1._chunk_sizes", {})
        monkeypatch.setattr("smendpoint._core.http.http1._MAX_REMEMBERED_SIZES", most)
        reader = ResponseReader()
        assert reader.feed(CHUNKED + body) == [b"hello"] * 3 + [b" world"]
        assert reader.complete


@pytest.mark.parametrize("line", [b"5\r\nhelloX\n", b"5\r\nhell\r\n0\r\n\r\n", b"5 \r\nhello\r\n", b"g\r\n"])
def test_a_known_size_excuses_nothing(line: bytes) -> None:
    reader = ResponseReader()
    reader.feed(CHUNKED + b"5\r\nhello\r\n")
    with pytest.raises(ProtocolError):
        reader.feed(line)
    assert not reader.complete
