"""`AsyncConversation`: parts go to the model while others come back, for asyncio."""

from __future__ import annotations

import asyncio
from copy import copy
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._calls.conversation_base import ConversationBase, checked_part
from smendpoint._core.call.flow import NeedCredentials
from smendpoint._transport.exchange import HASH_OFF_LOOP_BYTES
from smendpoint._transport.threads import off_loop
from smendpoint._transport.timeouts import TimedOut, wait_for

if TYPE_CHECKING:
    from typing_extensions import Self

    from smendpoint._calls.base import CallerBase
    from smendpoint._calls.caller import AsyncCaller
    from smendpoint._core.aws.conversation import ConversationPart
    from smendpoint._core.aws.renderer import CallRequest
    from smendpoint._core.aws.sigv4 import Credentials
    from smendpoint._transport import AsyncLine


class AsyncConversation(ConversationBase):
    """A conversation with a model: an async iterator of its parts, a way to send others, and a context manager.

    One task may send while another iterates. The conversation closes itself when the model ends it, and after any
    failure. It ends normally only if the model ended it; otherwise iterating raises a `SmendpointError`, whose
    ``received`` has the parts so far: the latest ones, of at most 1,048,576 bytes together.
    """

    __slots__ = ("_connecting", "_opening", "_reading", "_sending")
    _caller: AsyncCaller[Any, Any, Any]
    _line: AsyncLine | None

    def __init__(self, caller: CallerBase[Any, Any, Any], request: CallRequest) -> None:
        super().__init__(caller, request)
        self._opening = asyncio.Lock()  # held by the task that opens
        self._connecting: asyncio.Future[AsyncLine] | None = None
        self._sending = asyncio.Lock()  # held by the task that sends: parts go out whole, and in their order
        self._reading = False

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ConversationPart:
        if self._reading:
            raise errors.ConfigurationError("another task is reading this conversation: only one task can read it")
        self._reading = True
        try:
            while not self._ready:
                if self._over:
                    self._check_end()
                    raise StopAsyncIteration
                await self._advance(await self._ensure_open())
        finally:
            self._reading = False
        return self._ready.popleft()

    async def _advance(self, line: AsyncLine) -> None:
        try:
            data = await line.receive()
        except errors.SmendpointError as error:
            if not self._over:  # else another task closed it
                self._cut(error)
        else:
            if not self._over:
                self._read(data)

    async def open(self) -> Self:
        """Connect and send the request. ``async with``, `send` and iterating do so too. Opening it again does nothing.

        The service may answer only after the first parts: a refusal is raised as soon as it arrives, by `send` or by
        iterating.

        Raises:
            SmendpointError: there is no connection, or the conversation was closed.
        """
        await self._ensure_open()
        self._check_end()
        return self

    async def _ensure_open(self) -> AsyncLine:
        if self._line is None:
            async with self._opening:
                if self._line is None and not self._over:
                    await self._connect()
        line = self._line
        if line is None:
            self._check_end()
        assert line is not None
        self._check_owner(line)
        return line

    async def _connect(self) -> None:
        # In a task of its own, so that closing from another task can stop it.
        connecting = self._connecting = asyncio.ensure_future(self._begin())
        try:
            line = await wait_for(connecting, None, self._dispose)
        except TimedOut:
            self._fail_opening(self._closed_error())  # something other than `aclose` may have cancelled the task
            return
        except BaseException as error:
            self._fail_opening(error)
            raise
        finally:
            self._connecting = None
        if self._over:  # closed at the moment it opened
            self._dispose(line)
        else:
            self._line = line

    async def _begin(self) -> AsyncLine:
        call = self._call = await self._caller.start(self._request)
        line: AsyncLine = await self._caller.run(self._request, call)
        return line

    def _dispose(self, line: AsyncLine) -> None:
        """Close a connection that was made too late."""
        line.close()
        assert self._call is not None
        self._call.finish(None)

    async def send(self, data: bytes | str, *, partial: bool = False) -> None:
        """Send a part; wait until the service takes it.

        A task that is cancelled during the wait leaves the conversation intact: the part is sent whole, or not at all.

        Arguments and errors as for `Conversation.send`.
        """
        payload, text = checked_part(data)
        line = await self._ensure_open()
        async with self._sending:
            self._check_input()
            await self._queue(line, payload, text, partial)
        self._check_taken(ended=line.stream.cut)

    async def end_input(self) -> None:
        """Tell the model that no more parts will come. Its own go on. Doing so twice does nothing.

        Raises:
            SmendpointError: as for `send`.
        """
        line = await self._ensure_open()
        async with self._sending:
            if not self._input_ended:
                self._check_input()
                await self._queue(line, None, False, False)

    async def _queue(self, line: AsyncLine, payload: bytes | None, text: bool, partial: bool) -> None:
        """Send a part, or the end of the input."""
        try:
            await line.drain()  # a task that was cancelled may have left the rest of a part
            credentials = await self._credentials()
            if payload is not None and len(payload) > HASH_OFF_LOOP_BYTES:
                # With a copy: a task that is cancelled while a thread signs must leave no gap in the signatures.
                encoder = copy(line.encoder)
                sign = self._signer(encoder, credentials, payload, text, partial)
                pieces = await off_loop(asyncio.get_running_loop(), sign)
                line.encoder = encoder
            else:
                pieces = self._signer(line.encoder, credentials, payload, text, partial)()
            line.queue(pieces, end=payload is None)
            self._input_ended = payload is None
            await line.drain()
        except errors.SmendpointError as error:
            if self._over:
                self._check_end()
            raise self._explained(error) from error.__cause__

    async def _credentials(self) -> Credentials:
        """Return the credentials to sign with now."""
        call, transport = self._call, self._caller.transport
        assert call is not None
        source = call.defaults.credentials
        assert source is not None
        if source.refresh_due():
            await transport.refresh_ahead()
        credentials = source.current()
        if credentials is None:
            credentials = await transport.perform(NeedCredentials(call.deadline), self._request, call.timeout)
        return credentials

    async def aclose(self) -> None:
        """Close the connection, even if the model has not ended the conversation. Any task may, even twice."""
        self._close()

    def _stop_opening(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()

    def __del__(self) -> None:
        if not getattr(self, "_over", True) and self._line is not None:
            assert self._call is not None
            self._call.finish(None)
            self._line.abandon()
