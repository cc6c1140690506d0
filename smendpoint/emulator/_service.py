"""What the SageMaker runtime answers to a whole request: routing, validation, sessions, models."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any

from smendpoint._core.sigv4 import Credentials
from smendpoint.emulator._auth import check_signature
from smendpoint.emulator._reply import ModelFailed, Reply, error_reply
from smendpoint.emulator._route import ReceivedRequest, Route
from smendpoint.emulator._running import ask, gather, parts_of, pieces_of
from smendpoint.emulator.models import Model, ModelReply, ModelRequest

__all__ = ["ACCOUNT", "Service"]

ACCOUNT = "111122223333"
"""The account that the emulator's endpoints belong to: AWS's own example number."""

SESSION_SECONDS = 1200
"""How long a stateful session lives: the service's default."""

MAX_ASYNC_BODY = 128_000


class Service:
    """The service behind the emulator's socket. Everything runs in the emulator's loop.

    Attributes:
        models: by endpoint name; a single callable answers for every name.
        sessions: the open stateful sessions: id to endpoint name.
    """

    def __init__(
        self,
        models: Mapping[str, Model] | Model,
        *,
        region: str,
        credentials: Credentials | None,
        piece_size: int | None,
        clock: Callable[[], float],
        async_output: str = "s3://smendpoint-emulator/async",
    ) -> None:
        self.models = models
        self.region = region
        self.credentials = credentials
        self.piece_size = piece_size
        self.clock = clock
        self.sessions: dict[str, str] = {}

    async def answer(
        self, request: ReceivedRequest, route: Route, pool: Executor, disconnected: threading.Event
    ) -> Reply:
        """Gives the reply to a whole request."""
        if route.kind == "unknown":
            return error_reply(404, "UnknownOperationException", f"Unable to route {request.method} {request.target}")
        refusal = self._authenticate(request)
        if refusal is not None:
            return refusal
        model = self.models if callable(self.models) else self.models.get(route.endpoint_name)
        if model is None:
            message = f"Endpoint {route.endpoint_name} of account {ACCOUNT} not found."
            return error_reply(400, "ValidationError", message)
        return await self._invoke(model, request, route, pool, disconnected)

    def _authenticate(self, request: ReceivedRequest) -> Reply | None:
        if self.credentials is None:
            return None
        return check_signature(request, self.credentials, self.region, self.clock())

    async def _invoke(
        self, model: Model, request: ReceivedRequest, route: Route, pool: Executor, disconnected: threading.Event
    ) -> Reply:
        streaming = route.kind == "stream"
        headers = request.headers
        session, new_session = headers.get("x-amzn-sagemaker-session-id"), None
        if session == "NEW_SESSION" and not streaming:
            session = new_session = str(uuid.uuid4())
        elif session is not None and self.sessions.get(session) != request.endpoint_name:
            return error_reply(400, "ValidationError", f"Session {session} is not open on this endpoint.")
        accept = headers.get("x-amzn-sagemaker-accept" if streaming else "accept", "")
        asked = ModelRequest(
            body=request.body,
            content_type=headers.get("content-type", ""),
            accept=accept,
            endpoint_name=request.endpoint_name,
            custom_attributes=headers.get("x-amzn-sagemaker-custom-attributes", ""),
            headers=headers,
            streaming=streaming,
            session_id=session,
            disconnected=disconnected,
        )
        answer = await ask(model, asked, pool)
        if answer.status >= 400:
            return await self._model_error(answer, request, pool)
        sent = self._headers(answer, accept)
        if new_session is not None:
            self.sessions[new_session] = request.endpoint_name
            expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.clock() + SESSION_SECONDS))
            sent.append(("X-Amzn-SageMaker-New-Session-Id", f"{new_session}; Expires={expires}"))
        elif session is not None and (answer.close_session or _asks_to_close(request.body)):
            del self.sessions[session]
            sent.append(("X-Amzn-SageMaker-Closed-Session-Id", session))
        if streaming:
            content_type = ("X-Amzn-SageMaker-Content-Type", sent.pop(0)[1])
            sent += [content_type, ("Content-Type", "application/vnd.amazon.eventstream")]
            return Reply(200, sent, parts=pieces_of(parts_of(answer.body, pool), self.piece_size))
        try:
            return Reply(200, sent, await gather(answer.body, pool))
        except ModelFailed as failure:
            return await self._model_error(ModelReply(str(failure), status=500), request, pool)

    def _headers(self, answer: ModelReply, accept: str) -> list[tuple[str, str]]:
        content_type = answer.content_type
        if content_type is None:
            content_type = accept if accept and "*" not in accept and "," not in accept else "application/json"
        headers = [("Content-Type", content_type), ("x-Amzn-Invoked-Production-Variant", "AllTraffic")]
        if answer.custom_attributes is not None:
            headers.append(("X-Amzn-SageMaker-Custom-Attributes", answer.custom_attributes))
        return [*headers, *answer.headers.items()]

    async def _model_error(self, answer: ModelReply, request: ReceivedRequest, pool: Executor) -> Reply:
        original = (await gather(answer.body, pool)).decode("utf-8", "replace")
        log = f"/aws/sagemaker/Endpoints/{request.endpoint_name}"
        message = (
            f'Received server error ({answer.status}) from primary with message "{original}". See'
            f" https://{self.region}.console.aws.amazon.com/cloudwatch/home?region={self.region}#logEventViewer:"
            f"group={log} in account {ACCOUNT} for more information."
        )
        return error_reply(
            424,
            "ModelError",
            message,
            OriginalStatusCode=answer.status,
            OriginalMessage=original,
            LogStreamArn=f"arn:aws:logs:{self.region}:{ACCOUNT}:log-group:{log}",
        )


def _asks_to_close(body: bytes) -> bool:
    # The containers' convention for stateful sessions: {"requestType": "CLOSE"}.
    if b'"requestType"' not in body:
        return False
    try:
        value: Any = json.loads(body)
        return bool(value["requestType"] == "CLOSE")
    except (ValueError, TypeError, KeyError):
        return False
