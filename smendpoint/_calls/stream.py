"""`Stream`: a model's output while it arrives."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._calls.response import StreamMetadata
from smendpoint._transport.deadline import Cancellation, Cancelled
from smendpoint._typing import Made, Piece, TypedStream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

    from smendpoint._calls.base import CallerBase
    from smendpoint._calls.caller import Caller
    from smendpoint._calls.pipeline import Pipeline
    from smendpoint._core.aws.renderer import CallRequest
    from smendpoint._core.call.flow import CallState
    from smendpoint._core.call.hooks import Watcher
    from smendpoint._transport import AsyncSource, Source
    from smendpoint.handlers.base import StreamDecoder, Usage


class StreamBase(StreamMetadata, TypedStream[Piece, Made]):
    """The half of `Stream` and `AsyncStream` that does not wait."""

    _source: Source | AsyncSource | None

    __slots__ = (
        "__weakref__",
        "_caller",
        "_first_chunk",
        "_listening",
        "_over",
        "_pipeline",
        "_ready",
        "_request",
        "_source",
        "_stop",
    )

    def __init__(self, caller: CallerBase[Any, Any, Any], request: CallRequest, stop: Sequence[str]) -> None:
        super().__init__()
        self._caller = caller
        self._request = request
        self._pipeline: Pipeline[Piece] = caller.pipeline(stop)
        self._stop = stop
        self._ready: deque[Piece] = deque()
        self._source = None
        self._over = False  # ended, failed, or closed
        self._first_chunk: float | None = None
        self._listening: Watcher | None = None  # notifies the hooks that want each chunk

    def __repr__(self) -> str:
        state = "closed" if self._over else "new" if self._source is None else "open"
        return f"{type(self).__name__}({state}, request_id={self.request_id!r}, attempts={self.attempts})"

    @property
    def time_to_first_chunk(self) -> float | None:
        """Seconds from the call's start until the first chunk; `None` before there is one."""
        return self._first_chunk

    @property
    def finish_reason(self) -> str | None:
        """Why the text ended: the model's word, or ``"stop"`` if `stop` ended it; `None` if it is not known."""
        return self._pipeline.finish_reason

    @property
    def usage(self) -> Usage | None:
        """The model's token counts; `None` if it has not given any."""
        usage: Usage | None = getattr(self._pipeline.decoder, "usage", None)
        return usage

    @property
    def details(self) -> Mapping[str, Any] | None:
        """Further facts from the model about its output; `None` if it gave none."""
        details: Mapping[str, Any] | None = getattr(self._pipeline.decoder, "details", None)
        return details

    @property
    def completion(self) -> Made:
        """The chunks as one output, as `Endpoint.invoke` would have returned it: a text, or a `ChatCompletion`.

        If `stop` ended the stream, the output ends there. Before the end of the stream, and after a failure, it holds
        the chunks so far.

        Raises:
            HandlerError: the handler's decoder cannot join its chunks (it has no ``complete``).
            StreamError: there were more than the 131,071 chunks that are kept.
        """
        try:
            made: Made = self._pipeline.completion()
        except errors.SmendpointError as error:
            error.endpoint_name = self._request.endpoint_name
            raise
        return made

    @property
    def decoder(self) -> StreamDecoder[Piece]:
        """The content handler's decoder of this stream, with everything it knows besides the chunks."""
        return self._pipeline.decoder

    def _read_head(self, call: CallState, source: Source | AsyncSource) -> None:
        """Read the head of the answer.

        Raises:
            ProtocolError: the answer is a web page; the call is over.
        """
        self.headers = source.headers
        if "html" in self.headers.get("content-type", "").lower():
            from smendpoint._core.http.unexpected import page_of_stream

            error = page_of_stream(self.headers)
            if error is not None:
                source.close()
                call.finish(call.add_context(error))
                raise error
        self._source = source

    def _deliver(self, chunks: list[Piece]) -> None:
        """Queue chunks that have just been decoded, and end the stream after its last ones."""
        if chunks:
            self._ready.extend(chunks)
            if self._first_chunk is None:
                self._note_first_chunk()
            if self._listening is not None:
                for _ in chunks:
                    self._listening.notify("chunk")
        if self._pipeline.done:
            assert self._source is not None
            self._source.close()
            self._finish(self._failure())

    def _note_first_chunk(self) -> None:
        self._first_chunk = self.elapsed
        assert self._call is not None
        if self._call.slot is not None:
            self._call.slot.started()
        watcher = self._call.watcher
        if watcher is not None:
            watcher.notify("first_chunk")
            if watcher.wants_chunks():
                self._listening = watcher

    def _refused(self, chunks: list[Piece]) -> bool:
        """Whether the stream begins with the container's refusal, and the call has queued to be sent again.

        Args:
            chunks: the first chunks; none if the stream ended, or was cut off, before the first.
        """
        failure, call = self._pipeline.failure, self._call
        if call is None or call.slot is None:
            return False
        try:
            if chunks:  # from a handler that returns errors like any other chunk
                refused = call.slot.refused_inside(call, chunks[0], self.headers)
            elif isinstance(failure, errors.EndpointError):
                call.add_context(failure)
                refused = call.slot.refused(call, failure, self.headers)
            else:
                return False
        except errors.EndpointError as error:  # the call has been refused for too long: the stream ends with this error
            chunks.clear()
            self._pipeline.received.clear()
            self._pipeline.failure, self._pipeline.done = error, True
            return False
        if refused:
            try:
                self._pipeline = self._caller.pipeline(self._stop)
            except BaseException as error:
                self._close(error)
                raise
            assert self._source is not None
            self._source.close()
            self._source = None
        return refused

    def _finish(self, error: BaseException | None) -> None:
        """End a stream that had begun, and notify hooks."""
        assert self._call is not None
        self._end()
        if self._call.watcher is not None:
            from smendpoint._calls.observed import note_stream

            note_stream(self._call.watcher.info, self._pipeline)
        self._call.finish(error)

    def _end(self) -> None:
        self._took = self.elapsed
        self._over = True

    def _close(self, error: BaseException | None) -> None:
        """Close the stream if it is open, because of `error` or at the caller's request."""
        if self._over:
            return
        self._ready = deque()  # another thread may be taking from the old one
        if self._source is None:
            self._end()
            self._stop_opening()
        else:
            self._finish(error)
        source = self._source  # read last: a thread that opens the stream looks at `_over` after it has set this
        if source is not None:
            source.close()

    if TYPE_CHECKING:

        def _stop_opening(self) -> None:
            """Stop the wait for the answer to begin; the thread or task that waits notifies the hooks."""

    def _failure(self) -> errors.SmendpointError | None:
        """The error that ended the stream, with its details; `None` if it ended normally."""
        failure = self._pipeline.failure
        if failure is not None and self._call is not None:
            failure.received = tuple(self._pipeline.received)
            self._call.add_context(failure)
            if isinstance(failure, (errors.HandlerError, errors.StreamDecodeError)):
                from smendpoint.handlers._ignored import say_ignored

                say_ignored(failure, self.headers, self._call.accept, self._caller.handler, streamed=True)
        return failure

    def _fail_opening(self, error: BaseException) -> None:
        """Opening failed; later reads raise the same error."""
        self._end()
        if isinstance(error, errors.SmendpointError):
            self._pipeline.failure = error
            self._pipeline.done = True

    def _check_open(self) -> None:
        """Raise the error that explains why a stream that was opened is no longer open."""
        if self._over and (self._source is None or not self._pipeline.done):
            self._check_end()

    def _check_end(self) -> None:
        """Raise the error that ended a stream, unless its answer is complete."""
        failure = self._failure()
        if failure is not None:
            raise failure
        if not self._pipeline.done:
            raise self._closed_error()

    def _closed_error(self) -> errors.StreamError:
        return errors.StreamError(
            "this stream was closed before its end: make a new one with stream()",
            received=self._pipeline.received,
            endpoint_name=self._request.endpoint_name,
            attempts=self.attempts,
        )


