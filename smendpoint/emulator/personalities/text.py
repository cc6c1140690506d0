"""Containers that generate text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, cast

from smendpoint.emulator.models import ModelReply, ModelRequest
from smendpoint.emulator.personalities._chat import Chat, Completion, last_user_text, shaped
from smendpoint.emulator.personalities._common import (
    Body,
    Generation,
    Personality,
    dump,
    generate,
    json_body,
    json_reply,
    object_list,
    openai_refusal,
    respond,
    sse,
    text_list,
    toolkit_refusal,
)
from smendpoint.emulator.personalities.vectors import classify, closeness, openai_embeddings, ranked
from smendpoint.emulator.stand_in import answer

__all__ = ["HuggingFaceTask", "LmiShape", "huggingface", "lmi", "stand_in", "tgi", "triton", "vllm"]

LmiShape = Literal["jsonlines", "sse", "outputs", "async", "3p"]
"""How DJL's LMI container streams: JSON lines of a rolling batch, the same as server-sent events, lines of ``outputs``
(dynamic batching and old handlers), the lines of the asynchronous handlers, the third-party schema."""

_CHAT = "/v1/chat/completions"
_OPENAI_TEXT = (_CHAT, "/v1/completions")


def stand_in() -> Personality:
    """Make the default model of an emulator: it plays `tgi`, and answers plain text with plain text."""
    json_model = tgi()

    def reply(request: ModelRequest) -> ModelReply:
        if request.path == "/invocations" and request.body.lstrip()[:1] != b"{":
            tokens = respond(request.body.decode("utf-8", "replace"), {}).tokens
            return ModelReply(tokens, content_type="text/plain; charset=utf-8")
        return json_model(request)

    return Personality("stand_in", reply, openai_paths=_OPENAI_TEXT)


def _openai(request: ModelRequest, body: Body, *, start: str = "data: ") -> ModelReply:
    """Answer in the shape for the path, or on ``/invocations`` in the shape for the body."""
    chat = request.path == _CHAT or (request.path not in _OPENAI_TEXT and "messages" in body)
    said = Chat(body) if chat else Completion(body)
    return sse(said.chunks(), start=start, end="[DONE]") if body.get("stream") else json_reply(said.whole())


def tgi() -> Personality:
    """Play Hugging Face's text-generation-inference: generate, chat and completion requests, plain and streamed."""

    def reply(request: ModelRequest) -> object:
        body = json_body(request)
        if request.path in _OPENAI_TEXT or "messages" in body or "prompt" in body:
            return _openai(request, body, start="data:")
        prompt, parameters = body.string("inputs"), body.member("parameters")
        done = generate(shaped(answer(prompt), parameters.member("grammar")), prompt, parameters)
        if body.get("stream"):
            # An idle stream sends this comment.
            return sse(_tgi_events(done), first=":\n\n", start="data:")
        start = prompt if parameters.get("return_full_text") else ""
        result: dict[str, Any] = {"generated_text": start + done.text}
        if parameters.get("details"):
            result["details"] = {
                "finish_reason": done.reason,
                "generated_tokens": len(done.tokens),
                "seed": None,
                "prefill": [],
                "tokens": [_tgi_token(index, text) for index, text in enumerate(done.tokens, 1)],
            }
        return [result]

    def refusal(refused: Exception) -> dict[str, Any]:
        return {"error": str(refused), "error_type": "validation"}

    return Personality("tgi", reply, refusal, openai_paths=_OPENAI_TEXT)


def _tgi_token(index: int, text: str, special: bool = False) -> dict[str, Any]:
    return {"id": index, "text": text, "logprob": -0.1, "special": special}


def _tgi_events(done: Generation, *, special_end: bool = True) -> Iterator[dict[str, Any]]:
    texts = [(text, False) for text in done.tokens]
    if done.reason == "eos_token" and special_end:
        texts.append(("</s>", True))
    for index, (text, special) in enumerate(texts, 1):
        token = _tgi_token(index, text, special)
        event: dict[str, Any] = {"index": index, "token": token, "generated_text": None, "details": None}
        if index == len(texts):
            event["generated_text"] = done.text
            event["details"] = {
                "finish_reason": done.reason,
                "generated_tokens": index,
                "seed": None,
                "input_length": done.prompt_tokens,
            }
        yield event


