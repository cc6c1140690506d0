"""One connection of HTTP/2. The library ``h2`` knows the protocol; this file knows the socket."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from smendpoint.emulator._conversation import Conversation
from smendpoint.emulator._http2_stream import Carrier, Stream

_log = logging.getLogger("smendpoint.emulator")

_UNREAD_ANSWERS = 65_536
"""How many bytes that the client does not read may wait (answers to its PING, say) before it is not read either."""

# What a server without the library says: an empty SETTINGS frame, and GOAWAY with HTTP_1_1_REQUIRED and a text.
_WITHOUT_H2 = b"the emulator needs the package h2 for HTTP/2: pip install 'smendpoint[emulator]'"
_REFUSAL = (
    b"\0\0\0\x04\0\0\0\0\0"
    + (8 + len(_WITHOUT_H2)).to_bytes(3, "big")
    + b"\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0d"
    + _WITHOUT_H2
)


class Http2Connection(Carrier):
    """Serves the streams of one connection of HTTP/2, each in a task."""

    def take_over(self, transport: asyncio.Transport, number: int, data: bytes) -> None:
        """Serve a connection that has been counted already, and on which ``data`` has come."""
        try:
            from h2.config import H2Configuration
            from h2.connection import H2Connection
            from h2.exceptions import ProtocolError
        except ImportError:
            self._protocol = None
        else:
            self._protocol = H2Connection(H2Configuration(client_side=False, header_encoding=None))
            self.protocol_error = ProtocolError
        self.streams = {}
        self.begin(transport, number)
        transport.set_protocol(self)
        if self._protocol is None:
            _log.warning("a client speaks HTTP/2: %s", _WITHOUT_H2.decode())
            transport.write(_REFUSAL)
            transport.close()
            return
        self._protocol.initiate_connection()
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
        if self._protocol is None:  # it has been refused
            return
        try:
            for event in self._protocol.receive_data(data):
                self._handle(event)
        except self.protocol_error:
            self._transport.write(self._protocol.data_to_send())  # GOAWAY says why
            self._transport.close()
            return
        self.flush()
        if self._transport.get_write_buffer_size() > _UNREAD_ANSWERS:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._transport.resume_reading()

    def _handle(self, event: Any) -> None:
        name, stream_id = type(event).__name__, getattr(event, "stream_id", 0)
        stream = self.streams.get(stream_id or 0)
        if name == "RequestReceived":
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers]
            stream = self.streams[stream_id] = Stream(self, self._protocol, stream_id)
            stream.task = asyncio.get_running_loop().create_task(self._converse(stream, headers))
        elif name == "DataReceived" and stream is not None:
            stream.arrived(event.data, event.flow_controlled_length)
        elif name == "StreamEnded" and stream is not None:
            stream.input_ended()
        elif name == "StreamReset" and stream is not None:
            stream.task.cancel()
            del self.streams[stream_id]
        elif name in ("WindowUpdated", "RemoteSettingsChanged"):
            for each in self.streams.values():
                each.progress.set()
        elif name == "ConnectionTerminated":
            self._transport.close()

    async def _converse(self, stream: Stream, headers: list[tuple[str, str]]) -> None:
        try:
            await Conversation(self._service, stream, headers, self.number).serve()
        except self.protocol_error:  # the client has just ended the stream or the connection
            pass
        except Exception:  # an error in the emulator itself: the client must not wait forever
            _log.exception("the emulator failed while it served a conversation")
            self.reset()
        finally:
            self.streams.pop(stream.id, None)
