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
    model_name,
    object_list,
    one_text,
    text_list,
)
from smendpoint.emulator.personalities._schema import instance
from smendpoint.emulator.stand_in import answer

_REASONING = "One sentence of the context fits the question best."


def finish_reason(reason: str) -> str:
    """Give OpenAI's name for why a generation ended."""
    return "length" if reason == "length" else "stop"


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [cast("dict[str, Any]", part) for part in cast("list[object]", content) if isinstance(part, dict)]
        return "\n".join([str(part["text"]) for part in parts if part.get("type") == "text" and "text" in part])
    return ""


def last_user_text(messages: list[dict[str, Any]]) -> tuple[str, str]:
    """Give the text of the last message of the user, and the texts of all the others together."""
    asked = [index for index, message in enumerate(messages) if message.get("role") == "user"]
    if not asked:
        raise Refused("there is no message of the user", 400)
    texts = [_text_of(message.get("content")) for message in messages]
    return texts[asked[-1]], "\n".join(texts[: asked[-1]] + texts[asked[-1] + 1 :])


# Other ways to ask for a shape, by the names that vLLM has or had for them.
_OTHER_SHAPES = ("guided_choice", "guided_grammar", "guided_json", "guided_regex", "structured_outputs")


def shaped(said: str, wanted: dict[str, Any]) -> str:
    """Give what is said the shape that ``response_format``, or TGI's ``grammar``, asks for."""
    kind = wanted.get("type", "text")
    if kind == "text":
        return said
    if kind == "json_schema":
        schema = member(wanted, "json_schema").get("schema")
        if schema is None:
            raise Refused("response_format has no json_schema with a schema", 400)
        return dump(instance(schema, said))
    if kind in ("json", "json_object"):
        return dump(instance(wanted["value"], said) if "value" in wanted else {"answer": said})
    raise Refused(f"the stand-in does not support a response_format of the type {kind!r}", 400)


def _say(body: dict[str, Any], said: str, prompt: str) -> Generation:
    for name in _OTHER_SHAPES:
        if body.get(name) is not None:
            raise Refused(f"the stand-in does not support {name}: say response_format", 400)
    return generate(shaped(said, member(body, "response_format")), prompt, body)


def _usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


class Chat:
    """A chat completion: what it says, and both of its shapes.

    Honours ``max_tokens``, ``stop``, ``tools`` (calls the chosen function, else the first, with the question as each
    text argument), ``response_format`` (a JSON object, or the smallest that fits a schema) and
    ``chat_template_kwargs.enable_thinking``."""

    def __init__(self, body: dict[str, Any]) -> None:
        question, background = last_user_text(object_list(body.get("messages"), "messages"))
        self.model = model_name(body)
        self.generation: Generation = _say(body, answer(question, background), f"{background} {question}")
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
        choices = [{"index": 0, "message": message, "finish_reason": self._finish}]
        return {**self._head("chat.completion"), "choices": choices, "usage": self._usage()}

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
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        return {**self._head("chat.completion.chunk"), "choices": choices}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": self.model}


def _tool_call(body: dict[str, Any], question: str) -> dict[str, Any] | None:
    if not body.get("tools") or body.get("tool_choice") == "none":
        return None
    functions = [member(tool, "function") for tool in object_list(body["tools"], "tools")]
    by_name = isinstance(body.get("tool_choice"), dict)
    wanted = member(member(body, "tool_choice"), "function").get("name") if by_name else functions[0].get("name")
    chosen = next((function for function in functions if function.get("name") == wanted), None)
    if chosen is None:
        raise Refused("tool_choice names a function that is not among the tools", 400)
    parameters = {"type": "object", **member(chosen, "parameters")}
    properties = member(parameters, "properties")
    texts = [name for name in properties if _is_text(member(properties, name))]
    required = parameters.get("required", [])
    if isinstance(required, list):  # optional texts are given too: a demonstration shows more with them
        parameters["required"] = [*required, *texts]
    arguments = instance(parameters, question)
    return {"id": "call-1", "type": "function", "function": {"name": wanted, "arguments": dump(arguments)}}


def _is_text(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "string" and "pattern" not in schema


def completion(body: dict[str, Any]) -> dict[str, Any]:
    """Answer a text completion in one piece."""
    prompts = text_list(body.get("prompt"), "prompt")
    done = [_say(body, answer(prompt), prompt) for prompt in prompts]
    choices = [
        {"index": index, "text": one.text, "logprobs": None, "finish_reason": finish_reason(one.reason)}
        for index, one in enumerate(done)
    ]
    usage = _usage(sum(one.prompt_tokens for one in done), sum(len(one.tokens) for one in done))
    return {**_completion_head(body), "choices": choices, "usage": usage}


def _completion_head(body: dict[str, Any]) -> dict[str, Any]:
    return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": model_name(body)}


def completion_chunks(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Answer a text completion in chunks; the end mark is not among them."""
    prompt = one_text(body.get("prompt"), "prompt")
    done = _say(body, answer(prompt), prompt)
    head = _completion_head(body)
    for token in done.tokens:
        yield {**head, "choices": [{"index": 0, "text": token, "finish_reason": None}]}
    yield {**head, "choices": [{"index": 0, "text": "", "finish_reason": finish_reason(done.reason)}]}
    if member(body, "stream_options").get("include_usage"):
        yield {**head, "choices": [], "usage": _usage(done.prompt_tokens, len(done.tokens))}
