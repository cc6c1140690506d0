"""Models behind the emulator: callables that get a request and return an answer."""

from __future__ import annotations

import http.client
import threading
import urllib.parse
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from smendpoint.emulator._model_conversation import ConversationModel, ModelConversation, ModelPart
from smendpoint.errors import ConfigurationError

__all__ = [
    "AnyModel",
    "ConversationModel",
    "Model",
    "ModelAnswer",
    "ModelConversation",
    "ModelPart",
    "ModelReply",
    "ModelRequest",
    "forward",
]


@dataclass(frozen=True)
class ModelRequest:
    """One request, as the model's container gets it.

    Attributes:
        body: the request's payload.
        content_type: the caller's content type; empty if it gave none.
        accept: the caller's ``Accept``; empty if it gave none.
        endpoint_name: the endpoint that was called.
        custom_attributes: the caller's ``CustomAttributes``; empty if it gave none.
        headers: all headers of the request, names in lower case.
        streaming: whether the answer will be sent as a stream.
        path: the container's path: ``/invocations``, or ``/v1/...`` for the OpenAI path.
        method: the method of the request: ``POST``, except on the OpenAI path of a model that answers all methods.
        session_id: the stateful session's id; ``None`` outside a session.
        disconnected: set when the client has gone, or the emulator stops. A model that waits should wait on this.
    """

    body: bytes
    content_type: str = ""
    accept: str = ""
    endpoint_name: str = ""
    custom_attributes: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    streaming: bool = False
    path: str = "/invocations"
    method: str = "POST"
    session_id: str | None = None
    disconnected: threading.Event = field(default_factory=threading.Event, compare=False)


Parts: TypeAlias = "bytes | str | Iterable[bytes | str] | AsyncIterable[bytes | str]"
"""A whole answer, or its parts one after another; text is sent as UTF-8."""


@dataclass(frozen=True)
class ModelReply:
    """A model's answer, with its status and headers.

    Attributes:
        body: the answer, whole or in parts (an iterable is read part by part, on demand).
        status: the container's status: 400 and above becomes the service's ``ModelError`` (424).
        content_type: the type of the answer; ``None`` for the type that the caller accepts.
        custom_attributes: the value of ``X-Amzn-SageMaker-Custom-Attributes`` in the response.
        headers: further response headers.
        close_session: whether the stateful session of this request ends here.
    """

    body: Parts = b""
    status: int = 200
    content_type: str | None = None
    custom_attributes: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    close_session: bool = False


ModelAnswer: TypeAlias = "Parts | ModelReply"
Model: TypeAlias = "Callable[[ModelRequest], ModelAnswer | Awaitable[ModelAnswer]]"
"""A model: a function, run in a thread of the emulator's pool, or a coroutine function, run in its loop.

An exception that it raises becomes the service's ``ModelError``; after the first part of a stream,
``ModelStreamError``.
A callable whose attribute ``inline`` is true promises to be fast, and runs in the loop without a thread.

On the OpenAI path, a model gets POST requests to ``OPENAI_PATHS``, or to the paths in its own attribute
``openai_paths``; the emulator answers the rest (``GET /v1/models``, 404, 405). If that attribute is ``None``, the model
gets everything.
"""

AnyModel: TypeAlias = "Model | ConversationModel | str"
"""What an emulator accepts as a model; a text is the name of a personality."""

OPENAI_PATHS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings"})
"""The paths of a model without its own list."""


def forward(url: str, *, timeout: float = 60.0) -> Model:
    """Make a model that passes each request to a real container, and returns its answer.

    With ``ws://`` it is a model of bidirectional streams, which talks to the container's WebSocket. That needs the
    extra ``emulator``. The container's path is ``/invocations-bidirectional-stream``, or the one that the client asks
    for. Text is in text frames and bytes in binary ones, and partial parts are fragments of a message. The end of the
    client's input closes the WebSocket (1000), and the container's own close ends the answer.

    Args:
        url: the URL of the container, such as ``http://127.0.0.1:8080``. Requests go to its ``/invocations``, those of
            the OpenAI path to ``/v1/...``, with any method.
        timeout: how long the container may be silent, in seconds; 60 is the service's own limit. A WebSocket must be
            accepted in this time, and may be silent then.

    Raises:
        ConfigurationError: ``url`` is not a plain ``http://host[:port]`` or ``ws://host[:port]`` URL.
    """
    refusal = ConfigurationError("forward() takes the URL of a container, such as 'http://127.0.0.1:8080'")
    try:
        split = urllib.parse.urlsplit(url)
        host, port = split.hostname, split.port
    except ValueError:  # the port is not a number, or brackets hold no address
        raise refusal from None
    if split.scheme not in ("http", "ws") or not host or split.path.strip("/") or split.query:
        raise refusal
    if split.scheme == "ws":
        from smendpoint.emulator._websocket import websocket_model

        # The mapping of models has both kinds.
        return cast("Model", websocket_model(host, port or 80, timeout))

    def model(request: ModelRequest) -> ModelReply:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
        headers = {"Content-Type": request.content_type, "Accept": request.accept}
        headers.update((name, value) for name, value in request.headers.items() if name.startswith("x-amzn-sagemaker-"))
        try:
            connection.request(
                request.method, request.path, request.body, {name: value for name, value in headers.items() if value}
            )
            response = connection.getresponse()
        except BaseException:
            connection.close()
            raise

        return ModelReply(
            _ForwardedBody(connection, response),
            status=response.status,
            content_type=response.headers.get("Content-Type"),
            custom_attributes=response.headers.get("X-Amzn-SageMaker-Custom-Attributes"),
        )

    model.openai_paths = None  # type: ignore[attr-defined]  # the container knows its own paths
    return model


class _ForwardedBody:
    """A container's answer, as it arrives; closing it closes the connection."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response

    def __iter__(self) -> _ForwardedBody:
        return self

    def __next__(self) -> bytes:
        part = self._response.read1(65_536)
        if not part:
            self.close()
            raise StopIteration
        return part

    def close(self) -> None:
        self._response.close()
        self._connection.close()
