"""LangChain's base classes of content handlers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from smendpoint._core.http.body import ResponseBody
    from smendpoint.handlers.base import RequestBody

__all__ = ["ContentHandlerBase", "EmbeddingsContentHandler", "LLMContentHandler"]

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")


class ContentHandlerBase(ABC, Generic[InputT, OutputT]):
    """A base class for content handlers that take ``InputT`` and return ``OutputT``.

    Attributes:
        content_type: the media type of the request body.
        accepts: the media type that :meth:`transform_output` reads.
    """

    content_type: str = "text/plain"
    accepts: str = "text/plain"

    @abstractmethod
    def transform_input(self, prompt: InputT, model_kwargs: dict[str, Any]) -> RequestBody:
        """Give the request body for one prompt and the model parameters of this call: bytes, a text or a file."""

    @abstractmethod
    def transform_output(self, output: ResponseBody) -> OutputT:
        """Return the output for a response body: ``bytes`` that can also be read like botocore's ``StreamingBody``."""


class LLMContentHandler(ContentHandlerBase[str, str]):
    """The base class of content handlers for text models."""


class EmbeddingsContentHandler(ContentHandlerBase[list[str], list[list[float]]]):
    """The base class of content handlers for embeddings: texts in, a vector for each out."""
