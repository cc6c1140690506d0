"""A served model: its endpoint, and the format of its container."""

from __future__ import annotations

import copy
import json
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from smendpoint._calls.endpoint import remade
from smendpoint.asgi._failures import Failure
from smendpoint.asgi._frames import PassingHandler
from smendpoint.async_endpoint import AsyncEndpoint
from smendpoint.errors import ConfigurationError
from smendpoint.handlers.chat import JumpStartChatHandler
from smendpoint.handlers.embeddings import EmbeddingFormat, EmbeddingsHandler
from smendpoint.handlers.text import JumpStartFamily, JumpStartTextHandler, TextGenerationHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Literal, Protocol, TypeAlias

    from smendpoint._calls.async_stream import AsyncStream
    from smendpoint._options import EndpointOptions

    Kind: TypeAlias = Literal["chat", "completions", "embeddings"]

    class Asked(Protocol):
        """A request that was checked, ready for its endpoint."""

        @property
        def render(self) -> Callable[[Any], bytes] | None:
            """Returns the bytes to send for a chunk of the stream; `None` if the chunks are such bytes."""
            ...

        async def answer(self) -> bytes:
            """Call the model, and return the answer's body."""
            ...

        def stream(self) -> AsyncStream[Any, Any]:
            """Make the stream of the answer."""
            ...

        def end(self, stream: AsyncStream[Any, Any]) -> bytes:
            """Give the bytes that end the stream after its last chunk."""
            ...


OPENAI = "openai"
# The handlers of a format's prompts and messages; the formats of embeddings are those of `EmbeddingsHandler`.
TEXT_HANDLERS: Mapping[str, Callable[[], Any]] = {
    "tgi": lambda: TextGenerationHandler(details=True),
    "lmi": lambda: TextGenerationHandler(details=True),
    # Its pipelines refuse unknown parameters, but the text still ends at a stop sequence.
    "huggingface": lambda: TextGenerationHandler(stop_parameter=None),
    **{f"jumpstart-{family}": partial(JumpStartTextHandler, family) for family in get_args(JumpStartFamily)},
}
CHAT_HANDLERS: Mapping[str, Callable[[], Any]] = {"jumpstart-chat": JumpStartChatHandler}
FORMATS = (
    OPENAI,
    *dict.fromkeys((*TEXT_HANDLERS, *CHAT_HANDLERS, *(name for name in get_args(EmbeddingFormat) if name != OPENAI))),
)
"""The formats of containers, as named by `ServedModel` and ``smendpoint serve --format``."""


class ServedModel(NamedTuple):
    """A model that `OpenAIApp` serves.

    Attributes:
        endpoint: the endpoint's name, with ``:component`` after it for an inference component; or an `AsyncEndpoint`,
            whose options are used, but not its content handler.
        format: the format of the container. With ``"openai"``, requests and answers are passed on unchanged. ``"tgi"``,
            ``"lmi"``, ``"huggingface"`` and ``"jumpstart-..."`` take prompts for text completions, ``"jumpstart-chat"``
            takes messages, and the formats of `EmbeddingsHandler` take texts for embeddings.
        model: with ``"openai"``: the container's name for the model, instead of the clients' name; with the empty text,
            the container uses its own model.
    """

    endpoint: str | AsyncEndpoint[Any, Any, Any]
    format: str = OPENAI
    model: str | None = None


class Backend:
    """A served model's endpoints: one for each kind of request that its container takes.

    They share their connections and their limit of calls.

    Raises:
        ConfigurationError: the model is not valid.
    """

    def __init__(self, name: str, served: ServedModel, options: EndpointOptions) -> None:
        if served.format not in FORMATS:
            raise ConfigurationError(
                f"the format of model {name!r} must be one of {', '.join(FORMATS)}, not {served.format!r}"
            )
        if served.model is not None and served.format != OPENAI:
            raise ConfigurationError(f"model {name!r}: a model's name needs a container of the format 'openai'")
        self.name = name
        self._served = served
        if not isinstance(served.endpoint, (str, AsyncEndpoint)):
            kind = type(served.endpoint).__name__
            raise ConfigurationError(f"model {name!r} must have an endpoint's name, or an AsyncEndpoint, not {kind}")
        self._base = _base_endpoint(served.endpoint, options)
        self._endpoints: dict[Kind, AsyncEndpoint[Any, Any, Any]] = {}
        for kind, handler in self._handlers().items():
            self._endpoints[kind] = remade(AsyncEndpoint, self._base, content_handler=handler)

    def _handlers(self) -> dict[Kind, Any]:
        format = self._served.format
        if format == OPENAI:
            handler = PassingHandler()
            return {"chat": handler, "completions": handler, "embeddings": handler}
        found: dict[Kind, Any] = {}
        if format in TEXT_HANDLERS:
            found["completions"] = TEXT_HANDLERS[format]()
        if format in CHAT_HANDLERS:
            found["chat"] = CHAT_HANDLERS[format]()
        if format in get_args(EmbeddingFormat):
            found["embeddings"] = EmbeddingsHandler(format)  # type: ignore[arg-type]  # checked just above
        return found

    def ask(self, kind: Kind, request: dict[str, Any], body: bytes) -> Asked:
        """Make the request of the endpoint.

        Raises:
            Failure: the container cannot do this.
        """
        endpoint = self._endpoints.get(kind)
        format, model = self._served.format, self._served.model
        if endpoint is None:
            served = " and ".join(f"{PATHS[kind]}" for kind in self._endpoints)
            raise Failure(400, f"The model {self.name!r} is served only at {served}: its format is {format}.")
        if format == OPENAI:
            if model is not None:
                body = json.dumps({**request, "model": model}, separators=(",", ":")).encode()
            return _Passed(endpoint, body)
        if kind == "embeddings":
            from smendpoint.asgi._vectors import Vectors

            return Vectors(self.name, endpoint, format, request)
        from smendpoint.asgi._texts import Chat, Text

        return (Chat if kind == "chat" else Text)(self.name, endpoint, format, request)

    async def aclose(self) -> None:
        """Close the connections. Those of a client that was passed in stay open."""
        for endpoint in self._endpoints.values():
            await endpoint.aclose()
        if self._base is not self._served.endpoint:
            await self._base.aclose()


PATHS: Mapping[Kind, str] = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
}


def _base_endpoint(
    endpoint: str | AsyncEndpoint[Any, Any, Any], options: EndpointOptions
) -> AsyncEndpoint[Any, Any, Any]:
    """Return an endpoint with all options, whose copies share its connections and its limit."""
    if isinstance(endpoint, str):
        name, _, component = endpoint.partition(":")
        if component:
            options = {**options, "inference_component_name": component}
        endpoint = AsyncEndpoint(name, **options)
    # A client has its own connections, and an endpoint with a client cannot be copied.
    return endpoint if endpoint._caller.client is not None else copy.copy(endpoint)


class _Passed:
    """A request that goes to its container unchanged."""

    render = None

    def __init__(self, endpoint: AsyncEndpoint[bytes, bytes, bytes], body: bytes) -> None:
        self._endpoint = endpoint
        self._body = body

    async def answer(self) -> bytes:
        return await self._endpoint.invoke(self._body)

    def stream(self) -> AsyncStream[bytes, bytes]:
        return self._endpoint.stream(self._body)

    def end(self, stream: AsyncStream[bytes, bytes]) -> bytes:
        return b""  # the decoder's last chunk is [DONE]
