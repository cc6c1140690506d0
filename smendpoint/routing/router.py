"""`InferenceRouter` and `AsyncInferenceRouter`: call models through an inference router."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from smendpoint._calls.async_facade import AsyncFacade
from smendpoint._calls.endpoint import EndpointBase
from smendpoint._calls.facade import Facade
from smendpoint._core.aws.operations import validate_endpoint_name
from smendpoint._core.aws.routing import INVOKE_ROUTER, INVOKE_ROUTER_ASYNC
from smendpoint._core.call.hiding import forget_locals, hidden
from smendpoint._options import completed
from smendpoint._typing import Chunk, In, Out

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from typing_extensions import Unpack

    from smendpoint._calls.caller import AsyncCaller, Caller
    from smendpoint._calls.inference import AsyncInferenceHandle, InferenceHandle
    from smendpoint._options import RouterOptions
    from smendpoint.handlers.base import ContentHandler, StreamingContentHandler

A = TypeVar("A")
B = TypeVar("B")

__all__ = ["AsyncInferenceRouter", "InferenceRouter"]


class RouterBase(EndpointBase[In, Out, Chunk]):
    """The half of both routers that does not wait; their overloads add the content handler's types."""

    _invoke = INVOKE_ROUTER
    _named_by = "name"

    def __init__(self, name: str, *, target: str, content_handler: Any = None, **options: Any) -> None:
        """Make a router.

        Args:
            name: the router's name, 1 to 63 letters, digits and hyphens.
            target: the name of the routing target, which has the destinations of the calls.
            content_handler: makes requests from inputs and outputs from answers; by default `TextGenerationHandler`.
            **options: the options of `Endpoint`, without ``inference_component_name``. A ``client`` is one for
                ``sagemaker-inference-router-runtime``. Without a ``timeout``, silence may last for 170 s: the router
                may try a second destination, and each has 60 s. A `Timeout` replaces that: set its ``read``.

        Raises:
            ConfigurationError: an argument is not valid.
        """
        try:
            options = completed(options, "InferenceRouter", ("inference_component_name",))
            validate_endpoint_name(target, "the name of the routing target")
            own = {"self": self, "name": name, "target": target, "content_handler": content_handler}
            self._construct({**options, **own})
        except BaseException as error:  # so that a traceback with variables shows no secret
            del options
            forget_locals(error)
            raise

    @property
    def name(self) -> str:
        """The name of the router."""
        return self._caller.name

    @property
    def target(self) -> str:
        """The name of the routing target."""
        target: str = self._caller.settings["target"]
        return target


def _members(
    input_location: str,
    inference_id: str | None,
    request_ttl_seconds: int | None,
    invocation_timeout_seconds: int | None,
    output_path_extension: str | None,
    filename: str | None,
) -> dict[str, object]:
    return {
        "InputLocation": input_location,
        "InferenceId": inference_id,
        "RequestTTLSeconds": request_ttl_seconds,
        "InvocationTimeoutSeconds": invocation_timeout_seconds,
        "S3OutputPathExtension": output_path_extension,
        "Filename": filename,
    }


