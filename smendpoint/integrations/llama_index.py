"""LlamaIndex on SageMaker endpoints: a language model with tools and streams, and embeddings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    ImageBlock,
    LLMMetadata,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW, DEFAULT_NUM_OUTPUTS
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.schema import BaseComponent
from pydantic import Field, PrivateAttr

from smendpoint.endpoint import Endpoint
from smendpoint.errors import ConfigurationError, HandlerError
from smendpoint.handlers import AsyncEmbeddings, ChatCompletion, ChatHandler, Embeddings, EmbeddingsHandler, image_part
from smendpoint.integrations._twins import Twins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llama_index.core.base.llms.types import (
        ChatResponseAsyncGen,
        ChatResponseGen,
        CompletionResponseAsyncGen,
        CompletionResponseGen,
    )
    from llama_index.core.tools.types import BaseTool

    from smendpoint.async_endpoint import AsyncEndpoint
    from smendpoint.handlers import ContentHandler
    from smendpoint.handlers._chat_answers import ChatChunk

__all__ = ["SageMakerEmbedding", "SageMakerLLM"]


class _OnEndpoint(BaseComponent):
    """The common part of both models: their endpoint, which pickles itself."""

    _twins: Twins = PrivateAttr()

    def close(self) -> None:
        """Close the connections of plain calls."""
        self._twins.close()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._twins.aclose()

    def _awaited(self) -> AsyncEndpoint[Any, Any, Any]:
        found = self._twins.awaited()
        if found is None:
            raise ConfigurationError("this model calls through a blocking client, so it cannot be awaited")
        return found

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        # LlamaIndex would silently leave out what cannot be pickled; an endpoint says why it cannot be.
        state["__pydantic_private__"]["_twins"] = self._twins
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # LlamaIndex makes the model again from its fields, which do not say who called, and where.
        self._twins = state["__pydantic_private__"]["_twins"]


class SageMakerLLM(_OnEndpoint, FunctionCallingLLM):
    """A chat model on a SageMaker endpoint, for query engines, chat engines and agents of LlamaIndex.

    Args:
        endpoint_name: the endpoint's name.
        content_handler: for a container whose format is not OpenAI's: a handler that takes messages, and returns
            `ChatCompletion` or text, such as `JumpStartChatHandler` and `AutoHandler`.
        temperature: the randomness of the answers; by default the container's.
        max_tokens: the most tokens of an answer; by default the container's.
        context_window: how many tokens the model takes, prompt and answer together: LlamaIndex fits its prompts to it.
        is_function_calling_model: whether the container supports ``tools``.
        model_kwargs: more parameters for the model.
        **options: arguments of `Endpoint`, such as ``region_name``, or of LlamaIndex's ``LLM``, such as
            ``system_prompt``.

    Raises:
        ConfigurationError: an argument does not fit an endpoint.
    """

    endpoint_name: str
    temperature: float | None = None
    max_tokens: int | None = None
    context_window: int = Field(default=DEFAULT_CONTEXT_WINDOW, gt=0)
    is_function_calling_model: bool = True
    model_kwargs: dict[str, Any] = Field(default_factory=dict)

    def __init__(
        self, endpoint_name: str, *, content_handler: ContentHandler[Any, Any] | None = None, **options: Any
    ) -> None:
        fields = {name: options.pop(name) for name in type(self).model_fields.keys() & options.keys()}
        super().__init__(**{"endpoint_name": endpoint_name, **fields})
        made: Any = Endpoint(endpoint_name, content_handler=content_handler or ChatHandler(), **options)
        self._twins = Twins(made, ours=True)

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex knows the class."""
        return "SageMakerLLM_smendpoint"

    @property
    def metadata(self) -> LLMMetadata:
        """The facts that LlamaIndex needs to make prompts."""
        return LLMMetadata(
            context_window=self.context_window,
            num_output=self.max_tokens or DEFAULT_NUM_OUTPUTS,
            is_chat_model=True,
            is_function_calling_model=self.is_function_calling_model,
            model_name=self.endpoint_name,
        )

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer messages."""
        return _response(self._twins.blocking().invoke(_to_openai(messages), **self._arguments(kwargs)))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer messages."""
        return _response(await self._awaited().invoke(_to_openai(messages), **self._arguments(kwargs)))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Stream the answer to messages; leaving the generator closes the connection."""
        arguments = self._arguments(kwargs)

        def generate() -> ChatResponseGen:
            with self._twins.blocking().stream(_to_openai(messages), **arguments) as chunks:
                growing = _Growing()
                for chunk in chunks:
                    yield growing.add(chunk)
                yield growing.whole(chunks)

        return generate()

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Stream the answer to messages; leaving the generator closes the connection."""
        arguments = self._arguments(kwargs)

        async def generate() -> ChatResponseAsyncGen:
            async with self._awaited().stream(_to_openai(messages), **arguments) as chunks:
                growing = _Growing()
                async for chunk in chunks:
                    yield growing.add(chunk)
                yield growing.whole(chunks)

        return generate()

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt, as one message of the user."""
        return _completion(self.chat(_user(prompt), **kwargs))

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt, as one message of the user."""
        return _completion(await self.achat(_user(prompt), **kwargs))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Stream the answer to a prompt."""
        return (_completion(response) for response in self.stream_chat(_user(prompt), **kwargs))

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """Stream the answer to a prompt."""
        responses = await self.astream_chat(_user(prompt), **kwargs)
        return (_completion(response) async for response in responses)

    def _arguments(self, given: dict[str, Any]) -> dict[str, Any]:
        own = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        parameters = {**{name: value for name, value in own.items() if value is not None}, **self.model_kwargs, **given}
        return {"stop": parameters.pop("stop", None), "parameters": parameters}

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        messages = list(chat_history or [])
        if user_msg is not None:
            messages.append(ChatMessage(role="user", content=user_msg) if isinstance(user_msg, str) else user_msg)
        made: dict[str, Any] = {"messages": messages, **kwargs}
        if tools:
            made["tools"] = [tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools]
            made["tool_choice"] = _choice(kwargs.get("tool_choice"), tool_required)
        return made

    def _validate_chat_with_tools_response(
        self,
        response: ChatResponse,
        tools: Sequence[BaseTool],
        allow_parallel_tool_calls: bool = False,
        **kwargs: Any,
    ) -> ChatResponse:
        if not allow_parallel_tool_calls:
            calls = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
            response.message.blocks = [block for block in response.message.blocks if block not in calls[1:]]
            del response.message.additional_kwargs.get("tool_calls", [])[1:]
        return response

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return the tools that an answer calls.

        Raises:
            ValueError: it calls none, and `error_on_no_tool_call` is set.
        """
        calls = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
        if not calls and error_on_no_tool_call:
            raise ValueError("the answer calls no tool")
        return [
            ToolSelection(
                tool_id=call.tool_call_id or "",
                tool_name=call.tool_name,
                tool_kwargs=call.tool_kwargs if isinstance(call.tool_kwargs, dict) else {},
            )
            for call in calls
        ]


