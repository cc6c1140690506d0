"""SageMaker endpoints as models of the program and library ``llm``.

Installed next to llm, this is a plug-in: it registers the endpoints in the file ``sagemaker-endpoints.yaml`` in llm's
own folder. The containers must support OpenAI's chat completions, or make embeddings.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import click
import llm
import yaml  # type: ignore[import-untyped]  # llm's own
from llm.models import EmbeddingModel, _BaseModel
from llm.parts import AttachmentPart, StreamEvent, TextPart, ToolCallPart, ToolResultPart
from pydantic import Field

from smendpoint.async_endpoint import AsyncEndpoint
from smendpoint.endpoint import Endpoint
from smendpoint.errors import ConfigurationError, SmendpointError
from smendpoint.handlers import ChatHandler, Embeddings, EmbeddingsHandler, image_part

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator
    from pathlib import Path

    from smendpoint.handlers import ChatCompletion
    from smendpoint.handlers._chat_answers import ChatChunk

__all__ = ["SageMakerAsyncChat", "SageMakerChat", "SageMakerEmbeddings"]

CONFIGURATION = "sagemaker-endpoints.yaml"

# The keys of an entry that are arguments of its endpoint, and those that describe the model.
_ENDPOINT_KEYS = {
    "credentials_profile_name",
    "endpoint_name",
    "endpoint_url",
    "inference_component_name",
    "model_kwargs",
    "region_name",
    "role_arn",
    "role_session_name",
    "timeout",
}
_MODEL_KEYS = {"aliases", "embeddings", "model_id", "supports_schema", "supports_tools", "vision"}


class _WrongFile(ConfigurationError, click.ClickException):  # type: ignore[misc]  # both keep the same message
    """The configuration is not valid. The program shows this in one line, without a traceback."""

    def __init__(self, message: str) -> None:
        ConfigurationError.__init__(self, message)
        click.ClickException.__init__(self, message)


@llm.hookimpl
def register_models(register: Any) -> None:
    """Register the chat models of the configuration."""
    for entry in _entries():
        if "embeddings" not in entry:
            register(SageMakerChat(entry), SageMakerAsyncChat(entry), aliases=tuple(entry.get("aliases", ())))


@llm.hookimpl
def register_embedding_models(register: Any) -> None:
    """Register the embedding models of the configuration."""
    for entry in _entries():
        if "embeddings" in entry:
            register(SageMakerEmbeddings(entry), aliases=tuple(entry.get("aliases", ())))


def _entries() -> list[dict[str, Any]]:
    """Read the configuration.

    Raises:
        ConfigurationError: it is not a list of mappings with a ``model_id`` and known keys.
    """
    path: Path = cast("Any", llm.user_dir)() / CONFIGURATION
    if not path.exists():
        return []
    try:
        found: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _WrongFile(f"{path} is not YAML: {error}") from None
    if not isinstance(found, list):
        raise _WrongFile(f"{path} must have a list of models")
    for number, entry in enumerate(found, 1):
        # The values are not shown, because they may include keys.
        if not isinstance(entry, dict) or not isinstance(entry.get("model_id"), str):
            raise _WrongFile(f"{path}: each model must be a mapping with a model_id, unlike number {number}")
        if not isinstance(entry.get("aliases", []), list):
            raise _WrongFile(f"{path}: aliases of {entry['model_id']} must be a list")
        for key in entry.keys() - _ENDPOINT_KEYS - _MODEL_KEYS:
            known = ", ".join(sorted(_ENDPOINT_KEYS | _MODEL_KEYS))
            raise _WrongFile(f"{path}: {entry['model_id']} has an unknown key {key!r}; the keys are {known}")
    return cast("list[dict[str, Any]]", found)


def _arguments(entry: dict[str, Any]) -> dict[str, Any]:
    return {"endpoint_name": entry["model_id"], **{key: entry[key] for key in _ENDPOINT_KEYS & entry.keys()}}


class _Sampling(llm.Options):
    temperature: float | None = Field(default=None, ge=0, description="The randomness of the answer")
    max_tokens: int | None = Field(default=None, ge=1, description="The most tokens to generate")
    top_p: float | None = Field(default=None, ge=0, le=1, description="The share of likely tokens to choose from")
    top_k: int | None = Field(default=None, description="How many likely tokens to choose from")
    frequency_penalty: float | None = Field(default=None, description="Makes tokens less likely each time they occur")
    presence_penalty: float | None = Field(default=None, description="Makes tokens less likely once they have occurred")
    stop: str | None = Field(default=None, description="Ends the answer before this text")
    seed: int | None = Field(default=None, description="Repeats an answer, if the container can")


class _Chat(_BaseModel):
    """The half of the chat models that does not wait."""

    can_stream = True

    class Options(_Sampling):
        """Parameters for the model."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.model_id = entry["model_id"]
        self.supports_schema = entry.get("supports_schema", True)
        self.supports_tools = entry.get("supports_tools", True)
        images = ("image/png", "image/jpeg", "image/webp", "image/gif")
        self.attachment_types = frozenset(images if entry.get("vision") else ())
        self._endpoint_arguments = {"content_handler": ChatHandler(), **_arguments(entry)}
        self._endpoint: Any = None

    def __str__(self) -> str:
        return f"SageMaker: {self.model_id}"

    def _call(self, prompt: llm.Prompt) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Make the messages and the arguments of a call."""
        given = {name: value for name, value in prompt.options if value is not None}
        arguments: dict[str, Any] = {"stop": given.pop("stop", None), "parameters": given}
        if prompt.schema:
            schema = {"name": "output", "schema": prompt.schema}
            given["response_format"] = {"type": "json_schema", "json_schema": schema}
        if prompt.tools:
            given["tools"] = [
                {
                    "type": "function",
                    "function": {
                        "name": tool.name,
                        "description": tool.description or "",
                        "parameters": tool.input_schema,
                    },
                }
                for tool in cast("list[llm.Tool]", prompt.tools)
            ]
        return [one for message in prompt.messages for one in _messages(message)], arguments

    def _finish(self, response: Any, completion: ChatCompletion) -> None:
        """Keep the facts about a finished answer."""
        raw = completion.raw or {}
        response.response_json = {name: raw[name] for name in ("id", "model", "created", "usage") if raw.get(name)}
        response.response_json["finish_reason"] = completion.finish_reason
        if raw.get("model"):
            response.set_resolved_model(str(raw["model"]))
        if completion.usage is not None:
            response.set_usage(input=completion.usage.prompt_tokens, output=completion.usage.completion_tokens)
        for call in completion.tool_calls:
            response.add_tool_call(
                llm.ToolCall(name=call.name, arguments=call.parse_arguments() or {}, tool_call_id=call.id or None)
            )


class SageMakerChat(_Chat, llm.Model):
    """A chat model."""

    def close(self) -> None:
        """Close the connections."""
        if self._endpoint is not None:
            self._endpoint.close()

    def execute(
        self, prompt: llm.Prompt, stream: bool, response: llm.Response, conversation: llm.Conversation | None
    ) -> Iterator[str | StreamEvent]:
        """Answer a prompt."""
        messages, arguments = self._call(prompt)
        try:
            self._endpoint = self._endpoint or Endpoint(**self._endpoint_arguments)
            if not stream:
                completion = self._endpoint.invoke(messages, **arguments)
                yield from _whole(completion)
            else:
                with self._endpoint.stream(messages, **arguments) as chunks:
                    events = _Events()
                    for chunk in chunks:
                        yield from events.of(chunk)
                completion = chunks.completion
        except SmendpointError as error:
            raise _shown(error) from error
        self._finish(response, completion)


class SageMakerAsyncChat(_Chat, llm.AsyncModel):
    """A chat model, for asyncio."""

    async def aclose(self) -> None:
        """Close the connections."""
        if self._endpoint is not None:
            await self._endpoint.aclose()

    async def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.AsyncResponse,
        conversation: llm.AsyncConversation | None,
    ) -> AsyncGenerator[str | StreamEvent, None]:
        """Answer a prompt."""
        messages, arguments = self._call(prompt)
        try:
            self._endpoint = self._endpoint or AsyncEndpoint(**self._endpoint_arguments)
            if not stream:
                completion = await self._endpoint.invoke(messages, **arguments)
                for event in _whole(completion):
                    yield event
            else:
                async with self._endpoint.stream(messages, **arguments) as chunks:
                    events = _Events()
                    async for chunk in chunks:
                        for event in events.of(chunk):
                            yield event
                completion = chunks.completion
        except SmendpointError as error:
            raise _shown(error) from error
        self._finish(response, completion)


class SageMakerEmbeddings(EmbeddingModel):
    """An embedding model."""

    batch_size = 100

    def __init__(self, entry: dict[str, Any]) -> None:
        self.model_id = entry["model_id"]
        self._endpoint_arguments = {"content_handler": EmbeddingsHandler(entry["embeddings"]), **_arguments(entry)}
        self._embeddings: Embeddings[Any, Any] | None = None

    def embed_batch(self, items: Iterable[str | bytes], *, key: str | None = None) -> Iterator[list[float]]:
        """Give the vector of each text."""
        try:
            if self._embeddings is None:
                self._embeddings = Embeddings(Endpoint(**self._endpoint_arguments))
            yield from self._embeddings.embed_documents([str(item) for item in items])
        except SmendpointError as error:
            raise _shown(error) from error


def _shown(error: SmendpointError) -> llm.ModelError:
    """Return an error that the program shows without a traceback."""
    return llm.ModelError(f"{type(error).__name__}: {error}")


def _messages(message: llm.Message) -> Iterator[dict[str, Any]]:
    """Yield a message of llm in the form of OpenAI's chat completions; each tool result becomes one message."""
    text = "".join([part.text for part in message.parts if isinstance(part, TextPart)])
    for part in message.parts:
        if isinstance(part, ToolResultPart):
            yield {"role": "tool", "tool_call_id": part.tool_call_id, "content": part.output}
    if message.role == "tool":
        return
    made: dict[str, Any] = {"role": message.role, "content": text}
    images = [_image(part.attachment) for part in message.parts if isinstance(part, AttachmentPart) and part.attachment]
    if images:
        made["content"] = [*([{"type": "text", "text": text}] if text else []), *images]
    calls = [
        {
            "type": "function",
            "id": part.tool_call_id,
            "function": {"name": part.name, "arguments": json.dumps(part.arguments)},
        }
        for part in message.parts
        if isinstance(part, ToolCallPart)
    ]
    if calls:
        made["tool_calls"] = calls
    yield made


