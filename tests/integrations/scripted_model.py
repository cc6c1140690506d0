"""A model for the emulator that answers as LangChain's standard tests need it: what it says follows from the request.

It is vLLM's personality, with three habits of a good model: a number in the question becomes the whole-number argument
of a tool, a quoted name its text, and JSON has the keys that the question asks for.
"""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

from smendpoint.emulator.models import ModelRequest
from smendpoint.emulator.personalities import PERSONALITIES

_vllm = PERSONALITIES["vllm"]()
_REFUSED_PARTS = {"reasoning", "thinking", "tool_call", "tool_use"}


def model(request: ModelRequest) -> Any:
    """Answer a request of the chat completions."""
    body = json.loads(request.body)
    for message in body["messages"]:
        _check(message)
    question = _text([message for message in body["messages"] if message["role"] == "user"][-1]["content"])
    for tool in body.get("tools", ()):
        _fill(tool["function"].get("parameters", {}).get("properties", {}), question)
    wanted = body.get("response_format", {})
    if wanted.get("type") == "json_object":
        names = re.findall(r"'(\w+)'", question)
        schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": names}
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "asked_for", "schema": schema}}
    return _vllm(dataclasses.replace(request, body=json.dumps(body).encode()))


def _check(message: dict[str, Any]) -> None:
    """Refuse what a container's request schema refuses."""
    content = message["content"]
    for part in content if isinstance(content, list) else ():
        assert part["type"] not in _REFUSED_PARTS, part["type"]
        assert isinstance(part["type"], str)
        if part["type"] == "image_url":
            assert part["image_url"]["url"].startswith(("data:image/", "https://")), part
    if message["role"] == "tool":
        assert message["tool_call_id"], message
    for call in message.get("tool_calls", ()):
        assert isinstance(call["function"]["arguments"], str), call


def _text(content: Any) -> str:
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def _fill(properties: dict[str, Any], question: str) -> None:
    numbers = re.findall(r"-?\d+", question)
    quoted = re.findall(r"'([^']+)'", question)
    for rules in properties.values():
        if rules.get("type") == "integer" and numbers:
            rules["const"] = int(numbers.pop(0))
        elif rules.get("type") == "string" and quoted:
            rules["const"] = quoted.pop(0)
