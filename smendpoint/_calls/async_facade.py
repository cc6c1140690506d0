"""`AsyncFacade`: the twin of `Facade` for asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from smendpoint._calls.caller import AsyncCaller
from smendpoint._calls.endpoint import EndpointBase
from smendpoint._calls.methods import AsyncMethods
from smendpoint._core.call.timing import Timeout
from smendpoint._typing import Chunk, In, Out

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable
    from typing import Literal

    from typing_extensions import Self

    from smendpoint._core.call.slots import Slot


class AsyncFacade(AsyncMethods[In, Out, Chunk], EndpointBase[In, Out, Chunk]):
    """Something that is awaited when it is called."""

    _caller: AsyncCaller[In, Out, Chunk]
    _caller_class = AsyncCaller

    @overload
    def map(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
        enumerated: Literal[False] = False,
        stop_on_fatal: bool = True,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> AsyncIterator[Out]: ...
    @overload
    def map(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: bool,
        enumerated: Literal[False] = False,
        stop_on_fatal: bool = True,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> AsyncIterator[Out | Exception]: ...
    @overload
    def map(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
        enumerated: Literal[True],
        stop_on_fatal: bool = True,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> AsyncIterator[tuple[int, Out]]: ...
    @overload
    def map(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: bool,
        enumerated: Literal[True],
        stop_on_fatal: bool = True,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> AsyncIterator[tuple[int, Out | Exception]]: ...
    def map(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
        enumerated: bool = False,
        stop_on_fatal: bool = True,
        timeout: float | Timeout | None = None,
        **model_kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Call the model for each input, several at a time, and yield the outputs.

        A call that the endpoint refuses because of load is sent again, which does not count as an attempt of the retry
        policy. An input is read when its call can be sent. A slow answer does not hold up the calls after it: their
        outputs wait, up to 50 for each call that is in flight at once. Leaving the iterator early stops the calls that
        are in flight.

        Arguments and errors as for `Endpoint.map`; `inputs` may also be an asynchronous iterable.
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
        from smendpoint._calls.async_fanout import fan_out

        async def work(value: In, slot: Slot) -> Out:
            request, stop = self._request(self._invoke, value, *arguments)
            return self._output(*await self._caller.send(request, slot), stop)

        return fan_out(work, inputs, limiter, window)

    async def aclose(self) -> None:
        """Close the endpoint's connections. A client passed as ``client=`` stays open.

        Calls in flight in other tasks end at once, with an `EndpointError`. (`Endpoint.close` lets them run to their
        end.) Unpickled or copied endpoints share connections: these close, and their calls end, with the last of the
        endpoints.
        """
        await self._caller.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()
