"""Containers that generate text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal, cast

from smendpoint.emulator.models import ModelReply, ModelRequest
from smendpoint.emulator.personalities._chat import Chat, completion, completion_chunks, last_user_text, shaped
from smendpoint.emulator.personalities._common import (
    Generation,
    Personality,
    Refused,
    dump,
    generate,
    json_body,
    json_reply,
    member,
    object_list,
    one_text,
    openai_refusal,
    plain_refusal,
    sse,
    text_list,
    toolkit_refusal,
)
from smendpoint.emulator.personalities.vectors import classify, closeness, openai_embeddings
from smendpoint.emulator.stand_in import answer

__all__ = ["HuggingFaceTask", "LmiShape", "huggingface", "lmi", "stand_in", "tgi", "triton", "vllm"]

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
    """Answer in the shapes of the path, or on ``/invocations`` in those of the body."""
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
    """Play Hugging Face's text-generation-inference: generate, chat and completion requests, plain and streamed."""

    def reply(request: ModelRequest) -> ModelReply:
        body = json_body(request)
        if request.path in _OPENAI_TEXT or "messages" in body or "prompt" in body:
            return _openai(request, body, start="data:")
        prompt, parameters = _inputs(body, "inputs"), member(body, "parameters")
        done = generate(shaped(answer(prompt), member(parameters, "grammar")), prompt, parameters)
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


HuggingFaceTask = Literal[
    "text-generation", "text-classification", "zero-shot-classification", "summarization", "translation"
]
"""What a pipeline of the Hugging Face inference toolkit does."""


def huggingface(task: HuggingFaceTask = "text-generation") -> Personality:
    """Play the Hugging Face inference toolkit, which does not stream.

    Args:
        task: text generation, whose text begins with the prompt, or its conversation with the messages, unless
            ``return_full_text`` is false; a summary or a translation, which are the same text without it; or
            classification (see `tei` for the way its labels come about) and zero-shot classification.
    """

    def reply(request: ModelRequest) -> ModelReply:
        body = json_body(request)
        parameters = member(body, "parameters")
        inputs = body.get("inputs")
        if task == "text-generation" and isinstance(inputs, list) and isinstance(next(iter(inputs), None), list):
            talks = [object_list(talk, "inputs") for talk in cast("list[object]", inputs)]
            return json_reply([[_pipeline_talk(talk, parameters)] for talk in talks])
        prompts = text_list(inputs, "inputs")
        if task == "text-classification":
            return json_reply([classify(prompt) for prompt in prompts])
        if task == "zero-shot-classification":
            labels = text_list(parameters.get("candidate_labels"), "candidate_labels")
            return json_reply([_zero_shot(prompt, labels) for prompt in prompts])
        if task != "text-generation":
            field = "summary_text" if task == "summarization" else "translation_text"
            return json_reply([{field: generate(answer(prompt), prompt, parameters).text} for prompt in prompts])
        full = parameters.get("return_full_text", True)  # the default of the pipeline that the toolkit runs
        texts = [(prompt if full else "") + generate(answer(prompt), prompt, parameters).text for prompt in prompts]
        return json_reply([{"generated_text": text} for text in texts])

    return Personality("huggingface", reply, toolkit_refusal)


def _pipeline_talk(messages: list[dict[str, Any]], parameters: dict[str, Any]) -> dict[str, Any]:
    question, background = last_user_text(messages)
    text = generate(answer(question, background), question, parameters).text
    if parameters.get("return_full_text", True):
        return {"generated_text": [*messages, {"role": "assistant", "content": text}]}
    return {"generated_text": text}


def _zero_shot(text: str, labels: list[str]) -> dict[str, Any]:
    scores = {label: 1.0 + closeness(text, label) for label in labels}
    ranked = sorted(labels, key=lambda label: -scores[label])
    total = sum(scores.values()) or 1.0
    return {"sequence": text, "labels": ranked, "scores": [round(scores[label] / total, 6) for label in ranked]}


def triton() -> Personality:
    """Play NVIDIA Triton's generate extension: ``text_input`` in, ``text_output`` out, plain and streamed."""

    def reply(request: ModelRequest) -> ModelReply:
        body = json_body(request)
        parameters = {**body, **member(body, "parameters")}
        prompt = _inputs(body, "text_input")
        done = generate(answer(prompt), prompt, parameters)
        texts = done.tokens if parameters.get("stream") else [done.text]
        replies = [{"model_name": "stand-in", "model_version": "1", "text_output": text} for text in texts]
        return sse(replies) if parameters.get("stream") else json_reply(replies[0])

    return Personality("triton", reply, plain_refusal, status=400)


def lmi(shape: LmiShape = "jsonlines", *, tgi_compatible: bool = False) -> Personality:
    """Play DJL's LMI container.

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
    # With the spaces of Python's json, as the container writes them.
    lines = [json.dumps(value, ensure_ascii=False) + "\n" for value in values]
    return ModelReply(lines, content_type="application/jsonlines")


def _lmi_chat(request: ModelRequest, body: dict[str, Any], shape: LmiShape) -> ModelReply:
    if not body.get("stream") or shape == "sse":
        return _openai(request, body)
    lines = [dump(chunk) + "\n" for chunk in Chat(body).chunks()]
    if shape == "async":
        lines.append("\n")  # this is how that handler writes [DONE]
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


def vllm(task: Literal["generate", "classify", "score"] = "generate") -> Personality:
    """Play vLLM, on ``/invocations`` and on ``/v1/...``.

    Args:
        task: what kind of model it serves: chat, completions and embeddings in OpenAI's shapes; classes (see `tei`); or
            scores of pairs of texts, and rankings.
    """

    def reply(request: ModelRequest) -> ModelReply:
        body = json_body(request)
        if task == "classify":
            texts = text_list(body.get("input"), "input")
            return json_reply(_listing([_vllm_class(text) for text in texts]))
        if task == "score":
            return json_reply(_scores(body))
        if request.path in _OPENAI_TEXT or (
            request.path == "/invocations" and ("messages" in body or "prompt" in body)
        ):
            return _openai(request, body)
        return json_reply(openai_embeddings(body))

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


def _scores(body: dict[str, Any]) -> dict[str, Any]:
    if "query" in body:
        query, texts = one_text(body["query"], "query"), text_list(body.get("documents"), "documents")
        results: list[dict[str, Any]] = [
            {"index": index, "document": {"text": text}, "relevance_score": closeness(query, text)}
            for index, text in enumerate(texts)
        ]
        return {
            "id": "rerank-1",
            "model": "stand-in",
            "results": sorted(results, key=lambda one: -one["relevance_score"]),
            "usage": {},
        }
    query, texts = one_text(body.get("text_1"), "text_1"), text_list(body.get("text_2"), "text_2")
    return _listing([{"object": "score", "score": closeness(query, text)} for text in texts])
