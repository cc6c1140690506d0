"""Embeddings of any number of texts, in batches that the container can take, some of them at once."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, overload

from smendpoint.errors import ConfigurationError, HandlerError
from smendpoint.handlers._json import encode_json
from smendpoint.handlers._tables import import_numpy
from smendpoint.prompts import is_collection

__all__ = ["AsyncEmbeddings", "AsyncEmbeds", "Embeddings", "Embeds"]

Vectors = list[list[float]]

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    import numpy
    from typing_extensions import TypeVar

    Array: TypeAlias = "numpy.ndarray[Any, Any]"
    E = TypeVar("E")
    Matrix = TypeVar("Matrix", default=Vectors)
    Row = TypeVar("Row", default=list[float])
else:
    from typing import TypeVar  # whose defaults only type checkers see: Python knows them from 3.13 on

    E = TypeVar("E")
    Matrix = TypeVar("Matrix")
    Row = TypeVar("Row")

_BATCH_SIZE = 32
"""text-embeddings-inference takes 32 texts in a request unless told otherwise (``--max-client-batch-size``)."""

_BATCH_BYTES = 1_900_000
"""... and 2,000,000 bytes (``--payload-limit``): some are left for the parameters."""


_AS_ARRAY = "Embeddings(as_array=True)"

# NumPy's name for the numbers of an `EmbeddingsHandler` with an `embedding_type`.
_DTYPES = {"int8": "int8", "uint8": "uint8", "binary": "int8", "ubinary": "uint8"}


class Embeds(Protocol):
    """An `Endpoint` with a handler such as `EmbeddingsHandler`, or whatever looks the same."""

    def invoke(self, input: Sequence[str], /, **model_kwargs: Any) -> Vectors:
        """Give the vectors of some texts."""
        ...

    def map(
        self,
        inputs: Iterable[Sequence[str]],
        *,
        max_concurrency: int,
        ordered: bool = ...,
        return_exceptions: Literal[False] = ...,
        **model_kwargs: Any,
    ) -> Iterator[Vectors]:
        """Give the vectors of many lists of texts, in order."""
        ...


class AsyncEmbeds(Protocol):
    """An `AsyncEndpoint` with a handler such as `EmbeddingsHandler`, or whatever looks the same."""

    def invoke(self, input: Sequence[str], /, **model_kwargs: Any) -> Awaitable[Vectors]:
        """Give the vectors of some texts."""
        ...

    def map(
        self,
        inputs: Iterable[Sequence[str]],
        *,
        max_concurrency: int,
        ordered: bool = ...,
        return_exceptions: Literal[False] = ...,
        **model_kwargs: Any,
    ) -> AsyncIterator[Vectors]:
        """Give the vectors of many lists of texts, in order."""
        ...


class _Batching(Generic[E]):
    """How texts become batches, and batches of vectors one list: the same for both twins."""

    def __init__(
        self,
        endpoint: E,
        *,
        batch_size: int = _BATCH_SIZE,
        max_batch_bytes: int = _BATCH_BYTES,
        max_concurrency: int = 4,
        document_kwargs: Mapping[str, Any] | None = None,
        query_kwargs: Mapping[str, Any] | None = None,
        as_array: bool = False,
    ) -> None:
        for name, value in (
            ("batch_size", batch_size),
            ("max_batch_bytes", max_batch_bytes),
            ("max_concurrency", max_concurrency),
        ):
            if value < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {value}")
        if as_array:
            import_numpy(_AS_ARRAY)
        handler = getattr(endpoint, "content_handler", None)
        limit: int | None = getattr(handler, "max_batch_size", None)
        self._endpoint = endpoint
        self._batch_size = batch_size if limit is None else min(batch_size, limit)
        self._max_batch_bytes = max_batch_bytes
        self._max_concurrency = max_concurrency
        self._document_kwargs = dict(document_kwargs or {})
        self._query_kwargs = dict(query_kwargs or {})
        self._dtype = _DTYPES.get(str(getattr(handler, "embedding_type", None)), "float32") if as_array else None

    def _split(self, texts: Sequence[str]) -> list[list[str]]:
        """Cut the texts into batches. A text that is larger than a batch may be is a batch of its own."""
        if isinstance(texts, str):
            raise HandlerError("embed_documents takes a list of texts: for a single one there is embed_query.")
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

    def _collect(self, count: int) -> _Lists | _Arrays:
        return _Lists() if self._dtype is None else _Arrays(count, self._dtype)

    @staticmethod
    def _join(rows: _Lists | _Arrays, batch: Sequence[str] | None, found: Vectors) -> None:
        """Add a batch's vectors to those before it; without a batch, say that an answer is missing or one too many."""
        count = 0 if batch is None else len(batch)
        if batch is None or len(found) != count:
            raise HandlerError(f"The model gave {len(found)} vectors for {count} texts.")
        rows.width = rows.width or len(found[0])
        if len(found[0]) != rows.width:
            raise HandlerError(
                f"The model's vectors differ in length between batches: {rows.width} and {len(found[0])} numbers."
            )
        rows.add(found)


