"""OpenAI's shapes: chat completions and text completions, whole and as chunks. Several containers use them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from smendpoint.emulator.personalities._common import Body, Generation, Refused, dump, generate
from smendpoint.emulator.personalities._schema import instance
from smendpoint.emulator.stand_in import answer

_REASONING = "One sentence of the context fits the question best."


def _finish_reason(reason: str) -> str:
    return "length" if reason == "length" else "stop"


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [cast("dict[str, Any]", part) for part in cast("list[object]", content) if isinstance(part, dict)]
        return "\n".join([str(part["text"]) for part in parts if part.get("type") == "text" and "text" in part])
    return ""


def last_user_text(messages: list[Body]) -> tuple[str, str]:
    """Return the text of the last user message, and the texts of all the others together."""
    asked = [index for index, message in enumerate(messages) if message.get("role") == "user"]
    if not asked:
        raise Refused("there is no message of the user", 400)
    texts = [_text_of(message.get("content")) for message in messages]
    return texts[asked[-1]], "\n".join(texts[: asked[-1]] + texts[asked[-1] + 1 :])


# Other ways to ask for a shape, by the names that vLLM has or had for them.
_OTHER_SHAPES = ("guided_choice", "guided_grammar", "guided_json", "guided_regex", "structured_outputs")


def shaped(said: str, wanted: Body) -> str:
    """Give a text the shape requested by ``response_format``, or by TGI's ``grammar``."""
    kind = wanted.get("type", "text")
    if kind == "text":
        return said
    if kind == "json_schema":
        schema = (wanted.member("json_schema") or wanted.member("value")).get("schema")  # TGI has it in `value`
        if schema is None:
            raise Refused("response_format has no json_schema with a schema", 400)
        return dump(instance(schema, said))
    if kind in ("json", "json_object"):
        return dump(instance(wanted["value"], said) if "value" in wanted else {"answer": said})
    raise Refused(f"the stand-in does not support a response_format of the type {kind!r}", 400)


def _say(body: Body, said: str, prompt: str) -> Generation:
    for name in _OTHER_SHAPES:
        if body.get(name) is not None:
            raise Refused(f"the stand-in does not support {name}: use response_format", 400)
    return generate(shaped(said, body.member("response_format")), prompt, body)


class OpenAIAnswer:
    """The common part of both kinds of completions.

    Each kind adds `whole`, the answer in one piece, and `chunks`, the answer as streamed chunks without the end mark.

    Attributes:
        generations: the texts, one for each prompt.
    """

    def __init__(self, body: Body, kind: str, identifier: str, generations: list[Generation]) -> None:
        self._head = {"id": identifier, "object": kind, "created": 1, "model": body.model_name}
        self._with_usage = bool(body.member("stream_options").get("include_usage"))
        self.generations = generations

    def _whole(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        prompt_tokens = sum(one.prompt_tokens for one in self.generations)
        tokens = sum(len(one.tokens) for one in self.generations)
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": tokens, "total_tokens": prompt_tokens + tokens}
        return {**self._head, "choices": choices, "usage": usage}

    def _chunk(self, **choice: Any) -> dict[str, Any]:
        return {**self._head, "choices": [{"index": 0, **choice}]}

    def _usage_chunk(self) -> Iterator[dict[str, Any]]:
        if self._with_usage:
            yield self._whole([])


class Chat(OpenAIAnswer):
    """A chat completion in both of its shapes.

    It supports ``max_tokens``, ``stop``, ``tools`` (it calls the chosen function, or else the first, with the question
    as each text argument; it answers with a function's result, unless it must call a function), ``response_format`` (a
    JSON object, or a small instance of a schema) and ``chat_template_kwargs.enable_thinking``.
    """

    def __init__(self, body: Body) -> None:
        messages = body.objects("messages")
        question, background = last_user_text(messages)
        result = _text_of(messages[-1].get("content")) if messages[-1].get("role") == "tool" else ""
        self._said = _say(body, result or answer(question, background), f"{background} {question}")
        self._reasoning = _REASONING if body.member("chat_template_kwargs").get("enable_thinking") else None
        self._call = None if result and body.get("tool_choice", "auto") == "auto" else _tool_call(body, question)
        self._finish = "tool_calls" if self._call else _finish_reason(self._said.reason)
        super().__init__(body, "chat.completion", "chatcmpl-1", [self._said])

    def whole(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": None if self._call else self._said.text}
        if self._reasoning:
            message["reasoning_content"] = self._reasoning
        if self._call:
            message["tool_calls"] = [self._call]
        return self._whole([{"index": 0, "message": message, "finish_reason": self._finish}])

    def chunks(self) -> Iterator[dict[str, Any]]:
        self._head["object"] = "chat.completion.chunk"
        for delta in self._deltas():
            yield self._chunk(delta=delta, finish_reason=None)
        yield self._chunk(delta={}, finish_reason=self._finish)
        yield from self._usage_chunk()

    def _deltas(self) -> Iterator[dict[str, Any]]:
        yield {"role": "assistant", "content": ""}
        if self._reasoning:
            yield {"reasoning_content": self._reasoning}
        if not self._call:
            yield from ({"content": token} for token in self._said.tokens)
            return
        function = self._call["function"]
        arguments = str(function["arguments"])
        yield {"tool_calls": [{**self._call, "index": 0, "function": {"name": function["name"], "arguments": ""}}]}
        for half in (arguments[: len(arguments) // 2], arguments[len(arguments) // 2 :]):
            yield {"tool_calls": [{"index": 0, "function": {"arguments": half}}]}


class Completion(OpenAIAnswer):
    """A text completion in both of its shapes; in chunks it answers only the first prompt."""

    def __init__(self, body: Body) -> None:
        prompts = [body.text("prompt")] if body.get("stream") else body.texts("prompt")
        done = [_say(body, answer(prompt), prompt) for prompt in prompts]
        super().__init__(body, "text_completion", "cmpl-1", done)

    def whole(self) -> dict[str, Any]:
        return self._whole(
            [
                {"index": index, "text": one.text, "logprobs": None, "finish_reason": _finish_reason(one.reason)}
                for index, one in enumerate(self.generations)
            ]
        )

    def chunks(self) -> Iterator[dict[str, Any]]:
        (done,) = self.generations
        for token in done.tokens:
            yield self._chunk(text=token, finish_reason=None)
        yield self._chunk(text="", finish_reason=_finish_reason(done.reason))
        yield from self._usage_chunk()


def _tool_call(body: Body, question: str) -> dict[str, Any] | None:
    if not body.get("tools") or body.get("tool_choice") == "none":
        return None
    functions = [tool.member("function") for tool in body.objects("tools")]
    by_name = isinstance(body.get("tool_choice"), dict)
    wanted = (body.member("tool_choice").member("function") if by_name else functions[0]).get("name")
    chosen = next((function for function in functions if function.get("name") == wanted), None)
    if chosen is None:
        raise Refused("tool_choice names a function that is not among the tools", 400)
    parameters = Body({"type": "object", **chosen.member("parameters")})
    properties = parameters.member("properties")
    texts = [name for name in properties if _is_text(properties.member(name))]
    required = parameters.get("required", [])
    if isinstance(required, list):  # optional texts are included: a demonstration shows more with them
        parameters["required"] = [*required, *texts]
    arguments = instance(parameters, question)
    return {"id": "call-1", "type": "function", "function": {"name": wanted, "arguments": dump(arguments)}}


def _is_text(schema: Body) -> bool:
    return schema.get("type") == "string" and "pattern" not in schema
