"""The common part of LangChain's classes: checked arguments, and an endpoint for each way to call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, TypeVar

from smendpoint._aws.identity import KEYS
from smendpoint._calls.endpoint import remade
from smendpoint._options import ENDPOINT_OPTIONS
from smendpoint._transport.threads import off_loop
from smendpoint.endpoint import Endpoint
from smendpoint.errors import ConfigurationError
from smendpoint.prompts import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from smendpoint._options import EndpointOptions
    from smendpoint.async_endpoint import AsyncEndpoint

__all__ = ["Model", "in_thread", "refuse"]

T = TypeVar("T")
In = TypeVar("In")
Out = TypeVar("Out")

# LangChain ignores these arguments if there is a client.
_NOT_WITH_A_CLIENT = ("region_name", "credentials_profile_name", "endpoint_url", "config", *KEYS)


class _Harmless(TypedDict, total=False):
    """LangChain's arguments that are allowed as long as they have no effect."""

    cache: Literal[False] | None
    callback_manager: None
    callbacks: None
    configurable: None
    custom_get_token_ids: None
    include_run_info: Literal[False] | None
    memory: None
    metadata: None
    name: None
    rate_limiter: None
    run_id: None
    run_name: None
    tags: None
    verbose: Literal[False] | None


if TYPE_CHECKING:

    class ModelOptions(EndpointOptions, _Harmless, total=False):
        """The arguments of the models except the name and the content handler."""


def refuse(what: str, unknown: Mapping[str, object]) -> None:
    """Refuse arguments that would have no effect.

    Raises:
        ConfigurationError: an argument is not LangChain's, or has a value that would have an effect.
    """
    asked = [name for name, value in unknown.items() if value or name not in _Harmless.__annotations__]
    if asked:
        raise ConfigurationError(f"{what} has no {quoted(asked)}: it would have no effect in smendpoint")


class Model(Generic[In, Out]):
    """A model with LangChain's arguments, and an endpoint of each kind."""

    __slots__ = ("_awaited", "_endpoint")

    def __init__(self, endpoint_name: str, content_handler: Any, given: Mapping[str, Any]) -> None:
        known = set(ENDPOINT_OPTIONS) - {"content_handler"}
        refuse(type(self).__name__, {name: value for name, value in given.items() if name not in known})
        # LangChain's default for the region is an empty string, and for the rest it is None.
        options = {name: _plain(value) for name, value in given.items() if name in known and value not in (None, "")}
        if "client" in options:
            options = {name: value for name, value in options.items() if name not in _NOT_WITH_A_CLIENT}
        made: Any = Endpoint(endpoint_name, content_handler=content_handler, **options)
        self._endpoint: Endpoint[In, Out, Out] = made
        self._awaited: AsyncEndpoint[In, Out, Out] | None = None

    @property
    def endpoint(self) -> Endpoint[In, Out, Out]:
        """The endpoint that is called."""
        return self._endpoint

    def _asynchronous(self) -> AsyncEndpoint[In, Out, Out] | None:
        """The twin of the endpoint for asyncio; ``None`` if all calls go through a client, which blocks."""
        if self._awaited is None and self._endpoint._caller.client is None:
            from smendpoint.async_endpoint import AsyncEndpoint

            self._awaited = remade(AsyncEndpoint, self._endpoint, s3_client=None)
        return self._awaited

    def close(self) -> None:
        """Close the open connections. Those of asyncio close with their event loop, or with :meth:`aclose`."""
        self._endpoint.close()

    async def aclose(self) -> None:
        """Close the open connections, including those of asyncio."""
        self._endpoint.close()
        if self._awaited is not None:
            await self._awaited.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(endpoint_name={self._endpoint.endpoint_name!r})"


def _plain(value: Any) -> Any:
    # pydantic's SecretStr, which langchain-aws uses for keys.
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value


async def in_thread(call: Callable[[], T]) -> T:
    """Make a blocking call in a thread, with the context variables of the task."""
    import asyncio
    from contextvars import copy_context

    context = copy_context()
    return await off_loop(asyncio.get_running_loop(), lambda: context.run(call))
