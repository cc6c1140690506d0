"""LiteLLM on SageMaker endpoints: ``smendpoint/ENDPOINT`` as a LiteLLM model.

One line registers it::

    litellm.custom_provider_map = [{"provider": "smendpoint", "custom_handler": SageMakerLLM()}]
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import httpx
from litellm import exceptions as theirs
from litellm.litellm_core_utils.exception_mapping_utils import ExceptionCheckers
from litellm.llms.custom_llm import CustomLLM
from litellm.types.utils import Delta, EmbeddingResponse, ModelResponse, ModelResponseStream, StreamingChoices, Usage

from smendpoint import errors
from smendpoint._options import EndpointArguments
from smendpoint.async_endpoint import AsyncEndpoint
from smendpoint.endpoint import Endpoint
from smendpoint.handlers import ChatCompletion, ChatHandler, EmbeddingsHandler

if TYPE_CHECKING:
    from litellm.types.utils import GenericStreamingChunk

    from smendpoint.handlers import ContentHandler
    from smendpoint.handlers._chat_answers import ChatChunk

__all__ = ["SageMakerLLM"]

PROVIDER = "smendpoint"

# LiteLLM's names for the arguments of an endpoint.
_OPTIONS = {
    "aws_access_key_id": "aws_access_key_id",
    "aws_external_id": "external_id",
    "aws_profile_name": "credentials_profile_name",
    "aws_region_name": "region_name",
    "aws_role_name": "role_arn",
    "aws_secret_access_key": "aws_secret_access_key",
    "aws_session_name": "role_session_name",
    "aws_session_token": "aws_session_token",
}

_Made = TypeVar("_Made", bound=EndpointArguments[Any, Any, Any])


class SageMakerLLM(CustomLLM):
    """A custom LiteLLM provider: ``completion`` and ``embedding``, whole and streamed, blocking and with asyncio.

    A model is ``smendpoint/ENDPOINT`` or ``smendpoint/ENDPOINT:COMPONENT``. A call takes LiteLLM's ``api_base`` (the
    URL of the service), ``aws_region_name``, ``aws_profile_name``, ``aws_role_name`` and similar names, and
    ``timeout`` (the longest silence, in seconds); all other parameters go to the model. Each model has one endpoint,
    with its connections, for each set of these. Errors are LiteLLM's, with the error of this package as ``__cause__``.

    Args:
        content_handler: the handler for chats: it takes messages, and returns `ChatCompletion` or text. By default
        `ChatHandler`.
        embeddings_handler: the handler for embeddings. By default that of OpenAI's format.
        **options: arguments for every endpoint, such as ``region_name`` and ``retry``; see `Endpoint`.
    """

    def __init__(
        self,
        *,
        content_handler: ContentHandler[Any, Any] | None = None,
        embeddings_handler: ContentHandler[Any, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self._chat = content_handler or ChatHandler()
        self._embeddings = embeddings_handler or EmbeddingsHandler("openai")
        self._options = options
        self._made: dict[tuple[Any, ...], EndpointArguments[Any, Any, Any]] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections of plain calls."""
        for endpoint in self._made.values():
            if isinstance(endpoint, Endpoint):
                endpoint.close()

    async def aclose(self) -> None:
        """Close all connections."""
        self.close()
        for endpoint in self._made.values():
            if isinstance(endpoint, AsyncEndpoint):
                await endpoint.aclose()

    def completion(self, *args: Any, **call: Any) -> ModelResponse:
        """Answer messages, for ``litellm.completion``."""
        asked = _Chat(call)
        with _translated(asked.model):
            return asked.answer(self._of(Endpoint, asked, self._chat).invoke(asked.messages, **asked.arguments))

    async def acompletion(self, *args: Any, **call: Any) -> ModelResponse:
        """Answer messages, for ``litellm.acompletion``."""
        asked = _Chat(call)
        with _translated(asked.model):
            endpoint = self._of(AsyncEndpoint, asked, self._chat)
            return asked.answer(await endpoint.invoke(asked.messages, **asked.arguments))

    def streaming(self, *args: Any, **call: Any) -> Iterator[GenericStreamingChunk]:
        """Stream the answer to messages; the connection is closed when the iterator is, or when it ends."""
        asked = _Chat(call)
        with (
            _translated(asked.model),
            self._of(Endpoint, asked, self._chat).stream(asked.messages, **asked.arguments) as chunks,
        ):
            for chunk in chunks:
                yield from _pieces(chunk)
            yield _last_piece(chunks)

    async def astreaming(self, *args: Any, **call: Any) -> AsyncIterator[GenericStreamingChunk]:  # type: ignore[override]
        """Stream the answer to messages; the connection is closed when the iterator is, or when it ends."""
        asked = _Chat(call)
        with _translated(asked.model):
            async with self._of(AsyncEndpoint, asked, self._chat).stream(asked.messages, **asked.arguments) as chunks:
                async for chunk in chunks:
                    for piece in _pieces(chunk):
                        yield piece
                yield _last_piece(chunks)

    def embedding(self, *args: Any, **call: Any) -> EmbeddingResponse:
        """Make embeddings, for ``litellm.embedding``."""
        asked = _Texts(call)
        with _translated(asked.model):
            endpoint = self._of(Endpoint, asked, self._embeddings)
            return asked.answer(endpoint.send(asked.texts, **asked.arguments))

    async def aembedding(self, *args: Any, **call: Any) -> EmbeddingResponse:
        """Make embeddings, for ``litellm.aembedding``."""
        asked = _Texts(call)
        with _translated(asked.model):
            endpoint = self._of(AsyncEndpoint, asked, self._embeddings)
            return asked.answer(await endpoint.send(asked.texts, **asked.arguments))

    def _of(self, kind: type[_Made], asked: _Asked, handler: Any) -> _Made:
        """Return the endpoint for a call, which all calls to the same endpoint with the same options share."""
        key = kind, handler, asked.model, *sorted(asked.options.items())
        with self._lock:
            if key not in self._made:
                name, _, component = asked.model.partition(":")
                self._made[key] = kind(
                    name,
                    content_handler=handler,
                    inference_component_name=component or None,
                    **{**self._options, **asked.options},
                )
            return cast("_Made", self._made[key])


