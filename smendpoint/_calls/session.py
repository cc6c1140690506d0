"""`StatefulSession` and `AsyncStatefulSession`: calls that reach one instance, whose model remembers them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._calls.arguments import checked_mapping
from smendpoint._calls.methods import AsyncMethods, AsyncStreamMethods, Methods, MethodsBase, StreamMethods
from smendpoint._core.aws.operations import INVOKE_ENDPOINT
from smendpoint._core.aws.response import server_date, session_id
from smendpoint._core.call.hiding import hidden
from smendpoint._typing import Chunk, In, Out

if TYPE_CHECKING:
    from typing_extensions import Self

    from smendpoint._calls.base import CallerBase
    from smendpoint._calls.caller import AsyncCaller, Caller
    from smendpoint._core.aws.renderer import CallRequest
    from smendpoint._core.aws.response import RawResponse
    from smendpoint._core.call.flow import CallState

__all__ = ["AsyncStatefulSession", "StatefulSession"]

# The convention of AWS's containers (LMI, vLLM, SGLang), which accept no other member besides it.
OPEN: Mapping[str, Any] = {"requestType": "NEW_SESSION"}
CLOSE: Mapping[str, Any] = {"requestType": "CLOSE"}
_JSON = "application/json"


class SessionBase(MethodsBase[In, Out, Chunk]):
    """The half of `StatefulSession` and `AsyncStatefulSession` that does not wait."""

    def __init__(
        self,
        caller: CallerBase[In, Out, Chunk],
        *,
        open_with: Mapping[str, Any] | bytes | None,
        close_with: Mapping[str, Any] | bytes | None,
        endpoint_kwargs: Mapping[str, object] | None,
    ) -> None:
        self._caller = caller
        self._members = checked_mapping("endpoint_kwargs", endpoint_kwargs)
        if "SessionId" in self._members:
            raise self._error("the session sets SessionId: leave it out of endpoint_kwargs")
        self._open_with = self._body("open_with", OPEN if open_with is None else open_with)
        self._close_with = self._body("close_with", CLOSE if close_with is None else close_with)
        self._state = "new"
        self._id: str | None = None
        self._expires: float | None = None
        self._over_at: float | None = None  # `_expires` on the clock's `monotonic`

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._caller.name!r}, {self._state}, session_id={self._id!r})"

    @property
    def session_id(self) -> str | None:
        """The session's id; `None` before it is opened."""
        return self._id

    @property
    def expires(self) -> float | None:
        """When the session expires, in seconds since the epoch; `None` if its model did not say."""
        return self._expires

    @property
    def expired(self) -> bool:
        """Whether the session has expired.

        The time is measured from the answer that opened it, so an incorrect clock on this machine does not matter.
        """
        clock = self._caller.clock
        return self._over_at is not None and clock.monotonic() >= self._over_at

    @property
    def closed(self) -> bool:
        """Whether the session was closed, by this program or by its model."""
        return self._state == "closed"

    def _error(self, message: str) -> errors.ConfigurationError:
        return errors.ConfigurationError(message, endpoint_name=self._caller.name)

    def _body(self, name: str, given: object) -> tuple[bytes, Mapping[str, object]]:
        """Make a body, and the request members that describe it."""
        if isinstance(given, bytes):
            return given, {}  # with the content handler's content types
        if not isinstance(given, Mapping):
            raise self._error(f"{name} must be bytes, or a mapping to send as JSON, not {type(given).__name__}")
        import json

        try:
            return json.dumps(dict(given)).encode(), {"ContentType": _JSON, "Accept": _JSON}
        except (TypeError, ValueError, RecursionError):
            raise self._error(f"{name} cannot be sent as JSON: pass bytes instead") from None

    def _request_with(self, body: tuple[bytes, Mapping[str, object]], session_id: str | None) -> CallRequest:
        data, kind = body
        return self._caller.request(INVOKE_ENDPOINT, data, {**kind, **self._members, "SessionId": session_id})

    def _open_request(self) -> CallRequest:
        """Make the request that opens the session."""
        if self._state != "new":
            raise self._error("this session was opened before: make a new one with session()")
        return self._request_with(self._open_with, "NEW_SESSION")

    def _read_opened(self, call: CallState, answer: RawResponse) -> None:
        """Read the answer to that request, which ends the call.

        Raises:
            EndpointError: it opened no session.
        """
        opened = session_id(answer.headers)
        if opened is None:
            error = errors.EndpointError(
                "the endpoint opened no session: its model must be stateful, and must understand open_with="
            )
            call.finish(call.add_context(error))
            raise error
        call.finish(None)
        self._state = "open"
        self._id, self._expires = opened
        if self._expires is not None:
            clock = self._caller.clock
            now = server_date(answer.headers)
            self._over_at = clock.monotonic() + self._expires - (clock.time() if now is None else now)

    def _members_of(self, endpoint_kwargs: Any) -> Any:
        """Make the request members of a call in the session.

        Raises:
            ConfigurationError: the session is not open yet, or is no longer open.
        """
        if self._state == "new":
            raise self._error("this session is not open yet: use it inside `with`")
        if self._state == "closed":
            raise self._error("this session is closed: make a new one with session()")
        if self.expired:
            raise self._error("this session has expired, and its model forgot it: make a new one with session()")
        members = {**self._members, **checked_mapping("endpoint_kwargs", endpoint_kwargs)}
        if "SessionId" in members:
            raise self._error("the session sets SessionId: leave it out of endpoint_kwargs")
        return hidden({**members, "SessionId": self._id})

    def _output(self, call: CallState, answer: RawResponse, stop: tuple[str, ...]) -> Out:
        if self._closes(answer):  # the model may do so with any answer
            self._state = "closed"
        return super()._output(call, answer, stop)

    def _closes(self, answer: RawResponse) -> bool:
        return answer.headers.get("x-amzn-sagemaker-closed-session-id", "").strip() == self._id

    def _close_request(self) -> CallRequest | None:
        """Make the request that closes the session; `None` if there is nothing to close. It is sent once."""
        was, self._state = self._state, "closed"
        if was != "open" or self.expired:
            return None
        return self._request_with(self._close_with, self._id)

    def _read_closed(self, call: CallState, answer: RawResponse) -> None:
        """Read the answer to that request, which ends the call.

        Raises:
            EndpointError: it did not close the session.
        """
        if not self._closes(answer):
            error = errors.EndpointError(
                "the model did not say that it closed the session, which now lives until it expires: look whether it "
                "understands close_with="
            )
            call.finish(call.add_context(error))
            raise error
        call.finish(None)


