"""Where a container answers in another format than ``Accept`` asked for: what an error says about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint._core.http.unexpected import media_type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint.errors import SmendpointError

__all__ = ["say_ignored"]

# Types that say nothing about what is inside, or that streams have whatever was asked for.
_ANY = ("", "application/octet-stream", "binary/octet-stream")
_STREAMS = ("text/event-stream", "application/jsonlines", "application/x-ndjson", "application/jsonl")


def say_ignored(
    error: SmendpointError, headers: Mapping[str, str], accept: object, handler: object, *, streamed: bool
) -> None:
    """Have the error of a handler that could not read an answer name its ``Content-Type`` and the ``Accept`` of its
    request, where they differ. Saying it again changes nothing.

    Args:
        error: of the handler.
        headers: of the answer, lower-case names.
        accept: what was asked for; ``None`` for any type.
        handler: whose ``response=`` is named, if it has one and another value of it is the type that came.
        streamed: whether the answer is a stream, which may well have a type of streams.
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
