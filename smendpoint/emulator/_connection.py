"""One client connection: reads requests, plays replies step by step."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import uuid
from collections.abc import Callable
from email.utils import formatdate
from typing import cast

from smendpoint.emulator._fault import Fault
from smendpoint.emulator._faults_http import too_large
from smendpoint.emulator._hosts import misdirected
from smendpoint.emulator._http import MAX_HEAD, BadRequest, RequestReader, render_head
from smendpoint.emulator._peer import Peer
from smendpoint.emulator._reply import Action, ByteStream, ModelFailed, Pause, Reply, Steps, play
from smendpoint.emulator._route import ReceivedRequest, Route, route
from smendpoint.emulator._running import parts_of
from smendpoint.emulator._service import Service, wants_stream

_log = logging.getLogger("smendpoint.emulator")

# Read the rest of a body slowly after an early answer: a client that reads in time stops before it has sent everything,
# and a client that never reads can still send everything.
_SLOW_READ_SECONDS = 0.005


# The answer to HTTP/2 without the library: an empty SETTINGS frame, and GOAWAY with HTTP_1_1_REQUIRED.
_WITHOUT_H2 = b"the emulator needs the package h2 for HTTP/2: pip install 'smendpoint[emulator]'"
_REFUSAL = b"\0\0\0\x04\0\0\0\0\0" + bytes([0, 0, 8 + len(_WITHOUT_H2)]) + b"\x07" + b"\0" * 12 + b"\x0d" + _WITHOUT_H2
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 3.4


class Connection(Peer):
    """Serves one connection of HTTP/1.1, one request after another. If it begins like HTTP/2, hands it over."""

    def __init__(self, service: Service, connections: set[Peer]) -> None:
        super().__init__(service, connections)
        self._reader = RequestReader(self._limits.max_body)
        self._deadline: asyncio.TimerHandle | None = None
        self._failure: BadRequest | None = None
        self._progress = asyncio.Event()
        self._reading_slowly = False
        self._reading_paused = False
        # The first bytes, as long as they can be the beginning of an HTTP/2 connection.
        self._opening: bytes | None = b""

    # -- callbacks of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A step is in the kernel before the next one is played.
        # high=0 would stop asyncio's TLS transport: it is "full" when it is empty.
        cast("asyncio.Transport", transport).set_write_buffer_limits(high=1, low=0)
        self.begin(transport, self._state.opened())
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() == "h2":
            self._hand_over(b"")

    def data_received(self, data: bytes) -> None:
        if self._opening is not None:
            data = self._opening + data
            if data.startswith(_PREFACE):
                return self._hand_over(data)
            if _PREFACE.startswith(data):
                self._opening = data
                return self._keep_time(True)
            self._opening = None
        reader = self._reader
        try:
            reader.feed(data)
        except BadRequest as failure:
            self._failure = failure
        if self._reading_slowly:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(_SLOW_READ_SECONDS, self._transport.resume_reading)
        self._keep_time(reader.started and not reader.complete)
        # If there are many requests ahead of their turn, further ones wait in the client.
        paused = reader.complete and reader.waiting > MAX_HEAD
        if paused is not self._reading_paused:
            self._reading_paused = paused
            (self._transport.pause_reading if paused else self._transport.resume_reading)()
        self._progress.set()

    def _keep_time(self, under_way: bool) -> None:
        """Start or end the time limit of a request that has begun to arrive."""
        if under_way and self._deadline is None and self._limits.request_timeout is not None:
            self._deadline = asyncio.get_running_loop().call_later(self._limits.request_timeout, self._give_up)
        elif not under_way and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._failure = BadRequest("the request did not arrive in time", 408)
        self._progress.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._keep_time(False)
        super().connection_lost(exc)

    def _hand_over(self, data: bytes) -> None:
        """Have the connection served as one of HTTP/2, which it turned out to be; ``data`` has come so far."""
        self._keep_time(False)
        try:
            from smendpoint.emulator._http2 import Http2Connection
        except ImportError:
            _log.warning("a client speaks HTTP/2: %s", _WITHOUT_H2.decode())
            self._transport.write(_REFUSAL)
            self._transport.close()
            return
        self._connections.discard(self)
        self.task.cancel()
        Http2Connection(self._service, self._connections).take_over(self._transport, self.number, data)

    # -- the server

    async def _serve(self) -> None:
        try:
            while await self._exchange():
                self._turn_to_next()
            self._transport.close()
        except BadRequest as refusal:
            body = refusal.message.encode()
            headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), ("Connection", "close")]
            self._transport.write(render_head(refusal.status, headers) + body)
            self._transport.close()
        except Exception:  # an error in the emulator itself: the client must not wait forever
            _log.exception("the emulator failed while it served a request")
            self.reset()

    def _turn_to_next(self) -> None:
        rest = self._reader.rest()
        self._reader = RequestReader(self._limits.max_body)
        self.data_received(rest)

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds.

        Raises:
            BadRequest: The bytes are not a request, or it did not arrive in time.
        """
        while not condition():
            if self._failure is not None:
                raise self._failure
            self._progress.clear()
            await self._progress.wait()

    async def _exchange(self) -> bool:
        """Serve one request; return whether the connection may be used for another one."""
        reader = self._reader
        await self._until(lambda: reader.head_complete)
        self._state.count(active=+1)
        disconnected = threading.Event()
        at_end: list[Callable[[], object]] = [disconnected.set]

        def end() -> None:
            while at_end:
                at_end.pop()()

        try:
            if not self._limits.hosts.allow(reader.host):
                return await self._answer_early(misdirected(reader.host))
            target = route(reader.method, reader.target)
            fault = self._state.choose(target.kind, target.endpoint_name)
            if fault.early is not None:
                return await self._answer_early(fault.early(), fault.early_reset)
            if not reader.too_large:
                if reader.expects_continue and not reader.complete:
                    self._transport.write(render_head(100, ()))
                    reader.expects_continue = False
                await self._until(lambda: reader.complete or reader.too_large)
            if reader.too_large:
                return await self._answer_early(too_large())
            target = target.with_model_of(bytes(reader.body))
            request = self._received(target, fault)
            if fault.answer is not None:
                reply = fault.answer(wants_stream(target, request.body), target.kind == "stream")
            else:
                reply = await self._service.answer(request, target, disconnected, at_end, fault.skew)
            if fault.change is not None:
                await _change(reply, fault.change)
            self._stamp(reply, fault.skew)
            reply.ended = end
            try:
                whole = await self._play(fault.play(reply))
            except ModelFailed:
                # The head has been sent: only an early end can tell the client.
                whole = await self.act(Action.FIN)
        finally:
            end()
            self._state.count(active=-1)
        if whole and fault.after is not None:
            if fault.on_reuse:
                self._turn_to_next()
                await self._until(lambda: self._reader.started)
            return await self.act(fault.after)
        return whole and reader.keep_alive

    def _received(self, target: Route, fault: Fault) -> ReceivedRequest:
        reader = self._reader
        request = ReceivedRequest(
            operation=target.operation,
            endpoint_name=target.endpoint_name,
            method=reader.method,
            target=reader.target,
            headers=reader.headers,
            body=bytes(reader.body),
            connection=self.number,
            fault=fault.name or None,
            header_list=reader.header_list,
            inference_component=target.component or reader.headers.get("x-amzn-sagemaker-inference-component", ""),
        )
        self._state.received(request)
        return request

    def _stamp(self, reply: Reply, skew: float = 0.0) -> None:
        now = self._service.clock() + skew
        reply.head_only = self._reader.method == "HEAD"
        reply.headers[:0] = [("x-amzn-RequestId", str(uuid.uuid4())), ("Date", formatdate(now, usegmt=True))]
        if not self._reader.keep_alive:
            reply.headers.append(("Connection", "close"))

    async def _play(self, steps: Steps) -> bool:
        async with contextlib.aclosing(steps) as playing:
            async for step in playing:
                if isinstance(step, bytes):
                    self._transport.write(step)
                    # Let other connections run, and notice that the client has gone.
                    await asyncio.sleep(0)
                    await self._writable.wait()
                elif isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                elif step is Action.STALL:
                    await self.stall()
                else:
                    return await self.act(step)
        return True

    async def _answer_early(self, reply: Reply, reset: bool = False) -> bool:
        reader = self._reader
        reader.keep_alive = False
        self._stamp(reply)
        self._reading_slowly = not reset
        if reset:
            await self._until(lambda: reader.received > 0 or reader.complete)
        await self._play(play(reply))
        if reset:
            return await self.act(Action.RESET)
        if not reader.expects_continue:
            # A client may write everything before it reads: a reset now would discard the answer.
            with contextlib.suppress(BadRequest):
                await self._until(lambda: reader.complete)
        return False


async def _change(reply: Reply, change: Callable[[ByteStream], ByteStream]) -> None:
    if reply.parts is not None:
        reply.parts = change(reply.parts)
    else:
        reply.body = b"".join([part async for part in change(parts_of(reply.body))])
