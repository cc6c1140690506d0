"""`OpenAIApp`: the application."""

from __future__ import annotations

import asyncio
import hmac
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from smendpoint._core.aws.operations import SERVICE_MAX_BODY
from smendpoint._core.call.limit import AdaptiveConcurrency
from smendpoint.asgi._failures import Failure
from smendpoint.asgi._formats import PATHS, Backend, ServedModel
from smendpoint.asgi._reply import KEEP_ALIVE_SECONDS, Reply, until_disconnect
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping

    from prometheus_client import CollectorRegistry
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send
    from typing_extensions import Unpack

    from smendpoint._options import EndpointOptions
    from smendpoint.asgi._formats import Kind
    from smendpoint.async_endpoint import AsyncEndpoint

BODY_SECONDS = 60.0
"""How long the rest of a request's body may take, in seconds: as long as the service waits for a model."""


class OpenAIApp:
    """SageMaker endpoints as an OpenAI API: an ASGI application, for any server, or to mount into another application.

    It has ``POST /v1/chat/completions``, ``/v1/completions`` and ``/v1/embeddings``, ``GET /v1/models`` and
    ``/v1/models/{id}``, and ``/healthz``. Errors have OpenAI's shape. A client that disconnects ends its call. A stream
    that fails ends with an error event, and its connection closes without a proper end.

    A server tells it when to close its connections (lifespan). A mounted application is not told: call `aclose`.

    Attributes:
        draining: whether ``/healthz`` answers 503, so that a load balancer sends no more requests here; everything else
            continues. A program sets it when it is asked to end. False at first.

    Args:
        models: the models by the name that clients use: a `ServedModel`, or only its endpoint (a name or an
            `AsyncEndpoint`) for a container with OpenAI's format.
        api_key: one key or several, of which clients must send one (``Authorization: Bearer ...``); by default none is
            required.
        allowed_hosts: the host or hosts that a request may name, without a port; by default any. A server on this
            machine that requires no key should allow only its own names, because a web page may send requests to it
            (DNS rebinding).
        max_body: the largest request body in bytes; a larger one is answered with 413.
        keep_alive: seconds of silence after which a stream gets a comment, so that no proxy closes it.
        metrics: the registry that ``GET /metrics`` shows; without it there is no such path. It needs
            ``prometheus-client``, and hooks that count calls: ``hooks=PrometheusHooks(registry=...)``.
        **options: options of `AsyncEndpoint` for the endpoints that are given by name. By default ``concurrency`` is
            ``AdaptiveConcurrency()``.

    Raises:
        ConfigurationError: an argument is not valid.
    """

    def __init__(
        self,
        models: Mapping[str, ServedModel | AsyncEndpoint[Any, Any, Any] | str],
        *,
        api_key: str | Iterable[str] | None = None,
        allowed_hosts: str | Iterable[str] | None = None,
        max_body: int = SERVICE_MAX_BODY,
        keep_alive: float = KEEP_ALIVE_SECONDS,
        metrics: CollectorRegistry | None = None,
        **options: Unpack[EndpointOptions],
    ) -> None:
        if not models:
            raise ConfigurationError("there is no model to serve")
        if not keep_alive > 0:
            raise ConfigurationError(f"keep_alive must be above 0, not {keep_alive!r}")
        if not max_body > 0:
            raise ConfigurationError(f"max_body must be above 0, not {max_body!r}")
        self._keys = _checked_keys(api_key)
        hosts = [allowed_hosts] if isinstance(allowed_hosts, str) else allowed_hosts
        self._hosts = None if hosts is None else {host.lower() for host in hosts}
        self._max_body = max_body
        self._keep_alive = keep_alive
        self._registry = metrics
        self.draining = False
        options.setdefault("concurrency", AdaptiveConcurrency())
        self._backends = {
            name: Backend(name, served if isinstance(served, ServedModel) else ServedModel(served), options)
            for name, served in models.items()
        }
        self._app = Starlette(
            routes=[
                *(Route(path, _Door(self, kind), methods=["POST"]) for kind, path in PATHS.items()),
                Route("/v1/models", self._list),
                Route("/v1/models/{name:path}", self._show),
                Route("/healthz", self._health),
                *([] if metrics is None else [Route("/metrics", self._metrics)]),
            ],
            exception_handlers={HTTPException: _refuse, Failure: _refuse, Exception: _apologise},
            lifespan=self._lifespan,
        )

    def __repr__(self) -> str:
        return f"OpenAIApp({', '.join(map(repr, self._backends))})"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the server's lifespan."""
        await self._app(scope, receive, send)

    async def aclose(self) -> None:
        """Close the connections to the endpoints."""
        for backend in self._backends.values():
            await backend.aclose()

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncGenerator[None]:
        yield
        await self.aclose()

    def _admit(self, scope: Scope) -> Headers:
        """Check that a request is allowed.

        Raises:
            Failure: it is not.
        """
        headers = Headers(scope=scope)
        if self._hosts is not None:
            host = headers.get("host", "").lower()
            if host.rpartition(":")[0] not in self._hosts and host not in self._hosts:
                raise Failure(421, "This server does not have the host name of the request.")
        if self._keys:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            # Each key is compared, so that the time reveals nothing.
            right = [hmac.compare_digest(given.strip().encode(), key) for key in self._keys]
            if scheme.lower() != "bearer" or not any(right):
                said = "Incorrect API key provided." if given else "You didn't provide an API key."
                raise Failure(401, said, "invalid_api_key", headers={"www-authenticate": "Bearer"})
        return headers

    def _backend(self, name: object) -> Backend:
        backend = self._backends.get(name) if isinstance(name, str) else None
        if backend is None:
            raise Failure(404, f"The model {name!r} does not exist.", "model_not_found", "model")
        return backend

    async def respond(self, kind: Kind, scope: Scope, receive: Receive, reply: Reply) -> None:
        """Answer a request that has a body."""
        headers = self._admit(scope)
        content_type = headers.get("content-type", "")
        # A web page may send any other type to any server without asking.
        if content_type.partition(";")[0].strip().lower() != "application/json":
            raise Failure(415, f"The request's content type must be application/json, not {content_type!r}.")
        body = await self._read(headers, receive)
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):
            raise Failure(400, "The request's body is not JSON.") from None
        if not isinstance(request, dict):
            raise Failure(400, "The request's body must be a JSON object.")
        if not request.get("model"):
            raise Failure(400, "You must provide a model.", param="model")
        asked = self._backend(request["model"]).ask(kind, request, body)
        streaming = request.get("stream")
        if streaming not in (None, True, False):
            raise Failure(400, "'stream' must be true or false.", param="stream")
        work = reply.stream(asked.stream(), asked) if streaming else reply.answer(asked)
        await until_disconnect(receive, reply.guard(work))

    async def _read(self, headers: Headers, receive: Receive) -> bytes:
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._max_body:
            raise self._too_large()
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            body: bytes = message.get("body", b"")
            if len(body) > self._max_body:
                raise self._too_large()
            return body
        try:
            return await asyncio.wait_for(self._read_rest(message, receive), BODY_SECONDS)
        except asyncio.TimeoutError:
            raise Failure(408, "The request's body did not arrive in time.", headers={"connection": "close"}) from None

    async def _read_rest(self, message: Any, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            if message["type"] == "http.disconnect":
                raise _Gone
            body += message.get("body", b"")
            if len(body) > self._max_body:
                raise self._too_large()
            if not message.get("more_body"):
                return bytes(body)
            message = await receive()

    def _too_large(self) -> Failure:
        message = f"The request's body is larger than {self._max_body} bytes."
        return Failure(413, message, "request_too_large", headers={"connection": "close"})

    async def _list(self, request: Request) -> Response:
        self._admit(request.scope)
        return JSONResponse({"object": "list", "data": [_shown(name) for name in self._backends]})

    async def _show(self, request: Request) -> Response:
        self._admit(request.scope)
        return JSONResponse(_shown(self._backend(request.path_params["name"]).name))

    async def _health(self, request: Request) -> Response:
        if self.draining:
            return JSONResponse({"status": "draining"}, 503, {"connection": "close"})
        return JSONResponse({"status": "ok"})

    async def _metrics(self, request: Request) -> Response:
        self._admit(request.scope)
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        assert self._registry is not None
        return Response(generate_latest(self._registry), headers={"content-type": CONTENT_TYPE_LATEST})


class _Gone(Exception):
    """The client left before its request was complete."""


class _Door:
    """One of the paths with a body, as an ASGI application."""

    def __init__(self, app: OpenAIApp, kind: Kind) -> None:
        self._app = app
        self._kind: Kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = Reply(send, self._app._keep_alive)
        try:
            await self._app.respond(self._kind, scope, receive, reply)
        except Failure as failure:
            await reply.fail(failure)
        except _Gone:
            pass


def _checked_keys(api_key: str | Iterable[str] | None) -> list[bytes]:
    keys: list[Any] = [] if api_key is None else [api_key] if isinstance(api_key, str) else list(api_key)
    fits = [isinstance(key, str) and key != "" and key.isascii() and key.isprintable() for key in keys]
    if api_key is not None and not (fits and all(fits)):
        raise ConfigurationError("api_key must be text of at least one printable ASCII character")
    return [key.encode() for key in keys]


def _shown(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "smendpoint"}


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer with an error raised by Starlette or by the check of a request."""
    if isinstance(error, HTTPException):
        unknown = error.status_code == 404
        said = f"{request.method} {request.url.path} is not served here." if unknown else error.detail
        code = "unknown_url" if unknown else "method_not_supported"
        error = Failure(error.status_code, said, code, headers=dict(error.headers or {}))
    assert isinstance(error, Failure)
    return Response(error.body, error.status, error.headers, "application/json")


async def _apologise(request: Request, error: Exception) -> Response:
    """Answer after an error in the application itself, which the server logs."""
    return Response(Failure(500, "The server failed.").body, 500, None, "application/json")
