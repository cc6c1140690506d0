"""What the SageMaker runtime answers to a whole request: routing, validation, sessions, models."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, MutableMapping
from concurrent.futures import Executor
from typing import Any

from smendpoint.emulator._async_inference import AsyncInference
from smendpoint.emulator._auth import Credentials, check_bearer, check_clock, check_signature, load_botocore
from smendpoint.emulator._model_mapping import Models
from smendpoint.emulator._objects import serve_object, total_size
from smendpoint.emulator._openai import failure, own_answer
from smendpoint.emulator._reply import ModelFailed, Reply, error_reply, model_reply, pieces_of
from smendpoint.emulator._route import ReceivedRequest, Route
from smendpoint.emulator._running import ask, gather, parts_of
from smendpoint.emulator.models import Model, ModelRequest

ACCOUNT = "111122223333"
"""The account that the emulator's endpoints belong to: AWS's own example number."""

SESSION_SECONDS = 1200
"""How long a stateful session lives: the service's default."""

MAX_SESSIONS = 10_000
"""How many sessions are open at most; the oldest makes way for a new one."""


class Sessions:
    """The stateful sessions.

    Args:
        clock: gives the time in seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open: dict[str, tuple[str, float]] = {}

    def open(self) -> dict[str, str]:
        """Give those that are open: id to endpoint name."""
        now = self._clock()
        return {session: name for session, (name, ends) in list(self._open.items()) if now < ends}

    def begin(self, session: str, endpoint_name: str) -> float:
        """Open one, and give the time at which it ends by itself."""
        ends = self._clock() + SESSION_SECONDS
        self._open[session] = (endpoint_name, ends)
        if len(self._open) > MAX_SESSIONS:
            del self._open[next(iter(self._open))]
        return ends

    def end(self, session: str) -> None:
        """Close one."""
        self._open.pop(session, None)

    def belongs(self, session: str, endpoint_name: str) -> bool:
        """Whether it is open on this endpoint."""
        name, ends = self._open.get(session, ("", 0.0))
        return name == endpoint_name and self._clock() < ends

    def clear(self) -> None:
        """Close all of them."""
        self._open.clear()


class Service:
    """The service behind the emulator's socket. Everything runs in the emulator's loop.

    Attributes:
        models: by endpoint name; a name that is not there has the default model, if there is one.
        objects: what the S3 stand-in holds, by ``s3://bucket/key``.
        max_objects: how many bytes the objects may have together.
        sessions: the stateful sessions.
    """

    def __init__(
        self,
        models: Models,
        default: Model | None,
        *,
        region: str,
        credentials: Credentials | None,
        piece_size: int | None,
        clock: Callable[[], float],
        objects: MutableMapping[str, bytes],
        max_objects: float,
        async_inference: AsyncInference,
    ) -> None:
        self.models = models
        self._default = default
        self.region = region
        self.credentials = credentials
        self.piece_size = piece_size
        self.clock = clock
        self.objects = objects
        self.async_inference = async_inference
        self.max_objects = max_objects
        self.sessions = Sessions(clock)
        if credentials is not None:
            load_botocore()

    async def answer(
        self, request: ReceivedRequest, route: Route, pool: Executor, disconnected: threading.Event, skew: float = 0.0
    ) -> Reply:
        """Give the reply to a whole request; ``skew`` is how far the clock is off just now, in seconds."""
        if route.kind == "unknown":
            return error_reply(404, "UnknownOperationException", f"Unable to route {request.method} {request.target}")
        if route.kind == "s3":
            return serve_object(self.objects, request, route.model_path, self.max_objects)
        refusal = self._authenticate(request, self.clock() + skew, bool(skew))
        if refusal is not None:
            return refusal
        model = self.models.made(route.endpoint_name, self._default)
        if model is None:
            message = f"Endpoint {route.endpoint_name} of account {ACCOUNT} not found."
            return error_reply(400, "ValidationError", message)
        if route.kind == "openai":
            own = own_answer(model, request, route)
            if own is not None:
                return own
        if route.kind == "async":
            if total_size(self.objects) > self.max_objects:
                message = "The emulator's store is full: delete objects, or give Emulator a larger keep_bytes."
                return error_reply(400, "ValidationError", message)
            return self.async_inference.accept(model, request, pool)
        return await self._invoke(model, request, route, pool, disconnected)

    def _authenticate(self, request: ReceivedRequest, now: float, skewed: bool) -> Reply | None:
        if self.credentials is not None:
            if request.operation == "OpenAI" and not request.headers.get("authorization", "").startswith("AWS4-"):
                return check_bearer(request, self.credentials, self.region, now)
            return check_signature(request, self.credentials, self.region, now)
        # Without credentials nothing is checked but the clock, if a fault has set it wrong.
        return check_clock(request, now) if skewed else None

    async def _invoke(
        self, model: Model, request: ReceivedRequest, route: Route, pool: Executor, disconnected: threading.Event
    ) -> Reply:
        streaming = wants_stream(route, request.body)
        headers = request.headers
        session, new_session = headers.get("x-amzn-sagemaker-session-id"), None
        if session == "NEW_SESSION" and not streaming:
            session = new_session = str(uuid.uuid4())
        elif session is not None and not self.sessions.belongs(session, request.endpoint_name):
            return error_reply(400, "ValidationError", f"Session {session} is not open on this endpoint.")
        accept = headers.get("x-amzn-sagemaker-accept" if route.kind == "stream" else "accept", "")
        asked = ModelRequest(
            body=request.body,
            content_type=headers.get("content-type", ""),
            accept=accept,
            endpoint_name=request.endpoint_name,
            custom_attributes=headers.get("x-amzn-sagemaker-custom-attributes", ""),
            headers=headers,
            streaming=streaming,
            path=route.model_path,
            method=request.method,
            session_id=session,
            disconnected=disconnected,
        )
        try:
            answer = await ask(model, asked, pool)
            body = None if streaming and answer.status < 400 else await gather(answer.body, pool)
        except ModelFailed as failed:
            if route.kind == "openai":
                return failure(500, str(failed), "InternalServerError", 500)
            return self._model_error(500, str(failed), request)
        if answer.status >= 400:
            said = body or b""
            if route.kind == "openai":  # that path hands on what the container says
                return Reply(answer.status, [("Content-Type", answer.content_type or "application/json")], said)
            return self._model_error(answer.status, said.decode("utf-8", "replace"), request)
        content_type = answer.content_type
        if content_type is None:
            content_type = accept if accept and "*" not in accept and "," not in accept else "application/json"
        if body is None:
            parts = pieces_of(parts_of(answer.body, pool), self.piece_size)
            reply = model_reply(content_type, parts, framed=route.kind == "stream")
        else:
            reply = model_reply(content_type, body)
        if answer.custom_attributes is not None:
            reply.headers.append(("X-Amzn-SageMaker-Custom-Attributes", answer.custom_attributes))
        reply.headers += answer.headers.items()
        if new_session is not None:
            ends = self.sessions.begin(new_session, request.endpoint_name)
            expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends))
            reply.headers.append(("X-Amzn-SageMaker-New-Session-Id", f"{new_session}; Expires={expires}"))
        elif session is not None and (answer.close_session or _asks_to_close(request.body)):
            self.sessions.end(session)
            reply.headers.append(("X-Amzn-SageMaker-Closed-Session-Id", session))
        return reply

    def _model_error(self, status: int, original: str, request: ReceivedRequest) -> Reply:
        log = f"/aws/sagemaker/Endpoints/{request.endpoint_name}"
        side = "client" if status < 500 else "server"
        message = (
            f'Received {side} error ({status}) from primary with message "{original}". See'
            f" https://{self.region}.console.aws.amazon.com/cloudwatch/home?region={self.region}#logEventViewer:"
            f"group={log} in account {ACCOUNT} for more information."
        )
        return error_reply(
            424,
            "ModelError",
            message,
            ErrorCode="CLIENT_ERROR_FROM_MODEL" if side == "client" else "INTERNAL_FAILURE_FROM_MODEL",
            OriginalStatusCode=status,
            OriginalMessage=original,
            LogStreamArn=f"arn:aws:logs:{self.region}:{ACCOUNT}:log-group:{log}",
        )


def wants_stream(route: Route, body: bytes) -> bool:
    """Whether a streamed answer is asked for: by the operation, or on the OpenAI path by ``"stream": true``."""
    return route.kind == "stream" or (route.kind == "openai" and _json_field(body, "stream") is True)


def _json_field(body: bytes, name: str) -> object:
    try:
        value: Any = json.loads(body)
        return value[name]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _asks_to_close(body: bytes) -> bool:
    # The containers' convention for stateful sessions: {"requestType": "CLOSE"}.
    return b'"requestType"' in body and _json_field(body, "requestType") == "CLOSE"
