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

# An error carries at most this many of the latest chunks, so that an endless stream does not fill the memory. It is
# what today's largest context windows hold as output.
MAX_RECEIVED = 131_072


class Pipeline(Generic[Chunk]):
    """Turns the bytes of one event stream into chunks.

    `feed` and `end` never raise: what was complete before a failure is given first, then `failure` says what to raise.

    Args:
        decoder: the handler's, fresh.
        stop: literal stop sequences; the stream is `done` at the first.
    """

    __slots__ = ("_decoder", "_frames", "_stop", "_stopped", "_typed", "done", "failure", "received")

    def __init__(self, decoder: StreamDecoder[Chunk], stop: Sequence[str]) -> None:
        self._decoder = decoder
        self._frames = EventStreamDecoder()
        self._stop = StopMatcher(stop) if stop else None
        self._typed: Any = None  # the type of chunks that are not plain text: what was held back becomes one
        self._stopped = False
        self.done = False
        self.failure: errors.SmendpointError | None = None
        self.received: deque[Chunk] = deque(maxlen=MAX_RECEIVED)

    @property
    def finish_reason(self) -> str | None:
        """Why the model, or a stop sequence here, ended the text; `None` where nothing said so."""
        if self._stopped:
            return "stop"
        reason: str | None = getattr(self._decoder, "finish_reason", None)
        return reason

    @property
    def decoder(self) -> StreamDecoder[Chunk]:
        """The handler's decoder, with all it knows beyond chunks."""
        return self._decoder

    def completion(self) -> Any:
        """What the chunks that were passed on make: as the decoder says, or the texts or bytes joined.

        Raises:
            HandlerError: the decoder does not say, or fails.
            StreamError: there were more chunks than are kept.
        """
        chunks = list(self.received)
        if len(chunks) == MAX_RECEIVED:
            raise errors.StreamError("what the chunks made is not known: there were more of them than are kept")
        complete = getattr(self._decoder, "complete", None)
        if complete is None:
            if chunks and all(isinstance(chunk, str) for chunk in chunks):
                return "".join(chunks)  # type: ignore[arg-type]  # it has just been looked at
            if chunks and all(isinstance(chunk, bytes) for chunk in chunks):
                return b"".join(chunks)  # type: ignore[arg-type]  # it has just been looked at
            raise errors.HandlerError(
                f"{type(self._decoder).__name__} does not say what its chunks make: a method complete(chunks, "
                "finish_reason) does"
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
        """The chunks that `data` completes."""
        chunks: list[Chunk] = []
        try:
            parts = self._frames.feed_parts(data)
            if parts:
                # Where one part ends and the next begins means nothing, so the decoder may have them in one piece.
                chunks = _listed(self._decoder.feed(parts[0] if len(parts) == 1 else b"".join(parts)))
            pending = getattr(self._decoder, "error", None) or self._frames.error
            if pending is not None:
                raise pending
        except Exception as error:
            self._fail(error)
        return self._pass_on(chunks)

    def end(self) -> list[Chunk]:
        """The chunks that the stream's proper end completes."""
        self.done = True
        chunks: list[Chunk] = []
        try:
            self._frames.finish()
            # Those of this package lose nothing that a failure at the end finds half way.
            finish_into = getattr(self._decoder, "finish_into", None)
            if finish_into is None:
                chunks = _listed(self._decoder.finish())
            else:
                finish_into(chunks)
        except Exception as error:
            self._fail(error)
        return self._pass_on(chunks)

    def cut(self, error: errors.SmendpointError) -> list[Chunk]:
        """The chunks that were held back when the connection failed with `error`."""
        if isinstance(error, (errors.ReadTimeoutError, errors.DeadlineExceededError)):
            self._fail(error)
        else:
            truncated = errors.StreamTruncatedError(f"the stream was cut: {error.message}")
            truncated.__cause__ = error
            self._fail(truncated)
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
            except Exception as error:  # the chunks are the handler's, and so is what is called of them
                self._fail(error)
                chunks = []
        self.received += chunks
        return chunks

    def _until_stop(self, chunks: list[Chunk], stop: StopMatcher) -> list[Chunk]:
        kept: list[Any] = []
        for chunk in chunks:
            if stop.hit:
                break
            if isinstance(chunk, str):
                text = stop.feed(chunk)
                if text:
                    kept.append(text)
                continue
            whole = text_of(chunk)
            text = stop.feed(whole)
            self._typed = type(chunk)
            # A chunk whose text is held back may still say something else: it is handed on without.
            kept.append(chunk if text == whole else replace_text(chunk, text))
        if stop.hit:
            # What the model said after the stop sequence, a failure included, is no longer part of the answer.
            self.failure = None
            self._stopped = self.done = True
        elif self.done:
            text = stop.finish()
            # After a failure it stays open whether a longer stop sequence would have begun before this one.
            self._stopped = stop.hit and self.failure is None
            if text:
                kept.append(text if self._typed is None else self._typed(text))
        return kept


def _listed(chunks: Any) -> list[Any]:
    """What a decoder gave, if that is a list; a handler of the caller's own may give anything."""
    if type(chunks) is list:
        return chunks
    if isinstance(chunks, (str, bytes)):  # which would fall apart into characters
        raise errors.HandlerError(f"a stream decoder must give a list of chunks, not {type(chunks).__name__}")
    return list(chunks)


def text_of(value: Any) -> str:
    """The text of a typed output or chunk.

    Raises:
        HandlerError: it has none, so no stop sequence can be looked for.
    """
    text = getattr(value, "text", None)
    if not isinstance(text, str) or not hasattr(value, "replace_text"):
        raise errors.HandlerError(
            f"stop= needs text: this handler gives {type(value).__name__}, which is no str and has no text with "
            "replace_text"
        )
    return text


def replace_text(value: Any, text: str) -> Any:
    """The typed output or chunk with another text."""
    return value.replace_text(text)


def cut_at_stop(output: Any, stop: Sequence[str]) -> Any:
    """`output` up to the first stop sequence, not included.

    Raises:
        HandlerError: the output has no text.
    """
    text = output if isinstance(output, str) else text_of(output)
    ends = [place for place in map(text.find, stop) if place >= 0]
    if not ends:
        return output
    kept = text[: min(ends)]
    return kept if isinstance(output, str) else replace_text(output, kept)
