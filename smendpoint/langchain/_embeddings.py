"""LangChain's model for embeddings on a SageMaker endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from smendpoint.errors import HandlerError
from smendpoint.handlers import EmbeddingsHandler
from smendpoint.handlers.batching import AsyncEmbeddings, Embeddings
from smendpoint.langchain._base import Model, in_thread
from smendpoint.prompts import is_collection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Unpack

    from smendpoint.handlers.base import ContentHandler
    from smendpoint.langchain._base import ModelOptions

__all__ = ["SagemakerEndpointEmbeddings"]

_CHUNK = 64
"""LangChain's number of texts in one request."""


class SagemakerEndpointEmbeddings(Model[list[str], list[list[float]]]):
    """A model for embeddings on a SageMaker endpoint, with LangChain's methods.

    As in LangChain, each line feed in a text is sent as a space, so that the vectors match those that a store already
    has; :class:`~smendpoint.Embeddings` does not change texts. Awaited methods call a ``client`` in threads.

    Args:
        endpoint_name: the endpoint's name.
        content_handler: makes requests from lists of texts and vectors from answers; by default
            :class:`~smendpoint.handlers.EmbeddingsHandler`.
        **options: as for :class:`SagemakerEndpoint`.

    Raises:
        ConfigurationError: an argument is not valid, or would have no effect here.
    """

    __slots__ = ()

    def __init__(
        self,
        *,
        endpoint_name: str,
        content_handler: ContentHandler[list[str], list[list[float]]] | None = None,
        **options: Unpack[ModelOptions],
    ) -> None:
        handler = EmbeddingsHandler() if content_handler is None else content_handler
        super().__init__(endpoint_name, handler, cast("Any", options))

    def embed_documents(self, texts: Sequence[str], chunk_size: int | None = _CHUNK) -> list[list[float]]:
        """Give a vector for each text, in order.

        Args:
            texts: the texts.
            chunk_size: the most texts in one request; ``None`` for 64.

        Raises:
            HandlerError: the model returned another number of vectors, or vectors that differ in length.
            SmendpointError: as for ``Endpoint.invoke``.
        """
        embeddings = Embeddings(cast("Any", self._endpoint), batch_size=chunk_size or _CHUNK)
        return embeddings.embed_documents(_lines_joined(texts))

    def embed_query(self, text: str) -> list[float]:
        """Give the vector of one text."""
        return Embeddings(cast("Any", self._endpoint)).embed_query(_lines_joined([text])[0])

    async def aembed_documents(self, texts: Sequence[str], chunk_size: int | None = _CHUNK) -> list[list[float]]:
        """Give a vector for each text, in order; see :meth:`embed_documents`."""
        endpoint: Any = self._asynchronous()
        if endpoint is None:
            return await in_thread(lambda: self.embed_documents(texts, chunk_size))
        return await AsyncEmbeddings(endpoint, batch_size=chunk_size or _CHUNK).embed_documents(_lines_joined(texts))

    async def aembed_query(self, text: str) -> list[float]:
        """Give the vector of one text."""
        endpoint: Any = self._asynchronous()
        if endpoint is None:
            return await in_thread(lambda: self.embed_query(text))
        return await AsyncEmbeddings(endpoint).embed_query(_lines_joined([text])[0])


def _lines_joined(texts: Any) -> list[str]:
    listed: list[Any] = list(texts) if is_collection(texts) else [None]
    if not all(isinstance(text, str) for text in listed):
        raise HandlerError("SagemakerEndpointEmbeddings takes texts: a list of them, or one for embed_query")
    return [text.replace("\n", " ") for text in listed]
