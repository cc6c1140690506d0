"""`AsyncStatefulSession`: calls that reach one instance, whose model remembers them, for asyncio."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._core.call.hiding import hidden
from smendpoint._session import SessionBase
from smendpoint._typing import Chunk, In, Out

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from typing_extensions import Self

    from smendpoint._async_stream import AsyncStream
    from smendpoint._core.call.timing import Timeout
    from smendpoint._kwargs import InvokeEndpointKwargs, StreamKwargs
    from smendpoint._response import Response
    from smendpoint.async_endpoint import AsyncEndpoint

__all__ = ["AsyncStatefulSession"]


class AsyncStatefulSession(SessionBase[In, Out, Chunk]):
    """Calls that reach one instance, whose model remembers them: SageMaker's stateful session.

    `AsyncEndpoint.session` gives one. ``async with`` opens it, and closes it whatever happens inside.
    """

    _endpoint: AsyncEndpoint[In, Out, Chunk]

    async def open(self) -> Self:
        """Open the session. ``async with`` does it.

        Raises:
            ConfigurationError: it was opened before, or a request member does not fit.
            EndpointError: the call failed, or the model opened no session.
        """
        request = self._opening()
        call = await self._endpoint._start(request)
        self._opened(call, await self._endpoint._run(request, call))
        return self

    async def aclose(self) -> None:
        """Close the session. Closing twice does nothing, nor does closing what has expired.

        Raises:
            EndpointError: the call failed, or the model did not close the session; it then lives until it expires.
        """
        request = self._closing()
        if request is not None:
            call = await self._endpoint._start(request)
            self._has_closed(call, await self._endpoint._run(request, call))

    async def invoke(
        self,
        input: In,
        /,
        *,
        stop: str | Iterable[str] | None = None,
        timeout: float | Timeout | None = None,
        endpoint_kwargs: InvokeEndpointKwargs | Mapping[str, object] | None = None,
        **model_kwargs: Any,
    ) -> Out:
        """Call the model in this session. As `AsyncEndpoint.invoke`.

        Raises:
            ConfigurationError: the session is not open, is closed or has expired; or an argument does not fit.
        """
        endpoint_kwargs = hidden(endpoint_kwargs)
        members = self._carry(endpoint_kwargs)
        call, answer, sequences = await self._endpoint._call(input, stop, timeout, members, model_kwargs)
        self._notice(answer)
        return self._endpoint._output(call, answer, sequences)

    __call__ = invoke

    async def send(
        self,
        input: In,
        /,
        *,
        stop: str | Iterable[str] | None = None,
        timeout: float | Timeout | None = None,
        endpoint_kwargs: InvokeEndpointKwargs | Mapping[str, object] | None = None,
        **model_kwargs: Any,
    ) -> Response[Out]:
        """Call the model in this session, and give the output with what came with it. As `AsyncEndpoint.send`."""
        endpoint_kwargs = hidden(endpoint_kwargs)
        members = self._carry(endpoint_kwargs)
        call, answer, sequences = await self._endpoint._call(input, stop, timeout, members, model_kwargs)
        self._notice(answer)
        return self._endpoint._respond(call, answer, sequences)

    def stream(
        self,
        input: In,
        /,
        *,
        stop: str | Iterable[str] | None = None,
        timeout: float | Timeout | None = None,
        endpoint_kwargs: StreamKwargs | Mapping[str, object] | None = None,
        **model_kwargs: Any,
    ) -> AsyncStream[Chunk, Out]:
        """Call the model in this session, and give its output while it arrives. As `AsyncEndpoint.stream`."""
        endpoint_kwargs = hidden(endpoint_kwargs)
        members = self._carry(endpoint_kwargs)
        return self._endpoint.stream(input, stop=stop, timeout=timeout, endpoint_kwargs=members, **model_kwargs)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        if kind is None:
            await self.aclose()
            return
        with suppress(errors.SmendpointError):  # what happened inside is what matters
            await self.aclose()
