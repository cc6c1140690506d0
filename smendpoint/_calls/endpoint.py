"""What `Endpoint` and `AsyncEndpoint` have in common beside their methods: construction, names, copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smendpoint._aws import Identity
from smendpoint._core.call.hiding import forget_locals
from smendpoint._options import IDENTITY_OPTIONS, EndpointArguments
from smendpoint._typing import Chunk, In, Out

if TYPE_CHECKING:
    from smendpoint._calls.base import CallerBase
    from smendpoint.handlers.base import ContentHandler


class EndpointBase(EndpointArguments[In, Out, Chunk]):
    """What does not depend on waiting."""

    _caller: CallerBase[In, Out, Chunk]
    _caller_class: type[CallerBase[Any, Any, Any]]

    def _construct(self, options: dict[str, Any]) -> None:
        """Make the endpoint of the constructor's arguments, `self` among them."""
        try:
            del options["self"]
            name = options.pop("endpoint_name")
            identity = Identity(**{name: options.pop(name) for name in IDENTITY_OPTIONS})
            self._caller = self._caller_class(name, identity, options)
        except BaseException as error:
            options = {}
            forget_locals(error)
            raise

    @property
    def endpoint_name(self) -> str:
        """The name of the endpoint that is called."""
        return self._caller.name

    @property
    def content_handler(self) -> ContentHandler[In, Out]:
        """The handler that makes requests from inputs and outputs from responses."""
        return self._caller.handler

    def __repr__(self) -> str:
        caller = vars(self).get("_caller")  # one that could not be made has none
        name, handler = (None, None) if caller is None else (caller.name, caller.handler)
        return f"{type(self).__name__}({name!r}, content_handler={type(handler).__name__})"

    def __reduce__(self) -> tuple[Any, ...]:
        _, arguments = self._caller.__reduce__()
        return _rebuild, (type(self), *arguments)


def _rebuild(cls: Any, name: str, identity: Identity, settings: dict[str, Any]) -> Any:
    endpoint = cls.__new__(cls)
    endpoint._caller = cls._caller_class(name, identity, settings)
    return endpoint


def remade(cls: Any, endpoint: EndpointBase[Any, Any, Any], **changes: Any) -> Any:
    """An endpoint of the class `cls` with all that another one was made with, but for `changes`."""
    caller = endpoint._caller
    return _rebuild(cls, caller.name, caller.identity, {**caller.settings, **changes})
