"""Serve SageMaker endpoints as OpenAI does: `OpenAIApp` runs under any ASGI server, and mounts into any application.

``smendpoint serve`` runs it under uvicorn. It needs Starlette, the extra ``smendpoint[serve]``.
"""

# The room: `_frames` reads what containers with OpenAI's interface answer, `_formats` and `_texts` and `_vectors`
# translate for the others, `_failures` makes errors in OpenAI's shape; these do not wait. `_reply` sends answers, and
# `_app` puts all together. It imports endpoints and what is below them.

from __future__ import annotations

from smendpoint.asgi._app import OpenAIApp
from smendpoint.asgi._formats import ServedModel

__all__ = ["OpenAIApp", "ServedModel"]