class _Lists:
    """Vectors as lists."""

    __slots__ = ("result", "width")

    def __init__(self) -> None:
        self.width = 0
        self.result: Any = []

    def add(self, found: Vectors) -> None:
        self.result += found


class _Arrays:
    """Vectors as rows of one array, which is made once, so that a batch's lists live no longer than the batch."""

    __slots__ = ("_count", "_dtype", "_filled", "_result", "width")

    def __init__(self, count: int, dtype: str) -> None:
        self.width = 0
        self._count = count
        self._dtype = dtype
        self._filled = 0
        self._result: Any = None

    @property
    def result(self) -> Any:
        return import_numpy(_AS_ARRAY).empty((0, 0), self._dtype) if self._result is None else self._result

    def add(self, found: Vectors) -> None:
        np = import_numpy(_AS_ARRAY)
        if self._result is None:
            self._result = np.empty((self._count, self.width), self._dtype)
        rows = self._result[self._filled : self._filled + len(found)]
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


class Embeddings(_Batching[Embeds], Generic[Matrix, Row]):
    """Embeddings of any number of texts through an `Endpoint`, under the names that LangChain's vector stores call.

    Args:
        endpoint: one whose content handler is an `EmbeddingsHandler`, or gives the same.
        batch_size: the most texts in one request. The default is what text-embeddings-inference takes by default.
        max_batch_bytes: the most bytes of texts in one request, as JSON. A text that is larger goes alone.
        max_concurrency: the most requests in flight.
        document_kwargs: keywords of the calls for documents: model parameters such as
            ``{"input_type": "search_document"}`` for Cohere, and what else ``invoke`` and ``map`` both take, such as
            ``timeout``.
        query_kwargs: keywords of the calls for queries, such as ``{"input_type": "search_query"}``.
        as_array: give NumPy arrays in place of lists: of 32-bit floats, or of the integers that the handler's
            ``embedding_type`` says. Each batch goes into one array as it comes, so that many texts take little more
            memory than their array. Needs NumPy, the extra ``smendpoint[numpy]``.
    """

    @overload
    def __init__(
        self: Embeddings[Vectors, list[float]],
        endpoint: Embeds,
        *,
        batch_size: int = ...,
        max_batch_bytes: int = ...,
        max_concurrency: int = ...,
        document_kwargs: Mapping[str, Any] | None = ...,
        query_kwargs: Mapping[str, Any] | None = ...,
        as_array: Literal[False] = False,
    ) -> None: ...
    @overload
    def __init__(
        self: Embeddings[Array, Array],
        endpoint: Embeds,
        *,
        batch_size: int = ...,
        max_batch_bytes: int = ...,
        max_concurrency: int = ...,
        document_kwargs: Mapping[str, Any] | None = ...,
        query_kwargs: Mapping[str, Any] | None = ...,
        as_array: Literal[True],
    ) -> None: ...
    def __init__(self, endpoint: Embeds, **options: Any) -> None:
        super().__init__(endpoint, **options)

    def embed_documents(self, texts: Sequence[str]) -> Matrix:
        """Give a vector for each text, in order; none for none, without a call.

        Raises:
            HandlerError: the model gave another number of vectors, or vectors that differ in length.
        """
        batches = self._split(texts)
        parameters, rows = self._document_kwargs, self._collect(sum(map(len, batches)))
        if len(batches) == 1:
            self._join(rows, batches[0], self._endpoint.invoke(batches[0], **parameters))
        elif batches:
            answers = self._endpoint.map(batches, max_concurrency=self._max_concurrency, **parameters)
            try:
                for batch, found in zip_longest(batches, answers):
                    self._join(rows, batch, [] if found is None else found)
            finally:  # after a failure, the calls that are still under way stop now and not some time later
                close = getattr(answers, "close", None)
                if close is not None:
                    close()
        return rows.result  # type: ignore[no-any-return]  # lists or an array, as the overloads say

    def embed_query(self, text: str) -> Row:
        """Give the vector of one text."""
        rows = self._collect(1)
        self._join(rows, [text], self._endpoint.invoke([text], **self._query_kwargs))
        return rows.result[0]  # type: ignore[no-any-return]  # a list or an array, as the overloads say


