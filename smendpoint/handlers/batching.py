"""Embeddings of any number of texts, in batches that the container can take, some of them at once."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from smendpoint.errors import ConfigurationError, HandlerError
from smendpoint.handlers._json import encode_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence

__all__ = ["AsyncEmbeddings", "AsyncEmbeds", "Embeddings", "Embeds"]

Vectors = list[list[float]]
E = TypeVar("E")

_BATCH_SIZE = 32
"""text-embeddings-inference takes 32 texts in a request unless told otherwise (``--max-client-batch-size``)."""

_BATCH_BYTES = 1_900_000
"""... and 2,000,000 bytes (``--payload-limit``): some are left for the parameters."""


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
    ) -> None:
        for name, value in (
            ("batch_size", batch_size),
            ("max_batch_bytes", max_batch_bytes),
            ("max_concurrency", max_concurrency),
        ):
            if value < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {value}")
        limit: int | None = getattr(getattr(endpoint, "content_handler", None), "max_batch_size", None)
        self._endpoint = endpoint
        self._batch_size = batch_size if limit is None else min(batch_size, limit)
        self._max_batch_bytes = max_batch_bytes
        self._max_concurrency = max_concurrency
        self._document_kwargs = dict(document_kwargs or {})
        self._query_kwargs = dict(query_kwargs or {})

    def _split(self, texts: Sequence[str]) -> list[list[str]]:
        """Cut the texts into batches. A text that is larger than a batch may be is a batch of its own."""
        if isinstance(texts, str):
            raise HandlerError("embed_documents takes a list of texts: for a single one there is embed_query.")
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

    @staticmethod
    def _join(vectors: Vectors, batch: Sequence[str] | None, found: Vectors) -> None:
        """Add a batch's vectors to those before it; without a batch, say that an answer is missing or one too many."""
        count = 0 if batch is None else len(batch)
        if batch is None or len(found) != count:
            raise HandlerError(f"The model gave {len(found)} vectors for {count} texts.")
        if vectors and len(found[0]) != len(vectors[0]):
            raise HandlerError(
                f"The model's vectors differ in length between batches: {len(vectors[0])} and {len(found[0])} numbers."
            )
        vectors += found


class Embeddings(_Batching[Embeds]):
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
    """

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Give a vector for each text, in order; none for none, without a call.

        Raises:
            HandlerError: the model gave another number of vectors, or vectors that differ in length.
        """
        batches = self._split(texts)
        parameters, vectors = self._document_kwargs, Vectors()
        if len(batches) == 1:
            self._join(vectors, batches[0], self._endpoint.invoke(batches[0], **parameters))
        elif batches:
            answers = self._endpoint.map(batches, max_concurrency=self._max_concurrency, **parameters)
            try:
                for batch, found in zip_longest(batches, answers):
                    self._join(vectors, batch, found or [])
            finally:  # after a failure, the calls that are still under way stop now and not some time later
                close = getattr(answers, "close", None)
                if close is not None:
                    close()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Give the vector of one text."""
        vectors = Vectors()
        self._join(vectors, [text], self._endpoint.invoke([text], **self._query_kwargs))
        return vectors[0]


class AsyncEmbeddings(_Batching[AsyncEmbeds]):
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
    """

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Give a vector for each text, in order; none for none, without a call.

        Raises:
            HandlerError: the model gave another number of vectors, or vectors that differ in length.
        """
        batches = self._split(texts)
        parameters, vectors = self._document_kwargs, Vectors()
        if len(batches) == 1:
            self._join(vectors, batches[0], await self._endpoint.invoke(batches[0], **parameters))
        elif batches:
            answers = self._endpoint.map(batches, max_concurrency=self._max_concurrency, **parameters)
            waiting = iter(batches)
            try:
                async for found in answers:
                    self._join(vectors, next(waiting, None), found)
                for batch in waiting:
                    self._join(vectors, batch, [])
            finally:  # after a failure, the calls that are still under way stop now and not some time later
                close = getattr(answers, "aclose", None)
                if close is not None:
                    await close()
        return vectors

    async def embed_query(self, text: str) -> list[float]:
        """Give the vector of one text."""
        vectors = Vectors()
        self._join(vectors, [text], await self._endpoint.invoke([text], **self._query_kwargs))
        return vectors[0]
