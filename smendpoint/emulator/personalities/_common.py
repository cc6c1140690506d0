"""The common part of the personalities: reading requests, refusing them, cutting text into tokens.

Each function that reads a part of a request raises `Refused` if the container would refuse it.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

from smendpoint.emulator.models import ModelReply, ModelRequest
from smendpoint.emulator.stand_in import answer

SESSION_REQUESTS: tuple[object, ...] = ({"requestType": "NEW_SESSION"}, {"requestType": "CLOSE"})
"""The requests that open and close a stateful session: the convention of AWS's containers."""

_TOKEN = re.compile(r"\s*\S+|\s+\Z")


class Refused(Exception):
    """The container refuses this request, and answers with ``status``."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


def openai_refusal(refused: Refused) -> dict[str, Any]:
    return {"error": {"message": str(refused), "type": "BadRequestError", "param": None, "code": refused.status}}


def plain_refusal(refused: Refused) -> dict[str, Any]:
    """Make the error document of containers that only give a message."""
    return {"error": str(refused)}


def toolkit_refusal(refused: Refused) -> dict[str, Any]:
    """Make the error document of the Hugging Face inference toolkit."""
    return {"code": refused.status, "type": "InternalServerException", "message": str(refused)}


class Personality:
    """A model that plays a container.

    Args:
        name: for ``repr``.
        answer: returns the reply, or a JSON value that is the whole reply, or raises `Refused`.
        refusal: makes the container's error document.
        status: the status of every refusal; ``None`` leaves it to each.
        openai_paths: the paths of OpenAI's API that the container serves, such as ``"/v1/completions"``. Refusals there
            have OpenAI's shape.
    """

    inline = True
    """It is fast: the emulator runs it without a thread."""

    def __init__(
        self,
        name: str,
        answer: Callable[[ModelRequest], object],
        refusal: Callable[[Refused], object] = plain_refusal,
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
        if request.session_id is not None and _json_or_none(request.body) in SESSION_REQUESTS:
            return json_reply({})  # stateful containers answer this themselves, not their models
        try:
            reply = self._answer(request)
        except Refused as refused:
            refused.status = self._status or refused.status
            refusal = openai_refusal if request.path in self.openai_paths else self._refusal
            return json_reply(refusal(refused), status=refused.status)
        return reply if isinstance(reply, ModelReply) else json_reply(reply)


# -- reading a request


def read_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Refused("the body is not JSON", 400) from None


def _json_or_none(body: bytes) -> object:
    with contextlib.suppress(Refused):
        return read_json(body)
    return None


def text_list(value: object, name: str) -> list[str]:
    """Check one string or a list of strings, and give a list."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(item, str) for item in cast("list[object]", value)):
        return cast("list[str]", value)
    raise Refused(f"`{name}` must be a string or a list of strings")


def object_list(value: object, name: str) -> list[Body]:
    """Check a list of JSON objects, which must not be empty."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in cast("list[object]", value)):
        return [Body(item) for item in cast("list[dict[str, Any]]", value)]
    raise Refused(f"`{name}` must be a non-empty list of objects")


class Body(dict[str, Any]):
    """A JSON object of a request. Its methods read a member, and raise `Refused` if it is not valid."""

    def member(self, name: str) -> Body:
        """Read an object; a missing one, or null, is an empty object."""
        value = self.get(name)
        if value is not None and not isinstance(value, dict):
            raise Refused(f"Input validation error: `{name}` must be an object")
        return Body(cast("dict[str, Any]", value or {}))

    def objects(self, name: str) -> list[Body]:
        """Read a list of objects, which must not be empty."""
        return object_list(self.get(name), name)

    def string(self, *names: str) -> str:
        """Read a string, by the first of these names that has one."""
        for name in names:
            if isinstance(self.get(name), str):
                return str(self[name])
        raise Refused(f"Input validation error: `{names[0]}` must be a string")

    def texts(self, name: str, *, empty: bool = True) -> list[str]:
        """Read one string or a list of strings, and give a list, which may be ``empty``."""
        texts = text_list(self.get(name), name)
        if not texts and not empty:
            raise Refused(f"`{name}` cannot be empty", 400)
        return texts

    def text(self, name: str) -> str:
        """Read one string, or the first of a list of strings."""
        return self.texts(name, empty=False)[0]

    def count(self, name: str) -> int:
        """Read the number of requested items, 1 to 100; 1 if it is missing."""
        value = self.get(name, 1)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 100:
            raise Refused(f"`{name}` must be a whole number from 1 to 100")
        return value

    @property
    def model_name(self) -> str:
        """The model's name for an answer in OpenAI's shape: the request's, if it has one."""
        return str(self.get("model") or "stand-in")


def json_body(request: ModelRequest) -> Body:
    """Read a request that must be a JSON object."""
    value = read_json(request.body)
    if not isinstance(value, dict):
        raise Refused("the body is not a JSON object", 400)
    return Body(cast("dict[str, Any]", value))


# -- writing an answer


def dump(value: object) -> str:
    """Write JSON without escapes, so that streams have multi-byte characters that can be cut."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def json_reply(value: object, *, status: int = 200) -> ModelReply:
    return ModelReply(dump(value), status=status, content_type="application/json")


def sse(events: Iterable[object], *, first: str = "", start: str = "data: ", end: str = "") -> ModelReply:
    """Make a stream of server-sent events.

    Args:
        events: the JSON values of the events.
        first: a text before them, sent unchanged.
        start: the beginning of each event.
        end: the data of an event after them.
    """
    parts = [first, *(f"{start}{dump(event)}\n\n" for event in events), f"data: {end}\n\n" if end else ""]
    return ModelReply([part for part in parts if part], content_type="text/event-stream")


# -- generating text


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
        return "".join(self.tokens)


def generate(text: str, prompt: str, parameters: dict[str, Any]) -> Generation:
    """Generate ``text`` as the answer to ``prompt``, within the request's parameters, with any container's names."""
    limit: Any = next((parameters[name] for name in _LIMITS if name in parameters), None)
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise Refused("Input validation error: `max_new_tokens` must be strictly positive")
    stop: Any = next((parameters[name] for name in _STOPS if parameters.get(name) is not None), [])
    ends = [position for position in (text.find(word) for word in text_list(stop, "stop") if word) if position >= 0]
    reason = "eos_token"
    if ends:
        text, reason = text[: min(ends)], "stop_sequence"
    tokens = _TOKEN.findall(text) or [""]  # even an empty text takes a token, the one that ends it
    if limit is not None and len(tokens) > limit:
        tokens, reason = tokens[:limit], "length"
    return Generation(tokens, reason, len(_TOKEN.findall(prompt)))


_LIMITS = ("max_new_tokens", "max_tokens", "max_length")
_STOPS = ("stop", "stop_sequences")


def respond(prompt: str, parameters: dict[str, Any], background: str = "") -> Generation:
    """Let the stand-in answer ``prompt``, within the request's parameters."""
    return generate(answer(prompt, background), prompt, parameters)