class AsyncEmbeddings(_Batching[AsyncEmbeds], Generic[Matrix, Row]):
    """The twin of `Embeddings` for an `AsyncEndpoint`: the same names, awaited.

    Args:
        endpoint: one whose content handler is an `EmbeddingsHandler`, or gives the same.
        batch_size: the most texts in one request. The default is what text-embeddings-inference takes by default.
        max_batch_bytes: the most bytes of texts in one request, as JSON. A text that is larger goes alone.
        max_concurrency: the most requests in flight.
        document_kwargs: keywords of the calls for documents: model parameters such as
            ``{"input_type": "search_document"}`` for Cohere, and what else ``invoke`` and ``map`` both take, such as
            ``timeout``.
        query_kwargs: keywords of the calls for queries, such as ``{"input_type": "search_query"}``.
        as_array: give NumPy arrays in place of lists: of 32-bit floats, or of the integers that the handler's
            ``embedding_type`` says. Each batch goes into one array as it comes, so that many texts take little more
            memory than their array. Needs NumPy, the extra ``smendpoint[numpy]``.
    """

    @overload
    def __init__(
        self: AsyncEmbeddings[Vectors, list[float]],
        endpoint: AsyncEmbeds,
        *,
        batch_size: int = ...,
        max_batch_bytes: int = ...,
        max_concurrency: int = ...,
        document_kwargs: Mapping[str, Any] | None = ...,
        query_kwargs: Mapping[str, Any] | None = ...,
        as_array: Literal[False] = False,
    ) -> None: ...
    @overload
    def __init__(
        self: AsyncEmbeddings[Array, Array],
        endpoint: AsyncEmbeds,
        *,
        batch_size: int = ...,
        max_batch_bytes: int = ...,
        max_concurrency: int = ...,
        document_kwargs: Mapping[str, Any] | None = ...,
        query_kwargs: Mapping[str, Any] | None = ...,
        as_array: Literal[True],
    ) -> None: ...
    def __init__(self, endpoint: AsyncEmbeds, **options: Any) -> None:
        super().__init__(endpoint, **options)

    async def embed_documents(self, texts: Sequence[str]) -> Matrix:
        """Give a vector for each text, in order; none for none, without a call.

        Raises:
            HandlerError: the model gave another number of vectors, or vectors that differ in length.
        """
        batches = self._split(texts)
        parameters, rows = self._document_kwargs, self._collect(sum(map(len, batches)))
        if len(batches) == 1:
            self._join(rows, batches[0], await self._endpoint.invoke(batches[0], **parameters))
        elif batches:
            answers = self._endpoint.map(batches, max_concurrency=self._max_concurrency, **parameters)
            waiting = iter(batches)
            try:
                async for found in answers:
                    self._join(rows, next(waiting, None), found)
                for batch in waiting:
                    self._join(rows, batch, [])
            finally:  # after a failure, the calls that are still under way stop now and not some time later
                close = getattr(answers, "aclose", None)
                if close is not None:
                    await close()
        return rows.result  # type: ignore[no-any-return]  # lists or an array, as the overloads say

    async def embed_query(self, text: str) -> Row:
        """Give the vector of one text."""
        rows = self._collect(1)
        self._join(rows, [text], await self._endpoint.invoke([text], **self._query_kwargs))
        return rows.result[0]  # type: ignore[no-any-return]  # a list or an array, as the overloads say
