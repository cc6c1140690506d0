"""A model that hands a bidirectional stream on to a container's WebSocket, whose protocol ``websockets`` knows."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
from typing import TYPE_CHECKING, Any

from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from smendpoint.emulator._model_conversation import ConversationModel, ModelConversation

DEFAULT_PATH = "invocations-bidirectional-stream"
"""The container's path if the client asks for none."""

_NORMAL = frozenset({1000, 1001, 1005})  # RFC 6455 7.4.1: it has done its work, it goes away, it gives no code
_READ_SIZE = 65_536


class _WebSocket:
    """The connection to the container, which `connect` makes."""

    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter | None = None
    _protocol: Any

    async def connect(self, host: str, port: int, conversation: ModelConversation) -> list[Any]:
        """Connect, and shake hands; return the frames that have come by then."""
        try:
            from websockets.client import ClientProtocol
            from websockets.uri import parse_uri
        except ImportError as error:
            raise ConfigurationError(
                "forward('ws://...') needs the package websockets: pip install 'smendpoint[emulator]'"
            ) from error
        query = f"?{conversation.query}" if conversation.query else ""
        named = f"[{host}]" if ":" in host else host
        uri = parse_uri(f"ws://{named}:{port}/{conversation.path or DEFAULT_PATH}{query}")
        self._protocol = ClientProtocol(uri, max_size=None)
        request = self._protocol.connect()
        for name, value in conversation.headers.items():
            if name.startswith("x-amzn-sagemaker-"):
                request.headers[name] = value
        self._protocol.send_request(request)
        self._reader, self._writer = await asyncio.open_connection(host, port)
        self.flush()
        events: list[Any] = []
        while not events:
            events = await self.read()
        return events[1:]

    def flush(self) -> None:
        assert self._writer is not None
        self._writer.writelines(self._protocol.data_to_send())

    def abort(self) -> None:
        """Close the connection, if there is one: a container that does not read would delay an orderly end."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def read(self) -> list[Any]:
        """Wait for bytes, and return the frames (first of all, the handshake) that they complete.

        Raises:
            ConnectionError: The connection has ended, and the WebSocket was not closed.
        """
        data = await self._reader.read(_READ_SIZE)
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        self.flush()  # answers to PING, for example
        events: list[Any] = self._protocol.events_received()
        failure = self._protocol.handshake_exc or self._protocol.parser_exc
        if failure is not None and self._protocol.close_rcvd is None:
            raise ConnectionError(f"the container's WebSocket failed: {failure}") from failure
        return events

    async def send(self, conversation: ModelConversation) -> None:
        """Hand on the client's parts; the end of its input closes the WebSocket.

        Raises:
            ValueError: A WebSocket cannot carry the parts.
        """
        from websockets.exceptions import InvalidState

        writer, protocol = self._writer, self._protocol
        assert writer is not None
        open_message: bool | None = None  # whether the message that further parts continue is text
        with contextlib.suppress(InvalidState):  # the container has closed, and reads no more
            async for part in conversation:
                text = part.text is not None
                if open_message is None:
                    send = protocol.send_text if text else protocol.send_binary
                elif open_message is text:
                    send = protocol.send_continuation
                else:
                    raise ValueError("the part after a partial one must have the same type")
                send(part.data, fin=not part.partial)
                open_message = text if part.partial else None
                self.flush()
                await writer.drain()
            protocol.send_close(1000)
            self.flush()

    async def receive(self, conversation: ModelConversation, events: list[Any]) -> None:
        """Hand on the container's frames, of which ``events`` are the first, until it closes.

        Raises:
            ConnectionError: It closed because of an error, or the connection was lost.
        """
        decoder = codecs.getincrementaldecoder("utf-8")()
        text = False
        while True:
            for frame in events:
                kind = frame.opcode.name
                if kind in ("TEXT", "BINARY"):
                    text = kind == "TEXT"
                elif kind != "CONT":
                    continue
                # A fragment of a text may end inside a character.
                data = decoder.decode(frame.data, final=frame.fin) if text else bytes(frame.data)
                await conversation.send(data, partial=not frame.fin)
            close = self._protocol.close_rcvd
            if close is not None:
                if close.code not in _NORMAL:
                    raise ConnectionError(f"the container closed its WebSocket with {close}")
                return
            events = await self.read()


def websocket_model(host: str, port: int, timeout: float) -> ConversationModel:
    """Make a model that converses with a container.

    Args:
        host: the container's host.
        port: the container's port.
        timeout: how long the container may take to accept the WebSocket, in seconds.
    """

    async def model(conversation: ModelConversation) -> None:
        loop = asyncio.get_running_loop()
        socket = _WebSocket()
        tasks: list[asyncio.Task[Any]] = [loop.create_task(socket.connect(host, port, conversation))]
        try:
            accepted, _ = await asyncio.wait(tasks, timeout=timeout)
            if not accepted:
                raise TimeoutError(f"the container did not accept the WebSocket within {timeout:g} s")
            events = tasks[0].result()
            sending = loop.create_task(socket.send(conversation))
            receiving = loop.create_task(socket.receive(conversation, events))
            tasks += [sending, receiving]
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            await receiving
        finally:
            socket.abort()  # before anything that a second cancellation could interrupt
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return model
