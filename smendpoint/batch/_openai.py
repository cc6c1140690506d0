"""OpenAI's batch format: requests as rows, and answers as lines of a ledger.

A request is ``{"custom_id", "method", "url", "body"}``, an answer ``{"id", "custom_id", "response": {"status_code",
"request_id", "body"}, "error": {"code", "message"}}``, with null for a missing part, as in OpenAI's reference of its
Batch API. A line of a ledger also has ``digest``, ``elapsed`` and ``attempts``, which readers of OpenAI's format
ignore.
"""

from __future__ import annotations

import hashlib
from typing import Any

from smendpoint.errors import HandlerError

# The endpoint is the model, and an answer is not streamed.
_LEFT_OUT = frozenset({"model", "stream", "stream_options"})


def is_request(value: Any) -> bool:
    """Return whether a value is a request in OpenAI's batch format."""
    return isinstance(value, dict) and {"custom_id", "url", "body"} <= value.keys()


def read_request(value: Any) -> tuple[str, dict[str, Any]]:
    """Return the id and the input of a request: its body, in the form that an endpoint's container takes.

    Raises:
        HandlerError: it is not such a request.
    """
    if not is_request(value):
        raise HandlerError(
            'the previous rows are in OpenAI\'s batch format ("custom_id", "url", "body"), but this one is not'
        )
    id, body = value["custom_id"], value["body"]
    if not isinstance(id, str) or not id:
        raise HandlerError('"custom_id" must be a text')
    if value.get("method", "POST") != "POST":
        raise HandlerError('"method" must be "POST"')
    if not isinstance(body, dict):
        raise HandlerError('"body" must be an object')
    return id, {name: member for name, member in body.items() if name not in _LEFT_OUT}


def request_name(id: str) -> str:
    """Make the ``id`` of an answer: the same for every answer to a request."""
    return f"batch_req_{hashlib.sha256(id.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"