def _image(attachment: Any) -> dict[str, Any]:
    if attachment.url:
        return image_part(attachment.url)
    return image_part(attachment.content_bytes(), media_type=attachment.resolve_type())


def _whole(completion: ChatCompletion) -> Iterator[StreamEvent]:
    if completion.reasoning:
        yield StreamEvent(type="reasoning", chunk=completion.reasoning)
    if completion.text:
        yield StreamEvent(type="text", chunk=completion.text)
    for call in completion.tool_calls:
        yield StreamEvent(type="tool_call_name", chunk=call.name, tool_call_id=call.id)
        yield StreamEvent(type="tool_call_args", chunk=call.arguments, tool_call_id=call.id)


class _Events:
    """Makes llm's events from the chunks of one answer."""

    def __init__(self) -> None:
        self._ids: dict[int, str] = {}

    def of(self, chunk: ChatChunk) -> Iterator[StreamEvent]:
        """Give the events of a chunk."""
        if chunk.reasoning:
            yield StreamEvent(type="reasoning", chunk=chunk.reasoning)
        if chunk.text:
            yield StreamEvent(type="text", chunk=chunk.text)
        for call in chunk.tool_calls:
            known = self._ids.setdefault(call.call_index, call.id)
            if call.name:
                yield StreamEvent(type="tool_call_name", chunk=call.name, tool_call_id=known)
            if call.arguments:
                yield StreamEvent(type="tool_call_args", chunk=call.arguments, tool_call_id=known)
