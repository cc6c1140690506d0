"""Refuse successes that were not requested: a part of the answer, an encoded body, a page of HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint.errors import HandlerError, ProtocolError, StreamDecodeError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Successes that hold less than the whole (RFC 9110 15.3.7, RFC 3229 10.4.1). A client must request them.
PARTIAL_STATUSES = {206: "a part of the answer", 226: "a difference to another answer"}
# A page may have these before its first tag: a byte order mark, and white space.
_BEFORE_A_TAG = b"\xef\xbb\xbf \t\r\n"
_PAGES = ("text/html", "application/xhtml+xml")
_SENDER = "look for a proxy, a gateway or a cache between here and the service"


def not_asked_for(status: int, headers: Mapping[str, str]) -> ProtocolError | None:
    """Make the error for a success that is not whole and plain; `None` for every other answer."""
    if not 200 <= status < 300:
        return None
    if status in PARTIAL_STATUSES:
        return ProtocolError(
            f"the answer has the status {status}: it is only {PARTIAL_STATUSES[status]}, which was not requested; "
            f"{_SENDER}",
            response_started=True,
        )
    codings = [coding.strip().lower() for coding in headers.get("content-encoding", "").split(",")]
    if all(coding in ("", "identity") for coding in codings):
        return None
    return ProtocolError(
        f"the answer's body is encoded (Content-Encoding: {_shown(headers['content-encoding'])}), which was not "
        f"requested; {_SENDER}, or a container that compresses regardless of the request",
        response_started=True,
    )


def refuse_page(headers: Mapping[str, str], body: bytes, accept: object) -> None:
    """Refuse a page of HTML instead of a model's answer.

    Both the type and the text must be those of a page: some containers label every answer as HTML, and a model may
    write a page. A handler that names the type in `accept` gets the page.

    Raises:
        HandlerError: it is a page.
    """
    kind = media_type(headers.get("content-type", ""))
    if kind not in _PAGES or not body.lstrip(_BEFORE_A_TAG).startswith(b"<"):
        return
    if kind not in str(accept).lower():
        raise HandlerError(f"{_page(kind)}. To accept pages, name {kind} in the handler's accepts")


def page_of_stream(headers: Mapping[str, str]) -> StreamDecodeError | None:
    """Make the error for a page of HTML instead of an event stream; `None` for everything else."""
    kind = media_type(headers.get("content-type", ""))
    return StreamDecodeError(f"{_page(kind)}, and not an event stream") if kind in _PAGES else None


def media_type(value: str) -> str:
    """Give the type without its parameters, in lower case; empty where it is missing or cannot be shown."""
    return _shown(value.partition(";")[0].strip().lower())


def _page(kind: str) -> str:
    return (
        f"the answer is a page of HTML (Content-Type: {kind}), such as a login page or a gateway's: check the "
        "endpoint URL, and any proxy between here and the service"
    )


def _shown(value: str) -> str:
    return value if value.isascii() and value.isprintable() and len(value) <= 100 else ""
