"""The hint in an error where a container answers in another format than ``Accept`` asked for."""

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
    """Add the answer's ``Content-Type`` and the request's ``Accept`` to a handler's error, once, where they differ.

    Args:
        error: the handler's, which could not read the answer.
        headers: the answer's, lower-case names.
        accept: the type that the request asked for; ``None`` for any type.
        handler: its ``response=`` is named, if it has one, and one of its values reads the type that came.
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
        f"{error.message} | Hint: the container ignored Accept: {media_type(asked)} was asked for, and the answer's "
        f"Content-Type is {kind}.{cure}"
    )


def _takes(accept: str, kind: str) -> bool:
    ranges = [media_type(item) for item in accept.split(",")]
    return any(item in ("*/*", kind, f"{kind.partition('/')[0]}/*") for item in ranges)
