"""What the personalities share: reading requests, refusing them, cutting text into tokens.

Each function that reads a part of a request raises `Refused` where the container would not take it.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

from smendpoint.emulator.models import ModelReply, ModelRequest

SESSION_REQUESTS: tuple[object, ...] = ({"requestType": "NEW_SESSION"}, {"requestType": "CLOSE"})
"""What opens and closes a stateful session: the convention of AWS's containers."""

_TOKEN = re.compile(r"\s*\S+|\s+\Z")


class Refused(Exception):
    """The container does not take this request, and answers with ``status``."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


class Personality:
    """A model that plays a container.

    Args:
        name: for ``repr``.
        answer: gives the reply, or raises `Refused`.
        refusal: makes the container's error document.
        status: of every refusal; ``None`` leaves it to each.
        openai_paths: the paths of OpenAI's API that the container serves, such as ``"/v1/completions"``. It refuses in
            OpenAI's shape there.
    """

    inline = True
    """It is quick: the emulator runs it without a thread."""

    def __init__(
        self,
        name: str,
        answer: Callable[[ModelRequest], ModelReply],
        refusal: Callable[[Refused], object],
        status: int | None = None,
        openai_paths: Iterable[str] = (),
    ) -> None:
        self.name = name
        self.openai_paths = frozenset(openai_paths)
        self._answer = answer
        self._refusal = refusal
        self._status = status

    def __repr__(self) -> str:
        return f"<personality {self.name}>"

    def __call__(self, request: ModelRequest) -> ModelReply:
        if request.session_id is not None and json_or_none(request.body) in SESSION_REQUESTS:
            return json_reply({})  # stateful containers answer this themselves, not their models
        try:
            return self._answer(request)
        except Refused as refused:
            refused.status = self._status or refused.status
            refusal = openai_refusal if request.path in self.openai_paths else self._refusal
            return json_reply(refusal(refused), status=refused.status)


def openai_refusal(refused: Refused) -> dict[str, Any]:
    """Make OpenAI's error document."""
    return {"error": {"message": str(refused), "type": "BadRequestError", "param": None, "code": refused.status}}


def plain_refusal(refused: Refused) -> dict[str, Any]:
    """Make the error document of containers that say only what is wrong."""
    return {"error": str(refused)}


def toolkit_refusal(refused: Refused) -> dict[str, Any]:
    """Make the error document of the Hugging Face inference toolkit."""
    return {"code": refused.status, "type": "InternalServerException", "message": str(refused)}


def model_name(body: dict[str, Any]) -> str:
    """Give the name that an answer in OpenAI's shape says: the request's, if it has one."""
    return str(body.get("model") or "stand-in")


def json_or_none(body: bytes) -> object:
    """Read JSON; give ``None`` for what is not JSON."""
    with contextlib.suppress(Refused):
        return read_json(body)
    return None


def dump(value: object) -> str:
    """Write JSON with its characters as they are, so that streams have multi-byte characters to be cut in."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def json_reply(value: object, *, status: int = 200) -> ModelReply:
    """Make an answer of one JSON value."""
    return ModelReply(dump(value), status=status, content_type="application/json")


def sse(events: Iterable[object], *, first: str = "", start: str = "data: ", end: str = "") -> ModelReply:
    """Make a stream of server-sent events.

    Args:
        events: the JSON values of the events.
        first: sent before them as it is.
        start: what each event begins with.
        end: the data of an event after them.
    """
    parts = [first] if first else []
    parts += [f"{start}{dump(event)}\n\n" for event in events]
    if end:
        parts.append(f"data: {end}\n\n")
    return ModelReply(parts, content_type="text/event-stream")


def read_json(body: bytes) -> Any:
    """Read what must be JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Refused("the body is not JSON", 400) from None


def json_body(request: ModelRequest) -> dict[str, Any]:
    """Read a request that must be a JSON object."""
    value = read_json(request.body)
    if not isinstance(value, dict):
        raise Refused("the body is not a JSON object", 400)
    return cast("dict[str, Any]", value)


def text_list(value: object, name: str) -> list[str]:
    """Take one string or a list of strings, as a list."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(item, str) for item in cast("list[object]", value)):
        return cast("list[str]", value)
    raise Refused(f"`{name}` must be a string or a list of strings")


def one_text(value: object, name: str) -> str:
    """Take one string, or the first of a list of strings."""
    texts = text_list(value, name)
    if not texts:
        raise Refused(f"`{name}` cannot be empty", 400)
    return texts[0]


def member(body: dict[str, Any], name: str) -> dict[str, Any]:
    """Take a member that must be an object; a missing one, or null, is an empty object."""
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(f"Input validation error: `{name}` must be an object")
    return cast("dict[str, Any]", value)


def object_list(value: object, name: str) -> list[dict[str, Any]]:
    """Take a list of JSON objects that is not empty."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in cast("list[object]", value)):
        return cast("list[dict[str, Any]]", value)
    raise Refused(f"`{name}` must be a list of objects, and not empty")


def read_parameters(body: dict[str, Any]) -> tuple[int | None, list[str]]:
    """Give the most tokens wanted, and the stop strings, by any of the names that containers know."""
    limit: Any = next((body[name] for name in ("max_new_tokens", "max_tokens", "max_length") if name in body), None)
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise Refused("Input validation error: `max_new_tokens` must be strictly positive")
    stop: Any = next((body[name] for name in ("stop", "stop_sequences") if body.get(name) is not None), None)
    return limit, [] if stop is None else text_list(stop, "stop")


class Generation(NamedTuple):
    """A generated text.

    Attributes:
        tokens: words, each with the blank before it.
        reason: why they end: ``"eos_token"``, ``"stop_sequence"``, ``"length"``.
        prompt_tokens: how many words the prompt had.
    """

    tokens: list[str]
    reason: str
    prompt_tokens: int

    @property
    def text(self) -> str:
        """All tokens joined."""
        return "".join(self.tokens)


def count_tokens(text: str) -> int:
    """Count words, which stand for tokens here."""
    return len(_TOKEN.findall(text))


def generate(text: str, prompt: str, parameters: dict[str, Any]) -> Generation:
    """Say ``text`` in answer to ``prompt``, within the request's parameters."""
    limit, stop = read_parameters(parameters)
    ends = [position for position in (text.find(word) for word in stop if word) if position >= 0]
    reason = "eos_token"
    if ends:
        text, reason = text[: min(ends)], "stop_sequence"
    tokens = _TOKEN.findall(text) or [""]  # even an empty text takes a token, the one that ends it
    if limit is not None and len(tokens) > limit:
        tokens, reason = tokens[:limit], "length"
    return Generation(tokens, reason, count_tokens(prompt))


def small_number(body: dict[str, Any], name: str) -> int:
    """Take a member that must be a number of things to give, 1 to 100; 1 where it is missing."""
    value = body.get(name, 1)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 100:
        raise Refused(f"`{name}` must be a whole number from 1 to 100")
    return value
