"""LangChain's text model and embeddings on SageMaker endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from langchain_core.embeddings import Embeddings as LangChainEmbeddings
from langchain_core.language_models import BaseLLM, LangSmithParams
from langchain_core.messages.ai import add_usage
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import ContextThreadPoolExecutor
from pydantic import Field

from smendpoint._calls.response import Response
from smendpoint.handlers import AsyncEmbeddings, Embeddings, EmbeddingsHandler, TextGenerationHandler
from smendpoint.handlers.batching import _BATCH_BYTES, _BATCH_SIZE
from smendpoint.integrations._langchain_base import CONFIG, GeneratingModel, SageMakerModel
from smendpoint.integrations._langchain_messages import usage_of

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.messages.ai import UsageMetadata

    from smendpoint._calls.stream import StreamBase
    from smendpoint.handlers.base import ContentHandler

__all__ = ["SageMakerEmbeddings", "SageMakerLLM"]


class SageMakerLLM(GeneratingModel, BaseLLM):
    """A text model on a SageMaker endpoint: a prompt in, a text out.

    For TGI, the Hugging Face toolkit, LMI and JumpStart's models, and for other containers with a ``content_handler``
    of this package, or one that was written for LangChain. The model takes all arguments of `Endpoint`, or an existing
    endpoint as ``endpoint``.

    Errors are those of this package: a stream that breaks raises a `StreamError`, whose ``received`` has its chunks.

    Raises:
        ConfigurationError: an argument is not valid for an endpoint.
            pydantic.ValidationError: an argument is not known, or has the wrong type.
    """

    model_config = CONFIG

    @property
    def _llm_type(self) -> str:
        return "amazon_sagemaker_llm"

    def _default_handler(self) -> ContentHandler[Any, Any]:
        return TextGenerationHandler()

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params.update(self._traced(stop, kwargs))
        return params

    # LangChain's own implementation for text models gives all prompts the error of one.
    batch = Runnable.batch
    abatch = Runnable.abatch

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        if self.streaming:
            return _merged([list(self._stream(prompt, stop, run_manager, **kwargs)) for prompt in prompts])
        endpoint, call = self._twins.blocking(), self._call(stop, kwargs)

        def ask(prompt: str) -> list[GenerationChunk]:
            return [_generation(endpoint.send(prompt, **call))]

        if len(prompts) == 1:
            return _merged([ask(prompts[0])])
        with ContextThreadPoolExecutor() as threads:
            return _merged(list(threads.map(ask, prompts)))

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        endpoint = self._twins.awaited()
        if endpoint is None:  # a blocking client: in a thread
            return await super()._agenerate(prompts, stop, run_manager, **kwargs)
        if self.streaming:
            answers: list[list[GenerationChunk]] = []
            for prompt in prompts:
                answers.append([piece async for piece in self._astream(prompt, stop, run_manager, **kwargs)])
            return _merged(answers)
        call = self._call(stop, kwargs)
        tasks = [asyncio.ensure_future(endpoint.send(prompt, **call)) for prompt in prompts]
        try:
            return _merged([[_generation(answer)] for answer in await asyncio.gather(*tasks)])
        finally:  # after a failure, stop the calls in flight at once
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        with self._twins.blocking().stream(prompt, **self._call(stop, kwargs)) as stream:
            for chunk in stream:
                piece = GenerationChunk(text=str(chunk))
                if run_manager is not None:
                    run_manager.on_llm_new_token(piece.text, chunk=piece)
                yield piece
        yield _generation(stream, "")

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        endpoint = self._twins.awaited()
        if endpoint is None:  # a blocking client: in threads
            async for piece in super()._astream(prompt, stop, run_manager, **kwargs):
                yield piece
            return
        async with endpoint.stream(prompt, **self._call(stop, kwargs)) as stream:
            async for chunk in stream:
                piece = GenerationChunk(text=str(chunk))
                if run_manager is not None:
                    await run_manager.on_llm_new_token(piece.text, chunk=piece)
                yield piece
        yield _generation(stream, "")


def _generation(answer: Response[Any] | StreamBase[Any, Any], text: str | None = None) -> GenerationChunk:
    """Make a generation from an answer, or from the end of a stream."""
    usage = usage_of(answer.usage, {})
    about = {"finish_reason": answer.finish_reason, "token_usage": usage, "request_id": answer.request_id}
    said = str(answer.output) if text is None and isinstance(answer, Response) else text or ""
    return GenerationChunk(
        text=said, generation_info={name: value for name, value in about.items() if value is not None}
    )


def _merged(answers: list[list[GenerationChunk]]) -> LLMResult:
    """Make the result from the pieces of each answer."""
    generations: list[list[Generation]] = [
        [Generation(text="".join([piece.text for piece in pieces]), generation_info=pieces[-1].generation_info)]
        for pieces in answers
    ]
    usage: UsageMetadata | None = None
    for (found,) in generations:
        counts = (found.generation_info or {}).get("token_usage")
        usage = usage if counts is None else add_usage(usage, counts)
    return LLMResult(generations=[*generations], llm_output={"token_usage": usage} if usage else {})


class SageMakerEmbeddings(SageMakerModel, LangChainEmbeddings):
    """Embeddings of any number of texts, in batches, several requests at a time.

    For text-embeddings-inference, and for other containers with ``content_handler=EmbeddingsHandler(...)``. The model
    takes all arguments of `Endpoint`, or an existing endpoint as ``endpoint``.

    Raises:
        ConfigurationError: an argument is not valid for an endpoint.
        pydantic.ValidationError: an argument is not known, or has the wrong type.
    """

    model_config = CONFIG

    batch_size: int = _BATCH_SIZE
    """The most texts in one request. The default is that of text-embeddings-inference."""
    max_batch_bytes: int = _BATCH_BYTES
    """The most bytes of texts in one request, as JSON."""
    document_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Parameters for the model with documents, such as ``{"input_type": "search_document"}`` for Cohere."""
    query_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Parameters for the model with queries, such as ``{"input_type": "search_query"}``."""

    def _default_handler(self) -> ContentHandler[Any, Any]:
        return EmbeddingsHandler()

    def _options(self) -> dict[str, Any]:
        return {
            "batch_size": self.batch_size,
            "max_batch_bytes": self.max_batch_bytes,
            "document_kwargs": {**self.model_kwargs, **self.document_kwargs},
            "query_kwargs": {**self.model_kwargs, **self.query_kwargs},
        }

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Give a vector for each text, in order."""
        vectors: list[list[float]] = Embeddings(self._twins.blocking(), **self._options()).embed_documents(texts)
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Give the vector of one text."""
        vector: list[float] = Embeddings(self._twins.blocking(), **self._options()).embed_query(text)
        return vector

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Give a vector for each text, in order."""
        endpoint = self._twins.awaited()
        if endpoint is None:  # a blocking client: in a thread
            return await super().aembed_documents(texts)
        vectors: list[list[float]] = await AsyncEmbeddings(endpoint, **self._options()).embed_documents(texts)
        return vectors

    async def aembed_query(self, text: str) -> list[float]:
        """Give the vector of one text."""
        endpoint = self._twins.awaited()
        if endpoint is None:  # a blocking client: in a thread
            return await super().aembed_query(text)
        vector: list[float] = await AsyncEmbeddings(endpoint, **self._options()).embed_query(text)
        return vector