class InferenceRouter(RouterBase[In, Out, Chunk], Facade[In, Out, Chunk]):
    """An inference router: it sends each call to one of the destinations of a routing target.

    A destination is an endpoint or an inference component, in any region. `send` tells which one answered, and why:
    ``routed_resource_arn`` and ``routing_reason``. Constructing, sharing and pickling are as for `Endpoint`. Routers do
    not stream.
    """

    _caller: Caller[In, Out, Chunk]

    if TYPE_CHECKING:  # the constructor itself is in `RouterBase`

        @overload
        def __init__(
            self: InferenceRouter[str, str, str],
            name: str,
            *,
            target: str,
            content_handler: None = None,
            **options: Unpack[RouterOptions],
        ) -> None: ...
        @overload
        def __init__(
            self,
            name: str,
            *,
            target: str,
            content_handler: StreamingContentHandler[In, Out, Chunk],
            **options: Unpack[RouterOptions],
        ) -> None: ...
        @overload
        def __init__(
            self: InferenceRouter[A, B, B],
            name: str,
            *,
            target: str,
            content_handler: ContentHandler[A, B],
            **options: Unpack[RouterOptions],
        ) -> None: ...
        def __init__(self, name: str, **options: Any) -> None: ...

    def submit(
        self,
        *,
        input_location: str,
        inference_id: str | None = None,
        request_ttl_seconds: int | None = None,
        invocation_timeout_seconds: int | None = None,
        output_path_extension: str | None = None,
        filename: str | None = None,
        stop: str | Iterable[str] | None = None,
        endpoint_kwargs: Mapping[str, object] | None = None,
    ) -> InferenceHandle[Out]:
        """Submit an input for asynchronous inference: a destination processes it later.

        Args:
            input_location: ``s3://bucket/key`` of the input, in the router's region and account.
            inference_id: the caller's id of the request.
            request_ttl_seconds: how long the request may wait for a destination, 60 to 21,600 s.
            invocation_timeout_seconds: how long the model may take, 1 to 3,600 s.
            output_path_extension: a folder for the output, below the target's output folder.
            filename: the output's name.
            stop: the output ends before the first of these strings.
            endpoint_kwargs: further request members in the AWS spelling.
        """
        endpoint_kwargs = hidden(endpoint_kwargs)
        from smendpoint._calls.inference import submit

        members = _members(
            input_location,
            inference_id,
            request_ttl_seconds,
            invocation_timeout_seconds,
            output_path_extension,
            filename,
        )
        return submit(self, self._caller, INVOKE_ROUTER_ASYNC, None, None, stop, endpoint_kwargs, members, {})


class AsyncInferenceRouter(RouterBase[In, Out, Chunk], AsyncFacade[In, Out, Chunk]):
    """An inference router, for asyncio: it sends each call to one of the destinations of a routing target.

    Everything else as for `InferenceRouter` and `AsyncEndpoint`.
    """

    _caller: AsyncCaller[In, Out, Chunk]

    if TYPE_CHECKING:  # the constructor itself is in `RouterBase`

        @overload
        def __init__(
            self: AsyncInferenceRouter[str, str, str],
            name: str,
            *,
            target: str,
            content_handler: None = None,
            **options: Unpack[RouterOptions],
        ) -> None: ...
        @overload
        def __init__(
            self,
            name: str,
            *,
            target: str,
            content_handler: StreamingContentHandler[In, Out, Chunk],
            **options: Unpack[RouterOptions],
        ) -> None: ...
        @overload
        def __init__(
            self: AsyncInferenceRouter[A, B, B],
            name: str,
            *,
            target: str,
            content_handler: ContentHandler[A, B],
            **options: Unpack[RouterOptions],
        ) -> None: ...
        def __init__(self, name: str, **options: Any) -> None: ...

    async def submit(
        self,
        *,
        input_location: str,
        inference_id: str | None = None,
        request_ttl_seconds: int | None = None,
        invocation_timeout_seconds: int | None = None,
        output_path_extension: str | None = None,
        filename: str | None = None,
        stop: str | Iterable[str] | None = None,
        endpoint_kwargs: Mapping[str, object] | None = None,
    ) -> AsyncInferenceHandle[Out]:
        """Submit an input for asynchronous inference: a destination processes it later.

        Arguments as for `InferenceRouter.submit`.
        """
        endpoint_kwargs = hidden(endpoint_kwargs)
        from smendpoint._calls.inference import submit_async

        members = _members(
            input_location,
            inference_id,
            request_ttl_seconds,
            invocation_timeout_seconds,
            output_path_extension,
            filename,
        )
        return await submit_async(
            self, self._caller, INVOKE_ROUTER_ASYNC, None, None, stop, endpoint_kwargs, members, {}
        )