class StatefulSession(SessionBase[In, Out, Chunk], Methods[In, Out, Chunk], StreamMethods[In, Out, Chunk]):
    """Calls that reach one instance, whose model remembers them: SageMaker's stateful session.

    `Endpoint.session` returns one. ``with`` opens it, and closes it whatever happens inside.
    """

    _caller: Caller[In, Out, Chunk]

    def open(self) -> Self:
        """Open the session. ``with`` does it.

        Raises:
            ConfigurationError: it was opened before, or a request member does not fit.
            EndpointError: the call failed, or the model opened no session.
        """
        self._read_opened(*self._caller.send(self._open_request()))
        return self

    def close(self) -> None:
        """Close the session. Closing twice does nothing, nor does closing what has expired.

        Raises:
            EndpointError: the call failed, or the model did not close the session; it then lives until it expires.
        """
        request = self._close_request()
        if request is not None:
            self._read_closed(*self._caller.send(request))

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        if kind is None:
            self.close()
            return
        with suppress(errors.SmendpointError):  # what happened inside is what matters
            self.close()


class AsyncStatefulSession(
    SessionBase[In, Out, Chunk], AsyncMethods[In, Out, Chunk], AsyncStreamMethods[In, Out, Chunk]
):
    """Calls that reach one instance, whose model remembers them: SageMaker's stateful session.

    `AsyncEndpoint.session` returns one. ``async with`` opens it, and closes it whatever happens inside.
    """

    _caller: AsyncCaller[In, Out, Chunk]

    async def open(self) -> Self:
        """Open the session. ``async with`` does it.

        Raises:
            ConfigurationError: it was opened before, or a request member does not fit.
            EndpointError: the call failed, or the model opened no session.
        """
        self._read_opened(*await self._caller.send(self._open_request()))
        return self

    async def aclose(self) -> None:
        """Close the session. Closing twice does nothing, nor does closing what has expired.

        Raises:
            EndpointError: the call failed, or the model did not close the session; it then lives until it expires.
        """
        request = self._close_request()
        if request is not None:
            self._read_closed(*await self._caller.send(request))

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        if kind is None:
            await self.aclose()
            return
        with suppress(errors.SmendpointError):  # what happened inside is what matters
            await self.aclose()
