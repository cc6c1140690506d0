"""Serve SageMaker endpoints as an OpenAI API: `OpenAIApp` runs on any ASGI server, and mounts into any application.

``smendpoint serve`` runs it with uvicorn. It needs Starlette (the extra ``smendpoint[serve]``).
"""

# The room: `_frames` reads the answers of containers with OpenAI's interface; `_formats`, `_texts` and `_vectors`
# translate for the others; `_failures` makes errors in OpenAI's shape. These do not wait. `_reply` sends answers, and
# `_app` puts everything together. The room may import endpoints and the rooms below them.

from __future__ import annotations

from smendpoint.asgi._app import OpenAIApp
from smendpoint.asgi._formats import ServedModel

__all__ = ["OpenAIApp", "ServedModel"]
