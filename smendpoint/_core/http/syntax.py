"""The syntax of HTTP/1.1's parts: a request's head, field lines, lengths and chunk sizes.

Pure functions under ``http1``. Section numbers in comments are those of RFC 9112 unless another is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint.errors import ConfigurationError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

# RFC 9110 5.6.2: the characters of a field name or a method.
_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# RFC 9110 5.5: no control character except the tab is allowed in a field. CR and LF are counted separately as line
# ends.
CONTROLS = bytes(code for code in range(32) if code != 9) + b"\x7f"
HEX_DIGITS = b"0123456789ABCDEFabcdef"
CHUNKED, UNTIL_CLOSE = -1, -2  # body lengths that a head does not give
_PREFIX = b"HTTP/1."
_VISIBLE = bytes(range(0x21, 0x7F))

# Eighteen digits are less than 2**63 and more than any body; int() of unlimited digits would take quadratic time.
_MAX_LENGTH_DIGITS = 18
_MAX_CHUNK_SIZE_DIGITS = 16
# How many checked tokens are kept: a peer must not be able to fill the memory.
_MAX_REMEMBERED_TOKENS = 512

# A service repeats a few status lines: the status, and whether the peer uses HTTP/1.0, by line.
status_lines: dict[str, tuple[int, bool]] = {}
_MAX_REMEMBERED_STATUS_LINES = 64
_USUAL_STATUS_LINE = 64

_lower_tokens: dict[str, str] = {}


def render_head(method: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Render the head of a request, with the empty line that ends it.

    Args:
        method: the request method, a token such as ``"POST"``.
        target: the request target to send, already percent-encoded.
        headers: name and value pairs, sent in this order and spelling. Values are ASCII.

    Returns:
        The bytes to send before the body.

    Raises:
        ConfigurationError: a part cannot be sent: it has a control character (such as CR, LF or NUL) or a non-ASCII
            character, or a name is not a token. The message never shows a value.
    """
    if not lower_token(method):
        raise ConfigurationError(f"{method!r} is not a valid request method")
    if not target or not target.isascii() or target.encode("ascii").translate(None, _VISIBLE):
        raise ConfigurationError(f"{target!r} is not a valid request target: it must be percent-encoded")
    lines = [f"{method} {target} HTTP/1.1"]
    for name, value in headers:
        if name not in _lower_tokens and not lower_token(name):
            raise ConfigurationError(f"{name!r} is not a valid header name")
        lines.append(f"{name}: {value}")
    lines.append("\r\n")
    text = "\r\n".join(lines)
    if text.isascii():
        head = text.encode("ascii")
        # Deleting every control character must delete exactly our own line ends.
        if len(head.translate(None, CONTROLS)) + 2 * len(lines) == len(head):
            return head
    wrong = [line for line in lines if not line.isascii() or not set(line.encode("ascii")).isdisjoint(CONTROLS)]
    name = wrong[0].partition(":")[0]
    raise ConfigurationError(f"the value of the header {name!r} has a control character or one that is not ASCII")


def lower_token(text: str) -> str:
    """Give a token in lower case; empty for a text that is not one."""
    lower = _lower_tokens.get(text)
    if lower is None:
        if not text.isascii() or text.encode("ascii").translate(None, _TOKEN):
            return ""
        lower = text.lower()
        if text and len(_lower_tokens) < _MAX_REMEMBERED_TOKENS:
            _lower_tokens[text] = lower
    return lower


def malformed(message: str) -> ProtocolError:
    return ProtocolError(f"not a valid HTTP response: {message}", response_started=True)


def parse_status_line(line: str, head: bytes) -> tuple[int, bool]:
    """Return the status code, and whether the peer uses HTTP/1.0."""
    code = line[9:12]
    minor = line[7:8]
    # 4: the space after the code should be there even if no reason phrase follows. Some servers leave out both, and
    # that cannot be misread. str.isdecimal() of Latin-1 text is true for ASCII digits only.
    if (
        line[:7] != "HTTP/1."
        or line[8:9] != " "
        or line[12:13] not in ("", " ")
        or not minor.isdecimal()
        or not code.isdecimal()
        or len(code) != 3
        or code < "100"
    ):
        raise malformed(_foreign(head))
    known = int(code), minor == "0"
    if len(status_lines) < _MAX_REMEMBERED_STATUS_LINES and len(line) <= _USUAL_STATUS_LINE:
        status_lines[line] = known
    return known