class SageMakerEmbedding(_OnEndpoint, BaseEmbedding):
    """An embedding model on a SageMaker endpoint.

    Args:
        endpoint_name: the endpoint's name.
        content_handler: for the container's format; by default ``EmbeddingsHandler()``, for text-embeddings-inference
            and LMI.
        embed_batch_size: the most texts of one request.
        **options: arguments of `Endpoint`, such as ``region_name``, or of LlamaIndex's ``BaseEmbedding``.

    Raises:
        ConfigurationError: an argument does not fit an endpoint.
    """

    def __init__(
        self, endpoint_name: str, *, content_handler: ContentHandler[Any, Any] | None = None, **options: Any
    ) -> None:
        fields = {name: options.pop(name) for name in type(self).model_fields.keys() & options.keys()}
        super().__init__(**{"model_name": endpoint_name, **fields})
        handler = content_handler or EmbeddingsHandler()
        made: Any = Endpoint(endpoint_name, content_handler=handler, **options)
        self._twins = Twins(made, ours=True)

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex knows the class."""
        return "SageMakerEmbedding_smendpoint"

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = Embeddings(self._twins.blocking(), batch_size=len(texts)).embed_documents(texts)
        return vectors

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        made = AsyncEmbeddings(self._awaited(), batch_size=len(texts))
        vectors: list[list[float]] = await made.embed_documents(texts)
        return vectors

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await self._aget_text_embedding(query)


def _user(prompt: str) -> list[ChatMessage]:
    return [ChatMessage(role=MessageRole.USER, content=prompt)]


def _choice(given: dict[str, Any] | str | None, required: bool) -> dict[str, Any] | str:
    """Convert LlamaIndex's ``tool_choice`` to OpenAI's: it may also be a tool's name, or ``None`` from its programs."""
    if isinstance(given, str) and given not in ("auto", "none", "required"):
        return {"type": "function", "function": {"name": given}}
    return given or ("required" if required else "auto")


