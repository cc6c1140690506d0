"""A client of bidirectional streams, on ``h2``: it shares no code with the package, and does nothing unasked."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import socket
import ssl
import struct
import time
import urllib.parse
import zlib
from types import TracebackType
from typing import Any, NamedTuple

import h2.config
import h2.connection
import h2.errors
import h2.events
from botocore.eventstream import EventStreamBuffer, ParserError

PATIENCE = 20.0  # seconds; only ever waited for when a test fails
ZERO_PADDED = "%Y%m%dT%H%M%SZ"


class Keys(NamedTuple):
    """The keys of a client."""

    access_key: str = "AKIDEXAMPLE"
    secret_key: str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    token: str | None = None
    region: str = "us-east-1"

    def sign(self, stamp: str, to_sign: str) -> bytes:
        key = f"AWS4{self.secret_key}".encode()
        for part in (*self.scope(stamp).split("/"), to_sign):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return key

    def scope(self, stamp: str) -> str:
        return f"{stamp[:8]}/{self.region}/sagemaker/aws4_request"

    def signed(self, method: str, path: str, headers: dict[str, str], stamp: str) -> dict[str, str]:
        """Give the headers of a request whose events will be signed, with its own signature; all are signed."""
        headers = {**headers, "x-amz-date": stamp, "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-EVENTS"}
        if self.token is not None:
            headers["x-amz-security-token"] = self.token
        names = sorted(headers)
        quoted = urllib.parse.quote(path, safe="/~")
        lines = [f"{name}:{' '.join(headers[name].split())}" for name in names]
        canonical = "\n".join((method, quoted, "", *lines, "", ";".join(names), "STREAMING-AWS4-HMAC-SHA256-EVENTS"))
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        signature = self.sign(stamp, "\n".join(("AWS4-HMAC-SHA256", stamp, self.scope(stamp), digest))).hex()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{self.scope(stamp)},"
            f" SignedHeaders={';'.join(names)}, Signature={signature}"
        )
        return headers


def header(name: str, value: str | bytes | int) -> bytes:
    """Encode a header of an event: text, bytes, or for a number a time in milliseconds."""
    start = struct.pack(">B", len(name)) + name.encode()
    if isinstance(value, int):
        return start + struct.pack(">Bq", 8, value)
    raw = value.encode() if isinstance(value, str) else value
    return start + struct.pack(">BH", 7 if isinstance(value, str) else 6, len(raw)) + raw


def frame(headers: bytes, payload: bytes) -> bytes:
    """Encode an event around its encoded headers."""
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def part(data: bytes | str, *, partial: bool = False, **more: str) -> bytes:
    """Encode a part, without a signature."""
    headers = {
        ":message-type": "event",
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
        "DataType": "UTF8" if isinstance(data, str) else "BINARY",
        "CompletionState": "PARTIAL" if partial else "COMPLETE",
        **more,
    }
    payload = data.encode() if isinstance(data, str) else data
    return frame(b"".join(header(name, value) for name, value in headers.items()), payload)


class Received(NamedTuple):
    """One event of an answer."""

    headers: dict[str, Any]
    payload: bytes

    @property
    def exception(self) -> str:
        """The name of the exception that the event is; empty for a part."""
        return str(self.headers.get(":exception-type", ""))


class H2Client:
    """One connection, used by one thread. Its answer is that of the stream that was opened last.

    Attributes:
        status: that of the answer, once it has come.
        headers: those of the answer.
        events: the events that have come so far.
        body: the bytes that have come so far.
        ended: how the stream has ended: ``end``, ``reset CODE``, ``goaway CODE LAST``, ``eof``; empty before.
        notes: what has happened, by name.
        acknowledges: whether the server may send more, and learns that its settings have come.
        lenient: whether bytes that are not events are passed over.
    """

    def __init__(
        self,
        address: tuple[str, int],
        *,
        tls: ssl.SSLContext | None = None,
        keys: Keys | None = None,
        host: str = "",
        now: float | None = None,
        receive_buffer: int = 0,
    ) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(address)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self._keys = keys
        self._host = host or "{}:{}".format(*address)
        self._now = now
        self._prior = ""
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.scheme = "http" if tls is None else "https"
        self.notes: list[str] = []
        self.acknowledges = True
        self.lenient = False
        self._begin(0)
        self.h2.initiate_connection()
        self.flush()

    def __enter__(self) -> H2Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def _begin(self, stream: int) -> None:
        self.stream = stream
        self.status = 0
        self.headers: dict[str, str] = {}
        self.events: list[Received] = []
        self.body = b""
        self.ended = ""
        self._buffer = EventStreamBuffer()

    def now(self) -> float:
        return time.time() if self._now is None else self._now

    def flush(self) -> None:
        # A server may have sent something before it reset the connection: that is still to be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(self.h2.data_to_send())

    # -- what is sent

    def open(
        self,
        name: str = "voice",
        headers: dict[str, str] | None = None,
        *,
        path: str = "",
        host_header: bool = False,
    ) -> H2Client:
        """Send the head of a request, signed if there are keys."""
        path = path or f"/endpoints/{name}/invocations-bidirectional-stream"
        named = {"host": self._host, "content-type": "application/vnd.amazon.eventstream", **(headers or {})}
        if self._keys is not None:
            stamp = time.strftime(ZERO_PADDED, time.gmtime(self.now()))
            named = self._keys.signed("POST", path, named, stamp)
            self._prior = named["authorization"].rpartition("Signature=")[2]
        pseudo = {":method": "POST", ":scheme": self.scheme, ":path": path}
        if not host_header:
            pseudo[":authority"] = named.pop("host")
        self._begin(self.h2.get_next_available_stream_id())
        self.h2.send_headers(self.stream, [*pseudo.items(), *named.items()])
        self.flush()
        return self

    def signed(self, inner: bytes) -> bytes:
        """Wrap an event into the next signed one; without keys, nothing is wrapped."""
        if self._keys is None:
            return inner
        milliseconds = int(self.now() * 1000)
        stamp = time.strftime(ZERO_PADDED, time.gmtime(milliseconds // 1000))
        date = header(":date", milliseconds)
        hashes = [hashlib.sha256(data).hexdigest() for data in (date, inner)]
        to_sign = "\n".join(("AWS4-HMAC-SHA256-PAYLOAD", stamp, self._keys.scope(stamp), self._prior, *hashes))
        signature = self._keys.sign(stamp, to_sign)
        self._prior = signature.hex()
        return frame(date + header(":chunk-signature", signature), inner)

    def send(self, data: bytes | str, *, partial: bool = False, **more: str) -> H2Client:
        """Send a part, signed if there are keys."""
        return self.write(self.signed(part(data, partial=partial, **more)))

    def write(self, data: bytes) -> H2Client:
        """Send bytes in DATA frames, waiting for the windows."""
        view = memoryview(data)
        while view and not self.ended:
            size = min(len(view), self.window, self.h2.max_outbound_frame_size)
            if size <= 0:
                self.pump()
                continue
            self.h2.send_data(self.stream, bytes(view[:size]))
            view = view[size:]
            self.flush()
        return self

    @property
    def window(self) -> int:
        """How many bytes may be sent now."""
        return self.h2.local_flow_control_window(self.stream)

    def end_input(self) -> H2Client:
        """Send the end, signed if there are keys."""
        if self._keys is not None:
            self.write(self.signed(b""))
        if not self.ended:
            self.h2.end_stream(self.stream)
            self.flush()
        return self

    def reset(self, code: int = 8) -> None:
        self.h2.reset_stream(self.stream, code)
        self.flush()

    # -- what comes

    def pump(self) -> None:
        """Wait for bytes, and take what they mean."""
        try:
            data = self.socket.recv(65_536)
        except ConnectionResetError:
            data = b""
            self.notes.append("connection reset")
        if not data:
            self.ended = self.ended or "eof"
            return
        for event in self.h2.receive_data(data):
            self._take(event)
        if self.acknowledges:
            self.flush()

    def _take(self, event: Any) -> None:
        self.notes.append(type(event).__name__)
        if isinstance(event, h2.events.ResponseReceived) and event.stream_id == self.stream:
            self.headers = dict(event.headers)
            self.status = int(self.headers[":status"])
        elif isinstance(event, h2.events.DataReceived) and event.stream_id == self.stream:
            self.body += event.data
            if self.status == 200:
                self._decode(event.data)
            if self.acknowledges and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded) and event.stream_id == self.stream:
            self.ended = self.ended or "end"
        elif isinstance(event, h2.events.StreamReset) and event.stream_id == self.stream:
            self.ended = self.ended or f"reset {int(event.error_code or 0)}"
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.ended = self.ended or f"goaway {int(event.error_code or 0)} {event.last_stream_id}"

    def _decode(self, data: bytes) -> None:
        self._buffer.add_data(data)
        try:
            for one in self._buffer:
                self.events.append(Received(one.headers, one.payload))
        except ParserError:
            if not self.lenient:
                raise

    def next(self) -> Received:
        """Wait for the next event that has not been taken yet."""
        while not self.events:
            assert not self.ended, self.ended
            self.pump()
        return self.events.pop(0)

    def until_head(self) -> H2Client:
        while not self.status and not self.ended:
            self.pump()
        return self

    def until_end(self) -> H2Client:
        """Wait for the end of the answer."""
        while not self.ended:
            self.pump()
        return self

    @property
    def payloads(self) -> list[bytes]:
        return [one.payload for one in self.events]

    @property
    def error(self) -> tuple[int, str, str]:
        """The status, the name and the message of an answer that is an error."""
        return self.status, self.headers.get("x-amzn-errortype", ""), json.loads(self.body)["Message"]
