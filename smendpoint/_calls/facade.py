"""`Facade`: calls, `map` and `close`, as endpoints, routers and gateways have them. Their constructors come on top."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from smendpoint._calls.caller import Caller
from smendpoint._calls.endpoint import EndpointBase
from smendpoint._calls.methods import Methods
from smendpoint._core.call.timing import Timeout
from smendpoint._transport.deadline import Cancellation
from smendpoint._typing import Chunk, In, Out

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Literal

    from typing_extensions import Self

    from smendpoint._core.call.slots import Slot


class Facade(Methods[In, Out, Chunk], EndpointBase[In, Out, Chunk]):
    """Something that blocks while it is called."""

    _caller: Caller[In, Out, Chunk]
    _caller_class = Caller

    @overload
    def map(
        self,
        inputs: Iterable[In],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
        enumerated: Literal[False] = False,
        stop_on_fatal: bool = True,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> Iterator[Out]: ...
    @overload
    def map(
        self,
        inputs: Iterable[In],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: bool,
        enumerated: Literal[False] = False,
        stop_on_fatal: bool = True,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> Iterator[Out | Exception]: ...
    @overload
    def map(
        self,
        inputs: Iterable[In],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
        enumerated: Literal[True],
        stop_on_fatal: bool = True,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> Iterator[tuple[int, Out]]: ...
    @overload
    def map(
        self,
        inputs: Iterable[In],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: bool,
        enumerated: Literal[True],
        stop_on_fatal: bool = True,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> Iterator[tuple[int, Out | Exception]]: ...
    def map(
        self,
        inputs: Iterable[In],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
        enumerated: bool = False,
        stop_on_fatal: bool = True,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> Iterator[Any]:
        """Call the model for each input, several at a time, and yield the outputs.

        A call that the endpoint refuses because of load is sent again, which does not count as an attempt of the retry
        policy. An input is read when its call can be sent. A slow answer does not hold up the calls after it: their
        outputs wait, up to 50 for each call that is in flight at once. Leaving the iterator early stops the calls that
        are in flight.

        Args:
            inputs: any iterable; it may be endless.
            max_concurrency: how many calls of this map may be in flight at once, and at most `max_connections`. With
                `None`, the endpoint's ``concurrency`` decides; if that is not set either, an `AdaptiveConcurrency` of
                this map finds out how many calls the endpoint can take. A number is never exceeded, but it is lowered
                while the endpoint refuses calls because of load.
            ordered: whether outputs come in the order of their inputs, or as soon as they are ready.
            return_exceptions: whether a call's error takes the place of its output, or ends the iteration.
            enumerated: whether each output (or the error in its place) comes in a pair with the index of its input,
                from 0.
            stop_on_fatal: whether an error that every later call would raise as well ends the iteration, even with
                `return_exceptions`: the service does not know the endpoint or denies access, there are no usable
                credentials, TLS is refused, or the endpoint is closed.
            timeout: the timeout of each call; as for `invoke`.
            **model_kwargs: parameters for the model, and `stop` and `endpoint_kwargs`, as for `invoke`.

        Raises:
            ConfigurationError: `inputs` is a single input, or another argument is not valid. Nothing was sent.
        """
        window, limiter, arguments = self._check_map(
            inputs,
            max_concurrency,
            timeout,
            model_kwargs,
            ordered=ordered,
            return_exceptions=return_exceptions,
            enumerated=enumerated,
            stop_on_fatal=stop_on_fatal,
        )
        from smendpoint._calls.fanout import fan_out

        def work(value: In, cancellation: Cancellation, slot: Slot) -> Out:
            request, stop = self._request(self._invoke, value, *arguments)
            return self._output(*self._caller.send(request, cancellation, slot), stop)

        return fan_out(work, inputs, limiter, window, stoppable=self._caller.transport.stoppable)

    def close(self) -> None:
        """Close the endpoint's connections. A client passed as ``client=`` stays open.

        Calls in flight in other threads run to their end, and then close their connections. (In asyncio, where calls
        cannot continue without their loop, `AsyncEndpoint.aclose` ends them.) Unpickled or copied endpoints share
        connections: these close with the last of the endpoints.
        """
        self._caller.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
