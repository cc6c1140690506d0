"""`EndpointBase`: constructs and copies endpoints, routers and gateways, and checks the arguments of `map`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._aws import Identity
from smendpoint._calls.arguments import checked_limit, model_parameters, stop_sequences
from smendpoint._calls.base import rebuilt
from smendpoint._core.call.hiding import forget_locals, hidden
from smendpoint._options import IDENTITY_OPTIONS
from smendpoint._typing import Chunk, In, Out, Typed

if TYPE_CHECKING:
    from smendpoint._calls.base import CallerBase
    from smendpoint._calls.window import Window
    from smendpoint._core.aws.operations import Operation
    from smendpoint._core.call.timing import Timeout
    from smendpoint.handlers.base import ContentHandler


class EndpointBase(Typed[In, Out, Chunk]):
    """The half of endpoints, routers and gateways that does not wait."""

    _caller: CallerBase[In, Out, Chunk]
    _caller_class: type[CallerBase[Any, Any, Any]]
    _invoke: Operation
    _named_by = "endpoint_name"

    def _construct(self, options: dict[str, Any]) -> None:
        """Set up the object with the constructor's arguments, including `self`."""
        try:
            del options["self"]
            name, token = options.pop(self._named_by), options.pop("customer_identity_token", None)
            given = {name: options.pop(name) for name in IDENTITY_OPTIONS}
            identity = Identity(self._invoke.service, customer_identity_token=token, **given)
            self._caller = self._caller_class(name, identity, options)
        except BaseException as error:
            options = given = {}
            token = None
            forget_locals(error)
            raise

    @property
    def content_handler(self) -> ContentHandler[In, Out]:
        """The handler that makes requests from inputs and outputs from responses."""
        return self._caller.handler

    @property
    def concurrency_limit(self) -> int | None:
        """How many calls may be in flight at this moment; `None` if ``concurrency`` does not limit them."""
        limiter = self._caller.limiter
        return None if limiter is None else limiter.limit

    def __repr__(self) -> str:
        caller = vars(self).get("_caller")  # an endpoint whose constructor failed has none
        name, handler = (None, None) if caller is None else (caller.name, caller.handler)
        return f"{type(self).__name__}({name!r}, content_handler={type(handler).__name__})"

    def _check_map(
        self,
        inputs: Any,
        max_concurrency: Any,
        timeout: float | Timeout | None,
        model_kwargs: dict[str, Any],
        **outputs: bool,
    ) -> tuple[Window, Any, tuple[Any, ...]]:
        """Check the arguments of `map`. `outputs` says which outputs it gives, and how.

        Returns:
            The state of the new fan-out, the limiter of its calls, and the arguments of each call besides its input.

        Raises:
            ConfigurationError: `inputs` is a single input, or another argument is not valid.
        """
        caller = self._caller
        stop = stop_sequences(model_kwargs.pop("stop", None))
        endpoint_kwargs = hidden(model_kwargs.pop("endpoint_kwargs", None))
        model_parameters(model_kwargs, caller.name)
        limits = None if timeout is None else caller.call_timeout(timeout)
        ways = ("__iter__", "__getitem__", "__aiter__") if caller.asynchronous else ("__iter__", "__getitem__")
        # One text would become a call for each character, one mapping a call for each key, and a frame of pandas or
        # polars a call for each column.
        one = isinstance(inputs, (str, bytes, Mapping)) or hasattr(type(inputs), "columns")
        if one or not any(hasattr(inputs, way) for way in ways):
            raise errors.ConfigurationError(
                f"map takes several inputs, such as a list of them, not one {type(inputs).__name__}",
                endpoint_name=caller.name,
            )
        concurrency = checked_limit("max_concurrency", max_concurrency)
        from smendpoint._calls.window import Window
        from smendpoint._core.call.limit import AdaptiveConcurrency

        limiter = caller.limiter or caller.make_limiter(concurrency or AdaptiveConcurrency())
        most = caller.transport.max_connections  # more calls would wait for a connection
        window = Window(concurrency and min(concurrency, most or concurrency), **outputs)
        return window, limiter, (stop, limits, endpoint_kwargs, model_kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        _, (_, *arguments) = self._caller.__reduce__()
        return _rebuild, (type(self), *arguments)


def _rebuild(cls: Any, name: str, identity: Identity, settings: dict[str, Any], *, share: bool = True) -> Any:
    endpoint = cls.__new__(cls)
    endpoint._caller = rebuilt(cls._caller_class, name, identity, settings, share=share)
    return endpoint


def remade(cls: Any, endpoint: EndpointBase[Any, Any, Any], **changes: Any) -> Any:
    """Make an endpoint of the class `cls` with the arguments of another one, except for `changes`.

    It shares connections with others of its configuration if the other one does.
    """
    caller = endpoint._caller
    settings = {**caller.settings, **changes}
    return _rebuild(cls, caller.name, caller.identity, settings, share=caller.share is not None)
