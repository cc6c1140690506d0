"""OpenAI's batch format: requests as rows, and answers as lines of a ledger.

A request is ``{"custom_id", "method", "url", "body"}``, an answer ``{"id", "custom_id", "response": {"status_code",
"request_id", "body"}, "error": {"code", "message"}}`` with null for what there is not, as OpenAI's reference of its
Batch API has them. A line of a ledger has ``digest``, ``elapsed`` and ``attempts`` besides, which readers of OpenAI's
format do not look at.
"""

from __future__ import annotations

import hashlib
from typing import Any

from smendpoint.errors import HandlerError

# Which member of the body is the input, by the path that the request is for; everything else is a parameter.
_INPUTS = {"/chat/completions": "messages", "/completions": "prompt", "/embeddings": "input"}
# The endpoint is the model, and an answer comes whole.
_LEFT_OUT = frozenset({"model", "stream", "stream_options"})


def is_request(value: Any) -> bool:
    """Say whether a value is a request of OpenAI's batch format."""
    return isinstance(value, dict) and {"custom_id", "url", "body"} <= value.keys()


def read_request(value: Any, *, whole: bool) -> tuple[str, Any, dict[str, Any]]:
    """Give the id, the input and the parameters of a request.

    Args:
        value: the parsed line.
        whole: take the whole body for the input, without parameters.

    Raises:
        HandlerError: it is not such a request, or not for something that an endpoint does.
    """
    if not is_request(value):
        raise HandlerError(
            'the first row is a request of OpenAI\'s batch format ("custom_id", "url", "body"), this is not'
        )
    id, url, body = value["custom_id"], value["url"], value["body"]
    if not isinstance(id, str) or not id:
        raise HandlerError('"custom_id" must be a text')
    if value.get("method", "POST") != "POST":
        raise HandlerError('"method" must be "POST"')
    name = next((name for path, name in _INPUTS.items() if isinstance(url, str) and url.endswith(path)), None)
    if name is None:
        raise HandlerError(f'"url" must end with one of {", ".join(_INPUTS)}')
    if not isinstance(body, dict) or name not in body:
        raise HandlerError(f'"body" must be an object with {name!r}')
    sent = {key: member for key, member in body.items() if key not in _LEFT_OUT}
    if whole:
        return id, sent, {}
    found = sent.pop(name)
    return id, [found] if name == "input" and isinstance(found, str) else found, sent


def request_name(id: str) -> str:
    """Make the ``id`` of an answer: the same for each answer to a request."""
    return f"batch_req_{hashlib.sha256(id.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"
