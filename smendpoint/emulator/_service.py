"""The answers of the SageMaker runtime to whole requests: authentication, sessions, models."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from smendpoint.emulator import _routing
from smendpoint.emulator._async_inference import AsyncInference
from smendpoint.emulator._auth import Credentials, check_bearer, check_clock, check_signature, load_botocore
from smendpoint.emulator._control import Control, is_control, refused
from smendpoint.emulator._hosts import Hosts
from smendpoint.emulator._load import Slots
from smendpoint.emulator._model_mapping import Models
from smendpoint.emulator._objects import STORE_IS_FULL, serve_object, total_size
from smendpoint.emulator._openai import failure, lists_models, model_list, own_answer, unknown_model
from smendpoint.emulator._reply import ModelFailed, Reply, error_reply, model_reply, pieces_of
from smendpoint.emulator._route import ReceivedRequest, Route, Through
from smendpoint.emulator._running import PREFIX, ask, gather, model_request, parts_of
from smendpoint.emulator._state import State
from smendpoint.emulator.models import Model

ACCOUNT = "111122223333"
"""The account of the emulator's endpoints: AWS's own example number."""

SESSION_SECONDS = 1200
"""How long a stateful session lasts: the service's default."""

MAX_SESSIONS = 10_000
"""The most open sessions; the oldest is dropped for a new one."""


