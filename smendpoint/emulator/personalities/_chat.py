"""OpenAI's shapes: chat completions and text completions, whole and as chunks. Several containers speak them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from smendpoint.emulator.personalities._common import (
    Generation,
    Refused,
    dump,
    generate,
    member,
    object_list,
    one_text,
    text_list,
)
from smendpoint.emulator.stand_in import answer

__all__ = ["Chat", "completion", "completion_chunks", "finish_reason", "last_user_text"]

_REASONING = "One sentence of the context fits the question best."


def finish_reason(reason: str) -> str:
    """OpenAI's name for why a generation ended."""
    return "length" if reason == "length" else "stop"


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [cast("dict[str, Any]", part) for part in cast("list[object]", content) if isinstance(part, dict)]
        return "\n".join([str(part["text"]) for part in parts if part.get("type") == "text" and "text" in part])
    return ""


def last_user_text(messages: list[dict[str, Any]]) -> tuple[str, str]:
    """Gives the text of the last message of the user, and the texts of all the others together.

    Raises:
        Refused: The user has said nothing.
    """
    asked = [index for index, message in enumerate(messages) if message.get("role") == "user"]
    if not asked:
        raise Refused("there is no message of the user", 400)
    texts = [_text_of(message.get("content")) for message in messages]
    return texts[asked[-1]], "\n".join(texts[: asked[-1]] + texts[asked[-1] + 1 :])


def _usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


class Chat:
    """A chat completion: what it says, and both of its shapes.

    Honours ``max_tokens``, ``stop``, ``tools`` (calls the chosen function, else the first, with the question as each
    text argument), ``response_format`` (answers a JSON object) and ``chat_template_kwargs.enable_thinking``.

    Raises:
        Refused: The request is not valid.
    """

    def __init__(self, body: dict[str, Any]) -> None:
        question, background = last_user_text(object_list(body.get("messages"), "messages"))
        said = answer(question, background)
        if str(member(body, "response_format").get("type")).startswith("json"):
            said = dump({"answer": said})
        self.model = str(body.get("model") or "stand-in")
        self.generation: Generation = generate(said, f"{background} {question}", body)
        thinking = member(body, "chat_template_kwargs").get("enable_thinking")
        self.reasoning = _REASONING if thinking else None
        self.call = _tool_call(body, question)
        self._with_usage = bool(member(body, "stream_options").get("include_usage"))
        self._finish = "tool_calls" if self.call else finish_reason(self.generation.reason)

    def whole(self) -> dict[str, Any]:
        """The answer in one piece."""
        message: dict[str, Any] = {"role": "assistant", "content": None if self.call else self.generation.text}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.call:
            message["tool_calls"] = [self.call]
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": self.model,
            "choices": [{"index": 0, "message": message, "finish_reason": self._finish}],
            "usage": self._usage(),
        }

    def chunks(self) -> Iterator[dict[str, Any]]:
        """The answer as streamed chunks; the end mark is not among them."""
        yield self._chunk({"role": "assistant", "content": ""})
        if self.reasoning:
            yield self._chunk({"reasoning_content": self.reasoning})
        if self.call:
            function = self.call["function"]
            arguments = str(function["arguments"])
            start = {**self.call, "index": 0, "function": {"name": function["name"], "arguments": ""}}
            yield self._chunk({"tool_calls": [start]})
            for half in (arguments[: len(arguments) // 2], arguments[len(arguments) // 2 :]):
                yield self._chunk({"tool_calls": [{"index": 0, "function": {"arguments": half}}]})
        else:
            for token in self.generation.tokens:
                yield self._chunk({"content": token})
        yield self._chunk({}, self._finish)
        if self._with_usage:
            yield {**self._chunk({}), "choices": [], "usage": self._usage()}

    def _usage(self) -> dict[str, int]:
        return _usage(self.generation.prompt_tokens, len(self.generation.tokens))

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": self.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }


def _tool_call(body: dict[str, Any], question: str) -> dict[str, Any] | None:
    if not body.get("tools") or body.get("tool_choice") == "none":
        return None
    functions = [member(tool, "function") for tool in object_list(body["tools"], "tools")]
    by_name = isinstance(body.get("tool_choice"), dict)
    wanted = member(member(body, "tool_choice"), "function").get("name") if by_name else functions[0].get("name")
    chosen = next((function for function in functions if function.get("name") == wanted), None)
    if chosen is None:
        raise Refused("tool_choice names a function that is not among the tools", 400)
    properties = member(member(chosen, "parameters"), "properties")
    texts = [name for name in properties if member(properties, name).get("type") == "string"]
    arguments = dict.fromkeys(texts, question)
    return {"id": "call-1", "type": "function", "function": {"name": wanted, "arguments": dump(arguments)}}


def completion(body: dict[str, Any]) -> dict[str, Any]:
    """Answers a text completion in one piece."""
    prompts = text_list(body.get("prompt"), "prompt")
    done = [generate(answer(prompt), prompt, body) for prompt in prompts]
    choices = [
        {"index": index, "text": one.text, "logprobs": None, "finish_reason": finish_reason(one.reason)}
        for index, one in enumerate(done)
    ]
    usage = _usage(sum(one.prompt_tokens for one in done), sum(len(one.tokens) for one in done))
    model = str(body.get("model") or "stand-in")
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": model,
        "choices": choices,
        "usage": usage,
    }


def completion_chunks(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Answers a text completion in chunks; the end mark is not among them."""
    prompt = one_text(body.get("prompt"), "prompt")
    done = generate(answer(prompt), prompt, body)
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": str(body.get("model") or "stand-in")}
    for token in done.tokens:
        yield {**head, "choices": [{"index": 0, "text": token, "finish_reason": None}]}
    yield {**head, "choices": [{"index": 0, "text": "", "finish_reason": finish_reason(done.reason)}]}
    if member(body, "stream_options").get("include_usage"):
        yield {**head, "choices": [], "usage": _usage(done.prompt_tokens, len(done.tokens))}