HuggingFaceTask = Literal[
    "text-generation", "text-classification", "zero-shot-classification", "summarization", "translation"
]
"""The tasks of pipelines in the Hugging Face inference toolkit."""


def huggingface(task: HuggingFaceTask = "text-generation") -> Personality:
    """Play the Hugging Face inference toolkit, which does not stream.

    Args:
        task: text generation, whose text begins with the prompt (or whose conversation begins with the messages) unless
            ``return_full_text`` is false; a summary or a translation, which are the same text without the prompt; or
            classification (`tei` describes its labels) and zero-shot classification.
    """

    def reply(request: ModelRequest) -> object:
        body = json_body(request)
        parameters, inputs = body.member("parameters"), body.get("inputs")
        full = parameters.get("return_full_text", True)  # the default of the pipeline that the toolkit runs
        if task == "text-generation" and isinstance(inputs, list) and isinstance(next(iter(inputs), None), list):
            talks = [object_list(talk, "inputs") for talk in cast("list[object]", inputs)]
            return [[_pipeline_talk(talk, parameters, full)] for talk in talks]
        prompts = text_list(inputs, "inputs")
        if task == "text-classification":
            return [classify(prompt) for prompt in prompts]
        if task == "zero-shot-classification":
            labels = parameters.texts("candidate_labels")
            return [_zero_shot(prompt, labels) for prompt in prompts]
        texts = [respond(prompt, parameters).text for prompt in prompts]
        if task != "text-generation":
            return [{"summary_text" if task == "summarization" else "translation_text": text} for text in texts]
        starts = prompts if full else [""] * len(prompts)
        return [{"generated_text": start + text} for start, text in zip(starts, texts, strict=True)]

    return Personality("huggingface", reply, toolkit_refusal)


def _pipeline_talk(messages: list[Body], parameters: Body, full: bool) -> dict[str, Any]:
    question, background = last_user_text(messages)
    text = respond(question, parameters, background).text
    return {"generated_text": [*messages, {"role": "assistant", "content": text}] if full else text}


def _zero_shot(text: str, labels: list[str]) -> dict[str, Any]:
    scores = {label: 1.0 + closeness(text, label) for label in labels}
    ranked = sorted(labels, key=lambda label: -scores[label])
    total = sum(scores.values()) or 1.0
    return {"sequence": text, "labels": ranked, "scores": [round(scores[label] / total, 6) for label in ranked]}


def triton() -> Personality:
    """Play NVIDIA Triton's generate extension: ``text_input`` in, ``text_output`` out, plain and streamed."""

    def reply(request: ModelRequest) -> object:
        body = json_body(request)
        parameters = {**body, **body.member("parameters")}
        done = respond(body.string("text_input"), parameters)
        texts = done.tokens if parameters.get("stream") else [done.text]
        replies = [{"model_name": "stand-in", "model_version": "1", "text_output": text} for text in texts]
        return sse(replies) if parameters.get("stream") else replies[0]

    return Personality("triton", reply, status=400)


def lmi(shape: LmiShape = "jsonlines", *, tgi_compatible: bool = False) -> Personality:
    """Play DJL's LMI container.

    Args:
        shape: how it streams.
        tgi_compatible: whether a plain answer is a list, as with the container's option.
    """

    def reply(request: ModelRequest) -> object:
        body = json_body(request)
        if request.path in _OPENAI_TEXT:
            return _openai(request, body)
        if "messages" in body:
            return _lmi_chat(request, body, shape)
        prompt, parameters = body.string("inputs", "prompt"), body.member("parameters")
        done = respond(prompt, parameters)
        if body.get("stream"):
            events = _LMI_STREAMS[shape](done, prompt)
            return sse(events, start="data:") if shape == "sse" else _json_lines(events)
        if shape == "3p":
            return _third_party(done.text, done, done.reason)
        result: dict[str, Any] = {"generated_text": done.text}
        if parameters.get("details"):
            result["details"] = {
                "finish_reason": done.reason,
                "generated_tokens": len(done.tokens),
                "inputs": prompt,
            }
        return [result] if tgi_compatible else result

    return Personality(
        f"lmi_{shape}",
        reply,
        lambda refused: {"error": str(refused), "code": refused.status},
        openai_paths=_OPENAI_TEXT,
    )