class _Asked:
    """A call from LiteLLM, without its input.

    Attributes:
        model: the model, without the provider.
        options: the arguments of the endpoint.
        arguments: the arguments of the call.
    """

    def __init__(self, call: dict[str, Any]) -> None:
        self.model: str = call["model"]
        given = dict(call["optional_params"])
        given |= given.pop("extra_body", None) or {}
        # LiteLLM has these among its own parameters or, in earlier versions, among those of the model.
        named = {**(call.get("litellm_params") or {}), **given}
        self.options = {ours: named[name] for name, ours in _OPTIONS.items() if named.get(name) is not None}
        if call.get("api_base"):
            self.options["endpoint_url"] = call["api_base"]
        given = {name: value for name, value in given.items() if name not in _OPTIONS and name != "stream"}
        timeout = call.get("timeout")
        if isinstance(timeout, httpx.Timeout):
            timeout = timeout.read
        self.arguments = {"stop": given.pop("stop", None), "timeout": timeout, "parameters": given}


class _Chat(_Asked):
    def __init__(self, call: dict[str, Any]) -> None:
        super().__init__(call)
        self.messages: list[Any] = call["messages"]

    def answer(self, output: Any) -> ModelResponse:
        """Make LiteLLM's answer from an output: unchanged if it is in OpenAI's format."""
        if not isinstance(output, ChatCompletion):
            output = ChatCompletion(str(output))
        raw = dict(output.raw or {})
        if "choices" not in raw:
            raw = {"choices": [{"index": 0, "finish_reason": output.finish_reason, "message": output.to_message()}]}
            if output.usage is not None:
                raw["usage"] = output.usage._asdict()
        raw["model"] = f"{PROVIDER}/{self.model}"
        return ModelResponse(**raw)


