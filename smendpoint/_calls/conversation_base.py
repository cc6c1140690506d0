"""`ConversationBase`: the request of a conversation, its parts, and its end, without waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._calls.arguments import checked_mapping
from smendpoint._calls.base import new_invocation_id
from smendpoint._calls.pipeline import MAX_RECEIVED, cut_off
from smendpoint._calls.response import StreamMetadata
from smendpoint._core.aws.conversation import PartDecoder
from smendpoint._core.aws.operations import (
    INVOKE_ENDPOINT_CONVERSATION,
    render_query,
    request_head,
    validate_invocation_path,
)
from smendpoint._core.aws.renderer import CallRequest
from smendpoint._core.call.hiding import Hidden, finish_error
from smendpoint._core.call.retry import classify, clock_skew
from smendpoint._core.error_copies import copy_error
from smendpoint._core.http.unexpected import page_of_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from smendpoint._calls.base import CallerBase
    from smendpoint._core.aws.conversation import ConversationPart, PartEncoder
    from smendpoint._core.aws.sigv4 import Credentials
    from smendpoint._core.call.flow import CallState
    from smendpoint._core.call.hooks import Watcher
    from smendpoint._core.call.timing import Timeout
    from smendpoint._transport import AsyncLine, Line

# An error holds the latest parts up to this many bytes: a conversation may last for hours.
MAX_RECEIVED_BYTES = 1_048_576


def conversation_request(
    caller: CallerBase[Any, Any, Any],
    path: str | None,
    query: Any,
    timeout: float | Timeout | None,
    endpoint_kwargs: Any,
) -> CallRequest:
    """Make and check the request that begins a conversation.

    Raises:
        ConfigurationError: an argument is not valid, the endpoint has a client of its own, or HTTP/2 is not installed.
    """
    try:
        return _checked_request(caller, path, query, timeout, endpoint_kwargs)
    except errors.ConfigurationError as error:
        finish_error(error, caller.name)
        raise


def _checked_request(
    caller: CallerBase[Any, Any, Any],
    path: str | None,
    query: Any,
    timeout: float | Timeout | None,
    endpoint_kwargs: Any,
) -> CallRequest:
    if caller.client is not None:
        raise errors.ConfigurationError(
            "an endpoint made with client= cannot converse: the clients of botocore and aiobotocore have no such "
            "operation; leave out client="
        )
    import_module("smendpoint._transport.http2")  # its error names the extra, before anything is sent
    limits = None if timeout is None else caller.call_timeout(timeout)
    own = checked_mapping("endpoint_kwargs", endpoint_kwargs)
    if type(query) is Hidden:
        query = query.value
    if isinstance(query, Mapping):
        query = render_query(query) or None
    for argument, name, value in (("path", "ModelInvocationPath", path), ("query", "ModelQueryString", query)):
        if value is not None:
            if name in own:
                raise errors.ConfigurationError(f"{name} is given twice: as {argument}= and in endpoint_kwargs")
            own[name] = value
    members = {name: value for name, value in {**caller.members, **own}.items() if value is not None}
    if "ModelInvocationPath" in members:
        validate_invocation_path(members["ModelInvocationPath"])
    head = request_head(INVOKE_ENDPOINT_CONVERSATION, caller.name, members)
    return CallRequest(
        INVOKE_ENDPOINT_CONVERSATION,
        caller.name,
        members,
        head,
        b"",
        new_invocation_id(),
        limits,
        caller.max_response_bytes,
    )


def checked_part(data: object) -> tuple[bytes, bool]:
    """Return the bytes of a part to send, and whether they are text.

    Raises:
        ConfigurationError: it is neither bytes nor text, or text that UTF-8 cannot express.
    """
    if isinstance(data, str):
        try:
            return data.encode(), True
        except UnicodeEncodeError:  # its message would show the text
            raise errors.ConfigurationError("the text of a part has unpaired surrogates") from None
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data), False
    raise errors.ConfigurationError(f"a part must be bytes or str, not {type(data).__name__}")


class ConversationBase(StreamMetadata):
    """The half of `Conversation` and `AsyncConversation` that does not wait."""

    _line: Line | AsyncLine | None

    __slots__ = (
        "__weakref__",
        "_caller",
        "_decoder",
        "_failure",
        "_input_ended",
        "_kept_bytes",
        "_line",
        "_listening",
        "_over",
        "_ready",
        "_received",
        "_request",
    )

    def __init__(self, caller: CallerBase[Any, Any, Any], request: CallRequest) -> None:
        super().__init__()
        self._caller = caller
        self._request = request
        self._decoder = PartDecoder()
        self._ready: deque[ConversationPart] = deque()
        self._received: deque[ConversationPart] = deque(maxlen=MAX_RECEIVED)
        self._kept_bytes = 0
        self._line = None
        self._listening: Watcher | None = None  # notifies the hooks that want each part
        self._input_ended = False
        self._over = False  # ended, failed, or closed
        self._failure: errors.SmendpointError | None = None

    def __repr__(self) -> str:
        state = "closed" if self._over else "new" if self._line is None else "open"
        return f"{type(self).__name__}({state}, request_id={self.request_id!r}, attempts={self.attempts})"

    def _fail_opening(self, error: BaseException) -> None:
        """Opening failed; later calls raise the same error."""
        self._failure = error if isinstance(error, errors.SmendpointError) else self._closed_error()
        self._end()

    # -- the model's side

    def _read(self, data: bytes) -> None:
        """Decode bytes that have arrived; none at the proper end of the answer."""
        self._note_head()
        failure: errors.SmendpointError | None = None
        try:
            if "html" in self.headers.get("content-type", "").lower():
                failure = page_of_stream(self.headers)
            if failure is None and data:
                self._take(self._decoder.feed(data))
            elif failure is None:
                self._decoder.finish()
        except errors.StreamError as error:
            failure = error
        failure = failure or self._decoder.error
        if failure is not None or not data:
            self._finish(failure)

    def _note_head(self) -> None:
        line = self._line
        assert line is not None
        self.headers = line.stream.headers

    def _take(self, parts: list[ConversationPart]) -> None:
        """Keep the parts for the reader, and the latest ones for an error."""
        call, received = self._call, self._received
        assert call is not None
        for part in parts:
            if len(received) == MAX_RECEIVED:
                self._kept_bytes -= len(received.popleft().data)
            first = not received
            received.append(part)
            self._kept_bytes += len(part.data)
            while self._kept_bytes > MAX_RECEIVED_BYTES and len(received) > 1:
                self._kept_bytes -= len(received.popleft().data)
            if first and call.watcher is not None:
                call.watcher.notify("first_chunk")
                self._listening = call.watcher if call.watcher.wants_chunks() else None
            if self._listening is not None:
                self._listening.notify("chunk")
        self._ready.extend(parts)

    def _cut(self, error: errors.SmendpointError) -> None:
        """End the conversation with an error of its connection, or with the service's refusal."""
        self._note_head()
        self._finish(self._explained(error))

    def _explained(self, error: errors.SmendpointError) -> errors.SmendpointError:
        """Return an error of the connection with its context: once the answer has begun, as the end of a stream."""
        call, line = self._call, self._line
        assert call is not None
        assert line is not None
        if isinstance(error, errors.TransportError) and line.stream.begun:
            error = cut_off(error)
        if isinstance(error, errors.EndpointError):
            self._learn(classify(error), call, line)
        error.received = tuple(self._received)
        return call.add_context(error)

    def _learn(self, refused_for: str, call: CallState, line: Line | AsyncLine) -> None:
        """Have the next conversation signed with the service's time, or with others of the source's credentials."""
        defaults = call.defaults
        if refused_for == "skew":
            skew = clock_skew(line.stream.headers, defaults.clock.time(), defaults.skew)
            defaults.skew = defaults.skew if skew is None else skew
        elif refused_for == "expired":
            assert defaults.credentials is not None
            assert call.credentials is not None
            defaults.credentials.distrust(call.credentials)

    # -- our side

    def _check_owner(self, line: Line | AsyncLine) -> None:
        """Raise the error for a process or an event loop that did not open the conversation.

        Comes before any lock: in a forked child, a thread that is not there may hold it.
        """
        try:
            line.check_owner()
        except errors.TransportError as error:
            raise self._explained(error) from None

    def _check_input(self) -> None:
        """Raise the error that explains why no part can be sent."""
        self._check_end()
        if self._input_ended:
            raise errors.ConfigurationError(
                "end_input() was called: nothing can be sent after it", endpoint_name=self._request.endpoint_name
            )
        self._check_taken(ended=self._over)

    def _check_taken(self, *, ended: bool) -> None:
        """Raise if the conversation ended before the model got a part."""
        if ended:
            self._check_end()  # another thread may have closed it just now
            raise self._error("the model has ended the conversation: it takes no more parts")

    def _signer(
        self, encoder: PartEncoder, credentials: Credentials, payload: bytes | None, text: bool, partial: bool
    ) -> Callable[[], list[bytes | memoryview]]:
        """Return a function that signs a part; without a payload, the end of the input."""
        assert self._call is not None
        defaults = self._call.defaults
        now = defaults.clock.time() + defaults.skew
        if payload is None:
            return lambda: [encoder.end(credentials=credentials, timestamp=now)]
        return lambda: encoder.part(payload, text=text, partial=partial, credentials=credentials, timestamp=now)

    # -- the end

    def _finish(self, error: errors.SmendpointError | None) -> None:
        """End a conversation that had begun, and notify hooks."""
        call, line = self._call, self._line
        assert call is not None
        assert line is not None
        if error is not None:
            error.received = tuple(self._received)
            call.add_context(error)
        self._failure = self._failure or error
        self._end()
        line.close()
        call.finish(error)

    def _end(self) -> None:
        self._took = self.elapsed
        self._over = True

    def _close(self) -> None:
        """Close the conversation if it is open."""
        if self._over:
            return
        self._ready = deque()  # another thread may be taking from the old one
        line, error = self._line, None
        if line is not None and line.stream.failure is not None:  # only sending has noticed it so far
            error = self._explained(copy_error(line.stream.failure))
        self._failure = error or self._closed_error()  # before others see that it is over
        if line is None:
            self._end()
            self._stop_opening()
        else:
            self._finish(error)

    if TYPE_CHECKING:

        def _stop_opening(self) -> None:
            """Stop the wait for a connection; the thread or task that waits notifies the hooks."""

    def _check_end(self) -> None:
        """Raise the error that ended the conversation, unless the model ended it."""
        if self._failure is not None:
            raise copy_error(self._failure)

    def _closed_error(self) -> errors.StreamError:
        return self._error("this conversation was closed before its end: make a new one with converse()")

    def _error(self, message: str) -> errors.StreamError:
        return errors.StreamError(
            message, received=self._received, endpoint_name=self._request.endpoint_name, attempts=self.attempts
        )
