"""From a stream's bytes to its chunks, without waiting: frames, the handler's decoder, stop sequences."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from smendpoint import errors
from smendpoint._core.aws.eventstream import EventStreamDecoder
from smendpoint._core.decode.stop import StopMatcher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smendpoint.handlers.base import StreamDecoder

Chunk = TypeVar("Chunk")

# An error holds at most this many of the latest chunks, so that an endless stream does not fill the memory. Today's
# largest context windows have room for this much output.
MAX_RECEIVED = 131_072


class Pipeline(Generic[Chunk]):
    """Turns the bytes of one event stream into chunks.

    `feed`, `end` and `cut` never raise: they return the chunks before a failure, and `failure` is the error to raise.

    Args:
        decoder: a new decoder of the handler.
        stop: literal stop sequences; the stream is `done` at the first one.
    """

    __slots__ = ("_frames", "_stop", "_stopped", "_typed", "decoder", "done", "failure", "received")

    def __init__(self, decoder: StreamDecoder[Chunk], stop: Sequence[str]) -> None:
        self.decoder = decoder
        self._frames = EventStreamDecoder()
        self._stop = StopMatcher(stop) if stop else None
        # the type of chunks that are not plain text: text that was held back becomes such a chunk
        self._typed: Any = None
        self._stopped = False
        self.done = False
        self.failure: errors.SmendpointError | None = None
        # A decoder whose chunks need not be joined later says that fewer are kept.
        self.received: deque[Chunk] = deque(maxlen=getattr(decoder, "max_received", MAX_RECEIVED))

    @property
    def finish_reason(self) -> str | None:
        """The reason why the model, or a stop sequence here, ended the text; `None` if there is none."""
        if self._stopped:
            return "stop"
        reason: str | None = getattr(self.decoder, "finish_reason", None)
        return reason

    def completion(self) -> Any:
        """Return the output that the chunks form: from the decoder's `complete`, or the texts or bytes joined.

        Raises:
            HandlerError: the decoder has no `complete`, or it fails.
            StreamError: there were more chunks than are kept.
        """
        chunks = list(self.received)
        if len(chunks) == MAX_RECEIVED:
            raise errors.StreamError("the completion is not known: there were more chunks than are kept")
        complete = getattr(self.decoder, "complete", None)
        if complete is None:
            empty: Any
            for empty in ("", b""):
                if chunks and all(isinstance(chunk, type(empty)) for chunk in chunks):
                    return empty.join(chunks)
            raise errors.HandlerError(
                f"{type(self.decoder).__name__} cannot join its chunks: it needs a method "
                "complete(chunks, finish_reason)"
            )
        try:
            return complete(chunks, self.finish_reason)
        except errors.SmendpointError:
            raise
        except Exception as error:
            raise errors.HandlerError(
                f"the content handler's stream decoder could not complete its chunks: {type(error).__name__}; see the "
                "cause"
            ) from error

    def feed(self, data: bytes) -> list[Chunk]:
        """Return the chunks that `data` completes."""
        chunks: list[Chunk] = []
        try:
            parts = self._frames.feed_parts(data)
            if parts:
                # The boundaries of the parts have no meaning, so the decoder may get them in one piece.
                chunks = _listed(self.decoder.feed(parts[0] if len(parts) == 1 else b"".join(parts)))
            pending = getattr(self.decoder, "error", None) or self._frames.error
            if pending is not None:
                raise pending
        except Exception as error:
            self._fail(error)
        return self._pass_on(chunks)

    def end(self) -> list[Chunk]:
        """Return the chunks that the stream's proper end completes."""
        self.done = True
        chunks: list[Chunk] = []
        try:
            self._frames.finish()
            # The decoders of this package lose no chunk to a failure at the end.
            finish_into = getattr(self.decoder, "finish_into", None)
            if finish_into is None:
                chunks = _listed(self.decoder.finish())
            else:
                finish_into(chunks)
        except Exception as error:
            self._fail(error)
        return self._pass_on(chunks)

    def cut(self, error: errors.SmendpointError) -> list[Chunk]:
        """Return the chunks that were held back when the connection failed with `error`."""
        self._fail(cut_off(error))
        return self._pass_on([])

    def _fail(self, error: Exception) -> None:
        if self.failure is None:
            if not isinstance(error, errors.SmendpointError):
                ours = errors.HandlerError(
                    f"the content handler's stream decoder raised {type(error).__name__}: see the cause"
                )
                ours.__cause__ = error
                error = ours
            self.failure = error
        self.done = True

    def _pass_on(self, chunks: list[Chunk]) -> list[Chunk]:
        if self._stop is not None and (chunks or self.done):
            try:
                chunks = self._until_stop(chunks, self._stop)
            except Exception as error:  # the methods of the chunks are the handler's code
                self._fail(error)
                chunks = []
        self.received += chunks
        return chunks

    def _until_stop(self, chunks: list[Chunk], stop: StopMatcher) -> list[Chunk]:
        kept: list[Any] = []
        chunk: Any
        for chunk in chunks:
            if stop.hit:
                break
            if isinstance(chunk, str):
                text = stop.feed(chunk)
                if text:
                    kept.append(text)
                continue
            whole = _text_of(chunk)
            text = stop.feed(whole)
            self._typed = type(chunk)
            # A chunk whose text is held back may hold something else: it is given without the text.
            kept.append(chunk if text == whole else chunk.replace_text(text))
        if stop.hit:
            # The answer ends at the stop sequence: the model's later output, including a failure, is not part of it.
            self.failure = None
            self._stopped = self.done = True
        elif self.done:
            text = stop.finish()
            # After a failure it is not known whether a longer stop sequence would have begun before this one.
            self._stopped = stop.hit and self.failure is None
            if text:
                kept.append(text if self._typed is None else self._typed(text))
        return kept


def cut_off(error: errors.SmendpointError) -> errors.SmendpointError:
    """Return the error of a stream whose connection failed with `error`: a time limit speaks for itself."""
    if isinstance(error, (errors.ReadTimeoutError, errors.DeadlineExceededError)):
        return error
    truncated = errors.StreamTruncatedError(f"the stream was cut off: {error.message}")
    truncated.__cause__ = error
    return truncated


def _listed(chunks: Any) -> list[Any]:
    """Return a decoder's chunks as a list: a user's decoder may return any iterable."""
    if type(chunks) is list:
        return chunks
    if isinstance(chunks, (str, bytes)):  # `list` would take it apart
        raise errors.HandlerError(f"a stream decoder must return a list of chunks, not {type(chunks).__name__}")
    return list(chunks)


def _text_of(value: Any) -> str:
    """Return the text of a typed output or chunk.

    Raises:
        HandlerError: it has none, so stop sequences cannot be searched for.
    """
    text = getattr(value, "text", None)
    if not isinstance(text, str) or not hasattr(value, "replace_text"):
        raise errors.HandlerError(
            f"stop= needs text: this handler returns {type(value).__name__}, which is not a str and has no text with "
            "replace_text"
        )
    return text


def cut_at_stop(output: Any, stop: Sequence[str]) -> Any:
    """Return `output` up to the first stop sequence, without the sequence.

    Raises:
        HandlerError: the output has no text.
    """
    text = output if isinstance(output, str) else _text_of(output)
    ends = [place for place in map(text.find, stop) if place >= 0]
    if not ends:
        return output
    kept = text[: min(ends)]
    return kept if isinstance(output, str) else output.replace_text(kept)
