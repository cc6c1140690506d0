"""The two endpoints of a framework's model, for plain and for awaited calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smendpoint._calls.endpoint import EndpointBase, remade
from smendpoint.async_endpoint import AsyncEndpoint
from smendpoint.endpoint import Endpoint
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Twins"]


class Twins:
    """The endpoint of a model, and its twin for the other way to wait, which is made on first use.

    Copies of the model share them. A pickle has only the first, without secrets and connections.

    Args:
        first: the endpoint.
        ours: whether to close it.
        options: the fields that it was made from; ``None`` if they are no longer known.
    """

    def __init__(
        self, first: EndpointBase[Any, Any, Any], *, ours: bool, options: Mapping[str, Any] | None = None
    ) -> None:
        self._first = first
        self._ours = ours
        self._options = options
        self._other: EndpointBase[Any, Any, Any] | None = None

    def fits(self, options: Mapping[str, Any]) -> bool:
        """Return whether a model with these fields calls through this endpoint."""
        if self._options is None:
            return bool(options["endpoint_name"] == self._first._caller.name)
        return self._options == options

    @property
    def handler(self) -> Any:
        """The content handler of both."""
        return self._first.content_handler

    def blocking(self) -> Endpoint[Any, Any, Any]:
        """Return the endpoint for plain calls.

        Raises:
            ConfigurationError: all calls go through an aiobotocore client.
        """
        found: Any = self._of(Endpoint)
        if found is None:
            raise ConfigurationError(
                "this model calls through an asynchronous client: await its asynchronous methods, such as ainvoke",
                endpoint_name=self._first._caller.name,
            )
        return found  # type: ignore[no-any-return]  # an endpoint of this kind

    def awaited(self) -> AsyncEndpoint[Any, Any, Any] | None:
        """Return the endpoint for asyncio; ``None`` if all calls go through a blocking client."""
        found: Any = self._of(AsyncEndpoint)
        return found  # type: ignore[no-any-return]  # an endpoint of this kind

    def _of(self, kind: type[EndpointBase[Any, Any, Any]]) -> EndpointBase[Any, Any, Any] | None:
        if isinstance(self._first, kind):
            return self._first
        if self._other is None and self._first._caller.client is None:
            made = remade(kind, self._first, s3_client=None)
            self._other = self._other or made  # another thread may have made it in the meantime
        return self._other

    def close(self) -> None:
        """Close the connections for plain calls."""
        for endpoint in self._made():
            if isinstance(endpoint, Endpoint):
                endpoint.close()

    async def aclose(self) -> None:
        """Close all connections."""
        self.close()
        for endpoint in self._made():
            if isinstance(endpoint, AsyncEndpoint):
                await endpoint.aclose()

    def _made(self) -> list[EndpointBase[Any, Any, Any] | None]:
        """The endpoints that were made here."""
        return [self._first if self._ours else None, self._other]

    def __deepcopy__(self, memo: object) -> Twins:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self._first,)


def _unpickled(first: EndpointBase[Any, Any, Any]) -> Twins:
    return Twins(first, ours=True)
