"""One client connection: reads requests, plays replies step by step."""

from __future__ import annotations

import array
import asyncio
import contextlib
import logging
import socket
import struct
import threading
import uuid
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from smendpoint.emulator._fault import Fault
from smendpoint.emulator._faults_http import too_large
from smendpoint.emulator._http import MAX_HEAD, BadRequest, RequestReader, render_head
from smendpoint.emulator._reply import Action, ByteStream, ModelFailed, Pause, Reply, Steps, error_reply, play
from smendpoint.emulator._route import ReceivedRequest, Route, route
from smendpoint.emulator._running import parts_of
from smendpoint.emulator._service import Service, wants_stream

_log = logging.getLogger("smendpoint.emulator")

# Read the rest of a body slowly after an early answer: a client that reads in time stops before it has sent everything,
# and a client that never reads can still send everything.
_SLOW_READ_SECONDS = 0.005


class Connection(asyncio.Protocol):
    """Serves one connection, one request after another, in a separate task."""

    def __init__(self, service: Service, connections: set[Connection]) -> None:
        self._service = service
        self._state = service.state
        self._limits = service.limits
        self._connections = connections
        self._reader = RequestReader(self._limits.max_body)
        self._deadline: asyncio.TimerHandle | None = None
        self._failure: BadRequest | None = None
        self._progress = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._reading_slowly = False
        self._reading_paused = False
        self._number = 0
        # Set by `connection_made`, which asyncio calls first.
        self._transport: Any
        self.task: asyncio.Task[None]

    # -- callbacks of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        # A step is in the kernel before the next one is played.
        # high=0 would stop asyncio's TLS transport: it is "full" when it is empty.
        self._transport.set_write_buffer_limits(high=1, low=0)
        self._number = self._state.opened()
        self._connections.add(self)
        self.task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
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

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        # This has no effect; without it Python 3.10's TLS transport warns that it was not closed. That of 3.11.2 has
        # nothing left to abort.
        with contextlib.suppress(AttributeError):
            self._transport.abort()
        self._connections.discard(self)
        self._keep_time(False)
        # A connection counts as closed once its task has ended.
        self.task.add_done_callback(lambda _task: self._state.count(connections=-1))
        self.task.cancel()

    # -- the server

    def reset(self) -> None:
        """Close the connection so that the peer gets a TCP reset."""
        # Under TLS there is no socket if the connection was just lost and asyncio has not called `connection_lost` yet.
        with contextlib.suppress(OSError, AttributeError):
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(AttributeError):  # as in `connection_lost`
            self._transport.abort()

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
                return await self._answer_early(_misdirected(reader.host))
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
                whole = await self._act(Action.FIN)
        finally:
            end()
            self._state.count(active=-1)
        if whole and fault.after is not None:
            if fault.on_reuse:
                self._turn_to_next()
                await self._until(lambda: self._reader.started)
            return await self._act(fault.after)
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
            connection=self._number,
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
                    self._state.count(stalled=+1)
                    try:
                        # Cancelled when the client has gone or the emulator stops.
                        await asyncio.get_running_loop().create_future()
                    finally:
                        self._state.count(stalled=-1)
                else:
                    return await self._act(step)
        return True

    async def _act(self, action: Action) -> bool:
        if action is Action.RESET:
            while self._undelivered():  # noqa: ASYNC110  # the kernel does not call back
                await asyncio.sleep(_SLOW_READ_SECONDS)
            self.reset()
        else:
            self._transport.close()
        return False

    def _undelivered(self) -> bool:
        # A reset discards what the peer's kernel has not acknowledged; what was played must arrive first.
        waiting = array.array("i", [0])
        with contextlib.suppress(ImportError, OSError):  # not every system can tell
            import fcntl
            import termios

            fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, waiting)
        return waiting[0] > 0

    async def _answer_early(self, reply: Reply, reset: bool = False) -> bool:
        reader = self._reader
        reader.keep_alive = False
        self._stamp(reply)
        self._reading_slowly = not reset
        if reset:
            await self._until(lambda: reader.received > 0 or reader.complete)
        await self._play(play(reply))
        if reset:
            return await self._act(Action.RESET)
        if not reader.expects_continue:
            # A client may write everything before it reads: a reset now would discard the answer.
            with contextlib.suppress(BadRequest):
                await self._until(lambda: reader.complete)
        return False


def _misdirected(host: str) -> Reply:
    return error_reply(
        421,
        "",
        f"This is an emulator on somebody's machine, and {host!r} is not its name. To call it by that name, allow"
        " the name: Emulator(allowed_hosts=[...]), smendpoint emulator --allow-host NAME.",
    )


async def _change(reply: Reply, change: Callable[[ByteStream], ByteStream]) -> None:
    if reply.parts is not None:
        reply.parts = change(reply.parts)
    else:
        reply.body = b"".join([part async for part in change(parts_of(reply.body))])