class Stream(StreamBase[Piece, Made]):
    """A model's output while it arrives: an iterator of chunks, and a context manager that releases the connection.

    The stream closes itself at its end and after any failure. It ends normally only if the model's answer is complete;
    otherwise iterating raises a `SmendpointError`, whose ``received`` has the chunks so far.
    """

    __slots__ = ("_answer", "_cancellation")
    _caller: Caller[Any, Any, Any]
    _source: Source | None

    def __init__(self, caller: CallerBase[Any, Any, Any], request: CallRequest, stop: Sequence[str]) -> None:
        super().__init__(caller, request, stop)
        # for a thread that closes the stream while another one waits for the answer to begin
        self._cancellation = Cancellation()
        self._answer: Answer | None = None

    def __enter__(self) -> Self:
        self._ensure_open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Piece:
        while not (ready := self._ready):
            if self._over:
                self._check_end()
                raise StopIteration
            self._advance()
        return ready.popleft()

    def open(self) -> Self:
        """Send the request and wait for the answer to begin, so that a refusal is known before anything is shown.

        ``with``, or reading the first chunk, also opens a stream. Opening it again does nothing.

        Returns:
            The stream itself.

        Raises:
            SmendpointError: as for `Endpoint.invoke`; or the stream was closed.
        """
        self._ensure_open()
        self._check_open()
        return self

    def _ensure_open(self) -> None:
        """Send the request, unless that was done, and wait for the answer to begin."""
        if self._source is not None or self._over:
            return
        try:
            call = self._call = self._call or self._caller.start(self._request)
            source = self._caller.run(self._request, call, self._cancellation)
            self._answer = Answer(call, source)
            self._answer.__class__ = OpenAnswer
            self._read_head(call, source)
        except Cancelled:
            raise self._closed_error() from None
        except BaseException as error:
            self._answer = None
            self._fail_opening(error)
            raise
        if self._over:  # closed in the meantime
            source.close()
            self._finish(None)
            raise self._closed_error()

    def _refused(self, chunks: list[Piece]) -> bool:
        refused = super()._refused(chunks)
        if refused and self._answer is not None:
            self._answer.__class__ = Answer
        return refused

    def _finish(self, error: BaseException | None) -> None:
        assert self._answer is not None
        self._answer.__class__ = Answer
        super()._finish(error)

    def _advance(self) -> None:
        """Wait for the next bytes and decode them."""
        self._ensure_open()
        pipeline, source = self._pipeline, self._source
        if source is None:
            return  # another thread closed the stream just before it opened
        try:
            data = source.read()
        except errors.SmendpointError as error:
            if self._over:
                return  # another thread called `close`
            chunks = pipeline.cut(error)
        except BaseException as error:
            self._close(error)
            raise
        else:
            if self._over:
                return
            chunks = pipeline.feed(data) if data else pipeline.end()
        if self._first_chunk is not None or not self._refused(chunks):
            self._deliver(chunks)

    def close(self) -> None:
        """Close the connection, even if the answer is incomplete. Any thread may; closing twice is harmless."""
        self._close(None)

    def _stop_opening(self) -> None:
        self._cancellation.stop()


class Answer:
    """The answer of a stream."""

    __slots__ = ("call", "source")

    def __init__(self, call: CallState, source: Source) -> None:
        self.call = call
        self.source = source


class OpenAnswer(Answer):
    """The answer of a stream that is not over: it closes when it is garbage-collected.

    A finalizer of `Stream` itself would run at the end of every stream, and Python swallows an interrupt during it.
    """

    __slots__ = ()

    def __del__(self) -> None:
        self.source.close()
        self.call.finish(None)
