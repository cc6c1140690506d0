"""`InferenceGateway` and `AsyncInferenceGateway`: call models through a global inference gateway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from smendpoint._calls.async_facade import AsyncFacade
from smendpoint._calls.endpoint import EndpointBase
from smendpoint._calls.facade import Facade
from smendpoint._calls.methods import AsyncStreamMethods, StreamMethods
from smendpoint._core.aws.routing import INVOKE_GATEWAY, INVOKE_GATEWAY_STREAM
from smendpoint._core.call.hiding import forget_locals
from smendpoint._options import completed
from smendpoint._typing import Chunk, In, Out
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from smendpoint._calls.caller import AsyncCaller, Caller
    from smendpoint._options import GatewayOptions
    from smendpoint.handlers._chat_answers import ChatChunk, ChatCompletion, ChatInput
    from smendpoint.handlers.base import ContentHandler, StreamingContentHandler

A = TypeVar("A")
B = TypeVar("B")

__all__ = ["AsyncInferenceGateway", "InferenceGateway"]


class GatewayBase(EndpointBase[In, Out, Chunk]):
    """The half of both gateways that does not wait; their overloads add the content handler's types."""

    _invoke = INVOKE_GATEWAY
    _stream = INVOKE_GATEWAY_STREAM
    _named_by = "id"

    def __init__(
        self, id: str, *, content_handler: Any = None, customer_identity_token: str | None = None, **options: Any
    ) -> None:
        """Make a gateway.

        Args:
            id: the gateway's ID.
            content_handler: makes requests from inputs and outputs from answers; by default `ChatHandler`. A gateway
                takes OpenAI's JSON only.
            customer_identity_token: the token (a JWT) by which the inference gateway behind it knows its customer. It
                is a secret, and not pickled. A call can have one of its own, as ``CustomerIdentityToken`` of
                `endpoint_kwargs`.
            **options: the options of `Endpoint`, without ``inference_component_name`` and ``s3_client``. A ``client``
                is one for ``sagemaker-gateway-runtime``. The parameter ``model`` chooses the model: give it in
                ``model_kwargs``, or to each call.

        Raises:
            ConfigurationError: an argument is not valid.
        """
        members: Any = None
        try:
            options = completed(options, "InferenceGateway", ("inference_component_name", "s3_client"))
            members = options["endpoint_kwargs"]
            if isinstance(members, Mapping) and "CustomerIdentityToken" in members:
                raise ConfigurationError(
                    "pass customer_identity_token= instead of CustomerIdentityToken in endpoint_kwargs: these are "
                    "pickled"
                )
            if content_handler is None:
                from smendpoint.handlers.chat import ChatHandler

                content_handler = ChatHandler()
            own = {"self": self, "id": id, "content_handler": content_handler}
            self._construct({**options, **own, "customer_identity_token": customer_identity_token})
        except BaseException as error:  # so that a traceback with variables shows no secret
            del options, customer_identity_token, members
            forget_locals(error)
            raise

    @property
    def id(self) -> str:
        """The ID of the gateway."""
        return self._caller.name


class InferenceGateway(GatewayBase[In, Out, Chunk], Facade[In, Out, Chunk], StreamMethods[In, Out, Chunk]):
    """A global inference gateway: it sends each call to an inference gateway that has the model that the call names.

    Requests and answers are OpenAI's. `invoke`, `send` and `map` get whole answers and `stream` a stream, whatever the
    request says about that. Constructing, sharing and pickling are as for `Endpoint`.
    """

    _caller: Caller[In, Out, Chunk]

    if TYPE_CHECKING:  # the constructor itself is in `GatewayBase`

        @overload
        def __init__(
            self: InferenceGateway[ChatInput, ChatCompletion, ChatChunk],
            id: str,
            *,
            content_handler: None = None,
            **options: Unpack[GatewayOptions],
        ) -> None: ...
        @overload
        def __init__(
            self,
            id: str,
            *,
            content_handler: StreamingContentHandler[In, Out, Chunk],
            **options: Unpack[GatewayOptions],
        ) -> None: ...
        @overload
        def __init__(
            self: InferenceGateway[A, B, B],
            id: str,
            *,
            content_handler: ContentHandler[A, B],
            **options: Unpack[GatewayOptions],
        ) -> None: ...
        def __init__(self, id: str, **options: Any) -> None: ...


class AsyncInferenceGateway(
    GatewayBase[In, Out, Chunk], AsyncFacade[In, Out, Chunk], AsyncStreamMethods[In, Out, Chunk]
):
    """A global inference gateway, for asyncio: it sends each call to an inference gateway that has its model.

    Everything else as for `InferenceGateway` and `AsyncEndpoint`.
    """

    _caller: AsyncCaller[In, Out, Chunk]

    if TYPE_CHECKING:  # the constructor itself is in `GatewayBase`

        @overload
        def __init__(
            self: AsyncInferenceGateway[ChatInput, ChatCompletion, ChatChunk],
            id: str,
            *,
            content_handler: None = None,
            **options: Unpack[GatewayOptions],
        ) -> None: ...
        @overload
        def __init__(
            self,
            id: str,
            *,
            content_handler: StreamingContentHandler[In, Out, Chunk],
            **options: Unpack[GatewayOptions],
        ) -> None: ...
        @overload
        def __init__(
            self: AsyncInferenceGateway[A, B, B],
            id: str,
            *,
            content_handler: ContentHandler[A, B],
            **options: Unpack[GatewayOptions],
        ) -> None: ...
        def __init__(self, id: str, **options: Any) -> None: ...
