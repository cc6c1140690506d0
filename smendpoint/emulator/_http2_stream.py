"""One stream of HTTP/2, and its connection as streams see it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable

from h2.connection import H2Connection
from h2.exceptions import ProtocolError

from smendpoint.emulator._peer import Peer


class Carrier(Peer):
    """The connection of streams.

    Attributes:
        protocol: the state of the connection.
        streams: those that are being served, by number.
    """

    # Both are set before the first stream.
    protocol: H2Connection
    streams: dict[int, Stream]

    def flush(self) -> None:
        """Write what the protocol has to say."""
        data = self.protocol.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    async def write(self, data: bytes) -> None:
        """Write bytes that are not HTTP/2."""
        self._transport.write(data)
        await self.drained()

    async def drained(self) -> None:
        """Wait until what was written is in the kernel."""
        await asyncio.sleep(0)  # let other streams run, and notice that the client has gone
        await self._writable.wait()


class Stream:
    """One request: what arrives, and what is sent.

    Attributes:
        id: the number of the stream on its connection.
        task: the task that serves it.
        progress: set when something has arrived, or more may be sent.
        acknowledges: whether the client may send more when something was read.
        head_sent: whether the response has begun.
    """

    task: asyncio.Task[None]

    def __init__(self, connection: Carrier, stream_id: int) -> None:
        self.connection = connection
        self._protocol = connection.protocol
        self.id = stream_id
        self.progress = asyncio.Event()
        self.acknowledges = True
        self.head_sent = False
        self._input: deque[tuple[bytes, int]] = deque()
        self._input_ended = False

    # -- what arrives

    def arrived(self, data: bytes, window: int) -> None:
        """Keep bytes until they are read; they take up ``window`` bytes of the flow-control windows."""
        self._input.append((data, window))
        # The connection's window is for all streams: one that does not read must not stop the others.
        self._acknowledge(window, None)
        self.progress.set()

    def input_ended(self) -> None:
        self._input_ended = True
        self.progress.set()

    async def read(self) -> bytes:
        """Wait for bytes, and return them; ``b""`` at their end. The client may then send as many more."""
        while not self._input:
            if self._input_ended:
                return b""
            await self._progressed()
        data, window = self._input.popleft()
        if not self._input_ended:
            self._acknowledge(window, self.id)
            self.connection.flush()
        return data or await self.read()

    def _acknowledge(self, window: int, stream_id: int | None) -> None:
        if self.acknowledges and window:
            # The client may just have ended the stream or the connection.
            with contextlib.suppress(ProtocolError, KeyError):
                self._protocol.increment_flow_control_window(window, stream_id)

    async def _progressed(self) -> None:
        self.progress.clear()
        await self.progress.wait()

    # -- what is sent

    async def send_head(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        lines = [(":status", str(status)), *((name.lower(), value) for name, value in headers)]
        self._protocol.send_headers(self.id, lines)
        self.head_sent = True
        self.connection.flush()
        await self.connection.drained()

    async def send(self, data: bytes) -> None:
        """Send all of the data, as fast as the client's windows allow."""
        view = memoryview(data)
        while view:
            size = min(self._protocol.local_flow_control_window(self.id), self._protocol.max_outbound_frame_size)
            if size <= 0:
                await self._progressed()
                continue
            self._protocol.send_data(self.id, bytes(view[:size]))
            view = view[size:]
            self.connection.flush()
            await self.connection.drained()

    def end(self) -> None:
        """End the response; the client need not send the rest of its input."""
        self._protocol.end_stream(self.id)
        if not self._input_ended:
            self._protocol.reset_stream(self.id)  # RFC 9113 8.1: NO_ERROR after a whole response
        self.connection.flush()

    def reset(self, code: int) -> None:
        self._protocol.reset_stream(self.id, code)
        self.connection.flush()

    def terminate(self, code: int, last_stream: int) -> None:
        """Send GOAWAY: the connection is given up, and streams above ``last_stream`` were not served."""
        self._protocol.close_connection(code, last_stream_id=last_stream)
        self.connection.flush()