class _Texts(_Asked):
    def __init__(self, call: dict[str, Any]) -> None:
        super().__init__(call)
        given = call["input"]
        self.texts: list[Any] = [given] if isinstance(given, str) else given
        del self.arguments["stop"]

    def answer(self, response: Any) -> EmbeddingResponse:
        """Make LiteLLM's answer from the vectors."""
        data = [
            {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(response.output)
        ]
        counted = response.usage
        usage = None if counted is None else Usage(counted.prompt_tokens, 0, counted.total_tokens)
        return EmbeddingResponse(model=f"{PROVIDER}/{self.model}", data=data, usage=usage)


def _pieces(chunk: ChatChunk | str) -> Iterator[Any]:
    """Yield a chunk as LiteLLM's chunks: each has a text, or a piece of one tool call."""
    if isinstance(chunk, str):
        yield _piece(chunk)
        return
    if chunk.reasoning:
        delta = Delta(reasoning_content=chunk.reasoning)
        yield ModelResponseStream(choices=[StreamingChoices(delta=delta)])
    if chunk.text:
        yield _piece(chunk.text)
    for call in chunk.tool_calls:
        function = {"name": call.name or None, "arguments": call.arguments}
        yield _piece("", {"id": call.id or None, "type": "function", "function": function, "index": call.call_index})


def _last_piece(chunks: Any) -> GenericStreamingChunk:
    """Return the last chunk: why the model stopped, and its token counts."""
    usage = chunks.usage
    counted = None if usage is None else usage._asdict()
    return _piece("", finish_reason=chunks.finish_reason or "stop", usage=counted)


def _piece(
    text: str, tool_use: Any = None, *, finish_reason: str | None = None, usage: Any = None
) -> GenericStreamingChunk:
    return {
        "text": text,
        "tool_use": tool_use,
        "is_finished": finish_reason is not None,
        "finish_reason": finish_reason or "",
        "usage": usage,
        "index": 0,
    }


# The errors of this package, and the errors of LiteLLM that they become; the first match counts.
_KINDS: tuple[tuple[Any, Any], ...] = (
    (errors.ThrottlingError, theirs.RateLimitError),
    ((errors.ModelNotReadyError, errors.ServiceUnavailableError), theirs.ServiceUnavailableError),
    ((errors.ReadTimeoutError, errors.DeadlineExceededError), theirs.Timeout),
    (errors.TransportError, theirs.APIConnectionError),
    (errors.CredentialsError, theirs.AuthenticationError),
    (errors.AccessDeniedError, theirs.PermissionDeniedError),
    ((errors.ValidationError, errors.ConfigurationError), theirs.BadRequestError),
    (errors.StreamTruncatedError, theirs.APIConnectionError),
)
# The same for the status of a container.
_STATUSES: dict[int, Any] = {
    400: theirs.BadRequestError,
    404: theirs.NotFoundError,
    408: theirs.Timeout,
    413: theirs.BadRequestError,
    422: theirs.UnprocessableEntityError,
    429: theirs.RateLimitError,
    502: theirs.BadGatewayError,
    503: theirs.ServiceUnavailableError,
    504: theirs.Timeout,
}
# LiteLLM's errors that need a response, and its status.
_WITH_RESPONSE = {
    theirs.PermissionDeniedError: 403,
    theirs.RateLimitError: 429,
    theirs.UnprocessableEntityError: 422,
}


@contextmanager
def _translated(model: str) -> Iterator[None]:
    """Raise the errors of this package as LiteLLM's, which decide about retries and fallbacks."""
    try:
        yield
    except errors.SmendpointError as error:
        raise _translation(error, model) from error


def _translation(error: errors.SmendpointError, model: str) -> Exception:
    kind = next((kind for ours, kind in _KINDS if isinstance(error, ours)), theirs.InternalServerError)
    status = _status_of(error)
    if isinstance(error, errors.HandlerError) and not error.attempts:
        kind = theirs.BadRequestError  # the handler refuses the input: it would also refuse a retry
    if status is not None:
        kind = _STATUSES.get(status, theirs.BadRequestError if status < 500 else theirs.InternalServerError)
    if isinstance(error, errors.ValidationError) and "not found" in error.message:
        kind = theirs.NotFoundError
    if kind is theirs.BadRequestError and ExceptionCheckers.is_error_str_context_window_exceeded(str(error)):
        kind = theirs.ContextWindowExceededError
    said: dict[str, Any] = {"message": f"{type(error).__name__}: {error}", "llm_provider": PROVIDER, "model": model}
    if kind in _WITH_RESPONSE:
        request = httpx.Request("POST", "https://runtime.sagemaker")
        retry_after = getattr(error, "retry_after", None)
        headers = {} if retry_after is None else {"retry-after": str(retry_after)}
        said["response"] = httpx.Response(_WITH_RESPONSE[kind], headers=headers, request=request)
    made: Exception = kind(**said)
    return made


def _status_of(error: errors.SmendpointError) -> int | None:
    """Return the status of a container's error, from its answer or from inside a successful answer."""
    if isinstance(error, errors.ModelError):
        return error.original_status_code
    if isinstance(error, errors.ModelOutputError) and isinstance(error.code, int) and error.code >= 400:
        return error.code
    return None