def _json_lines(values: Iterable[dict[str, Any]]) -> ModelReply:
    # With the spaces of Python's json, as the container writes them.
    lines = [json.dumps(value, ensure_ascii=False) + "\n" for value in values]
    return ModelReply(lines, content_type="application/jsonlines")


def _lmi_chat(request: ModelRequest, body: Body, shape: LmiShape) -> ModelReply:
    if not body.get("stream") or shape == "sse":
        return _openai(request, body)
    lines = [dump(chunk) + "\n" for chunk in Chat(body).chunks()]
    if shape == "async":
        lines.append("\n")  # this is how that handler writes [DONE]
    return ModelReply(lines, content_type="application/jsonlines")


def _third_party(text: str, done: Generation, reason: str | None) -> dict[str, Any]:
    body = {
        "generation": text,
        "prompt_token_count": done.prompt_tokens,
        "generation_token_count": len(done.tokens),
        "stop_reason": "length" if reason == "length" else reason and "stop",
    }
    return {"body": body, "metering": {}, "content_type": "application/json"}


def _third_party_events(done: Generation, prompt: str) -> Iterator[dict[str, Any]]:
    *tokens, last = done.tokens
    yield from (_third_party(token, done, None) for token in tokens)
    yield _third_party(last, done, done.reason)


def _lmi_events(done: Generation, prompt: str) -> Iterator[dict[str, Any]]:
    for index, text in enumerate(done.tokens, 1):
        event: dict[str, Any] = {"token": {"id": index, "text": text, "log_prob": -0.1}}
        if index == len(done.tokens):
            event["generated_text"] = done.text
            event["details"] = {"finish_reason": done.reason, "generated_tokens": index, "inputs": prompt}
        yield event


_LMI_STREAMS: dict[LmiShape, Callable[[Generation, str], Iterable[dict[str, Any]]]] = {
    "jsonlines": _lmi_events,
    "sse": _lmi_events,
    "outputs": lambda done, prompt: ({"outputs": [token]} for token in done.tokens),
    "async": lambda done, prompt: _tgi_events(done, special_end=False),
    "3p": _third_party_events,
}


def vllm(task: Literal["generate", "classify", "score"] = "generate") -> Personality:
    """Play vLLM, on ``/invocations`` and on ``/v1/...``.

    Args:
        task: the kind of model: chat, completions and embeddings in OpenAI's shapes; classes (see `tei`); or scores of
            pairs of texts, and rankings.
    """

    def reply(request: ModelRequest) -> object:
        body = json_body(request)
        if task == "classify":
            return _listing([_vllm_class(text) for text in body.texts("input")])
        if task == "score":
            return _scores(body)
        if request.path in _OPENAI_TEXT or (
            request.path == "/invocations" and ("messages" in body or "prompt" in body)
        ):
            return _openai(request, body)
        return openai_embeddings(body)

    paths = [*_OPENAI_TEXT, "/v1/embeddings"] if task == "generate" else []
    name = "vllm" if task == "generate" else f"vllm_{task}"
    return Personality(name, reply, openai_refusal, status=400, openai_paths=paths)


def _listing(items: list[dict[str, Any]]) -> dict[str, Any]:
    data = [{"index": index, **item} for index, item in enumerate(items)]
    return {"object": "list", "data": data, "model": "stand-in", "usage": {"prompt_tokens": 0, "total_tokens": 0}}


def _vllm_class(text: str) -> dict[str, Any]:
    best = classify(text)
    other = round(1 - best["score"], 4)
    probabilities = [best["score"], other] if best["label"] == "NEGATIVE" else [other, best["score"]]
    return {"label": best["label"], "probs": probabilities, "num_classes": 2}


def _scores(body: Body) -> dict[str, Any]:
    if "query" in body:
        results = [
            {"index": index, "document": {"text": text}, "relevance_score": score}
            for index, text, score in ranked(body.text("query"), body.texts("documents"))
        ]
        return {"id": "rerank-1", "model": "stand-in", "results": results, "usage": {}}
    query, texts = body.text("text_1"), body.texts("text_2")
    return _listing([{"object": "score", "score": closeness(query, text)} for text in texts])
