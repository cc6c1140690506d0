"""Embeddings of any number of texts, in batches of a size that the container accepts, several requests at a time."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, overload

from smendpoint.errors import ConfigurationError, HandlerError
from smendpoint.handlers._json import encode_json
from smendpoint.handlers._npy import import_numpy
from smendpoint.handlers._numbers import EMBEDDING_TYPES
from smendpoint.prompts import is_collection

__all__ = ["AsyncEmbeddings", "Embeddings"]

Vectors = list[list[float]]

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias, TypedDict

    import numpy
    from typing_extensions import TypeVar, Unpack

    Array: TypeAlias = "numpy.ndarray[Any, Any]"
    Matrix = TypeVar("Matrix", default=Vectors)
    Row = TypeVar("Row", default=list[float])
    Answer_co = TypeVar("Answer_co", covariant=True)
    Answers_co = TypeVar("Answers_co", covariant=True)

    class Options(TypedDict, total=False):
        """The options of both twins that do not change a type."""

        batch_size: int
        max_batch_bytes: int
        max_concurrency: int | None
        document_kwargs: Mapping[str, Any] | None
        query_kwargs: Mapping[str, Any] | None

    class Embeds(Protocol[Answer_co, Answers_co]):
        """An endpoint with a handler such as `EmbeddingsHandler`, or an object with the same methods."""

        def invoke(self, input: Sequence[str], /, **model_kwargs: Any) -> Answer_co:
            """Return the vectors of a list of texts."""
            ...

        def map(
            self, inputs: Iterable[Sequence[str]], *, max_concurrency: int | None, **model_kwargs: Any
        ) -> Answers_co:
            """Return the vectors of many lists of texts, in order."""
            ...

    SyncEmbeds: TypeAlias = Embeds[Vectors, Iterator[Vectors]]
    AsyncEmbeds: TypeAlias = Embeds[Awaitable[Vectors], AsyncIterator[Vectors]]
else:
    from typing import TypeVar  # Only type checkers need the defaults, which Python supports from 3.13 on.

    Matrix = TypeVar("Matrix")
    Row = TypeVar("Row")

_BATCH_SIZE = 32
"""text-embeddings-inference accepts 32 texts in a request by default (``--max-client-batch-size``)."""

_BATCH_BYTES = 1_900_000
"""It also accepts 2,000,000 bytes (``--payload-limit``); the rest is left for the parameters."""

_AS_ARRAY = "Embeddings(as_array=True)"


class _Batching:
    """Split texts into batches and merge their vectors, for both twins."""

    def __init__(
        self,
        endpoint: Any,
        *,
        batch_size: int = _BATCH_SIZE,
        max_batch_bytes: int = _BATCH_BYTES,
        max_concurrency: int | None = None,
        document_kwargs: Mapping[str, Any] | None = None,
        query_kwargs: Mapping[str, Any] | None = None,
        as_array: bool = False,
    ) -> None:
        for name, value in (
            ("batch_size", batch_size),
            ("max_batch_bytes", max_batch_bytes),
            ("max_concurrency", max_concurrency),
        ):
            if value is not None and value < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {value}")
        if as_array:
            import_numpy(_AS_ARRAY)
        handler = getattr(endpoint, "content_handler", None)
        limit: int | None = getattr(handler, "max_batch_size", None)
        dtype, _ = EMBEDDING_TYPES.get(str(getattr(handler, "embedding_type", None)), EMBEDDING_TYPES["float"])
        self._endpoint = endpoint
        self._batch_size = batch_size if limit is None else min(batch_size, limit)
        self._max_batch_bytes = max_batch_bytes
        self._max_concurrency = max_concurrency
        self._document_kwargs = dict(document_kwargs or {})
        self._query_kwargs = dict(query_kwargs or {})
        self._dtype = dtype if as_array else None

    def _split(self, texts: Sequence[str]) -> list[list[str]]:
        """Split the texts into batches. A text that is larger than `max_batch_bytes` is a batch of its own."""
        if isinstance(texts, str):
            raise HandlerError("embed_documents takes a list of texts: use embed_query for a single one.")
        if not is_collection(texts):
            raise HandlerError(f"embed_documents takes a list of texts, not {type(texts).__name__}.")
        batches: list[list[str]] = []
        batch: list[str] = []
        size = 0
        for text in texts:
            length = len(encode_json(text)) + 1
            if batch and (len(batch) == self._batch_size or size + length > self._max_batch_bytes):
                batches.append(batch)
                batch, size = [], 0
            batch.append(text)
            size += length
        return [*batches, batch] if batch else batches


class _Merged:
    """The vectors of all batches: a list, or an array that is allocated once.

    An array does not keep the lists of a batch, so they are freed with the batch.
    """

    __slots__ = ("_count", "_dtype", "_filled", "_width", "result")

    def __init__(self, count: int, dtype: str | None) -> None:
        self._count = count
        self._dtype = dtype
        self._filled = 0
        self._width = 0
        self.result: Any = [] if dtype is None else import_numpy(_AS_ARRAY).empty((0, 0), dtype)

    def add(self, batch: Sequence[str], found: Sequence[list[float]]) -> None:
        """Add the vectors of a batch. A missing answer counts as empty, and so does the batch of a surplus answer."""
        if not batch or len(found) != len(batch):
            raise HandlerError(f"The model returned {len(found)} vectors for {len(batch)} texts.")
        width = len(found[0])
        self._width = self._width or width
        if width != self._width:
            raise HandlerError(
                f"The model's vectors differ in length between batches: {self._width} and {width} numbers."
            )
        if self._dtype is None:
            self.result += found
        else:
            self._fill(found)

    def _fill(self, found: Sequence[list[float]]) -> None:
        np = import_numpy(_AS_ARRAY)
        if not self._filled:
            self.result = np.empty((self._count, self._width), self._dtype)
        rows = self.result[self._filled : self._filled + len(found)]
        try:
            with np.errstate(over="ignore"):
                rows[...] = given = np.asarray(found, "float64")
        except (TypeError, ValueError, OverflowError):
            raise HandlerError(
                "The model's vectors differ in length, or hold something that is not a number."
            ) from None
        if np.isinf(rows).sum() != np.isinf(given).sum():
            raise HandlerError(f"The model's vectors hold a number that is too large for {self._dtype}.")
        self._filled += len(found)


class Embeddings(_Batching, Generic[Matrix, Row]):
    """Embeddings of any number of texts through an `Endpoint`, with the methods that LangChain's vector stores call.

    Args:
        endpoint: an endpoint with an `EmbeddingsHandler`, or a handler that returns the same.
        batch_size: the most texts in one request. The default is that of text-embeddings-inference.
        max_batch_bytes: the most bytes of texts in one request, as JSON. A larger text is sent alone.
        max_concurrency: the most requests in flight. With `None`, the endpoint's ``concurrency`` decides; if that is
        not set either, each call of `embed_documents` finds out how many requests the endpoint can take, like
        `Endpoint.map`.
        document_kwargs: keywords of the calls for documents: model parameters such as
            ``{"input_type": "search_document"}`` for Cohere, and other arguments of both ``invoke`` and ``map``, such
            as ``timeout``.
        query_kwargs: keywords of the calls for queries, such as ``{"input_type": "search_query"}``.
        as_array: return NumPy arrays instead of lists: of 32-bit floats, or of the integers of the handler's
            ``embedding_type``. Each batch goes into one array when it arrives, so many texts take little more memory
            than their array. Needs NumPy (the extra ``smendpoint[numpy]``).
    """

    _endpoint: SyncEmbeds

    @overload
    def __init__(
        self: Embeddings[Vectors, list[float]],
        endpoint: SyncEmbeds,
        *,
        as_array: Literal[False] = False,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: Embeddings[Array, Array], endpoint: SyncEmbeds, *, as_array: Literal[True], **options: Unpack[Options]
    ) -> None: ...
    def __init__(self, endpoint: SyncEmbeds, **options: Any) -> None:
        super().__init__(endpoint, **options)

    def embed_documents(self, texts: Sequence[str]) -> Matrix:
        """Return a vector for each text, in order. An empty list makes no call.

        Raises:
            HandlerError: the model returned another number of vectors, or vectors that differ in length.
        """
        batches = self._split(texts)
        merged = _Merged(sum(map(len, batches)), self._dtype)
        if len(batches) == 1:
            merged.add(batches[0], self._endpoint.invoke(batches[0], **self._document_kwargs))
        elif batches:
            answers = self._endpoint.map(batches, max_concurrency=self._max_concurrency, **self._document_kwargs)
            try:
                for batch, found in zip_longest(batches, answers, fillvalue=()):
                    merged.add(batch, found)
            finally:  # After a failure, stop the calls in flight at once.
                close = getattr(answers, "close", None)
                if close is not None:
                    close()
        return merged.result  # type: ignore[no-any-return]  # lists or an array, as the overloads say

    def embed_query(self, text: str) -> Row:
        """Return the vector of one text."""
        merged = _Merged(1, self._dtype)
        merged.add([text], self._endpoint.invoke([text], **self._query_kwargs))
        return merged.result[0]  # type: ignore[no-any-return]  # a list or an array, as the overloads say


class AsyncEmbeddings(_Batching, Generic[Matrix, Row]):
    """The twin of `Embeddings` for an `AsyncEndpoint`: the same arguments, and the same methods, awaited."""

    _endpoint: AsyncEmbeds

    @overload
    def __init__(
        self: AsyncEmbeddings[Vectors, list[float]],
        endpoint: AsyncEmbeds,
        *,
        as_array: Literal[False] = False,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: AsyncEmbeddings[Array, Array],
        endpoint: AsyncEmbeds,
        *,
        as_array: Literal[True],
        **options: Unpack[Options],
    ) -> None: ...
    def __init__(self, endpoint: AsyncEmbeds, **options: Any) -> None:
        super().__init__(endpoint, **options)

    async def embed_documents(self, texts: Sequence[str]) -> Matrix:
        """Return a vector for each text, in order. An empty list makes no call.

        Raises:
            HandlerError: the model returned another number of vectors, or vectors that differ in length.
        """
        batches = self._split(texts)
        merged = _Merged(sum(map(len, batches)), self._dtype)
        if len(batches) == 1:
            merged.add(batches[0], await self._endpoint.invoke(batches[0], **self._document_kwargs))
        elif batches:
            answers = self._endpoint.map(batches, max_concurrency=self._max_concurrency, **self._document_kwargs)
            unanswered = iter(batches)
            try:
                async for found in answers:
                    merged.add(next(unanswered, ()), found)
                for batch in unanswered:
                    merged.add(batch, ())
            finally:  # After a failure, stop the calls in flight at once.
                close = getattr(answers, "aclose", None)
                if close is not None:
                    await close()
        return merged.result  # type: ignore[no-any-return]  # lists or an array, as the overloads say

    async def embed_query(self, text: str) -> Row:
        """Return the vector of one text."""
        merged = _Merged(1, self._dtype)
        merged.add([text], await self._endpoint.invoke([text], **self._query_kwargs))
        return merged.result[0]  # type: ignore[no-any-return]  # a list or an array, as the overloads say
