"""One connection of HTTP/2. The library ``h2`` knows the protocol; this file knows the socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging

# This module is imported when the first connection of HTTP/2 arrives, as `h2` need not be installed.
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError

from smendpoint.emulator._conversation import Conversation
from smendpoint.emulator._http2_stream import Carrier, Stream

_log = logging.getLogger("smendpoint.emulator")

_UNREAD_ANSWERS = 65_536
"""How many bytes that the client does not read may wait (answers to its PING, say) before it is not read either."""


class Http2Connection(Carrier):
    """Serves the streams of one connection of HTTP/2, each in a task."""

    def take_over(self, transport: asyncio.Transport, number: int, data: bytes) -> None:
        """Serve a connection that has been counted already, and on which ``data`` has come."""
        self.protocol = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.streams = {}
        self.begin(transport, number)
        transport.set_protocol(self)
        self.protocol.initiate_connection()
        self.data_received(data)

    async def _serve(self) -> None:
        try:
            await asyncio.get_running_loop().create_future()  # cancelled when the connection is lost
        finally:
            tasks = [stream.task for stream in self.streams.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- callbacks of asyncio

    def data_received(self, data: bytes) -> None:
        try:
            for event in self.protocol.receive_data(data):
                self._handle(event)
        except ProtocolError:
            self._transport.write(self.protocol.data_to_send())  # GOAWAY says why
            self._transport.close()
            return
        self.flush()
        if self._transport.get_write_buffer_size() > _UNREAD_ANSWERS:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._transport.resume_reading()

    def _handle(self, event: Event) -> None:
        stream = self.streams.get(getattr(event, "stream_id", None) or 0)
        if isinstance(event, RequestReceived):
            stream = self.streams[event.stream_id] = Stream(self, event.stream_id)
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers]
            stream.task = asyncio.get_running_loop().create_task(self._converse(stream, headers))
        elif isinstance(event, (WindowUpdated, RemoteSettingsChanged)):
            for each in self.streams.values():
                each.progress.set()
        elif isinstance(event, ConnectionTerminated):
            self._transport.close()
        elif stream is None:
            pass  # it has ended on this side, or the event is of no interest
        elif isinstance(event, DataReceived):
            stream.arrived(event.data, event.flow_controlled_length)
        elif isinstance(event, StreamEnded):
            stream.input_ended()
        elif isinstance(event, StreamReset):
            stream.task.cancel()
            del self.streams[stream.id]

    async def _converse(self, stream: Stream, headers: list[tuple[str, str]]) -> None:
        try:
            with contextlib.suppress(ProtocolError):  # the client has just ended the stream or the connection
                await Conversation(self._service, stream, headers, self.number).serve()
        except Exception:  # an error in the emulator itself: the client must not wait forever
            _log.exception("the emulator failed while it served a conversation")
            self.reset()
        finally:
            self.streams.pop(stream.id, None)
