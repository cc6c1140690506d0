"""A bidirectional stream, from its request to its end: checks it, runs the model, plays the answer or a fault."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
import uuid
from contextlib import aclosing
from email.utils import formatdate
from typing import TYPE_CHECKING, cast

from smendpoint.emulator._events import EventReader, Refused, SignatureChain, part_event
from smendpoint.emulator._fault import Fault
from smendpoint.emulator._hosts import misdirected
from smendpoint.emulator._reply import (
    Action,
    ByteStream,
    ModelFailed,
    Reply,
    error_reply,
    exception_frame,
)
from smendpoint.emulator._route import ReceivedRequest, route
from smendpoint.emulator._running import PREFIX, describe
from smendpoint.emulator._service import Service
from smendpoint.emulator._talk import GoAway, Reset, TalkStep, Wire
from smendpoint.emulator.models import ConversationModel, Model, ModelConversation, ModelPart

if TYPE_CHECKING:
    from smendpoint.emulator._http2_stream import Stream

# The members of the request: the header, its longest value, and the pattern of its values.
_MEMBERS = (
    ("target-variant", 63, r"[a-zA-Z0-9](-*[a-zA-Z0-9])*"),
    ("model-invocation-path", 100, r"[A-Za-z0-9\-._]+(/[A-Za-z0-9\-._]+)*"),
    (
        "model-query-string",
        2048,
        r"[a-zA-Z0-9][A-Za-z0-9_-]*=(?:[A-Za-z0-9._~\-]|%[0-9A-Fa-f]{2})+"
        r"(?:&[a-zA-Z0-9][A-Za-z0-9_-]*=(?:[A-Za-z0-9._~\-]|%[0-9A-Fa-f]{2})+)*",
    ),
)


class Conversation:
    """Serves one stream.

    Args:
        headers: those of the request, with the pseudo-headers.
        connection: the number of the connection.
    """

    def __init__(self, service: Service, stream: Stream, headers: list[tuple[str, str]], connection: int) -> None:
        self._service = service
        self._stream = stream
        pseudo = {name: value for name, value in headers if name.startswith(":")}
        lines = [(name, value) for name, value in headers if not name.startswith(":")]
        if ":authority" in pseudo:
            lines = [("host", pseudo[":authority"]), *(line for line in lines if line[0] != "host")]
        folded: dict[str, str] = {}
        for name, value in lines:
            folded[name] = f"{folded[name]}, {value}" if name in folded else value
        self._route = route(pseudo[":method"], pseudo[":path"])
        self._request = ReceivedRequest(
            operation=self._route.operation,
            endpoint_name=self._route.endpoint_name,
            method=pseudo[":method"],
            target=pseudo[":path"],
            headers=folded,
            body=b"",
            connection=connection,
            header_list=lines,
        )
        self._skew = 0.0
        self._active = True
        self._disconnected = threading.Event()
        self._refusal: Refused | None = None
        # Set once the request is accepted.
        self._model: ConversationModel
        self._reader: EventReader

    async def serve(self) -> None:
        """Serve the stream to its end, or until the task is cancelled: the client has gone or the emulator stops."""
        self._service.state.count(active=+1)
        try:
            reply = self._begin()
            if isinstance(reply, Fault):
                await self._play(reply)
            else:
                await self._send_reply(reply)
        finally:
            self._end()

    def _end(self) -> None:
        self._disconnected.set()
        if self._active:
            self._active = False
            self._service.state.count(active=-1)

    # -- the request

    def _begin(self) -> Reply | Fault:
        """Check the request; return what answers it, or the fault (perhaps none) to converse with."""
        request, service = self._request, self._service
        host = request.headers.get("host", "")
        if not service.limits.hosts.allow(host):
            return misdirected(host)
        if self._route.kind != "converse":
            return error_reply(505, "", f"{request.method} {request.target} is served over HTTP/1.1 only")
        fault = service.state.choose("converse", request.endpoint_name)
        object.__setattr__(request, "fault", fault.name or None)
        service.state.received(request)
        if fault.answer is not None:
            return fault.answer(True, True)
        self._skew = fault.skew
        model = service.converser(request, fault.skew)
        if isinstance(model, Reply):
            return model
        for name, size, pattern in _MEMBERS:
            value = request.headers.get(PREFIX + name)
            if value is not None and (len(value) > size or not re.fullmatch(pattern, value)):
                return error_reply(400, "InputValidationError", f"The value of {PREFIX}{name} is not valid: {value!r}")
        if not _converses(model):
            message = (
                "The container of this endpoint has no bidirectional streaming: its model is not a coroutine function."
            )
            return service.model_error(500, message, request)
        self._model = cast("ConversationModel", model)
        chain = None
        if service.credentials is not None:
            authorization = request.headers.get("authorization", "")
            chain = SignatureChain(service.credentials, service.region, authorization, self._now)
        self._reader = EventReader(chain)
        self._stream.acknowledges = not fault.window_closed
        return fault

    def _now(self) -> float:
        return self._service.clock() + self._skew

    # -- the two directions, as the model and faults use them

    async def receive(self) -> ModelPart | None:
        """Wait for the next part of the input; ``None`` at its end.

        Raises:
            Refused: The event is not a part, or its signature is wrong.
        """
        if self._refusal is not None:
            raise self._refusal
        try:
            while (part := self._reader.next()) is None:
                data = await self._stream.read()
                if not data:
                    self._reader.finish()
                    return None
                self._reader.feed(data)
        except Refused as refusal:
            self._refusal = refusal
            raise
        return part

    async def events(self) -> ByteStream:
        """Run the model, and yield the events of its answer; it is suspended until an event is on its way.

        Raises:
            ModelFailed: The model raised.
            Refused: The input is refused.
        """
        # One event waits, and one is being sent; then the model waits.
        queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(1)
        ended = False

        async def send(data: bytes | str, partial: bool) -> None:
            if ended:
                raise ConnectionError("the conversation has ended")
            await queue.put(part_event(data, partial))

        async def run() -> None:
            outcome: Exception | None = None
            try:
                await self._model(conversation)
            except (Exception, asyncio.CancelledError) as error:
                if ended:
                    raise
                outcome = ModelFailed(describe(error))
            await queue.put(self._refusal or outcome)

        headers = self._request.headers
        conversation = ModelConversation(
            receive=self.receive,
            reply=send,
            endpoint_name=self._request.endpoint_name,
            path=headers.get(f"{PREFIX}model-invocation-path", ""),
            query=headers.get(f"{PREFIX}model-query-string", ""),
            target_variant=headers.get(f"{PREFIX}target-variant", ""),
            headers=headers,
            disconnected=self._disconnected,
        )
        task = asyncio.get_running_loop().create_task(run())
        try:
            while isinstance(event := await queue.get(), bytes):
                yield event
            if event is not None:
                raise event
        finally:
            ended = True
            self._disconnected.set()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # -- the answer

    async def _play(self, fault: Fault) -> None:
        try:
            async with aclosing(fault.converse(self)) as steps:
                async for step in steps:
                    if not await self._take(step):
                        return
        except ModelFailed as failure:
            detail = {"Message": str(failure), "ErrorCode": "StreamBroken"}
            await self._fail(self._service.model_error(500, str(failure), self._request), "ModelStreamError", detail)
        except Refused as refusal:
            reply = error_reply(refusal.status, refusal.code, refusal.message)
            await self._fail(reply, refusal.code, {"Message": refusal.message})
        else:
            await self._begin_answer()
            self._finish()

    async def _take(self, step: TalkStep) -> bool:
        """Play one step; return whether the answer goes on."""
        stream = self._stream
        if isinstance(step, bytes):
            await self._begin_answer()
            await stream.send(step)
        elif isinstance(step, Wire):
            await stream.connection.write(step.data)
        elif isinstance(step, Reply):
            await self._send_reply(step)
            return False
        elif isinstance(step, Reset):
            stream.reset(step.code)
            return False
        elif isinstance(step, GoAway):
            stream.terminate(step.code, stream.id if step.served else 0)
            return await stream.connection.act(Action.FIN)
        elif step is Action.HEAD:
            await self._begin_answer()
        elif step is Action.STALL:
            await stream.connection.stall()
        else:
            return await stream.connection.act(step)
        return True

    def _stamp(self) -> list[tuple[str, str]]:
        return [("x-amzn-requestid", str(uuid.uuid4())), ("date", formatdate(self._now(), usegmt=True))]

    async def _begin_answer(self) -> None:
        """Send the head, if it has not been sent: it comes with the first part, as a model may fail before."""
        if self._stream.head_sent:
            return
        variant = self._request.headers.get(f"{PREFIX}target-variant", "AllTraffic")
        headers = [
            *self._stamp(),
            ("content-type", "application/vnd.amazon.eventstream"),
            ("x-amzn-invoked-production-variant", variant),
        ]
        await self._stream.send_head(200, headers)

    async def _send_reply(self, reply: Reply) -> None:
        headers = [*self._stamp(), *reply.headers, ("content-length", str(len(reply.body)))]
        await self._stream.send_head(reply.status, headers)
        await self._stream.send(reply.body)
        self._finish()

    async def _fail(self, reply: Reply, name: str, detail: dict[str, str]) -> None:
        if not self._stream.head_sent:
            return await self._send_reply(reply)
        await self._stream.send(exception_frame(name, detail))
        return self._finish()

    def _finish(self) -> None:
        self._end()  # a client with the whole answer also sees that the conversation is over
        self._stream.end()


def _converses(model: Model) -> bool:
    return inspect.iscoroutinefunction(model) or inspect.iscoroutinefunction(type(model).__call__)
