"""Endpoints, routers and gateways that call an emulator. The rest of the emulator serves every client alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from smendpoint.emulator._auth import Credentials
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from smendpoint._options import EndpointOptions, GatewayOptions, RouterOptions
    from smendpoint._typing import Chunk, In, Out
    from smendpoint.async_endpoint import AsyncEndpoint
    from smendpoint.endpoint import Endpoint
    from smendpoint.handlers import ChatChunk, ChatCompletion
    from smendpoint.handlers._chat_answers import ChatInput
    from smendpoint.handlers.base import ContentHandler, StreamingContentHandler
    from smendpoint.routing.gateway import AsyncInferenceGateway, InferenceGateway
    from smendpoint.routing.router import AsyncInferenceRouter, InferenceRouter

A = TypeVar("A")
B = TypeVar("B")

ANY_CREDENTIALS = Credentials("emulated", "emulated-secret")
"""The credentials of endpoints if the emulator does not require certain ones."""

# With one of these options, the program has its own identity.
_IDENTITIES = ("session", "credentials_profile_name", "aws_access_key_id", "aws_secret_access_key")


class Endpoints:
    """The part of an emulator that makes endpoints for it."""

    _region: str
    _credentials: Credentials | None

    if TYPE_CHECKING:

        @property
        def port(self) -> int: ...
        @property
        def url(self) -> str: ...

    @property
    def region(self) -> str:
        """The region that signatures must name."""
        return self._region

    @overload
    def endpoint(
        self, endpoint_name: str, *, content_handler: None = None, **options: Unpack[EndpointOptions]
    ) -> Endpoint[str, str, str]: ...
    @overload
    def endpoint(
        self,
        endpoint_name: str,
        *,
        content_handler: StreamingContentHandler[In, Out, Chunk],
        **options: Unpack[EndpointOptions],
    ) -> Endpoint[In, Out, Chunk]: ...
    @overload
    def endpoint(
        self, endpoint_name: str, *, content_handler: ContentHandler[A, B], **options: Unpack[EndpointOptions]
    ) -> Endpoint[A, B, B]: ...
    def endpoint(self, endpoint_name: str, **options: Any) -> Any:
        """Make an `Endpoint` that calls this emulator: URL, region and credentials are set.

        The machine's other settings for connections apply as for every endpoint: if ``HTTP_PROXY`` is set,
        ``NO_PROXY=127.0.0.1`` avoids the proxy.

        Args:
            endpoint_name: the endpoint's name.
            content_handler: the content handler, as for `Endpoint`.
            options: the options of `Endpoint`; they take precedence over those set here. With ``client``, none is set.

        Raises:
            ConfigurationError: The emulator has not been started, or an option is not valid.
        """
        from smendpoint.endpoint import Endpoint

        return Endpoint(endpoint_name, **self._lead_here(options))

    @overload
    def async_endpoint(
        self, endpoint_name: str, *, content_handler: None = None, **options: Unpack[EndpointOptions]
    ) -> AsyncEndpoint[str, str, str]: ...
    @overload
    def async_endpoint(
        self,
        endpoint_name: str,
        *,
        content_handler: StreamingContentHandler[In, Out, Chunk],
        **options: Unpack[EndpointOptions],
    ) -> AsyncEndpoint[In, Out, Chunk]: ...
    @overload
    def async_endpoint(
        self, endpoint_name: str, *, content_handler: ContentHandler[A, B], **options: Unpack[EndpointOptions]
    ) -> AsyncEndpoint[A, B, B]: ...
    def async_endpoint(self, endpoint_name: str, **options: Any) -> Any:
        """Make an `AsyncEndpoint` that calls this emulator; see `endpoint`."""
        from smendpoint.async_endpoint import AsyncEndpoint

        return AsyncEndpoint(endpoint_name, **self._lead_here(options))

    @overload
    def router(
        self, name: str, *, target: str, content_handler: None = None, **options: Unpack[RouterOptions]
    ) -> InferenceRouter[str, str, str]: ...
    @overload
    def router(
        self,
        name: str,
        *,
        target: str,
        content_handler: StreamingContentHandler[In, Out, Chunk],
        **options: Unpack[RouterOptions],
    ) -> InferenceRouter[In, Out, Chunk]: ...
    @overload
    def router(
        self, name: str, *, target: str, content_handler: ContentHandler[A, B], **options: Unpack[RouterOptions]
    ) -> InferenceRouter[A, B, B]: ...
    def router(self, name: str, **options: Any) -> Any:
        """Make an `InferenceRouter` that calls this emulator; see `endpoint`."""
        from smendpoint.routing.router import InferenceRouter

        return InferenceRouter(name, **self._lead_here(options))

    @overload
    def async_router(
        self, name: str, *, target: str, content_handler: None = None, **options: Unpack[RouterOptions]
    ) -> AsyncInferenceRouter[str, str, str]: ...
    @overload
    def async_router(
        self,
        name: str,
        *,
        target: str,
        content_handler: StreamingContentHandler[In, Out, Chunk],
        **options: Unpack[RouterOptions],
    ) -> AsyncInferenceRouter[In, Out, Chunk]: ...
    @overload
    def async_router(
        self, name: str, *, target: str, content_handler: ContentHandler[A, B], **options: Unpack[RouterOptions]
    ) -> AsyncInferenceRouter[A, B, B]: ...
    def async_router(self, name: str, **options: Any) -> Any:
        """Make an `AsyncInferenceRouter` that calls this emulator; see `endpoint`."""
        from smendpoint.routing.router import AsyncInferenceRouter

        return AsyncInferenceRouter(name, **self._lead_here(options))

    @overload
    def gateway(
        self, id: str, *, content_handler: None = None, **options: Unpack[GatewayOptions]
    ) -> InferenceGateway[ChatInput, ChatCompletion, ChatChunk]: ...
    @overload
    def gateway(
        self,
        id: str,
        *,
        content_handler: StreamingContentHandler[In, Out, Chunk],
        **options: Unpack[GatewayOptions],
    ) -> InferenceGateway[In, Out, Chunk]: ...
    @overload
    def gateway(
        self, id: str, *, content_handler: ContentHandler[A, B], **options: Unpack[GatewayOptions]
    ) -> InferenceGateway[A, B, B]: ...
    def gateway(self, id: str, **options: Any) -> Any:
        """Make an `InferenceGateway` that calls this emulator; see `endpoint`."""
        from smendpoint.routing.gateway import InferenceGateway

        return InferenceGateway(id, **self._lead_here(options))

    @overload
    def async_gateway(
        self, id: str, *, content_handler: None = None, **options: Unpack[GatewayOptions]
    ) -> AsyncInferenceGateway[ChatInput, ChatCompletion, ChatChunk]: ...
    @overload
    def async_gateway(
        self,
        id: str,
        *,
        content_handler: StreamingContentHandler[In, Out, Chunk],
        **options: Unpack[GatewayOptions],
    ) -> AsyncInferenceGateway[In, Out, Chunk]: ...
    @overload
    def async_gateway(
        self, id: str, *, content_handler: ContentHandler[A, B], **options: Unpack[GatewayOptions]
    ) -> AsyncInferenceGateway[A, B, B]: ...
    def async_gateway(self, id: str, **options: Any) -> Any:
        """Make an `AsyncInferenceGateway` that calls this emulator; see `endpoint`."""
        from smendpoint.routing.gateway import AsyncInferenceGateway

        return AsyncInferenceGateway(id, **self._lead_here(options))

    def _lead_here(self, given: dict[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in given.items() if value is not None}
        if "client" in given:
            return given
        if not self.port:
            raise ConfigurationError("start the emulator first: it has no port yet")
        ours: dict[str, Any] = {"region_name": self._region}
        if "endpoint_url" not in given:
            ours |= {"endpoint_url": self.url, "allow_plain_http": True}
        if not any(name in given for name in _IDENTITIES):
            keys = self._credentials or ANY_CREDENTIALS
            ours |= {"aws_access_key_id": keys.access_key, "aws_secret_access_key": keys.secret_key}
            ours["aws_session_token"] = keys.token
        return {**ours, **given}
