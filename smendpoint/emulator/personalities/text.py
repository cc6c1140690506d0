"""Containers that generate text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

from smendpoint.emulator.models import ModelReply, ModelRequest
from smendpoint.emulator.personalities._chat import Chat, completion, completion_chunks
from smendpoint.emulator.personalities._common import (
    Generation,
    Personality,
    Refused,
    dump,
    generate,
    json_body,
    json_reply,
    member,
    openai_refusal,
    sse,
    text_list,
)
from smendpoint.emulator.personalities.vectors import classify, openai_embeddings
from smendpoint.emulator.stand_in import answer

__all__ = ["LmiShape", "huggingface", "lmi", "stand_in", "tgi", "vllm"]

LmiShape = Literal["jsonlines", "sse", "outputs", "async", "3p"]
"""How DJL's LMI container streams: JSON lines of a rolling batch, the same as server-sent events, lines of ``outputs``
(dynamic batching and old handlers), the lines of the asynchronous handlers, the third-party schema."""


_CHAT = "/v1/chat/completions"
_OPENAI_TEXT = (_CHAT, "/v1/completions")


def stand_in() -> Personality:
    """The model behind an emulator that was given none: plays `tgi`, and answers plain text with plain text."""
    json_model = tgi()

    def reply(request: ModelRequest) -> ModelReply:
        if request.path == "/invocations" and request.body.lstrip()[:1] != b"{":
            prompt = request.body.decode("utf-8", "replace")
            tokens = generate(answer(prompt), prompt, {}).tokens
            return ModelReply(tokens, content_type="text/plain; charset=utf-8")
        return json_model(request)

    return Personality("stand_in", reply, str, openai_paths=_OPENAI_TEXT)


def _openai(request: ModelRequest, body: dict[str, Any], *, start: str = "data: ") -> ModelReply:
    """Answers in the shapes of the path, or on ``/invocations`` in those of the body."""
    if request.path == _CHAT or (request.path not in _OPENAI_TEXT and "messages" in body):
        chat = Chat(body)
        return sse(chat.chunks(), start=start, end="[DONE]") if body.get("stream") else json_reply(chat.whole())
    if body.get("stream"):
        return sse(completion_chunks(body), start=start, end="[DONE]")
    return json_reply(completion(body))


def _inputs(body: dict[str, Any], *names: str) -> str:
    for name in names:
        if isinstance(body.get(name), str):
            return str(body[name])
    raise Refused(f"Input validation error: `{names[0]}` must be a string")


def tgi() -> Personality:
    """Plays Hugging Face's text-generation-inference: generate, chat and completion requests, plain and streamed."""

    def reply(request: ModelRequest) -> ModelReply:
        body = json_body(request)
        if request.path in _OPENAI_TEXT or "messages" in body or "prompt" in body:
            return _openai(request, body, start="data:")
        prompt, parameters = _inputs(body, "inputs"), member(body, "parameters")
        done = generate(answer(prompt), prompt, parameters)
        if body.get("stream"):
            # The comment is what an idle stream sends.
            return sse(_tgi_events(done), first=":\n\n", start="data:")
        start = prompt if parameters.get("return_full_text") else ""
        result: dict[str, Any] = {"generated_text": start + done.text}
        if parameters.get("details"):
            result["details"] = {
                "finish_reason": done.reason,
                "generated_tokens": len(done.tokens),
                "seed": None,
                "prefill": [],
                "tokens": [
                    {"id": index, "text": text, "logprob": -0.1, "special": False}
                    for index, text in enumerate(done.tokens, 1)
                ],
            }
        return json_reply([result])

    return Personality(
        "tgi",
        reply,
        lambda refused: {"error": str(refused), "error_type": "validation"},
        openai_paths=_OPENAI_TEXT,
    )


def _tgi_events(done: Generation, *, special_end: bool = True) -> Iterator[dict[str, Any]]:
    texts = [(text, False) for text in done.tokens]
    if done.reason == "eos_token" and special_end:
        texts.append(("</s>", True))
    for index, (text, special) in enumerate(texts, 1):
        last = index == len(texts)
        details = {
            "finish_reason": done.reason,
            "generated_tokens": index,
            "seed": None,
            "input_length": done.prompt_tokens,
        }
        yield {
            "index": index,
            "token": {"id": index, "text": text, "logprob": -0.1, "special": special},
            "generated_text": done.text if last else None,
            "details": details if last else None,
        }


