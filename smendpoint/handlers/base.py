"""The Protocols of content handlers, and a stream decoder for handlers without one: a handler needs no base class.

A content handler turns an input into the bytes that a model's container reads, and the container's bytes into an
output. It has the methods of LangChain's ``LLMContentHandler``, so a handler written for LangChain works unchanged::

    class Shout:
        content_type = "text/plain"
        accepts = "text/plain"

        def transform_input(self, prompt: str, model_kwargs: dict[str, Any]) -> bytes:
            return prompt.upper().encode()

        def transform_output(self, output: ResponseBody) -> str:
            return output.decode()

One more method, ``stream_decoder``, makes it stream. A handler, or its decoder, may have more members:

* ``stop_parameter``: the name of the model parameter for stop sequences, ``None`` if the format has none;
* ``transform_stream_input(prompt, model_kwargs)``: the request body of a stream, if it differs;
* ``stream_accepts``: the ``Accept`` of a stream, if it differs;
* ``read_details(output)``: the `OutputDetails` of a whole answer;
* ``takes_many``: whether an input is a list, and its output a list of the same length: `smendpoint.batch` makes such an
input from several rows;
* ``max_batch_size``: the maximum length of such a list, ``None`` for any length;
* ``finish_reason``, ``usage``, ``details``, ``response_model`` and ``response_id`` on the decoder: the same for the
part of a stream that has arrived;
* ``task``: the model's task for hooks: ``"chat"``, ``"text_completion"``, ``"embeddings"`` or your own word;
* ``request_parameters(prompt, model_kwargs)``: the mapping in which hooks look for the request's parameters, if it is
not ``model_kwargs``; hooks get only parameters that `CallInfo` lists;
* ``complete(chunks, finish_reason)`` on the decoder: the output that a stream's chunks form, for ``Stream.completion``
  (chunks that are texts or bytes are joined without it).

Stop sequences (``stop=``) need text. An output or a chunk that is not a ``str`` has it in ``text``;
``replace_text(text)`` returns a copy with another text, and its class can be called with a text alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from smendpoint._core.call.usage import Usage
from smendpoint._core.decode.lines import LineDecoder
from smendpoint._core.decode.push import LayeredDecoder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from smendpoint._core.http.body import ResponseBody

__all__ = [
    "ContentHandler",
    "MappedDecoder",
    "OutputDetails",
    "StreamDecoder",
    "StreamingContentHandler",
    "Usage",
    "line_decoder",
]

In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)
Item = TypeVar("Item")
Chunk = TypeVar("Chunk")


class SupportsRead(Protocol):
    """A file, of bytes or of text."""

    def read(self, /) -> bytes | str:
        """Return the rest."""
        ...


RequestBody: TypeAlias = "bytes | bytearray | memoryview[int] | str | SupportsRead"
"""The types of a request body that a content handler may return."""


class ContentHandler(Protocol[In_contra, Out_co]):
    """Turns an input into a request body, and a response body into an output.

    A handler is used by many threads or tasks at once, so it must keep no state between calls.
    """

    @property
    def content_type(self) -> str:
        """The media type of the body that ``transform_input`` returns, sent as ``Content-Type``."""
        ...

    @property
    def accepts(self) -> str:
        """The media type that ``transform_output`` reads, sent as ``Accept``."""
        ...

    def transform_input(self, prompt: In_contra, model_kwargs: dict[str, Any]) -> RequestBody:
        """Return the request body for one input and the model parameters of this call.

        A ``str`` is sent in UTF-8, and a file from its current position to its end.
        """
        ...

    def transform_output(self, output: ResponseBody) -> Out_co:
        """Return the output for one whole response body."""
        ...


class StreamDecoder(Protocol[Chunk]):
    """Turns the pieces of one stream into chunks. Each stream has its own decoder."""

    def feed(self, data: bytes) -> list[Chunk]:
        """Take the next bytes and return the chunks that they complete.

        Chunks before bytes that cannot be decoded are returned first, and the next call raises.
        """
        ...

    def finish(self) -> list[Chunk]:
        """Take the end of the bytes and return the chunks that were still held back.

        Raises:
            StreamDecodeError: the bytes are incomplete.
        """
        ...


class StreamingContentHandler(ContentHandler[In_contra, Out_co], Protocol[In_contra, Out_co, Chunk]):
    """A content handler that also has a decoder for streams."""

    def stream_decoder(self) -> StreamDecoder[Chunk]:
        """Return a new decoder for one stream."""
        ...


class OutputDetails(NamedTuple):
    """The details that a model gives besides its answer.

    Attributes:
        finish_reason: why it stopped, in the container's own word (``"length"``, ``"eos_token"``, ``"stop"`` ...).
        usage: the token counts.
        details: the rest, unchanged (log-probabilities, seed ...).
        response_model: the model's name in the answer.
        response_id: the container's id of the answer.
    """

    finish_reason: str | None = None
    usage: Usage | None = None
    details: Mapping[str, Any] | None = None
    response_model: str | None = None
    response_id: str | None = None


class MappedDecoder(LayeredDecoder, Generic[Item, Chunk]):
    """A stream decoder made from another decoder and a function, for handlers that need no more.

    Args:
        source: the decoder that returns items, such as ``smendpoint.decoders.JSONLinesDecoder()``.
        transform: returns the chunk for one item, or ``None`` for an item without a chunk.
        keep_none: whether ``None`` is a chunk like any other.
    """

    __slots__ = ("_keep_none", "_source", "_transform")

    def __init__(
        self, source: StreamDecoder[Item], transform: Callable[[Item], Chunk | None], *, keep_none: bool = False
    ) -> None:
        super().__init__()
        self._source = source
        self._transform = transform
        self._keep_none = keep_none

    @property
    def error(self) -> Exception | None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]  # `transform` may raise anything
        """The failure that the next `feed` or `finish` raises; ``None`` while all is well."""
        return self._failure or getattr(self._source, "error", None)

    def feed(self, data: bytes) -> list[Chunk]:
        """Take the next bytes and return the chunks that they complete."""
        self._check()
        chunks: list[Any] = []
        try:
            for item in self._source.feed(data):
                chunk = self._transform(item)
                if chunk is not None or self._keep_none:
                    chunks.append(chunk)
        except Exception as error:  # any error is raised after the chunks that came before it
            self._fail(error, chunks)
        return chunks

    def finish(self) -> list[Chunk]:
        """Take the end of the bytes and return the chunks that were still held back.

        There is no later call that could raise, so a failure here takes precedence over chunks.
        """
        self._check()
        self._failed = True
        mapped: list[Any] = [self._transform(item) for item in self._source.finish()]
        self._failed = False
        return mapped if self._keep_none else [chunk for chunk in mapped if chunk is not None]


class _FilledLines(LineDecoder):
    """A `LineDecoder` that skips blank lines."""

    __slots__ = ()

    def feed(self, data: bytes) -> list[bytes]:
        return [line for line in super().feed(data) if line.strip()]

    def finish(self) -> list[bytes]:
        return [line for line in super().finish() if line.strip()]


def line_decoder(handler: ContentHandler[Any, Chunk]) -> StreamDecoder[Chunk]:
    """Return a stream decoder for a handler that has none: each whole line goes to ``transform_output``.

    Lines end only at LF or CRLF; blank lines are skipped; the last line need not have a line end.
    """
    from smendpoint._core.http.body import ResponseBody

    def transform(line: bytes) -> Chunk:
        return handler.transform_output(ResponseBody(line))

    return MappedDecoder(_FilledLines(), transform, keep_none=True)
