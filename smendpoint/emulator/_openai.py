"""The OpenAI path: its paths and methods, and the answers to all others."""

from __future__ import annotations

import urllib.parse
from collections.abc import Collection

from smendpoint.emulator._reply import Reply, json_reply
from smendpoint.emulator._route import ReceivedRequest, Route
from smendpoint.emulator.models import OPENAI_PATHS, Model


def failure(status: int, message: str, kind: str, code: str | int | None = None, *headers: tuple[str, str]) -> Reply:
    """Make an error in OpenAI's shape."""
    error = {"message": message, "type": kind, "param": None, "code": code}
    return json_reply(status, {"error": error}, *headers)


def own_answer(model: Model, request: ReceivedRequest, route: Route) -> Reply | None:
    """Return the emulator's own answer to a request; ``None`` if the model answers.

    The emulator lists the models, and refuses other paths and methods. A model whose ``openai_paths`` is ``None``, such
    as `forward`'s, answers everything itself.
    """
    path, method = route.model_path, request.method
    served: Collection[str] | None = getattr(model, "openai_paths", OPENAI_PATHS)
    if served is None:
        return None
    if served and _names_models(path):
        if method not in ("GET", "HEAD"):
            return _wrong_method(request, "GET, HEAD")
        return model_list([route.component or route.endpoint_name], route)
    if path not in served:
        message = f"The model on this endpoint does not serve {method} {path}."
        return failure(404, message, "invalid_request_error", "unknown_url")
    return None if method == "POST" else _wrong_method(request, "POST")


def unknown_model(request: ReceivedRequest, route: Route) -> Reply:
    """Refuse a request to OpenAI's own paths whose body names no model, or one that does not exist."""
    if not route.endpoint_name and request.method == "POST" and route.model_path in OPENAI_PATHS:
        return failure(400, "The body must be JSON, and name a model.", "invalid_request_error")
    message = f"The model {route.endpoint_name!r} does not exist."
    return failure(404, message, "invalid_request_error", "model_not_found")


def lists_models(request: ReceivedRequest, route: Route) -> bool:
    """Return whether a request asks for the models of all endpoints."""
    return request.method in ("GET", "HEAD") and not route.endpoint_name and _names_models(route.model_path)


def _names_models(path: str) -> bool:
    return path == "/v1/models" or path.startswith("/v1/models/")


def _wrong_method(request: ReceivedRequest, allowed: str) -> Reply:
    message = f"{request.method} is not a method of {request.target}; it has {allowed}."
    return failure(405, message, "invalid_request_error", "method_not_supported", ("Allow", allowed))


def model_list(names: list[str], route: Route) -> Reply:
    """List the models of these names, or show the one that the path names."""
    wanted = urllib.parse.unquote(route.model_path[len("/v1/models/") :])
    if wanted and wanted not in names:
        return failure(404, f"There is no model {wanted!r} here.", "invalid_request_error", "model_not_found")
    models = [{"id": name, "object": "model", "created": 1, "owned_by": "smendpoint"} for name in names]
    if wanted:
        return json_reply(200, models[names.index(wanted)])
    return json_reply(200, {"object": "list", "data": models})
