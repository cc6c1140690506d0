"""The hint in an error when a container ignores ``Accept`` and answers in another format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint._core.http.unexpected import media_type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint.errors import SmendpointError

# Types that say nothing about the content, and those that streams have for any `Accept`.
_ANY = ("", "application/octet-stream", "binary/octet-stream")
_STREAMS = ("text/event-stream", "application/jsonlines", "application/x-ndjson", "application/jsonl")


def say_ignored(
    error: SmendpointError, headers: Mapping[str, str], accept: object, handler: object, *, streamed: bool
) -> None:
    """Add the answer's ``Content-Type`` and the request's ``Accept`` to a handler's error, once, if they differ.

    Args:
        error: the error of the handler, which could not read the answer.
        headers: the headers of the answer, with lower-case names.
        accept: the requested type; ``None`` for any type.
        handler: the handler; the hint names its ``response=``, if a value of it reads the type of the answer.
        streamed: whether the answer is a stream, which may have a type of streams.
    """
    kind = media_type(headers.get("x-amzn-sagemaker-content-type") or headers.get("content-type", ""))
    asked = str(accept or "*/*")
    if kind in _ANY or (streamed and kind in _STREAMS) or _takes(asked, kind) or "Content-Type" in error.message:
        return
    cure = ""
    if hasattr(handler, "response"):
        from smendpoint.handlers.tabular import READERS

        cure = "".join(
            f" {type(handler).__name__} reads that with response={name!r}."
            for name, (read, *_) in READERS.items()
            if read == kind
        )
    error.message = (
        f"{error.message} | Hint: the container ignored Accept: {media_type(asked)} was requested, but the answer's "
        f"Content-Type is {kind}.{cure}"
    )


def _takes(accept: str, kind: str) -> bool:
    ranges = [media_type(item) for item in accept.split(",")]
    return any(item in ("*/*", kind, f"{kind.partition('/')[0]}/*") for item in ranges)