def huggingface(task: Literal["text-generation", "text-classification"] = "text-generation") -> Personality:
    """Plays the Hugging Face inference toolkit, which does not stream.

    Args:
        task: text generation, whose text begins with the prompt unless ``return_full_text`` is false; or classification
            (see `tei` for the way its labels come about).
    """

    def reply(request: ModelRequest) -> ModelReply:
        body = json_body(request)
        prompts = text_list(body.get("inputs"), "inputs")
        if task == "text-classification":
            return json_reply([classify(prompt) for prompt in prompts])
        parameters = member(body, "parameters")
        full = parameters.get("return_full_text", True)  # the default of the pipeline that the toolkit runs
        return json_reply(
            [
                {"generated_text": (prompt if full else "") + generate(answer(prompt), prompt, parameters).text}
                for prompt in prompts
            ]
        )

    return Personality("huggingface", reply, _mms_error)


def _mms_error(refused: Refused) -> dict[str, Any]:
    return {"code": refused.status, "type": "InternalServerException", "message": str(refused)}


def lmi(shape: LmiShape = "jsonlines", *, tgi_compatible: bool = False) -> Personality:
    """Plays DJL's LMI container.

    Args:
        shape: how it streams.
        tgi_compatible: whether a plain answer is a list, as with the container's option.
    """

    def reply(request: ModelRequest) -> ModelReply:
        body = json_body(request)
        if request.path in _OPENAI_TEXT:
            return _openai(request, body)
        if "messages" in body:
            return _lmi_chat(request, body, shape)
        prompt, parameters = _inputs(body, "inputs", "prompt"), member(body, "parameters")
        done = generate(answer(prompt), prompt, parameters)
        if body.get("stream"):
            return _lmi_stream(done, prompt, shape)
        if shape == "3p":
            return json_reply(_third_party(done.text, done, done.reason))
        details = {"finish_reason": done.reason, "generated_tokens": len(done.tokens), "inputs": prompt}
        result = {"generated_text": done.text, **({"details": details} if parameters.get("details") else {})}
        return json_reply([result] if tgi_compatible else result)

    return Personality(
        f"lmi_{shape}",
        reply,
        lambda refused: {"error": str(refused), "code": refused.status},
        openai_paths=_OPENAI_TEXT,
    )


def _third_party(text: str, done: Generation, reason: str | None) -> dict[str, Any]:
    body = {
        "generation": text,
        "prompt_token_count": done.prompt_tokens,
        "generation_token_count": len(done.tokens),
        "stop_reason": "length" if reason == "length" else reason and "stop",
    }
    return {"body": body, "metering": {}, "content_type": "application/json"}


def _json_lines(values: Iterator[dict[str, Any]]) -> ModelReply:
    # As Python's json writes them by default, which is what the container does.
    lines = [json.dumps(value, ensure_ascii=False) + "\n" for value in values]
    return ModelReply(lines, content_type="application/jsonlines")


def _lmi_chat(request: ModelRequest, body: dict[str, Any], shape: LmiShape) -> ModelReply:
    if not body.get("stream") or shape == "sse":
        return _openai(request, body)
    lines = [dump(chunk) + "\n" for chunk in Chat(body).chunks()]
    if shape == "async":
        lines.append("\n")  # what becomes of [DONE] there
    return ModelReply(lines, content_type="application/jsonlines")


def _lmi_stream(done: Generation, prompt: str, shape: LmiShape) -> ModelReply:
    if shape == "outputs":
        return _json_lines({"outputs": [token]} for token in done.tokens)
    if shape == "async":
        return _json_lines(_tgi_events(done, special_end=False))
    if shape == "3p":
        last = len(done.tokens) - 1
        return _json_lines(
            _third_party(token, done, done.reason if index == last else None) for index, token in enumerate(done.tokens)
        )
    events = _lmi_events(done, prompt)
    return sse(events, start="data:") if shape == "sse" else _json_lines(events)


def _lmi_events(done: Generation, prompt: str) -> Iterator[dict[str, Any]]:
    for index, text in enumerate(done.tokens, 1):
        event: dict[str, Any] = {"token": {"id": index, "text": text, "log_prob": -0.1}}
        if index == len(done.tokens):
            event["generated_text"] = done.text
            event["details"] = {"finish_reason": done.reason, "generated_tokens": index, "inputs": prompt}
        yield event


def vllm() -> Personality:
    """Plays vLLM: chat, completions and embeddings in OpenAI's shapes, on ``/invocations`` and on ``/v1/...``."""

    def reply(request: ModelRequest) -> ModelReply:
        body = json_body(request)
        if request.path in _OPENAI_TEXT or (
            request.path == "/invocations" and ("messages" in body or "prompt" in body)
        ):
            return _openai(request, body)
        return json_reply(openai_embeddings(body))

    return Personality("vllm", reply, openai_refusal, status=400, openai_paths=[*_OPENAI_TEXT, "/v1/embeddings"])