def _to_openai(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Convert messages to the form of OpenAI's chat completions.

    Raises:
        HandlerError: a message has a block that cannot be sent.
    """
    made: list[dict[str, Any]] = []
    for message in messages:
        parts: list[dict[str, Any]] = []
        calls: list[dict[str, Any]] = []
        for block in message.blocks:
            if isinstance(block, TextBlock):
                parts.append({"type": "text", "text": block.text})
            elif isinstance(block, ImageBlock):
                parts.append(_image(block))
            elif isinstance(block, ToolCallBlock):
                written = block.tool_kwargs if isinstance(block.tool_kwargs, str) else json.dumps(block.tool_kwargs)
                function = {"name": block.tool_name, "arguments": written}
                calls.append({"id": block.tool_call_id or "", "type": "function", "function": function})
            elif not isinstance(block, ThinkingBlock):  # containers do not take these back
                raise HandlerError(
                    f"a message with a {type(block).__name__} cannot be sent: containers take text and images"
                )
        texts = [part["text"] for part in parts if part["type"] == "text"]
        content: Any = parts if len(texts) < len(parts) else "\n".join(texts)
        one = {"role": message.role.value, "content": content}
        if calls:
            one["tool_calls"] = calls
        if message.role == MessageRole.TOOL:
            one["tool_call_id"] = message.additional_kwargs.get("tool_call_id", "")
        made.append(one)
    return made


def _image(block: ImageBlock) -> dict[str, Any]:
    if block.url is not None:
        return image_part(str(block.url), detail=block.detail)
    return image_part(block.resolve_image().read(), media_type=block.image_mimetype or "image/png", detail=block.detail)


def _response(output: Any, delta: str | None = None) -> ChatResponse:
    """Make LlamaIndex's answer from an output."""
    if not isinstance(output, ChatCompletion):
        output = ChatCompletion(str(output))
    blocks: list[Any] = []
    if output.reasoning:
        blocks.append(ThinkingBlock(content=output.reasoning))
    if output.text or not output.tool_calls:
        blocks.append(TextBlock(text=output.text))
    for call in output.tool_calls:
        try:
            arguments = call.parse_arguments()
        except HandlerError:
            arguments = call.arguments
        blocks.append(ToolCallBlock(tool_call_id=call.id or None, tool_name=call.name, tool_kwargs=arguments))
    counted = {} if output.usage is None else output.usage._asdict()
    # LlamaIndex looks for calls here when it makes objects from a stream.
    known = {"tool_calls": output.to_message()["tool_calls"]} if output.tool_calls else {}
    return ChatResponse(
        message=ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=known),
        delta=delta,
        raw=output.raw,
        additional_kwargs={**counted, "finish_reason": output.finish_reason},
    )


def _completion(response: ChatResponse) -> CompletionResponse:
    return CompletionResponse(
        text=response.message.content or "",
        delta=response.delta,
        raw=response.raw,
        additional_kwargs=response.additional_kwargs,
    )


class _Growing:
    """The answer from the chunks of a stream: each response has the whole answer so far, as LlamaIndex expects."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, chunk: ChatChunk | str) -> ChatResponse:
        """Return the answer so far; ``delta`` is the new text."""
        self._text += str(chunk)
        response = _response(self._text, str(chunk))
        reasoning = "" if isinstance(chunk, str) else chunk.reasoning
        response.additional_kwargs = {"thinking_delta": reasoning} if reasoning else {}
        return response

    def whole(self, chunks: Any) -> ChatResponse:
        """Give the whole answer, with its tool calls and token counts."""
        return _response(chunks.completion, "")