def parse_fields(lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    repeated: dict[str, list[str]] | None = None
    for line in lines:
        raw, colon, value = line.partition(":")
        name = _lower_tokens.get(raw) or lower_token(raw)
        if not name:
            if raw[:1] in (" ", "\t"):
                raise malformed("a header line begins with a space: folded headers are obsolete")  # 5.2
            raise malformed("the name of a header is not a token")  # 5.1: a space before the colon too
        if not colon:
            raise malformed("a header line has no colon")
        value = value.strip(" \t")
        if name in fields:
            # Joined at the end: joining one by one would be quadratic.
            if repeated is None:
                repeated = {}
            repeated.setdefault(name, [fields[name]]).append(value)
        else:
            fields[name] = value
    if repeated is not None:
        for name, values in repeated.items():
            fields[name] = ", ".join(values)
    return fields


def body_length(headers: dict[str, str], *, http10: bool) -> int:
    """Return the length of a body by its framing fields (6.3), else `CHUNKED` or `UNTIL_CLOSE`."""
    coding = headers.get("transfer-encoding")
    value = headers.get("content-length")
    if coding is not None:
        if value is not None:
            raise malformed("the response has both Transfer-Encoding and Content-Length")  # rule 3
        if http10:
            raise malformed("the response has a Transfer-Encoding, which HTTP/1.0 does not know")  # 6.1
        if coding.lower() != "chunked":
            # 6.1
            raise malformed("the response has a Transfer-Encoding other than chunked, which was not requested")
        return CHUNKED
    if value is None:
        return UNTIL_CLOSE  # rule 8
    if "," in value:
        # Rule 5: the same valid value several times, in one field or more, is processed as that value. (RFC 9110 8.6
        # would let us refuse it, but the end of such a message is unambiguous.)
        values = {item.strip(" \t") for item in value.split(",")}
        if len(values) != 1:
            raise malformed("the response has conflicting Content-Length values")
        value = values.pop()
        headers["content-length"] = value
    if not value.isdecimal() or len(value) > _MAX_LENGTH_DIGITS:
        raise malformed(f"the Content-Length is not a number of at most {_MAX_LENGTH_DIGITS} digits")
    return int(value)


def chunk_size(line: bytes) -> int:
    digits = line
    if line.translate(None, HEX_DIGITS):
        digits = _without_extensions(line)
    if not 0 < len(digits) <= _MAX_CHUNK_SIZE_DIGITS:
        raise malformed(f"the size of a chunk is not a hexadecimal number of at most {_MAX_CHUNK_SIZE_DIGITS} digits")
    return int(digits, 16)


def _without_extensions(line: bytes) -> bytes:
    import re  # chunk extensions do not occur in practice

    # 7.1.1: they are ignored, but only if they are valid. White space right after the size is bad, but readable by the
    # grammar; parsers differ about it, so it is refused here. (`re` keeps compiled patterns.)
    match = re.fullmatch(
        rb"""([0-9A-Fa-f]+) (?![ \t])
        (?:[ \t]* ; [ \t]* [-!#$%&'*+.^_`|~0-9A-Za-z]+                         # name
            (?:[ \t]* = [ \t]* (?: [-!#$%&'*+.^_`|~0-9A-Za-z]+                # value: a token
                | "(?: [\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff] | \\[\t\x20-\x7e\x80-\xff] )*" )   # or quoted
            )?
        )*""",
        line,
        re.VERBOSE,
    )
    if match is None:
        raise malformed("a chunk-size line is not a hexadecimal number, with or without extensions")
    return match[1]


def check_trailer(line: bytes) -> None:
    if line.translate(None, CONTROLS) != line:
        raise malformed("a trailer has a control character, or a bare CR")
    for name in parse_fields([line.decode("latin-1")]):
        # RFC 9110 6.5.1: a field that frames a message cannot follow it. Its sender frames the message differently.
        if name == "content-length" or name == "transfer-encoding":
            raise malformed("a trailer has a field that frames the message")


def check_beginning(start: bytes | bytearray, known: int) -> None:
    """Refuse bytes that can never become a head, whatever follows. The first `known` bytes were checked before."""
    if not _PREFIX.startswith(start[:7]):
        raise malformed(_foreign(start))
    if start.count(b"\n", known) != start.count(b"\r\n", known - 1 if known else 0):
        raise malformed("a line of the response's head ends in LF without CR")  # 2.2 would let us accept it


def _foreign(start: bytes | bytearray) -> str:
    if start[:1] in (b"\x15", b"\x16"):
        return "the server speaks TLS on this port; the URL must begin with https://"
    return "it does not begin with an HTTP/1.1 status line"


def too_large(limit: int) -> ProtocolError:
    """Make the error for an answer of more than `limit` bytes."""
    return ProtocolError(
        f"the answer has more than {limit:,} bytes: raise max_response_bytes, ask for less, or stream the answer",
        response_started=True,
    )