class Sessions:
    """The stateful sessions.

    Args:
        clock: returns the time in seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open: dict[str, tuple[str, float]] = {}

    def open(self) -> dict[str, str]:
        """Return the open sessions: id to endpoint name."""
        now = self._clock()
        return {session: name for session, (name, ends) in list(self._open.items()) if now < ends}

    def begin(self, session: str, endpoint_name: str) -> float:
        """Open a session, and return the time at which it expires."""
        ends = self._clock() + SESSION_SECONDS
        self._open[session] = (endpoint_name, ends)
        if len(self._open) > MAX_SESSIONS:
            del self._open[next(iter(self._open))]
        return ends

    def end(self, session: str) -> None:
        self._open.pop(session, None)

    def belongs(self, session: str, endpoint_name: str) -> bool:
        """Whether it is open on this endpoint."""
        name, ends = self._open.get(session, ("", 0.0))
        return name == endpoint_name and self._clock() < ends

    def clear(self) -> None:
        self._open.clear()


class Limits(NamedTuple):
    """The limits for clients.

    Attributes:
        max_body: the largest request body, in bytes.
        request_timeout: how long a request may take from its first byte to its last, in seconds; ``None`` for no limit.
        max_objects: how many bytes the objects may have together.
        hosts: the hosts that a request may name.
    """

    max_body: int
    request_timeout: float | None
    max_objects: float
    hosts: Hosts


@dataclass
class Service:
    """The service behind the emulator's socket, which all connections share. Everything runs in the emulator's loop.

    Attributes:
        models: the models by endpoint name.
        objects: the objects in the S3 stand-in, by ``s3://bucket/key``.
        sessions: the stateful sessions.
    """

    state: State
    limits: Limits
    models: Models
    objects: MutableMapping[str, bytes]
    async_inference: AsyncInference
    slots: Slots
    region: str
    credentials: Credentials | None
    piece_size: int | None
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.clock)
        self.control = Control(self.region, ACCOUNT)
        if self.credentials is not None:
            load_botocore()

    async def answer(
        self,
        request: ReceivedRequest,
        route: Route,
        disconnected: threading.Event,
        at_end: list[Callable[[], object]],
        skew: float = 0.0,
    ) -> Reply:
        """Return the reply to a complete request.

        Args:
            at_end: gets the functions to call when the reply's last byte is due, or the client has gone.
            skew: how far the clock is off at this moment, in seconds.
        """
        control = is_control(request)
        unsigned = None if control else self._answer_unsigned(request, route)
        if unsigned is not None:
            return unsigned
        refusal = self._authenticate(request, self.clock() + skew, bool(skew))
        if refusal is not None:
            return refused(refusal) if control else refusal
        if control:
            return self.control.answer(request, lambda name: self.models.find(name) is not None)
        if route.kind == "openai" and lists_models(request, route):
            return model_list(sorted(self.models), route)
        model = self.models.find(route.endpoint_name)
        if not self.control.in_service(route.endpoint_name):
            model = None
        if route.through:
            refusal = _routing.refusal(model, request, route, ACCOUNT)
            if refusal is not None:
                return refusal
        if model is None and not request.target.startswith("/endpoints/"):
            return unknown_model(request, route)
        if model is None:
            message = f"Endpoint {route.endpoint_name} of account {ACCOUNT} not found."
            return error_reply(400, "ValidationError", message)
        if route.kind == "async":
            if total_size(self.objects) > self.limits.max_objects:
                return error_reply(400, "ValidationError", STORE_IS_FULL)
            return self.async_inference.accept(model, request)
        own = own_answer(model, request, route) if route.kind == "openai" else None
        if own is not None:
            return own
        if not await self.slots.take(route.endpoint_name, at_end):
            return error_reply(429, "ThrottlingException", "Rate exceeded")
        return await self._invoke(model, request, route, disconnected)

    def converser(self, request: ReceivedRequest, skew: float) -> Model | Reply:
        """Return the model for the request of a bidirectional stream, or the refusal."""
        refusal = self._authenticate(request, self.clock() + skew, bool(skew))
        if refusal is not None:
            return refusal
        model = self.models.find(request.endpoint_name)
        if model is None or not self.control.in_service(request.endpoint_name):
            message = f"Endpoint {request.endpoint_name} of account {ACCOUNT} not found."
            return error_reply(400, "InputValidationError", message)
        return model

    def _answer_unsigned(self, request: ReceivedRequest, route: Route) -> Reply | None:
        """Answer a request whose signature does not matter; `None` for any other."""
        if route.kind == "unknown":
            return error_reply(404, "UnknownOperationException", f"Unable to route {request.method} {request.target}")
        if route.kind == "s3":
            return serve_object(self.objects, request, route.model_path, self.limits.max_objects)
        if route.kind == "converse":
            return error_reply(505, "", "A bidirectional stream needs HTTP/2.")
        return None

    def _authenticate(self, request: ReceivedRequest, now: float, skewed: bool) -> Reply | None:
        if self.credentials is None:  # only the clock is checked, if a fault has set it wrong
            return check_clock(request, now) if skewed else None
        bearer = request.operation == "OpenAI" and not request.headers.get("authorization", "").startswith("AWS4-")
        return (check_bearer if bearer else check_signature)(request, self.credentials, self.region, now)

    async def _invoke(
        self, model: Model, request: ReceivedRequest, route: Route, disconnected: threading.Event
    ) -> Reply:
        streaming = wants_stream(route, request.body)
        session, new_session = request.headers.get(f"{PREFIX}session-id"), None
        if session == "NEW_SESSION" and not streaming:
            session = new_session = str(uuid.uuid4())
        elif session is not None and not self.sessions.belongs(session, request.endpoint_name):
            return error_reply(400, "ValidationError", f"Session {session} is not open on this endpoint.")
        asked = model_request(request, disconnected)
        asked = replace(asked, streaming=streaming, path=route.model_path, session_id=session)
        asked = _routing.asked(asked, route)
        try:
            answer = await ask(model, asked)
            body = None if streaming and answer.status < 400 else await gather(answer.body)
        except ModelFailed as failed:
            if route.kind == "openai":
                return failure(500, str(failed), "InternalServerError", 500)
            return self.model_error(500, str(failed), request, route.through)
        if body is not None and answer.status >= 400:
            if route.kind == "openai":  # that path passes on the container's own answer
                return Reply(answer.status, [("Content-Type", answer.content_type or "application/json")], body)
            return self.model_error(answer.status, body.decode("utf-8", "replace"), request, route.through)
        content_type = answer.content_type
        if content_type is None:
            accept = asked.accept
            content_type = accept if accept and "*" not in accept and "," not in accept else "application/json"
        parts = pieces_of(parts_of(answer.body), self.piece_size) if body is None else body
        variant = request.headers.get(f"{PREFIX}target-variant", "AllTraffic")
        reply = model_reply(content_type, parts, framed=route.kind == "stream", variant_name=variant)
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
        return _routing.answered(reply, request, route, self.region, ACCOUNT) if route.through else reply

    def model_error(self, status: int, original: str, request: ReceivedRequest, through: Through = "") -> Reply:
        if through == "gateway":
            return _routing.gateway_error(status, original)
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
    """Return whether a streamed answer is requested: by the operation, or on the OpenAI path by ``"stream": true``."""
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
