"""Stateful sessions as far as they do not wait: what opens, carries and closes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._arguments import checked_mapping
from smendpoint._call import new_invocation_id
from smendpoint._core.aws.operations import INVOKE_ENDPOINT
from smendpoint._core.aws.renderer import CallRequest
from smendpoint._core.aws.response import server_date, session_id
from smendpoint._core.call.hiding import hidden
from smendpoint._typing import Chunk, In, Out, Typed

if TYPE_CHECKING:
    from smendpoint._call import EndpointBase
    from smendpoint._core.aws.response import RawResponse
    from smendpoint._core.call.flow import CallState

# The convention of AWS's containers (LMI, vLLM, SGLang); they take nothing else beside it.
OPEN: Mapping[str, Any] = {"requestType": "NEW_SESSION"}
CLOSE: Mapping[str, Any] = {"requestType": "CLOSE"}
_JSON = "application/json"


class SessionBase(Typed[In, Out, Chunk]):
    """The half of `StatefulSession` and `AsyncStatefulSession` that does not wait."""

    def __init__(
        self,
        endpoint: EndpointBase[In, Out, Chunk],
        *,
        open_with: Mapping[str, Any] | bytes | None,
        close_with: Mapping[str, Any] | bytes | None,
        endpoint_kwargs: Mapping[str, object] | None,
    ) -> None:
        self._endpoint: Any = endpoint
        self._members = checked_mapping("endpoint_kwargs", endpoint_kwargs)
        if "SessionId" in self._members:
            raise self._error("SessionId is the session's own: leave it out of endpoint_kwargs")
        self._open_with = self._body("open_with", OPEN if open_with is None else open_with)
        self._close_with = self._body("close_with", CLOSE if close_with is None else close_with)
        self._state = "new"
        self._id: str | None = None
        self._expires: float | None = None
        self._over_at: float | None = None  # the same, on the clock's `monotonic`

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._endpoint.endpoint_name!r}, {self._state}, session_id={self._id!r})"

    @property
    def session_id(self) -> str | None:
        """The session's id; `None` before it is opened."""
        return self._id

    @property
    def expires(self) -> float | None:
        """When the session ends by itself, in seconds since the epoch; `None` where its model did not say."""
        return self._expires

    @property
    def expired(self) -> bool:
        """Whether the session has ended by itself.

        Measured from the answer that opened it, so that it does not matter if this machine's clock is off.
        """
        clock = self._endpoint._clock
        return self._over_at is not None and clock.monotonic() >= self._over_at

    @property
    def closed(self) -> bool:
        """Whether the session was closed, here or by its model."""
        return self._state == "closed"

    def _error(self, message: str) -> errors.ConfigurationError:
        return errors.ConfigurationError(message, endpoint_name=self._endpoint.endpoint_name)

    def _body(self, name: str, given: object) -> tuple[bytes, Mapping[str, object]]:
        """A body, and the request members that say what it is."""
        if isinstance(given, bytes):
            return given, {}  # as the content handler's own
        if not isinstance(given, Mapping):
            raise self._error(f"{name} must be bytes, or a mapping to send as JSON, not {type(given).__name__}")
        import json

        try:
            return json.dumps(dict(given)).encode(), {"ContentType": _JSON, "Accept": _JSON}
        except (TypeError, ValueError, RecursionError):
            raise self._error(f"{name} cannot be sent as JSON: give bytes instead") from None

    def _request(self, body: tuple[bytes, Mapping[str, object]], identity: str) -> CallRequest:
        data, kind = body
        members, head = self._endpoint._head(
            INVOKE_ENDPOINT, {**kind, **self._members, "SessionId": identity}, streaming=False
        )
        name = self._endpoint.endpoint_name
        most = self._endpoint._max_response_bytes
        return CallRequest(
            INVOKE_ENDPOINT, name, members, head, data, new_invocation_id(), streaming=False, max_answer=most
        )

    def _opening(self) -> CallRequest:
        """The request that opens the session."""
        if self._state != "new":
            raise self._error("this session was opened before: ask the endpoint for a new one")
        return self._request(self._open_with, "NEW_SESSION")

    def _opened(self, call: CallState[Any], answer: RawResponse) -> None:
        """The answer to that request. With it the call is over.

        Raises:
            EndpointError: it opened no session.
        """
        opened = session_id(answer.headers)
        if opened is None:
            error = errors.EndpointError(
                "the endpoint opened no session: its model must be stateful, and understand open_with="
            )
            call.finish(call.add_context(error))
            raise error
        call.finish(None)
        self._state = "open"
        self._id, self._expires = opened
        if self._expires is not None:
            clock = self._endpoint._clock
            now = server_date(answer.headers)
            self._over_at = clock.monotonic() + self._expires - (clock.time() if now is None else now)

    def _carry(self, endpoint_kwargs: Mapping[str, object] | None) -> Any:
        """The request members of a call in the session.

        Raises:
            ConfigurationError: the session is not open, or no longer.
        """
        if self._state == "new":
            raise self._error("this session is not open yet: use it inside `with`")
        if self._state == "closed":
            raise self._error("this session is closed: ask the endpoint for a new one")
        if self.expired:
            raise self._error("this session has expired, and its model forgot it: ask the endpoint for a new one")
        members = {**self._members, **checked_mapping("endpoint_kwargs", endpoint_kwargs)}
        if "SessionId" in members:
            raise self._error("SessionId is the session's own: leave it out of endpoint_kwargs")
        return hidden({**members, "SessionId": self._id})

    def _notice(self, answer: RawResponse) -> None:
        """A model may end the session by itself, with any answer."""
        if self._closes(answer):
            self._state = "closed"

    def _closes(self, answer: RawResponse) -> bool:
        return answer.headers.get("x-amzn-sagemaker-closed-session-id", "").strip() == self._id

    def _closing(self) -> CallRequest | None:
        """The request that closes the session; `None` where there is nothing to close. It is sent once."""
        was, self._state = self._state, "closed"
        if was != "open" or self.expired:
            return None
        return self._request(self._close_with, str(self._id))

    def _has_closed(self, call: CallState[Any], answer: RawResponse) -> None:
        """The answer to that request. With it the call is over.

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
