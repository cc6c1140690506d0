"""`Conversation`: parts go to the model while others come back, over one HTTP/2 stream."""

from __future__ import annotations

from _thread import allocate_lock
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._calls.conversation_base import ConversationBase, checked_part
from smendpoint._calls.stream import Answer, OpenAnswer
from smendpoint._core.call.flow import NeedCredentials
from smendpoint._transport.deadline import Cancellation, Cancelled

if TYPE_CHECKING:
    from typing_extensions import Self

    from smendpoint._calls.base import CallerBase
    from smendpoint._calls.caller import Caller
    from smendpoint._core.aws.conversation import ConversationPart
    from smendpoint._core.aws.renderer import CallRequest
    from smendpoint._core.aws.sigv4 import Credentials
    from smendpoint._transport import Line


class Conversation(ConversationBase):
    """A conversation with a model: an iterator of its parts, a way to send others, and a context manager.

    One thread may send while another iterates. An interrupt (Ctrl-C) of a wait for the service to take a part leaves
    the conversation intact; one at any other moment closes it. The conversation closes itself when the model ends it,
    and after any failure. It ends normally only if the model ended it; otherwise iterating raises a `SmendpointError`,
    whose ``received`` has the parts so far: the latest ones, of at most 1,048,576 bytes together.
    """

    __slots__ = ("_answer", "_cancellation", "_opening", "_sending")
    _caller: Caller[Any, Any, Any]
    _line: Line | None

    def __init__(self, caller: CallerBase[Any, Any, Any], request: CallRequest) -> None:
        super().__init__(caller, request)
        self._answer: Answer | None = None  # closes the connection of a conversation that is forgotten
        self._cancellation = Cancellation()  # for a thread that closes while another one opens
        self._opening = allocate_lock()  # held by the thread that opens
        self._sending = allocate_lock()  # held by the thread that sends: parts go out whole, and in their order

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ConversationPart:
        while not (ready := self._ready):
            if self._over:
                self._check_end()
                raise StopIteration
            line = self._ensure_open()
            try:
                data = line.receive()
                if not self._over:  # else another thread closed it
                    self._read(data)
            except errors.EndpointError as error:
                if not self._over:
                    self._cut(error)
            except errors.ConfigurationError:  # another thread is reading
                raise
            except BaseException:  # an interrupt, which may have lost what had arrived
                self._close()
                raise
        return ready.popleft()

    def open(self) -> Self:
        """Connect and send the request. ``with``, `send` and iterating do so too. Opening it again does nothing.

        The service may answer only after the first parts: a refusal is raised as soon as it arrives, by `send` or by
        iterating.

        Raises:
            SmendpointError: there is no connection, or the conversation was closed.
        """
        self._ensure_open()
        self._check_end()
        return self

    def _ensure_open(self) -> Line:
        if self._line is None:
            with self._opening:
                if self._line is None:
                    self._connect()
        line = self._line
        if line is None:
            self._check_end()
        assert line is not None
        self._check_owner(line)
        return line

    def _connect(self) -> None:
        if self._over:
            return
        try:
            call = self._call = self._caller.start(self._request)
            line = self._caller.run(self._request, call, self._cancellation)
        except Cancelled:
            return
        except BaseException as error:
            self._fail_opening(error)
            raise
        self._answer = Answer(call, line)
        self._answer.__class__ = OpenAnswer
        self._line = line
        if self._over:  # closed in the meantime
            self._finish(None)

    def send(self, data: bytes | str, *, partial: bool = False) -> None:
        """Send a part; wait until the service takes it.

        Args:
            data: bytes are sent as binary, a text as UTF-8.
            partial: whether more parts of the same message follow.

        Raises:
            ConfigurationError: the part is not valid, or `end_input` was called. Nothing was sent.
            CredentialsError: the credentials have expired, and there are no new ones. The part was not sent.
            EndpointError: the service refused the request, or the conversation has ended or failed.
        """
        payload, text = checked_part(data)
        line = self._ensure_open()
        with self._sending:
            self._check_input()
            self._queue(line, payload, text, partial)
        self._check_taken(ended=line.stream.cut)

    def end_input(self) -> None:
        """Tell the model that no more parts will come. Its own go on. Doing so twice does nothing.

        Raises:
            SmendpointError: as for `send`.
        """
        line = self._ensure_open()
        with self._sending:
            if not self._input_ended:
                self._check_input()
                self._queue(line, None, False, False)

    def _queue(self, line: Line, payload: bytes | None, text: bool, partial: bool) -> None:
        """Send a part, or the end of the input."""
        try:
            line.drain()  # an interrupt may have left the rest of a part
            sign = self._signer(line.encoder, self._credentials(), payload, text, partial)
            try:
                line.queue(sign(), end=payload is None)
                self._input_ended = payload is None
            except errors.SmendpointError:
                raise
            except BaseException:  # an interrupt, which may have left a gap in the chain of signatures
                self._close()
                raise
            line.drain()
        except errors.SmendpointError as error:
            if self._over:
                self._check_end()
            raise self._explained(error) from error.__cause__

    def _credentials(self) -> Credentials:
        """Return the credentials to sign with now."""
        call, transport = self._call, self._caller.transport
        assert call is not None
        source = call.defaults.credentials
        assert source is not None
        if source.refresh_due():
            transport.refresh_ahead()
        credentials = source.current()
        if credentials is None:
            credentials = transport.perform(NeedCredentials(call.deadline), self._request, call.timeout, None)
        return credentials

    def _finish(self, error: errors.SmendpointError | None) -> None:
        assert self._answer is not None
        self._answer.__class__ = Answer
        super()._finish(error)

    def close(self) -> None:
        """Close the connection, even if the model has not ended the conversation. Any thread may, even twice."""
        self._close()

    def _stop_opening(self) -> None:
        self._cancellation.stop()
